"""Values over time, and their picture (reference part 2, section 3.6)."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pytrace.grammar.data import dataclass
from pytrace.language.histogram import float32

SECOND = 1_000_000_000  # nanoseconds
WIDTH = 53  # columns of the graph, edges included
NO_DATA = "<no data>"


@dataclass(frozen=True, slots=True)
class Point:
    """One interval of a time series: when it starts (nanoseconds since 1970) and its value (None: a gap)."""

    start: int
    value: int | None


def timeline(points: Sequence[Point]) -> str:
    """The picture of consecutive intervals, one line each, between a scale above and below."""
    if not points:
        return NO_DATA  # the caller ends the line
    digits, unit = _resolution(points)
    values = [point.value for point in points if point.value is not None]
    low, high = (min(values), max(values)) if values else (None, None)
    scale_low, scale_high = ("null", "null") if low is None else (str(low), str(high))
    if low is not None and high is not None and low == high:
        low, high = low - 1, high + 1
        scale_low, scale_high = str(low), str(high)
    width = len("hh:mm:ss") + (digits + 1 if digits else 0)
    scale = f"{'':{width + 1}}{scale_low:<21}{scale_high:>32}\n"
    title = f"hh:mm:ss{unit}"
    padding = " " * (width + 1 - len(title.encode()))
    lines = [scale, f"{title}{padding}|{'_' * (WIDTH - 2)}|\n"]
    for point in points:
        shown = "-" if point.value is None else str(point.value)
        lines.append(f"{start_text(point.start, digits)} {_line(point.value, low, high)} {shown}\n")
    lines += [f"{'':{width + 1}}v{'_' * (WIDTH - 2)}v\n", scale]
    return "".join(lines)


def start_text(start: int, digits: int, date: bool = False) -> str:
    """The local time of day with so many digits of the second's fraction, and the date before it if asked for."""
    seconds, fraction = divmod(start, SECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S" if date else "%H:%M:%S", time.localtime(seconds))
    return f"{text}.{fraction:09}"[: len(text) + 1 + digits] if digits else text


def _resolution(points: Sequence[Point]) -> tuple[int, str]:
    """How many digits of a second's fraction tell neighbours apart, and what the last stands for."""
    step = (points[-1].start - points[0].start) // (len(points) - 1) if len(points) > 1 else 0
    for least, digits, unit in ((SECOND, 0, ""), (1_000_000, 3, ".ms"), (1000, 6, ".μs")):
        if step >= least:
            return digits, unit
    return 9, ".ns"


def _line(value: int | None, low: int | None, high: int | None) -> str:
    """One line of the graph: its edges, where zero is, and the value."""
    columns = ["|", *" " * (WIDTH - 2), "|"]
    if low is not None and high is not None:
        if low < 0 < high:
            columns[_column(WIDTH, 0, low, high)] = "."
        if value is not None:
            columns[_column(WIDTH - 1, value, low, high)] = "*"
    return "".join(columns)


def _column(width: int, value: int, low: int, high: int) -> int:
    """`(int)(width * (value - low) / (high - low))` in 32-bit floating point."""
    part = float32(float32(float(value - low)) * width) / float32(float(high - low))
    return int(float32(part))
