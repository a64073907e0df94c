"""C declarations of kernel types, made from BTF for the C front end: right in size and alignment, without
members.

Members are not needed: whoever asks for a member of such a struct is answered from BTF.
"""

from __future__ import annotations

from pytrace.grammar.types import (
    Array,
    Bool,
    EnumType,
    Int,
    Opaque,
    Pointer,
    String,
    Struct,
    Type,
    TypeSource,
    Void,
    size_of,
)

_INTEGERS = {1: "char", 2: "short", 4: "int", 8: "long"}


def declare_struct(kind: Struct, types: TypeSource) -> str:
    """A definition of a struct or union that only takes its room."""
    align = natural_alignment(kind, types)
    body = f"unsigned char __bytes[{kind.size}];"
    return f"{kind.kind} {kind.name} {{ {body} }} __attribute__((aligned({align})));\n"


def declare_type(found: Type, name: str, kind: str, types: TypeSource) -> str:
    """A typedef `name` of a type, or, with `kind` `enum`, that enumeration."""
    if kind == "enum" and isinstance(found, EnumType):
        # An enumeration is as wide and as signed as its constants need.
        low = "-1" if found.signed else "0"
        high = {1: "0x7f", 2: "0x7fff", 4: "0x7fffffff"}.get(found.size, "0x7fffffffffffffff")
        return f"enum {name} {{ __{name}_low = {low}, __{name}_high = {high} }};\n"
    match found:
        case Struct() if found.name == name:
            opaque = declare_struct(found, types)
            return f"{opaque}typedef {found.kind} {name} {name};\n"
        case Struct():
            return f"typedef {found.kind} {found.name} {name};\n"
        case Array(element=Int(size=size, signed=signed), count=count):
            return f"typedef {_integer(size, signed)} {name}[{count}];\n"
        case String(size=size):
            return f"typedef char {name}[{size}];\n"
        case Int(size=size, signed=signed) | EnumType(size=size, signed=signed):
            return f"typedef {_integer(size, signed)} {name};\n"
        case Bool():
            return f"typedef _Bool {name};\n"
        case Void():
            return f"typedef void {name};\n"
        case Pointer():
            return f"typedef void *{name};\n"
        case _:
            room, align = size_of(found), natural_alignment(found, types)
            body = f"unsigned char __bytes[{room}];"
            return f"typedef struct {{ {body} }} __attribute__((aligned({align}))) {name};\n"


def natural_alignment(kind: Type, types: TypeSource) -> int:
    """The alignment that C gives a type; 1 for a struct that is packed, as its members' places show."""
    match kind:
        case Int(size=size) | EnumType(size=size):
            return size
        case Pointer():
            return 8
        case Opaque(align=align):
            return align
        case Array(element=element):
            return natural_alignment(element, types)
        case Struct():
            members = [(m, natural_alignment(m.type, types)) for m in types.members(kind) if m.bits is None]
            if any(m.offset % align for m, align in members):
                return 1
            align = max((align for _, align in members), default=1)
            return align if kind.size % align == 0 else 1
        case _:
            return 1


def _integer(size: int, signed: bool) -> str:
    return f"{'signed' if signed else 'unsigned'} {_INTEGERS.get(size, 'long')}"
