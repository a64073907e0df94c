"""BPF programs and BTF that are loaded into the kernel, by number and by name."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from ctypes import c_uint32

from pytrace.grammar.host import HostError
from pytrace.runtime.btffile import BtfFile, Kind
from pytrace.runtime.libbpf import library

# include/uapi/linux/bpf.h: struct bpf_prog_info …
_PROGRAM_INFO, _JITED_SIZE, _BTF_ID, _FUNC_INFO_SIZE, _FUNC_INFO, _FUNC_COUNT = 208, 16, 128, 132, 136, 144
# … and struct bpf_btf_info
_BTF_INFO = 32
_LONGEST_NAME = 64


def open_program(number: int) -> int:
    """A descriptor of the program with this id; raises OSError."""
    return _checked(library().bpf_prog_get_fd_by_id(c_uint32(number)))


def open_btf(module: str) -> int:
    """A descriptor of a kernel module's BTF; raises OSError.

    BPF_BTF_GET_NEXT_ID, and the names of the kernel's own since Linux 5.11.
    """
    for number in _numbers(library().bpf_btf_get_next_id):
        try:
            descriptor = _checked(library().bpf_btf_get_fd_by_id(c_uint32(number)))
        except FileNotFoundError:
            continue  # gone meanwhile
        if _is_module(descriptor, module):
            return descriptor
        os.close(descriptor)
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def _is_module(descriptor: int, module: str) -> bool:
    name = ctypes.create_string_buffer(_LONGEST_NAME)
    info = ctypes.create_string_buffer(_BTF_INFO)
    struct.pack_into("=QI", info, 16, ctypes.addressof(name), len(name))
    _info(descriptor, info)
    (of_kernel,) = struct.unpack_from("=I", info, 28)
    return bool(of_kernel) and name.value.decode() == module


def functions() -> Iterator[tuple[int, str]]:
    """Program id and function name of everything that fentry can be attached to in BPF programs, in order of the
    ids: loaded programs with BTF that are compiled for the machine, and their subprograms.

    Raises:
        HostError: the kernel does not tell (CAP_SYS_ADMIN is needed).
    """
    types: dict[int, BtfFile | None] = {}
    try:
        for number in _numbers(library().bpf_prog_get_next_id):
            for name in _names(number, types):
                yield number, name
    except OSError as error:
        raise HostError(f"the kernel does not show its BPF programs: {error.strerror}") from error


def _names(number: int, types: dict[int, BtfFile | None]) -> list[str]:
    """The names of a program's functions; `types` keeps BTF by its id."""
    try:
        descriptor = open_program(number)
    except FileNotFoundError:
        return []  # gone meanwhile
    try:
        btf, numbers = _functions_of(descriptor)
    finally:
        os.close(descriptor)
    if btf and btf not in types:
        types[btf] = BtfFile.by_id(btf)
    file = types.get(btf)
    records = [file.record(function) for function in numbers] if file else []
    return [record.name for record in records if record.kind == Kind.FUNC]


def _functions_of(descriptor: int) -> tuple[int, list[int]]:
    """A program's BTF and the numbers in it of the program's functions; 0 and nothing if it cannot be traced."""
    info = ctypes.create_string_buffer(_PROGRAM_INFO)
    _info(descriptor, info)
    (jited,) = struct.unpack_from("=I", info, _JITED_SIZE)
    (btf,) = struct.unpack_from("=I", info, _BTF_ID)
    size, _, count = struct.unpack_from("=IQI", info, _FUNC_INFO_SIZE)
    if not (jited and btf and count):
        return 0, []
    room = ctypes.create_string_buffer(size * count)
    again = ctypes.create_string_buffer(_PROGRAM_INFO)
    struct.pack_into("=IQI", again, _FUNC_INFO_SIZE, size, ctypes.addressof(room), count)
    _info(descriptor, again)
    return btf, [struct.unpack_from("=I", room, size * index + 4)[0] for index in range(count)]


def _info(descriptor: int, info: ctypes.Array[ctypes.c_char]) -> None:
    _checked(library().bpf_obj_get_info_by_fd(descriptor, info, c_uint32(len(info))))


def _numbers(following: Callable[..., int]) -> Iterator[int]:
    """All ids of a kind of object, in rising order; raises OSError."""
    number, found = 0, c_uint32()
    while (result := following(c_uint32(number), ctypes.byref(found))) == 0:
        number = found.value
        yield number
    if result != -errno.ENOENT:
        _checked(result)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
