"""The kernel's tracing file system: which tracepoints exist, and what their records hold."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cached_property

from pytrace.grammar.host import Event, HostError
from pytrace.grammar.types import (
    VOID,
    Array,
    Int,
    Member,
    Pointer,
    Space,
    String,
    Type,
    TypeSource,
)
from pytrace.runtime.cnames import base_type, is_char, without_qualifiers
from pytrace.runtime.mounts import tracefs
from pytrace.runtime.textfile import read_text

# One `field:` line of a format file; see Documentation/trace/events.rst in the kernel tree. A text, compiled when it is
# first needed, like the next.
_FIELD = (
    r"(?m:^\s*field:\s*(?P<text>[^;]+);\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);(?:\s*signed:(?P<signed>\d);)?)"
)
_DECLARATION = r"(?s:^(?P<type>.*?)(?P<name>\w+)\s*(?P<bounds>(?:\[[^\]]*\])*)$)"


class Tracefs:
    """Tracepoints. `types` resolves the structs that pointer fields point to, and is asked only for those."""

    def __init__(self, types: TypeSource, root: str | os.PathLike[str] | None = None) -> None:
        self._types = types
        self._given = None if root is None else os.fspath(root)
        self._events: dict[tuple[str, str], Event | None] = {}
        self._lines: dict[tuple[str, Space], Member | None] = {}

    @cached_property
    def root(self) -> str:
        """The mount point.

        Raises:
            HostError: tracefs is neither mounted nor can we mount it.
        """
        if self._given is not None:
            return self._given
        if (found := tracefs()) is not None:
            return found
        try:
            os.stat("/sys/kernel/tracing/events")
        except PermissionError as error:
            raise _denied(error) from error
        except OSError:
            pass
        raise HostError(
            "tracefs is not mounted at /sys/kernel/tracing; try `mount -t tracefs tracefs /sys/kernel/tracing`"
        )

    def event(self, category: str, name: str) -> Event | None:
        """One tracepoint; only its own `format` file is read. Fields of all events (`common_*`) have offsets
        below 8.

        Raises:
            HostError: there is no tracefs, or we may not read it.
        """
        key = (category, name)
        if key not in self._events:
            text = self._format(category, name)
            fields = None if text is None else tuple(self._fields(text, category))
            self._events[key] = None if fields is None else Event(category, name, fields)
        return self._events[key]

    def events(self) -> Iterator[tuple[str, str]]:
        """Category and name of every tracepoint, sorted."""
        try:
            text = read_text(f"{self.root}/available_events")
        except PermissionError as error:
            raise _denied(error) from error
        for category, _, name in sorted(line.partition(":") for line in text.split()):
            yield category, name

    def _format(self, category: str, name: str) -> str | None:
        if not category or not name or "/" in category + name or category.startswith("."):
            return None
        try:
            return read_text(f"{self.root}/events/{category}/{name}/format")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise _denied(error) from error

    def _fields(self, text: str, category: str) -> Iterator[Member]:
        space = Space.USER if category == "syscalls" else Space.KERNEL
        for field in re.finditer(_FIELD, text):
            # the same lines (all the common ones) are in many events
            key = (field[0], space)
            if key not in self._lines:
                self._lines[key] = self._member(field, space)
            if (member := self._lines[key]) is not None:
                yield member

    def _member(self, field: re.Match[str], space: Space) -> Member | None:
        declaration = " ".join(field["text"].split())
        split = re.match(_DECLARATION, declaration)
        if split is None:
            return None
        size, signed = int(field["size"]), field["signed"] == "1"
        offset, name = int(field["offset"]), split["name"]
        if split["type"].startswith(("__data_loc ", "__rel_loc ")):
            return Member(name, Int(8, space=Space.KERNEL), offset, data_loc=True, text=declaration)
        kind = self._type(without_qualifiers(split["type"]), split["bounds"], size, signed, space)
        return Member(name, kind, offset, text=declaration)

    def _type(self, text: str, bounds: str, size: int, signed: bool, space: Space) -> Type:
        if bounds:
            return self._array(text, bounds, size, signed, space)
        if text.endswith("*") and size == 8:
            return self._pointer(text, space)
        if size in (1, 2, 4, 8):
            return Int(size, signed)
        # A struct by value: its bytes, unless it is known.
        return self._named(text) or Array(Int(1, False), size)

    def _array(self, text: str, bounds: str, size: int, signed: bool, space: Space) -> Type:
        if is_char(text) and size:
            return String(size)
        pointee = self._pointer(text, space) if text.endswith("*") else None
        element = pointee or self._named(text)
        step = 8 if pointee else getattr(element, "size", 0)
        if not step:
            # An unknown type: the bounds may be an expression or a constant's name, then bytes must do.
            count = re.fullmatch(r"\[(\d+)\]", bounds)
            step = size // int(count[1]) if count and int(count[1]) else 1
            step = step if step in (1, 2, 4, 8) else 1
            element = Int(step, signed)
        assert element is not None
        return Array(element, size // step)

    def _pointer(self, text: str, space: Space) -> Pointer:
        target = text.removesuffix("*").strip()
        if target.endswith("*"):
            return Pointer(self._pointer(target, space), space)
        return Pointer(self._named(target) or VOID, space)

    def _named(self, name: str) -> Type | None:
        """A type by its C text, BTF being asked only for what C itself does not know."""
        base = base_type(name)
        if base is not None:
            return base
        kind, _, rest = name.partition(" ")
        if kind in ("struct", "union", "enum"):
            return self._types.find_type(rest, kind)
        return self._types.find_type(name) if name.isidentifier() else None


def _denied(error: PermissionError) -> HostError:
    return HostError(f"{error.filename}: permission denied; tracing needs root (or CAP_PERFMON and CAP_BPF)")
