"""Files that are replaced as a whole."""

from __future__ import annotations

import os
import stat
from contextlib import suppress


def replace_file(path: str, data: bytes, mode: int | None = None) -> None:
    """Write a file so that others see the old content or the new one, never a part. Raises OSError.

    A file that was there keeps its permissions and owner, and a symbolic link stays one; `mode` is for a new file
    (default: what the umask allows), and for an old one, too, if it is given. What is no regular file is written to.
    """
    import tempfile

    path = os.path.realpath(os.fsencode(path)).decode("utf-8", "surrogateescape")
    try:
        found = os.stat(path)
    except FileNotFoundError:
        found = None
    if found is not None and not stat.S_ISREG(found.st_mode):
        with open(path, "wb") as file:
            file.write(data)
        return
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".pytrace-")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(descriptor, mode if mode is not None else stat.S_IMODE(found.st_mode) if found else _new_mode())
            if found:
                with suppress(PermissionError):
                    os.fchown(descriptor, found.st_uid, found.st_gid)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _new_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
