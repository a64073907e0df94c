"""Types of statements, and the scopes that blocks make (reference part 1, section 8)."""

from __future__ import annotations

from pytrace.grammar.check_expressions import ExpressionChecker
from pytrace.grammar.data import replace
from pytrace.grammar.diagnostics import Label
from pytrace.grammar.hints import cast
from pytrace.grammar.nodes import (
    Assign,
    Binary,
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
    IncDec,
    Jump,
    Let,
    Map,
    MapElement,
    Node,
    Range,
    Return,
    Statement,
    Unroll,
    Variable,
    While,
)
from pytrace.grammar.promote import assignable, copied, fits, loses, promote
from pytrace.grammar.spec import Action, Aggregation
from pytrace.grammar.types import (
    NONE,
    VOID,
    Aggregate,
    Array,
    EnumType,
    Int,
    NoneType,
    Opaque,
    Space,
    String,
    Struct,
    Tuple,
    Type,
    Void,
)
from pytrace.grammar.typing import Binding, MapInfo, Signature


class StatementChecker(ExpressionChecker):
    """The whole checker: statements on top of expressions."""

    # ---- blocks

    def check_block(self, block: Block) -> Type:
        """A block in a scope of its own; its type is that of its value."""
        with self.scope():
            return self.check_body(block)

    def check_body(self, block: Block) -> Type:
        """The statements and the value of a block, in the present scope."""
        self.check_statements(block)
        return NONE if block.value is None else self.infer(block.value)

    def check_statements(self, block: Block) -> None:
        """The statements of a block, in the present scope."""
        ended = False
        for statement in block.statements:
            if ended:
                self.warning("warn.flow.unreachable", "Unreachable statement.", statement)
            self.check(statement)
            ended = ended or self.ends(statement)
        if ended and block.value is not None:
            self.warning("warn.flow.unreachable", "Unreachable statement.", block.value)

    def ends(self, statement: Statement) -> bool:
        """Whether what follows a statement cannot be reached."""
        if isinstance(statement, ExprStatement):
            feature = self.registry.functions.get(getattr(statement.value, "name", ""))
            return isinstance(feature, Action) and feature.stops
        return isinstance(statement, (Jump, Return))

    def infer_block_value(self, node: Block | If) -> Type:
        """A block or `if` as an expression."""
        if isinstance(node, Block):
            return self.set(node, self.check_block(node))
        if isinstance(node.condition, Comptime):
            branch = self.comptime_branch(node, node.condition)
            return self.set(node, NONE if branch is None else self.infer_block_value(branch))
        self.check_condition(node.condition, self.infer(node.condition))
        then = self.set(node.then, self.check_block(node.then))
        if node.otherwise is None:
            return self.set(node, NONE)
        otherwise = self.infer_block_value(node.otherwise)
        if NONE in (then, otherwise):
            return self.set(node, NONE)
        return self.set(node, self.branch_type(node, then, otherwise))

    def check_discarded(self, block: Block) -> None:
        """A block whose value nobody uses; a value in it is worth a warning."""
        with self.scope():
            self.check_statements(block)
            if block.value is not None:
                self.check_expression(block.value)

    # ---- statements

    def check(self, node: Statement) -> None:
        """One statement."""
        match node:
            case ExprStatement(value=value):
                self.check_expression(value)
            case Assign():
                self.check_assign(node)
            case Let():
                self.check_let(node)
            case Discard(value=value):
                self.infer(value)
            case Jump(word=word):
                if self.loop_depth == 0:
                    self.error("err.flow.jump", f"'{word}' statement is not allowed outside of a loop", node)
            case Return(value=result):
                self.check_return(node, result)
            case While():
                self.check_while(node)
            case Unroll():
                self.check_unroll(node)
            case For():
                self.check_for(node)
            case ImportStatement():
                pass  # what it adds was added before (see `imports`)
            case _:
                raise AssertionError(f"no such statement: {node}")

    def check_expression(self, value: Expr) -> None:
        """An expression statement: `if` and blocks run, other values are thrown away."""
        match value:
            case Block():
                self.check_discarded(value)
            case If():
                self.check_if(value)
            case _:
                self.warn_discard(value, self.infer(value))

    def warn_discard(self, value: Expr, kind: Type) -> None:
        """Warn that a value is thrown away, unless that is what the expression is for."""
        if isinstance(value, IncDec) or isinstance(kind, (NoneType, Void)):
            return
        site = self.typed.sites.get(value)
        if site is not None and site.feature.discardable:
            site.discarded = True
            return
        if site is None and isinstance(value, Call):  # it was wrong, which was said already
            return
        self.warning("warn.stmt.discard", "Return value discarded.", value)

    def check_if(self, node: If) -> None:
        """`if` as a statement."""
        if isinstance(node.condition, Comptime):
            self.check_branch(self.comptime_branch(node, node.condition))
            return
        self.check_condition(node.condition, self.infer(node.condition))
        self.check_discarded(node.then)
        self.check_branch(node.otherwise)

    def check_branch(self, branch: Block | If | None) -> None:
        """What may stand behind `else`, whose value nobody uses."""
        if isinstance(branch, Block):
            self.check_discarded(branch)
        elif branch is not None:
            self.check_if(branch)

    def comptime_branch(self, node: If, condition: Comptime) -> Block | If | None:
        """The branch of an `if comptime` that is to be looked at: none before it is decided (see `comptime`)."""
        wrong = len(self.diagnostics.errors)
        self.check_condition(condition, self.infer(condition))
        value = self.constant(condition)
        known = None if value is None or len(self.diagnostics.errors) > wrong else bool(value)
        self.typed.conditions[node] = known
        chosen = self.typed.chosen.get(node)
        if None not in (known, chosen) and known != chosen:
            message = "The condition's value was used and has changed since: it depends on the branch it chose"
            self.error("err.comptime", message, condition)
        return self.typed.branch(node)

    def check_return(self, node: Return, value: Expr | None) -> None:
        """`return;` and `return integer;`; in a function whatever it is declared to return"""
        if self.typed.signature is not None:
            self.check_result(node, value, self.typed.signature)
            return
        if value is None:
            return
        probe = self.typed.target.type
        if probe.fixed_result:
            self.error("err.type.return", f"A block of {probe.name} can not return a value: {probe.fixed_result}", node)
            return
        kind = self.operand(value)
        if kind != NONE and not isinstance(kind, (Int, EnumType)):
            self.error("err.type.return", f"A probe can only return integers, not '{kind}'", node)

    def check_result(self, node: Return, value: Expr | None, signature: Signature) -> None:
        """What a function returns must be of the type it declares."""
        kind = VOID if value is None else self.operand(value)
        if isinstance(kind, String) and isinstance(signature.result, String):
            signature.result = promote(signature.result, kind) or signature.result
        wanted, name = signature.result, signature.function.name
        constant = None if value is None else self.constant(value)
        good = kind == wanted if VOID in (kind, wanted) else assignable(kind, wanted)
        if isinstance(constant, int) and isinstance(wanted, Int):
            good = good and fits(constant, wanted)
        if not good and NONE not in (kind, wanted):
            self.error("err.type.return", f"Function '{name}' is of type '{wanted}', cannot return '{kind}'", node)

    # ---- assignment

    def check_assign(self, node: Assign) -> None:
        """`target = value`, `target op= value`"""
        if node.op:
            self.infer_target(node.target)
            operation = self._compound(node)
            self.store(node.target, self.infer(operation), node, operation)
            return
        if isinstance(node.target, (Map, MapElement)):
            value = innermost(node.value)
            feature = self.registry.functions.get(getattr(value, "name", ""))
            if isinstance(feature, Aggregation) and isinstance(value, (Call, Identifier)):
                self.check_aggregation_in(node.value, node, feature, value)
                return
        self.store(node.target, self.infer(node.value), node, node.value)

    def check_aggregation_in(self, outer: Expr, node: Assign, feature: Aggregation, call: Call | Identifier) -> None:
        """`@m = count()`, or a block that ends with the call."""
        if not isinstance(outer, Block) or outer.value is None:
            self.check_aggregation(node, feature, call)
            return
        with self.scope():
            for statement in outer.statements:
                self.check(statement)
            self.check_aggregation_in(outer.value, node, feature, call)

    def _compound(self, node: Assign) -> Binary:
        """`x op= y` as `x op y`; made once for each statement, so that its type is found again."""
        made = self.typed.expansions.get(node)
        if made is None:
            made = Binary(node.span, node.op, node.target, node.value)
            self.typed.expansions[node] = made
        return cast("Binary", made)

    def check_aggregation(self, node: Assign, feature: Aggregation, call: Call | Identifier) -> None:
        """`@m[key] = count()` and the like."""
        target = cast("Map | MapElement", node.target)
        self.use_element(target)
        info = self.map_info(target.map if isinstance(target, MapElement) else target)
        info.assigned = True
        arguments = call.arguments if isinstance(call, Call) else ()
        kind = self.infer_site(call, feature, arguments, target)
        if not isinstance(kind, Aggregate):
            return
        if info.value == NONE:
            info.value = kind
        elif isinstance(info.value, Aggregate) and info.value.feature == kind.feature:
            merged = feature.merge(info.value, kind)
            if isinstance(merged, str):
                self.error("err.type.agg-arg", merged, call)
            else:
                info.value = merged
        else:
            self.map_mismatch(info.label, kind, info.value, node)

    def map_mismatch(self, label: str, kind: Type, have: Type, node: Node) -> None:
        """The message for a map that gets a value of another type than it has."""
        self.error(
            "err.type.assign",
            f"Type mismatch for {label}: trying to assign value of type '{kind}' when map already has a type '{have}'",
            node,
        )

    def use_element(self, target: Map | MapElement) -> None:
        """Check the key of a map element that is about to be written."""
        if self.measuring:
            message = "A map cannot be assigned here: the operand of sizeof and the like is not executed"
            self.error("type.typeof.noeval", message, target)
        if isinstance(target, MapElement):
            self.decide_scalar(target.map, False, target.span)
            self.check_key(target.map, target.key)
        else:
            self.decide_scalar(target, True, target.span)

    def infer_target(self, target: Variable | Map | MapElement) -> Type:
        """The present type of what is about to be stepped or assigned; a map may be new."""
        if isinstance(target, Variable):
            return self.infer(target)
        self.use_element(target)
        info = self.map_info(target.map if isinstance(target, MapElement) else target)
        info.assigned = True
        return self.set(target, info.value)

    def store_target(self, target: Variable | Map | MapElement, kind: Type, node: Node) -> None:
        """See `OperatorChecker.store_target`."""
        self.store(target, kind, node, None)

    def store(self, target: Variable | Map | MapElement, kind: Type, node: Node, value: Expr | None) -> None:
        """Note that a value of type `kind` is stored in a variable or map."""
        if isinstance(target, Variable):
            self.store_variable(target, kind, node, value)
            return
        self.use_element(target)
        info = self.map_info(target.map if isinstance(target, MapElement) else target)
        info.assigned = True
        if kind == VOID or (value is not None and kind == NONE and self.valueless(value)):
            self.error("err.type.assign", f"Value '{kind}' cannot be stored in a map.", node)
            return
        if isinstance(kind, Aggregate):
            kind = self.copied_aggregate(kind, info.value, node, value)
        if isinstance(info.value, Aggregate):
            if kind != NONE:
                self.map_mismatch(info.label, kind, info.value, node)
            return
        merged = promote(copied(info.value), copied(kind))
        if merged is None:
            self.map_mismatch(info.label, kind, info.value, node)
            return
        if self.is_locked(info, info.value, merged, node):
            return
        if value is not None:
            self.warn_conversion(kind, info.value, value)
        info.value = merged

    def copied_aggregate(self, kind: Aggregate, have: Type, node: Node, value: Expr | None) -> Type:
        """`@b = @c` of an aggregation: allowed only into a map of integers."""
        castable = self.registry.aggregation(kind).castable
        if castable and isinstance(have, Int):
            return self.number(kind)
        hint = "Add a cast to integer if you want the value of the aggregate, e.g. `@x = (int64)@y;`."
        self.error(
            "err.type.agg-assign",
            f"Map value '{kind}' cannot be assigned from one map to another. The function that returns this "
            f"type must be called directly e.g. `@x = {kind.feature}(...);`.",
            value or node,
            hints=(hint,) if castable else (),
        )
        return NONE

    def store_variable(self, target: Variable, kind: Type, node: Node, value: Expr | None) -> None:
        """`$v = value`: declares the variable if it is new."""
        if isinstance(kind, Aggregate):
            if not self.registry.aggregation(kind).castable:
                self.error("err.type.agg-assign", f"Value '{kind}' cannot be assigned to a scratch variable.", node)
                return
            kind = self.number(kind)
        binding = self.find(target.name)
        if binding is None:
            binding = self.bind(target)
        self.typed.variables[target] = binding
        binding.assigned = True
        binding.carried = binding.carried or binding.owner is not (self.loops[-1] if self.loops else None)
        self.widen(binding, kind, node, value)
        self.set(target, binding.type)

    def widen(self, binding: Binding, kind: Type, node: Node, value: Expr | None) -> None:
        """Let a variable hold values of one more type."""
        if kind == VOID or (value is not None and kind == NONE and self.valueless(value)):
            self.error("err.type.vardecl", f"Value '{kind}' cannot be assigned to a scratch variable.", node)
            return
        label = binding.label
        if binding.declared:
            binding.type = completed(binding.type, kind)
            constant = self.constant(value) if value is not None else None
            if not assignable(kind, binding.type) or (
                isinstance(constant, int) and isinstance(binding.type, Int) and not fits(constant, binding.type)
            ):
                self.variable_mismatch(label, kind, binding.type, node)
            elif value is not None and not isinstance(constant, int):
                self.warn_conversion(kind, binding.type, value)
            return
        merged = promote(binding.type, kind)
        if merged is None:
            self.variable_mismatch(label, kind, binding.type, node)
            return
        if self.is_locked(binding, binding.type, merged, node):
            return
        if value is not None:
            self.warn_conversion(kind, binding.type, value)
        binding.type = merged

    def is_locked(self, holder: Binding | MapInfo, have: Type, merged: Type, node: Node) -> bool:
        """Refuse to widen a type that a condition of `if comptime` has looked at ([infer.locked])."""
        if holder.locked is None or merged == have:
            return False
        self.error(
            "err.type.locked",
            f"The type of {holder.label} has been locked as '{have}' and cannot become '{merged}'",
            node,
            (Label(holder.locked, "This looked at the type, and a comptime condition was decided after that."),),
            (f"Cast the value to {have}, or declare {holder.label} with the type it needs.",)
            if isinstance(holder, Binding)
            else (f"Cast the value to {have}.",),
        )
        return True

    def variable_mismatch(self, label: str, kind: Type, have: Type, node: Node) -> None:
        """The message for a variable that gets a value of another type than it has."""
        self.error(
            "err.type.assign",
            f"Type mismatch for {label}: trying to assign value of type '{kind}' when variable already "
            f"has a type '{have}'",
            node,
        )

    def warn_conversion(self, kind: Type, target: Type, value: Expr) -> None:
        """Warn of an implicit conversion that may lose or reinterpret a number; a cast to the target avoids
        it."""
        if loses(kind, target):
            self.warning(
                "warn.type.intcast",
                f"Type '{kind}' is being cast to '{target}', which may cause unexpected results. "
                "Use an explicit cast to silence this warning.",
                value,
            )

    def check_let(self, node: Let) -> None:
        """`let $v: type = value;`"""
        kind = self.infer(node.value) if node.value is not None else NONE
        self.check_shadow(node.variable)
        binding = self.bind(node.variable)
        self.typed.variables[node.variable] = binding
        if node.type is not None:
            declared = self.resolve(node.type)
            if isinstance(declared, (Aggregate, Void)):
                self.error("err.type.vardecl", f"Invalid variable declaration type: {declared}", node.type)
                declared = NONE
            if declared == NONE:  # an error was reported, and there is nothing more to say
                binding.assigned = True
                return
            binding.declared = declared != String(0)
            if binding.declared:
                binding.type = declared
            elif binding.type == NONE:
                binding.type = String(1)
        if node.value is not None:
            self.store_variable(node.variable, kind, node, node.value)
        self.set(node.variable, binding.type)

    # ---- loops

    def check_while(self, node: While) -> None:
        """`while (condition) { }`"""
        self.warning(
            "warn.flow.while",
            "While loops are deprecated and may be removed in the future.",
            node,
            hints=("Use a range loop instead, e.g. `for ($i : 0..10) { … }`.",),
        )
        self.check_condition(node.condition, self.infer(node.condition))
        self.loop_depth += 1
        self.check_discarded(node.body)
        self.loop_depth -= 1

    def check_unroll(self, node: Unroll) -> None:
        """`unroll (N) { }`, N a literal from 1 to 100"""
        self.infer(node.count)
        count = self.constant(node.count)
        if not isinstance(count, int):
            self.error("err.flow.unroll", "unroll: the number of repetitions must be a literal", node.count)
        elif count > 100:
            self.error("err.flow.unroll", "unroll maximum value is 100", node)
        elif count < 1:
            self.error("err.flow.unroll", "unroll minimum value is 1", node)
        self.check_discarded(node.body)

    def check_for(self, node: For) -> None:
        """`for ($i : start..end) { }` and `for ($kv : @map) { }`"""
        kind = self._range_type(node.iterable) if isinstance(node.iterable, Range) else self._pair_type(node.iterable)
        self.check_shadow(node.variable)
        self.loops.append(node)
        with self.scope():
            binding = self.bind(node.variable)
            binding.loop = binding.assigned = binding.used = True
            binding.type = promote(binding.type, kind) or kind
            self.typed.variables[node.variable] = binding
            self.set(node.variable, binding.type)
            self.loop_depth += 1
            self.check_discarded(node.body)
            self.loop_depth -= 1
        self.loops.pop()

    def _range_type(self, node: Range) -> Type:
        kinds = []
        for bound in (node.start, node.end):
            kind = self.operand(bound)
            if kind != NONE and not isinstance(kind, (Int, EnumType)):
                self.error("err.type.for", f"Loop range requires an integer, '{kind}' provided", bound)
                kind = NONE
            kinds.append(kind)
        return promote(kinds[0], kinds[1]) or NONE

    def _pair_type(self, node: Map) -> Type:
        info = self.need_map(node)
        if info.scalar:
            self.error("err.type.for", f"{info.label} is a scalar map and cannot be iterated", node)
        else:
            self.decide_scalar(node, False, node.span)
        value = info.value
        if isinstance(value, Aggregate) and not self.registry.aggregation(value).castable:
            self.error("err.type.for", f"Loop expression does not support type: {value}", node)
            return NONE
        return Tuple((info.key, self.number(value)))


def innermost(node: Expr) -> Expr:
    """The expression whose value a block (in a block …) has; any other expression itself."""
    while isinstance(node, Block) and node.value is not None:
        node = node.value
    return node


def completed(declared: Type, value: Type) -> Type:
    """A declared type with what only a value tells: where a struct or array lies, the format of a time
    stamp."""
    match declared, value:
        case (Struct() | Array(), Struct() | Array()) if declared.space is Space.NONE:
            return replace(declared, space=value.space)
        case (Struct() | Array(), Struct() | Array()):
            return promote(declared, value) or declared
        case Opaque(params=()), Opaque() if declared.feature == value.feature:
            return value
        case _:
            return declared
