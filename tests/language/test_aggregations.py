"""Aggregations: what the kernel does with them, what user space makes of it (reference part 2, section 3)."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import pytest

from pytrace.grammar.columns import Columns
from pytrace.grammar.data import replace
from pytrace.grammar.layout import Layout
from pytrace.grammar.plan import MapSpec
from pytrace.grammar.spec import REGISTRY, Aggregation, CallSite
from pytrace.grammar.types import (
    BOOL,
    INT8,
    INT32,
    INT64,
    UINT32,
    UINT64,
    Aggregate,
    Opaque,
    Stack,
    String,
    Tuple,
    Type,
    round_up,
)
from pytrace.language.aggregations.histograms import Lhist
from pytrace.language.histogram import (
    Bucket,
    Histogram,
    bar_length,
    linear_bucket,
    linear_describe,
    log2_bucket,
    log2_describe,
)
from pytrace.language.mapview import MapSnapshot
from tests.language.fakes import SERVICES, lay
from tests.language.pyemit import number, python_emit, signed64

COUNT = Aggregate("count", "count_t", True)
SUM, USUM = Aggregate("sum", "sum_t", True), Aggregate("sum", "usum_t", False)
MIN, UMIN = Aggregate("min", "min_t", True), Aggregate("min", "umin_t", False)
MAX, UMAX = Aggregate("max", "max_t", True), Aggregate("max", "umax_t", False)
AVG, UAVG = Aggregate("avg", "avg_t", True), Aggregate("avg", "uavg_t", False)
STATS = Aggregate("stats", "stats_t", True)


def hist(bits: int = 0) -> Aggregate:
    return Aggregate("hist", "hist_t", False, (bits,))


def lhist(low: int, high: int, step: int) -> Aggregate:
    return Aggregate("lhist", "lhist_t", False, (low, high, step))


# ---------------------------------------------------------------- maps as the kernel would hold them


def spec(name: str, key: Type | None, value: Type | Layout) -> MapSpec:
    layout = value if isinstance(value, Layout) else lay(value)
    kind = layout.type
    aggregation = REGISTRY.aggregation(kind) if isinstance(kind, Aggregate) else None
    return MapSpec(
        f"@{name}", "m", "percpu_hash" if aggregation else "hash", lay(key or INT64), layout,
        8, 8 * (aggregation.words if aggregation else 1), 4096, key is None,
        aggregation is not None and aggregation.bucketed,
    )  # fmt: skip


def cell(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}Q", *(w & (1 << 64) - 1 for w in words))


def string(text: str, size: int = 8) -> bytes:
    return text.encode().ljust(size, b"\0")


def int64(value: int) -> bytes:
    return struct.pack("<q", value)


def snapshot(made: MapSpec, entries: Iterable[tuple[bytes, Any]]) -> MapSnapshot:
    return MapSnapshot(made, entries, REGISTRY, SERVICES)


def bucket_entries(kind: Aggregate, values: Iterable[int], key: bytes = bytes(8)) -> list[tuple[bytes, Any]]:
    """What two CPUs hold after they counted the values in turn."""
    counts: dict[int, list[int]] = {}
    for turn, value in enumerate(values):
        params = cast("tuple[int, ...]", kind.params)
        index = log2_bucket(value, *params) if kind.feature == "hist" else linear_bucket(value, *params)
        counts.setdefault(index, [0, 0])[turn % 2] += 1
    padded = key.ljust(round_up(len(key), 8), b"\0")
    return [(padded + cell(index), [cell(n) for n in cpus]) for index, cpus in counts.items()]


def picture(kind: Aggregate, values: Sequence[int], name: str = "") -> str:
    return snapshot(spec(name, None, kind), bucket_entries(kind, values)).text()


# ---------------------------------------------------------------- the worked examples


@pytest.mark.tag("out.hist", "out.hist-label", "agg.hist-bucket")
def test_the_worked_example_of_hist() -> None:
    assert (
        picture(hist(), [-3, 0, 1, 5, 6, 7, 9])
        == """\
@:
(..., 0)               1 |@@@@@@@@@@@@@@@@@                                   |
[0]                    1 |@@@@@@@@@@@@@@@@@                                   |
[1]                    1 |@@@@@@@@@@@@@@@@@                                   |
[2, 4)                 0 |                                                    |
[4, 8)                 3 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[8, 16)                1 |@@@@@@@@@@@@@@@@@                                   |

