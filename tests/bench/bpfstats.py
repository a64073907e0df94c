"""What the kernel says of loaded BPF programs: how often each ran and for how long (BPF_ENABLE_STATS)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SYS_BPF = 321  # x86-64
_FD_BY_ID, _INFO, _ENABLE_STATS = 13, 15, 32
_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, 128)
    return int(_libc.syscall(_SYS_BPF, command, buffer, 128))


def programs_of(pid: int) -> set[int]:
    """The ids of the programs that a process holds, itself or by a link."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        found.update(int(line.split()[1]) for line in lines if line.startswith("prog_id:"))
    return found


@contextmanager
def statistics() -> Iterator[None]:
    """Count inside of this."""
    descriptor = _bpf(_ENABLE_STATS, bytes(4))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "BPF_ENABLE_STATS")
    try:
        yield
    finally:
        os.close(descriptor)


def read(ids: set[int]) -> dict[int, tuple[int, int]]:
    """Of each program the nanoseconds that it ran, and how often (struct bpf_prog_info)."""
    found = {}
    for number in ids:
        descriptor = _bpf(_FD_BY_ID, struct.pack("=I", number))
        if descriptor < 0:
            continue
        info = ctypes.create_string_buffer(256)
        if _bpf(_INFO, struct.pack("=IIQ", descriptor, len(info), ctypes.addressof(info))) >= 0:
            found[number] = struct.unpack_from("=QQ", info, 192)
        os.close(descriptor)
    return found


def per_event(before: dict[int, tuple[int, int]], after: dict[int, tuple[int, int]], least: int) -> float | None:
    """Nanoseconds for each run of the programs that ran at least so often, added up."""
    total = 0.0
    for number, (time, count) in after.items():
        old_time, old_count = before.get(number, (0, 0))
        if count - old_count >= least:
            total += (time - old_time) / (count - old_count)
    return total or None
