"""Splitting the text of attach points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytrace.grammar.attachpoint import AttachPoint, AttachPointError, split, split_node
from pytrace.grammar.diagnostics import Diagnostics
from tests.grammar.parsing import program

tag = pytest.mark.tag


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("begin", ("begin",)),
        ("tracepoint:a:b", ("tracepoint", "a", "b")),
        ("a::b:", ("a", "", "b", "")),
        ("", ("",)),
        ("uprobe:/bin/x*:f+0x8", ("uprobe", "/bin/x*", "f+0x8")),
        ("a:b=c", ("a", "b=c")),
    ],
)
def test_parts(text: str, parts: tuple[str, ...]) -> None:
    assert split(text) == AttachPoint(parts)


@tag("lex.ap.quote")
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('uprobe:/bin/x:"ns::f"+8', ("uprobe", "/bin/x", "ns::f+8")),
        ('a:"b c,{d}@e$f"', ("a", "b c,{d}@e$f")),
        (r'a:"\"\\\x"', ("a", '"\\x')),
        ('"a=b"', ("a=b",)),
        ('a:""', ("a", "")),
        ("uprobe:/bin/x@f.c:10:3", ("uprobe", "/bin/x", "@", "f.c", "10", "3")),
        ("a:@b", ("a", "", "@", "b")),
    ],
)
def test_quotes_and_at(text: str, parts: tuple[str, ...]) -> None:
    assert split(text) == AttachPoint(parts)


@tag("prog.probe.name")
def test_names() -> None:
    assert split("x=kprobe:f") == AttachPoint(("kprobe", "f"), "x")
    assert split("x=y=z") == AttachPoint(("y=z",), "x")
    assert split('"x"=kprobe:f') == AttachPoint(("x=kprobe", "f"))
    assert split("1x=kprobe:f") == AttachPoint(("1x=kprobe", "f"))


@tag("lex.ap.param")
@pytest.mark.parametrize(
    ("text", "parameters", "parts"),
    [
        ("kprobe:$1", ["f"], ("kprobe", "f")),
        ("kprobe:a$1b", ["f"], ("kprobe", "afb")),
        ("kprobe:$1", [], ("kprobe", "")),
        ("kprobe:$10", ["f"], ("kprobe", "")),
        ("$1", ["kprobe:m:f"], ("kprobe", "m", "f")),
        ("$1:$2", ["kprobe", "x$3"], ("kprobe", "x")),
        ("$1$1", ["a:"], ("a", "a", "")),
        ("a:$2", ["", "$1$1"], ("a", "")),
        ('a:"$1"', ["f"], ("a", "$1")),
        ("a:$1", ['"b:c"'], ("a", "b:c")),
    ],
)
def test_parameters(text: str, parameters: list[str], parts: tuple[str, ...]) -> None:
    assert split(text, parameters) == AttachPoint(parts)


@tag("lex.ap.param")
@pytest.mark.parametrize(
    ("text", "parameters", "place"),
    [
        ("kprobe:$0", [], "$"),
        ("kprobe:$x", [], "$"),
        ("kprobe:f$", [], "$"),
        ("kprobe:$1:x", ["$1"], "$1"),
        ("a:$1", ["$2", "b$1"], "$1"),
        ("a:$1", ["$$"], "$"),
        ("$1", ["$2$2$2$2$2$2$2$2", "x" * 10_000], "$1"),
        ('a:"b', [], '"b'),
    ],
)
def test_errors(text: str, parameters: list[str], place: str) -> None:
    with pytest.raises(AttachPointError) as caught:
        split(text, parameters)
    assert text[caught.value.start : caught.value.end] == place


@tag("lex.ap.param")
def test_errors_stand_at_their_place_in_the_program() -> None:
    (point,) = program("kprobe:$x { }").probes[0].attach_points
    diagnostics = Diagnostics()
    assert split_node(point, [], diagnostics) is None
    (found,) = diagnostics.errors
    assert found.span
    assert (found.span.start, found.span.end) == (7, 8)
    assert "quotes" in found.hints[0]
    assert split_node(point, [], Diagnostics()) is None
    (point,) = program("kprobe:$1 { }").probes[0].attach_points
    assert split_node(point, ["f"], diagnostics) == AttachPoint(("kprobe", "f"))


@given(st.text(), st.lists(st.text('$12:"@=ab'), max_size=3))
def test_any_text_is_split_or_refused(text: str, parameters: list[str]) -> None:
    place = (0, 0)
    try:
        split(text, parameters)
    except AttachPointError as error:
        place = (error.start, error.end)
    assert 0 <= place[0] <= place[1] <= len(text)
