"""What a compilation asked the machine, so that a later run can tell whether the answers would be the same.

A compiled program may be used again if nothing changed that shaped it. `RecordingHost` stands between the compiler
and the machine and keeps a `Fact` for each thing an answer rested on; `Fact.holds` looks again, which is much cheaper
than compiling. What cannot change while this kernel runs with these modules is part of `kernel_identity`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pytrace.grammar.data import dataclass
from pytrace.grammar.host import Host, HostError
from pytrace.runtime.elf import ElfFile
from pytrace.runtime.mounts import tracefs
from pytrace.runtime.zipped import container

try:
    from _blake2 import blake2b  # hashlib has the same, but loads OpenSSL for it, which takes longer than all the rest
except ImportError:
    from hashlib import blake2b

_NOTES = "/sys/kernel/notes"  # ELF notes of the kernel, its build id among them
_BOOT = "/proc/sys/kernel/random/boot_id"
_MODULES = "/proc/modules"
# probe events that somebody made at run time, and which are tracepoints like others (Documentation/trace)
_DYNAMIC = "dynamic_events"

MakeHost = Callable[[], Host]  # few facts need a host, and it takes time to make one
Stat = tuple[int, int, int, int, int]  # device, inode, size in bytes, times of modification and change in ns


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that was so when a program was compiled."""

    def holds(self, host: MakeHost) -> bool:
        """Whether it still is; `host` gives the machine to ask."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class FileFact(Fact):
    """A file by what stat(2) says of it; None: there is no such file."""

    path: str
    stat: Stat | None

    def holds(self, host: MakeHost) -> bool:
        return stat_of(self.path) == self.stat


@dataclass(frozen=True, slots=True)
class FilesFact(Fact):
    """Many files at once: a digest of their paths and what stat(2) says of them."""

    paths: tuple[str, ...]
    digest: bytes

    @classmethod
    def of(cls, paths: Iterable[str]) -> FilesFact:
        """The files as they are now."""
        chosen = tuple(sorted(paths))
        return cls(chosen, digest_of(stat_of(path) for path in chosen))

    def holds(self, host: MakeHost) -> bool:
        return digest_of(stat_of(path) for path in self.paths) == self.digest


@dataclass(frozen=True, slots=True)
class TextFact(Fact):
    """A file of the kernel's by a digest of its text: such files have no times that mean anything."""

    path: str
    digest: bytes

    def holds(self, host: MakeHost) -> bool:
        return _text_digest(self.path) == self.digest


@dataclass(frozen=True, slots=True)
class AnswerFact(Fact):
    """A question to the host, and a digest of its answer (or of why there was none)."""

    method: str
    arguments: tuple[Any, ...]
    digest: bytes

    def holds(self, host: MakeHost) -> bool:
        return digest_of([answer_of(getattr(host(), self.method), self.arguments)]) == self.digest


def answer_of(method: Callable[..., Any], arguments: tuple[Any, ...]) -> object:
    """What a method answers, or the words of its refusal."""
    try:
        return method(*arguments)
    except (HostError, OSError) as error:
        return type(error).__name__, str(error)


