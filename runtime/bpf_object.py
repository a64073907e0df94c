"""A BPF object in the kernel: its programs and maps, through libbpf."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable

from pytrace.grammar.hints import Any
from pytrace.runtime import libbpf

# libbpf's notice tells which program the kernel refused; there is no function that does
_FAILED_PROGRAM = r"prog '(.+?)': (?:BPF program load failed|failed to )"


class LoadError(Exception):
    """The kernel or libbpf refuses the object.

    `program` is the symbol of the program it happened with, empty when it was a map or the object as a
    whole; `errno` the error number; `log` the verifier's log or, when there is none, libbpf's messages;
    `truncated` says that the log did not fit in its buffer.
    """

    def __init__(self, program: str, errno: int, log: str, truncated: bool = False) -> None:
        self.program, self.errno, self.log, self.truncated = program, errno, log, truncated
        what = f"program {program}" if program else "the BPF object"
        super().__init__(f"cannot load {what}: {os.strerror(errno)}")


class BpfObject:
    """An object opened from memory: adjust it, then `load` it. Close it at the end."""

    def __init__(self, data: bytes, log_size: int = 1_000_000, log_level: int = 0) -> None:
        self._lib = libbpf.library()
        self._log = ctypes.create_string_buffer(log_size)
        self._logs: dict[str, ctypes.Array[ctypes.c_char]] = {}
        self._notices: list[str] = []
        options = libbpf.OpenOptions(
            size=ctypes.sizeof(libbpf.OpenOptions),
            object_name=b"pytrace",
            kernel_log_buf=ctypes.addressof(self._log),
            kernel_log_size=log_size,
            kernel_log_level=log_level,
        )
        with libbpf.listen(self._notice):
            self._handle = self._lib.bpf_object__open_mem(data, len(data), ctypes.byref(options))
        if not self._handle:
            raise LoadError("", ctypes.get_errno(), "".join(self._notices))

    def keep_log(self, symbol: str) -> None:
        """Before the load: give a program a log of its own, to be found in `logs`."""
        self._logs[symbol] = log = ctypes.create_string_buffer(len(self._log))
        self._lib.bpf_program__set_log_buf(self.program(symbol), log, len(log))

    def load_only(self, symbols: set[str]) -> None:
        """Before the load: leave out all programs but these."""
        program = None
        while program := self._lib.bpf_object__next_program(self._handle, program):
            if self._lib.bpf_program__name(program).decode() not in symbols:
                self._lib.bpf_program__set_autoload(program, False)

    @property
    def logs(self) -> dict[str, str]:
        """What the verifier wrote about each program whose log is kept, if the log level is not 0."""
        return {symbol: _text(log) for symbol, log in self._logs.items()}

    def load(self) -> None:
        """Create the maps and load the programs; raises `LoadError`."""
        with libbpf.listen(self._notice):
            result = self._lib.bpf_object__load(self._handle)
        if result < 0:
            raise self._load_error(-result)

    def program(self, symbol: str) -> Any:
        """libbpf's handle of a program."""
        return self._found(self._lib.bpf_object__find_program_by_name, "program", symbol)

    def program_fd(self, symbol: str) -> int:
        """The file descriptor of a loaded program."""
        return int(self._lib.bpf_program__fd(self.program(symbol)))

    def has_map(self, symbol: str) -> bool:
        """Whether there is a map of that name."""
        return bool(self._lib.bpf_object__find_map_by_name(self._handle, symbol.encode()))

    def map_fd(self, symbol: str) -> int:
        """The file descriptor of a map; before the load it is -1."""
        return int(self._lib.bpf_map__fd(self._map(symbol)))

    def map_entries(self, symbol: str) -> int:
        """`max_entries` of a map."""
        return int(self._lib.bpf_map__max_entries(self._map(symbol)))

    def map_value_size(self, symbol: str) -> int:
        """Bytes of a value of a map."""
        return int(self._lib.bpf_map__value_size(self._map(symbol)))

    def resize_map(self, symbol: str, entries: int) -> None:
        """Set `max_entries` of a map before the load."""
        result = self._lib.bpf_map__set_max_entries(self._map(symbol), entries)
        if result < 0:
            raise LoadError("", -result, f"cannot give map {symbol} {entries} entries")

    def set_inner_map(self, symbol: str, fd: int) -> None:
        """Say before the load what the maps in a map of maps are like."""
        result = self._lib.bpf_map__set_inner_map_fd(self._map(symbol), fd)
        if result < 0:
            raise LoadError("", -result, f"cannot say what map {symbol} holds")

    def close(self) -> None:
        """Release programs and maps; links keep their programs until they are closed."""
        if self._handle:
            self._lib.bpf_object__close(self._handle)
            self._handle = None

    def _map(self, symbol: str) -> Any:
        return self._found(self._lib.bpf_object__find_map_by_name, "map", symbol)

    def _found(self, find: Callable[..., Any], kind: str, symbol: str) -> Any:
        handle = find(self._handle, symbol.encode())
        if not handle:
            raise KeyError(f"the object has no {kind} {symbol}")
        return handle

    def _notice(self, _level: int, text: str) -> None:
        self._notices.append(text)

    def _load_error(self, number: int) -> LoadError:
        notices = "".join(self._notices)
        failed = re.search(_FAILED_PROGRAM, notices)
        program = failed[1] if failed else ""
        log = self._logs.get(program, self._log)
        truncated = len(log.value) >= len(log) - 1
        return LoadError(program, number, _text(log) or notices, truncated)


def _text(log: ctypes.Array[ctypes.c_char]) -> str:
    return bytes(log.value).decode("utf-8", "replace")
