"""How types combine (reference part 1, section 6.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytrace.grammar.promote import assignable, copied, fits, literal_type, loses, promote, settled
from pytrace.grammar.types import (
    BOOL,
    INT8,
    INT16,
    INT32,
    INT64,
    INTEGERS,
    NONE,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    VOID,
    Aggregate,
    Array,
    Buffer,
    Int,
    Pointer,
    Record,
    Space,
    Stack,
    String,
    Struct,
    Tuple,
    Type,
)

LITERAL = Int(1, True, flexible=True)
LONG_LITERAL = Int(4, True, flexible=True)
COUNT = Aggregate("count", "count_t", True)


@pytest.mark.tag("infer.promote")
@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (INT8, INT32, INT32), (UINT8, UINT64, UINT64), (INT8, UINT8, INT16), (UINT32, INT32, INT64), (UINT64, INT64, INT64), (INT64, UINT32, INT64),
        (INT32, UINT16, INT32), (LITERAL, UINT64, UINT64), (LITERAL, INT16, INT16), (LONG_LITERAL, UINT8, UINT32), (LITERAL, LONG_LITERAL, LONG_LITERAL),
        (String(3), String(9), String(9)), (Buffer(5), Buffer(9), Buffer(9)), (Tuple((INT8, String(2))), Tuple((INT32, String(5))), Tuple((INT32, String(5)))),
        (Tuple((INT8,)), Tuple((INT8, INT8)), None), (Tuple((INT8,)), Tuple((String(2),)), None), (INT8, String(2), None), (BOOL, INT8, None),
        (Record(("a", "b"), (INT8, BOOL)), Record(("b", "a"), (BOOL, INT32)), Record(("a", "b"), (INT32, BOOL))),
        (Record(("a",), (INT8,)), Record(("b",), (INT8,)), None), (Pointer(VOID), Pointer(INT8), Pointer(INT8)), (Pointer(INT8), INT64, None),
        (Array(INT8, 4), Array(INT8, 4), Array(INT8, 4)), (Array(INT8, 4), Array(INT8, 5), None), (Struct("s", 8), Struct("s", 8), Struct("s", 8)),
        (Struct("s", 8), Struct("t", 8), None), (Stack(False), Stack(False), Stack(False)), (Stack(False), Stack(True), None), (INT64, COUNT, INT64),
        (NONE, INT8, INT8), (NONE, NONE, NONE),
    ],
)  # fmt: skip
def test_promotion(first: Type, second: Type, both: Type | None) -> None:
    assert promote(first, second) == both
    if not isinstance(first, Record):
        assert promote(second, first) == both


integers = st.sampled_from([*INTEGERS.values(), LITERAL, LONG_LITERAL])


@pytest.mark.tag("infer.promote")
@given(integers, integers)
def test_what_two_integers_become_holds_both_unless_it_warns(first: Int, second: Int) -> None:
    both = promote(first, second)
    assert isinstance(both, Int)
    assert both.size >= max(first.size, second.size)
    for kind in (first, second):
        lowest = -(1 << (kind.size * 8 - 1)) if kind.signed and not kind.flexible else 0
        highest = (1 << (kind.size * 8 - kind.signed)) - 1
        assert loses(kind, both) or (fits(lowest, both) and fits(highest, both))


@pytest.mark.tag("type.literal.size", "type.literal.flex")
@given(st.integers(-(1 << 63), (1 << 64) - 1))
def test_a_literal_has_the_smallest_signed_type_that_holds_it(value: int) -> None:
    kind = literal_type(value)
    assert fits(value, kind)
    assert kind.signed == (value < 1 << 63)
    assert kind.flexible == (0 <= value < 1 << 63)
    assert kind.size == 1 or not fits(value, Int(kind.size // 2, True))


@pytest.mark.tag("type.struct.value", "map.value.copy")
def test_a_copy_lies_in_our_own_memory() -> None:
    there = Struct("s", 8, space=Space.USER)
    assert copied(Tuple((there, Array(INT8, 2, Space.KERNEL)))) == Tuple(
        (Struct("s", 8, space=Space.DIRECT), Array(INT8, 2, Space.DIRECT))
    )
    assert settled(Tuple((LITERAL, there))) == Tuple((INT8, Struct("s", 8, space=Space.DIRECT)))
    assert promote(there, Struct("s", 8, space=Space.DIRECT)) == Struct("s", 8, space=Space.DIRECT)
    assert promote(there, Struct("s", 8, space=Space.KERNEL)) == Struct("s", 8)


@pytest.mark.tag("infer.cast.error")
@pytest.mark.parametrize(
    ("value", "target", "good"),
    [(INT64, UINT8, True), (String(5), String(4), False), (String(4), String(5), True), (INT8, String(4), False), (COUNT, INT64, True), (UINT16, INT32, True),
     (Tuple((String(9),)), Tuple((String(4),)), False)],
)  # fmt: skip
def test_what_a_declared_variable_takes(value: Type, target: Type, good: bool) -> None:
    assert assignable(value, target) is good
