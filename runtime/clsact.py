"""Programs on traffic control before Linux 6.6: a BPF filter in a clsact qdisc (tc-bpf(8)), through pyroute2.

A filter stays until somebody removes it, so ours carry a mark in their name by which a later pytrace finds those
of pytraces that have died: who (process id, its start time, its PID namespace) and whether a pytrace made the
qdisc, which then goes with the last filter in it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pytrace.grammar.attaching import TcAttach
from pytrace.grammar.data import dataclass
from pytrace.grammar.hints import Any
from pytrace.runtime import netns
from pytrace.runtime.links import Link

_KIND, _MARK = "clsact", "pytrace"
# TC_H_CLSACT with TC_H_MIN_INGRESS and TC_H_MIN_EGRESS, include/uapi/linux/pkt_sched.h
_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_PRIORITIES = range(1, 6)  # before other filters, of which one may hold a priority for another kind or protocol
_PID_BITS = 22  # PID_MAX_LIMIT, include/linux/threads.h

_numbers = iter(range(1, 1 << 32 - _PID_BITS))  # no two filters of a process have one handle


@dataclass(frozen=True, slots=True)
class Owner:
    """The pytrace that a filter belongs to: process id, start time in clock ticks, and PID namespace."""

    pid: int
    started: int
    namespace: int

    def lives(self) -> bool:
        """Whether it may still run; what we cannot see from our PID namespace may."""
        return self.namespace != _pid_namespace() or _started(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Filter:
    """One of pytrace's filters; `made` says that a pytrace made the qdisc it is in."""

    index: int
    parent: int
    handle: int
    info: int
    owner: Owner
    made: bool


class FilterLink(Link):
    """A filter that holds a program, from now on until `stop`. Raises OSError when it cannot be had."""

    __slots__ = ("_filter", "_namespace")

    def __init__(self, program: int, place: TcAttach) -> None:
        super().__init__(place.name, None)
        self._namespace = netns.current()
        try:
            with _locked(), IPRoute() as ip:
                sweep(ip)
                made = _provide(ip, place.index)
                self._filter: tuple[int, int] | None = _add(ip, program, place, made)
        except NetlinkError as error:
            os.close(self._namespace)
            raise OSError(error.code, os.strerror(error.code)) from error

    def stop(self) -> None:
        """Remove the filter, and the qdisc if it was ours and is empty now."""
        found, self._filter = self._filter, None
        if found is not None:
            netns.within(self._namespace, lambda: _remove_own(*found))
            os.close(self._namespace)


def clean() -> list[str]:
    """Remove what dead pytraces left in this thread's network namespace; a line for each thing removed."""
    try:
        with _locked(), IPRoute() as ip:
            return sweep(ip)
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error


def sweep(ip: Any) -> list[str]:
    """Remove the filters of dead pytraces, and the qdiscs that only they needed."""
    done = []
    for index in _clsact_devices(ip):
        dead = [f for f in _filters(ip, index) if not f.owner.lives()]
        for one in dead:
            _delete(ip, one)
            direction = "egress" if one.parent == _EGRESS else "ingress"
            done.append(f"filter of process {one.owner.pid} on {_device_name(index)} {direction}")
        if dead and _drop_empty(ip, index, any(f.made for f in dead)):
            done.append(f"qdisc {_KIND} on {_device_name(index)}")
    return done


def _remove_own(index: int, handle: int) -> None:
    with _locked(), IPRoute() as ip:
        own = [f for f in _filters(ip, index) if f.handle == handle and f.owner == _own()]
        for one in own:
            _delete(ip, one)
        _drop_empty(ip, index, any(f.made for f in own))


# ---------------------------------------------------------------- what the kernel is asked


def _provide(ip: Any, index: int) -> bool:
    """See to it that the interface has the qdisc; whether a pytrace made it, this one or an earlier one."""
    try:
        ip.tc("add", _KIND, index)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        return any(f.made for f in _filters(ip, index))
    return True


