"""The words of a program and what the canonical layout puts between them: for `formatter`."""

from __future__ import annotations

from collections.abc import Iterator

from pytrace.grammar import nodes
from pytrace.grammar.data import dataclass
from pytrace.grammar.lexeme import BRACKET_PAIRS, Lexeme

NO_BREAK = -1

_ITEMS = frozenset({"SHEBANG", "C_TEXT", "CONFIG", "IMPORT", "MACRO", "FN", "LET", "ATTACH"})
_PARENTHESES = frozenset(kind for kind, closer in BRACKET_PAIRS.items() if closer == "RPAREN")
_CALLED = frozenset({"IDENT", "NAME", "SIZEOF", "OFFSETOF", "TYPEINFO", "TYPEOF"})  # a `(` follows without a space
_OPERAND_ENDS = frozenset(
    {"NAME", "IDENT", "TYPE_WORD", "VARIABLE", "MAP", "POSITIONAL", "COUNT", "INTEGER", "STRING", "BOOL", "INCDEC"}
) | {"RPAREN", "RBRACKET", "RBRACE"}
_TIGHT_BEFORE = frozenset({"COMMA", "SEMI", "RPAREN", "LBRACKET", "RBRACKET", "DOT", "ARROW", "DOTDOT", "STEP"})
_TIGHT_AFTER = _PARENTHESES | {"LBRACKET", "DOT", "ARROW", "DOTDOT"}
_SIGNS = frozenset({"MINUS", "STAR", "AMP", "NOT", "INCDEC"})  # the operators that may stand before their operand
_BREAKS_BEFORE = frozenset({"ANDAND", "OROR", "QUESTION"})
_HEADS = frozenset({"ATTACH", "COMMA", "PREDICATE_END"})  # what stands before the `{` of a probe
# what may be the last part of a block without a `;`, and is the same with one
_OPEN_ENDED = (nodes.Let, nodes.Assign, nodes.Discard, nodes.Jump, nodes.Return)


@dataclass(frozen=True, slots=True)
class Word:
    """A lexeme as it is written, and how it stands to the one before.

    `begins` says that it begins a statement or an item, on a line of its own; `depth` counts the blocks around that
    line. `space`: a space separates it from a word before it on the same line. `level` says how willingly a long line
    is broken before it, the lowest first. `spread` says that an empty line before it is kept.
    """

    start: int
    end: int
    text: str
    begins: bool
    depth: int
    space: bool
    level: int
    spread: bool


def words_of(lexemes: list[Lexeme], program: nodes.Program) -> Iterator[Word]:
    """The words of a program, in order; what means nothing comes with an empty text."""
    yield from _Reader(lexemes, program).words()


