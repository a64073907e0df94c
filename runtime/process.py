"""The process that a run is about: the child of `-c`, or the process of `-p`; our PID namespace."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import struct
import time
from collections.abc import Callable

# include/uapi/linux/prctl.h, ptrace.h
_PR_SET_PDEATHSIG = 1
_PTRACE_TRACEME, _PTRACE_DETACH, _PTRACE_SETOPTIONS = 0, 17, 0x4200
_PTRACE_O_EXITKILL = 1 << 20
_PTRACE_PEEKUSER, _PTRACE_POKEUSER, _PTRACE_CONT = 3, 6, 7
_USER_RIP = ctypes.c_void_p(128)  # offset of regs.rip in struct user (x86-64's sys/user.h)
_BREAKPOINT = b"\xcc"  # int3, of x86
_AT_ENTRY = 9  # include/uapi/linux/auxvec.h

# include/linux/proc_ns.h
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC

_PATIENCE = 1.0  # seconds between SIGTERM and SIGKILL

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


class ProcessError(Exception):
    """A process cannot be started or traced; the message and the hint are meant for the user."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)


class Child:
    """The command of `-c`: started in two steps, so that probes can be attached in between.

    `pid` is its process id, `pidfd` becomes readable when it exits, `status` is its exit status once it has
    (the negative number of the signal that ended it). It gets SIGTERM when we die.
    """

    def __init__(self, pid: int, go: int, failure: int, traced: bool) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.status: int | None = None
        self._go, self._failure, self._traced = go, failure, traced

    @classmethod
    def start(cls, command: str, until_exec: bool = False) -> Child:
        """Create the process. It waits just before its execve(2), or with `until_exec` just after it.

        The command is split at single spaces and the program looked up in PATH. With `until_exec` the
        process has its mappings (USDT) and is stopped by ptrace(2), so the same thread must call `run`.
        Raises `ProcessError`.
        """
        arguments = command.split(" ")
        path = find_program(arguments[0])
        wait, go = os.pipe()
        failure, report = os.pipe()
        pid = os.fork()
        if pid == 0:
            _become(path, arguments, None if until_exec else (wait, go), report)
        os.close(wait)
        os.close(report)
        child = cls(pid, go, failure, until_exec)
        if until_exec:
            child._stop_after_exec(path)
        return child

    def run(self, at_entry: Callable[[], None] | None = None) -> None:
        """Let it go on. Raises `ProcessError` when its program cannot be executed.

        `at_entry` is for a process that was started with `until_exec`: it is called when the dynamic loader
        has mapped the libraries, just before the program's own first instruction.
        """
        if self._traced and at_entry is not None and self._run_to_entry():
            at_entry()
        if self._traced:
            _libc.ptrace(_PTRACE_DETACH, self.pid, None, None)
            self._traced = False
        elif self._go >= 0:
            with contextlib.suppress(BrokenPipeError):  # somebody has ended it already
                os.write(self._go, b"\0")
            self._raise_failure()
        self._close_pipes()

    def exited(self) -> bool:
        """Whether it has exited; does not wait."""
        return self._reap(os.WNOHANG)

    def terminate(self) -> None:
        """End it with SIGTERM, after a second with SIGKILL, and wait until it is gone."""
        # one that is stopped by ptrace would never see SIGTERM
        for number in (signal.SIGKILL,) if self._traced else (signal.SIGTERM, signal.SIGKILL):
            if self.exited():
                break
            os.kill(self.pid, number)
            select.select([self.pidfd], [], [], _PATIENCE)
        self._reap(0)

    def close(self) -> None:
        """End the process if it is still there, and release the descriptors."""
        self.terminate()
        self._close_pipes()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _stop_after_exec(self, path: str) -> None:
        """Wait for the stop that execve(2) makes a traced process do (ptrace(2), "Stopped states")."""
        _, status = os.waitpid(self.pid, 0)
        if not os.WIFSTOPPED(status):
            self.status = os.waitstatus_to_exitcode(status)
            self._traced = False
            self._raise_failure(path)
        # not before: options need a tracee that is stopped
        _libc.ptrace(_PTRACE_SETOPTIONS, self.pid, None, _PTRACE_O_EXITKILL)

    def _run_to_entry(self) -> bool:
        """Let it go on to the entry point of its program; False if it does not come there, or cannot be stopped
        there because a probe's breakpoint is at that place already."""
        try:
            return self._run_to(_entry_point(self.pid))
        except (OSError, KeyError):  # it has been killed, at any of these steps
            return False

    def _run_to(self, entry: int) -> bool:
        with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(entry)
            original = memory.read(1)
            if original == _BREAKPOINT:
                return False
            memory.seek(entry)
            memory.write(_BREAKPOINT)
            signaled = 0
            while True:
                _libc.ptrace(_PTRACE_CONT, self.pid, None, signaled)
                _, status = os.waitpid(self.pid, 0)
                if not os.WIFSTOPPED(status):
                    self.status = os.waitstatus_to_exitcode(status)
                    self._traced = False
                    return False
                signaled = os.WSTOPSIG(status)
                place = _libc.ptrace(_PTRACE_PEEKUSER, self.pid, _USER_RIP, None)
                if signaled == signal.SIGTRAP and place == entry + len(_BREAKPOINT):
                    break
            memory.seek(entry)
            memory.write(original)
            _libc.ptrace(_PTRACE_POKEUSER, self.pid, _USER_RIP, entry)
        return True

    def _raise_failure(self, path: str = "") -> None:
        """The child's end of the pipe closes at a successful execve(2); otherwise it sends the errno."""
        report = os.read(self._failure, 16)
        if report:
            self._reap(0)
            self._close_pipes()
            reason = os.strerror(int(report))
            raise ProcessError(f"Failed to run the command{f' {path}' if path else ''}: {reason}")

    def _reap(self, flags: int) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, flags)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def _close_pipes(self) -> None:
        for descriptor in (self._go, self._failure):
            if descriptor >= 0:
                os.close(descriptor)
        self._go = self._failure = -1


