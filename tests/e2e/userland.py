"""Programs that the tests build and run in the background, to be traced."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytrace.grammar.diagnostics import CompileError
from tests.e2e.programs import run


def build(folder: Path, name: str, source: str, *options: str) -> str:
    """A program of C (of C++, if its name starts with `cpp`), from a file `code.c` or NAME.cpp; its path."""
    cpp = name.startswith("cpp")
    file = folder / (f"{name}.cpp" if cpp else "code.c")
    file.write_text(source)
    path = str(folder / name)
    subprocess.run(["g++" if cpp else "gcc", *options, "-o", path, str(file)], check=True)
    return path


def hits(path: str, *points: str, command: str = "") -> dict[str, int]:
    """How often each probe of the points fires while the program runs."""
    text = f"{', '.join(points)} {{ @[probe] = count(); }}"
    result = run(text, command=command or path)
    assert result.errors == ""
    return {name.removeprefix(f"uprobe:{path}"): count for name, count in result.maps["@"].items()}


def refusal(text: str, **options: object) -> str:
    """The messages and hints of a program that cannot be compiled."""
    with pytest.raises(CompileError) as caught:
        run(text, **options)
    return str(caught.value)


@contextmanager
def background(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs meanwhile."""
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(found: Callable[[], bool]) -> None:
    """Wait until something has come about."""
    end = time.monotonic() + 10
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


def program_of(pid: int) -> str:
    """The name of what a process runs now."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""
