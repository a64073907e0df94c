"""The types of the language (reference part 1, section 5) and how two of them combine.

A type is an immutable value; `str(type)` is its name in messages. Sizes are bytes. Struct members are not
part of the type (kernel types are recursive): `TypeSource.members` gives them.
"""

from __future__ import annotations

from enum import Enum

from pytrace.grammar.data import dataclass
from pytrace.grammar.hints import Protocol


class Space(Enum):
    """Whose memory an address points into."""

    NONE = "none"
    KERNEL = "kernel"
    USER = "user"
    # the program's context and the tracer's own memory: loaded directly, not by a probe read
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Type:
    """Base of all types."""


@dataclass(frozen=True, slots=True)
class NoneType(Type):
    """No value, or not known yet."""

    def __str__(self) -> str:
        return "none"


@dataclass(frozen=True, slots=True)
class Void(Type):
    """What a `void *` points to."""

    def __str__(self) -> str:
        return "void"


@dataclass(frozen=True, slots=True)
class Bool(Type):
    """`true` or `false`, one byte."""

    def __str__(self) -> str:
        return "bool"


@dataclass(frozen=True, slots=True)
class Int(Type):
    """An integer of 1, 2, 4 or 8 bytes.

    `flexible` marks a non-negative literal, whose sign gives way to that of what it meets. `space` is the
    memory that the number points into when it is used as an address. `clock` is the clock of a time stamp.
    """

    size: int = 8
    signed: bool = False
    flexible: bool = False
    space: Space = Space.NONE
    clock: str = ""

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.size * 8}"


@dataclass(frozen=True, slots=True)
class EnumType(Type):
    """An enumeration; its enumerators come from `TypeSource.enumerators`. `origin` is as in `Struct`."""

    name: str
    size: int = 8
    signed: bool = False
    origin: str = ""

    def __str__(self) -> str:
        return f"enum {self.name}" if self.name else "enum"


@dataclass(frozen=True, slots=True)
class String(Type):
    """A NUL-terminated string in a buffer of `size` bytes, NUL included."""

    size: int

    def __str__(self) -> str:
        return f"string[{self.size}]" if self.size else "string"


@dataclass(frozen=True, slots=True)
class Buffer(Type):
    """Raw bytes with a length: `size` counts a 4-byte length and the room for the bytes."""

    size: int

    def __str__(self) -> str:
        return f"buffer[{self.size}]"


@dataclass(frozen=True, slots=True)
class Pointer(Type):
    """An address of a `to`."""

    to: Type
    space: Space = Space.NONE

    def __str__(self) -> str:
        return f"{self.to}*" if isinstance(self.to, Pointer) else f"{self.to} *"


@dataclass(frozen=True, slots=True)
class Array(Type):
    """`count` elements in a row; 0 is a flexible array member. `space` is where it lies."""

    element: Type
    count: int
    space: Space = Space.NONE

    def __str__(self) -> str:
        return f"{self.element}[{self.count}]"


@dataclass(frozen=True, slots=True)
class Struct(Type):
    """A C struct or union (`kind`), by name. `space` is where the value lies (a struct is a reference).

    `origin` is the file whose debug information describes it, empty for the program's and the kernel's own.
    """

    name: str
    size: int
    kind: str = "struct"
    space: Space = Space.NONE
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else self.kind


@dataclass(frozen=True, slots=True)
class Tuple(Type):
    """A tuple, laid out like a C struct of its members."""

    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"({','.join(map(str, self.items))})"


@dataclass(frozen=True, slots=True)
class Record(Type):
    """A tuple with named members."""

    names: tuple[str, ...]
    items: tuple[Type, ...]

    def __str__(self) -> str:
        members = ", ".join(f".{n} = {t}" for n, t in zip(self.names, self.items, strict=True))
        return f"record {{ {members} }}"


@dataclass(frozen=True, slots=True)
class Stack(Type):
    """Captured return addresses: `{u64 nr; u64 ip[limit]}`, before it `{u32 pid; u32 probe}` for user stacks."""

    user: bool
    mode: str = "bpftrace"
    limit: int = 127

    def __str__(self) -> str:
        return f"{'u' if self.user else 'k'}stack_{self.mode}_{self.limit}"


