"""The kernel's functions and symbols: /proc/kallsyms, and which functions can be probed."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate, pairwise, repeat
from pathlib import Path

from pytrace.grammar.host import HostError
from pytrace.grammar.source import encode_text
from pytrace.runtime.btf import KernelTypes
from pytrace.runtime.btffile import Kind
from pytrace.runtime.elf import ElfFile
from pytrace.runtime.tracefs import Tracefs

KALLSYMS = "/proc/kallsyms"
IMAGE = "vmlinux"  # what stands for a module's name
_FILTER = "available_filter_functions"
_TEXT = frozenset(b"tTwW")
_LOWEST = 1 << 63  # of the kernel's addresses


class KernelSymbols:
    """The symbols of the kernel and its modules, read once, at the first question (75 ms for 120,000
    symbols).

    The file is kept as it is, with the addresses and line starts in arrays: 7 MB instead of the 30 MB of
    objects.
    """

    def __init__(self, path: str = KALLSYMS) -> None:
        self._path = path

    @cached_property
    def _data(self) -> bytes:
        try:
            return Path(self._path).read_bytes()
        except OSError as error:
            raise HostError(f"{self._path} cannot be read: {error.strerror}") from error

    @cached_property
    def _table(self) -> tuple[array[int], array[int]]:
        """Addresses in rising order, and where each one's line starts."""
        lines = self._data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        # every address has 16 digits, highest first
        addresses = array("Q", bytes.fromhex(b"".join([line[:16] for line in lines]).decode()))
        if sys.byteorder == "little":
            addresses.byteswap()
        starts = array("I", accumulate((len(line) + 1 for line in lines[:-1]), initial=0) if lines else [])
        if any(a > b for a, b in pairwise(addresses)):
            # stable, so that of symbols with one address the first stays first
            order = sorted(range(len(addresses)), key=addresses.__getitem__)
            addresses, starts = (array(c.typecode, [c[i] for i in order]) for c in (addresses, starts))
        return addresses, starts

    def address(self, symbol: str) -> int | None:
        """The address of a symbol; None if there is no such symbol.

        Raises:
            HostError: the kernel hides its addresses from us.
        """
        name = encode_text(symbol)
        at = max(self._data.find(b" " + name + b"\n"), self._data.find(b" " + name + b"\t"))
        if at < 0 or not name:
            return None
        line = self._data[self._data.rfind(b"\n", 0, at) + 1 : at]
        address = int(line.split()[0], 16)
        if not address and not any(self._table[0]):
            raise HostError(f"{self._path} shows no addresses; tracing needs root (and kernel.kptr_restrict below 2)")
        return address

    def resolve(self, address: int) -> tuple[str, int] | None:
        """Name of the symbol with the highest address not above `address`, and the offset into it.

        Of several names for one address it is the first, like in the kernel's own messages
        (kernel/kallsyms.c).
        """
        if address < _LOWEST:  # symbols below are offsets into the memory of a CPU
            return None
        addresses, starts = self._table
        index = bisect_right(addresses, address) - 1
        if index < 0 or addresses[index] < _LOWEST:
            return None
        while index and addresses[index - 1] == addresses[index]:
            index -= 1
        return self._name(starts[index]), address - addresses[index]

    def size(self, symbol: str) -> int | None:
        """The bytes from a symbol to the next one, padding included; None if there is no such symbol."""
        start = self.address(symbol)
        if start is None:
            return None
        addresses, _ = self._table
        following = bisect_right(addresses, start)
        return addresses[following] - start if following < len(addresses) else None

    def functions(self) -> Iterator[tuple[str, str]]:
        """Module and name of every symbol that is code."""
        for line in self._data.splitlines():
            _, kind, name, *module = line.split()
            if kind[0] in _TEXT:
                yield (module[0][1:-1].decode() if module else "vmlinux"), name.decode()

    def _name(self, start: int) -> str:
        line = self._data[start : self._data.find(b"\n", start)]
        return line.split()[2].decode()


def image_addresses(function: str, path: str = KALLSYMS) -> list[int]:
    """Where the functions of that name are in the kernel's image, modules left out."""
    wanted = encode_text(function)
    found = []
    for line in Path(path).read_bytes().splitlines():
        address, kind, *rest = line.split()
        if rest == [wanted] and kind[:1] in (b"t", b"T", b"w", b"W"):
            found.append(int(address, 16))
    return found


