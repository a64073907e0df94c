"""Text → Plan and object: the compiler's passes in their order."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from pytrace.grammar.data import dataclass, field
from pytrace.grammar.hints import TYPE_CHECKING
from pytrace.grammar.plan import Plan, layouts
from pytrace.grammar.source import Source
from pytrace.grammar.types import Aggregate, Opaque
from pytrace.options import Options

if TYPE_CHECKING:
    import re

    from pytrace.codegen.compiler import Compiled
    from pytrace.grammar.diagnostics import Diagnostic, Diagnostics
    from pytrace.grammar.host import Host
    from pytrace.grammar.spec import Constant, Registry

# The parser allows trees 300 levels deep, and a pass may take several calls for each level.
RECURSION_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Compilation:
    """A compiled program: what the runtime needs, the warnings, and for `-d` the text of each stage asked for.

    `idle_modes` are the modes of a run in which probes that were left out would run. `features` are the modules of what
    handles the Plan's records and values, so that a later run need not import all. `sources` are the script and the
    files whose code is in the object. `options` are the program's own options with their defaults and descriptions.
    """

    source: Source
    plan: Plan
    elf: bytes
    warnings: tuple[Diagnostic, ...]
    stages: Mapping[str, str] = field(default_factory=dict)
    idle_modes: frozenset[str] = frozenset()
    features: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    options: Mapping[str, tuple[Constant, str]] = field(default_factory=dict)


def compile_text(
    text: str,
    name: str = "stdin",
    options: Options | None = None,
    host: Host | None = None,
    lap: Callable[[str], None] = lambda stage: None,
) -> Compilation:
    """Compile a program for a machine (by default this one). Raises CompileError, FilterError.

    `lap` is called with the name of each stage when it is done.
    """
    # Not at the top: a run of a program that is compiled already needs none of this. Features register themselves
    # when they are imported, and the code generator loads LLVM.
    import pytrace.language  # noqa: F401
    from pytrace.codegen.compiler import compile_program
    from pytrace.grammar import analyse
    from pytrace.grammar.diagnostics import Diagnostics
    from pytrace.grammar.settings import effective_config
    from pytrace.grammar.spec import REGISTRY, Context
    from pytrace.language.functions.options import check_options

    sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION_LIMIT))
    options = options or Options()
    source, diagnostics, stages = Source(name, text), Diagnostics(), dict[str, str]()
    program = analyse.parse(source, REGISTRY, diagnostics)
    lap("parser")
    if "ast" in options.stages:
        from pytrace.grammar.printer import print_program

        stages["ast"] = print_program(program)
    environment = {**os.environ, **dict(options.environment)}
    if options.aot:
        from pytrace.aot import refuse_parameters

        refuse_parameters(program, diagnostics)
    config = effective_config(program.config, environment, diagnostics)
    context = Context(
        host or live_host(options), config, diagnostics, options.parameters, options.pid,
        options.command is not None, options.unsafe, options.warnings, options.helper_errors, options.named,
        mode=options.mode, probe_filter=compile_filter(options.probe_filter), aot=options.aot,
    )  # fmt: skip
    for note in context.host.notes():
        diagnostics.warning("env.BTF", note, None)
    typed = analyse.analyse(program, REGISTRY, context)
    check_options(context)
    if options.aot:
        from pytrace.aot import refuse_unportable

        refuse_unportable(typed, diagnostics)
    lap("types")
    compiled = compile_program(typed, source, REGISTRY, context, bool(options.stages))
    elf = linked(compiled, diagnostics)
    lap("codegen")
    if options.stages:
        from pytrace.stages import describe_plan, describe_types

        stages |= {
            "types": describe_types(typed),
            "plan": describe_plan(compiled.plan),
            "codegen": compiled.ir,
            "codegen-opt": compiled.optimized,
            "asm": compiled.assembly,
        }
    idle = frozenset(mode for t in typed.probes if t.left_out for mode in t.target.type.modes if mode)
    return Compilation(
        source, compiled.plan, elf, tuple(diagnostics.warnings), stages, idle,
        feature_modules(compiled.plan, REGISTRY), compiled.sources, context.options,
    )  # fmt: skip


def linked(compiled: Compiled, diagnostics: Diagnostics) -> bytes:
    """The object with those that it imports. Raises CompileError."""
    if not compiled.units:
        return compiled.elf
    from pytrace.grammar.host import HostError
    from pytrace.runtime.linker import link  # few programs need it

    try:
        return link(compiled.elf, [imported.unit for imported in compiled.units])
    except HostError as error:
        names = ", ".join(imported.name for imported in compiled.units)
        diagnostics.error("err.import", f"Cannot link {names}: {error}", compiled.units[0].span)
        diagnostics.raise_errors()
        raise


def feature_modules(plan: Plan, registry: Registry) -> tuple[str, ...]:
    """The modules of the features that turn a Plan's records and maps into what is shown."""
    found: set[object] = {type(registry.action(action.feature)) for action in plan.actions}
    for layout in layouts(plan):
        match layout.type:
            case Aggregate() as kind:
                found.add(type(registry.aggregation(kind)))
            case Opaque(feature=name) if name in registry.kinds:
                found.add(type(registry.kind(name)))
            case _:
                pass
    return tuple(sorted({kind.__module__ for kind in found}))


class FilterError(Exception):
    """The expression of `--probe-filter` is not one; the message is meant for the user."""


def compile_filter(text: str | None) -> re.Pattern[str] | None:
    """The expression of `--probe-filter`. Raises `FilterError`."""
    if text is None:
        return None
    try:
        import re

        return re.compile(text)
    except re.error as error:
        raise FilterError(f"Invalid --probe-filter regex '{text}': {error}") from error


def live_host(options: Options) -> Host:
    """The machine we are on."""
    from pytrace.runtime.host import LiveHost

    return LiveHost(
        options.include_dirs, options.include, options.unsafe, frozenset(options.without), options.debug_folders,
        options.traceable,
    )  # fmt: skip
