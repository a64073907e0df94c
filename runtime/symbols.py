"""Addresses to names, for stacks, `usym`, `ksym` and `func` (reference part 2, 6.3).

User addresses are resolved with what processes have mapped (`MappingWatcher`, /proc/PID/maps) and our own ELF
reader. libbcc's symbol cache would do the same, but loading it takes 130 ms and 75 MB, and it cannot resolve
after a process has exited.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache, cached_property

from pytrace.grammar.hints import Generic, TypeVar
from pytrace.grammar.host import HostError
from pytrace.runtime.elf import ET_EXEC, ElfFile, FunctionTable, Segment
from pytrace.runtime.images import EMPTY, Image, Mapping, Processes
from pytrace.runtime.kernel import KernelSymbols
from pytrace.runtime.mappedfiles import VDSO, MappedFile, MappedFiles
from pytrace.runtime.mappings import MappingWatcher, is_kernel_thread, read_mappings
from pytrace.runtime.perfmaps import PerfMaps, UserSymbol
from pytrace.runtime.symboltable import SymbolTable

MAX_TABLES = 256  # files whose symbols are kept
MAX_ADDRESSES = 16384  # of the kernel
MAX_PROCESSES = 1024  # whose mappings were read from /proc lately
_STALE = 0.2  # seconds after which the mappings of a living process are looked at again

Key = TypeVar("Key")
Item = TypeVar("Item")


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
        return self.put(key, make())

    def put(self, key: Key, item: Item) -> Item:
        """Keep an item."""
        self._items[key] = item
        if len(self._items) > self._limit:
            self._items.popitem(last=False)
        return item


class Symbolizer:
    """Kernel and user addresses to names.

    `demangled` shows C++ and Rust names readable. `fallback` is the one executable that probes name: it is
    used for processes that were gone before they were seen, which only works for executables that are not
    relocated. `cached` False looks at the process and its files anew for every stack (`cache_user_symbols`
    NONE).

    Names are kept by file and place in it, whatever the number of processes; of a process only its mappings.
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
        self._looked: _Kept[int, float] = _Kept(MAX_PROCESSES)
        self._tables: _Kept[tuple[int, int, int], SymbolTable] = _Kept(MAX_TABLES)
        self._of_files: _Kept[int, SymbolTable | None] = _Kept(4 * MAX_TABLES)
        self._perf_maps = PerfMaps()
        self._watcher: MappingWatcher | None = None
        self.processes = Processes()
        self.files = MappedFiles()

    # ------------------------------------------------------------ watching

    def watch(self, only: int = 0) -> None:
        """From now on note what processes (or only that one) map, so that they can be resolved when they are
        gone. Raises OSError if the kernel does not let us."""
        self.processes = Processes(only)
        self.files = MappedFiles(hold=True)
        self._watcher = MappingWatcher(self.processes, self.files, self._perf_maps.remember)

    @property
    def descriptors(self) -> list[int]:
        """Readable when `update` should not wait for the next tick."""
        return self._watcher.descriptors if self._watcher else []

    @property
    def lost(self) -> int:
        """Records of mappings that were lost, so far."""
        return self._watcher.lost if self._watcher else 0

    def update(self, everything: bool = False) -> None:
        """Take in what processes have mapped meanwhile; cheap when that is nothing."""
        if self._watcher:
            self._watcher.update(everything)

    def close(self) -> None:
        """Stop watching, let go of all files."""
        if self._watcher:
            self._watcher.close()
        self.files.close()
        self._perf_maps.close()

    # ------------------------------------------------------------ looking up

    def kernel(self, address: int) -> tuple[str, int] | None:
        """Name of the kernel symbol an address is in, and the offset into it."""
        known = self._kernel_known
        if address not in known:
            if len(known) >= MAX_ADDRESSES:
                known.clear()
            known[address] = self._kernel.resolve(address)
        return known[address]

    def user(self, address: int, pid: int) -> UserSymbol | None:
        """Name, offset and file of the user function that an address of a process is in."""
        return self.user_stack((address,), pid)[0]

    def user_stack(self, addresses: Sequence[int], pid: int) -> list[UserSymbol | None]:
        """Name, offset and file of the functions that addresses of a process are in.

        They belong together: if the process has executed another program since, or its number went to another
        process, all are looked for in the newest of these that has most of them.
        """
        image = self._image(addresses, pid)
        return [self._resolve(image.find(address), address, pid) for address in addresses]

    def snapshot(self, pid: int) -> None:
        """Note the mappings of a process now, so that its addresses can be resolved after its exit."""
        mappings = read_mappings(pid, self.files)
        if mappings:
            self.processes.seen(pid, mappings)

    def _image(self, addresses: Sequence[int], pid: int) -> Image:
        process = self.processes.get(pid)
        if self._watcher is None or not self._cached or process is None:
            self._refresh(pid, force=not self._cached or process is None)
            process = self.processes.get(pid)
        if process is None:
            return EMPTY
        image = process.best(addresses)
        if all(map(image.has, addresses)):
            return image
        self.update(everything=True)
        self._refresh(pid, force=False)
        return process.best(addresses)

    def _refresh(self, pid: int, force: bool) -> None:
        """Look at the mappings again if that was long ago. A process that has gone keeps those it had."""
        now = time.monotonic()
        if self.processes.exited(pid) or (not force and now - self._looked.get(pid, lambda: 0.0) < _STALE):
            return
        self._looked.put(pid, now)
        self.snapshot(pid)

    def _resolve(self, mapping: Mapping | None, address: int, pid: int) -> UserSymbol | None:
        if mapping is None:
            known = self.processes.get(pid) is not None
            return self._resolve_fallback(address) if known else self._resolve_unseen(address, pid)
        file = self.files.get(mapping.file)
        if file is None:
            return None
        if file.code and (found := self._perf_maps.resolve(pid, address)) is not None:
            return found
        table = self._table(mapping.file, file)
        named = table.resolve(address - mapping.start + mapping.offset) if table else None
        return None if named is None else (*named, file.shown)

    def _resolve_unseen(self, address: int, pid: int) -> UserSymbol | None:
        return self._perf_maps.resolve(pid, address) or self._resolve_fallback(address)

    def _resolve_fallback(self, address: int) -> UserSymbol | None:
        segment = next((s for s in self._fixed if s.address <= address < s.address + s.size), None)
        if segment is None:
            return None
        table = self._table_of_file(self._fallback)
        found = table.resolve(address - segment.address + segment.offset) if table else None
        return None if found is None else (*found, self._fallback)

    @cached_property
    def _fixed(self) -> tuple[Segment, ...]:
        """The segments of the fallback, if it is an executable that is not relocated."""
        if not self._fallback:
            return ()
        try:
            with ElfFile(self._fallback) as file:
                return file.segments if file.type == ET_EXEC else ()
        except HostError:
            return ()

    # ------------------------------------------------------------ why there is no name

    def explain(self, address: int, pid: int) -> tuple[str, str]:
        """Why an address has no name, and the file that it lies in.

        `gone`: the process was gone before its mappings were known; `unmapped`: it is in no mapping; `code`: in
        code that was made at run time, for which there is no perf map; `missing`: the file cannot be read any
        more or another one has taken its place; `stripped`: the file has no full symbol table; `unnamed`:
        that has no function there.
        """
        process = self.processes.get(pid)
        if process is None:
            return "gone", ""
        mapping = process.best((address,)).find(address)
        file = self.files.get(mapping.file) if mapping else None
        if mapping is None or file is None:
            return "unmapped", ""
        if file.code:
            return "code", ""
        table = self._table(mapping.file, file)
        if table is None:
            return "missing", file.shown
        return ("unnamed" if table.complete else "stripped"), file.shown

    def kernel_thread(self, pid: int) -> bool:
        """Whether a process is a thread of the kernel, which has no user memory."""
        return self.processes.get(pid) is None and is_kernel_thread(pid)

    # ------------------------------------------------------------ tables

    def _table(self, number: int, file: MappedFile) -> SymbolTable | None:
        if not self._cached:
            return self._find_table(file)
        table = self._of_files.get(number, lambda: self._find_table(file))
        if table is None and file.places != file.tried:
            table = self._of_files.put(number, self._find_table(file))
        return table

    def _find_table(self, file: MappedFile) -> SymbolTable | None:
        if file.path == VDSO:
            return self._tables.get((0, 0, 0), self._vdso_table)
        file.tried = file.places
        for path in file.candidates():
            if file.matches(path) and (table := self._table_of_file(path)) is not None:
                return table
        return None

    def _table_of_file(self, path: str) -> SymbolTable | None:
        try:
            status = os.stat(path)
            key = (status.st_dev, status.st_ino, status.st_mtime_ns)
            return self._tables.get(key, lambda: self._read_table(path))
        except (OSError, HostError):
            return None

    def _read_table(self, path: str) -> SymbolTable:
        with ElfFile(path) as file:
            return SymbolTable.of_file(file, self._demangled)

    def _vdso_table(self) -> SymbolTable:
        try:
            return SymbolTable.of_file(ElfFile(VDSO, _vdso()), self._demangled)
        except HostError:
            return SymbolTable(FunctionTable(complete=True))


@cache
def _vdso() -> bytes:
    """The kernel's own shared object, which every process has, out of our own memory."""
    try:
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
            for line in maps:
                if line.endswith(f"{VDSO}\n"):
                    start, end = (int(part, 16) for part in line.split()[0].split("-"))
                    memory.seek(start)
                    return memory.read(end - start)
    except OSError:
        pass
    return b""
