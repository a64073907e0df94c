"""Values in JSON documents and for Python (reference part 2, section 7)."""

from __future__ import annotations

import struct

import pytest

from pytrace.grammar.layout import Layout, Text, decode
from pytrace.grammar.types import (
    BOOL,
    INT8,
    INT64,
    NONE,
    UINT64,
    Array,
    Buffer,
    EnumType,
    Opaque,
    Pointer,
    Record,
    Stack,
    String,
    Struct,
    Tuple,
    Type,
)
from pytrace.language.jsonvalue import clean, hashable, jsonable, number, python_value
from tests.language.fakes import SERVICES, lay

COLOUR = Layout(EnumType("colour"), (), ((2, "RED"), (5, "BLUE")))


def as_json(kind: Type, value: object) -> object:
    return jsonable(lay(kind), value, SERVICES)


def as_python(kind: Type, value: object) -> object:
    return python_value(lay(kind), value, SERVICES)


@pytest.mark.tag("json.num")
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, 0),
        (-5, -5),
        (1 << 53, 1 << 53),
        ((1 << 53) + 1, "9007199254740993"),
        (1 << 60, 1 << 60),
        ((1 << 64) - 1, "18446744073709551615"),
        (-(1 << 63), -(1 << 63)),
        (-(1 << 63) + 1, "-9223372036854775807"),
    ],
)
def test_numbers_that_a_double_cannot_hold_are_text(value: int, shown: int | str) -> None:
    assert number(value) == shown
    assert as_json(INT64 if value < 0 else UINT64, value) == shown


@pytest.mark.tag("json.value")
def test_the_worked_example_of_print() -> None:
    kind = Tuple((INT64, String(2), Record(("a",), (INT64,))))
    assert as_json(kind, (1, Text("x"), {"a": 2})) == [1, "x", {"a": 2}]


@pytest.mark.tag("json.value")
def test_simple_values() -> None:
    assert as_json(BOOL, True) is True
    assert as_json(NONE, None) is None
    assert jsonable(COLOUR, 5, SERVICES) == 5
    assert as_json(Pointer(INT8), 0x1000) == 0x1000
    assert as_json(Pointer(INT8), 0xFFFF888000000001) == str(0xFFFF888000000001)
    assert as_json(Array(INT8, 2), [1, -2]) == [1, -2]
    assert as_json(Buffer(7), b"hi\xff") == [104, 105, -1]
    assert as_json(Struct("s", 0), {}) == {}
    assert as_json(Stack(False), (0, (0x1000, 0xDEAD))) == "\n        vfs_read+187\n        0xdead\n"
    assert as_json(Opaque("ksym_t", 8), struct.pack("<Q", 0x1000)) == "vfs_read"


@pytest.mark.tag("json.value")
def test_strings_are_utf8_with_invalid_bytes_replaced() -> None:
    kind = lay(String(8))
    value = decode(kind, b'\xc3\xa9"\xff\0')
    assert jsonable(kind, value, SERVICES) == 'é"\N{REPLACEMENT CHARACTER}'
    assert jsonable(kind, decode(kind, b"abcdefgh"), SERVICES) == "abcdefgh.."
    # two %c make one character
    assert clean("\udcc3\udca9") == "é"


def test_python_values() -> None:
    assert as_python(String(4), Text("ab")) == "ab"
    assert as_python(Buffer(8), b"\x00\xff") == b"\x00\xff"
    assert as_python(Tuple((INT64, String(2))), (1, Text("x"))) == (1, "x")
    assert as_python(Array(INT8, 2), [1, 2]) == (1, 2)
    assert as_python(Record(("a",), (String(2),)), {"a": Text("x")}) == {"a": "x"}
    assert as_python(Stack(False), (0, (0x1000, 0xDEAD))) == ("vfs_read+187", "0xdead")
    assert as_python(Opaque("ksym_t", 8), struct.pack("<Q", 0x1000)) == "vfs_read"
    assert as_python(UINT64, (1 << 64) - 1) == (1 << 64) - 1


def test_values_as_keys() -> None:
    assert hashable({"a": 1, "b": ({"c": 2},)}) == (1, ((2,),))
    assert hashable("x") == "x"
