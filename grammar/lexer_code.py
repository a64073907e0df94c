"""The lexemes of blocks and expressions: words, literals, operators, parentheses, types."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytrace.grammar.data import dataclass
from pytrace.grammar.lexeme import (
    DIGITS_TEXT,
    SKIP,
    SKIP_TEXT,
    STRING,
    WORD,
    WORD_TEXT,
    Lexeme,
    Scanner,
    end_of,
)
from pytrace.grammar.literals import MAX_INT64, LiteralError, parse_integer, parse_string
from pytrace.grammar.source import Source

OPERATORS = {
    **dict.fromkeys(("+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="), "COMPOUND"),
    **dict.fromkeys(("==", "!="), "EQUALITY"),
    **dict.fromkeys(("<", "<=", ">", ">="), "RELATION"),
    **dict.fromkeys(("<<", ">>"), "SHIFT"),
    **dict.fromkeys(("++", "--"), "INCDEC"),
    **dict.fromkeys(("!", "~"), "NOT"),
    "=": "ASSIGN", "||": "OROR", "&&": "ANDAND", "|": "PIPE", "^": "CARET", "&": "AMP",
    "+": "PLUS", "-": "MINUS", "*": "STAR", "/": "SLASH", "%": "PERCENT", "?": "QUESTION",
    ":": "COLON", ";": "SEMI", ",": "COMMA", ".": "DOT", "->": "ARROW", "..": "DOTDOT",
    "(": "LPAREN", ")": "RPAREN", "{": "LBRACE", "}": "RBRACE", "[": "LBRACKET", "]": "RBRACKET",
}  # fmt: skip

# keywords where a statement starts; `_` and `else` have rules of their own
STATEMENT_WORDS = {
    "let": "LET", "break": "JUMP", "continue": "JUMP", "return": "RETURN", "while": "WHILE",
    "unroll": "UNROLL", "for": "FOR", "import": "IMPORT",
}  # fmt: skip
EXPRESSION_WORDS = {"if": "IF", "comptime": "COMPTIME", "true": "BOOL", "false": "BOOL"}
# keywords when `(` follows
OPERAND_WORDS = {"sizeof": "SIZEOF", "offsetof": "OFFSETOF", "typeinfo": "TYPEINFO", "typeof": "TYPEOF"}

# a variable, map or word after one of these begins a statement
_STARTS = ("LBRACE", "RBRACE", "SEMI")

_TYPE = (
    rf"(?:(?:struct|union|enum)\b{SKIP_TEXT}{WORD_TEXT}|(?P<word>{WORD_TEXT})){SKIP_TEXT}"
    rf"(?:(?:\*|\[{SKIP_TEXT}(?:{DIGITS_TEXT}{SKIP_TEXT})?\]){SKIP_TEXT})*+"
)
# what may follow a cast: a character that starts an operand, and no operator made of such characters
_STARTER = r"(?=[0-9A-Za-z_$@\"(\-!~*&])(?!&&|!=|->|[-*&]=)"

NUMBER = re.compile(DIGITS_TEXT)
OPERATOR = re.compile("|".join(map(re.escape, sorted(OPERATORS, key=len, reverse=True))))
POSITIONAL = re.compile(r"\$[0-9]+")
CAST = re.compile(rf"\({SKIP_TEXT}{_TYPE}\){SKIP_TEXT}{_STARTER}")
TYPEOF_CAST = re.compile(rf"\({SKIP_TEXT}typeof{SKIP_TEXT}(?=\()")
AFTER_TYPEOF_CAST = re.compile(rf"{SKIP_TEXT}\){SKIP_TEXT}{_STARTER}")
RECORD = re.compile(rf"\({SKIP_TEXT}(?P<word>{WORD_TEXT}){SKIP_TEXT}=(?!=)")
TYPE_OPERAND = re.compile(rf"{SKIP_TEXT}{_TYPE}(?=[,)])")
STRUCT_WORD = re.compile(rf"(?:struct|union|enum)\b(?={SKIP_TEXT}{WORD_TEXT})")


@dataclass(slots=True)
class _Open:
    """An open bracket, and what its kind makes of the words and the `++` after it."""

    lexeme: Lexeme
    starts_statement: bool = False  # the `[` of a map element that begins a statement


class CodeLexer(Scanner):
    """Reads blocks and expressions. `builtin_words` are the names of builtin values (rule 6.5)."""

    def __init__(self, source: Source, builtin_words: frozenset[str]) -> None:
        super().__init__(source)
        self.builtin_words = builtin_words
        self.mode = ""  # the item whose head is being read, or "predicate"; empty in blocks
        self._open: list[_Open] = []
        self._closed_lvalue = False  # whether the last closed bracket has `starts_statement`

    def _code(self, ends: tuple[str, ...]) -> Iterator[Lexeme]:
        """Lexemes up to and including the first of `ends` outside all brackets."""
        while self._skip():
            for lexeme in self._next():
                yield lexeme
                if lexeme.type in ends and not self._open:
                    return
        self._open.clear()

    def _next(self) -> Iterator[Lexeme]:
        text, at = self.text, self.position
        char = text[at]
        if char == '"':
            yield self._string()
        elif char == "$":
            yield self._dollar()
        elif char == "@":
            end = end_of(WORD.match(text, at + 1)) or at + 1
            yield self._make("MAP", end, text[at + 1 : end])
        elif match := WORD.match(text, at):
            yield self._word(match[0])
        elif match := NUMBER.match(text, at):
            yield self._number(match[0])
        elif match := OPERATOR.match(text, at):
            yield from self._operator(match[0])
        else:
            yield self._unknown()

    def _unknown(self) -> Lexeme:
        """A character or word that fits nowhere; the parser says what it wanted instead."""
        match = re.compile(r"[$@]?\w+", re.ASCII).match(self.text, self.position)
        return self._make("UNKNOWN", match.end() if match else self.position + 1)

    def _string(self) -> Lexeme:
        start = self.position
        end = end_of(STRING.match(self.text, start))
        if not self.text.startswith('"', end):
            line = self._line_end(start)
            hint = "Close the string with '\"' on the same line; a newline in it is written \\n."
            raise self._problem("err.syntax.string", "unterminated string", start, line, hint)
        try:
            value = parse_string(self.text[start + 1 : end])
        except LiteralError as error:
            first = start + 1 + error.start
            last = start + 1 + (error.end or error.start + 1)
            hint = 'The escapes are \\n \\t \\r \\" \\\\, octal \\0 to \\377 and hexadecimal \\x41.'
            raise self._problem("err.syntax.string", str(error), first, last, hint) from None
        return self._make("STRING", end + 1, value)

    def _number(self, digits: str) -> Lexeme:
        start, end = self.position, self.position + len(digits)
        try:
            value = parse_integer(digits)
        except LiteralError as error:
            raise self._problem("err.syntax.int", str(error), start, end) from None
        if self._before() == "DOT" and re.search(r"[g-wyzG-WYZ]", digits):
            message = "expected field name or tuple index: an index has no suffix"
            raise self._problem("err.syntax.expected", message, start, end)
        return self._make("INTEGER", end, value)

    def _dollar(self) -> Lexeme:
        text, start = self.text, self.position
        if text.startswith("$#", start):
            return self._make("COUNT", start + 2)
        if match := WORD.match(text, start + 1):
            return self._make("VARIABLE", match.end(), match[0])
        match = POSITIONAL.match(text, start)
        digits = match[0][1:] if match else ""
        if match and digits[0] != "0" and len(digits) <= 19 and int(digits) <= MAX_INT64:
            return self._make("POSITIONAL", match.end(), int(digits))
        if match:
            message = f"positional parameter ${digits} out of range: legal are $1 to ${MAX_INT64}"
            raise self._problem("err.syntax.param", message, start, match.end())
        message = "expected a name, a number from 1 or '#' after '$'"
        raise self._problem("err.syntax.param", message, start, start + 1)

    def _word(self, word: str) -> Lexeme:
        kind, value = self._word_kind(word), word
        if kind == "BOOL":
            return self._make(kind, self.position + len(word), word == "true")
        return self._make(kind, self.position + len(word), value)

    def _word_kind(self, word: str) -> str:
        """Which terminal a word is, by its place."""
        before, opened = self._before(), self._open[-1].lexeme.type if self._open else ""
        if before in ("DOT", "ARROW", "RECORD_OPEN", "MACRO", "FN"):
            return "NAME"
        if before == "COMMA" and opened in ("RECORD_OPEN", "OFFSETOF_OPEN"):
            return "NAME"
        if self.mode == "config":
            return "BOOL" if before == "ASSIGN" and word in ("true", "false") else "NAME"
        if self.mode in ("macro", "let"):
            if self.mode == "macro" and word in self.builtin_words:
                end = self.position + len(word)
                message = f"builtin '{word}' cannot be a macro parameter"
                raise self._problem("err.macro.hygiene", message, self.position, end)
            return "NAME"
        if self._at_statement():
            if word == "else" and before == "RBRACE":
                return "ELSE"
            if word in STATEMENT_WORDS:
                return STATEMENT_WORDS[word]
            if word == "_" and self._follows(r"=(?!=)", word):
                return "DISCARD"
        if word in OPERAND_WORDS and self._follows(r"\(", word):
            return OPERAND_WORDS[word]
        return EXPRESSION_WORDS.get(word, "IDENT")

    def _at_statement(self) -> bool:
        return self._before() in _STARTS

    def _follows(self, pattern: str, word: str) -> bool:
        return bool(re.compile(SKIP_TEXT + pattern).match(self.text, self.position + len(word)))

    def _operator(self, operator: str) -> Iterator[Lexeme]:
        end = self.position + len(operator)
        kind = OPERATORS[operator]
        match operator:
            case "(":
                yield from self._parenthesis()
            case "[" | "{":
                begins = self._before() == "MAP" and self._before(2) in _STARTS
                if operator == "{" and self.mode in ("macro", "fn"):
                    self.mode = ""
                yield self._opened(kind, begins)
            case ")" | "]" | "}":
                self._closed_lvalue = self._open.pop().starts_statement if self._open else False
                yield self._make(kind, end)
            case "++" | "--":
                yield self._make("STEP" if self._lvalue_before() else kind, end)
            case "/" if self.mode == "predicate" and self._follows(r"\{", operator):
                yield self._make("PREDICATE_END", end)
            case ":":
                yield self._make(kind, end)
                if self.mode == "fn" or (self._before(2), self._before(3)) == ("VARIABLE", "LET"):
                    yield from self._type()
            case _:
                yield self._make(kind, end)

    def _opened(self, kind: str, starts_statement: bool = False) -> Lexeme:
        lexeme = self._make(kind, self.position + 1)
        self._open.append(_Open(lexeme, starts_statement))
        return lexeme

    def _lvalue_before(self) -> bool:
        """Whether the lexeme before ends a variable or map with which a statement begins."""
        before = self._before()
        if before in ("VARIABLE", "MAP"):
            return self._before(2) in _STARTS
        return before == "RBRACKET" and self._closed_lvalue

    # ------------------------------------------------------------ parentheses and types

    def _parenthesis(self) -> Iterator[Lexeme]:
        """`(`: of a call, condition, loop, type operand, record, cast or group (6.5)."""
        match self._before():
            case "IDENT" | "NAME":
                yield self._opened("LPAREN")
            case "IF" | "WHILE" | "UNROLL":
                yield self._opened("COND_OPEN")
            case "FOR":
                yield self._opened("FOR_OPEN")
            case "SIZEOF" | "TYPEOF" | "TYPEINFO":
                yield self._opened("LPAREN")
                yield from self._type_operand()
            case "OFFSETOF":
                yield self._opened("OFFSETOF_OPEN")
                yield from self._type_operand()
            case _:
                yield from self._group()

    def _group(self) -> Iterator[Lexeme]:
        text, at = self.text, self.position
        record = RECORD.match(text, at)
        if record and not self._is_value(record["word"]):
            yield self._opened("RECORD_OPEN")
        elif (cast := CAST.match(text, at)) and not self._is_value(cast["word"]):
            yield self._opened("CAST_OPEN")
            yield from self._type()
        elif self._is_typeof_cast():
            yield self._opened("CAST_OPEN")
        else:
            yield self._opened("LPAREN")

    def _is_typeof_cast(self) -> bool:
        match = TYPEOF_CAST.match(self.text, self.position)
        close = self._closer(match.end()) if match else -1
        return close >= 0 and bool(AFTER_TYPEOF_CAST.match(self.text, close + 1))

    def _is_value(self, word: str | None) -> bool:
        return word in self.builtin_words or word in ("true", "false")

    def _type_operand(self) -> Iterator[Lexeme]:
        """The type in `sizeof(…)` and its like; nothing when an expression stands there."""
        text = self.text
        match = TYPE_OPERAND.match(text, self.position)
        if match and not self._is_value(match["word"]):
            yield from self._type()
            return
        # `sizeof((word))` is the type too: the parentheses mean nothing and are left out
        inner, groups = self.position, 0
        while (inner := end_of(SKIP.match(text, inner))) < len(text) and text[inner] == "(":
            inner, groups = inner + 1, groups + 1
        word = WORD.match(text, inner)
        if not groups or not word or self._is_value(word[0]):
            return
        end = word.end()
        for _ in range(groups):
            end = end_of(SKIP.match(text, end)) + 1
            if text[end - 1 : end] != ")":
                return
        if text.startswith((")", ","), end_of(SKIP.match(text, end))):
            self.position = inner
            yield self._make("TYPE_WORD", word.end(), word[0])
            self.position = end

    def _type(self) -> Iterator[Lexeme]:
        """The lexemes of a type: name, `*`, `[N]`. `typeof(…)` is left to the general rules."""
        text = self.text
        self._skip()
        if match := STRUCT_WORD.match(text, self.position):
            yield self._make("STRUCT", match.end(), match[0])
            self._skip()
        match = WORD.match(text, self.position)
        if not match or (match[0] == "typeof" and self._follows(r"\(", match[0])):
            return
        yield self._make("TYPE_WORD", match.end(), match[0])
        while self._skip():
            if text[self.position] == "*":
                yield self._make("STAR", self.position + 1)
            elif text[self.position] == "[":
                yield self._make("LBRACKET", self.position + 1)
                self._skip()
                if match := NUMBER.match(text, self.position):
                    yield self._number(match[0])
                    self._skip()
                if not text.startswith("]", self.position):
                    return
                yield self._make("RBRACKET", self.position + 1)
            else:
                return
