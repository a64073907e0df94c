"""Attach points of self, test, bench and watchpoint; what a run leaves out."""

from __future__ import annotations

import pytest

import pytrace.language  # noqa: F401  (features register themselves)
from pytrace.compilation import Compilation, FilterError, compile_text
from pytrace.grammar.attaching import OnDemand, WatchpointAttach
from pytrace.grammar.diagnostics import CompileError
from pytrace.grammar.spec import REGISTRY
from pytrace.options import Options
from tests.fakehost import FakeHost
from tests.language.checking import errors
from tests.language.probe_world import expand, lines

tag = pytest.mark.tag


def compiled(text: str, **options: object) -> Compilation:
    """A program compiled for a made-up machine."""
    return compile_text(text, options=Options(**options), host=FakeHost())  # type: ignore[arg-type]


def names(text: str, **options: object) -> list[str]:
    """The names of the probes that get code."""
    return [place.name for program in compiled(text, **options).plan.programs for place in program.attach]


# ---------------------------------------------------------------- self, test, bench


@tag("probe.self")
def test_self() -> None:
    (target,) = expand("self:signal:SIGUSR1").targets
    assert target.attach == OnDemand("self:signal:SIGUSR1", "SIGUSR1")
    assert target.section == "raw_tp"
    assert OnDemand("self:signal:SIGUSR1", "SIGUSR1").waits
    assert not OnDemand("begin", "begin").waits


@tag("probe.test", "probe.bench")
@pytest.mark.parametrize("kind", ["test", "bench"])
def test_tests_and_benchmarks(kind: str) -> None:
    (target,) = expand(f"{kind}:one").targets
    assert (target.attach, target.section) == (OnDemand(f"{kind}:one", kind), "xdp")


@tag("err.ap.special", "probe.self", "probe.test")
@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("self:signal:SIGUSR2", "'SIGUSR2' is not a supported signal of a self probe", "The only signal is SIGUSR1."),
        ("self:timer:SIGUSR1", "'timer' is not a supported trigger of a self probe", "self:signal:SIGUSR1"),
        ("test:", "test probe must have a name", "Write test:NAME."),
        ("bench:", "bench probe must have a name", "Write bench:NAME."),
        ("test:a*", "test probe type does not support wildcards", ""),
    ],
)
def test_mistakes(text: str, message: str, hint: str) -> None:
    found = expand(text)
    assert found.errors == [f"err.ap.special: {message}"]
    assert hint in "".join(found.hints)


@tag("err.ap.special", "err.ap.arity")
def test_begin_takes_no_target_and_self_two() -> None:
    assert expand("begin:x").errors == ["err.ap.arity: begin probe type requires 0 arguments, found 1"]
    assert expand("end:x").errors == ["err.ap.arity: end probe type requires 0 arguments, found 1"]
    assert expand("self:signal").errors == ["err.ap.arity: self probe type requires 2 arguments, found 1"]
    assert expand("test").errors == ["err.ap.arity: test probe type requires 1 argument, found 0"]


@tag("err.ap.special", "probe.test", "probe.bench")
def test_a_name_twice() -> None:
    assert names("test:a { } bench:a { } test:b { }", mode="test") == ["test:a", "test:b"]
    with pytest.raises(CompileError) as caught:
        compiled("test:a { }\ntest:a { }")
    (error,) = caught.value.diagnostics
    assert (error.code, error.message) == ("err.ap.special", "There is a test probe named 'a' already")
    assert error.span is not None
    assert error.span.first == (2, 1)
    assert [label.span.first for label in error.labels] == [(1, 1)]


@tag("probe.test", "probe.bench")
@pytest.mark.parametrize("kind", ["test", "bench", "self:signal"])
@pytest.mark.parametrize("word", ["args", "arg0", "retval", "ctx", "func", 'reg("ip")'])
def test_what_is_not_there(kind: str, word: str) -> None:
    text = f"{kind}:{'SIGUSR1' if kind == 'self:signal' else 'x'} {{ _ = {word}; }}"
    with pytest.raises(CompileError) as caught:
        compiled(text, mode="" if kind == "self:signal" else kind)
    assert word.partition("(")[0] in caught.value.diagnostics[0].message


@tag("list.type")
def test_listing() -> None:
    for word, found in (
        ("self", ["signal:SIGUSR1"]),
        ("test", []),
        ("bench", []),
        ("watchpoint", []),
        ("asyncwatchpoint", []),
    ):
        assert lines(REGISTRY.probes[word].search("*", FakeHost(), None)) == found


