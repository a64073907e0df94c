"""Aggregations that come down to a number or a few: count, sum, min, max, avg, stats."""

from __future__ import annotations

from collections.abc import Sequence
from operator import add

from pytrace.grammar.data import dataclass
from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.hints import Any, ClassVar
from pytrace.grammar.spec import Aggregation, CallSite, Param, feature
from pytrace.grammar.types import INT64, NONE, UINT64, Aggregate, EnumType, Int, NoneType, Type
from pytrace.language.jsonvalue import number

WORD = 8  # bytes
SIGN = 1 << 63
MASK = (1 << 64) - 1


def as_signed(word: int) -> int:
    """A 64-bit word (or a sum of them) as a signed number."""
    return ((word & MASK) ^ SIGN) - SIGN


def divide(value: int, divisor: int) -> int:
    """Division that truncates towards zero, as in C."""
    return value // divisor if value >= 0 else -(-value // divisor)


def totals(kind: Aggregate, words: Sequence[int], cpus: int) -> list[int]:
    """The sums over the CPUs of many elements whose cells are one word."""
    sums = list(words[0::cpus])
    for cpu in range(1, cpus):
        sums = list(map(add, sums, words[cpu::cpus]))
    if sums and max(sums) >= SIGN:
        return [as_signed(word) if kind.signed else word & MASK for word in sums]
    return sums


def word_type(signed: bool) -> Int:
    """The type of a 64-bit word."""
    return INT64 if signed else UINT64


class Number(Aggregation):
    """Base of those that take one integer. The map is signed if any of its arguments is."""

    parameters: ClassVar[tuple[Param, ...]] = (Param("value", ("integer",)),)

    def type(self, site: CallSite) -> Type:
        kind = site.types[0]
        if isinstance(kind, NoneType):
            return NONE  # not known yet; the map must not be taken for signed because of that
        signed = not isinstance(kind, (Int, EnumType)) or kind.signed
        return Aggregate(self.name, f"{'' if signed else 'u'}{self.name}_t", signed)

    def text(self, kind: Aggregate, value: Any, divisor: int = 1) -> str:
        return str(divide(value, divisor))

    def json(self, kind: Aggregate, value: Any, divisor: int = 1) -> Any:
        return number(divide(value, divisor))


@feature
class Count(Number):
    """Count how often this is reached.

    Each CPU counts for itself, so nothing is lost and nothing waits; readers add the counts up. Used in an
    expression the result is an int64.

    bt> tracepoint:syscalls:sys_enter_openat { @[comm] = count(); }
    """

    name = "count"
    parameters: ClassVar[tuple[Param, ...]] = ()
    castable: ClassVar[bool] = True

    def type(self, site: CallSite) -> Type:
        return Aggregate(self.name, "count_t", True)

    def update(self, emit: Emit, site: CallSite, slot: Slot, arguments: Sequence[Value]) -> None:
        _add(emit, slot, 0, emit.integer(1))

    def combine(self, emit: Emit, total: Slot, cell: Slot, signed: bool) -> None:
        _add(emit, total, 0, emit.load(cell, 0, UINT64))

    def result(self, emit: Emit, total: Slot, signed: bool) -> Value:
        return emit.load(total, 0, word_type(signed))

    def read(self, kind: Aggregate, cells: Any) -> Any:
        return as_signed(sum(cell[0] for cell in cells))

    def read_all(self, kind: Aggregate, words: Sequence[int], cpus: int) -> list[Any] | None:
        return totals(kind, words, cpus)


@feature
class Sum(Number):
    """Add an integer to a total.

    The total is 64 bits wide and wraps around. It is signed if any argument given to the map is.

    bt> tracepoint:syscalls:sys_exit_read /args.ret > 0/ { @bytes[comm] = sum(args.ret); }
    """

    name = "sum"
    castable: ClassVar[bool] = True

    def update(self, emit: Emit, site: CallSite, slot: Slot, arguments: Sequence[Value]) -> None:
        _add(emit, slot, 0, emit.convert(arguments[0], INT64))

    def combine(self, emit: Emit, total: Slot, cell: Slot, signed: bool) -> None:
        _add(emit, total, 0, emit.load(cell, 0, UINT64))

    def result(self, emit: Emit, total: Slot, signed: bool) -> Value:
        return emit.load(total, 0, word_type(signed))

    def read(self, kind: Aggregate, cells: Any) -> Any:
        total = sum(cell[0] for cell in cells)
        return as_signed(total) if kind.signed else total & MASK

    def read_all(self, kind: Aggregate, words: Sequence[int], cpus: int) -> list[Any] | None:
        return totals(kind, words, cpus)


