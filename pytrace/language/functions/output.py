"""Functions that show something: printf, errorf, warnf, print, time, join (reference part 2, section 2.1)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pytrace.grammar.config import Config
from pytrace.grammar.diagnostics import Label, Severity
from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.hints import Any, ClassVar
from pytrace.grammar.lines import Line
from pytrace.grammar.nodes import Expr, Map
from pytrace.grammar.plan import Action as ActionRecord
from pytrace.grammar.source import Span
from pytrace.grammar.spec import (
    REGISTRY,
    Action,
    CallSite,
    Output,
    Param,
    Services,
    Session,
    Sink,
    feature,
)
from pytrace.grammar.types import (
    NONE,
    UINT64,
    Aggregate,
    Int,
    NoneType,
    Opaque,
    Pointer,
    Space,
    Struct,
    Type,
    Void,
)
from pytrace.language import kernelprintf
from pytrace.language.jsonvalue import clean, jsonable, python_value
from pytrace.language.pieces import json_pieces, literal, quoted, text_pieces
from pytrace.language.printf import Problem, formatter, parse, pieces, problem
from pytrace.language.text import text as default_text

MOST_VALUES = 127
MOST_CACHED = 1024

Formatter = Callable[[Sequence[Any]], str]
_formatters: dict[int, tuple[ActionRecord, Services, Formatter]] = {}


class Formatted(Action):
    """Base of the actions that take a format string and values for it."""

    parameters = (Param("format", ("string",), literal=True), Param("values", rest=True))

    def type(self, site: CallSite) -> Type:
        if len(site) - 1 > MOST_VALUES:
            found = f"{self.name}() takes up to {MOST_VALUES + 1} arguments ({len(site)} provided)"
            site.error("err.call.nargs", found)
        known = NONE not in site.types or not site.diagnostics.errors
        mismatch = self.check(site) if known else None
        if mismatch is not None:
            at = mismatch.index
            labels = [] if at is None else [Label(site.arguments[at + 1].span, f"value {at + 1} of the format")]
            site.diagnostics.error("fmt.check", mismatch.message, site.span, labels, mismatch.hints)
        return NONE

    def check(self, site: CallSite) -> Problem | None:
        """What is wrong with the format, or with a value for it."""
        return problem(parse(site.text(0)), site.types[1:])

    def fields(self, site: CallSite) -> tuple[Expr, ...]:
        return site.arguments[1:]

    def params(self, site: CallSite) -> tuple[Any, ...]:
        return (site.text(0),)

    def format(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> str:
        """The text of one record."""
        return _formatter(action, session.services)(values)


def _formatter(action: ActionRecord, services: Services) -> Formatter:
    """The formatter of an action, made when its first record arrives."""
    cached = _formatters.get(id(action))
    if cached is not None and cached[0] is action and cached[1] is services:
        return cached[2]
    if len(_formatters) >= MOST_CACHED:
        _formatters.clear()
    made = formatter(parse(action.params[0]), action.fields, services)
    _formatters[id(action)] = action, services, made
    return made


def python_values(action: ActionRecord, values: tuple[Any, ...], services: Services) -> tuple[Any, ...]:
    """The values of a record as the Python API gives them."""
    return tuple(
        value if isinstance(layout.type, Int) else python_value(layout, value, services)
        for layout, value in zip(action.fields, values, strict=True)
    )


@feature
class Printf(Formatted):
    """Print values by a format.

    The conversions are those of printf(3) for integers and strings: `%d %i %u %x %X %o %c %p %s`, with
    flags, width and length (`%ld` for 64 bits). `%s` shows anything. `%r`, `%rx`, `%rh` show the bytes of a
    buffer, `%gr` page allocation flags. Values are taken when this runs, and formatted when the tracer gets
    to it.

    In a pinned iterator the kernel makes the text (bpf_seq_printf), which knows `%d %i %u %x %X %c %p %s` with
    up to 12 values. What an iterator prints is plain text in JSON mode too.

    bt> tracepoint:syscalls:sys_enter_openat { printf("%-16s %d %s\\n", comm, pid, str(args.filename)); }
    """

    name = "printf"

    def check(self, site: CallSite) -> Problem | None:
        found = super().check(site)
        if found is None and site.target.sink is Sink.TEXT:
            return kernelprintf.problem(parse(site.text(0)), site.types[1:])
        return found

    def params(self, site: CallSite) -> tuple[Any, ...]:
        return (site.text(0),) if site.target.sink is Sink.RING else (site.text(0), "raw")

    def emit(self, emit: Emit, site: CallSite) -> Value | None:
        if site.target.sink is not Sink.TEXT:
            return super().emit(emit, site)
        values = [emit.value(argument) for argument in self.fields(site)]
        kernelprintf.write(emit, parse(site.text(0)), values)
        return None

    def handle(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> Output | None:
        text = self.format(action, values, session)
        shown = python_values(action, values, session.services) if session.values else ()
        return Output("printf", text, clean(text), shown, raw=len(action.params) > 1)

    def line(self, action: ActionRecord, config: Config) -> Line | None:
        found = pieces(parse(action.params[0]), action.fields, action.offsets, config)
        if found is None or len(action.params) > 1:
            return None
        return Line("printf", found, quoted(found))


class Located(Formatted):
    """Base of the messages that carry the place of their call."""

    severity: ClassVar[Severity]

    def handle(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> Output | None:
        text, span = self.format(action, values, session), action.span
        assert span is not None
        word = self.severity.value
        line = f"{span.location()}: {word}: {text.removesuffix(chr(10))}\n"
        call = span.via
        while call is not None:
            line += f"{call.location()}: {word}: expanded from\n"
            call = call.via
        shown = python_values(action, values, session.services)
        fields = {"msg": clean(text), **place(span)}
        return Output(self.name, line, None, shown, error=True, fields=fields)


def place(span: Span) -> dict[str, Any]:
    """Where something stands, as JSON documents say it."""
    line, column = span.first
    return {"filename": span.source.name, "line": line, "col": column}


@feature
class Errorf(Located):
    """Print a message on standard error, with the place of this call and the word ERROR. The program goes on.

    bt> tracepoint:syscalls:sys_exit_openat /args.ret < 0/ { errorf("open failed: %d", args.ret); }
    """

    name = "errorf"
    severity: ClassVar[Severity] = Severity.ERROR


@feature
class Warnf(Located):
    """Print a message on standard error, with the place of this call and the word WARNING.

    `--no-warnings` silences it.

    bt> tracepoint:syscalls:sys_exit_openat /args.ret < 0/ { warnf("open failed: %d", args.ret); }
    """

    name = "warnf"
    severity: ClassVar[Severity] = Severity.WARNING


@feature
class Print(Action):
    """Print a value in its default form, or a map.

    A map is printed as it is when the tracer gets to it, not as it was when this ran. `print(@m, top)`
    prints only the `top` largest elements, `print(@m, top, div)` divides the numbers by `div`; 0 means off.

    bt> interval:s:1 { print(nsecs); @ = count(); print(@); clear(@); }
    """

    name = "print"
    parameters = (
        Param("value", ("map", "any")),
        Param("top", ("int",), literal=True, optional=True),
        Param("div", ("int",), literal=True, optional=True),
    )

    def type(self, site: CallSite) -> Type:
        if isinstance(site.arguments[0], Map):
            self._check_map(site)
        elif len(site) > 1:
            site.error("fn.print", f"Non-map print() only takes 1 argument, {len(site)} found")
        else:
            self._check_value(site)
        return NONE

    def _check_map(self, site: CallSite) -> None:
        if site.repeated:
            site.warning(
                "warn.flow.print-loop",
                "Due to it's asynchronous nature using 'print()' in a loop can lead to unexpected behavior. "
                "The map will likely be updated before the runtime can 'print' it.",
            )
        kind = site.types[0]
        if len(site) > 1 and isinstance(kind, Aggregate) and kind.feature == "stats":
            site.warning("fn.print", "print()'s top and div arguments are ignored when used on stats() maps.")

    def _check_value(self, site: CallSite) -> None:
        kind = site.types[0]
        if isinstance(kind, Aggregate):
            if not REGISTRY.aggregation(kind).castable:
                found = f"Map type {kind} cannot print the value of individual keys."
                site.error("err.type.agg-print", f"{found} You must print the whole map.", 0)
            return
        # an unknown type follows from an error that was reported before
        unprintable = isinstance(kind, (NoneType, Void)) and not site.diagnostics.errors
        if unprintable or _is_context(kind):
            name = f"struct {kind.name}" if isinstance(kind, Struct) else kind
            site.error("err.type.agg-print", f"{name} type passed to print() is not printable", 0)

    def fields(self, site: CallSite) -> tuple[Expr, ...]:
        return () if isinstance(site.arguments[0], Map) else site.arguments

    def params(self, site: CallSite) -> tuple[Any, ...]:
        if not isinstance(site.arguments[0], Map):
            return ()
        top, divisor = (site.integer(i) if len(site) > i else 0 for i in (1, 2))
        return (f"@{site.map(0)}", max(top, 0), max(divisor, 0))

    def is_control(self, params: tuple[Any, ...]) -> bool:
        return bool(params)  # of a map: it has no data of its own

    def handle(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> Output | None:
        if action.params:
            output = session.map_output(*action.params)
            return output if output.text or output.data is not None else None
        layout, value, services = action.fields[0], values[0], session.services
        return Output(
            "value",
            default_text(layout, value, services) + "\n",
            jsonable(layout, value, services),
            python_values(action, values, services),
        )

    def line(self, action: ActionRecord, config: Config) -> Line | None:
        if action.params:
            return None
        layout, offset = action.fields[0], action.offsets[0]
        text, data = text_pieces(layout, offset, config), json_pieces(layout, offset, config)
        return Line("value", (*text, literal("\n")), data) if text else None


def _is_context(kind: Type) -> bool:
    """Whether a value is the probe's context or a tracepoint's record, which cannot be copied as a whole."""
    if isinstance(kind, Pointer):
        return isinstance(kind.to, Struct) and kind.space is Space.DIRECT
    return isinstance(kind, Struct) and kind.kind == "args" and kind.name.startswith("tracepoint:")


@feature
class Time(Action):
    """Print the wall-clock time at which the tracer gets to this.

    The format is that of strftime(3); `%H:%M:%S\\n` if none is given.

    bt> interval:s:1 { time("%H:%M:%S "); print(@reads); } tracepoint:syscalls:sys_enter_read { @reads++; }
    """

    name = "time"
    parameters = (Param("format", ("string",), literal=True, optional=True),)
    room: ClassVar[int] = 64  # bytes of the text, NUL included

    def fields(self, site: CallSite) -> tuple[Expr, ...]:
        return ()

    def params(self, site: CallSite) -> tuple[Any, ...]:
        return (site.text(0) if len(site) else "%H:%M:%S\n",)

    def handle(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> Output | None:
        text = time.strftime(action.params[0])
        if not text or len(text.encode("utf-8", "surrogateescape")) >= self.room:
            return Output("error", "ERROR: strftime returned zero (empty or too long)\n", error=True)
        return Output("time", text, clean(text))


@feature
class Join(Action):
    """Print the strings of an array of pointers, such as an argument list, joined by a separator.

    The separator is one space if none is given.

    At most 16 strings of at most 1023 bytes are read; the first empty one ends the list.

    bt> tracepoint:syscalls:sys_enter_execve { join(args.argv); }
    """

    name = "join"
    parameters = (
        Param("array", ("pointer", "int")),
        Param("separator", ("string",), literal=True, optional=True),
    )
    most: ClassVar[int] = 16
    room: ClassVar[int] = 1024  # bytes for each string

    def params(self, site: CallSite) -> tuple[Any, ...]:
        return (site.text(1) if len(site) > 1 else " ",)

    def emit(self, emit: Emit, site: CallSite) -> Value | None:
        address = emit.convert(emit.value(site.arguments[0]), UINT64)
        strings, count = emit.scratch(self.most * self.room, zero=False), emit.scratch(8)
        space = getattr(site.types[0], "space", Space.NONE)
        if space is Space.NONE:
            space = site.target.space
        self._read(emit, address, space, strings, count, 0)
        raw = emit.at(strings, Opaque("join", self.most * self.room))
        emit.send(self.name, [emit.load(count, 0, UINT64), raw], self.params(site), site.span)
        return None

    def _read(self, emit: Emit, array: Value, space: Space, strings: Slot, count: Slot, index: int) -> None:
        """Read string number `index`, and those behind it unless it is empty or cannot be read."""
        if index == self.most:
            return
        pointer = emit.scratch(8)
        emit.read(pointer, 8, emit.arith("+", array, emit.integer(8 * index)), space)
        place = emit.part(strings, index * self.room, self.room)
        length = emit.read_string(place, self.room, emit.load(pointer, 0, UINT64), space)

        def keep() -> None:
            emit.store(count, 0, emit.integer(index + 1))
            self._read(emit, array, space, strings, count, index + 1)

        emit.when(emit.compare(">", length, emit.integer(1), signed=True), keep)

    def handle(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> Output | None:
        count, data = values
        strings = [data[i * self.room : (i + 1) * self.room].split(b"\0", 1)[0] for i in range(count)]
        texts = [s.decode("utf-8", "surrogateescape") for s in strings]
        text = action.params[0].join(texts)
        return Output("join", f"{text}\n", clean(text), tuple(texts))
