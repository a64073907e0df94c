"""Times that are shown as a date: `strftime()` and the value it makes."""

from __future__ import annotations

import re
import time

from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.hints import ClassVar
from pytrace.grammar.spec import CallSite, Function, Param, Services, ValueKind, feature
from pytrace.grammar.types import UINT64, Int, Opaque, Type

SECOND = 1_000_000_000  # nanoseconds
EPOCH_CLOCKS = ("tai", "sw_tai")  # their values are shown as if they counted from 1970
_FRACTION = re.compile(r"%(.)", re.DOTALL)
FAILED = "(?)"


@feature
class Timestamp(ValueKind):
    """A point in time that is shown by a strftime(3) format: {u64 0; u64 nanoseconds}.

    The type's parameters are the format and the clock (`boot`, `tai`, `sw_tai`).

    bt> begin { print(strftime("%H:%M:%S.%f", nsecs)); }
    """

    name = "timestamp"
    size: ClassVar[int] = 16

    def text(self, kind: Opaque, data: bytes, services: Services) -> str:
        nanoseconds = int.from_bytes(data[8:16], "little", signed=True)
        if not kind.params:
            return str(nanoseconds)
        pattern, clock = str(kind.params[0]), kind.params[1]
        if clock not in EPOCH_CLOCKS:
            nanoseconds += services.boot_time()
        return format_time(pattern, nanoseconds) or FAILED


def format_time(pattern: str, nanoseconds: int) -> str:
    """strftime(3) in the local zone, with `%f`, `%l` and `%k` for micro-, milli- and nanoseconds."""
    seconds, fraction = divmod(nanoseconds, SECOND)
    digits = {
        "f": f"{fraction // 1000:06}",
        "l": f"{fraction // 1_000_000:03}",
        "k": f"{fraction:09}",
    }
    plain = _FRACTION.sub(lambda match: digits.get(match[1], match[0]), pattern)
    try:
        return time.strftime(plain, time.localtime(seconds))
    except (OverflowError, OSError, ValueError):
        return ""


@feature
class Strftime(Function):
    """Show a time stamp as a date.

    `strftime(format, nanoseconds)` keeps the number and is formatted when it is printed, with strftime(3)
    in the local zone; `%f`, `%l` and `%k` are microseconds, milliseconds and nanoseconds. A number of the
    clock `boot` (`nsecs`) is added to the time at which the machine booted; `nsecs(tai)` and
    `nsecs(sw_tai)` count from 1970 themselves.

    bt> tracepoint:syscalls:sys_enter_openat { printf("%s %s\\n", strftime("%H:%M:%S.%f", nsecs), comm); }
    """

    name = "strftime"
    parameters = (Param("format", ("string",), literal=True), Param("nanoseconds", ("integer",)))

    def type(self, site: CallSite) -> Type:
        kind = site.types[1]
        clock = kind.clock if isinstance(kind, Int) and kind.clock else "boot"
        if clock == "monotonic":
            site.error("fn.strftime", "strftime() can not take a monotonic timestamp")
        return Opaque("timestamp", 16, 8, (site.text(0), clock))

    def emit(self, emit: Emit, site: CallSite) -> Value | None:
        slot = emit.scratch(16)
        emit.store(slot, 0, emit.integer(0))
        emit.store(slot, 8, emit.convert(emit.value(site.arguments[1]), UINT64))
        return emit.at(slot, site.type)
