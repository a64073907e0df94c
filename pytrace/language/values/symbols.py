"""Addresses that are shown as the function they lie in."""

from __future__ import annotations

import struct

from pytrace.grammar.hints import ClassVar
from pytrace.grammar.spec import Services, ValueKind, feature
from pytrace.grammar.types import Opaque


def bare_address(address: int) -> str:
    """An address without a symbol: `0x…`, and `0` for zero."""
    return f"0x{address:x}" if address else "0"


@feature
class KernelSymbol(ValueKind):
    """An address in the kernel, shown as the name of its function without offset (`ksym()`, `func`).

    bt> profile:hz:99 { @[ksym(reg("ip"))] = count(); }
    """

    name = "ksym_t"

    def text(self, kind: Opaque, data: bytes, services: Services) -> str:
        address = int.from_bytes(data[:8], "little")
        found = services.kernel_symbol(address)
        return found[0] if found else bare_address(address)


@feature
class UserSymbol(ValueKind):
    """An address in a process, shown as the name of its function without offset (`usym()`, `func`).

    The value is {u64 address; u32 process id; u32 number of the probe}; the process may be gone when it is
    shown.

    bt> profile:hz:99 { @[usym(reg("ip"))] = count(); }
    """

    name = "usym_t"
    size: ClassVar[int] = 16
    user_addresses: ClassVar[bool] = True

    def text(self, kind: Opaque, data: bytes, services: Services) -> str:
        address, pid, probe = struct.unpack_from("<QII", data)
        found = services.user_symbol(address, pid, probe)
        return found[0] if found else bare_address(address)
