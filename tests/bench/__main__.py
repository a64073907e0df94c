"""`python -m tests.bench`: measure, say what was found, put it into docs/performance.md (`--update`)."""

from __future__ import annotations

import argparse
import fnmatch
import os
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.bench import build, cases_start, cases_work, report
from tests.bench.case import CASES, Bench, Case, Sample, Tool
from tests.bench.process import Child

LISTS = (cases_start, cases_work)  # importing them fills CASES


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--case", action="append", default=[], metavar="PATTERN", help="a case, a group, a pattern")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each case (5); some take fewer")
    parser.add_argument("--quick", action="store_true", help="less work")
    parser.add_argument("--pytrace", default=f"{sys.executable} -m pytrace", help="the command for pytrace")
    parser.add_argument("--bpftrace", default="bpftrace", help="the command for the other tracer")
    parser.add_argument("--no-floor", action="store_true", help="without the hand-written programs")
    parser.add_argument("--update", type=Path, metavar="FILE", help="put the figures into the table of this file")
    parser.add_argument("--list", action="store_true", help="name the cases, and end")
    return parser.parse_args()


def chosen(patterns: list[str]) -> list[Case]:
    """The cases that match one of the patterns; all without any."""

    def matches(name: str) -> bool:
        return any(name.startswith(f"{p}/") or fnmatch.fnmatchcase(name, p) for p in patterns)

    return [case for name, case in CASES.items() if not patterns or matches(name)]


def tools(given: argparse.Namespace) -> list[Tool]:
    """The tracers that are compared."""
    ours, other = tuple(shlex.split(given.pytrace)), tuple(shlex.split(given.bpftrace))
    found = [Tool(report.CACHED, ours), Tool(report.COLD, (*ours, "--no-cache"))]
    if shutil.which(other[0]):
        found.append(Tool(report.OTHER, other))
    else:
        print(f"there is no {other[0]} to compare with", file=sys.stderr)
    return found


def measure(case: Case, compared: list[Tool], bench: Bench, rounds: int) -> dict[str, list[Sample]]:
    """Samples of all tracers: a round takes one of each, one after the other and in turning order.

    What is kept between runs is made before, in a round that does not count.
    """
    samples: dict[str, list[Sample]] = {tool.name: [] for tool in compared}
    case.sample(bench, compared[0], -1)
    for turn in range(min(rounds, case.most)):
        for index in range(len(compared)):
            tool = compared[(index + turn) % len(compared)]
            samples[tool.name].append(case.sample(bench, tool, turn))
    return samples


def main() -> int:
    """Run the cases; 1 if an output was wrong."""
    given = arguments()
    cases = chosen(given.case)
    if given.list:
        print("".join(f"{case.name:26} {case.title}\n" for case in cases), end="")
        return 0
    if os.geteuid():
        sys.exit("tracing needs root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    floor = None if given.no_floor else build.floor()
    bad = False
    with tempfile.TemporaryDirectory(prefix="pytrace-bench-") as folder:
        bench = Bench(build.workloads(), Path(folder), (os.cpu_count() or 1) - 1, given.quick)
        try:
            for case in cases:
                compared = tools(given)
                if case.floor and floor:
                    compared.append(Tool(report.FLOOR, tuple(floor), True))
                samples = measure(case, compared, bench, given.rounds)
                print(f"{case.name}: {case.title}\n{report.all_metrics(samples)}\n", flush=True)
                bad = bad or any(sample.wrong for sample in samples[report.CACHED] + samples[report.COLD])
                if given.update:
                    report.update(given.update, report.rows(case, samples))
        finally:
            for child in list(Child.live):
                child.kill()
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
