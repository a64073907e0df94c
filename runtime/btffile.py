"""One BTF blob (the kernel's, a module's, a file's) through libbpf: lookups by name and number, a full walk.

libbpf indexes a kernel's BTF in 10 ms and finds a name in less than 1 ms; the walk in Python takes 30 ms
more and is made only for lists and for enumerators. Format: Documentation/bpf/btf.rst in the kernel tree.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from enum import IntEnum
from functools import cache, cached_property

from pytrace.grammar.data import dataclass
from pytrace.grammar.host import HostError
from pytrace.grammar.source import encode_text


class Kind(IntEnum):
    """BTF_KIND_* of include/uapi/linux/btf.h."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


# bytes after the 12-byte header: a fixed part, and one for each of `vlen` members
_FIXED = {Kind.INT: 4, Kind.ARRAY: 12, Kind.VAR: 4, Kind.DECL_TAG: 4}
_EACH = {
    Kind.STRUCT: 12,
    Kind.UNION: 12,
    Kind.ENUM: 8,
    Kind.FUNC_PROTO: 8,
    Kind.DATASEC: 12,
    Kind.ENUM64: 12,
}


@dataclass(frozen=True, slots=True)
class Record:
    """One type record: `value` is its size or the type it refers to, `extra` what follows the header."""

    id: int
    name: str
    kind: Kind
    flag: bool
    count: int
    value: int
    extra: bytes


