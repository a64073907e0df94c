"""libbpf through ctypes: the prototypes that pytrace uses, and its messages.

Works with libbpf 1.0 and later (`libbpf.so.1`). Since 1.0 its functions return -errno, or NULL with errno set
(libbpf.h, "libbpf 1.0 migration").
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from ctypes import POINTER, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p

from pytrace.grammar.hints import Any

# enum libbpf_print_level
WARN, INFO, DEBUG = range(3)


class LibraryMissing(Exception):
    """libbpf cannot be loaded; the message says what to install."""


class OpenOptions(ctypes.Structure):
    """struct bpf_object_open_opts; a shorter one than the library knows is allowed, `size` says how long."""

    _fields_ = (
        ("size", c_size_t),
        ("object_name", c_char_p),
        ("relaxed_maps", c_bool),
        ("pin_root_path", c_char_p),
        ("removed", c_uint32),
        ("kconfig", c_char_p),
        ("btf_custom_path", c_char_p),
        ("kernel_log_buf", c_void_p),
        ("kernel_log_size", c_size_t),
        ("kernel_log_level", c_uint32),
    )


class PerfEventOptions(ctypes.Structure):
    """struct bpf_perf_event_opts."""

    _fields_ = (("size", c_size_t), ("bpf_cookie", c_uint64))


class TestRunOptions(ctypes.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("size", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


class MapOptions(ctypes.Structure):
    """struct bpf_map_create_opts."""

    _fields_ = (
        ("size", c_size_t),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
        ("map_extra", c_uint64),
        ("numa_node", c_uint32),
        ("map_ifindex", c_uint32),
    )


_BATCH = (c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p)

# name: (result, arguments); objects, programs, maps and links are opaque pointers
_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "bpf_object__open_mem": (c_void_p, (c_char_p, c_size_t, POINTER(OpenOptions))),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__find_program_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_object__find_map_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_program__set_log_buf": (c_int, (c_void_p, c_void_p, c_size_t)),
    "bpf_program__set_autoload": (c_int, (c_void_p, c_bool)),
    "bpf_program__set_expected_attach_type": (c_int, (c_void_p, c_int)),
    "bpf_program__set_attach_target": (c_int, (c_void_p, c_int, c_char_p)),
    "bpf_program__attach_perf_event_opts": (c_void_p, (c_void_p, c_int, POINTER(PerfEventOptions))),
    "bpf_program__attach_raw_tracepoint": (c_void_p, (c_void_p, c_char_p)),
    "bpf_program__attach_trace": (c_void_p, (c_void_p,)),
    "bpf_link__fd": (c_int, (c_void_p,)),
    "bpf_link__destroy": (c_int, (c_void_p,)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__max_entries": (c_uint32, (c_void_p,)),
    "bpf_map__value_size": (c_uint32, (c_void_p,)),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__set_inner_map_fd": (c_int, (c_void_p, c_int)),
    "bpf_map_create": (c_int, (c_int, c_char_p, c_uint32, c_uint32, c_uint32, POINTER(MapOptions))),
    "bpf_prog_test_run_opts": (c_int, (c_int, POINTER(TestRunOptions))),
    "bpf_map_lookup_elem": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_update_elem": (c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    "bpf_map_delete_elem": (c_int, (c_int, c_void_p)),
    "bpf_map_get_next_key": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_lookup_batch": (c_int, _BATCH),
    "bpf_map_update_batch": (c_int, (c_int, c_void_p, c_void_p, POINTER(c_uint32), c_void_p)),
    "bpf_map_delete_batch": (c_int, (c_int, c_void_p, POINTER(c_uint32), c_void_p)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, POINTER(c_uint32))),
    "bpf_prog_get_next_id": (c_int, (c_uint32, POINTER(c_uint32))),
    "bpf_prog_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_btf_get_next_id": (c_int, (c_uint32, POINTER(c_uint32))),
    "bpf_btf_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_linker__new": (c_void_p, (c_char_p, c_void_p)),
    "bpf_linker__add_file": (c_int, (c_void_p, c_char_p, c_void_p)),
    "bpf_linker__finalize": (c_int, (c_void_p,)),
    "bpf_linker__free": (None, (c_void_p,)),
    "libbpf_num_possible_cpus": (c_int, ()),
}

# int print(enum libbpf_print_level, const char *format, va_list);
# x86-64 and arm64 both pass a va_list as a pointer
_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_LONGEST_MESSAGE = 8192

Listener = Callable[[int, str], None]
_listeners: list[tuple[int, Listener]] = []


@functools.cache
def library() -> ctypes.CDLL:
    """libbpf with its prototypes set and its messages going to `listen`; raises `LibraryMissing`."""
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        reason = f"libbpf 1.0 or later is needed ({error}); install the package libbpf1"
        raise LibraryMissing(reason) from error
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.libbpf_set_print(_print_callback)
    return lib


class listen:
    """While inside, call `listener` with each message of libbpf up to `level` (`WARN`, `INFO`, `DEBUG`)."""

    def __init__(self, listener: Listener, level: int = WARN) -> None:
        self._entry = (level, listener)

    def __enter__(self) -> None:
        _listeners.append(self._entry)

    def __exit__(self, *exception: object) -> None:
        _listeners.remove(self._entry)


def _print(level: int, template: bytes, arguments: int) -> int:
    """Give a message to whoever wants it; most are debug messages that nobody does."""
    wanted = [listener for most, listener in _listeners if level <= most]
    if wanted:
        buffer = ctypes.create_string_buffer(_LONGEST_MESSAGE)
        _vsnprintf(buffer, _LONGEST_MESSAGE, template, arguments)
        text = buffer.value.decode("utf-8", "replace")
        for listener in wanted:
            listener(level, text)
    return 0


_print_callback = _PRINT(_print)  # kept, or ctypes would free it
_vsnprintf = ctypes.CDLL(None).vsnprintf
_vsnprintf.restype, _vsnprintf.argtypes = c_int, (c_void_p, c_size_t, c_char_p, c_void_p)
