"""Which ELF files the target of a user probe stands for (reference part 1, 4.5)."""

from __future__ import annotations

import glob
import os
import struct
from collections.abc import Iterable, Iterator
from functools import cache

from pytrace.grammar.host import HostError
from pytrace.runtime.elf import ET_DYN, ET_EXEC, ElfFile

_LD_CACHE = "/etc/ld.so.cache"
_LD_MAGIC = b"glibc-ld.so.cache1.1"
# FLAG_ELF_LIBC6 | FLAG_X8664_LIB64, sysdeps/generic/ldconfig.h in glibc
_LD_X86_64 = 0x0303


def resolve(target: str, pid: int | None = None, unsafe: bool = False) -> list[str]:
    """The files of a target, best first; empty if there are none that can be probed.

    `unsafe` takes any file that exists. With `pid` the libraries, the executables for `*` and `$PATH` are
    that process's, and if it lives in another mount namespace its files are found through `/proc/PID/root`.
    """
    root = _root_of(pid)
    if target.startswith("lib") and "*" not in target and "/" not in target:
        library = _library(target, pid, root)
        if library is not None:
            return [library]
    if target == "*":
        candidates: Iterable[str] = mapped_files(None if pid is None else [pid])
    elif "/" in target:
        candidates = [target]
    else:
        candidates = [f"./{target}", *(f"{folder}/{target}" for folder in _search_path(pid))]
    found: dict[str, str] = {}  # by real path: /bin is often another name of /usr/bin
    for candidate in candidates:
        place = root + candidate if candidate.startswith("/") else candidate
        for path in sorted(glob.glob(place)) if "*" in place else [place]:
            if _usable(path, unsafe):
                found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _usable(path: str, unsafe: bool) -> bool:
    if not os.path.isfile(path):
        return False
    if unsafe:
        return True
    try:
        with ElfFile(path) as file:
            # A PIE looks like a shared object and, like one, needs no execute permission to be probed.
            return file.type == ET_DYN or (file.type == ET_EXEC and os.access(path, os.X_OK))
    except HostError:
        return False


def _library(target: str, pid: int | None, root: str) -> str | None:
    """`libc` is found as `libc.so` or `libc.so.*`, `libssl.so.3` as that."""
    wanted = target if ".so" in target else f"{target}.so"

    def matches(name: str) -> bool:
        return name == wanted or (wanted == f"{target}.so" and name.startswith(f"{wanted}."))

    if pid is not None:
        for path in mapped_files([pid]):
            if matches(os.path.basename(path)) and os.path.exists(root + path):
                return root + path
    for name, path in _ld_cache(root + _LD_CACHE):
        if matches(name) and os.path.exists(root + path):
            return root + path
    return None


@cache
def _ld_cache(path: str) -> tuple[tuple[str, str], ...]:
    """Name and path of each x86-64 library that ldconfig(8) knows (struct cache_file_new in glibc)."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return ()
    start = data.find(_LD_MAGIC)  # it may follow a table in the older format
    if start < 0:
        return ()
    data = data[start:]
    (count,) = struct.unpack_from("<I", data, 20)
    found = []
    for index in range(count):
        flags, key, value = struct.unpack_from("<III", data, 48 + index * 24)
        if flags == _LD_X86_64:
            name, place = (data[at : data.index(0, at)].decode() for at in (key, value))
            found.append((name, place))
    return tuple(found)


def mapped_files(pids: Iterable[int] | None = None) -> list[str]:
    """The files that processes (by default all running ones) have mapped executable, in order of first
    sight."""
    found: dict[str, None] = {}
    for pid in running() if pids is None else pids:
        try:
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
                for line in maps:
                    parts = line.rstrip("\n").split(None, 5)
                    if len(parts) == 6 and "x" in parts[1] and parts[5].startswith("/"):
                        found.setdefault(parts[5])
        except OSError:  # the process has gone
            continue
    return list(found)


def running() -> Iterator[int]:
    """The numbers of all processes."""
    yield from (int(name) for name in os.listdir("/proc") if name.isdigit())


def executable(pid: int) -> str:
    """The executable of a process.

    Raises:
        HostError: the process does not exist, or its executable is not for us to know.
    """
    try:
        path = os.readlink(f"/proc/{pid}/exe")
    except OSError as error:
        raise HostError(f"the executable of process {pid} cannot be found: {error.strerror}") from error
    return _root_of(pid) + path


def _search_path(pid: int | None) -> list[str]:
    path = os.environ.get("PATH", "")
    if pid is not None:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = dict(entry.partition(b"=")[::2] for entry in file.read().split(b"\0"))
            path = environment.get(b"PATH", b"").decode("utf-8", "surrogateescape")
        except OSError:
            pass
    return [folder for folder in path.split(":") if folder]


def _root_of(pid: int | None) -> str:
    """The prefix under which we see a process's files: empty in our own mount namespace."""
    if pid is None:
        return ""
    try:
        theirs, ours = os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink("/proc/self/ns/mnt")
    except OSError:
        return ""
    return "" if theirs == ours else f"/proc/{pid}/root"
