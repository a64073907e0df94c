"""The stages of a compilation as text, for `-d`."""

from __future__ import annotations

from collections.abc import Iterator

from pytrace.grammar.layout import Layout
from pytrace.grammar.nodes import Expr, walk
from pytrace.grammar.plan import Action, MapSpec, Plan, ProgramSpec
from pytrace.grammar.typing import TypedProgram


def describe_types(program: TypedProgram) -> str:
    """The type of every map and expression, in source order."""
    lines = []
    for name in sorted(program.maps):
        info = program.maps[name]
        key = "" if info.scalar else f"[{info.key}]"
        lines.append(f"{info.label}{key}: {info.value}")
    for typed in program.probes:
        lines.append("")
        lines.append(", ".join(target.name for target in typed.targets))
        for node in walk(typed.probe):
            if isinstance(node, Expr) and node in typed.types:
                line, column = node.span.first
                text = " ".join(node.span.text.split())
                lines.append(f"  {line}:{column} {text[:60]}: {typed.types[node]}")
    return "\n".join(lines) + "\n"


def describe_plan(plan: Plan) -> str:
    """Programs, maps and the table of actions."""
    return "".join(f"{line}\n" for line in _plan_lines(plan))


def _plan_lines(plan: Plan) -> Iterator[str]:
    yield "programs"
    yield from (f"  {_program(p)}" for p in plan.programs)
    yield "maps"
    yield from (f"  {_map(m)}" for m in plan.maps)
    yield "actions"
    yield from (f"  {_action(a)}" for a in plan.actions)
    if plan.globals:
        yield f"globals {' '.join(plan.globals)}"


def _program(program: ProgramSpec) -> str:
    places = ", ".join(attach.name for attach in program.attach)
    return f"{program.symbol} section={program.section}: {places}"


def _map(spec: MapSpec) -> str:
    name = spec.name or f"({spec.symbol})"
    shape = f"{_type(spec.key)} ({spec.key_size} bytes) -> {_type(spec.value)} ({spec.value_size} bytes)"
    return f"{name} {spec.kind}[{spec.max_entries}]: {shape}"


def _action(action: Action) -> str:
    fields = ", ".join(
        f"{_type(layout)}@{offset}" for layout, offset in zip(action.fields, action.offsets, strict=True)
    )
    where = f" at {action.span.location()}" if action.span else ""
    return f"{action.number} {action.feature}{action.params}: {fields or 'nothing'}, {action.size} bytes{where}"


def _type(layout: Layout) -> str:
    return str(layout.type)
