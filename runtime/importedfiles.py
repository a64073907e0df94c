"""The files and folders that programs import."""

from __future__ import annotations

import os
import stat

from pytrace.grammar.host import HostError, Imported


def read_imported(path: str) -> Imported | None:
    """See `Host.imported`."""
    try:
        with open(path, "rb", opener=_open) as file:
            found = os.fstat(file.fileno())
            real, writable = os.path.realpath(path), bool(found.st_mode & stat.S_IWOTH)
            return Imported(real, writable, file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        return _folder(path)
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}") from error


def _open(path: str, flags: int) -> int:
    """A FIFO must not make us wait for who writes to it."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _folder(path: str) -> Imported:
    try:
        writable = bool(os.stat(path).st_mode & stat.S_IWOTH)
        return Imported(os.path.realpath(path), writable, entries=tuple(os.listdir(path)))
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}") from error