class Extreme(Number):
    """Base of min and max. A cell is {value, whether it is set}."""

    words: ClassVar[int] = 2
    castable: ClassVar[bool] = True
    better: ClassVar[str]  # how a value compares to the one it replaces

    def update(self, emit: Emit, site: CallSite, slot: Slot, arguments: Sequence[Value]) -> None:
        kind = arguments[0].type
        self._take(emit, slot, arguments[0], isinstance(kind, Int) and kind.signed)

    def combine(self, emit: Emit, total: Slot, cell: Slot, signed: bool) -> None:
        is_set = emit.truth(emit.load(cell, WORD, UINT64))
        emit.when(is_set, lambda: self._take(emit, total, emit.load(cell, 0, word_type(signed)), signed))

    def _take(self, emit: Emit, slot: Slot, value: Value, signed: bool) -> None:
        """Put the value into the slot if none is there or if it is better than the one there."""
        old = emit.load(slot, 0, word_type(signed))
        best = emit.select(emit.compare(self.better, value, old, signed), value, old)
        is_set = emit.truth(emit.load(slot, WORD, UINT64))
        emit.store(slot, 0, emit.select(is_set, best, value))
        emit.store(slot, WORD, emit.integer(1))

    def result(self, emit: Emit, total: Slot, signed: bool) -> Value:
        return emit.load(total, 0, word_type(signed))

    def read(self, kind: Aggregate, cells: Any) -> Any:
        values = [as_signed(cell[0]) if kind.signed else cell[0] for cell in cells if cell[1]]
        return self.best(values) if values else 0

    def best(self, values: list[int]) -> int:
        """The one of several that stays."""
        raise NotImplementedError

    def order(self, kind: Aggregate, value: Any) -> Any:
        return value & MASK  # the reference sorts these as unsigned numbers


@feature
class Min(Extreme):
    """Keep the smallest integer seen.

    bt> tracepoint:syscalls:sys_enter_read { @smallest[comm] = min(args.count); }
    """

    name = "min"
    better: ClassVar[str] = "<="

    def best(self, values: list[int]) -> int:
        return min(values)


@feature
class Max(Extreme):
    """Keep the largest integer seen.

    bt> tracepoint:syscalls:sys_enter_read { @largest[comm] = max(args.count); }
    """

    name = "max"
    better: ClassVar[str] = ">="

    def best(self, values: list[int]) -> int:
        return max(values)


class Mean(Number):
    """Base of avg and stats. A cell is {total, count}."""

    words: ClassVar[int] = 2
    document: ClassVar[str] = "stats"

    def update(self, emit: Emit, site: CallSite, slot: Slot, arguments: Sequence[Value]) -> None:
        _add(emit, slot, 0, emit.convert(arguments[0], INT64))
        _add(emit, slot, WORD, emit.integer(1))

    def read(self, kind: Aggregate, cells: Any) -> Any:
        total, count = sum(cell[0] for cell in cells), sum(cell[1] for cell in cells)
        total = as_signed(total) if kind.signed else total & MASK
        return Stats(count, divide(total, count) if count else 0, total)

    def order(self, kind: Aggregate, value: Any) -> Any:
        return value.average


@dataclass(frozen=True, slots=True)
class Stats:
    """What `stats` keeps: how many values, their average (truncated), their total."""

    count: int
    average: int
    total: int


@feature
class Avg(Mean):
    """Average the integers given; printed and used in expressions as an integer, truncated towards zero.

    bt> tracepoint:syscalls:sys_enter_read { @average[comm] = avg(args.count); }
    """

    name = "avg"
    castable: ClassVar[bool] = True

    def combine(self, emit: Emit, total: Slot, cell: Slot, signed: bool) -> None:
        _add(emit, total, 0, emit.load(cell, 0, UINT64))
        _add(emit, total, WORD, emit.load(cell, WORD, UINT64))

    def result(self, emit: Emit, total: Slot, signed: bool) -> Value:
        kind = word_type(signed)
        count = emit.load(total, WORD, kind)
        # of no values the total is 0 too: 0 / 1, never a division by zero
        safe = emit.select(emit.truth(count), count, emit.integer(1, kind))
        return emit.arith("s/" if signed else "/", emit.load(total, 0, kind), safe)

    def text(self, kind: Aggregate, value: Any, divisor: int = 1) -> str:
        return str(divide(value.average, divisor))

    def json(self, kind: Aggregate, value: Any, divisor: int = 1) -> Any:
        return number(divide(value.average, divisor))

    def python(self, kind: Aggregate, value: Any) -> Any:
        return value.average


@feature
class StatsOf(Mean):
    """Keep the number of values given, their average and their total, to be printed together.

    bt> tracepoint:syscalls:sys_enter_read { @[comm] = stats(args.count); }
    """

    name = "stats"

    def text(self, kind: Aggregate, value: Any, divisor: int = 1) -> str:
        average = divide(value.average, divisor)
        return f"{{ .count = {value.count}, .average = {average}, .total = {value.total} }}"

    def json(self, kind: Aggregate, value: Any, divisor: int = 1) -> Any:
        average = divide(value.average, divisor)
        return {"count": number(value.count), "average": number(average), "total": number(value.total)}


def _add(emit: Emit, slot: Slot, offset: int, value: Value) -> None:
    """Add to a 64-bit word of memory; the cell is this CPU's own, so no atomics."""
    emit.store(slot, offset, emit.arith("+", emit.load(slot, offset, UINT64), value))
