"""The BPF objects that programs import, and the C files of which clang makes such objects.

What an object's global functions take and give is known from its BTF (Documentation/bpf/btf.rst).
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence

from pytrace.grammar.host import CShape, HostError, LinkedFunction, LinkedUnit
from pytrace.runtime.btf import MODIFIERS, KernelTypes
from pytrace.runtime.btffile import BtfFile, Kind, Record
from pytrace.runtime.elf import SYMBOL, ElfFile, Section
from pytrace.runtime.memoryfile import MemoryFile

_C_FILE = ".bpf.c"
_FUNCTION, _GLOBAL = 2, 1  # STT_FUNC and STB_GLOBAL of elf(5); the latter is also BTF_FUNC_GLOBAL
_HIDDEN = 2  # STV_HIDDEN of elf(5)
_BPF = 247  # EM_BPF of elf(5)
_VALUES = ("int", "enum", "pointer")  # what fits a register
_ARCHITECTURES = {"x86_64": "x86", "aarch64": "arm64", "riscv64": "riscv", "s390x": "s390"}
# what a missing header belongs to
_HEADERS = (
    ("vmlinux.h", "make it with: bpftool btf dump file /sys/kernel/btf/vmlinux format c > vmlinux.h"),
    ("bpf/", "apt install libbpf-dev"),
    ("", "apt install linux-libc-dev libc6-dev, or name its folder with -I"),
)


def read_unit(path: str, include_dirs: Sequence[str] = (), include: Sequence[str] = ()) -> LinkedUnit:
    """See `Host.linked_unit`. `include_dirs` and `include` are for the C compiler (`-I`, `--include`)."""
    if path.endswith(_C_FILE):
        data, files = _compiled(path, include_dirs, include)
    else:
        try:
            with open(path, "rb") as file:
                data, files = file.read(), (path,)
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}") from error
    with ElfFile(path, data) as elf:
        if elf.machine != _BPF:
            raise HostError(f"{path}: not a BPF object")
        places = dict(_global_functions(elf))
        names = {name: elf.sections[section].name for name, section in places.values()}
        found = elf.section("license")
        license = elf.contents(found).rstrip(b"\0").decode("utf-8", "replace") if found else ""
    with MemoryFile(data) as file:
        types = KernelTypes(file.path)
        if types.kernel is None:
            raise HostError(f"{path}: the object has no BTF; compile it with -g")
        functions = tuple(_functions(path, types, types.kernel, names))
    return LinkedUnit(_hidden(data, places), functions, license, files)


# ---------------------------------------------------------------- compiling


def find_clang() -> str | None:
    """The path of clang, of several versions (`clang-19`) the newest; None if it is not installed."""
    if found := shutil.which("clang"):
        return found
    folders = [folder for folder in os.get_exec_path() if os.path.isdir(folder)]
    versions = [
        (int(match[1]), os.path.join(folder, name))
        for folder in folders
        for name in os.listdir(folder)
        if (match := re.fullmatch(r"clang-(\d+)", name))
    ]
    return max(versions)[1] if versions else None


def system_headers() -> str:
    """The folder of this machine's own headers (`<asm/types.h>`): the BPF target has none."""
    return f"/usr/include/{sysconfig.get_config_var('MULTIARCH')}"


def _compiled(path: str, include_dirs: Sequence[str], include: Sequence[str]) -> tuple[bytes, tuple[str, ...]]:
    """The object of a C file, and the files that it was made from."""
    clang = find_clang()
    if clang is None:
        raise HostError("clang is not installed, which compiles C to BPF (apt install clang libbpf-dev)")
    machine = os.uname().machine
    with tempfile.TemporaryDirectory(prefix="pytrace-") as folder:
        made, uses = f"{folder}/unit.o", f"{folder}/unit.d"
        command = [
            clang, "-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-D__TARGET_ARCH_{_ARCHITECTURES.get(machine, machine)}",
            *(part for name in include_dirs for part in ("-I", name)),
            *(part for name in include for part in ("-include", name)),
            "-idirafter", system_headers(), "-MD", "-MF", uses, "-c", path, "-o", made,
        ]  # fmt: skip
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
        if run.returncode:
            raise HostError(_complaint(path, run.stderr))
        with open(made, "rb") as file, open(uses, encoding="utf-8", errors="surrogateescape") as list_file:
            files = _dependencies(list_file.read())
            return file.read(), (*files, os.path.realpath(clang))


