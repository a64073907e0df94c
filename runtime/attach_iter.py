"""Kernel iterators: attaching to one, walking it, or leaving it pinned in the BPF file system."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator, Sequence

from pytrace.grammar.attaching import IterAttach
from pytrace.runtime.links import DescriptorLink
from pytrace.runtime.mounts import bpffs, pin_path
from pytrace.runtime.syscalls import bpf_iter_create, bpf_link_create, bpf_obj_pin

# include/uapi/linux/bpf.h
_TRACE_ITER = 28  # enum bpf_attach_type
_DESCENDANTS_PRE = 2  # enum bpf_cgroup_iter_order
_INFO_SIZE = 16  # bytes of union bpf_iter_link_info

TASKS = ("task", "task_file", "task_vma")

# The kernel's buffer has eight pages (kernel/bpf/bpf_iter.c, bpf_seq_read). What an object writes beyond its end is
# thrown away, and the program runs again for that object, its map updates too. It stops at what was asked for, so
# asking for one page leaves seven for the last object.
_CHUNK = 4096


class WalkError(Exception):
    """The kernel ends an iterator early; the message says why."""


class IteratorLink(DescriptorLink):
    """An iterator's link; `pin` is where it has been pinned, or empty."""

    __slots__ = ("pin",)

    def __init__(self, name: str, fd: int, pin: str) -> None:
        super().__init__(name, fd)
        self.pin = pin

    def walk(self, sizes: Sequence[int]) -> Iterator[list[bytes]]:
        """Read the iterator to its end: its records, in batches; `sizes` are their sizes by number of the action.

        Raises `WalkError`.
        """
        descriptor = bpf_iter_create(self.fd)
        try:
            rest = b""
            for data in self._chunks(descriptor):
                records, rest = split(rest + data, sizes)
                yield records
        finally:
            os.close(descriptor)

    def _chunks(self, descriptor: int) -> Iterator[bytes]:
        while True:
            try:
                data = os.read(descriptor, _CHUNK)
            except OSError as error:
                if error.errno == errno.EAGAIN:  # a million objects without output (MAX_ITER_OBJECTS)
                    yield b""
                    continue
                raise WalkError(f"{self.name}: {_reason(error)}") from error
            if not data:
                return
            yield data


def split(data: bytes, sizes: Sequence[int]) -> tuple[list[bytes], bytes]:
    """The whole records at the start of some bytes, and what is left of them."""
    records, start = [], 0
    while len(data) - start >= 8:
        size = sizes[int.from_bytes(data[start : start + 8], "little")]
        if len(data) - start < size:
            break
        records.append(data[start : start + size])
        start += size
    return records, data[start:]


def _reason(error: OSError) -> str:
    if error.errno == errno.E2BIG:
        return "the block prints more than 32 KB for one object, which is more than the kernel takes"
    return f"the kernel says: {error.strerror}"


def attach(program: int, place: IterAttach, pid: int) -> IteratorLink:
    """The link of a loaded program to its iterator: of process `pid` only (0: all) if that is one of tasks, and
    pinned if the place says so. Raises OSError."""
    info = ctypes.create_string_buffer(_link_info(place.iterator, pid), _INFO_SIZE)
    rest = struct.pack("=QI", ctypes.addressof(info), _INFO_SIZE)
    link = IteratorLink(place.name, bpf_link_create(program, _TRACE_ITER, rest), "")
    if place.pin:
        try:
            bpffs()
            link.pin = pin_path(place.pin)
            bpf_obj_pin(link.fd, link.pin)
        except OSError:
            link.stop()
            raise
    return link


def _link_info(iterator: str, pid: int) -> bytes:
    """union bpf_iter_link_info: what the iterator is told; zeros are its defaults.

    Task iterators take (thread, process) since Linux 6.1, older kernels refuse bytes that they do not know. The
    control groups' one wants an order, and starts at the root of the version 2 hierarchy by itself.
    """
    if iterator in TASKS:
        return struct.pack("=II", 0, pid)
    if iterator == "cgroup":
        return struct.pack("=I", _DESCENDANTS_PRE)
    return b""