"""
    )


@pytest.mark.tag("out.hist", "out.hist-label")
def test_the_worked_examples_of_finer_hist() -> None:
    assert (
        picture(hist(2), [1900, 2100, 4200], "q")
        == """\
@q:
[1792, 2048)           1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[2048, 2560)           1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[2560, 3072)           0 |                                                    |
[3072, 3584)           0 |                                                    |
[3584, 4K)             0 |                                                    |
[4K, 5K)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

"""
    )
    assert (
        picture(hist(2), [3, 7, 8, 9, 11, 17], "q")
        == """\
@q:
[3]                    1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[4]                    0 |                                                    |
[5]                    0 |                                                    |
[6]                    0 |                                                    |
[7]                    1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[8, 10)                2 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[10, 12)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[12, 14)               0 |                                                    |
[14, 16)               0 |                                                    |
[16, 20)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |

"""
    )


@pytest.mark.tag("out.lhist", "agg.lhist-bucket")
def test_the_worked_examples_of_lhist() -> None:
    assert (
        picture(lhist(0, 50, 10), [-1, 4, 5, 12, 35, 50, 400], "l")
        == """\
@l:
(..., 0)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[0, 10)                2 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[10, 20)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[20, 30)               0 |                                                    |
[30, 40)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[40, 50)               0 |                                                    |
[50, ...)              2 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

"""
    )
    assert (
        picture(lhist(0, 10, 3), [2, 9, 10, 11], "l")
        == """\
@l:
[0, 3)                 1 |@@@@@@@@@@@@@@@@@                                   |
[3, 6)                 0 |                                                    |
[6, 9)                 0 |                                                    |
[9, ...)               3 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

