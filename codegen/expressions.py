"""Expressions → code (reference part 1, section 7)."""

from __future__ import annotations

from llvmlite import ir

from pytrace.codegen.comparisons import ComparisonGenerator
from pytrace.codegen.frame import I64
from pytrace.codegen.linking import linked_function
from pytrace.grammar.attaching import IterAttach, TrampolineAttach
from pytrace.grammar.emit import Slot, Value
from pytrace.grammar.hints import Any
from pytrace.grammar.host import LinkedFunction
from pytrace.grammar.nodes import (
    AddressOf,
    Binary,
    Block,
    Call,
    Cast,
    Comptime,
    Expr,
    Field,
    Identifier,
    If,
    IncDec,
    Index,
    Map,
    MapElement,
    RecordExpr,
    Ternary,
    TupleExpr,
    TupleField,
    Unary,
    Variable,
)
from pytrace.grammar.promote import is_scalar, settled
from pytrace.grammar.types import (
    BOOL,
    INT64,
    NONE,
    UINT8,
    UINT64,
    Array,
    Bool,
    Int,
    Member,
    Pointer,
    Record,
    Space,
    String,
    Struct,
    Tuple,
    Type,
    Void,
    offsets_of,
    size_of,
)
from pytrace.grammar.typing import Signature

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