# ---------------------------------------------------------------- which of a program's probes run

PROGRAM = (
    "begin { } end { } self:signal:SIGUSR1 { } test:one { } bench:two { }"
    "tracepoint:syscalls:sys_enter_openat { } interval:s:1 { }"
)


@tag("probe.test", "probe.bench", "mode.test")
def test_what_a_mode_leaves_out() -> None:
    tracing = ["begin", "end", "self:signal:SIGUSR1", "tracepoint:syscalls:sys_enter_openat", "interval:s:1"]
    assert names(PROGRAM) == tracing
    assert names(PROGRAM, mode="test") == ["begin", "end", "test:one"]
    assert names(PROGRAM, mode="bench") == ["begin", "end", "bench:two"]
    assert compiled("test:one { } bench:two { }").idle_modes == {"test", "bench"}
    assert compiled("test:one { }", mode="test").idle_modes == set()


@tag("cli.probe-filter")
def test_what_a_filter_leaves_out() -> None:
    special = ["begin", "end", "self:signal:SIGUSR1"]
    assert names(PROGRAM, probe_filter="open.t$|nothing") == [*special, "tracepoint:syscalls:sys_enter_openat"]
    assert names(PROGRAM, probe_filter="^s:1") == special
    assert names(PROGRAM, probe_filter="one", mode="test") == ["begin", "end", "test:one"]
    # of one block, some attach points
    block = "interval:s:1, interval:s:2, software:cs:1 { @ = count(); }"
    assert names(block, probe_filter="interval") == ["interval:s:1", "interval:s:2"]
    with pytest.raises(FilterError, match=r"^Invalid --probe-filter regex '\('"):
        compiled(PROGRAM, probe_filter="(")


@tag("cli.probe-filter", "probe.test")
def test_what_is_left_out_is_checked_but_leaves_no_maps() -> None:
    text = "software:cs:1 { @both = 1; @gone = 1; } interval:s:1 { @both = 2; print(@gone); }"
    assert {m.name for m in compiled(text, probe_filter="interval").plan.user_maps} == {"@both", "@gone"}
    assert {m.name for m in compiled("test:a { @t = 1; } begin { @b = 1; }").plan.user_maps} == {"@b"}
    with pytest.raises(CompileError, match="Unknown identifier"):
        compiled("test:a { nonsense } begin { }")


# ---------------------------------------------------------------- limits, nothing left


@tag("probe.limits", "rt.limit.probes", "err.ap.limit")
def test_too_many_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "begin { } begin { } interval:s:1, interval:s:2, interval:s:3 { print(probe); }"
    assert len(names(text, environment=(("BPFTRACE_MAX_BPF_PROGS", "5"),))) == 5
    with pytest.raises(CompileError) as caught:
        compiled(text, environment=(("BPFTRACE_MAX_BPF_PROGS", "4"),))
    (error,) = caught.value.diagnostics
    assert (error.code, error.message) == (
        "err.ap.limit",
        "Your program is trying to generate more than 4 BPF programs, which exceeds the current limit of 4",
    )
    assert "BPFTRACE_MAX_BPF_PROGS" in error.hints[0]


@tag("probe.limits", "rt.limit.probes", "err.ap.limit")
def test_too_many_probes() -> None:
    text = "interval:s:1, interval:s:2, interval:s:3 { @ = count(); }"
    assert len(names(text, environment=(("BPFTRACE_MAX_PROBES", "3"),))) == 3
    with pytest.raises(CompileError) as caught:
        compiled(text, environment=(("BPFTRACE_MAX_PROBES", "2"),))
    (error,) = caught.value.diagnostics
    assert (error.code, error.message) == (
        "err.ap.limit",
        "Can't attach to 3 probes because it exceeds the current limit of 2 probes.",
    )
    assert any("BPFTRACE_MAX_PROBES" in hint for hint in error.hints)


@tag("probe.limits")
def test_the_limits_are_1024_and_a_multi_link_counts_once() -> None:
    many = ", ".join(f"interval:us:{n}" for n in range(1, 1026))
    with pytest.raises(CompileError, match="1025 probes because it exceeds the current limit of 1024"):
        compiled(f"{many} {{ }}")
    (link,) = names("kprobe:vfs_* { }", environment=(("BPFTRACE_MAX_PROBES", "1"),))
    assert link.startswith("kprobe:vfs_")
    assert link.endswith(" more")


