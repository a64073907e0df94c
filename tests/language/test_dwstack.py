"""The walk along a user stack, carried out in Python on stacks that are made up."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

import pytest

from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.plan import UNWIND_FILES, UNWIND_PROCESSES
from pytrace.grammar.spec import CallSite
from pytrace.grammar.types import INT64, UINT64, Space, Type
from pytrace.language.builtins import dwstack
from pytrace.language.probes.common import REGISTERS
from pytrace.language.text import UNWIND_FAILURE
from pytrace.runtime import ehframe
from pytrace.runtime.ehframe import RBP_LOST, Kind, rule
from tests.fakehost import FEATURES, FakeHost
from tests.language.checking import check
from tests.language.pyemit import Memory, PythonEmit

tag = pytest.mark.tag

PID, LIMIT = 77, 127
ROOM = 0x100  # bytes of code of each function
STACK = 0x7FFF_0000_0000
USER, KERNEL = 0x33, 0x10  # cs


@dataclass
class World(PythonEmit):
    """A process: its registers when the probe fires, its memory by address, its code."""

    registers: dict[str, int]
    memory: dict[int, int]
    mappings: Sequence[tuple[int, int, int, int, int]]  # start, end, base, file, number of rows
    files: Mapping[int, Sequence[int]]
    kernel: bool = False
    warned: list[str] = field(default_factory=list)
    tables: Any = None

    def __post_init__(self) -> None:
        rows = [bytearray(struct.pack("<QQQQ", s, e, b, f | n << 32)) for s, e, b, f, n in self.mappings]
        self.head = bytearray(struct.pack("<QQQQ", len(rows), 0, 0, 0))
        files = {n: [bytearray(row.to_bytes(8, "little")) for row in rows] for n, rows in self.files.items()}
        self.tables = {UNWIND_PROCESSES: {PID: [self.head, *rows]}, UNWIND_FILES: files}

    def context_word(self, offset: int, type: Type = UINT64) -> Value:
        name = next(n for n, at in REGISTERS.items() if at == offset)
        words = {"cs": KERNEL if self.kernel else USER} | ({} if self.kernel else self.registers)
        return self.integer(words.get(name, 0xBAD), type)

    def helper(self, name: str, *arguments: Value | Slot, type: Type = UINT64) -> Value:
        return self.integer({"get_current_pid_tgid": PID << 32 | 5}.get(name, 0x1000), type)

    def read(self, to: Slot, size: int, address: Value, space: Space) -> Value:
        data = bytearray(size)
        if space is Space.KERNEL:
            for name, value in self.registers.items():
                struct.pack_into("<Q", data, REGISTERS[name], value)
        elif all(address.raw + at in self.memory for at in range(0, size, 8)):
            for at in range(0, size, 8):
                struct.pack_into("<Q", data, at, self.memory[address.raw + at])
        else:
            self.copy(to, Slot(Memory(data), size), size)
            return self.integer(-14, INT64)
        self.copy(to, Slot(Memory(data), size), size)
        return self.integer(0, INT64)

    def warn(self, kind: str, code: Value, span: Any, helper: str = "") -> None:
        self.warned.append(kind)


def stack(world: World, call: str = "dw_ustack") -> list[int]:
    """The frames of the process."""
    typed = check(f"profile:hz:99 {{ _ = {call}; }}").typed
    assert typed is not None
    statement = cast("Any", typed.probes[0].probe.body.statements[0])
    site: CallSite = typed.probes[0].sites[statement.value]
    data = cast("Value", site.feature.emit(cast("Emit", world), site)).raw.data
    pid, count, *frames = struct.unpack(f"<{len(data) // 8}Q", data)
    assert pid == PID
    assert not any(frames[count:])
    return frames[:count]


# ---------------------------------------------------------------- stacks of any kind


class Chain:
    """Frames from the outermost one inwards; each function has a place and a rule of its own."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.memory = dict[int, int]()
        self.rules = [rule(Kind.END)]
        self.expected = [self.somewhere(0)]
        self.exact = False  # whether the last address is one to go on with, not one to return to
        self.sp, self.bp = STACK, random.randrange(1 << 48)

    def somewhere(self, number: int) -> int:
        """An address in a function, of the instruction behind a call: perhaps that behind the function."""
        return self.random.choice([1, 7, ROOM - 1, ROOM]) + self.start(number)

    def start(self, number: int) -> int:
        """Where a function starts: they are in two mappings, far apart."""
        return (0x400000 if number % 2 else 0x7F00_0000_0000) + number // 2 * ROOM

    def call(self) -> None:
        """A function is called, or a signal arrives."""
        number, kind = len(self.rules), self.random.choice([Kind.RSP, Kind.RSP, Kind.RBP, Kind.AT_RBP, Kind.SIGNAL])
        interrupted = self.expected[-1]
        if kind is Kind.SIGNAL:
            interrupted = self.start(number - 1) + self.random.choice([0, 5, ROOM - 1])
            self.expected[-1] = interrupted
            words = {at: self.random.randrange(1 << 64) for at in range(120, 176, 8)}
            words |= {ehframe.SIGNAL_RBP: self.bp, ehframe.SIGNAL_RSP: self.sp, ehframe.SIGNAL_RIP: interrupted}
            self.sp -= 0x1000
            self.memory |= {self.sp + at: word for at, word in words.items()}
            self.bp = self.random.randrange(1 << 48)
            self.rules.append(rule(Kind.SIGNAL))
        else:
            self.ordinary(kind, interrupted)
        self.expected.append(self.somewhere(number))

    def ordinary(self, kind: Kind, returns: int) -> None:
        top, offset, saved = self.sp, 8 * self.random.randrange(4, 30_000), 0
        self.memory[top - 8] = returns
        if kind is Kind.RSP:
            self.sp = top - offset
            if self.random.random() < 0.5:
                saved = -8 * self.random.randrange(2, 5)
                self.memory[top + saved], self.bp = self.bp, self.random.randrange(1 << 48)
        elif kind is Kind.RBP:
            saved = -16
            self.memory[top + saved], self.bp = self.bp, top - offset
            self.sp = self.bp - 8 * self.random.randrange(4)
        else:
            place = top - offset
            self.memory |= {place - 8: top, place: self.bp}
            self.bp, self.sp, offset = place, place - 8 * self.random.randrange(2, 50), -8
        self.rules.append(rule(kind, offset, saved))

    def world(self, **changes: Any) -> World:
        """The process at this moment."""
        rows: dict[int, list[int]] = {0: [], 1: []}
        for number, code in enumerate(self.rules):
            rows[number % 2].append(number // 2 * ROOM << 32 | code)
        for number, found in rows.items():
            found.append(len(found) * ROOM << 32)
            assert number in (0, 1)
        mappings = [
            (start, start + ROOM * (len(rows[n]) - 1), start, n, len(rows[n]))
            for n, start in ((1, 0x400000), (0, 0x7F00_0000_0000)) if len(rows[n]) > 1
        ]  # fmt: skip
        # the probe interrupts the innermost function anywhere
        self.expected[-1] = self.start(len(self.rules) - 1) + self.random.choice([0, 3, ROOM - 1])
        registers = {"ip": self.expected[-1], "sp": self.sp, "bp": self.bp}
        return World(registers, self.memory, mappings, rows, **changes)


@pytest.mark.parametrize("seed", range(60))
@tag("fn.dw_ustack")
def test_stacks_of_any_kind(seed: int) -> None:
    random = Random(seed)
    chain = Chain(random)
    for _ in range(random.randrange(40)):
        chain.call()
    world = chain.world(kernel=random.random() < 0.3)
    assert stack(world) == chain.expected[::-1]
    assert world.warned == []
    assert struct.unpack_from("<Q", world.head, 8) == (0,)  # nothing was unknown


@tag("fn.dw_ustack")
def test_the_limit() -> None:
    chain = Chain(Random(7))
    for _ in range(150):
        chain.call()
    world = chain.world()
    whole = chain.expected[::-1]
    assert stack(world) == whole[:127]
    assert stack(world, "dw_ustack(150)") == whole[:150]
    assert stack(world, "dw_ustack(151)") == whole
    assert stack(world, "dw_ustack(raw, 1)") == whole[:1]


# ---------------------------------------------------------------- where it cannot go on


def small(code: int, memory: Mapping[int, int], **registers: int) -> World:
    """A process in a function at 0x400000 whose rule is given; its caller at 0x400100 is the outermost."""
    known = {"ip": 0x400010, "sp": STACK, "bp": STACK + 0x80} | registers
    rows = [code, ROOM << 32 | rule(Kind.END), 2 * ROOM << 32]
    return World(known, dict(memory), [(0x400000, 0x400000 + 3 * ROOM, 0x400000, 0, len(rows))], {0: rows})


CALLER = 0x400110
RETURN = {STACK + 8: CALLER, STACK: 0x5555}


@pytest.mark.parametrize(
    ("code", "memory", "registers", "expected"),
    [
        pytest.param(rule(Kind.RSP, 16), RETURN, {}, [CALLER], id="known"),
        pytest.param(rule(Kind.NONE), RETURN, {}, [UNWIND_FAILURE], id="no rule"),
        pytest.param(rule(Kind.RSP, 16), {}, {}, [UNWIND_FAILURE], id="memory that is not there"),
        pytest.param(rule(Kind.RSP, 0), RETURN | {STACK - 8: CALLER}, {}, [UNWIND_FAILURE], id="no way up"),
        pytest.param(rule(Kind.RSP, 16), {STACK + 8: 0}, {}, [], id="return to zero"),
        pytest.param(rule(Kind.RSP, 16), {STACK + 8: 0x123456}, {}, [0x123456, UNWIND_FAILURE], id="unknown code"),
        pytest.param(rule(Kind.RSP, 16), {STACK + 8: 0x400250}, {}, [0x400250, UNWIND_FAILURE], id="behind the code"),
        pytest.param(rule(Kind.SIGNAL), RETURN, {}, [UNWIND_FAILURE], id="signal without registers"),
        pytest.param(rule(Kind.AT_RBP, -8), RETURN, {"bp": 0}, [UNWIND_FAILURE], id="frame in memory that is not there"),
        pytest.param(rule(Kind.RBP, 16, RBP_LOST), {STACK + 0x88: CALLER}, {}, [CALLER], id="rbp is lost, at the end"),
        pytest.param(rule(Kind.PLT), {STACK: CALLER}, {"ip": 0x400010}, [CALLER], id="linkage table, before the push"),
        pytest.param(rule(Kind.PLT), {STACK + 8: CALLER}, {"ip": 0x40001B}, [CALLER], id="linkage table, behind the push"),
    ],
)  # fmt: skip
@tag("fn.dw_ustack", "stack.dwarf")
def test_ends(code: int, memory: dict[int, int], registers: dict[str, int], expected: list[int]) -> None:
    world = small(code, memory, **registers)
    assert stack(world) == [world.registers["ip"], *expected]


def test_unknown_addresses_are_counted() -> None:
    world = small(rule(Kind.RSP, 16), {STACK + 8: 0x123456})
    stack(world)
    assert struct.unpack_from("<Q", world.head, 8) == (1,)
    known = small(rule(Kind.NONE), {})  # an address that is in a file
    stack(known)
    assert struct.unpack_from("<Q", known.head, 8) == (0,)


@tag("stack.dwarf")
def test_a_process_without_tables() -> None:
    world = small(rule(Kind.END), {})
    world.tables[UNWIND_PROCESSES].clear()
    assert stack(world) == []
    assert world.warned == ["unwind"]


# ---------------------------------------------------------------- what it is, messages


def test_both_halves_speak_of_the_same_rules() -> None:
    """The feature and the maker of the tables are on different floors, so what they share is written twice."""
    for name in ("NONE", "RSP", "RBP", "PLT", "SIGNAL", "END", "AT_RBP"):
        assert getattr(dwstack, name) == Kind[name]
    assert dwstack.RBP_LOST == ehframe.RBP_LOST
    assert dwstack.SIGNAL_REGISTERS == ehframe.SIGNAL_RBP
    assert dwstack.SIGNAL_REGISTERS + dwstack.SIGNAL_SP == ehframe.SIGNAL_RSP
    assert dwstack.SIGNAL_REGISTERS + dwstack.SIGNAL_IP == ehframe.SIGNAL_RIP


WARNING = (
    "Script is using an unstable feature: dw_ustack. To prevent this warning you must explicitly enable it in the "
    "config e.g. unstable_dw_ustack=enable"
)


@tag("cfg.unstable", "warn.feature.unstable")
def test_it_is_unstable() -> None:
    program = "profile:hz:99 { print(dw_ustack); print(dw_ustack(3)); }"
    assert check(program).warnings == [WARNING]
    assert check(program, unstable_dw_ustack="enable").warnings == []
    refused = "dw_ustack feature is not enabled by default. To enable this unstable feature, set the config flag to enable. unstable_dw_ustack=enable"
    assert check(program, unstable_dw_ustack="error").errors == [refused, refused]


@tag("stack.dwarf")
def test_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dwstack, "MACHINE", "aarch64")
    message = "dw_ustack is not available in this build (requires x86_64 and LLVM >= 21)"
    assert check("profile:hz:99 { print(dw_ustack); }").errors == [message]


@tag("err.feature")
def test_old_kernels() -> None:
    old = FakeHost(features=set(FEATURES) - {"bpf_loop"})
    checked = check("profile:hz:99 { print(dw_ustack); }", host=old)
    assert checked.errors == ["dw_ustack needs the kernel's helper bpf_loop, which is missing here"]


@tag("fn.dw_ustack")
def test_arguments() -> None:
    def errors(call: str) -> list[str]:
        return check(f"profile:hz:99 {{ print({call}); }}", unstable_dw_ustack="enable").errors

    assert errors("dw_ustack(1025)") == ["dw_ustack([int limit]): limit shouldn't exceed 1024, 1025 given"]
    assert errors("dw_ustack(3, 3)") == ["Expected stack mode as first argument"]
    assert errors("dw_ustack(build_id)") == ["'build_id' stack mode can only be used for ustack"]
    assert errors("dw_ustack(perf, 5)") == errors("dw_ustack(raw)") == errors("dw_ustack()") == []
