"""Cases: start, the first event, attaching to many places and letting go of them, listing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from tests.bench.build import CALLS_EACH, FUNCTIONS, SOURCES
from tests.bench.case import READY_A, READY_Z, Bench, Case, Sample, Tool, case, near
from tests.bench.process import Child, Worker, cpu_seconds

EVENTS = Path("/sys/kernel/tracing/events")


@case("startup/exit", "`BEGIN { exit(); }`, the whole process", "wall_ms")
def startup_exit(bench: Bench, case: Case, tool: Tool, sample: Sample) -> None:
    with Child(case.command(tool, 'BEGIN { printf("out\\n"); exit(); }')) as child:
        child.finish()
    sample.metrics.update(wall_ms=child.wall_ms, cpu_ms=child.cpu * 1e3, rss_mb=child.rss_mb)
    sample.check(child.status == 0, f"exit status {child.status}")
    sample.check("out" in child.text, "BEGIN did not print")


def first_event(bench: Bench, command: list[str], sample: Sample, needle: str) -> str:
    """Until the first line of an event that happens 5000 times a second; then SIGINT. Returns the output."""
    with bench.work() as worker:
        worker.send("tick")
        with Child(command) as child:
            sample.metrics["first_event_ms"] = child.wait_for(needle) * 1e3
            sample.metrics["cpu_to_event_ms"] = cpu_seconds(child.pid) * 1e3
            sent = child.interrupt()
            child.finish()
    sample.metrics.update(sigint_to_exit_ms=(child.ended - sent) * 1e3, cpu_ms=child.cpu * 1e3, rss_mb=child.rss_mb)
    sample.check(child.status == 0, f"exit status {child.status}")
    return child.text


@case("startup/first-event", "a tracepoint with a printf: to the first line, then SIGINT", "first_event_ms")
def startup_first_event(bench: Bench, case: Case, tool: Tool, sample: Sample) -> None:
    program = 'tracepoint:syscalls:sys_enter_getsid /comm == "benchwork"/ { printf("first %d\\n", pid); }'
    first_event(bench, case.command(tool, program), sample, "first ")


@case("startup/script", "readlat.bt (9 blocks, 13 maps): to the first line, then SIGINT", "first_event_ms")
def startup_script(bench: Bench, case: Case, tool: Tool, sample: Sample) -> None:
    text = first_event(bench, [*tool.command, str(SOURCES / "readlat.bt")], sample, "first event")
    sample.check("Tracing read and write" in text, "BEGIN did not print")
    sample.check("@calls:" in text and "@rlat_us[" in text, "a map is missing")
    sample.check(not re.search(r"@start: [1-9]", text), "END did not clear @start")


def attach(
    bench: Bench, case: Case, tool: Tool, sample: Sample, program: str, act: Callable[[Worker], object]
) -> str:
    """Until everything is attached, then `act`, then SIGINT. Returns the output."""
    with bench.work() as worker:
        worker.send("tick")
        with Child(case.command(tool, READY_A + program + READY_Z), bench.folder / "attach.out") as child:
            sample.metrics["attached_ms"] = child.wait_for("A\n", "Z\n", timeout=180) * 1e3
            sample.metrics["cpu_attach_ms"] = cpu_seconds(child.pid) * 1e3
            worker.ask("tock")
            act(worker)
            sent = child.interrupt()
            child.finish(180)
    sample.metrics.update(sigint_to_exit_ms=(child.ended - sent) * 1e3, cpu_ms=child.cpu * 1e3, rss_mb=child.rss_mb)
    return child.text


@case("attach/syscalls", "`tracepoint:syscalls:sys_enter_* { @[probe] = count(); }`", "attached_ms", most=2)
def attach_syscalls(bench: Bench, case: Case, tool: Tool, sample: Sample) -> None:
    program = "tracepoint:syscalls:sys_enter_* { @[probe] = count(); }"
    text = attach(bench, case, tool, sample, program, lambda worker: worker.ask("loop spread 100 1"))
    found = dict(re.findall(r"^@\[tracepoint:syscalls:sys_enter_(\w+)\]: (\d+)$", text, re.M))
    for name in ("ptrace", "vmsplice", "mlock", "times"):  # calls that hardly any other process makes
        sample.check(near(int(found.get(name, 0)), 100), f"{name} counted {found.get(name)} of 100")
    sample.check(sum(int(n) >= 100 for n in found.values()) >= 20, "fewer than 20 calls were counted")


def attach_functions(bench: Bench, case: Case, tool: Tool, sample: Sample, body: str) -> str:
    """A block on 200 functions of one file; returns the output."""
    path = bench.programs["benchmany"]
    with Worker([str(path)]) as many:
        return attach(bench, case, tool, sample, f"uprobe:{path}:bench_fn_* {{ {body} }}", lambda _: many.ask("go"))


@case("attach/uprobes", f"{FUNCTIONS} functions of one file, `@[probe] = count();`", "attached_ms", most=3)
def attach_uprobes(bench: Bench, case: Case, tool: Tool, sample: Sample) -> None:
    text = attach_functions(bench, case, tool, sample, "@[probe] = count();")
    found = re.findall(r"^@\[uprobe:.*:bench_fn_\d+\]: (\d+)$", text, re.M)
    sample.check(len(found) == FUNCTIONS, f"{len(found)} keys of {FUNCTIONS}")
    sample.check(all(int(count) == CALLS_EACH for count in found), "wrong counts")


@case("attach/uprobes-one-body", f"{FUNCTIONS} functions of one file, `@ = count();`", "attached_ms", most=3)
def attach_uprobes_one(bench: Bench, case: Case, tool: Tool, sample: Sample) -> None:
    text = attach_functions(bench, case, tool, sample, "@ = count();")
    sample.check(f"@: {FUNCTIONS * CALLS_EACH}\n" in text, f"not {FUNCTIONS * CALLS_EACH} calls")


def listed(tool: Tool, sample: Sample, *words: str) -> list[str]:
    """The lines of a listing."""
    with Child([*tool.command, *words]) as child:
        child.finish()
    sample.metrics.update(wall_ms=child.wall_ms, cpu_ms=child.cpu * 1e3, rss_mb=child.rss_mb)
    sample.check(child.status == 0, f"exit status {child.status}")
    return child.text.splitlines()


@case("list/tracepoints", "`-l 'tracepoint:*'`", "wall_ms")
def list_tracepoints(bench: Bench, case: Case, tool: Tool, sample: Sample) -> None:
    lines = set(listed(tool, sample, "-l", "tracepoint:*"))
    wanted = {f"tracepoint:{path.parts[-3]}:{path.parts[-2]}" for path in EVENTS.glob("*/*/id")}
    wanted = {name for name in wanted if not name.startswith("tracepoint:ftrace:")}
    sample.check(len(wanted - lines) <= len(wanted) // 100, f"{len(wanted - lines)} of {len(wanted)} are missing")


@case("list/one-verbose", "`-lv tracepoint:syscalls:sys_enter_openat`", "wall_ms")
def list_one(bench: Bench, case: Case, tool: Tool, sample: Sample) -> None:
    lines = listed(tool, sample, "-l", "-v", "tracepoint:syscalls:sys_enter_openat")
    sample.check(any("const char *" in line and "filename" in line for line in lines), "no argument `filename`")


@case("list/uprobes", "`-l` of the C library's functions", "wall_ms")
def list_uprobes(bench: Bench, case: Case, tool: Tool, sample: Sample) -> None:
    found = re.search(r"(/\S*/libc[.-]\S*)", Path(f"/proc/{os.getpid()}/maps").read_text())
    assert found
    lines = listed(tool, sample, "-l", f"uprobe:{found[1]}:*")
    sample.check(any(line.endswith(":malloc") for line in lines), "no malloc")
    sample.check(len(lines) > 1500, f"only {len(lines)} lines")
