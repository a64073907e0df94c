"""C text of BTF types, as listings show it: `struct file * file`, `char comm[16]`, `int (*)(void *) fn`."""

from __future__ import annotations

import struct

from pytrace.runtime.btffile import BtfFile, Kind, Record

_WORDS = {Kind.CONST: "const", Kind.VOLATILE: "volatile", Kind.RESTRICT: "restrict"}


def type_text(file: BtfFile, number: int) -> str:
    """A type as C writes it without a name: `const char *`, `int (*)(void *)`."""
    return _spell(file, file.record(number), "").strip()


def declaration(file: BtfFile, number: int, name: str) -> str:
    """A type with a name: the name stands behind the type, array bounds behind the name."""
    record = file.record(number)
    bounds = ""
    while record.kind == Kind.ARRAY:
        element, _, count = struct.unpack("<III", record.extra)
        bounds += f"[{count}]"
        record = file.record(element)
    return f"{_spell(file, record, '').strip()} {name}{bounds}".strip()


def _spell(file: BtfFile, record: Record, inner: str) -> str:
    """A type around `inner`, which is what C writes between the base type and its brackets."""
    match record.kind:
        case Kind.PTR:
            target = file.record(record.value)
            if target.kind in (Kind.ARRAY, Kind.FUNC_PROTO):
                return _spell(file, target, f"(*{inner})")
            return _spell(file, target, f"*{inner}")
        case Kind.CONST | Kind.VOLATILE | Kind.RESTRICT:
            target = file.record(record.value)
            word = _WORDS[record.kind]
            if target.kind == Kind.PTR:
                return _spell(file, target, f" {word} {inner}".rstrip())
            return f"{word} {_spell(file, target, inner)}"
        case Kind.TYPE_TAG:
            return _spell(file, file.record(record.value), inner)
        case Kind.ARRAY:
            element, _, count = struct.unpack("<III", record.extra)
            return _spell(file, file.record(element), f"{inner}[{count}]")
        case Kind.FUNC_PROTO:
            return _spell(file, file.record(record.value), f"{inner}({_parameters(file, record)})")
        case Kind.STRUCT | Kind.UNION | Kind.FWD | Kind.ENUM | Kind.ENUM64:
            return f"{_word(record)} {record.name or '{...}'} {inner}"
        case _:
            return f"{record.name} {inner}"


def _word(record: Record) -> str:
    if record.kind == Kind.FWD:
        return "union" if record.flag else "struct"
    return {Kind.STRUCT: "struct", Kind.UNION: "union"}.get(record.kind, "enum")


def _parameters(file: BtfFile, record: Record) -> str:
    texts = [type_text(file, type_id) if type_id else "..." for _, type_id in struct.iter_unpack("<II", record.extra)]
    return ", ".join(texts) or "void"
