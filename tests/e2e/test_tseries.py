"""Time series on the running kernel, with a map in place of the clock (reference part 2, sections 3.1, 3.6, 7)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import pytest

from pytrace.api import trace
from pytrace.grammar.diagnostics import CompileError
from pytrace.grammar.settings import SettingError
from pytrace.language.timeline import Point, timeline
from pytrace.printer import document

pytestmark = pytest.mark.root

NOON = 43200  # seconds since 1970
SECOND = 1_000_000_000
GRAPH = "hh:mm:ss |___________________________________________________|\n"
FOOT = "         v___________________________________________________v\n"
QUIET = (("BPFTRACE_DUMMY_TS_MAP", "@ts"), ("BPFTRACE_UNSTABLE_TSERIES", "enable"))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(moments: Iterable[tuple[float, str]]) -> str:
    """A program that makes each call at its moment: seconds after noon."""
    calls = [f"@ts = (uint64){round((NOON + second) * SECOND)}; {call};" for second, call in moments]
    return f"begin {{ {' '.join(calls)} clear(@ts); }}"


def shown(moments: Iterable[tuple[float, str]]) -> str:
    """What text mode prints at the end."""
    with trace(at(moments), environment=QUIET) as running:
        return "".join(output.text for output in running.outputs()).removeprefix("\n\n")


def points(call: str, values: Iterable[tuple[float, int]]) -> list[tuple[float, int | None]]:
    """(seconds after noon, value) of each row of `@t`, whose calls are made with these values at these moments."""
    program = at((second, f"@t = {call.replace('V', str(value))}") for second, value in values)
    with trace(program, environment=QUIET) as running:
        running.run()
        rows: tuple[Point, ...] = running.maps["@t"]
    return [(point.start / SECOND - NOON, point.value) for point in rows]


@pytest.mark.tag("agg.tseries", "out.tseries", "env.dummy-ts", "agg.tseries-bucket")
def test_the_picture() -> None:
    found = shown((second, f"@t = tseries({value}, 1s, 4)") for second, value in ((1, 2), (3, 6), (4, -2)))
    assert (
        found
        == f"""\
@t:
         -2                                                  6
{GRAPH}\
12:00:01 |            .            *                         | 2
12:00:02 |            .                                      | -
12:00:03 |            .                                      * 6
12:00:04 *            .                                      | -2
{FOOT}\
         -2                                                  6

"""
    )


@pytest.mark.tag("agg.tseries", "out.tseries")
def test_keys_share_one_window_and_stand_in_the_order_of_their_bytes() -> None:
    moments = ((9, 300, 7), (1, 2, 5), (8, 256, 3))
    found = shown((second, f"@t[(int64){key}] = tseries({value}, 1s, 3)") for second, key, value in moments)
    assert (
        found
        == f"""\
@t[256]:
         2                                                   4
{GRAPH}\
12:00:08 |                         *                         | 3
12:00:09 |                                                   | -
{FOOT}\
         2                                                   4

@t[2]:
                   null                                             null
hh:mm:ss.ns        |___________________________________________________|
12:00:09.000000000 |                                                   | -
                   v___________________________________________________v
                   null                                             null

@t[300]:
                   6                                                   8
hh:mm:ss.ns        |___________________________________________________|
12:00:09.000000000 |                         *                         | 7
                   v___________________________________________________v
                   6                                                   8

