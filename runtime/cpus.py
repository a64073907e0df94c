"""The CPUs of this machine."""

from __future__ import annotations

from pytrace.runtime.textfile import read_text

_FOLDER = "/sys/devices/system/cpu"


def online() -> tuple[int, ...]:
    """The numbers of the CPUs that are online."""
    return parse(read_text(f"{_FOLDER}/online"))


def possible() -> int:
    """How many CPUs there can be: as many values has each element of a per-CPU map."""
    return parse(read_text(f"{_FOLDER}/possible"))[-1] + 1


def parse(text: str) -> tuple[int, ...]:
    """The numbers of a list like `0-3,8` (Documentation/admin-guide/cputopology.rst)."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)
