"""Macros (reference part 1, section 10.1): what they make of their arguments, and the messages about them."""

from __future__ import annotations

import pytest

from pytrace.compilation import compile_text
from pytrace.grammar.diagnostics import CompileError
from tests.e2e.programs import run
from tests.fakehost import FakeHost

tag = pytest.mark.tag


def shown(macros: str, body: str) -> list[str]:
    """The lines that a `begin` block shows, which uses some macros."""
    return run(f"{macros} begin {{ {body} }}").text.splitlines()


@pytest.mark.root
@tag("macro.def", "macro.call")
def test_a_call_has_the_value_of_the_body() -> None:
    macros = "macro add(a, b) { a + b } macro SIZE() { 64 } macro twice(x) { let $v = x; $v * 2 }"
    assert shown(macros, "print((add(1, 2), SIZE, SIZE(), twice(add(3, 4)))); @ = lhist(5, 0, SIZE, 8);") == [
        "(3, 64, 64, 14)"
    ]


@pytest.mark.root
@tag("macro.def")
def test_the_order_of_definitions_does_not_matter() -> None:
    assert run("begin { print(outer(1)); } macro outer(x) { inner(x) + 1 } macro inner(x) { x * 10 }").text == "11\n"


@pytest.mark.root
@tag("macro.call")
def test_in_a_predicate() -> None:
    text = "macro even(x) { x % 2 == 0 } interval:us:1 /even(@n++) && @n < 7/ { @hits++; } interval:ms:1 /@n > 9/ { exit(); }"
    assert run(text).maps["@hits"] == 3


@pytest.mark.root
@tag("macro.hygiene", "macro.def")
def test_parameters_of_each_kind() -> None:
    macros = (
        "macro swap($x, $y) { let $tmp = $x; $x = $y; $y = $tmp; } macro bump(@m, key, by) { @m[key] += by; }"
        "macro total(@m) { for ($kv : @m) { @m[0] = 7; } }"
    )
    body = (
        '$tmp = 9; $a = 1; $b = 2; swap($a, $b); print(($a, $b, $tmp)); bump(@n, "k", 3); bump(@n, "k", $a);'
        ' print(@n["k"]);'
    )
    assert shown(macros, body) == ["(2, 1, 9)", "5"]


@pytest.mark.root
@tag("macro.typeparam", "type.sizeof", "type.offsetof", "type.typeinfo", "comptime.if")
def test_the_type_of_an_argument_that_is_an_expression() -> None:
    macros = (
        "config = { unstable_typeinfo = enable } macro wide(x) { if comptime (sizeof(x) == 8) { 1 } else { 0 } }"
        'macro show(x) { if comptime (typeinfo(x).base_type == "string") { strlen(x) } else { x } }'
        "macro at(x) { offsetof(x, comm) } macro same(x) { let $y: typeof(x) = x; $y }"
    )
    body = (
        '$v = (uint64)3; print((wide((uint64)1), wide((int8)1), wide("abc"), wide($v), wide(typeof(uint64))));'
        "print((show(comm) == strlen(comm), show(5), same(pid) == pid, at(*curtask) == offsetof(*curtask, comm)));"
    )
    assert shown(macros, body) == ["(1, 0, 0, 1, 1)", "(true, 5, true, true)"]


@pytest.mark.root
@tag("macro.def")
def test_an_expression_is_evaluated_at_every_use() -> None:
    assert shown("macro thrice(x) { x; x; x }", "$i = 0; $v = thrice($i++); print(($i, $v));") == ["(3, 2)"]


@pytest.mark.root
@tag("macro.overload")
def test_the_best_definition_wins() -> None:
    macros = 'macro f($x) { "variable" } macro f(@x) { "map" } macro f(x) { "value" } macro f(x, y) { "two" }'
    assert shown(macros, "$v = 1; @m = 1; print((f($v), f(@m), f(5), f(5, 6)));") == ["(variable, map, value, two)"]


@pytest.mark.root
@tag("macro.overload")
def test_a_function_of_that_name_is_covered_only_by_a_macro_that_fits() -> None:
    assert shown("macro strlen(a, b) { 7 }", 'print((strlen("four", 1)));') == ["7"]


