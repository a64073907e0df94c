"""A machine made of plain dictionaries, enough to compile programs without root and without a kernel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from pytrace.grammar.host import (
    CDefinitions,
    Event,
    HostError,
    Imported,
    Interface,
    LinkedUnit,
    PercpuVariable,
    Prototype,
    SourceLine,
    Symbol,
    UsdtArgument,
    UsdtLocation,
    UserVariable,
)
from pytrace.grammar.types import (
    BOOL,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    VOID,
    Array,
    EnumType,
    Int,
    Member,
    Pointer,
    Space,
    String,
    Struct,
    Type,
)
from pytrace.runtime.cnames import base_type

CHARS = Pointer(INT8, Space.USER)
KERNEL_CHARS = Pointer(INT8, Space.KERNEL)
TASK = Struct("task_struct", 3264)
LIBC = "/lib/x86_64-linux-gnu/libc.so.6"
SHELL = "/bin/bash"
PYTHON = "/usr/bin/python3"
INTERFACES = (Interface("eth0", 2), Interface("eth1", 3), Interface("lo", 1), Interface("tun0", 4, ethernet=False))


# struct pt_regs of x86-64, in order
REGISTERS = (
    "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax",
    "cx", "dx", "si", "di", "orig_ax", "ip", "cs", "flags", "sp", "ss",
)  # fmt: skip


def _kernel(to: Type) -> Pointer:
    return Pointer(to, Space.KERNEL)


def members(*entries: tuple[str, Type, int]) -> tuple[Member, ...]:
    """Members from (name, type, offset)."""
    return tuple(Member(name, kind, offset, text=f"{kind} {name}") for name, kind, offset in entries)


ITER_META = Struct("bpf_iter_meta", 24)
STRUCTS: dict[Struct, tuple[Member, ...]] = {
    ITER_META: members(("session_id", UINT64, 8), ("seq_num", UINT64, 16)),
    Struct("bpf_iter__task", 16): (
        Member("meta", _kernel(ITER_META), 0, text="struct bpf_iter_meta * meta"),
        Member("task", _kernel(TASK), 8, text="struct task_struct * task"),
    ),
    Struct("bpf_iter__task_file", 32): (
        Member("meta", _kernel(ITER_META), 0, text="struct bpf_iter_meta * meta"),
        Member("task", _kernel(TASK), 8, text="struct task_struct * task"),
        Member("fd", UINT32, 16, text="u32 fd"),
        Member("file", _kernel(Struct("file", 184)), 24, text="struct file * file"),
    ),
    Struct("bpf_iter__bpf_map_elem", 32): members(
        ("meta", _kernel(ITER_META), 0), ("key", _kernel(UINT8), 16), ("value", _kernel(UINT8), 24)
    ),
    TASK: (
        *members(
            ("__state", UINT32, 24),
            ("flags", UINT32, 44),
            ("prio", INT32, 108),
            ("se", Struct("sched_entity", 256), 128),
            ("mm", _kernel(Struct("mm_struct", 1344)), 1168),
        ),
        Member("in_execve", UINT32, 1192, (3, 1), text="unsigned int in_execve:1"),
        *members(
            ("pid", INT32, 1264),
            ("tgid", INT32, 1268),
            ("real_parent", _kernel(TASK), 1280),
            ("parent", _kernel(TASK), 1288),
            ("group_leader", _kernel(TASK), 1328),
            ("start_time", UINT64, 1592),
            ("start_boottime", UINT64, 1600),
            ("cred", _kernel(Struct("cred", 184)), 1736),
            ("comm", String(16), 1752),
            ("files", _kernel(Struct("files_struct", 704)), 1824),
        ),
    ),
    Struct("sched_entity", 256): members(("vruntime", UINT64, 104), ("sum_exec_runtime", UINT64, 96)),
    Struct("cred", 184): members(("usage", Struct("atomic_t", 4), 0), ("uid", Struct("kuid_t", 4), 8)),
    Struct("kuid_t", 4): members(("val", UINT32, 0)),
    Struct("atomic_t", 4): members(("counter", INT32, 0)),
    Struct("mm_struct", 1344): members(("total_vm", UINT64, 288)),
    Struct("files_struct", 704): members(("next_fd", UINT32, 644)),
    Struct("list_head", 16): members(
        ("next", _kernel(Struct("list_head", 16)), 0), ("prev", _kernel(Struct("list_head", 16)), 8)
    ),
    Struct("path", 16): members(("mnt", _kernel(VOID), 0), ("dentry", _kernel(Struct("dentry", 192)), 8)),
    Struct("file", 184): members(
        ("f_mode", UINT32, 4),
        ("f_flags", UINT32, 24),
        ("f_path", Struct("path", 16), 64),
        ("f_pos", INT64, 80),
    ),
    Struct("dentry", 192): members(
        ("d_parent", _kernel(Struct("dentry", 192)), 24),
        ("d_name", Struct("qstr", 16), 32),
        ("d_inode", _kernel(Struct("inode", 600)), 48),
    ),
    # the members of the anonymous union in front are at its place
    Struct("qstr", 16): members(
        ("hash", UINT32, 0), ("len", UINT32, 4), ("hash_len", UINT64, 0), ("name", _kernel(UINT8), 8)
    ),
    Struct("inode", 600): members(("i_mode", UINT16, 0), ("i_ino", UINT64, 64), ("i_size", INT64, 80)),
    Struct("sk_buff", 232): members(
        ("dev", _kernel(Struct("net_device", 2560)), 16),
        ("len", UINT32, 112),
        ("data_len", UINT32, 116),
        ("data", _kernel(UINT8), 200),
    ),
    Struct("net_device", 2560): members(
        ("dev_addr", _kernel(UINT8), 1016), ("name", String(16), 304), ("ifindex", INT32, 224)
    ),
    Struct("sockaddr_in", 16): members(
        ("sin_family", UINT16, 0), ("sin_port", UINT16, 2), ("sin_addr", Struct("in_addr", 4), 4)
    ),
    Struct("in_addr", 4): members(("s_addr", UINT32, 0)),
    Struct("in6_addr", 16): members(("in6_u", Struct("in6_addr.in6_u", 16, "union"), 0)),
    Struct("in6_addr.in6_u", 16, "union"): members(
        ("u6_addr8", String(16), 0), ("u6_addr16", Array(UINT16, 8), 0), ("u6_addr32", Array(UINT32, 4), 0)
    ),
    Struct("sock_common", 136): members(("skc_family", UINT16, 16), ("skc_cookie", INT64, 96)),
    Struct("sock", 760): members(("__sk_common", Struct("sock_common", 136), 0)),
    Struct("pt_regs", 168): members(*((name, UINT64, 8 * slot) for slot, name in enumerate(REGISTERS))),
    Struct("bpf_perf_event_data", 184): members(
        ("regs", Struct("pt_regs", 168), 0), ("sample_period", UINT64, 168), ("addr", UINT64, 176)
    ),
    Struct("bpf_iter__task", 16): members(
        ("meta", _kernel(Struct("bpf_iter_meta", 24)), 0), ("task", _kernel(TASK), 8)
    ),
}

TYPEDEFS: dict[str, Type] = {
    "atomic_t": Struct("atomic_t", 4),
    "kuid_t": Struct("kuid_t", 4),
    "sa_family_t": UINT16,
    "ktime_t": INT64,
}

ENUMS: dict[EnumType, dict[str, int]] = {
    EnumType("pid_type", 4): {"PIDTYPE_PID": 0, "PIDTYPE_TGID": 1, "PIDTYPE_PGID": 2, "PIDTYPE_SID": 3},
    EnumType("hrtimer_mode", 4): {"HRTIMER_MODE_ABS": 0, "HRTIMER_MODE_REL": 1, "HRTIMER_MODE_PINNED": 2},
}

COMMON = (
    Member("common_type", UINT16, 0, text="unsigned short common_type"),
    Member("common_flags", UINT8, 2, text="unsigned char common_flags"),
    Member("common_preempt_count", UINT8, 3, text="unsigned char common_preempt_count"),
    Member("common_pid", INT32, 4, text="int common_pid"),
)
_NUMBER = Member("__syscall_nr", INT32, 8, text="int __syscall_nr")


def _fields(*entries: tuple[str, Type, int, str]) -> tuple[Member, ...]:
    located = Int(8, space=Space.KERNEL)
    return tuple(
        Member(name, located, offset, data_loc=True, text=f"{text} {name}")
        if text.startswith("__data_loc")
        else Member(name, kind, offset, text=f"{text} {name}")
        for name, kind, offset, text in entries
    )


def _enter(*arguments: tuple[str, Type, str]) -> tuple[Member, ...]:
    """A system call's entry: arguments are 8 bytes each."""
    places = ((name, kind, 16 + 8 * i, text) for i, (name, kind, text) in enumerate(arguments))
    return (_NUMBER, *_fields(*places))


