"""What to say about a lexeme that does not fit (reference part 1, section 12.1).

The parser knows which terminals it would have taken instead; what they stand for, and what the user
most likely meant, is worked out here from the lexemes before.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytrace.grammar.advice import GLUED
from pytrace.grammar.diagnostics import Diagnostic, Label, Severity
from pytrace.grammar.lexeme import BRACKET_PAIRS, Lexeme
from pytrace.grammar.source import STDIN

# terminals that only together mean that any operand would do
OPERAND = frozenset({"INTEGER", "VARIABLE", "IDENT", "LPAREN"})

_BINARY = frozenset(
    [
        "OROR",
        "ANDAND",
        "PIPE",
        "CARET",
        "AMP",
        "EQUALITY",
        "RELATION",
        "SHIFT",
        "PLUS",
        "MINUS",
        "STAR",
        "SLASH",
        "PERCENT",
        "QUESTION",
    ]
)

C_WORDS = frozenset(
    {"unsigned", "signed", "char", "short", "int", "long", "const", "var", "local", "u64", "u32"}
)
ELSE_IF = ("elif", "elsif", "elseif")
OTHER_LANGUAGES = {"and": "&&", "or": "||", "not": "!"}
DEFINITIONS = "Of C, a program has `#` lines and definitions of struct, union and enum; all else stands in headers."

# what may stand behind a `$1` that the shell has made nothing of
_ENDS = ("PREDICATE_END", "SEMI", "RPAREN", "RBRACKET", "RBRACE", "COMMA", "SLASH")

# what to name of several possibilities, most useful first
NAMED = (
    ("SEMI", "';'"),
    ("RPAREN", "')'"),
    ("RBRACKET", "']'"),
    ("PREDICATE_END", "'/'"),
    ("LBRACE", "'{'"),
    ("COLON", "':'"),
    ("RBRACE", "'}'"),
    ("ASSIGN", "'='"),
    ("TYPE_WORD", "type"),
    ("VARIABLE", "variable"),
    ("MAP", "map"),
    ("NAME", "name"),
    ("STRING", "string"),
    ("INTEGER", "integer"),
    ("LPAREN", "'('"),
    ("OFFSETOF_OPEN", "'('"),
    ("COMMA", "','"),
    ("ATTACH", "attach point"),
    ("$END", "end of input"),
)


def explain(lexemes: Sequence[Lexeme], found: Lexeme, wanted: frozenset[str]) -> Diagnostic:
    """The message for `found`, the first lexeme that does not fit; `wanted` would have.

    `lexemes` are those read so far; `found` is the last of them unless it is the end.
    """
    end = len(lexemes) - (found.type != "$END")
    # the lexer may have looked further than what the parser has taken
    before = list(lexemes[: lexemes.index(found) if found in lexemes else end])
    for rule in (_assignment, _operator_operand, _loop, _map_declaration):
        if message := rule(before, found, wanted):
            return message
    return _expected(before, found, wanted)


def _error(code: str, message: str, at: Lexeme, hints: Sequence[str] = (), labels: Sequence[Label] = ()) -> Diagnostic:
    return Diagnostic(Severity.ERROR, code, message, at.span, tuple(labels), tuple(hints))


def _types(lexemes: Sequence[Lexeme], count: int) -> tuple[str, ...]:
    """The types of the last `count` lexemes."""
    return tuple(lexeme.type for lexeme in lexemes[-count:])


# ---------------------------------------------------------------- special cases


def _assignment(before: list[Lexeme], found: Lexeme, wanted: frozenset[str]) -> Diagnostic | None:
    """`=` after something that cannot be assigned to."""
    if found.type not in ("ASSIGN", "COMPOUND") or "SEMI" not in wanted:
        return None
    last = _types(before, 2)
    if last and last[0] in ("DOT", "ARROW"):
        message = "tuples and records are immutable: their members cannot be assigned to"
        hint = "Build a new tuple or record and assign it to the variable."
        return _error("err.syntax.immutable", message, before[-1], (hint,))
    if last[-1:] == ("RBRACKET",):
        base = before[_opener(before) - 1]
        if base.type != "MAP":
            message = "invalid assignment target: only variables and map elements can be assigned to"
            hint = "Several keys are written @name[KEY, KEY]." if base.type == "RBRACKET" else ""
            if base.type in ("VARIABLE", "IDENT"):
                hint = f"Only maps have keys: @{base.text.lstrip('$')}[…] = …"
            return _error("err.syntax.target", message, base, (hint,) if hint else ())
    return None


def _opener(before: list[Lexeme]) -> int:
    """The index of the bracket that the last lexeme closes."""
    depth = 0
    for i in range(len(before) - 1, 0, -1):
        depth += (before[i].type == "RBRACKET") - (before[i].type == "LBRACKET")
        if depth == 0:
            return i
    return 1


def _operator_operand(before: list[Lexeme], found: Lexeme, wanted: frozenset[str]) -> Diagnostic | None:
    """Operators that work on names only."""
    match _types(before, 1):
        case ("INCDEC",) if {"VARIABLE", "MAP"} == wanted:
            return _error("err.syntax.incdec", f"'{before[-1].text}' needs a variable or map", found)
        case ("AMP",) if {"VARIABLE", "MAP"} == wanted:
            return _error("err.syntax.addrof", "'&' needs a variable or map", found)
    if found.type == "LBRACKET" and _types(before, 2) == ("AMP", "MAP"):
        message = "'&' needs a variable or a map without a key"
        return _error("err.syntax.addrof", message, found)
    return None


def _loop(before: list[Lexeme], found: Lexeme, wanted: frozenset[str]) -> Diagnostic | None:
    """The head of a `for` loop."""
    last = _types(before, 3)
    form = "Loops are written as: for ($i : 0..10) { … } or for ($kv : @map) { … }"
    if last[-1:] == ("FOR",) or last[-1:] == ("FOR_OPEN",):
        return _error("err.syntax.for", "expected variable", found, (form,))
    if last[-1:] == ("VARIABLE",) and set(last[-2:-1]) & {"FOR", "FOR_OPEN"}:
        return _error("err.syntax.expected", "expected ':'", found, (form,))
    hint = "A bound is a single operand; put anything longer in parentheses."
    if last[1:] == ("VARIABLE", "COLON") and last[0] in ("FOR", "FOR_OPEN"):
        return _error("err.syntax.for", "expected map or range", found, (hint,))
    heads = [i for i, lexeme in enumerate(before) if lexeme.type == "FOR"]
    in_head = bool(heads) and not any(lexeme.type == "LBRACE" for lexeme in before[heads[-1] :])
    ranges = in_head and any(lexeme.type == "DOTDOT" for lexeme in before[heads[-1] :])
    if last[-1:] == ("DOTDOT",):
        return _error("err.syntax.expr", "expected expression", found, (hint,))
    if ranges and found.type not in ("$END", "LBRACE") and not OPERAND <= wanted:
        return _error("err.syntax.expected", f"expected {_name(wanted)}", found, (hint,))
    return None


def _map_declaration(before: list[Lexeme], found: Lexeme, wanted: frozenset[str]) -> Diagnostic | None:
    """The number of entries in `let @m = hash(N)`."""
    if _types(before, 5) == ("LET", "MAP", "ASSIGN", "NAME", "LPAREN"):
        message = "a map declaration needs a positive integer"
        hint = "The number of entries is one integer literal: let @name = hash(100);"
        return _error("err.syntax.mapdecl", message, found, (hint,))
    return None


# ---------------------------------------------------------------- the general case


def _expected(before: list[Lexeme], found: Lexeme, wanted: frozenset[str]) -> Diagnostic:
    name = _name(wanted, found)
    code = "err.syntax.expr" if name == "expression" else "err.syntax.expected"
    labels: list[Label] = []
    opened = _open_bracket(before)
    if opened and name in ("')'", "']'", "'}'", "'/'"):
        labels.append(Label(opened.span, "opened here"))
    hints = _hints(before, found, name)
    if hints and hints[0].startswith("Is a '}' missing") and opened:
        labels.append(Label(opened.span, "this block is still open"))
    return _error(code, f"expected {name}", found, hints, labels)


def _name(wanted: frozenset[str], found: Lexeme | None = None) -> str:
    """The name of what was wanted."""
    if found and found.type == "$END" and "RBRACE" in wanted:
        return "'}'"
    if wanted >= OPERAND:
        return "expression"
    if wanted == {"NAME", "INTEGER"}:
        return "field name or tuple index"
    if {"STRING", "BOOL", "INTEGER", "NAME"} == wanted:
        return "value: string, integer, true, false or word"
    return next((name for terminal, name in NAMED if terminal in wanted), "end of input")


def _open_bracket(before: list[Lexeme]) -> Lexeme | None:
    """The innermost bracket that is still open."""
    stack: list[Lexeme] = []
    for lexeme in before:
        if lexeme.type in BRACKET_PAIRS:
            stack.append(lexeme)
        elif stack and lexeme.type == BRACKET_PAIRS[stack[-1].type]:
            stack.pop()
    return stack[-1] if stack else None


def _hints(before: list[Lexeme], found: Lexeme, name: str) -> tuple[str, ...]:
    """What to do about it, where that can be told."""
    last = _types(before, 1)[-1] if before else ""
    text = found.text[:1]
    if found.type == "COLON" and last == "IDENT" and _types(before, 2)[0] in ("SEMI", "RBRACE", "LBRACE"):
        return ("Is a '}' missing before this probe?",)
    if found.type == "COLON" and last == "VARIABLE" and name == "';'":
        return (f"A variable with a type is declared: let {before[-1].text}: type = …",)
    if _types(before, 2) == ("RBRACE", "INCDEC"):
        return ("Put a ';' between the block and what follows: it is read as one expression.",)
    if found.type == "LBRACE" and last == "IDENT" and name == "';'":
        return ("Is a '}' missing before this probe?",)
    if found.type == "ASSIGN" and name in ("')'", "'/'", "'{'"):
        return ("Comparison is written '=='; an assignment is a statement and has no value.",)
    if found.type == "ASSIGN" and name == "';'" and last == "IDENT":
        word = before[-1].text
        return (f"A variable is written ${word}, a map @{word}.",)
    if found.type == "ASSIGN" and name == "';'":
        return ("An assignment is a statement: it has no value and its target is a variable or map.",)
    if found.type == "UNKNOWN" and text == "'":
        return ("There are no character literals: write the number, or a string in double quotes.",)
    if found.type == "UNKNOWN" and text == "#":
        return ("A comment starts with '//'.",)
    if found.type == "SEMI" and last in ("SEMI", "LBRACE", "RBRACE"):
        return ("Remove the ';'.",)
    if found.type == "TYPEOF":
        return ("typeof(…) stands for a type: in a cast, a declaration or a macro argument.",)
    if found.type == "$END" and name in ("'}'", "')'", "']'", "'/'"):
        return (f"Add the missing {name}.",)
    if hint := _of_words(before, found, name) or _of_place(before, found, name):
        return (hint,)
    if name == "'/'":
        return ("A predicate ends with '/' before the '{' of the block.",)
    if name == "'{'" and found.type in _BINARY:
        return ("Put the whole condition into parentheses.",)
    if name == "'{'" and last == "RPAREN":
        return ("The braces around a block are mandatory.",)
    return ()


def _of_words(before: list[Lexeme], found: Lexeme, name: str) -> str:
    """A hint about a word that is used as in another language."""
    word = before[-1].text if before and before[-1].type == "IDENT" else ""
    if found.type == "IDENT" and found.text in OTHER_LANGUAGES and name in ("';'", "')'", "'/'", "'{'"):
        return f"'{found.text}' is written '{OTHER_LANGUAGES[found.text]}'."
    if word in C_WORDS and found.type == "IDENT" and name == "')'":
        return "A type is one word: uint32, int64, …"
    if word in C_WORDS and found.type in ("IDENT", "STAR", "VARIABLE") and name == "';'":
        return f"A variable is declared as: let ${'x' if found.type == 'STAR' else found.text.lstrip('$')} = …;"
    if found.type == "LBRACE" and name == "';'":
        other = next((lexeme.text for lexeme in reversed(before) if lexeme.text in ELSE_IF), "")
        return f"'{other}' is written 'else if'." if other else ""
    if found.type in ("IDENT", "NAME") and name == "variable":
        return f"The name of a variable starts with '$': ${found.text}"
    if word and found.type in ("STRING", "INTEGER", "VARIABLE", "MAP", "IDENT") and name == "';'":
        return f"If {word} is a function, its arguments stand in parentheses: {word}(…)"
    return ""


def _of_place(before: list[Lexeme], found: Lexeme, name: str) -> str:
    """A hint about what is missing between two lexemes."""
    if not before:
        return ""
    last, source = before[-1], found.span.source
    if last.type == "MAP" and name == "';'" and found.type in ("LPAREN", "LBRACE"):
        return f"The key of a map stands in square brackets: {last.text}[…]"
    if last.type == "ATTACH" and found.type == "$END":
        return "A probe is written as: attach-point /predicate/ { statements }"
    if last.type == "ATTACH" and name == "'{'":
        rest = source.text[found.span.start :]
        if last.text in ("typedef", "static", "void", "extern", *C_WORDS):
            return DEFINITIONS
        if "/" in last.text.rpartition(":")[2] and "/" in source.line(found.span.first[0])[found.span.first[1] :]:
            return GLUED
        part = (rest.split() or [""])[0].rstrip("{")
        if last.text.isalpha() and last.text.islower() and part[:1].isalpha() and "(" not in part:
            return f"The parts of an attach point are joined by ':': {last.text}:{part}"
        if found.text in ("&", "|", "&&", "||") or ":" in rest.partition("{")[0]:
            return "Several attach points are separated by ','."
        return ""
    line = last.span.last[0]
    if name == "';'" and found.span.first[0] > line:
        return f"The ';' is missing at the end of line {line}."
    swallowed = name == "expression" and source.name == STDIN and found.type in _ENDS
    if swallowed and last.type in (*_BINARY, "ASSIGN", "LBRACKET", "COMMA"):
        return "If a parameter like $1 stood here, the shell has replaced it: put the program into single quotes."
    return ""
