"""Functions that act on the run or on whole maps: exit, clear, zero (reference part 2, sections 2.5, 2.6)."""

from __future__ import annotations

from pytrace.grammar.hints import TYPE_CHECKING, Any
from pytrace.grammar.plan import Action as ActionRecord
from pytrace.grammar.spec import Action, CallSite, Output, Param, Session, feature

if TYPE_CHECKING:
    from pytrace.grammar.nodes import Expr


@feature
class Exit(Action):
    """End this probe at once, and the whole run when the tracer gets to it, with an exit status (default 0).

    Of the status the low 8 bits count. `end` probes still run and maps are still printed.

    bt> interval:s:1 { printf("one second is over\\n"); exit(); }
    """

    name = "exit"
    parameters = (Param("code", ("integer",), optional=True),)
    stops = True

    def is_control(self, params: tuple[Any, ...]) -> bool:
        return True

    def handle(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> Output | None:
        session.exit(values[0] & 0xFF if values else 0)
        return None


class WholeMap(Action):
    """Base of the actions on a whole map."""

    parameters = (Param("map", ("map",)),)

    def is_control(self, params: tuple[Any, ...]) -> bool:
        return True

    def fields(self, site: CallSite) -> tuple[Expr, ...]:
        return ()

    def params(self, site: CallSite) -> tuple[Any, ...]:
        return (f"@{site.map(0)}",)


@feature
class Clear(WholeMap):
    """Delete every key of a map, when the tracer gets to it.

    bt> tracepoint:syscalls:sys_enter_read { @[comm] = count(); } interval:s:1 { print(@); clear(@); }
    """

    name = "clear"

    def handle(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> Output | None:
        session.clear(action.params[0])
        return None


@feature
class Zero(WholeMap):
    """Set every value of a map to zero, keeping the keys, when the tracer gets to it.

    bt> tracepoint:syscalls:sys_enter_read { @[comm] = count(); } interval:s:1 { print(@); zero(@); }
    """

    name = "zero"

    def handle(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> Output | None:
        session.zero(action.params[0])
        return None
