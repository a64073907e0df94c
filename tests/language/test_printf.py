"""The format language (reference part 2, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pytrace.grammar.layout import Layout, Text
from pytrace.grammar.types import (
    BOOL,
    INT8,
    INT32,
    INT64,
    NONE,
    UINT8,
    UINT32,
    UINT64,
    Aggregate,
    Buffer,
    EnumType,
    Opaque,
    Pointer,
    String,
    Tuple,
    Type,
)
from pytrace.language.printf import format_values, parse, problem
from tests.language.fakes import SERVICES, lay

COLOUR = Layout(EnumType("colour"), (), ((2, "RED"), (5, "BLUE")))


def printed(text: str, *pairs: tuple[Type | Layout, Any]) -> str:
    layouts = [kind if isinstance(kind, Layout) else lay(kind) for kind, _ in pairs]
    return format_values(text, layouts, [value for _, value in pairs], SERVICES)


def number(text: str, value: int, kind: Type = INT64) -> str:
    return printed(text, (kind, value))


@pytest.mark.tag("fn.printf", "fmt.spec", "fmt.d", "fmt.x", "fmt.c", "fmt.s", "fmt.len", "fmt.width")
def test_the_worked_example() -> None:
    """The example at the end of section 4, byte for byte."""
    big = 0x1122334455667788
    first = printed(
        "%5d|%-5d|%05d|%x|%lx|%hhx|%c|%%\n",
        (INT8, 42), (INT8, 42), (INT8, 42), (UINT64, big), (UINT64, big), (UINT64, big), (INT8, 65),
    )  # fmt: skip
    assert first == "   42|42   |00042|55667788|1122334455667788|88|A|%\n"
    second = printed(
        "%8s|%-8s|%s|%d|%s|%s\n",
        (String(3), Text("ab")), (String(3), Text("cd")), (COLOUR, 5), (COLOUR, 5), (BOOL, True),
        (Tuple((INT8, String(2))), (1, Text("z"))),
    )  # fmt: skip
    assert second == "      ab|cd      |BLUE|5|true|(1, z)\n"
    third = printed("%r %rx %rh\n", (Buffer(7), b"ok\x01"), (Buffer(6), b"ok"), (Buffer(6), b"ok"))
    assert third == "ok\\x01 \\x6f\\x6b 6f 6b\n"


@pytest.mark.tag("fmt.d", "fmt.len")
@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("%d", -1, "-1"),
        ("%d", 1 << 31, "-2147483648"),
        ("%d", (1 << 32) + 5, "5"),
        ("%i", -7, "-7"),
        ("%ld", (1 << 32) + 5, "4294967301"),
        ("%lld", -(1 << 63), "-9223372036854775808"),
        ("%jd", 1 << 40, "1099511627776"),
        ("%zd", 1 << 40, "1099511627776"),
        ("%td", 1 << 40, "1099511627776"),
        ("%hd", 0x18000, "-32768"),
        ("%hhd", 0x1FF, "-1"),
        ("%Ld", (1 << 32) + 5, "5"),
        ("%hld", (1 << 32) + 5, "5"),
    ],
)
def test_signed_conversions(text: str, value: int, expected: str) -> None:
    assert number(text, value) == expected


@pytest.mark.tag("fmt.u", "fmt.len")
@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("%u", -1, "4294967295"),
        ("%lu", -2, "18446744073709551614"),
        ("%hu", -1, "65535"),
        ("%hhu", -1, "255"),
    ],
)
def test_unsigned_conversions(text: str, value: int, expected: str) -> None:
    assert number(text, value) == expected


@pytest.mark.tag("fmt.x")
@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("%x", 0xBEEF, "beef"),
        ("%X", 0xBEEF, "BEEF"),
        ("%o", 8, "10"),
        ("%x", -1, "ffffffff"),
        ("%lx", -1, "ffffffffffffffff"),
        ("%#x", 255, "0xff"),
        ("%#X", 255, "0XFF"),
        ("%#o", 8, "010"),
        ("%#x", 0, "0"),
    ],
)
def test_hexadecimal_and_octal(text: str, value: int, expected: str) -> None:
    assert number(text, value) == expected


@pytest.mark.tag("fmt.d")
def test_numbers_of_other_types() -> None:
    assert printed("%d %d %u", (BOOL, True), (BOOL, False), (BOOL, True)) == "1 0 1"
    assert number("%d", 0xFFFFFFFF, UINT32) == "-1"
    assert number("%d", 200, UINT8) == "200"
    assert number("%lx", 0xFFFF888000000000, Pointer(INT8)) == "ffff888000000000"


@pytest.mark.tag("fmt.c")
def test_characters() -> None:
    assert number("%c", 65) == "A"
    assert number("%c", 0x141) == "A"
    assert number("%c", 0xC3).encode("utf-8", "surrogateescape") == b"\xc3"
    assert number("%3c", 65) == "  A"


@pytest.mark.tag("fmt.p")
def test_pointers() -> None:
    assert number("%p", -1) == "0xffffffffffffffff"
    assert number("%p", 0x1F) == "0x1f"
    assert number("%p", 0) == "0"


@pytest.mark.tag("fmt.width")
@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("%06d", -42, "000-42"),
        ("%#08x", 255, "00000xff"),
        ("%-05d", 42, "42000"),
        ("%05s", 7, "00007"),
        ("%+d", 5, "+5"),
        ("%+d", -5, "-5"),
        ("%+u", 5, "5"),
        ("% d", 5, "5"),
        ("%.3d", 5, "5"),
        ("%8.3d|", 5, "       5|"),
        ("%*d", 5, "5"),
        ("%.*d", 5, "5"),
        ("%-6d|", 5, "5     |"),
        ("%-+6d|", 5, "+5    |"),
    ],
)
def test_width_and_flags(text: str, value: int, expected: str) -> None:
    assert number(text, value) == expected


@pytest.mark.tag("fmt.s", "fmt.width")
def test_precision_does_not_cut_strings() -> None:
    text = printed("%.3s|%-10.10s|", (String(8), Text("abcdef")), (String(4), Text("xyz")))
    assert text == "abcdef|xyz       |"


@pytest.mark.tag("fmt.width")
def test_widths_count_bytes() -> None:
    assert printed("%4s|", (String(8), Text("é"))) == "  é|"


@pytest.mark.tag("fmt.spec")
def test_what_is_no_specification_is_text() -> None:
    assert printed("100%, 5 %") == "100%, 5 %"
    assert printed("%%d %y %0-5d %") == "%d %y %0-5d %"
    assert number("%%%d%%", 3) == "%3%"
    assert printed("\033[31mred\033[0m\n") == "\033[31mred\033[0m\n"


@pytest.mark.tag("fmt.r", "fmt.rx", "fmt.rh")
def test_longer_conversions_win() -> None:
    assert [s.conversion for s in parse("%rx%rh%r%grx").specifiers] == ["rx", "rh", "r", "gr"]
    assert printed("%rhx", (Buffer(6), b"\x00\xff")) == "00 ffx"
    assert printed("%r", (Buffer(6), b"")) == ""


@pytest.mark.tag("fmt.gr")
def test_page_allocation_flags() -> None:
    assert number("%gr", 0) == "0"
    assert number("%gr", 0xCC0) == "GFP_KERNEL"
    assert number("%gr", 0xDC0) == "GFP_KERNEL|__GFP_ZERO"
    assert number("%gr", 0x820) == "GFP_ATOMIC"
    assert number("%gr", 1 << 40) == "0x10000000000"
    assert number("%gr", 0xCC0 | 1 << 30) == "GFP_KERNEL|0x40000000"


@pytest.mark.tag("fmt.s")
def test_s_takes_anything() -> None:
    assert printed("%s %s", (Opaque("ksym_t", 8), (0x1000).to_bytes(8, "little")), (Buffer(6), b"a\n")) == (
        "vfs_read a\\x0a"
    )


def test_what_the_system_refuses_to_explain_is_told_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytrace.language.values import accounts

    monkeypatch.setattr(accounts, "MOUNTINFO", "/nonexistent")
    monkeypatch.setattr(accounts._hierarchies, "__defaults__", ("/nonexistent",))
    kind = Opaque("cgroup_path_t", 16, 8, ("*",))
    assert printed("<%s>", (kind, bytes(16))) == "<!{No such file or directory}>"


COUNT, HIST = Aggregate("count", "count_t", True), Aggregate("hist", "hist_t", False, (0,))


@pytest.mark.tag("fmt.check")
@pytest.mark.parametrize(
    ("text", "types", "message"),
    [
        ("%d", [], "not enough arguments for format string (0 supplied, 1 expected)"),
        ("x", [INT32, INT32], "too many arguments for format string (2 supplied, 0 expected)"),
        ("%s", [NONE], "unable to print none type for specifier: s"),
        ("%d", [String(3)], "unsupported format specifier for type 'string[3]': d"),
        ("%d", [COUNT], "unsupported format specifier for type 'count_t': d"),
        ("%s", [HIST], "unsupported format specifier for type 'hist_t': s"),
        ("%r", [String(3)], "unsupported format specifier for type 'string[3]': r"),
        ("%gr", [Buffer(8)], "unsupported format specifier for type 'buffer[8]': gr"),
        ("%f", [INT32], "unsupported format specifier: f"),
        ("%n", [INT32], "unsupported format specifier: n"),
    ],
)
def test_wrong_values(text: str, types: Sequence[Type], message: str) -> None:
    found = problem(parse(text), types)
    assert found is not None
    assert found.message == message


def test_wrong_values_come_with_the_remedy() -> None:
    def hints(text: str, kind: Type) -> tuple[str, ...]:
        found = problem(parse(text), [kind])
        assert found is not None
        return found.hints

    assert hints("%d", String(16)) == ("Use %s to print a value of type 'string[16]'.",)
    assert hints("%d", COUNT) == ("Cast the value to an integer, e.g. `(int64)@x`, or use %s.",)
    assert hints("%s", HIST) == ("Print the whole map with print().",)
    assert hints("%r", String(16)) == ("%r shows the bytes of a buffer: wrap the value in buf().",)


@pytest.mark.tag("fmt.check")
def test_right_values() -> None:
    types = [INT8, BOOL, Pointer(INT8), COLOUR.type, COUNT, String(4), Buffer(8), BOOL]
    assert problem(parse("%d %u %p %x %s %s %rh %gr"), types) is None
