"""The child of `-c`, the target of `-p`, and the PID namespace."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytrace.runtime.process import Child, ProcessError, Target, find_program, pid_namespace, threads


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    """Starts children that are gone after the test."""
    children = []

    def make(command: str, until_exec: bool = False) -> Child:
        children.append(Child.start(command, until_exec))
        return children[-1]

    yield make
    for child in children:
        child.close()


def wait(condition: Callable[[], bool], limit: float = 5) -> bool:
    """Whether the condition comes true in time."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class TestChild:
    def test_it_waits_before_its_execve(self, start: Callable[..., Child], tmp_path: Path) -> None:
        child = start(f"touch {tmp_path}/done")
        time.sleep(0.1)
        assert not child.exited()
        assert not (tmp_path / "done").exists()
        child.run()
        assert wait(child.exited)
        assert child.status == 0
        assert (tmp_path / "done").exists()

    def test_until_exec_has_its_own_program_mapped_and_has_not_run(
        self, start: Callable[..., Child], tmp_path: Path
    ) -> None:
        child = start(f"touch {tmp_path}/done", until_exec=True)
        assert Path(f"/proc/{child.pid}/exe").resolve() == Path(find_program("touch")).resolve()
        assert "/touch" in Path(f"/proc/{child.pid}/maps").read_text() or os.path.islink("/usr/bin/touch")
        time.sleep(0.1)
        assert not (tmp_path / "done").exists()
        child.run()
        assert wait(child.exited)
        assert child.status == 0
        assert (tmp_path / "done").exists()

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="the breakpoint is x86's")
    def test_at_its_entry_its_libraries_are_mapped_and_it_has_not_run(
        self, start: Callable[..., Child], tmp_path: Path
    ) -> None:
        child = start(f"touch {tmp_path}/done", until_exec=True)
        maps = Path(f"/proc/{child.pid}/maps")
        seen = []
        assert "libc.so" not in maps.read_text()
        child.run(lambda: seen.append((maps.read_text(), (tmp_path / "done").exists())))
        assert wait(child.exited)
        assert child.status == 0
        assert (tmp_path / "done").exists()
        assert [("libc.so" in text, done) for text, done in seen] == [(True, False)]

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="the breakpoint is x86's")
    def test_one_that_does_not_come_to_its_entry(self, start: Callable[..., Child]) -> None:
        child = start("true", until_exec=True)
        os.kill(child.pid, signal.SIGKILL)
        child.run(lambda: pytest.fail("it is dead"))
        assert wait(child.exited)
        assert child.status == -signal.SIGKILL

    def test_the_command_is_split_at_single_spaces(self, start: Callable[..., Child], tmp_path: Path) -> None:
        script = tmp_path / "show"
        script.write_text(f'#!/bin/sh\nprintf "<%s>" "$@" > {tmp_path}/out\n')
        script.chmod(0o755)
        child = start(f"{script} a 'b  c'")
        child.run()
        assert wait(child.exited)
        assert (tmp_path / "out").read_text() == "<a><'b><><c'>"

    @pytest.mark.parametrize("until_exec", [False, True])
    def test_its_exit_status(self, start: Callable[..., Child], until_exec: bool) -> None:
        child = start("false", until_exec)
        child.run()
        assert wait(child.exited)
        assert child.status == 1

    def test_its_pidfd_tells_the_exit(self, start: Callable[..., Child]) -> None:
        child = start("true")
        assert select.select([child.pidfd], [], [], 0)[0] == []
        child.run()
        assert select.select([child.pidfd], [], [], 5)[0] == [child.pidfd]

    @pytest.mark.parametrize("until_exec", [False, True])
    @pytest.mark.parametrize("run", [False, True])
    def test_terminate(self, start: Callable[..., Child], until_exec: bool, run: bool) -> None:
        child = start("sleep 100", until_exec)
        if run:
            child.run()
        child.terminate()
        assert child.exited()
        assert child.status in (-signal.SIGTERM, -signal.SIGKILL)

    def test_one_that_ignores_sigterm_is_killed(self, start: Callable[..., Child], tmp_path: Path) -> None:
        script = tmp_path / "stubborn"
        script.write_text(f"#!/bin/sh\ntrap '' TERM\ntouch {tmp_path}/ready\nwhile :; do sleep 0.05; done\n")
        script.chmod(0o755)
        child = start(str(script))
        child.run()
        assert wait((tmp_path / "ready").exists)
        child.terminate()
        assert child.status == -signal.SIGKILL

    def test_python_ignoring_sigpipe_is_not_inherited(self, start: Callable[..., Child]) -> None:
        child = start("sleep 100")
        child.run()
        ignored = next(line for line in Path(f"/proc/{child.pid}/status").read_text().splitlines() if "SigIgn" in line)
        assert int(ignored.split()[1], 16) >> (signal.SIGPIPE - 1) & 1 == 0

    def test_it_ends_when_we_die(self, tmp_path: Path) -> None:
        code = (
            "import os, sys, time; from pytrace.runtime.process import Child\n"
            "child = Child.start('sleep 100'); child.run(); print(child.pid, flush=True); time.sleep(100)"
        )
        tracer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert tracer.stdout
        pid = int(tracer.stdout.readline())
        tracer.kill()
        tracer.communicate()
        assert wait(lambda: not alive(pid))

    def test_an_unknown_program(self) -> None:
        with pytest.raises(ProcessError) as error:
            Child.start("no-such-program x")
        assert str(error.value) == (
            "Failed to fork child: Path 'no-such-program' does not exist or is not executable "
            "(No such file or directory)"
        )

    def test_a_file_that_is_not_executable(self, tmp_path: Path) -> None:
        file = tmp_path / "data"
        file.write_text("x")
        with pytest.raises(ProcessError, match="is not executable \\(Permission denied\\)"):
            Child.start(str(file))

    @pytest.mark.parametrize("until_exec", [False, True])
    def test_a_file_that_the_kernel_cannot_execute(self, tmp_path: Path, until_exec: bool) -> None:
        file = tmp_path / "data"
        file.write_text("x")
        file.chmod(0o755)
        with pytest.raises(ProcessError, match="Exec format error"):
            Child.start(str(file), until_exec).run()


def alive(pid: int) -> bool:
    """Whether a process exists that is not a zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


class TestTarget:
    def test_a_process_that_exits(self) -> None:
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        target = Target(process.pid)
        assert not target.exited()
        process.communicate()
        assert wait(target.exited)
        target.close()
        target.close()

    def test_a_process_that_does_not_exist(self) -> None:
        process = subprocess.Popen(["true"])
        process.wait()
        with pytest.raises(ProcessError) as error:
            Target(process.pid)
        assert str(error.value) == "Failed to attach to pid: Unable to open pidfd (No such process)"


def test_threads() -> None:
    assert os.getpid() in threads(os.getpid())
    process = subprocess.Popen(["true"])
    process.wait()
    assert threads(process.pid) == ()


def test_the_pid_namespace_is_that_of_proc() -> None:
    inode = os.stat("/proc/self/ns/pid").st_ino
    found = pid_namespace()
    assert found == (None if inode == 0xEFFFFFFC else (os.stat("/proc/self/ns/pid").st_dev, inode))
