"""What a feature of the language is: base classes, and the protocols through which features work.

Every builtin, function, action, aggregation, value kind and probe type is one class in `pytrace.language`, derived
from a class here. Passes and code generation know features only through these classes.
"""

from __future__ import annotations

from enum import Enum

from pytrace.grammar.data import dataclass, field
from pytrace.grammar.hints import TYPE_CHECKING, Any, ClassVar, TypeVar
from pytrace.grammar.output import Output, Services, Session
from pytrace.grammar.types import NONE, UINT64, Aggregate, Opaque, Space

if TYPE_CHECKING:  # a run of a program that is compiled already does without these
    import re
    from collections.abc import Callable, Iterable, Sequence

    from pytrace.grammar.attaching import Attach
    from pytrace.grammar.config import Config
    from pytrace.grammar.diagnostics import Diagnostics
    from pytrace.grammar.emit import Emit, Slot, Value
    from pytrace.grammar.host import Host
    from pytrace.grammar.lines import Line
    from pytrace.grammar.nodes import Call, Expr, Identifier, Map, MapElement
    from pytrace.grammar.plan import Action as ActionRecord
    from pytrace.grammar.probetype import ProbeType
    from pytrace.grammar.source import Span
    from pytrace.grammar.types import Member, Type

Constant = int | bool | bytes

