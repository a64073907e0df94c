"""Running machine code that reads a ring buffer (`HostCode`): 0.1 µs a record that becomes a line."""

from __future__ import annotations

import ctypes
import mmap
import os

from pytrace.grammar.hints import Any
from pytrace.grammar.lines import EMPTY, FULL, HostCode

BUFFER = 1 << 18  # bytes of text that are written at once, at least


class Reading(ctypes.Structure):
    """What the machine code is given, and gives back: `stop` is the end of the text, `records` how many there were."""

    _fields_ = [
        ("consumer", ctypes.c_void_p),
        ("producer", ctypes.c_void_p),
        ("ring", ctypes.c_void_p),
        ("mask", ctypes.c_uint64),
        ("buffer", ctypes.c_void_p),
        ("limit", ctypes.c_uint64),
        ("data", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
        ("stop", ctypes.c_uint64),
        ("records", ctypes.c_uint64),
    ]


class NativeReader:
    """Takes records out of one ring buffer and makes lines of them. The ring's memory must outlive it.

    `consumer` and `producer` are the addresses of the two positions, `ring` that of `size` bytes of data.
    Raises OSError where the system does not allow to run code that was made at run time.
    """

    def __init__(self, code: HostCode, consumer: int, producer: int, ring: int, size: int) -> None:
        self.numbers = frozenset(code.numbers)
        self.needs_python = False  # the next record is not for us
        self._code = mmap.mmap(-1, len(code.code), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._code.write(code.code)
        start = address_of(self._code)
        library = ctypes.CDLL(None, use_errno=True)
        # never writable and executable at the same time
        rights = mmap.PROT_READ | mmap.PROT_EXEC
        if library.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(len(code.code)), rights):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        room = max(BUFFER, 2 * code.room)
        self._buffer = mmap.mmap(-1, room, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._text = memoryview(self._buffer)
        self._data = ctypes.create_string_buffer(code.data, len(code.data))
        self._scratch = ctypes.create_string_buffer(code.scratch)
        self._start = address_of(self._buffer)
        self._state = Reading(
            consumer, producer, ring, size - 1, self._start, self._start + room,
            ctypes.addressof(self._data), ctypes.addressof(self._scratch), 0, 0,
        )  # fmt: skip
        self._argument = ctypes.byref(self._state)
        self._enter = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(start)

    def read(self) -> tuple[bytes, int]:
        """The text of the next records and how many they are, up to one that Python must see or a full buffer."""
        reason = self._enter(self._argument)
        self.needs_python = reason not in (EMPTY, FULL)
        return bytes(self._text[: self._state.stop - self._start]), self._state.records


class _Buffer(ctypes.Structure):
    """`Py_buffer` of CPython's buffer protocol (Include/cpython/object.h)."""

    _fields_ = [
        ("start", ctypes.c_void_p),
        ("object", ctypes.py_object),
        ("length", ctypes.c_ssize_t),
        ("item", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("dimensions", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("indirect", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


def address_of(memory: Any) -> int:
    """Where a mapping lies; ctypes itself gives that of writable ones only."""
    found = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(memory), ctypes.byref(found), 0)
    start = int(found.start or 0)
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(found))
    return start