@dataclass(frozen=True, slots=True)
class Opaque(Type):
    """A value that only its feature can show (`ksym_t`, `inet`, …): `size` raw bytes, aligned to `align`.

    `feature` names the `ValueKind` in the registry that decodes and shows it; `params` is what that needs and
    is known while compiling (the format of a time stamp, …).
    """

    feature: str
    size: int
    align: int = 8
    params: tuple[int | str, ...] = ()

    def __str__(self) -> str:
        return self.feature


@dataclass(frozen=True, slots=True)
class Aggregate(Type):
    """What a map holds after `@m = f(...)`.

    `feature` is the aggregation's name in the registry, `params` its literal parameters (bucket bounds, …).
    """

    feature: str
    name: str
    signed: bool = False
    params: tuple[int | str, ...] = ()

    def __str__(self) -> str:
        return self.name


NONE = NoneType()
VOID = Void()
BOOL = Bool()
INT8, INT16, INT32, INT64 = (Int(size, True) for size in (1, 2, 4, 8))
UINT8, UINT16, UINT32, UINT64 = (Int(size, False) for size in (1, 2, 4, 8))

INTEGERS = {str(t): t for t in (INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64)}


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a struct, union, argument list: `offset` in bytes, `bits` = (shift, width) of a bit-field.

    `data_loc` marks a tracepoint's `__data_loc` field, whose 4 bytes say where the data is in the record.
    `text` is the declaration as the kernel writes it, for listings. `tag` is what the kernel marks a pointer
    with that must not be followed as it is (`percpu`).
    """

    name: str
    type: Type
    offset: int
    bits: tuple[int, int] | None = None
    data_loc: bool = False
    text: str = ""
    tag: str = ""


class TypeSource(Protocol):
    """Where the C types come from: the program's own definitions, then BTF."""

    def members(self, struct: Struct) -> tuple[Member, ...]:
        """The members of a struct, those of anonymous members included at their place."""
        ...

    def find_type(self, name: str, kind: str = "") -> Type | None:
        """A C type by name; `kind` is `struct`, `union`, `enum` or empty for a typedef or base type."""
        ...

    def enumerators(self, enum: EnumType) -> dict[str, int]:
        """Names and values of an enumeration."""
        ...

    def enumerator(self, name: str) -> tuple[EnumType, int] | None:
        """The enumeration and value that a bare enumerator name stands for."""
        ...


def size_of(kind: Type) -> int:
    """Bytes that a value takes in memory."""
    match kind:
        case Bool():
            return 1
        case Int(size=size) | EnumType(size=size) | String(size=size) | Buffer(size=size):
            return size
        case Struct(size=size) | Opaque(size=size):
            return size
        case Pointer() | Aggregate():
            return 8
        case Array(element=element, count=count):
            return size_of(element) * count
        case Tuple(items=items) | Record(items=items):
            return _struct_size(items)
        case Stack(user=user, mode=mode, limit=limit):
            entry = 32 if mode == "build_id" else 8
            return 8 + (8 if user else 0) + limit * entry
        case _:
            return 0


def align_of(kind: Type) -> int:
    """Alignment of a value inside tuples, keys and records (reference 5.9)."""
    match kind:
        case Bool() | String() | Buffer():
            return 1
        case Int(size=size) | EnumType(size=size):
            return size
        case Array(element=element):
            return align_of(element)
        case Tuple(items=items) | Record(items=items):
            return max(map(align_of, items), default=1)
        case Opaque(align=align):
            return align
        case NoneType() | Void():
            return 1
        case _:
            return 8


def round_up(value: int, step: int) -> int:
    """The least multiple of `step` that is not below `value`."""
    return -(-value // step) * step


def offsets_of(items: tuple[Type, ...]) -> tuple[int, ...]:
    """Offset of each member when laid out like a C struct."""
    offsets, end = [], 0
    for item in items:
        start = round_up(end, align_of(item))
        offsets.append(start)
        end = start + size_of(item)
    return tuple(offsets)


def _struct_size(items: tuple[Type, ...]) -> int:
    if not items:
        return 0
    end = offsets_of(items)[-1] + size_of(items[-1])
    return round_up(end, max(map(align_of, items)))
