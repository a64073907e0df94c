"""How a value lies in memory, complete enough to decode it without asking anybody (floor 0).

A `Layout` is a type with everything resolved: struct members with their offsets, enumerators with their
names. The Plan stores layouts, not types, so that a run whose program was compiled earlier needs no BTF.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial

from pytrace.grammar.data import dataclass
from pytrace.grammar.hints import Any
from pytrace.grammar.types import (
    Aggregate,
    Array,
    Bool,
    Buffer,
    EnumType,
    Int,
    Opaque,
    Pointer,
    Record,
    Stack,
    String,
    Struct,
    Tuple,
    Type,
    TypeSource,
    offsets_of,
    size_of,
)


@dataclass(frozen=True, slots=True)
class Part:
    """A member of a composite value; `bits` is (shift, width) of a bit-field."""

    name: str
    offset: int
    layout: Layout
    bits: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """A type, the members of a composite one, the (value, name) pairs of an enumeration."""

    type: Type
    parts: tuple[Part, ...] = ()
    enumerators: tuple[tuple[int, str], ...] = ()

    @property
    def size(self) -> int:
        """Bytes the value takes."""
        return size_of(self.type)


def layout_of(kind: Type, source: TypeSource, depth: int = 8) -> Layout:
    """The layout of a type. Structs nested deeper than `depth` are left without members."""
    match kind:
        case Tuple(items=items):
            names: tuple[str, ...] = ("",) * len(items)
            return Layout(kind, _parts(names, items, source, depth))
        case Record(names=names, items=items):
            return Layout(kind, _parts(names, items, source, depth))
        case Array(element=element):
            return Layout(kind, (Part("", 0, layout_of(element, source, depth - 1)),))
        case Struct() if depth > 0:
            parts = tuple(
                Part(m.name, m.offset, layout_of(m.type, source, depth - 1), m.bits) for m in source.members(kind)
            )
            return Layout(kind, parts)
        case EnumType():
            pairs = tuple((value, name) for name, value in source.enumerators(kind).items())
            return Layout(kind, (), pairs)
        case _:
            return Layout(kind)


def _parts(names: tuple[str, ...], items: tuple[Type, ...], source: TypeSource, depth: int) -> tuple[Part, ...]:
    return tuple(
        Part(name, offset, layout_of(item, source, depth - 1))
        for name, offset, item in zip(names, offsets_of(items), items, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Text:
    """A decoded string. `truncated` says that its buffer had no room for the terminating NUL."""

    value: str
    truncated: bool = False

    def __str__(self) -> str:
        return self.value


def decode(layout: Layout, data: bytes | memoryview, offset: int = 0) -> Any:
    """The Python value of the bytes at `offset`.

    Integers, enumerations and pointers are int, booleans bool, strings `Text`, tuples tuple, structs and
    records dict, arrays list, buffers bytes, stacks `(pid or 0, tuple of addresses)`; what only a feature
    can read (`Opaque`) stays bytes, and so does an aggregation's cell (its aggregation folds it).
    """
    kind = layout.type
    match kind:
        case Int(size=size, signed=signed) | EnumType(size=size, signed=signed):
            return int.from_bytes(data[offset : offset + size], "little", signed=signed)
        case Bool():
            return bool(data[offset])
        case Pointer() | Aggregate():
            return int.from_bytes(data[offset : offset + 8], "little")
        case String(size=size):
            return _text(bytes(data[offset : offset + size]))
        case Buffer(size=size):
            length = int.from_bytes(data[offset : offset + 4], "little")
            return bytes(data[offset + 4 : offset + 4 + min(length, size - 4)])
        case Array(element=element, count=count):
            step = size_of(element)
            return [decode(layout.parts[0].layout, data, offset + i * step) for i in range(count)]
        case Tuple():
            return tuple(decode(p.layout, data, offset + p.offset) for p in layout.parts)
        case Record() | Struct():
            return {p.name: _member(p, data, offset) for p in layout.parts}
        case Stack(user=user):
            return _stack(bytes(data[offset : offset + size_of(kind)]), user, kind.mode)
        case Opaque(size=size):
            return bytes(data[offset : offset + size])
        case _:
            return None


def _member(part: Part, data: bytes | memoryview, base: int) -> Any:
    if part.bits is None:
        return decode(part.layout, data, base + part.offset)
    shift, width = part.bits
    start = base + part.offset
    raw = int.from_bytes(data[start : start + 8], "little")
    return (raw >> shift) & ((1 << width) - 1)


def _text(raw: bytes) -> Text:
    end = raw.find(b"\0")
    if end < 0:
        return Text(raw.decode("utf-8", "surrogateescape"), truncated=bool(raw))
    return Text(raw[:end].decode("utf-8", "surrogateescape"))


def _stack(raw: bytes, user: bool, mode: str) -> tuple[int, tuple[int, ...] | bytes]:
    start = 8 if user else 0
    pid = int.from_bytes(raw[:4], "little") if user else 0
    count = int.from_bytes(raw[start : start + 8], "little")
    frames = raw[start + 8 :]
    if mode == "build_id":
        return pid, frames[: count * 32]
    return pid, tuple(int.from_bytes(frames[i * 8 : i * 8 + 8], "little") for i in range(count))


Decoder = Callable[[bytes], tuple[Any, ...]]

_CODES = {(1, True): "b", (1, False): "B", (2, True): "h", (2, False): "H", (4, True): "i", (4, False): "I",
          (8, True): "q", (8, False): "Q"}  # fmt: skip


def decoder(fields: Sequence[Layout], offsets: Sequence[int]) -> Decoder:
    """The function that takes the values at `offsets` out of a record, as `decode` does.

    Numbers and the bytes of strings come out of the record in one step, which matters at a million records.
    """
    form, end = "<", 0
    later: list[tuple[int, Callable[[bytes], Any]]] = []
    for index, (layout, offset) in enumerate(zip(fields, offsets, strict=True)):
        code, convert = _code(layout)
        form += f"{offset - end}x{code}"
        end = offset + struct.calcsize(f"<{code}")
        if convert is not None:
            later.append((index, convert))
    unpack = struct.Struct(form).unpack_from
    if not later:
        return unpack

    def read(record: bytes) -> tuple[Any, ...]:
        values = list(unpack(record))
        for index, convert in later:
            values[index] = convert(values[index])
        return tuple(values)

    return read


def _code(layout: Layout) -> tuple[str, Callable[[bytes], Any] | None]:
    """The struct(3) code of a value, and what makes the value of what that gives."""
    match layout.type:
        case Int(size=size, signed=signed) | EnumType(size=size, signed=signed):
            return _CODES[size, signed], None
        case Bool():
            return "?", None
        case Pointer() | Aggregate():
            return "Q", None
        case String(size=size):
            return f"{size}s", _text
        case _:
            return f"{layout.size}s", partial(decode, layout)
