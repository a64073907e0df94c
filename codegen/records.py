"""Records: what a program sends to user space, and what it says when something went wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from pytrace.codegen.emitter import Emitter
from pytrace.codegen.frame import I64, Frame
from pytrace.grammar.emit import Slot, Value
from pytrace.grammar.hints import Any
from pytrace.grammar.layout import layout_of
from pytrace.grammar.plan import Action
from pytrace.grammar.promote import settled
from pytrace.grammar.source import Span
from pytrace.grammar.spec import Sink
from pytrace.grammar.types import INT32, UINT64


class RecordEmitter(Emitter):
    """The part of the generator that sends records."""

    def send(
        self, feature: str, values: Sequence[Value], params: tuple[Any, ...] = (), span: Span | None = None
    ) -> None:
        """See Emit."""
        types = [settled(v.type) for v in values]
        fields = tuple(layout_of(t, self.source) for t in types)
        if self.sink is Sink.TEXT:
            self.refuse_sending(feature, span)
        action = self.plan.action(feature, fields, params, span)
        if self.sink is Sink.RECORDS:
            self.write_record(action, values)
            return

        def fill(record: Slot) -> None:
            self.fill_record(record, self.integer(action.number), action.offsets, values)

        if self.is_control(feature, params):
            reserve = lambda: self.submit(self.maps.control(), action.size, fill, self.lose)  # noqa: E731
            self.submit(self.maps.ring(), action.size, fill, reserve)
        else:
            self.submit(self.maps.ring(), action.size, fill, self.lose)

    @property
    def sink(self) -> Sink:
        """How records leave this program."""
        raise NotImplementedError

    def refuse_sending(self, feature: str, span: Span | None) -> None:
        """Report that nobody is there who could act on a record; raises CompileError."""
        diagnostics = self.compile_context.diagnostics
        message = f"{feature}() cannot be used in a pinned iterator: the tracer is gone when the pin is read."
        hint = "Use printf(), which writes what the reader of the pin gets, or leave out the pin."
        diagnostics.error("err.call.probe", message, span or self.frame.span, hints=(hint,))
        diagnostics.raise_errors()

    def write_record(self, action: Action, values: Sequence[Value]) -> None:
        """Put a record into the iterator's file. Where it finds no room the kernel comes again."""
        slot = self.scratch(action.size)
        self.fill_record(slot, self.integer(action.number), action.offsets, values)
        self.frame.call("seq_write", self.iterator_file().raw, slot.raw, self.frame.i32(action.size))

    def fill_record(self, slot: Slot, number: Value, offsets: Sequence[int], values: Sequence[Value]) -> None:
        """The number of the action and the values."""
        self.store(slot, 0, number)
        for value, offset in zip(values, offsets, strict=True):
            self.store(slot, offset, value)

    def is_control(self, feature: str, params: tuple[Any, ...]) -> bool:
        """Whether records of an action have a ring buffer in reserve."""
        raise NotImplementedError

    def submit(self, ring: Any, size: int, fill: Callable[[Slot], None], otherwise: Callable[[], None]) -> None:
        """Put a record into a ring buffer; `otherwise` is made for the case that it is full."""
        none = ir.Constant(I64, 0)
        record = self.frame.call_pointer("ringbuf_reserve", ring, ir.Constant(I64, size), none)

        def put() -> None:
            fill(Slot(record, size))
            self.frame.call("ringbuf_submit", record, none)

        self.when(self.not_null(record), put, otherwise)

    def lose(self) -> None:
        """Count a record that found no room."""
        self.aside("count_lost", {}, lambda _: self.bump(self.maps.lost(), self.frame.zero_key()))

    def bump(self, counters: Any, key: Any, first: Callable[[], None] | None = None) -> None:
        """Add one to this CPU's counter in an array; `first` is made for the case that it was zero."""
        entry = self.frame.call_pointer("map_lookup_elem", counters, key)

        def count() -> None:
            slot = Slot(entry, 8)
            old = self.load(slot, 0, UINT64)
            self.store(slot, 0, self.arith("+", old, self.integer(1)))
            if first is not None:
                self.when(self.compare("==", old, self.integer(0)), first)

        self.when(self.not_null(entry), count)

    # ---- mishaps

    def warn(self, kind: str, code: Value, span: Span, helper: str = "") -> None:
        """See Emit."""
        action = self.warning(kind, span, helper)
        if action is not None:
            given = {"action": self.integer(action.number), "code": self.convert(code, INT32)}
            self.aside("send_warning", given, lambda inside: self.tell(action, inside))

    def warning(self, kind: str, span: Span, helper: str) -> Action | None:
        """The action of a warning; None if nobody hears it. A CPU that was not there before is told of even with
        `--no-warnings`."""
        if self.sink is Sink.TEXT or not (self.compile_context.warnings or kind == "cpus"):
            return None
        return self.plan.action("runtime_warning", (layout_of(INT32, self.source),), (kind, helper), span)

    def tell(self, action: Action, given: dict[str, Value]) -> None:
        """Send a warning: the number of its action and the error's. All have the same layout."""
        if self.sink is Sink.RECORDS:
            self.write_record(action, [given["code"]])
            return

        def fill(record: Slot) -> None:
            self.fill_record(record, given["action"], action.offsets, [given["code"]])

        self.submit(self.maps.ring(), action.size, fill, self.lose)

    def aside(self, name: str, given: dict[str, Value], make: Callable[[dict[str, Value]], None]) -> None:
        """What is done seldom, with some values: in a function of its own, which all programs of the object call, for
        there is much of it to compile. It is done here where a call would be one too many, or take too much stack."""
        outer = self.frame
        if self.sink is not Sink.RING or not outer.has_asides:
            make(given)
            return
        module = outer.function.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(I64, [I64] * len(given)), name)
            function.linkage = "internal"
            function.attributes.add("noinline")
            for argument, word in zip(function.args, given, strict=True):
                argument.name = word
            self.frame = Frame(function, outer.debug, self.maps, outer.span, outer.number, 0)
            arguments = zip(given.items(), function.args, strict=True)
            make({word: Value(value.type, argument) for (word, value), argument in arguments})
            self.frame.goto(self.frame.exit)
            self.frame.goto(self.frame.leave)
            self.frame.finish_callback()
            self.frame = outer
        self.builder.call(function, [value.raw for value in given.values()])
