"""LLVM IR that writes one kind of record as a line, from its pieces."""

from __future__ import annotations

from collections.abc import Sequence

from pytrace.codegen.hosttext import LOWER_AT, TABLES, UPPER_AT
from pytrace.grammar.hints import assert_never
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

# Loops stay loops: LLVM would make calls of memcpy and memset of them.
ATTRIBUTES = 'attributes #0 = { nounwind "no-builtins" "no-jump-tables"="true" }'

DIGITS = 24  # bytes that a number takes at most: 22 octal digits, or a sign or quotes and 20 decimal ones
IN_CODE = 32  # bytes of a constant that are written by the instructions themselves


def most(pieces: Sequence[Piece]) -> int:
    """Bytes that pieces take at most."""
    return sum(map(_most, pieces))


def _most(piece: Piece) -> int:
    match piece:
        case Literal(data=data):
            return len(data)
        case Number(prefix=prefix):
            return DIGITS + len(prefix)
        case Exact():
            return DIGITS
        case Byte():
            return 1
        case Words(size=size, trailer=trailer):
            return size + len(trailer)
        case Choice(yes=yes, no=no):
            return max(len(yes), len(no))
        case Named(names=names):
            return max([DIGITS, *(len(name) for _, name in names)])
        case Octets(size=size, prefix=prefix, between=between):
            return size * (2 + len(prefix) + len(between))
        case Padded(pieces=pieces, width=width):
            return max(width, most(pieces))
        case Escaped(pieces=pieces):
            return 6 * most(pieces)
        case _:
            assert_never(piece)


class Constants:
    """The data of a reader: the tables of digits, then constants that are too long for the code."""

    def __init__(self) -> None:
        self.data = TABLES

    def place(self, text: bytes) -> int:
        """Where a constant lies."""
        found = self.data.find(text)
        if found < 0:
            found = len(self.data)
            self.data += text
        return found


