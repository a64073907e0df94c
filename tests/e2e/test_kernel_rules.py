"""Rules that show only in the kernel: results of programs, shared values, waiting for events, limits."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

import pytest

from pytrace.api import trace
from pytrace.grammar.diagnostics import CompileError
from pytrace.runtime.syscalls import PERF_TYPE_TRACEPOINT, PerfAttr, perf_event_open
from tests.e2e.programs import begin, run

pytestmark = pytest.mark.root

TRACEFS = Path("/sys/kernel/tracing/events")
IOC_ENABLE = 0x2400  # include/uapi/linux/perf_event.h, PERF_EVENT_IOC_ENABLE
CALLS = 7


def count_getsid(program: str) -> tuple[int, int]:
    """How many of our getsid() calls a perf event on their tracepoint counts while a program is on it, and the
    program's own count."""
    event = int((TRACEFS / "syscalls/sys_enter_getsid/id").read_text())
    counter = perf_event_open(PerfAttr(PERF_TYPE_TRACEPOINT, event), os.getpid(), -1)
    try:
        with trace(program) as t:
            for output in t.outputs():
                if output.kind == "attached_probes":
                    ctypes.CDLL(None).ioctl(counter, IOC_ENABLE, 0)
                    for _ in range(CALLS):
                        os.getsid(0)
                    t.stop()
            return int.from_bytes(os.read(counter, 8), "little"), t.maps["@"]
    finally:
        os.close(counter)


@pytest.mark.tag("probe.retcode")
def test_a_tracepoint_program_lets_perf_see_the_event() -> None:
    probe = f"tracepoint:syscalls:sys_enter_getsid /pid == {os.getpid()}/"
    # perf drops an event whose program returns 0 (kernel/trace/trace_syscalls.c, perf_syscall_enter)
    assert count_getsid(f"{probe} {{ @ = count(); }}") == (CALLS, CALLS)
    assert count_getsid(f"{probe} {{ @ = count(); return 0; }}") == (0, CALLS)


@pytest.mark.tag("probe.retcode", "stmt.return")
def test_other_programs_return_zero() -> None:
    with trace("begin { @ = 1; } begin { @ = 2; return 5; }") as t:
        assert t.tracer.run_on_demand("begin") == [0, 5]


@pytest.mark.tag("rt.map.race")
def test_plain_values_are_shared_by_all_cpus() -> None:
    """One value for all CPUs: what one stores another sees. Steps that do not overlap are all counted."""
    cpus = sorted(os.sched_getaffinity(0))
    probe = f"tracepoint:syscalls:sys_enter_getsid /pid == {os.getpid()}/"
    with trace(f"{probe} {{ @n += 1; @cpus[cpu] = count(); @last = cpu; }}") as t:
        try:
            for output in t.outputs():
                if output.kind == "attached_probes":
                    for cpu in cpus * 3:
                        os.sched_setaffinity(0, {cpu})
                        os.getsid(0)
                    t.stop()
        finally:
            os.sched_setaffinity(0, set(cpus))
        assert t.maps["@n"] == 3 * len(cpus)
        assert t.maps["@cpus"] == dict.fromkeys(cpus, 3)
        assert t.maps["@last"] == cpus[-1]


@pytest.mark.tag("ev.poll")
def test_an_event_is_shown_while_the_trace_waits() -> None:
    """Nothing else happens: the event alone ends the wait, and the trace goes on until it is stopped."""
    probe = f"tracepoint:syscalls:sys_enter_getsid /pid == {os.getpid()}/"
    shown: list[float] = []
    with trace(f'{probe} {{ printf("here"); }}') as t:
        for output in t.outputs():
            if output.kind == "attached_probes":
                os.getsid(0)
                called = time.monotonic()
            elif output.kind == "printf":
                shown.append(time.monotonic() - called)
                if len(shown) == 3:
                    t.stop()
                else:
                    os.getsid(0)
                    called = time.monotonic()
    assert len(shown) == 3
    assert min(shown) < 0.2  # a poll lasts 0.1 s at most


@pytest.mark.tag("ev.poll")
def test_after_an_exit_later_events_are_dropped() -> None:
    assert run('begin { printf("a"); exit(); } begin { printf("b"); } end { printf("c"); }').text == "ac"


@pytest.mark.tag("rt.limit.stackdepth")
@pytest.mark.parametrize("stack", ["kstack", "ustack"])
def test_stack_depth(stack: str) -> None:
    assert begin(f"print(sizeof({stack}()));") == ("1024" if stack == "kstack" else "1032")  # 127 frames
    assert begin(f"@ = {stack}(1024); clear(@);") == ""
    with pytest.raises(CompileError, match="limit shouldn't exceed 1024, 1025 given"):
        begin(f"@ = {stack}(1025);")


@pytest.mark.tag("cfg.max_probes")
def test_max_probes() -> None:
    program = "tracepoint:syscalls:sys_enter_getsid, tracepoint:syscalls:sys_enter_getpgid { @ = count(); }"
    with trace(f"config = {{ max_probes = 2 }} {program}") as t:
        t.tracer.run_on_demand("begin")
        assert t.tracer.attach() == 2
    message = "Can't attach to 2 probes because it exceeds the current limit of 1 probes."
    with pytest.raises(CompileError, match=message):
        run(f"config = {{ max_probes = 1 }} {program}")


@pytest.mark.tag("fn.sizeof", "fn.offsetof")
def test_sizes_and_offsets() -> None:
    head = "struct inner { char c; long l; }; struct outer { int i; struct inner in; short s[3]; };\n"
    shown = run(
        head + 'begin { printf("%d %d %d %d %d %d\\n", sizeof(struct outer), sizeof(struct inner), sizeof(int), '
        'sizeof(uint16), sizeof((uint8)1), sizeof("four")); '
        'printf("%d %d %d\\n", offsetof(struct outer, in), offsetof(struct outer, in.l), '
        "offsetof(struct outer, s)); }"
    )
    assert shown.text == "32 16 4 2 1 5\n8 16 24\n"


@pytest.mark.tag("fn.sizeof")
def test_the_operand_of_sizeof_is_not_executed() -> None:
    assert run("begin { $x = 1; print(sizeof($x++)); print($x); }").text == "8\n1\n"
