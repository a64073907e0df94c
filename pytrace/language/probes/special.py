"""Probes that the tracer runs itself: `begin`, `end`, `self`, `test`, `bench`."""

from __future__ import annotations

from collections.abc import Iterator

from pytrace.grammar.attaching import SIGUSR1, OnDemand
from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.diagnostics import Label
from pytrace.grammar.hints import ClassVar
from pytrace.grammar.host import Host
from pytrace.grammar.spec import Target, feature
from pytrace.language.probes.common import Place, Probe, is_wildcard

TRIGGER = "signal"


class _OnDemand(Probe):
    """Base of `begin` and `end`: a raw tracepoint program that the tracer runs through BPF_PROG_TEST_RUN."""

    arity = (0, 0)
    family = "special"
    modes = ("", "test", "bench")
    always = True

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


@feature
class Self(Probe):
    """Run in the tracer when it gets the signal SIGUSR1: `self:signal:SIGUSR1`, no other signal or trigger.

    Good for asking a long-running script for what it has so far: `kill -USR1 PID`. The kernel keeps no more than one
    SIGUSR1 waiting for a process, so of signals that come faster than they are taken some are one.

    bt> interval:ms:100 { @ticks = count(); } self:signal:SIGUSR1 { print(@ticks); } interval:1s { exit(); }
    """

    name = "self"
    arity = (2, 2)
    family = "special"
    always = True

    def expand(self, place: Place) -> Iterator[Target]:
        trigger, signal = place.parts
        if trigger != TRIGGER:
            hints = (f"The only trigger is {self.name}:{TRIGGER}:{SIGUSR1}.",)
            place.error("err.ap.special", f"'{trigger}' is not a supported trigger of a self probe", hints)
            return
        if signal != SIGUSR1:
            hints = (f"The only signal is {SIGUSR1}.",)
            place.error("err.ap.special", f"'{signal}' is not a supported signal of a self probe", hints)
            return
        name = f"{self.name}:{trigger}:{signal}"
        yield Target(self, name, OnDemand(name, when=SIGUSR1), section="raw_tp")

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        only = f"{TRIGGER}:{SIGUSR1}"
        return iter((only,) if matcher(pattern)(only) else ())


class _Named(Probe):
    """Base of `test` and `bench`: an XDP program that the tracer runs through BPF_PROG_TEST_RUN, which measures it.

    They run in their mode only; the same name must not be there twice.
    """

    arity = (1, 1)
    mode: ClassVar[str]

    def expand(self, place: Place) -> Iterator[Target]:
        (word,) = place.parts
        if not word:
            place.error("err.ap.special", f"{self.name} probe must have a name", (f"Write {self.name}:NAME.",))
            return
        if is_wildcard(word):
            place.error("err.ap.special", f"{self.name} probe type does not support wildcards")
            return
        name = f"{self.name}:{word}"
        known = place.context.single.setdefault(name, place.span)
        if known is not place.span:
            place.context.diagnostics.error(
                "err.ap.special", f"There is a {self.name} probe named '{word}' already", place.span,
                labels=(Label(known, "the other one is here"),),
            )  # fmt: skip
            return
        yield Target(self, name, OnDemand(name, when=self.mode), section="xdp")

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        return iter(())


@feature
class Test(_Named):
    """A test of the script itself: `test:NAME`, which runs with `--test` only.

    It passes if it returns 0 (as it does without a `return`), shows nothing with `errorf()` and does not
    `exit()` with another code than 0. What a test shows appears if it fails. Names must differ.

    bt> test:sum { @s = sum(2); @s = sum(3); if (@s != 5) { errorf("the sum is %d", (int64)@s); } }

    A program of type XDP, run with an empty packet of 14 bytes.
    """

    name = "test"
    mode = "test"
    modes = ("test",)


@feature
class Bench(_Named):
    """A benchmark: `bench:NAME`, which runs with `--bench` only, as often as it takes to fill a millisecond.

    The table shows the average time of one run. A benchmark that returns something else than 0 is skipped.
    Names must differ. Output is not shown.

    bt> bench:count { @ = count(); }

    A program of type XDP, run with an empty packet of 14 bytes; the kernel measures the time.
    """

    name = "bench"
    family = "benchmark"
    mode = "bench"
    modes = ("bench",)
