"""The machine we run on, as the compiler asks about it: everything is looked up when it is asked for, and
kept."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from functools import cached_property

from pytrace.grammar.hints import TYPE_CHECKING
from pytrace.grammar.host import (
    CDefinitions,
    Event,
    HostError,
    Imported,
    Interface,
    LinkedUnit,
    PercpuVariable,
    Prototype,
    SourceLine,
    Symbol,
    UsdtLocation,
    UserVariable,
)
from pytrace.grammar.types import EnumType, Member, Struct, Type
from pytrace.runtime import cpus
from pytrace.runtime.cnames import base_type
from pytrace.runtime.importedfiles import read_imported

if TYPE_CHECKING:  # each is loaded when the program at hand asks for what it knows
    from pytrace.runtime.btf import KernelTypes
    from pytrace.runtime.cfront import CFront
    from pytrace.runtime.features import Features
    from pytrace.runtime.kernel import KernelFunctions, KernelSymbols
    from pytrace.runtime.tracefs import Tracefs
    from pytrace.runtime.usertypes import UserTypes

# include/linux/proc_ns.h: PROC_PID_INIT_INO
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC


class LiveHost:
    """`Host` of the running machine.

    `include_dirs` and `include` are for the C front end (`-I`, `--include`). `unsafe` lets user probes take
    any file (`--unsafe`). `without` are facilities of the kernel to be taken for missing. `debug_folders` are where
    debug files are looked for first (`--debuginfo`). `traceable` is a file with the list of traceable functions
    (`--traceable-functions`). Methods raise `HostError` where the machine refuses to answer.
    """

    def __init__(
        self,
        include_dirs: Sequence[str] = (),
        include: Sequence[str] = (),
        unsafe: bool = False,
        without: frozenset[str] = frozenset(),
        debug_folders: Sequence[str] = (),
        traceable: str = "",
    ) -> None:
        if debug_folders:
            from pytrace.runtime import debugfiles

            debugfiles.search_in(tuple(debug_folders))
        self._unsafe, self._without, self._traceable = unsafe, without, traceable
        self._include_dirs = tuple(include_dirs)
        self._include = tuple(include)
        self._symbols: dict[str, list[Symbol]] = {}
        self._usdt: dict[str, list[UsdtLocation]] = {}
        self._debug: dict[str, UserTypes] = {}

    # ------------------------------------------------------------ who knows what

    @cached_property
    def types(self) -> KernelTypes:
        """The kernel's types, by BTF."""
        from pytrace.runtime.btf import KernelTypes

        return KernelTypes(os.environ.get("BPFTRACE_BTF", ""))

    def notes(self) -> Sequence[str]:
        """See Host."""
        if os.environ.get("BPFTRACE_BTF") and self.types.kernel is None:
            return tuple(self.types.warnings)
        return ()

    @cached_property
    def tracefs(self) -> Tracefs:
        """The kernel's tracepoints."""
        from pytrace.runtime.tracefs import Tracefs

        return Tracefs(self)

    @cached_property
    def kernel_symbols(self) -> KernelSymbols:
        """The kernel's symbols."""
        from pytrace.runtime.kernel import KernelSymbols

        return KernelSymbols()

    @cached_property
    def _functions(self) -> KernelFunctions:
        from pytrace.runtime.kernel import KernelFunctions

        return KernelFunctions(self.types, self.tracefs, self.kernel_symbols, self._traceable)

    @cached_property
    def _features(self) -> Features:
        from pytrace.runtime.features import Features

        return Features(self.types, self.tracefs, self._without)

    # ------------------------------------------------------------ types

    def members(self, struct: Struct) -> tuple[Member, ...]:
        """See `TypeSource`."""
        source = self._user_types(struct.origin) if struct.origin else self.types
        return source.members(struct)

    def find_type(self, name: str, kind: str = "") -> Type | None:
        """See `TypeSource`."""
        return self.types.find_type(name, kind)

    def enumerators(self, enum: EnumType) -> dict[str, int]:
        """See `TypeSource`."""
        source = self._user_types(enum.origin) if enum.origin else self.types
        return source.enumerators(enum)

    def enumerator(self, name: str) -> tuple[EnumType, int] | None:
        """See `TypeSource`."""
        return self.types.enumerator(name)

    @cached_property
    def _c_front(self) -> CFront:
        from pytrace.runtime.cfront import CFront, kernel_header_arguments

        headers = kernel_header_arguments(os.uname().release, dict(os.environ))
        return CFront(self.types, self._include_dirs, self._include, self.has("btf"), headers)

    def c_definitions(self, text: str) -> CDefinitions:
        """See `Host`."""
        if not text and not self._include:
            return CDefinitions()  # most programs: neither libclang nor BTF is needed
        return self._c_front.definitions(text)

    def imported(self, path: str) -> Imported | None:
        """See `Host`."""
        return read_imported(path)

    def linked_unit(self, path: str) -> LinkedUnit:
        """See `Host`."""
        from pytrace.runtime.linkedunits import read_unit  # few programs need it

        return read_unit(path, self._include_dirs, self._include)

    # ------------------------------------------------------------ the kernel

    def event(self, category: str, name: str) -> Event | None:
        """See `Host`."""
        return self.tracefs.event(category, name)

    def events(self) -> Iterable[tuple[str, str]]:
        """See `Host`."""
        return self.tracefs.events()

    def kernel_function(self, name: str, module: str = "") -> bool:
        """See `Host`."""
        return self._functions.exists(name, module)

    def kernel_functions(self) -> Iterable[tuple[str, str]]:
        """See `Host`."""
        return self._functions.all()

    def function_prototype(self, name: str, module: str = "") -> Prototype | None:
        """See `Host`."""
        return self.types.prototype(name, module)

    def function_prototypes(self) -> Iterable[tuple[str, str]]:
        """See `Host`."""
        return self.types.functions()

    def function_modules(self, name: str) -> Sequence[str]:
        """See `Host`."""
        found = self.types.modules_of(name)
        if len(found) < 2:
            return found
        return [module for module in found if self.kernel_function(name, module)]

    def function_size(self, name: str, module: str = "") -> int | None:
        """See `Host`. Without an image the next symbol of /proc/kallsyms tells, which padding may precede."""
        image = os.environ.get("BPFTRACE_VMLINUX", "")
        size = self._functions.image_size(name, module, image) if image else None
        return size or self.kernel_symbols.size(name)

    def bpf_functions(self) -> Iterable[tuple[int, str]]:
        """See `Host`."""
        from pytrace.runtime.bpfids import functions  # few programs need it

        return functions()

    def raw_tracepoint(self, name: str) -> Prototype | None:
        """See `Host`."""
        return self.types.raw_tracepoint(name)

    def raw_tracepoints(self) -> Iterable[tuple[str, str]]:
        """See `Host`."""
        return self.types.raw_tracepoints()

    def iterators(self) -> Iterable[str]:
        """See `Host`."""
        return self.types.iterators()

    def kernel_address(self, symbol: str) -> int | None:
        """See `Host`."""
        return self.kernel_symbols.address(symbol)

    def type_names(self, kind: str) -> Iterable[str]:
        """See `Host`."""
        return self.types.type_names(kind)

    def type_definition(self, kind: str, name: str) -> str | None:
        """See `Host`."""
        return self.types.definition(kind, name)

    def type_number(self, kind: Struct | EnumType) -> int:
        """See `Host`."""
        return 0 if kind.origin else self.types.number(kind)

    def percpu_variable(self, name: str) -> PercpuVariable | None:
        """See `Host`."""
        return self.types.percpu_variable(name)

    def has(self, feature: str) -> bool:
        """See `Host`. The names are those of `Features.names`, and those of the BPF helpers."""
        return self._features.has(feature)

    # ------------------------------------------------------------ user space

    def binaries(self, target: str, pid: int | None = None) -> Sequence[str]:
        """See `Host`."""
        from pytrace.runtime.binaries import resolve

        return resolve(target, pid, self._unsafe)

    def symbols(self, path: str) -> Sequence[Symbol]:
        """See `Host`."""
        if path not in self._symbols:
            from pytrace.runtime.elf import ElfFile

            with ElfFile(path) as file:
                self._symbols[path] = file.symbols()
        return self._symbols[path]

    def function_names(self, path: str) -> set[str]:
        """See `Host`."""
        from pytrace.runtime.elf import ElfFile

        with ElfFile(path) as file:
            return file.function_names()

    def explain_target(self, target: str, pid: int | None = None) -> str:
        """See `Host`."""
        from pytrace.runtime.binaries import explain

        return explain(target, pid)

    def stripped(self, path: str) -> bool:
        """See `Host`."""
        from pytrace.runtime.elf import ElfFile

        with ElfFile(path) as file:
            return file.stripped

    def file_offset(self, path: str, address: int) -> int | None:
        """See `Host`."""
        from pytrace.runtime.elf import ElfFile

        with ElfFile(path) as file:
            return file.file_offset(address)

    def instructions(self, path: str, symbol: Symbol) -> Sequence[int]:
        """See `Host`."""
        from pytrace.runtime.elf import ElfFile
        from pytrace.runtime.instructions import starts

        with ElfFile(path) as file:
            return starts(file, symbol)

    def source_line(self, path: str, file: str, line: int, column: int | None = None) -> SourceLine:
        """See `Host`."""
        from pytrace.runtime.sourcelines import find_line

        return find_line(path, self._user_types(path).file, file, line, column)

    def demangle(self, name: str) -> str:
        """See `Host`."""
        from pytrace.runtime.demangle import demangle

        return demangle(name)

    def user_variable(self, path: str, name: str, offset: int) -> UserVariable | None:
        """See `Host`."""
        from pytrace.runtime.elf import ET_DYN, ElfFile

        with ElfFile(path) as file:
            found = file.find(name, objects=True) or file.find(name)
            if not found:
                return None
            anchor = file.address(offset) if file.type == ET_DYN else None
            return UserVariable(found[0].address, found[0].size, anchor)

    def usdt(self, path: str) -> Sequence[UsdtLocation]:
        """See `Host`."""
        if path not in self._usdt:
            from pytrace.runtime.usdt import usdt_locations

            self._usdt[path] = usdt_locations(path)
        return self._usdt[path]

    def _user_types(self, path: str) -> UserTypes:
        """The debug information of a file; raises HostError if it has none."""
        from pytrace.runtime.usertypes import UserTypes  # few programs need it

        if path not in self._debug:
            self._debug[path] = UserTypes(path, self.symbols(path))
        return self._debug[path]

    def user_prototype(self, path: str, symbol: str, address: int | None = None) -> Prototype | None:
        """See `Host`."""
        return self._user_types(path).prototype(symbol, address)

    def user_type(self, path: str, name: str, kind: str = "") -> Type | None:
        """See `Host`."""
        if not kind and base_type(name) is not None:  # spares us reading the file
            return None
        try:
            return self._user_types(path).find_type(name, kind)
        except HostError:
            return None

    # ------------------------------------------------------------ this process and machine

    def interfaces(self, pid: int | None = None) -> Sequence[Interface]:
        """See `Host`."""
        from pytrace.runtime import netns  # few programs need it

        try:
            return netns.inside(pid or 0, netns.interfaces)
        except OSError as error:
            reason = f"Cannot look into the network namespace of process {pid}: {error.strerror}"
            raise HostError(reason) from error

    def pid_namespace(self) -> tuple[int, int] | None:
        """See `Host`."""
        status = os.stat("/proc/self/ns/pid")
        return None if status.st_ino == _INITIAL_PID_NAMESPACE else (status.st_dev, status.st_ino)

    def cgroup_id(self, path: str) -> int:
        """See `Host`. It is the inode of the directory (fs/kernfs/dir.c, `kernfs_ino`, where inodes have 64
        bits)."""
        inode = os.stat(path).st_ino
        if not os.path.exists(os.path.join(path, "cgroup.procs")):  # only control groups have it
            raise NotADirectoryError(errno.ENOTDIR, "this is no control group (it has no file cgroup.procs)")
        return inode

    @cached_property
    def _cpus(self) -> int:
        return cpus.possible()

    @property
    def cpus(self) -> int:
        """See `Host`."""
        return self._cpus
