"""Actions: what they make of a record (reference part 2, sections 2.1, 2.5, 2.6, 13.3, 13.4)."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, cast

import pytest

from pytrace.grammar.config import Config
from pytrace.grammar.emit import Value
from pytrace.grammar.layout import Layout, Text
from pytrace.grammar.plan import Action as ActionRecord
from pytrace.grammar.plan import record_offsets
from pytrace.grammar.source import Source, Span
from pytrace.grammar.spec import REGISTRY, CallSite, Output
from pytrace.grammar.types import INT8, INT32, INT64, UINT64, Opaque, Pointer, Space, String, Tuple, Type
from pytrace.language.functions import control, output, runtime_warning, shell
from tests.language.fakes import FakeServices, FakeSession, lay
from tests.language.pyemit import PythonEmit

REGISTERED = (control, output, runtime_warning, shell)  # importing them is what registers the features


def span(text: str, part: str) -> Span:
    start = text.index(part)
    return Source("stdin", text).span(start, start + len(part))


def record(
    feature: str, kinds: tuple[Type | Layout, ...] = (), params: tuple[Any, ...] = (), at: Span | None = None
) -> ActionRecord:
    fields = tuple(k if isinstance(k, Layout) else lay(k) for k in kinds)
    offsets, size = record_offsets(fields)
    return ActionRecord(0, feature, fields, offsets, size, params, at)


def handle(action: ActionRecord, *values: Any, session: FakeSession | None = None) -> Output | None:
    return REGISTRY.action(action.feature).handle(action, values, session or FakeSession())


def shown(action: ActionRecord, *values: Any, session: FakeSession | None = None) -> Output:
    found = handle(action, *values, session=session)
    assert found is not None
    return found


@pytest.mark.tag("fn.printf", "json.printf")
def test_printf() -> None:
    action = record("printf", (INT32, String(16)), ("hi %d %s\n",))
    for number in (3, 4):  # the second time from the cache
        found = shown(action, number, Text("bash"))
        assert found == Output("printf", f"hi {number} bash\n", f"hi {number} bash\n", (number, "bash"))


@pytest.mark.tag("fn.printf")
def test_formatters_belong_to_one_action_and_configuration() -> None:
    action = record("printf", (String(4),), ("%s",))
    cut = Text("abcd", truncated=True)
    assert shown(action, cut).text == "abcd.."
    other = FakeSession(FakeServices(Config(str_trunc_trailer="!")))
    assert shown(action, cut, session=other).text == "abcd!"
    assert shown(record("printf", (String(4),), ("<%s>",)), cut, session=other).text == "<abcd!>"


@pytest.mark.tag("fn.print", "json.value")
def test_print_of_a_value() -> None:
    action = record("print", (Tuple((INT8, String(3))),))
    found = shown(action, (7, Text("ok")))
    assert found == Output("value", "(7, ok)\n", [7, "ok"], ((7, "ok"),))


@pytest.mark.tag("fn.print")
def test_print_of_a_map_shows_it_as_it_is_now() -> None:
    session = FakeSession()
    assert shown(record("print", (), ("@", 5, 10)), session=session) == session.map_answer
    assert session.asked == [("print", "@", 5, 10)]
    session.map_answer = Output("map", "", None)
    assert handle(record("print", (), ("@", 0, 0)), session=session) is None
    session.map_answer = Output("stats", "", {"@": {}})
    assert handle(record("print", (), ("@", 0, 0)), session=session) == session.map_answer


PROGRAM = 'begin { errorf("depth %d", 3); }'


@pytest.mark.tag("diag.errorf", "fn.errorf", "json.errorf")
def test_the_worked_example_of_errorf() -> None:
    at = span(PROGRAM, 'errorf("depth %d", 3)')
    found = shown(record("errorf", (INT64,), ("depth %d",), at), 3)
    assert found.text == "stdin:1:9-30: ERROR: depth 3\n"
    assert found.error
    assert (found.kind, found.data) == ("errorf", None)
    assert found.fields == {"msg": "depth 3", "filename": "stdin", "line": 1, "col": 9}


@pytest.mark.tag("diag.errorf", "fn.warnf", "json.errorf")
def test_a_trailing_newline_of_warnf_is_dropped_in_text_only() -> None:
    at = span(PROGRAM, 'errorf("depth %d", 3)')
    found = shown(record("warnf", (), ("bad\n",), at))
    assert found.text == "stdin:1:9-30: WARNING: bad\n"
    assert found.fields is not None
    assert found.fields["msg"] == "bad\n"
    assert found.kind == "warnf"


@pytest.mark.tag("fn.time", "json.time")
def test_time() -> None:
    found = shown(record("time", (), ("%H:%M:%S\n",)))
    assert re.fullmatch(r"\d\d:\d\d:\d\d\n", found.text)
    assert found == Output("time", found.text, found.text)
    assert shown(record("time", (), ("%Y x",))).text == time.strftime("%Y x")
    for bad in ("", "x" * 64):
        failed = shown(record("time", (), (bad,)))
        assert failed.error
        assert failed.text.startswith("ERROR: strftime returned zero")


@pytest.mark.tag("fn.exit")
def test_exit_keeps_the_low_8_bits() -> None:
    session = FakeSession()
    assert handle(record("exit"), session=session) is None
    for code in (300, -1):
        assert handle(record("exit", (INT64,)), code, session=session) is None
    assert session.asked == [("exit", 0), ("exit", 44), ("exit", 255)]
    assert REGISTRY.action("exit").stops


@pytest.mark.tag("fn.clear", "fn.zero")
def test_clear_and_zero() -> None:
    session = FakeSession()
    assert handle(record("clear", (), ("@a",)), session=session) is None
    assert handle(record("zero", (), ("@b",)), session=session) is None
    assert session.asked == [("clear", "@a"), ("zero", "@b")]


# ---------------------------------------------------------------- join


class MemoryEmit(PythonEmit):
    """Computes with strings and pointers at made-up addresses."""

    def __init__(self, pointers: dict[int, int], strings: dict[int, bytes]) -> None:
        self.pointers, self.strings = pointers, strings
        self.sent: list[tuple[Any, ...]] = []

    def value(self, node: Any) -> Value:
        return cast("Value", node)

    def read(self, to: Any, size: int, address: Value, space: Space) -> Value:
        assert space is Space.USER
        self.store(to, 0, self.integer(self.pointers.get(address.raw, 0)))
        return self.integer(0)

    def read_string(self, to: Any, size: int, address: Value, space: Space) -> Value:
        data = self.strings.get(address.raw)
        if data is None:
            return self.integer(-14)
        data = data[: size - 1] + b"\0"
        start = to.raw.start
        to.raw.data[start : start + len(data)] = data
        return self.integer(len(data))

    def send(self, feature: str, values: Any, params: tuple[Any, ...] = (), span: Any = None) -> None:
        self.sent.append((feature, values, params))


def joined(strings: list[bytes], separator: str | None = None) -> str:
    pointers = {0x100 + 8 * i: 0x9000 + i for i in range(len(strings))}
    emit = MemoryEmit(pointers, {0x9000 + i: s for i, s in enumerate(strings)})

    class Site:
        arguments = (Value(Pointer(Pointer(INT8), Space.USER), 0x100),)
        types = (Pointer(Pointer(INT8), Space.USER),)
        span = None

        def __len__(self) -> int:
            return 1 if separator is None else 2

        def text(self, index: int) -> str:
            return separator or ""

    REGISTRY.action("join").emit(cast("Any", emit), cast("CallSite", Site()))
    feature, (count, raw), params = emit.sent[0]
    action = record(feature, (UINT64, Opaque("join", 16 * 1024)), params)
    found = shown(action, count.raw, bytes(raw.raw.data))
    assert found.text == f"{found.data}\n"
    return found.text


@pytest.mark.tag("fn.join", "json.join")
def test_join() -> None:
    assert joined([b"ls", b"-l"]) == "ls -l\n"
    assert joined([b"a", b"b"], ", ") == "a, b\n"
    assert joined([b"a", b"b"], "") == "ab\n"
    assert joined([]) == "\n"
    assert joined([b"", b"b"]) == "\n"
    assert joined([b"a", b"", b"b"]) == "a\n"
    assert joined([b"x"] * 20) == " ".join(["x"] * 16) + "\n"
    assert joined([b"y" * 2000]) == "y" * 1023 + "\n"


# ---------------------------------------------------------------- cat and system


@pytest.mark.tag("fn.cat", "json.cat")
def test_cat(tmp_path: Path) -> None:
    (tmp_path / "x3").write_bytes(b"0.10 0.20\n" * 2000)
    action = record("cat", (INT32,), (f"{tmp_path}/x%d",))
    found = shown(action, 3)
    assert found.text == ("0.10 0.20\n" * 2000)[:10240]
    assert (found.kind, found.data) == ("cat", found.text)
    small = FakeSession(FakeServices(Config(max_cat_bytes=4)))
    assert shown(action, 3, session=small).text == "0.10"
    missing = shown(action, 4)
    assert missing.text == f"ERROR: failed to open file '{tmp_path}/x4' (No such file or directory)\n"
    assert missing.error


@pytest.mark.tag("fn.system", "json.syscall")
def test_system() -> None:
    found = shown(record("system", (INT32,), ("echo out%d; echo err >&2",)), 1)
    assert found.text == "out1\nerr\n\n"
    assert (found.kind, found.data) == ("syscall", "out1\nerr\n")
    assert shown(record("system", (), ("true",))).text == "\n"
    failed = shown(record("system", (), ("echo lost; exit 3",)))
    assert failed.error
    assert failed.text.startswith("ERROR: command exited with code 3")
    assert REGISTRY.functions["system"].unsafe


# ---------------------------------------------------------------- run-time warnings

LOOKUP = "begin { @m[1] = 1; print(@m[7]); }"


def warning(kind: str, code: int, helper: str = "") -> Output:
    return shown(record("runtime_warning", (INT32,), (kind, helper), span(LOOKUP, "@m[7]")), code)


@pytest.mark.tag("warn.runtime", "warn.lookup", "json.helper_error")
def test_the_worked_example_of_a_missing_key() -> None:
    found = warning("lookup", 0, "map_lookup_elem")
    assert (
        found.text
        == """\
