"""Attach points without a place in code (begin, interval, software, …), and what all types share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytrace.grammar.attaching import OnDemand, PerfEventAttach
from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.spec import REGISTRY
from pytrace.language.probes.common import is_wildcard
from tests.language.probe_world import expand

tag = pytest.mark.tag


# ---------------------------------------------------------------- all types


@tag("probe.alias")
def test_names_take_any_case_and_aliases_do_not() -> None:
    assert REGISTRY.probe_type("BEGIN") is REGISTRY.probe_type("begin")
    assert REGISTRY.probe_type("Kprobe") is REGISTRY.probe_type("k")
    assert REGISTRY.probe_type("K") is None
    assert REGISTRY.probe_type("u") is REGISTRY.probe_type("uprobe")
    assert REGISTRY.probe_type("U") is REGISTRY.probe_type("usdt")


@tag("probe.arity", "err.ap.arity")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("begin:x", "begin probe type requires 0 arguments, found 1"),
        ("kprobe", "kprobe probe type requires 1 or 2 arguments, found 0"),
        ("tracepoint:a:b:c", "tracepoint probe type requires 1 or 2 arguments, found 3"),
        ("interval", "interval probe type requires 1 or 2 arguments, found 0"),
        ("usdt:a:b:c:d", "usdt probe type requires 2 or 3 arguments, found 4"),
    ],
)
def test_number_of_parts(text: str, message: str) -> None:
    assert expand(text).errors == [f"err.ap.arity: {message}"]


def test_order_of_attaching() -> None:
    backwards = {p.name for p in REGISTRY.probes.values() if p.reverse}
    assert backwards == {"kprobe", "uprobe", "uretprobe", "usdt", "fentry", "fexit", "iter", "tc"}


def test_types_whose_programs_check_the_process() -> None:
    checked = {p.name for p in REGISTRY.probes.values() if p.filtered}
    assert checked == {"kprobe", "kretprobe", "fentry", "fexit", "tracepoint", "rawtracepoint"}


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("vfs_*", ["vfs_", "vfs_read"], ["xvfs_read", "vfs"]),
        ("*", ["", "x"], []),
        ("a*b*c", ["abc", "aXbYc"], ["acb", "abcd", "xabc"]),
        ("*a*", ["a", "xay"], ["xy"]),
        ("[Ss]ys_*", ["[Ss]ys_x"], ["sys_x", "Sys_x"]),
        ("a.c", ["a.c"], ["abc"]),
        ("ab*ba", ["abba", "abXba"], ["aba"]),
    ],
)
def test_wildcards(pattern: str, yes: list[str], no: list[str]) -> None:
    match = matcher(pattern)
    assert [n for n in yes + no if match(n)] == yes


@given(st.lists(st.text("ab*[", max_size=4), max_size=4), st.text("ab[", max_size=12))
def test_wildcards_match_what_is_put_in_for_the_stars(pieces: list[str], filling: str) -> None:
    pattern = "*".join(pieces)
    assert matcher(pattern)(pattern.replace("*", filling))
    assert is_wildcard(pattern) == ("*" in pattern)


# ---------------------------------------------------------------- begin, end


def test_begin_and_end_are_run_by_the_tracer() -> None:
    assert expand("BEGIN").targets[0].attach == OnDemand("begin", "begin")
    assert expand("end").targets[0].attach == OnDemand("end", "end")
    assert expand("begin").targets[0].section == "raw_tp"


# ---------------------------------------------------------------- interval, profile


@pytest.mark.parametrize(
    ("text", "name", "period", "frequency"),
    [
        ("interval:1s", "interval:us:1000000", 1_000_000_000, 0),
        ("interval:250ms", "interval:us:250000", 250_000_000, 0),
        ("interval:1999", "interval:us:1", 1000, 0),
        ("i:1e6", "interval:us:1000", 1_000_000, 0),
        ("interval:s:5", "interval:s:5", 5_000_000_000, 0),
        ("interval:ms:10", "interval:ms:10", 10_000_000, 0),
        ("profile:us:100", "profile:us:100", 100_000, 0),
        ("p:hz:99", "profile:hz:99", 0, 99),
    ],
)
def test_rates(text: str, name: str, period: int, frequency: int) -> None:
    (target,) = expand(text).targets
    attach = target.attach
    assert isinstance(attach, PerfEventAttach)
    assert (attach.name, attach.period, attach.frequency) == (name, period, frequency)
    profile = name.startswith("profile")
    assert (attach.type, attach.config, attach.every_cpu, attach.per_process) == (1, 0, profile, profile)
    assert target.section == "perf_event"


@tag("probe.interval.check", "err.ap.unit")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("interval:m:5", "interval probe has an unknown time unit: 'm'"),
        ("profile:hz:x", "Invalid rate of profile probe: 'x' is not an integer"),
        ("profile:hz:0", "profile probe must have a positive rate, found 0"),
        ("interval:s:-1", "interval probe must have a positive rate, found -1"),
        ("interval:999", "interval probe: 999 ns is below the minimum of 1000 ns"),
        ("interval:0", "interval probe must have a positive rate, found 0"),
        ("interval:-5s", "interval probe must have a positive rate, found -5000000"),
        ("interval:soon", "Invalid rate of interval probe: 'soon' is not an integer"),
        ("interval:s:", "Invalid rate of interval probe: '' is not an integer"),
        ("interval:*", "Invalid rate of interval probe: '*' is not an integer"),
        ("interval:s:99999999999", "interval probe: a period of 99999999999 s is too long"),
    ],
)
def test_rates_that_are_wrong(text: str, message: str) -> None:
    assert expand(text).errors == [f"err.ap.unit: {message}"]


# ---------------------------------------------------------------- software, hardware


@pytest.mark.parametrize(
    ("text", "name", "kind", "config", "period"),
    [
        ("software:page-faults:1", "software:page-faults:1", 1, 2, 1),
        ("software:faults", "software:faults", 1, 2, 100),
        ("software:cpu:7", "software:cpu:7", 1, 0, 7),
        ("s:cs:", "software:cs", 1, 3, 1000),
        ("hardware:cycles:0", "hardware:cycles", 0, 0, 1_000_000),
        ("h:branch-misses", "hardware:branch-misses", 0, 5, 100_000),
    ],
)
def test_counters(text: str, name: str, kind: int, config: int, period: int) -> None:
    (target,) = expand(text).targets
    assert target.attach == PerfEventAttach(name, kind, config, period)


@tag("err.ap.event")
@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("software:page-fault:1", "page-fault is not a software probe", "'page-faults'"),
        ("hardware:cache-mises", "cache-mises is not a hardware probe", "'cache-misses'"),
        ("software:*", "software probe type does not support wildcards", "-l 'software:*'"),
        ("software:cs:x", "Invalid count of software probe: 'x'", ""),
        ("software:cs:-1", "Invalid count of software probe: '-1'", ""),
    ],
)
def test_counters_that_are_wrong(text: str, message: str, hint: str) -> None:
    found = expand(text)
    assert found.errors == [f"err.ap.event: {message}"]
    assert hint in "".join(found.hints)
