"""Statements → code (reference part 1, section 8)."""

from __future__ import annotations

from pytrace.codegen.functions import FunctionGenerator
from pytrace.grammar.check_statements import innermost
from pytrace.grammar.emit import Value
from pytrace.grammar.hints import cast
from pytrace.grammar.nodes import (
    Assign,
    Block,
    Call,
    Comptime,
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
    Return,
    Statement,
    Unroll,
    While,
)
from pytrace.grammar.spec import Aggregation
from pytrace.grammar.types import INT64, NONE


class StatementGenerator(FunctionGenerator):
    """The whole generator of one program."""

    def program(self) -> None:
        """The predicate and the block."""
        self.loops, self.returns = [], []
        self.own_variables(None)
        predicate = self.typed.probe.predicate
        if predicate is not None:
            passes = self.condition(predicate)
            inside = self.frame.block("matched")
            self.builder.cbranch(self.bit(passes), inside, self.frame.exit)
            self.builder.position_at_end(inside)
        self.body(self.typed.probe.body)

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
        if isinstance(node.condition, Comptime):
            branch = self.typed.branch(node)
            return self.integer(0, NONE) if branch is None else self.block_value(branch)
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
        self.frame.locate(node.span)
        with self.frame.temporaries():
            self.translate(node)

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
                pass
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
        if isinstance(node.condition, Comptime):
            self.branch_body(self.typed.branch(node))
            return
        otherwise = node.otherwise
        self.when(
            self.condition(node.condition),
            lambda: self.body(node.then),
            (lambda: self.branch_body(otherwise)) if otherwise is not None else None,
        )

    def branch_body(self, branch: Block | If | None) -> None:
        """What may stand behind `else`, whose value nobody uses."""
        if isinstance(branch, Block):
            self.body(branch)
        elif branch is not None:
            self.if_(branch)

    def assign(self, node: Assign) -> None:
        """`target = value`, `target op= value`"""
        value = self.typed.expansions.get(node, node.value)
        if isinstance(node.target, (Map, MapElement)):
            call = innermost(node.value)
            site = self.typed.sites.get(call)
            if not node.op and site is not None and isinstance(site.feature, Aggregation):
                self.lead_in(node.value)
                self.update_aggregate(node.target, cast("Call | Identifier", call))
                return
            self.write_map(node.target, self.value(value))
            return
        self.store_variable(self.typed.variables[node.target], self.value(value))

    def lead_in(self, node: Expr) -> None:
        """The statements in a block (in a block …) before its value."""
        while isinstance(node, Block) and node.value is not None:
            for statement in node.statements:
                self.statement(statement)
            node = node.value

    # ---- jumps and loops

    def return_(self, value: Expr | None) -> None:
        """`return;`, `return value;`"""
        if self.returns:
            self.return_to(self.returns[-1], value)
            return
        if value is not None:
            result = self.convert(self.value(value), INT64)
            if self.typed.target.type.has_result:
                self.builder.store(result.raw, self.frame.result)
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
