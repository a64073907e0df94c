"""A program in the canonical layout, for `--fmt` (reference part 2, section 10.1).

Only white space changes, and what means nothing: a `;` that may be left out before `}` or after a map declaration is
written, a comma behind the last attach point is not. So the program stays the same one; all its words keep their
spelling, and all comments stay between the words where they are. Formatting a text twice changes nothing more.

A line ends where a statement or an item ends, around comments that have lines of their own, and, if it gets longer
than `WIDTH`, after commas and before `&&`, `||`, `?` and `:`, the outermost first.
"""

from __future__ import annotations

import re
from itertools import pairwise

from pytrace.grammar.data import dataclass
from pytrace.grammar.diagnostics import Diagnostics
from pytrace.grammar.lexer import Lexer
from pytrace.grammar.parser import parse
from pytrace.grammar.source import Source
from pytrace.grammar.spacing import NO_BREAK, Word, words_of

INDENT = "  "
CONTINUED = INDENT  # what the rest of a broken line is set in by
WIDTH = 120

_COMMENT = re.compile(r"//[^\n]*|/\*(?s:.*?)(?:\*/|\Z)")


def format_program(source: Source, builtin_words: frozenset[str]) -> str:
    """The text of a program in the canonical layout. Raises `CompileError` if it is none."""
    program = parse(source, builtin_words, Diagnostics())
    lexemes = list(Lexer(source, builtin_words).program())
    return _Layout(source).text([word for word in words_of(lexemes, program) if word.text])


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is never taken apart; see `Word` for `space` and `level`. Comments do not count as wide."""

    text: str
    space: bool
    level: int = NO_BREAK
    is_comment: bool = False


@dataclass(frozen=True, slots=True)
class _Comment:
    """A comment; `first` and `last` say that nothing but white space is before and behind it on its line(s)."""

    text: str
    column: int
    newlines: int  # in the white space before it
    first: bool
    last: bool

    @property
    def ends_line(self) -> bool:
        return self.text.startswith("//")

    @property
    def alone(self) -> bool:
        """Whether it has lines of its own."""
        return self.first and (self.last or self.ends_line)


class _Layout:
    """Writes the words of one source, with the comments between them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lines: list[str] = []
        self._pieces: list[_Piece] = []  # of the line that is being written
        self._margin = ""

    def text(self, words: list[Word]) -> str:
        """The whole text."""
        depth = 0
        for number, word in enumerate(words):
            before = words[number - 1] if number else None
            inside = depth if word.text[:1] != "}" else word.depth + 1
            self._gap(before, word, inside)
            depth = word.depth + (word.text == "{")
            self._pieces.append(_Piece(word.text, word.space or self._after_comment(), word.level))
        self._gap(words[-1] if words else None, None, 0)
        self._end_line()
        return "".join(f"{line}\n" for line in self._lines)

    def _after_comment(self) -> bool:
        return bool(self._pieces) and self._pieces[-1].is_comment

    def _gap(self, before: Word | None, after: Word | None, depth: int) -> None:
        """What is between two words: comments, and the end of the line if one is due."""
        comments, newlines = self._comments(before, after)
        due = before is None or after is None or after.begins
        if after and after.text.startswith("}"):
            due |= any(comment.alone or comment.ends_line for comment in comments)
        outer = due or (after is not None and after.text in ("else", "{"))  # a new line is not set in further
        may_spread = before is not None and before.text != "{"
        fresh = before is None  # whether the line has ended
        for comment in comments:
            if comment.alone or (due and not comment.last and not comment.ends_line):
                if not fresh:
                    self._new_line(INDENT * depth, outer)
                self._spread(may_spread and comment.newlines > 1)
                fresh = False
            self._comment(comment)
            may_spread = True
            fresh = comment.alone or comment.ends_line
            if fresh:
                self._new_line(INDENT * depth, outer)
            elif due and not comment.last:
                due = False  # it is about what follows on its line
        if after is None:
            return
        if due or fresh:
            self._new_line(INDENT * after.depth, outer)
            self._spread(may_spread and after.spread and newlines > 1)

    def _comments(self, before: Word | None, after: Word | None) -> tuple[list[_Comment], int]:
        """The comments in a gap, and the newlines between the last of them and the next word."""
        text = self._source.text
        at, end = before.end if before else 0, after.start if after else len(text)
        found: list[_Comment] = []
        matches = list(_COMMENT.finditer(text, at, end))
        starts = [match.start() for match in matches] + [end]
        for match, following in zip(matches, starts[1:], strict=True):
            newlines = text.count("\n", at, match.start())
            first = newlines > 0 or at == 0
            last = "\n" in text[match.end() : following] or following == len(text)
            column = self._source.position(match.start())[1] - 1
            found.append(_Comment(match[0], column, newlines, first, last))
            at = match.end()
        return found, text.count("\n", at, end)

    def _comment(self, comment: _Comment) -> None:
        """Write a comment; the lines of one that is alone move together."""
        first, *more = (line.rstrip() for line in comment.text.rstrip().split("\n"))  # it may not be closed
        if comment.alone and all(line.lstrip().startswith("*") for line in more):
            more = [f"{self._margin} {line.lstrip()}" for line in more]
        elif comment.alone:
            more = [_moved(line, len(self._margin) - comment.column) for line in more]
        self._pieces.append(_Piece("\n".join([first, *more]), True, is_comment=True))

    # ---- lines

    def _new_line(self, margin: str, due: bool) -> None:
        """End the line; what follows is set in further unless the end was due."""
        self._end_line()
        self._margin = margin if due else margin + CONTINUED

    def _end_line(self) -> None:
        if self._pieces:
            for number, line in enumerate(_broken(self._pieces, WIDTH - len(self._margin))):
                self._lines += (self._margin + (CONTINUED if number else "") + line).split("\n")
            self._pieces = []

    def _spread(self, wanted: bool) -> None:
        if wanted and self._lines and self._lines[-1]:
            self._lines.append("")


def _moved(line: str, by: int) -> str:
    """A line of a comment, moved to the right or, as far as it has white space, to the left."""
    if by >= 0:
        return " " * by + line if line else ""
    return line[min(-by, len(line) - len(line.lstrip())) :]


# ---------------------------------------------------------------- long lines


def _joined(pieces: list[_Piece]) -> str:
    return "".join((" " if piece.space and i else "") + piece.text for i, piece in enumerate(pieces))


def _width(pieces: list[_Piece]) -> int:
    return sum(len(piece.text) + piece.space for piece in pieces if not piece.is_comment)


def _broken(pieces: list[_Piece], width: int) -> list[str]:
    """A line as lines that are no wider, as far as it can be broken."""
    return [_joined(line) for line in _split(pieces, width)]


def _split(pieces: list[_Piece], width: int) -> list[list[_Piece]]:
    """The pieces of each line: as much as fits, broken at the outermost level; what is too wide still, further in."""
    levels = {piece.level for piece in pieces[1:]} - {NO_BREAK}
    if not levels or _width(pieces) <= width:
        return [pieces]
    level = min(levels)
    starts = [0, *(i for i, piece in enumerate(pieces) if i and piece.level == level), len(pieces)]
    lines: list[list[_Piece]] = []
    for start, end in pairwise(starts):
        part = pieces[start:end]
        if lines and _width(lines[-1] + part) <= width - len(CONTINUED):
            lines[-1] += part
        else:
            lines += _split(part, width - len(CONTINUED) * bool(lines))
    return lines
