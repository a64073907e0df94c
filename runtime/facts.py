"""What was so when a program was compiled, so that a later run can tell whether the answers would be the same.

`Fact.holds` looks again, which is much cheaper than compiling. What cannot change while this kernel runs with these
modules is part of `kernel_identity`. Which facts there are of a compilation: `recording`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from pytrace.grammar.data import dataclass
from pytrace.grammar.hints import TYPE_CHECKING, Any
from pytrace.runtime.textfile import read_bytes, read_text

if TYPE_CHECKING:
    from pytrace.grammar.host import Host

try:
    from _blake2 import blake2b  # hashlib has the same, but loads OpenSSL for it, which takes longer than all the rest
except ImportError:
    from hashlib import blake2b

_NOTES = "/sys/kernel/notes"  # ELF notes of the kernel, its build id among them
_BOOT = "/proc/sys/kernel/random/boot_id"
_MODULES = "/proc/modules"

MakeHost = Callable[[], "Host"]  # few facts need a host, and it takes time to make one
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
        return text_digest(self.path) == self.digest


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
    from pytrace.grammar.host import HostError

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
    parts: list[object] = [read_bytes(_BOOT), os.uname().release, os.uname().version]
    try:
        parts.append(read_bytes(_NOTES))
        # name, size and address; the counts of users in between change all the time
        lines = read_text(_MODULES).splitlines()
        parts += [(words[0], words[1], words[-1]) for words in map(str.split, lines)]
    except OSError:  # a kernel without modules, or without notes
        pass
    return digest_of(parts)


def digest_of(parts: Iterable[object]) -> bytes:
    """A digest of the `repr` of some plain values: numbers, texts, tuples, dataclasses of those."""
    return bytes(blake2b(repr(tuple(parts)).encode("utf-8", "surrogateescape"), digest_size=16).digest())


def text_digest(path: str) -> bytes:
    """A digest of a file's text, or of why it cannot be read."""
    try:
        data: object = read_bytes(path)
    except OSError as error:
        data = error.errno
    return digest_of([data])


@dataclass(frozen=True, slots=True)
class DebugFileFact(Fact):
    """The separate debug file of a binary, None if it has none: it may be installed or updated later."""

    path: str
    found: tuple[str, Stat | None] | None

    def holds(self, host: MakeHost) -> bool:
        host()  # it knows the folders of --debuginfo
        return debug_file(self.path) == self.found


def debug_file(path: str) -> tuple[str, Stat | None] | None:
    """The separate debug file of a binary, and what stat(2) says of it; None if it has none."""
    from pytrace.grammar.host import HostError
    from pytrace.runtime.elf import ElfFile

    try:
        with ElfFile(path) as file:
            found = file.debug_file()
    except HostError:
        return None
    return None if found is None else (found, stat_of(found))
