"""`if comptime`: which branch of it is part of the program (reference part 1, sections 6.1 and 10.4).

While types are inferred, neither branch is looked at. When nothing changes any more, the conditions that have a value
then are decided, the branches that they choose become part of the program, and inference starts again.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytrace.grammar.checker import Checker
from pytrace.grammar.nodes import If, Map, Variable, walk
from pytrace.grammar.spec import Context
from pytrace.grammar.typing import TypedProbe


def decide(checker: Checker, probes: Sequence[TypedProbe]) -> bool:
    """Choose branches by the conditions that are known; whether there were any.

    Conditions without variables and maps come first: what they choose may still give types to those. When others are
    decided, the types that `sizeof` and the like have looked at are final.
    """
    found = open_conditions(probes)
    early = [(typed, node) for typed, node in found if not depends_on_types(node)]
    if found and not early:
        lock(checker)
    for typed, node in early or found:
        typed.chosen[node] = bool(typed.conditions[node])
    return bool(found)


def open_conditions(probes: Sequence[TypedProbe]) -> list[tuple[TypedProbe, If]]:
    """Every `if comptime` that could be decided and is not."""
    return [
        (typed, node)
        for typed in probes
        for node, value in typed.conditions.items()
        if value is not None and node not in typed.chosen
    ]


def depends_on_types(node: If) -> bool:
    """Whether a condition may depend on what types the program's own names have."""
    return any(isinstance(part, (Variable, Map)) for part in walk(node.condition))


def lock(checker: Checker) -> None:
    """From now on the inspected types stay as they are."""
    for holder, span in checker.inspected.items():
        holder.locked = holder.locked or span


def refuse_open(probes: Sequence[TypedProbe], context: Context) -> None:
    """The program still grows after as many rounds as it may take. Raises CompileError."""
    for node in [node for typed in probes for node in typed.conditions if node not in typed.chosen][-1:]:
        message = "comptime conditions are nested too deeply: this one was not reached in as many rounds as are allowed"
        context.diagnostics.error("err.comptime", message, node.condition.span)
    context.diagnostics.raise_errors()
