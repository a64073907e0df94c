"""What the tests of functions know: this process's name, texts in its memory, what the compiler refuses."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from pytrace.grammar.diagnostics import CompileError
from tests.e2e.programs import run

LIBC = "/lib/x86_64-linux-gnu/libc.so.6"
COMM = Path("/proc/self/comm").read_text().strip()
# the name of the running task, as text in kernel memory
KERNEL_TEXT = "$p = kptr((uint64)curtask + offsetof(struct task_struct, comm)); "


class UserText:
    """A text in this process's memory, where `begin` probes run."""

    def __init__(self, text: bytes) -> None:
        self._buffer = ctypes.create_string_buffer(text)
        self.address = ctypes.addressof(self._buffer)


def refused(text: str, **options: object) -> list[str]:
    """The messages of the errors that a program has."""
    with pytest.raises(CompileError) as caught:
        run(text, **options)
    return [d.message for d in caught.value.diagnostics if d.severity.value == "ERROR"]
