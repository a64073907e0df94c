"""ELF files: symbols with their place in the file, sections, segments (elf(5)). 64-bit little-endian only."""

from __future__ import annotations

import mmap
import re
import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property
from itertools import compress

from pytrace.grammar.data import dataclass, field
from pytrace.grammar.hints import Self
from pytrace.grammar.host import HostError, Symbol
from pytrace.runtime import debugfiles, zipped

ET_EXEC, ET_DYN = 2, 3
_PT_LOAD = 1
_SHT_SYMTAB, _SHT_NOBITS, _SHT_DYNSYM = 2, 8, 11
_STT_OBJECT, _STT_FUNC, _STT_GNU_IFUNC = 1, 2, 10
_FUNCTIONS = frozenset({_STT_FUNC, _STT_GNU_IFUNC})
_OBJECTS = frozenset({_STT_OBJECT})
SYMBOL = struct.Struct("<IBBHQQ")
_Raw = tuple[int, str, int]  # address, name, size
_IS_FUNCTION = bytes(info & 15 in _FUNCTIONS for info in range(256))
_SMALL = 1 << 18  # bytes of names that are kept in memory


@dataclass(frozen=True, slots=True)
class Section:
    """A section header."""

    name: str
    type: int
    address: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD program header: `size` bytes of the file from `offset` are mapped at `address`."""

    offset: int
    address: int
    size: int


@dataclass(slots=True)
class FunctionTable:
    """The functions of a file, by rising offset in it: where each starts, its size, where its name starts in the
    string table. That is `text` if it is small, else it is left in the file `path`, at `text_offset`. `complete`:
    they are all the functions, not only those for dynamic linking.
    """

    complete: bool
    starts: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    names: array[int] = field(default_factory=lambda: array("I"))
    text: bytes | None = b""
    text_offset: int = 0
    path: str = ""


class ElfFile:
    """One ELF file, mapped, or given as `data`. Use it as a context manager, or `close` it.

    The path may lead into a ZIP file (see `zipped`); offsets are then those in the archive.

    Raises:
        HostError: the file cannot be read or is not a 64-bit little-endian ELF file.
    """

    def __init__(self, path: str, data: bytes | None = None) -> None:
        self.path = path
        self._data: mmap.mmap | bytes
        name, self._base, size = path, 0, 0
        if data is None and zipped.is_member(path):
            member = zipped.locate(path)
            name, self._base, size = member.archive, member.offset, member.size
        if data is not None:
            self._data = data
        else:
            try:
                with open(name, "rb") as file:
                    self._data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ, offset=self._base)
            except (OSError, ValueError) as error:
                raise HostError(f"{path}: {error}") from error
        if self._data[:6] != b"\x7fELF\x02\x01" or len(self._data) < 64:
            self.close()
            raise HostError(f"{path}: not a 64-bit little-endian ELF file")
        self._header = struct.unpack_from("<HHIQQQIHHHHHH", self._data, 16)
        self.type: int = self._header[0]
        self.machine: int = self._header[1]

    def close(self) -> None:
        """Unmap the file."""
        if isinstance(self._data, mmap.mmap):
            self._data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ headers

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """All section headers; none if the file was stripped of them."""
        start, step, count, names_index = self._header[5], *self._header[10:13]
        if not start or not count:
            return ()
        size = len(self._data)
        if start + step * count > size or step < 64 or names_index >= count:
            raise HostError(f"{self.path}: the file is cut short, or its ELF header is damaged")
        raw = [struct.unpack_from("<IIQQQQI", self._data, start + i * step) for i in range(count)]
        if any(kind != _SHT_NOBITS and (at + bytes > size or link >= count) for _, kind, _, _, at, bytes, link in raw):
            raise HostError(f"{self.path}: the file is cut short, or its section headers are damaged")
        names = raw[names_index]
        return tuple(
            Section(self._string(names[4] + name), kind, address, offset, size, link)
            for name, kind, _, address, offset, size, link in raw
        )

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The PT_LOAD segments."""
        start, step, count = self._header[4], self._header[8], self._header[9]
        found = []
        if start + step * count > len(self._data) or (count and step < 56):
            raise HostError(f"{self.path}: the file is cut short, or its ELF header is damaged")
        for index in range(count):
            at = start + index * step
            kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", self._data, at)
            if kind == _PT_LOAD:
                found.append(Segment(offset, address, size))
        return tuple(found)

    def section(self, name: str) -> Section | None:
        """A section by name."""
        return next((section for section in self.sections if section.name == name), None)

    def contents(self, section: Section) -> bytes:
        """The bytes of a section; empty if the file does not hold them."""
        if section.type == _SHT_NOBITS:
            return b""
        return self._data[section.offset : section.offset + section.size]

    def file_offset(self, address: int) -> int | None:
        """Where in the file the byte lies that is mapped at a symbol-table address."""
        for segment in self.segments:
            if segment.address <= address < segment.address + segment.size:
                return address - segment.address + segment.offset + self._base
        return None

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Bytes of the file by their offset (in the archive, if it is part of one)."""
        return self._data[offset - self._base : offset - self._base + size]

    def address(self, offset: int) -> int | None:
        """The symbol-table address of what lies `offset` bytes into the file."""
        offset -= self._base
        for segment in self.segments:
            if segment.offset <= offset < segment.offset + segment.size:
                return offset - segment.offset + segment.address
        return None

    # ------------------------------------------------------------ symbols

    def symbols(self, objects: bool = False) -> list[Symbol]:
        """The defined function symbols (or data objects) of this file and of its separate debug file, sorted
        by address and name. Offsets are into this file."""
        found: set[_Raw] = set()
        for file in self._with_debug_file():
            for table in file._tables():
                found.update(file._table(table, objects))
        return list(self._located(found, objects))

    def function_names(self) -> set[str]:
        """The names in `symbols`; not looking where each function lies, and at each name once, takes a third."""
        found: set[str] = set()
        for file in self._with_debug_file():
            for table in file._tables():
                strings, data = file.contents(file.sections[table.link]), file.contents(table)
                wanted = data[4::24].translate(_IS_FUNCTION)
                names, sections = memoryview(data).cast("I")[::6], memoryview(data).cast("H")[3::12]
                pairs = zip(compress(names, wanted), compress(sections, wanted), strict=True)
                offsets = {name for name, section in pairs if name and section}
                # bytes and characters are in the same places: cutting text is faster than decoding each piece
                text = str(strings, "latin-1")
                ends = strings.find
                cut = [text[at : ends(0, at)] for at in offsets]
                found.update(cut if text.isascii() else [_decoded(name) for name in cut])
        return found

    def find(self, name: str, objects: bool = False) -> list[Symbol]:
        """The function symbols (or data objects) of one name, without decoding the whole tables."""
        found: set[_Raw] = set()
        for file in self._with_debug_file():
            for table in file._tables():
                found.update(file._named(table, name, objects))
        return list(self._located(found, objects))

    def functions(self) -> FunctionTable:
        """The functions for looking addresses up, by offset in this file.

        They come from the full symbol table, of this file or of its separate debug file, or else from the table
        for dynamic linking, which is a part of that. No name is decoded: a large library has 100,000 functions,
        of which a stack shows a few.
        """
        partial = FunctionTable(complete=False)
        from contextlib import suppress  # a listing does without

        with suppress(HostError):  # a damaged debug file: names must do without
            for file in self._with_debug_file():
                for table in file._tables():
                    if table.type == _SHT_SYMTAB and (found := self._functions(file, table)).starts:
                        return found
                    if table.type == _SHT_DYNSYM and not partial.starts:
                        partial = self._functions(file, table)
        return partial

    def _functions(self, file: ElfFile, table: Section) -> FunctionTable:
        """The functions of one table of this file or of its debug file. Loops over 100,000 symbols run in C."""
        data = file.contents(table)
        data = data[: len(data) // SYMBOL.size * SYMBOL.size]
        words = array("Q", data)
        values, sizes = words[1::3], words[2::3]
        wanted = data[4::24].translate(_IS_FUNCTION)
        # those without an address are defined elsewhere
        chosen = compress(compress(range(len(values)), wanted), compress(values, wanted))
        order = sorted(chosen, key=values.__getitem__)
        starts = array("Q", map(values.__getitem__, order))
        names = array("I", data)[0::6]
        found = FunctionTable(complete=table.type == _SHT_SYMTAB)
        for segment in sorted(self.segments, key=lambda s: s.offset):
            first = bisect_left(starts, segment.address)
            last = bisect_left(starts, segment.address + segment.size)
            move = segment.offset - segment.address + self._base
            found.starts.extend([start + move for start in starts[first:last]] if move else starts[first:last])
            found.sizes.extend(map(sizes.__getitem__, order[first:last]))
            found.names.extend(map(names.__getitem__, order[first:last]))
        strings = file.sections[table.link]
        found.path, found.text_offset = file.path, strings.offset
        # what is inside of an archive is not found again by its path
        small = strings.size <= _SMALL or isinstance(file._data, bytes) or bool(file._base)
        found.text = file.contents(strings) if small else None
        return found

    @cached_property
    def stripped(self) -> bool:
        """Whether the only symbols are those for dynamic linking: neither the file nor a separate one has more."""
        return all(file.section(".symtab") is None for file in self._with_debug_file())

    def _with_debug_file(self) -> Iterator[ElfFile]:
        yield self
        if self.section(".symtab") is not None:
            return
        if (path := self.debug_file()) is not None:
            with ElfFile(path) as debug:
                yield debug
        elif (packed := self.section(".gnu_debugdata")) is not None:
            # Fedora's "MiniDebugInfo": an ELF file with nothing but symbols, compressed with xz
            with ElfFile(self.path, debugfiles.unpack(self.path, self.contents(packed))) as mini:
                yield mini

    def _tables(self) -> list[Section]:
        kinds = (_SHT_SYMTAB, _SHT_DYNSYM)
        return [s for s in self.sections if s.type in kinds and s.size and not s.size % SYMBOL.size]

    def _table(self, table: Section, objects: bool) -> Iterator[_Raw]:
        kinds = _OBJECTS if objects else _FUNCTIONS
        strings = self.contents(self.sections[table.link])
        for name, info, _, section, address, size in SYMBOL.iter_unpack(self.contents(table)):
            if info & 15 in kinds and section and name:
                end = strings.find(0, name)
                yield address, strings[name : end if end >= 0 else None].decode("utf-8", "surrogateescape"), size

    def _named(self, table: Section, name: str, objects: bool) -> Iterator[_Raw]:
        kinds = _OBJECTS if objects else _FUNCTIONS
        # A name may also be the tail of another's, so it need not follow a NUL.
        needle = re.escape(name.encode("utf-8", "surrogateescape") + b"\0")
        strings = self.contents(self.sections[table.link])
        offsets = {match.start() for match in re.finditer(needle, strings)}
        if not offsets:
            return
        data = self.contents(table)
        for index, offset in enumerate(memoryview(data).cast("I")[:: SYMBOL.size // 4].tolist()):
            if offset in offsets:
                _, info, _, section, address, size = SYMBOL.unpack_from(data, index * SYMBOL.size)
                if info & 15 in kinds and section:
                    yield address, name, size

    def _located(self, symbols: set[_Raw], objects: bool) -> Iterator[Symbol]:
        known: set[tuple[int, str]] = set()
        for address, name, size in sorted(symbols):
            offset = self.file_offset(address)
            if offset is None and objects:
                offset = 0  # a variable that starts as zero takes no place in the file (.bss)
            if offset is not None and (address, name) not in known:
                known.add((address, name))
                yield Symbol(name, address, offset, size, not objects)

    # ------------------------------------------------------------ notes and debug files

    def notes(self, section: Section) -> Iterator[tuple[bytes, int, bytes]]:
        """Owner, type and description of each note of a section."""
        data, at = self.contents(section), 0
        while at + 12 <= len(data):
            owner_size, size, kind = struct.unpack_from("<III", data, at)
            owner_at = at + 12
            description_at = owner_at + (owner_size + 3 & ~3)
            yield data[owner_at : owner_at + owner_size].rstrip(b"\0"), kind, data[description_at:][:size]
            at = description_at + (size + 3 & ~3)

    @cached_property
    def build_id(self) -> bytes:
        """What identifies this build of the file (note NT_GNU_BUILD_ID); empty if it has none."""
        section = self.section(".note.gnu.build-id")
        notes = self.notes(section) if section is not None else ()
        return next((identity for owner, kind, identity in notes if owner == b"GNU" and kind == 3), b"")

    def debug_file(self) -> str | None:
        """The separate file with this one's symbols and debug information, if it is installed."""
        section = self.section(".gnu_debuglink")
        link = self.contents(section) if section is not None else b""
        for path, checksum in debugfiles.candidates(self.path, self.build_id, link):
            if self._belongs(path, checksum):
                return path
        return None

    def _belongs(self, path: str, checksum: int | None) -> bool:
        """Whether a debug file is of this very build: one of another would show wrong names."""
        try:
            with ElfFile(path) as file:
                if self.build_id and file.build_id:
                    return file.build_id == self.build_id
                return checksum is None or debugfiles.checksum(path) == checksum
        except HostError:
            return False

    def data(self) -> bytes:
        """All bytes of the file."""
        return self._data[:]

    def _string(self, offset: int) -> str:
        return self._data[offset : self._data.find(b"\0", offset)].decode("utf-8", "surrogateescape")


def _decoded(name: str) -> str:
    """A name whose bytes were taken for characters."""
    return name.encode("latin-1").decode("utf-8", "surrogateescape")
