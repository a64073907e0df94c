"""The functions of one file by position, kept small: 16 bytes for each, and the names as the file has them."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable

from pytrace.runtime.demangle import demangle
from pytrace.runtime.elf import ElfFile

_LOOK_BACK = 16  # symbols that may lie between an address and the start of its function
_NAMES = 65536  # names of one table that are kept as text
_U32 = (1 << 32) - 1


class SymbolTable:
    """Functions by position: offsets in the file, or addresses in a perf map.

    `symbols` are (position, size, where the name starts in `names`). `readable` makes a name of those bytes.
    `complete` says that the file had its full symbol table, and not only the names for dynamic linking.
    """

    def __init__(
        self,
        symbols: Iterable[tuple[int, int, int]],
        names: bytes,
        readable: Callable[[str], str] = str,
        complete: bool = True,
    ) -> None:
        ordered = sorted(symbols)
        self.complete = complete
        self._names = names
        self._readable = readable
        self._starts = array("Q", [start for start, _, _ in ordered])
        self._sizes = array("I", [min(size, _U32) for _, size, _ in ordered])
        self._places = array("I", [place for _, _, place in ordered])
        self._known: dict[int, str] = {}

    @classmethod
    def of_file(cls, file: ElfFile, demangled: bool = True) -> SymbolTable:
        """The functions of an ELF file and of its separate debug file."""
        places, names, complete = file.functions()
        return cls(places, names, demangle if demangled else str, complete)

    @classmethod
    def of_perf_map(cls, path: str) -> SymbolTable:
        """What a process says of the code that it made (tools/perf/Documentation/jit-interface.txt).

        Raises OSError.
        """
        symbols, names = [], bytearray()
        with open(path, "rb") as file:
            for line in file:
                parts = line.split(None, 2)
                try:
                    start, size, name = int(parts[0], 16), int(parts[1], 16), parts[2]
                except (ValueError, IndexError):  # a line that is just being written
                    continue
                symbols.append((start, size, len(names)))
                names += name.rstrip(b"\n") + b"\0"
        return cls(symbols, bytes(names))

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
            names = [self._text(at) for at in same if position < start + self._sizes[at] or not self._sizes[at]]
            if len(self._known) >= _NAMES:
                self._known.clear()
            found = self._known[last] = min(names, key=_preference)
        return found

    def _text(self, index: int) -> str:
        place = self._places[index]
        return self._readable(self._names[place : self._names.index(0, place)].decode("utf-8", "surrogateescape"))


def _preference(name: str) -> tuple[bool, int, int, str]:
    return "@" in name, len(name) - len(name.lstrip("_")), len(name), name
