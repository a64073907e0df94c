"""`Emit` in plain Python: every operation is carried out instead of generated.

It is the executable specification of `grammar/emit.py`: what a feature computes here it must compute on the
kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pytrace.grammar.config import Config
from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.nodes import Call, Cast, Expr, Map, MapElement
from pytrace.grammar.promote import is_scalar, settled
from pytrace.grammar.types import (
    BOOL,
    INT64,
    UINT64,
    Bool,
    EnumType,
    Int,
    Space,
    String,
    Type,
    size_of,
)
from pytrace.grammar.typing import TypedProbe

MASK = (1 << 64) - 1
ENOENT = 2


@dataclass(frozen=True)
class Memory:
    """Bytes, from an offset on."""

    data: bytearray
    start: int = 0


class PythonEmit:
    """The arithmetic, memory and control half: what needs neither a program nor a kernel."""

    config = Config()

    def integer(self, value: int, type: Type = UINT64) -> Value:
        return Value(type, value & MASK)

    def convert(self, value: Value, type: Type) -> Value:
        if is_scalar(type) and is_scalar(value.type):
            return Value(type, self._extend(value.raw, type))
        if size_of(type) <= size_of(value.type):
            return Value(type, value.raw)
        slot = self.scratch(size_of(type))
        self.copy(slot, self.slot(value), size_of(value.type))
        return self.at(slot, type)

    def _extend(self, raw: int, type: Type) -> int:
        if isinstance(type, Bool):
            return int(bool(raw))
        bits = size_of(type) * 8
        raw &= (1 << bits) - 1
        if isinstance(type, (Int, EnumType)) and type.signed and raw >> (bits - 1):
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

    def highest_bit(self, value: Value) -> Value:
        return Value(UINT64, max(value.raw.bit_length(), 1) - 1)

    def swap_bytes(self, value: Value, size: int) -> Value:
        low = value.raw & ((1 << 8 * size) - 1)
        return Value(Int(size), int.from_bytes(low.to_bytes(size, "little"), "big"))

    # ---- memory

    def scratch(self, size: int, zero: bool = True, shared: bool = False) -> Slot:
        # what is not asked to be zero may hold anything
        return Slot(Memory(bytearray(size) if zero else bytearray(b"\xa5" * size)), size)

    def slot(self, value: Value) -> Slot:
        return Slot(value.raw, size_of(value.type))

    def part(self, slot: Slot, offset: int | Value, size: int) -> Slot:
        start: int = offset.raw if isinstance(offset, Value) else offset
        return Slot(Memory(slot.raw.data, slot.raw.start + start), size)

    def at(self, slot: Slot, type: Type) -> Value:
        return Value(type, slot.raw)

    def load(self, slot: Slot, offset: int | Value, type: Type) -> Value:
        data = self._bytes(slot, offset if isinstance(offset, int) else offset.raw, size_of(type))
        return Value(type, self._extend(int.from_bytes(data, "little"), type))

    def store(self, slot: Slot, offset: int, value: Value) -> None:
        size = size_of(value.type)
        if isinstance(value.raw, Memory):
            self.copy(self.part(slot, offset, size), self.slot(value), size)
        else:
            self._put(slot, offset, (value.raw & ((1 << size * 8) - 1)).to_bytes(size, "little"))

    def store_word(self, slot: Slot, index: Value, value: Value) -> None:
        if index.raw < slot.size // 8:
            self.store(slot, 8 * index.raw, self.convert(value, UINT64))

    def copy(self, to: Slot, source: Slot, size: int) -> None:
        self._put(to, 0, self._bytes(source, 0, size))

    def text(self, data: bytes) -> Value:
        return Value(String(len(data) + 1), Memory(bytearray(data + b"\0")))

    def _bytes(self, slot: Slot, offset: int, size: int) -> bytes:
        start = slot.raw.start + offset
        assert 0 <= start <= start + size <= len(slot.raw.data), "access outside of the memory"
        return bytes(slot.raw.data[start : start + size])

    def _put(self, slot: Slot, offset: int, data: bytes) -> None:
        self._bytes(slot, offset, len(data))
        start = slot.raw.start + offset
        slot.raw.data[start : start + len(data)] = data

    # ---- control

    def when(self, condition: Value, then: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        if condition.raw:
            then()
        elif otherwise is not None:
            otherwise()

    def repeat(self, count: int, body: Callable[[Value], Value | None]) -> None:
        for index in range(count):
            stop = body(self.integer(index))
            if stop is not None and stop.raw:
                return

    def loop(self, count: int, carried: Sequence[Value | Slot], body: Callable[[Value, Any], Value]) -> None:
        self.repeat(count, lambda index: body(index, carried))

    # ---- tables: by name and key, as sequences of rows

    tables: Mapping[str, Mapping[int, Sequence[bytearray]]] = {}

    def table(self, name: str, key: Value) -> Value:
        return Value(UINT64, self.tables[name].get(key.raw & 0xFFFFFFFF, 0))

    def row(self, table: Value, index: Value, size: int, then: Callable[[Slot], None]) -> None:
        if index.raw < len(table.raw):
            then(Slot(Memory(table.raw[index.raw]), size))


class ProgramEmit(PythonEmit):
    """With arguments out of a typed program, whose map elements have the values of `inputs`, and the few
    helpers that depend on nothing else. `sent` are the records of actions."""

    def __init__(self, typed: TypedProbe, inputs: Mapping[tuple[str, int], int | bytes]) -> None:
        self.typed = typed
        self.inputs = inputs
        self.sent: list[tuple[str, tuple[Value, ...], tuple[Any, ...]]] = []

    def value(self, node: Expr) -> Value:
        constant, kind = self.typed.constants.get(node), settled(self.typed.types[node])
        if isinstance(constant, bytes):
            return self.text(constant)
        if constant is not None:
            return self.integer(int(constant), kind)
        match node:
            case MapElement(map=Map(name=name), key=key):
                return self._input(self.inputs[name, self._key(key)], kind)
            case Cast(operand=operand):
                return self.convert(self.value(operand), kind)
            case Call():
                site = self.typed.sites[node]
                made = site.feature.emit(cast("Emit", self), site)
                assert made is not None
                return made
            case _:
                raise AssertionError(f"no value for {type(node).__name__}")

    def _input(self, data: int | bytes, kind: Type) -> Value:
        if isinstance(data, int):
            return self.convert(self.integer(data), kind)
        return Value(kind, Memory(bytearray(data.ljust(size_of(kind), b"\0"))))

    def _key(self, node: Expr) -> int:
        constant = self.typed.constants[node]
        assert isinstance(constant, int)
        return constant

    # ---- the kernel

    def global_word(self, name: str) -> Value:
        assert name == "zero", f"{name} is different in every run"
        return self.integer(0)

    def read(self, to: Slot, size: int | Value, address: Value, space: Space) -> Value:
        assert space is Space.DIRECT
        return self._read_kernel(to, size if isinstance(size, int) else size.raw, self.slot(address))

    def _read_kernel(self, to: Slot, size: int, source: Slot) -> Value:
        self.copy(to, source, size)
        return self.integer(0, INT64)

    def _read_kernel_string(self, to: Slot, size: int, source: Slot) -> Value:
        """Linux, mm/maccess.c, strncpy_from_kernel_nofault: the copy always ends with a NUL."""
        if size == 0:
            return self.integer(0, INT64)
        data = bytes(source.raw.data[source.raw.start :])
        text = data.partition(b"\0")[0][: size - 1]
        assert b"\0" in data or len(text) == size - 1, "the helper would read beyond the memory"
        self._put(to, 0, text + b"\0")
        return self.integer(len(text) + 1, INT64)

    def helper(self, name: str, *arguments: Value | Slot, type: Type = UINT64) -> Value:
        to, size, source = arguments
        assert isinstance(to, Slot)
        assert isinstance(size, Value)
        assert isinstance(source, Slot)
        known = {"probe_read_kernel": self._read_kernel, "probe_read_kernel_str": self._read_kernel_string}
        return self.convert(known[name](to, size.raw, source), type)

    # ---- maps: those of `inputs`, by number

    def lookup(self, map: str, key: Expr | None) -> Value:
        assert key is not None
        return self.integer((map, signed64(self.value(key).raw)) in self.inputs)

    def delete(self, map: str, key: Expr | None) -> Value:
        return self.integer(0 if self.lookup(map, key).raw else -ENOENT, INT64)

    def count_elements(self, map: str, sums: bool = False) -> Value:
        return self.integer(sum(1 for name, _ in self.inputs if name == map))

    # ---- events

    def send(self, feature: str, values: Any, params: tuple[Any, ...] = (), span: Any = None) -> None:
        self.sent.append((feature, tuple(values), params))

    def warn(self, kind: str, code: Value, span: Any, helper: str = "") -> None:
        self.sent.append(("warning", (code,), (kind, helper)))


def python_emit() -> Emit:
    """The computing code generator, as features see it."""
    return cast("Emit", PythonEmit())


def signed64(raw: int) -> int:
    """A 64-bit register as a signed number."""
    return raw - (1 << 64) if raw >> 63 else raw


def number(value: int, signed: bool = True) -> Value:
    """A 64-bit value in a register."""
    return Value(INT64 if signed else UINT64, value & MASK)
