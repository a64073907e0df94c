"""The syntax tree, as the parser builds it (reference part 1, section 13.1).

Nodes compare by identity, so they can be keys of the side tables in which passes keep their results;
`same` compares two trees by structure. Every node has the span of text it was made from.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytrace.grammar.data import dataclass, fields
from pytrace.grammar.source import Span


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Node:
    """Base of all nodes."""

    span: Span

    def __repr__(self) -> str:  # one for all: making one for each of 50 classes costs time at every start
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if not f.name.endswith("span"))
        return f"{type(self).__name__}({', '.join(shown)})"


class Expr(Node):
    """Base of everything that may have a value."""

    __slots__ = ()


class Statement(Node):
    """Base of all statements."""

    __slots__ = ()


class Item(Node):
    """Base of what stands at the top level."""

    __slots__ = ()


# ---------------------------------------------------------------- literals and names


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Integer(Expr):
    """An integer literal; its spelling is `span.text`."""

    value: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StringLiteral(Expr):
    """A string literal with its escapes resolved."""

    value: bytes


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Boolean(Expr):
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Positional(Expr):
    """`$1`, `$2`, …"""

    number: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PositionalCount(Expr):
    """`$#`"""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Identifier(Expr):
    """A bare word: builtin value, enumerator, macro, keyword-like argument."""

    name: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Variable(Expr):
    """`$name`; `name` is without the `$`. In the copy of a macro's body `#N` follows it, to tell it from others."""

    name: str

    @property
    def shown(self) -> str:
        """The name as the program spells it, with its `$`."""
        return f"${self.name.partition('#')[0]}"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Map(Expr):
    """`@name` without a key; `name` is without the `@`, empty for the anonymous map."""

    name: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MapElement(Expr):
    """`@name[key]`; `@name[a, b]` has a `TupleExpr` as key."""

    map: Map
    key: Expr