class LineWriter:
    """Makes the function that writes a record; `scratch` are the bytes of working memory that it needs."""

    def __init__(self, constants: Constants) -> None:
        self.scratch = 0
        self._constants = constants
        self._code: list[str] = []
        self._names = 0
        self._out = "%out"  # where the next piece goes

    def function(self, name: str) -> str:
        """The finished function: it returns where the line ends, or null if it cannot be written."""
        body = "\n  ".join((*self._code, f"ret ptr {self._out}"))
        arguments = "ptr %out, ptr %record, ptr %data, ptr %scratch"
        return f"define internal ptr @{name}({arguments}) #0 {{\nentry:\n  {body}\n}}\n"

    def write(self, pieces: Sequence[Piece]) -> None:
        """Write pieces, one behind the other."""
        for piece in pieces:
            self._write(piece)

    def _write(self, piece: Piece) -> None:
        match piece:
            case Literal(data=data):
                self._literal(data)
            case Number():
                self._number(piece)
            case Exact(offset=offset, size=size, signed=signed):
                value = self._load(offset, size, signed)
                self._out = self._call("exact", f"i64 {value}, i1 {int(signed)}, ptr %data")
            case Byte(offset=offset, truth=truth):
                value = self._load(offset, 1, False)
                value = self._truth(value) if truth else value
                byte = self._value(f"trunc i64 {value} to i8")
                self._say(f"store i8 {byte}, ptr {self._out}")
                self._out = self._at(self._out, 1)
            case Words(offset=offset, size=size, trailer=trailer):
                cut = self._at("%data", self._constants.place(trailer))
                source = self._at("%record", offset)
                self._out = self._call("words", f"ptr {source}, i64 {size}, ptr {cut}, i64 {len(trailer)}")
            case Choice(offset=offset, yes=yes, no=no):
                self._choice(offset, yes, no)
            case Named(number=number, names=names):
                self._named(number, names)
            case Octets():
                self._octets(piece)
            case Padded(pieces=pieces, width=width, left=left, fill=fill):
                start = self._out
                self.write(pieces)
                rest = f"ptr {self._out}, i64 {width}, i8 {fill[0]}, i1 {int(left)}"
                self._out = self._value(f"call ptr @padded(ptr {start}, {rest})")
            case Escaped(pieces=pieces):
                self._escaped(pieces)
            case _:
                assert_never(piece)

    # ---- pieces

    def _literal(self, data: bytes) -> None:
        if len(data) > IN_CODE:
            source = self._at("%data", self._constants.place(data))
            self._out = self._call("copy", f"ptr {source}, i64 {len(data)}")
            return
        at = 0
        while at < len(data):
            size = next(size for size in (8, 4, 2, 1) if size <= len(data) - at)
            number = int.from_bytes(data[at : at + size], "little")
            self._say(f"store i{size * 8} {number}, ptr {self._at(self._out, at)}, align 1")
            at += size
        self._out = self._at(self._out, len(data))

    def _number(self, piece: Number) -> None:
        value = self._load(piece.offset, piece.size, piece.signed)
        if piece.truth:
            value = self._truth(value)
        if piece.bits < 64:
            narrow = self._value(f"trunc i64 {value} to i{piece.bits}")
            value = self._value(f"{'sext' if piece.as_signed else 'zext'} i{piece.bits} {narrow} to i64")
        if piece.plus:
            positive = self._value(f"icmp sge i64 {value}, 0")
            self._optional(positive, b"+")
        if piece.prefix:
            self._optional(self._value(f"icmp ne i64 {value}, 0"), piece.prefix)
        if piece.base == 10:
            self._out = self._call("signed" if piece.as_signed else "decimal", f"i64 {value}, ptr %data")
            return
        alphabet = self._at("%data", UPPER_AT if piece.upper else LOWER_AT)
        shift = piece.base.bit_length() - 1
        self._out = self._call("power", f"i64 {value}, i64 {shift}, ptr {alphabet}")

    def _optional(self, condition: str, text: bytes) -> None:
        """Write a text that counts only under a condition."""
        before = self._out
        self._literal(text)
        self._out = self._value(f"select i1 {condition}, ptr {self._out}, ptr {before}")

    def _choice(self, offset: int, yes: bytes, no: bytes) -> None:
        condition = self._value(f"icmp ne i64 {self._load(offset, 1, False)}, 0")
        first = self._at("%data", self._constants.place(yes))
        second = self._at("%data", self._constants.place(no))
        source = self._value(f"select i1 {condition}, ptr {first}, ptr {second}")
        length = self._value(f"select i1 {condition}, i64 {len(yes)}, i64 {len(no)}")
        self._out = self._call("copy", f"ptr {source}, i64 {length}")

    def _named(self, number: Number, names: Sequence[tuple[int, bytes]]) -> None:
        value, before = self._load(number.offset, number.size, number.signed), self._out
        block = self._names
        labels = " ".join(f"i64 {known}, label %name{block}.{i}" for i, (known, _) in enumerate(names))
        self._say(f"switch i64 {value}, label %unnamed{block} [ {labels} ]")
        ends = []
        for index, (_, name) in enumerate(names):
            self._out = before
            self._say(f"\nname{block}.{index}:")
            self._literal(name)
            self._say(f"br label %named{block}")
            ends.append(f"[ {self._out}, %name{block}.{index} ]")
        self._out = before
        self._say(f"\nunnamed{block}:")
        self._number(number)
        self._say(f"br label %named{block}\n\nnamed{block}:")
        self._out = self._value(f"phi ptr [ {self._out}, %unnamed{block} ], {', '.join(ends)}")

    def _octets(self, piece: Octets) -> None:
        source, lower = self._at("%record", piece.offset), self._at("%data", LOWER_AT)
        flags = f"i1 {int(piece.printable)}, i64 {len(piece.prefix)}, i64 {len(piece.between)}"
        between = f"i8 {piece.between[0] if piece.between else 0}"
        prefix = f"i16 {int.from_bytes(piece.prefix, 'little')}"
        arguments = f"ptr {source}, i64 {piece.size - 4}, {prefix}, {between}, {flags}, ptr {lower}"
        self._out = self._call("octets", arguments)

    def _escaped(self, pieces: Sequence[Piece]) -> None:
        self.scratch = max(self.scratch, most(pieces))
        out, self._out = self._out, "%scratch"
        self.write(pieces)
        lower = self._at("%data", LOWER_AT)
        made = self._value(f"call ptr @escaped(ptr {out}, ptr %scratch, ptr {self._out}, ptr {lower})")
        name = self._names
        missing = self._value(f"icmp eq ptr {made}, null")
        self._say(f"br i1 {missing}, label %refuse{name}, label %go{name}")
        self._say(f"\nrefuse{name}:\n  ret ptr null\n\ngo{name}:")
        self._out = made

    # ---- instructions

    def _say(self, line: str) -> None:
        self._code.append(line)

    def _value(self, instruction: str) -> str:
        self._names += 1
        name = f"%v{self._names}"
        self._say(f"{name} = {instruction}")
        return name

    def _call(self, helper: str, arguments: str) -> str:
        return self._value(f"call ptr @{helper}(ptr {self._out}, {arguments})")

    def _at(self, base: str, offset: int) -> str:
        return self._value(f"getelementptr i8, ptr {base}, i64 {offset}") if offset else base

    def _load(self, offset: int, size: int, signed: bool) -> str:
        raw = self._value(f"load i{size * 8}, ptr {self._at('%record', offset)}, align 1")
        if size == 8:
            return raw
        return self._value(f"{'sext' if signed else 'zext'} i{size * 8} {raw} to i64")

    def _truth(self, value: str) -> str:
        flag = self._value(f"icmp ne i64 {value}, 0")
        return self._value(f"zext i1 {flag} to i64")
