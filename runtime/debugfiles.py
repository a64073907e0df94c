"""Where the separate debug information of a file may be (GDB's manual, "Debugging Information in Separate Files")."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator

from pytrace.grammar.host import HostError
from pytrace.runtime import roots

SYSTEM_FOLDER = "/usr/lib/debug"

_folders: tuple[str, ...] = ()


def search_in(folders: tuple[str, ...]) -> None:
    """Look for debug files in these folders first (`--debuginfo`), for the rest of this process's life."""
    global _folders
    _folders = folders


def candidates(path: str, build_id: bytes, link: bytes) -> Iterator[tuple[str, int | None]]:
    """The existing files that may belong to a file, best first, with the checksum that the file wants it to have.

    `link` is the content of `.gnu_debuglink`: a name, and the checksum of the file. A file in another mount namespace
    may have its debug file there or here.
    """
    mine = roots.real_path(path)
    root, inside = roots.split_root(mine)
    folder = os.path.dirname(inside)
    places = [*_folders, f"{root}{SYSTEM_FOLDER}", *([SYSTEM_FOLDER] if root else [])]
    found: list[tuple[str, int | None]] = []
    if build_id:
        text = build_id.hex()
        found += [(f"{place}/.build-id/{text[:2]}/{text[2:]}.debug", None) for place in places]
    name = link.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    if name and len(link) >= 4:
        (wanted,) = struct.unpack("<I", link[-4:])
        near = [f"{root}{folder}/{name}", f"{root}{folder}/.debug/{name}"]
        own = [path for place in _folders for path in (f"{place}{folder}/{name}", f"{place}/{name}")]
        others = [f"{place}{folder}/{name}" for place in places[len(_folders) :]]
        found += [(path, wanted) for path in (*own, *near, *others)]
    for candidate, wanted_sum in found:
        if os.path.isfile(candidate) and roots.real_path(candidate) != mine:
            yield candidate, wanted_sum


def checksum(path: str) -> int:
    """The CRC-32 of a file, as `.gnu_debuglink` has it."""
    total = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total = zlib.crc32(block, total)
    return total


def unpack(path: str, data: bytes) -> bytes:
    """The content of `.gnu_debugdata`. Raises HostError."""
    import lzma  # few files have it

    try:
        return lzma.decompress(data)
    except lzma.LZMAError as error:
        raise HostError(f"{path}: its section .gnu_debugdata cannot be read: {error}") from error
