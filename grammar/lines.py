"""What a record is shown as, in pieces that compiled code can write (floor 1).

An action whose text depends on nothing but its record describes it with these; `codegen` makes machine code of them
(`HostCode`), which `runtime` runs over the ring buffer. Offsets are bytes from the record's start.
"""

from __future__ import annotations

from pytrace.grammar.data import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes that are always the same."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Number:
    """An integer of `size` bytes, extended by its own sign, then cut to `bits`, read as `as_signed` and written.

    `prefix` comes before every number but 0. `truth` makes every number but 0 a 1.
    """

    offset: int
    size: int
    signed: bool
    bits: int = 64
    as_signed: bool = False
    base: int = 10
    upper: bool = False
    plus: bool = False
    prefix: bytes = b""
    truth: bool = False


@dataclass(frozen=True, slots=True)
class Exact:
    """An integer as a JSON number, or between quotes if a double cannot hold it exactly."""

    offset: int
    size: int
    signed: bool


@dataclass(frozen=True, slots=True)
class Byte:
    """One byte of the record as it is; `truth` makes every byte but 0 a 1."""

    offset: int
    truth: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """The string in `size` bytes up to its NUL; without one `trailer` says that it was cut."""

    offset: int
    size: int
    trailer: bytes = b""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of two texts, by whether the byte at `offset` is 0."""

    offset: int
    yes: bytes
    no: bytes


@dataclass(frozen=True, slots=True)
class Named:
    """The name of an integer, or its digits if it has none."""

    number: Number
    names: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Octets:
    """Bytes in `size` bytes, of which the first four say how many: each as two hexadecimal digits with `prefix` and,
    between two, `between` (one byte, or none). `printable` shows printable ASCII as it is.
    """

    offset: int
    size: int
    prefix: bytes = b""
    between: bytes = b""
    printable: bool = False


@dataclass(frozen=True, slots=True)
class Padded:
    """Pieces, filled up to `width` bytes with `fill` behind them (`left`) or before them."""

    pieces: tuple[Piece, ...]
    width: int
    left: bool
    fill: bytes


@dataclass(frozen=True, slots=True)
class Escaped:
    """What pieces write, as the inside of a JSON string. Records that are not ASCII there are left to others."""

    pieces: tuple[Piece, ...]


Piece = Literal | Number | Exact | Byte | Words | Choice | Named | Octets | Padded | Escaped


@dataclass(frozen=True, slots=True)
class Line:
    """What an action shows: the type of its JSON document, the text, and the JSON of the document's `data`.

    That is None where it takes more than the record.
    """

    kind: str
    text: tuple[Piece, ...]
    data: tuple[Piece, ...] | None


@dataclass(frozen=True, slots=True)
class HostCode:
    """Machine code of this machine that reads a ring buffer and writes lines; data it wants; what it knows.

    `code` can lie at any address and is entered at its start, with a pointer to a `Reading` (runtime/nativering.py).
    `numbers` are the actions that it shows, `room` the bytes that the longest line may take, `scratch` those of its
    working memory.
    """

    code: bytes
    data: bytes
    numbers: tuple[int, ...]
    room: int
    scratch: int


LINES = "lines"  # kind of an `Output` whose `data` are the bytes of finished lines

# Why the machine code has returned.
EMPTY, FULL, OTHER = 0, 1, 2  # nothing more to read; no room for the next line; a record that is not for it

HOST_FORMAT = 1  # of `HostCode`: what it is given and does
