"""Which features of the language pass: merges the results of all test runs and compares, writes, counts.

    python -m tests.conformance.report write    # docs/conformance.md and docs/kernels.md from .results/
    python -m tests.conformance.report check    # fails when a tag that passes there passes no more
    python -m tests.conformance.report summary ruff host    # "N passed, N failed, N skipped" of these steps

A tag passes when at least one test with it passed and none of the tests with it failed, under any kernel.
The folder of the results is `--results`, the table `--table`.
"""

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.conformance.tags import Feature, load

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<tag>\S+) \| [ABC] \| [12] \| (?P<test>.*) \|$")


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


# What counts when a test ran several times: a failure under one kernel is a failure, and a skip under one
# does not matter when another ran it.
ORDER = (Outcome.FAILED, Outcome.PASSED, Outcome.SKIPPED)


@dataclass(frozen=True, slots=True)
class Result:
    """The merged outcome of one test."""

    test: str
    outcome: Outcome
    tags: tuple[str, ...]


def merge(files: Iterable[Path]) -> tuple[Result, ...]:
    """One result for each test in the result files of all runs, sorted by test."""
    outcomes: dict[str, set[Outcome]] = defaultdict(set)
    tags: dict[str, set[str]] = defaultdict(set)
    for path in files:
        for entry in json.loads(path.read_text())["tests"]:
            outcomes[entry["test"]].add(Outcome(entry["outcome"]))
            tags[entry["test"]].update(entry["tags"])
    return tuple(
        Result(test, next(o for o in ORDER if o in outcomes[test]), tuple(sorted(tags[test])))
        for test in sorted(outcomes)
    )


def evidence(results: Iterable[Result]) -> dict[str, str]:
    """For each tag the cell of the table: a passing test in back quotes, or `failing:` and a failed one."""
    cells: dict[str, str] = {}
    for result in results:
        text = result.test.replace("|", "\\|").replace("`", "'")
        for tag in result.tags:
            match result.outcome:
                case Outcome.FAILED:
                    cells[tag] = f"failing: {text}"
                case Outcome.PASSED:
                    cells.setdefault(tag, f"`{text}`")
                case Outcome.SKIPPED:
                    pass
    return cells


def passing(cell: str) -> bool:
    return cell.startswith("`")


def render(features: Iterable[Feature], cells: Mapping[str, str]) -> str:
    """The text of docs/conformance.md."""
    features = tuple(features)
    lines = [
        "# Conformance",
        "",
        "Every feature of the language, and a test that shows it. Written by `make conformance`.",
        "`part` is the part of the language reference which describes the feature.",
        "",
        "| tier | features | passing | failing | missing |",
        "|---|---|---|---|---|",
    ]
    for tier in ("A", "B", "C"):
        found = [cells.get(f.tag, "missing") for f in features if f.tier == tier]
        good, missing = sum(map(passing, found)), found.count("missing")
        lines.append(f"| {tier} | {len(found)} | {good} | {len(found) - good - missing} | {missing} |")
    lines += ["", "| tag | tier | part | test |", "|---|---|---|---|"]
    lines += [f"| {f.tag} | {f.tier} | {f.part} | {cells.get(f.tag, 'missing')} |" for f in features]
    return "\n".join(lines) + "\n"


def passing_in(table: str) -> frozenset[str]:
    """The tags which a rendered table says pass."""
    rows = (ROW.match(line) for line in table.splitlines())
    return frozenset(row["tag"] for row in rows if row and passing(row["test"]))


def lost(table: str, cells: Mapping[str, str]) -> list[str]:
    """One line for each tag that passes in `table` and no longer does."""
    return [
        f"{tag}: {cells.get(tag, 'no test passed')}"
        for tag in sorted(passing_in(table))
        if not passing(cells.get(tag, "missing"))
    ]


