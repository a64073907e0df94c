"""Cases: what a probe costs the traced program, events, printing maps, stacks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from tests.bench import bpfstats
from tests.bench.case import READY_A, READY_Z, Bench, Case, Sample, Tool, case, near
from tests.bench.process import Child, Worker, cpu_seconds

KEYS = {"BPFTRACE_MAX_MAP_KEYS": "250000", "BPFTRACE_MAP_KEYS_MAX": "250000"}
GETPPID = "tracepoint:syscalls:sys_enter_getppid "
Verify = Callable[[Sample, str, int, int], None]


def loop(worker: Worker, request: str) -> tuple[float, list[float]]:
    """Let it make calls: the seconds that took, and the CPU nanoseconds of a call in each part of the loop."""
    wall, _, *parts = map(int, worker.ask(request).split())
    return wall / 1e9, [part / 1000 for part in parts]


# ---------------------------------------------------------------- the cost of a probe


def probe_cost(operation: str, body: str, verify: Verify, bench: Bench, case: Case, tool: Tool, sample: Sample) -> None:
    """What a call costs above the same loop untraced (before and after), and the programs' run time by the kernel."""
    calls, chunks, counted = (200_000, 20, 50_000) if bench.quick else (500_000, 50, 100_000)

    def parts(worker: Worker, count: int) -> list[float]:
        return loop(worker, f"loop {operation} {count} {chunks}")[1]

    with bench.work() as worker:
        parts(worker, calls // 10)
        untraced = parts(worker, calls // 2)
        worker.send("tick")
        with Child(case.command(tool, READY_A + body + READY_Z), bench.folder / "probe.out") as child:
            child.wait_for("A\n", "Z\n")
            worker.ask("tock")
            traced = parts(worker, calls)
            programs = bpfstats.programs_of(child.pid)
            with bpfstats.statistics():
                before = bpfstats.read(programs)
                parts(worker, counted)
                found = bpfstats.per_event(before, bpfstats.read(programs), counted // 2)
            child.interrupt()
            child.finish()
        untraced += parts(worker, calls // 2)
    sample.metrics["overhead_ns"] = median(traced) - median(untraced)
    if found:
        sample.metrics["bpf_ns"] = found
    if not tool.is_floor:
        verify(sample, re.sub(r"^[AZ]\n", "", child.text, flags=re.M), calls + counted, worker.pid)


def counts(sample: Sample, text: str, total: int, pid: int, wanted: str = "") -> None:
    """The values add up, and a line is there."""
    found = sum(int(n) for n in re.findall(r"^(?:@[^\n]*|[^\n]*\]): (\d+)$", text, re.M))
    sample.check(near(found, total), f"counted {found} of {total}")
    line = wanted.replace("PID", str(pid))
    sample.check(re.search(line, text, re.M) is not None, f"no {line}")


def in_buckets(text: str) -> int:
    """The sum over the buckets of histograms."""
    return sum(int(n) for n in re.findall(r"^[\[(][^\n|]*[)\]]\s+(\d+) \|", text, re.M))


def buckets(sample: Sample, text: str, total: int, pid: int) -> None:
    """The buckets add up."""
    sample.check(near(in_buckets(text), total), f"counted {in_buckets(text)} of {total}")


def nothing(sample: Sample, text: str, total: int, pid: int) -> None:
    """Nothing was counted."""
    sample.check(not re.search(r"^@: [1-9]", text, re.M), "the filter let events pass")


def names(sample: Sample, text: str, total: int, pid: int) -> None:
    """Four names, each a quarter of the time."""
    found = dict(re.findall(r"^@\[([\w-]+)\]: (\d+)$", text, re.M))
    wanted = [f"bench-name-{n}" for n in ("zero", "one", "two", "three")]
    sample.check(all(near(int(found.get(name, 0)), total // 4) for name in wanted), f"wrong counts: {found}")


PAIR = (
    "{ @s[tid] = nsecs; } tracepoint:syscalls:sys_exit_getppid "
    "/@s[tid]/ { @ = hist(nsecs - @s[tid]); delete(@s[tid]); }"
)
# name (of the floor's program too), what follows the probe, how to check the result
PROBES: tuple[tuple[str, str, Verify], ...] = (
    ("count", "{ @ = count(); }", counts),
    ("filter", "/pid == 0/ { @ = count(); }", nothing),
    ("comm", "{ @[comm] = count(); }", partial(counts, wanted=r"^@\[benchwork\]: \d")),
    ("pid_comm", "{ @[pid, comm] = count(); }", partial(counts, wanted=r"^@\[PID, benchwork\]: \d")),
    ("hist", "{ @ = hist(nsecs); }", buckets),
    ("pair", PAIR, buckets),
    ("ustack", "{ @[ustack] = count(); }", partial(counts, wanted=r"^\s+op_getppid\+")),
    ("kstack", "{ @[kstack] = count(); }", partial(counts, wanted=r"^\s+do_syscall_64\+")),
)
for _name, _body, _verify in PROBES:
    case(f"probe/{_name}", f"a call's cost of `{_body}`", "overhead_ns", _name)(
        partial(probe_cost, "getppid", GETPPID + _body, _verify)
    )
_STR = "tracepoint:syscalls:sys_enter_memfd_create { @[str(args->uname)] = count(); }"
case("probe/str", f"a call's cost of `{_STR}`", "overhead_ns", "str")(partial(probe_cost, "memfd", _STR, names))


# ---------------------------------------------------------------- events


def wait_until_still(path: Path, still: float = 0.4, timeout: float = 60) -> float:
    """Wait until a file stops growing; the moment at which it last grew."""
    size, start = -1, time.monotonic()
    grew = start
    while time.monotonic() - grew < still and time.monotonic() - start < timeout:
        time.sleep(0.005)
        if path.stat().st_size != size:
            size, grew = path.stat().st_size, time.monotonic()
    return grew


def check_events(sample: Sample, path: Path, pid: int, wanted: int, lost: int, all_of_them: bool) -> int:
    """Every line is whole and in order, and each event was printed or reported lost. Returns the lines."""
    form = re.compile(rb"(\d+) (\S.*) (\d+)\n")
    lines = bad = disorder = last = 0
    with path.open("rb") as file:
        for line in file:
            if line in (b"A\n", b"Z\n", b"\n") or line[:4] in (b"Lost", b"Atta"):
                continue
            found = form.fullmatch(line)
            bad += not found
            if found and int(found[1]) == pid:
                lines += 1
                disorder += int(found[3]) < last
                last = int(found[3])
    gone = wanted - lines - lost
    sample.metrics.update(lost_said=lost, unaccounted=max(0, gone), printed_share=lines / wanted)
    sample.check(not bad, f"{bad} lines are cut")
    sample.check(not disorder, f"{disorder} lines are out of order")
    sample.check(lines <= wanted, f"{lines} lines of {wanted} events")
    sample.check(not all_of_them or gone <= wanted // 1000, f"{gone} events neither printed nor reported lost")
    return lines


def events(request: str, drain: bool, bench: Bench, case: Case, tool: Tool, sample: Sample) -> None:
    """One line for each of many events, to a file; SIGINT at once, or (`drain`) when no more lines come."""
    out, wanted = bench.folder / "events.out", int(request.split()[2])
    if bench.quick:
        wanted //= 5
        request = " ".join([*request.split()[:2], str(wanted), *request.split()[3:]])
    body = GETPPID + '{ printf("%d %s %llu\\n", pid, comm, nsecs) }'
    with bench.work() as worker:
        untraced = loop(worker, "loop getppid 200000 10")[0] / 200_000
        worker.send("tick")
        with Child(case.command(tool, READY_A + body + READY_Z), out) as child:
            child.wait_for("A\n", "Z\n")
            worker.ask("tock")
            cpu, began = cpu_seconds(child.pid), time.monotonic()
            took = loop(worker, request)[0]
            if drain:
                sample.metrics["last_line_s"] = wait_until_still(out) - began
            sent = child.interrupt()
            child.finish()
    lines = check_events(sample, out, worker.pid, wanted, child.lost(), drain)
    if request.startswith("loop"):
        sample.metrics["slowdown"] = took / wanted / untraced
    sample.metrics.update(
        tracer_cpu_s=child.cpu - cpu, sigint_to_exit_ms=(child.ended - sent) * 1e3, rss_mb=child.rss_mb
    )
    if lines:
        sample.metrics["cpu_us_per_line"] = (child.cpu - cpu) * 1e6 / lines
    out.unlink()


for _name, _title, _request, _drain, _lead in (
    ("flood", "1M events as fast as they come; SIGINT when no more lines come", "loop getppid 1000000 1", True, "cpu_us_per_line"),
    ("interrupted", "the same with SIGINT at once", "loop getppid 1000000 1", False, "printed_share"),
    ("steady", "100,000 events a second for 2 s", "rate getppid 200000 100000", True, "cpu_us_per_line"),
):
    case(f"events/{_name}", _title, _lead, "print", 3)(partial(events, _request, _drain))


# ---------------------------------------------------------------- maps and stacks


def printed_map(body: str, keys: int, is_hist: bool, bench: Bench, case: Case, tool: Tool, sample: Sample) -> None:
    """A map with so many keys, printed at the end."""
    program = f'{READY_A}tracepoint:syscalls:sys_enter_getpgid /comm == "benchwork"/ {{ {body} }}{READY_Z}'
    with bench.work() as worker:
        worker.send("tick")
        with Child(case.command(tool, program), bench.folder / "map.out", KEYS) as child:
            child.wait_for("A\n", "Z\n")
            worker.ask("tock")
            calls = int(worker.ask(f"keys {keys}"))
            cpu = cpu_seconds(child.pid)
            sent = child.interrupt()
            child.finish(120)
    sample.metrics.update(
        sigint_to_exit_ms=(child.ended - sent) * 1e3, exit_cpu_ms=(child.cpu - cpu) * 1e3, rss_mb=child.rss_mb
    )
    if is_hist:
        found = len(re.findall(r"^@\[\d+\]: *$", child.text, re.M))
        sample.check(in_buckets(child.text) == calls, "the buckets do not add up")
    else:
        lines = re.findall(r"^@\[(?:[^\n]*, )?(\d+)\]: (\d+)$", child.text, re.M)
        values, found = [int(value) for _, value in lines], len(lines)
        sample.check(sum(values) == calls, "the values do not add up")
        sample.check(values == sorted(values), "not in ascending order")
        sample.check(all((value == "2") == key.endswith("0") for key, value in lines), "a wrong value")
    sample.check(found == keys, f"{found} keys of {keys}")


for _name, _body, _keys in (
    ("count-4k", "@[args->pid] = count();", 4000),
    ("count-100k", "@[args->pid] = count();", 100_000),
    ("tuple-20k", "@[comm, args->pid] = sum(1);", 20_000),
    ("hist-2k", "@[args->pid] = hist(args->pid * 3);", 2000),
):
    case(f"map/{_name}", f"{_keys} keys of `{_body}` at the end", "sigint_to_exit_ms", most=5)(
        partial(printed_map, _body, _keys, "hist" in _body)
    )


@case("stacks/profile", "`profile:hz:999 { @[kstack, ustack, comm] = count(); }` for 5 s", "exit_cpu_ms", most=3)
def stacks(bench: Bench, case: Case, tool: Tool, sample: Sample) -> None:
    program = READY_A + "profile:hz:999 { @[kstack, ustack, comm] = count(); }" + READY_Z
    with Worker([str(bench.programs["benchstacks"]), str(bench.cpu)]) as burner, bench.work() as worker:
        burner.answer()
        worker.send("tick")
        with Child(case.command(tool, program), bench.folder / "stacks.out", KEYS) as child:
            child.wait_for("A\n", "Z\n")
            worker.ask("tock")
            burned = cpu_seconds(burner.pid)
            time.sleep(2 if bench.quick else 5)
            cpu, burned = cpu_seconds(child.pid), cpu_seconds(burner.pid) - burned
            sent = child.interrupt()
            child.finish(120)
    found = [int(n) for n in re.findall(r"^, benchstacks\]: (\d+)$", child.text, re.M)]
    sample.metrics.update(
        exit_cpu_ms=(child.cpu - cpu) * 1e3, sigint_to_exit_ms=(child.ended - sent) * 1e3, rss_mb=child.rss_mb,
        stacks=len(found), samples=sum(found),
    )  # fmt: skip
    sample.check(burned * 799 < sum(found) < burned * 1199, f"{sum(found)} samples of {burned * 999:.0f}")
    sample.check(child.text.count("burn_leaf+") > 0.7 * len(found), "burn_leaf is missing from stacks")
    sample.check(len(re.findall(r"^\s+main\+", child.text, re.M)) > 0.9 * len(found), "main is missing from stacks")
