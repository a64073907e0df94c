"""Running the command line as users do: `run(…)` to its end, `start(…)` to meddle with it meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

TICK = 0.02  # seconds between two looks
SLOWDOWN = float(os.environ.get("PYTRACE_SLOWDOWN", "1"))  # of starting a process, in a guest without KVM


class Result(NamedTuple):
    """What a finished run left."""

    stdout: str
    stderr: str
    status: int


class Running:
    """A pytrace process. Its streams go to files, so nobody can be left waiting for the end of a pipe."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, stdin: bytes, env: dict[str, str]) -> None:
        self._out, self._err = folder / "stdout", folder / "stderr"
        given = folder / "stdin"
        given.write_bytes(stdin)
        command = [sys.executable, "-m", "pytrace", *arguments]
        with self._out.open("wb") as out, self._err.open("wb") as err, given.open("rb") as source:
            self._process = subprocess.Popen(command, stdin=source, stdout=out, stderr=err, env={**os.environ, **env})
        self.pid = self._process.pid

    @property
    def stdout(self) -> str:
        """What it has written on standard output so far."""
        return self._out.read_text("utf-8", "surrogateescape")

    @property
    def stderr(self) -> str:
        """What it has written on standard error so far."""
        return self._err.read_text("utf-8", "surrogateescape")

    def wait_for(self, text: str, timeout: float = 20) -> None:
        """Wait until it has written `text` on either stream."""
        end = time.monotonic() + timeout * SLOWDOWN
        while text not in self.stdout + self.stderr:
            if self._process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"{text!r} did not appear:\n{self.stdout}\n{self.stderr}")
            time.sleep(TICK)

    def wait_for_own_signals(self) -> None:
        """Wait until it handles signals itself: it ignores SIGUSR1 from then on."""
        bit = 1 << (signal.SIGUSR1 - 1)
        status = Path(f"/proc/{self.pid}/status")
        while not int(status.read_text().partition("SigIgn:")[2].split()[0], 16) & bit:
            time.sleep(TICK / 4)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def finish(self, timeout: float = 20) -> Result:
        """Wait for its end."""
        try:
            status = self._process.wait(timeout * SLOWDOWN)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"it did not end within {timeout} s:\n{self.stdout}\n{self.stderr}")
        return Result(self.stdout, self.stderr, status)

    def interrupt(self, timeout: float = 20) -> Result:
        """Send SIGINT, as Ctrl-C does, and wait for its end."""
        self.signal(signal.SIGINT)
        return self.finish(timeout)

    def kill(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


Start = Callable[..., Running]
Runner = Callable[..., Result]


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """`start(*arguments, stdin=b"", env={…})` starts pytrace; what still runs after the test is killed."""
    started: list[Running] = []

    def begin(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Running:
        started.append(Running(arguments, tmp_path_factory.mktemp("run"), stdin, env or {}))
        return started[-1]

    yield begin
    for running in started:
        running.kill()


@pytest.fixture
def run(start: Start) -> Runner:
    """`run(*arguments, timeout=20, stdin=b"", env={…})` runs pytrace to its end."""

    def to_end(*arguments: str, timeout: float = 20, stdin: bytes = b"", env: dict[str, str] | None = None) -> Result:
        return start(*arguments, stdin=stdin, env=env).finish(timeout)

    return to_end
