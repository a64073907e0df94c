"""What the compiler says of calls, jumps, loops and thrown away values (reference part 1, 12.6; part 2, 0)."""

from __future__ import annotations

import pytest

from pytrace.grammar.diagnostics import Severity
from tests.grammar.messages import Said, rows
from tests.language.checking import check, errors

CALLS = [
    Said("err.call.nargs", 'strncmp("a");', "strncmp() requires 3 arguments (1 provided)", 'strncmp("a")'),
    Said("err.call.nargs", "printf();", "printf() requires at least one argument (0 provided)", "printf()"),
    Said("err.call.nargs", "exit(1, 2);", "exit() takes up to one argument (2 provided)", "exit(1, 2)"),
    Said("err.call.nargs", "$x = str(1, 2, 3);", "str() takes up to 2 arguments (3 provided)", "str(1, 2, 3)"),
    Said("err.call.nargs", "clear(1, 2);", "clear() requires one argument (2 provided)", "clear(1, 2)"),
    Said("err.call.nargs", "@x = hist(1, 2, 3);", "hist() takes up to 2 arguments (3 provided)", "hist(1, 2, 3)"),
    Said("err.call.nargs", "@x = lhist(1);", "lhist() requires 4 arguments (1 provided)", "lhist(1)"),
    Said("err.call.nargs", "@a[1] = sum();", "sum() requires one argument (0 provided)", "sum()"),
    Said("err.call.argtype", "printf(5);", "printf() expects a string literal (int provided)", "5"),
    Said(
        "err.call.argtype",
        "printf($1);",
        "printf() expects a string literal (int provided)",
        "$1",
        hint="Use str($1) to treat $1 as a string",
        params=("5",),
        tags="param.pos.str",
    ),
    Said("err.call.argtype", "clear(5);", "clear() expects a map argument", "5"),
    Said("err.call.argtype", "@x = lhist(1, pid, 2, 3);", "lhist() expects a int literal (int provided)", "pid"),
    Said("err.call.argtype", "@x = max(comm);", "max() only supports integer arguments (string provided)", "comm"),
    Said(
        "err.call.strlen",
        f'$x = "{"a" * 1024}";',
        f"String is too long (over 1023 bytes): {'a' * 40}…",
        f'"{"a" * 1024}"',
        tags="lex.string.limit",
    ),
    Said(
        "err.type.assign",
        'print(pid ? cat("/x") : "no");',
        "'cat(\"/x\")' has no value",
        'cat("/x")',
        tags="expr.ternary",
    ),
    Said("err.type.assign", "print(1 + exit());", "'exit()' has no value", "exit()"),
    Said("err.type.assign", "if (print(1)) { }", "'print(1)' has no value", "print(1)"),
    Said("err.type.assign", "@x[clear(@y)] = 1; @y[1] = 1;", "'clear(@y)' has no value", "clear(@y)"),
    Said("err.type.assign", "print(());", "'()' has no value", "()", tags="type.tuple.access"),
]

FLOW = [
    Said("err.flow.jump", "break;", "'break' statement is not allowed outside of a loop", "break", tags="stmt.jump"),
    Said(
        "err.flow.jump",
        "if (1) { continue; }",
        "'continue' statement is not allowed outside of a loop",
        "continue",
        tags="stmt.jump",
    ),
    Said(
        "err.flow.jump",
        "unroll (3) { break; }",
        "'break' statement is not allowed outside of a loop",
        "break",
        tags="stmt.unroll",
    ),
    Said(
        "err.flow.jump",
        "for ($i : 0..3) { } break;",
        "'break' statement is not allowed outside of a loop",
        "break",
        tags="stmt.jump",
    ),
    Said(
        "err.flow.unroll",
        "unroll (pid) { }",
        "unroll: the number of repetitions must be a literal",
        "pid",
        tags="stmt.unroll",
    ),
    Said(
        "err.flow.unroll",
        "unroll (0) { }",
        "unroll minimum value is 1",
        "unroll (0) { }",
        tags="stmt.unroll diag.texts",
    ),
    Said(
        "err.flow.unroll",
        "unroll (101) { }",
        "unroll maximum value is 100",
        "unroll (101) { }",
        tags="stmt.unroll diag.texts rt.limit.unroll",
    ),
    Said(
        "err.comptime",
        "print(comptime pid);",
        "Unable to resolve comptime expression",
        "comptime pid",
        tags="comptime.expr",
    ),
]

