"""Bytes that have a path without being on a disk (memfd_create(2)), for libraries that want files."""

from __future__ import annotations

import os

from pytrace.grammar.hints import Self


class MemoryFile:
    """A file in memory with some content. Use it as a context manager, or `close` it."""

    def __init__(self, data: bytes = b"") -> None:
        self._fd = os.memfd_create("pytrace", os.MFD_CLOEXEC)
        self.path = f"/proc/self/fd/{self._fd}"
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def read(self) -> bytes:
        """All that is in it now."""
        size = os.fstat(self._fd).st_size
        return os.pread(self._fd, size, 0)

    def close(self) -> None:
        """Give the memory back."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
