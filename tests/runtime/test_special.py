"""XDP programs on demand, watchpoints, facilities to do without, waiting without a ring buffer."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import pytest

from pytrace.grammar.plan import (
    Attach,
    KprobeMultiAttach,
    OnDemand,
    PerfEventAttach,
    ProgramSpec,
    UprobeAttach,
    WatchpointAttach,
)
from pytrace.runtime import attach_multi, reasons
from pytrace.runtime.attach_multi import KPROBE_MULTI, UPROBE_MULTI, link_type
from pytrace.runtime.host import LiveHost
from pytrace.runtime.reasons import describe
from tests.runtime.objects import Code, count, counters, map_spec, tracer

COUNTERS = map_spec("counters", "array", entries=4)
TEST = (OnDemand("test:x", "test"),)
tag = pytest.mark.tag


@pytest.mark.root
def test_an_xdp_program_is_run_and_measured() -> None:
    with tracer([COUNTERS], [Code("p", "xdp", count("counters"), TEST)]) as run:
        run.load()
        (program,) = run.plan.programs
        result, duration = run.measure(program)
        assert result == 0
        assert duration > 0
        assert counters(run)[0] == 1
        _, average = run.measure(program, 1000)
        assert counters(run)[0] == 1001
        assert 0 <= average < 1_000_000
        assert run.run_on_demand("begin") == []


@pytest.mark.root
def test_the_result_of_an_xdp_program() -> None:
    with tracer([], [Code("p", "xdp", "  ret i32 7", TEST)]) as run:
        run.load()
        assert run.measure(run.plan.programs[0])[0] == 7


@pytest.mark.root
def test_waiting_without_a_ring() -> None:
    """Nothing can come, so the wait takes its time, unless it is ended."""
    with tracer([], [Code("p", "xdp", "  ret i32 7", TEST)]) as run:
        run.load()
        began = time.monotonic()
        assert run.poll(80, lambda records: None) == 0
        assert time.monotonic() - began >= 0.07
        began = time.monotonic()
        assert run.poll(0, lambda records: None) == 0
        waker = threading.Timer(0.02, run.wake)
        waker.start()
        assert run.poll(60_000, lambda records: None) == 0
        assert time.monotonic() - began < 30
        waker.join()


# ---------------------------------------------------------------- reasons


WATCH = WatchpointAttach("watchpoint:8:8:w", 8, 8, 2)


@tag("probe.watchpoint", "err.ap.attach")
@pytest.mark.parametrize(
    ("place", "number", "part"),
    [
        (WATCH, errno.ENOSPC, "No more HW registers left"),
        (WATCH, errno.EINVAL, "cannot watch 8 bytes at 0x8"),
        (WATCH, errno.EOPNOTSUPP, "no hardware breakpoints"),
        (WATCH, errno.EPERM, "does not permit"),
        (PerfEventAttach("software:cs", 1, 3, 1), errno.ENOENT, "does not have this event"),
    ],
)
def test_reasons(place: Attach, number: int, part: str) -> None:
    assert part in describe(place, OSError(number, ""))


@tag("probe.hardware", "err.ap.attach")
def test_a_machine_without_performance_counters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = PerfEventAttach("hardware:cycles", reasons.PERF_TYPE_HARDWARE, 0, 1)
    monkeypatch.setattr(reasons, "_PROCESSOR", tmp_path / "cpu")
    assert "performance counters (PMU)" in describe(place, OSError(errno.ENOENT, ""))
    (tmp_path / "cpu").mkdir()
    assert "does not have this event" in describe(place, OSError(errno.EOPNOTSUPP, ""))


# ---------------------------------------------------------------- doing without


@tag("cli.no-feature")
def test_links_that_shall_not_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach_multi, "has_multi", lambda kind: True)
    functions = ProgramSpec("a", "kprobe", (KprobeMultiAttach("kprobe:*", ("f", "g")),))
    file = ProgramSpec("b", "uprobe", (UprobeAttach("uprobe:x:f", "/x", 1),))
    assert (link_type(functions), link_type(file)) == (KPROBE_MULTI, UPROBE_MULTI)
    assert link_type(functions, frozenset({"kprobe_multi"})) is None
    assert link_type(functions, frozenset({"uprobe_multi"})) == KPROBE_MULTI
    assert link_type(file, frozenset({"uprobe_multi"})) is None


@tag("cli.no-feature")
def test_the_host_says_that_it_has_not() -> None:
    without = frozenset({"kprobe_multi", "kprobe_session", "uprobe_multi"})
    host = LiveHost(without=without)
    assert not any(host.has(name) for name in without)
