"""`comptime` and `fail` (reference part 1, sections 6.1 and 10.4): what is kept of a program, and the messages."""

from __future__ import annotations

import pytest

from pytrace.grammar.types import INT64, UINT8, String
from tests.language.checking import check, errors

tag = pytest.mark.tag

UNKNOWN = "nothing($x, @never)"  # an error wherever it is looked at


@tag("comptime.if")
@pytest.mark.parametrize(
    "condition",
    [
        "sizeof(int64) == 8", "is_scalar(@s)", "!is_scalar(@k)", 'probetype == "special"', "$1 == 4", "$#", "true",
        '"text"', "is_str(comm)", "is_literal(5)", "sizeof(struct task_struct) > 8",
    ],
)  # fmt: skip
def test_only_the_chosen_branch_is_looked_at(condition: str) -> None:
    before, kept = "@s = 1; @k[1] = 1;", "@kept = 1;"
    checked = check(
        f"begin {{ {before} if comptime ({condition}) {{ {kept} }} else {{ {UNKNOWN}; }} "
        f"if comptime (false) {{ {UNKNOWN}; }} else if comptime ({condition}) {{ @other = 1; }} }}",
        "4",
    )
    assert checked.errors == []
    assert checked.typed is not None
    assert set(checked.typed.maps) == {"s", "k", "kept", "other"}


@tag("comptime.if")
def test_in_an_expression() -> None:
    checked = check(f'begin {{ @v = if comptime (true) {{ "ab" }} else {{ {UNKNOWN} }}; }}')
    assert checked.errors == []
    assert checked.typed is not None
    assert checked.typed.maps["v"].value == String(3)
    assert errors("$v = if comptime (false) { 1 };") == ["Value 'none' cannot be assigned to a scratch variable."]


@tag("comptime.if")
def test_a_dropped_branch_has_no_say_in_whether_a_map_has_keys() -> None:
    assert errors("if comptime (false) { @m[1] = 1; } @m = 2; print(@m);") == []
    assert errors("if comptime (true) { @m[1] = 1; } @m = 2; print(@m);") != []


@tag("comptime.if", "fn.fail")
def test_fail_counts_only_where_it_is_kept() -> None:
    said = 'if comptime (sizeof(int64) == 8) { fail("%s: %d of %x", "int64", 8, 255); }'
    assert errors(said) == ["int64: 8 of ff"]
    assert errors(said.replace("==", "!=")) == []
    assert errors('fail("%d", pid);') == ["fail() arguments need to be literals"]
    assert errors('fail("%d");') == ["not enough arguments for format string (0 supplied, 1 expected)"]


@tag("infer.comptime")
def test_branches_are_added_until_nothing_is_open() -> None:
    body = (
        "if comptime (is_scalar(@c)) { @d = 1; } "
        "if comptime (!is_scalar(@b)) { @c = (uint8)1; } "
        "if comptime (is_scalar(@a)) { @b[1] = 1; } "
        "@a = 1; print(@d); @e = @c;"
    )
    checked = check(f"begin {{ {body} }}")
    assert checked.errors == []
    assert checked.typed is not None
    assert (checked.typed.maps["e"].value, checked.typed.maps["a"].value) == (UINT8, checked.typed.maps["d"].value)


def chain(length: int) -> str:
    """Conditions each of which can be known only when the branch of the one behind it is there."""
    steps = [f"if comptime (is_scalar(@m{n})) {{ @m{n + 1} = 1; }}" for n in reversed(range(length))]
    return " ".join(steps) + " @m0 = 1;"


@tag("infer.comptime", "err.comptime")
def test_the_rounds_have_an_end() -> None:
    assert errors(chain(48)) == []
    (message,) = set(errors(chain(70)))
    assert "nested too deeply" in message


@tag("infer.locked", "err.type.locked")
def test_a_type_that_was_looked_at_is_not_widened() -> None:
    variable = "$x = (int8)1; if comptime (sizeof($x) == 1) { $x = (int64)70000; }"
    assert errors(variable) == ["The type of $x has been locked as 'int8' and cannot become 'int64'"]
    value = "@m = (int8)1; if comptime (sizeof(@m) == 1) { @m = (int64)70000; }"
    assert errors(value) == ["The type of @m has been locked as 'int8' and cannot become 'int64'"]
    (found,) = check(f"begin {{ {variable} }}").diagnostics.errors
    assert [label.span.text for label in found.labels] == ["$x"]
    # what is decided without types may still widen them, and what has the type already does not
    assert errors("$x = (int8)1; print(sizeof($x)); if comptime (sizeof(int8) == 1) { $x = (int64)70000; }") == []
    assert errors("$x = (int8)1; if comptime (sizeof($x) == 1) { $x = (int8)2; }") == []
    late = check("begin { @x = (int8)1; if comptime (1 == 1) { @x = (int64)7; } @size = sizeof(@x); }")
    assert late.typed is not None
    assert late.typed.maps["x"].value == INT64


@tag("comptime.expr", "err.comptime")
def test_what_is_not_known_is_an_error() -> None:
    assert errors("if comptime (pid) { }") == ["Unable to resolve comptime expression"]
    assert errors("$v = comptime (1 + 2); print(comptime sizeof(int32));") == []
    assert errors(f"if comptime (undefined) {{ {UNKNOWN}; }}")[0].startswith("Unknown identifier")


@tag("err.comptime")
def test_a_condition_must_not_depend_on_the_branch_it_chose() -> None:
    (message,) = errors("$x = (uint8)1; if comptime (is_unsigned_integer($x)) { $x = (int64)-1; }")
    assert message.startswith("The condition's value was used and has changed since")
