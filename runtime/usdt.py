"""USDT probes of an ELF file: the `stapsdt` notes of SystemTap's <sys/sdt.h>, version 3.

A note holds three addresses (location, link-time address of `.stapsdt.base`, semaphore or 0) and three
strings (provider, name, arguments). If prelink moved the file, the location is off by what `.stapsdt.base`
moved.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from pytrace.grammar.host import UsdtArgument, UsdtLocation
from pytrace.runtime.elf import ElfFile

_NOTE_TYPE = 3

# the operand as GNU as takes it on x86-64: $5, %eax, 8(%rbp), sym+8(%rip), (%rax,%rbx,4), 16(,%rbx,8)
_ARGUMENT = re.compile(r"(?:(?P<size>-?\d+)(?P<float>f)?@)?(?P<operand>\S+)")
_MEMORY = re.compile(
    r"(?P<symbol>[A-Za-z_.$][\w.$]*)?(?P<offset>[+-]?(?:0x[0-9a-fA-F]+|\d+))?"
    r"\((?P<base>%\w+)?(?:,(?P<index>%\w+)(?:,(?P<scale>[1248]))?)?\)"
)

# every name of a general register -> its name in the kernel's struct pt_regs
_LEGACY = {"ax": "al", "bx": "bl", "cx": "cl", "dx": "dl", "si": "sil", "di": "dil", "bp": "bpl", "sp": "spl"}
REGISTERS = {
    **{name: word for word, low in _LEGACY.items() for name in (f"r{word}", f"e{word}", word, low)},
    **{f"r{n}{suffix}": f"r{n}" for n in range(8, 16) for suffix in ("", "d", "w", "b")},
    "rip": "ip",
}


def usdt_locations(path: str) -> list[UsdtLocation]:
    """The USDT locations of a file, in the order of its notes.

    Raises:
        HostError: the file is not a readable ELF file.
    """
    with ElfFile(path) as file:
        return list(_locations(file))


def _locations(file: ElfFile) -> Iterator[UsdtLocation]:
    section, base = file.section(".note.stapsdt"), file.section(".stapsdt.base")
    if section is None:
        return
    for owner, kind, description in file.notes(section):
        if owner != b"stapsdt" or kind != _NOTE_TYPE:
            continue
        address, link_base, semaphore = struct.unpack_from("<QQQ", description)
        moved = base.address - link_base if base is not None and link_base else 0
        provider, name, arguments = (
            text.decode("utf-8", "surrogateescape") for text in description[24:].split(b"\0")[:3]
        )
        offset = file.file_offset(address + moved)
        if offset is None:
            continue
        counter = file.file_offset(semaphore + moved) if semaphore else 0
        parsed = tuple(parse_arguments(arguments, file, address + moved))
        yield UsdtLocation(provider, name, offset, counter or 0, parsed)


def parse_arguments(text: str, file: ElfFile | None = None, location: int = 0) -> Iterator[UsdtArgument]:
    """The arguments of a note. What cannot be read (floating point, unknown forms) has neither constant nor
    register.

    `file` and the address `location` of the probe resolve operands relative to `%rip`.
    """
    for argument in _ARGUMENT.finditer(text):
        size = int(argument["size"] or 8)
        if argument["float"]:
            yield UsdtArgument(size)
        else:
            yield _operand(argument["operand"], size, file, location)


def _operand(text: str, size: int, file: ElfFile | None, location: int) -> UsdtArgument:
    unreadable = UsdtArgument(size)
    if text.startswith("$"):
        try:
            return UsdtArgument(size, constant=int(text[1:], 0))
        except ValueError:  # the address of a symbol
            return unreadable
    if text.startswith("%"):
        register = REGISTERS.get(text[1:], "")
        return UsdtArgument(size, register=register) if register else unreadable
    memory = _MEMORY.fullmatch(text)
    if memory is None:
        return unreadable
    offset = int(memory["offset"] or "0", 0)
    if memory["symbol"]:
        # The probe's own address is in `ip`, so a symbol lies at a fixed distance from it, wherever it is
        # loaded.
        address = _address(memory["symbol"], file) if memory["base"] == "%rip" else None
        if address is None:
            return unreadable
        return UsdtArgument(size, register="ip", dereference=True, offset=address + offset - location)
    base, index = ((memory[part] or "%")[1:] for part in ("base", "index"))
    if (base and base not in REGISTERS) or (index and index not in REGISTERS) or base == "rip":
        return unreadable
    return UsdtArgument(
        size,
        register=REGISTERS.get(base, ""),
        dereference=True,
        offset=offset,
        index=REGISTERS.get(index, ""),
        scale=int(memory["scale"] or 1),
    )


def _address(symbol: str, file: ElfFile | None) -> int | None:
    if file is None:
        return None
    found = file.find(symbol, objects=True) or file.find(symbol)
    return found[0].address if found else None
