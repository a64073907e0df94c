"""How types combine and convert (reference part 1, section 6)."""

from __future__ import annotations

from pytrace.grammar.data import replace
from pytrace.grammar.types import (
    INT64,
    Aggregate,
    Array,
    Bool,
    Buffer,
    EnumType,
    Int,
    NoneType,
    Pointer,
    Record,
    Space,
    String,
    Struct,
    Tuple,
    Type,
    Void,
)


def literal_type(value: int) -> Int:
    """The type of an integer literal: the smallest signed type; non-negative ones are sign-flexible."""
    for size in (1, 2, 4, 8):
        if -(1 << (size * 8 - 1)) <= value < 1 << (size * 8 - 1):
            return Int(size, True, flexible=value >= 0)
    return Int(8, False)


def promote(a: Type, b: Type) -> Type | None:
    """The type that holds values of both, or None if there is none. NONE gives way to anything."""
    if a == b:
        return a
    match a, b:
        case (NoneType(), other) | (other, NoneType()):
            return other
        case Int(), Int():
            return _promote_integers(a, b)
        case EnumType() | Int(), EnumType() | Int():
            return _promote_enums(a, b)
        case String(), String():
            return String(max(a.size, b.size))
        case Buffer(), Buffer():
            return Buffer(max(a.size, b.size))
        case Tuple(), Tuple():
            items = _promote_items(a.items, b.items)
            return None if items is None else Tuple(items)
        case Record(), Record():
            return _promote_records(a, b)
        case Pointer(), Pointer():
            return _promote_pointers(a, b)
        case Array(), Array() if (a.element, a.count) == (b.element, b.count):
            return Array(a.element, a.count, _same_space(a.space, b.space))
        case Struct(), Struct() if (a.name, a.size, a.kind) == (b.name, b.size, b.kind):
            return replace(a, space=_same_space(a.space, b.space))
        case (Int(), Aggregate()):
            return a
        case (Aggregate(), Int()):
            return b
        case _:
            return None


def _same_space(a: Space, b: Space) -> Space:
    if a is b:
        return a
    return Space.DIRECT if Space.DIRECT in (a, b) else Space.NONE


def _promote_integers(a: Int, b: Int) -> Int:
    space = _same_space(a.space, b.space)
    clock = a.clock if a.clock == b.clock else ""
    size = max(a.size, b.size)
    if a.flexible and b.flexible:
        return Int(size, True, True, space, clock)
    if a.flexible or b.flexible:
        firm = b if a.flexible else a
        return Int(size, firm.signed, False, firm.space, firm.clock)
    if a.signed == b.signed:
        return Int(size, a.signed, False, space, clock)
    signed, unsigned = (a, b) if a.signed else (b, a)
    if signed.size > unsigned.size:
        return Int(signed.size, True, False, space, clock)
    return Int(min(8, 2 * unsigned.size), True, False, space, clock)


def _promote_enums(a: EnumType | Int, b: EnumType | Int) -> Type:
    """An enumeration is an integer with names, which it keeps beside values of its own kind and literals."""
    size = max(a.size, b.size)
    for one, other in ((a, b), (b, a)):
        if isinstance(one, EnumType) and _same_enum(one, other):
            return replace(one, size=size)
    return _promote_integers(*(t if isinstance(t, Int) else Int(t.size, t.signed) for t in (a, b)))


def _same_enum(one: EnumType, other: EnumType | Int) -> bool:
    if isinstance(other, Int):
        return other.flexible
    return (one.name, one.signed, one.origin) == (other.name, other.signed, other.origin)


def _promote_items(a: tuple[Type, ...], b: tuple[Type, ...]) -> tuple[Type, ...] | None:
    if len(a) != len(b):
        return None
    items = [promote(x, y) for x, y in zip(a, b, strict=True)]
    return None if None in items else tuple(i for i in items if i is not None)


def _promote_records(a: Record, b: Record) -> Record | None:
    if sorted(a.names) != sorted(b.names):
        return None
    ordered = tuple(b.items[b.names.index(name)] for name in a.names)
    items = _promote_items(a.items, ordered)
    return None if items is None else Record(a.names, items)


def _promote_pointers(a: Pointer, b: Pointer) -> Pointer | None:
    space = _same_space(a.space, b.space)
    if isinstance(a.to, Void) or isinstance(b.to, Void):
        return Pointer(b.to if isinstance(a.to, Void) else a.to, space)
    to = promote(a.to, b.to)
    return None if to is None else Pointer(to, space)


def copied(kind: Type) -> Type:
    """The type of a copy in the program's own memory; a struct or array elsewhere is only referred to."""
    match kind:
        case Tuple(items=items):
            return Tuple(tuple(map(copied, items)))
        case Record(names=names, items=items):
            return Record(names, tuple(map(copied, items)))
        case Struct() | Array():
            return replace(kind, space=Space.DIRECT)
        case _:
            return kind


def settled(kind: Type) -> Type:
    """The type without marks that belong to one expression only (flexibility, where a struct lies)."""
    match kind:
        case Int():
            return replace(kind, flexible=False)
        case Tuple(items=items):
            return Tuple(tuple(map(settled, items)))
        case Record(names=names, items=items):
            return Record(names, tuple(map(settled, items)))
        case Struct() | Array():
            return replace(kind, space=Space.DIRECT)
        case _:
            return kind


def is_scalar(kind: Type) -> bool:
    """What lives in a register."""
    return isinstance(kind, (Int, EnumType, Bool, Pointer))


def is_signed(kind: Type) -> bool:
    """Whether a number is signed and not just a literal."""
    return isinstance(kind, (Int, EnumType)) and kind.signed and not (isinstance(kind, Int) and kind.flexible)


def loses(value: Type, target: Type) -> bool:
    """Whether an implicit conversion may change a number: it gets narrower or loses its sign."""
    if not isinstance(value, Int) or not isinstance(target, Int) or value.flexible:
        return False
    if value.size > target.size:
        return True
    if value.signed and not target.signed:
        return True
    return not value.signed and target.signed and value.size == target.size


def fits(value: int, target: Int) -> bool:
    """Whether a constant can be held by an integer type."""
    bits = target.size * 8
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if target.signed else (0, 1 << bits)
    return low <= value < high


def assignable(value: Type, target: Type) -> bool:
    """Whether a value may be stored in something of a fixed type."""
    match value, target:
        case (NoneType(), _) | (_, NoneType()):
            return True
        case Int() | EnumType(), Int() | EnumType():
            return True
        case String(), String():
            return value.size <= target.size
        case Buffer(), Buffer():
            return value.size <= target.size
        case Tuple(), Tuple():
            return len(value.items) == len(target.items) and all(map(assignable, value.items, target.items))
        case Aggregate(), Int():
            return True
        case _:
            return promote(value, target) is not None


def arithmetic_type(op: str, left: Type, right: Type) -> Int:
    """The 64-bit result type of an arithmetic operator on two numbers (reference 7.1)."""
    if op == "-":
        return INT64
    flexible = all(isinstance(t, Int) and t.flexible for t in (left, right))
    if flexible:
        return Int(8, True, flexible=True)
    signed = is_signed(left) or is_signed(right)
    space = next((t.space for t in (left, right) if isinstance(t, Int) and t.space is not Space.NONE), Space.NONE)
    return Int(8, signed, False, space)
