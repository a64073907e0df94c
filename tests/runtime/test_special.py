"""XDP programs on demand, watchpoints, facilities to do without, waiting without a ring buffer."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import pytest

from pytrace.grammar.attaching import (
    Attach,
    KprobeMultiAttach,
    OnDemand,
    PerfEventAttach,
    UprobeAttach,
    WatchpointAttach,
)
from pytrace.runtime import attach_multi, reasons
from pytrace.runtime.attach import Attacher
from pytrace.runtime.bpf_object import BpfObject
from pytrace.runtime.host import LiveHost
from pytrace.runtime.reasons import describe
from tests.runtime.objects import Code, build, count, counters, map_spec, plan, tracer

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


@pytest.mark.root
@tag("cli.no-feature")
@pytest.mark.parametrize("without", [frozenset[str](), frozenset({"uprobe_multi"}), frozenset({"kprobe_multi"})])
def test_links_that_shall_not_be_used(without: frozenset[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Which programs are loaded for multi links, on a kernel that has all of them."""
    monkeypatch.setattr(attach_multi, "has_multi", lambda kind: True)
    functions = Code("a", "kprobe", "  ret i32 0", (KprobeMultiAttach("kprobe:*", ("f", "g")),))
    file = Code("b", "uprobe", "  ret i32 0", (UprobeAttach("uprobe:x:f", "/x", 1),))
    codes = [functions, file]
    loaded = BpfObject(build([], codes))
    attacher = Attacher(plan([], codes), loaded, 0, without)
    attacher.prepare()
    assert attacher._multi == {"a", "b"} - {{"kprobe_multi": "a", "uprobe_multi": "b"}[name] for name in without}
    loaded.close()


@tag("cli.no-feature")
def test_the_host_says_that_it_has_not() -> None:
    without = frozenset({"kprobe_multi", "kprobe_session", "uprobe_multi"})
    host = LiveHost(without=without)
    assert not any(host.has(name) for name in without)
