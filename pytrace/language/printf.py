"""The format language of `printf` and its relatives (reference part 2, section 4).

A format is parsed once (`parse`), checked against the types of its values while compiling (`problem`) and
made into a function for the layouts of a record (`formatter`), which then formats every event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from pytrace.grammar.config import Config
from pytrace.grammar.data import dataclass, replace
from pytrace.grammar.hints import Any
from pytrace.grammar.layout import Layout
from pytrace.grammar.lines import Byte, Number, Octets, Padded, Piece
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
    String,
    Type,
    Void,
    size_of,
)
from pytrace.language.gfp import gfp_text
from pytrace.language.pieces import literal, merged, text_pieces
from pytrace.language.text import Show, readable_bytes, shower

_SPECIFIER = re.compile(
    r"%(?P<left>-)?(?P<plus>\+)?(?P<space> )?(?P<alternate>\#)?(?P<zero>0)?(?P<width>\*|\d+)?"
    r"(?:\.(?:\*|\d+))?(?P<length>[hlLjzt]*)(?P<conversion>gr|rh|rx|[dioxXueEfFgGaAcspnr%])"
)

INTEGER_CONVERSIONS = ("d", "i", "u", "x", "X", "o", "c", "p", "gr")
FRACTIONS = tuple("eEfFgGaA")
BYTE_CONVERSIONS = ("r", "rx", "rh")
SIGNED_CONVERSIONS = ("d", "i")
BITS = {"": 32, "hh": 8, "h": 16, "l": 64, "ll": 64, "j": 64, "z": 64, "t": 64}

WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Specifier:
    """One conversion: its flags, least width, length modifier and conversion letters."""

    conversion: str
    length: str = ""
    width: int = 0
    left: bool = False
    plus: bool = False
    alternate: bool = False
    zero: bool = False


@dataclass(frozen=True, slots=True)
class Format:
    """A parsed format: literal text and conversions in order."""

    parts: tuple[str | Specifier, ...]

    @property
    def specifiers(self) -> tuple[Specifier, ...]:
        """The conversions, one for each value."""
        return tuple(part for part in self.parts if isinstance(part, Specifier))


@lru_cache(maxsize=1024)
def parse(text: str) -> Format:
    """Split a format string. What does not match the specification is literal text."""
    parts: list[str | Specifier] = []
    literal, end = "", 0
    for match in _SPECIFIER.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        if match["conversion"] == "%":
            literal += "%"
            continue
        if literal:
            parts.append(literal)
            literal = ""
        parts.append(_specifier(match))
    literal += text[end:]
    return Format((*parts, literal) if literal else tuple(parts))


def _specifier(match: re.Match[str]) -> Specifier:
    width = match["width"]
    return Specifier(
        match["conversion"],
        match["length"],
        int(width) if width and width != "*" else 0,
        bool(match["left"]),
        bool(match["plus"]),
        bool(match["alternate"]),
        bool(match["zero"]),
    )


# ---------------------------------------------------------------- the check while compiling


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a format does not fit its values, and what to do about it; `index` is that of the value at fault."""

    message: str
    hints: tuple[str, ...] = ()
    index: int | None = None


def problem(parsed: Format, types: Sequence[Type]) -> Problem | None:
    """What is wrong with giving values of these types to the format, or None."""
    expected, supplied = len(parsed.specifiers), len(types)
    if supplied != expected:
        words = "not enough" if supplied < expected else "too many"
        return Problem(f"{words} arguments for format string ({supplied} supplied, {expected} expected)")
    for index, (specifier, kind) in enumerate(zip(parsed.specifiers, types, strict=True)):
        found = _unsuitable(specifier.conversion, kind)
        if found is not None:
            return replace(found, index=index)
    return None


def _unsuitable(conversion: str, kind: Type) -> Problem | None:
    if isinstance(kind, (NoneType, Void)):
        return Problem(f"unable to print {kind} type for specifier: {conversion}")
    if conversion == "s":
        good = not isinstance(kind, Aggregate) or _castable(kind)
    elif conversion in INTEGER_CONVERSIONS:
        good = isinstance(kind, (Int, Bool, Pointer, EnumType))
    elif conversion in BYTE_CONVERSIONS:
        good = isinstance(kind, Buffer)
    else:
        hints = ("Integers have no fractions: use %d. A float or double of a struct is shown by %s.",)
        return Problem(f"unsupported format specifier: {conversion}", hints if conversion in FRACTIONS else ())
    if good:
        return None
    return Problem(f"unsupported format specifier for type '{kind}': {conversion}", _advice(conversion, kind))


def _advice(conversion: str, kind: Type) -> tuple[str, ...]:
    """What to write instead."""
    if isinstance(kind, Aggregate):
        if _castable(kind):
            return ("Cast the value to an integer, e.g. `(int64)@x`, or use %s.",)
        return ("Print the whole map with print().",)
    if conversion in BYTE_CONVERSIONS and isinstance(kind, (Pointer, String, Array)):
        return (f"%{conversion} shows the bytes of a buffer: wrap the value in buf().",)
    return (f"Use %s to print a value of type '{kind}'.",)


def _castable(kind: Aggregate) -> bool:
    return REGISTRY.aggregation(kind).castable


# ---------------------------------------------------------------- formatting by compiled code


def pieces(
    parsed: Format, layouts: Sequence[Layout], offsets: Sequence[int], config: Config
) -> tuple[Piece, ...] | None:
    """What `formatter` writes, for the record that the values lie in; None if that takes more than the record."""
    values = iter(zip(parsed.specifiers, layouts, offsets, strict=True))
    made: list[Piece] = []
    for part in parsed.parts:
        if isinstance(part, str):
            made.append(literal(part))
            continue
        specifier, layout, offset = next(values)
        found = _value_pieces(specifier, layout, offset, config)
        if found is None:
            return None
        if specifier.width:
            found = (Padded(found, specifier.width, specifier.left, b"0" if specifier.zero else b" "),)
        made += found
    return merged(tuple(made))