_READ = (("fd", UINT64, "unsigned int"), ("buf", CHARS, "char *"), ("count", UINT64, "size_t"))
_OPEN = (("filename", CHARS, "const char *"), ("flags", UINT64, "int"), ("mode", UINT64, "umode_t"))
_EXIT = (_NUMBER, *_fields(("ret", INT64, 16, "long")))
_SWITCH = (
    ("prev_comm", String(16), 8, "char"),
    ("prev_pid", INT32, 24, "pid_t"),
    ("prev_prio", INT32, 28, "int"),
    ("prev_state", INT64, 32, "long"),
    ("next_comm", String(16), 40, "char"),
    ("next_pid", INT32, 56, "pid_t"),
    ("next_prio", INT32, 60, "int"),
)
_WAKEUP = (
    ("comm", String(16), 8, "char"),
    ("pid", INT32, 24, "pid_t"),
    ("prio", INT32, 28, "int"),
    ("target_cpu", INT32, 32, "int"),
)

EVENTS: dict[tuple[str, str], tuple[Member, ...]] = {
    ("syscalls", "sys_enter_open"): _enter(*_OPEN),
    ("syscalls", "sys_exit_open"): _EXIT,
    ("syscalls", "sys_enter_openat"): _enter(("dfd", UINT64, "int"), *_OPEN),
    ("syscalls", "sys_exit_openat"): _EXIT,
    ("syscalls", "sys_enter_read"): _enter(*_READ),
    ("syscalls", "sys_exit_read"): _EXIT,
    ("syscalls", "sys_enter_write"): _enter(*_READ),
    ("syscalls", "sys_exit_write"): _EXIT,
    ("syscalls", "sys_enter_execve"): _enter(
        ("filename", CHARS, "const char *"),
        ("argv", Pointer(CHARS, Space.USER), "const char *const *"),
        ("envp", Pointer(CHARS, Space.USER), "const char *const *"),
    ),
    ("syscalls", "sys_enter_nanosleep"): _enter(
        ("rqtp", Pointer(Struct("__kernel_timespec", 16), Space.USER), "struct __kernel_timespec *"),
        ("rmtp", Pointer(Struct("__kernel_timespec", 16), Space.USER), "struct __kernel_timespec *"),
    ),
    ("raw_syscalls", "sys_enter"): _fields(("id", INT64, 8, "long"), ("args", Array(UINT64, 6), 16, "unsigned long")),
    ("raw_syscalls", "sys_exit"): _fields(("id", INT64, 8, "long"), ("ret", INT64, 16, "long")),
    ("sched", "sched_switch"): _fields(*_SWITCH),
    ("sched", "sched_wakeup"): _fields(*_WAKEUP),
    ("sched", "sched_wakeup_new"): _fields(*_WAKEUP),
    ("sched", "sched_waking"): _fields(*_WAKEUP),
    ("sched", "sched_process_exec"): _fields(
        ("filename", UINT64, 8, "__data_loc char[]"),
        ("pid", INT32, 12, "pid_t"),
        ("old_pid", INT32, 16, "pid_t"),
    ),
    ("sched", "sched_process_exit"): _fields(
        ("comm", String(16), 8, "char"), ("pid", INT32, 24, "pid_t"), ("prio", INT32, 28, "int")
    ),
    ("signal", "signal_generate"): _fields(
        ("sig", INT32, 8, "int"),
        ("errno", INT32, 12, "int"),
        ("code", INT32, 16, "int"),
        ("comm", String(16), 20, "char"),
        ("pid", INT32, 36, "pid_t"),
        ("group", INT32, 40, "int"),
        ("result", INT32, 44, "int"),
    ),
    ("timer", "hrtimer_start"): _fields(
        ("hrtimer", _kernel(VOID), 8, "void *"),
        ("function", _kernel(VOID), 16, "void *"),
        ("expires", INT64, 24, "s64"),
        ("softexpires", INT64, 32, "s64"),
        ("mode", UINT32, 40, "enum hrtimer_mode"),
    ),
    ("net", "net_dev_queue"): _fields(
        ("skbaddr", _kernel(VOID), 8, "void *"),
        ("len", UINT32, 16, "unsigned int"),
        ("name", UINT64, 20, "__data_loc char[]"),
    ),
    ("block", "block_rq_issue"): _fields(
        ("dev", UINT32, 8, "dev_t"), ("sector", UINT64, 16, "sector_t"), ("bytes", UINT32, 28, "unsigned int")
    ),
}


