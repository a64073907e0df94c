"""System calls that Python has no function for: perf_event_open(2), bpf(2) for new link types, mount(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
import time

from pytrace.grammar.data import dataclass

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h for all newer architectures
_PERF_EVENT_OPEN, _BPF = (298, 321) if os.uname().machine == "x86_64" else (241, 280)

# include/uapi/linux/perf_event.h
PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT, PERF_TYPE_BREAKPOINT = 1, 2, 5
_ATTR_SIZE = 112  # PERF_ATTR_SIZE_VER5, Linux 4.1: enough for all that is used here
_DISABLED, _INHERIT, _FREQUENCY, _INHERIT_THREAD = 1 << 0, 1 << 1, 1 << 10, 1 << 35
_FD_CLOEXEC = 1 << 3
_COUNT_SW_DUMMY = 9
_SAMPLE_TID, _SAMPLE_TIME = 1 << 1, 1 << 2
# mmap, comm, task, watermark, sample_id_all, mmap2, comm_exec, use_clockid
_MAPPING_FLAGS = _DISABLED | 1 << 8 | 1 << 9 | 1 << 13 | 1 << 14 | 1 << 18 | 1 << 23 | 1 << 24 | 1 << 25
_BUILD_ID = 1 << 34

# include/uapi/linux/bpf.h
_BPF_PROG_LOAD, _BPF_OBJ_PIN, _BPF_LINK_CREATE, _BPF_ITER_CREATE = 5, 6, 28, 33
_PROG_TYPE_KPROBE = 2
_STATFS_SIZE = 256  # more than struct statfs has (120 on 64-bit machines)
_RETURN_ZERO = struct.pack("=QQ", 0xB7, 0x95)  # r0 = 0; exit


@dataclass(frozen=True, slots=True)
class PerfAttr:
    """What `perf_event_open` is asked for: struct perf_event_attr, as far as tracing needs it.

    `period` counts events; `frequency`, in hertz, is used instead when it is not 0. `config1` and `config2`
    are the addresses and offsets of kprobes and uprobes, and address and length of breakpoints, whose kind
    is `breakpoint`. `threads`: new threads of the process are followed.
    """

    type: int
    config: int
    period: int = 0
    frequency: int = 0
    config1: int = 0
    config2: int = 0
    threads: bool = False
    breakpoint: int = 0


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
    struct.pack_into("=IQQ", raw, 52, attr.breakpoint, attr.config1, attr.config2)
    buffer = (ctypes.c_char * _ATTR_SIZE).from_buffer(raw)
    return _checked(_libc.syscall(_PERF_EVENT_OPEN, buffer, pid, cpu, -1, ctypes.c_ulong(_FD_CLOEXEC)))


def open_mapping_event(cpu: int, watermark: int) -> int:
    """A disabled perf event that counts nothing and tells of every executable mapping, fork, exec and exit on a
    CPU; raises OSError. It becomes readable when `watermark` bytes wait in its ring.

    Records end with the ids of the thread and the time by CLOCK_MONOTONIC. Mappings come with the build ids of
    their files where the kernel can (Linux 5.12), else with device and inode.
    """
    flags = [_MAPPING_FLAGS | _BUILD_ID, _MAPPING_FLAGS]
    while True:
        raw = bytearray(_ATTR_SIZE)
        sample = _SAMPLE_TID | _SAMPLE_TIME
        struct.pack_into("=IIQQQQQ", raw, 0, PERF_TYPE_SOFTWARE, _ATTR_SIZE, _COUNT_SW_DUMMY, 0, sample, 0, 0)
        struct.pack_into("=QI", raw, 40, flags[0], watermark)
        struct.pack_into("=i", raw, 92, time.CLOCK_MONOTONIC)
        buffer = (ctypes.c_char * _ATTR_SIZE).from_buffer(raw)
        try:
            return _checked(_libc.syscall(_PERF_EVENT_OPEN, buffer, -1, cpu, -1, ctypes.c_ulong(_FD_CLOEXEC)))
        except OSError as error:
            if error.errno != errno.EINVAL or len(flags) == 1:
                raise
            del flags[0]


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


def bpf_iter_create(link: int) -> int:
    """BPF_ITER_CREATE: a descriptor whose read(2) walks the iterator of a link (Linux 5.8); raises OSError."""
    attr = struct.pack("=II", link, 0)
    return _checked(_libc.syscall(_BPF, _BPF_ITER_CREATE, attr, ctypes.c_ulong(len(attr))))


def bpf_obj_pin(descriptor: int, path: str) -> None:
    """BPF_OBJ_PIN: give a BPF object a name in a BPF file system; raises OSError."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    attr = struct.pack("=QII", ctypes.addressof(name), descriptor, 0)
    _checked(_libc.syscall(_BPF, _BPF_OBJ_PIN, attr, ctypes.c_ulong(len(attr))))


def file_system(path: str) -> int:
    """The magic number of the file system that a path is in (statfs(2), `f_type`); raises OSError."""
    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    _checked(_libc.statfs(os.fsencode(path), buffer))
    return int.from_bytes(buffer.raw[:8], "little") & 0xFFFFFFFF


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
