"""What the compiler asks about the machine that a program is for.

`Host` is answered by `pytrace.runtime.host.LiveHost` on a real machine and by `FakeHost` in tests, so
everything above the runtime runs without root and without a kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytrace.grammar.data import dataclass, field
from pytrace.grammar.hints import Protocol
from pytrace.grammar.types import VOID, EnumType, Member, Struct, Type, TypeSource


class HostError(Exception):
    """The machine cannot answer, and the message says why and what to do about it."""


@dataclass(frozen=True, slots=True)
class Event:
    """A tracepoint: its category, name, and the fields of its record (tracefs `format`)."""

    category: str
    name: str
    fields: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Prototype:
    """A function by BTF: parameters in order (`offset` = 8 × slot) and result.

    `module` is `vmlinux` or the module's name. `result_text` is the result type as C writes it.
    Of a user program's function `module` is the file, a slot an argument register, `slots` how many would be
    needed; a parameter that is passed elsewhere (floating-point, large struct) has offset -1.
    """

    name: str
    parameters: tuple[Member, ...]
    result: Type = VOID
    result_text: str = "void"
    module: str = "vmlinux"
    slots: int = 0


@dataclass(frozen=True, slots=True)
class PercpuVariable:
    """A per-CPU variable: its number in BTF, where it is in each CPU's copy of the section, and its type."""

    number: int
    offset: int
    type: Type


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function or object symbol of an ELF file: `address` as in the symbol table, `offset` in the file."""

    name: str
    address: int
    offset: int
    size: int
    function: bool = True


@dataclass(frozen=True, slots=True)
class UserVariable:
    """A variable (or function) of an ELF file: its address in the symbol table and its size in bytes.

    `anchor` is the address that the file gives to the place that was asked about; None if the file is always
    loaded at the addresses it says.
    """

    address: int
    size: int
    anchor: int | None = None


@dataclass(frozen=True, slots=True)
class SourceLine:
    """What debug information says of a line of a source file.

    `addresses` (of the symbol table) are where its statements start; `files` the full names of the files that are
    meant, `others` those of all other files; `lines` the lines of the file that have code, `columns` those in the line.
    """

    addresses: tuple[int, ...]
    files: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class UsdtArgument:
    """One argument of a USDT location, as its note describes it.

    `size` is in bytes, negative when signed. The value is the constant `constant`, or register `register` (a name
    like `di`), or, when `dereference`, what lies at register + `offset` (+ `index` register × `scale`).
    """

    size: int
    constant: int | None = None
    register: str = ""
    dereference: bool = False
    offset: int = 0
    index: str = ""
    scale: int = 1


@dataclass(frozen=True, slots=True)
class UsdtLocation:
    """One place of a USDT probe: file offset, file offset of its semaphore (0: none), arguments."""

    provider: str
    name: str
    offset: int
    semaphore: int
    arguments: tuple[UsdtArgument, ...]


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface; `ethernet` says whether its frames start with an Ethernet header."""

    name: str
    index: int
    ethernet: bool = True