def _prototype(
    name: str, result: Type, result_text: str, *parameters: tuple[str, Type, str], module: str = "vmlinux"
) -> Prototype:
    listed = tuple(
        Member(label, kind, 8 * slot, text=f"{text} {label}") for slot, (label, kind, text) in enumerate(parameters)
    )
    return Prototype(name, listed, result, result_text, module, len(listed))


_FILE = ("file", _kernel(Struct("file", 184)), "struct file *")
_BUFFER = ("buf", KERNEL_CHARS, "char *")
_COUNT = ("count", UINT64, "size_t")
_POS = ("pos", _kernel(INT64), "loff_t *")
_TASK_P = ("p", _kernel(TASK), "struct task_struct *")

FUNCTIONS: dict[tuple[str, str], Prototype] = {
    (prototype.module, prototype.name): prototype
    for prototype in (
        _prototype("vfs_read", INT64, "ssize_t", _FILE, _BUFFER, _COUNT, _POS),
        _prototype("vfs_write", INT64, "ssize_t", _FILE, _BUFFER, _COUNT, _POS),
        _prototype("filp_close", INT32, "int", ("filp", *_FILE[1:]), ("id", _kernel(VOID), "void *")),
        _prototype("vfs_fsync", INT32, "int", _FILE, ("datasync", INT32, "int")),
        _prototype(
            "vfs_unlink",
            INT32,
            "int",
            ("idmap", _kernel(VOID), "struct mnt_idmap *"),
            ("dir", _kernel(Struct("inode", 600)), "struct inode *"),
            ("dentry", _kernel(Struct("dentry", 192)), "struct dentry *"),
            ("delegated_inode", _kernel(_kernel(Struct("inode", 600))), "struct inode **"),
        ),
        _prototype("wake_up_new_task", VOID, "void", _TASK_P),
        _prototype(
            "__x64_sys_getuid",
            INT64,
            "long",
            ("regs", _kernel(Struct("pt_regs", 168)), "const struct pt_regs *"),
        ),
        _prototype("ext4_sync_fs", INT32, "int", ("wait", INT32, "int"), module="ext4"),
    )
}

