"""The C front end: the program's `#` lines and struct, union and enum definitions, read by libclang.

Names that C does not know but the kernel does (`u32`, `atomic_t`, `struct in_addr` by value) are added from
BTF: clang complains, what it complains of is declared in front of the text, and it reads the text again.
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache

from pytrace.grammar.hints import Any
from pytrace.grammar.host import CDefinitions, HostError
from pytrace.grammar.types import (
    BOOL,
    UINT64,
    VOID,
    Array,
    EnumType,
    Int,
    Member,
    Opaque,
    Pointer,
    String,
    Struct,
    Type,
    TypeSource,
)
from pytrace.runtime.btf import place_bits
from pytrace.runtime.cprelude import declare_struct, declare_type

_TEXT = "definitions.h"
_PRELUDE = "types from BTF"
_PASSES = 12  # each declares what the one before missed

_UNKNOWN = re.compile(r"unknown type name '(\w+)'")
_INCOMPLETE = re.compile(r"incomplete (?:element )?type '(?:const |volatile )*(struct|union|enum) (\w+)")
_MISSING_FILE = re.compile(r"'(.+)' file not found")
_UNDEF = re.compile(r"^[ \t]*#[ \t]*(define|undef)[ \t]+(\w+)", re.MULTILINE)

# The libclang package has no compiler headers. These are what C programs for kernels need of them.
_BUILTIN_HEADERS = {
    "stddef.h": "typedef __SIZE_TYPE__ size_t;\ntypedef __PTRDIFF_TYPE__ ptrdiff_t;\n"
    "typedef __WCHAR_TYPE__ wchar_t;\n#define NULL ((void *)0)\n"
    "#define offsetof(type, member) __builtin_offsetof(type, member)\n",
    "stdbool.h": "#define bool _Bool\n#define true 1\n#define false 0\n",
    "stdarg.h": "typedef __builtin_va_list va_list;\ntypedef __builtin_va_list __gnuc_va_list;\n",
}
# in the order of LINUXINCLUDE in the kernel's Makefile
_KERNEL_FOLDERS = (
    "arch/x86/include",
    "arch/x86/include/generated",
    "include",
    "arch/x86/include/uapi",
    "arch/x86/include/generated/uapi",
    "include/uapi",
    "include/generated/uapi",
)
_HERE = os.path.dirname(os.path.abspath(__file__))

# CXType's kinds by name: integers with their signs
_SIGNED = frozenset({"SCHAR", "CHAR_S", "SHORT", "INT", "LONG", "LONGLONG", "WCHAR"})
_UNSIGNED = frozenset({"UCHAR", "CHAR_U", "USHORT", "UINT", "ULONG", "ULONGLONG", "CHAR16", "CHAR32"})
_FLOATS = frozenset({"FLOAT", "DOUBLE", "LONGDOUBLE", "FLOAT128", "HALF"})


@cache
def _index() -> Any:
    try:
        from clang import cindex  # 80 ms, and only programs with C text need it

        index = cindex.Index.create()
        # left to the end of the interpreter, its __del__ finds the module's globals gone and complains
        atexit.register(_index.cache_clear)
        return index
    except Exception as error:  # cindex has its own errors for a missing library
        raise HostError(f"C definitions need libclang ({error}); install the Python package libclang") from error


class CFront:
    """Reads C text. `include_dirs` and `includes` are what `-I` and `--include` name; `types` is asked for
    kernel types.

    `have_btf` defines the macro `BPFTRACE_HAVE_BTF`, by which programs leave out includes. `kernel_headers`
    are the compiler's arguments for the kernel's own headers, where they are installed.
    """

    def __init__(
        self,
        types: TypeSource,
        include_dirs: Sequence[str] = (),
        includes: Sequence[str] = (),
        have_btf: bool = True,
        kernel_headers: Sequence[str] = (),
    ) -> None:
        self._types = types
        self._arguments = ["-x", "c", "-std=gnu11", "-ferror-limit=0", "-Wno-everything", "-isystem", _HERE]
        self._arguments += [f"-I{folder}" for folder in include_dirs]
        self._arguments += kernel_headers
        if have_btf:
            self._arguments.append("-DBPFTRACE_HAVE_BTF=1")
        self._arguments += [part for name in includes for part in ("-include", name)]
        self._known: dict[str, CDefinitions] = {}

    def definitions(self, text: str) -> CDefinitions:
        """What a program's C text defines, its headers included. Complaints are in `errors`, nothing is
        raised for them.

        Raises:
            HostError: libclang cannot be loaded.
        """
        if text not in self._known:
            self._known[text] = self._read(text)
        return self._known[text]

    def _read(self, text: str) -> CDefinitions:
        prelude: dict[str, str] = {}
        for _ in range(_PASSES):
            unit = self._parse(text, "".join(prelude.values()))
            missing = [d.spelling for d in unit.diagnostics if d.severity >= 3]
            added = False
            for kind, name in _wanted(missing):
                added |= self._declare(kind, name, prelude)
            if not added:
                break
        reader = _Reader(self._types, text)
        return reader.read(unit)

    def _parse(self, text: str, prelude: str) -> Any:
        files = [(_TEXT, f'# 1 "{_PRELUDE}" 3\n{prelude}# 1 "{_TEXT}"\n{text}\n')]
        files += [(os.path.join(_HERE, name), header) for name, header in _BUILTIN_HEADERS.items()]
        # 1: PARSE_DETAILED_PROCESSING_RECORD, for macros
        return _index().parse(_TEXT, args=self._arguments, unsaved_files=files, options=1)

    def _declare(self, kind: str, name: str, prelude: dict[str, str]) -> bool:
        """Add a declaration from BTF; False if BTF does not have it, or it is declared already."""
        key = f"{kind} {name}".strip()
        if key in prelude:
            return False
        found = self._types.find_type(name, kind)
        if found is None:
            return False
        if not kind and isinstance(found, Struct) and found.name != name:
            self._declare(found.kind, found.name, prelude)
        prelude[key] = (
            declare_struct(found, self._types)
            if kind in ("struct", "union") and isinstance(found, Struct)
            else declare_type(found, name, kind, self._types)
        )
        return True


def _wanted(messages: Sequence[str]) -> Iterator[tuple[str, str]]:
    for message in messages:
        if unknown := _UNKNOWN.search(message):
            yield "", unknown[1]
        elif incomplete := _INCOMPLETE.search(message):
            yield incomplete[1], incomplete[2]


class _Reader:
    """One translation unit to `CDefinitions`."""

    def __init__(self, types: TypeSource, text: str) -> None:
        self._types = types
        self._text = text
        self._found = CDefinitions()
        self._names: dict[str, str] = {}  # clang's identity of an anonymous record -> the name it gets

    def read(self, unit: Any) -> CDefinitions:
        """Everything but what came from BTF."""
        macros: dict[str, Any] = {}
        for cursor in unit.cursor.get_children():
            if cursor.location.file is None or self._ours(cursor):
                continue
            match cursor.kind.name:
                case "MACRO_DEFINITION":
                    macros[cursor.spelling] = cursor
                case "STRUCT_DECL" | "UNION_DECL" if cursor.is_definition():
                    if "(" not in cursor.spelling:
                        self._convert(cursor.type, "")
                case "ENUM_DECL" if cursor.is_definition():
                    self._enum(cursor, "")
                case "TYPEDEF_DECL":
                    converted = self._convert(cursor.underlying_typedef_type, cursor.spelling)
                    self._found.typedefs[cursor.spelling] = converted
                case _:  # functions and variables, which the language has no use for
                    pass
        for name, cursor in macros.items():
            if self._last_directive(name) != "undef":
                self._found.macros[name] = _replacement(cursor)
        found = self._found
        return CDefinitions(
            found.structs,
            found.members,
            found.typedefs,
            found.enums,
            found.enumerators,
            found.macros,
            tuple(_message(d) for d in unit.diagnostics if d.severity >= 3),
            tuple({str(i.include.name): None for i in unit.get_includes() if not _is_builtin(str(i.include.name))}),
        )

    @staticmethod
    def _ours(cursor: Any) -> bool:
        """Whether a declaration is one that we put in front of the text: a line marker names those."""
        return bool(cursor.location.is_in_system_header) and _presumed(cursor.location)[0] == _PRELUDE

    def _last_directive(self, name: str) -> str:
        return next((word for word, n in reversed(_UNDEF.findall(self._text)) if n == name), "")

    # ------------------------------------------------------------ types

    def _convert(self, kind: Any, hint: str) -> Type:
        """A clang type as ours; `hint` names it if it is an anonymous struct, union or enum."""
        kind = kind.get_canonical()
        name, size = kind.kind.name, kind.get_size()
        if name in _SIGNED or name in _UNSIGNED:
            return Int(size, name in _SIGNED)
        if name in _FLOATS:
            return Opaque("float", size, min(size, 8))
        match name:
            case "BOOL":
                return BOOL
            case "POINTER":
                return Pointer(self._convert(kind.get_pointee(), hint))
            case "CONSTANTARRAY" | "INCOMPLETEARRAY":
                return self._array(kind, hint)
            case "ENUM":
                return self._enum(kind.get_declaration(), hint)
            case "RECORD":
                return self._record(kind, hint)
            case "INT128" | "UINT128":
                return Array(UINT64, 2)
            case _:
                return VOID

    def _array(self, kind: Any, hint: str) -> Type:
        element, count = kind.get_array_element_type(), max(kind.get_array_size(), 0)
        # Reference 5.3: char[N] is a string; int8_t[N] and uint8_t[N], which are signed and unsigned char,
        # are arrays. Its type is string[N+1] there; N is what can be read, so N it is, and text without a NUL
        # counts as cut.
        if element.get_canonical().kind.name in ("CHAR_S", "CHAR_U") and count:
            return String(count)
        return Array(self._convert(element, hint), count)

    def _enum(self, cursor: Any, hint: str) -> EnumType:
        integer = cursor.enum_type.get_canonical()
        name = self._name_of(cursor, hint or f"anonymous{len(self._found.enums)}")
        kind = EnumType(name, max(integer.get_size(), 1), integer.kind.name in _SIGNED)
        filename, _, _ = _presumed(cursor.location)
        if name not in self._found.enums and cursor.is_definition() and filename != _PRELUDE:
            self._found.enums[name] = kind
            for constant in cursor.get_children():
                if constant.kind.name == "ENUM_CONSTANT_DECL":
                    value = constant.enum_value
                    self._found.enumerators[constant.spelling] = (EnumType(name, 8, kind.signed), value)
        return kind

    def _record(self, kind: Any, hint: str) -> Struct:
        cursor = kind.get_declaration()
        word = "union" if cursor.kind.name == "UNION_DECL" else "struct"
        name, size = self._name_of(cursor, hint), max(kind.get_size(), 0)
        found = Struct(name, size, word)
        filename, _, _ = _presumed(cursor.location)
        if not size and not cursor.get_definition():  # only named here: the kernel may know it
            known = self._types.find_type(name, word)
            return known if isinstance(known, Struct) else found
        if name not in self._found.structs and filename != _PRELUDE:
            self._found.structs[name] = found
            self._found.members[name] = ()  # it may refer to itself
            self._found.members[name] = tuple(self._members(kind, name, 0, size))
        return found

    def _name_of(self, cursor: Any, hint: str) -> str:
        spelling: str = cursor.spelling
        if spelling and "(" not in spelling:
            return spelling
        return self._names.setdefault(cursor.get_usr(), hint)

    def _members(self, kind: Any, outer: str, base: int, size: int) -> Iterator[Member]:
        for field in kind.get_fields():
            bit = base + field.get_field_offsetof()
            name: str = field.spelling
            if not name or "(" in name:
                inner = field.type.get_canonical()
                if inner.kind.name == "RECORD":
                    yield from self._members(inner, outer, bit, size)
                continue
            converted = self._convert(field.type, f"{outer}.{name}")
            text = _declaration(field)
            if field.is_bitfield():
                start, bits = place_bits(bit, field.get_bitfield_width(), size)
                yield Member(name, converted, start, bits, text=text)
            else:
                yield Member(name, converted, bit // 8, text=text)


def _is_builtin(header: str) -> bool:
    """Whether a header is one of those that we give the compiler ourselves."""
    return os.path.dirname(header) == _HERE and os.path.basename(header) in _BUILTIN_HEADERS


def _declaration(field: Any) -> str:
    spelling, _, bounds = field.type.spelling.partition("[")
    width = f":{field.get_bitfield_width()}" if field.is_bitfield() else ""
    return f"{spelling.strip()} {field.spelling}{'[' + bounds if bounds else ''}{width}"


def _replacement(macro: Any) -> str:
    """The text that stands for an object-like macro; empty for one with parameters, which is no
    expression."""
    from clang import cindex

    if cindex.conf.lib.clang_Cursor_isMacroFunctionLike(macro):
        return ""
    text = ""
    for token in list(macro.get_tokens())[1:]:
        # two words must not grow together; everything else the language reads without spaces
        gap = " " if re.match(r"\w", token.spelling) and re.search(r"\w$", text) else ""
        text += gap + token.spelling
    return text


def _presumed(location: Any) -> tuple[str, int, int]:
    """File, line and column as line markers have them."""
    from ctypes import byref, c_uint

    from clang import cindex

    library = cindex.conf.lib
    name, line, column = cindex._CXString(), c_uint(), c_uint()
    library.clang_getPresumedLocation(location, byref(name), byref(line), byref(column))
    text = library.clang_getCString(name)
    return (text.decode() if isinstance(text, bytes) else str(text or "")), line.value, column.value


def _message(diagnostic: Any) -> str:
    filename, line, column = _presumed(diagnostic.location)
    text = f"{filename}:{line}:{column}: {diagnostic.spelling}"
    if missing := _MISSING_FILE.search(diagnostic.spelling):
        text += (
            f" (no header {missing[1]} is installed; kernel types need no include where the kernel has BTF, "
            "otherwise install the kernel's headers or give -I DIR)"
        )
    return text


def kernel_header_arguments(release: str, environment: dict[str, str]) -> list[str]:
    """The arguments with which the kernel's own headers are read, if they are installed:
    `BPFTRACE_KERNEL_SOURCE` and `BPFTRACE_KERNEL_BUILD`, by default below /lib/modules/RELEASE."""
    modules = f"/lib/modules/{release}"
    source = environment.get("BPFTRACE_KERNEL_SOURCE") or (
        f"{modules}/source" if os.path.isdir(f"{modules}/source") else f"{modules}/build"
    )
    build = environment.get("BPFTRACE_KERNEL_BUILD") or f"{modules}/build"
    if not os.path.isfile(f"{source}/include/linux/kconfig.h"):
        return []
    folders = [f"{root}/{part}" for part in _KERNEL_FOLDERS for root in dict.fromkeys((source, build))]
    found = [part for folder in folders if os.path.isdir(folder) for part in ("-isystem", folder)]
    return [*found, "-include", f"{source}/include/linux/kconfig.h", "-D__KERNEL__", "-D__BPF_TRACING__"]
