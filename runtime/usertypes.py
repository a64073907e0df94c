"""Parameters and types of user programs, from the debug information of their files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pytrace.grammar.hints import TYPE_CHECKING
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
from pytrace.runtime.dwarf import (
    COMPOSITES,
    POINTERS,
    QUALIFIERS,
    DwarfFile,
    attribute,
    bounds_of,
    children,
    declaration,
    first_bit,
    name_of,
    offset_of,
    readable,
    shape,
    strip,
    target_of,
    type_text,
)

if TYPE_CHECKING:
    from pytrace.runtime.dwarf import DIE

_SIGNED = (5, 6)  # DW_ATE_signed, DW_ATE_signed_char
_BY_REFERENCE, _IN_CLASS = 4, 1  # DW_CC_pass_by_reference, DW_DEFAULTED_in_class


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
        self._path, self.file = path, file
        self._addresses: dict[str, int] = {}
        for symbol in symbols:
            self._addresses.setdefault(symbol.name, symbol.address)
        self._types: dict[tuple[int, int], Type] = {}
        self._members: dict[tuple[str, str], tuple[Member, ...]] = {}
        self._places: dict[tuple[str, str], DIE] = {}
        self._named: dict[tuple[str, str], DIE | None] = {}

    def find_type(self, name: str, kind: str = "") -> Type | None:
        """See `Host.user_type`."""
        with readable(self._path):
            die = self._find(name, kind)
            return self._type(die) if die is not None else None

    def members(self, kind: Struct) -> tuple[Member, ...]:
        """The members of a struct that came from here; empty if the file only declares it."""
        key = (kind.kind, kind.name)
        if key not in self._members:
            with readable(self._path):
                self._members[key] = tuple(self._flatten(self._places[key], kind.name))
        return self._members[key]

    def enumerators(self, enum: EnumType) -> dict[str, int]:
        """Names and values of an enumeration that came from here."""
        with readable(self._path):
            values = children(self._places["enum", enum.name], "DW_TAG_enumerator")
            return {name_of(value): attribute(value, "DW_AT_const_value") for value in values}

    def prototype(self, symbol: str, address: int | None = None) -> Prototype | None:
        """See `Host.user_prototype`."""
        place = self._addresses.get(symbol, -1) if address is None else address
        with readable(self._path):
            die = self.file.function(place)
            return self._prototype(symbol, die) if die is not None else None

    # ------------------------------------------------------------ types

    def _find(self, name: str, kind: str) -> DIE | None:
        if (name, kind) not in self._named:
            tags = [tag for tag, word in COMPOSITES.items() if word == kind] or ["DW_TAG_typedef"]
            self._named[name, kind] = self.file.find(name, tags)
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
            case tag if tag in POINTERS:
                return Pointer(self._type(target_of(die), hint), Space.USER)
            case "DW_TAG_unspecified_type":  # decltype(nullptr)
                return Pointer(VOID, Space.USER)
            case "DW_TAG_ptr_to_member_type":
                function = strip(target_of(die))
                code = function is not None and function.tag == "DW_TAG_subroutine_type"
                return integer(16 if code else 8, False)
            case "DW_TAG_array_type":
                return self._array(die, hint)
            case tag if tag in COMPOSITES:
                return self._composite(die, COMPOSITES[tag], hint)
            case "DW_TAG_typedef":
                return self._type(target_of(die), name_of(die))
            case tag if tag in QUALIFIERS:
                return self._type(target_of(die), hint)
            case _:  # functions: nothing that has a value
                return VOID

    def _array(self, die: DIE, hint: str) -> Type:
        kind = self._type(target_of(die), hint)
        for count in reversed(bounds_of(die)):
            # reference 5.3: arrays of 8-bit integers are strings; a flexible one has no size for a string
            text = isinstance(kind, Int) and kind.size == 1 and count
            kind = String(count) if text else Array(kind, count)
        return kind

    def _composite(self, die: DIE, word: str, hint: str) -> Type:
        if "DW_AT_declaration" in die.attributes:  # another unit may define it
            die = self._find(name_of(die), word) or die
        name = name_of(die) or hint or f"#{die.offset:x}"
        known = self._places.setdefault((word, name), die)
        if known is not die and shape(known) != shape(die):
            name = f"{name}#{die.offset:x}"
            self._places[word, name] = die
        size = attribute(die, "DW_AT_byte_size") or 0
        if word != "enum":
            return Struct(name, size, word, origin=self._path)
        below = self._type(target_of(die))  # what DWARF 2 does not say
        values = (attribute(value, "DW_AT_const_value") for value in children(die, "DW_TAG_enumerator"))
        signed = below.signed if isinstance(below, Int) else min(values, default=0) < 0
        return EnumType(name, size, signed, self._path)

    def _flatten(self, die: DIE, outer: str, base: int = 0, size: int = 0) -> Iterator[Member]:
        """The members of a struct; those of anonymous members and of C++ base classes at their place."""
        size = size or attribute(die, "DW_AT_byte_size") or 0
        for child in children(die, "DW_TAG_member", "DW_TAG_inheritance"):
            offset, target, name = offset_of(child), target_of(child), name_of(child)
            if offset is None or "DW_AT_external" in child.attributes:  # virtual base, static member
                continue
            inner = strip(target)
            if not name and inner is not None and inner.tag in COMPOSITES:
                yield from self._flatten(inner, outer, base + offset, size)
                continue
            kind, text = self._type(target, f"{outer}.{name}"), declaration(target, name)
            width = attribute(child, "DW_AT_bit_size")
            if width:
                bit = base * 8 + first_bit(child, offset, width, size_of(kind))
                start, bits = place_bits(bit, width, size)
                yield Member(name, kind, start, bits, text=f"{text}:{width}")
            else:
                yield Member(name, kind, base + offset, text=text)

    # ------------------------------------------------------------ functions

    def _prototype(self, name: str, die: DIE) -> Prototype:
        result = target_of(die)
        slot = 1 if self._returned_in_memory(result) else 0  # the first register then says where
        # an optimised function's own entry may lack parameters that its abstract one has
        abstract = "DW_AT_abstract_origin"
        source = die.get_DIE_from_attribute(abstract) if abstract in die.attributes else die
        parameters = []
        for index, child in enumerate(children(source, "DW_TAG_formal_parameter")):
            label, target = name_of(child) or f"arg{index}", target_of(child)
            kind, words = self._passed(target)
            place = 8 * slot if words and all(words) else -1
            parameters.append(Member(label, kind, place, text=declaration(target, label)))
            slot += words.count(True)
        text = type_text(result)
        return Prototype(name, tuple(parameters), self._type(result), text, self._path, slot)

    def _passed(self, die: DIE | None) -> tuple[Type, list[bool]]:
        """The type in which a parameter arrives, and for each 8 bytes of it whether they are in a general
        register (System V AMD64 ABI 3.2.3); nothing for what is passed in memory."""
        kind, inner = self._type(die), strip(die)
        if inner is not None and _by_reference(inner):
            return Pointer(kind, Space.USER), [True]
        size = size_of(kind)
        if size > 16:
            return kind, []
        words, leaves = [False] * -(-size // 8), list(self._leaves(kind))
        if size > 1 and not leaves:  # compilers leave out the members of some unions; size 1: empty in C++
            return kind, [True] * len(words)
        for offset, leaf in leaves:
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
    encoding, size = attribute(die, "DW_AT_encoding"), attribute(die, "DW_AT_byte_size")
    match encoding:
        case 2 if size == 1:  # DW_ATE_boolean
            return BOOL
        case 3:  # DW_ATE_complex_float
            return Array(Opaque("float", size // 2, size // 2), 2)
        case 4:  # DW_ATE_float
            other = re.fullmatch(r".*128|__bf16", name_of(die))
            return Opaque("float", size, size, (name_of(die),) if other else ())
        case _ if name_of(die) == "char":  # see cnames.base_type
            return INT8
        case _ if size in (1, 2, 4, 8, 16):
            return integer(size, encoding in _SIGNED)
        case _:
            return VOID


def _by_reference(die: DIE) -> bool:
    """Whether a value is passed by the address of a copy: a C++ class that is not trivial to copy and destroy
    (Itanium C++ ABI 3.1.2.3)."""
    if die.tag not in COMPOSITES:
        return False
    if (told := attribute(die, "DW_AT_calling_convention")) is not None:
        return bool(told == _BY_REFERENCE)
    own = name_of(die).partition("<")[0]
    for method in children(die, "DW_TAG_subprogram"):
        types = [strip(target_of(p)) for p in children(method, "DW_TAG_formal_parameter")]
        implied = "DW_AT_artificial" in method.attributes or attribute(method, "DW_AT_defaulted") == _IN_CLASS
        # the parameter after `this` is a reference to the class
        copied = strip(target_of(types[1])) if types[1:] and types[1] and types[1].tag in POINTERS else None
        special = name_of(method) == f"~{own}" or (name_of(method) == own and copied == die)
        if "DW_AT_virtuality" in method.attributes or (special and not implied):
            return True
    parts = [p for p in die.iter_children() if p.tag in ("DW_TAG_member", "DW_TAG_inheritance")]
    inner = [_element(p) for p in parts if "DW_AT_external" not in p.attributes]
    virtual = any("DW_AT_virtuality" in p.attributes for p in parts)
    return virtual or any(_by_reference(kind) for kind in inner if kind is not None)


def _element(die: DIE) -> DIE | None:
    """The type of a member; of an array: of its elements."""
    found = strip(target_of(die))
    return _element(found) if found is not None and found.tag == "DW_TAG_array_type" else found
