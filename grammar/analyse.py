"""From a parsed program to a typed one: the passes in their order (reference part 1, section 0.1)."""

from __future__ import annotations

import re

from pytrace.grammar.check_statements import StatementChecker
from pytrace.grammar.comptime import decide, refuse_open
from pytrace.grammar.diagnostics import Diagnostics, Label
from pytrace.grammar.expand import expand
from pytrace.grammar.functions import check_function, declared_functions
from pytrace.grammar.imports import resolve_imports
from pytrace.grammar.linked import linked_functions
from pytrace.grammar.literals import quote
from pytrace.grammar.macros import expand_macros
from pytrace.grammar.nodes import (
    MapDeclaration,
    Node,
    Program,
)
from pytrace.grammar.source import Source, Span, encode_text
from pytrace.grammar.spec import Context, Registry
from pytrace.grammar.types import NONE, Aggregate, Type
from pytrace.grammar.typing import MapInfo, ProgramTypes, TypedProbe, TypedProgram

# kinds of map declarations; those with values for each CPU hold aggregations, the others everything else
MAP_KINDS = {"hash": False, "lruhash": False, "percpuhash": True, "percpulruhash": True}

C_TEXT = "definitions.h"  # what the C front end calls the C part of a program

ROUNDS = 50  # of inference, until nothing changes any more


def parse(source: Source, registry: Registry, diagnostics: Diagnostics) -> Program:
    """The syntax tree of a program; raises CompileError. Loads the parser, so not done before it is
    needed."""
    from pytrace.grammar.parser import parse as parse_program

    return parse_program(source, registry.builtin_words(), diagnostics)


def analyse(program: Program, registry: Registry, context: Context) -> TypedProgram:
    """Expand the attach points, find all types and check the program; raises CompileError."""
    program, units = resolve_imports(program, registry, context)
    program = expand_macros(program, registry, context.diagnostics)
    context.diagnostics.raise_errors()
    source = ProgramTypes(context.host)
    read_c_definitions(program, source, context)
    maps = declared_maps(program, context)
    typed = expand(program, registry, context)
    functions = declared_functions(program, registry, context)
    linked = linked_functions(units, program, registry, context)
    context.diagnostics.raise_errors()
    checker = StatementChecker(registry, context, source, maps, linked)
    infer(checker, typed, functions)
    context.diagnostics.raise_errors()
    return TypedProgram(tuple(typed), maps, source, units)


# ---------------------------------------------------------------- definitions


def read_c_definitions(program: Program, source: ProgramTypes, context: Context) -> None:
    """Let the C front end read the preprocessor lines and definitions, if there are any."""
    source.c = context.host.c_definitions(c_text(program))
    for message in source.c.errors:
        context.diagnostics.error("err.name.type", message, c_place(message, program))


def c_text(program: Program) -> str:
    """The C part of a program, every line where it is in the program, definitions ended by a semicolon. What comes
    from other files has their names in line markers, as preprocessors make them."""
    text, line = "", 1
    source = own = program.span.source
    for part in program.c_texts:
        if part.span.source is not source:
            source, line = part.span.source, 1
            text = text.rstrip("\n") + "\n" if text else ""
            text += f"# 1 {quote(encode_text(C_TEXT if source is own else source.name))}\n"
        first, column = part.span.first
        if first > line:
            text += "\n" * (first - line)
        text += " " * (column - 1 - len(text.rpartition("\n")[2]))
        text += part.span.text
        if not part.span.text.startswith("#"):
            text = text.rstrip(";\n") + ";"
        line = first + part.span.text.rstrip("\n").count("\n")
    return text


def c_place(message: str, program: Program) -> Span | None:
    """The part of a program that a complaint of the C front end (`FILE:LINE:COLUMN: …`) is about."""
    parts = program.c_texts
    found = re.match(r"(.*?):(\d+):", message)
    name, line = (found[1], int(found[2])) if found else ("", 0)
    for part in parts:
        source = part.span.source
        same = name == (C_TEXT if source is program.span.source else source.name)
        if same and part.span.first[0] <= line <= part.span.last[0]:
            return part.span
    included = (part.span for part in parts if quote(encode_text(name)) in part.span.text)
    return next(included, parts[0].span if parts else None)


