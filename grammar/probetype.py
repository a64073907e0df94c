"""What a type of probe is: the base class of the classes in `pytrace.language.probes`."""

from __future__ import annotations

from pytrace.grammar.hints import TYPE_CHECKING, ClassVar
from pytrace.grammar.spec import Context, Feature, Function, Target

if TYPE_CHECKING:  # a listing needs none of these
    from collections.abc import Iterator, Mapping, Sequence

    from pytrace.grammar.attaching import Attach
    from pytrace.grammar.attachpoint import AttachPoint
    from pytrace.grammar.emit import Emit, Value
    from pytrace.grammar.host import Host
    from pytrace.grammar.source import Span
    from pytrace.grammar.types import Member


class ProbeType(Feature):
    """A type of probe: what its attach points look like, what they expand to, how code gets at their data."""

    arity: ClassVar[tuple[int, int]] = (1, 1)  # parts after the type, least and most
    reverse: ClassVar[bool] = False  # the kernel runs these in reverse order of attaching
    has_argn: ClassVar[bool] = False
    has_function: ClassVar[bool] = False
    function_needs: ClassVar[str] = ""  # the facility without which this kernel does not tell the function
    has_registers: ClassVar[bool] = False
    return_code: ClassVar[int] = 0  # of a program without `return`
    has_result: ClassVar[bool] = True  # the value of `return` is the program's result, not just thrown away
    filtered: ClassVar[bool] = False  # -p is a check at the start of the program
    context_type: ClassVar[str] = ""  # struct that `ctx` points to
    groupable: ClassVar[bool] = False  # one program may serve many attach points
    repeats: ClassVar[bool] = True  # the kernel attaches one program twice at one place
    alone: ClassVar[bool] = False  # no other attached probe may be in the script
    same_arguments: ClassVar[bool] = False  # `args` is the same at every attach point
    by_arguments: ClassVar[bool] = False  # a program may serve those whose `args` are the same
    lacks: ClassVar[Mapping[str, str]] = {}  # what cannot be told here (`Function.needs`) -> why
    fixed_result: ClassVar[str] = ""  # why a block must not choose the program's result
    family: ClassVar[str] = ""  # what `probetype` says, if not the name
    modes: ClassVar[tuple[str, ...]] = ("",)  # of a run, in which these have code; "" is tracing
    always: ClassVar[bool] = False  # no --probe-filter leaves them out
    # whose attach points a wildcard in the type's place finds: "kernel", "user" (with a file or -p only) or nobody's
    wild: ClassVar[str] = ""

    def targets(self, point: AttachPoint, span: Span, context: Context) -> list[Target]:
        """Check an attach point and expand it; errors go to `context.diagnostics`."""
        raise NotImplementedError(self.name)

    def merge(self, places: tuple[Attach, ...]) -> tuple[Attach, ...]:
        """The places of one program, joined where the kernel attaches many at once."""
        return places

    def context_struct(self, target: Target) -> str:
        """The struct that `ctx` points to; empty where there is no `ctx`."""
        return self.context_type

    def context_member(self, emit: Emit, target: Target, member: Member) -> Value | None:
        """`ctx.NAME`; None where it is an ordinary member of the struct."""
        return None

    def enter(self, emit: Emit, target: Target) -> None:
        """Make the code that comes before the predicate."""

    def alike(self, target: Target) -> object:
        """What must be equal of targets that share a program, besides their type, section and memory."""
        return None

    def gather(self, targets: list[Target], features: Sequence[Function] | None, host: Host) -> list[list[Target]]:
        """Targets that can share a program, in groups that are better served by one each. `features` are what the block
        uses, None if not all is known."""
        return [targets]

    def numbered(self, target: Target, number: int) -> Target | None:
        """A target at whose place the program gets this number as cookie; None where there are no cookies."""
        return None

    def place_number(self, emit: Emit, target: Target) -> Value:
        """The number of the place at which the program is called, see `numbered`."""
        return emit.helper("get_attach_cookie", emit.context())

    def argument(self, emit: Emit, target: Target, index: int) -> Value:
        """`argN`"""
        raise NotImplementedError(self.name)

    def member(self, emit: Emit, target: Target, member: Member) -> Value:
        """`args.NAME`"""
        raise NotImplementedError(self.name)

    def result(self, emit: Emit, target: Target) -> Value:
        """`retval`"""
        raise NotImplementedError(self.name)

    def function(self, emit: Emit, target: Target) -> Value:
        """The address of the function that was probed."""
        raise NotImplementedError(self.name)

    def refuse(self, target: Target, word: str, index: int = 0) -> str | None:
        """Why this very target has no `args`, `argN` (`index` is the N) or `retval`; None if it has."""
        return None

    def links(self, places: tuple[Attach, ...], host: Host) -> int:
        """How many links the kernel makes for the places of one program."""
        return len(self.merge(places))

    def session(self, entry: tuple[Target, ...], back: tuple[Target, ...], host: Host) -> Attach | None:
        """The place of one program that runs at the entry of these targets, which are of this type, and at the return
        of those; None if there cannot be one."""
        return None

    def guards(self, target: Target) -> bool:
        """Whether programs can be called from inside of each other because of this target, without an end."""
        return False

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        """The attach points (without the type) that match a listing pattern (without the type)."""
        raise NotImplementedError(self.name)

    def describe(self, found: str, host: Host) -> Iterator[str]:
        """The parameter lines of one attach point that `search` found, for `-lv`.

        Raises HostError if the machine does not know them; the listing warns and goes on.
        """
        return iter(())
