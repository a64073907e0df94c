"""Addresses to names, for stacks, `usym`, `ksym` and `func` (reference part 2, 6.3).

User addresses are resolved with /proc/PID/maps and our own ELF reader. libbcc's symbol cache would do the
same, but loading it takes 130 ms and 75 MB, and it cannot resolve after a process has exited.
"""

from __future__ import annotations

import os
import re
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cache
from typing import Generic, TypeVar

from pytrace.grammar.data import dataclass
from pytrace.grammar.host import HostError
from pytrace.runtime.demangle import demangle
from pytrace.runtime.elf import ET_EXEC, ElfFile
from pytrace.runtime.kernel import KernelSymbols

UserSymbol = tuple[str, int, str]  # name, offset into it, file

MAX_TABLES = 256  # files whose symbols are kept
MAX_PROCESSES = 1024
MAX_ADDRESSES = 16384  # per process
_STALE = 0.2  # seconds after which the mappings of a living process are looked at again
_LOOK_BACK = 16  # symbols that may lie between an address and the start of its function

_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) \S+ \d+ *(.*)$", re.MULTILINE)
_DELETED = " (deleted)"

Key = TypeVar("Key")
Item = TypeVar("Item")
Reference = TypeVar("Reference", int, str)


class _Kept(Generic[Key, Item]):
    """A dictionary that forgets what was not used for longest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: OrderedDict[Key, Item] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Item]) -> Item:
        """The item of a key, made if it is not there."""
        if key in self._items:
            self._items.move_to_end(key)
            return self._items[key]
        item = self._items[key] = make()
        if len(self._items) > self._limit:
            self._items.popitem(last=False)
        return item


class SymbolTable(Generic[Reference]):
    """The functions of one file by position: offsets in the file, or addresses in a perf map.

    `symbols` are (position, size, reference to the name); `name` makes a name of it when that is needed.
    """

    def __init__(self, symbols: Iterable[tuple[int, int, Reference]], name: Callable[[Reference], str] = str) -> None:
        ordered = sorted(symbols)
        self._name: Callable[[Reference], str] = name
        self._starts = [start for start, _, _ in ordered]
        self._symbols: list[tuple[int, int, Reference]] = ordered

    def resolve(self, position: int) -> tuple[str, int] | None:
        """Name of the function that a position is in, and the offset into it.

        Of functions that share it, the one that starts last; of its names, the one for users (`malloc` rather
        than `__libc_malloc`). A function of unknown size reaches to the next one.
        """
        index = bisect_right(self._starts, position)
        best: tuple[int, str] | None = None
        for start, size, reference in reversed(self._symbols[max(index - _LOOK_BACK, 0) : index]):
            if best is not None and start != best[0]:
                break
            if position < start + size or (not size and start == self._starts[index - 1]):
                name = self._name(reference)
                if best is None or _preference(name) < _preference(best[1]):
                    best = start, name
        return None if best is None else (best[1], position - best[0])


def _preference(name: str) -> tuple[bool, int, int, str]:
    return "@" in name, len(name) - len(name.lstrip("_")), len(name), name


@dataclass(frozen=True, slots=True)
class _Mapping:
    start: int
    end: int
    offset: int
    path: str


class _Process:
    """The executable mappings of one process as they were when last seen, and what they said of addresses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.known: dict[int, UserSymbol | None] = {}
        self._text = ""
        self._mappings: list[_Mapping] = []
        self._seen = 0.0
        self._jit: SymbolTable[str] | None = None
        self._jit_time = 0.0
        self._places: tuple[str, ...] = ()

    def refresh(self, force: bool = False) -> None:
        """Look at the mappings again if that was long ago. A process that has gone keeps those it had."""
        now = time.monotonic()
        if not force and now - self._seen < _STALE and self._text:
            return
        self._seen = now
        try:
            with open(f"/proc/{self.pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
        except OSError:
            return
        self._read_jit()
        if not text or text == self._text:  # no text: it is a zombie
            return
        self._text = text
        self._mappings = [_Mapping(int(m[1], 16), int(m[2], 16), int(m[3], 16), m[4]) for m in _MAPPING.finditer(text)]
        self.known.clear()

    def mapping(self, address: int) -> _Mapping | None:
        """The executable mapping that an address is in."""
        index = bisect_right(self._mappings, address, key=lambda m: m.start) - 1
        found = self._mappings[index] if index >= 0 else None
        return found if found is not None and address < found.end else None

    def mappings(self) -> list[_Mapping]:
        """All executable mappings."""
        return self._mappings

    def resolve_jit(self, address: int) -> UserSymbol | None:
        """What the process's own perf map says (`/tmp/perf-PID.map`;
        tools/perf/Documentation/jit-interface.txt)."""
        found = self._jit.resolve(address) if self._jit is not None else None
        return None if found is None else (*found, self._places[0])

    def _read_jit(self) -> None:
        if not self._places:
            self._places = _perf_maps(self.pid)
        for place in self._places:
            try:
                changed = os.stat(place).st_mtime
                if changed != self._jit_time:
                    self._jit_time = changed
                    self._jit = SymbolTable(_perf_map(place))
                    self.known.clear()
            except OSError:
                continue
            return


def _perf_maps(pid: int) -> tuple[str, ...]:
    """Where a process may have put its perf map: under its own number, in its own root directory."""
    own = pid
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("NSpid:"):
                    own = int(line.split()[-1])
    except OSError:
        pass
    return f"/tmp/perf-{pid}.map", f"/proc/{pid}/root/tmp/perf-{own}.map"


def _perf_map(path: str) -> Iterable[tuple[int, int, str]]:
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            parts = line.split(None, 2)
            if len(parts) == 3:
                try:
                    yield int(parts[0], 16), int(parts[1], 16), parts[2].rstrip("\n")
                except ValueError:  # a line that is just being written
                    continue


class Symbolizer:
    """Kernel and user addresses to names.

    `demangled` shows C++ and Rust names readable. `fallback` is the one executable that probes name: it is
    used for processes that were gone before they were seen, which only works for executables that are not
    relocated. `cached` False looks at the process anew for every address (`cache_user_symbols` NONE).
    """

    def __init__(
        self,
        kernel: KernelSymbols | None = None,
        demangled: bool = True,
        fallback: str = "",
        cached: bool = True,
    ) -> None:
        self._kernel = kernel or KernelSymbols()
        self._demangled = demangled
        self._fallback = fallback
        self._cached = cached
        self._kernel_known: dict[int, tuple[str, int] | None] = {}
        self._processes: _Kept[int, _Process] = _Kept(MAX_PROCESSES)
        self._tables: _Kept[tuple[int, int, int], SymbolTable[int]] = _Kept(MAX_TABLES)

    def kernel(self, address: int) -> tuple[str, int] | None:
        """Name of the kernel symbol an address is in, and the offset into it."""
        if address not in self._kernel_known:
            if len(self._kernel_known) >= MAX_ADDRESSES:
                self._kernel_known.clear()
            self._kernel_known[address] = self._kernel.resolve(address)
        return self._kernel_known[address]

    def user(self, address: int, pid: int) -> UserSymbol | None:
        """Name, offset and file of the user function that an address of a process is in."""
        process = self._processes.get(pid, lambda: _Process(pid))
        process.refresh(force=not self._cached)
        if address not in process.known:
            if len(process.known) >= MAX_ADDRESSES:
                process.known.clear()
            process.known[address] = self._resolve(process, address)
        return process.known[address]

    def snapshot(self, pid: int, load: bool = False) -> None:
        """Note the mappings of a process now, so that its addresses can be resolved after its exit. `load`
        reads the symbols of its files now as well, which is needed if the files may be gone then."""
        process = self._processes.get(pid, lambda: _Process(pid))
        process.refresh(force=True)
        if load:
            for mapping in process.mappings():
                self._table(process, mapping)

    def _resolve(self, process: _Process, address: int) -> UserSymbol | None:
        mapping = process.mapping(address)
        if mapping is None:  # it may be new
            process.refresh(force=True)
            mapping = process.mapping(address)
        if mapping is None:
            return process.resolve_jit(address) or self._resolve_fallback(address)
        if not mapping.path or mapping.path.startswith(("//anon", "[anon", "[heap", "/memfd:", "/dev/zero")):
            if (found := process.resolve_jit(address)) is not None:
                return found
            return None
        table = self._table(process, mapping)
        found_in = table.resolve(address - mapping.start + mapping.offset) if table else None
        return None if found_in is None else (*found_in, mapping.path.removesuffix(_DELETED))

    def _resolve_fallback(self, address: int) -> UserSymbol | None:
        if not self._fallback:
            return None
        try:
            with ElfFile(self._fallback) as file:
                offset = file.file_offset(address) if file.type == ET_EXEC else None
        except HostError:
            return None
        table = self._table_of_file(self._fallback)
        found = table.resolve(offset) if table and offset is not None else None
        return None if found is None else (*found, self._fallback)

    def _table(self, process: _Process, mapping: _Mapping) -> SymbolTable[int] | None:
        if mapping.path == "[vdso]":
            return self._tables.get((0, 0, 0), self._vdso_table)
        place = f"/proc/{process.pid}"
        live = f"{place}/map_files/{mapping.start:x}-{mapping.end:x}"
        # The mapping itself is the right file even if that was replaced or deleted; when the process is gone,
        # its path must do.
        for path in (live, f"{place}/root{mapping.path}", mapping.path):
            if (table := self._table_of_file(path)) is not None:
                return table
        return None

    def _table_of_file(self, path: str) -> SymbolTable[int] | None:
        try:
            status = os.stat(path)
            key = (status.st_dev, status.st_ino, status.st_mtime_ns)
            return self._tables.get(key, lambda: self._read_table(path))
        except (OSError, HostError):
            return None

    def _read_table(self, path: str) -> SymbolTable[int]:
        with ElfFile(path) as file:
            return self._functions(file)

    def _vdso_table(self) -> SymbolTable[int]:
        try:
            return self._functions(ElfFile("[vdso]", _vdso()))
        except HostError:
            return SymbolTable([])

    def _functions(self, file: ElfFile) -> SymbolTable[int]:
        places, names = file.functions()

        def name(start: int) -> str:
            text = names[start : names.index(0, start)].decode("utf-8", "surrogateescape")
            return demangle(text) if self._demangled else text

        return SymbolTable(places, name)


@cache
def _vdso() -> bytes:
    """The kernel's own shared object, which every process has, out of our own memory."""
    try:
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
            for line in maps:
                if line.endswith("[vdso]\n"):
                    start, end = (int(part, 16) for part in line.split()[0].split("-"))
                    memory.seek(start)
                    return memory.read(end - start)
    except OSError:
        pass
    return b""
