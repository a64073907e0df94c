"""Map elements that need not be looked up a second time.

`/@start[tid]/ { @ns = hist(nsecs - @start[tid]); delete(@start[tid]); }` reads one element twice, and nothing has
changed it in between. What was read where every run of the block comes by is kept, until the program itself may have
changed the map. (Another CPU may change it at any time; the block then goes on with what it has seen.)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from pytrace.grammar.hints import Any
from pytrace.grammar.nodes import (
    AddressOf,
    Assign,
    Binary,
    Call,
    Cast,
    Expr,
    ExprStatement,
    Field,
    For,
    Identifier,
    If,
    Integer,
    MapElement,
    Probe,
    Statement,
    Ternary,
    TupleExpr,
    Unary,
    Unroll,
    While,
    walk,
)
from pytrace.grammar.spec import Registry
from pytrace.grammar.typing import TypedProbe


class Rereads:
    """The elements of one block that are known, by map and key."""

    def __init__(self, typed: TypedProbe, registry: Registry) -> None:
        self._typed, self._registry = typed, registry
        self._known: dict[tuple[str, Hashable], Any] = {}
        self._certain = set(_always_read(typed.probe)) if typed.signature is None and _is_plain(typed) else set()

    def place(self, node: MapElement) -> Any:
        """Where the value lies that the element had; None if that is not known."""
        if not self._certain:
            return None
        key = self._key(node.key)
        return None if key is None else self._known.get((node.map.name, key))

    def wanted(self, node: MapElement) -> bool:
        """Whether this value can be kept."""
        return node in self._certain and self._key(node.key) is not None

    def keep(self, node: MapElement, place: Any) -> None:
        """The element's value lies at a place."""
        self._known[node.map.name, self._key(node.key)] = place

    def forget(self, name: str) -> None:
        """A map may be changed."""
        for known in [known for known in self._known if known[0] == name]:
            del self._known[known]

    def _key(self, node: Expr) -> Hashable:
        """What tells keys apart, of those that are the same all through a run; None of others."""
        match node:
            case Integer(value=value):
                return value
            case Identifier(name=name) if node not in self._typed.expansions:
                feature = self._registry.functions.get(name)
                return name if feature is not None and feature.steady else None
            case Field(operand=Identifier(name=owner), name=name):
                feature = self._registry.functions.get(owner)
                return (owner, name) if feature is not None and feature.per_arguments else None
            case TupleExpr(items=items):
                parts = tuple(map(self._key, items))
                return None if None in parts else parts
            case _:
                return None


def _is_plain(typed: TypedProbe) -> bool:
    """Whether what comes later in the text is later in time, and maps are changed by their names only."""
    nodes = list(walk(typed.probe))
    return not any(isinstance(n, (For, While, Unroll, AddressOf)) for n in nodes) and not any(
        isinstance(n, Call) and (n in typed.calls or n in typed.linked) for n in nodes
    )


def _always_read(probe: Probe) -> Iterator[MapElement]:
    """The elements that are read whenever the block goes on behind them."""
    if probe.predicate is not None:
        yield from _always_in(probe.predicate)
    for statement in probe.body.statements:
        yield from _always_at(statement)
    if isinstance(probe.body.value, If):
        yield from _always_in(probe.body.value.condition)


def _always_at(statement: Statement) -> Iterator[MapElement]:
    match statement:
        case Assign(value=value) if not isinstance(value, If):
            yield from _always_in(value)
        case ExprStatement(value=If(condition=condition)):
            yield from _always_in(condition)
        case _:
            pass


def _always_in(node: Expr) -> Iterator[MapElement]:
    match node:
        case MapElement():
            yield node
        case Binary(op="&&" | "||", left=left):
            yield from _always_in(left)
        case Binary(left=left, right=right):
            yield from _always_in(left)
            yield from _always_in(right)
        case Unary(operand=operand) | Cast(operand=operand):
            yield from _always_in(operand)
        case Ternary(condition=condition):
            yield from _always_in(condition)
        case _:
            pass
