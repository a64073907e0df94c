"""Workloads whose effects are known to the last call: C programs, block devices, a bash at a terminal.

`observe(…)` runs one between "all probes are attached" and the end of the trace, so no test has to sleep.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pytrace.api import trace
from pytrace.grammar.spec import Output

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parents[2] / "examples"
SLOWDOWN = float(os.environ.get("PYTRACE_SLOWDOWN", "1"))  # of starting a process, in a guest without KVM

LOOP_SET_FD, LOOP_CLR_FD, LOOP_CTL_GET_FREE = 0x4C00, 0x4C01, 0x4C82  # include/uapi/linux/loop.h


def example(name: str) -> str:
    """The text of a program of examples/."""
    return (EXAMPLES / name).read_text()


def observe(
    text: str, workload: Callable[[], object], *params: object, **options: Any
) -> tuple[list[Output], dict[str, Any]]:
    """Trace a workload that this process runs; what the program shows, and its maps.

    The maps are read before the probes are closed, while the workload's processes can still be looked up.
    """
    outputs = []
    with trace(text, params, **options) as t:
        for output in t.outputs():
            outputs.append(output)
            if output.kind == "attached_probes":
                workload()
                t.stop()
        return outputs, t.maps


def printed(outputs: list[Output]) -> list[str]:
    """The lines that the program's printf() and time() made; there must be nothing for stderr."""
    strange = [o.text for o in outputs if o.error]
    assert not strange
    return "".join(o.text for o in outputs if o.kind in ("printf", "time")).splitlines()


def build(folder: Path, name: str, *flags: str) -> str:
    """Compile a program of this folder; the path of the executable, which is called `book_NAME`."""
    path = folder / f"book_{name}"
    subprocess.run(["gcc", *(flags or ("-O1", "-g")), "-o", path, HERE / f"{name}.c"], check=True)
    return str(path)


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that has said with one byte that it is ready; it is killed at the end."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            expect_byte(process)
            yield process
        finally:
            process.kill()


def expect_byte(process: subprocess.Popen[bytes]) -> None:
    """Wait for one byte of a process."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 10 * SLOWDOWN)
    assert ready
    assert os.read(process.stdout.fileno(), 1)


# ---------------------------------------------------------------- block devices


@contextmanager
def loop_device(folder: Path, size: int = 1 << 20) -> Iterator[str]:
    """A block device over a file of `folder`; skips where the kernel has none to give."""
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", "loop"], check=False)
    try:
        control = os.open("/dev/loop-control", os.O_RDWR)
    except OSError as error:
        _no_loop_devices(error)
    backing = os.open(folder / "disk", os.O_RDWR | os.O_CREAT)
    os.truncate(backing, size)
    path, device = _bind(control, backing)
    try:
        yield path
    finally:
        fcntl.ioctl(device, LOOP_CLR_FD)
        for descriptor in (device, backing, control):
            os.close(descriptor)


def _bind(control: int, backing: int) -> tuple[str, int]:
    """Give a free loop device the file; others may be doing the same."""
    for _ in range(20):
        number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
        path = f"/dev/loop{number}"
        try:
            if not os.path.exists(path):
                os.mknod(path, 0o60600, os.makedev(7, number))
            device = os.open(path, os.O_RDWR)
        except OSError as error:
            _no_loop_devices(error)
        try:
            fcntl.ioctl(device, LOOP_SET_FD, backing)
        except OSError:
            os.close(device)
            continue
        return path, device
    raise AssertionError("no loop device stayed free")


def _no_loop_devices(error: OSError) -> NoReturn:
    """Skips; but the kernels of tests/vm have them."""
    assert not os.environ.get("PYTRACE_VM"), error
    pytest.skip(f"no loop devices here: {error}")


# ---------------------------------------------------------------- bash


class Bash:
    """An interactive bash on a terminal of its own, typed at line by line."""

    PROMPT = b"book-of-pytrace> "

    def __init__(self) -> None:
        environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "PS1": self.PROMPT.decode(), "HOME": "/"}
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            try:
                os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], environment)
            finally:
                os._exit(127)

    def type(self, *lines: str) -> None:
        """Type lines, each when bash asks for it."""
        for line in lines:
            self._until_prompt()
            os.write(self._terminal, line.encode() + b"\n")

    def end(self) -> int:
        """Type Ctrl-D; the exit status of bash."""
        self._until_prompt()
        os.write(self._terminal, b"\x04")
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _until_prompt(self) -> None:
        seen, deadline = b"", time.monotonic() + 10 * SLOWDOWN
        while not seen.endswith(self.PROMPT):
            assert time.monotonic() < deadline, seen
            seen += self._read()

    def _read(self) -> bytes:
        """What bash has written; nothing when it has gone (EIO)."""
        ready, _, _ = select.select([self._terminal], [], [], 10 * SLOWDOWN)
        assert ready, "bash says nothing"
        try:
            return os.read(self._terminal, 4096)
        except OSError:
            return b""
