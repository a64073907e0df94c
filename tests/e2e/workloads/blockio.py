"""Block I/O of a known number, past the page cache; and what examples/biolatency.bt must say of it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from tests.e2e.workloads import example, loop_device, observe

BLOCK = 4096
READS, WRITES = 24, 16


def check_biolatency(folder: Path) -> None:
    """Reads and writes of single blocks are in both histograms of their disk, each once."""
    with loop_device(folder) as path:
        disk = os.open(path, os.O_RDWR | os.O_DIRECT)
        numbers = os.major(os.stat(path).st_rdev), os.minor(os.stat(path).st_rdev)
        try:
            outputs, maps = observe(example("biolatency.bt"), lambda: _read_and_write(disk))
        finally:
            os.close(disk)
    micros, millis = maps["@usecs"][numbers], maps["@msecs"][numbers]
    assert micros.total == millis.total == READS + WRITES
    # each value lies in [lo, hi) of its bucket: the sums of the bounds tell whether the units are right
    assert sum(b.hi * b.count for b in micros) > sum(b.lo * b.count for b in millis) * 1000
    assert sum(b.lo * b.count for b in micros) < sum(b.hi * b.count for b in millis) * 1000
    shown = "".join(o.text for o in outputs)
    assert f"@usecs[{numbers[0]}, {numbers[1]}]:" in shown
    assert f"@msecs[{numbers[0]}, {numbers[1]}]:" in shown
    assert "@issued" not in shown


def _read_and_write(disk: int) -> None:
    """One block at a time, so that none are merged; O_DIRECT wants aligned memory, as mmap(2) gives."""
    with mmap.mmap(-1, BLOCK) as memory:
        for number in range(READS):
            assert os.preadv(disk, [memory], number * BLOCK) == BLOCK
        for number in range(WRITES):
            assert os.pwritev(disk, [memory], number * 2 * BLOCK) == BLOCK
