"""Files of processes that live in another mount namespace: we reach them through `/proc/PID/root` (proc_pid_root(5)).

The kernel follows a symbolic link with an absolute target from *our* root, even in the middle of such a path, so
links must be followed by hand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from pytrace.grammar.host import HostError

_ROOTED = r"(?s:(/proc/[0-9]+/root)(/.*))"
_MOST_LINKS = 40  # MAXSYMLINKS, include/linux/namei.h


def root_of(pid: int | None) -> str:
    """The prefix under which we see a process's files: empty in our own mount namespace."""
    if pid is None:
        return ""
    try:
        theirs, ours = os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink("/proc/self/ns/mnt")
    except OSError:
        return ""
    return "" if theirs == ours else f"/proc/{pid}/root"


def split_root(path: str) -> tuple[str, str]:
    """The prefix of a path into another mount namespace (empty: none), and the path as it is there."""
    found = re.fullmatch(_ROOTED, path)
    return (found[1], found[2]) if found else ("", path)


def real_path(path: str) -> str:
    """The path without symbolic links, but for the prefix into another mount namespace."""
    root, rest = split_root(path)
    return root + _inside(root, rest) if root else os.path.realpath(path)


def _inside(root: str, path: str) -> str:
    """Where a path leads for a process whose root directory is `root`."""
    done, todo, links = "", path.split("/")[::-1], 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            done = done.rpartition("/")[0]
            continue
        try:
            target = os.readlink(f"{root}{done}/{part}")
        except OSError:  # no link, or nothing
            done = f"{done}/{part}"
            continue
        links += 1
        if links > _MOST_LINKS:
            return path
        if target.startswith("/"):
            done = ""
        todo += target.split("/")[::-1]
    return done or "/"


def executable(pid: int) -> str:
    """The executable of a process, also when its file was deleted.

    Raises:
        HostError: the process does not exist, or its executable is not for us to know.
    """
    link = f"/proc/{pid}/exe"
    try:
        path = root_of(pid) + os.readlink(link)
    except OSError as error:
        raise HostError(f"the executable of process {pid} cannot be found: {error.strerror}") from error
    return path if _same(path, link) else link


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def distinct(paths: Iterable[str]) -> list[str]:
    """The files that exist, each by its first path: /bin is often another name of /usr/bin."""
    found: dict[tuple[int, int, str], str] = {}
    for path in paths:
        file, mark, member = path.partition("!/")
        try:
            status = os.stat(path)
        except OSError:
            try:
                status = os.stat(file)
            except OSError:
                continue
            found.setdefault((status.st_dev, status.st_ino, mark + member), path)
        else:
            found.setdefault((status.st_dev, status.st_ino, ""), path)
    return list(found.values())
