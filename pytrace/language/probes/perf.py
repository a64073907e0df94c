"""Probes on the kernel's and the processor's event counters: `software` and `hardware`."""

from __future__ import annotations

from collections.abc import Iterator

from pytrace.grammar.attaching import PerfEventAttach
from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.diagnostics import did_you_mean
from pytrace.grammar.hints import ClassVar
from pytrace.grammar.host import Host
from pytrace.grammar.spec import Target, feature
from pytrace.language.probes.common import Place, Probe, compose, is_wildcard, number


class _Counter(Probe):
    """Base of both. `events` maps a name to the perf event's config and the default count."""

    arity = (1, 2)
    has_registers = True
    context_type = "bpf_perf_event_data"
    groupable = True
    wild = "kernel"
    perf_type: ClassVar[int]
    events: ClassVar[dict[str, tuple[int, int]]]
    short: ClassVar[dict[str, str]]

    def expand(self, place: Place) -> Iterator[Target]:
        event: str = place.parts[0]
        count = self._count(place)
        if is_wildcard(event):
            advice = (f"List the events with -l '{self.name}:*'.",)
            place.error("err.ap.event", f"{self.name} probe type does not support wildcards", advice)
            return
        known = self.events.get(self.short.get(event, event))
        if known is None:
            hints = did_you_mean(event, [*self.events, *self.short])
            place.error("err.ap.event", f"{event} is not a {self.name} probe", hints)
            return
        if count is None:
            return
        config, default = known
        name = compose(self.name, event, count)
        attach = PerfEventAttach(name, self.perf_type, config, period=count or default)
        yield Target(self, name, attach, section="perf_event")

    def _count(self, place: Place) -> int | None:
        """The third part, 0 if it is absent or empty (as listings show it); None after an error."""
        text = place.parts[1] if len(place.parts) > 1 else ""
        if not text:
            return 0
        value = number(text)
        if value is None or not 0 <= value < 1 << 63:
            place.error("err.ap.event", f"Invalid count of {self.name} probe: '{text}'")
            return None
        return value

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        match = matcher(pattern)
        return (f"{event}:" for event in sorted([*self.events, *self.short]) if match(f"{event}:"))


@feature
class Software(_Counter):
    """Fire once for every COUNT occurrences, on each CPU, of something that the kernel counts.

    `software:EVENT[:COUNT]`; each event has a default COUNT. Events: alignment-faults, bpf-output,
    context-switches (cs), cpu-clock (cpu), cpu-migrations, dummy, emulation-faults, major-faults,
    minor-faults, page-faults (faults), task-clock.

    bt> software:page-faults:1 { @[comm] = count(); } interval:1s { exit(); }

    PERF_TYPE_SOFTWARE of perf_event_open(2); numbers from include/uapi/linux/perf_event.h.
    """

    name = "software"
    aliases = ("s",)
    perf_type = 1
    events: ClassVar[dict[str, tuple[int, int]]] = {
        "alignment-faults": (7, 1),
        "bpf-output": (10, 1),
        "context-switches": (3, 1000),
        "cpu-clock": (0, 1_000_000),
        "cpu-migrations": (4, 1),
        "dummy": (9, 1),
        "emulation-faults": (8, 1),
        "major-faults": (6, 1),
        "minor-faults": (5, 100),
        "page-faults": (2, 100),
        "task-clock": (1, 1),
    }
    short: ClassVar[dict[str, str]] = {"cs": "context-switches", "cpu": "cpu-clock", "faults": "page-faults"}


@feature
class Hardware(_Counter):
    """Fire once for every COUNT occurrences, on each CPU, of something that the processor counts.

    `hardware:EVENT[:COUNT]`; each event has a default COUNT. Virtual machines often have no such counters.
    Events: backend-stalls, branch-instructions (branches), branch-misses, bus-cycles, cache-misses,
    cache-references, cpu-cycles (cycles), frontend-stalls, instructions, ref-cycles.

    bt> hardware:cache-misses:1000000 { @[comm] = count(); } interval:1s { exit(); }

    PERF_TYPE_HARDWARE of perf_event_open(2); numbers from include/uapi/linux/perf_event.h.
    """

    name = "hardware"
    aliases = ("h",)
    perf_type = 0
    events: ClassVar[dict[str, tuple[int, int]]] = {
        "backend-stalls": (8, 1_000_000),
        "branch-instructions": (4, 100_000),
        "branch-misses": (5, 100_000),
        "bus-cycles": (6, 100_000),
        "cache-misses": (3, 1_000_000),
        "cache-references": (2, 1_000_000),
        "cpu-cycles": (0, 1_000_000),
        "frontend-stalls": (7, 1_000_000),
        "instructions": (1, 1_000_000),
        "ref-cycles": (9, 1_000_000),
    }
    short: ClassVar[dict[str, str]] = {"branches": "branch-instructions", "cycles": "cpu-cycles"}