class _Reader:
    """Goes through the lexemes; the tree says which `}` end a statement and which lack a `;` before them."""

    def __init__(self, lexemes: list[Lexeme], program: nodes.Program) -> None:
        self._lexemes = lexemes
        self._ends, self._unfinished = _places(program)
        self._open: list[str] = []  # the types of the open brackets
        self._blocks = 0
        self._item = ""  # the keyword of the item, empty in blocks
        self._closed = ""  # the bracket that the last closing one has closed
        self._prefix = self._in_type = False  # whether the lexeme before is a prefix operator, part of a type

    def words(self) -> Iterator[Word]:
        """See `words_of`."""
        for i, lexeme in enumerate(self._lexemes):
            before = self._lexemes[i - 1].type if i else ""
            begins = i > 0 and self._begins(i)
            if not self._open and lexeme.type in _ITEMS:
                self._item = lexeme.type
            space, level = self._is_spaced(i, before), self._level(i, before)
            head = not self._blocks and before in _HEADS
            self._note(lexeme, before)
            yield Word(
                lexeme.span.start, lexeme.span.end, self._text(i, before), begins,
                self._blocks - (lexeme.type == "LBRACE"), space, level, lexeme.type != "RBRACE" and not head,
            )  # fmt: skip

    # ---- lines

    def _begins(self, i: int) -> bool:
        before, kind = self._lexemes[i - 1].type, self._lexemes[i].type
        if kind == "RBRACE":
            return before != "LBRACE"
        if kind == "SEMI":
            return False
        if before in ("LBRACE", "SEMI"):
            return True
        if before == "RBRACE" and self._lexemes[i - 1].span.end in self._ends:
            return kind not in ("RPAREN", "RBRACKET", "COMMA", "PREDICATE_END")
        if self._open:
            return False
        if before == "PREDICATE_END" or kind == "PREDICATE_START":
            return True
        if kind == "LBRACE":
            return before in _HEADS
        return kind in _ITEMS and (kind != "LET" or before != "SEMI")

    def _level(self, i: int, before: str) -> int:
        depth, kind = 2 * len(self._open), self._lexemes[i].type
        if before == "COMMA" and self._open:
            return depth
        ternary = kind == "COLON" and before != "QUESTION" and not self._annotates(i)
        return depth + 1 if kind in _BREAKS_BEFORE or ternary else NO_BREAK

    # ---- what is written

    def _text(self, i: int, before: str) -> str:
        lexeme = self._lexemes[i]
        following = self._lexemes[i + 1] if i + 1 < len(self._lexemes) else None
        kind, text, after = lexeme.type, lexeme.text, following.type if following else ""
        if kind == "SEMI" and before in ("SEMI", "LBRACE"):
            return ""  # only between settings
        if kind == "COMMA" and not self._open and after in ("LBRACE", "PREDICATE_START"):
            return ""
        if kind in ("SHEBANG", "C_TEXT"):
            return text.rstrip("\r")
        lacks = after == "RBRACE" and following is not None and following.span.end in self._unfinished
        lacks |= kind == "RPAREN" and self._item == "LET" and not self._blocks and not self._open
        return f"{text};" if lacks and kind != "SEMI" and after != "SEMI" else text

    # ---- spaces

    def _is_spaced(self, i: int, before: str) -> bool:
        kind, text = self._lexemes[i].type, self._lexemes[i].text
        if self._prefix:
            # `--$x` and `- -$x` are not the same
            return before == "MINUS" and text[0] == "-"
        if kind in _TIGHT_BEFORE or before in _TIGHT_AFTER or kind == "PREDICATE_END":
            return False
        if before == "PREDICATE_START":
            return text[0] in "*/"  # `/*` and `//` would begin comments
        if before == "RPAREN" and self._closed == "CAST_OPEN":
            return False
        if kind in _PARENTHESES:
            return before not in _CALLED
        if kind == "COLON":
            return before != "QUESTION" and not self._annotates(i)
        if kind == "INCDEC":
            return before not in _OPERAND_ENDS
        return not (kind == before == "STAR" and self._in_type)

    def _annotates(self, i: int) -> bool:
        """Whether a `:` has a type behind it: `let $x: type`, `fn f($x: type): type`."""
        return self._item == "FN" or (i > 1 and self._lexemes[i - 2].type == "LET")

    # ---- state

    def _note(self, lexeme: Lexeme, before: str) -> None:
        kind = lexeme.type
        was_operand = before in _OPERAND_ENDS and not (before == "RPAREN" and self._closed == "CAST_OPEN")
        in_type = kind == "TYPE_WORD" or (self._in_type and kind in ("STAR", "LBRACKET", "INTEGER", "RBRACKET"))
        self._prefix = kind in _SIGNS and not in_type and (kind == "NOT" or not (was_operand and not self._prefix))
        self._in_type = in_type
        if kind in BRACKET_PAIRS:
            self._open.append(kind)
            if kind == "LBRACE":
                self._blocks += 1
                self._item = ""
        elif kind in BRACKET_PAIRS.values():
            self._closed = self._open.pop()
            self._blocks -= kind == "RBRACE"


def _places(program: nodes.Program) -> tuple[frozenset[int], frozenset[int]]:
    """The offsets behind each `}` that ends a statement or item, and behind each whose block lacks a last `;`."""
    ends, unfinished = set[int](), set[int]()
    for item in program.items:
        if isinstance(item, nodes.Probe | nodes.Macro | nodes.Function):
            ends.add(item.body.span.end)
    if program.config:
        ends.add(program.config.span.end)
        unfinished.add(program.config.span.end)
    for block in (node for node in nodes.walk(program) if isinstance(node, nodes.Block)):
        for statement in block.statements:
            match statement:
                case nodes.While() | nodes.Unroll() | nodes.For():
                    ends.add(statement.body.span.end)
                case nodes.ExprStatement(value=nodes.If() | nodes.Block()):
                    ends.add(_last_block(statement.value).span.end)
                case _:
                    pass
        last = block.statements[-1] if block.statements and not block.value else None
        is_step = isinstance(last, nodes.ExprStatement) and isinstance(last.value, nodes.IncDec)
        if isinstance(last, _OPEN_ENDED) or is_step:
            unfinished.add(block.span.end)
    return frozenset(ends), frozenset(unfinished)


def _last_block(expr: nodes.Expr) -> nodes.Expr:
    while isinstance(expr, nodes.If):
        expr = expr.otherwise or expr.then
    return expr