def _dependencies(rule: str) -> list[str]:
    """The files on the right of a rule of make."""
    words = re.split(r"(?<!\\)\s+", rule.partition(":")[2].replace("\\\n", " ").strip())
    return [os.path.realpath(word.replace("\\ ", " ")) for word in words]


def _complaint(path: str, text: str) -> str:
    """The first thing that clang says is wrong, and how many more there are."""
    errors = [line for line in text.splitlines() if "error:" in line]
    if not errors:
        return f"clang does not compile {path}: {text.strip() or 'it says nothing'}"
    first = errors[0].replace("fatal error: ", "").replace("error: ", "")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    missing = re.search(r"'([^']+)' file not found", first)
    remedy = next(remedy for part, remedy in _HEADERS if missing[1].startswith(part)) if missing else ""
    return f"{first}{more}" + (f"; {remedy}" if remedy else "")


# ---------------------------------------------------------------- reading objects


def _global_functions(elf: ElfFile) -> Iterator[tuple[int, tuple[str, int]]]:
    """Of each global function the place of its symbol in the file, its name and the number of its section."""
    table = elf.section(".symtab")
    if table is None:
        return
    strings = elf.contents(elf.sections[table.link])
    for index, (name, info, _, section, _, _) in enumerate(SYMBOL.iter_unpack(_whole(elf, table))):
        if info == _GLOBAL << 4 | _FUNCTION and 0 < section < len(elf.sections):
            text = strings[name : strings.find(0, name)].decode("utf-8", "surrogateescape")
            yield table.offset + index * SYMBOL.size, (text, section)


def _whole(elf: ElfFile, table: Section) -> bytes:
    data = elf.contents(table)
    return data[: len(data) // SYMBOL.size * SYMBOL.size]


def _hidden(data: bytes, places: dict[int, tuple[str, int]]) -> bytes:
    """An object whose global functions are for linking only. The verifier then looks at each call of them with what is
    known of its arguments; otherwise at the function alone, and would refuse most pointers (libbpf, STV_HIDDEN)."""
    changed = bytearray(data)
    for place in places:
        changed[place + 5] = _HIDDEN  # st_other
    return bytes(changed)


def _functions(path: str, types: KernelTypes, file: BtfFile, sections: dict[str, str]) -> Iterator[LinkedFunction]:
    """The global functions that BTF describes."""
    for number, _ in file.walk(Kind.FUNC):
        function = file.record(number)
        if function.count != _GLOBAL or function.name not in sections:
            continue
        prototype = types.prototype(function.name, "vmlinux")
        assert prototype is not None
        shape = shape_of(file, function.value)
        section = sections[function.name]
        refusal = f"it is a program of its own (section {section!r})" if section != ".text" else _refusal(shape)
        yield LinkedFunction(path, prototype, shape, refusal)


def _refusal(shape: CShape) -> str:
    """Why a function cannot be called with what registers hold; empty if it can."""
    result, *parameters = shape.parts
    if result.kind not in (*_VALUES, "void") or result.size > 8:
        return f"it returns a {result.kind}"
    wrong = [(n, p) for n, p in enumerate(parameters, 1) if p.kind not in _VALUES or p.size > 8]
    return f"its parameter {wrong[0][0]} is a {wrong[0][1].kind}" if wrong else ""


def shape_of(file: BtfFile, number: int) -> CShape:
    """What a type is to who links it."""
    record = file.record(number)
    while record.kind in MODIFIERS or record.kind == Kind.TYPEDEF:
        record = file.record(record.value)
    match record.kind:
        case Kind.INT:
            return CShape("int", size=record.value)
        case Kind.FLOAT:
            return CShape("floating-point number", size=record.value)
        case Kind.ENUM | Kind.ENUM64:
            return CShape("enum", record.name, record.value)
        case Kind.STRUCT | Kind.UNION:
            return CShape("struct" if record.kind == Kind.STRUCT else "union", record.name)
        case Kind.FWD:
            return CShape("union" if record.flag else "struct", record.name)
        case Kind.PTR:
            return CShape("pointer", size=8, parts=(shape_of(file, record.value),))
        case Kind.ARRAY:
            element, _, count = struct.unpack("<III", record.extra)
            return CShape("array", size=count, parts=(shape_of(file, element),))
        case Kind.FUNC_PROTO:
            return CShape("function", parts=(shape_of(file, record.value), *_parameters(file, record)))
        case _:
            return CShape("void")


def _parameters(file: BtfFile, record: Record) -> Iterator[CShape]:
    for _, kind in struct.iter_unpack("<II", record.extra):
        yield shape_of(file, kind)
