"""Where the kernel's tracefs and BPF file system are, mounted when they are not yet."""

from __future__ import annotations

import os

# Documentation/trace/ftrace.rst: on its own, on older systems only inside of debugfs
_FOLDERS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


def tracefs() -> str | None:
    """The folder of tracefs, or None when there is none and it cannot be mounted."""
    found = _present()
    if found is None:
        from pytrace.runtime.syscalls import mount  # nearly every system has mounted it

        found = _present() if mount("tracefs", _FOLDERS[0]) else None
    return found


def _present() -> str | None:
    return next((folder for folder in _FOLDERS if os.path.isdir(f"{folder}/events")), None)


BPFFS = "/sys/fs/bpf"
_BPF_MAGIC = 0xCAFE4A11  # include/uapi/linux/magic.h


def bpffs() -> str | None:
    """The folder of the BPF file system, or None when it cannot be mounted."""
    from pytrace.runtime.syscalls import mount

    return BPFFS if _is_bpffs() or (mount("bpf", BPFFS) and _is_bpffs()) else None


def pin_path(pin: str) -> str:
    """Where a pin lies: relative to the folder of the BPF file system."""
    return os.path.join(BPFFS, pin)


def _is_bpffs() -> bool:
    from pytrace.runtime.syscalls import file_system

    try:
        return file_system(BPFFS) == _BPF_MAGIC
    except OSError:
        return False
