"""Types of expressions: names, members, indexes, calls, casts (reference part 1, sections 5 and 7)."""

from __future__ import annotations

from pytrace.grammar import advice
from pytrace.grammar.check_calls import CallChecker
from pytrace.grammar.diagnostics import CompileError, Diagnostics
from pytrace.grammar.hints import cast
from pytrace.grammar.literals import LiteralError, parse_integer
from pytrace.grammar.nodes import (
    AddressOf,
    Binary,
    Block,
    Boolean,
    Call,
    Cast,
    Comptime,
    Expr,
    Field,
    Identifier,
    If,
    IncDec,
    Index,
    Integer,
    Map,
    MapElement,
    OffsetOf,
    Positional,
    PositionalCount,
    RecordExpr,
    SizeOf,
    StringLiteral,
    Ternary,
    TupleExpr,
    TupleField,
    TypeInfo,
    TypeName,
    TypeOf,
    Unary,
    Variable,
)
from pytrace.grammar.promote import copied, literal_type, promote, settled
from pytrace.grammar.source import Source, encode_text
from pytrace.grammar.spec import Aggregation
from pytrace.grammar.types import (
    BOOL,
    INT8,
    NONE,
    UINT64,
    VOID,
    Aggregate,
    Array,
    Bool,
    EnumType,
    Int,
    Member,
    Pointer,
    Record,
    Space,
    String,
    Struct,
    Tuple,
    Type,
    size_of,
)
from pytrace.grammar.typewords import type_record
from pytrace.grammar.typing import is_common


