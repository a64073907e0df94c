"""Who is running: process, thread, user, name, control group.

Kernel facts: bpf-helpers(7); include/uapi/linux/bpf.h.
"""

from __future__ import annotations

from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.spec import Builtin, CallSite, Param, feature
from pytrace.grammar.types import (
    INT64,
    UINT32,
    UINT64,
    VOID,
    Int,
    Opaque,
    Pointer,
    Space,
    String,
    Struct,
    Type,
)
from pytrace.language.programtypes import may_call

COMM = 16  # TASK_COMM_LEN: bytes of a task's name, NUL included (include/linux/sched.h)
LONG_COMM = 64  # what `comm(PID)` gives
TASK_FROM_PID, TASK_RELEASE = "bpf_task_from_pid", "bpf_task_release"
UNKNOWN_COMM, NO_COMM = b"[unknown]", b"N/A"
LOW_WORD = 0xFFFFFFFF

PID_MODES = ("curr_ns", "init")
MODE = Param("mode", ("word",), optional=True, words=PID_MODES)


class _Id(Builtin):
    """A half of the pair (thread group, thread) that the kernel gives in one word.

    `offset` is that half's place in `struct bpf_pidns_info {u32 pid; u32 tgid}`.
    """

    parameters = (MODE,)
    returns = UINT32
    needs = "task"
    offset: int

    def type(self, site: CallSite) -> Type:
        if len(site) == 0:
            return UINT32
        mode = site.word(0)
        if mode is None:
            message = f"{self.name}() only supports curr_ns and init as the argument"
            site.error("err.call.argtype", message, 0)
        elif mode not in PID_MODES:
            message = f"Invalid PID namespace mode: {mode} (expects: curr_ns or init)"
            site.error("err.call.argtype", message, 0)
        return UINT32

    def emit(self, emit: Emit, site: CallSite) -> Value:
        initial = len(site) == 1 and site.word(0) == "init"
        return current_id(emit, site, self.offset, initial)


def current_id(emit: Emit, site: CallSite, offset: int, initial: bool = False) -> Value:
    """The current thread (`offset` 0) or thread group (4), in the PID namespace that we run in.

    `initial` asks for the number in the initial namespace instead. A task that our namespace does not see
    is 0: the helper (Linux 5.7) zeroes the structure when it fails.
    """
    if initial or site.context.host.pid_namespace() is None:
        both = emit.helper("get_current_pid_tgid")
        half = emit.arith(">>", both, emit.integer(32)) if offset else both
        return emit.convert(half, UINT32)
    info = emit.scratch(8)
    device, inode = emit.global_word("pid_ns_dev"), emit.global_word("pid_ns_ino")
    emit.helper("get_ns_current_pid_tgid", device, inode, info, emit.integer(8))
    return emit.load(info, offset, UINT32)


@feature
class Pid(_Id):
    """The process (thread group) id, in the PID namespace that pytrace runs in; a uint32.

    `pid(init)` is the id in the initial namespace, which is the one the kernel's own messages use.

    bt> tracepoint:syscalls:sys_enter_openat { @[pid] = count(); }

    Source: bpf_get_current_pid_tgid, bpf_get_ns_current_pid_tgid (bpf-helpers(7)).
    """

    name = "pid"
    steady = True
    offset = 4


@feature
class Tid(_Id):
    """The thread id, in the PID namespace that pytrace runs in; a uint32.

    `tid(init)` is the id in the initial namespace.

    bt> tracepoint:syscalls:sys_enter_read { @start[tid] = nsecs; }

    Source: bpf_get_current_pid_tgid, bpf_get_ns_current_pid_tgid (bpf-helpers(7)).
    """

    name = "tid"
    steady = True
    offset = 0


def current_uid(emit: Emit) -> Value:
    """The real user id in the initial user namespace, as a uint64."""
    return emit.arith("&", emit.helper("get_current_uid_gid"), emit.integer(LOW_WORD))


@feature
class Uid(Builtin):
    """The real user id, in the initial user namespace; a uint64.

    bt> tracepoint:syscalls:sys_enter_execve { @[uid] = count(); }

    Source: bpf_get_current_uid_gid (bpf-helpers(7)).
    """

    name = "uid"
    steady = True
    needs = "task"
    returns = UINT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return current_uid(emit)


@feature
class Gid(Builtin):
    """The real group id, in the initial user namespace; a uint64.

    bt> tracepoint:syscalls:sys_enter_execve { @[gid] = count(); }

    Source: bpf_get_current_uid_gid (bpf-helpers(7)).
    """

    name = "gid"
    steady = True
    needs = "task"
    returns = UINT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.arith(">>", emit.helper("get_current_uid_gid"), emit.integer(32))


