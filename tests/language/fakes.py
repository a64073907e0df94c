"""What the tests of features use instead of a kernel: services, a session, a code generator that computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pytrace.grammar.config import Config
from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.layout import Layout, Part
from pytrace.grammar.spec import Output, Services
from pytrace.grammar.types import (
    BOOL,
    INT64,
    UINT64,
    Array,
    Bool,
    Int,
    Record,
    Tuple,
    Type,
    offsets_of,
    size_of,
)

MASK = (1 << 64) - 1


@dataclass
class FakeServices:
    """Two kernel functions, one user function, a machine that booted in 2020."""

    config: Config = field(default_factory=Config)
    boot: int = 1_577_836_800 * 10**9
    kernel: Mapping[int, tuple[str, int]] = field(
        default_factory=lambda: {0x1000: ("vfs_read", 187), 0x2000: ("ksys_read", 102)}
    )
    user: Mapping[tuple[int, int], tuple[str, int, str]] = field(
        default_factory=lambda: {(7, 0x4000): ("main", 16, "/bin/prog")}
    )

    def kernel_symbol(self, address: int) -> tuple[str, int] | None:
        return self.kernel.get(address)

    def user_symbol(self, address: int, pid: int, probe: int = 0) -> tuple[str, int, str] | None:
        return self.user.get((pid, address))

    def boot_time(self) -> int:
        return self.boot


SERVICES: Services = FakeServices()


@dataclass
class FakeSession:
    """Notes what actions ask for."""

    values = True
    services: Services = field(default_factory=FakeServices)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    map_answer: Output = field(default_factory=lambda: Output("map", "@: 1\n", {"@": 1}))

    def exit(self, code: int) -> None:
        self.asked.append(("exit", code))

    def clear(self, name: str) -> None:
        self.asked.append(("clear", name))

    def zero(self, name: str) -> None:
        self.asked.append(("zero", name))

    def map_output(self, name: str, top: int = 0, divisor: int = 0) -> Output:
        self.asked.append(("print", name, top, divisor))
        return self.map_answer


def lay(kind: Type) -> Layout:
    """The layout of a type that needs no C definitions."""
    match kind:
        case Tuple(items=items):
            names: Sequence[str] = [""] * len(items)
        case Record(names=given, items=items):
            names = given
        case Array(element=element):
            return Layout(kind, (Part("", 0, lay(element)),))
        case _:
            return Layout(kind)
    parts = [Part(n, o, lay(t)) for n, o, t in zip(names, offsets_of(items), items, strict=True)]
    return Layout(kind, tuple(parts))


# ---------------------------------------------------------------- a code generator that computes at once


@dataclass(frozen=True)
class Memory:
    """Bytes, from an offset on."""

    data: bytearray
    start: int = 0


class PythonEmit:
    """`Emit` in plain Python: every operation is carried out instead of generated."""

    config = Config()

    def integer(self, value: int, type: Type = UINT64) -> Value:
        return Value(type, value & MASK)

    def convert(self, value: Value, type: Type) -> Value:
        return Value(type, self._extend(value.raw, type))

    def _extend(self, raw: int, type: Type) -> int:
        if isinstance(type, Bool):
            return int(bool(raw))
        bits = size_of(type) * 8
        raw &= (1 << bits) - 1
        if isinstance(type, Int) and type.signed and raw >> (bits - 1):
            raw -= 1 << bits
        return raw & MASK

    def arith(self, op: str, a: Value, b: Value) -> Value:
        x, y = a.raw, b.raw
        if op in ("<<", ">>"):
            assert y < 64, "a shift beyond the word has no defined result"
        if op in ("/", "%", "s/"):
            assert y, "division by zero"
        signed = any(isinstance(v.type, Int) and v.type.signed for v in (a, b))
        quotient = abs(signed64(x)) // abs(signed64(y) or 1)
        results: dict[str, Callable[[], int]] = {
            "+": lambda: x + y, "-": lambda: x - y, "*": lambda: x * y, "/": lambda: x // y,
            "%": lambda: x % y, "&": lambda: x & y, "|": lambda: x | y, "^": lambda: x ^ y,
            "<<": lambda: x << y, ">>": lambda: x >> y,
            "s/": lambda: quotient if (signed64(x) < 0) == (signed64(y) < 0) else -quotient,
        }  # fmt: skip
        return Value(Int(8, signed), results[op]() & MASK)

    def compare(self, op: str, a: Value, b: Value, signed: bool = False) -> Value:
        x, y = (signed64(a.raw), signed64(b.raw)) if signed else (a.raw, b.raw)
        results = {"==": x == y, "!=": x != y, "<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}
        return Value(BOOL, int(results[op]))

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        return Value(a.type, a.raw if condition.raw else b.raw)

    def truth(self, value: Value) -> Value:
        return Value(BOOL, int(bool(value.raw)))

    def count_leading_zeros(self, value: Value) -> Value:
        return Value(UINT64, 64 - value.raw.bit_length())

    def scratch(self, size: int, zero: bool = True) -> Slot:
        return Slot(Memory(bytearray(size)), size)

    def part(self, slot: Slot, offset: int, size: int) -> Slot:
        return Slot(Memory(slot.raw.data, slot.raw.start + offset), size)

    def at(self, slot: Slot, type: Type) -> Value:
        return Value(type, slot.raw)

    def load(self, slot: Slot, offset: int, type: Type) -> Value:
        start = slot.raw.start + offset
        raw = int.from_bytes(slot.raw.data[start : start + size_of(type)], "little")
        return Value(type, self._extend(raw, type))

    def store(self, slot: Slot, offset: int, value: Value) -> None:
        start, size = slot.raw.start + offset, size_of(value.type)
        slot.raw.data[start : start + size] = (value.raw & ((1 << size * 8) - 1)).to_bytes(size, "little")

    def when(
        self, condition: Value, then: Callable[[], None], otherwise: Callable[[], None] | None = None
    ) -> None:
        if condition.raw:
            then()
        elif otherwise is not None:
            otherwise()


def python_emit() -> Emit:
    """The computing code generator, as features see it."""
    return cast("Emit", PythonEmit())


def signed64(raw: int) -> int:
    """A 64-bit register as a signed number."""
    return raw - (1 << 64) if raw >> 63 else raw


def number(value: int, signed: bool = True) -> Value:
    """A 64-bit value in a register."""
    return Value(INT64 if signed else UINT64, value & MASK)
