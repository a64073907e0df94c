"""From program text to lexemes (reference part 1, sections 1 and 6.5).

The language needs context below the grammar: attach points are raw text, `/` may close a predicate,
words are keywords by position, and `(` may open a cast, a record or a condition. All of this is decided
by the lexer, from the lexemes before and the text ahead, so that the grammar itself is plain LALR(1).

The lexer is lazy: it is never ahead of the parser, so the first error in the text is the one reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytrace.grammar.diagnostics import Label
from pytrace.grammar.lexeme import SKIP, SKIP_TEXT, WORD, Lexeme, SyntaxProblem, end_of
from pytrace.grammar.lexer_code import CodeLexer
from pytrace.grammar.source import Source

ITEM_WORDS = ("config", "import", "macro", "fn", "let")
ATTACH = re.compile(r'(?:"(?:\\(?s:.)|[^"\\])*+"|[^"{, \t\r\n/:])++')
# a `#` alone is allowed; what follows the word is the C front end's business
C_DIRECTIVE = re.compile(
    r"#[ \t]*(?:(?:include(_next)?|import|define|undef|(el)?if(n?def)?|else|endif|pragma|error|warning|line|ident)\b"
    r"|[\r\n]|\Z|\d|//|/\*)"
)
C_HEAD = re.compile(r"(?:struct|union|enum)\b")
C_ATTRIBUTE = re.compile(rf"{SKIP_TEXT}__attribute__{SKIP_TEXT}(?=\()")


class Lexer(CodeLexer):
    """The lexemes of one source."""

    def __init__(self, source: Source, builtin_words: frozenset[str]) -> None:
        super().__init__(source, builtin_words)
        self.section = 0  # 0 C text, 1 config and imports, 2 everything else
        self.config: Lexeme | None = None

    def program(self) -> Iterator[Lexeme]:
        """The lexemes of a whole program."""
        self._skip()
        if self.text.startswith("#!", self.position):
            yield self._line("SHEBANG")
        while self._skip():
            yield from self._item()

    def expression(self) -> Iterator[Lexeme]:
        """The lexemes of a text that is one expression."""
        yield from self._code(())

    def _item(self) -> Iterator[Lexeme]:
        """One item of the top level, or the `;` after a map declaration."""
        text, at = self.text, self.position
        if text[at] == ";" and self.mode == "let":
            self.mode = ""
            yield self._make("SEMI", at + 1)
            return
        self.mode = ""
        if text[at] == "#":
            yield self._c_line()
        elif C_HEAD.match(text, at) and (end := self._c_definition_end()) is not None:
            self._order_of_c(end)
            yield self._make("C_TEXT", end)
        elif (match := WORD.match(text, at)) and match[0] in ITEM_WORDS:
            yield from self._headed_item(match[0])
        else:
            self.section = 2
            yield from self._probe()

    def _headed_item(self, word: str) -> Iterator[Lexeme]:
        """An item that begins with a keyword."""
        self.mode = word
        first = self._make(word.upper(), self.position + len(word))
        if word in ("config", "import"):
            self._order_of_config(first)
            self.section = max(self.section, 1)
        else:
            self.section = 2
        yield first
        if word == "let":
            self._root_let(first)
        ends = {"config": ("RBRACE",), "import": ("SEMI",), "let": ("RPAREN", "SEMI")}
        yield from self._code(ends.get(word, ("RBRACE",)))
        if word != "let":
            self.mode = ""

    def _order_of_config(self, first: Lexeme) -> None:
        if self.section == 2:
            message = f"{first.text} must appear before probes and functions"
            raise SyntaxProblem("err.syntax.order", message, first.span)
        if first.type == "CONFIG":
            if self.config:
                label = Label(self.config.span, "first config block")
                hint = "Put all settings into one config block."
                raise SyntaxProblem("err.syntax.order", "duplicate config block", first.span, (label,), (hint,))
            self.config = first

    def _root_let(self, first: Lexeme) -> None:
        self._skip()
        if not self.text.startswith("@", self.position):
            end = end_of(re.compile(r"\$?\w*", re.ASCII).match(self.text, self.position))
            raise self._problem(
                "err.syntax.mapdecl",
                "root-level let must be a map declaration",
                self.position,
                max(end, self.position),
                "Declare a map: let @name = hash(100);",
            )

    def _order_of_c(self, end: int) -> None:
        if self.section:
            raise self._problem(
                "err.syntax.order",
                "C definitions must appear before probes and functions",
                self.position,
                min(end, self._line_end(self.position)),
                "Move them to the top of the program, before config and imports.",
            )

    def _c_line(self) -> Lexeme:
        start = self.position
        end = self._line_end(start)
        if self.text.startswith("#!", start):
            message = "the shebang line must be the first line of the program"
            raise self._problem("err.syntax.order", message, start, end)
        if not C_DIRECTIVE.match(self.text, start):
            message = "invalid preprocessing directive"
            raise self._problem("err.syntax.expected", message, start, end, "A comment starts with '//'.")
        self._order_of_c(end)
        return self._line("C_TEXT")

    def _c_definition_end(self) -> int | None:
        """Where the C definition that begins here ends, or None when it is none."""
        text, at = self.text, self.position
        while at < len(text) and text[at] != "{":
            if text[at] in "([":
                at = self._closer(at)
                if at < 0:
                    return None
            elif not (text[at] in " \t\r\n_" or text[at].isalnum()):
                return None
            at += 1
        if at >= len(text):
            return None
        close = self._c_body_end(at)
        if close < 0:
            label = Label(self.source.span(at, at + 1), "opened here")
            end = len(text.rstrip())
            raise self._problem("err.syntax.expected", "expected '}'", end, end, labels=(label,))
        close += 1
        while (match := C_ATTRIBUTE.match(text, close)) and (found := self._closer(match.end())) >= 0:
            close = found + 1
        after = end_of(SKIP.match(text, close))
        return after + 1 if text.startswith(";", after) else close

    def _c_body_end(self, at: int) -> int:
        """The `}` that balances the `{` at `at`; only comments are passed, as C has no strings here."""
        depth = 0
        for match in re.compile(r"[{}]|//[^\n]*|/\*(?s:.*?)(?:\*/|\Z)").finditer(self.text, at):
            depth += {"{": 1, "}": -1}.get(match[0], 0)
            if depth == 0:
                return match.start()
        return -1

    def _probe(self) -> Iterator[Lexeme]:
        """Attach points, predicate and block of a probe."""
        yield self._attach_text()
        while self._skip() and self.text[self.position] == ",":
            yield self._make("COMMA", self.position + 1)
            if not self._skip() or self.text[self.position] in "{/":
                break
            yield self._attach_text()
        if self._skip() and self.text[self.position] == "/":
            self.mode = "predicate"
            yield self._make("PREDICATE_START", self.position + 1)
            yield from self._code(("PREDICATE_END",))
            self.mode = ""
            self._skip()
        if self.text.startswith("{", self.position):
            yield from self._code(("RBRACE",))
        elif self.position < len(self.text):
            yield self._unknown()

    def _attach_text(self) -> Lexeme:
        """One attach point as raw text (1.8): a `/` ends it only while no `:` has been seen."""
        text, start = self.text, self.position
        if text[start] in "{};,)]/=":
            hint = {
                "}": "No block is open here; remove the '}'.",
                ";": "A probe's block needs no ';' after it.",
            }.get(text[start], "A probe is written as: attach-point /predicate/ { statements }")
            message = f"expected attach point, found '{text[start]}'"
            raise self._problem("err.syntax.expected", message, start, start + 1, hint)
        end, colon = start, False
        while end < len(text):
            if match := ATTACH.match(text, end):
                end = match.end()
            elif text[end] == ":":
                colon, end = True, end + 1
            elif text[end] == "/" and colon:
                end += 1
            elif text[end] == '"':
                hint = "Close the quoted part of the attach point with '\"'."
                line = self._line_end(end)
                raise self._problem("err.syntax.string", "unterminated string", end, line, hint)
            else:
                break
        return self._make("ATTACH", end, text[start:end])
