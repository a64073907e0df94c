"""Probes that fire by the clock: `interval` on one CPU, `profile` on every CPU."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytrace.grammar.attaching import PerfEventAttach
from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.host import Host
from pytrace.grammar.spec import Target, feature
from pytrace.language.probes.common import Place, Probe, number

PERF_TYPE_SOFTWARE = 1  # include/uapi/linux/perf_event.h
PERF_COUNT_SW_CPU_CLOCK = 0

UNITS = {"hz": 0, "ms": 1_000_000, "s": 1_000_000_000, "us": 1_000}  # unit -> nanoseconds

_DURATION = re.compile(r"[+-]?[0-9][0-9_]*(?:[eE][0-9_]+)?(?:[num]?s|[mhd])")  # what has its unit already

LEAST_NS = 1000
MAX_PERIOD = (1 << 63) - 1  # perf_event_open refuses longer periods (kernel/events/core.c)


class _Timed(Probe):
    """Base of both: a software perf event on the CPU clock, with a period or a frequency."""

    arity = (1, 2)
    has_registers = True
    context_type = "bpf_perf_event_data"
    groupable = True
    every_cpu = False
    per_process = False

    def expand(self, place: Place) -> Iterator[Target]:
        parts = place.parts
        found = self._bare(place, parts[0]) if len(parts) == 1 else self._with_unit(place, parts[0], parts[1])
        if found is None:
            return
        unit, count = found
        name = f"{self.name}:{unit}:{count}"
        attach = PerfEventAttach(
            name,
            PERF_TYPE_SOFTWARE,
            PERF_COUNT_SW_CPU_CLOCK,
            period=count * UNITS[unit],
            frequency=count if unit == "hz" else 0,
            every_cpu=self.every_cpu,
            per_process=self.per_process,
        )
        yield Target(self, name, attach, section="perf_event")

    def _bare(self, place: Place, text: str) -> tuple[str, int] | None:
        """`1s`, `250ms` or plain nanoseconds; kept as whole microseconds."""
        value = number(text)
        if value is None:
            hints = (f"Write a duration ({self.name}:250ms) or a unit and a count ({self.name}:hz:99).",)
            place.error("err.ap.unit", _not_integer(self.name, text), hints)
            return None
        if 0 < value < LEAST_NS:
            hints = (f"A bare number is in nanoseconds; for seconds write {self.name}:{value}s.",)
            message = f"{self.name} probe: {value} ns is below the minimum of {LEAST_NS} ns"
            place.error("err.ap.unit", message, hints)
            return None
        return self._bounded(place, "us", value // 1000)

    def _with_unit(self, place: Place, unit: str, text: str) -> tuple[str, int] | None:
        if unit not in UNITS:
            hints = (f"The units are {', '.join(UNITS)}.",)
            place.error("err.ap.unit", f"{self.name} probe has an unknown time unit: '{unit}'", hints)
            return None
        value = number(text)
        if value is None or _DURATION.fullmatch(text):
            advice = [] if value is None else [f"Write {self.name}:{text} or {self.name}:{unit}:COUNT."]
            place.error("err.ap.unit", _not_integer(self.name, text), advice)
            return None
        return self._bounded(place, unit, value)

    def _bounded(self, place: Place, unit: str, value: int) -> tuple[str, int] | None:
        if value <= 0:
            place.error("err.ap.unit", f"{self.name} probe must have a positive rate, found {value}")
            return None
        if value * max(UNITS[unit], 1) > MAX_PERIOD:
            place.error("err.ap.unit", f"{self.name} probe: a period of {value} {unit} is too long")
            return None
        return unit, value

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        match = matcher(pattern)
        return (f"{unit}:" for unit in UNITS if match(f"{unit}:"))


def _not_integer(probe: str, text: str) -> str:
    return f"Invalid rate of {probe} probe: '{text}' is not an integer"


@feature
class Interval(_Timed):
    """Fire at regular intervals, on one CPU.

    `interval:1s`, `interval:250ms`, `interval:1000000` (nanoseconds, at least 1000), or a unit (`s`, `ms`,
    `us`, `hz`) and a count: `interval:s:5`. It is for output and housekeeping; `-p` does not restrict it.

    bt> tracepoint:raw_syscalls:sys_enter { @ = count(); } interval:1s { print(@); exit(); }

    A software perf event on the CPU clock, see perf_event_open(2).
    """

    name = "interval"
    aliases = ("i",)


@feature
class Profile(_Timed):
    """Fire at regular intervals on every CPU: sampling.

    Written like `interval`. The block sees what the CPU was doing: `kstack`, `ustack`, `pid`, `comm`,
    `reg()`. `hz:99` is usual: not quite 100, so that the samples do not march in step with periodic work.

    bt> profile:hz:99 { @[kstack] = count(); } interval:1s { exit(); }

    A software perf event on each online CPU's clock, see perf_event_open(2).
    """

    name = "profile"
    aliases = ("p",)
    every_cpu = True
    per_process = True