RAW_TRACEPOINTS: dict[str, Prototype] = {
    "net_dev_queue": _prototype(
        "net_dev_queue", VOID, "void", ("skb", _kernel(Struct("sk_buff", 232)), "struct sk_buff *")
    ),
    "inet_sock_set_state": _prototype(
        "inet_sock_set_state",
        VOID,
        "void",
        ("sk", _kernel(Struct("sock", 760)), "const struct sock *"),
        ("oldstate", INT32, "const int"),
        ("newstate", INT32, "const int"),
    ),
    "sched_switch": _prototype(
        "sched_switch",
        VOID,
        "void",
        ("preempt", BOOL, "bool"),
        ("prev", _kernel(TASK), "struct task_struct *"),
        ("next", _kernel(TASK), "struct task_struct *"),
        ("prev_state", UINT32, "unsigned int"),
    ),
    "sys_enter": _prototype(
        "sys_enter",
        VOID,
        "void",
        ("regs", _kernel(Struct("pt_regs", 168)), "struct pt_regs *"),
        ("id", INT64, "long int"),
    ),
}

# the shell has debug information, the library has not
USER_FUNCTIONS: dict[tuple[str, str], Prototype] = {
    (SHELL, "readline"): _prototype("readline", CHARS, "char *", ("prompt", CHARS, "const char *"), module=SHELL)
}