DISCARDED = "Return value discarded."
WARNINGS = [
    Said("warn.stmt.discard", "5;", DISCARDED, "5", tags="stmt.exprstmt"),
    Said("warn.stmt.discard", "pid;", DISCARDED, "pid", tags="stmt.exprstmt"),
    Said("warn.stmt.discard", "@x = 1; @x == 1;", DISCARDED, "@x == 1", tags="stmt.exprstmt"),
    Said("warn.stmt.discard", '@m["a"] = 1; has_key(@m, "b");', DISCARDED, 'has_key(@m, "b")', tags="stmt.exprstmt"),
    Said("warn.stmt.discard", "1 + pid", DISCARDED, "1 + pid", tags="prog.block.trailing stmt.exprstmt"),
    Said("warn.stmt.discard", "if (pid) { cpu }", DISCARDED, "cpu", tags="stmt.exprstmt"),
    Said(
        "warn.flow.unreachable",
        "return; print(1);",
        "Unreachable statement.",
        "print(1);",
        tags="stmt.unreachable diag.texts",
    ),
    Said("warn.flow.unreachable", "exit(); print(1);", "Unreachable statement.", "print(1);", tags="stmt.unreachable"),
    Said(
        "warn.flow.unreachable",
        "for ($i : 0..3) { break; print(1) }",
        "Unreachable statement.",
        "print(1)",
        tags="stmt.unreachable",
    ),
    Said(
        "warn.flow.while",
        "@n = 1; while (@n) { break; }",
        "While loops are deprecated and may be removed in the future.",
        "while (@n) { break; }",
        hint="range loop",
        tags="stmt.while diag.texts",
    ),
]


@rows([*CALLS, *FLOW])
def test_error(said: Said) -> None:
    said.check(Severity.ERROR)


@rows(WARNINGS)
def test_warning(said: Said) -> None:
    said.check(Severity.WARNING)


@pytest.mark.tag("stmt.exprstmt", "stmt.discard", "expr.incdec")
@pytest.mark.parametrize(
    "body",
    [
        "@x++;",
        "--@x;",
        "$x = 1; $x--;",
        "_ = pid;",
        "@m[1] = 1; delete(@m, 1);",
        'printf("x");',
        "@x++",
        "{ print(1); }",
        "if (pid) { @x++ }",
    ],
)
def test_nothing_is_said_of(body: str) -> None:
    found = check(f"begin {{ {body} }}")
    assert (found.errors, found.warnings) == ([], [])


@pytest.mark.tag("diag.format", "err.call.argtype")
def test_one_mistake_gives_one_message() -> None:
    assert errors("print(UNKNOWN);") == ["Unknown identifier: 'UNKNOWN'"]
    assert errors("$x = $y + 1; print($x); @a[$x] = $x; @b = @a[1];") == ["Undefined or undeclared variable: $y"]
    assert errors("@x = count(1); print(@x); if (@x > 1) { }") == ["count() requires no arguments (1 provided)"]
    assert errors('@a = sum("a"); print(@a + 1); @b[@a] = 1;') == [
        "sum() only supports integer arguments (string provided)"
    ]


@pytest.mark.tag("diag.format")
def test_form_of_a_message() -> None:
    (diagnostic,) = check("begin {\n\t$x = comm == 1;\n}").diagnostics.items
    assert diagnostic.render() == (
        "stdin:2:7-16: ERROR: Type mismatch for '==': comparing string[16] with int8\n"
        "    $x = comm == 1;\n"
        "         ~~~~~~~~~\n"
        "stdin:2:7-11: ERROR: left (string[16])\n"
        "    $x = comm == 1;\n"
        "         ~~~~\n"
        "stdin:2:15-16: ERROR: right (int8)\n"
        "    $x = comm == 1;\n"
        "                 ~\n"
    )
