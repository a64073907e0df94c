"""Aggregations that count values by bucket: hist and lhist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.hints import Any, ClassVar
from pytrace.grammar.spec import Aggregation, CallSite, Param, feature
from pytrace.grammar.types import INT64, UINT64, Aggregate, Type
from pytrace.language.histogram import (
    Describe,
    histogram,
    json_buckets,
    linear_describe,
    log2_describe,
    picture,
)

MOST_BUCKETS = 1000
MOST_BITS = 5


class Buckets(Aggregation):
    """Base of both: every bucket of a key is a map element of its own, a plain counter."""

    bucketed: ClassVar[bool] = True
    document: ClassVar[str] = "hist"
    clash: ClassVar[str]

    def describe(self, kind: Aggregate) -> Describe:
        """Bounds and labels of the buckets."""
        raise NotImplementedError

    def update(self, emit: Emit, site: CallSite, slot: Slot, arguments: Sequence[Value]) -> None:
        emit.store(slot, 0, emit.arith("+", emit.load(slot, 0, UINT64), emit.integer(1)))

    def merge(self, a: Aggregate, b: Aggregate) -> Aggregate | str:
        return a if a.params == b.params else self.clash

    def read(self, kind: Aggregate, cells: Any) -> Any:
        buckets: Mapping[int, Sequence[tuple[int, ...]]] = cells
        return {number: sum(cell[0] for cell in cpus) for number, cpus in buckets.items()}

    def order(self, kind: Aggregate, value: Any) -> Any:
        return sum(value.values())

    def text(self, kind: Aggregate, value: Any, divisor: int = 1) -> str:
        return picture(value, self.describe(kind), divisor)

    def json(self, kind: Aggregate, value: Any, divisor: int = 1) -> Any:
        return json_buckets(value, self.describe(kind), divisor)

    def python(self, kind: Aggregate, value: Any) -> Any:
        return histogram(value, self.describe(kind))


@feature
class Hist(Buckets):
    """Count values by powers of two, for a histogram.

    The second argument, 0 to 5, splits every power of two into 2^k equal parts. Negative values have a
    bucket of their own; unsigned values from 2^63 up count as negative.

    bt> tracepoint:syscalls:sys_exit_read { @bytes = hist(args.ret); }
    """

    name = "hist"
    parameters = (Param("value", ("integer",)), Param("bits", ("int",), literal=True, optional=True))
    clash: ClassVar[str] = "Different bits in a single hist unsupported"

    def type(self, site: CallSite) -> Type:
        bits = site.integer(1) if len(site) > 1 else 0
        if not 0 <= bits <= MOST_BITS:
            site.error("agg.hist", f"hist: bits {bits} must be 0..{MOST_BITS}")
        return Aggregate(self.name, "hist_t", False, (bits,))

    def describe(self, kind: Aggregate) -> Describe:
        return log2_describe(_integers(kind)[0])

    def buckets(self, kind: Aggregate) -> int:
        bits = _integers(kind)[0]
        return ((64 - bits) << bits) + 1  # the last one is that of 2^63 - 1

    def bucket(self, emit: Emit, site: CallSite, arguments: Sequence[Value]) -> Value:
        """The formula of reference 3.1 without a loop."""
        bits = site.integer(1) if len(site) > 1 else 0
        value, one = emit.convert(arguments[0], INT64), emit.integer(1)
        first = emit.integer(1 << bits)
        below = emit.compare("<", value, first, signed=True)
        # below 2^bits the shift would be negative; its result is not used then
        big = emit.select(below, first, value) if bits else value
        top = emit.highest_bit(big)
        shift = emit.arith("-", top, emit.integer(bits))
        power = emit.arith("<<", emit.arith("+", shift, one), emit.integer(bits))
        part = emit.arith("&", emit.arith(">>", big, shift), emit.integer((1 << bits) - 1))
        large = emit.arith("+", emit.arith("+", power, part), one)
        index = emit.select(below, emit.arith("+", value, one), large)
        negative = emit.compare("<", value, emit.integer(0, INT64), signed=True)
        return emit.select(negative, emit.integer(0), index)


@feature
class Lhist(Buckets):
    """Count values by equal steps between two bounds, for a histogram.

    `lhist(value, min, max, step)`: below `min` and from `max` up there is one bucket each.

    bt> tracepoint:syscalls:sys_exit_read { @bytes = lhist(args.ret, 0, 1000, 100); }
    """

    name = "lhist"
    parameters = (
        Param("value", ("integer",)),
        Param("min", ("int",), literal=True),
        Param("max", ("int",), literal=True),
        Param("step", ("int",), literal=True),
    )
    clash: ClassVar[str] = "Different lhist bounds in a single map unsupported"

    def type(self, site: CallSite) -> Type:
        low, high, step = (site.integer(i) for i in (1, 2, 3))
        found = self.problem(low, high, step)
        if found is not None:
            site.error("agg.lhist", found)
        return Aggregate(self.name, "lhist_t", False, (low, high, step))

    def problem(self, low: int, high: int, step: int) -> str | None:
        """What is wrong with the bounds, or None."""
        for name, value in (("min", low), ("max", high), ("step", step)):
            if value < 0:
                return f"lhist: invalid {name} value (must be non-negative literal)"
        if step < 1:
            return f"lhist() step must be >= 1 ({step} provided)"
        if low > high:
            return f"lhist() min must be less than max (provided min {low} and max {high})"
        buckets = (high - low) // step
        if buckets > MOST_BUCKETS:
            return f"lhist() too many buckets, must be <= {MOST_BUCKETS} (would need {buckets})"
        if high - low < step:
            given = f"provided step {step} for range {high - low}"
            return f"lhist() step is too large for the given range ({given})"
        return None

    def describe(self, kind: Aggregate) -> Describe:
        low, high, step = _integers(kind)
        return linear_describe(low, high, step)

    def buckets(self, kind: Aggregate) -> int:
        low, high, step = _integers(kind)
        return 2 + (high - low) // step

    # the divisor of print(@m, top, div) has no effect on lhist

    def text(self, kind: Aggregate, value: Any, divisor: int = 1) -> str:
        return super().text(kind, value)

    def json(self, kind: Aggregate, value: Any, divisor: int = 1) -> Any:
        return super().json(kind, value)

    def bucket(self, emit: Emit, site: CallSite, arguments: Sequence[Value]) -> Value:
        """The formula of reference 3.1."""
        low, high, step = (site.integer(i) for i in (1, 2, 3))
        value = emit.convert(arguments[0], INT64)
        below = emit.compare("<", value, emit.integer(low, INT64), signed=True)
        above = emit.compare(">", value, emit.integer(high, INT64), signed=True)
        steps = emit.arith("/", emit.arith("-", value, emit.integer(low)), emit.integer(step))
        index = emit.arith("+", steps, emit.integer(1))
        index = emit.select(above, emit.integer(1 + (high - low) // step), index)
        return emit.select(below, emit.integer(0), index)


def _integers(kind: Aggregate) -> tuple[int, ...]:
    return tuple(int(p) for p in kind.params)