@feature
class Username(Builtin):
    """The name of the user, looked up in /etc/passwd when it is printed; a username_t.

    A uid that has no entry there prints as an empty string.

    bt> tracepoint:syscalls:sys_enter_execve { @[username] = count(); }

    Source: bpf_get_current_uid_gid (bpf-helpers(7)), passwd(5).
    """

    name = "username"
    needs = "task"
    returns = Opaque("username_t", 8)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        slot = emit.scratch(8, zero=False)
        emit.store(slot, 0, current_uid(emit))
        return emit.at(slot, self.returns)


@feature
class Comm(Builtin):
    """The name of the running thread; a string[16].

    `comm(PID)` is the name of the thread with this id in the initial PID namespace; a string[64]. It is `N/A`, with a
    warning, if there is none, and `[unknown]` if the kernel cannot find threads. Not all types of probe may look.

    bt> tracepoint:syscalls:sys_enter_openat { @[comm] = count(); }
    bt> tracepoint:syscalls:sys_enter_openat { printf("%s is a child of %s\\n", comm, comm(ppid)); }

    Source: bpf_get_current_comm (bpf-helpers(7)); the kernel functions bpf_task_from_pid and bpf_task_release
    (Linux 6.2), which kprobe, tracepoint and timer programs may call since 6.12 (kernel/bpf/btf.c).
    """

    name = "comm"
    parameters = (Param("pid", ("int",), optional=True),)
    needs = "task"
    returns = String(COMM)

    def type(self, site: CallSite) -> Type:
        if not len(site):
            return self.returns
        host = site.context.host
        if host.function_prototype(TASK_FROM_PID, "vmlinux") and not may_call(site, TASK_FROM_PID):
            probe = site.target.type.name
            message = f"Syntax comm(PID) is not supported in this probe type yet. Type: {probe}"
            site.error("err.call.probe", message)
        return String(LONG_COMM)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        if len(site):
            return self._of_thread(emit, site)
        # zeroed, because before Linux 6.9 the helper left what is behind the NUL as it was
        slot = emit.scratch(COMM)
        emit.helper("get_current_comm", slot, emit.integer(COMM))
        return emit.at(slot, self.returns)

    def _of_thread(self, emit: Emit, site: CallSite) -> Value:
        slot, host = emit.scratch(LONG_COMM), site.context.host
        struct = host.find_type("task_struct", "struct")
        members = {m.name: m for m in host.members(struct)} if isinstance(struct, Struct) else {}
        if not host.function_prototype(TASK_FROM_PID, "vmlinux") or "comm" not in members:
            emit.copy(slot, emit.slot(emit.text(UNKNOWN_COMM)), len(UNKNOWN_COMM))
            emit.send("warnf", [], (f"This kernel has no {TASK_FROM_PID}, which comm(PID) needs",), site.span)
            return emit.at(slot, site.type)
        pid = emit.convert(emit.value(site.arguments[0]), INT64)
        task = emit.kernel_function(TASK_FROM_PID, ("struct task_struct *", "int"), pid)

        def read() -> None:
            name = emit.arith("+", task, emit.integer(members["comm"].offset))
            emit.read_string(slot, COMM, name, Space.KERNEL)
            emit.kernel_function(TASK_RELEASE, ("void", "struct task_struct *"), task)

        def warn() -> None:
            emit.copy(slot, emit.slot(emit.text(NO_COMM)), len(NO_COMM))
            emit.send("warnf", [pid], ("No such process (pid=%lld)",), site.span)

        emit.when(emit.truth(task), read, warn)
        return emit.at(slot, site.type)


@feature
class Curtask(Builtin):
    """The running task; a `struct task_struct *`, whose members can be read without a cast.

    bt> tracepoint:syscalls:sys_enter_execve { printf("%d %s\\n", curtask.pid, curtask.comm); }

    Source: bpf_get_current_task (bpf-helpers(7)), include/linux/sched.h.
    """

    name = "curtask"
    steady = True
    needs = "task"
    returns = Pointer(VOID, Space.KERNEL)

    def type(self, site: CallSite) -> Type:
        task = site.context.host.find_type("task_struct", "struct")
        return self.returns if task is None else Pointer(task, Space.KERNEL)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.helper("get_current_task", type=site.type)


@feature
class Cgroup(Builtin):
    """The id of the task's control group in the version 2 hierarchy; a uint64.

    It is what `cgroupid("/sys/fs/cgroup/…")` gives for the group's directory.

    bt> tracepoint:syscalls:sys_enter_openat { @[cgroup] = count(); }

    Source: bpf_get_current_cgroup_id (bpf-helpers(7)).
    """

    name = "cgroup"
    steady = True
    needs = "task"
    returns = Int(8)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.helper("get_current_cgroup_id")