def _become(path: str, arguments: list[str], gate: tuple[int, int] | None, report: int) -> None:
    """The life of the child between fork(2) and execve(2): as little as can be. Never returns."""
    try:
        # our own handlers are not its, and what Python ignores it shall not
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if gate is None:
            _libc.ptrace(_PTRACE_TRACEME, 0, None, None)
        else:
            os.close(gate[1])
            if not os.read(gate[0], 1):
                os._exit(0)  # the tracer gave up, or died before the prctl
        os.execv(path, arguments)
    except OSError as error:
        os.write(report, str(error.errno).encode())
    finally:
        os._exit(127)


def _entry_point(pid: int) -> int:
    """The address of a program's first instruction, out of its auxiliary vector (getauxval(3), AT_ENTRY)."""
    with open(f"/proc/{pid}/auxv", "rb") as file:
        return int(dict(struct.iter_unpack("=QQ", file.read()))[_AT_ENTRY])


def find_program(name: str) -> str:
    """The file that a command names: a path as it is, else the first in PATH. Raises `ProcessError`."""
    folders = [""] if "/" in name else os.get_exec_path()
    reason = errno.ENOENT
    for folder in folders if name else []:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            reason = errno.EACCES
    raise ProcessError(
        f"Failed to fork child: Path '{name}' does not exist or is not executable ({os.strerror(reason)})"
    )


class Target:
    """The process of `-p`; `pidfd` becomes readable when it exits."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self.pidfd = os.pidfd_open(pid)
        except OSError as error:
            hint = f"There is no process {pid}; `ps -e` lists them." if error.errno == errno.ESRCH else ""
            raise ProcessError(f"Failed to attach to pid: Unable to open pidfd ({error.strerror})", hint) from error

    def exited(self) -> bool:
        """Whether it has exited; does not wait."""
        return bool(select.select([self.pidfd], [], [], 0)[0])

    def close(self) -> None:
        """Release the descriptor."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def pid_namespace(process: str = "self") -> tuple[int, int] | None:
    """(device, inode) of a process's PID namespace, None for the initial one.

    The device is in the kernel's own encoding, MKDEV(major, minor) of include/linux/kdev_t.h, which is what
    bpf_get_ns_current_pid_tgid() compares with.
    """
    status = os.stat(f"/proc/{process}/ns/pid")
    if status.st_ino == _INITIAL_PID_NAMESPACE:
        return None
    return os.major(status.st_dev) << 20 | os.minor(status.st_dev), status.st_ino


def threads(pid: int) -> tuple[int, ...]:
    """The thread ids of a process; empty when it is gone."""
    try:
        return tuple(map(int, os.listdir(f"/proc/{pid}/task")))
    except FileNotFoundError:
        return ()


def boot_time_ns() -> int:
    """CLOCK_BOOTTIME now, the clock of `nsecs`."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
