"""Outputs on their streams: which text goes where and when, and the exact spacing of JSON documents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytrace.grammar.spec import Output
from pytrace.printer import JsonPrinter, Stream, TextPrinter, WriteError, document, make_printer, to_json


class Sink:
    """A file that a stream writes to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)

    @property
    def text(self) -> str:
        """What has been written so far."""
        return self._path.read_bytes().decode("utf-8", "surrogateescape")


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Sink]:
    sink = Sink(tmp_path / "out")
    yield sink
    os.close(sink.descriptor)


@pytest.fixture
def messages(tmp_path: Path) -> Iterator[Sink]:
    sink = Sink(tmp_path / "err")
    yield sink
    os.close(sink.descriptor)


ATTACHED = Output("attached_probes", "", {"probes": 2}, fields={"count": 2})
WARNED = Output("warnf", "stdin:1:1-2: WARNING: w\n", None, error=True, fields={"msg": "w"})
FAILED = Output("error", "ERROR: no\n", error=True)
ALL = (
    ATTACHED,
    Output("printf", "hi\n", "hi\n"),
    WARNED,
    FAILED,
    Output("lost_events", "Lost 3 events\n", {"events": 3}, error=True, fields={"count": 3}),
    Output("maps_follow", "\n\n"),
    Output("map", "@x: 5\n", {"@x": 5}),
    Output("map", "", None),
    Output("losses", "WARNING: Total lost event count: 3\n", {"events": 3}, error=True),
)


# ---------------------------------------------------------------- buffering


def test_a_line_is_written_when_nothing_more_waits(out: Sink) -> None:
    stream = Stream(out.descriptor)
    stream.write("a")
    stream.settle()
    assert out.text == ""
    stream.write("b\nc")
    assert out.text == ""
    stream.settle()
    assert out.text == "ab\nc"


def test_no_buffer(out: Sink) -> None:
    stream = Stream(out.descriptor, "none")
    stream.write("a")
    assert out.text == "a"


def test_full_buffer(out: Sink) -> None:
    stream = Stream(out.descriptor, "full")
    stream.write("a\n")
    stream.settle()
    assert out.text == ""
    stream.write("b" * 70_000)
    assert len(out.text) == 70_002


def test_bytes_of_the_traced_program_come_out_as_they_are(out: Sink) -> None:
    stream = Stream(out.descriptor, "none")
    stream.write("\udcff\xe9")
    assert out.text.encode("utf-8", "surrogateescape") == b"\xff\xc3\xa9"


def test_a_reader_that_went_away() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(WriteError) as caught:
        Stream(writing, "none").write("x")
    os.close(writing)
    assert caught.value.errno == 32


def test_a_descriptor_that_does_not_wait() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    size = 1 << 20
    with subprocess.Popen([sys.executable, "-c", f"import sys; print(len(sys.stdin.buffer.read({size})))"],
                          stdin=reading, stdout=subprocess.PIPE, text=True) as reader:  # fmt: skip
        Stream(writing, "none").write("x" * size)
        assert reader.communicate(timeout=20)[0] == f"{size}\n"
    os.close(reading)
    os.close(writing)


# ---------------------------------------------------------------- text


def test_text(out: Sink, messages: Sink) -> None:
    printer = TextPrinter(Stream(out.descriptor), Stream(messages.descriptor))
    for output in ALL:
        printer.show(output)
    printer.close()
    assert out.text == "hi\n\n\n@x: 5\n"
    assert messages.text == (
        "Attached 2 probes\nstdin:1:1-2: WARNING: w\nERROR: no\nLost 3 events\nWARNING: Total lost event count: 3\n"
    )


def test_one_probe_is_not_probes(out: Sink, messages: Sink) -> None:
    printer = TextPrinter(Stream(out.descriptor), Stream(messages.descriptor))
    printer.show(Output("attached_probes", "", {"probes": 1}))
    assert messages.text == "Attached 1 probe\n"