# ---------------------------------------------------------------- types


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TypeName(Node):
    """`struct task_struct *`, `int8[4]`: a name and post-fix parts, `"*"`, a count, or None for `[]`."""

    kind: str  # "struct", "union", "enum" or ""
    name: str
    suffixes: tuple[str | int | None, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TypeOf(Expr):
    """`typeof(x)`: usable as a type, and as an argument of macros, in which it may get `suffixes` (see `TypeName`)."""

    operand: TypeName | Expr
    suffixes: tuple[str | int | None, ...] = ()


TypeAnnotation = TypeName | TypeOf


# ---------------------------------------------------------------- operators


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Binary(Expr):
    """`left op right`"""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Unary(Expr):
    """Prefix `- ! ~ *`"""

    op: str
    operand: Expr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class IncDec(Expr):
    """`++` or `--` before (`prefix`) or after a variable or map."""

    op: str
    prefix: bool
    target: Variable | Map | MapElement


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AddressOf(Expr):
    """`&$v`, `&@m`"""

    target: Variable | Map


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Ternary(Expr):
    """`condition ? then : otherwise`; `then` is None for `a ?: b`."""

    condition: Expr
    then: Expr | None
    otherwise: Expr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Cast(Expr):
    """`(type)operand`"""

    type: TypeAnnotation
    operand: Expr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Field(Expr):
    """`operand.name`, or `operand->name` when `arrow`"""

    operand: Expr
    name: str
    arrow: bool = False


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TupleField(Expr):
    """`operand.N`"""

    operand: Expr
    index: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Index(Expr):
    """`operand[index]` of anything but a map"""

    operand: Expr
    index: Expr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Call(Expr):
    """`name(arguments)`; `name_span` covers the name alone."""

    name: str
    arguments: tuple[Expr, ...]
    name_span: Span


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TupleExpr(Expr):
    """`(a, b)`, `(a,)`, `()`"""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RecordExpr(Expr):
    """`(name = expr, …)`"""

    names: tuple[str, ...]
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SizeOf(Expr):
    """`sizeof(type or expression)`"""

    operand: TypeName | Expr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class OffsetOf(Expr):
    """`offsetof(type or expression, path)`"""

    operand: TypeName | Expr
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TypeInfo(Expr):
    """`typeinfo(type or expression)`"""

    operand: TypeName | Expr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Comptime(Expr):
    """`comptime operand`"""

    operand: Expr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Block(Expr):
    """`{ statements value }`; `value` is the last expression without `;`, or None."""

    statements: tuple[Statement, ...]
    value: Expr | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class If(Expr):
    """`if condition { } else { }`, as statement and as expression"""

    condition: Expr
    then: Block
    otherwise: Block | If | None = None


# ---------------------------------------------------------------- statements


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Let(Statement):
    """`let $v: type = value;`"""

    variable: Variable
    type: TypeAnnotation | None = None
    value: Expr | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Assign(Statement):
    """`target = value`, or `target op= value` with `op` the operator without `=` (empty for plain)."""

    target: Variable | Map | MapElement
    op: str
    value: Expr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Discard(Statement):
    """`_ = value;`"""

    value: Expr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ExprStatement(Statement):
    """An expression whose value is thrown away; `if` and bare blocks too."""

    value: Expr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Jump(Statement):
    """`break` or `continue`"""

    word: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Return(Statement):
    """`return value;`"""

    value: Expr | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class While(Statement):
    """`while (condition) { }`"""

    condition: Expr
    body: Block


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Unroll(Statement):
    """`unroll (count) { }`"""

    count: Expr
    body: Block


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Range(Node):
    """`start..end` of a for loop"""

    start: Expr
    end: Expr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class For(Statement):
    """`for ($v : iterable) { }`"""

    variable: Variable
    iterable: Map | Range
    body: Block


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ImportStatement(Statement):
    """`import "path";` inside a block"""

    path: bytes


# ---------------------------------------------------------------- top level


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CText(Item):
    """A preprocessor line or a struct/union/enum definition, verbatim in `span.text`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Setting(Node):
    """`name = value` of the config block; a bare word is a string."""

    name: str
    value: int | bool | str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Config(Item):
    """`config = { … }`"""

    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Import(Item):
    """`import "path";` at the top level"""

    path: bytes


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AttachText(Node):
    """One attach point as raw text, quotes, `$N` and all; see `attachpoint.split`."""

    text: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Probe(Item):
    """`attach points /predicate/ { body }`"""

    attach_points: tuple[AttachText, ...]
    predicate: Expr | None
    body: Block


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Macro(Item):
    """`macro name(parameters) { body }`"""

    name: str
    parameters: tuple[Variable | Map | Identifier, ...]
    body: Block


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Parameter(Node):
    """`$name: type` of a function"""

    variable: Variable
    type: TypeAnnotation


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Function(Item):
    """`fn name(parameters): type { body }`"""

    name: str
    parameters: tuple[Parameter, ...]
    result: TypeAnnotation
    body: Block


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MapDeclaration(Item):
    """`let @name = kind(entries);`"""

    map: Map
    kind: str
    entries: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Program(Node):
    """A whole program; `items` are probes, macros, functions and map declarations in source order."""

    shebang: str | None
    c_texts: tuple[CText, ...]
    config: Config | None
    imports: tuple[Import, ...]
    items: tuple[Item, ...]

    @property
    def probes(self) -> tuple[Probe, ...]:
        """The probes, in source order."""
        return tuple(i for i in self.items if isinstance(i, Probe))


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below a node, in source order."""
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from (v for v in value if isinstance(v, Node))


def walk(node: Node) -> Iterator[Node]:
    """A node and everything below it, parents first."""
    yield node
    for child in children(node):
        yield from walk(child)


def same(a: object, b: object) -> bool:
    """Whether two trees have the same structure, wherever they stand."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if not isinstance(a, Node):
        return type(a) is type(b) and a == b
    return type(a) is type(b) and all(
        same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if not f.name.endswith("span")
    )
