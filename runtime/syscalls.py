"""System calls that Python has no function for: perf_event_open(2), bpf(2) for new link types, mount(2)."""

from __future__ import annotations

import ctypes
import os
import resource
import struct

from pytrace.grammar.data import dataclass

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h for all newer architectures
_PERF_EVENT_OPEN, _BPF = (298, 321) if os.uname().machine == "x86_64" else (241, 280)

# include/uapi/linux/perf_event.h
PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT = 1, 2
_ATTR_SIZE = 112  # PERF_ATTR_SIZE_VER5, Linux 4.1: enough for all that is used here
_DISABLED, _INHERIT, _FREQUENCY, _INHERIT_THREAD = 1 << 0, 1 << 1, 1 << 10, 1 << 35
_FD_CLOEXEC = 1 << 3

# include/uapi/linux/bpf.h
_BPF_PROG_LOAD, _BPF_LINK_CREATE = 5, 28
_PROG_TYPE_KPROBE = 2
_RETURN_ZERO = struct.pack("=QQ", 0xB7, 0x95)  # r0 = 0; exit


@dataclass(frozen=True, slots=True)
class PerfAttr:
    """What `perf_event_open` is asked for: struct perf_event_attr, as far as tracing needs it.

    `period` counts events; `frequency`, in hertz, is used instead when it is not 0. `config1` and `config2`
    are the addresses and offsets of kprobes and uprobes. `threads`: new threads of the process are followed.
    """

    type: int
    config: int
    period: int = 0
    frequency: int = 0
    config1: int = 0
    config2: int = 0
    threads: bool = False


def perf_event_open(attr: PerfAttr, pid: int, cpu: int) -> int:
    """A disabled perf event on `cpu` (-1: any) for task `pid` (-1: all): its descriptor; raises OSError."""
    flags = _DISABLED
    if attr.frequency:
        flags |= _FREQUENCY
    if attr.threads:
        flags |= _INHERIT | _INHERIT_THREAD
    raw = bytearray(_ATTR_SIZE)
    sample = attr.frequency or attr.period
    struct.pack_into("=IIQQQQQ", raw, 0, attr.type, _ATTR_SIZE, attr.config, sample, 0, 0, flags)
    struct.pack_into("=QQ", raw, 56, attr.config1, attr.config2)
    buffer = (ctypes.c_char * _ATTR_SIZE).from_buffer(raw)
    return _checked(_libc.syscall(_PERF_EVENT_OPEN, buffer, pid, cpu, -1, ctypes.c_ulong(_FD_CLOEXEC)))


def bpf_link_create(program: int, attach_type: int, rest: bytes, target: int = 0, flags: int = 0) -> int:
    """BPF_LINK_CREATE; `target` is a descriptor or the number of an interface, `rest` the attributes' part for
    that type. Raises OSError.

    The layout is that of `union bpf_attr` in include/uapi/linux/bpf.h.
    """
    attr = struct.pack("=IIII", program, target, attach_type, flags) + rest
    return _checked(_libc.syscall(_BPF, _BPF_LINK_CREATE, attr, ctypes.c_ulong(len(attr))))


def load_empty_kprobe_program(attach_type: int) -> int:
    """A program of type kprobe that does nothing, to ask the kernel with: its descriptor; raises OSError."""
    code = ctypes.create_string_buffer(_RETURN_ZERO)
    gpl = ctypes.create_string_buffer(b"GPL")
    attr = bytearray(72)
    struct.pack_into("=IIQQ", attr, 0, _PROG_TYPE_KPROBE, 2, ctypes.addressof(code), ctypes.addressof(gpl))
    struct.pack_into("=I", attr, 68, attach_type)
    return _checked(_libc.syscall(_BPF, _BPF_PROG_LOAD, bytes(attr), ctypes.c_ulong(len(attr))))


def mount(kind: str, target: str) -> bool:
    """Mount a file system that has no device; tells whether that worked."""
    name = kind.encode()
    return int(_libc.mount(name, target.encode(), name, ctypes.c_ulong(0), None)) == 0


def raise_limits() -> None:
    """Allow as much locked memory and as many open files as we may; what is refused is left as it is.

    Kernels before 5.11 charge BPF maps to RLIMIT_MEMLOCK; a probe takes two file descriptors.
    """
    unlimited = resource.RLIM_INFINITY
    _raise(resource.RLIMIT_MEMLOCK, unlimited)
    _raise(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _raise(limit: int, wanted: int) -> None:
    for hard in (wanted, resource.getrlimit(limit)[1]):
        try:
            resource.setrlimit(limit, (hard, hard))
            return
        except (OSError, ValueError):
            continue


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
