"""Attaching through perf events: tracepoints, kprobes, uprobes, timers, counters, breakpoints.

Each place becomes one perf event or several (perf_event_open(2)), each with a BPF link (Linux 5.15).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from functools import cache

from pytrace.grammar.attaching import KprobeAttach, PerfEventAttach, TracepointAttach, UprobeAttach, WatchpointAttach
from pytrace.grammar.data import replace
from pytrace.grammar.hints import Any
from pytrace.grammar.source import encode_text
from pytrace.runtime import cpus, libbpf
from pytrace.runtime.links import Link, release_all, stop_all
from pytrace.runtime.mounts import tracefs
from pytrace.runtime.process import threads
from pytrace.runtime.syscalls import PERF_TYPE_BREAKPOINT, PERF_TYPE_TRACEPOINT, PerfAttr, perf_event_open
from pytrace.runtime.textfile import read_text

PerfPlace = TracepointAttach | KprobeAttach | UprobeAttach | PerfEventAttach

DEVICES = "/sys/bus/event_source/devices"
_ANY = -1

# A program attached to a tracepoint, kprobe or uprobe runs on every CPU, whichever CPU its perf event is on
# (`perf_trace_run_bpf_submit` in kernel/events/core.c), so one event will do, on a CPU that is surely there.


def attach(program: Any, place: PerfPlace, pid: int) -> list[Link]:
    """Attach libbpf's `program`; `pid` is the process that a run is about, 0 for none. Raises OSError."""
    links: list[Link] = []
    try:
        for event in _events(place, pid):
            links.append(_attach_event(program, place, event))
    except OSError:
        stop_all(links)
        release_all(links)
        raise
    return links


def attach_watchpoint(program: Any, place: WatchpointAttach, pid: int) -> tuple[list[Link], OSError | None]:
    """Attach to a breakpoint of each thread of `pid`, or of each CPU without one.

    Some are enough: what was refused comes back with the links. Raises OSError if there is none.
    """
    attr = PerfAttr(
        PERF_TYPE_BREAKPOINT, 0, period=1, config1=place.address, config2=place.length,
        threads=bool(pid), breakpoint=place.type,
    )  # fmt: skip
    where = [(thread, _ANY) for thread in threads(pid)] if pid else [(_ANY, cpu) for cpu in cpus.online()]
    links: list[Link] = []
    refused: OSError | None = None
    for thread, cpu in where:
        try:
            links.append(_attach_event(program, place, perf_event_open(attr, thread, cpu)))
        except ProcessLookupError:
            continue  # a thread that has ended meanwhile
        except OSError as error:
            refused = refused or error
    if not links:
        raise refused or OSError(errno.ESRCH, os.strerror(errno.ESRCH))
    return links, refused


def _attach_event(program: Any, place: PerfPlace | WatchpointAttach, event: int) -> Link:
    # The link owns the event and closes it; the duplicate lets us choose when that takes effect.
    duplicate = os.dup(event)
    cookie = place.cookie if isinstance(place, (TracepointAttach, KprobeAttach, UprobeAttach)) else 0
    options = libbpf.PerfEventOptions(size=ctypes.sizeof(libbpf.PerfEventOptions), bpf_cookie=cookie)
    handle = libbpf.library().bpf_program__attach_perf_event_opts(program, event, ctypes.byref(options))
    if not handle:
        number = ctypes.get_errno()
        os.close(event)
        os.close(duplicate)
        raise OSError(number, os.strerror(number))
    return Link(place.name, handle, (duplicate,))


def _events(place: PerfPlace, pid: int) -> Iterator[int]:
    """Open the perf events of a place."""
    match place:
        case TracepointAttach(category=category, event=name):
            number = read_text(f"{tracefs() or ''}/events/{category}/{name}/id")
            yield perf_event_open(PerfAttr(PERF_TYPE_TRACEPOINT, int(number)), _ANY, cpus.online()[0])
        case KprobeAttach():
            yield _kprobe(place)
        case UprobeAttach():
            yield _uprobe(place, pid)
        case PerfEventAttach():
            yield from _counters(place, pid)


def _kprobe(place: KprobeAttach) -> int:
    """A name alone may be that of functions of modules as well, which the kernel refuses (Linux 6.7): then the address
    of the one in the image will do."""
    if not place.function:
        return _kprobe_event(place, "", place.offset)
    from pytrace.runtime.kernel import IMAGE, image_addresses  # few programs have kprobes

    if place.module in ("", IMAGE):
        try:
            return _kprobe_event(place, place.function, place.offset)
        except OSError as error:
            addresses = image_addresses(place.function) if place.module else []
            if error.errno != errno.EADDRNOTAVAIL or len(addresses) != 1:
                raise
        return _kprobe_event(place, "", addresses[0] + place.offset)
    return _kprobe_event(place, f"{place.module}:{place.function}", place.offset)


def _kprobe_event(place: KprobeAttach, function: str, offset: int) -> int:
    """The PMU `kprobe` (Linux 4.17).

    config1 points at the name and config2 is the offset; without a name config2 is an address.
    """
    name = ctypes.create_string_buffer(encode_text(function)) if function else None
    attr = PerfAttr(
        type=_pmu("kprobe", "type"),
        config=_return_flag("kprobe", place.returns),
        config1=ctypes.addressof(name) if name else 0,
        config2=offset,
    )
    return perf_event_open(attr, _ANY, cpus.online()[0])


def _uprobe(place: UprobeAttach, pid: int) -> int:
    """The PMU `uprobe`: config1 points at the path, config2 is the offset, config holds the semaphore's."""
    from pytrace.runtime.zipped import container

    path = ctypes.create_string_buffer(encode_text(container(place.path)))
    attr = PerfAttr(
        type=_pmu("uprobe", "type"),
        config=place.semaphore << _semaphore_shift() | _return_flag("uprobe", place.returns),
        config1=ctypes.addressof(path),
        config2=place.offset,
    )
    if pid:
        return perf_event_open(attr, pid, _ANY)
    return perf_event_open(attr, _ANY, cpus.online()[0])


def _counters(place: PerfEventAttach, pid: int) -> Iterator[int]:
    """Of a process one event for each of its threads, else one for each CPU that is asked for."""
    attr = PerfAttr(place.type, place.config, place.period, place.frequency)
    if pid and place.per_process:
        followed = replace(attr, threads=True)
        for thread in threads(pid):
            try:
                yield perf_event_open(followed, thread, _ANY)
            except ProcessLookupError:
                continue  # a thread that has ended meanwhile
        return
    online = cpus.online()
    for cpu in online if place.every_cpu else online[:1]:
        yield perf_event_open(attr, _ANY, cpu)


@cache
def _pmu(name: str, entry: str) -> int:
    """A number that sysfs tells about a PMU; ENODEV when the kernel has no such PMU."""
    try:
        return int(read_text(f"{DEVICES}/{name}/{entry}"))
    except FileNotFoundError as error:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error


def _return_flag(pmu: str, returns: bool) -> int:
    """The bit of `config` for return probes, which sysfs describes as `config:0`."""
    if not returns:
        return 0
    return 1 << _config_bit(pmu, "retprobe")


def _semaphore_shift() -> int:
    return _config_bit("uprobe", "ref_ctr_offset")


@cache
def _config_bit(pmu: str, name: str) -> int:
    """The first bit of a field of `config`.

    Documentation/ABI/testing/sysfs-bus-event_source-devices-format
    """
    text = read_text(f"{DEVICES}/{pmu}/format/{name}")
    return int(text.strip().partition(":")[2].partition("-")[0])
