"""Lexemes, and what reading them needs everywhere: places, white space, brackets."""

from __future__ import annotations

import re

from pytrace.grammar.data import dataclass
from pytrace.grammar.diagnostics import Diagnostic, Label, Severity
from pytrace.grammar.source import Source, Span


@dataclass(frozen=True, slots=True, eq=False)
class Lexeme:
    """A terminal of `program.lark`; `value` is that of a literal, or the name without its sigil."""

    type: str
    span: Span
    value: int | bytes | bool | str = ""

    @property
    def text(self) -> str:
        """The characters it was made from."""
        return self.span.text


class SyntaxProblem(Exception):
    """The text is not a program; carries the message."""

    def __init__(
        self,
        code: str,
        message: str,
        span: Span,
        labels: tuple[Label, ...] = (),
        hints: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.diagnostic = Diagnostic(Severity.ERROR, code, message, span, labels, hints)


# opening terminals and what closes each
BRACKET_PAIRS = {
    **dict.fromkeys(("LPAREN", "CAST_OPEN", "RECORD_OPEN", "COND_OPEN", "FOR_OPEN", "OFFSETOF_OPEN"), "RPAREN"),
    "LBRACE": "RBRACE",
    "LBRACKET": "RBRACKET",
    "PREDICATE_START": "PREDICATE_END",
}

# pieces of patterns
SKIP_TEXT = r"(?>[ \t\r\n]+|//[^\n]*|/\*(?s:.*?)(?:\*/|\Z))*+"
WORD_TEXT = r"[A-Za-z_][A-Za-z0-9_]*+"
DIGITS_TEXT = r"[0-9][0-9A-Za-z_]*+"

SKIP = re.compile(SKIP_TEXT)
WORD = re.compile(WORD_TEXT)
STRING = re.compile(r'"(?:[^"\\\n]|\\[^\n])*+')
BRACKETS = re.compile(r"[(\[{]|[)\]}]|" + STRING.pattern + r'"?|//[^\n]*|/\*(?s:.*?)(?:\*/|\Z)')


class Scanner:
    """A place in a source, and the lexemes made up to there."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = source.text
        self.position = 0
        self.lexemes: list[Lexeme] = []
        self._closers: dict[int, int] = {}

    def end(self) -> Lexeme:
        """The lexeme that stands for the end of the text, just after the last one."""
        at = self.lexemes[-1].span.end if self.lexemes else len(self.text)
        return Lexeme("$END", self.source.span(at, at))

    def _skip(self) -> bool:
        """Pass white space and comments; whether there is text left."""
        self.position = end_of(SKIP.match(self.text, self.position))
        return self.position < len(self.text)

    def _make(self, kind: str, end: int, value: int | bytes | bool | str = "") -> Lexeme:
        """The lexeme from here to `end`."""
        lexeme = Lexeme(kind, self.source.span(self.position, end), value)
        self.position = end
        self.lexemes.append(lexeme)
        return lexeme

    def _before(self, count: int = 1) -> str:
        """The type of the lexeme `count` places back, empty at the start."""
        return self.lexemes[-count].type if len(self.lexemes) >= count else ""

    def _problem(
        self, code: str, message: str, start: int, end: int, *hints: str, labels: tuple[Label, ...] = ()
    ) -> SyntaxProblem:
        return SyntaxProblem(code, message, self.source.span(start, end), labels, hints)

    def _line_end(self, at: int) -> int:
        """The offset of the newline that ends the line of `at`, or the end of the text."""
        end = self.text.find("\n", at)
        return len(self.text) if end < 0 else end

    def _line(self, kind: str) -> Lexeme:
        """The rest of the physical line."""
        end = self._line_end(self.position)
        return self._make(kind, end, self.text[self.position : end].rstrip("\r"))

    def _closer(self, at: int) -> int:
        """The offset of the bracket that closes the one at `at`, or -1. Strings and comments are passed."""
        if at in self._closers:
            return self._closers[at]
        stack: list[int] = []
        for match in BRACKETS.finditer(self.text, at):
            if match[0] in ("(", "[", "{"):
                stack.append(match.start())
            elif match[0] in (")", "]", "}"):
                self._closers[stack.pop()] = match.start()
                if not stack:
                    return match.start()
        self._closers.update(dict.fromkeys(stack, -1))
        return -1


def end_of(match: re.Match[str] | None) -> int:
    """Where a match ends; 0 for none."""
    return match.end() if match else 0