def counts(steps: Iterable[Path]) -> dict[Outcome, int]:
    """Tests by outcome in the folders of some steps of .ci/test. To them come the steps themselves: one that
    failed although none of its tests did (a linter, a run that broke off) counts as one failure, one that
    passed and has no tests (a linter) as one success. A folder without `status` is a step that broke off."""
    total = dict.fromkeys(Outcome, 0)
    steps = tuple(steps)
    for result in merge(path for step in steps for path in step.glob("*.json")):
        total[result.outcome] += 1
    for step in steps:
        runs, status = sorted(step.glob("*.json")), step / "status"
        if not status.exists() or status.read_text().strip() != "0":
            total[Outcome.FAILED] += not any(r.outcome is Outcome.FAILED for r in merge(runs))
        elif not runs:
            total[Outcome.PASSED] += 1
    return total


def write(results: Path, table: Path) -> int:
    files = sorted(results.rglob("*.json"))
    if not files:
        print(f"no test results in {results}: run `make test` first", file=sys.stderr)
        return 1
    cells = evidence(merge(files))
    for line in lost(table.read_text(), cells) if table.exists() else ():
        print("no longer passing:", line)
    table.parent.mkdir(exist_ok=True)
    table.write_text(render(load(), cells))
    table.with_name("kernels.md").write_text(kernels(files))
    return 0


def check(results: Path, table: Path) -> int:
    if not table.exists():
        print(f"{table} is missing: `make conformance` writes it", file=sys.stderr)
        return 1
    gone = lost(table.read_text(), evidence(merge(sorted(results.rglob("*.json")))))
    for line in gone:
        print("no longer passing:", line)
    return 1 if gone else 0


def summary(steps: Iterable[Path]) -> int:
    total = counts(steps)
    print(", ".join(f"{total[outcome]} {outcome}" for outcome in Outcome))
    return 1 if total[Outcome.FAILED] or not total[Outcome.PASSED] else 0


def kernels(files: Iterable[Path]) -> str:
    """The text of docs/kernels.md: by what each type of probe is attached, for each kernel that ran the tests."""
    cells: dict[str, dict[str, str]] = {}
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    for path in files:
        run = json.loads(path.read_text())
        kernel = ".".join(run["kernel"].split(".")[:2])
        for entry in run["tests"]:
            outcomes[kernel][entry["outcome"]] += 1
            for text in entry.get("mechanisms", ()):
                probe, _, mechanism = text.partition(": ")
                failed = entry["outcome"] == Outcome.FAILED
                cells.setdefault(probe, {})[kernel] = f"FAILED ({mechanism})" if failed else mechanism
    releases = sorted(outcomes, key=lambda release: [int(number) for number in re.findall(r"\d+", release)])
    lines = [
        "# Probe types on the kernels that were tried",
        "",
        "Written by `make conformance`. Each cell is what held the programs of a probe while it fired, as the kernel",
        "itself says (BPF_OBJ_GET_INFO_BY_FD); *not there* is what the kernel answered when it was asked for it.",
        "`make test` runs the tests that need kprobes, fentry or another kernel there; `make vm KERNEL=6.1` runs all",
        "end-to-end tests.",
        "",
        f"| probe type | {' | '.join(releases)} |",
        f"|---|{'---|' * len(releases)}",
        *(f"| {probe} | {' | '.join(row.get(k, '') for k in releases)} |" for probe, row in cells.items()),
        "",
        f"| tests of `make test` | {' | '.join(releases)} |",
        f"|---|{'---|' * len(releases)}",
        *(f"| {o} | {' | '.join(str(outcomes[k][o]) for k in releases)} |" for o in Outcome),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Merge test results into the conformance table.")
    parser.add_argument("mode", choices=("write", "check", "summary"))
    parser.add_argument("steps", nargs="*", help="summary: names of folders in the results")
    parser.add_argument("--results", type=Path, default=ROOT / ".results")
    parser.add_argument("--table", type=Path, default=ROOT / "docs" / "conformance.md")
    options = parser.parse_args()
    match options.mode:
        case "write":
            return write(options.results, options.table)
        case "check":
            return check(options.results, options.table)
        case _:
            return summary(options.results / step for step in options.steps)


if __name__ == "__main__":
    sys.exit(main())