def _value_pieces(specifier: Specifier, layout: Layout, offset: int, config: Config) -> tuple[Piece, ...] | None:
    """What `_unpadded` writes."""
    kind, conversion = layout.type, specifier.conversion
    if conversion == "s":
        return text_pieces(layout, offset, config)
    if isinstance(kind, Buffer):
        shown = Octets(offset, kind.size)
        by = {"r": text_pieces(layout, offset, config), "rh": (replace(shown, between=b" "),)}
        return by.get(conversion, (replace(shown, prefix=b"\\x"),))
    truth = isinstance(kind, Bool)
    if truth or isinstance(kind, Pointer):
        size, signed = size_of(kind), False
    elif isinstance(kind, (Int, EnumType)):
        size, signed = kind.size, kind.signed
    else:
        return None
    bits = BITS.get(specifier.length, 32)
    number = Number(offset, size, signed, bits, upper=conversion == "X", truth=truth)
    match conversion:
        case "c":
            return (Byte(offset, truth),)
        case "p":
            return (replace(number, bits=64, base=16, prefix=b"0x"),)
        case "d" | "i":
            return (replace(number, as_signed=True, plus=specifier.plus),)
        case "u":
            return (number,)
        case "o":
            return (replace(number, base=8, prefix=b"0" if specifier.alternate else b""),)
        case "x" | "X":
            prefix = f"0{conversion}".encode() if specifier.alternate else b""
            return (replace(number, base=16, prefix=prefix),)
        case _:
            return None


# ---------------------------------------------------------------- formatting


def formatter(parsed: Format, layouts: Sequence[Layout], services: Services) -> Callable[[Sequence[Any]], str]:
    """The function that makes the text of a record's values, laid out as `layouts`."""
    specifiers = iter(zip(parsed.specifiers, layouts, strict=True))
    template, converters = "", []
    for part in parsed.parts:
        if isinstance(part, str):
            template += part.replace("%", "%%")
        else:
            specifier, layout = next(specifiers)
            template += "%s"
            converters.append(_converter(specifier, layout, services))
    if not converters:
        constant = template % ()
        return lambda values: constant
    if len(converters) == 1:
        only = converters[0]
        return lambda values: template % only(values[0])
    return lambda values: template % tuple([f(v) for f, v in zip(converters, values, strict=True)])


def format_values(text: str, layouts: Sequence[Layout], values: Sequence[Any], services: Services) -> str:
    """Format once; use `formatter` where the same format comes again."""
    return formatter(parse(text), layouts, services)(values)


def _converter(specifier: Specifier, layout: Layout, services: Services) -> Show:
    show = _unpadded(specifier, layout, services)
    if isinstance(layout.type, Opaque):
        show = _guarded(show)
    return _padded(show, specifier) if specifier.width else show


def _unpadded(specifier: Specifier, layout: Layout, services: Services) -> Show:
    match specifier.conversion:
        case "s":
            return shower(layout, services)
        case "r":
            return readable_bytes
        case "rx":
            return lambda data: "".join(f"\\x{b:02x}" for b in data)
        case "rh":
            return lambda data: " ".join(f"{b:02x}" for b in data)
        case "p":
            return lambda value: f"0x{value & WORD:x}" if value else "0"
        case "c":
            return lambda value: bytes((value & 0xFF,)).decode("utf-8", "surrogateescape")
        case "gr":
            return lambda value: gfp_text(value & WORD)
        case _:
            return _integer(specifier, layout)


def _integer(specifier: Specifier, layout: Layout) -> Show:
    bits = BITS.get(specifier.length, 32)
    if specifier.conversion in SIGNED_CONVERSIONS:
        if not specifier.plus and _fits_signed(layout.type, bits):
            return str
        return _signed(bits, "+d" if specifier.plus else "d")
    if specifier.conversion == "u":
        return _unsigned(bits, "d")
    if specifier.conversion == "o":
        return _unsigned(bits, "o", "0" if specifier.alternate else "")
    prefix = f"0{specifier.conversion}" if specifier.alternate else ""
    return _unsigned(bits, specifier.conversion, prefix)


def _fits_signed(kind: Type, bits: int) -> bool:
    """Whether every value of the type is unchanged by truncation, so that `str` shows it right."""
    return isinstance(kind, Int) and (kind.size * 8 < bits or (kind.signed and kind.size * 8 == bits))


def _signed(bits: int, spec: str) -> Show:
    mask, sign = (1 << bits) - 1, 1 << (bits - 1)
    return lambda value: format(((value & mask) ^ sign) - sign, spec)


def _unsigned(bits: int, spec: str, prefix: str = "") -> Show:
    mask = (1 << bits) - 1
    if not prefix:
        return lambda value: format(value & mask, spec)
    return lambda value: prefix + format(value & mask, spec) if value & mask else "0"


def _padded(show: Show, specifier: Specifier) -> Show:
    """Fill to the width from outside, as the reference does: `%06d` of -42 is `000-42`. Bytes are counted."""
    width, left = specifier.width, specifier.left
    fill = "0" if specifier.zero else " "

    def pad(value: Any) -> str:
        text = show(value)
        length = len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))
        padding = fill * (width - length)
        return text + padding if left else padding + text

    return pad


def _guarded(show: Show) -> Show:
    """A value that the operating system refuses to explain leaves its reason in the text."""

    def guarded(value: Any) -> str:
        try:
            return show(value)
        except OSError as error:
            return f"!{{{error.strerror or error}}}"

    return guarded