@pytest.mark.root
@tag("macro.typeparam")
def test_types_as_arguments() -> None:
    macros = (
        "macro width(t) { sizeof(t) } macro cut(t, v) { (t)v } macro deref(t, p) { *(t*)p }"
        "macro two(t) { sizeof(t[2]) } macro declared(t) { let $v: t = 5; sizeof($v) }"
    )
    body = "$v = (uint64)0x1ff; print((width(typeof(int32)), cut(typeof(uint8), $v), two(typeof(struct list_head)), declared(typeof(int16)))); print(deref(typeof(uint8), &$v));"
    assert shown(macros, body) == ["(4, 255, 32, 2)", "255"]


@pytest.mark.root
@tag("macro.jump")
def test_jumps_in_loops_of_its_own() -> None:
    macros = "macro first(@m) { let $found = 0; for ($i : 0..9) { if (@m[$i] > 5) { $found = $i; break; } } $found }"
    assert shown(macros, "@a[3] = 7; @a[4] = 8; print(first(@a));") == ["3"]


def problems(text: str) -> list[tuple[str, str, str]]:
    """Code, message and place of the errors of a program."""
    with pytest.raises(CompileError) as caught:
        compile_text(text, host=FakeHost())
    return [(d.code, d.message, d.span.text if d.span else "") for d in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("text", "code", "message", "place"),
    [
        pytest.param(text, code, message, place, marks=tag(code, *tags))
        for text, code, message, place, *tags in [
            ("macro m(x) { @q[x] } begin { m(1); }", "err.macro.hygiene", "Unhygienic access to map: @q", "@q"),
            ("macro m($x) { let $x = 1; } begin { $v = 1; m($v); }", "err.macro.hygiene", "shadows macro arg $x", "let $x = 1"),
            ("macro m(x, x) { x } begin { m(1, 2); }", "err.macro.hygiene", "Duplicate macro parameter: x", "x"),
            ("macro m(pid) { 1 } begin { m(1); }", "err.macro.hygiene", "builtin 'pid' cannot be a macro parameter", "pid"),
            ("macro m(x) { 1 } macro m(y) { 2 } begin { m(1); }", "err.macro.hygiene", "Redefinition of macro: m", "macro m(y) { 2 }", "macro.overload"),
            ("macro m() { return; } begin { m(); }", "err.flow.jump", "'return' statement is not allowed in a macro", "return", "macro.jump"),
            ("macro m() { break; } begin { while (1) { m(); } }", "err.flow.jump", "'break' statement", "break", "macro.jump"),
            ("macro m(x) { 1 } begin { m(); }", "err.macro.match", "arguments that do not match any definition", "m()", "macro.overload"),
            ("macro m($x) { 1 } begin { m(5); }", "err.macro.match", "arguments that do not match any definition", "m(5)", "macro.overload"),
            ("macro m(@x) { 1 } begin { $v = 1; m($v); }", "err.macro.match", "do not match any definition", "m($v)", "macro.overload"),
            ("macro a(x) { b(x) } macro b(x) { a(x) } begin { a(1); }", "err.macro.recursion", "a > b > a", "a(x)"),
            ("macro m(x) { x = 5; } begin { $v = 1; m($v); }", "err.syntax.expected", "expected ';'", "="),
        ]
    ],
)  # fmt: skip
def test_mistakes(text: str, code: str, message: str, place: str) -> None:
    ((found_code, found_message, found_place), *_) = problems(text)
    assert (found_code, found_place) == (code, place)
    assert message in found_message


def test_an_expression_parameter_cannot_change_a_variable() -> None:
    text = "macro inner($v) { $v = 5; } macro outer(x) { inner(x) } begin { $a = 1; outer($a); }"
    ((code, _, place),) = problems(text)
    assert (code, place) == ("err.macro.match", "inner(x)")


@tag("macro.diag")
def test_errors_in_a_body_name_every_call() -> None:
    with pytest.raises(CompileError) as caught:
        compile_text('macro a(x) { x + "s" } macro b(y) { a(y) } begin { print(b(1)); }', host=FakeHost())
    lines = [line for line in str(caught.value).splitlines() if line.startswith("stdin")]
    assert lines[0] == "stdin:1:14-21: ERROR: Type mismatch for '+': comparing int8 with string[2]"
    assert lines[-2:] == ["stdin:1:37-41: ERROR: expanded from", "stdin:1:58-62: ERROR: expanded from"]


@tag("macro.diag", "macro.hygiene")
def test_variables_of_the_caller_are_out_of_reach() -> None:
    with pytest.raises(CompileError) as caught:
        compile_text("macro m() { $caller } begin { $caller = 1; print(m()); }", host=FakeHost())
    assert caught.value.diagnostics[0].message == "Undefined or undeclared variable: $caller"