def declared_maps(program: Program, context: Context) -> dict[str, MapInfo]:
    """The maps that have a `let @m = kind(N)`."""
    maps: dict[str, MapInfo] = {}
    for item in program.items:
        if isinstance(item, MapDeclaration):
            info = maps.setdefault(item.map.name, MapInfo(item.map.name, declaration=item, first=item.span))
            if info.declaration is not item and info.declaration is not None:
                message = f"{info.label} is declared already: this declaration has no effect"
                first = Label(info.declaration.span, "This is the first declaration.")
                context.diagnostics.warning("warn.name.map-unused", message, item.span, (first,))
            if item.kind not in MAP_KINDS:
                context.diagnostics.error(
                    "err.type.mapkind",
                    f"Invalid bpf map type: {item.kind}",
                    item.span,
                    hints=(f"Valid map types: {', '.join(MAP_KINDS)}",),
                )
    return maps


# ---------------------------------------------------------------- inference


def infer(checker: StatementChecker, probes: list[TypedProbe], functions: list[TypedProbe]) -> None:
    """Repeat type inference until nothing changes, then once more with its messages kept."""
    context = checker.context
    everything = [*functions, *probes]
    checker.functions = {t.signature.function.name: t.signature for t in functions if t.signature is not None}
    for _ in range(ROUNDS):
        settle(checker, everything)
        if not decide(checker, everything):
            break
    else:
        refuse_open(everything, context)
    for typed in everything:
        check_probe(checker, typed, context.diagnostics)
    check_maps(checker.maps, context)


def settle(checker: StatementChecker, probes: list[TypedProbe]) -> None:
    """Look at all blocks until there is nothing new to learn."""
    before: object = None
    for _ in range(ROUNDS):
        for typed in probes:
            check_probe(checker, typed, Diagnostics())
        state = snapshot(probes, checker.maps)
        forget_decisions(checker.maps)
        if state == before:
            break
        before = state


def check_probe(checker: StatementChecker, typed: TypedProbe, diagnostics: Diagnostics) -> None:
    """One pass over one block."""
    checker.begin_probe(typed, diagnostics)
    if typed.signature is not None:
        check_function(checker, typed, typed.signature)
        return
    if typed.probe.predicate is not None:
        checker.check_condition(typed.probe.predicate, checker.infer(typed.probe.predicate))
    checker.check_discarded(typed.probe.body)
    for binding in typed.bindings.values():
        if not binding.assigned and not binding.loop:
            diagnostics.warning(
                "warn.name.unassigned", f"Variable {binding.label} was never assigned to.", binding.span
            )


def forget_decisions(maps: dict[str, MapInfo]) -> None:
    """Let the next round see the first use of a map as the first again, so that messages point at later
    ones."""
    for info in maps.values():
        info.before, info.scalar, info.decided = info.scalar, None, None


def snapshot(probes: list[TypedProbe], maps: dict[str, MapInfo]) -> object:
    """What inference has found out so far."""
    variables: list[tuple[Node, Type]] = []
    for typed in probes:
        variables += [(node, binding.type) for node, binding in typed.bindings.items()]
    return variables, [(m.name, m.key, m.value, m.assigned, m.scalar) for m in maps.values()]


def check_maps(maps: dict[str, MapInfo], context: Context) -> None:
    """What can only be said of a map when the whole program was seen."""
    for info in maps.values():
        if info.declaration is not None:
            check_declared(info, info.declaration, context)
        if info.value == NONE and info.assigned and not context.diagnostics.errors:
            context.diagnostics.error("err.name.map", f"The type of {info.label} cannot be determined", info.first)


def check_declared(info: MapInfo, declared: MapDeclaration, context: Context) -> None:
    """Whether a declared map is used, and for what its kind can hold."""
    if not info.assigned and info.first == declared.span and not context.diagnostics.errors:
        context.diagnostics.warning("warn.name.map-unused", f"Unused map: {info.label}", declared.span)
    per_cpu = MAP_KINDS.get(declared.kind)
    if per_cpu is not None and info.value != NONE and per_cpu != isinstance(info.value, Aggregate):
        fitting = "hash" if per_cpu else "percpuhash"
        context.diagnostics.error(
            "err.type.mapkind",
            f"Incompatible map types. Type from declaration: {declared.kind}. Type from value/key type: {fitting}",
            declared.span,
        )
