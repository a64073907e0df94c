"""Network addresses."""

from __future__ import annotations

from typing import ClassVar

from pytrace.grammar.spec import Services, ValueKind, feature
from pytrace.grammar.types import Opaque

ADDRESS_BYTES = {2: 4, 10: 16}  # AF_INET, AF_INET6 (include/linux/socket.h) -> size of an address


@feature
class Inet(ValueKind):
    """An IPv4 or IPv6 address, the result of `ntop()`: {u64 address family; u8 address[16]}.

    bt> begin { print(ntop(0x0100007f)); }
    """

    name = "inet"
    size: ClassVar[int] = 24

    def text(self, kind: Opaque, data: bytes, services: Services) -> str:
        family = int.from_bytes(data[:8], "little")
        if family not in ADDRESS_BYTES:
            return f"unknown address family {family}"
        import socket  # only now: it costs 4 ms of every start

        return socket.inet_ntop(family, data[8 : 8 + ADDRESS_BYTES[family]])


@feature
class MacAddress(ValueKind):
    """A hardware address, the result of `macaddr()`, shown as `AA:BB:CC:DD:EE:FF`: six bytes.

    bt> tracepoint:net:net_dev_queue { print(macaddr(((struct sk_buff *)args.skbaddr)->dev->dev_addr)); }
    """

    name = "mac_address"
    aliases = ("macaddr_t",)
    size: ClassVar[int] = 6
    align: ClassVar[int] = 1

    def text(self, kind: Opaque, data: bytes, services: Services) -> str:
        return ":".join(f"{byte:02X}" for byte in data[:6])
