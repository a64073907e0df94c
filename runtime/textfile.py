"""Reading the small files in which the kernel tells about itself, without `pathlib`, which costs 4 ms of a start."""

from __future__ import annotations


def read_text(path: str) -> str:
    """A file's text; raises OSError."""
    with open(path, encoding="utf-8") as file:
        return file.read()


def read_bytes(path: str) -> bytes:
    """A file's bytes; raises OSError."""
    with open(path, "rb") as file:
        return file.read()
