"""Where the kernel's tracefs is, mounted when it is not yet."""

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