def _add(ip: Any, program: int, place: TcAttach, made: bool) -> tuple[int, int]:
    """Add the filter; the interface, and the handle that the filter got."""
    owner = _own()
    name = f"{_MARK}:{owner.pid}:{owner.started}:{owner.namespace}:{int(made)}"
    parent = _EGRESS if place.egress else _INGRESS
    priorities = iter(_PRIORITIES)
    priority = next(priorities)
    for number in _numbers:
        handle = number << _PID_BITS | owner.pid
        try:
            ip.tc("add-filter", "bpf", place.index, handle, parent=parent, prio=priority,
                  fd=program, name=name, direct_action=True)  # fmt: skip
            return place.index, handle
        except NetlinkError as error:
            following = None
            if error.code in (errno.EINVAL, errno.ENOSPC):  # a filter of another kind or protocol has it
                following = next(priorities, None)
            if following is None and error.code != errno.EEXIST:  # the handle is taken
                _drop_empty(ip, place.index, made)
                raise
            priority = following or priority
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _delete(ip: Any, one: Filter) -> None:
    _unless_gone(lambda: ip.tc("del-filter", "bpf", one.index, one.handle, parent=one.parent, info=one.info))


def _drop_empty(ip: Any, index: int, made: bool) -> bool:
    """Remove the qdisc if a pytrace made it and no filter is left in it."""
    if not made or any(_dump(ip, index, parent) for parent in (_INGRESS, _EGRESS)):
        return False
    _unless_gone(lambda: ip.tc("del", _KIND, index))
    return True


def _unless_gone(task: Callable[[], Any]) -> None:
    """Do something to a thing that may be gone with its interface."""
    try:
        task()
    except NetlinkError as error:
        if error.code not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
            raise


def _clsact_devices(ip: Any) -> list[int]:
    return sorted({int(q["index"]) for q in ip.get_qdiscs() if q.get_attr("TCA_KIND") == _KIND})


def _filters(ip: Any, index: int) -> list[Filter]:
    """Pytrace's filters on an interface."""
    found = []
    for parent in (_INGRESS, _EGRESS):
        for message in _dump(ip, index, parent):
            options = message.get_attr("TCA_OPTIONS") if message.get_attr("TCA_KIND") == "bpf" else None
            mark = _read_mark(options.get_attr("TCA_BPF_NAME") or "") if options is not None else None
            if mark is not None:
                found.append(Filter(index, parent, message["handle"], message["info"], *mark))
    return found


def _dump(ip: Any, index: int, parent: int) -> list[Any]:
    """The filters at a place. Each chain is also told of by a message without a handle, which is left out."""
    try:
        return [m for m in ip.get_filters(index=index, parent=parent) if m["handle"]]
    except NetlinkError as error:
        if error.code in (errno.ENOENT, errno.ENODEV, errno.EINVAL):  # no such qdisc or interface
            return []
        raise


# ---------------------------------------------------------------- whose a filter is


def _read_mark(name: str) -> tuple[Owner, bool] | None:
    """The owner that a filter's name tells of (the kernel may add more to the name), None if it is not ours."""
    parts = name.split(":")
    if len(parts) != 5 or parts[0] != _MARK or not all(part.isdigit() for part in parts[1:]):
        return None
    pid, started, namespace, made = map(int, parts[1:])
    return Owner(pid, started, namespace), bool(made)


def _own() -> Owner:
    pid = os.getpid()
    return Owner(pid, _started(pid) or 0, _pid_namespace())


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _started(pid: int) -> int | None:
    """When a process started, field 22 of /proc/PID/stat (proc(5)); None if there is none, or it is dead."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _device_name(index: int) -> str:
    import socket

    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)


@contextmanager
def _locked() -> Iterator[None]:
    """While inside, no other pytrace changes filters in this network namespace."""
    namespace = netns.current()
    try:
        fcntl.flock(namespace, fcntl.LOCK_EX)
        yield
    finally:
        os.close(namespace)
