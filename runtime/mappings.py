"""Watching what processes map, so that their addresses have names when they are gone.

A perf event for each CPU that counts nothing (PERF_COUNT_SW_DUMMY) makes the kernel write a record of every new
executable mapping, fork, exec and exit (perf_event_open(2)). With Linux 5.12 a mapping's record has the build
id of its file. What ran before is read once from /proc/PID/maps.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import struct
import time
from collections.abc import Callable

from pytrace.runtime import cpus
from pytrace.runtime.images import Mapping, Processes
from pytrace.runtime.mappedfiles import MappedFiles, Place, anonymous
from pytrace.runtime.perfring import PerfRing, RawRecord
from pytrace.runtime.syscalls import open_mapping_event

_ROOM = 16 << 20  # bytes of rings in all, at most
_PAGES, _FEWEST_PAGES = 128, 16  # of each ring
_PATIENCE = 0.1  # seconds that the first look at all processes may hold up the start
_SLICE = 0.02  # seconds that it may take in each tick later on

# enum perf_event_type; flags of perf_event_header.misc
_LOST, _COMM, _EXIT, _FORK, _MMAP2 = 2, 3, 4, 7, 10
_COMM_EXEC, _MMAP_BUILD_ID = 1 << 13, 1 << 14
_IDS = struct.Struct("=II")
_TASK = struct.Struct("=IIII")
_RANGE = struct.Struct("=IIQQQ")
_INODE = struct.Struct("=IIQ")
_STAMP = struct.Struct("=IIQ")  # struct sample_id with PERF_SAMPLE_TID and PERF_SAMPLE_TIME
_PATH = 64  # where it begins in a mapping's record

_LINE = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) (\S+) (\d+) *(.*)$", re.MULTILINE)
_KERNEL_ADDRESS = 1 << 63

_Timed = tuple[int, RawRecord]


def read_mappings(pid: int, files: MappedFiles) -> list[Mapping] | None:
    """The executable mappings of a living process; None when it is gone. A kernel thread has none."""
    try:
        with open(f"/proc/{pid}/maps", "rb", buffering=0) as file:
            text = file.readall()
    except OSError:
        return None
    found = []
    for match in _LINE.finditer(text):
        start, end = int(match[1], 16), int(match[2], 16)
        if start >= _KERNEL_ADDRESS:  # [vsyscall]
            continue
        path = os.fsdecode(match[6])
        inode = 0 if anonymous(path) else int(match[5])
        number = files.number((b"", inode, path), Place(pid, start, end))
        found.append(Mapping(start, end, int(match[3], 16), number))
    return found


def is_kernel_thread(pid: int) -> bool:
    """Whether a living process has no memory of its own: PF_KTHREAD in the flags of /proc/PID/stat."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return bool(int(file.read(4096).rpartition(b")")[2].split()[6]) & 0x00200000)
    except (OSError, IndexError, ValueError):
        return False


class MappingWatcher:
    """Follows the mappings of all processes, or of one. `update` at every tick takes in what is new.

    `has_code` is told of processes that have code in memory without a file. `lost` counts records that found a
    ring full. Raises OSError if the kernel does not let us.
    """

    def __init__(self, processes: Processes, files: MappedFiles, has_code: Callable[[int], None]) -> None:
        self.lost = 0
        self._has_code = has_code
        self._processes, self._files = processes, files
        self._rings: list[PerfRing] = []
        self._later: list[_Timed] = []
        online = cpus.online()
        pages = _PAGES
        while pages > _FEWEST_PAGES and pages * mmap.PAGESIZE * len(online) > _ROOM:
            pages //= 2
        try:
            for cpu in online:
                self._rings.append(_open_ring(cpu, pages))
            for ring in self._rings:
                ring.enable()
        except OSError:
            self.close()
            raise
        self._unseen = self._running()
        self._look(_PATIENCE)

    @property
    def descriptors(self) -> list[int]:
        """They become readable when a ring is half full."""
        return [ring.event for ring in self._rings]

    def update(self, everything: bool = False) -> None:
        """Take in what has happened. `everything` includes what other CPUs are just about to tell."""
        if self._unseen:
            self._look(_SLICE)
        if not self._later and not any(ring.waiting() for ring in self._rings):
            return
        # CPUs are read one after the other: what happened since must wait for what happened before
        until = time.monotonic_ns()
        records = self._later
        for ring in self._rings:
            records += [(_time_of(record), record) for record in ring.take()]
        records.sort(key=lambda record: record[0])
        late = len(records)
        while late and not everything and records[late - 1][0] > until:
            late -= 1
        self._later = records[late:]
        for _, record in records[:late]:
            self._apply(*record)

    def close(self) -> None:
        """End the events."""
        while self._rings:
            self._rings.pop().close()

    # ------------------------------------------------------------ what ran before

    def _running(self) -> list[int]:
        """The processes to look at, the last ones first as they are more likely to end soon."""
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
        return [pid for pid in pids if self._processes.wants(pid)]

    def _look(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._unseen and time.monotonic() < end:
            self.look_at(self._unseen.pop())

    def look_at(self, pid: int) -> None:
        """Note what a living process has mapped."""
        mappings = read_mappings(pid, self._files)
        if mappings:
            self._processes.seen(pid, mappings)

    # ------------------------------------------------------------ records

    def _apply(self, kind: int, misc: int, data: bytes) -> None:
        if kind == _MMAP2:
            self._mapped(misc, data)
        elif kind == _FORK:
            pid, parent, *_ = _TASK.unpack_from(data)
            if pid != parent:  # else it is a thread
                self._forked(pid, parent)
        elif kind == _EXIT:
            pid, _, thread, _ = _TASK.unpack_from(data)
            if pid == thread:
                self._processes.exit(pid)
        elif kind == _COMM and misc & _COMM_EXEC:
            self._processes.execute(_IDS.unpack_from(data)[0])
        elif kind == _LOST:
            self.lost += struct.unpack_from("=QQ", data)[1]

    def _forked(self, pid: int, parent: int) -> None:
        if not self._processes.wants(pid):
            return
        if self._processes.get(parent) is None:
            self.look_at(parent)
        self._processes.fork(pid, parent)

    def _mapped(self, misc: int, data: bytes) -> None:
        pid, _, start, length, offset = _RANGE.unpack_from(data)
        if not self._processes.wants(pid) or start >= _KERNEL_ADDRESS:
            return
        build_id, inode = b"", 0
        if misc & _MMAP_BUILD_ID:
            build_id = data[36 : 36 + data[32]]
        else:
            inode = _INODE.unpack_from(data, 32)[2]
        path = os.fsdecode(data[_PATH : -_STAMP.size].split(b"\0", 1)[0])
        if anonymous(path):
            inode = 0
            self._has_code(pid)
        process = self._processes.get(pid)
        place = Place(pid, start, start + length, process.parent if process else 0)
        number = self._files.number((build_id, inode, path), place)
        self._processes.map(pid, Mapping(start, start + length, offset, number))


def _time_of(record: RawRecord) -> int:
    """When it happened, by CLOCK_MONOTONIC, in nanoseconds."""
    return int(_STAMP.unpack_from(record[2], len(record[2]) - _STAMP.size)[2])


def _open_ring(cpu: int, pages: int) -> PerfRing:
    event = open_mapping_event(cpu, pages * mmap.PAGESIZE // 2)
    try:
        return PerfRing(event, pages)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(event)
        raise
