"""Which ELF files the target of a user probe stands for (reference part 1, 4.5)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from functools import cache

from pytrace.grammar.host import HostError
from pytrace.runtime.elf import ET_DYN, ET_EXEC, ElfFile
from pytrace.runtime.roots import distinct, executable, real_path, root_of
from pytrace.runtime.zipped import container, is_member, locate

_LD_CACHE = "/etc/ld.so.cache"
_LD_MAGIC = b"glibc-ld.so.cache1.1"
# FLAG_ELF_LIBC6 | FLAG_X8664_LIB64, sysdeps/generic/ldconfig.h in glibc
_LD_X86_64 = 0x0303


def resolve(target: str, pid: int | None = None, unsafe: bool = False) -> list[str]:
    """The files of a target, best first; empty if there are none that can be probed.

    `unsafe` takes any file that exists. With `pid` the libraries, the executables for `*` and `$PATH` are
    that process's, `/proc/PID/exe` is its executable, and if it lives in another mount namespace its files are found
    through `/proc/PID/root`.

    Raises:
        HostError: the target leads into a ZIP file, and there is nothing that can be mapped from there; or the
            process is gone.
    """
    root = root_of(pid)
    if target.startswith("lib") and "*" not in target and "/" not in target:
        library = _library(target, pid, root)
        if library is not None:
            return [library]
    if pid is not None and target == f"/proc/{pid}/exe":
        return [executable(pid)]
    return distinct(path for path in _candidates(target, pid, root) if _usable(path, unsafe))


def _candidates(target: str, pid: int | None, root: str) -> Iterator[str]:
    """The files that a target may mean, whether they are there or not."""
    if target == "*":
        yield from mapped_files(None if pid is None else [pid])
        return
    if "/" in target:
        places = [target]
    else:
        places = [f"./{target}", *(f"{folder}/{target}" for folder in _search_path(pid))]
    for place in places:
        if root and not place.startswith("/"):
            place = f"{root}{os.readlink(f'/proc/{pid}/cwd')}/{place}"
        elif root and not place.startswith(f"/proc/{pid}/"):
            place = root + place
        for path in _expanded(place):
            yield real_path(path) if root else path


def _expanded(place: str) -> list[str]:
    """The paths that a pattern stands for."""
    if "*" not in place:
        return [place]
    import glob  # most targets do without

    return sorted(glob.glob(place))


def _usable(path: str, unsafe: bool) -> bool:
    if not os.path.isfile(container(path)):
        return False
    if unsafe and not is_member(path):
        return True
    if is_member(path):
        locate(path)
    try:
        with ElfFile(path) as file:
            # A PIE looks like a shared object and, like one, needs no execute permission to be probed.
            return file.type == ET_DYN or (file.type == ET_EXEC and os.access(path, os.X_OK))
    except HostError:
        return False


def explain(target: str, pid: int | None = None) -> str:
    """Why `resolve` found nothing for a target, and what to do about it: a sentence or two."""
    root = root_of(pid)
    where = f" in the mount namespace of process {pid}" if root else ""
    for path in _candidates(target, pid, root):
        if os.path.isdir(path):
            return f"{path} is a folder: give a file, or {path.rstrip('/')}/* for all in it."
        if not os.path.exists(path):
            continue
        try:
            with open(path, "rb") as file:
                start = file.read(256)
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}."
        if start.startswith(b"#!"):
            interpreter = start[2:].split(b"\n")[0].decode("utf-8", "replace").strip()
            return f"{path} is a script: its functions are not the machine's. Trace its interpreter ({interpreter})."
        if not start.startswith(b"\x7fELF"):
            return f"{path} is not an ELF file, so it has no functions."
        if start[4:6] != b"\x02\x01":
            return f"{path} is an ELF file of another machine: only 64-bit little-endian ones can be probed."
        return f"{path} is a program without permission to execute: chmod +x it, or give --unsafe."
    from pytrace.grammar.diagnostics import nearest  # only mistakes need it

    near = nearest(os.path.basename(target), _names(target, pid, root), 1)
    if near:
        return f"There is no such file{where}; did you mean {os.path.join(os.path.dirname(target), near[0])}?"
    advice = "Give the full path; a bare name is looked up in $PATH, libNAME among the libraries."
    return f"There is no such file{where}. {advice}"


def _names(target: str, pid: int | None, root: str) -> set[str]:
    """Names that might be meant by one that is not there."""
    folders = [os.path.dirname(target) or "/"] if "/" in target else _search_path(pid)
    names = {name for name, _ in _ld_cache(root + _LD_CACHE)} if target.startswith("lib") else set()
    for folder in folders:
        if os.path.isdir(root + folder) and os.access(root + folder, os.R_OK):
            names.update(os.listdir(root + folder))
    start = os.path.basename(target)[:1]
    return {name for name in names if name[:1] == start}


def _library(target: str, pid: int | None, root: str) -> str | None:
    """`libc` is found as `libc.so` or `libc.so.*`, `libssl.so.3` as that."""
    wanted = target if ".so" in target else f"{target}.so"

    def matches(name: str) -> bool:
        return name == wanted or (wanted == f"{target}.so" and name.startswith(f"{wanted}."))

    if pid is not None:
        for path in mapped_files([pid]):
            if matches(os.path.basename(path)) and os.path.exists(path):
                return path
    for name, path in _ld_cache(root + _LD_CACHE):
        place = real_path(root + path) if root else path
        if matches(name) and os.path.exists(place):
            return place
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
        root = root_of(pid)
        try:
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
                for line in maps:
                    parts = line.rstrip("\n").split(None, 5)
                    if len(parts) == 6 and "x" in parts[1] and parts[5].startswith("/"):
                        found.setdefault(root + parts[5])
        except OSError:  # the process has gone
            continue
    return list(found)


def running() -> Iterator[int]:
    """The numbers of all processes."""
    yield from (int(name) for name in os.listdir("/proc") if name.isdigit())


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
