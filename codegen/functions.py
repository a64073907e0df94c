"""Calls of the program's own functions: each is a copy of the function's code (reference part 1, section 10.2)."""

from __future__ import annotations

from llvmlite import ir

from pytrace.codegen.frame import I64
from pytrace.codegen.loops import LoopGenerator
from pytrace.grammar.data import dataclass
from pytrace.grammar.emit import Slot, Value
from pytrace.grammar.hints import Any
from pytrace.grammar.nodes import Call, Expr
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
