"""What type checking finds out, in side tables (no pass writes on a node)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytrace.grammar.data import dataclass, field
from pytrace.grammar.host import CDefinitions, Host, LinkedFunction
from pytrace.grammar.linked import ImportedUnit
from pytrace.grammar.nodes import (
    AddressOf,
    Block,
    Call,
    Expr,
    For,
    Function,
    If,
    Map,
    MapDeclaration,
    Node,
    Probe,
    Variable,
    walk,
)
from pytrace.grammar.source import Span
from pytrace.grammar.spec import CallSite, Constant, Target
from pytrace.grammar.types import NONE, EnumType, Member, Struct, Tuple, Type, offsets_of, size_of


@dataclass(slots=True, eq=False)
class Binding:
    """One scratch variable of one probe: from its first assignment or `let` to the end of that block; `label` is its
    name in messages.

    `declared` variables have the fixed type of their `let`. `loop` marks the variable of a `for`, which
    cannot be assigned. `owner` is the innermost `for` it is declared in: its code is a function of its own.
    `carried` variables are changed in the body of a `for` that they outlive. `locked` is where a condition of
    `if comptime` looked at the type, which is final since then.
    """

    label: str
    span: Span
    type: Type = NONE
    declared: bool = False
    loop: bool = False
    assigned: bool = False
    used: bool = False
    owner: For | None = None
    carried: bool = False
    locked: Span | None = None


@dataclass(slots=True, eq=False)
class MapInfo:
    """A map of the program. `scalar` is None until a use decides, at `decided`; `before` is what the previous
    round of inference decided. `locked` is as in `Binding`, of the value."""

    name: str
    key: Type = NONE
    value: Type = NONE
    scalar: bool | None = None
    before: bool | None = None
    assigned: bool = False
    decided: Span | None = None
    first: Span | None = None
    declaration: MapDeclaration | None = None
    locked: Span | None = None

    @property
    def label(self) -> str:
        """The name with its `@`."""
        return f"@{self.name}"

    @property
    def used_without_key(self) -> bool | None:
        """Whether the map is a scalar one, as far as this round knows, or the one before."""
        return self.before if self.scalar is None else self.scalar


@dataclass(slots=True, eq=False)
class Signature:
    """A function of the program, and what is known of it: the type of what it returns, its parameters, its body."""

    function: Function
    result: Type = NONE
    parameters: tuple[Binding, ...] = ()
    body: TypedProbe | None = None

    def uses(self) -> Iterator[CallSite]:
        """The features that it uses, itself and through other functions."""
        if self.body is not None:
            yield from self.body.sites.values()
            for other in set(self.body.calls.values()):
                yield from other.uses()


@dataclass(slots=True)
class TypedProbe:
    """A probe's block as it is compiled for one target (or several that share a program).

    One that is `left_out` is checked like all others, so that maps have their types, but gets no code.
    `conditions` are those of each `if comptime` as the last look found them (None: not known), `chosen` what was
    decided by them. `signature` is that of a function, whose body is checked in the same way,
    `calls` are those of such functions, `linked` those of functions of imported objects.
    """

    probe: Probe
    targets: tuple[Target, ...]
    types: dict[Node, Type] = field(default_factory=dict)
    constants: dict[Expr, Constant] = field(default_factory=dict)
    sites: dict[Expr, CallSite] = field(default_factory=dict)
    variables: dict[Variable, Binding] = field(default_factory=dict)
    bindings: dict[Node, Binding] = field(default_factory=dict)
    expansions: dict[Node, Expr] = field(default_factory=dict)
    left_out: bool = False
    conditions: dict[If, bool | None] = field(default_factory=dict)
    chosen: dict[If, bool] = field(default_factory=dict)
    signature: Signature | None = None
    calls: dict[Call, Signature] = field(default_factory=dict)
    linked: dict[Call, LinkedFunction] = field(default_factory=dict)

    def branch(self, node: If) -> Block | If | None:
        """The branch of an `if comptime` that is kept; None if it has none, or that is not decided yet."""
        if node not in self.chosen:
            return None
        return node.then if self.chosen[node] else node.otherwise

    @property
    def target(self) -> Target:
        """The target that decides types; the others of a group agree with it."""
        return self.targets[0]


@dataclass(slots=True)
class TypedProgram:
    """A program that is ready to be compiled."""

    probes: tuple[TypedProbe, ...]
    maps: dict[str, MapInfo]
    source: ProgramTypes
    units: tuple[ImportedUnit, ...] = ()

    @property
    def running(self) -> list[TypedProbe]:
        """The probes that get code."""
        return [typed for typed in self.probes if not typed.left_out]

    @property
    def unused_maps(self) -> frozenset[str]:
        """The names of the maps that only probes without code use."""
        idle = [typed for typed in self.probes if typed.left_out]
        return map_names(idle) - map_names(self.running) if idle else frozenset()


@dataclass(slots=True)
class ProgramTypes:
    """The `TypeSource` of a program: its own C definitions first, then what the machine knows."""

    host: Host
    c: CDefinitions = field(default_factory=CDefinitions)
    arguments: dict[str, tuple[Member, ...]] = field(default_factory=dict)

    def members(self, struct: Struct) -> tuple[Member, ...]:
        """See `TypeSource.members`."""
        if struct.kind == "args":
            return self.arguments.get(struct.name, ())
        if struct.name in self.c.members:
            return self.c.members[struct.name]
        return self.host.members(struct)

    def argument_struct(self, target: Target) -> Struct:
        """The struct that `args` is at a target, laid out as pytrace copies it."""
        fields = [m for m in target.arguments or () if not is_common(target, m)]
        offsets = offsets_of(tuple(m.type for m in fields))
        name = f"{target.name}_args"
        self.arguments[name] = tuple(
            Member(m.name, m.type, offset, None, False, m.text) for m, offset in zip(fields, offsets, strict=True)
        )
        return Struct(name, size_of(Tuple(tuple(m.type for m in fields))), "args")

    def find_type(self, name: str, kind: str = "", path: str = "") -> Type | None:
        """See `TypeSource.find_type`. `path` is the file of a user probe, whose types come before the
        kernel's ([type.struct.source])."""
        own: dict[str, Type] = {}
        match kind:
            case "":
                own = dict(self.c.typedefs)
            case "enum":
                own = dict(self.c.enums)
            case _:
                own = {n: s for n, s in self.c.structs.items() if s.kind == kind}
        user = self.host.user_type(path, name, kind) if path and name not in own else None
        return own.get(name) or user or self.host.find_type(name, kind)

    def enumerators(self, enum: EnumType) -> dict[str, int]:
        """See `TypeSource.enumerators`."""
        own = {n: value for n, (e, value) in self.c.enumerators.items() if e.name == enum.name}
        return own or self.host.enumerators(enum)

    def enumerator(self, name: str) -> tuple[EnumType, int] | None:
        """See `TypeSource.enumerator`."""
        return self.c.enumerators.get(name) or self.host.enumerator(name)


def map_names(probes: Iterable[TypedProbe]) -> frozenset[str]:
    """The names of the maps in the text of some probes."""
    roots = (root for typed in probes for root in (typed.probe, *typed.expansions.values()))
    return frozenset(node.name for root in roots for node in walk(root) if isinstance(node, Map))


def whole_maps(probes: Iterable[TypedProbe]) -> frozenset[str]:
    """The names of the maps that programs use as one object: they go through its elements or take its address."""
    roots = (root for typed in probes for root in (typed.probe, *typed.expansions.values()))
    nodes = [node for root in roots for node in walk(root)]
    used: list[Node] = [node.iterable for node in nodes if isinstance(node, For)]
    used += [node.target for node in nodes if isinstance(node, AddressOf)]
    return frozenset(target.name for target in used if isinstance(target, Map))


def is_common(target: Target, member: Member) -> bool:
    """Whether a field belongs to the header of every tracepoint record (`common_*`), which BPF cannot
    read."""
    return member.name.startswith("common_") and member.offset < 8