SYMBOLS: dict[str, tuple[Symbol, ...]] = {
    LIBC: (
        Symbol("free", 0x99360, 0x99360, 350),
        Symbol("malloc", 0x98930, 0x98930, 791),
        Symbol("mallopt", 0x99C00, 0x99C00, 228),
    ),
    SHELL: (Symbol("main", 0x31A00, 0x31A00, 6000), Symbol("readline", 0xD5690, 0xD5690, 254)),
}

VARIABLES = {
    (SHELL, "interactive"): UserVariable(0x12A40C, 4, 0x31A00),
    (SHELL, "ps1_prompt"): UserVariable(0x129A88, 8, 0x31A00),
}

USDT: dict[str, tuple[UsdtLocation, ...]] = {
    LIBC: (
        UsdtLocation(
            "libc",
            "setjmp",
            0x3D2B0,
            0,
            (UsdtArgument(8, register="di"), UsdtArgument(-4, register="si"), UsdtArgument(8, register="ax")),
        ),
        UsdtLocation(
            "libc",
            "memory_heap_new",
            0x94210,
            0x1D3A00,
            (UsdtArgument(8, register="bp", dereference=True, offset=-20), UsdtArgument(-4, constant=5)),
        ),
    ),
    PYTHON: (
        UsdtLocation(
            "python",
            "function__entry",
            0x1504A2,
            0x556A20,
            tuple(UsdtArgument(size, register=name) for size, name in ((8, "r13"), (8, "r14"), (-4, "ax"))),
        ),
    ),
}

BINARIES: dict[str, tuple[str, ...]] = {
    "libc": (LIBC,),
    "libc.so.6": (LIBC,),
    LIBC: (LIBC,),
    SHELL: (SHELL,),
    "bash": (SHELL,),
    PYTHON: (PYTHON,),
    "python3": (PYTHON,),
}

FEATURES = frozenset(
    {
        "btf", "tracefs", "kprobe", "uprobe", "fentry", "iter", "perf_link", "uprobe_ref_ctr",
        "kprobe_multi", "uprobe_multi", "bpf_loop", "ktime_get_tai_ns", "get_func_ip",
        "xdp_load_bytes", "bpf_task_pt_regs",
    }
)  # fmt: skip


