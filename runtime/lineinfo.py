"""Which instruction of a BPF program comes from which line of the script: the object's .BTF.ext section."""

from __future__ import annotations

import struct
from bisect import bisect_right

from pytrace.grammar.source import encode_text
from pytrace.runtime.elf import ElfFile

INSTRUCTION = 8  # bytes


def line_table(object_bytes: bytes, symbol: str, section_name: str) -> list[tuple[int, int, int, str]]:
    """(instruction number, line, column, file name) of a program, in order; lines and columns count from 1.

    Format: Documentation/bpf/btf.rst, "The .BTF.ext section"; columns above 1023 are stored as 0.
    """
    with ElfFile("", object_bytes) as file:
        section, strings = file.section(".BTF.ext"), file.section(".BTF")
        extent = _extent(file, symbol)
        if section is None or strings is None or extent is None:
            return []
        start, size = extent
        names = bytes(file.contents(strings))
        records = _records(bytes(file.contents(section)), names, section_name)
    return [
        ((offset - start) // INSTRUCTION, line_column >> 10, line_column & 1023, _string(names, name))
        for offset, name, line_column in records
        if start <= offset < start + size
    ]


def instruction_count(object_bytes: bytes, symbol: str) -> int:
    """How many instructions a program has, without those of the functions that it calls; 0 if there is no such
    program."""
    with ElfFile("", object_bytes) as file:
        extent = _extent(file, symbol)
    return extent[1] // INSTRUCTION if extent else 0


def _extent(file: ElfFile, symbol: str) -> tuple[int, int] | None:
    """Where in its section a function starts, and its size: in an object file that is not linked, st_value (elf(5))."""
    table, names = file.section(".symtab"), file.section(".strtab")
    if table is None or names is None:
        return None
    wanted, text = encode_text(symbol) + b"\0", bytes(file.contents(names))
    for name, _, _, _, value, size in struct.iter_unpack("<IBBHQQ", file.contents(table)):
        if text.startswith(wanted, name):
            return value, size
    return None


def place_of(table: list[tuple[int, int, int, str]], instruction: int) -> tuple[int, int, str] | None:
    """Line, column and file name that an instruction comes from."""
    at = bisect_right(table, (instruction, 1 << 31, 0, "")) - 1
    return None if at < 0 else table[at][1:]


def _records(data: bytes, btf: bytes, section_name: str) -> list[tuple[int, int, int]]:
    header_size = struct.unpack_from("<I", data, 4)[0]
    line_start, line_size = struct.unpack_from("<II", data, 16)
    position = header_size + line_start
    end = position + line_size
    record_size = struct.unpack_from("<I", data, position)[0]
    position += 4
    found: list[tuple[int, int, int]] = []
    while position < end:
        title, count = struct.unpack_from("<II", data, position)
        position += 8
        if _string(btf, title) == section_name:
            for number in range(count):
                offset, name, _, line_column = struct.unpack_from("<IIII", data, position + number * record_size)
                found.append((offset, name, line_column))
        position += count * record_size
    return found


def _string(btf: bytes, offset: int) -> str:
    header_size = struct.unpack_from("<I", btf, 4)[0]
    strings = header_size + struct.unpack_from("<I", btf, 16)[0]
    end = btf.index(b"\0", strings + offset)
    return btf[strings + offset : end].decode()
