"""How the kernel's clocks relate (reference part 2, section 9.5)."""

from __future__ import annotations

import time

from pytrace.grammar.data import dataclass

SKEW_LIMIT = 100_000  # ns; a measurement less exact than that earns a warning
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Clocks:
    """What to add to CLOCK_BOOTTIME, in nanoseconds, to get CLOCK_REALTIME and CLOCK_TAI.

    `gap` is the time that the measuring of the first took, the bound of its error.
    """

    realtime: int
    tai: int
    gap: int

    @property
    def skewed(self) -> bool:
        """Whether the measurement is too coarse for the `strftime` of microseconds."""
        return self.gap >= SKEW_LIMIT


def measure() -> Clocks:
    """Measure both differences, the best of five attempts each."""
    gap, realtime = _difference(time.CLOCK_REALTIME)
    _, tai = _difference(time.CLOCK_TAI)
    return Clocks(realtime, tai, gap)


def _difference(clock: int) -> tuple[int, int]:
    """(gap, difference to CLOCK_BOOTTIME) of the attempt with the smallest gap."""
    attempts = []
    for _ in range(_ATTEMPTS):
        before = time.clock_gettime_ns(clock)
        boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        after = time.clock_gettime_ns(clock)
        attempts.append((after - before, (before + after) // 2 - boot))
    return min(attempts)