class _FunctionList:
    """tracefs' list of traceable functions, a name a line with ` [module]` behind those of modules.

    The kernel writes it slowly (as long as /proc/kallsyms takes), so it is read only as far as a name asks
    for.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._data = bytearray(b"\n")
        self._more()

    def _more(self) -> bool:
        piece = self._file.read(1 << 16)
        self._data += piece
        return bool(piece)

    def contains(self, start: bytes) -> bool:
        """Whether a line starts so; `start` begins with the newline in front of that."""
        begin = 0
        while self._data.find(start, begin) < 0:
            begin = max(len(self._data) - len(start), 0)
            if not self._more():
                return False
        return True

    def lines(self) -> list[str]:
        """All lines."""
        while self._more():
            pass
        return self._data.decode().split("\n")


class KernelFunctions:
    """Which functions can be probed.

    The authority is tracefs' list of traceable functions. BTF is none: a sixth of the functions in it are
    inlined everywhere, gone after boot, or `notrace`. Where the list cannot be read (it may be missing or
    locked down), BTF and the code symbols of /proc/kallsyms stand for it, and the kernel refuses what it
    cannot probe. `path` replaces the list of tracefs (`--traceable-functions`).

    Raises:
        HostError: the list at `path` cannot be read.
    """

    def __init__(self, types: KernelTypes, tracefs: Tracefs, symbols: KernelSymbols, path: str = "") -> None:
        self._types = types
        self._tracefs = tracefs
        self._symbols = symbols
        self._path = path

    @cached_property
    def _list(self) -> _FunctionList | None:
        if self._path:
            try:
                return _FunctionList(Path(self._path))
            except OSError as error:
                reason = f"cannot read the list of traceable functions {self._path}: {error.strerror}"
                raise HostError(reason) from error
        try:
            return _FunctionList(Path(self._tracefs.root, _FILTER))
        except (OSError, HostError):
            return None

    def exists(self, name: str, module: str = "") -> bool:
        """Whether a function, of any or of one module (`vmlinux`: the image), can be probed."""
        if ".part." in name or not name:
            return False
        if self._list is None:
            return self._exists_unlisted(name, module)
        line = b"\n" + encode_text(name)
        if module in ("", "vmlinux") and self._list.contains(line + b"\n"):
            return True
        where = encode_text(module) + b"]" if module else b""
        return module != "vmlinux" and self._list.contains(line + b" [" + where)

    def image_size(self, name: str, module: str, image: str) -> int | None:
        """Bytes of a function by an image of the kernel with symbols (`vmlinux`, an ELF file); None if it has not got
        it.

        Raises:
            HostError: the image cannot be read.
        """
        if module not in ("", "vmlinux"):
            return None
        with ElfFile(image) as file:
            found = file.find(name)
        return found[0].size if found else None

    def _exists_unlisted(self, name: str, module: str) -> bool:
        file = self._types.module(module)
        if file is not None and file.find(name, Kind.FUNC):
            return True
        return any(n == name and module in ("", m) for m, n in self._symbols.functions())

    def all(self) -> Iterator[tuple[str, str]]:
        """Module and name of every function, sorted; those that the compiler split off (`.part.`) are left
        out."""
        if self._list is None:
            yield from sorted({pair for pair in self._symbols.functions() if ".part." not in pair[1]})
        else:
            yield from _listed(self._list.lines())


def _listed(lines: list[str]) -> Iterator[tuple[str, str]]:
    """What the lines say, in order. There are tens of thousands, nearly all of the image: so lists, not one by one."""
    # the second: places whose function was freed or overridden, kernel/trace/ftrace.c
    lines = [line for line in lines if ".part." not in line and not line.startswith("__ftrace_invalid_address")]
    modules: dict[str, list[str]] = {IMAGE: [line for line in lines if line and " " not in line]}
    for line in lines:
        if " " in line:
            name, _, module = line.partition(" ")
            modules.setdefault(module.strip("[]"), []).append(name)
    for module in sorted(modules):
        yield from zip(repeat(module), sorted(set(modules[module])), strict=False)
