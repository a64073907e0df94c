"""The files that processes have mapped, found again when their symbols are asked for: also when the process is
gone, when the file was deleted, and when another one has taken its place.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from typing import NamedTuple  # noqa: TID251 (a program that shows stacks can afford it)

from pytrace.grammar.data import dataclass, field
from pytrace.grammar.host import HostError
from pytrace.runtime.elf import ElfFile

MAX_FILES = 8192
MAX_OPEN = 128  # files that are kept open because nobody may find them again
DELETED = " (deleted)"
VDSO = "[vdso]"

NameOfFile = tuple[bytes, int, str]  # build id (empty: unknown), inode (0: unknown), path


class Place(NamedTuple):
    """Where a mapping was seen: enough to open the mapped file itself as long as the process lives."""

    pid: int
    start: int
    end: int
    parent: int = 0


@dataclass(slots=True)
class MappedFile:
    """A file as it was named when it was mapped.

    `descriptor` is -1 unless it is kept open. `since` is the time (seconds since 1970) when it was first seen,
    `places` are where, `tried` those places at which it was looked for in vain.
    """

    build_id: bytes
    inode: int
    path: str
    descriptor: int = -1
    places: tuple[Place, ...] = ()
    tried: tuple[Place, ...] = ()
    since: float = field(default_factory=time.time)

    @property
    def shown(self) -> str:
        """The path without the kernel's remark."""
        return self.path.removesuffix(DELETED)

    @property
    def code(self) -> bool:
        """Whether it is not a file but memory that a process fills by itself."""
        return anonymous(self.path) and not self.build_id

    def candidates(self) -> list[str]:
        """Where the file may be opened, surest first."""
        if self.descriptor >= 0:
            return [f"/proc/self/fd/{self.descriptor}"]
        found = [f"/proc/{p.pid}/map_files/{p.start:x}-{p.end:x}" for p in self.places]
        if self.shown.startswith("/") and not self.path.endswith(DELETED):
            numbers = [n for p in self.places for n in (p.pid, p.parent) if n]
            found += [f"/proc/{n}/root{self.path}" for n in numbers]
            found.append(self.path)
        return found

    def matches(self, path: str) -> bool:
        """Whether what can be opened there is this file, and not another that has taken its place."""
        if path.startswith("/proc/self/fd/"):
            return True
        if self.build_id:
            return build_id_of(path) == self.build_id
        try:
            status = os.stat(path)
        except OSError:
            return False
        # File systems of layers show inodes that differ, so an older file is taken for the right one.
        return not self.inode or status.st_ino == self.inode or status.st_ctime < self.since


def anonymous(path: str) -> bool:
    """Whether a path of /proc/PID/maps stands for memory without a file."""
    return not path or path.startswith(("//anon", "[anon", "[heap", "[stack", "/memfd:", "/dev/zero", "/SYSV", "anon_"))


def build_id_of(path: str) -> bytes:
    """The build id of a file; empty if it has none or cannot be read."""
    try:
        with ElfFile(path) as file:
            return file.build_id
    except (OSError, HostError):
        return b""


class MappedFiles:
    """Numbers for files. `hold` keeps new files open, so that they can be read after they were deleted."""

    def __init__(self, hold: bool = False) -> None:
        self.hold = hold
        self._numbers: dict[NameOfFile, int] = {}
        self._files: OrderedDict[int, tuple[NameOfFile, MappedFile]] = OrderedDict()
        self._open: OrderedDict[int, MappedFile] = OrderedDict()
        self._next = 0

    def number(self, name: NameOfFile, place: Place) -> int:
        """The number of a file that was seen mapped at a place."""
        known = self._numbers.get(name)
        if known is not None:
            file = self._files[known][1]
            if file.descriptor < 0 and (not file.places or file.places[-1].pid != place.pid):
                file.places = (*file.places[-1:], place)  # another process that may live longer
            return known
        number = self._numbers[name] = self._next
        self._next += 1
        build_id, inode, path = name
        file = MappedFile(build_id, inode, path)
        self._files[number] = name, file
        if path != VDSO:
            file.places = (place,)
            if self.hold and not file.code:
                self._keep_open(number, file)
        if len(self._files) > MAX_FILES:
            oldest, (old_name, _) = self._files.popitem(last=False)
            del self._numbers[old_name]
            self._close(oldest)
        return number

    def get(self, number: int) -> MappedFile | None:
        """The file of a number; None if it was forgotten."""
        found = self._files.get(number)
        return found[1] if found else None

    def close(self) -> None:
        """Let go of all files."""
        for number in list(self._open):
            self._close(number)

    def _keep_open(self, number: int, file: MappedFile) -> None:
        for path in file.candidates():
            try:
                if not file.matches(path):
                    continue
                file.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                continue
            self._open[number] = file
            break
        if len(self._open) > MAX_OPEN:
            self._close(next(iter(self._open)))

    def _close(self, number: int) -> None:
        file = self._open.pop(number, None)
        if file is not None:
            os.close(file.descriptor)
            file.descriptor = -1
