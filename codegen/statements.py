"""Statements → code (reference part 1, section 8)."""

from __future__ import annotations

from typing import cast

from llvmlite import ir

from pytrace.codegen.expressions import ExpressionGenerator
from pytrace.codegen.frame import I64, PTR, Frame
from pytrace.grammar.emit import Slot, Value
from pytrace.grammar.nodes import (
    Assign,
    Block,
    Call,
    Discard,
    Expr,
    ExprStatement,
    For,
    Identifier,
    If,
    ImportStatement,
    Jump,
    Let,
    Map,
    MapElement,
    Range,
    Return,
    Statement,
    Unroll,
    While,
)
from pytrace.grammar.spec import Aggregation
from pytrace.grammar.types import INT64, NONE, UINT64, Int
from pytrace.grammar.typing import Binding


class StatementGenerator(ExpressionGenerator):
    """The whole generator of one program."""

    # where `break` and `continue` of the innermost loop go
    loops: list[tuple[ir.Block, ir.Block]]

    def program(self) -> None:
        """The predicate and the block."""
        self.loops = []
        # variables first: what lies behind them in scratch memory is free again after each statement
        for binding in self.typed.bindings.values():
            self.storage(binding)
        predicate = self.typed.probe.predicate
        if predicate is not None:
            passes = self.condition(predicate)
            inside = self.frame.block("matched")
            self.builder.cbranch(self.bit(passes), inside, self.frame.exit)
            self.builder.position_at_end(inside)
        self.body(self.typed.probe.body)

    def condition(self, node: Expr) -> Value:
        """A condition; a literal string is true unless it is empty."""
        constant = self.typed.constants.get(node)
        if isinstance(constant, bytes):
            return self.integer(int(bool(constant)))
        return self.value(node)

    def body(self, block: Block) -> None:
        """A block whose value nobody uses."""
        for statement in block.statements:
            self.statement(statement)
        if block.value is not None:
            self.expression(block.value)

    def block_value(self, node: Block | If) -> Value:
        """A block or `if` used for its value."""
        if isinstance(node, Block):
            for statement in node.statements:
                self.statement(statement)
            return self.value(node.value) if node.value is not None else self.integer(0, NONE)
        condition = self.condition(node.condition)
        otherwise = node.otherwise
        return self.branch(
            condition,
            self.type_of(node),
            lambda: self.block_value(node.then),
            lambda: self.block_value(otherwise) if otherwise is not None else self.integer(0, NONE),
        )

    def statement(self, node: Statement) -> None:
        """One statement, and the end of the temporary memory it took."""
        used = self.frame.scratch_used
        self.frame.locate(node.span)
        self.translate(node)
        self.frame.scratch_used = used

    def translate(self, node: Statement) -> None:
        """The code of one statement."""
        match node:
            case ExprStatement(value=value) | Discard(value=value):
                self.expression(value)
            case Assign():
                self.assign(node)
            case Let(variable=variable, value=initial):
                binding = self.typed.variables[variable]
                if initial is not None:
                    self.store_variable(binding, self.value(initial))
                else:
                    self.clear_variable(binding)
            case Jump(word=word):
                self.jump(word)
            case Return(value=result):
                self.return_(result)
            case While():
                self.while_(node)
            case Unroll(count=count, body=body):
                times = self.typed.constants[count]
                for _ in range(int(times)):
                    self.body(body)
            case For():
                self.for_(node)
            case ImportStatement():
                raise AssertionError("import inside a block")
            case _:
                raise AssertionError(f"no such statement: {node}")

    def expression(self, value: Expr) -> None:
        """An expression whose value is thrown away."""
        match value:
            case Block():
                self.body(value)
            case If():
                self.if_(value)
            case _:
                self.value(value)

    def if_(self, node: If) -> None:
        """`if` as a statement."""
        otherwise = node.otherwise

        def other() -> None:
            if isinstance(otherwise, Block):
                self.body(otherwise)
            elif otherwise is not None:
                self.if_(otherwise)

        self.when(
            self.condition(node.condition), lambda: self.body(node.then), other if otherwise is not None else None
        )

    def assign(self, node: Assign) -> None:
        """`target = value`, `target op= value`"""
        value = self.typed.expansions.get(node, node.value)
        if isinstance(node.target, (Map, MapElement)):
            site = self.typed.sites.get(node.value)
            if not node.op and site is not None and isinstance(site.feature, Aggregation):
                self.update_aggregate(node.target, cast("Call | Identifier", node.value))
                return
            self.write_map(node.target, self.value(value))
            return
        self.store_variable(self.typed.variables[node.target], self.value(value))

    # ---- jumps and loops

    def return_(self, value: Expr | None) -> None:
        """`return;`, `return value;`"""
        if value is not None:
            self.builder.store(self.convert(self.value(value), INT64).raw, self.frame.result)
        self.finish()

    def jump(self, word: str) -> None:
        """`break`, `continue`"""
        away, again = self.loops[-1]
        self.builder.branch(away if word == "break" else again)
        self.frame.dead_end()

    def while_(self, node: While) -> None:
        """`while (condition) { }`; its bounds are the verifier's business."""
        head, inside, done = (self.frame.block(n) for n in ("while", "body", "done"))
        self.frame.goto(head)
        self.builder.cbranch(self.bit(self.condition(node.condition)), inside, done)
        self.builder.position_at_end(inside)
        self.loops.append((done, head))
        self.body(node.body)
        self.loops.pop()
        self.frame.goto(head)
        self.builder.position_at_end(done)

    def for_(self, node: For) -> None:
        """`for ($i : start..end) { }`: the body becomes a callback of the helper `loop`."""
        if not isinstance(node.iterable, Range):
            raise NotImplementedError("for over a map")
        kind = self.typed.variables[node.variable].type
        start = self.convert(self.value(node.iterable.start), kind)
        end = self.convert(self.value(node.iterable.end), kind)
        signed = isinstance(kind, Int) and kind.signed
        some = self.compare("<", start, end, signed)
        count = self.select(some, self.arith("-", end, start), self.integer(0))
        self.run_loop(node, start, count)

    def run_loop(self, node: For, start: Value, count: Value) -> None:
        """Call the helper with a callback that has the enclosing variables by address."""
        shared = [b for b in self.typed.bindings.values() if b in self.storages]
        for binding in self.typed.bindings.values():
            if binding not in shared and binding.span.start < node.span.start:
                self.storage(binding)
                shared.append(binding)
        # words of the shared area: context, scratch, result, start, "the program returned", variables
        area = self.frame.alloca(ir.ArrayType(I64, 5 + len(shared)))
        slot = Slot(area, 8 * (5 + len(shared)))
        pointers = [
            self.builder.load(self.frame.context_slot_, typ=PTR),
            self.builder.load(self.frame.scratch_slot, typ=PTR),
            self.frame.result,
        ]
        for index, pointer in enumerate(pointers):
            self.builder.store(pointer, self.frame.offset(area, 8 * index))
        self.store(slot, 24, Value(UINT64, start.raw))
        self.store(slot, 32, self.integer(0))
        for index, binding in enumerate(shared):
            self.builder.store(self.storages[binding], self.frame.offset(area, 8 * (5 + index)))
        callback = self.callback(node, shared)
        code = self.frame.call("loop", self.frame.i32(count.raw), callback, area, ir.Constant(I64, 0))
        failed = self.compare("<", Value(INT64, code), self.integer(0), signed=True)
        self.when(failed, lambda: self.warn("helper", Value(INT64, code), node.span, "loop"))
        returned = self.load(slot, 32, UINT64)
        self.when(self.truth(returned), self.finish)

    def callback(self, node: For, shared: list[Binding]) -> ir.Function:
        """The body of a loop as a function `(index, area)` that returns 1 to stop."""
        module = self.frame.function.module
        name = f"{self.frame.function.name}_loop_{len(module.functions)}"
        function = ir.Function(module, ir.FunctionType(I64, [I64, PTR]), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        function.args[0].name, function.args[1].name = "index", "ctx"
        outer, outer_storages, outer_loops = self.frame, self.storages, self.loops
        inner = Frame(function, outer.debug, self.maps, node.span, outer.number, outer.on_stack)
        inner.stack_used, inner.scratch_used = outer.stack_used, outer.scratch_used
        self.frame, self.loops = inner, []
        self.storages = dict(outer_storages)
        self.open_area(inner, function.args[1], shared)
        area = Slot(function.args[1], 40)
        binding = self.typed.variables[node.variable]
        index = self.arith("+", self.load(area, 24, UINT64), Value(UINT64, function.args[0]))
        self.store_variable(binding, Value(INT64, index.raw))
        stop, again = inner.block("stop"), inner.block("again")
        self.loops.append((stop, again))
        self.body(node.body)
        inner.goto(again)
        self.builder.store(ir.Constant(I64, 0), inner.result)
        self.builder.branch(inner.leave)
        self.builder.position_at_end(stop)
        self.builder.store(ir.Constant(I64, 1), inner.result)
        self.builder.branch(inner.leave)
        self.close_callback(inner, area)
        outer.scratch_peak = max(outer.scratch_peak, inner.scratch_peak)
        self.frame, self.storages, self.loops = outer, outer_storages, outer_loops
        return function

    def open_area(self, inner: Frame, area: ir.Argument, shared: list[Binding]) -> None:
        """Fetch from the shared area what the body needs."""
        context, scratch = (
            self.builder.load(inner.offset(area, 8 * i), typ=PTR) for i in range(2)
        )
        self.builder.store(context, inner.context_slot_)
        self.builder.store(scratch, inner.scratch_slot)
        for index, binding in enumerate(shared):
            self.storages[binding] = self.builder.load(inner.offset(area, 8 * (5 + index)), typ=PTR)

    def close_callback(self, inner: Frame, area: Slot) -> None:
        """`return` in the body stops the loop and the program after it."""
        self.builder.position_at_end(inner.exit)
        self.store(area, 32, self.integer(1))
        outer_result = self.builder.load(inner.offset(area.raw, 16), typ=PTR)
        self.builder.store(self.builder.load(inner.result, typ=I64), outer_result)
        self.builder.store(ir.Constant(I64, 1), inner.result)
        self.builder.branch(inner.leave)
        inner.finish_callback()


