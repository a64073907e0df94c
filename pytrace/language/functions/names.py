"""Numbers as words: errors, signals, system calls (reference part 2, section 2.2)."""

from __future__ import annotations

import errno
import os
import signal

from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.hints import ClassVar
from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import INT64, String, Type
from pytrace.language.syscalls import SYSCALLS

SIZE = 64  # bytes of the result, NUL included
FIRST_REALTIME = 34  # glibc keeps 32 and 33 for itself (signal(7))


class _Name(Function):
    """A number looked up in a table that is part of the program."""

    parameters = (Param("number", ("int",)),)
    returns = String(SIZE)
    unknown: ClassVar[str]

    def rows(self) -> dict[int, str]:
        """The table."""
        raise NotImplementedError

    def number(self, emit: Emit, value: Value) -> Value:
        """The number to look up."""
        return value

    def emit(self, emit: Emit, site: CallSite) -> Value:
        value = emit.convert(emit.value(site.arguments[0]), INT64)
        rows = sorted(self.rows().items())
        slot = emit.scratch(SIZE)
        self._choose(emit, slot, self.number(emit, value), rows)
        return emit.at(slot, self.returns)

    def _choose(self, emit: Emit, slot: Slot, number: Value, rows: list[tuple[int, str]]) -> None:
        """Put the text of a number into the slot, by halving the table."""
        if len(rows) == 1:
            value, text = rows[0]
            emit.when(
                emit.compare("==", number, emit.integer(value)),
                lambda: _put(emit, slot, text),
                lambda: _put(emit, slot, self.unknown),
            )
            return
        middle = len(rows) // 2
        emit.when(
            emit.compare("<", number, emit.integer(rows[middle][0]), signed=True),
            lambda: self._choose(emit, slot, number, rows[:middle]),
            lambda: self._choose(emit, slot, number, rows[middle:]),
        )


def _put(emit: Emit, slot: Slot, text: str) -> None:
    """Store a text in a zeroed slot, as constants."""
    data = text.encode()[: SIZE - 1]
    for offset in range(0, len(data), 8):
        word = int.from_bytes(data[offset : offset + 8], "little")
        emit.store(slot, offset, emit.integer(word))


@feature
class Strerror(_Name):
    """The text of an error number, whose sign does not matter; a string[64].

    bt> tracepoint:syscalls:sys_exit_openat /args.ret < 0/ { @[strerror(args.ret)] = count(); }

    Source: strerror(3), errno(3).
    """

    name = "strerror"
    unknown = "Unknown error"

    def rows(self) -> dict[int, str]:
        return {0: "Success"} | {number: os.strerror(number) for number in errno.errorcode}

    def number(self, emit: Emit, value: Value) -> Value:
        negative = emit.compare("<", value, emit.integer(0), signed=True)
        return emit.select(negative, emit.arith("-", emit.integer(0), value), value)


@feature
class SignalName(_Name):
    """The text of a signal number, as strsignal(3) has it; a string[64].

    bt> tracepoint:signal:signal_generate { @[signal_name(args.sig)] = count(); }

    Source: strsignal(3), signal(7).
    """

    name = "signal_name"
    unknown = "N/A"

    def rows(self) -> dict[int, str]:
        plain = {n: signal.strsignal(n) or "" for n in range(1, 32)}
        unknown = {n: f"Unknown signal {n}" for n in (0, 32, 33)}
        realtime = {n: f"Real-time signal {n - FIRST_REALTIME}" for n in range(FIRST_REALTIME, 65)}
        return plain | unknown | realtime


@feature
class SyscallName(_Name):
    """The name of a system call, by its number on this machine; a string[64].

    bt> tracepoint:raw_syscalls:sys_enter { @[syscall_name(args.id)] = count(); }

    Source: arch/x86/entry/syscalls/syscall_64.tbl, Linux 6.18.
    """

    name = "syscall_name"
    unknown = "Unknown syscall"

    def type(self, site: CallSite) -> Type:
        machine = os.uname().machine
        if machine not in SYSCALLS:
            site.error("err.feature", f"syscall_name() does not know the system calls of {machine}")
        return self.returns

    def rows(self) -> dict[int, str]:
        return SYSCALLS[os.uname().machine]
