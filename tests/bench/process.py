"""Child processes: the tracers under test, and the programs that they trace.

CPU time and peak memory are the kernel's own figures (wait4), and the end is seen at once (pidfd).
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar


class SampleError(Exception):
    """A sample that could not be taken."""


def cpu_seconds(pid: int) -> float:
    """CPU time of a live process so far."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except OSError:  # a thread that has ended
            continue
    return total / 1e9


class Child:
    """A process; its standard output goes to the file `out`, or is read here."""

    live: ClassVar[set[Child]] = set()  # what must be ended when we are

    def __init__(
        self,
        command: Sequence[str],
        out: Path | None = None,
        environment: Mapping[str, str] | None = None,
        driven: bool = False,
    ) -> None:
        self.out = out
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as this)
        self._text = b""
        target = out.open("wb") if out else None
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE if driven else subprocess.DEVNULL, stdout=target or subprocess.PIPE,
            stderr=self._errors, env={**os.environ, **(environment or {})}, bufsize=0,
        )  # fmt: skip
        if target:
            target.close()
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        self.ended = 0.0
        self.status: int | None = None
        self.cpu = self.rss_mb = 0.0
        Child.live.add(self)

    # ---- what it says

    @property
    def bytes(self) -> bytes:
        """Its standard output so far."""
        return self.out.read_bytes() if self.out else self._text

    @property
    def text(self) -> str:
        """The same as text."""
        return self.bytes.decode(errors="replace")

    @property
    def errors(self) -> str:
        """Its standard error so far."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def _take(self, deadline: float) -> bool:
        """Read some more; False at the end of the output."""
        assert self._process.stdout
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
            raise SampleError(f"nothing came in time: {self.errors[-200:]}")
        data = os.read(self._process.stdout.fileno(), 1 << 18)
        self._text += data
        return bool(data)

    def wait_for(self, *needles: str, timeout: float = 60) -> float:
        """Wait until all of these are in the output; the seconds since the start."""
        deadline = time.monotonic() + timeout
        wanted = [needle.encode() for needle in needles]
        while not all(needle in self.bytes for needle in wanted):
            if self.out is None:
                if not self._take(deadline):
                    raise SampleError(f"it ended early: {self.errors[-200:]}")
            elif select.select([self._pidfd], [], [], 0.002)[0] or time.monotonic() > deadline:
                raise SampleError(f"it never was ready: {self.errors[-200:]}")
        return time.monotonic() - self.started

    # ---- its end

    def interrupt(self) -> float:
        """Send SIGINT; the moment at which that was."""
        moment = time.monotonic()
        os.kill(self.pid, signal.SIGINT)
        return moment

    def finish(self, timeout: float = 60) -> None:
        """Wait for the end, reading what comes meanwhile."""
        deadline = time.monotonic() + timeout
        stream = self._process.stdout
        waiting: list[Any] = [self._pidfd] if stream is None else [stream, self._pidfd]
        while True:
            ready = select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                raise SampleError(f"it did not end in time: {self.errors[-200:]}")
            if stream in ready:
                if not self._take(deadline):
                    waiting.remove(stream)
                continue
            break
        self._reap()

    def _reap(self) -> None:
        _, status, usage = os.wait4(self.pid, 0)
        self.ended = time.monotonic()
        self.status = self._process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu, self.rss_mb = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        Child.live.discard(self)
        os.close(self._pidfd)

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self in Child.live:
            os.kill(self.pid, signal.SIGKILL)
            self._reap()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def wall_ms(self) -> float:
        """From its start to its end."""
        return (self.ended - self.started) * 1e3

    def lost(self) -> int:
        """Events that it said it lost."""
        lines = self.errors.splitlines()
        if self.out:
            with self.out.open("rb") as file:
                lines += [line.decode(errors="replace") for line in file if line[:1] in b"Ll"]
        return sum(int(found[1]) for found in map(re.compile(r"^[Ll]ost (\d+) event").search, lines) if found)


class Worker(Child):
    """A traced program, driven by lines; it answers each with one."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__(command, driven=True)

    def __enter__(self) -> Worker:
        return self

    def send(self, line: str) -> None:
        """A line that is answered later."""
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())

    def answer(self, timeout: float = 120) -> str:
        """The next line of its output."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._text:
            if not self._take(deadline):
                raise SampleError("the traced program has ended")
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def ask(self, line: str) -> str:
        """Send a line, and wait for the answer."""
        self.send(line)
        return self.answer()
