"""Attach points by source line: `uprobe:BIN@FILE:LINE[:COLUMN]`."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Sequence

from pytrace.grammar.data import dataclass
from pytrace.grammar.host import HostError, SourceLine
from pytrace.language.probes.common import Place, is_wildcard

FORMAT = "TARGET@FILE:LINE[:COLUMN]"
_CODE = "err.ap.srcloc"


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a source file; `text` is how the attach point spells it."""

    target: str
    file: str
    line: int
    column: int | None
    text: str


def parse(place: Place) -> Location | None:
    """The place that an attach point names; errors are reported."""
    parts = place.parts
    if place.type.name != "uprobe":
        place.error(_CODE, f"{place.type.name} cannot be attached to a source line", ("uprobe can.",))
        return None
    if not (4 <= len(parts) <= 5 and parts[1] == "@" and parts[0] and parts[2]):
        example = (f"For example {place.type.name}:/bin/app@main.c:12; a name that has an @ needs quotes.",)
        place.error(_CODE, f"Invalid source location: the format is {FORMAT}", example)
        return None
    target, _, file, *numbers = parts
    if is_wildcard(target) or is_wildcard(file):
        place.error(_CODE, "Wildcards are not allowed in a source location", ("Name one program and one file.",))
        return None
    for word, text in zip(("line", "column"), numbers, strict=False):
        if not (text.isascii() and text.isdigit() and int(text)):
            place.error(_CODE, f"Invalid {word} '{text}': not a positive integer", (f"The format is {FORMAT}",))
            return None
    line, column = int(numbers[0]), int(numbers[1]) if numbers[1:] else None
    return Location(target, file, line, column, ":".join([file, *numbers]))


def look_up(place: Place, path: str, location: Location) -> Sequence[int]:
    """The addresses at which the statements of a line start; an error if there are none."""
    try:
        found = place.host.source_line(path, location.file, location.line, location.column)
    except HostError as problem:
        hints = ("Compile it with -g, install its debug symbols, or name their folder with --debuginfo.",)
        place.error(_CODE, str(problem), hints)
        return ()
    if not found.addresses:
        place.error(_CODE, *_nothing(path, location, found))
    elif len(found.files) > 1:
        message = f"{len(found.files)} source files are called {location.file}: {', '.join(found.files[:4])}"
        place.warning(_CODE, message, ("Name more of the path for one of them.",))
    return found.addresses


def _nothing(path: str, location: Location, found: SourceLine) -> tuple[str, tuple[str, ...]]:
    """Why a line has no place, and what is near it."""
    if not found.files:
        from pytrace.grammar.diagnostics import did_you_mean  # only mistakes need it

        names = {os.path.basename(name) for name in found.others}
        hints = did_you_mean(os.path.basename(location.file), names)
        listed = f"Its source files are: {', '.join(sorted(names)[:8])}{', …' if len(names) > 8 else ''}"
        return f"No source file {location.file} in the debug information of {path}", hints or (listed,)
    if location.line in found.lines:
        columns = ", ".join(map(str, found.columns))
        hint = f"Columns of the line in which a statement starts: {columns}"
        return f"No code for {location.file}:{location.line} at column {location.column}", (hint,)
    at = bisect_left(found.lines, location.line)
    near = [str(line) for line in found.lines[max(at - 1, 0) : at + 1]]
    hint = f"The nearest lines with code: {' and '.join(near)}" if near else "Nothing of that file became code."
    return f"No code for {location.file}:{location.line} in {path}", (hint,)
