"""`for` loops: their bodies become functions that a BPF helper calls (reference part 1, sections 8.7, 8.8).

Such a function sees nothing of the program that calls it but one pointer. The program puts what the body
needs into an area on its stack: its context, its scratch memory, and the places of the variables that the
body shares with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir

from pytrace.codegen.expressions import ExpressionGenerator
from pytrace.codegen.frame import I64, PTR, Frame
from pytrace.codegen.mapaccess import Element
from pytrace.grammar.data import dataclass
from pytrace.grammar.emit import Slot, Value
from pytrace.grammar.nodes import Block, For, Map, Node, Range, Variable, walk
from pytrace.grammar.promote import is_scalar
from pytrace.grammar.types import INT32, INT64, UINT64, Aggregate, Int, Tuple, Type, offsets_of, size_of
from pytrace.grammar.typing import Binding

# words of the shared area; the places of variables follow
CONTEXT, SCRATCH, RESULT, RETURNED, START, VARIABLES = range(6)
WORD = 8

MOST_ROUNDS = (1 << 31) - 1  # more than the helper accepts (BPF_MAX_LOOPS, 8388608), in what it takes


@dataclass(frozen=True, slots=True)
class Area:
    """The shared area of one loop, seen from one of the two functions, and the variables whose places are in
    it."""

    frame: Frame
    raw: Any
    variables: tuple[Binding, ...]

    def place(self, word: int) -> Any:
        """The address of one word."""
        return self.frame.offset(self.raw, WORD * word)

    def put(self, word: int, value: Any) -> None:
        """Store a register or a pointer in a word."""
        self.frame.builder.store(value, self.place(word))

    def pointer(self, word: int) -> Any:
        """The pointer in a word."""
        return self.frame.builder.load(self.place(word), typ=PTR)

    def number(self, word: int) -> Any:
        """The number in a word."""
        return self.frame.builder.load(self.place(word), typ=I64)


class LoopGenerator(ExpressionGenerator):
    """The part of the generator that knows `for`."""

    # where `break` and `continue` of the innermost loop go
    loops: list[tuple[ir.Block, ir.Block]]

    def body(self, block: Block) -> None:
        """A block whose value nobody uses (see `StatementGenerator`)."""
        raise NotImplementedError

    def own_variables(self, loop: For | None) -> None:
        """Give the variables declared in the program itself, or in the body of a loop, their places.

        They come first, because what lies behind them in scratch memory is free again after each statement.
        """
        for binding in self.typed.bindings.values():
            if binding.owner is loop:
                self.storage(binding)

    def for_(self, node: For) -> None:
        """`for ($i : start..end) { }`, `for ($kv : @map) { }`"""
        if isinstance(node.iterable, Range):
            self.for_range(node, node.iterable)
        else:
            self.for_map(node, node.iterable)

    def for_range(self, node: For, limits: Range) -> None:
        """The helper `loop` calls the body with the number of the round."""
        binding = self.typed.variables[node.variable]
        kind = binding.type
        start = self.convert(self.value(limits.start), kind)
        end = self.convert(self.value(limits.end), kind)
        signed = isinstance(kind, Int) and kind.signed
        distance = self.arith("-", end, start)
        most = self.integer(MOST_ROUNDS)
        count = self.select(self.compare("<", distance, most), distance, most)
        area = self.make_area(node)
        area.put(START, start.raw)

        def first(index: Any, inner: Area) -> None:
            number = self.builder.add(inner.number(START), index)
            self.store_variable(binding, Value(INT64, number))

        def call() -> None:
            callback = self.callback(
                node, area, (I64, PTR), ("index", "ctx"), lambda args, inner: first(args[0], inner)
            )
            none = ir.Constant(I64, 0)
            code = Value(INT64, self.frame.call("loop", self.frame.i32(count.raw), callback, area.raw, none))
            code = self.convert(code, INT32)  # where the kernel inlines the helper, the upper half of -E2BIG is zero
            failed = self.compare("<", code, self.integer(0), signed=True)
            self.when(failed, lambda: self.warn("helper", code, node.span, "loop"))

        # without rounds the kernel's verifier would not visit the callback and then miss it (6.18: "no
        # program to jit")
        self.when(self.compare("<", start, end, signed), call)
        self.carry_return(area)

    def for_map(self, node: For, iterable: Map) -> None:
        """The helper `for_each_map_elem` calls the body with the map and the addresses of key and value."""
        spec, variable = self.maps.user(iterable.name)
        binding = self.typed.variables[node.variable]
        pair = binding.type
        assert isinstance(pair, Tuple)
        area = self.make_area(node)

        def first(key: Any, value: Any) -> None:
            slot = Slot(self.storage(binding), size_of(pair))
            at_key, at_value = offsets_of(pair.items)
            self.frame.fill_zero(slot.raw, slot.size)
            self.copy_from(slot, at_key, key, pair.items[0])
            kind = spec.value.type
            if isinstance(kind, Aggregate):
                element = Element(spec, variable, Slot(key, spec.key_size), node.span)
                total = self.read_aggregate(element, kind)
                self.store(slot, at_value, self.convert(total, pair.items[1]))
            else:
                self.copy_from(slot, at_value, value, kind)

        callback = self.callback(
            node,
            area,
            (PTR, PTR, PTR, PTR),
            ("map", "key", "value", "ctx"),
            lambda args, _: first(args[1], args[2]),
        )
        self.frame.call("for_each_map_elem", variable, callback, area.raw, ir.Constant(I64, 0))
        self.carry_return(area)

    def copy_from(self, slot: Slot, offset: int, source: Any, kind: Type) -> None:
        """Copy a key or value out of a map."""
        place = Slot(source, size_of(kind))
        self.store(slot, offset, self.load(place, 0, kind) if is_scalar(kind) else self.at(place, kind))

    def loop(
        self, count: int, carried: Sequence[Value | Slot], body: Callable[[Value, Sequence[Value | Slot]], Value]
    ) -> None:
        """See Emit: the helper `loop` calls the body, whose shared area holds the addresses that it needs."""
        outer = self.frame
        size = VARIABLES + len(carried)
        words = outer.areas.pop(size, None)
        if words is None:
            words = outer.alloca(ir.ArrayType(I64, size))
            outer.stack_used += WORD * size
        area = Area(outer, words, ())
        area.put(CONTEXT, self.builder.load(outer.context_slot_, typ=PTR))
        area.put(SCRATCH, self.builder.load(outer.scratch_slot, typ=PTR))
        for word, item in enumerate(carried, VARIABLES):
            area.put(word, item.raw)
        function = self._callback_function((I64, PTR), ("index", "ctx"))
        inner = Frame(function, outer.debug, self.maps, outer.span, outer.number, outer.on_stack)
        inner.stack_used, inner.scratch_used = outer.stack_used, outer.scratch_used
        self.frame = inner
        view = Area(inner, function.args[-1], ())
        self.open_area(view)
        inside = [
            Slot(view.pointer(word), item.size, item.align) if isinstance(item, Slot)
            else Value(item.type, view.number(word))
            for word, item in enumerate(carried, VARIABLES)
        ]  # fmt: skip
        stop = body(Value(UINT64, function.args[0]), inside)
        self.builder.store(stop.raw, inner.result)
        inner.goto(inner.leave)
        self.builder.position_at_end(inner.exit)
        self.leave(1)
        inner.finish_callback()
        outer.scratch_peak = max(outer.scratch_peak, inner.scratch_peak)
        self.frame = outer
        self.frame.call("loop", outer.i32(count), function, area.raw, ir.Constant(I64, 0))
        outer.areas[size] = words

    # ---- the shared area

    def make_area(self, node: For) -> Area:
        """The area of a loop, filled with what its body needs."""
        shared = tuple(dict.fromkeys(b for b in self.mentioned(node.body) if b in self.storages))
        size = VARIABLES + len(shared)
        area = Area(self.frame, self.frame.alloca(ir.ArrayType(I64, size)), shared)
        self.frame.stack_used += WORD * size
        area.put(CONTEXT, self.builder.load(self.frame.context_slot_, typ=PTR))
        area.put(SCRATCH, self.builder.load(self.frame.scratch_slot, typ=PTR))
        area.put(RESULT, self.frame.result)
        area.put(RETURNED, ir.Constant(I64, 0))
        for word, binding in enumerate(shared, VARIABLES):
            area.put(word, self.storages[binding])
        return area

    def mentioned(self, node: Node) -> Iterator[Binding]:
        """The variables used in a block, in whatever the names in it stand for too."""
        for part in walk(node):
            if isinstance(part, Variable) and part in self.typed.variables:
                yield self.typed.variables[part]
            expansion = self.typed.expansions.get(part)
            if expansion is not None:
                yield from self.mentioned(expansion)

    def carry_return(self, area: Area) -> None:
        """A `return` in the body ends the program as well."""
        returned = Value(UINT64, area.number(RETURNED))
        self.when(self.truth(returned), self.finish)

    # ---- the body

    def callback(
        self, node: For, area: Area, parameters: tuple[ir.Type, ...], names: tuple[str, ...], first: Any
    ) -> ir.Function:
        """The body as a function; it returns 1 to stop the loop. `first` sets the loop variable."""
        function = self._callback_function(parameters, names)
        outer, storages, loops = self.frame, self.storages, self.loops
        inner = Frame(function, outer.debug, self.maps, node.span, outer.number, outer.on_stack)
        inner.stack_used, inner.scratch_used = outer.stack_used, outer.scratch_used
        self.frame, self.storages, self.loops = inner, {}, []
        view = Area(inner, function.args[-1], area.variables)
        self.open_area(view)
        self.own_variables(node)
        first(function.args, view)
        stop, again = inner.block("stop"), inner.block("again")
        self.loops.append((stop, again))
        self.body(node.body)
        inner.goto(again)
        self.leave(0)
        self.builder.position_at_end(stop)
        self.leave(1)
        self.close(view)
        outer.scratch_peak = max(outer.scratch_peak, inner.scratch_peak)
        self.frame, self.storages, self.loops = outer, storages, loops
        return function

    def _callback_function(self, parameters: tuple[ir.Type, ...], names: tuple[str, ...]) -> ir.Function:
        module = self.frame.function.module
        name = f"{self.frame.function.name}_loop_{len(module.functions)}"
        function = ir.Function(module, ir.FunctionType(I64, parameters), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        for argument, word in zip(function.args, names, strict=True):
            argument.name = word
        return function

    def leave(self, result: int) -> None:
        """End one round: go on with 0, stop the loop with 1."""
        self.builder.store(ir.Constant(I64, result), self.frame.result)
        self.builder.branch(self.frame.leave)

    def open_area(self, area: Area) -> None:
        """Fetch from the shared area what the body needs."""
        self.builder.store(area.pointer(CONTEXT), area.frame.context_slot_)
        self.builder.store(area.pointer(SCRATCH), area.frame.scratch_slot)
        for word, binding in enumerate(area.variables, VARIABLES):
            self.storages[binding] = area.pointer(word)

    def close(self, area: Area) -> None:
        """`return` in the body stops the loop, and the program after it."""
        inner = area.frame
        self.builder.position_at_end(inner.exit)
        area.put(RETURNED, ir.Constant(I64, 1))
        self.builder.store(self.builder.load(inner.result, typ=I64), area.pointer(RESULT))
        self.leave(1)
        inner.finish_callback()
