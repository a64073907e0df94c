"""Medians, ratios within rounds, and the table in docs/performance.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from tests.bench.case import CASES, Case, Sample

CACHED, COLD, OTHER, FLOOR = "pytrace", "pytrace --no-cache", "bpftrace", "floor"

# What is aimed at: at most this share of the other tracer's figure in the same run. (case, metric) -> cached, cold
AIMS: dict[tuple[str, str], tuple[float | None, float | None]] = {
    ("startup/exit", "wall_ms"): (0.3, 0.75),
    ("startup/exit", "rss_mb"): (0.4, 0.9),
    ("startup/first-event", "first_event_ms"): (1.0, 3.0),
    ("startup/script", "first_event_ms"): (0.3, None),
    ("attach/syscalls", "attached_ms"): (0.5, None),
    ("attach/syscalls", "sigint_to_exit_ms"): (0.05, None),
    ("attach/uprobes", "attached_ms"): (0.5, None),
    ("attach/uprobes", "sigint_to_exit_ms"): (0.05, None),
    ("list/tracepoints", "wall_ms"): (0.6, None),
    ("list/one-verbose", "wall_ms"): (0.6, None),
    ("list/uprobes", "wall_ms"): (0.6, None),
    **{
        (f"probe/{name}", "bpf_ns"): (1.0, None)
        for name in ("count", "filter", "comm", "pid_comm", "hist", "pair", "ustack", "kstack", "str")
    },
    ("events/flood", "cpu_us_per_line"): (0.15, None),
    ("map/count-100k", "exit_cpu_ms"): (0.5, None),
    ("stacks/profile", "exit_cpu_ms"): (0.05, None),
}
HEADER = "| case | metric | cached: aim | ratio | cold: aim | ratio | pytrace | cold | bpftrace | floor |"
_BEGIN, _END = "<!-- the table: written by `make bench` -->", "<!-- end of the table -->"

Samples = Mapping[str, Sequence[Sample]]  # by the name of the tracer


def number(value: float) -> str:
    """Three digits or so."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def values(samples: Sequence[Sample], metric: str) -> dict[int, float]:
    """A metric by round, of the samples that are right."""
    return {s.round: s.metrics[metric] for s in samples if metric in s.metrics and not s.wrong}


def spread(samples: Sequence[Sample], metric: str) -> str:
    """The median, the least and the most."""
    found = list(values(samples, metric).values())
    if not found:
        return "–"
    return f"{number(median(found))} ({number(min(found))}–{number(max(found))})"


def ratio(first: Sequence[Sample], other: Sequence[Sample], metric: str) -> float | None:
    """The median of the ratios within rounds."""
    ours, theirs = values(first, metric), values(other, metric)
    found = [ours[n] / theirs[n] for n in ours if theirs.get(n, 0) > 0]
    return median(found) if found else None


def _cell(aim: float | None, found: float | None) -> tuple[str, str]:
    text = "–" if found is None else f"{found:.2f}"
    if aim is None:
        return "", text
    return f"≤ {aim:g}", text if found is None or found <= aim else f"**{text}**"


def metrics_of(case: Case) -> list[str]:
    """The metrics of the table: the leading one and those with an aim."""
    return [case.lead, *(metric for name, metric in AIMS if name == case.name and metric != case.lead)]


def rows(case: Case, samples: Samples) -> dict[str, str]:
    """The lines of the table for one case, by what they are about."""
    made = {}
    for metric in metrics_of(case):
        cached, cold, other = (samples.get(name, ()) for name in (CACHED, COLD, OTHER))
        aims = AIMS.get((case.name, metric), (None, None))
        cells = (*_cell(aims[0], ratio(cached, other, metric)), *_cell(aims[1], ratio(cold, other, metric)))
        figures = [spread(samples.get(name, ()), metric) for name in (CACHED, COLD, OTHER, FLOOR)]
        key = f"| {case.name} | {metric} |"
        made[key] = f"{key} {' | '.join((*cells, *figures))} |"
    return made


def all_metrics(samples: Samples) -> str:
    """Everything that was measured of a case, a line for each metric; then what was wrong."""
    metrics = list(dict.fromkeys(metric for taken in samples.values() for s in taken for metric in s.metrics))
    lines = [f"  {metric:18}" + "".join(f" {spread(taken, metric):>28}" for taken in samples.values()) for metric in metrics]
    for name, taken in samples.items():
        wrong = sorted({text for s in taken for text in s.wrong})
        count = sum(bool(s.wrong) for s in taken)
        lines += [f"  WRONG: {name}, {count} of {len(taken)}: {'; '.join(wrong[:3])}"] if wrong else []
    return "\n".join(lines)


def update(path: Path, new: Mapping[str, str]) -> None:
    """Put lines into the table of a file; those of cases that were not run now stay."""
    text = path.read_text()
    before, rest = text.split(_BEGIN)
    old, after = rest.split(_END)
    found = {re.match(r"\|[^|]*\|[^|]*\|", line)[0]: line for line in old.splitlines() if re.match(r"\| [a-z]+/", line)}  # type: ignore[index]
    found.update(new)
    order = list(CASES)
    lines = sorted(found.values(), key=lambda line: order.index(line.split()[1]))
    rule = re.sub(r"[^|]+", " --- ", HEADER)
    path.write_text(f"{before}{_BEGIN}\n\n{HEADER}\n{rule}\n" + "".join(f"{line}\n" for line in lines) + f"\n{_END}{after}")