"""
    )


@pytest.mark.tag("out.tseries")
@pytest.mark.parametrize(
    ("step", "title", "second_row"),
    [
        (2 * SECOND, "hh:mm:ss |", "00:00:04 |"),
        (SECOND - 1000, "hh:mm:ss.ms  |", "00:00:01.999 |"),
        (20_000_000, "hh:mm:ss.ms  |", "00:00:00.040 |"),
        (20_000, "hh:mm:ss.μs    |", "00:00:00.000040 |"),
        (20, "hh:mm:ss.ns        |", "00:00:00.000000040 |"),
    ],
)
def test_the_unit_follows_the_distance_of_rows(step: int, title: str, second_row: str) -> None:
    lines = timeline([Point(step, 1), Point(2 * step, None), Point(3 * step, 2)]).splitlines()
    assert lines[1].startswith(title)
    assert lines[3].startswith(second_row)
    # μ has two bytes, and it is bytes that are padded
    assert {len(line.encode()) for line in lines[1:-1]} == {len(second_row) + 52, len(second_row) + 54}
    assert lines[0] == lines[-1] == f"{'':{len(second_row) - 1}}{'1':<21}{'2':>32}"


@pytest.mark.tag("out.tseries")
def test_nothing_is_left_after_zero() -> None:
    assert shown([(1, "@t = tseries(5, 1s, 4)"), (2, "zero(@t)")]) == "@t:\n<no data>\n"
    assert shown([(1, "@t = tseries(5, 1s, 4)"), (2, "clear(@t)")]) == ""


@pytest.mark.tag("agg.tseries", "agg.tseries-bucket")
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("tseries(V, 1s, 10)", [(1, 4), (2, 7)]),
        ('tseries(V, 1s, 10, "sum")', [(1, 14), (2, 7)]),
        ('tseries(V, 1s, 10, "avg")', [(1, 4), (2, 7)]),
        ('tseries(V, 1s, 10, "min")', [(1, 1), (2, 7)]),
        ('tseries(V, 1s, 10, "max")', [(1, 9), (2, 7)]),
        ('tseries(-V, 1s, 10, "min")', [(1, -9), (2, -7)]),
        ('tseries(-V, 1s, 10, "avg")', [(1, -4), (2, -7)]),
        ('tseries((uint64)1 << 63 | V, 1s, 10, "max")', [(1, 1 << 63 | 9), (2, 1 << 63 | 7)]),
    ],
)
def test_values_of_one_interval_are_brought_together(call: str, expected: list[tuple[int, int]]) -> None:
    assert points(call, [(1, 1), (1.25, 9), (1.75, 4), (2.5, 7)]) == expected


@pytest.mark.tag("agg.tseries", "agg.tseries-bucket")
@pytest.mark.parametrize("reducer", ["", ', "sum"', ', "avg"', ', "min"', ', "max"'])
def test_a_slot_that_comes_round_again_starts_anew(reducer: str) -> None:
    found = points(f"tseries(V, 1s, 3{reducer})", [(0, 50), (1, 40), (2, 3), (3, 4), (4, 5)])
    assert found == [(2, 3), (3, 4), (4, 5)]


@pytest.mark.tag("agg.tseries")
def test_the_real_clock() -> None:
    before = time.time_ns()
    with trace(
        'begin { @a = tseries(1, 1ms, 100, "sum"); @b = nsecs(sw_tai); }',
        environment=(("BPFTRACE_UNSTABLE_TSERIES", "1"),),
    ) as running:
        running.run()
        (point,) = running.maps["@a"]
        now = running.maps["@b"]
    offset = time.clock_gettime_ns(time.CLOCK_TAI) - time.time_ns()
    assert point.value == 1
    assert before + offset - 2 * SECOND < point.start <= now < point.start + SECOND


@pytest.mark.tag("json.tseries")
def test_json() -> None:
    def documents(*moments: tuple[float, str]) -> str:
        with trace(at(moments), environment=QUIET) as running:
            return "".join(document(output) for output in running.outputs() if output.kind == "tseries")

    values = [(second, f"@t = tseries({value}, 500ms, 9)") for second, value in ((1, 2), (2.5, -6))]
    rows = (
        '[{"interval_start":"1970-01-01T12:00:01.000000000","value":2},'
        '{"interval_start":"1970-01-01T12:00:02.500000000","value":-6}]'
    )
    assert documents(*values) == f'{{"type": "tseries", "data": {{"@t": {rows}}}}}\n'
    one = '[{"interval_start":"1970-01-01T12:00:01.000000000","value":"18446744073709551615"}]'
    keyed = documents((1, '@t["x", 3] = tseries((uint64)-1, 1s, 9)'))
    assert keyed == f'{{"type": "tseries", "data": {{"@t": {{"x,3": {one}}}}}}}\n'
    assert documents((1, "@t = tseries(1, 1s, 9)"), (2, "zero(@t)")) == '{"type": "tseries", "data": {"@t": []}}\n'


@pytest.mark.tag("agg.tseries")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@ = tseries(1, 0, 5)", "tseries() interval_ns must be >= 1 (0 provided)"),
        ("@ = tseries(1, 5, 0)", "tseries() num_intervals must be >= 1 (0 provided)"),
        ("@ = tseries(1, 5, 1000001)", "tseries() num_intervals must be < 1000000 (1000001 provided)"),
        (
            '@ = tseries(1, 5, 5, "summ")',
            'tseries() expects one of the following aggregation functions: avg, max, min, sum ("summ" provided)',
        ),
        ('@ = tseries("a", 5, 5)', "tseries() only supports integer arguments (string provided)"),
        ("@ = tseries(1, 5)", "tseries() requires at least 3 arguments (2 provided)"),
        ("@ = tseries(1, 5, @a); @a = 1", "tseries() expects a int literal (int provided)"),
        ("@ = tseries(1, 5, 5); @ = tseries(1, 5, 6)", "Different tseries bounds in a single map unsupported"),
    ],
)
def test_bad_calls(text: str, message: str) -> None:
    with pytest.raises(CompileError) as caught, trace(f"begin {{ {text}; }}", environment=QUIET[1:]):
        pass
    assert message in [d.message for d in caught.value.diagnostics]
    with trace("begin { @ = tseries(1, 5, 1000000); }", environment=QUIET[1:]):
        pass  # the bound itself


@pytest.mark.tag("agg.tseries")
def test_it_may_be_switched_off() -> None:
    with trace("begin { @ = tseries(1, 1, 1); }") as running:
        running.run()
        assert [w.message for w in running.warnings] == [
            "Script is using an unstable feature: tseries. To prevent this warning you must explicitly enable it in "
            "the config e.g. unstable_tseries=enable"
        ]
    with pytest.raises(CompileError), trace("config = { unstable_tseries=error } begin { @ = tseries(1, 1, 1); }"):
        pass


@pytest.mark.tag("env.dummy-ts")
def test_a_map_in_place_of_every_clock() -> None:
    clocks = ("nsecs", "nsecs(monotonic)", "nsecs(boot)", "nsecs(sw_tai)")
    with trace(
        f'begin {{ @ts = (uint64)77; printf("{"%d " * len(clocks)}", {", ".join(clocks)}); @ts = 78; print(nsecs); }}',
        environment=QUIET,
    ) as running:
        assert "".join(o.text for o in running.outputs() if o.kind != "map") == "77 77 77 77 78\n\n\n"
    for program in (
        "begin { print(nsecs); }",
        "begin { @ts[1] = 1; print(nsecs); }",
        'begin { @ts = "a"; print(nsecs); }',
    ):
        with pytest.raises(SettingError, match="dummy_ts_map: the program has no map @ts of one integer"):
            trace(program, environment=QUIET).__enter__()
    with pytest.raises(SettingError, match="dummy_ts_map: expecting the name of a map like @ts, got ts"):
        trace("begin { }", environment=(("BPFTRACE_DUMMY_TS_MAP", "ts"),)).__enter__()
    with pytest.raises(CompileError, match="can only be set as an environment variable"):
        trace('config = { dummy_ts_map="@ts" } begin { }').__enter__()
