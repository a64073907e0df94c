"""The state of type checking, and what all its parts need: messages, scopes, maps, type names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pytrace.grammar.data import replace
from pytrace.grammar.diagnostics import Diagnostics, Label, did_you_mean
from pytrace.grammar.host import LinkedFunction
from pytrace.grammar.nodes import (
    Block,
    Call,
    Comptime,
    Expr,
    For,
    If,
    Map,
    Node,
    TupleExpr,
    TypeName,
    TypeOf,
    Variable,
)
from pytrace.grammar.source import Span
from pytrace.grammar.spec import Aggregation, Constant, Context, Registry
from pytrace.grammar.types import (
    BOOL,
    INT64,
    INTEGERS,
    NONE,
    UINT64,
    VOID,
    Aggregate,
    Array,
    Bool,
    Buffer,
    EnumType,
    Int,
    Opaque,
    Pointer,
    Space,
    String,
    Struct,
    Tuple,
    Type,
    size_of,
)
from pytrace.grammar.typing import Binding, MapInfo, ProgramTypes, Signature, TypedProbe

# the words of the language for types that are nothing but themselves
PLAIN_TYPES: dict[str, Type] = {**INTEGERS, "bool": BOOL, "void": VOID, "string": String(0), "buffer": Buffer(0)}
# names of the integer types that C code uses for the kernel's, should BTF not have them
C_INTEGERS = {
    "char": Int(1, True), "short": Int(2, True), "int": Int(4, True), "long": Int(8, True), "unsigned": Int(4, False),
    "u8": Int(1), "u16": Int(2), "u32": Int(4), "u64": Int(8), "s8": Int(1, True), "s16": Int(2, True),
    "s32": Int(4, True), "s64": Int(8, True), "uint8_t": Int(1), "uint16_t": Int(2), "uint32_t": Int(4),
    "uint64_t": Int(8), "int8_t": Int(1, True), "int16_t": Int(2, True), "int32_t": Int(4, True),
    "int64_t": Int(8, True), "size_t": Int(8), "ssize_t": Int(8, True), "pid_t": Int(4, True), "uintptr_t": Int(8),
}  # fmt: skip


class Checker:
    """Base of the checker: one instance checks one program; `begin_probe` sets the block it is at."""

    def __init__(
        self,
        registry: Registry,
        context: Context,
        source: ProgramTypes,
        maps: dict[str, MapInfo],
        linked: dict[str, LinkedFunction],
    ) -> None:
        self.registry = registry
        self.context = context
        self.source = source
        self.maps = maps
        self.functions: dict[str, Signature] = {}
        self.linked = linked
        self.diagnostics = Diagnostics()
        self.typed: TypedProbe
        self.scopes: list[dict[str, Binding]] = []
        self.expanding: list[str] = []  # the C macros that we are in
        self.loop_depth = 0
        self.loops: list[For] = []  # the `for` loops that we are in
        self.measuring = 0  # how many operands of sizeof and the like we are in
        self.inspected: dict[Binding | MapInfo, Span] = {}  # whose types those looked at, and where

    def begin_probe(self, typed: TypedProbe, diagnostics: Diagnostics) -> None:
        """Turn to a block, with the place where its messages go."""
        self.typed = typed
        self.diagnostics = diagnostics
        self.scopes = [{}]
        self.loop_depth = 0
        self.loops = []
        self.measuring = 0
        typed.conditions.clear()
        for binding in typed.bindings.values():
            binding.assigned = binding.used = False

    # ---- messages

    def error(
        self,
        code: str,
        message: str,
        node: Node | Span,
        labels: tuple[Label, ...] = (),
        hints: tuple[str, ...] = (),
    ) -> Type:
        """Report an error; the type of what is wrong is NONE."""
        span = node if isinstance(node, Span) else node.span
        self.diagnostics.error(code, message, span, labels, hints)
        return NONE

    def warning(self, code: str, message: str, node: Node, hints: tuple[str, ...] = ()) -> None:
        """Report a warning."""
        self.diagnostics.warning(code, message, node.span, hints=hints)

    # ---- results

    def set(self, node: Expr, kind: Type, constant: Constant | None = None) -> Type:
        """Record the type, and the constant value if there is one, of an expression."""
        self.typed.types[node] = kind
        if constant is None:
            self.typed.constants.pop(node, None)
        else:
            self.typed.constants[node] = constant
        return kind

    def constant(self, node: Expr) -> Constant | None:
        """The value of an expression that is known while compiling."""
        return self.typed.constants.get(node)

    def valueless(self, node: Expr) -> bool:
        """Whether an expression (whose type was inferred) is one that never has a value."""
        match node:
            case TupleExpr(items=items):
                return not items
            case Block(value=value):
                return value is None or self.valueless(value)
            case If(condition=Comptime()):
                branch = self.typed.branch(node)
                return branch is None or self.valueless(branch)
            case If(then=then, otherwise=otherwise):
                return otherwise is None or self.valueless(then) or self.valueless(otherwise)
            case Call() if node in self.typed.calls:
                return self.typed.calls[node].result == VOID
            case Call() if node in self.typed.linked:
                return self.typed.linked[node].prototype.result == VOID
            case _:
                site = self.typed.sites.get(node)
                return (
                    site is not None
                    and site.type in (NONE, VOID)
                    and site.feature.returns == NONE
                    and not (self.diagnostics.errors)
                )

    def need_value(self, node: Expr, kind: Type) -> Type:
        """Report an operand that has no value."""
        if kind in (NONE, VOID) and self.valueless(node):
            return self.error("err.type.assign", f"'{shortened(node.span.text)}' has no value", node)
        return kind

    # ---- scopes

    @contextmanager
    def scope(self) -> Iterator[None]:
        """A block: what is declared in it is gone after it."""
        self.scopes.append({})
        yield
        self.scopes.pop()

    def find(self, name: str) -> Binding | None:
        """The visible variable of that name."""
        return next((s[name] for s in reversed(self.scopes) if name in s), None)

    def bind(self, variable: Variable) -> Binding:
        """Declare a variable in the innermost block; `variable` is where it is declared."""
        binding = self.typed.bindings.get(variable)
        if binding is None:
            owner = self.loops[-1] if self.loops else None
            binding = Binding(variable.shown, variable.span, owner=owner)
            self.typed.bindings[variable] = binding
        self.scopes[-1][variable.name] = binding
        return binding

    def check_shadow(self, variable: Variable) -> None:
        """A visible name must not be declared again."""
        known = self.find(variable.name)
        if known is not None:
            self.error(
                "err.name.shadow",
                f"Variable {variable.shown} was already declared. Variable shadowing is not allowed.",
                variable,
                (Label(known.span, "This is the initial declaration."),),
            )

    # ---- maps

    def map_info(self, node: Map) -> MapInfo:
        """What is known of a map; the first mention creates it."""
        info = self.maps.setdefault(node.name, MapInfo(node.name))
        info.first = info.first or node.span
        return info

    def decide_scalar(self, node: Map, scalar: bool, span: Span) -> None:
        """Note that a map is used without (`scalar`) or with a key."""
        info = self.map_info(node)
        if info.scalar is None:
            info.scalar, info.decided = scalar, span
            if scalar:
                info.key = INT64
        elif info.scalar != scalar:
            words = {
                True: "without an explicit key (scalar map)",
                False: "with an explicit key (non-scalar map)",
            }
            labels = (Label(info.decided, "Previous use"),) if info.decided else ()
            verb = "used as a map " if not scalar else "used "
            previously = "previously used " if info.scalar else "previously used as a map "
            self.error(
                "err.type.scalar",
                f"{info.label} {verb}{words[scalar]}, {previously}{words[info.scalar]}",
                span,
                labels,
            )

    def need_map(self, node: Map) -> MapInfo:
        """A map that must have been assigned somewhere in the program."""
        info = self.map_info(node)
        if not info.assigned:
            known = [f"@{n}" for n, m in self.maps.items() if m.assigned]
            self.error("err.name.map", f"Undefined map: {info.label}", node, hints=did_you_mean(info.label, known))
        return info

    # ---- types

    def number(self, kind: Type) -> Type:
        """A castable aggregation as the integer it stands for; anything else unchanged."""
        if isinstance(kind, Aggregate) and self.registry.aggregation(kind).castable:
            return INT64 if kind.signed else UINT64
        if isinstance(kind, Tuple):
            return Tuple(tuple(map(self.number, kind.items)))
        return kind

    def probe_space(self) -> Space:
        """The memory that addresses lie in when nothing else says so."""
        return self.typed.target.space

    def resolve(self, node: TypeName | TypeOf) -> Type:
        """The type that a type annotation names."""
        if isinstance(node, TypeOf):
            return self._suffixed(self.operand_type(node.operand), node.suffixes)
        base = self._base_type(node)
        suffixes = list(node.suffixes)
        if node.kind == "" and node.name in ("string", "buffer", "inet") and suffixes and suffixes[0] != "*":
            size = suffixes.pop(0)
            if isinstance(size, int):
                base = self._sized(node.name, size, base)
        return self._suffixed(base, suffixes)

    def _suffixed(self, base: Type, suffixes: Iterable[str | int | None]) -> Type:
        """A type with the post-fix parts of its name: pointers to it, arrays of it."""
        for suffix in suffixes:
            if suffix == "*":
                base = Pointer(base)
            else:
                base = Array(base, suffix if isinstance(suffix, int) else 0)
        return base

    def operand_type(self, operand: TypeName | Expr) -> Type:
        """The type of the operand of sizeof and the like."""
        raise NotImplementedError

    def _sized(self, name: str, size: int, base: Type) -> Type:
        match name:
            case "string":
                return String(size)
            case "buffer":
                return Buffer(size)
            case _:
                return base

    def _base_type(self, node: TypeName) -> Type:
        if node.kind:
            found = self.source.find_type(node.name, node.kind, self.typed.target.path)
            if found is None:
                code = "err.name.enum" if node.kind == "enum" else "err.name.type"
                self.error(code, f'Cannot resolve unknown type "{node.kind} {node.name}"', node, hints=self._near(node))
                return NONE
            return found
        found = self.word_type(node.name)
        if found is None:
            words = [*PLAIN_TYPES, *self.registry.kinds, *C_INTEGERS]
            kind = next((k for k in ("struct", "union", "enum") if self.source.find_type(node.name, k)), "")
            self.error(
                "err.name.type",
                f'Cannot resolve unknown type "{node.name}"',
                node,
                hints=(f"Write '{kind} {node.name}'.",) if kind else did_you_mean(node.name, words),
            )
            return NONE
        return found

    def word_type(self, name: str) -> Type | None:
        """The type that a single word names."""
        if name in PLAIN_TYPES:
            return PLAIN_TYPES[name]
        if name in self.registry.kinds:
            return self.registry.kinds[name].type_named()
        return (
            self._aggregate_named(name)
            or C_INTEGERS.get(name)
            or self.source.find_type(name, "", self.typed.target.path)
        )

    def btf_hint(self) -> tuple[str, ...]:
        """What may be the reason that the kernel's types are not known."""
        if self.context.host.has("btf"):
            return ()
        return ("This kernel has no BTF (CONFIG_DEBUG_INFO_BTF), so its types are unknown; define or include them.",)

    def _near(self, node: TypeName) -> tuple[str, ...]:
        """Hints for a struct, union or enumeration that there is not."""
        if hints := self.btf_hint():
            return hints
        head = node.name[:2]
        known = [*self.source.c.structs, *self.source.c.enums, *self.context.host.type_names(node.kind)]
        alike = [name for name in known if name.startswith(head) and abs(len(name) - len(node.name)) <= 3]
        return did_you_mean(node.name, alike)

    def _aggregate_named(self, name: str) -> Aggregate | None:
        """`count_t`, `usum_t` and so on; those with buckets have no name in programs."""
        for word in (name.removesuffix("_t"), name.removesuffix("_t").removeprefix("u")):
            feature = self.registry.functions.get(word)
            if name.endswith("_t") and isinstance(feature, Aggregation) and not feature.bucketed:
                return Aggregate(word, name, word == name.removesuffix("_t"))
        return None

    def with_space(self, kind: Type, space: Space) -> Type:
        """The type of something that lies in, or points into, a memory."""
        match kind:
            case Pointer() | Int():
                return replace(kind, space=space)
            case Struct() | Array():
                return replace(kind, space=space)
            case _:
                return kind

    def cast_problem(self, value: Type, to: Type) -> str | None:
        """Why a value cannot be cast explicitly (reference 6.4), or None if it can."""
        value = self.number(value)
        allowed = False
        match value, to:
            case (_, _) if NONE in (value, to):
                return None
            case (Int() | EnumType() | Pointer(), Int() | EnumType() | Pointer()):
                allowed = True
            case (_, t) if t == BOOL:
                allowed = isinstance(value, (Int, EnumType, Pointer, String)) or value == BOOL
            case (v, Int() | EnumType() | Pointer()) if v == BOOL:
                allowed = True
            case (Int() | EnumType(), Opaque(size=8)):
                allowed = True
            case (String(), Pointer()):
                allowed = True
            case (String(size=size), String(size=room)):
                allowed = room == 0 or room >= size
            case (String() | Int() | EnumType() | Bool() | Array(), Array()):
                return self._array_problem(value, to)
            case (Array(), Int()):
                allowed = size_of(value) == size_of(to)
            case (Opaque(), Opaque()):
                allowed = value == to
            case _:
                allowed = value == to and not isinstance(value, Struct)
        return None if allowed else f"Cannot cast from '{value}' to '{to}'"

    def _array_problem(self, value: Type, to: Array) -> str | None:
        step, have = size_of(to.element), size_of(value)
        if not isinstance(to.element, Int) and to.element != BOOL:
            return f"Cannot cast from '{value}' to '{to}'"
        if to.count == 0:
            return None if step and have % step == 0 else f"Cannot determine size of the array '{to}'"
        if isinstance(value, (Int, EnumType)):
            return None if have <= size_of(to) <= 8 else f"Cannot cast from '{value}' to '{to}'"
        return None if have == size_of(to) else f"Cannot cast from '{value}' to '{to}'"


def shortened(text: str, most: int = 40) -> str:
    """A piece of the program for use in a message."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
