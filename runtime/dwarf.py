"""Parameters and types of user programs, from the DWARF debug information of their files (versions 2 to 5).

Debug information is many times the size of the program, so it is never decoded as a whole: `.debug_aranges`
leads from an address to the compilation unit that describes it, `.debug_str` from a name to where it is used.
`.dwo` files (-gsplit-dwarf) are not followed.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytrace.grammar.host import HostError, Prototype, Symbol
from pytrace.grammar.types import (
    BOOL,
    INT8,
    VOID,
    Array,
    EnumType,
    Int,
    Member,
    Opaque,
    Pointer,
    Space,
    String,
    Struct,
    Type,
    align_of,
    size_of,
)
from pytrace.runtime.btf import place_bits
from pytrace.runtime.cnames import integer
from pytrace.runtime.elf import ElfFile

if TYPE_CHECKING:
    from elftools.dwarf.die import DIE
    from elftools.dwarf.dwarfinfo import DWARFInfo

_POINTERS = {
    "DW_TAG_pointer_type": "*", "DW_TAG_reference_type": "&", "DW_TAG_rvalue_reference_type": "&&",
}  # fmt: skip
_QUALIFIERS = {
    "DW_TAG_const_type": "const", "DW_TAG_volatile_type": "volatile", "DW_TAG_restrict_type": "restrict",
    "DW_TAG_atomic_type": "_Atomic",
}  # fmt: skip
_COMPOSITES = {
    "DW_TAG_structure_type": "struct", "DW_TAG_class_type": "struct", "DW_TAG_union_type": "union",
    "DW_TAG_enumeration_type": "enum",
}  # fmt: skip
_WORDS = {**_COMPOSITES, "DW_TAG_class_type": "class"}
# where an entry that completes another one says which; the other has what this one lacks
_ORIGINS = ("DW_AT_abstract_origin", "DW_AT_specification")
_ASSEMBLER = 0x8001  # DW_LANG_Mips_Assembler
_SIGNED = (5, 6)  # DW_ATE_signed, DW_ATE_signed_char
_BY_REFERENCE = 4  # DW_CC_pass_by_reference
_PLUS = 0x23  # DW_OP_plus_uconst, with which DWARF 2 writes the offsets of members


@contextmanager
def _readable(path: str) -> Iterator[None]:
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
        if source is None:
            return None
        from elftools.elf.elffile import ELFFile

        with _readable(path), ELFFile.load_from_path(source) as elf:
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
                    if die.tag in tags and _name(die) == name and "DW_AT_declaration" not in die.attributes:
                        return die
        return None

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
            assembly = _value(top, "DW_AT_language") == _ASSEMBLER
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
        base = _value(unit.get_top_DIE(), "DW_AT_low_pc") or 0
        entry: Any
        for entry in lists.get_range_list_at_offset(listed.value, unit):
            if hasattr(entry, "base_address"):
                base = entry.base_address
            else:
                start = 0 if entry.is_absolute else base
                yield start + entry.begin_offset, start + entry.end_offset


# ---------------------------------------------------------------- reading entries


def _value(die: DIE, name: str) -> Any:
    """An attribute of an entry, or of the one that it completes; None if there is none."""
    if name in die.attributes:
        return die.attributes[name].value
    origin = next((word for word in _ORIGINS if word in die.attributes), None)
    return _value(die.get_DIE_from_attribute(origin), name) if origin else None


def _name(die: DIE) -> str:
    value = _value(die, "DW_AT_name")
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else ""


def _target(die: DIE) -> DIE | None:
    """The type of an entry (of a pointer: what it points to, …); None is void."""
    if "DW_AT_type" in die.attributes:
        return die.get_DIE_from_attribute("DW_AT_type")
    origin = next((word for word in _ORIGINS if word in die.attributes), None)
    return _target(die.get_DIE_from_attribute(origin)) if origin else None


def _strip(die: DIE | None) -> DIE | None:
    """A type without qualifiers and typedefs."""
    while die is not None and (die.tag in _QUALIFIERS or die.tag == "DW_TAG_typedef"):
        die = _target(die)
    return die


def _children(die: DIE, *tags: str) -> list[DIE]:
    return [child for child in die.iter_children() if child.tag in tags]


def _bounds(die: DIE) -> list[int]:
    """The number of elements in each dimension of an array; 0 where it is not a constant."""
    counts = []
    for child in _children(die, "DW_TAG_subrange_type"):
        count, last = _value(child, "DW_AT_count"), _value(child, "DW_AT_upper_bound")
        if count is None and isinstance(last, int):
            count = (last + 1) & 0xFFFFFFFF
        counts.append(count if isinstance(count, int) else 0)
    return counts


def _offset(die: DIE) -> int | None:
    """The offset of a member in its struct; None if it has none that is constant (virtual bases)."""
    value = _value(die, "DW_AT_data_member_location") or 0
    if isinstance(value, int):
        return value
    return _uleb(value[1:]) if list(value[:1]) == [_PLUS] else None


def _declaration(die: DIE | None, name: str) -> str:
    """A type with a name, as listings show it: `const char * prompt`, `char comm[16]` (see `btftext`)."""
    bounds = ""
    while die is not None and die.tag == "DW_TAG_array_type":
        bounds += "".join(f"[{count}]" for count in _bounds(die))
        die = _target(die)
    return f"{_spell(die, '').strip()} {name}{bounds}".strip()


def _spell(die: DIE | None, inner: str) -> str:
    """A type around `inner`, which is what C writes between the base type and its brackets."""
    if die is None:
        return f"void {inner}"
    target = _target(die)
    match die.tag:
        case tag if tag in _POINTERS:
            pointer = _POINTERS[tag] + inner
            bracketed = target is not None and target.tag in ("DW_TAG_array_type", "DW_TAG_subroutine_type")
            return _spell(target, f"({pointer})" if bracketed else pointer)
        case tag if tag in _QUALIFIERS:
            if target is not None and target.tag in _POINTERS:
                return _spell(target, f" {_QUALIFIERS[tag]} {inner}".rstrip())
            return f"{_QUALIFIERS[tag]} {_spell(target, inner)}"
        case "DW_TAG_array_type":
            return _spell(target, inner + "".join(f"[{count}]" for count in _bounds(die)))
        case "DW_TAG_subroutine_type":
            parameters = _children(die, "DW_TAG_formal_parameter", "DW_TAG_unspecified_parameters")
            varied = "DW_TAG_unspecified_parameters"
            texts = ["..." if p.tag == varied else _spell(_target(p), "").strip() for p in parameters]
            return _spell(target, f"{inner}({', '.join(texts) or 'void'})")
        case tag if tag in _WORDS:
            return f"{_WORDS[tag]} {_name(die) or '{...}'} {inner}"
        case _:
            return f"{_name(die)} {inner}"


def _shape(die: DIE) -> object:
    """What tells apart two types of one name."""
    parts = _children(die, "DW_TAG_member", "DW_TAG_inheritance", "DW_TAG_enumerator")
    return _value(die, "DW_AT_byte_size"), [
        (_declaration(_target(p), _name(p)), _offset(p), _value(p, "DW_AT_const_value")) for p in parts
    ]


# ---------------------------------------------------------------- types


class UserTypes:
    """What the debug information of one file says of its functions and types.

    The structs and enumerations have the file's path as `origin`. Anonymous ones get the name of the typedef
    or `PARENT.MEMBER` that leads to them; where units have different types of one name, all but the first get
    a number too. Pointers point into user space.

    Raises:
        HostError: the file has no debug information, or (all methods too) it cannot be read.
    """

    def __init__(self, path: str, symbols: Sequence[Symbol]) -> None:
        file = DwarfFile.open(path)
        if file is None:
            raise HostError(f'No DWARF found for "{path}"')
        self._path, self._file = path, file
        self._addresses: dict[str, int] = {}
        for symbol in symbols:
            self._addresses.setdefault(symbol.name, symbol.address)
        self._types: dict[tuple[int, int], Type] = {}
        self._members: dict[tuple[str, str], tuple[Member, ...]] = {}
        self._places: dict[tuple[str, str], DIE] = {}
        self._named: dict[tuple[str, str], DIE | None] = {}

    def find_type(self, name: str, kind: str = "") -> Type | None:
        """See `Host.user_type`."""
        with _readable(self._path):
            die = self._find(name, kind)
            return self._type(die) if die is not None else None

    def members(self, kind: Struct) -> tuple[Member, ...]:
        """The members of a struct that came from here; empty if the file only declares it."""
        key = (kind.kind, kind.name)
        if key not in self._members:
            with _readable(self._path):
                self._members[key] = tuple(self._flatten(self._places[key], kind.name))
        return self._members[key]

    def enumerators(self, enum: EnumType) -> dict[str, int]:
        """Names and values of an enumeration that came from here."""
        with _readable(self._path):
            values = _children(self._places["enum", enum.name], "DW_TAG_enumerator")
            return {_name(value): _value(value, "DW_AT_const_value") for value in values}

    def prototype(self, symbol: str) -> Prototype | None:
        """See `Host.user_prototype`."""
        with _readable(self._path):
            die = self._file.function(self._addresses.get(symbol, -1))
            return self._prototype(symbol, die) if die is not None else None

    # ------------------------------------------------------------ types

    def _find(self, name: str, kind: str) -> DIE | None:
        if (name, kind) not in self._named:
            tags = [tag for tag, word in _COMPOSITES.items() if word == kind] or ["DW_TAG_typedef"]
            self._named[name, kind] = self._file.find(name, tags)
        return self._named[name, kind]

    def _type(self, die: DIE | None, hint: str = "") -> Type:
        """A type; `hint` names it if it is an anonymous struct, union or enumeration."""
        if die is None:
            return VOID
        key = (id(die.stream), die.offset)
        if key not in self._types:
            self._types[key] = self._convert(die, hint)
        return self._types[key]

    def _convert(self, die: DIE, hint: str) -> Type:
        match die.tag:
            case "DW_TAG_base_type":
                return _base(die)
            case tag if tag in _POINTERS:
                return Pointer(self._type(_target(die), hint), Space.USER)
            case "DW_TAG_unspecified_type":  # decltype(nullptr)
                return Pointer(VOID, Space.USER)
            case "DW_TAG_ptr_to_member_type":
                function = _strip(_target(die))
                code = function is not None and function.tag == "DW_TAG_subroutine_type"
                return integer(16 if code else 8, False)
            case "DW_TAG_array_type":
                return self._array(die, hint)
            case tag if tag in _COMPOSITES:
                return self._composite(die, _COMPOSITES[tag], hint)
            case "DW_TAG_typedef":
                return self._type(_target(die), _name(die))
            case tag if tag in _QUALIFIERS:
                return self._type(_target(die), hint)
            case _:  # functions: nothing that has a value
                return VOID

    def _array(self, die: DIE, hint: str) -> Type:
        kind = self._type(_target(die), hint)
        for count in reversed(_bounds(die)):
            # reference 5.3: arrays of 8-bit integers are strings; a flexible one has no size for a string
            text = isinstance(kind, Int) and kind.size == 1 and count
            kind = String(count) if text else Array(kind, count)
        return kind

    def _composite(self, die: DIE, word: str, hint: str) -> Type:
        if "DW_AT_signature" in die.attributes:  # -fdebug-types-section
            die = die.get_DIE_from_attribute("DW_AT_signature")
        if "DW_AT_declaration" in die.attributes:  # another unit may define it
            die = self._find(_name(die), word) or die
        name = _name(die) or hint or f"#{die.offset:x}"
        known = self._places.setdefault((word, name), die)
        if known is not die and _shape(known) != _shape(die):
            name = f"{name}#{die.offset:x}"
            self._places[word, name] = die
        size = _value(die, "DW_AT_byte_size") or 0
        if word != "enum":
            return Struct(name, size, word, origin=self._path)
        below = self._type(_target(die))
        return EnumType(name, size, isinstance(below, Int) and below.signed, self._path)

    def _flatten(self, die: DIE, outer: str, base: int = 0, size: int = 0) -> Iterator[Member]:
        """The members of a struct; those of anonymous members and of C++ base classes at their place."""
        size = size or _value(die, "DW_AT_byte_size") or 0
        for child in _children(die, "DW_TAG_member", "DW_TAG_inheritance"):
            offset, target, name = _offset(child), _target(child), _name(child)
            if offset is None or "DW_AT_external" in child.attributes:  # virtual base, static member
                continue
            inner = _strip(target)
            if not name and inner is not None and inner.tag in _COMPOSITES:
                yield from self._flatten(inner, outer, base + offset, size)
                continue
            kind, text = self._type(target, f"{outer}.{name}"), _declaration(target, name)
            width = _value(child, "DW_AT_bit_size")
            if width:
                bit = base * 8 + _first_bit(child, offset, width, size_of(kind))
                start, bits = place_bits(bit, width, size)
                yield Member(name, kind, start, bits, text=f"{text}:{width}")
            else:
                yield Member(name, kind, base + offset, text=text)

    # ------------------------------------------------------------ functions

    def _prototype(self, name: str, die: DIE) -> Prototype:
        result = _target(die)
        slot = 1 if self._returned_in_memory(result) else 0  # the first register then says where
        # an optimised function's own entry may lack parameters that its abstract one has
        abstract = "DW_AT_abstract_origin"
        source = die.get_DIE_from_attribute(abstract) if abstract in die.attributes else die
        parameters = []
        for index, child in enumerate(_children(source, "DW_TAG_formal_parameter")):
            label, target = _name(child) or f"arg{index}", _target(child)
            kind, words = self._passed(target)
            place = 8 * slot if words and all(words) else -1
            parameters.append(Member(label, kind, place, text=_declaration(target, label)))
            slot += words.count(True)
        text = _spell(result, "").strip()
        return Prototype(name, tuple(parameters), self._type(result), text, self._path, slot)

    def _passed(self, die: DIE | None) -> tuple[Type, list[bool]]:
        """The type in which a parameter arrives, and for each 8 bytes of it whether they are in a general
        register (System V AMD64 ABI 3.2.3); nothing for what is passed in memory."""
        kind, inner = self._type(die), _strip(die)
        if inner is not None and _value(inner, "DW_AT_calling_convention") == _BY_REFERENCE:
            return Pointer(kind, Space.USER), [True]
        size = size_of(kind)
        if size > 16:
            return kind, []
        words = [False] * -(-size // 8)
        for offset, leaf in self._leaves(kind):
            if offset % align_of(leaf) or (size_of(leaf) > 8 and isinstance(kind, Struct)):
                return kind, []  # packed, or of long double
            if not isinstance(leaf, Opaque):
                words[offset // 8] = True
        return kind, words

    def _leaves(self, kind: Type, base: int = 0) -> Iterator[tuple[int, Type]]:
        """Offset and type of the scalars in a value."""
        match kind:
            case Struct():
                for member in self.members(kind):
                    if member.bits is None:
                        yield from self._leaves(member.type, base + member.offset)
                    else:
                        yield base + member.offset + member.bits[0] // 8, INT8
            case Array(element=element, count=count):
                for index in range(count):
                    yield from self._leaves(element, base + index * size_of(element))
            case String(size=size):
                yield from ((base + index, INT8) for index in range(size))
            case _:
                yield base, kind

    def _returned_in_memory(self, die: DIE | None) -> bool:
        if not isinstance(kind := self._type(die), Struct):
            return False
        passed, words = self._passed(die)
        return isinstance(passed, Pointer) or (kind.size > 0 and not words)


def _base(die: DIE) -> Type:
    encoding, size = _value(die, "DW_AT_encoding"), _value(die, "DW_AT_byte_size")
    match encoding:
        case 2 if size == 1:  # DW_ATE_boolean
            return BOOL
        case 3:  # DW_ATE_complex_float
            return Array(Opaque("float", size // 2, size // 2), 2)
        case 4:  # DW_ATE_float
            other = re.fullmatch(r".*128|__bf16", _name(die))
            return Opaque("float", size, size, (_name(die),) if other else ())
        case _ if _name(die) == "char":  # see cnames.base_type
            return INT8
        case _ if size in (1, 2, 4, 8, 16):
            return integer(size, encoding in _SIGNED)
        case _:
            return VOID


def _first_bit(die: DIE, offset: int, width: int, storage: int) -> int:
    """The position of a bit-field in its struct, in bits."""
    if (bit := _value(die, "DW_AT_data_bit_offset")) is not None:
        return int(bit)
    # DWARF 2 and 3 count from the highest bit of the storage
    storage = _value(die, "DW_AT_byte_size") or storage
    return offset * 8 + storage * 8 - width - (_value(die, "DW_AT_bit_offset") or 0)
