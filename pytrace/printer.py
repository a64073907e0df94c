"""What a trace shows, as text or as JSON documents (reference part 2, sections 7 and 9.4)."""

from __future__ import annotations

import os
import select

from pytrace.grammar.hints import TYPE_CHECKING, Any, Protocol
from pytrace.grammar.jsontext import json_string

if TYPE_CHECKING:
    from pytrace.grammar.spec import Output

FULL_BUFFER = 1 << 16  # bytes that are gathered at most

# what --no-warnings hides
WARNINGS = frozenset({"warnf", "helper_error", "runtime_error", "stack_note", "clock_skew"})

STDOUT, STDERR = 1, 2


class WriteError(Exception):
    """The output cannot be written; `errno` is EPIPE when its reader is gone."""

    def __init__(self, error: OSError) -> None:
        self.errno = error.errno or 0
        super().__init__(f"Failed to write output: {error.strerror}")


class Stream:
    """Text to a file descriptor, in the buffering mode of `-B`: `line`, `none` or `full`.

    In the mode `line` what holds a newline is written by `settle`, which is called when nothing more waits to
    be shown: one write(2) for a burst of lines. Methods raise `WriteError`.
    """

    def __init__(self, descriptor: int, mode: str = "line") -> None:
        self._descriptor = descriptor
        self._mode = mode
        self._parts: list[str] = []
        self._size = 0
        self._whole = False  # a newline waits

    def write(self, text: str) -> None:
        """Take some text."""
        self._parts.append(text)
        self._size += len(text)
        self._whole = self._whole or "\n" in text
        if self._mode == "none" or self._size >= FULL_BUFFER:
            self.flush()

    def write_ready(self, data: bytes) -> None:
        """Take many lines that are bytes already."""
        if self._size + len(data) < FULL_BUFFER:
            self.write(data.decode("utf-8", "surrogateescape"))
            return
        self.flush()
        self._write(memoryview(data))

    def settle(self) -> None:
        """Nothing more is to come right now: write what must not wait."""
        if self._mode == "line" and self._whole:
            self.flush()

    def flush(self) -> None:
        """Write everything."""
        data = memoryview("".join(self._parts).encode("utf-8", "surrogateescape"))
        self._parts.clear()
        self._size, self._whole = 0, False
        self._write(data)

    def _write(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # whoever shares the descriptor has made it non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                raise WriteError(error) from error


class Printer(Protocol):
    """Shows outputs."""

    def show(self, output: Output) -> None:
        """Show one output. Raises `WriteError`, as all methods do."""
        ...

    def show_ready(self, lines: bytes) -> None:
        """Show outputs that are in the printer's form already."""
        ...

    def settle(self) -> None:
        """Nothing more is to come right now."""
        ...

    def close(self) -> None:
        """Write what is still buffered."""
        ...


class TextPrinter:
    """Text for people: program output to `out`, messages to `messages`.

    `quiet` leaves out how many probes are attached, `warnings` tells whether run-time warnings are shown.
    """

    def __init__(self, out: Stream, messages: Stream, quiet: bool = False, warnings: bool = True) -> None:
        self._out, self._messages = out, messages
        self._hidden = frozenset() if warnings else WARNINGS
        self._quiet = quiet

    def show(self, output: Output) -> None:
        """See Printer."""
        if output.kind == "attached_probes":
            if not self._quiet:
                self._say(attached_text(output.data["probes"]))
        elif not output.error:
            self._out.write(output.text)
        elif output.kind not in self._hidden:
            self._say(output.text)

    def show_ready(self, lines: bytes) -> None:
        """See Printer."""
        self._out.write_ready(lines)

    def _say(self, text: str) -> None:
        self._out.flush()  # on a terminal both streams are one: keep the order
        self._messages.write(text)
        self._messages.flush()

    def settle(self) -> None:
        """See Printer."""
        self._out.settle()

    def close(self) -> None:
        """See Printer."""
        self._out.flush()


def attached_text(count: int) -> str:
    """How many probes are attached, in words."""
    return f"Attached {count} probe{'' if count == 1 else 's'}\n"


class JsonPrinter:
    """One JSON document a line. To `messages` go failures of the tracer itself, and what was lost in all."""

    def __init__(self, out: Stream, messages: Stream, quiet: bool = False, warnings: bool = True) -> None:
        self._out, self._messages = out, messages
        self._left_out = {"maps_follow", "error"} | ({"attached_probes"} if quiet else set())
        self._left_out |= set() if warnings else WARNINGS

    def show(self, output: Output) -> None:
        """See Printer."""
        if output.kind in ("error", "losses"):
            self._messages.write(output.text)
            self._messages.flush()
        if output.raw:
            self._out.write(output.text)
        elif output.kind not in self._left_out:
            self._out.write(document(output))

    def show_ready(self, lines: bytes) -> None:
        """See Printer."""
        self._out.write_ready(lines)

    def settle(self) -> None:
        """See Printer."""
        self._out.settle()

    def close(self) -> None:
        """See Printer."""
        self._out.flush()


# ---------------------------------------------------------------- JSON


_DATA, _END = ', "data": ', "}\n"


def _start(kind: str) -> str:
    return f'{{"type": "{kind}"'


def around(kind: str) -> tuple[str, str]:
    """What stands before and behind the `data` of a document of this type that has no fields."""
    return _start(kind) + _DATA, _END


def document(output: Output) -> str:
    """The JSON document of an output with its newline; empty for a map with nothing to show."""
    fields = output.fields or {}
    start = _start(output.kind) + "".join(f', "{name}": {to_json(v)}' for name, v in fields.items())
    if output.data is None and output.kind != "value":
        return f"{start}}}\n" if fields else ""
    shown = _tseries(output.data) if output.kind == "tseries" else to_json(output.data)
    return f"{start}{_DATA}{shown}{_END}"


def to_json(value: Any) -> str:
    """Plain data as JSON, spaced as the reference does: `", "` and `": "` in objects, `","` in arrays."""
    match value:
        case str():
            return json_string(value)
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case dict():
            return "{" + ", ".join([f"{json_string(k)}: {to_json(v)}" for k, v in value.items()]) + "}"
        case list() | tuple():
            return "[" + ",".join(map(to_json, value)) + "]"
        case _:
            return str(value)


def _tseries(maps: dict[str, Any]) -> str:
    """The `data` of a time series, whose buckets have no spaces inside."""

    def buckets(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json_string(k)}: {buckets(v)}" for k, v in value.items()) + "}"
        return "[" + ",".join(map(_tight, value)) + "]"

    return buckets(maps)


def _tight(bucket: dict[str, Any]) -> str:
    return "{" + ",".join(f"{json_string(k)}:{to_json(v)}" for k, v in bucket.items()) + "}"


def make_printer(
    form: str, descriptor: int, buffering: str, quiet: bool = False, warnings: bool = True
) -> TextPrinter | JsonPrinter:
    """The printer for `-f`, writing to a descriptor."""
    out, messages = Stream(descriptor, buffering), Stream(STDERR)
    kind = JsonPrinter if form == "json" else TextPrinter
    return kind(out, messages, quiet, warnings)
