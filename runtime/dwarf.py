"""The entries (DIEs) of debug information in DWARF, versions 2 to 5: finding them, and what single ones say.

Debug information is many times the size of the program, so it is never decoded as a whole: `.debug_aranges`
leads from an address to the compilation unit that describes it, `.debug_str` from a name to where it is used.
`.dwo` files (-gsplit-dwarf) are not followed.
"""

from __future__ import annotations

import io
import re
import struct
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property

from pytrace.grammar.hints import TYPE_CHECKING, Any
from pytrace.grammar.host import HostError
from pytrace.runtime.elf import ElfFile
from pytrace.runtime.zipped import is_member

if TYPE_CHECKING:
    from elftools.dwarf.die import DIE as DIE
    from elftools.dwarf.dwarfinfo import DWARFInfo

POINTERS = {
    "DW_TAG_pointer_type": "*", "DW_TAG_reference_type": "&", "DW_TAG_rvalue_reference_type": "&&",
}  # fmt: skip
QUALIFIERS = {
    "DW_TAG_const_type": "const", "DW_TAG_volatile_type": "volatile", "DW_TAG_restrict_type": "restrict",
    "DW_TAG_atomic_type": "_Atomic",
}  # fmt: skip
COMPOSITES = {
    "DW_TAG_structure_type": "struct", "DW_TAG_class_type": "struct", "DW_TAG_union_type": "union",
    "DW_TAG_enumeration_type": "enum",
}  # fmt: skip
_WORDS = {**COMPOSITES, "DW_TAG_class_type": "class"}
# where an entry that completes another one says which; the other has what this one lacks
_ORIGINS = ("DW_AT_abstract_origin", "DW_AT_specification")
_ASSEMBLER = 0x8001  # DW_LANG_Mips_Assembler
_PLUS = 0x23  # DW_OP_plus_uconst, with which DWARF 2 writes the offsets of members


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Tell of unreadable debug information (broken, or in a form that pyelftools does not know) as
    HostError."""
    from elftools.common.exceptions import DWARFError, ELFError

    try:
        yield
    except (DWARFError, ELFError, NotImplementedError, LookupError, ValueError, AssertionError) as error:
        problem = str(error) or type(error).__name__
        raise HostError(f"{path}: its debug information cannot be read: {problem}") from error


# ---------------------------------------------------------------- finding entries


class DwarfFile:
    """The debugging information entries (DIEs) of one file, found by address or by name."""

    def __init__(self, dwarf: DWARFInfo) -> None:
        self._dwarf = dwarf
        self._functions: dict[int, dict[int, DIE]] = {}

    @classmethod
    def open(cls, path: str) -> DwarfFile | None:
        """The debug information of an ELF file, from itself or its separate debug file; None if there is
        none."""
        with ElfFile(path) as file:
            has = any(file.section(name) for name in (".debug_info", ".zdebug_info"))
            source = path if has else file.debug_file()
            packed = file.data() if has and is_member(path) else None
        if source is None:
            return None
        from elftools.elf.elffile import ELFFile

        stream = ELFFile.load_from_path(source) if packed is None else ELFFile(io.BytesIO(packed))
        with readable(path), stream as elf:
            return cls(elf.get_dwarf_info()) if elf.has_dwarf_info(strict=True) else None

    def function(self, address: int) -> DIE | None:
        """The function whose code starts at an address of the symbol table."""
        unit = self._covering(self._arranged, address)
        if unit is None:
            unit = self._covering(self._unarranged, address)
        return None if unit is None else self._functions_of(unit).get(address)

    def find(self, name: str, tags: Container[object]) -> DIE | None:
        """A type of this name that is defined outside of functions and classes.

        Names that a compilation unit numbers (DW_FORM_strx, clang with DWARF 5) are not found.
        """
        seen = set()
        for place, form in self._uses(name.encode("utf-8", "surrogateescape") + b"\0"):
            unit = self._dwarf.get_CU_containing(place)
            if unit.cu_offset not in seen and self._defines(unit, place, form, tags):
                seen.add(unit.cu_offset)
                for die in _scopes(unit.get_top_DIE()):
                    if die.tag in tags and name_of(die) == name and "DW_AT_declaration" not in die.attributes:
                        return die
        return None

    def units(self) -> Iterator[Any]:
        """The compilation units."""
        yield from self._dwarf.iter_CUs()

    def line_program(self, unit: Any) -> Any:
        """The line number program of a unit; None if it has none."""
        return self._dwarf.line_program_for_CU(unit)

    def blocks(self, unit: Any, tags: Container[object]) -> Iterator[tuple[int, int, int]]:
        """Start and end of the code of each entry of a unit that has one of the tags, and a number for the entry."""
        for die in unit.iter_DIEs():
            if die.tag in tags:
                yield from ((low, high, die.offset) for low, high in _ranges(die))

    # ------------------------------------------------------------ by address

    def _covering(self, table: list[tuple[int, int, int]], address: int) -> int | None:
        index = bisect_right(table, (address, 1 << 64, 0)) - 1
        return table[index][2] if index >= 0 and address < table[index][1] else None

    @cached_property
    def _sets(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """The units that `.debug_aranges` lists, each with (start, size) of its code (DWARF 5, 6.1.2)."""
        data, at, found = _contents(self._dwarf.debug_aranges_sec), 0, []
        while at + 16 <= len(data):
            length, _, unit = struct.unpack_from("<IHI", data, at)
            pairs = data[at + 16 : at + 4 + length]  # the header of 12 bytes is padded to 16
            found.append((unit, list(struct.iter_unpack("<QQ", pairs[: len(pairs) & ~15]))))
            at += 4 + length
        return found

    @cached_property
    def _arranged(self) -> list[tuple[int, int, int]]:
        return sorted((low, low + size, unit) for unit, pairs in self._sets for low, size in pairs if size)

    @cached_property
    def _unarranged(self) -> list[tuple[int, int, int]]:
        """The code of the units that have to be asked themselves: clang writes no `.debug_aranges`."""
        arranged = {unit for unit, _ in self._sets}
        others = (unit for unit in self._dwarf.iter_CUs() if unit.cu_offset not in arranged)
        return sorted((low, high, u.cu_offset) for u in others for low, high in _ranges(u.get_top_DIE()))

    def _functions_of(self, offset: int) -> dict[int, DIE]:
        """The functions of a unit by the address at which they (or their cold parts) start."""
        if offset not in self._functions:
            top = self._dwarf.get_CU_at(offset).get_top_DIE()
            assembly = attribute(top, "DW_AT_language") == _ASSEMBLER
            dies = [] if assembly else [d for d in _scopes(top) if d.tag == "DW_TAG_subprogram"]
            self._functions[offset] = {low: die for die in dies for low, _ in _ranges(die)}
        return self._functions[offset]

    # ------------------------------------------------------------ by name

    def _uses(self, word: bytes) -> Iterator[tuple[int, str]]:
        """Where `.debug_info` may have a name, and in which form."""
        info, strings = _contents(self._dwarf.debug_info_sec), _contents(self._dwarf.debug_str_sec)
        yield from ((found.start(), "DW_FORM_string") for found in re.finditer(re.escape(word), info))
        at = strings.find(b"\0" + word) + 1
        # linkers let a name be the tail of a longer one
        starts = [at] if at else [found.start() for found in re.finditer(re.escape(word), strings)]
        for start in starts:
            reference = re.escape(struct.pack("<I", start))
            yield from ((found.start(), "DW_FORM_strp") for found in re.finditer(reference, info))

    def _defines(self, unit: Any, place: int, form: str, tags: Container[object]) -> bool:
        """Whether the bytes in front of a name may be the start of a definition: the code of an
        abbreviation."""
        info, table = _contents(self._dwarf.debug_info_sec), unit.get_abbrev_table()
        for size in (1, 2, 3):
            code = _uleb(info[place - size : place])
            try:
                abbreviation = table.get_abbrev(code)
            except KeyError:
                continue
            specs = list(abbreviation.iter_attr_specs())
            declared = any(name == "DW_AT_declaration" for name, _ in specs)
            if abbreviation["tag"] in tags and specs[:1] == [("DW_AT_name", form)] and not declared:
                return True
        return False


def _contents(section: Any) -> bytes:
    return section.stream.getvalue() if section is not None else b""


def _uleb(data: Iterable[int]) -> int:
    return sum((byte & 127) << (7 * index) for index, byte in enumerate(data))


def _scopes(die: DIE) -> Iterator[DIE]:
    """What an entry and the namespaces in it hold."""
    for child in die.iter_children():
        yield child
        if child.tag == "DW_TAG_namespace":
            yield from _scopes(child)


def _ranges(die: DIE) -> Iterator[tuple[int, int]]:
    """Start and end of the code of an entry."""
    low, high, listed = (die.attributes.get(f"DW_AT_{word}") for word in ("low_pc", "high_pc", "ranges"))
    if low and high:
        yield low.value, high.value if high.form.startswith("DW_FORM_addr") else low.value + high.value
    elif listed and (lists := die.dwarfinfo.range_lists()) is not None:
        unit: Any = die.cu
        base = attribute(unit.get_top_DIE(), "DW_AT_low_pc") or 0
        entry: Any
        for entry in lists.get_range_list_at_offset(listed.value, unit):
            if hasattr(entry, "base_address"):
                base = entry.base_address
            else:
                start = 0 if entry.is_absolute else base
                yield start + entry.begin_offset, start + entry.end_offset


# ---------------------------------------------------------------- reading entries


def attribute(die: DIE, name: str) -> Any:
    """An attribute of an entry, or of the one that it completes; None if there is none."""
    if name in die.attributes:
        return die.attributes[name].value
    origin = next((word for word in _ORIGINS if word in die.attributes), None)
    return attribute(die.get_DIE_from_attribute(origin), name) if origin else None


def name_of(die: DIE) -> str:
    """The name of an entry; empty if it has none."""
    value = attribute(die, "DW_AT_name")
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else ""


def target_of(die: DIE) -> DIE | None:
    """The type of an entry (of a pointer: what it points to, …); None is void."""
    if "DW_AT_type" in die.attributes:
        found = die.get_DIE_from_attribute("DW_AT_type")
        shared = "DW_AT_signature"  # -fdebug-types-section
        return found.get_DIE_from_attribute(shared) if shared in found.attributes else found
    origin = next((word for word in _ORIGINS if word in die.attributes), None)
    return target_of(die.get_DIE_from_attribute(origin)) if origin else None


def strip(die: DIE | None) -> DIE | None:
    """A type without qualifiers and typedefs."""
    while die is not None and (die.tag in QUALIFIERS or die.tag == "DW_TAG_typedef"):
        die = target_of(die)
    return die


def children(die: DIE, *tags: str) -> list[DIE]:
    """The direct parts of an entry that are of some kinds."""
    return [child for child in die.iter_children() if child.tag in tags]


def bounds_of(die: DIE) -> list[int]:
    """The number of elements in each dimension of an array; 0 where it is not a constant."""
    counts = []
    for child in children(die, "DW_TAG_subrange_type"):
        count, last = attribute(child, "DW_AT_count"), attribute(child, "DW_AT_upper_bound")
        if count is None and isinstance(last, int):
            count = (last + 1) & 0xFFFFFFFF
        counts.append(count if isinstance(count, int) else 0)
    return counts


def offset_of(die: DIE) -> int | None:
    """The offset of a member in its struct; None if it has none that is constant (virtual bases)."""
    value = attribute(die, "DW_AT_data_member_location") or 0
    if isinstance(value, int):
        return value
    return _uleb(value[1:]) if list(value[:1]) == [_PLUS] else None


def first_bit(die: DIE, offset: int, width: int, storage: int) -> int:
    """The position of a bit-field in its struct, in bits."""
    if (bit := attribute(die, "DW_AT_data_bit_offset")) is not None:
        return int(bit)
    # DWARF 2 and 3 count from the highest bit of the storage
    storage = attribute(die, "DW_AT_byte_size") or storage
    return offset * 8 + storage * 8 - width - (attribute(die, "DW_AT_bit_offset") or 0)


def type_text(die: DIE | None) -> str:
    """A type as C writes it without a name: `const char *`."""
    return _spell(die, "").strip()


def declaration(die: DIE | None, name: str) -> str:
    """A type with a name, as listings show it: `const char * prompt`, `char comm[16]` (see `btftext`)."""
    bounds = ""
    while die is not None and die.tag == "DW_TAG_array_type":
        bounds += "".join(f"[{count}]" for count in bounds_of(die))
        die = target_of(die)
    return f"{type_text(die)} {name}{bounds}".strip()


def _spell(die: DIE | None, inner: str) -> str:
    """A type around `inner`, which is what C writes between the base type and its brackets."""
    if die is None:
        return f"void {inner}"
    target = target_of(die)
    match die.tag:
        case tag if tag in POINTERS:
            pointer = POINTERS[tag] + inner
            bracketed = target is not None and target.tag in ("DW_TAG_array_type", "DW_TAG_subroutine_type")
            return _spell(target, f"({pointer})" if bracketed else pointer)
        case tag if tag in QUALIFIERS:
            if target is not None and target.tag in POINTERS:
                return _spell(target, f" {QUALIFIERS[tag]} {inner}".rstrip())
            return f"{QUALIFIERS[tag]} {_spell(target, inner)}"
        case "DW_TAG_array_type":
            return _spell(target, inner + "".join(f"[{count}]" for count in bounds_of(die)))
        case "DW_TAG_subroutine_type":
            parameters = children(die, "DW_TAG_formal_parameter", "DW_TAG_unspecified_parameters")
            varied = "DW_TAG_unspecified_parameters"
            texts = ["..." if p.tag == varied else type_text(target_of(p)) for p in parameters]
            return _spell(target, f"{inner}({', '.join(texts) or 'void'})")
        case tag if tag in _WORDS:
            return f"{_WORDS[tag]} {name_of(die) or '{...}'} {inner}"
        case _:
            return f"{name_of(die)} {inner}"


def shape(die: DIE) -> object:
    """What tells apart two types of one name."""
    return attribute(die, "DW_AT_byte_size"), [
        (declaration(target_of(part), name_of(part)), offset_of(part), attribute(part, "DW_AT_const_value"))
        for part in children(die, "DW_TAG_member", "DW_TAG_inheritance", "DW_TAG_enumerator")
    ]