class ExpressionChecker(CallChecker):
    """The part of the checker that knows expressions."""

    def infer(self, node: Expr) -> Type:
        """The type of an expression, recorded with the types of its parts."""
        match node:
            case Integer(value=value):
                return self.set(node, literal_type(value), value)
            case StringLiteral(value=text):
                self.check_length(node, text)
                return self.set(node, String(len(text) + 1), text)
            case Boolean(value=flag):
                return self.set(node, BOOL, flag)
            case Positional():
                return self.infer_positional(node)
            case PositionalCount():
                count = len(self.context.parameters)
                return self.set(node, literal_type(count), count)
            case Identifier():
                return self.infer_identifier(node)
            case Variable():
                return self.infer_variable(node)
            case Map() | MapElement():
                return self.infer_map(node)
            case Binary():
                return self.infer_binary(node)
            case Unary():
                return self.infer_unary(node)
            case IncDec():
                return self.infer_incdec(node)
            case Ternary():
                return self.infer_ternary(node)
            case _:
                return self.infer_composite(node)

    def infer_composite(self, node: Expr) -> Type:
        """The forms that `infer` does not know itself."""
        match node:
            case AddressOf():
                return self.infer_address(node)
            case Cast():
                return self.infer_cast(node)
            case Field():
                return self.infer_field(node)
            case TupleField(operand=operand, index=index):
                return self.infer_tuple_item(node, operand, index)
            case Index():
                return self.infer_index(node)
            case Call():
                return self.infer_call(node)
            case TupleExpr(items=()):
                return self.set(node, NONE)
            case TupleExpr(items=items):
                return self.set(node, Tuple(tuple(copied(self.member_type(i)) for i in items)))
            case RecordExpr(names=names, items=items):
                return self.set(node, Record(names, tuple(copied(self.member_type(i)) for i in items)))
            case SizeOf(operand=measured):
                size = size_of(self.operand_type(measured))
                return self.set(node, literal_type(size), size)
            case OffsetOf():
                return self.infer_offset(node)
            case Comptime(operand=inner):
                kind = self.infer(inner)
                value = self.constant(inner)
                if value is None:
                    self.error("err.comptime", "Unable to resolve comptime expression", node)
                return self.set(node, kind, value)
            case Block() | If():
                return self.infer_block_value(node)
            case TypeOf():
                return self.set(node, self.error("err.syntax.expr", "A type cannot be used as a value here", node))
            case TypeInfo():
                return self.infer_typeinfo(node)
            case _:
                raise AssertionError(f"no such expression: {node}")

    # ---- literals and names

    def check_length(self, node: Expr, text: bytes) -> None:
        """String literals must be shorter than `max_strlen`, except formats, which programs do not carry."""
        most = self.context.config.max_strlen
        if len(text) > most - 1:
            self.error(
                "err.call.strlen",
                f"String is too long (over {most - 1} bytes): {text[:40].decode(errors='replace')}…",
                node,
            )

    def infer_positional(self, node: Positional) -> Type:
        """`$N`: an integer literal if the text is one, else a string; 0 when missing."""
        if node.number > len(self.context.parameters):
            self.warning(
                "warn.param.empty",
                f"Positional parameter ${node.number} is empty or not provided. ",
                node,
            )
            return self.set(node, literal_type(0), 0)
        text = self.context.parameters[node.number - 1]
        try:
            value = parse_integer(text, external=True)
        except LiteralError:
            return self.set(node, String(len(encode_text(text)) + 1), encode_text(text))
        return self.set(node, literal_type(value), value)

    def infer_identifier(self, node: Identifier) -> Type:
        """A bare word: a builtin value, an enumerator, a C macro."""
        feature = self.registry.functions.get(node.name)
        if feature is not None and (feature.bare or all(p.optional for p in feature.parameters)):
            if isinstance(feature, Aggregation):
                return self.misplaced_aggregation(node)
            return self.infer_site(node, feature, ())
        # C does not expand a macro in its own text: `#define SOCK_STREAM SOCK_STREAM` leaves the enumerator
        found = self.source.enumerator(node.name) if node.name in self.expanding else None
        if node.name in self.source.c.macros and found is None:
            return self.infer_macro(node)
        found = found or self.source.enumerator(node.name)
        if found is not None:
            kind, value = found
            return self.set(node, EnumType(kind.name, 8, kind.signed), value)
        words = [name for name, f in self.registry.functions.items() if f.bare]
        return self.set(
            node,
            self.error(
                "err.name.ident",
                f"Unknown identifier: '{node.name}'",
                node,
                hints=advice.unknown_word(node, words, [m.name for m in self.typed.target.arguments or ()]),
            ),
        )

    def infer_macro(self, node: Identifier) -> Type:
        """A C macro: the expression that its replacement text forms takes its place."""
        if node.name in self.expanding:
            chain = " -> ".join((*self.expanding, node.name))
            return self.set(node, self.error("err.name.cmacro", f"Macro recursion: {chain}", node))
        expansion = self.typed.expansions.get(node) or self.parse_macro(node)
        if expansion is None:
            problem = f"unable to expand macro as an expression: {node.name}"
            return self.set(node, self.error("err.name.cmacro", problem, node))
        self.typed.expansions[node] = expansion
        self.expanding.append(node.name)
        kind = self.infer(expansion)
        self.expanding.pop()
        return self.set(node, kind, self.constant(expansion))

    def parse_macro(self, node: Identifier) -> Expr | None:
        """The tree of a C macro's replacement text; None if that is no expression."""
        from pytrace.grammar.parser import parse_expression  # not loaded when a compiled program is run again

        text = Source(node.name, self.source.c.macros[node.name])
        try:
            return parse_expression(text, self.registry.builtin_words(), Diagnostics())
        except CompileError:
            return None

    def infer_variable(self, node: Variable) -> Type:
        """A scratch variable that is read."""
        binding = self.find(node.name)
        if binding is None:
            known = [f"${name}" for scope in self.scopes for name in scope if "#" not in name]
            return self.set(
                node,
                self.error(
                    "err.name.var",
                    f"Undefined or undeclared variable: {node.shown}",
                    node,
                    hints=advice.unknown_variable(node, known, self.typed.probe),
                ),
            )
        if not binding.assigned and not binding.loop:
            self.warning("warn.name.unassigned", f"Variable used before it was assigned: {node.shown}", node)
        binding.used = True
        if self.measuring:
            self.inspected.setdefault(binding, node.span)
        self.typed.variables[node] = binding
        return self.set(node, binding.type)

    def infer_map(self, node: Map | MapElement) -> Type:
        """The value of a map element; a missing one reads as zero."""
        name = node.map if isinstance(node, MapElement) else node
        info = self.need_map(name)
        if isinstance(node, MapElement):
            self.decide_scalar(name, False, node.span)
            self.check_key(name, node.key)
        else:
            self.decide_scalar(name, True, node.span)
        if self.measuring:
            self.inspected.setdefault(info, node.span)
        return self.set(node, info.value)

    def check_key(self, name: Map, key: Expr) -> None:
        """Unify the type of a key expression with the map's key type."""
        info = self.map_info(name)
        kind = self.member_type(key, "Value '{}' cannot be used as a map key.")
        if kind == NONE:
            return
        if holds_context(kind):
            hints = ("It is at another place at every hit. Use a member of it, or a builtin.",)
            self.error("err.type.ctxkey", "The context cannot be (part of) a map key", key, hints=hints)
            return
        merged = promote(copied(info.key), copied(kind))
        if merged is None:
            self.error(
                "err.type.key",
                f"Argument mismatch for {info.label}: trying to access with arguments: '{kind}' when map "
                f"expects arguments: '{info.key}'",
                key,
            )
            return
        info.key = merged

    def member_type(self, node: Expr, refusal: str = "Map type {} cannot exist inside a tuple.") -> Type:
        """The type of what becomes a key, or part of a tuple or record: castable aggregations are integers
        there."""
        kind = self.operand(node)
        if isinstance(kind, Aggregate):
            code = "err.type.agg-in-tuple" if refusal.startswith("Map") else "err.type.agg-assign"
            return self.error(code, refusal.format(kind), node)
        return kind

    def infer_address(self, node: AddressOf) -> Type:
        """`&$v`, `&@m`: a kernel address."""
        if isinstance(node.target, Map):
            self.need_map(node.target)
            return self.set(node, UINT64)
        binding = self.find(node.target.name)
        if binding is None:
            return self.set(node, self.infer_variable(node.target))
        binding.assigned = binding.used = True
        self.typed.variables[node.target] = binding
        self.set(node.target, binding.type)
        return self.set(node, Pointer(binding.type, Space.KERNEL))

    # ---- members

    def infer_field(self, node: Field) -> Type:
        """`operand.name`, through any number of pointers."""
        kind = self.need_value(node.operand, self.infer(node.operand))
        space = Space.NONE
        while isinstance(kind, Pointer):
            space, kind = kind.space, self.with_space(kind.to, kind.space)
        if isinstance(kind, Record):
            if node.name not in kind.names:
                return self.set(node, self._no_field(node, str(kind), kind.names))
            index = kind.names.index(node.name)
            literal = self.typed.expansions.get(node.operand)
            value = self.constant(literal.items[index]) if isinstance(literal, RecordExpr) else None
            return self.set(node, kind.items[index], value)
        if not isinstance(kind, Struct):
            if kind != NONE:
                self.error(
                    "err.name.struct-field",
                    f"Can not access field '{node.name}' on expression of type '{kind}'",
                    node,
                    hints=self.btf_hint() if kind == VOID else (),
                )
            return self.set(node, NONE)
        member = self.member_of(kind, node)
        if member is None:
            return self.set(node, NONE)
        if member.tag:
            self.error(
                "err.type.tag",
                f"Attempting to access pointer field '{node.name}' with unsupported tag attribute: {member.tag}",
                node,
            )
        if kind.kind == "args" or kind.space is not Space.NONE:
            space = kind.space
        return self.set(node, self.member_value_type(member, space))

    def member_value_type(self, member: Member, space: Space) -> Type:
        """The type that reading a member gives: pointers and nested structs stay in the struct's memory."""
        match member.type:
            case Pointer(to=to, space=own):
                inherited = space if space in (Space.USER, Space.KERNEL) else own
                return Pointer(to, own if own is Space.USER else inherited)
            case Struct() | Array():
                return self.with_space(member.type, self.space_or_probe(space))
            case Int() if member.bits is not None:
                return Int(8, False)
            case _:
                return member.type

    def member_of(self, kind: Struct, node: Field) -> Member | None:
        """The member that a field access means, or None after an error."""
        if kind.kind == "args":
            members = self.typed.target.arguments or ()
        else:
            members = self.source.members(kind)
        found = next((m for m in members if m.name == node.name), None)
        if found is None and kind.kind in ("struct", "union") and self.is_incomplete(kind):
            self.error("err.name.type", f'Cannot resolve unknown type "{kind}"', node)
        elif found is None:
            self._no_field(node, str(kind), [m.name for m in members if not is_common(self.typed.target, m)])
        elif kind.kind == "args" and is_common(self.typed.target, found):
            self.error("err.type.common", f"Common tracepoint field '{node.name}' can not be read by a program", node)
        return found

    def is_incomplete(self, kind: Struct) -> bool:
        """Whether nothing but the name of a struct is known."""
        return kind.size == 0 and self.source.find_type(kind.name, kind.kind, self.typed.target.path) is None

    def _no_field(self, node: Field, owner: str, names: object) -> Type:
        candidates = [n for n in cast("list[str]", names) if n]
        return self.error(
            "err.name.struct-field",
            f"Struct/union of type '{owner}' does not contain a field named '{node.name}'",
            node,
            hints=advice.unknown_member(node.name, candidates),
        )

    def infer_tuple_item(self, node: Expr, operand: Expr, index: int) -> Type:
        """`operand.N`"""
        kind = self.need_value(operand, self.infer(operand))
        if not isinstance(kind, (Tuple, Record)):
            if kind != NONE:
                self.error(
                    "err.type.tuple-index",
                    f"Can not access index '{index}' on expression of type '{kind}'",
                    node,
                    hints=("Numbers are written without fractions.",) if isinstance(operand, Integer) else (),
                )
            return self.set(node, NONE)
        if index >= len(kind.items):
            return self.set(
                node,
                self.error(
                    "err.type.tuple-index",
                    f"Invalid tuple index: {index}. Found {len(kind.items)} elements in tuple.",
                    node,
                ),
            )
        return self.set(node, kind.items[index])

    def infer_index(self, node: Index) -> Type:
        """`operand[index]` of an array, pointer, string or tuple."""
        kind = self.need_value(node.operand, self.infer(node.operand))
        index = self.operand(node.index)
        literal = self.constant(node.index)
        if isinstance(kind, Tuple) and isinstance(literal, int):
            return self.infer_tuple_item(node, node.operand, literal)
        if isinstance(kind, (Tuple, Record)):
            named = isinstance(kind, Record)
            message = "A record's members have names, no index" if named else "A tuple's index must be a literal"
            return self.set(node, self.error("err.type.tuple-index", f"{message}: {kind}", node))
        if index != NONE and not isinstance(index, (Int, EnumType)):
            self.error(
                "err.type.index",
                f"The array index operator [] expects an integer, found '{index}'",
                node.index,
            )
        elif isinstance(index, Int) and index.signed and not index.flexible:
            self.error(
                "err.type.index",
                "The array index operator [] only accepts positive (unsigned) integer indices. "
                "Cast the index, e.g. (uint64)$i",
                node.index,
            )
        match kind:
            case Array(element=element, count=count, space=space):
                if isinstance(literal, int) and count and literal >= count:
                    self.error(
                        "err.type.index",
                        f"the index {literal} is out of bounds for array of size {count}",
                        node,
                    )
                return self.set(node, self.with_space(element, space) if not isinstance(element, Int) else element)
            case Pointer(to=to, space=space):
                if size_of(to) == 0:
                    self.error("err.type.index", f"The array index operator [] can not be used on '{kind}'", node)
                return self.set(node, self.with_space(to, self.space_or_probe(space)))
            case String(size=size):
                text = self.constant(node.operand)
                if isinstance(text, bytes) and isinstance(literal, int):
                    value = text[literal] if literal < len(text) else 0
                    return self.set(node, literal_type(value), value)
                if isinstance(literal, int) and literal >= size:
                    self.error("err.type.index", f"the index {literal} is out of bounds for {kind}", node)
                return self.set(node, INT8)
            case _:
                if kind != NONE:
                    self.error(
                        "err.type.index",
                        f"The array index operator [] can only be used on arrays and pointers, found '{kind}'",
                        node,
                    )
                return self.set(node, NONE)

    # ---- casts and measures

    def infer_cast(self, node: Cast) -> Type:
        """`(type)operand`"""
        value = self.need_value(node.operand, self.infer(node.operand))
        to = self.resolve(node.type)
        problem = self.cast_problem(value, to)
        if problem is not None:
            return self.set(node, self.error("err.type.cast", problem, node))
        constant = self.constant(node.operand)
        if constant is None and value != NONE and str(value) == str(to):
            self.warning("warn.type.cast-same", f"Unnecessary cast: the value is of type '{to}' already", node)
        space = getattr(self.number(value), "space", Space.NONE)
        match to:
            case Pointer(to=pointee):
                inherited = space if space is not Space.NONE else self.probe_space()
                return self.set(node, Pointer(pointee, Space.KERNEL if isinstance(value, String) else inherited))
            case Int(size=size, signed=signed):
                if isinstance(constant, (int, bool)):
                    return self.set(node, to, truncate(int(constant), size, signed))
                return self.set(node, Int(size, signed, False, space))
            case Bool() if isinstance(constant, (int, bool)):
                return self.set(node, to, bool(constant))
            case EnumType():
                return self.check_enum_cast(node, to, constant)
            case Array(element=element, count=0):
                return self.set(node, Array(element, size_of(value) // size_of(element), Space.DIRECT))
            case Array(element=element, count=count):
                return self.set(node, Array(element, count, Space.DIRECT))
            case String(size=0):
                return self.set(node, value)
            case _:
                return self.set(node, to)

    def check_enum_cast(self, node: Cast, to: EnumType, constant: int | bool | bytes | None) -> Type:
        """A literal cast to an enumeration must be one of its values."""
        if isinstance(constant, int) and constant not in self.source.enumerators(to).values():
            self.error(
                "err.name.enum",
                f"Enum: {to.name} doesn't contain a variant value of {constant}",
                node,
            )
        return self.set(node, EnumType(to.name, 8, to.signed, to.origin))

    def operand_type(self, operand: TypeName | Expr) -> Type:
        """The type of the operand of sizeof and the like; an operand is never executed."""
        if isinstance(operand, TypeName):
            feature = self.registry.functions.get(operand.name)
            is_word = not operand.kind and not operand.suffixes
            if is_word and (feature.bare if feature is not None else self.word_type(operand.name) is None):
                return self.infer(Identifier(operand.span, operand.name))
            return self.resolve(operand)
        if isinstance(operand, TypeOf):
            return self.resolve(operand)
        self.measuring += 1
        kind = self.number(self.infer(operand))
        self.measuring -= 1
        return kind

    def infer_typeinfo(self, node: TypeInfo) -> Type:
        """`typeinfo(type or expression)`: a record of literals takes its place."""
        kind = settled(self.operand_type(node.operand))
        switch = self.context.config.unstable_typeinfo
        if switch == "error":
            message = (
                "typeinfo feature is not enabled by default. To enable this unstable feature, "
                "set the config flag to enable. unstable_typeinfo=enable"
            )
            return self.set(node, self.error("err.feature", message, node))
        if switch == "warn":
            message = (
                "Script is using an unstable feature: typeinfo. To prevent this warning you must explicitly "
                "enable it in the config e.g. unstable_typeinfo=enable"
            )
            self.warning("warn.feature.unstable", message, node)
        number = self.source.host.type_number(kind) if isinstance(kind, (Struct, EnumType)) else 0
        self.typed.expansions[node] = made = type_record(node, kind, number)
        return self.set(node, self.infer(made))

    def infer_offset(self, node: OffsetOf) -> Type:
        """`offsetof(type, a.b.c)`"""
        kind, offset = self.operand_type(node.operand), 0
        for name in node.path:
            while isinstance(kind, Pointer):
                kind = kind.to
            if not isinstance(kind, Struct):
                if kind != NONE:
                    self.error("err.type.offsetof", f"'{kind}' is not a C struct", node)
                return self.set(node, UINT64)
            members = self.source.members(kind)
            member = next((m for m in members if m.name == name), None)
            if member is None:
                self.error(
                    "err.type.offsetof",
                    f"Struct/union of type '{kind}' does not contain a field named '{name}'",
                    node,
                    hints=advice.unknown_member(name, [m.name for m in members]),
                )
                return self.set(node, UINT64)
            offset += member.offset + (member.bits[0] // 8 if member.bits else 0)
            kind = member.type
        return self.set(node, literal_type(offset), offset)

    def infer_block_value(self, node: Block | If) -> Type:
        """A block or `if` used for its value (see `StatementChecker`)."""
        raise NotImplementedError


def truncate(value: int, size: int, signed: bool) -> int:
    """A number cut to `size` bytes."""
    value &= (1 << (size * 8)) - 1
    return value - (1 << (size * 8)) if signed and value >> (size * 8 - 1) else value


def holds_context(kind: Type) -> bool:
    """Whether a type is that of `ctx`, or has it among its members."""
    match kind:
        case Pointer(Struct(), Space.DIRECT):
            return True
        case Tuple() | Record():
            return any(map(holds_context, kind.items))
        case _:
            return False
