"""What this kernel can do, found out by trying, never by its version.

Each probe asks the kernel for something that cannot succeed, or that has no effect, and tells by the error
whether the request was understood. The numbers are those of include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pytrace.grammar.host import HostError
from pytrace.runtime.btf import KernelTypes
from pytrace.runtime.btffile import Kind
from pytrace.runtime.syscalls import bpf_link_create
from pytrace.runtime.tracefs import Tracefs

_SYS_BPF = 321 if os.uname().machine == "x86_64" else 280
_PROG_LOAD, _RAW_TRACEPOINT_OPEN = 5, 17
_KPROBE, _TRACEPOINT, _XDP, _TRACING = 2, 5, 6, 26  # BPF_PROG_TYPE_*
_PROGRAM_TYPES = {
    "kprobe": _KPROBE, "tc": 3, "tracepoint": _TRACEPOINT, "xdp": _XDP, "perf_event": 7, "raw_tp": 17,
    "tracing": _TRACING,
}  # fmt: skip
_TRACE_FENTRY, _TRACE_ITER, _PERF_EVENT = 24, 28, 41  # BPF_*, attach types
_KPROBE_MULTI, _UPROBE_MULTI, _KPROBE_SESSION, _UPROBE_SESSION = 42, 48, 56, 57
_RETURN_ZERO = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)  # r0 = 0; exit
_GET_ATTACH_COOKIE = 174  # BPF_FUNC_get_attach_cookie
_BAD_ADDRESS = 1
_MAX_SMALL = 4096  # BPF_MAXINSNS
_PSEUDO_KFUNC_CALL = 2  # BPF_PSEUDO_KFUNC_CALL
_LOG = 1 << 14  # bytes for what the verifier says

# Only BPF_PROG_TEST_RUN calls it, so attaching to it disturbs nobody (net/bpf/test_run.c).
_QUIET_FUNCTION = "bpf_fentry_test1"
_SOURCES = Path("/sys/bus/event_source/devices")


class Features:
    """`has` answers for facilities by name, for any BPF helper by its name, and with `kfunc:NAME:TYPE` for whether
    programs of a type (`_PROGRAM_TYPES`) may call a function of the kernel; answers are kept.

    `without` are facilities to be taken for missing (`--no-feature`).
    """

    def __init__(self, types: KernelTypes, tracefs: Tracefs, without: frozenset[str] = frozenset()) -> None:
        self._types = types
        self._tracefs = tracefs
        self._known: dict[str, bool] = dict.fromkeys(without, False)
        self._probes: dict[str, Callable[[], bool]] = {
            "btf": lambda: types.kernel is not None,
            "module_btf": lambda: bool(types.module_names()),
            "tracefs": self._has_tracefs,
            "kprobe": (_SOURCES / "kprobe/type").exists,
            "uprobe": (_SOURCES / "uprobe/type").exists,
            "uprobe_ref_ctr": (_SOURCES / "uprobe/format/ref_ctr_offset").exists,
            "large_programs": _has_large_programs,
            # allowed in few kinds of program; iterators are among them (bpf_d_path_allowed, kernel/trace/bpf_trace.c)
            "d_path": self._has_d_path,
            "xdp_load_bytes": lambda: self._has_helper("xdp_load_bytes", (_XDP,)),
            "fentry": self._has_fentry,
            "iter": self._has_iter,
            "perf_link": _has_perf_link,
            "kprobe_multi": partial(_has_multi_link, _KPROBE_MULTI),
            "kprobe_session": partial(_has_multi_link, _KPROBE_SESSION),
            "uprobe_multi": partial(_has_multi_link, _UPROBE_MULTI),
            "uprobe_session": partial(_has_multi_link, _UPROBE_SESSION),
            # a helper, but one that wildcards of probes in programs ask for: without its number BTF would be read
            "get_attach_cookie": partial(_has_call, _GET_ATTACH_COOKIE),
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The facilities that are not helpers."""
        return tuple(self._probes)

    def has(self, feature: str) -> bool:
        """Whether the kernel has a facility (`names`), or a helper (`loop` or `bpf_loop`) for tracing
        programs."""
        if feature not in self._known:
            self._known[feature] = self._ask(feature)
        return self._known[feature]

    def _ask(self, feature: str) -> bool:
        if feature in self._probes:
            return self._probes[feature]()
        if feature.startswith("kfunc:"):
            name, _, kind = feature.removeprefix("kfunc:").rpartition(":")
            return self._may_call(name, _PROGRAM_TYPES[kind])
        return self._has_helper(feature.removeprefix("bpf_"))

    def _may_call(self, name: str, kind: int) -> bool:
        """The verifier says so before it looks at the arguments (kernel/bpf/verifier.c, check_kfunc_call)."""
        number = self._function(name)
        if not number:
            return False
        call = struct.pack("<BBhi", 0x85, _PSEUDO_KFUNC_CALL << 4, 0, number)
        log = ctypes.create_string_buffer(_LOG)
        attach_type = _TRACE_ITER if kind == _TRACING else 0
        target = self._function("bpf_iter_task") if kind == _TRACING else 0
        try:
            os.close(_load(kind, call + _RETURN_ZERO, attach_type, target, log))
        except OSError:
            # what it says of a function that may be called is about the arguments
            return b"is not allowed" not in log.value and b"processed 1 insn" in log.value
        return True

    def _has_tracefs(self) -> bool:
        try:
            return os.path.exists(self._tracefs.root)
        except HostError:
            return False

    def _has_helper(self, name: str, kinds: tuple[int, ...] = (_TRACEPOINT, _KPROBE)) -> bool:
        """A helper's number is an enumerator of `enum bpf_func_id`, so BTF has the whole list. A program that
        calls it without arguments is then refused with EACCES if it may be called, with EINVAL if not."""
        found = self._types.enumerator(f"BPF_FUNC_{name}")
        if found is None:
            return False
        return _has_call(found[1], kinds)

    def _has_fentry(self) -> bool:
        target = self._function(_QUIET_FUNCTION)
        if not target:
            return _try_load(_TRACING, _RETURN_ZERO, _TRACE_FENTRY, self._function("vfs_read")) == 0
        try:
            program = _load(_TRACING, _RETURN_ZERO, _TRACE_FENTRY, target)
        except OSError:
            return False
        try:
            # The architecture's trampolines are only asked for when a program is attached.
            os.close(_bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QII", 0, program, 0)))
        except OSError:
            return False
        finally:
            os.close(program)
        return True

    def _has_iter(self) -> bool:
        target = self._function("bpf_iter_task")
        return bool(target) and _try_load(_TRACING, _RETURN_ZERO, _TRACE_ITER, target) == 0

    def _has_d_path(self) -> bool:
        found, target = self._types.enumerator("BPF_FUNC_d_path"), self._function("bpf_iter_task")
        if found is None or not target:
            return False
        code = struct.pack("<BBhi", 0x85, 0, 0, found[1]) + _RETURN_ZERO
        return _try_load(_TRACING, code, _TRACE_ITER, target) in (0, errno.EACCES)

    def _function(self, name: str) -> int:
        kernel = self._types.kernel
        return kernel.find(name, Kind.FUNC) if kernel is not None else 0


def _has_call(helper: int, kinds: tuple[int, ...] = (_TRACEPOINT, _KPROBE)) -> bool:
    """Whether programs of one of these types may call a helper, by its number."""
    call = struct.pack("<BBhi", 0x85, 0, 0, helper)
    return any(_try_load(kind, call + _RETURN_ZERO) in (0, errno.EACCES) for kind in kinds)


def _has_multi_link(attach_type: int) -> bool:
    """Ask for a link to one symbol or path whose name lies at an address that cannot be read: EFAULT means
    that the kernel tried to."""
    try:
        program = _load(_KPROBE, _RETURN_ZERO, attach_type)
    except OSError:
        return False
    if attach_type in (_KPROBE_MULTI, _KPROBE_SESSION):
        rest = struct.pack("<IIQQQ", 0, 1, 0, _BAD_ADDRESS, 0)  # flags, count, names, addresses, cookies
    else:
        # path, offsets, reference counters, cookies, count, flags, pid
        rest = struct.pack("<QQQQIII", _BAD_ADDRESS, _BAD_ADDRESS, 0, 0, 1, 0, 0)
    try:
        os.close(bpf_link_create(program, attach_type, rest))
    except OSError as error:
        return error.errno == errno.EFAULT
    finally:
        os.close(program)
    return True


def _has_large_programs() -> bool:
    """Whether programs may have more than BPF_MAXINSNS instructions (include/uapi/linux/bpf_common.h)."""
    return _try_load(_TRACEPOINT, _RETURN_ZERO[:8] * _MAX_SMALL + _RETURN_ZERO) == 0


def _has_perf_link() -> bool:
    """A link to perf event -1: EBADF means that the kernel looked for the event (since Linux 5.15)."""
    try:
        program = _load(_TRACEPOINT, _RETURN_ZERO)
    except OSError:
        return False
    attr = struct.pack("<IIII", program, 0xFFFFFFFF, _PERF_EVENT, 0)
    try:
        os.close(_bpf(28, attr))
    except OSError as error:
        return error.errno == errno.EBADF
    finally:
        os.close(program)
    return True


def _try_load(kind: int, code: bytes, attach_type: int = 0, target: int = 0) -> int:
    """The error number of loading a program, 0 if that works."""
    try:
        os.close(_load(kind, code, attach_type, target))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _load(
    kind: int, code: bytes, attach_type: int = 0, target: int = 0, log: ctypes.Array[ctypes.c_char] | None = None
) -> int:
    """Load a program, `target` being the BTF number of what it is for; `log` gets the verifier's words. Returns its
    file descriptor.

    Raises:
        OSError: the kernel refuses.
    """
    instructions, license_text = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    attr = struct.pack("<II", kind, len(code) // 8)
    attr += struct.pack("<QQ", ctypes.addressof(instructions), ctypes.addressof(license_text))
    words = (1, len(log), ctypes.addressof(log)) if log is not None else (0, 0, 0)
    attr += struct.pack("<IIQII16sII", *words, 0, 0, b"pytrace_probe", 0, attach_type)
    if target:  # behind prog_btf_fd and the six fields of function and line information
        attr += struct.pack("<IIQIIQII", 0, 0, 0, 0, 0, 0, 0, target)
    return _bpf(_PROG_LOAD, attr)


def _bpf(command: int, attr: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attr, len(attr))
    result: int = libc.syscall(_SYS_BPF, command, buffer, ctypes.c_ulong(len(attr)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