@tag("err.ap.none", "probe.missing")
def test_a_block_without_attach_points() -> None:
    with pytest.raises(CompileError) as caught:
        compiled("tracepoint:nothing:of* { } begin { }")
    error = caught.value.diagnostics[0]
    assert (error.code, error.message) == ("err.ap.none", "Probe has no valid attach points.")
    assert "missing_probes" in error.hints[0]
    warned = compiled("config = { missing_probes=warn } tracepoint:nothing:of* { } begin { }")
    assert [place.name for p in warned.plan.programs for place in p.attach] == ["begin"]
    assert "err.ap.none" in {w.code for w in warned.warnings}
    quiet = compiled("config = { missing_probes=ignore } tracepoint:nothing:of* { } begin { }")
    assert not quiet.warnings


# ---------------------------------------------------------------- watchpoint


@tag("probe.watchpoint", "probe.name")
@pytest.mark.parametrize(
    ("text", "name", "address", "length", "kind"),
    [
        ("watchpoint:0x10000000:8:w", "watchpoint:268435456:8:w", 0x10000000, 8, 2),
        ("w:4096:4:wr", "watchpoint:4096:4:rw", 4096, 4, 3),
        ("watchpoint:4097:1:rw", "watchpoint:4097:1:rw", 4097, 1, 3),
        ("watchpoint:0xffffffff81000001:1:x", "watchpoint:18446744071578845185:8:x", 0xFFFFFFFF81000001, 8, 4),
    ],
)
def test_watchpoints(text: str, name: str, address: int, length: int, kind: int) -> None:
    (target,) = expand(text).targets
    assert target.attach == WatchpointAttach(name, address, length, kind)
    assert (target.name, target.section) == (name, "perf_event")


@tag("err.ap.watchpoint", "probe.watchpoint")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("watchpoint:0:8:w", "watchpoint must be attached to a non-zero address"),
        ("watchpoint:main:8:w", "watchpoint address 'main' is not an integer from 1 to 2^64-1"),
        ("watchpoint:-8:8:w", "watchpoint address '-8' is not an integer from 1 to 2^64-1"),
        ("watchpoint:8:3:w", "watchpoint length must be one of 1, 2, 4, 8, found '3'"),
        ("watchpoint:8::w", "watchpoint length must be one of 1, 2, 4, 8, found ''"),
        ("watchpoint:8:8:", "watchpoint mode must be a combination of r, w, x"),
        ("watchpoint:8:8:rq", "watchpoint mode must be a combination of r, w, x, found 'q'"),
        ("watchpoint:8:8:ww", "watchpoint mode 'ww' has a letter twice"),
        ("watchpoint:8:8:r", "this processor cannot watch with mode 'r'; it supports w, rw, x"),
        ("watchpoint:8:8:xr", "this processor cannot watch with mode 'xr'; it supports w, rw, x"),
        ("watchpoint:0x1004:8:w", "watchpoint address 0x1004 is not aligned to its length"),
    ],
)
def test_watchpoints_that_are_wrong(text: str, message: str) -> None:
    assert expand(text).errors == [f"err.ap.watchpoint: {message}"]


@tag("probe.watchpoint.removed")
@pytest.mark.parametrize("text", ["asyncwatchpoint:main+arg0:8:w", "watchpoint:main+arg1:8:w", "aw:0x1000:8:w"])
def test_watchpoints_that_are_no_more(text: str) -> None:
    found = expand(text)
    assert [error.partition(":")[0] for error in found.errors] == ["probe.watchpoint.removed"]
    assert "is not supported any more" in found.errors[0]
    assert "watchpoint:ADDRESS:LENGTH:MODE" in found.hints[0]


@tag("fn.unwatch")
def test_unwatch() -> None:
    assert errors("unwatch(0x1000);") == ["unwatch() is not supported any more"]


# ---------------------------------------------------------------- units


@tag("probe.interval.check", "err.ap.unit")
def test_a_unit_twice() -> None:
    found = expand("interval:s:1s")
    assert found.errors == ["err.ap.unit: Invalid rate of interval probe: '1s' is not an integer"]
    assert found.hints == ["Write interval:1s or interval:s:COUNT."]
    assert expand("profile:ms:0xd").names == ["profile:ms:13"]  # the d is a digit
