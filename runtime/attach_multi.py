"""Attaching one program to many functions by one link: kprobe_multi (Linux 5.18) and uprobe_multi (6.6).

Such a link comes and goes in one step, where single probes wait for grace periods one after the other. The
kernel fixes at the load for which kind of link a program is, so whether it has them is asked before.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
from collections.abc import Sequence

from pytrace.grammar.attaching import Attach, KprobeAttach, KprobeMultiAttach, KprobeSessionAttach, UprobeAttach
from pytrace.grammar.data import dataclass, replace
from pytrace.grammar.hints import TypeVar
from pytrace.grammar.plan import ProgramSpec, count_of
from pytrace.grammar.source import encode_text
from pytrace.runtime.links import DescriptorLink, Link
from pytrace.runtime.syscalls import bpf_link_create, load_empty_kprobe_program

# enum bpf_attach_type and the flags of the two links, include/uapi/linux/bpf.h
KPROBE_MULTI, UPROBE_MULTI, KPROBE_SESSION = 42, 48, 56
# as `Features.has` calls them
FACILITIES = {KPROBE_MULTI: "kprobe_multi", UPROBE_MULTI: "uprobe_multi", KPROBE_SESSION: "kprobe_session"}
_RETURN = 1
_BAD_ADDRESS = 8


@dataclass(frozen=True, slots=True)
class KernelGroup:
    """Functions of the kernel."""

    place: KprobeMultiAttach | KprobeSessionAttach

    def __len__(self) -> int:
        return len(self.place.functions)

    @property
    def counted(self) -> int:
        """How many probes it is to the user."""
        return len(self)

    def parts(self) -> list[KernelGroup]:
        """The first and the second half."""
        cookies = _halves(self.place.cookies)
        return [
            KernelGroup(replace(self.place, functions=half, cookies=own))
            for half, own in zip(_halves(self.place.functions), cookies, strict=True)
        ]

    def only(self) -> Attach:
        """The single place of a group of one."""
        return singles(self.place)[0]

    def open(self, program: int, _pid: int) -> Link:
        """Attach the program; raises OSError."""
        names = (ctypes.c_char_p * len(self))(*(encode_text(name) for name in self.place.functions))
        kind, flags = KPROBE_SESSION, 0
        if isinstance(self.place, KprobeMultiAttach):
            kind, flags = KPROBE_MULTI, _RETURN if self.place.returns else 0
        cookies = _array(list(self.place.cookies))
        cookies_at = ctypes.addressof(cookies) if self.place.cookies else 0
        rest = struct.pack("=IIQQQ", flags, len(self), ctypes.addressof(names), 0, cookies_at)
        return DescriptorLink(self.place.name, bpf_link_create(program, kind, rest))


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Places of one file, all of entries or all of returns."""

    places: tuple[UprobeAttach, ...]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def counted(self) -> int:
        """How many probes it is to the user."""
        return sum(count_of(place) for place in self.places)

    def parts(self) -> list[FileGroup]:
        """The first and the second half."""
        return [FileGroup(half) for half in _halves(self.places)]

    def only(self) -> Attach:
        """The single place of a group of one."""
        return self.places[0]

    def open(self, program: int, pid: int) -> Link:
        """Attach the program, for the threads of `pid` unless that is 0; raises OSError."""
        from pytrace.runtime.zipped import container

        path = ctypes.create_string_buffer(encode_text(container(self.places[0].path)))
        offsets = _array([place.offset for place in self.places])
        semaphores = _array([place.semaphore for place in self.places])
        cookies = _array([place.cookie for place in self.places])
        rest = struct.pack(
            "=QQQQIIII",
            ctypes.addressof(path),
            ctypes.addressof(offsets),
            ctypes.addressof(semaphores) if any(semaphores) else 0,
            ctypes.addressof(cookies) if any(cookies) else 0,
            len(self),
            _RETURN if self.places[0].returns else 0,
            pid,
            0,
        )
        return DescriptorLink(self.places[0].name, bpf_link_create(program, UPROBE_MULTI, rest))


_T = TypeVar("_T")
Group = KernelGroup | FileGroup


def link_type(program: ProgramSpec) -> int | None:
    """The attach type to load a program with for its places to go by multi links, None if they cannot."""
    if any(isinstance(place, KprobeSessionAttach) for place in program.attach):
        return KPROBE_SESSION  # the compiler asked whether the kernel has it
    if any(isinstance(place, KprobeMultiAttach) for place in program.attach):
        return KPROBE_MULTI if has_multi(KPROBE_MULTI) else None
    if program.attach and all(isinstance(place, UprobeAttach) for place in program.attach):
        return UPROBE_MULTI if has_multi(UPROBE_MULTI) else None
    return None


def groups(places: Sequence[Attach]) -> list[Group]:
    """The places of a program for multi links, by link."""
    kernel: list[Group] = [
        KernelGroup(place) for place in places if isinstance(place, (KprobeMultiAttach, KprobeSessionAttach))
    ]
    files: dict[tuple[str, bool], list[UprobeAttach]] = {}
    for place in places:
        if isinstance(place, UprobeAttach):
            files.setdefault((place.path, place.returns), []).append(place)
    return kernel + [FileGroup(tuple(members)) for members in files.values()]


def singles(place: Attach) -> list[Attach]:
    """The places to attach one by one where there is no multi link; those of a session are for messages only."""
    if not isinstance(place, (KprobeMultiAttach, KprobeSessionAttach)):
        return [place]
    kind = place.name.partition(":")[0]
    returns = isinstance(place, KprobeMultiAttach) and place.returns
    cookies = place.cookies or (0,) * len(place.functions)
    return [
        KprobeAttach(f"{kind}:{function}", function, returns=returns, cookie=cookie)
        for function, cookie in zip(place.functions, cookies, strict=True)
    ]


@functools.cache
def has_multi(kind: int) -> bool:
    """Whether the kernel has links of this attach type.

    It is asked for one with a bad address: EFAULT says that it would have gone on, while a kernel that does
    not know the type says EINVAL and one without FPROBE EOPNOTSUPP (kernel/trace/bpf_trace.c).
    """
    if kind == KPROBE_MULTI:
        rest = struct.pack("=IIQQQ", 0, 1, 0, _BAD_ADDRESS, 0)
    else:
        rest = struct.pack("=QQQQIIII", _BAD_ADDRESS, _BAD_ADDRESS, 0, 0, 1, 0, 0, 0)
    try:
        program = load_empty_kprobe_program(kind)
    except OSError:
        return False
    try:
        os.close(bpf_link_create(program, kind, rest))
    except OSError as error:
        return error.errno == errno.EFAULT
    finally:
        os.close(program)
    return True


def _array(numbers: list[int]) -> ctypes.Array[ctypes.c_uint64]:
    return (ctypes.c_uint64 * len(numbers))(*numbers)


def _halves(items: tuple[_T, ...]) -> tuple[tuple[_T, ...], tuple[_T, ...]]:
    middle = len(items) // 2
    return items[:middle], items[middle:]
