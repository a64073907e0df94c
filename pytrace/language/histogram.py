"""Histograms: buckets with their bounds, and their picture (reference part 2, sections 3.1, 3.4, 3.5)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from pytrace.grammar.data import dataclass
from pytrace.language.jsonvalue import number as json_number

BAR_WIDTH = 52
BINARY_SUFFIXES = ("", "K", "M", "G", "T", "P", "E")

# bucket number → (lower bound or None, upper bound or None, label of its row)
Describe = Callable[[int], tuple[int | None, int | None, str]]


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket: `count` values in [`lo`, `hi`); None where there is no bound."""

    lo: int | None
    hi: int | None
    count: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """The buckets from the first to the last that has values, empty ones in between included."""

    buckets: tuple[Bucket, ...] = ()

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(b.count for b in self.buckets)

    def __iter__(self) -> Iterator[Bucket]:
        return iter(self.buckets)

    def __len__(self) -> int:
        return len(self.buckets)


def rows(counts: dict[int, int]) -> list[tuple[int, int]]:
    """(bucket number, count) of every bucket from the first to the last with a count that is not zero."""
    used = [number for number, count in counts.items() if count]
    if not used:
        return []
    return [(number, counts.get(number, 0)) for number in range(min(used), max(used) + 1)]


def histogram(counts: dict[int, int], describe: Describe) -> Histogram:
    """The histogram of the counts by bucket number."""
    return Histogram(tuple(Bucket(*describe(number)[:2], count) for number, count in rows(counts)))


def picture(counts: dict[int, int], describe: Describe, divisor: int = 1) -> str:
    """The rows as text, one line each; the counts divided by `divisor`."""
    shown = [(number, count // divisor) for number, count in rows(counts)]
    largest = max((count for _, count in shown), default=0)
    return "".join(_row(describe(number)[2], count, largest) for number, count in shown)


def json_buckets(counts: dict[int, int], describe: Describe, divisor: int = 1) -> list[dict[str, int | str]]:
    """The rows as JSON shows them: `max` is inclusive, and an open end has no bound."""
    found = []
    for number, count in rows(counts):
        lo, hi, _ = describe(number)
        bucket = {} if lo is None else {"min": json_number(lo)}
        if hi is not None:
            bucket["max"] = json_number(hi - 1)
        found.append(bucket | {"count": json_number(count // divisor)})
    return found


def _row(label: str, count: int, largest: int) -> str:
    return f"{label:<16}{count:>8} |{'@' * bar_length(count, largest):<{BAR_WIDTH}}|\n"


def bar_length(count: int, largest: int) -> int:
    """`(int)((float)count / (float)largest * 52)` in 32-bit floating point."""
    if not largest:
        return 0
    return int(float32(float32(float32(count) / float32(largest)) * BAR_WIDTH))


def float32(value: float) -> float:
    """The nearest 32-bit float; a double result of two such operands rounds to it without a second error."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


# ---------------------------------------------------------------- powers of two


def log2_bucket(value: int, bits: int = 0) -> int:
    """The bucket number of a value (section 3.1); what `hist` computes in the kernel."""
    if value < 0:
        return 0
    if value < 1 << bits:
        return value + 1
    top = value.bit_length() - 1
    return ((top - bits + 1) << bits) + ((value >> (top - bits)) & ((1 << bits) - 1)) + 1


def log2_describe(bits: int) -> Describe:
    """Bounds and labels of the buckets of `hist(v, bits)`."""

    def describe(number: int) -> tuple[int | None, int | None, str]:
        if number == 0:
            return None, 0, "(..., 0)"
        lo, lo_text, lo_plain = _log2_bound(number - 1, bits)
        hi, hi_text, hi_plain = _log2_bound(number, bits)
        if lo_plain and hi_plain and hi == lo + 1:
            return lo, hi, f"[{lo_text}]"
        return lo, hi, f"[{lo_text}, {hi_text})"

    return describe


def _log2_bound(index: int, bits: int) -> tuple[int, str, bool]:
    """Bound number `index`: its value, its text, and whether it is written without a suffix."""
    if index <= 2 << bits:
        return index, str(index), True
    shift = (index >> bits) - 1
    mantissa = (1 << bits) + (index & ((1 << bits) - 1))
    # the suffix follows the shift, not the magnitude: 2048 with bits = 2 is 4 << 9
    return mantissa << shift, f"{mantissa << (shift % 10)}{BINARY_SUFFIXES[shift // 10]}", False


# ---------------------------------------------------------------- equal steps


def linear_bucket(value: int, low: int, high: int, step: int) -> int:
    """The bucket number of a value (section 3.1); what `lhist` computes in the kernel."""
    if value < low:
        return 0
    if value > high:
        return 1 + (high - low) // step
    return 1 + (value - low) // step


def linear_describe(low: int, high: int, step: int) -> Describe:
    """Bounds and labels of the buckets of `lhist(v, low, high, step)`."""
    show = _binary if step % 1024 == 0 else str

    def describe(number: int) -> tuple[int | None, int | None, str]:
        if number == 0:
            return None, low, f"(..., {show(low)})"
        lo, hi = low + (number - 1) * step, low + number * step
        if hi > high:
            return lo, None, f"[{show(lo)}, ...)"
        if step == 1:
            return lo, hi, f"[{lo}]"
        return lo, hi, f"[{show(lo)}, {show(hi)})"

    return describe


def _binary(value: int) -> str:
    """A number with the binary suffix that divides it."""
    if value and value % (1 << 20) == 0:
        return f"{value >> 20}M"
    if value and value % (1 << 10) == 0:
        return f"{value >> 10}K"
    return str(value)
