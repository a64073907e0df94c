"""Reading the ring of a perf event: notices of the kernel about processes and their mappings.

The format is in include/uapi/linux/perf_event.h (struct perf_event_mmap_page, enum perf_event_type).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct

ENABLE = 0x2400  # PERF_EVENT_IOC_ENABLE
_HEAD, _TAIL = 1024 // 8, 1032 // 8  # data_head and data_tail, as numbers of words
_HEADER = struct.Struct("=IHH")  # type, misc, size

RawRecord = tuple[int, int, bytes]  # type, misc, what follows the header


class PerfRing:
    """The ring of one perf event, which it owns: `pages` (a power of two) of data. Raises OSError."""

    def __init__(self, event: int, pages: int) -> None:
        self.event = event
        size = pages * mmap.PAGESIZE
        # writable: then the kernel counts what finds the ring full, and never overwrites what we have not read
        self._memory = mmap.mmap(event, mmap.PAGESIZE + size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._words = memoryview(self._memory).cast("Q")
        self._size = size
        self._read = 0

    def enable(self) -> None:
        """Let it begin."""
        fcntl.ioctl(self.event, ENABLE)

    def waiting(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._words[_HEAD] != self._read)

    def take(self) -> list[RawRecord]:
        """All records that are there, in order; their room is free again."""
        head, start = self._words[_HEAD], self._read
        data = self._bytes(start, head)
        self._read = self._words[_TAIL] = head
        found: list[RawRecord] = []
        at = 0
        while at < len(data):
            kind, misc, size = _HEADER.unpack_from(data, at)
            found.append((kind, misc, data[at + 8 : at + size]))
            at += size
        return found

    def _bytes(self, start: int, end: int) -> bytes:
        base, mask = mmap.PAGESIZE, self._size - 1
        first, last = base + (start & mask), base + (end & mask)
        if start == end or first < last:
            return self._memory[first:last]
        return self._memory[first : base + self._size] + self._memory[base:last]

    def close(self) -> None:
        """Unmap it and end the event."""
        self._words.release()
        self._memory.close()
        os.close(self.event)