@dataclass(frozen=True, slots=True)
class CDefinitions:
    """What the C front end made of the program's C lines and definitions.

    `macros` maps the names of object-like macros to their replacement text; `errors` are its complaints;
    `headers` are the files it read.
    """

    structs: dict[str, Struct] = field(default_factory=dict)
    members: dict[str, tuple[Member, ...]] = field(default_factory=dict)
    typedefs: dict[str, Type] = field(default_factory=dict)
    enums: dict[str, EnumType] = field(default_factory=dict)
    enumerators: dict[str, tuple[EnumType, int]] = field(default_factory=dict)
    macros: dict[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """A file that a program imports, with its bytes, or a folder, with the names of what is in it.

    `path` is its real path. `world_writable` says that everybody may change it.
    """

    path: str
    world_writable: bool = False
    data: bytes | None = None
    entries: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CShape:
    """A C type as linking compares it: by sizes, and by the names of structs, unions and enumerations.

    `kind` is `void`, `int`, `floating-point number`, `enum`, `struct`, `union`, `pointer`, `array` or `function`.
    `size` is in bytes, of an array its number of elements. `parts` are the type pointed to, the elements' type, or the
    types of a function's result and parameters.
    """

    kind: str
    name: str = ""
    size: int = 0
    parts: tuple[CShape, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkedFunction:
    """A global function of an imported BPF object: the file that it comes from, and what BTF says of it.

    `refusal` says why programs cannot call it; empty if they can.
    """

    file: str
    prototype: Prototype
    shape: CShape = CShape("function")
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class LinkedUnit:
    """A BPF object that is linked to the program: its bytes, its global functions, its license, and the files that it
    was made from."""

    elf: bytes
    functions: tuple[LinkedFunction, ...]
    license: str = ""
    files: tuple[str, ...] = ()


class Host(TypeSource, Protocol):
    """The machine, as far as compiling needs it. Its `TypeSource` half answers from kernel BTF, and for types
    that came from `user_prototype` and `user_type`."""

    def event(self, category: str, name: str) -> Event | None:
        """One tracepoint, or None if there is none of that name."""
        ...

    def events(self) -> Iterable[tuple[str, str]]:
        """Category and name of every tracepoint, sorted."""
        ...

    def imported(self, path: str) -> Imported | None:
        """A file or folder, None if there is none. Raises `HostError` if it cannot be read."""
        ...

    def linked_unit(self, path: str) -> LinkedUnit:
        """A BPF object (`.bpf.o`), or what clang makes of a C file (`.bpf.c`).

        Raises `HostError` if there is no clang, if the file has mistakes, or if it is no object with BTF.
        """
        ...

    def notes(self) -> Sequence[str]:
        """What is wrong with the files that the environment names for types (`BPFTRACE_BTF`), for warnings."""
        ...

    def kernel_function(self, name: str, module: str = "") -> bool:
        """Whether a function can be probed; only this one is looked up."""
        ...

    def kernel_functions(self) -> Iterable[tuple[str, str]]:
        """Module (`vmlinux` for the image) and name of every function that can be probed, sorted."""
        ...

    def function_prototype(self, name: str, module: str = "") -> Prototype | None:
        """A kernel function by BTF."""
        ...

    def function_prototypes(self) -> Iterable[tuple[str, str]]:
        """Module and name of every function that BTF knows, sorted."""
        ...

    def function_modules(self, name: str) -> Sequence[str]:
        """The modules (`vmlinux` for the image) that have a function of that name by BTF; of several only those in
        which it can be probed."""
        ...

    def function_size(self, name: str, module: str = "") -> int | None:
        """Bytes of a kernel function's code, None if they are not known.

        Raises HostError if the image that should tell (`BPFTRACE_VMLINUX`) cannot be read.
        """
        ...

    def bpf_functions(self) -> Iterable[tuple[int, str]]:
        """Program id and name of every function of the loaded BPF programs that can be probed, in order of the
        ids."""
        ...

    def raw_tracepoint(self, name: str) -> Prototype | None:
        """A raw tracepoint's arguments by BTF, without the leading `void *__data`."""
        ...

    def raw_tracepoints(self) -> Iterable[tuple[str, str]]:
        """Module and name of every raw tracepoint, sorted."""
        ...

    def iterators(self) -> Iterable[str]:
        """The kernel iterators that BTF knows (each NAME with a `struct bpf_iter__NAME`), sorted."""
        ...

    def binaries(self, target: str, pid: int | None = None) -> Sequence[str]:
        """The ELF files that the target of a user probe stands for (reference 4.5), best first."""
        ...

    def symbols(self, path: str) -> Sequence[Symbol]:
        """The function symbols of an ELF file (`.symtab` and `.dynsym`)."""
        ...

    def function_names(self, path: str) -> set[str]:
        """The names of the functions in `symbols`, which are had sooner."""
        ...

    def explain_target(self, target: str, pid: int | None = None) -> str:
        """Why `binaries` finds nothing for a target, and what to do about it."""
        ...

    def stripped(self, path: str) -> bool:
        """Whether an ELF file has no other symbols than those for dynamic linking."""
        ...

    def file_offset(self, path: str, address: int) -> int | None:
        """Where in an ELF file the byte lies that is mapped at an address of its symbol table."""
        ...

    def instructions(self, path: str, symbol: Symbol) -> Sequence[int]:
        """How far into a function its instructions start, as far as its code can be read as such; the last number
        is where the last of them ends."""
        ...

    def source_line(self, path: str, file: str, line: int, column: int | None = None) -> SourceLine:
        """The places of a line of source code in an ELF file; `file` may be the end of a path.

        Raises HostError if the file has no debug information, or it cannot be read.
        """
        ...

    def demangle(self, name: str) -> str:
        """The readable form of a mangled C++ or Rust name; any other name as it is."""
        ...

    def user_variable(self, path: str, name: str, offset: int) -> UserVariable | None:
        """A variable of an ELF file, and the address of what is `offset` bytes into the file."""
        ...

    def usdt(self, path: str) -> Sequence[UsdtLocation]:
        """The USDT locations of an ELF file (its `.note.stapsdt`)."""
        ...

    def user_prototype(self, path: str, symbol: str, address: int | None = None) -> Prototype | None:
        """A function of an ELF file by its debug information (DWARF); None if that does not describe it. Where the
        file has several of one name, `address` says which.

        Raises HostError if the file has no debug information, or it cannot be read.
        """
        ...

    def user_type(self, path: str, name: str, kind: str = "") -> Type | None:
        """A C type that the debug information of an ELF file defines, if it has any (see `find_type`)."""
        ...

    def kernel_address(self, symbol: str) -> int | None:
        """The address of a kernel symbol (/proc/kallsyms)."""
        ...

    def type_names(self, kind: str) -> Iterable[str]:
        """The names of all of the kernel's types of a kind (`struct`, `union` or `enum`), sorted."""
        ...

    def type_definition(self, kind: str, name: str) -> str | None:
        """A type of the kernel as C defines it, with a newline at the end; only this one is looked up."""
        ...

    def type_number(self, kind: Struct | EnumType) -> int:
        """The number of a type in the kernel's BTF; 0 if it is none of the kernel's."""
        ...

    def percpu_variable(self, name: str) -> PercpuVariable | None:
        """A per-CPU variable of the kernel image, by BTF."""
        ...

    def c_definitions(self, text: str) -> CDefinitions:
        """Run the C front end over preprocessor lines and definitions."""
        ...

    def pid_namespace(self) -> tuple[int, int] | None:
        """(device, inode) of the PID namespace we are in, or None if it is the initial one."""
        ...

    def cgroup_id(self, path: str) -> int:
        """The id of the control group with this directory; raises OSError."""
        ...

    def interfaces(self, pid: int | None = None) -> Sequence[Interface]:
        """The network interfaces, by name, of a process's network namespace (None: of ours).

        Raises HostError if we may not enter that namespace or there is no such process.
        """
        ...

    def has(self, feature: str) -> bool:
        """Whether the kernel has a facility: `btf`, `kprobe`, `fentry`, `kprobe_multi`, `bpf_loop`, …"""
        ...

    @property
    def cpus(self) -> int:
        """Number of possible CPUs."""
        ...
