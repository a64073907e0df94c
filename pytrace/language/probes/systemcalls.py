"""Many tracepoints of system calls served by one raw tracepoint.

Each tracepoint of a system call is a perf event, which takes the kernel 1.5 ms to open and 70 ms to close. The raw
tracepoints `sys_enter` and `sys_exit` are called for all system calls: a program that looks at the number attaches and
leaves at once, and each call costs less too. It must show the same, so only blocks are taken that cannot tell.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from pytrace.grammar.attaching import Attach, SystemCallsAttach, TracepointAttach
from pytrace.grammar.data import dataclass, replace
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.host import Host
from pytrace.grammar.spec import Function, Target
from pytrace.grammar.types import UINT64, Member, Space, Struct
from pytrace.language.probes.common import REGISTERS
from pytrace.language.syscalls import SYSCALLS

CATEGORY, ENTER, EXIT = "syscalls", "sys_enter_", "sys_exit_"
MANY = 16  # from so many on one program for all pays, though it is called for the other system calls too

# Tracepoints that are named after a kernel function which is not named after its system call.
_FUNCTIONS = {
    "fstat": "newfstat", "lstat": "newlstat", "stat": "newstat", "uname": "newuname", "sendfile": "sendfile64",
    "umount2": "umount",
}  # fmt: skip
_COMPAT = 2  # TS_COMPAT of arch/x86/include/asm/thread_info.h: a 32-bit system call, which has other numbers


@dataclass(frozen=True, slots=True)
class SystemCalls:
    """What the program for many tracepoints needs: `places` has for each number of a system call 0, or 1 more than the
    number of its tracepoint among the program's; `status` is where in a task the flag of 32-bit calls is."""

    returns: bool
    places: tuple[int, ...]
    status: int

    def place(self, emit: Emit) -> Value:
        """1 more than the number of the tracepoint that this is, 0 if it is none of them."""
        return emit.once("system call", lambda: self._find(emit))

    def number(self, emit: Emit) -> Value:
        """The number of the system call."""
        return emit.once("number of the system call", lambda: self._number(emit))

    def member(self, emit: Emit, member: Member) -> Value:
        """A field of the tracepoint's record."""
        value = emit.context_word(8) if member.name == "ret" else self.number(emit)
        return emit.convert(value, member.type)

    def _number(self, emit: Emit) -> Value:
        if not self.returns:
            return emit.context_word(8)  # (struct pt_regs *regs, long id)
        place = emit.arith("+", emit.context_word(0), emit.integer(REGISTERS["orig_rax"]))
        return self._read(emit, place, 8)  # (struct pt_regs *regs, long ret)

    def _find(self, emit: Emit) -> Value:
        """As kernel/trace/trace_syscalls.c does: 32-bit calls are none of these tracepoints'."""
        found = emit.pick(self.number(emit), self.places)
        place = emit.arith("+", emit.helper("get_current_task"), emit.integer(self.status))
        flag = emit.arith("&", self._read(emit, place, 4), emit.integer(_COMPAT))
        return emit.select(emit.truth(flag), emit.integer(0), found)

    def _read(self, emit: Emit, place: Value, size: int) -> Value:
        slot = emit.scratch(8)
        emit.read(slot, size, place, Space.KERNEL)
        return emit.load(slot, 0, UINT64)


def gathered(targets: list[Target], features: Sequence[Function] | None, host: Host) -> list[list[Target]]:
    """The targets of a block in the groups that share a program: tracepoints of many system calls in one of their own.

    `features` are what the block uses, None if not all is known.
    """
    if len(targets) < MANY or features is None or any(feature.reads_kernel_stack for feature in features):
        return [targets]
    status = _status(host)
    if status is None:
        return [targets]
    numbers = _numbers()
    groups, rest = list[list[Target]](), list(targets)
    for prefix in (ENTER, EXIT):
        takes = {prefix + name: number for name, number in numbers.items()}
        readers = [f for f in features if f.reads_context]
        if any(not f.per_arguments or prefix == ENTER for f in readers):  # `args` of an exit: the number and the result
            continue
        chosen = {target.name: takes[event] for target in rest if (event := _event(target)) in takes}
        if len(chosen) >= MANY:
            calls = list(chosen.values())
            groups.append([_by_number(t, calls, prefix == EXIT, status) for t in rest if t.name in chosen])
            rest = [target for target in rest if target.name not in chosen]
    return [*groups, rest] if rest else groups


def _event(target: Target) -> str:
    """The event of a tracepoint of a system call; empty for others."""
    place = target.attach
    return place.event if isinstance(place, TracepointAttach) and place.category == CATEGORY else ""


def _by_number(target: Target, calls: list[int], returns: bool, status: int) -> Target:
    """A target of the program for these system calls."""
    places = [0] * (max(calls) + 1)
    for place, call in enumerate(calls, 1):
        places[call] = place
    attach = SystemCallsAttach(target.name, returns, (target.name,))
    return replace(target, attach=attach, section="raw_tp", data=SystemCalls(returns, tuple(places), status))


def joined(places: tuple[Attach, ...]) -> tuple[Attach, ...]:
    """The one place of the program for many system calls; other places stay as they are."""
    calls = [place for place in places if isinstance(place, SystemCallsAttach)]
    if len(calls) < 2:
        return places
    name = f"{calls[0].name} and {len(calls) - 1} more"
    return (SystemCallsAttach(name, calls[0].returns, tuple(place.name for place in calls)),)


def _numbers() -> dict[str, int]:
    """The numbers of this machine's system calls by the names of their tracepoints."""
    table = SYSCALLS.get(os.uname().machine, {})
    return {_FUNCTIONS.get(name, name): number for number, name in table.items()}


def _status(host: Host) -> int | None:
    """Where in a task the flags of its system call are (x86); None if this kernel has them elsewhere."""
    task, info = host.find_type("task_struct", "struct"), host.find_type("thread_info", "struct")
    if not isinstance(task, Struct) or not isinstance(info, Struct):
        return None
    outer = next((m.offset for m in host.members(task) if m.name == "thread_info"), None)
    inner = next((m.offset for m in host.members(info) if m.name == "status"), None)
    return None if outer is None or inner is None else outer + inner