def stat_of(path: str) -> Stat | None:
    """What tells whether a file was changed or replaced; None if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def kernel_identity() -> bytes:
    """A digest of the running kernel (its build id), this boot of it (its addresses are random) and its modules."""
    parts: list[object] = [Path(_BOOT).read_bytes(), os.uname().release, os.uname().version]
    try:
        parts.append(Path(_NOTES).read_bytes())
        # name, size and address; the counts of users in between change all the time
        lines = Path(_MODULES).read_text().splitlines()
        parts += [(words[0], words[1], words[-1]) for words in map(str.split, lines)]
    except OSError:  # a kernel without modules, or without notes
        pass
    return digest_of(parts)


def digest_of(parts: Iterable[object]) -> bytes:
    """A digest of the `repr` of some plain values: numbers, texts, tuples, dataclasses of those."""
    return bytes(blake2b(repr(tuple(parts)).encode("utf-8", "surrogateescape"), digest_size=16).digest())


def _text_digest(path: str) -> bytes:
    try:
        data: object = Path(path).read_bytes()
    except OSError as error:
        data = error.errno
    return digest_of([data])


# How each question is kept: by the files that the answer rests on (the first argument), by asking again, or not at all
# because `kernel_identity` covers it.
def _names(*methods: Callable[..., Any]) -> frozenset[str]:
    return frozenset(method.__name__ for method in methods)


_BY_FILE = _names(
    Host.symbols,
    Host.user_variable,
    Host.usdt,
    Host.user_prototype,
    Host.user_type,
    Host.stripped,
    Host.file_offset,
    Host.instructions,
    Host.source_line,
)
_BY_ANSWER = _names(
    Host.binaries, Host.explain_target, Host.pid_namespace, Host.cgroup_id, Host.interfaces, Host.bpf_functions
)
_BY_TRACEFS = _names(Host.event, Host.events)
_BY_KERNEL = _names(
    Host.notes,  # the file is part of an entry's name
    Host.find_type,
    Host.enumerators,
    Host.enumerator,
    Host.kernel_function,
    Host.kernel_functions,
    Host.function_prototype,
    Host.function_prototypes,
    Host.raw_tracepoint,
    Host.raw_tracepoints,
    Host.kernel_address,
    Host.has,
    Host.demangle,
    Host.function_modules,
    Host.function_size,
    Host.iterators,
    Host.percpu_variable,
    Host.type_names,
    Host.type_definition,
    Host.type_number,
) | {"page_size", "cpus"}


class RecordingHost:
    """A `Host` that passes every question on to another one, and remembers what the answers rest on.

    `cacheable` turns False when an answer rests on something that cannot be looked at again cheaply (C headers, or a
    question that this class does not know).
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._facts: dict[Fact, None] = {}
        self.cacheable = True

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._host, name)
        if name in _BY_KERNEL:
            return found
        if name in _BY_FILE:
            return self._noting(found, lambda path, *_: self._note_binary(path))
        if name in _BY_TRACEFS:
            return self._noting(found, lambda *_: self._note(_dynamic_events()))
        if name in _BY_ANSWER:
            return self._noting(found, lambda *given: self._note_answer(name, given))
        self.cacheable = False
        return found

    def members(self, struct: Any) -> Any:
        """See `TypeSource`."""
        if struct.origin:
            self._note_binary(struct.origin)
        return self._host.members(struct)

    def c_definitions(self, text: str) -> Any:
        """See `Host`. Headers may come from many places, so a program that includes some is compiled each time."""
        found = self._host.c_definitions(text)
        if found.headers:
            self.cacheable = False
        return found

    def facts(self) -> tuple[Fact, ...]:
        """Everything that must still hold, the cheapest first; the code of pytrace and LLVM themselves included."""
        ours = [
            module.__file__
            for name, module in sys.modules.items()
            if name.partition(".")[0] in ("pytrace", "llvmlite") and getattr(module, "__file__", None)
        ]
        return (FilesFact.of(map(str, ours)), *self._facts)

    def _noting(self, method: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def ask(*arguments: Any) -> Any:
            note(*arguments)
            return method(*arguments)

        return ask

    def _note(self, fact: Fact) -> None:
        self._facts[fact] = None

    def _note_binary(self, path: str) -> None:
        """An ELF file, and the separate file that has its symbols or debug information."""
        file = container(path)
        fact = FileFact(file, stat_of(file))
        if fact not in self._facts:
            self._note(fact)
            self._note(DebugFileFact(path, _debug_file(path)))

    def _note_answer(self, method: str, arguments: tuple[Any, ...]) -> None:
        answer = answer_of(getattr(self._host, method), arguments)
        self._note(AnswerFact(method, arguments, digest_of([answer])))


@dataclass(frozen=True, slots=True)
class DebugFileFact(Fact):
    """The separate debug file of a binary, None if it has none: it may be installed or updated later."""

    path: str
    found: tuple[str, Stat | None] | None

    def holds(self, host: MakeHost) -> bool:
        host()  # it knows the folders of --debuginfo
        return _debug_file(self.path) == self.found


def _debug_file(path: str) -> tuple[str, Stat | None] | None:
    try:
        with ElfFile(path) as file:
            found = file.debug_file()
    except HostError:
        return None
    return None if found is None else (found, stat_of(found))


def _dynamic_events() -> TextFact:
    path = os.path.join(tracefs() or "/", _DYNAMIC)
    return TextFact(path, _text_digest(path))
