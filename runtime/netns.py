"""Network namespaces: doing something in that of another process, and the interfaces there are."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import threading
from collections.abc import Callable

from pytrace.grammar.hints import TYPE_CHECKING, TypeVar
from pytrace.grammar.host import Interface

if TYPE_CHECKING:
    import socket

_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_SIOCGIFHWADDR = 0x8927  # netdevice(7)
_WITH_ETHERNET = (1, 772)  # ARPHRD_ETHER and ARPHRD_LOOPBACK, include/uapi/linux/if_arp.h

T = TypeVar("T")


def inside(pid: int, task: Callable[[], T]) -> T:
    """Run `task` in the network namespace of a process (0: in ours). Raises OSError, and what `task` raises.

    Where the namespace is another, a thread of its own enters it, so that the rest of pytrace stays where it is.
    """
    if not pid or os.path.samefile(f"/proc/{pid}/ns/net", "/proc/self/ns/net"):
        return task()
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return within(namespace, task)
    finally:
        os.close(namespace)


def within(namespace: int, task: Callable[[], T]) -> T:
    """Run `task` in the network namespace with this descriptor, in a thread of its own."""
    results: list[T] = []
    problems: list[BaseException] = []

    def run() -> None:
        try:
            _enter(namespace)
            results.append(task())
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return results[0]


def _enter(namespace: int) -> None:
    """Move this thread into a network namespace (setns(2), which Python has from 3.12 on)."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def current() -> int:
    """A new descriptor of this thread's network namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def interfaces() -> list[Interface]:
    """The network interfaces of this thread's network namespace, by name."""
    import socket  # only now: it costs 4 ms of every start

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        found = [(name, index) for index, name in socket.if_nameindex()]
        return [Interface(name, index, _ethernet(control, name)) for name, index in sorted(found)]


def _ethernet(control: socket.socket, name: str) -> bool:
    """Whether frames of an interface have an Ethernet header; one that is gone is for others to report."""
    request = struct.pack("16s24x", os.fsencode(name))
    try:
        answer = fcntl.ioctl(control, _SIOCGIFHWADDR, request)
    except OSError:
        return True
    (kind,) = struct.unpack_from("=H", answer, 16)
    return kind in _WITH_ETHERNET
