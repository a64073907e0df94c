"""How often the kernel did not run a program although its probe was hit."""

from __future__ import annotations

import ctypes
import struct

from pytrace.runtime.libbpf import library

# include/uapi/linux/bpf.h: struct bpf_prog_info (`recursion_misses`, Linux 5.12) …
_PROGRAM_MISSES = 208
# … and struct bpf_link_info (Linux 6.7): its head, then what depends on the type of the link.
_LINK_PERF_EVENT, _LINK_KPROBE_MULTI = 7, 8
_PERF_KPROBE, _PERF_KRETPROBE = 3, 4
_PERF_EVENT_TYPE, _PERF_EVENT_MISSED, _KPROBE_MULTI_MISSED = 16, 48, 32
_ROOM = 256


def program_misses(fd: int) -> int:
    """Hits at which a program did not run because this CPU was inside of a BPF program already."""
    info = _info(fd)
    return _u64(info, _PROGRAM_MISSES) if len(info) >= _PROGRAM_MISSES + 8 else 0


def link_misses(fd: int) -> int:
    """Hits that the kernel's kprobes themselves let pass: recursion, or no free instance for a return.

    0 for other links and for kernels that do not tell.
    """
    info = _info(fd)
    if len(info) < _PERF_EVENT_MISSED + 8:
        return 0
    (kind,) = struct.unpack_from("=I", info)
    (event,) = struct.unpack_from("=I", info, _PERF_EVENT_TYPE)
    if kind == _LINK_PERF_EVENT and event in (_PERF_KPROBE, _PERF_KRETPROBE):
        return _u64(info, _PERF_EVENT_MISSED)
    if kind == _LINK_KPROBE_MULTI:
        return _u64(info, _KPROBE_MULTI_MISSED)
    return 0


def _info(fd: int) -> bytes:
    """BPF_OBJ_GET_INFO_BY_FD, as long as this kernel's structure is; empty if it has none."""
    buffer = ctypes.create_string_buffer(_ROOM)
    length = ctypes.c_uint32(_ROOM)
    if fd < 0 or library().bpf_obj_get_info_by_fd(fd, buffer, length) < 0:
        return b""
    return buffer.raw[: length.value]


def _u64(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 8], "little")
