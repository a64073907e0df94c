"""The parser: program text to syntax tree (reference part 1, section 13).

The one module that imports Lark; import it only when a program is to be parsed. The tables that Lark makes
from `program.lark` take 200 ms to build, so they are kept in `program.tables.json`, made by

    python -m pytrace.grammar.parser

and a test checks that they are those of the grammar.
"""

from __future__ import annotations

import json
import os
import pkgutil
from collections.abc import Iterator
from functools import cache
from zlib import crc32

import lark
from lark import Lark, UnexpectedToken
from lark.grammar import Rule
from lark.lexer import Lexer as LarkLexer
from lark.lexer import TerminalDef

from pytrace.grammar import nodes
from pytrace.grammar.diagnostics import CompileError, Diagnostics
from pytrace.grammar.hints import Any
from pytrace.grammar.lexeme import Lexeme, SyntaxProblem
from pytrace.grammar.lexer import Lexer
from pytrace.grammar.parser_builder import Builder
from pytrace.grammar.parser_errors import explain
from pytrace.grammar.source import Source

GRAMMAR = "program.lark"
TABLES = "program.tables.json"

# Every later pass walks the tree with a few Python frames per level, so the depth has to have an end.
MAX_DEPTH = 300


class _NoLexer(LarkLexer):
    """Lark wants a lexer class; lexemes are fed to the parser by `_run` instead."""

    def __init__(self, lexer_conf: object) -> None:
        pass

    def lex(self, lexer_state: object, parser_state: object) -> Iterator[Any]:
        """Never called."""
        raise NotImplementedError


def parse(source: Source, builtin_words: frozenset[str], diagnostics: Diagnostics) -> nodes.Program:
    """The tree of a program. Raises `CompileError` at the first syntax error.

    `builtin_words` are the names of builtin values, which are never types or macro parameters (6.5).
    """
    lexer = Lexer(source, builtin_words)
    found = _run(lexer, lexer.program(), "program", diagnostics)
    shebang = next((i.text for i in found if isinstance(i, Lexeme)), None)
    top = [i for i in found if isinstance(i, nodes.Item)]
    special = nodes.CText | nodes.Config | nodes.Import
    program = nodes.Program(
        source.span(0, len(source.text)),
        shebang,
        tuple(i for i in top if isinstance(i, nodes.CText)),
        next((i for i in top if isinstance(i, nodes.Config)), None),
        tuple(i for i in top if isinstance(i, nodes.Import)),
        tuple(i for i in top if not isinstance(i, special)),
    )
    _check_depth(program, diagnostics)
    return program


def parse_expression(source: Source, builtin_words: frozenset[str], diagnostics: Diagnostics) -> nodes.Expr:
    """The tree of a text that is one expression (a C macro's value). Raises `CompileError`."""
    lexer = Lexer(source, builtin_words)
    expr: nodes.Expr = _run(lexer, lexer.expression(), "expression", diagnostics)
    _check_depth(expr, diagnostics)
    return expr


def _run(lexer: Lexer, lexemes: Iterator[Lexeme], start: str, diagnostics: Diagnostics) -> Any:
    """Feed the lexemes to the LALR machine; what `Builder` made of the start rule."""
    # no text: the machine is driven from here, which leaves it in reach when a lexeme does not fit
    machine = _machine().parse_interactive(start=start)
    lexeme = lexer.end()
    try:
        for lexeme in lexemes:
            machine.feed_token(lexeme)  # type: ignore[arg-type]  # all it reads is `.type`
        lexeme = lexer.end()
        return machine.feed_token(lexeme)  # type: ignore[arg-type]
    except SyntaxProblem as problem:
        diagnostics.add(problem.diagnostic)
    except UnexpectedToken:
        wanted = frozenset(machine.accepts())  # type: ignore[no-untyped-call]
        diagnostics.add(explain(lexer.lexemes, lexeme, wanted))
    diagnostics.raise_errors()
    raise AssertionError("a syntax error was found and not reported")


def _check_depth(root: nodes.Node, diagnostics: Diagnostics) -> None:
    """Refuse trees deeper than `MAX_DEPTH`; without recursion, as they may be very deep."""
    todo = [(root, 0)]
    while todo:
        node, depth = todo.pop()
        if depth > MAX_DEPTH:
            diagnostics.error(
                "err.syntax.expected",
                f"nested too deeply: the limit is {MAX_DEPTH} levels",
                node.span,
                hints=("Keep parts of the expression in variables, or split the block.",),
            )
            raise CompileError(diagnostics.errors)
        todo += [(child, depth + 1) for child in nodes.children(node)]


@cache
def _machine() -> Lark:
    """Lark with the stored tables, or with fresh ones if those are of another grammar or another Lark."""
    stored = stored_tables()
    if stored is None:
        return _build(_package_file(GRAMMAR))
    data, memo = stored["data"], _integer_keys(stored["memo"])
    table = data["parser"]["parser"]
    table["tokens"] = _integer_keys(table["tokens"])
    table["states"] = {int(k): _integer_keys(v) for k, v in table["states"].items()}
    data["options"]["lexer"] = data["parser"]["lexer_conf"]["lexer_type"] = _NoLexer
    # the entry of Lark's own standalone parsers; the public load() takes no transformer
    load = Lark._load_from_dict
    loaded: Lark = load(data, memo, transformer=Builder())  # type: ignore[no-untyped-call]
    return loaded


def stored_tables() -> dict[str, Any] | None:
    """The content of `program.tables.json`; None if it is missing or made from something else."""
    try:
        stored: dict[str, Any] = json.loads(_package_file(TABLES))
    except (OSError, ValueError):
        return None
    return stored if stored.get("made_from") == _fingerprint(_package_file(GRAMMAR)) else None


def _integer_keys(table: dict[str, Any]) -> dict[int, Any]:
    """JSON has only string keys."""
    return {int(key): value for key, value in table.items()}


def _package_file(name: str) -> bytes:
    # importlib.resources would do, but importing it takes longer than parsing a program
    content = pkgutil.get_data("pytrace.grammar", name)
    if content is None:
        raise FileNotFoundError(name)
    return content


def _fingerprint(grammar: bytes) -> list[str | int]:
    return [lark.__version__, crc32(grammar)]


def _build(grammar: bytes) -> Lark:
    return Lark(
        grammar.decode(),
        parser="lalr",
        lexer=_NoLexer,
        start=["program", "expression"],
        transformer=Builder(),
        maybe_placeholders=False,
        keep_all_tokens=True,
    )


def tables() -> str:
    """What `program.tables.json` has to hold for the grammar as it is."""
    grammar = _package_file(GRAMMAR)
    data, memo = _build(grammar).memo_serialize([TerminalDef, Rule])
    for option in ("lexer", "transformer"):
        data["options"].pop(option)
    data["parser"]["lexer_conf"]["lexer_type"] = ""
    content = {"made_from": _fingerprint(grammar), "data": data, "memo": memo}
    return json.dumps(content, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    with open(os.path.join(os.path.dirname(__file__), TABLES), "w") as file:
        file.write(tables())
