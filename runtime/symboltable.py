"""The functions of one file by position, kept small: 20 bytes for each, and the names as the file has them."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable

from pytrace.runtime.demangle import demangle
from pytrace.runtime.elf import ElfFile, FunctionTable

_LOOK_BACK = 16  # symbols that may lie between an address and the start of its function
_NAMES = 4096  # names of one table that are kept as text
_U64 = (1 << 64) - 1
_PIECE = 256  # bytes that are read for a name at a time


class SymbolTable:
    """Functions by position: offsets in the file, or addresses in a perf map.

    `readable` makes a name for people of the one in the file. `complete` says that the file had its full symbol
    table, and not only the names for dynamic linking.
    """

    def __init__(self, table: FunctionTable, readable: Callable[[str], str] = str) -> None:
        self.complete = table.complete
        self._starts, self._sizes, self._places = table.starts, table.sizes, table.names
        self._text = table.text
        # pread(2) of a name when it is needed: string tables of 50 MB are left where they are
        self._file = open(table.path, "rb", buffering=0) if table.text is None else None  # noqa: SIM115
        self._text_offset = table.text_offset
        self._readable = readable
        self._known: dict[int, str] = {}

    @classmethod
    def of_file(cls, file: ElfFile, demangled: bool = True) -> SymbolTable:
        """The functions of an ELF file and of its separate debug file."""
        return cls(file.functions(), demangle if demangled else str)

    @classmethod
    def of_functions(cls, functions: Iterable[tuple[int, int, bytes]]) -> SymbolTable:
        """Functions by position, size and name."""
        table, text = FunctionTable(complete=True), bytearray()
        for start, size, name in sorted(functions, key=lambda function: function[0]):
            table.starts.append(start)
            table.sizes.append(size)
            table.names.append(len(text))
            text += name + b"\0"
        table.text = bytes(text)
        return cls(table)

    @classmethod
    def of_perf_map(cls, path: str) -> SymbolTable:
        """What a process says of the code that it made (tools/perf/Documentation/jit-interface.txt).

        Raises OSError.
        """
        functions = []
        with open(path, "rb") as file:
            for line in file:
                parts = line.split(None, 2)
                try:
                    functions.append((int(parts[0], 16), int(parts[1], 16), parts[2].rstrip(b"\n")))
                except (ValueError, IndexError):  # a line that is just being written
                    continue
        return cls.of_functions(f for f in functions if 0 <= min(f[:2]) and max(f[:2]) <= _U64)

    def __len__(self) -> int:
        return len(self._starts)

    def resolve(self, position: int) -> tuple[str, int] | None:
        """Name of the function that a position is in, and the offset into it.

        Of functions that share it, the one that starts last; of its names, the one for users (`malloc` rather
        than `__libc_malloc`). A function of unknown size reaches to the next one.
        """
        starts = self._starts
        index = bisect_right(starts, position) - 1
        if index < 0:
            return None
        nearest = starts[index]
        for at in range(index, max(index - _LOOK_BACK, -1), -1):
            start, size = starts[at], self._sizes[at]
            if position < start + size or (not size and start == nearest):
                return self._name(at, position), position - start
        return None

    def _name(self, last: int, position: int) -> str:
        """The name of the function whose last symbol that covers a position is that one."""
        found = self._known.get(last)
        if found is None:
            start, same = self._starts[last], [last]
            while same[-1] and self._starts[same[-1] - 1] == start and len(same) < _LOOK_BACK:
                same.append(same[-1] - 1)
            names = [self._name_at(at) for at in same if position < start + self._sizes[at] or not self._sizes[at]]
            if len(self._known) >= _NAMES:
                self._known.clear()
            found = self._known[last] = min(names, key=_preference)
        return found

    def _name_at(self, index: int) -> str:
        place = self._places[index]
        text = self._text
        if text is None:
            return self._readable(self._read_name(place).decode("utf-8", "surrogateescape"))
        return self._readable(text[place : text.index(0, place)].decode("utf-8", "surrogateescape"))

    def _read_name(self, place: int) -> bytes:
        assert self._file is not None
        name = b""
        while piece := os.pread(self._file.fileno(), _PIECE, self._text_offset + place + len(name)):
            name += piece
            if b"\0" in piece:
                break
        return name.split(b"\0", 1)[0]


def _preference(name: str) -> tuple[bool, int, int, str]:
    return "@" in name, len(name) - len(name.lstrip("_")), len(name), name
