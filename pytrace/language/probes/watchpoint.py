"""`watchpoint`: the processor's debug registers watch a piece of memory."""

from __future__ import annotations

from collections.abc import Iterator

from pytrace.grammar.attaching import WatchpointAttach
from pytrace.grammar.host import Host
from pytrace.grammar.spec import Target, feature
from pytrace.language.probes.common import Place, Probe, compose, number

# HW_BREAKPOINT_* of include/uapi/linux/hw_breakpoint.h
BITS = {"r": 1, "w": 2, "x": 4}
# what x86-64 has (arch_bp_generic_fields, arch/x86/kernel/hw_breakpoint.c), by sorted letters
MODES = ("w", "rw", "x")
LENGTHS = (1, 2, 4, 8)
WORD = 8  # sizeof(long), the length that the kernel wants for `x`
MAX_ADDRESS = (1 << 64) - 1


@feature
class Watchpoint(Probe):
    """Fire when memory is touched: `watchpoint:ADDRESS:LENGTH:MODE`.

    ADDRESS is one of the kernel or, with `-p` or `-c`, of that process; LENGTH is 1, 2, 4 or 8 bytes, and ADDRESS a
    multiple of it. MODE is `w` (write), `rw` (read or write) or `x` (execute; LENGTH does not matter then).
    The processor has four registers for this, so there cannot be more than four at a time. The block runs
    after the access for `w` and `rw`, before the instruction for `x`.

    bt> watchpoint:0x10000000:8:rw { printf("%s %p\\n", comm, (void *)reg("ip")); }

    A perf event of type PERF_TYPE_BREAKPOINT: of each thread of the process, or of each CPU.
    """

    name = "watchpoint"
    aliases = ("w",)
    arity = (3, 3)
    has_registers = True
    context_type = "bpf_perf_event_data"
    groupable = True

    def expand(self, place: Place) -> Iterator[Target]:
        address, length, mode = self._address(place), self._length(place), self._mode(place)
        if address is None or length is None or mode is None:
            return
        if mode == "x":
            length = WORD
        elif address % length:
            hints = (f"The debug registers want an address that is a multiple of {length}.",)
            place.error("err.ap.watchpoint", f"watchpoint address {address:#x} is not aligned to its length", hints)
            return
        name = compose(self.name, address, length, mode)
        kind = sum(BITS[letter] for letter in mode)
        yield Target(self, name, WatchpointAttach(name, address, length, kind), section="perf_event")

    def _address(self, place: Place) -> int | None:
        text = place.parts[0]
        if "+" in text:
            hints = (_REPLACEMENT,)
            place.error("probe.watchpoint.removed", "watchpoint:FUNCTION+argN is not supported any more", hints)
            return None
        value = number(text)
        if value is None or not 0 <= value <= MAX_ADDRESS:
            place.error("err.ap.watchpoint", f"watchpoint address '{text}' is not an integer from 1 to 2^64-1")
            return None
        if value == 0:
            place.error("err.ap.watchpoint", "watchpoint must be attached to a non-zero address")
            return None
        return value

    def _length(self, place: Place) -> int | None:
        value = number(place.parts[1])
        if value not in LENGTHS:
            place.error("err.ap.watchpoint", f"watchpoint length must be one of 1, 2, 4, 8, found '{place.parts[1]}'")
            return None
        return value

    def _mode(self, place: Place) -> str | None:
        """The letters in alphabetical order."""
        text = place.parts[2]
        mode = "".join(sorted(text))
        wrong = [letter for letter in text if letter not in BITS]
        if not text or wrong:
            found = f", found '{wrong[0]}'" if wrong else ""
            place.error("err.ap.watchpoint", f"watchpoint mode must be a combination of r, w, x{found}")
        elif len(set(text)) < len(text):
            place.error("err.ap.watchpoint", f"watchpoint mode '{text}' has a letter twice")
        elif mode not in MODES:
            message = f"this processor cannot watch with mode '{text}'; it supports {', '.join(MODES)}"
            place.error("err.ap.watchpoint", message)
        else:
            return mode
        return None

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        return iter(())


_REPLACEMENT = (
    "Print the address in a uprobe or kprobe of the function (e.g. `uprobe:BIN:FUNCTION { print(arg0) }`), "
    "then watch it with watchpoint:ADDRESS:LENGTH:MODE."
)


@feature
class AsyncWatchpoint(Probe):
    """Not supported any more: use `watchpoint` with an address.

    bt> watchpoint:0x10000000:8:w { printf("written\\n"); }
    """

    name = "asyncwatchpoint"
    aliases = ("aw",)
    arity = (0, 99)

    def expand(self, place: Place) -> Iterator[Target]:
        place.error("probe.watchpoint.removed", "asyncwatchpoint is not supported any more", (_REPLACEMENT,))
        return iter(())

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        return iter(())
