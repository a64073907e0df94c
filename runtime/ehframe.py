"""How to get from a function's frame to its caller's: `.eh_frame` of a file as a sorted table of small rows.

A row is a 64-bit word: the upper half is a place in the file (its address minus the lowest address of the file's
segments), the lower half the rule that holds from there to the next row. Sorted as numbers, rows are sorted by place.
The rule (see `rule`) says where the caller's frame is; the registers that matter for that on x86-64 are rsp, rbp and
the return address. Rows whose rules are the same are joined, so most of what is said of a function takes no row.

Formats: DWARF 5, section 6.4; Linux Standard Base 5.0, "Exception Frames"; System V AMD64 ABI, figure 3.36 (numbers
of registers).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum

from pytrace.grammar.data import dataclass
from pytrace.runtime.elf import ElfFile

RBP, RSP, RETURN_ADDRESS = 6, 7, 16

_DEREFERENCE = 0x06  # DW_OP_deref
_BASE = 0x70  # DW_OP_breg0
# What the linker writes for the procedure linkage table, whose entries are 16 bytes long and push a word
# 11 bytes in: rsp + 8 + ((rip & 15) >= 11) * 8
_PLT = bytes((0x77, 8, 0x80, 0, 0x3F, 0x1A, 0x3B, 0x2A, 0x33, 0x24, 0x22))

# Where the kernel keeps the interrupted registers, from rsp in the function that returns from a signal handler
# (arch/x86/include/uapi/asm/sigcontext.h, struct sigcontext_64 in struct ucontext).
SIGNAL_RBP, SIGNAL_RSP, SIGNAL_RIP = 120, 160, 168


class Kind(IntEnum):
    """The kinds of rule: where the canonical frame address (the caller's rsp) is."""

    NONE = 0  # there is no code here, or what the file says cannot be followed
    RSP = 1  # at rsp + offset
    RBP = 2  # at rbp + offset
    PLT = 3  # see _PLT
    SIGNAL = 4  # the registers at the time of the signal are in memory above rsp
    END = 5  # nobody has called this function
    AT_RBP = 6  # in memory at rbp + offset, as in functions that align their frame


# The rule as a number. Upper half: the offset in words of 8 bytes. Lower half: where rbp is saved, in bytes from the
# frame address (of AT_RBP: from rbp), 0 if rbp still has its value; the lowest 3 bits of that are the kind.
WORD = 8
HALF = 0x8000
RBP_LOST = -HALF  # its value cannot be restored

Rule = int
_NO_RULE = int(Kind.NONE)


def rule(kind: Kind, offset: int = 0, rbp: int = 0) -> Rule:
    """A rule as a number; offsets are bytes. What cannot be said in a rule is `Kind.NONE`."""
    words = offset // WORD
    fits = -HALF <= words < HALF and -HALF <= rbp < HALF
    if offset % WORD or rbp % WORD or not fits:
        return _NO_RULE
    return (words & 0xFFFF) << 16 | rbp & 0xFFF8 | kind


def rule_parts(number: Rule) -> tuple[Kind, int, int]:
    """Kind, offset, and offset of rbp: what `rule` was made of."""
    words, rbp = number >> 16, number & 0xFFF8
    return Kind(number & 7), (words - (words & HALF) * 2) * WORD, rbp - (rbp & HALF) * 2


# ---------------------------------------------------------------- the state that instructions change

# registers of a `_State` that are none
_IS_PLT, _IN_MEMORY_RSP, _IN_MEMORY_RBP, _UNKNOWN = -1, -2, -3, -4
# where the return address of a `_State` is
_BELOW_FRAME, _NOWHERE, _IN_SIGNAL_FRAME, _ELSEWHERE = range(4)
_SIGNAL_STATE = (_IN_MEMORY_RSP, SIGNAL_RSP, SIGNAL_RBP, True, _IN_SIGNAL_FRAME)

# register and offset of the frame address; offset of rbp and whether it counts from the register; return address
_State = tuple[int, int, int, bool, int]
_START: _State = (_UNKNOWN, 0, 0, False, _ELSEWHERE)
_KINDS = {RSP: Kind.RSP, RBP: Kind.RBP, _IS_PLT: Kind.PLT, _IN_MEMORY_RBP: Kind.AT_RBP}


def _rule_of(state: _State) -> Rule:
    register, offset, rbp, from_register, returns = state
    if returns == _NOWHERE:
        return rule(Kind.END)
    if state == _SIGNAL_STATE:
        return rule(Kind.SIGNAL)
    kind = _KINDS.get(register)
    if returns != _BELOW_FRAME or kind is None:
        return _NO_RULE
    if from_register != (kind is Kind.AT_RBP):
        return _NO_RULE
    return rule(kind, offset, rbp)


@dataclass(frozen=True, slots=True)
class _Common:
    """What a CIE says: factors, how its FDEs write addresses, and the state at the start of a function."""

    code_factor: int
    data_factor: int
    encoding: int
    augmented: bool
    state: _State


class FrameError(Exception):
    """A part of the section says something that the formats do not have, or that is not known here."""


def rows_of(file: ElfFile) -> list[int]:
    """The rows of a file, sorted; empty if it has no unwind information. Functions whose part of it is damaged have no
    rule."""
    low = min((segment.address for segment in file.segments), default=0)
    for name in (".eh_frame", ".debug_frame"):
        section = file.section(name)
        data = file.contents(section) if section is not None else b""
        if section is not None and data:
            return Frames(_inflated(data), section.address, name == ".eh_frame").rows(low)
    return []


def _inflated(data: bytes) -> bytes:
    """The section's bytes; a compressed one (struct Elf64_Chdr) starts with what is no length of an entry."""
    if len(data) > 24 and struct.unpack_from("<II", data) == (1, 0):  # ELFCOMPRESS_ZLIB
        try:
            return zlib.decompress(data[24:])
        except zlib.error:
            return b""
    return data


class Frames:
    """A section of call frame information. `exceptions` says that it is `.eh_frame`, not `.debug_frame`."""

    def __init__(self, data: bytes, address: int, exceptions: bool = True) -> None:
        self._data = data
        self._address = address
        self._exceptions = exceptions
        self._commons: dict[int, _Common] = {}
        self._rules: dict[_State, Rule] = {}
        # compilers write the same instructions for many functions
        self._programs: dict[tuple[int, bytes], list[tuple[int, Rule]]] = {}

    def rows(self, low: int) -> list[int]:
        """All rows, places counted from `low`."""
        found: list[int] = []
        for at, end, common_at in self._entries():
            with suppress(FrameError, IndexError, ValueError):  # damaged
                found += self._function(at, end, common_at, low)
        found.sort()
        return _joined(found)

    def _function(self, at: int, end: int, common_at: int, low: int) -> list[int]:
        """The rows of one function, and that behind it."""
        common = self._common(common_at)
        start, at = self._pointer(at, common.encoding)
        length, at = self._pointer(at, common.encoding & 0x0F)
        if not length or not low <= start < start + length <= low + 0xFFFFFFFF:
            return []  # the linker has thrown it out
        if common.augmented:
            size, at = self._unsigned(at)
            at += size
        base = start - low
        program = self._program(common_at, common, self._data[at:end], start)
        rows = [base + distance << 32 | number for distance, number in program if distance < length]
        return [*rows, base + length << 32 | _NO_RULE]

    def _entries(self) -> Iterator[tuple[int, int, int]]:
        """Each FDE: where its fields start and end, and where its CIE is."""
        data, at = self._data, 0
        while at + 4 <= len(data):
            length = int.from_bytes(data[at : at + 4], "little")
            wide = length == 0xFFFFFFFF
            if wide:
                length = int.from_bytes(data[at + 4 : at + 12], "little")
            start = at + (12 if wide else 4)
            at = start + length
            if not length:
                continue  # the end of what one object file had
            size = 8 if wide and not self._exceptions else 4
            number = int.from_bytes(data[start : start + size], "little")
            if number == (0 if self._exceptions else (1 << 8 * size) - 1):
                continue  # a CIE
            yield start + size, at, start - number if self._exceptions else number

    def _common(self, at: int) -> _Common:
        """The CIE that starts there (in `.eh_frame`; in `.debug_frame` too)."""
        if at not in self._commons:
            self._commons[at] = self._read_common(at)
        return self._commons[at]

    def _read_common(self, at: int) -> _Common:
        data, place = self._data, at
        length = int.from_bytes(data[at : at + 4], "little")
        at += 4
        wide = length == 0xFFFFFFFF
        if wide:
            length = int.from_bytes(data[at : at + 8], "little")
            at += 8
        end = at + length
        at += 8 if wide and not self._exceptions else 4
        version = data[at]
        text_end = data.index(0, at + 1)
        augmentation = data[at + 1 : text_end].decode("latin-1")
        at = text_end + 1
        if version >= 4:
            at += 2  # sizes of an address and of a segment selector
        code_factor, at = self._unsigned(at)
        data_factor, at = self._signed(at)
        returns, at = (data[at], at + 1) if version == 1 else self._unsigned(at)
        encoding, augmented = 0, augmentation.startswith("z")
        if augmented:
            size, at = self._unsigned(at)
            encoding = self._encoding(augmentation[1:], at)
            at += size
        elif augmentation:
            raise FrameError(f"unknown augmentation {augmentation!r}")
        if returns != RETURN_ADDRESS:
            raise FrameError(f"the return address is in register {returns}")
        common = _Common(code_factor, data_factor, encoding, augmented, _START)
        *_, state = self._states(common, data[at:end], self._address + place)
        return _Common(code_factor, data_factor, encoding, augmented, state[1])

    def _encoding(self, letters: str, at: int) -> int:
        """How the FDEs of a CIE write addresses, out of its augmentation data."""
        for letter in letters:
            if letter == "R":
                return self._data[at]
            if letter == "P":
                _, at = self._pointer(at + 1, self._data[at] & 0x7F)
            elif letter == "L":
                at += 1
        return 0

    # ------------------------------------------------------------ instructions

    def _program(self, common_at: int, common: _Common, code: bytes, start: int) -> list[tuple[int, Rule]]:
        """Distances from the function's start, and the rules from there on."""
        key = (common_at, code)
        found = self._programs.get(key)
        if found is None:
            found = []
            for place, state in self._states(common, code, start):
                number = self._rules.get(state)
                if number is None:
                    number = self._rules[state] = _rule_of(state)
                if not found or found[-1][1] != number:
                    found.append((place, number))
            if b"\x01" not in code:  # DW_CFA_set_loc has the function's own address
                self._programs[key] = found
        return found

    def _states(self, common: _Common, code: bytes, start: int) -> Iterator[tuple[int, _State]]:
        """Run instructions: each distance from the start of the function, and the state from there on."""
        register, offset, rbp, from_register, returns = common.state
        place, at, end = 0, 0, len(code)
        factor, step = common.data_factor, common.code_factor
        kept: list[_State] = []
        while at < end:
            op = code[at]
            at += 1
            if op >= 0xC0:  # DW_CFA_restore
                if op == 0xC0 | RBP:
                    rbp, from_register = common.state[2:4]
                elif op == 0xC0 | RETURN_ADDRESS:
                    returns = common.state[4]
            elif op >= 0x80:  # DW_CFA_offset
                value, at = _unsigned(code, at)
                if op == 0x80 | RBP:
                    rbp, from_register = value * factor, False
                elif op == 0x80 | RETURN_ADDRESS:
                    returns = _BELOW_FRAME if value * factor == -WORD else _ELSEWHERE
            elif op >= 0x40:  # DW_CFA_advance_loc
                yield place, (register, offset, rbp, from_register, returns)
                place += (op & 0x3F) * step
            elif op == 0x0E:  # DW_CFA_def_cfa_offset
                offset, at = _unsigned(code, at)
            elif op in (2, 3, 4):  # DW_CFA_advance_loc1, 2, 4
                yield place, (register, offset, rbp, from_register, returns)
                size = 1 << op - 2
                place += int.from_bytes(code[at : at + size], "little") * step
                at += size
            elif op == 0x0A:  # DW_CFA_remember_state
                kept.append((register, offset, rbp, from_register, returns))
            elif op == 0x0B:  # DW_CFA_restore_state
                if not kept:
                    raise FrameError("a state is restored that was not kept")
                register, offset, rbp, from_register, returns = kept.pop()
            elif op == 0x0C:  # DW_CFA_def_cfa
                register, at = _unsigned(code, at)
                offset, at = _unsigned(code, at)
            elif op == 0x0D:  # DW_CFA_def_cfa_register
                register, at = _unsigned(code, at)
            elif op == 0x01:  # DW_CFA_set_loc
                yield place, (register, offset, rbp, from_register, returns)
                raise FrameError("DW_CFA_set_loc is not supported")
            elif op:
                at, (register, offset, rbp, from_register, returns) = _rare(
                    op, code, at, factor, (register, offset, rbp, from_register, returns), common.state
                )
        yield place, (register, offset, rbp, from_register, returns)

    # ------------------------------------------------------------ numbers

    def _unsigned(self, at: int) -> tuple[int, int]:
        return _unsigned(self._data, at)

    def _signed(self, at: int) -> tuple[int, int]:
        return _signed(self._data, at)

    def _pointer(self, at: int, encoding: int) -> tuple[int, int]:
        """An encoded address (DW_EH_PE_…), and where the next field starts."""
        place = self._address + at
        form = encoding & 0x0F
        if form in _FORMS:
            size, signed = _FORMS[form]
            raw = self._data[at : at + size]
            if len(raw) < size:
                raise IndexError(at)
            value, at = int.from_bytes(raw, "little", signed=signed), at + size
        elif form in (1, 9):
            value, at = (self._unsigned if form == 1 else self._signed)(at)
        else:
            raise FrameError(f"unknown pointer encoding {encoding:#x}")
        base = encoding & 0x70
        if base == 0x10:  # DW_EH_PE_pcrel
            value += place
        elif base:
            raise FrameError(f"unknown pointer encoding {encoding:#x}")
        return value & 0xFFFFFFFFFFFFFFFF, at


_FORMS = {
    0: (8, False), 2: (2, False), 3: (4, False), 4: (8, False), 10: (2, True), 11: (4, True), 12: (8, True),
}  # fmt: skip


def _rare(op: int, code: bytes, at: int, factor: int, state: _State, initial: _State) -> tuple[int, _State]:
    """The instructions that few functions have; where the next one starts, and the new state."""
    register, offset, rbp, from_register, returns = state
    if op == 0x0F:  # DW_CFA_def_cfa_expression
        block, at = _block(code, at)
        return at, (*_frame_expression(block), rbp, from_register, returns)
    if op in (0x12, 0x13):  # DW_CFA_def_cfa_sf, def_cfa_offset_sf
        if op == 0x12:
            register, at = _unsigned(code, at)
        value, at = _signed(code, at)
        return at, (register, value * factor, rbp, from_register, returns)
    if op == 0x2E:  # DW_CFA_GNU_args_size
        _, at = _unsigned(code, at)
        return at, state
    if op not in _REGISTER_RULES:
        raise FrameError(f"unknown instruction {op:#x}")
    number, at = _unsigned(code, at)
    saved, block = 0, b""
    match op:
        case 0x05 | 0x14 | 0x09 | 0x2F:  # DW_CFA_offset_extended, val_offset, register, GNU_negative_offset_extended
            saved, at = _unsigned(code, at)
        case 0x11 | 0x15:  # DW_CFA_offset_extended_sf, val_offset_sf
            saved, at = _signed(code, at)
        case 0x10 | 0x16:  # DW_CFA_expression, val_expression
            block, at = _block(code, at)
        case _:
            pass
    place = saved * (-factor if op == 0x2F else factor)
    if number == RBP:
        return at, (register, offset, *_saved_rbp(op, place, block, state, initial), returns)
    if number == RETURN_ADDRESS:
        return at, (register, offset, rbp, from_register, _saved_return(op, place, block, initial))
    return at, state


_REGISTER_RULES = frozenset((0x05, 0x06, 0x07, 0x08, 0x09, 0x10, 0x11, 0x14, 0x15, 0x16, 0x2F))


def _saved_rbp(op: int, place: int, block: bytes, state: _State, initial: _State) -> tuple[int, bool]:
    match op:
        case 0x05 | 0x11 | 0x2F:
            return place, False
        case 0x06:  # DW_CFA_restore_extended
            return initial[2], initial[3]
        case 0x08:  # DW_CFA_same_value
            return 0, False
        case 0x10:
            base, value = _base_plus(block)
            # from rsp only in a signal frame, where the frame address is said to be in memory above rsp as well
            wanted = RSP if state[0] == _IN_MEMORY_RSP else RBP
            return (value, True) if base == wanted else (RBP_LOST, False)
        case _:  # DW_CFA_undefined, or kept in another register
            return RBP_LOST, False


def _saved_return(op: int, place: int, block: bytes, initial: _State) -> int:
    match op:
        case 0x05 | 0x11 | 0x2F if place == -WORD:
            return _BELOW_FRAME
        case 0x06:  # DW_CFA_restore_extended
            return initial[4]
        case 0x07:  # DW_CFA_undefined
            return _NOWHERE
        case 0x10 if _base_plus(block) == (RSP, SIGNAL_RIP):
            return _IN_SIGNAL_FRAME
        case _:
            return _ELSEWHERE


def _frame_expression(block: bytes) -> tuple[int, int]:
    """Register and offset that stand for an expression of the frame address."""
    if block == _PLT:
        return _IS_PLT, 0
    if block and block[-1] == _DEREFERENCE:
        base, value = _base_plus(block[:-1])
        if base in (RSP, RBP):
            return (_IN_MEMORY_RSP if base == RSP else _IN_MEMORY_RBP), value
    return _UNKNOWN, 0


def _base_plus(block: bytes) -> tuple[int, int]:
    """Register and offset of the expression `DW_OP_bregN offset`; register -1 if it is another."""
    if not block or not _BASE <= block[0] < _BASE + 32:
        return -1, 0
    value, at = _signed(block, 1)
    return (block[0] - _BASE, value) if at == len(block) else (-1, 0)


def _block(code: bytes, at: int) -> tuple[bytes, int]:
    size, at = _unsigned(code, at)
    return code[at : at + size], at + size


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    """A ULEB128 number, and where the next field starts."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = 0, 0
    while byte >= 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        byte = data[at]
    return value | byte << shift, at + 1


def _signed(data: bytes, at: int) -> tuple[int, int]:
    """A SLEB128 number, and where the next field starts."""
    value, end = _unsigned(data, at)
    bits = 7 * (end - at)
    return value - (1 << bits) if value >> bits - 1 & 1 else value, end


def _joined(rows: list[int]) -> list[int]:
    """Sorted rows without those that say nothing new. Of two at one place the second counts: the end of one
    function (a row without rule) comes before the start of the next."""
    kept: list[int] = []
    for row in rows:
        if kept and kept[-1] >> 32 == row >> 32:
            kept.pop()
        if not kept or (kept[-1] ^ row) & 0xFFFFFFFF:
            kept.append(row)
    return kept
