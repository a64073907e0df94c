"""Libraries that are loaded out of a ZIP file (Android's APKs): `/x/app.apk!/lib/x86_64/libq.so`.

The dynamic linker of Android maps a member straight from the archive, which needs it to be stored without
compression and to start on a page. The place of a function in the archive is then the member's plus its own.
"""

from __future__ import annotations

import mmap
import os
import struct

from pytrace.grammar.data import dataclass
from pytrace.grammar.host import HostError

MARK = "!/"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and the extra field (APPNOTE.TXT 4.3.7)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: `size` bytes of `archive` from `offset`."""

    archive: str
    offset: int
    size: int


def is_member(path: str) -> bool:
    """Whether a path is one into an archive."""
    return MARK in path and not os.path.exists(path)


def container(path: str) -> str:
    """The file that the kernel knows: the archive of a path into one, any other path as it is."""
    return path.partition(MARK)[0] if is_member(path) else path


def locate(path: str) -> Member:
    """The place of a member.

    Raises:
        HostError: there is no such archive or member, or it cannot be mapped from there.
    """
    import zipfile

    archive, _, name = path.partition(MARK)
    try:
        with zipfile.ZipFile(archive) as file:
            info = file.getinfo(name)
        with open(archive, "rb") as raw:
            raw.seek(info.header_offset)
            _, name_size, extra_size = _LOCAL_HEADER.unpack(raw.read(_LOCAL_HEADER.size))
    except KeyError:
        raise HostError(f"{archive} has no member {name}; list them with `unzip -l`") from None
    except (OSError, zipfile.BadZipFile, struct.error) as error:
        raise HostError(f"{archive} cannot be read as a ZIP file: {error}") from error
    offset = info.header_offset + _LOCAL_HEADER.size + name_size + extra_size
    if info.compress_type != zipfile.ZIP_STORED:
        raise HostError(f"{name} is compressed in {archive}, so no process can map it from there; trace its own file")
    if offset % mmap.PAGESIZE:
        raise HostError(
            f"{name} starts in the middle of a page of {archive} (offset {offset:#x}), so no process can map it from "
            "there; trace its own file"
        )
    return Member(archive, offset, info.file_size)
