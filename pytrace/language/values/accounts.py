"""Numbers that stand for an account or a control group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache

from pytrace.grammar.hints import ClassVar
from pytrace.grammar.spec import Services, ValueKind, feature
from pytrace.grammar.types import Opaque

PASSWD = "/etc/passwd"
MOUNTINFO = "/proc/self/mountinfo"


@feature
class Username(ValueKind):
    """A user id, shown as the account's name; empty if there is none.

    The name is that of the first line of /etc/passwd with the id.

    bt> tracepoint:syscalls:sys_enter_openat { @[username] = count(); }
    """

    name = "username_t"

    def text(self, kind: Opaque, data: bytes, services: Services) -> str:
        return account_name(int.from_bytes(data[:8], "little"))


def account_name(uid: int, path: str = PASSWD) -> str:
    """The name of the account with this user id, as the file says now (passwd(5))."""
    stat = os.stat(path)
    return _accounts(path, stat.st_mtime_ns, stat.st_ino).get(uid, "")


@lru_cache(maxsize=4)
def _accounts(path: str, changed: int, inode: int) -> dict[int, str]:
    found: dict[int, str] = {}
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(":")
            if len(fields) > 2 and fields[2].isdigit():
                found.setdefault(int(fields[2]), fields[0])
    return found


@feature
class CgroupPath(ValueKind):
    """A control group id, shown as `hierarchy:/path`, the result of `cgroup_path()`.

    The value is {u64, u64 id}; the type's parameter is the glob that hierarchies' names must match. The
    unified hierarchy is named `unified`, older ones by the directory they are mounted on.

    bt> begin { print(cgroup_path(cgroup)); }
    """

    name = "cgroup_path_t"
    size: ClassVar[int] = 16

    def text(self, kind: Opaque, data: bytes, services: Services) -> str:
        number = int.from_bytes(data[8:16], "little")
        return cgroup_paths(number, str(kind.params[0]) if kind.params else "*")


def cgroup_paths(number: int, glob: str) -> str:
    """`name:/path` of the directory with this inode in each hierarchy that matches, joined with commas."""
    found = []
    for name, top in _hierarchies():
        path = _find_directory(top, number) if fnmatchcase(name, glob) else None
        if path is not None:
            found.append(f"{name}:/{path}")
    return ",".join(found)


def _hierarchies(mountinfo: str = MOUNTINFO) -> list[tuple[str, str]]:
    """Name and mount directory of each hierarchy, the unified one first, the others by name (proc(5))."""
    unified, older = [], []
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            directory = before.split()[4]
            kind = after.split()[0]
            if kind == "cgroup2":
                unified.append(("unified", directory))
            elif kind == "cgroup":
                older.append((os.path.basename(directory), directory))
    return unified[:1] + sorted(older)


def _find_directory(top: str, inode: int) -> str | None:
    """The path, relative to `top`, of the directory with this inode."""
    if os.stat(top).st_ino == inode:
        return ""
    return next((path for path, number in _directories(top) if number == inode), None)


def _directories(top: str, under: str = "") -> Iterator[tuple[str, int]]:
    """Relative path and inode of every directory below; ones that vanish meanwhile are passed over."""
    try:
        entries = [e for e in os.scandir(os.path.join(top, under)) if e.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for entry in entries:
        path = f"{under}/{entry.name}" if under else entry.name
        yield path, entry.inode()
        yield from _directories(top, path)
