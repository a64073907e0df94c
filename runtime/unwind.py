"""What programs need in order to follow user stacks by unwind tables: the maps of `plan.TABLES`, kept up to date.

Each file's rows (runtime/ehframe.py) are an array of their own, made once however many processes map it. The mappings
of a process are an array too; a change of them is a new array, which takes the old one's place at once, so a program
always sees the one or the other.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
import time
from array import array
from collections.abc import Sequence
from contextlib import suppress

from pytrace.grammar.data import dataclass
from pytrace.grammar.host import HostError
from pytrace.grammar.plan import TABLES, UNWIND_FILES, UNWIND_PROCESSES
from pytrace.runtime import libbpf
from pytrace.runtime.bpf_object import BpfObject
from pytrace.runtime.ehframe import rows_of
from pytrace.runtime.elf import ElfFile
from pytrace.runtime.process import ProcessError

_ARRAY, _INNER_MAP = 2, 1 << 12  # BPF_MAP_TYPE_ARRAY, BPF_F_INNER_MAP (Linux 5.10): inner arrays may differ in size
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) \S+ \d+ *(.*)$", re.MULTILINE)
_VDSO = "[vdso]"
_PAGE = 4096

# Seconds between two looks at a process whose stacks lead to addresses that nothing is known of: longer each time
# that there was nothing new (it may run code that it has made itself).
_SOONEST, _LATEST = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one file: its number, how many there are, and its segments as (file offset, end, address)."""

    number: int
    count: int
    segments: tuple[tuple[int, int, int], ...]

    def base(self, start: int, offset: int) -> int | None:
        """What to subtract from an address for a place in the rows, if the file is mapped at `start` from
        `offset` on; None if no segment is there."""
        low = min(address for _, _, address in self.segments)
        fitting = [s for s in self.segments if s[0] & -_PAGE <= offset < s[1]]
        if not fitting:
            return None
        # where two segments share a page of the file, the later one is the one that is mapped for its code
        place, _, address = max(fitting)
        return start - (address - place + offset - low)


