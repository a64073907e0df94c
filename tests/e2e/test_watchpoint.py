"""Watchpoints: the processor's debug registers on the variables and functions of a small program."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

import pytrace
from pytrace.runtime import cpus
from pytrace.runtime.attach import AttachError
from pytrace.runtime.syscalls import PERF_TYPE_BREAKPOINT, PerfAttr, perf_event_open
from tests.e2e.conftest import Runner
from tests.e2e.programs import run as trace
from tests.e2e.workloads import build, observe

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not Path("/sys/bus/event_source/devices/breakpoint").exists(), reason="this kernel has no hardware breakpoints"
    ),
]
tag = pytest.mark.tag

REGISTERS = 4  # debug registers of an x86 processor for addresses
TIMES = 7


class Watched(NamedTuple):
    """The workload: its path and where its variables and function are."""

    path: str
    counted: int
    halves: int
    function: int

    def command(self, *more: str) -> str:
        return " ".join((self.path, str(TIMES), *more))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """The workload, compiled."""
    path = build(tmp_path_factory.mktemp("watched"), "watched", "-O1", "-no-pie", "-pthread")
    lines = subprocess.run(["nm", path], check=True, capture_output=True, text=True).stdout.splitlines()
    places = {name: int(address, 16) for address, _, name in (line.split() for line in lines if line[0] != " ")}
    return Watched(path, places["counted"], places["halves"], places["watched_function"])


@tag("probe.watchpoint", "probe.cmd")
@pytest.mark.parametrize("more", [(), ("thread",)], ids=["main", "thread"])
def test_a_command(watched: Watched, more: tuple[str, ...]) -> None:
    """Each kind of access, in the thread that there was and in one that came later."""
    maps = trace(
        f"watchpoint:{watched.counted}:8:w {{ @written[pid == cpid, probe] = count(); }}"
        f"w:{watched.counted:#x}:8:wr {{ @touched[pid == cpid] = count(); }}"
        f'watchpoint:{watched.function:#x}:1:x {{ @called[pid == cpid, reg("ip")] = count(); }}'
        f"watchpoint:{watched.halves + 2}:2:w {{ @half = count(); }}",
        command=watched.command(*more),
    ).maps
    assert maps == {
        "@written": {(True, f"watchpoint:{watched.counted}:8:w"): TIMES},
        "@touched": {True: 3 * TIMES},
        "@called": {(True, watched.function): 3 * TIMES},
        "@half": TIMES,
    }


@tag("probe.watchpoint")
def test_whoever_comes(watched: Watched) -> None:
    """Without a process there is a breakpoint on each CPU."""
    text = f'watchpoint:{watched.counted}:8:w /comm == "book_watched"/ {{ @[pid] = count(); }}'
    _, maps = observe(text, lambda: [subprocess.run(watched.command().split(), check=True) for _ in range(3)])
    assert list(maps["@"].values()) == [TIMES] * 3


@tag("probe.watchpoint")
def test_a_kernel_address() -> None:
    """A member of our own task that prctl(2) writes."""
    member = "timer_slack_ns"
    address = int(trace(f"begin {{ print((uint64)curtask + offsetof(struct task_struct, {member})); }}").text)
    set_timer_slack = 29  # include/uapi/linux/prctl.h

    def workload() -> None:
        for i in range(TIMES):
            ctypes.CDLL(None).prctl(set_timer_slack, ctypes.c_ulong(50_000 + i), 0, 0, 0)

    _, maps = observe(f"watchpoint:{address}:8:w {{ @[pid] = count(); }}", workload)
    assert maps["@"] == {os.getpid(): TIMES}


@contextmanager
def registers_taken(address: int, cpu: int) -> Iterator[None]:
    """All debug registers of one CPU are in use."""
    attr = PerfAttr(PERF_TYPE_BREAKPOINT, 0, period=1, config1=address, config2=8, breakpoint=2)
    events: list[int] = []
    try:
        for _ in range(REGISTERS):
            events.append(perf_event_open(attr, -1, cpu))
        yield
    finally:
        for event in events:
            os.close(event)


@tag("probe.watchpoint", "err.ap.attach")
def test_no_registers_left(watched: Watched) -> None:
    probes = "".join(
        f"watchpoint:{watched.counted}:{length}:{mode} {{ }}" for length in (1, 2, 4, 8) for mode in ("w", "rw")
    )
    with pytest.raises(AttachError, match="No more HW registers left") as caught:
        trace(probes + "interval:ms:1 { exit(); }")
    assert caught.value.name == f"watchpoint:{watched.counted}:4:w"  # the fifth


@tag("probe.watchpoint")
def test_a_part_is_enough_and_said(watched: Watched, run: Runner) -> None:
    if len(cpus.online()) < 2:
        pytest.skip("a single CPU has no part of itself")
    probe = f"watchpoint:{watched.counted}:8:w"
    with registers_taken(watched.counted, cpus.online()[0]):
        result = run("-e", f"{probe} {{ }} interval:ms:1 {{ exit(); }}")
    assert result.status == 0
    assert f"WARNING: {probe} is attached to a part only of what it is for. No more HW registers left" in result.stderr
    assert "Attached 2 probes\n" in result.stderr


@tag("probe.watchpoint", "probe.pid")
def test_a_process(watched: Watched) -> None:
    """Its threads are watched, and nobody else at the same address."""
    variable = ctypes.c_uint64(0)
    address = ctypes.addressof(variable)
    with pytrace.trace(f"watchpoint:{address}:8:w {{ @[pid] = count(); }}", pid=os.getpid()) as t:
        for output in t.outputs():
            if output.kind == "attached_probes":
                for i in range(TIMES):
                    variable.value = i
                t.stop()
        assert t.maps["@"] == {os.getpid(): TIMES}
