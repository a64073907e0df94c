"""The Python interface: typed results, events, losses, errors as exceptions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pytrace
from pytrace.language.histogram import Bucket, Histogram
from pytrace.runtime.privileges import PrivilegeError

pytestmark = pytest.mark.root


def test_maps_are_python_values() -> None:
    program = """begin {
        @int = -5; @text = "abc"; @by["x", 1] = 2; @n = count(); @n = count(); @mean[1] = avg(4); @mean[1] = avg(6);
        @sizes = hist(5); @sizes = hist(6); @flag = true;
    }"""
    with pytrace.trace(program) as t:
        t.run()
        assert t.maps["@int"] == -5
        assert t.maps["@text"] == "abc"
        assert t.maps["@by"] == {("x", 1): 2}
        assert t.maps["@n"] == 2
        assert t.maps["@mean"] == {1: 5}
        assert t.maps["@flag"] is True
        assert t.maps["@sizes"] == Histogram((Bucket(4, 8, 2),))
        assert t.maps["@sizes"].total == 2
        assert not t.losses


def test_events_have_values_and_text() -> None:
    with pytrace.trace('begin { printf("%d %s\\n", $1, str($2)); print((1, "a")); @m = 1; exit(3); }', (7, "word")) as t:
        events = list(t.events())
        assert [(e.kind, e.text, e.values) for e in events] == [
            ("printf", "7 word\n", (7, "word")),
            ("value", "(1, a)\n", ((1, "a"),)),
        ]
        assert t.exit_code == 3


def test_losses_are_counted() -> None:
    with pytrace.trace("let @m = hash(2); begin { unroll(5) { @i++; @m[@i] = 1; } }") as t:
        t.run()
        assert t.losses.updates == {"@m": 3}
        assert t.losses


def test_a_program_that_is_wrong_is_an_exception() -> None:
    with pytest.raises(pytrace.CompileError) as error, pytrace.trace("begin { print(com); }"):
        pass
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.code == "err.name.ident"
    assert diagnostic.span is not None
    assert diagnostic.span.text == "com"
    assert diagnostic.hints == ("Did you mean 'comm' or 'pcomm'?",)


def test_missing_rights_are_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PrivilegeError("run it as root")

    monkeypatch.setattr("pytrace.api.check_privileges", refuse)
    with pytest.raises(PrivilegeError), pytrace.trace("begin { }"):
        pass


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytrace.trace('begin { printf("text\\n"); @m = 1; warnf("careful"); }') as t:
        t.run()
    assert capfd.readouterr() == ("", "")


def test_a_trace_can_be_stopped() -> None:
    with pytrace.trace(f"tracepoint:syscalls:sys_enter_getsid /pid == {os.getpid()}/ {{ @ = count(); print(1); }}") as t:
        for output in t.outputs():
            if output.kind == "attached_probes":
                os.getsid(0)
            elif output.kind == "value":
                t.stop()
        assert t.maps["@"] == 1


def resident() -> int:
    """Bytes of this process's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_many_programs_in_one_process_take_no_more_memory() -> None:
    """The kernel's types alone are 6 MB."""
    sizes = []
    for number in range(24):
        text = f"begin {{ @[((struct task_struct *)curtask)->tgid, {number}] = count(); exit(); }}"
        with pytrace.trace(text, cache=False) as t:
            t.run()
        sizes.append(resident())
    assert sizes[-1] - sizes[7] < 24 << 20