class _Process:
    """A process, the array with its mappings, and what it had mapped when that was made."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fd = -1
        self.text = ""
        self.program = ""
        self.missed = 0
        self.pause = _SOONEST
        self.due = 0.0


class Unwinder:
    """The tables of one object, about some processes: `prepare` before the load, `fill` after it."""

    def __init__(self, loaded: BpfObject, pids: Sequence[int]) -> None:
        self._object = loaded
        self._lib = libbpf.library()
        self._processes = [_Process(pid) for pid in pids]
        self._tables: dict[tuple[int, int, int], Table | None] = {}
        self._fds: list[int] = []
        self._most_files = TABLES[UNWIND_FILES].max_entries

    def prepare(self) -> None:
        """Before the load: say how large the maps are. Raises `ProcessError` if a process is not there."""
        mapped = 0
        for process in self._processes:
            text = _maps_of(process.pid)
            if text is None:
                raise ProcessError(f"Failed to read the mappings of process {process.pid}: there is no such process")
            mapped += len(_MAPPING.findall(text))
        self._most_files = max(self._most_files, 2 * mapped)
        needed = {UNWIND_FILES: self._most_files, UNWIND_PROCESSES: len(self._processes)}
        for name, kind in TABLES.items():
            if self._object.has_map(name):
                self._object.resize_map(name, max(kind.max_entries, needed[name]))
                self._object.set_inner_map(name, self._array(kind.row, b"\0" * kind.row))

    def fill(self) -> None:
        """Take in the mappings of all processes as they are now."""
        self._take_in(self._processes)

    def refresh(self) -> None:
        """Look again at processes that execute another program now, or whose stacks have led to unknown
        addresses."""
        now = time.monotonic()
        due = [p for p in self._processes if p.due <= now]
        for process in due:
            process.due = now + process.pause
        self._take_in([p for p in due if _program_of(p.pid) != p.program or self._has_missed(p)])

    def close(self) -> None:
        """Release the arrays."""
        while self._fds:
            os.close(self._fds.pop())

    # ------------------------------------------------------------ processes

    def _take_in(self, processes: Sequence[_Process]) -> None:
        files: dict[int, int] = {}
        arrays: dict[int, int] = {}
        for process in processes:
            text, program = _maps_of(process.pid), _program_of(process.pid)
            if not text or (text, program) == (process.text, process.program):
                process.pause = min(2 * process.pause, _LATEST)
                continue
            process.text, process.program, process.pause, process.missed = text, program, _SOONEST, 0
            rows = self._mapping_rows(process, files)
            if rows or process.fd >= 0:  # those of the program that it executed before are of no use any more
                head = struct.pack("<QQQQ", len(rows), 0, 0, 0)
                arrays[process.pid] = self._replace(process, head + b"".join(rows))
        # a map of maps waits for a grace period at every call (kernel/bpf/syscall.c, maybe_wait_bpf_programs)
        self._put(UNWIND_FILES, files)
        self._put(UNWIND_PROCESSES, arrays)

    def _mapping_rows(self, process: _Process, files: dict[int, int]) -> list[bytes]:
        """The rows of the mappings of files with unwind information; files that are new go to `files`."""
        rows = []
        for match in _MAPPING.finditer(process.text):
            start, end, offset, path = int(match[1], 16), int(match[2], 16), int(match[3], 16), match[4]
            table = self._table(process.pid, start, end, path, files)
            base = table.base(start, offset) if table is not None else None
            if table is not None and base is not None:
                words = (start, end, base & 0xFFFFFFFFFFFFFFFF, table.number | table.count << 32)
                rows.append(struct.pack("<QQQQ", *words))
        return rows

    def _replace(self, process: _Process, data: bytes) -> int:
        """A new array for a process's mappings; the old one stays in the kernel as long as programs use it."""
        if process.fd >= 0:
            self._fds.remove(process.fd)
            os.close(process.fd)
        process.fd = self._array(TABLES[UNWIND_PROCESSES].row, data)
        return process.fd

    def _has_missed(self, process: _Process) -> bool:
        """Whether programs have met unknown addresses since the last look."""
        head = ctypes.create_string_buffer(TABLES[UNWIND_PROCESSES].row)
        if process.fd < 0:
            return True
        if self._lib.bpf_map_lookup_elem(process.fd, bytes(4), head) < 0:
            return False
        missed = int.from_bytes(head.raw[8:16], "little")
        found, process.missed = missed != process.missed, missed
        return found

    # ------------------------------------------------------------ files

    def _table(self, pid: int, start: int, end: int, path: str, files: dict[int, int]) -> Table | None:
        """The table of a mapped file, made if it is new; None if it has no unwind information."""
        if path == _VDSO:
            # the same in all processes, but no file
            return self._made((0, 0, 0), path, _memory(pid, start, end), files)
        # the mapping itself is the right file even if that was replaced or deleted
        for place in (f"/proc/{pid}/map_files/{start:x}-{end:x}", f"/proc/{pid}/root{path}"):
            try:
                status = os.stat(place)
            except OSError:
                continue
            return self._made((status.st_dev, status.st_ino, status.st_mtime_ns), place, None, files)
        return None

    def _made(self, key: tuple[int, int, int], path: str, data: bytes | None, files: dict[int, int]) -> Table | None:
        if key not in self._tables:
            number = sum(table is not None for table in self._tables.values())
            self._tables[key] = None
            if number < self._most_files:
                with suppress(HostError), ElfFile(path, data) as file:  # or it is no ELF file
                    self._tables[key] = self._read(file, number, files)
        return self._tables[key]

    def _read(self, file: ElfFile, number: int, files: dict[int, int]) -> Table | None:
        rows = rows_of(file)
        if not rows:
            return None
        files[number] = self._array(TABLES[UNWIND_FILES].row, array("Q", rows).tobytes())
        segments = tuple((s.offset, s.offset + s.size, s.address) for s in file.segments)
        return Table(number, len(rows), segments)

    # ------------------------------------------------------------ maps

    def _array(self, row: int, data: bytes) -> int:
        """An array map with these rows; its descriptor, which `close` closes."""
        count = len(data) // row
        options = libbpf.MapOptions(size=ctypes.sizeof(libbpf.MapOptions), map_flags=_INNER_MAP)
        fd = int(self._lib.bpf_map_create(_ARRAY, b"unwind", 4, row, count, ctypes.byref(options)))
        if fd < 0:
            raise OSError(-fd, f"cannot make a table of {count} rows: {os.strerror(-fd)}")
        self._fds.append(fd)
        self._update(fd, range(count), data)
        return fd

    def _put(self, name: str, arrays: dict[int, int]) -> None:
        """Put arrays into a map of maps."""
        if arrays and self._object.has_map(name):
            self._update(self._object.map_fd(name), list(arrays), array("I", arrays.values()).tobytes())

    def _update(self, fd: int, keys: Sequence[int], values: bytes) -> None:
        """Set many elements; maps of maps have batches since Linux 5.19."""
        packed, count = array("I", keys).tobytes(), ctypes.c_uint32(len(keys))
        result = self._lib.bpf_map_update_batch(fd, packed, values, ctypes.byref(count), None)
        if result in (-errno.EINVAL, -_ENOTSUPP):
            step = len(values) // len(keys)
            for index in range(len(keys)):
                value = values[index * step : (index + 1) * step]
                result = self._lib.bpf_map_update_elem(fd, packed[4 * index : 4 * index + 4], value, 0)
        if result < 0:
            raise OSError(-result, f"cannot fill an unwind table: {os.strerror(-result)}")


_ENOTSUPP = 524  # include/linux/errno.h; what a map type without batches answers


def _maps_of(pid: int) -> str | None:
    """/proc/PID/maps; empty for a zombie, None when there is no such process."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return None


def _program_of(pid: int) -> str:
    """The executable of a process; empty when it has gone."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def _memory(pid: int, start: int, end: int) -> bytes:
    """Some of a process's memory; empty if that cannot be read."""
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(start)
            return memory.read(end - start)
    except OSError:
        return b""
