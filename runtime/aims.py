"""What trampoline programs (fentry, fexit) are for: a function of the kernel image, of a module, or of a BPF program.

The kernel wants to know it at the load, as the number of the function in some BTF. libbpf finds functions of the
image and of BPF programs. Of modules it takes the first that has a function of the name (until libbpf 1.5), so
there the number is found here and given by a handler of our own for the sections.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections.abc import Iterable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_long, c_size_t, c_uint32, c_void_p
from pathlib import Path

from pytrace.grammar.attaching import TrampolineAttach
from pytrace.grammar.hints import Any
from pytrace.grammar.host import HostError
from pytrace.grammar.source import encode_text
from pytrace.runtime.bpfids import open_btf, open_program
from pytrace.runtime.btffile import BtfFile, Kind
from pytrace.runtime.kernel import IMAGE
from pytrace.runtime.libbpf import library
from pytrace.runtime.mounts import tracefs

# include/uapi/linux/bpf.h: BPF_PROG_TYPE_TRACING, and enum bpf_attach_type
_TRACING = 26
_SECTIONS = {"fentry+": 24, "fexit+": 25}


class _LoadOptions(ctypes.Structure):
    """struct bpf_prog_load_opts of libbpf's bpf.h, as far as it is needed."""

    _fields_ = (
        ("size", c_size_t),
        ("attempts", c_int),
        ("expected_attach_type", c_int),
        ("prog_btf_fd", c_uint32),
        ("prog_flags", c_uint32),
        ("prog_ifindex", c_uint32),
        ("kern_version", c_uint32),
        ("attach_btf_id", c_uint32),
        ("attach_prog_fd", c_uint32),
        ("attach_btf_obj_fd", c_uint32),
    )


_PREPARE = CFUNCTYPE(c_int, c_void_p, POINTER(_LoadOptions), c_long)


class _HandlerOptions(ctypes.Structure):
    """struct libbpf_prog_handler_opts."""

    _fields_ = (
        ("size", c_size_t),
        ("cookie", c_long),
        ("setup", c_void_p),
        ("prepare_load", _PREPARE),
        ("attach", c_void_p),
    )


_numbers: dict[int, tuple[int, int]] = {}  # by the address of libbpf's program: function's number, BTF's descriptor


def _prepare(program: int, options: Any, _cookie: int) -> int:
    """Called by libbpf right before it loads a program of one of the sections."""
    if program in _numbers:
        options.contents.attach_btf_id, options.contents.attach_btf_obj_fd = _numbers[program]
    return 0


_prepare_callback = _PREPARE(_prepare)  # kept, or ctypes would free it


@functools.cache
def take_sections() -> None:
    """Have libbpf ask us before it loads trampoline programs; to be called before it opens the object.

    Raises OSError. libbpf_register_prog_handler: libbpf 0.8.
    """
    register = library().libbpf_register_prog_handler
    register.restype, register.argtypes = c_int, (c_char_p, c_int, c_int, POINTER(_HandlerOptions))
    options = _HandlerOptions(ctypes.sizeof(_HandlerOptions), 0, None, _prepare_callback, None)
    for section, kind in _SECTIONS.items():
        result = register(section.encode(), _TRACING, kind, ctypes.byref(options))
        if result < 0:
            raise OSError(-result, os.strerror(-result))


def in_modules(places: Iterable[object]) -> bool:
    """Whether any of the places needs `take_sections`."""
    return any(isinstance(p, TrampolineAttach) and not p.program and p.module != IMAGE for p in places)


def traces_another(place: TrampolineAttach) -> bool:
    """Whether a program that was attached to a module's function is at a function of the same name elsewhere.

    Kernels look for the function's address in the module since Linux 6.4 (31bf1dbccfb0); those before take the first
    symbol of the name. ftrace tells where there is something.
    """
    root = tracefs()
    if place.program or place.module == IMAGE or root is None:
        return False
    try:
        enabled = (Path(root) / "enabled_functions").read_text()
    except OSError:
        return False
    lines = [line.split() for line in enabled.splitlines()]
    here = [words for words in lines if words[:1] == [place.function]]
    return bool(here) and not any(words[1:2] == [f"[{place.module}]"] for words in here)


class Aims:
    """The descriptors that aiming takes; to be closed after the load."""

    def __init__(self) -> None:
        self._open: dict[str | int, int] = {}
        self._types: dict[str, BtfFile | None] = {}
        self._programs: list[int] = []

    def set(self, handle: int, place: TrampolineAttach) -> None:
        """Aim libbpf's program `handle`; raises OSError."""
        if place.program:
            self._at_function(handle, self._program(place.program), place.function)
        elif place.module == IMAGE:
            self._at_function(handle, 0, place.function)
        else:
            _numbers[handle] = self._number(place), self._module(place.module)
            self._programs.append(handle)

    def close(self) -> None:
        """Forget everything."""
        for handle in self._programs:
            del _numbers[handle]
        for descriptor in self._open.values():
            os.close(descriptor)
        self._programs.clear()
        self._open.clear()

    def _at_function(self, handle: int, program: int, function: str) -> None:
        result = library().bpf_program__set_attach_target(handle, program, encode_text(function))
        if result < 0:
            raise OSError(-result, os.strerror(-result))

    def _number(self, place: TrampolineAttach) -> int:
        """The function's number in its module's BTF."""
        if place.module not in self._types:
            self._types[place.module] = _module_types(place.module)
        types = self._types[place.module]
        number = types.find(place.function, Kind.FUNC) if types else 0
        if not number:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return number

    def _module(self, name: str) -> int:
        if name not in self._open:
            self._open[name] = open_btf(name)
        return self._open[name]

    def _program(self, number: int) -> int:
        if number not in self._open:
            self._open[number] = open_program(number)
        return self._open[number]


def _module_types(name: str) -> BtfFile | None:
    try:
        image = _image_types()
    except HostError:
        return None
    return BtfFile.of_module(name, image) if image else None


@functools.cache
def _image_types() -> BtfFile | None:
    return BtfFile.kernel()
