"""What `typeinfo` says of a type: its number in the kernel's BTF, the word for its kind, its full name."""

from __future__ import annotations

from pytrace.grammar.nodes import Integer, RecordExpr, StringLiteral, TypeInfo
from pytrace.grammar.types import (
    Aggregate,
    Array,
    Bool,
    Buffer,
    EnumType,
    Int,
    Pointer,
    Record,
    Stack,
    String,
    Struct,
    Tuple,
    Type,
    Void,
)

_WORDS: tuple[tuple[type[Type], str], ...] = (
    (Bool, "bool"), (Int, "int"), (EnumType, "enum"), (String, "string"), (Buffer, "buffer"), (Pointer, "pointer"),
    (Array, "array"), (Tuple, "tuple"), (Record, "record"), (Void, "void"),
)  # fmt: skip


def base_word(kind: Type) -> str:
    """The word for the kind of a type, without what it is made of."""
    match kind:
        case Struct(kind=word) | Aggregate(name=word):
            return word
        case Stack():
            return str(kind).partition("_")[0]
        case _:
            return next((word for known, word in _WORDS if isinstance(kind, known)), str(kind))


def type_record(node: TypeInfo, kind: Type, number: int) -> RecordExpr:
    """The record that `typeinfo(...)` stands for; `number` is 0 for what is no type of the kernel's."""
    span = node.span
    items = (
        Integer(span, number),
        StringLiteral(span, base_word(kind).encode()),
        StringLiteral(span, str(kind).encode()),
    )
    return RecordExpr(span, ("btf_id", "base_type", "full_type"), items)
