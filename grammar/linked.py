"""Imported BPF objects, whose global functions a program may call (reference part 1, section 10.3)."""

from __future__ import annotations

from collections.abc import Sequence

from pytrace.grammar.data import dataclass
from pytrace.grammar.diagnostics import Label
from pytrace.grammar.host import LinkedFunction, LinkedUnit
from pytrace.grammar.nodes import Function, Program
from pytrace.grammar.source import Span
from pytrace.grammar.spec import Context, Registry


@dataclass(frozen=True, slots=True)
class ImportedUnit:
    """An object, what the program calls it, and where it is imported."""

    unit: LinkedUnit
    name: str
    span: Span


def linked_functions(
    units: Sequence[ImportedUnit], program: Program, registry: Registry, context: Context
) -> dict[str, LinkedFunction]:
    """The functions that imported objects offer, by name. No name may stand for two things."""
    own = {item.name: item.span for item in program.items if isinstance(item, Function)}
    found: dict[str, LinkedFunction] = {}
    for imported in units:
        for function in imported.unit.functions:
            name, labels = function.prototype.name, tuple[Label, ...]()
            if name in registry.functions:
                other = "a function of the language"
            elif name in own:
                other, labels = "a function of the program", (Label(own[name], "This is the function."),)
            elif name in found:
                other = f"in {found[name].file} as well"
            else:
                found[name] = function
                continue
            message = f"Redefinition of function: {name}() of {imported.name} is {other}"
            context.diagnostics.error("fn.extern", message, imported.span, labels)
    return found