@dataclass
class FakeHost:
    """`Host` out of dictionaries; every one may be replaced.

    `definitions` are what the C front end makes of any text. `asked` lists the long lists that were read.
    """

    structs: dict[Struct, tuple[Member, ...]] = field(default_factory=lambda: dict(STRUCTS))
    typedefs: dict[str, Type] = field(default_factory=lambda: dict(TYPEDEFS))
    enums: dict[EnumType, dict[str, int]] = field(default_factory=lambda: dict(ENUMS))
    tracepoints: dict[tuple[str, str], tuple[Member, ...]] = field(default_factory=lambda: dict(EVENTS))
    functions: dict[tuple[str, str], Prototype] = field(default_factory=lambda: dict(FUNCTIONS))
    raw: dict[str, Prototype] = field(default_factory=lambda: dict(RAW_TRACEPOINTS))
    files: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(BINARIES))
    elf_symbols: dict[str, tuple[Symbol, ...]] = field(default_factory=lambda: dict(SYMBOLS))
    variables: dict[tuple[str, str], UserVariable] = field(default_factory=lambda: dict(VARIABLES))
    locations: dict[str, tuple[UsdtLocation, ...]] = field(default_factory=lambda: dict(USDT))
    imports: dict[str, Imported] = field(default_factory=dict)
    addresses: dict[str, int] = field(
        default_factory=lambda: {
            "jiffies": 0xFFFFFFFF82A05000,
            "process_counts": 0x2A5C0,
            "vfs_read": 0xFFFFFFFF813D1F40,
        }
    )
    features: set[str] = field(default_factory=lambda: set(FEATURES))
    definitions: CDefinitions = field(default_factory=CDefinitions)
    namespace: tuple[int, int] | None = None
    prototypes: dict[tuple[str, str], Prototype] = field(default_factory=lambda: dict(USER_FUNCTIONS))
    cgroups: dict[str, int] = field(default_factory=lambda: {"/sys/fs/cgroup": 1})
    percpu: dict[str, PercpuVariable] = field(default_factory=lambda: {"process_counts": PercpuVariable(7, 64, UINT64)})
    devices: tuple[Interface, ...] = INTERFACES
    sizes: dict[str, int] = field(default_factory=lambda: {"vfs_read": 700})
    programs: tuple[tuple[int, str], ...] = ((7, "trace_open"), (9, "trace_open"), (9, "helper"))
    cpus: int = 4
    asked: list[str] = field(default_factory=list)

    def members(self, struct: Struct) -> tuple[Member, ...]:
        found = (m for s, m in self.structs.items() if (s.name, s.kind) == (struct.name, struct.kind))
        return next(found, ())

    def find_type(self, name: str, kind: str = "") -> Type | None:
        if kind in ("struct", "union"):
            return next((s for s in self.structs if (s.name, s.kind) == (name, kind)), None)
        if kind == "enum":
            return next((e for e in self.enums if e.name == name), None)
        return base_type(name) or self.typedefs.get(name)

    def enumerators(self, enum: EnumType) -> dict[str, int]:
        return next((values for e, values in self.enums.items() if e.name == enum.name), {})

    def enumerator(self, name: str) -> tuple[EnumType, int] | None:
        found = ((EnumType(e.name, 8, e.signed), v[name]) for e, v in self.enums.items() if name in v)
        return next(found, None)

    def event(self, category: str, name: str) -> Event | None:
        fields = self.tracepoints.get((category, name))
        return None if fields is None else Event(category, name, (*COMMON, *fields))

    def events(self) -> Sequence[tuple[str, str]]:
        self.asked.append("events")
        return sorted(self.tracepoints)

    def kernel_function(self, name: str, module: str = "") -> bool:
        return any(f == name and module in ("", m) for m, f in self.functions)

    def kernel_functions(self) -> Sequence[tuple[str, str]]:
        self.asked.append("kernel_functions")
        return sorted(self.functions)

    def function_prototype(self, name: str, module: str = "") -> Prototype | None:
        return next((p for (m, f), p in self.functions.items() if f == name and module in ("", m)), None)

    def function_prototypes(self) -> Sequence[tuple[str, str]]:
        self.asked.append("function_prototypes")
        return sorted(self.functions)

    def function_modules(self, name: str) -> Sequence[str]:
        return sorted(module for module, function in self.functions if function == name)

    def function_size(self, name: str, module: str = "") -> int | None:
        return self.sizes.get(name)

    def bpf_functions(self) -> Sequence[tuple[int, str]]:
        self.asked.append("bpf_functions")
        return self.programs

    def raw_tracepoint(self, name: str) -> Prototype | None:
        return self.raw.get(name)

    def raw_tracepoints(self) -> Sequence[tuple[str, str]]:
        self.asked.append("raw_tracepoints")
        return sorted((p.module, name) for name, p in self.raw.items())

    def iterators(self) -> Sequence[str]:
        self.asked.append("iterators")
        names = (s.name for s in self.structs if s.name.startswith("bpf_iter__"))
        return sorted(name.removeprefix("bpf_iter__") for name in names)

    def binaries(self, target: str, pid: int | None = None) -> Sequence[str]:
        return self.files.get(target, ())

    def notes(self) -> Sequence[str]:
        return ()

    def symbols(self, path: str) -> Sequence[Symbol]:
        return self.elf_symbols.get(path, ())

    def function_names(self, path: str) -> set[str]:
        return {symbol.name for symbol in self.symbols(path) if symbol.function}

    def explain_target(self, target: str, pid: int | None = None) -> str:
        return "There is no such file. Give the full path; a bare name is looked up in $PATH."

    def stripped(self, path: str) -> bool:
        return False

    def file_offset(self, path: str, address: int) -> int | None:
        return None

    def instructions(self, path: str, symbol: Symbol) -> Sequence[int]:
        return (0,)

    def source_line(self, path: str, file: str, line: int, column: int | None = None) -> SourceLine:
        raise HostError(f'No DWARF found for "{path}"')

    def demangle(self, name: str) -> str:
        return name

    def user_variable(self, path: str, name: str, offset: int) -> UserVariable | None:
        return self.variables.get((path, name))

    def usdt(self, path: str) -> Sequence[UsdtLocation]:
        return self.locations.get(path, ())

    def user_prototype(self, path: str, symbol: str, address: int | None = None) -> Prototype | None:
        if not any(file == path for file, _ in self.prototypes):
            raise HostError(f'No DWARF found for "{path}"')
        return self.prototypes.get((path, symbol))

    def user_type(self, path: str, name: str, kind: str = "") -> Type | None:
        return None

    def kernel_address(self, symbol: str) -> int | None:
        return self.addresses.get(symbol)

    def type_names(self, kind: str) -> Sequence[str]:
        self.asked.append("type_names")
        known = [e.name for e in self.enums] if kind == "enum" else [s.name for s in self.structs if s.kind == kind]
        return sorted(known)

    def type_definition(self, kind: str, name: str) -> str | None:
        return f"{kind} {name} {{\n}};\n" if self.find_type(name, kind) else None

    def type_number(self, kind: Struct | EnumType) -> int:
        return sum(map(ord, kind.name)) if self.find_type(kind.name, getattr(kind, "kind", "enum")) else 0

    def percpu_variable(self, name: str) -> PercpuVariable | None:
        return self.percpu.get(name)

    def imported(self, path: str) -> Imported | None:
        return self.imports.get(os.path.normpath(path))

    def c_definitions(self, text: str) -> CDefinitions:
        return self.definitions

    def pid_namespace(self) -> tuple[int, int] | None:
        return self.namespace

    def cgroup_id(self, path: str) -> int:
        if path not in self.cgroups:
            raise FileNotFoundError(path)
        return self.cgroups[path]

    def interfaces(self, pid: int | None = None) -> Sequence[Interface]:
        return self.devices

    def has(self, feature: str) -> bool:
        return feature in self.features

    def linked_unit(self, path: str) -> LinkedUnit:
        raise HostError("no BPF object")
