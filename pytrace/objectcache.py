"""Compiled programs kept from one run to the next: a second run of a program needs neither the parser nor LLVM.

An entry is found by everything that is known before compiling (the text, the options, the environment, the kernel);
what the compiler then asked the machine is kept in it as facts, and an entry whose facts do not all hold is
compiled again. Nothing is taken from a folder or file that somebody else may write to.
"""

from __future__ import annotations

import os
import pickle
import stat
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module

from pytrace import __version__
from pytrace.grammar.data import replace
from pytrace.grammar.hints import TYPE_CHECKING
from pytrace.grammar.lines import HOST_FORMAT, HostCode
from pytrace.options import Options
from pytrace.runtime.facts import Fact, MakeHost, digest_of, kernel_identity, stat_of

if TYPE_CHECKING:
    from pytrace.compilation import Compilation
    from pytrace.grammar.host import Host
    from pytrace.grammar.lines import Piece

FOLDER_VARIABLE = "PYTRACE_CACHE_DIR"
_SYSTEM_FOLDER = "/var/cache/pytrace"
_FORMAT = 2  # of the entries
_SUFFIX = ".pytrace"
MAX_BYTES = 64 << 20
MAX_ENTRIES = 1000
# settings that name a file which the compiler reads
_FILES = ("BPFTRACE_BTF", "BPFTRACE_VMLINUX")

Compile = Callable[["Host"], "Compilation"]


def cache_folder(environment: Mapping[str, str] = os.environ) -> str:
    """Where entries are kept: PYTRACE_CACHE_DIR; else of root's /var/cache/pytrace, of others their cache folder."""
    if given := environment.get(FOLDER_VARIABLE):
        return given
    if os.geteuid() == 0:
        return _SYSTEM_FOLDER
    base = environment.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "pytrace")


class ObjectCache:
    """The compiled programs in one folder. Where it cannot be used safely, everything is compiled anew."""

    def __init__(self, folder: str | None = None) -> None:
        self.folder = cache_folder() if folder is None else folder

    def compilation(self, text: str, name: str, options: Options, make_host: MakeHost, compile: Compile) -> Compilation:
        """The compiled program, from the cache if it is there and still right; otherwise made and kept.

        `compile` gets the host to ask. Raises what it raises.
        """
        if options.stages or not options.cache:
            return compile(make_host())
        path = os.path.join(self.folder, entry_name(text, name, options))
        known = self._load(path, make_host)
        if known is not None:
            return known
        from pytrace.runtime.recording import RecordingHost

        recorder = RecordingHost(make_host())
        made = compile(recorder)
        if recorder.cacheable:
            self._store(path, recorder.facts(), made)
        return made

    def host_code(self, lines: Mapping[int, tuple[Piece, ...]]) -> HostCode | None:
        """The machine code of this machine for lines, by action, if it was kept."""
        data = self._read(self._host_path(lines))
        if data is None:
            return None
        try:
            found = pickle.loads(data)
        except Exception:  # cut off, or of classes that have changed since
            return None
        return found if isinstance(found, HostCode) else None

    def keep_host_code(self, lines: Mapping[int, tuple[Piece, ...]], code: HostCode) -> None:
        """Keep machine code for `host_code`."""
        self._write(self._host_path(lines), pickle.dumps(code, pickle.HIGHEST_PROTOCOL))

    def _host_path(self, lines: Mapping[int, tuple[Piece, ...]]) -> str:
        parts = (_FORMAT, HOST_FORMAT, __version__, sys.version, os.uname().machine, sorted(lines.items()))
        return os.path.join(self.folder, digest_of(parts).hex() + _SUFFIX)

    def clear(self) -> int:
        """Remove every entry; returns how many there were. Raises OSError."""
        paths = [entry.path for entry in self._entries()]
        for path in paths:
            os.unlink(path)
        return len(paths)

    # ---- reading

    def _load(self, path: str, make_host: MakeHost) -> Compilation | None:
        data = self._read(path)
        if data is None:
            return None
        try:
            facts: tuple[Fact, ...]
            facts, payload = pickle.loads(data)
            if not all(fact.holds(make_host) for fact in facts):
                return None
            found: Compilation = pickle.loads(payload)
            for module in found.features:
                import_module(module)
        except Exception:  # an entry that is cut off, or of classes that have changed since
            return None
        with suppress(OSError):
            os.utime(path)  # the entries that are used live longest
        return found

    def _read(self, path: str) -> bytes | None:
        """The bytes of an entry; None if there is none, or others may write to it or to its folder."""
        if not _is_private(self.folder, stat.S_ISDIR):
            return None
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or not _is_ours(found):
                return None
            return file.read()

    # ---- writing

    def _store(self, path: str, facts: tuple[Fact, ...], made: Compilation) -> None:
        """Keep an entry, whole or not at all. A cache that cannot be written is no reason to complain."""
        self._write(path, pickle.dumps((facts, pickle.dumps(made, pickle.HIGHEST_PROTOCOL)), pickle.HIGHEST_PROTOCOL))

    def _write(self, path: str, data: bytes) -> None:
        if len(data) > MAX_BYTES // 4:
            return
        import tempfile  # only who writes pays for it

        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            if not _is_private(self.folder, stat.S_ISDIR):
                return
            descriptor, temporary = tempfile.mkstemp(dir=self.folder)  # mode 0600
            with open(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
            self._shrink()
        except OSError:
            return

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            return [entry for entry in os.scandir(self.folder) if entry.name.endswith(_SUFFIX)]
        except FileNotFoundError:
            return []

    def _shrink(self) -> None:
        """Drop the entries that were not used for longest until the rest is within the limits."""
        entries = sorted(((e.stat().st_mtime_ns, e.stat().st_size, e.path) for e in self._entries()), reverse=True)
        total = 0
        for number, (_, size, path) in enumerate(entries, 1):
            total += size
            if number > MAX_ENTRIES or total > MAX_BYTES:
                os.unlink(path)


def entry_name(text: str, name: str, options: Options) -> str:
    """The file name of an entry: a digest of all that is known to shape the code before it is compiled."""
    environment = {**os.environ, **dict(options.environment)}
    settings = sorted((key, value) for key, value in environment.items() if key.startswith("BPFTRACE_"))
    # these decide how a program is run and shown, not what is compiled
    compiled = replace(options, verbose=False, dry_run=False, strict=False, values=True, cache=True, color=False)
    parts = (
        _FORMAT, __version__, os.path.dirname(__file__), sys.version, kernel_identity(), name, text, compiled, settings,
        [stat_of(environment.get(key, "")) for key in _FILES], stat_of(options.traceable),
    )  # fmt: skip
    return digest_of(parts).hex() + _SUFFIX


def _is_private(path: str, kind: Callable[[int], bool]) -> bool:
    """Whether a folder is really one, ours, and nobody else can write to it."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return kind(found.st_mode) and _is_ours(found)


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
