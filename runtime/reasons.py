"""Why the kernel refuses a probe, in a sentence that says what to do about it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pytrace.grammar.attaching import (
    Attach,
    IterAttach,
    KprobeAttach,
    KprobeMultiAttach,
    KprobeSessionAttach,
    OnDemand,
    PerfEventAttach,
    RawTracepointAttach,
    TcAttach,
    TracepointAttach,
    TrampolineAttach,
    UprobeAttach,
    WatchpointAttach,
    XdpAttach,
)
from pytrace.grammar.hints import assert_never
from pytrace.runtime.attach_perf import DEVICES
from pytrace.runtime.mounts import BPFFS, bpffs, pin_path, tracefs

_PROCESSOR = Path(DEVICES, "cpu")  # the PMU of the processor, where there is one
PERF_TYPE_HARDWARE = 0  # include/uapi/linux/perf_event.h
_SAMPLE_RATE = Path("/proc/sys/kernel/perf_event_max_sample_rate")

_ENOTSUPP = 524  # include/linux/errno.h; errno(3) does not have it

# what any kind of probe can run into
_COMMON = {
    errno.EPERM: "the kernel does not permit it (lockdown, or a missing capability such as CAP_PERFMON)",
    errno.EACCES: "the kernel does not permit it; run as root, or lower kernel.perf_event_paranoid",
    errno.EMFILE: "too many open files; raise the limit with `ulimit -n` or attach fewer probes",
    errno.ENFILE: "the system has too many open files; attach fewer probes",
    errno.ENOMEM: "the kernel is out of memory; attach fewer probes",
    errno.ESRCH: "the process is gone",
}


def describe(place: Attach, error: OSError) -> str:
    """The reason for `error` when attaching to `place`."""
    number = error.errno or 0
    return _specific(place, number) or _COMMON.get(number) or f"the kernel says: {os.strerror(number)}"


def _specific(place: Attach, number: int) -> str | None:
    match place:
        case TracepointAttach():
            return _tracepoint(place, number)
        case RawTracepointAttach():
            return _raw_tracepoint(place, number)
        case KprobeAttach() | KprobeMultiAttach() | KprobeSessionAttach():
            return _kprobe(place, number)
        case UprobeAttach():
            return _uprobe(place, number)
        case TrampolineAttach():
            return _trampoline(place, number)
        case PerfEventAttach():
            return _perf_event(place, number)
        case IterAttach():
            return _iterator(place, number)
        case WatchpointAttach():
            return _watchpoint(place, number)
        case XdpAttach() | TcAttach():
            return _interface(place, number)
        case OnDemand():
            return None
        case Attach():
            raise TypeError(f"unknown place {place!r}")
        case _:
            assert_never(place)


def _tracepoint(place: TracepointAttach, number: int) -> str | None:
    if number != errno.ENOENT:
        return None
    if tracefs() is None:
        return "tracefs is missing; mount it with `mount -t tracefs tracefs /sys/kernel/tracing`"
    return f"the kernel has no tracepoint {place.category}:{place.event}; list what there is with -l"


def _raw_tracepoint(place: RawTracepointAttach, number: int) -> str | None:
    match number:
        case errno.ENOENT:
            return f"the kernel has no raw tracepoint {place.event}; list what there is with -l"
        case errno.EINVAL:
            return f"the program reads an argument that the tracepoint {place.event} does not have"
        case _:
            return None


def _kprobe(place: KprobeAttach | KprobeMultiAttach | KprobeSessionAttach, number: int) -> str | None:
    where = "one of the functions"
    if isinstance(place, KprobeAttach):
        where = place.function or f"{place.offset:#x}"
    match number:
        case errno.ENODEV:
            return "this kernel has no kprobes (CONFIG_KPROBE_EVENTS); use a tracepoint or fentry instead"
        case errno.ENOENT:
            return f"the kernel has no function {where}, or its module is not loaded"
        case errno.EADDRNOTAVAIL if isinstance(place, KprobeAttach) and place.module:
            return f"several functions of {place.module} are called {where}; give an address (with --unsafe)"
        case errno.EADDRNOTAVAIL:
            return f"several functions of the kernel are called {where}; name the module"
        case errno.EILSEQ:
            return f"the offset in {where} is not on the start of an instruction; try a different offset"
        case errno.EINVAL | errno.ESRCH:
            return f"the kernel does not allow to probe {where}: it is not traceable, inlined or blacklisted"
        case _:
            return None


def _uprobe(place: UprobeAttach, number: int) -> str | None:
    match number:
        case errno.ENODEV:
            return "this kernel has no uprobes (CONFIG_UPROBE_EVENTS)"
        case errno.ENOENT:
            return f"there is no file {place.path}"
        case errno.EINVAL | errno.EIO | errno.EILSEQ | errno.EOPNOTSUPP:
            return (
                f"offset {place.offset:#x} of {place.path} is not the start of an instruction that the "
                "kernel can replace, or the file's file system does not allow it"
            )
        case _:
            return None


def _trampoline(place: TrampolineAttach, number: int) -> str | None:
    match number:
        case errno.ENOENT | errno.ESRCH:
            if place.program:
                return f"BPF program {place.program} is gone, or has no function {place.function}"
            return f"the kernel's BTF has no function {place.function}; is its module loaded?"
        case errno.EADDRNOTAVAIL:
            return (
                f"this kernel takes another function called {place.function} for that of {place.module} (before "
                f"Linux 6.4); use a kprobe"
            )
        case errno.EBUSY:
            return f"{place.function} is traced in another way already"
        case _ if number == _ENOTSUPP:
            return f"trampolines cannot do {place.function}: too many arguments, or larger ones; use a kprobe"
        case errno.E2BIG:
            return f"too many programs are attached to {place.function}"
        case _:
            return None


def _iterator(place: IterAttach, number: int) -> str | None:
    path = pin_path(place.pin) if place.pin else ""
    folder = os.path.dirname(path)
    match number:
        case errno.EEXIST if path:
            return f"{path} exists already; remove it (`rm {path}`) or choose another name"
        case errno.ENOENT if path:
            return f"there is no folder {folder}; make it with `mkdir -p {folder}`"
        case errno.EPERM if "." in os.path.basename(path):
            return f"{path} cannot be made: names in a BPF file system must not have a dot"
        case errno.EPERM if path:
            where = bpffs() or f"that of `mount -t bpf bpf {BPFFS}`"
            return f"{path} cannot be made: a pin must lie in a BPF file system, {where}"
        case errno.E2BIG:
            return "this kernel cannot limit an iterator to one process; leave out -p and compare the task's tgid"
        case _:
            return None


def _perf_event(place: PerfEventAttach, number: int) -> str | None:
    match number:
        case errno.EINVAL if place.frequency and place.frequency > _max_sample_rate():
            return (
                f"the kernel samples at most {_max_sample_rate()} times a second; "
                "raise kernel.perf_event_max_sample_rate or ask for less"
            )
        case errno.ENOENT | errno.ENODEV | errno.EOPNOTSUPP:
            lacking = "this machine or virtual machine does not have this event"
            if place.type == PERF_TYPE_HARDWARE and not _PROCESSOR.exists():
                lacking += (
                    ", for it has no performance counters (PMU) of the processor, which all probes of this type need; "
                    "use a software or profile probe"
                )
            return lacking
        case errno.EBUSY:
            return "all counters for this event are in use"
        case _:
            return None


def _watchpoint(place: WatchpointAttach, number: int) -> str | None:
    match number:
        case errno.ENOSPC:
            return (
                "No more HW registers left: the processor has four debug registers, which watchpoints of other "
                "programs and debuggers take as well"
            )
        case errno.EINVAL:
            return f"the kernel or the processor cannot watch {place.length} bytes at {place.address:#x} in this mode"
        case errno.ENOENT | errno.ENODEV | errno.EOPNOTSUPP:
            return "this kernel has no hardware breakpoints (CONFIG_HAVE_HW_BREAKPOINT)"
        case _:
            return None


def _interface(place: XdpAttach | TcAttach, number: int) -> str | None:
    device = place.interface
    match number:
        case errno.EBUSY | errno.EEXIST if isinstance(place, XdpAttach):
            return (
                f"interface {device} has an XDP program already, and there is room for one: stop what holds it "
                f"(`ip link show {device}`), or `ip link set dev {device} xdp off`, or use tc:{device}:ingress, which "
                "sees the same packets a little later; xdp blocks of one program must be joined"
            )
        case errno.ENODEV:
            return f"the interface {device} is gone"
        case errno.EINVAL | errno.EOPNOTSUPP:
            return f"the kernel or the driver of {device} does not run programs on its packets"
        case _:
            return None


def _max_sample_rate() -> int:
    return int(_SAMPLE_RATE.read_text())