FUNCTION = "fn"  # the type of what stands for the probe in a function of the program
LIBRARY_FILE = "stdlib/prelude.bt"  # what imports and messages call the library


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a function.

    `kinds` are the accepted kinds of argument (`int`, `bool`, `string`, `pointer`, `buffer`, `array`, `tuple`,
    `stack`, `struct`, `any`; empty: anything that has a value), or `map` (a map without key), `key` (of the map
    before it), `word` (a bare identifier), `variable` (a scratch variable that gets the map's value), `type`
    (`typeof(…)`) or `member` (`a.b`, of the type before it). `literal` wants a compile-time constant; `rest` takes
    any number of arguments. `words` are words that mean something here whatever else they may be the names of.
    """

    name: str
    kinds: tuple[str, ...] = ()
    literal: bool = False
    optional: bool = False
    rest: bool = False
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        kind = "|".join(self.kinds)
        text = f"{'const ' if self.literal else ''}{kind} {self.name}".strip()
        return f"{text}…" if self.rest else text


class Sink(Enum):
    """How what a program sends gets to user space: records through the ring buffer, records through the file of
    a kernel iterator, or as finished text in such a file, which anybody may read."""

    RING = "ring"
    RECORDS = "records"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Target:
    """One attach point after expansion: what a program is compiled for and attached to.

    `section` is libbpf's section name, `space` the memory that pointers of this probe lie in. `arguments` is what
    `args` has (None: no `args` here; it may be found out on first use), `result` the type of `retval` (None:
    there is none), `path` the file of a user probe, `data` whatever its probe type needs again. `sink` says how
    records leave the program.
    """

    type: ProbeType
    name: str
    attach: Attach
    section: str
    space: Space = Space.NONE
    arguments: Sequence[Member] | None = None
    result: Type | None = None
    path: str = ""
    data: Any = None
    sink: Sink = Sink.RING


@dataclass(slots=True)
class Context:
    """What is known while a program is compiled, besides its text.

    `warnings` and `helper_errors` say which mishaps programs report (`--no-warnings`, `-k`). `named` are the words
    `--name=value` for the program's own options, `options` those that it turns out to have: default and description.
    `mode` is that of the run (empty: trace), `probe_filter` the expression of `--probe-filter`. `single` holds attach
    points that a program may have only once, with their places. `aot` says that the program is compiled for later runs,
    so that the values of its options are not known.
    """

    host: Host
    config: Config
    diagnostics: Diagnostics
    parameters: tuple[str, ...] = ()
    pid: int | None = None
    child: bool = False
    unsafe: bool = False
    warnings: bool = True
    helper_errors: bool = False
    named: tuple[str, ...] = ()
    options: dict[str, tuple[Constant, str]] = field(default_factory=dict)
    mode: str = ""
    probe_filter: re.Pattern[str] | None = None
    single: dict[str, Span] = field(default_factory=dict)
    aot: bool = False


@dataclass(slots=True)
class CallSite:
    """One use of a builtin or function, as its feature sees it when types are checked and code is made.

    `types` and `constants` belong to the arguments (a constant is None when the value is not known while
    compiling). `element` is the map element that an aggregation updates. `scalars` says of arguments that are maps
    whether they are used without keys (None: not decided, or not a map). `discarded` says that nobody uses the value.
    `in_loop` says that it is in the body of a `for`, `repeated` that of a `for` or a `while`.
    `targets` are all that the program serves, in the order of their cookies.
    """

    node: Call | Identifier
    feature: Function
    arguments: tuple[Expr, ...]
    types: tuple[Type, ...]
    constants: tuple[Constant | None, ...]
    target: Target
    context: Context
    diagnostics: Diagnostics
    type: Type = NONE
    element: MapElement | Map | None = None
    in_loop: bool = False
    scalars: tuple[bool | None, ...] = ()
    discarded: bool = False
    targets: tuple[Target, ...] = ()
    repeated: bool = False

    def __len__(self) -> int:
        return len(self.arguments)

    @property
    def span(self) -> Span:
        """The place of the whole call."""
        return self.node.span

    def word(self, index: int) -> str | None:
        """The bare identifier given as an argument, or None if it is something else."""
        from pytrace.grammar.nodes import Identifier

        argument = self.arguments[index]
        return argument.name if isinstance(argument, Identifier) else None

    def map(self, index: int) -> str:
        """The name (without `@`) of the map given as an argument."""
        from pytrace.grammar.nodes import Map

        argument = self.arguments[index]
        assert isinstance(argument, Map)
        return argument.name

    def integer(self, index: int) -> int:
        """The value of a literal integer argument."""
        value = self.constants[index]
        assert isinstance(value, int)
        return value

    def text(self, index: int) -> str:
        """The value of a literal string argument."""
        value = self.constants[index]
        assert isinstance(value, bytes)
        return value.decode("utf-8", "surrogateescape")

    def error(self, code: str, message: str, argument: int | None = None, hints: Iterable[str] = ()) -> None:
        """Report an error at the call, or at one of its arguments."""
        span = self.span if argument is None else self.arguments[argument].span
        self.diagnostics.error(code, message, span, hints=hints)

    def warning(self, code: str, message: str, argument: int | None = None) -> None:
        """Report a warning at the call, or at one of its arguments."""
        span = self.span if argument is None else self.arguments[argument].span
        self.diagnostics.warning(code, message, span)


class Feature:
    """Base of everything in the registry. The docstring is the manual entry; lines that start with `bt>` in it
    are runnable examples."""

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def doc(cls) -> str:
        """The manual entry."""
        import inspect  # only the manual needs it, and it is slow to load

        return inspect.getdoc(cls) or ""

    @classmethod
    def examples(cls) -> list[str]:
        """The runnable examples of the manual entry."""
        lines = [line.strip() for line in cls.doc().splitlines()]
        return [line.removeprefix("bt>").strip() for line in lines if line.startswith("bt>")]


class Function(Feature):
    """A function: `type` checks a call and says what it yields, `emit` makes its code.

    `bare` functions may be written without parentheses. `unsafe` ones need `--unsafe`. `reads_context` ones are not
    allowed in the body of a `for` loop. `per_target` ones have another value at each attach point, so a block that
    uses them is compiled once for each; `per_arguments` that it is so only where the arguments of attach points
    differ, `per_type` where their types do; `numbered` that it is not so where the block uses no more than their
    value, which one program can look up by cookie. `discardable` ones may stand alone in spite of their value. `needs`
    is what the probe must be able to tell (`task`: who is running, `stack`: from where), see `ProbeType.lacks`.
    `reads_kernel_stack` ones tell how the kernel came to call the program. `steady` builtins are integers or pointers
    that are the same all through a run of the program.
    """

    parameters: ClassVar[tuple[Param, ...]] = ()
    bare: ClassVar[bool] = False
    unsafe: ClassVar[bool] = False
    unsafe_text: ClassVar[str] = "{name}() is an unsafe function being used in safe mode"
    reads_context: ClassVar[bool] = False
    per_target: ClassVar[bool] = False
    per_arguments: ClassVar[bool] = False
    per_type: ClassVar[bool] = False
    needs: ClassVar[str] = ""
    reads_kernel_stack: ClassVar[bool] = False
    steady: ClassVar[bool] = False
    numbered: ClassVar[bool] = False
    discardable: ClassVar[bool] = False
    returns: ClassVar[Type] = NONE

    @classmethod
    def signature(cls) -> str:
        """The signature, as the manual shows it."""
        required = [str(p) for p in cls.parameters if not p.optional]
        optional = "".join(f"[, {p}]" for p in cls.parameters if p.optional)
        text = f"{cls.name}({', '.join(required)}{optional})".replace("([, ", "([")
        return text if cls.returns == NONE else f"{text} -> {cls.returns}"

    def type(self, site: CallSite) -> Type:
        """Check the call (arity, kinds and literals are checked already) and give the type of its value."""
        return self.returns

    def fold(self, site: CallSite) -> Constant | None:
        """The value, when it is known while compiling."""
        return None

    def expand(self, site: CallSite) -> Expr | None:
        """What is to be compiled in place of the call, or None; then there is no `emit`."""
        return None

    def emit(self, emit: Emit, site: CallSite) -> Value | None:
        """Make the code; None when the call has no value."""
        raise NotImplementedError(self.name)


class Builtin(Function):
    """A function that is normally written as a bare word (`pid`, `comm`)."""

    bare = True


class Action(Function):
    """A function that sends a record, upon which user space acts.

    By default the record holds the arguments' values. `handle` gets the decoded values and returns what is to be
    shown, or None.
    """

    stops: ClassVar[bool] = False

    def fields(self, site: CallSite) -> tuple[Expr, ...]:
        """The arguments whose values the record holds."""
        return site.arguments

    def params(self, site: CallSite) -> tuple[Any, ...]:
        """What is known while compiling and needed when the record is handled."""
        return ()

    def emit(self, emit: Emit, site: CallSite) -> Value | None:
        values = [emit.value(argument) for argument in self.fields(site)]
        emit.send(self.name, values, self.params(site), site.span)
        if self.stops:
            emit.finish()
        return None

    def is_control(self, params: tuple[Any, ...]) -> bool:
        """Whether a record must get through even when the ring buffer is full of others."""
        return False

    def handle(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> Output | None:
        """Act on one record."""
        raise NotImplementedError(self.name)

    def line(self, action: ActionRecord, config: Config) -> Line | None:
        """What `handle` shows, for compiled code; None if that takes more than the record."""
        return None


class Aggregation(Function):
    """A function that may only stand on the right of `@m = …` and updates this CPU's cell of the map element.

    A cell is `words` 64-bit words. `bucketed` aggregations have a cell for each bucket of a key.
    """

    words: ClassVar[int] = 1
    castable: ClassVar[bool] = False
    bucketed: ClassVar[bool] = False
    document: ClassVar[str] = "map"  # the type of a map's JSON document
    by_key: ClassVar[bool] = False  # a printed map is sorted by the bytes of its keys

    def prepare(self, emit: Emit, site: CallSite, arguments: Sequence[Value]) -> Sequence[Value]:
        """What `bucket` and `update` get as arguments: those of the call, and what both have to agree on.

        The call's come converted to the 64-bit integer type of the map's own sign.
        """
        return arguments

    def update(self, emit: Emit, site: CallSite, slot: Slot, arguments: Sequence[Value]) -> None:
        """Update this CPU's cell; a new cell is all zero."""
        raise NotImplementedError

    def bucket(self, emit: Emit, site: CallSite, arguments: Sequence[Value]) -> Value:
        """The number of the bucket to update, of a bucketed aggregation."""
        raise NotImplementedError

    def buckets(self, kind: Aggregate) -> int:
        """How many buckets a key can have: one more than the highest number that `bucket` gives."""
        return 1

    def combine(self, emit: Emit, total: Slot, cell: Slot, signed: bool) -> None:
        """Add one CPU's cell to the total, in the kernel; castable aggregations only."""
        raise NotImplementedError

    def result(self, emit: Emit, total: Slot, signed: bool) -> Value:
        """The integer that a total stands for, in the kernel; castable aggregations only."""
        return emit.load(total, 0, UINT64)

    def merge(self, a: Aggregate, b: Aggregate) -> Aggregate | str:
        """The type of a map that is updated by both, or the message why that cannot be."""
        return Aggregate(a.feature, (b if b.signed else a).name, a.signed or b.signed, a.params)

    def read(self, kind: Aggregate, cells: Any) -> Any:
        """All CPUs' cells (tuples of unsigned words) of one element → the value that user space shows.

        A bucketed aggregation gets a dict from the bucket's number to that bucket's cells.
        """
        raise NotImplementedError

    def relate(self, kind: Aggregate, values: list[Any]) -> list[Any]:
        """The values of all elements of a map → what is shown of each, where that depends on the others."""
        return values

    def read_all(self, kind: Aggregate, words: Sequence[int], cpus: int) -> list[Any] | None:
        """What `read` makes of each of many elements, whose cells (of one word) for all CPUs lie in a row; None where
        there is no fast way."""
        return None

    def order(self, kind: Aggregate, value: Any) -> Any:
        """What the elements of a printed map are sorted by."""
        return value

    def text(self, kind: Aggregate, value: Any, divisor: int = 1) -> str:
        """What stands behind `@m[key]: `; of a bucketed one the lines of its picture."""
        return str(value)

    def json(self, kind: Aggregate, value: Any, divisor: int = 1) -> Any:
        """What stands for it in a JSON document of type `document`."""
        return value

    def python(self, kind: Aggregate, value: Any) -> Any:
        """What the Python API gives for it."""
        return value


class ValueKind(Feature):
    """How user space shows values of an `Opaque` type of `size` bytes, aligned to `align`."""

    size: ClassVar[int] = 8
    align: ClassVar[int] = 8
    user_addresses: ClassVar[bool] = False  # its values name places in processes, which may be gone by then

    def type_named(self) -> Type:
        """The type that this name stands for in the source."""
        return Opaque(self.name, self.size, self.align)

    def text(self, kind: Opaque, data: bytes, services: Services) -> str:
        """The default text of a value."""
        raise NotImplementedError

    def json(self, kind: Opaque, data: bytes, services: Services) -> Any:
        """What stands for it in JSON and in Python."""
        return self.text(kind, data, services)


# ---------------------------------------------------------------- the registry


class Registry:
    """All features by name; aliases are names too.

    Features register themselves when their module is imported. `home` imports the module of one type of probe, if the
    word is one, `more_probes` those of all, `rest` those of everything else; each is called when something is asked for
    that is not there yet. `library` gives the text of the part of the library that is written in the language itself.
    """

    def __init__(self) -> None:
        self.home: Callable[[str], None] | None = None
        self.more_probes: Callable[[], None] | None = None
        self.rest: Callable[[], None] | None = None
        self._probes: dict[str, ProbeType] = {}
        self.library: Callable[[], str] = str
        self._functions: dict[str, Function] = {}
        self._kinds: dict[str, ValueKind] = {}

    @property
    def probes(self) -> dict[str, ProbeType]:
        """The types of probe."""
        more, self.more_probes = self.more_probes, None
        if more is not None:
            more()
        return self._probes

    @property
    def functions(self) -> dict[str, Function]:
        """Builtins, functions, actions and aggregations."""
        self._complete()
        return self._functions

    @property
    def kinds(self) -> dict[str, ValueKind]:
        """The kinds of value that only user space can show."""
        self._complete()
        return self._kinds

    def _complete(self) -> None:
        rest, self.rest = self.rest, None
        if rest is not None:
            rest()

    def add(self, feature: Feature) -> None:
        """Take one feature; two of one name are a bug."""
        table: dict[str, Any] = self._probes
        if isinstance(feature, Function):
            table = self._functions
        elif isinstance(feature, ValueKind):
            table = self._kinds
        for name in (feature.name, *feature.aliases):
            assert name not in table, f"two features named {name}"
            table[name] = feature

    def aggregation(self, kind: Aggregate) -> Aggregation:
        """The aggregation that a map's value type belongs to."""
        found = self._functions.get(kind.feature) or self.functions[kind.feature]
        assert isinstance(found, Aggregation)
        return found

    def kind(self, name: str) -> ValueKind:
        """A kind of value."""
        return self._kinds.get(name) or self.kinds[name]

    def known_kind(self, name: str) -> ValueKind | None:
        """A kind of value; None for what only its own action can show."""
        return self._kinds.get(name) or self.kinds.get(name)

    def action(self, name: str) -> Action:
        """The action that handles records of this name."""
        found = self._functions.get(name) or self.functions[name]
        assert isinstance(found, Action)
        return found

    def probe_type(self, word: str) -> ProbeType | None:
        """A probe type by full name (any case) or alias (exact)."""
        if self.home is not None:
            self.home(word)
        known = self._probes.get(word) or self.probes.get(word)
        return known or next((p for p in self.probes.values() if p.name == word.lower()), None)

    def builtin_words(self) -> frozenset[str]:
        """The names that the parser must take for values, never for types."""
        return frozenset(name for name, f in self.functions.items() if f.bare)


REGISTRY = Registry()
F = TypeVar("F", bound=type[Feature])


def feature(cls: F) -> F:
    """Class decorator: put one instance of the feature into the registry."""
    REGISTRY.add(cls())
    return cls


__all__ = [
    "REGISTRY", "Action", "Aggregation", "Builtin", "CallSite", "Constant", "Context", "Feature",
    "Function", "Output", "Param", "Registry", "Services", "Session", "Sink", "Target", "ValueKind",
    "feature",
]  # fmt: skip
