"""The tasks around the running one: its parent, its group's leader, the child that pytrace started."""

from __future__ import annotations

from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.hints import ClassVar
from pytrace.grammar.spec import Builtin, CallSite, Param, feature
from pytrace.grammar.types import (
    BOOL,
    UINT32,
    UINT64,
    Member,
    Pointer,
    Space,
    String,
    Struct,
    Type,
)
from pytrace.language.builtins.task import COMM


class _OfTask(Builtin):
    """A member of a task that another one points to: `path` leads there from a `struct task_struct`."""

    parameters = (Param("task", ("pointer", "int"), optional=True),)
    needs = "task"
    path: ClassVar[tuple[str, ...]]

    def members(self, site: CallSite) -> list[Member] | None:
        """The members along the path, by BTF; None if the kernel does not tell."""
        host = site.context.host
        kind = host.find_type("task_struct", "struct")
        found: list[Member] = []
        for name in self.path:
            if not isinstance(kind, Struct):
                return None
            member = next((m for m in host.members(kind) if m.name == name), None)
            if member is None:
                return None
            found.append(member)
            kind = member.type.to if isinstance(member.type, Pointer) else member.type
        return found

    def type(self, site: CallSite) -> Type:
        if self.members(site) is None:
            site.error("err.feature", f"{self.name} needs the kernel's type information (BTF)")
        return self.returns

    def emit(self, emit: Emit, site: CallSite) -> Value:
        members = self.members(site)
        assert members is not None
        address = emit.value(site.arguments[0]) if len(site) else emit.helper("get_current_task")
        word = emit.scratch(8)
        for member in members[:-1]:
            emit.read(word, 8, _plus(emit, address, member.offset), Space.KERNEL)
            address = emit.load(word, 0, UINT64)
        address = _plus(emit, address, members[-1].offset)
        if isinstance(self.returns, String):
            text = emit.scratch(COMM)
            emit.read_string(text, COMM, address, Space.KERNEL)
            return emit.at(text, self.returns)
        emit.read(word, 4, address, Space.KERNEL)
        return emit.load(word, 0, self.returns)


def _plus(emit: Emit, address: Value, offset: int) -> Value:
    return emit.arith("+", emit.convert(address, UINT64), emit.integer(offset))


@feature
class Ppid(_OfTask):
    """The process id of the parent, in the initial PID namespace; a uint32.

    `ppid(task)` is that of another task, given as a `struct task_struct *`.

    bt> tracepoint:syscalls:sys_enter_execve { printf("%d <- %d\\n", pid, ppid); }

    Source: `real_parent` and `pid` of struct task_struct (include/linux/sched.h).
    """

    name = "ppid"
    returns = UINT32
    path = ("real_parent", "pid")


@feature
class Pcomm(_OfTask):
    """The name of the parent; a string[16]. `pcomm(task)` is that of another task's parent.

    bt> tracepoint:syscalls:sys_enter_execve { @[pcomm] = count(); }

    Source: `real_parent` and `comm` of struct task_struct (include/linux/sched.h).
    """

    name = "pcomm"
    returns = String(COMM)
    path = ("real_parent", "comm")


@feature
class LeaderTid(_OfTask):
    """The thread id of the process's first thread; a uint32. `leader_tid(task)` is that of another task's.

    bt> tracepoint:syscalls:sys_enter_openat { @[leader_tid] = count(); }

    Source: `group_leader` and `pid` of struct task_struct (include/linux/sched.h).
    """

    name = "leader_tid"
    returns = UINT32
    path = ("group_leader", "pid")


@feature
class LeaderComm(_OfTask):
    """The name of the process's first thread; a string[16]. `leader_comm(task)` is that of another task's.

    bt> tracepoint:syscalls:sys_enter_openat { @[leader_comm, comm] = count(); }

    Source: `group_leader` and `comm` of struct task_struct (include/linux/sched.h).
    """

    name = "leader_comm"
    returns = String(COMM)
    path = ("group_leader", "comm")


@feature
class Cpid(Builtin):
    """The process id of the child that `-c` started; a uint64, 0 without one.

    bt> tracepoint:syscalls:sys_enter_openat /pid == cpid/ { @ = count(); }

    Source: the tracer itself, which fills it in before the programs are loaded.
    """

    name = "cpid"
    returns = UINT64

    def type(self, site: CallSite) -> Type:
        if not site.context.child:
            site.warning("bi.cpid", "No child command (`-c`); cpid is zero")
        return UINT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.global_word("child_pid")


@feature
class HasCpid(Builtin):
    """Whether `-c` started a child; a bool.

    bt> begin { print(has_cpid); }

    Source: the tracer itself.
    """

    name = "has_cpid"
    returns = BOOL

    def fold(self, site: CallSite) -> bool:
        return site.context.child
