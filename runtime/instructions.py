"""Where the instructions of a function start: a breakpoint inside of one would break the program."""

from __future__ import annotations

from pytrace.grammar.host import Symbol
from pytrace.runtime.elf import ElfFile


def starts(file: ElfFile, symbol: Symbol) -> list[int]:
    """The distances from the start of a function (x86-64) to each of its instructions, and to the end of the last.

    Reading ends at the first bytes that are no instruction.
    """
    from capstone import CS_ARCH_X86, CS_MODE_64, Cs  # only now: few programs name an offset

    code = file.bytes_at(symbol.offset, symbol.size)
    found, end = [], 0
    for start, size, _, _ in Cs(CS_ARCH_X86, CS_MODE_64).disasm_lite(code, 0):
        found.append(start)
        end = start + size
    return [*found, end]
