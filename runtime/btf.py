"""Kernel types, function prototypes and raw tracepoints from BTF. Nothing is loaded before it is asked
for."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from functools import cached_property

from pytrace.grammar.hints import TYPE_CHECKING
from pytrace.grammar.host import HostError, PercpuVariable, Prototype
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
    round_up,
    size_of,
)
from pytrace.runtime.btffile import BtfFile, Kind, Record
from pytrace.runtime.btftext import declaration, type_text
from pytrace.runtime.cnames import base_type, integer

if TYPE_CHECKING:
    from pytrace.runtime.btfdump import Definitions

_MODULES = "/sys/kernel/btf"
MODIFIERS = frozenset({Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG, Kind.DECL_TAG})
_COMPOSITE = {"struct": (Kind.STRUCT,), "union": (Kind.UNION,), "enum": (Kind.ENUM, Kind.ENUM64)}
_TRACEPOINT = "btf_trace_"
_ITERATOR = "bpf_iter__"
_HARMLESS_TAGS = frozenset({"rcu", "user"})
_NO_BTF = "There is no BTF, from which types are listed: use a kernel with CONFIG_DEBUG_INFO_BTF, or set BPFTRACE_BTF"
_PERCPU = ".data..percpu"


class KernelTypes:
    """The `TypeSource` over BTF, and what BTF says of functions.

    `path` (`BPFTRACE_BTF`) replaces the kernel's own BTF. `warnings` collects what users should hear.
    Anonymous structs get the name of the typedef or `PARENT.MEMBER` that leads to them.
    """

    def __init__(self, path: str = "") -> None:
        self.warnings: list[str] = []
        self._path = path
        self._modules: dict[str, BtfFile | None] = {}
        self._types: dict[tuple[str, int], Type] = {}
        self._members: dict[Struct, tuple[Member, ...]] = {}
        self._places: dict[tuple[str, str], tuple[BtfFile, int]] = {}
        self._definitions: dict[str, Definitions] = {}

    # ------------------------------------------------------------ files

    @cached_property
    def kernel(self) -> BtfFile | None:
        """The kernel image's BTF."""
        if not self._path:
            return BtfFile.kernel()
        found = BtfFile.parse(self._path)
        if found is None:
            self.warnings.append(f"BTF: failed to parse BTF from {self._path}")
        return found

    def module(self, name: str) -> BtfFile | None:
        """The BTF of `vmlinux` or of a loaded module; from then on its types are found too."""
        if name in ("", "vmlinux") or self.kernel is None:
            return self.kernel
        if name not in self._modules:
            exists = "/" not in name and os.path.exists(f"{_MODULES}/{name}")
            self._modules[name] = BtfFile.of_module(name, self.kernel) if exists else None
        return self._modules[name]

    def module_names(self) -> list[str]:
        """Every loaded module that has BTF, sorted."""
        try:
            return sorted(set(os.listdir(_MODULES)) - {"vmlinux"})
        except OSError:
            return []

    def _loaded(self) -> Iterator[BtfFile]:
        yield from (file for file in (self.kernel, *self._modules.values()) if file is not None)

    def _all(self) -> Iterator[BtfFile]:
        for name in ("vmlinux", *self.module_names()):
            if (file := self.module(name)) is not None:
                yield file

    def _find(self, files: Iterable[BtfFile], name: str, *kinds: Kind) -> tuple[BtfFile, int] | None:
        for file in files:
            for kind in kinds:
                if number := file.find(name, kind):
                    return file, number
        return None

    # ------------------------------------------------------------ TypeSource

    def find_type(self, name: str, kind: str = "") -> Type | None:
        """A type by C name; modules are searched if something asked for them before."""
        if not kind and (base := base_type(name)) is not None:
            return base
        kinds = _COMPOSITE[kind] if kind else (Kind.TYPEDEF, Kind.INT)
        place = self._find(self._loaded(), name, *kinds)
        return self.type_at(*place) if place else None

    def members(self, struct: Struct) -> tuple[Member, ...]:
        """The members of a kernel struct; empty if it is unknown or incomplete."""
        key = Struct(struct.name, struct.size, struct.kind)
        if key not in self._members:
            place = self._place(struct.kind, struct.name)
            self._members[key] = tuple(self._flatten(*place, struct.name)) if place else ()
        return self._members[key]

    def enumerators(self, enum: EnumType) -> dict[str, int]:
        """Names and values of a kernel enumeration; empty if it is unknown."""
        place = self._place("enum", enum.name)
        if place is None:
            return {}
        file, number = place
        return dict(_enumerators(file, file.record(number)))

    def enumerator(self, name: str) -> tuple[EnumType, int] | None:
        """What a bare enumerator name stands for. The first name that means anything costs a walk of 20 ms."""
        for file in self._loaded():
            if number := file.enumeration_with(name):
                kind = self.type_at(file, number)
                assert isinstance(kind, EnumType)
                value = dict(_enumerators(file, file.record(number)))[name]
                return EnumType(kind.name, 8, kind.signed), value
        return None

    def number(self, kind: Struct | EnumType) -> int:
        """The number of a struct, union or enumeration; 0 if it is unknown."""
        place = self._place(kind.kind if isinstance(kind, Struct) else "enum", kind.name)
        return place[1] if place else 0

    def _place(self, kind: str, name: str) -> tuple[BtfFile, int] | None:
        return self._places.get((kind, name)) or self._find(self._loaded(), name, *_COMPOSITE.get(kind, ()))

    # ------------------------------------------------------------ types

    def type_at(self, file: BtfFile, number: int, hint: str = "") -> Type:
        """The type of a BTF number; `hint` names it if it is an anonymous struct, union or enum."""
        key = (file.module, number)
        if key not in self._types:
            self._types[key] = self._convert(file, file.record(number), hint)
        return self._types[key]

    def _convert(self, file: BtfFile, record: Record, hint: str) -> Type:
        match record.kind:
            case Kind.INT:
                return _integer(record)
            case Kind.PTR:
                return self._pointer(file, record, hint)
            case Kind.ARRAY:
                return self._array(file, record, hint)
            case Kind.STRUCT | Kind.UNION:
                kind = "struct" if record.kind == Kind.STRUCT else "union"
                return Struct(self._named(file, record, kind, hint), record.value, kind)
            case Kind.ENUM | Kind.ENUM64:
                return EnumType(self._named(file, record, "enum", hint), record.value, record.flag)
            case Kind.FWD:
                return Struct(record.name, 0, "union" if record.flag else "struct")
            case Kind.TYPEDEF:
                return self.type_at(file, record.value, record.name)
            case Kind.FLOAT:
                return Opaque("float", record.value, record.value)
            case Kind.VAR:
                return self.type_at(file, record.value)
            case kind if kind in MODIFIERS:
                return self.type_at(file, record.value, hint)
            case _:  # void, function types, data sections: nothing that has a value
                return VOID

    def _named(self, file: BtfFile, record: Record, kind: str, hint: str) -> str:
        name = record.name or hint or f"{file.module}#{record.id}"
        if not record.name:
            # An anonymous type must be found again by the name that it gets, so that must be its own.
            taken = self._places.get((kind, name)) or self._find(self._loaded(), name, *_COMPOSITE.get(kind, ()))
            name = f"{name}#{record.id}" if taken else name
        self._places.setdefault((kind, name), (file, record.id))
        return name

    def _pointer(self, file: BtfFile, record: Record, hint: str) -> Pointer:
        space, target = Space.KERNEL, file.record(record.value)
        while target.kind in MODIFIERS:
            if target.kind == Kind.TYPE_TAG and target.name == "user":
                space = Space.USER
            target = file.record(target.value)
        return Pointer(self.type_at(file, target.id, hint), space)

    def _array(self, file: BtfFile, record: Record, hint: str) -> Type:
        element_id, _, count = struct.unpack("<III", record.extra)
        element = self.type_at(file, element_id, hint)
        # reference 5.3: arrays of 8-bit integers are strings; a flexible one has no size for a string
        if isinstance(element, Int) and element.size == 1 and count:
            return String(count)
        return Array(element, count)

    def _flatten(self, file: BtfFile, number: int, outer: str, base: int = 0, size: int = 0) -> Iterator[Member]:
        record = file.record(number)
        size = size or record.value
        for name_offset, type_id, position in struct.iter_unpack("<III", record.extra):
            name = file.string(name_offset)
            bit, width = (position & 0xFFFFFF, position >> 24) if record.flag else (position, 0)
            inner = self._strip(file, type_id)
            if not name and inner.kind in (Kind.STRUCT, Kind.UNION):
                yield from self._flatten(file, inner.id, outer, base + bit // 8, size)
                continue
            if not width and inner.kind == Kind.INT:
                bit, width = _old_bitfield(inner, bit)
            kind = self.type_at(file, type_id, f"{outer}.{name}")
            text = declaration(file, type_id, name) + (f":{width}" if width else "")
            if width:
                start, bits = place_bits(base * 8 + bit, width, size)
                yield Member(name, kind, start, bits, text=text)
            else:
                yield Member(name, kind, base + bit // 8, text=text, tag=self._tag(file, inner))

    def _tag(self, file: BtfFile, record: Record) -> str:
        """The tag of a pointer that is no plain address; `rcu` only asks for care, `user` is a space.

        With `kind_flag` it is an attribute of the compiler's (Documentation/bpf/btf.rst, Linux 6.15).
        """
        if record.kind != Kind.PTR:
            return ""
        target = file.record(record.value)
        while target.kind in MODIFIERS:
            if target.kind == Kind.TYPE_TAG and target.name not in _HARMLESS_TAGS and not target.flag:
                return target.name
            target = file.record(target.value)
        return ""

    def _strip(self, file: BtfFile, number: int) -> Record:
        record = file.record(number)
        while record.kind in MODIFIERS or record.kind == Kind.TYPEDEF:
            record = file.record(record.value)
        return record

    # ------------------------------------------------------------ listings of types

    def type_names(self, kind: str) -> list[str]:
        """The names of all structs, unions or enumerations of the kernel and its loaded modules, sorted.

        Raises:
            HostError: there is no BTF.
        """
        if self.kernel is None:
            raise HostError(_NO_BTF)
        offsets = ((file, offset) for file in self._all() for _, offset in file.walk(*_COMPOSITE[kind]) if offset)
        return sorted({file.string(offset) for file, offset in offsets})

    def definition(self, kind: str, name: str) -> str | None:
        """A struct, union or enumeration as C defines it, with a newline at the end; None if there is none of
        that name.

        Raises:
            HostError: there is no BTF.
        """
        from pytrace.runtime.btfdump import Definitions  # only listings need it

        if self.kernel is None:
            raise HostError(_NO_BTF)
        place = self._find(self._all(), name, *_COMPOSITE[kind])
        if place is None:
            return None
        file, number = place
        if file.module not in self._definitions:
            self._definitions[file.module] = Definitions(file)
        return self._definitions[file.module].text(f"{kind} {name}", number)

    # ------------------------------------------------------------ variables

    def percpu_variable(self, name: str) -> PercpuVariable | None:
        """A per-CPU variable of the kernel image; None if there is none of that name.

        Its section is asked: BTF may have variables of other sections (pahole's `global_var`, 2025).
        """
        file = self.kernel
        number = file.find(name, Kind.VAR) if file else 0
        if file is None or not number:
            return None
        section = file.record(file.find(_PERCPU, Kind.DATASEC)).extra
        places = {member: offset for member, offset, _ in struct.iter_unpack("<III", section)}
        if number not in places:
            return None
        return PercpuVariable(number, places[number], self.type_at(file, number))

    # ------------------------------------------------------------ functions and raw tracepoints

    def prototype(self, name: str, module: str = "") -> Prototype | None:
        """A function; without a module the image is searched first, then the modules by name."""
        if module:
            file = self.module(module)
            place = self._find([file], name, Kind.FUNC) if file else None
        else:
            place = self._find(self._all(), name, Kind.FUNC)
        if place is None:
            return None
        file, number = place
        return self._prototype(file, name, file.record(number).value)

    def modules_of(self, function: str) -> list[str]:
        """`vmlinux` and the modules that have a function of that name."""
        return [file.module for file in self._all() if file.find(function, Kind.FUNC)]

    def raw_tracepoint(self, name: str) -> Prototype | None:
        """A raw tracepoint. That it exists is known by the typedef `btf_trace_NAME`; the names of the
        arguments, which a typedef lacks, come from the functions that the kernel generates for it."""
        place = self._find(self._all(), _TRACEPOINT + name, Kind.TYPEDEF)
        if place is None:
            return None
        file, typedef = place
        number = self._strip(file, self._strip(file, typedef).value).id
        # The last of these has the name of the event's class, which need not be the event's own.
        for prefix in ("__probestub_", "__traceiter_", "__bpf_trace_"):
            if function := file.find(prefix + name, Kind.FUNC):
                number = file.record(function).value
                break
        return self._prototype(file, name, number, skip=1)

    def functions(self) -> Iterator[tuple[str, str]]:
        """Module and name of every function, sorted."""
        for file in sorted(self._all(), key=lambda file: file.module):
            names = {file.string(offset) for _, offset in file.walk(Kind.FUNC)}
            yield from ((file.module, name) for name in sorted(names))

    def raw_tracepoints(self) -> Iterator[tuple[str, str]]:
        """Module and name of every raw tracepoint, sorted."""
        for file in sorted(self._all(), key=lambda file: file.module):
            names = {file.string(offset) for _, offset in file.walk(Kind.TYPEDEF)}
            found = sorted(n.removeprefix(_TRACEPOINT) for n in names if n.startswith(_TRACEPOINT))
            yield from ((file.module, name) for name in found)

    def iterators(self) -> list[str]:
        """The names of the kernel iterators, sorted: each has a context struct and a function that is attached
        to (include/linux/bpf.h, DEFINE_BPF_ITER_FUNC)."""
        found: set[str] = set()
        for file in self._all():
            names = {file.string(offset) for _, offset in file.walk(Kind.STRUCT)}
            iterators = (n.removeprefix(_ITERATOR) for n in names if n.startswith(_ITERATOR))
            found |= {name for name in iterators if file.find(f"bpf_iter_{name}", Kind.FUNC)}
        return sorted(found)

    def _prototype(self, file: BtfFile, name: str, number: int, skip: int = 0) -> Prototype:
        record = file.record(number)
        parameters, slot = [], 0
        for index, (name_offset, type_id) in enumerate(struct.iter_unpack("<II", record.extra)):
            if index < skip or (not type_id and not name_offset):  # the latter is the `...` of varargs
                continue
            label = file.string(name_offset) or f"arg{index - skip}"
            kind = self.type_at(file, type_id)
            parameters.append(Member(label, kind, slot * 8, text=declaration(file, type_id, label)))
            slot += max(round_up(size_of(kind), 8) // 8, 1)
        if skip:
            return Prototype(name, tuple(parameters), module=file.module, slots=slot)
        result, text = self.type_at(file, record.value), type_text(file, record.value)
        return Prototype(name, tuple(parameters), result, text, file.module, slot)


def place_bits(bit: int, width: int, size: int) -> tuple[int, tuple[int, int]]:
    """Where to read 8 bytes that hold a bit-field: byte offset and (shift, width).

    Aligned if that stays inside the struct of `size` bytes; otherwise as far in front as needed.
    """
    start = bit // 64 * 8
    if start + 8 > size or bit - start * 8 + width > 64:
        start = max(min(bit // 8, size - 8), 0)
    return start, (bit - start * 8, width)


def _integer(record: Record) -> Type:
    (encoding,) = struct.unpack("<I", record.extra)
    if encoding >> 24 & 4:
        return BOOL
    if record.name == "char":  # see cnames.base_type
        return INT8
    return integer(record.value, bool(encoding >> 24 & 1))


def _old_bitfield(record: Record, bit: int) -> tuple[int, int]:
    """Bit position and width of a bit-field described by its integer type (BTF without `kind_flag`)."""
    (encoding,) = struct.unpack("<I", record.extra)
    width = encoding & 0xFF
    if width == record.value * 8:
        return bit, 0
    return bit + (encoding >> 16 & 0xFF), width


def _enumerators(file: BtfFile, record: Record) -> Iterator[tuple[str, int]]:
    if record.kind == Kind.ENUM:
        for name, value in struct.iter_unpack("<Ii" if record.flag else "<II", record.extra):
            yield file.string(name), value
    else:
        for name, low, high in struct.iter_unpack("<III", record.extra):
            value = high << 32 | low
            yield file.string(name), value - (1 << 64) if record.flag and high >> 31 else value