"""
    )
    lines = picture(lhist(0, 4096, 1024), [100, 2000]).splitlines()
    assert [line[:16].rstrip() for line in lines[1:3]] == ["[0, 1K)", "[1K, 2K)"]


@pytest.mark.tag("out.map", "out.map-top", "out.map-div")
def test_the_worked_example_of_maps() -> None:
    entries = [(string("b", 2), int64(5)), (string("a", 2), int64(2)), (string("c", 2), int64(9))]
    n = snapshot(spec("n", String(2), INT64), entries)
    assert n.text(2) == "@n[b]: 5\n@n[c]: 9\n"
    assert n.text(0, 2) == "@n[a]: 1\n@n[b]: 2\n@n[c]: 4\n"
    key = Tuple((INT64, String(2)))
    rows = [(int64(2) + string("x"), string("late", 6)), (int64(1) + string("y"), string("early", 6))]
    assert snapshot(spec("t", key, String(6)), rows).text() == "@t[1, y]: early\n@t[2, x]: late\n"


@pytest.mark.tag("out.stats")
def test_the_worked_example_of_stats() -> None:
    io = snapshot(spec("io", String(3), STATS), [(string("rd", 3), [cell(10, 1), cell(30, 1)])])
    assert io.text() == "@io[rd]: { .count = 2, .average = 20, .total = 40 }\n"
    assert snapshot(spec("w", None, AVG), [(bytes(8), [cell(15, 2), cell(0, 0)])]).text() == "@w: 7\n"


@pytest.mark.tag("stack.render")
def test_the_worked_examples_of_stack_keys() -> None:
    key = Stack(False, "bpftrace", 2)
    full, empty = struct.pack("<3Q", 2, 0x1000, 0x2000), bytes(24)
    made = snapshot(spec("", key, COUNT), [(full, [cell(3)]), (empty, [cell(1)])])
    assert made.text() == "@[\n]: 1\n@[\n        vfs_read+187\n        ksys_read+102\n]: 3\n"
    perf = snapshot(spec("p", Stack(False, "perf", 2), COUNT), [(full, [cell(3)])])
    assert perf.text() == "@p[\n\t1000 vfs_read+187\n\t2000 ksys_read+102\n]: 3\n"
    pair = Tuple((Stack(False, "bpftrace", 1), String(3)))
    one = struct.pack("<2Q", 1, 0x1000) + string("dd")
    made = snapshot(spec("k", pair, COUNT), [(one, [cell(3)])])
    assert made.text() == "@k[\n        vfs_read+187\n, dd]: 3\n"


# ---------------------------------------------------------------- printing maps


@pytest.mark.tag("out.map")
def test_scalar_maps_and_empty_maps() -> None:
    assert snapshot(spec("x", None, COUNT), [(bytes(8), [cell(3), cell(4)])]).text() == "@x: 7\n"
    for kind in (COUNT, AVG, hist(), INT64):
        assert snapshot(spec("x", None, kind), []).text() == ""
        assert snapshot(spec("x", INT64, kind), []).text() == ""


@pytest.mark.tag("out.hist")
def test_keyed_histograms_and_zeroed_ones() -> None:
    entries = bucket_entries(hist(), [1], string("a", 3)) + bucket_entries(hist(), [1, 1], string("b", 3))
    text = snapshot(spec("h", String(3), hist()), reversed(entries)).text()
    full = "@" * 52
    assert text == f"@h[a]:\n{'[1]':16}{1:8} |{full}|\n\n@h[b]:\n{'[1]':16}{2:8} |{full}|\n\n"
    zeroed = [(key, [cell(0), cell(0)]) for key, _ in bucket_entries(hist(), [1, 9])]
    assert snapshot(spec("h", None, hist()), zeroed).text() == "@h:\n\n"
    assert snapshot(spec("h", None, hist()), zeroed).json() == {"@h": []}


@pytest.mark.tag("out.map-div")
def test_division() -> None:
    h = snapshot(spec("h", None, hist()), bucket_entries(hist(), [1] * 7 + [2]))
    assert [line[16:24].strip() for line in h.text(0, 3).splitlines()[1:3]] == ["2", "0"]
    assert "@" not in h.text(0, 100).removeprefix("@h:")
    linear = lhist(0, 10, 1)
    by_step = snapshot(spec("l", None, linear), bucket_entries(linear, [1] * 7))
    assert by_step.text(0, 3) == by_step.text()
    assert snapshot(spec("s", None, SUM), [(bytes(8), [cell(-7)])]).text(0, 2) == "@s: -3\n"
    io = snapshot(spec("io", None, STATS), [(bytes(8), [cell(40, 2)])])
    assert io.text(0, 3) == "@io: { .count = 2, .average = 6, .total = 40 }\n"
    assert snapshot(spec("a", None, AVG), [(bytes(8), [cell(-40, 2)])]).text(0, 3) == "@a: -6\n"


def order(key: Type, value: Type, entries: Sequence[tuple[bytes, Any]]) -> list[Any]:
    return list(snapshot(spec("m", key, value), entries).value())


@pytest.mark.tag("out.map")
def test_order_by_value() -> None:
    keys = [int64(k) for k in (1, 2, 3)]
    sums = [[cell(5)], [cell(-1)], [cell(2)]]
    assert order(INT64, SUM, list(zip(keys, sums, strict=True))) == [2, 3, 1]
    assert order(INT64, USUM, list(zip(keys, sums, strict=True))) == [3, 1, 2]
    extremes = [[cell(5, 1)], [cell(-1, 1)], [cell(2, 1)]]
    assert order(INT64, MIN, list(zip(keys, extremes, strict=True))) == [3, 1, 2]
    means = [[cell(50, 1)], [cell(60, 6)], [cell(-5, 1)]]
    assert order(INT64, AVG, list(zip(keys, means, strict=True))) == [3, 2, 1]
    assert order(INT64, STATS, list(zip(keys, means, strict=True))) == [3, 2, 1]
    small = [b"\x05", b"\xff", b"\x02"]
    assert order(INT64, INT8, list(zip(keys, small, strict=True))) == [2, 3, 1]
    counted = bucket_entries(hist(), [1, 2, 3], keys[0]) + bucket_entries(hist(), [9], keys[1])
    assert order(INT64, hist(), counted) == [2, 1]


@pytest.mark.tag("out.map")
def test_order_by_key() -> None:
    value = string("v", 2)
    unsigned = [(struct.pack("<I", k), value) for k in (5, 0xFFFFFFFF, 1)]
    assert order(UINT32, String(2), unsigned) == [0xFFFFFFFF, 1, 5]
    strings = [(string(k), value) for k in ("b", "a", "C", "ab")]
    assert order(String(8), String(2), strings) == ["C", "a", "ab", "b"]
    pairs = [(struct.pack("<i4s", n, s.encode()), value) for n, s in ((2, "a"), (1, "b"), (1, "a"))]
    assert order(Tuple((INT32, String(4))), String(2), pairs) == [(1, "a"), (1, "b"), (2, "a")]
    flags = [(b"\x01", value), (b"\x00", value)]
    assert order(BOOL, String(2), flags) == [True, False]


@pytest.mark.tag("out.map")
def test_the_outer_parentheses_of_a_key_are_dropped_even_from_strings() -> None:
    assert snapshot(spec("m", String(4), INT64), [(string("(z)", 4), int64(1))]).text() == "@m[z]: 1\n"


# ---------------------------------------------------------------- JSON and Python


@pytest.mark.tag("json.map", "json.keys", "json.num")
def test_json_of_maps() -> None:
    assert snapshot(spec("x", None, INT64), [(bytes(8), int64(5))]).json() == {"@x": 5}
    key = Tuple((INT64, String(8)))
    rows = [(int64(1) + string("a b"), cell(-1)), (int64(2) + string("wr"), cell(9))]
    made = snapshot(spec("m", key, UINT64), rows)
    assert made.document == "map"
    assert made.json() == {"@m": {"2,wr": 9, "1,ab": "18446744073709551615"}}
    assert made.json(1) == {"@m": {"1,ab": "18446744073709551615"}}
    nested = Tuple((INT64, Tuple((INT64, INT64))))
    rows = [(int64(1) + int64(2) + int64(3), int64(4))]
    assert snapshot(spec("m", nested, INT64), rows).json() == {"@m": {"1,(2,3)": 4}}
    frames = struct.pack("<2Q", 1, 0x1000)
    stack = Stack(False, "bpftrace", 1)
    assert snapshot(spec("m", stack, INT64), [(frames, int64(1))]).json() == {"@m": {"\nvfs_read+187\n": 1}}


@pytest.mark.tag("json.map")
def test_empty_maps_in_json() -> None:
    assert snapshot(spec("m", INT64, COUNT), []).json() is None
    assert snapshot(spec("m", None, hist()), []).json() is None
    assert snapshot(spec("m", INT64, STATS), []).json() == {"@m": {}}
    assert snapshot(spec("m", None, AVG), []).json() == {"@m": {}}


@pytest.mark.tag("json.keys")
def test_no_element_is_lost_when_two_keys_look_the_same() -> None:
    rows = [(string("a b"), int64(1)), (string("ab"), int64(2)), (string(" ab"), int64(3))]
    found = snapshot(spec("m", String(8), INT64), rows).json()
    assert found == {"@m": {"ab": 1, "ab#2": 2, "ab#3": 3}}
    symbols = [(bytes(8), int64(1)), (struct.pack("<Q", 1 << 40), int64(2))]
    assert snapshot(spec("m", Opaque("ksym_t", 8), INT64), symbols).value() == {"0": 1, "0x10000000000": 2}


@pytest.mark.tag("json.hist")
def test_json_of_histograms() -> None:
    kind = lhist(0, 2, 1)
    made = snapshot(spec("h", None, kind), bucket_entries(kind, [-1, 0, 0, 2, 5, 9, 7]))
    assert made.document == "hist"
    assert made.json() == {
        "@h": [
            {"max": -1, "count": 1},
            {"min": 0, "max": 0, "count": 2},
            {"min": 1, "max": 1, "count": 0},
            {"min": 2, "count": 4},
        ]
    }
    keyed = snapshot(spec("h", String(3), hist()), bucket_entries(hist(), [4, 5, 7], string("rd", 3)))
    assert keyed.json() == {"@h": {"rd": [{"min": 4, "max": 7, "count": 3}]}}
    large = snapshot(spec("h", None, hist()), bucket_entries(hist(), [1 << 60]))
    assert large.json() == {"@h": [{"min": 1 << 60, "max": str((1 << 61) - 1), "count": 1}]}


@pytest.mark.tag("json.stats")
def test_json_of_stats_and_averages() -> None:
    s = snapshot(spec("s", None, STATS), [(bytes(8), [cell(40, 2)])])
    assert (s.document, s.json()) == ("stats", {"@s": {"count": 2, "average": 20, "total": 40}})
    a = snapshot(spec("a", String(3), AVG), [(string("rd", 3), [cell(40, 2)])])
    assert (a.document, a.json()) == ("stats", {"@a": {"rd": 20}})


def test_python_values() -> None:
    kind = hist()
    made = snapshot(spec("h", String(3), kind), bucket_entries(kind, [-1, 0, 3], string("rd", 3)))
    expected = Histogram((Bucket(None, 0, 1), Bucket(0, 1, 1), Bucket(1, 2, 0), Bucket(2, 4, 1)))
    assert made.value() == {"rd": expected}
    assert expected.total == 3
    linear = lhist(0, 10, 5)
    found = snapshot(spec("l", None, linear), bucket_entries(linear, [7, 99])).value()
    assert found == Histogram((Bucket(5, 10, 1), Bucket(10, None, 1)))
    assert snapshot(spec("c", None, COUNT), [(bytes(8), [cell(1), cell(2)])]).value() == 3
    assert snapshot(spec("c", None, COUNT), []).value() is None
    stats = snapshot(spec("s", None, STATS), [(bytes(8), [cell(-40, 3)])]).value()
    assert (stats.count, stats.average, stats.total) == (3, -13, -40)
    record = snapshot(spec("t", Tuple((INT64, String(8))), Tuple((INT64, BOOL))), [
        (int64(1) + string("x"), int64(-5) + b"\x01" + bytes(7)),
    ])  # fmt: skip
    assert record.value() == {(1, "x"): (-5, True)}


# ---------------------------------------------------------------- buckets


@pytest.mark.tag("agg.hist-bucket")
@pytest.mark.parametrize("bits", range(6))
def test_every_value_lies_within_its_bucket(bits: int) -> None:
    describe = log2_describe(bits)
    edges = [(1 << p) + d for p in range(62) for d in (-1, 0, 1)]
    for value in {*range(300), *edges, (1 << 63) - 1}:
        lo, hi, _ = describe(log2_bucket(value, bits))
        assert lo is not None
        assert hi is not None
        assert lo <= value < hi
    assert log2_bucket(-1, bits) == 0
    assert describe(0) == (None, 0, "(..., 0)")
    for index in range(1, 60):  # neighbours touch
        assert describe(index)[1] == describe(index + 1)[0]


@pytest.mark.tag("out.hist-label")
def test_suffixes_follow_the_shift() -> None:
    assert log2_describe(0)(log2_bucket(1024))[2] == "[1K, 2K)"
    assert log2_describe(0)(log2_bucket(1 << 20))[2] == "[1M, 2M)"
    assert log2_describe(0)(log2_bucket(1 << 62))[2] == "[4E, 8E)"
    assert log2_describe(2)(log2_bucket(2048, 2))[2] == "[2048, 2560)"
    assert log2_describe(5)(log2_bucket(64, 5))[2] == "[64, 66)"


@pytest.mark.tag("out.lhist")
def test_labels_of_lhist() -> None:
    assert linear_describe(0, 4, 1)(4)[2] == "[3]"
    assert linear_describe(0, 4, 1)(5)[2] == "[4, ...)"
    assert linear_describe(10, 40, 10)(0) == (None, 10, "(..., 10)")
    assert linear_describe(0, 1 << 22, 1 << 20)(2)[2] == "[1M, 2M)"
    assert linear_describe(1024, 1 << 22, 1 << 20)(1)[2] == "[1K, 1025K)"
    assert linear_describe(5, 1 << 22, 1024)(1)[2] == "[5, 1029)"


@pytest.mark.tag("out.hist")
def test_bars_are_computed_in_32_bit_floats() -> None:
    assert bar_length(1, 3) == 17
    assert bar_length(3, 3) == 52
    assert bar_length(0, 3) == 0
    # 25/26*52 is 50 exactly in real numbers; 25/26 rounds down in 32 bits, and the product rounds to 50 again
    assert bar_length(25, 26) == 50
    assert bar_length(16777217, 16777217 * 2) == 26
    import ctypes

    for count in range(1, 120):
        for most in range(count, 120):
            ratio = ctypes.c_float(count / most).value
            assert bar_length(count, most) == int(ctypes.c_float(ratio * 52).value)


# ---------------------------------------------------------------- the kernel's half, carried out in Python


def site(*constants: int | None) -> CallSite:
    class Site:
        def __len__(self) -> int:
            return len(constants)

        def integer(self, index: int) -> int:
            value = constants[index]
            assert value is not None
            return value

    return cast("CallSite", Site())


VALUES = [0, 1, 2, 3, 7, 8, 9, 49, 50, 51, 1023, 1024, 5000, -1, -3, 1 << 40, (1 << 63) - 1, -(1 << 63)]


@pytest.mark.tag("agg.hist-bucket")
@pytest.mark.parametrize("bits", range(6))
def test_hist_puts_values_into_the_right_buckets(bits: int) -> None:
    feature = REGISTRY.functions["hist"]
    assert isinstance(feature, Aggregation)
    for value in [*VALUES, *range(200), *(random.Random(1).getrandbits(n) for n in range(1, 63))]:
        found = feature.bucket(python_emit(), site(None, bits), [number(value)])
        assert found.raw == log2_bucket(value, bits)
    assert feature.bucket(python_emit(), site(None), [number(1 << 63, signed=False)]).raw == 0
    assert feature.bucket(python_emit(), site(None), [number(9)]).raw == log2_bucket(9)


@pytest.mark.tag("agg.lhist-bucket")
@pytest.mark.parametrize("bounds", [(0, 50, 10), (0, 10, 3), (5, 6, 1), (0, 4096, 1024)])
def test_lhist_puts_values_into_the_right_buckets(bounds: tuple[int, int, int]) -> None:
    feature = REGISTRY.functions["lhist"]
    assert isinstance(feature, Aggregation)
    for value in [*VALUES, *range(60)]:
        found = feature.bucket(python_emit(), site(None, *bounds), [number(value)])
        assert found.raw == linear_bucket(value, *bounds)


EXPECTED: dict[str, Callable[[list[int]], int]] = {
    "count": lambda values: len(values),
    "sum": sum,
    "min": min,
    "max": max,
    "avg": lambda values: int(sum(values) / len(values)),
}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("signed", [True, False])
def test_cells_are_updated_combined_and_read(name: str, signed: bool) -> None:
    """The same values over three CPUs: the kernel's own reading and user space's agree with arithmetic."""
    emit, rng = python_emit(), random.Random(7)
    feature = REGISTRY.functions[name]
    assert isinstance(feature, Aggregation)
    low = -1000 if signed else 0
    values = [rng.randint(low, 1000) for _ in range(50)]
    slots = [emit.scratch(8 * feature.words) for _ in range(3)]
    for turn, value in enumerate(values):
        feature.update(
            emit, cast("CallSite", None), slots[turn % 2], [number(value, signed)]
        )  # the third CPU sees nothing
    total = emit.scratch(8 * feature.words)
    for slot in slots:
        feature.combine(emit, total, slot, signed)
    expected = EXPECTED[name](values)
    raw = feature.result(emit, total, signed).raw
    assert (signed64(raw) if signed else raw) == expected
    kind = Aggregate(name, f"{name}_t", signed)
    cells = [bytes(slot.raw.data) for slot in slots]
    assert snapshot(spec("m", None, kind), [(bytes(8), cells)]).text() == f"@m: {expected}\n"


def test_an_average_of_nothing_is_zero() -> None:
    emit, feature = python_emit(), REGISTRY.functions["avg"]
    assert isinstance(feature, Aggregation)
    assert feature.result(emit, emit.scratch(16), True).raw == 0
    assert snapshot(spec("a", None, AVG), [(bytes(8), [cell(0, 0)])]).text() == "@a: 0\n"


def test_large_unsigned_numbers_and_wrapping() -> None:
    big = [cell(1 << 63), cell(1 << 62)]
    assert snapshot(spec("s", None, USUM), [(bytes(8), big)]).text() == f"@s: {3 << 62}\n"
    assert snapshot(spec("s", None, SUM), [(bytes(8), big)]).text() == f"@s: {(3 << 62) - (1 << 64)}\n"
    assert snapshot(spec("s", None, UMAX), [(bytes(8), [cell(-1, 1), cell(5, 1)])]).text() == (f"@s: {(1 << 64) - 1}\n")
    assert snapshot(spec("s", None, MAX), [(bytes(8), [cell(-1, 1), cell(5, 1)])]).text() == "@s: 5\n"
    assert snapshot(spec("s", None, UMIN), [(bytes(8), [cell(-1, 1), cell(5, 1)])]).text() == "@s: 5\n"
    assert snapshot(spec("s", None, UAVG), [(bytes(8), [cell(-2, 2)])]).text() == f"@s: {(1 << 63) - 1}\n"


# ---------------------------------------------------------------- types


@pytest.mark.tag("type.agg.sign")
def test_a_map_is_signed_if_any_argument_is() -> None:
    feature = REGISTRY.functions["sum"]
    assert isinstance(feature, Aggregation)
    assert feature.merge(USUM, SUM) == SUM
    assert feature.merge(SUM, USUM) == SUM
    assert feature.merge(USUM, USUM) == USUM


@pytest.mark.tag("agg.hist", "agg.lhist")
def test_one_map_has_one_set_of_parameters() -> None:
    log2, linear = REGISTRY.functions["hist"], REGISTRY.functions["lhist"]
    assert isinstance(log2, Aggregation)
    assert isinstance(linear, Aggregation)
    assert log2.merge(hist(1), hist(2)) == "Different bits in a single hist unsupported"
    assert log2.merge(hist(1), hist(1)) == hist(1)
    found = linear.merge(lhist(0, 10, 1), lhist(0, 20, 1))
    assert found == "Different lhist bounds in a single map unsupported"


@pytest.mark.tag("agg.lhist")
@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((-1, 5, 1), "lhist: invalid min value (must be non-negative literal)"),
        ((0, -5, 1), "lhist: invalid max value (must be non-negative literal)"),
        ((0, 5, 0), "lhist() step must be >= 1 (0 provided)"),
        ((9, 5, 1), "lhist() min must be less than max (provided min 9 and max 5)"),
        ((0, 1001, 1), "lhist() too many buckets, must be <= 1000 (would need 1001)"),
        ((5, 5, 2), "lhist() step is too large for the given range (provided step 2 for range 0)"),
        ((0, 5, 9), "lhist() step is too large for the given range (provided step 9 for range 5)"),
        ((0, 1000, 1), None),
    ],
)
def test_bounds_of_lhist(bounds: tuple[int, int, int], message: str | None) -> None:
    assert Lhist().problem(*bounds) == message


# ---------------------------------------------------------------- maps in columns


@pytest.mark.parametrize("cpus", [1, 2, 5])
@pytest.mark.parametrize("kind", [COUNT, SUM, USUM, MAX], ids=str)
@pytest.mark.parametrize("key", [INT8, INT32, UINT32, INT64, UINT64, String(8), Tuple((INT32, UINT32))], ids=str)
def test_a_map_in_columns_shows_the_same(key: Type, kind: Aggregate, cpus: int) -> None:
    """Maps come from the kernel in columns, and those of numbers are never taken apart."""
    chance, width = random.Random(7), lay(key).size
    made = replace(spec("m", key, kind), key_size=width, value_size=8 * REGISTRY.aggregation(kind).words)
    keys = [chance.randbytes(width) for _ in range(50)]
    if isinstance(key, String):
        keys = [f"k{n}".encode().ljust(8, b"\0") for n in range(50)]
    keys = list(dict.fromkeys(keys))
    values = [chance.choice((0, 1, -1, 7, -(1 << 40), chance.getrandbits(62))) for _ in range(len(keys) * cpus)]
    words = [(value & (1 << 64) - 1, *[1] * (made.value_size // 8 - 1)) for value in values]
    columns = Columns(b"".join(keys), b"".join(cell(*word) for word in words), width, made.value_size, cpus)
    assert len(columns) == len(keys)
    whole, apart = snapshot(made, columns), snapshot(made, list(columns))
    for top, divisor in ((0, 0), (7, 0), (0, 3), (7, 3)):
        assert whole.text(top, divisor) == apart.text(top, divisor)
        assert whole.json(top, divisor) == apart.json(top, divisor)
    assert whole.value() == apart.value()
