"""Integers, durations, strings and words, in programs and outside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytrace.grammar import nodes
from pytrace.grammar.literals import LiteralError, parse_integer, parse_string, quote
from pytrace.grammar.source import decode_text
from tests.grammar.parsing import expression

tag = pytest.mark.tag

MAX = (1 << 64) - 1

VALID = [
    *[pytest.param(t, v, marks=tag("lex.int.decimal")) for t, v in [
        ("0", 0), ("4096", 4096), ("1_000_000", 1_000_000), ("1__0", 10), (str(MAX), MAX),
    ]],
    *[pytest.param(t, v, marks=tag("lex.int.hex")) for t, v in [
        ("0x1f", 31), ("0Xff_ff", 0xFFFF), ("0x5e5", 0x5E5), ("0xFfFfFfFfFfFfFfFf", MAX),
    ]],
    *[pytest.param(t, v, marks=tag("lex.int.octal")) for t, v in [
        ("0755", 0o755), ("00", 0), ("010u", 8), ("0_17", 15),
    ]],
    *[pytest.param(t, v, marks=tag("lex.int.exponent")) for t, v in [
        ("2e6", 2_000_000), ("1e1_0", 10**10), ("1E3", 1000), ("9e18", 9 * 10**18), ("1e3u", 1000),
    ]],
    *[pytest.param(t, v, marks=tag("lex.int.suffix")) for t, v in [
        ("10u", 10), ("10ul", 10), ("10ull", 10), ("10l", 10), ("10ll", 10), ("4294967295u", 2**32 - 1),
        ("9223372036854775807ll", 2**63 - 1), (f"{MAX}ull", MAX),
    ]],
    *[pytest.param(t, v, marks=tag("lex.int.duration")) for t, v in [
        ("15ns", 15), ("20us", 20_000), ("5ms", 5_000_000), ("3s", 3 * 10**9), ("2m", 120 * 10**9),
        ("1h", 3600 * 10**9), ("7d", 7 * 86400 * 10**9), ("1e3ms", 10**9), ("0s", 0),
    ]],
]  # fmt: skip

INVALID = [
    *[pytest.param(t, marks=tag("lex.int.decimal")) for t in ("1_", "1_u", "1_ms")],
    *[pytest.param(t, marks=tag("lex.int.hex")) for t in ("0x", "0x_1", "0x1_", "0x1g", "0x1ms")],
    *[pytest.param(t, marks=tag("lex.int.octal")) for t in ("08", "0719", "010ms")],
    *[pytest.param(t, marks=tag("lex.int.exponent")) for t in (
        "12e4", "0e5", "1e0", "5e", "1e_1", "1e1_", "1e01"
    )],
    *[pytest.param(t, marks=tag("lex.int.suffix")) for t in (
        "10lu", "10lul", "10ulll", "10uu", "4294967296u", "9223372036854775808l"
    )],
    *[pytest.param(t, marks=tag("lex.int.range")) for t in (
        str(MAX + 1), "1e20", "213504d", "0x10000000000000000", "9" * 10_000, "1e" + "9" * 10_000
    )],
    *[pytest.param(t, marks=tag("lex.int.duration")) for t in ("5MS", "5min", "5ms_")],
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), VALID)
def test_integers(text: str, value: int) -> None:
    assert parse_integer(text) == value
    tree = expression(text)
    assert isinstance(tree, nodes.Integer)
    assert (tree.value, tree.span.text) == (value, text)


@pytest.mark.parametrize("text", INVALID)
def test_no_integers(text: str) -> None:
    with pytest.raises(LiteralError):
        parse_integer(text)


@tag("lex.int.suffix")
def test_upper_case_suffixes_in_programs_only() -> None:
    assert [parse_integer(t) for t in ("10U", "10UL", "10ULL", "10L", "10LL")] == [10] * 5
    with pytest.raises(LiteralError):
        parse_integer("10UL", external=True)


@tag("lex.int.external")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0b101", 5), ("0B1_1", 3), ("-5", -5), ("+5", 5), ("5_", 5), ("0x1f_", 31), ("-0b11", -3),
        ("1e6", 10**6), ("5ms", 5_000_000), ("0755", 0o755), ("10ul", 10), ("-0x8000000000000000", -(2**63)),
    ],
)  # fmt: skip
def test_external_integers(text: str, value: int) -> None:
    assert parse_integer(text, external=True) == value


@tag("lex.int.external")
@pytest.mark.parametrize(
    "text",
    ["12e4", "1e0", "08", "10UL", str(MAX + 1), "", "-", "_", "- 5", "--5", "0b2", "abc", "-9e18s", " 5"],
)
def test_other_external_text_is_no_integer(text: str) -> None:
    with pytest.raises(LiteralError):
        parse_integer(text, external=True)


@tag("lex.string.escape", "lex.string")
@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("", b""),
        ("abc", b"abc"),
        (r"\n\t\r\"\\", b'\n\t\r"\\'),
        (r"\0\12\377\1234", b"\x00\n\xffS4"),
        (r"\x4\x41\X41g\xfff", b"\x04AAg\xfff"),
        ("é // /* {", "é // /* {".encode()),
        (r"a\0b", b"a\0b"),
        ("\t'#", b"\t'#"),
    ],
)
def test_strings(body: str, value: bytes) -> None:
    assert parse_string(body) == value
    tree = expression(f'"{body}"')
    assert isinstance(tree, nodes.StringLiteral)
    assert tree.value == value


@tag("lex.string.escape")
@pytest.mark.parametrize("body", [r"\q", r"\a", r"\8", r"\x", r"\xg", r"\400", "\\", "a\\"])
def test_bad_escapes(body: str) -> None:
    with pytest.raises(LiteralError):
        parse_string(body)


@tag("lex.string")
def test_any_bytes_in_strings() -> None:
    tree = expression(decode_text(b'"\xff\xfe\x80\xc3"'))
    assert isinstance(tree, nodes.StringLiteral)
    assert tree.value == b"\xff\xfe\x80\xc3"


@given(st.binary())
def test_quote_is_undone_by_parsing(value: bytes) -> None:
    assert parse_string(quote(value)[1:-1]) == value


@tag("lex.bool", "lex.identifier", "lex.sigil", "lex.posparam")
def test_words_and_sigils() -> None:
    assert [getattr(expression(t), "value", None) for t in ("true", "false")] == [True, False]
    for text, kind, name in [
        ("_a1Z", nodes.Identifier, "_a1Z"),
        ("truey", nodes.Identifier, "truey"),
        ("iffy", nodes.Identifier, "iffy"),
        ("$_a1Z", nodes.Variable, "_a1Z"),
        ("$if", nodes.Variable, "if"),
        ("@_a1Z", nodes.Map, "_a1Z"),
        ("@while", nodes.Map, "while"),
        ("@", nodes.Map, ""),
    ]:
        tree = expression(text)
        assert isinstance(tree, kind)
        assert getattr(tree, "name", None) == name
    first, last = expression("$1"), expression("$9223372036854775807")
    assert isinstance(first, nodes.Positional)
    assert isinstance(last, nodes.Positional)
    assert (first.number, last.number) == (1, 2**63 - 1)
    assert isinstance(expression("$#"), nodes.PositionalCount)
