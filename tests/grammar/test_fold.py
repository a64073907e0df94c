"""Operators on literals (reference part 1, section 7.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytrace.grammar.fold import HIGHEST, LOWEST, Constant, FoldError, fold_binary, fold_unary

words = st.integers(LOWEST, HIGHEST)


@pytest.mark.tag("expr.fold")
@pytest.mark.parametrize(
    ("a", "op", "b", "value"),
    [
        (2, "+", 3, 5), (2, "-", 3, -1), (6, "*", 7, 42), (7, "/", 2, 3), (-7, "/", 2, -3), (7, "/", -2, -3), (-7, "%", 3, -1), (7, "%", -3, 1),
        (-8, ">>", 1, -4), (1, "<<", 63, 1 << 63), (6, "&", 3, 2), (6, "|", 1, 7), (6, "^", 3, 5), (1, "<", 2, True), (2, "==", 2, True), (2, "!=", 2, False),
        (0, "||", 5, True), (5, "&&", 0, False), (True, "+", True, True), (True, "&", False, False), (True, "+", 1, 2), (b"a", "==", b"a", True),
        (b"a\0b", "==", b"a", False), (b"a", "<", b"b", True), (b"ab", "+", b"cd", b"abcd"), (b"abc", "+", 1, b"bc"), (b"abc", "+", 5, b""), (b"a", "*", 2, None), (b"a", "-", b"b", None),
        ((1 << 63) - 1, "+", 1, 1 << 63),
    ],
)  # fmt: skip
def test_binary(a: Constant, op: str, b: Constant, value: Constant | None) -> None:
    found = fold_binary(op, a, b)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.tag("expr.fold", "err.fold")
@pytest.mark.parametrize(
    ("a", "op", "b"),
    [
        (HIGHEST, "+", 1),
        (LOWEST, "-", 1),
        (1 << 40, "*", 1 << 40),
        (1, "/", 0),
        (1, "%", 0),
        (1, "<<", 64),
        (1, ">>", -1),
    ],
)
def test_no_value(a: int, op: str, b: int) -> None:
    with pytest.raises(FoldError):
        fold_binary(op, a, b)


@pytest.mark.tag("expr.fold")
@given(words, words, st.sampled_from(["+", "-", "*", "/", "%", "&", "|", "^"]))
def test_values_stay_within_64_bits(a: int, b: int, op: str) -> None:
    try:
        value = fold_binary(op, a, b)
    except FoldError:
        return
    assert isinstance(value, int)
    assert LOWEST <= value <= HIGHEST


@pytest.mark.tag("expr.fold", "expr.neg", "expr.not")
def test_unary() -> None:
    assert [fold_unary(op, v) for op, v in (("-", 5), ("~", 0), ("!", 5), ("!", True), ("-", True), ("-", b"a"), ("-", 1 << 63))] == [
        -5, -1, False, False, None, None, LOWEST,
    ]  # fmt: skip
    with pytest.raises(FoldError):
        fold_unary("-", (1 << 63) + 1)
