"""The aggregation over time: tseries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytrace.grammar.data import dataclass
from pytrace.grammar.diagnostics import did_you_mean
from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.hints import Any, ClassVar
from pytrace.grammar.spec import CallSite, Param, feature
from pytrace.grammar.types import NONE, UINT64, Aggregate, Int, Type
from pytrace.language.aggregations.numbers import MASK, WORD, Number, as_signed, divide, word_type
from pytrace.language.builtins.time import read_clock
from pytrace.language.jsonvalue import number
from pytrace.language.timeline import Point, start_text, timeline
from pytrace.language.unstable import check_unstable

MOST_INTERVALS = 1_000_000
VALUE, META, EPOCH = 0, WORD, 2 * WORD  # offsets in a cell
REDUCERS = ("avg", "max", "min", "sum")


@dataclass(frozen=True, slots=True)
class Series:
    """One element as user space holds it: a value for each interval that has one, by the interval's number since
    1970. `last` is the number of the newest interval of the whole map (0: there is none)."""

    values: Mapping[int, int]
    last: int = 0


@feature
class Tseries(Number):
    """Keep one integer for each of the last intervals of time, for a picture of how it went.

    `tseries(value, interval_ns, num_intervals[, reducer])` has a row for each interval of the clock
    `nsecs(sw_tai)` that so many nanoseconds are long. Of several values in one interval the last stays, or what
    the reducer makes of them: `"sum"`, `"avg"`, `"min"`, `"max"`. The elements of a map share one window, that ends
    with the newest interval that any of them has. The switch `unstable_tseries` says whether it may be used.

    bt> interval:ms:100 { @ticks = tseries(1, 1s, 5, "sum"); }
    """

    name = "tseries"
    words: ClassVar[int] = 3
    bucketed: ClassVar[bool] = True
    by_key: ClassVar[bool] = True
    document: ClassVar[str] = "tseries"
    parameters: ClassVar[tuple[Param, ...]] = (
        Param("value", ("integer",)),
        Param("interval_ns", ("int",), literal=True),
        Param("num_intervals", ("int",), literal=True),
        Param("reducer", ("string",), literal=True, optional=True),
    )

    def buckets(self, kind: Aggregate) -> int:
        """How many buckets a key can have."""
        return int(kind.params[1])

    # ---- the kernel's half

    def type(self, site: CallSite) -> Type:
        check_unstable(site, self.name)
        interval, count = site.integer(1), site.integer(2)
        reducer = site.text(3) if len(site) > 3 else ""
        if interval < 1:
            site.error("agg.tseries", f"tseries() interval_ns must be >= 1 ({interval} provided)", 1)
        elif count < 1:
            site.error("agg.tseries", f"tseries() num_intervals must be >= 1 ({count} provided)", 2)
        elif count > MOST_INTERVALS:
            message = f"tseries() num_intervals must be < {MOST_INTERVALS} ({count} provided)"
            site.error("agg.tseries", message, 2)
        elif len(site) > 3 and reducer not in REDUCERS:
            known = ", ".join(REDUCERS)
            message = f'tseries() expects one of the following aggregation functions: {known} ("{reducer}" provided)'
            site.error("agg.tseries", message, 3, did_you_mean(reducer, REDUCERS))
        signed = super().type(site)
        if not isinstance(signed, Aggregate):
            return NONE
        return Aggregate(self.name, "tseries_t", signed.signed, (interval, count, reducer))

    def merge(self, a: Aggregate, b: Aggregate) -> Aggregate | str:
        if a.params != b.params:
            return "Different tseries bounds in a single map unsupported"
        return super().merge(a, b)

    def prepare(self, emit: Emit, site: CallSite, arguments: Sequence[Value]) -> Sequence[Value]:
        """The value, and the time, which the bucket and what is stored in it must agree on."""
        return arguments[0], read_clock(emit, "sw_tai")

    def bucket(self, emit: Emit, site: CallSite, arguments: Sequence[Value]) -> Value:
        return emit.arith("%", self._epoch(emit, site, arguments[1]), emit.integer(site.integer(2)))

    def update(self, emit: Emit, site: CallSite, slot: Slot, arguments: Sequence[Value]) -> None:
        """A cell is {value, meta, number of the interval}; the slots rotate, so it may hold an older interval."""
        value, now = arguments
        epoch, zero, one = self._epoch(emit, site, now), emit.integer(0), emit.integer(1)
        fresh = emit.compare("==", emit.load(slot, EPOCH, UINT64), epoch)
        signed = isinstance(value.type, Int) and value.type.signed
        old = emit.select(fresh, emit.load(slot, VALUE, word_type(signed)), zero)
        meta = emit.select(fresh, emit.load(slot, META, UINT64), zero)
        match site.text(3) if len(site) > 3 else "":
            case "sum":
                value, meta = emit.arith("+", old, value), one
            case "avg":
                value, meta = emit.arith("+", old, value), emit.arith("+", meta, one)
            case "min" | "max" as reducer:
                better = emit.compare("<=" if reducer == "min" else ">=", value, old, signed)
                value = emit.select(emit.truth(meta), emit.select(better, value, old), value)
                meta = one
            case _:
                meta = now
        emit.store(slot, VALUE, value)
        emit.store(slot, META, meta)
        emit.store(slot, EPOCH, epoch)

    def _epoch(self, emit: Emit, site: CallSite, now: Value) -> Value:
        return emit.arith("/", now, emit.integer(site.integer(1)))

    # ---- user space's half

    def read(self, kind: Aggregate, cells: Any) -> Any:
        """Of the intervals in one slot only the newest counts; cells that were never written have interval 0."""
        slots: Mapping[int, Sequence[tuple[int, ...]]] = cells
        values: dict[int, int] = {}
        for cpus in slots.values():
            newest = max(epoch for _, _, epoch in cpus)
            if newest:
                current = [(value, meta) for value, meta, epoch in cpus if epoch == newest]
                values[newest] = _reduce(kind, current)
        return Series(values)

    def relate(self, kind: Aggregate, values: list[Any]) -> list[Any]:
        """All elements share the window that ends with the newest interval."""
        last = max((max(series.values, default=0) for series in values), default=0)
        return [Series(series.values, last) for series in values]

    def points(self, kind: Aggregate, series: Series) -> list[Point]:
        """The rows from the oldest interval in the window to its end; empty if nothing was ever stored."""
        interval, count = int(kind.params[0]), int(kind.params[1])
        if not series.values:
            return []
        inside = [epoch for epoch in series.values if epoch > series.last - count]
        first = min(inside, default=series.last)
        return [Point(epoch * interval, series.values.get(epoch)) for epoch in range(first, series.last + 1)]

    # the divisor of print(@m, top, div) has no effect

    def text(self, kind: Aggregate, value: Any, divisor: int = 1) -> str:
        return timeline(self.points(kind, value))

    def json(self, kind: Aggregate, value: Any, divisor: int = 1) -> Any:
        return [
            {"interval_start": start_text(point.start, 9, date=True), "value": number(point.value)}
            for point in self.points(kind, value)
            if point.value is not None
        ]

    def python(self, kind: Aggregate, value: Any) -> Any:
        return tuple(self.points(kind, value))


def _reduce(kind: Aggregate, cells: Sequence[tuple[int, int]]) -> int:
    """The cells of all CPUs for one interval → the value that is shown."""
    values = [as_signed(value) if kind.signed else value for value, _ in cells]
    match kind.params[2]:
        case "sum":
            total = sum(values)
            return as_signed(total) if kind.signed else total & MASK
        case "avg":
            total = sum(values)
            return divide(as_signed(total) if kind.signed else total & MASK, sum(meta for _, meta in cells))
        case "min":
            return min(values)
        case "max":
            return max(values)
        case _:
            return max(zip([meta for _, meta in cells], values, strict=True))[1]
