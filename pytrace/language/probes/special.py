"""Probes that the tracer runs itself: `begin` and `end`."""

from __future__ import annotations

from collections.abc import Iterator

from pytrace.grammar.plan import OnDemand
from pytrace.grammar.spec import Target, feature
from pytrace.language.probes.common import Place, Probe


class _OnDemand(Probe):
    """Base of both: a raw tracepoint program that the tracer runs through BPF_PROG_TEST_RUN."""

    arity = (0, 0)
    family = "special"

    def expand(self, place: Place) -> Iterator[Target]:
        yield Target(self, self.name, OnDemand(self.name, when=self.name), section="raw_tp")


@feature
class Begin(_OnDemand):
    """Run once, before any other probe is attached.

    `begin { }` (or `BEGIN`) takes nothing behind its name; any number of them run in source order, in the
    tracer's own process. After an `exit()` in it the other probes are still attached, then tracing stops
    and `end` runs.

    bt> begin { printf("tracing… hit Ctrl-C to end\\n"); } interval:1s { exit(); }
    """

    name = "begin"


@feature
class End(_OnDemand):
    """Run once, after all other probes are detached and before the maps are printed.

    `end { }` (or `END`) takes nothing behind its name. Clear maps here that are not to be printed.

    bt> begin { @start = nsecs; } interval:1s { exit(); } end { print(nsecs - @start); clear(@start); }
    """

    name = "end"
