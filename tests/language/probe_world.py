"""What the tests of the probe types share: a small machine, attach points from text, emission."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytrace.language  # noqa: F401  (it tells where the features are)
from pytrace.grammar.attachpoint import split
from pytrace.grammar.config import Config
from pytrace.grammar.diagnostics import Diagnostics
from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.host import Event, HostError, Prototype, Symbol, UsdtLocation
from pytrace.grammar.probetype import ProbeType
from pytrace.grammar.source import Source
from pytrace.grammar.spec import REGISTRY, Context, Target
from pytrace.grammar.types import (
    UINT64,
    VOID,
    Bool,
    Int,
    Member,
    Pointer,
    Space,
    String,
    Struct,
    Type,
    size_of,
)
from tests.fakehost import FakeHost

TASK = Pointer(Struct("task_struct", 9000))
FILE = Pointer(Struct("file", 200))
EVENTS = {
    ("sched", "sched_process_exec"): (Member("filename", UINT64, 8, data_loc=True, text="__data_loc char[] filename"),),
    ("sched", "sched_switch"): (
        Member("prev_comm", String(16), 8, text="char prev_comm[16]"),
        Member("prev_pid", Int(4, True), 24, text="pid_t prev_pid"),
    ),
    ("sched", "sched_waking"): (Member("comm", String(16), 12, text="char comm[16]"),),
    ("syscalls", "sys_enter_openat"): (
        Member("filename", Pointer(Int(1, True)), 24, text="const char * filename"),
        Member("flags", UINT64, 32, text="int flags"),
    ),
    ("syscalls", "sys_exit_openat"): (Member("ret", Int(8, True), 16, text="long ret"),),
}

FUNCTIONS = {
    ("vmlinux", "vfs_read"): Prototype(
        "vfs_read",
        (Member("file", FILE, 0, text="struct file * file"), Member("count", UINT64, 8, text="size_t count")),
        Int(8, True),
        "ssize_t",
        slots=2,
    ),
    ("vmlinux", "vfs_write"): Prototype("vfs_write", (), Int(4, True), "int"),
    ("vmlinux", "vfs_void"): Prototype("vfs_void", (Member("on", Bool(), 0, text="bool on"),), VOID, "void"),
    ("vmlinux", "vfs_wide"): Prototype("vfs_wide", tuple(Member(f"a{i}", UINT64, 8 * i) for i in range(7))),
    ("ext4", "ext4_read"): Prototype("ext4_read", (), VOID, "void", "ext4"),
    ("vmlinux", "__x64_sys_nanosleep"): Prototype("__x64_sys_nanosleep", ()),
}

RAW = {
    "sched_switch": Prototype(
        "sched_switch",
        (
            Member("preempt", Bool(), 0, text="bool preempt"),
            Member("prev", TASK, 8, text="struct task_struct * prev"),
        ),
    ),
    "ext4_sync": Prototype("ext4_sync", (Member("inode", TASK, 0, text="struct inode * inode"),), module="ext4"),
}

SYMBOLS = (
    Symbol("main", 0x1100, 0x100, 32),
    Symbol("readline", 0x1200, 0x200, 64),
    Symbol("read_all", 0x1300, 0x300, 16),
    Symbol("data", 0x4000, 0x3000, 8, function=False),
)


@dataclass
class World(FakeHost):
    """A machine with a handful of everything, whose names the tests know. Every path has the same symbols."""

    tracepoints: dict[tuple[str, str], tuple[Member, ...]] = field(default_factory=lambda: dict(EVENTS))
    functions: dict[tuple[str, str], Prototype] = field(default_factory=lambda: dict(FUNCTIONS))
    raw: dict[str, Prototype] = field(default_factory=lambda: dict(RAW))
    files: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {"/bin/bash": ("/bin/bash",), "bash": ("/bin/bash",)}
    )
    addresses: dict[str, int] = field(default_factory=lambda: {"notrace_function": 0xFFFF0000})
    probes: tuple[UsdtLocation, ...] = ()
    tracefs: bool = True

    def event(self, category: str, name: str) -> Event | None:
        if not self.tracefs:
            raise HostError("tracefs is not mounted")
        return FakeHost.event(self, category, name)

    def kernel_functions(self) -> Sequence[tuple[str, str]]:
        return [*FakeHost.kernel_functions(self), ("vmlinux", "vfs_split.part.0")]

    def symbols(self, path: str) -> Sequence[Symbol]:
        return SYMBOLS

    def instructions(self, path: str, symbol: Symbol) -> Sequence[int]:
        return (0, 1, 5, 8)  # the rest of the function cannot be read

    def usdt(self, path: str) -> Sequence[UsdtLocation]:
        return self.probes


@dataclass
class Expanded:
    """What an attach point came to."""

    targets: list[Target]
    diagnostics: Diagnostics

    @property
    def names(self) -> list[str]:
        """The full names of the targets."""
        return [t.name for t in self.targets]

    @property
    def errors(self) -> list[str]:
        """Code and message of each error."""
        return [f"{d.code}: {d.message}" for d in self.diagnostics.errors]

    @property
    def warnings(self) -> list[str]:
        """Code and message of each warning."""
        return [f"{d.code}: {d.message}" for d in self.diagnostics.warnings]

    @property
    def hints(self) -> list[str]:
        """The hints of all messages."""
        return [hint for d in self.diagnostics.items for hint in d.hints]


def expand(
    text: str, world: World | None = None, pid: int | None = None, unsafe: bool = False, **config: Any
) -> Expanded:
    """Expand the attach point `text` on a machine."""
    point = split(text)
    kind = REGISTRY.probe_type(point.parts[0])
    assert isinstance(kind, ProbeType), text
    context = Context(world or World(), Config(**config), Diagnostics(), pid=pid, unsafe=unsafe)
    targets = kind.targets(point, Source("stdin", text).span(0, len(text)), context)
    return Expanded(targets, context.diagnostics)


CONTEXT = 1 << 40  # the address at which the context lies


class Machine:
    """An `Emit` that computes at once: registers are Python integers, memory is bytes at addresses."""

    config = Config()

    def __init__(self, context: bytes, memory: dict[int, bytes] | None = None) -> None:
        self.record = context
        self.memory = memory or {}
        self.reads: list[Space] = []

    @property
    def emit(self) -> Emit:
        """This, as probe types want it."""
        return cast("Emit", self)

    def integer(self, value: int, type: Type = UINT64) -> Value:
        return Value(type, value)

    def arith(self, op: str, a: Value, b: Value) -> Value:
        made = {"+": a.raw + b.raw, "*": a.raw * b.raw, "&": a.raw & b.raw}[op]
        return Value(UINT64, made % (1 << 64))

    def convert(self, value: Value, type: Type) -> Value:
        size, signed = size_of(type), isinstance(type, Int) and type.signed
        low = (value.raw % (1 << 64)).to_bytes(8, "little")[:size]
        if isinstance(type, Bool):
            return Value(type, int(any(low)))
        return Value(type, int.from_bytes(low, "little", signed=signed))

    def context(self) -> Value:
        return Value(UINT64, CONTEXT)

    def context_word(self, offset: int, type: Type = UINT64) -> Value:
        size = size_of(type)
        assert offset % size == 0, "the kernel refuses misaligned reads of the context"
        return self.convert(Value(UINT64, int.from_bytes(self.record[offset : offset + size], "little")), type)

    def scratch(self, size: int, zero: bool = True) -> Slot:
        return Slot(bytearray(size), size)

    def store(self, slot: Slot, offset: int, value: Value) -> None:
        size = size_of(value.type)
        slot.raw[offset : offset + size] = (value.raw % (1 << (8 * size))).to_bytes(size, "little")

    def load(self, slot: Slot, offset: int, type: Type) -> Value:
        return self.convert(Value(UINT64, int.from_bytes(slot.raw[offset : offset + size_of(type)], "little")), type)

    def at(self, slot: Slot, type: Type) -> Value:
        return Value(type, bytes(slot.raw))

    def read(self, to: Slot, size: int, address: Value, space: Space) -> Value:
        self.reads.append(space)
        if CONTEXT <= address.raw < CONTEXT + len(self.record):
            start = address.raw - CONTEXT
            to.raw[:size] = self.record[start : start + size]
        else:
            to.raw[:size] = self.memory[address.raw][:size]
        return self.integer(0)

    def helper(self, name: str, *arguments: Value | Slot, type: Type = UINT64) -> Value:
        assert name == "get_func_ip"
        return Value(type, 0xABC)


def registers(**values: int) -> bytes:
    """A `struct pt_regs` of x86-64."""
    order = (
        "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di",
        "orig_rax", "ip", "cs", "flags", "sp", "ss",
    )  # fmt: skip
    assert set(values) <= set(order)
    return b"".join(values.get(name, 0).to_bytes(8, "little") for name in order)


def lines(found: Iterator[str]) -> list[str]:
    """A listing."""
    return list(found)