stdin:1:26-31: WARNING: Can't lookup map element because it does not exist.
Additional Info - helper: map_lookup_elem, retcode: 0
begin { @m[1] = 1; print(@m[7]); }
                         ~~~~~
"""
    )
    assert found.error
    assert found.kind == "helper_error"
    assert found.fields == {
        "msg": "Success", "helper": "map_lookup_elem", "retcode": 0, "filename": "stdin", "line": 1,
        "col": 26,
    }  # fmt: skip


@pytest.mark.tag("warn.map-full", "warn.helper", "warn.read", "warn.delete", "json.helper_error")
@pytest.mark.parametrize(
    ("kind", "code", "helper", "text", "msg"),
    [
        (
            "update", -7, "map_update_elem",
            "Map full; can't update element. Try increasing max_map_keys config or manually setting the max "
            "entries in a map declaration e.g. `let @a = hash(5000)`",
            "Argument list too long",
        ),
        ("update", -12, "map_update_elem", "Cannot allocate memory", "Cannot allocate memory"),
        ("helper", -36, "d_path", "File name too long", "File name too long"),
        ("read", -14, "probe_read_user", "Bad address", "Bad address"),
        ("read", -34, "probe_read_kernel", "Numerical result out of range", "Numerical result out of range"),
        (
            "delete", -2, "map_delete_elem",
            "Can't delete map element because it does not exist.", "No such file or directory",
        ),
    ],
)  # fmt: skip
def test_helper_failures(kind: str, code: int, helper: str, text: str, msg: str) -> None:
    found = warning(kind, code, helper)
    first, second, *_ = found.text.splitlines()
    assert first == f"stdin:1:26-31: WARNING: {text}"
    assert second == f"Additional Info - helper: {helper}, retcode: {code}"
    assert found.fields is not None
    assert found.fields["msg"] == msg
    assert found.fields["retcode"] == code


@pytest.mark.tag("warn.div0", "warn.oob", "warn.stack", "warn.cpus", "json.runtime_error")
@pytest.mark.parametrize(
    ("kind", "helper", "text"),
    [
        (
            "div0", "",
            "Divide or modulo by 0 detected. This can lead to unexpected results. "
            "1 is being used as the result.",
        ),
        ("oob", "", "Array access out of bounds. This can lead to unexpected results."),
        ("stack", "kstack", "Error reading kstack."),
        ("stack", "ustack", "Error reading ustack."),
        ("cpus", "", "CPU count mismatch; unable to find per-cpu data."),
    ],
)  # fmt: skip
def test_other_mishaps(kind: str, helper: str, text: str) -> None:
    found = warning(kind, 0, helper)
    assert found.text == f"stdin:1:26-31: WARNING: {text}\n{LOOKUP}\n{' ' * 25}~~~~~\n"
    assert found.kind == "runtime_error"
    assert found.fields == {"msg": text, "filename": "stdin", "line": 1, "col": 26}