VOID_RECORD = Record(0, "void", Kind.VOID, False, 0, 0, b"")


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise HostError(f"libbpf.so.1 cannot be loaded ({error}); install libbpf1") from error
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32
    for name, result, arguments in (
        ("btf__load_vmlinux_btf", pointer, []),
        ("btf__parse", pointer, [text, ctypes.c_void_p]),
        ("btf__parse_split", pointer, [text, pointer]),
        ("btf__load_from_kernel_by_id", pointer, [number]),
        ("btf__find_by_name_kind", ctypes.c_int32, [pointer, text, number]),
        ("btf__type_by_id", pointer, [pointer, number]),
        ("btf__type_cnt", number, [pointer]),
        ("btf__raw_data", pointer, [pointer, ctypes.POINTER(number)]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class BtfFile:
    """An open BTF blob. It lives as long as the process: libbpf's memory is never given back, so the kernel's (10 MB)
    are opened once, however many programs are compiled."""

    def __init__(self, handle: int, module: str, base: BtfFile | None) -> None:
        self.module = module
        self._handle = handle
        self._base = base
        self._first = _library().btf__type_cnt(base._handle) if base else 1
        size = ctypes.c_uint32()
        address = _library().btf__raw_data(handle, ctypes.byref(size))
        header = struct.unpack("<HBBIIIII", ctypes.string_at(address, 24))
        _, _, _, length, types, types_size, strings, strings_size = header
        # addresses, not bytes: the sections are megabytes, of which a lookup needs little
        self._types = (address + length + types, types_size)
        self._strings = address + length + strings
        self._strings_start: int = base._strings_end if base else 0
        self._strings_end: int = self._strings_start + strings_size

    @classmethod
    @cache
    def kernel(cls) -> BtfFile | None:
        """The running kernel's own BTF, None if it has none."""
        handle = _library().btf__load_vmlinux_btf()
        return cls(handle, "vmlinux", None) if handle else None

    @classmethod
    def parse(cls, path: str) -> BtfFile | None:
        """The BTF of a raw or ELF file, None if there is none in it."""
        handle = _library().btf__parse(path.encode(), None)
        return cls(handle, "vmlinux", None) if handle else None

    @classmethod
    def of_module(cls, name: str, base: BtfFile) -> BtfFile | None:
        """The BTF of a loaded kernel module (/sys/kernel/btf/NAME), None if it has none."""
        try:
            loaded = os.stat(encode_text(f"/sys/kernel/btf/{name}")).st_ino  # another when it is loaded again
        except OSError:
            return None
        return cls._module(name, base, loaded)

    @classmethod
    @cache
    def _module(cls, name: str, base: BtfFile, loaded: int) -> BtfFile | None:
        handle = _library().btf__parse_split(encode_text(f"/sys/kernel/btf/{name}"), base._handle)
        return cls(handle, name, base) if handle else None

    @classmethod
    def by_id(cls, number: int) -> BtfFile | None:
        """The BTF with this id in the kernel, one of a BPF program's; None if it is gone."""
        handle = _library().btf__load_from_kernel_by_id(number)
        return cls(handle, "", None) if handle else None

    @property
    def handle(self) -> int:
        """libbpf's `struct btf *`."""
        return self._handle

    def find(self, name: str, kind: Kind) -> int:
        """The number of the type of that name and kind; 0 if there is none."""
        found: int = _library().btf__find_by_name_kind(self._handle, encode_text(name), kind)
        return max(found, 0)

    def record(self, number: int) -> Record:
        """One type record.

        Raises:
            HostError: the number is beyond the end.
        """
        if number == 0:
            return VOID_RECORD
        address = _library().btf__type_by_id(self._handle, number)
        if not address:
            raise HostError(f"BTF of {self.module} has no type {number}")
        name, info, value = struct.unpack("<III", ctypes.string_at(address, 12))
        kind, count = Kind(info >> 24 & 31), info & 0xFFFF
        size = _FIXED.get(kind, 0) + _EACH.get(kind, 0) * count
        extra = ctypes.string_at(address + 12, size) if size else b""
        return Record(number, self.string(name), kind, bool(info >> 31), count, value, extra)

    def string(self, offset: int) -> str:
        """The string at an offset of the string section."""
        if offset < self._strings_start:
            assert self._base is not None
            return self._base.string(offset)
        return ctypes.string_at(self._strings + offset - self._strings_start).decode()

    def enumeration_with(self, name: str) -> int:
        """The number of the first enumeration of this blob that has an enumerator of that name; 0 if there is none."""
        offsets = self._offsets(name)
        if not offsets:
            return 0
        words = self._words()
        for number, start, end, step in self._enumerations:
            if not offsets.isdisjoint(words[start:end:step]):
                return number
        return 0

    @cached_property
    def _enumerations(self) -> list[tuple[int, int, int, int]]:
        """Of each enumeration its number, and where in the words of the types the names of its enumerators are."""
        words, found = self._words(), list[tuple[int, int, int, int]]()
        for number, at in self._places(Kind.ENUM, Kind.ENUM64):
            step = _EACH[Kind(words[at + 1] >> 24 & 31)] // 4
            found.append((number, at + 3, at + 3 + step * (words[at + 1] & 0xFFFF), step))
        return found

    def _offsets(self, text: str) -> set[int]:
        """Every offset at which the strings say this; the end of another string will do."""
        needle, found = encode_text(text) + b"\0", self._base._offsets(text) if self._base else set()
        strings = ctypes.string_at(self._strings, self._strings_end - self._strings_start)
        at = strings.find(needle)
        while at >= 0:
            found.add(at + self._strings_start)
            at = strings.find(needle, at + 1)
        return found

    def _words(self) -> memoryview:
        return memoryview(ctypes.string_at(*self._types)).cast("I")

    def walk(self, *kinds: Kind) -> Iterator[tuple[int, int]]:
        """Number and name's offset of every type of these kinds, of this blob alone, in order."""
        words = self._words()
        return ((number, words[at]) for number, at in self._places(*kinds))

    def _places(self, *kinds: Kind) -> Iterator[tuple[int, int]]:
        """Number, and the place in the words of the types, of every type of these kinds."""
        # This loop is the price of every list: plain integers and tables, no records.
        words = self._words()
        fixed = [3 + _FIXED.get(Kind(k), 0) // 4 if k <= max(Kind) else 3 for k in range(32)]
        each = [_EACH.get(Kind(k), 0) // 4 if k <= max(Kind) else 0 for k in range(32)]
        wanted = [k in kinds for k in range(32)]
        at, number, end = 0, self._first, len(words)
        while at < end:
            info = words[at + 1]
            kind = info >> 24 & 31
            if wanted[kind]:
                yield number, at
            at += fixed[kind] + each[kind] * (info & 0xFFFF)
            number += 1
