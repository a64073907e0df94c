"""Calls of the program's own functions: each is a copy of the function's code (reference part 1, section 10.2)."""

from __future__ import annotations

from llvmlite import ir

from pytrace.codegen.frame import I64
from pytrace.codegen.loops import FUNCTION_ENDS, RESULT, RETURNED, Area, LoopGenerator
from pytrace.grammar.data import dataclass
from pytrace.grammar.emit import Slot, Value
from pytrace.grammar.hints import Any
from pytrace.grammar.nodes import Call, Expr, For
from pytrace.grammar.promote import is_scalar
from pytrace.grammar.types import NONE, VOID, Type, size_of
from pytrace.grammar.typing import Signature


@dataclass(frozen=True, slots=True)
class Way:
    """Where `return` goes in the copy of a function, and where it leaves the value: a word or memory, or nowhere."""

    type: Type
    after: ir.Block
    word: Any = None
    slot: Slot | None = None


class FunctionGenerator(LoopGenerator):
    """The part of the generator that knows the program's functions."""

    # the ways out of the functions that we are in, innermost last
    returns: list[Way]

    def call_function(self, node: Call, signature: Signature) -> Value:
        """The value of a call; NONE if the function has none."""
        arguments = [self.value(argument) for argument in node.arguments]
        way = self._way(signature.result)
        body = signature.body
        assert body is not None
        outside, loops = self.typed, self.loops
        self.typed, self.loops = body, []
        self.returns.append(way)
        for binding in body.bindings.values():
            if binding.owner is None:
                self.clear_variable(binding)
        for binding, argument in zip(signature.parameters, arguments, strict=True):
            self.store_variable(binding, argument)
        self.body(body.probe.body)
        self.frame.goto(way.after)
        for binding in body.bindings.values():  # the memory is that of this call: the next gets its own
            self.storages.pop(binding, None)
            self.in_scratch.pop(binding, None)
        self.returns.pop()
        self.typed, self.loops = outside, loops
        if way.slot is not None:
            return self.at(way.slot, way.type)
        return Value(way.type, ir.Constant(I64, 0) if way.word is None else self.builder.load(way.word, typ=I64))

    def _way(self, kind: Type) -> Way:
        """A way out for a function that returns values of a type."""
        after = self.frame.block("returned")
        if kind == VOID:
            return Way(NONE, after)
        if is_scalar(kind) or self.is_reference(kind):
            word = self.frame.alloca(I64)
            self.builder.store(ir.Constant(I64, 0), word)
            return Way(kind, after, word)
        return Way(kind, after, slot=self.scratch(size_of(kind), zero=True))

    def return_to(self, way: Way, value: Expr | None) -> None:
        """`return` in a function."""
        if value is not None and way.slot is not None:
            self.store(way.slot, 0, self.convert(self.value(value), way.type))
        elif value is not None and way.word is not None:
            self.builder.store(self.convert(self.value(value), way.type).raw, way.word)
        self.builder.branch(way.after)
        self.frame.dead_end()

    # ---- `return` in a loop of a function: the loop's body is a function of its own to the kernel

    def result_place(self) -> Any:
        """See LoopGenerator: in a function the place of its value."""
        way = self.returns[-1] if self.returns else None
        if way is None or way.type == NONE:
            return super().result_place()
        return way.word if way.slot is None else way.slot.raw

    def loop_body(self, node: For, area: Area) -> None:
        """See LoopGenerator: `return` tells the code around the loop what happened."""
        if not self.returns:
            super().loop_body(node, area)
            return
        outside, after = self.returns[-1], self.frame.block("returned")
        place = area.pointer(RESULT)
        slot = None if outside.slot is None else Slot(place, outside.slot.size)
        self.returns.append(Way(outside.type, after, None if outside.word is None else place, slot))
        super().loop_body(node, area)
        self.returns.pop()
        here = self.builder.block
        self.builder.position_at_end(after)
        area.put(RETURNED, ir.Constant(I64, FUNCTION_ENDS))
        self.leave(1)
        self.builder.position_at_end(here)

    def carry_return(self, area: Area) -> None:
        """See LoopGenerator."""
        if self.returns:
            self.when(self.compare("==", self.returned(area), self.integer(FUNCTION_ENDS)), self._go_back)
        super().carry_return(area)

    def _go_back(self) -> None:
        self.builder.branch(self.returns[-1].after)
        self.frame.dead_end()

    def put_result(self, area: Area) -> None:
        """See LoopGenerator: what ends the program in a function has no result."""
        if not self.returns:
            super().put_result(area)