class ExpressionGenerator(ComparisonGenerator):
    """The part of the generator that knows expressions."""

    def type_of(self, node: Expr) -> Type:
        """The type that checking found."""
        return self.typed.types.get(node, NONE)

    def value(self, node: Expr) -> Value:
        """The value of an expression; a constant when it is known."""
        with self.frame.located(node.span):
            node = self.typed.expansions.get(node, node)
            constant = self.typed.constants.get(node)
            if constant is None:
                return self.generate(node)
            if isinstance(constant, bytes):
                return self.text(constant)
            return self.integer(int(constant), settled(self.type_of(node)))

    def call_function(self, node: Call, signature: Signature) -> Value:
        """A call of one of the program's own functions (see `FunctionGenerator`)."""
        raise NotImplementedError

    def call_linked(self, node: Call, function: LinkedFunction) -> Value:
        """A call of a function of an imported object."""
        values = zip(map(self.value, node.arguments), function.prototype.parameters, strict=True)
        words = [self.convert(value, parameter.type).raw for value, parameter in values]
        frame, kind = self.frame, function.prototype.result
        result = self.builder.call(linked_function(frame.function.module, frame.debug, function), words)
        match kind:
            case Void():
                return Value(NONE, ir.Constant(I64, 0))
            case Bool():  # only the low byte counts
                return self.convert(self.convert(Value(INT64, result), UINT8), kind)
            case _:
                return self.convert(Value(INT64, result), kind)

    def generate(self, node: Expr) -> Value:
        """An expression whose value is not known while compiling."""
        match node:
            case Variable():
                return self.variable(node)
            case Map() | MapElement():
                return self.read_map(node)
            case Call() if node in self.typed.calls:
                return self.call_function(node, self.typed.calls[node])
            case Call() if node in self.typed.linked:
                return self.call_linked(node, self.typed.linked[node])
            case Identifier() | Call():
                return self.call_site(node)
            case Binary():
                return self.binary(node)
            case Unary():
                return self.unary(node)
            case IncDec():
                return self.step(node)
            case Ternary():
                return self.ternary(node)
            case Cast():
                return self.cast(node)
            case Field():
                return self.field(node)
            case TupleField(operand=operand, index=index):
                return self.tuple_item(operand, index)
            case Index():
                return self.index(node)
            case TupleExpr(items=items) | RecordExpr(items=items):
                return self.compose(node, items)
            case AddressOf():
                return self.address_of(node)
            case Comptime(operand=operand):
                return self.value(operand)
            case Block() | If():
                return self.block_value(node)
            case _:
                raise AssertionError(f"no code for {type(node).__name__}")

    def block_value(self, node: Block | If) -> Value:
        """A block or `if` used for its value."""
        raise NotImplementedError

    def call_site(self, node: Identifier | Call) -> Value:
        """A builtin or function."""
        site = self.typed.sites[node]
        made = site.feature.emit(self, site)
        return made if made is not None else Value(NONE, ir.Constant(I64, 0))

    def variable(self, node: Variable) -> Value:
        """A scratch variable."""
        binding = self.typed.variables[node]
        return self.load_variable(binding)

    def address_of(self, node: AddressOf) -> Value:
        """`&$v`, `&@m`"""
        if isinstance(node.target, Map):
            pointer = self.maps.user(node.target.name)[1]
        else:
            pointer = self.storage(self.typed.variables[node.target])
        return Value(self.type_of(node), self.frame.number_of(pointer))

    # ---- operators

    def binary(self, node: Binary) -> Value:
        """`left op right`"""
        if node.op in ("&&", "||"):
            return self.logical(node)
        left, right = self.value(node.left), self.value(node.right)
        self.frame.locate(node.span)
        if node.op in COMPARISONS:
            return self.comparison(node, left, right)
        result = self.type_of(node)
        if isinstance(result, Pointer):
            return self.pointer_step(node.op, left, right, result)
        if node.op in ("/", "%"):
            return Value(result, self.divide(node, left, right).raw)
        return self.convert(Value(UINT64, self.arith(node.op, left, right).raw), result)

    def pointer_step(self, op: str, left: Value, right: Value, result: Pointer) -> Value:
        """Pointer ± integer, in steps of what it points to."""
        pointer, count = (left, right) if isinstance(left.type, Pointer) else (right, left)
        step = self.integer(max(1, size_of(result.to)))
        made = self.arith(op, pointer, self.arith("*", count, step))
        return Value(result, made.raw)

    def divide(self, node: Binary, left: Value, right: Value) -> Value:
        """Unsigned division; by zero it gives 1 and a warning."""
        divisor = self.typed.constants.get(node.right)
        if divisor:
            return self.arith(node.op, left, right)
        result = self.frame.alloca(I64)
        self.builder.store(ir.Constant(I64, 1), result)

        def work() -> None:
            self.builder.store(self.arith(node.op, left, right).raw, result)

        self.when(self.truth(right), work, lambda: self.warn("div0", self.integer(0), node.span))
        return Value(UINT64, self.builder.load(result, typ=I64))

    def logical(self, node: Binary) -> Value:
        """`&&` and `||`: the right side runs only if it decides."""
        result = self.frame.alloca(I64)
        left = self.truth(self.value(node.left))
        self.builder.store(left.raw, result)
        decides = left if node.op == "&&" else self.compare("==", left, self.integer(0))

        def work() -> None:
            self.builder.store(self.truth(self.value(node.right)).raw, result)

        self.when(decides, work)
        return Value(BOOL, self.builder.load(result, typ=I64))

    def unary(self, node: Unary) -> Value:
        """`- ! ~ *`"""
        if node.op == "*":
            return self.dereference(self.value(node.operand), self.type_of(node))
        operand = self.value(node.operand)
        if node.op == "!":
            return self.compare("==", operand, self.integer(0))
        made = self.builder.neg(operand.raw) if node.op == "-" else self.builder.not_(operand.raw)
        return Value(self.type_of(node), made)

    def dereference(self, pointer: Value, kind: Type) -> Value:
        """What an address points to; `pointer` holds the address whatever its type."""
        if isinstance(kind, Struct) and kind.kind == "args":
            return pointer
        space = getattr(pointer.type, "space", Space.NONE)
        if space is Space.NONE:
            space = self.typed.target.space
        return self.fetch(pointer, 0, kind, space)

    def fetch(self, base: Value, offset: int, kind: Type, space: Space) -> Value:
        """A value of a type at an address: read now if it is a scalar or string, else referred to."""
        if space is Space.DIRECT:
            return self.fetch_direct(base, offset, kind)
        address = base if offset == 0 else self.arith("+", Value(UINT64, base.raw), self.integer(offset))
        if isinstance(kind, (Struct, Array)):
            return Value(self.placed(kind, space), address.raw)
        size = size_of(kind)
        slot = self.scratch(size, zero=True)
        if isinstance(kind, String):
            self.read_characters(slot, address, space)
        else:
            self.read(slot, size, address, space)
        return self.load(slot, 0, kind) if is_scalar(kind) else self.at(slot, kind)

    def read_characters(self, slot: Slot, address: Value, space: Space) -> None:
        """A `char[N]`: text up to its NUL, zeros behind it; without a NUL all of its bytes, which counts as
        cut."""
        length = self.read_string(slot, slot.size, address, space)
        last = self.part(slot, slot.size - 1, 1)
        behind = self.arith("+", Value(UINT64, address.raw), self.integer(slot.size - 1))
        full = self.compare("==", length, self.integer(slot.size))

        def rest() -> None:
            self.read(last, 1, behind, space)

        self.when(full, rest)

    def fetch_direct(self, base: Value, offset: int, kind: Type) -> Value:
        """A value in the program's own memory, by pointer or by its address as a number."""
        pointer = base.raw
        if isinstance(pointer.type, ir.IntType):
            pointer = self.builder.inttoptr(pointer, ir.PointerType())
        pointer = self.frame.offset(pointer, offset)
        if is_scalar(kind):
            return self.load(Slot(pointer, size_of(kind)), 0, kind)
        return Value(self.placed(kind, Space.DIRECT), pointer)

    def placed(self, kind: Type, space: Space) -> Type:
        """A struct or array type, with the memory it lies in."""
        from pytrace.grammar.data import replace

        return replace(kind, space=space) if isinstance(kind, (Struct, Array)) else kind

    def condition(self, node: Expr) -> Value:
        """A condition; a literal string is true unless it is empty."""
        constant = self.typed.constants.get(node)
        if isinstance(constant, bytes):
            return self.integer(int(bool(constant)))
        return self.value(node)

    def ternary(self, node: Ternary) -> Value:
        """`a ? b : c`"""
        condition = self.condition(node.condition)
        then, otherwise = node.then or node.condition, node.otherwise
        return self.branch(condition, self.type_of(node), lambda: self.value(then), lambda: self.value(otherwise))

    def branch(self, condition: Value, kind: Type, then: Any, otherwise: Any) -> Value:
        """The value of one of two branches, as the common type."""
        if kind == NONE:
            self.when(condition, then, otherwise)
            return Value(NONE, ir.Constant(I64, 0))
        if is_scalar(kind) or self.is_reference(kind):
            result = self.frame.alloca(I64)

            def keep(make: Any) -> None:
                self.builder.store(self.convert(make(), kind).raw, result)

            self.when(condition, lambda: keep(then), lambda: keep(otherwise))
            return Value(kind, self.builder.load(result, typ=I64))
        slot = self.scratch(size_of(kind), zero=True)
        self.when(
            condition,
            lambda: self.store(slot, 0, self.convert(then(), kind)),
            lambda: self.store(slot, 0, self.convert(otherwise(), kind)),
        )
        return self.at(slot, kind)

    # ---- casts, members, indexes

    def cast(self, node: Cast) -> Value:
        """`(type)operand`"""
        value, kind = self.value(node.operand), self.type_of(node)
        if isinstance(kind, Pointer) and isinstance(value.type, String) and not isinstance(node.operand, Variable):
            value = self.kept(value)  # the address may well be used after this statement
        if is_scalar(kind):
            return self.cast_scalar(value, kind)
        if isinstance(kind, Array):
            if is_scalar(value.type):
                slot = self.scratch(8, zero=True)
                self.store(slot, 0, value)
                return self.at(slot, kind)
            return Value(kind, self.own(value).raw)
        if is_scalar(value.type):
            slot = self.scratch(size_of(kind), zero=True)
            self.store(slot, 0, self.convert(value, UINT64))
            return self.at(slot, kind)
        return self.convert(value, kind)

    def kept(self, value: Value) -> Value:
        """A copy in memory that no later statement uses."""
        slot = self.frame.lasting(size_of(value.type))
        self.store(slot, 0, value)
        return self.at(slot, value.type)

    def cast_scalar(self, value: Value, kind: Type) -> Value:
        """To an integer, bool, enumeration or pointer."""
        if is_scalar(value.type):
            if isinstance(value.type, Pointer) and isinstance(kind, Int) and self.knows_objects():
                value = Value(UINT64, self.frame.number_of(value.raw))
            return self.convert(value, kind)
        if isinstance(value.type, String):
            if kind == BOOL:
                return self.truth(self.byte_at(value, self.integer(0)))
            return Value(kind, self.frame.number_of(value.raw))
        own = self.own(value)
        return self.load(Slot(own.raw, size_of(own.type)), 0, kind)

    def knows_objects(self) -> bool:
        """Whether the verifier knows of pointers what they point to, and allows no `&` or `*` on them then."""
        return isinstance(self.typed.target.attach, (TrampolineAttach, IterAttach))

    def field(self, node: Field) -> Value:
        """`operand.name`, through any number of pointers."""
        kind = self.type_of(node.operand)
        if isinstance(kind, Struct) and kind.kind == "args":
            return self.argument_field(node)
        if isinstance(kind, Record):
            return self.tuple_item(node.operand, kind.names.index(node.name))
        base = self.value(node.operand)
        kind, space = base.type, Space.NONE
        while isinstance(kind, Pointer):
            space = kind.space if kind.space is not Space.NONE else self.typed.target.space
            if isinstance(kind.to, Pointer):
                base = self.fetch(base, 0, kind.to, space)
            kind = kind.to
        assert isinstance(kind, Struct)
        if isinstance(base.type, Struct):
            space = base.type.space
        member = next(m for m in self.source.members(kind) if m.name == node.name)
        target = self.typed.target
        if space is Space.DIRECT and kind.name == target.type.context_struct(target):
            made = target.type.context_member(self, target, member)
            if made is not None:
                return made
        return self.read_member(base, member, self.type_of(node), space)

    def argument_field(self, node: Field) -> Value:
        """`args.name`: the probe type knows how."""
        target = self.typed.target
        member = next(m for m in target.arguments or () if m.name == node.name)
        made = target.type.member(self, target, member)
        return self.convert(made, self.type_of(node)) if is_scalar(made.type) else made

    def read_member(self, base: Value, member: Member, kind: Type, space: Space) -> Value:
        """A member of a struct at an address."""
        if member.bits is None:
            return self.fetch(base, member.offset, kind, space)
        shift, width = member.bits
        # no more bytes than needed: the struct may end right behind them
        size = next(n for n in (1, 2, 4, 8) if shift + width <= 8 * n)
        word = self.fetch(base, member.offset, Int(size), space)
        moved = self.arith(">>", word, self.integer(shift))
        return self.arith("&", moved, self.integer((1 << width) - 1))

    def tuple_item(self, operand: Expr, index: int) -> Value:
        """A member of a tuple or record."""
        value = self.value(operand)
        assert isinstance(value.type, (Tuple, Record))
        return self.member(value, offsets_of(value.type.items)[index], value.type.items[index])

    def index(self, node: Index) -> Value:
        """`operand[index]`"""
        kind = self.type_of(node.operand)
        constant = self.typed.constants.get(node.index)
        if isinstance(kind, Tuple) and isinstance(constant, int):
            return self.tuple_item(node.operand, constant)
        base = self.value(node.operand)
        element = self.type_of(node)
        if isinstance(base.type, String):
            return self.string_index(base, node)
        space = getattr(base.type, "space", Space.NONE)
        if space is Space.NONE:
            space = self.typed.target.space
        step = size_of(element)
        if isinstance(constant, int):
            return self.fetch(base, constant * step, element, space)
        position = self.value(node.index)
        if isinstance(base.type, Array) and base.type.count:
            self.check_bounds(position, base.type.count, node)
            if space is Space.DIRECT:
                inside = self.clamp(position, base.type.count)
                place = self.frame.offset(base.raw, self.arith("*", inside, self.integer(step)).raw)
                found = self.fetch_direct(Value(base.type, place), 0, element)
                return self.within(found, position, base.type.count) if is_scalar(element) else found
        distance = self.arith("*", position, self.integer(step))
        address = self.arith("+", Value(UINT64, base.raw), distance)
        return self.fetch(address, 0, element, space)

    def string_index(self, base: Value, node: Index) -> Value:
        """A byte of a string in the program's memory; what is behind its end is zero."""
        position, size = self.value(node.index), size_of(base.type)
        place = self.frame.offset(base.raw, self.clamp(position, size).raw)
        return self.within(self.load(Slot(place, 1), 0, self.type_of(node)), position, size)

    def within(self, found: Value, position: Value, count: int) -> Value:
        """What was read at an index, or zero if the index was out of bounds."""
        return self.select(self.compare("<", position, self.integer(count)), found, self.integer(0, found.type))

    def clamp(self, position: Value, count: int) -> Value:
        """An index that the verifier can see to be in bounds."""
        good = self.compare("<", position, self.integer(count))
        return self.select(good, position, self.integer(0))

    def check_bounds(self, position: Value, count: int, node: Index) -> None:
        """Warn of an index that is out of bounds."""
        bad = self.compare(">=", position, self.integer(count))
        self.when(bad, lambda: self.warn("oob", self.integer(0), node.span))

    def compose(self, node: Expr, items: tuple[Expr, ...]) -> Value:
        """A tuple or record, its members in order, padding zero."""
        kind = settled(self.type_of(node))
        if not items:  # `()` has no value
            return Value(NONE, ir.Constant(I64, 0))
        assert isinstance(kind, (Tuple, Record))
        values = [self.convert(self.value(i), t) for i, t in zip(items, kind.items, strict=True)]
        slot = self.scratch(size_of(kind), zero=True)
        for value, offset in zip(values, offsets_of(kind.items), strict=True):
            self.store(slot, offset, value)
        return self.at(slot, kind)

    # ---- ++ and --

    def step(self, node: IncDec) -> Value:
        """`++` and `--`, before or after."""
        kind = self.type_of(node)
        by = size_of(kind.to) if isinstance(kind, Pointer) else 1
        op = "+" if node.op == "++" else "-"

        def stepped(old: Value) -> Value:
            return self.convert(Value(INT64, self.arith(op, old, self.integer(by)).raw), kind)

        if isinstance(node.target, Variable):
            binding = self.typed.variables[node.target]
            old = self.load_variable(binding)
            new = stepped(old)
            self.store_variable(binding, new)
            return new if node.prefix else Value(kind, old.raw)
        return self.step_map(node.target, stepped, kind, node.prefix)
