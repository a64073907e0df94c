"""Lines of source files to places in programs: the line number programs of DWARF (version 5, 6.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytrace.grammar.data import dataclass, field
from pytrace.grammar.hints import Any
from pytrace.grammar.host import SourceLine
from pytrace.runtime.dwarf import DwarfFile, readable

_BLOCKS = ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine")


@dataclass(slots=True)
class _Found:
    """What the line programs say of the files that a name fits."""

    files: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    lines: set[int] = field(default_factory=set)
    columns: set[int] = field(default_factory=set)
    addresses: set[int] = field(default_factory=set)


def find_line(path: str, file: DwarfFile, name: str, line: int, column: int | None) -> SourceLine:
    """Where the statements of a line start, in a program and its debug information.

    A line has a place in each function that it is part of, and in each copy of one that was inlined: the lowest
    address there, as debuggers have it. `name` is a file's name or the end of its path.
    Raises HostError when the debug information cannot be read.
    """
    found = _Found()
    starts: list[int] = []
    with readable(path):
        for unit in file.units():
            program = file.line_program(unit)
            if program is None:
                continue
            wanted = _matching(unit, program, name, found)
            if not wanted:
                continue
            here = set(_addresses(program, wanted, line, column, found))
            found.addresses |= here
            if here:
                starts += _lowest(here, list(file.blocks(unit, _BLOCKS)))
    return SourceLine(
        tuple(sorted(set(starts))), tuple(sorted(found.files)), tuple(sorted(found.others)),
        tuple(sorted(found.lines)), tuple(sorted(found.columns)),
    )  # fmt: skip


def _matching(unit: Any, program: Any, name: str, found: _Found) -> set[int]:
    """The numbers under which a line program knows the file."""
    header = program.header
    entries = header["file_entry"]
    modern = header["version"] >= 5  # counts files from 0, and folder 0 is where the compiler ran
    wanted = set()
    for index, entry in enumerate(entries, 0 if modern else 1):
        full = _full_path(unit, header, entry, modern)
        if full == name or full.endswith(f"/{name.removeprefix('./')}"):
            found.files.add(full)
            wanted.add(index)
        else:
            found.others.add(full)
    return wanted


def _full_path(unit: Any, header: Any, entry: Any, modern: bool) -> str:
    folders = header["include_directory"]
    folder = b""
    if modern:
        folder = folders[entry.dir_index] if entry.dir_index < len(folders) else b""
    elif entry.dir_index:
        folder = folders[entry.dir_index - 1]
    name = _text(entry.name)
    for part in (_text(folder), _compiled_in(unit)):
        if not name.startswith("/") and part:
            name = f"{part}/{name.removeprefix('./')}"
    return name


def _compiled_in(unit: Any) -> str:
    value = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
    return _text(value.value) if value is not None else ""


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _addresses(program: Any, wanted: set[int], line: int, column: int | None, found: _Found) -> Iterator[int]:
    """The addresses at which statements of the line start; other lines and columns are noted."""
    for entry in program.get_entries():
        state = entry.state
        if state is None or state.end_sequence or not state.is_stmt or state.file not in wanted or not state.line:
            continue
        if not state.address:  # code that the linker has thrown away
            continue
        found.lines.add(state.line)
        if state.line == line:
            found.columns.add(state.column)
            if column is None or state.column == column:
                yield state.address


def _lowest(addresses: Iterable[int], blocks: list[tuple[int, int, int]]) -> Iterator[int]:
    """Of the addresses in each block (start, end, number) the lowest; a block is the smallest around an address."""
    best: dict[int, int] = {}
    for address in addresses:
        around = [(end - start, number) for start, end, number in blocks if start <= address < end]
        number = min(around)[1] if around else -1
        best[number] = min(address, best.get(number, address))
    yield from best.values()