def test_quiet_text_without_warnings(out: Sink, messages: Sink) -> None:
    printer = TextPrinter(Stream(out.descriptor), Stream(messages.descriptor), quiet=True, warnings=False)
    for output in (ATTACHED, WARNED, FAILED):
        printer.show(output)
    assert messages.text == "ERROR: no\n"


def test_messages_come_behind_what_was_shown_before() -> None:
    reading, writing = os.pipe()
    printer = TextPrinter(Stream(writing), Stream(writing))
    printer.show(Output("printf", "asking...", "asking..."))
    printer.show(WARNED)
    assert os.read(reading, 100).startswith(b"asking...stdin:1")
    os.close(reading)
    os.close(writing)


# ---------------------------------------------------------------- JSON


def test_json(out: Sink, messages: Sink) -> None:
    printer = JsonPrinter(Stream(out.descriptor), Stream(messages.descriptor))
    for output in ALL:
        printer.show(output)
    printer.close()
    assert out.text.splitlines() == [
        '{"type": "attached_probes", "count": 2, "data": {"probes": 2}}',
        '{"type": "printf", "data": "hi\\n"}',
        '{"type": "warnf", "msg": "w"}',
        '{"type": "lost_events", "count": 3, "data": {"events": 3}}',
        '{"type": "map", "data": {"@x": 5}}',
        '{"type": "losses", "data": {"events": 3}}',
    ]
    assert messages.text == "ERROR: no\nWARNING: Total lost event count: 3\n"


def test_quiet_json_without_warnings(out: Sink, messages: Sink) -> None:
    printer = JsonPrinter(Stream(out.descriptor), Stream(messages.descriptor), quiet=True, warnings=False)
    for output in (ATTACHED, WARNED):
        printer.show(output)
    printer.close()
    assert out.text == ""


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (Output("map", "", {"@": {"a,1": 7, "b": 9}}), '{"type": "map", "data": {"@": {"a,1": 7, "b": 9}}}'),
        (
            Output("hist", "", {"@h": [{"max": -1, "count": 1}, {"min": 0, "max": 0, "count": 2}]}),
            '{"type": "hist", "data": {"@h": [{"max": -1, "count": 1},{"min": 0, "max": 0, "count": 2}]}}',
        ),
        (Output("value", "", [1, "x", {"a": 2}]), '{"type": "value", "data": [1,"x",{"a": 2}]}'),
        (Output("value", "", None), '{"type": "value", "data": null}'),
        (Output("value", "", (True, False, [])), '{"type": "value", "data": [true,false,[]]}'),
        (
            Output("tseries", "", {"@t": [{"interval_start": "a", "value": 2}, {"value": 3}]}),
            '{"type": "tseries", "data": {"@t": [{"interval_start":"a","value":2},{"value":3}]}}',
        ),
        (
            Output("helper_error", "", None, fields={"msg": "Bad address", "retcode": -14, "line": 1}),
            '{"type": "helper_error", "msg": "Bad address", "retcode": -14, "line": 1}',
        ),
        (Output("stats", "", {"@s": {}}), '{"type": "stats", "data": {"@s": {}}}'),
    ],
)  # fmt: skip
def test_documents(output: Output, line: str) -> None:
    assert document(output) == f"{line}\n"
    json.loads(line)


def test_a_map_with_nothing_in_it_has_no_document() -> None:
    assert document(Output("map", "", None)) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("\n\r\t", '"\\n\\r\\t"'),
        ("\b\f\x00\x1f", '"\\u0008\\u000c\\u0000\\u001f"'),
        ("\x7fé", '"\x7fé"'),
        ("x\udcff", '"x\ufffd"'),
    ],
)
def test_strings(text: str, shown: str) -> None:
    assert to_json(text) == shown


@pytest.mark.parametrize("value", [{"a\n": [1, {"b": None}]}, "\u2028", -5, [[], {}]])
def test_what_is_written_is_json(value: Any) -> None:
    assert json.loads(to_json(value)) == value


def test_the_format_chooses_the_printer(out: Sink) -> None:
    assert isinstance(make_printer("json", out.descriptor, "line"), JsonPrinter)
    assert isinstance(make_printer("text", out.descriptor, "line"), TextPrinter)
