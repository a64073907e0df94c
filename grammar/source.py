"""Program text and places in it.

Offsets count characters of `Source.text`. The text is decoded as UTF-8 with `surrogateescape`, so
every byte sequence is a legal source and `encode_text` gives the original bytes back.
"""

from __future__ import annotations

from bisect import bisect_right

from pytrace.grammar.data import dataclass, field

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # which editors of other systems put before a text
STDIN = "stdin"  # the name of a program without a file, in messages


def decode_text(data: bytes) -> str:
    """The text of a program's bytes; undecodable bytes become lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def encode_text(text: str) -> bytes:
    """The bytes that `decode_text` made `text` from."""
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One piece of program text and the name that messages give it (`stdin` for a one-liner)."""

    name: str
    text: str
    line_starts: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        starts = [0] + [i + 1 for i, c in enumerate(self.text) if c == "\n"]
        object.__setattr__(self, "line_starts", tuple(starts))

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column, both counted from 1, of a character offset."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a line (counted from 1) without its newline; empty beyond the end."""
        if not 1 <= number <= len(self.line_starts):
            return ""
        start = self.line_starts[number - 1]
        end = self.line_starts[number] - 1 if number < len(self.line_starts) else len(self.text)
        return self.text[start:end]

    def span(self, start: int, end: int) -> Span:
        """The range [start, end) of this source."""
        return Span(self, start, end)


@dataclass(frozen=True, slots=True)
class Span:
    """A range of characters [start, end) of one source; of a macro's body `via` is the call it was copied for."""

    source: Source
    start: int
    end: int
    via: Span | None = None

    @property
    def text(self) -> str:
        """The characters of the range."""
        return self.source.text[self.start : self.end]

    @property
    def first(self) -> tuple[int, int]:
        """Line and column of the first character, counted from 1."""
        return self.source.position(self.start)

    @property
    def last(self) -> tuple[int, int]:
        """Line and column just past the last character."""
        return self.source.position(self.end)

    def to(self, other: Span) -> Span:
        """The range from the start of this one to the end of `other`."""
        return Span(self.source, self.start, max(self.end, other.end), self.via)

    def location(self) -> str:
        """`FILE:LINE:COL1-COL2`, or `FILE:L1-L2` when the range covers several lines."""
        (line, column), (last_line, last_column) = self.first, self.last
        if line != last_line:
            return f"{self.source.name}:{line}-{last_line}"
        return f"{self.source.name}:{line}:{column}-{last_column}"
