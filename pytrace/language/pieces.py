"""The default text and the JSON of values as pieces for compiled code: what `text` and `jsonvalue` make, without them.

Every function gives None for what takes more than the record to show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pytrace.grammar.config import Config
from pytrace.grammar.jsontext import json_string
from pytrace.grammar.layout import Layout
from pytrace.grammar.lines import (
    Byte,
    Choice,
    Escaped,
    Exact,
    Literal,
    Named,
    Number,
    Octets,
    Padded,
    Piece,
    Words,
)
from pytrace.grammar.types import (
    Array,
    Bool,
    Buffer,
    EnumType,
    Int,
    NoneType,
    Pointer,
    Record,
    String,
    Struct,
    Tuple,
    Void,
)

Pieces = tuple[Piece, ...]
Describe = Callable[[Layout, int, Config], Pieces | None]

MOST_ELEMENTS = 64  # of arrays; each has code of its own
MOST_NAMES = 256  # of enumerations, likewise


def literal(text: str) -> Literal:
    """Text of the program or of ours."""
    return Literal(text.encode("utf-8", "surrogateescape"))


def text_pieces(layout: Layout, offset: int, config: Config) -> Pieces | None:
    """The default text (`text.shower`) of the value at an offset."""
    match layout.type:
        case Int(size=size, signed=signed):
            return (Number(offset, size, signed, as_signed=signed),)
        case Bool():
            return (Choice(offset, b"true", b"false"),)
        case EnumType(size=size, signed=signed):
            names = {value: name.encode() for value, name in layout.enumerators}
            known = tuple((value, name) for value, name in names.items() if name)
            number = Number(offset, size, signed, as_signed=signed)
            return (Named(number, known) if known else number,) if len(known) <= MOST_NAMES else None
        case Buffer(size=size):
            return (Octets(offset, size, b"\\x", printable=True),)
        case String(size=size):
            return (Words(offset, size, literal(config.str_trunc_trailer).data),)
        case Pointer():
            return (Literal(b"0x"), Number(offset, 8, False, base=16))
        case NoneType() | Void():
            return (Literal(b"null"),)
        case Array() | Tuple() | Record() | Struct():
            return _composite(layout, offset, config)
        case _:
            return None


def _composite(layout: Layout, offset: int, config: Config) -> Pieces | None:
    if isinstance(layout.type, Array):
        return _row("[", ",", "]", _elements(layout, offset, text_pieces, config))
    if isinstance(layout.type, Tuple):
        return _row("(", ", ", ")", _members(layout, offset, text_pieces, config))
    if not layout.parts:
        return (Literal(b"{}"),)
    members = _members(layout, offset, text_pieces, config)
    names = [f".{part.name} = " for part in layout.parts]
    return _row("{ ", ", ", " }", _named(names, members))


def json_pieces(layout: Layout, offset: int, config: Config) -> Pieces | None:
    """The JSON (`jsonvalue.jsonable`) of the value at an offset."""
    match layout.type:
        case Int(size=size, signed=signed) | EnumType(size=size, signed=signed):
            return (Exact(offset, size, signed),)
        case Pointer():
            return (Exact(offset, 8, False),)
        case Bool() | NoneType() | Void():
            return text_pieces(layout, offset, config)
        case String():
            text = text_pieces(layout, offset, config)
            return text and quoted(text)
        case Array():
            return _row("[", ",", "]", _elements(layout, offset, json_pieces, config))
        case Tuple():
            return _row("[", ",", "]", _members(layout, offset, json_pieces, config))
        case Record() | Struct() if layout.parts:
            names = [f"{json_string(part.name)}: " for part in layout.parts]
            return _row("{", ", ", "}", _named(names, _members(layout, offset, json_pieces, config)))
        case _:
            return None


def _elements(layout: Layout, offset: int, describe: Describe, config: Config) -> Iterable[Pieces | None]:
    kind, element = layout.type, layout.parts[0].layout
    assert isinstance(kind, Array)
    if kind.count > MOST_ELEMENTS:
        return [None]
    return [describe(element, offset + index * element.size, config) for index in range(kind.count)]


def _members(layout: Layout, offset: int, describe: Describe, config: Config) -> Iterable[Pieces | None]:
    # values are told apart by name, and bit-fields have no place of their own
    plain = len({p.name for p in layout.parts}) == len(layout.parts) or isinstance(layout.type, Tuple)
    return [describe(p.layout, offset + p.offset, config) if plain and not p.bits else None for p in layout.parts]


def _named(names: Iterable[str], values: Iterable[Pieces | None]) -> Iterable[Pieces | None]:
    return [value and (literal(name), *value) for name, value in zip(names, values, strict=True)]


def _row(start: str, between: str, end: str, values: Iterable[Pieces | None]) -> Pieces | None:
    pieces: list[Piece] = [literal(start)]
    for index, value in enumerate(values):
        if value is None:
            return None
        pieces += [literal(between), *value] if index else value
    return merged((*pieces, literal(end)))


def merged(pieces: Pieces) -> Pieces:
    """The same with neighbouring literals made one, and those that are empty left out."""
    made: list[Piece] = []
    for piece in pieces:
        last = made[-1] if made else None
        if isinstance(piece, Literal) and isinstance(last, Literal):
            made[-1] = Literal(last.data + piece.data)
        elif piece != Literal(b""):
            made.append(piece)
    return tuple(made)


def quoted(pieces: Pieces) -> Pieces:
    """Pieces of text as a JSON string.

    Only ASCII comes from records (`Escaped`), so a literal that is not ASCII means the same wherever it stands.
    """
    made: list[Piece] = [Literal(b'"')]
    for piece in merged(pieces):
        match piece:
            case Literal(data=data):
                made.append(Literal(json_string(data.decode("utf-8", "replace")).encode()[1:-1]))
            case Byte() | Words() | Octets() | Padded():
                made.append(Escaped((piece,)))
            case _:
                made.append(piece)
    return merged((*made, Literal(b'"')))
