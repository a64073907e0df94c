"""Values as JSON documents and as Python objects show them (reference part 2, section 7)."""

from __future__ import annotations

from collections.abc import Hashable

from pytrace.grammar.hints import Any, assert_never, cast
from pytrace.grammar.layout import Layout
from pytrace.grammar.spec import REGISTRY, Services
from pytrace.grammar.types import (
    Aggregate,
    Array,
    Bool,
    Buffer,
    EnumType,
    Int,
    NoneType,
    Opaque,
    Pointer,
    Record,
    Stack,
    String,
    Struct,
    Tuple,
    Void,
)
from pytrace.language.text import frame_lines, plain, stack_text, text

EXACT = 1 << 53  # a double holds every integer up to here


def number(value: int) -> int | str:
    """A number, or its digits as text when a double cannot hold it exactly."""
    if -EXACT <= value <= EXACT or int(float(value)) == value:
        return value
    return str(value)


def clean(value: str) -> str:
    """Text fit for UTF-8 output: bytes that are not UTF-8 are replaced by U+FFFD."""
    if value.isascii():
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def jsonable(layout: Layout, value: Any, services: Services) -> Any:
    """What stands for a decoded value (`layout.decode`) in a JSON document: plain Python data."""
    kind = layout.type
    match kind:
        case Bool():
            return value
        case Int() | EnumType() | Pointer() | Aggregate():
            return number(value)
        case String():
            return clean(text(layout, value, services))
        case Buffer():
            return [byte - 256 if byte > 127 else byte for byte in value]
        case Array():
            return [jsonable(layout.parts[0].layout, item, services) for item in value]
        case Tuple():
            return [jsonable(part.layout, item, services) for part, item in zip(layout.parts, value, strict=True)]
        case Record() | Struct():
            return {part.name: jsonable(part.layout, value[part.name], services) for part in layout.parts}
        case Stack():
            return clean(stack_text(kind, value, services))
        case Opaque(feature=feature):
            shown = REGISTRY.kind(feature).json(kind, value, services)
            return clean(shown) if isinstance(shown, str) else shown
        case NoneType() | Void():
            return None
        case _:
            assert_never(cast("None", kind))  # type: ignore[arg-type]


def python_value(layout: Layout, value: Any, services: Services) -> Any:
    """What the Python API gives for a decoded value.

    Integers, enumerations, pointers and booleans as such, strings as str, buffers as bytes, arrays and
    tuples as tuple, structs and records as dict, stacks as tuple of their frames' texts, what only a
    feature can show as its text.
    """
    kind = layout.type
    match kind:
        case String():
            return plain(value)
        case Array():
            return tuple(python_value(layout.parts[0].layout, item, services) for item in value)
        case Tuple():
            return tuple(
                python_value(part.layout, item, services) for part, item in zip(layout.parts, value, strict=True)
            )
        case Record() | Struct():
            return {p.name: python_value(p.layout, value[p.name], services) for p in layout.parts}
        case Stack():
            return tuple(line.strip() for line in frame_lines(kind, value, services))
        case Opaque(feature=feature):
            return REGISTRY.kind(feature).json(kind, value, services)
        case _:
            return value


def hashable(value: Any) -> Hashable:
    """A Python value in a form that can be a key: dicts become tuples of their values."""
    match value:
        case dict():
            return tuple(hashable(item) for item in value.values())
        case tuple():
            return tuple(hashable(item) for item in value)
        case _:
            return cast("Hashable", value)
