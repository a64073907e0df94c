"""Text → Plan and object: the compiler's passes in their order."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import field

from pytrace.grammar import analyse
from pytrace.grammar.data import dataclass
from pytrace.grammar.diagnostics import Diagnostic, Diagnostics
from pytrace.grammar.host import Host
from pytrace.grammar.plan import Plan
from pytrace.grammar.settings import effective_config
from pytrace.grammar.source import Source
from pytrace.grammar.spec import REGISTRY, Context
from pytrace.options import Options

# The parser allows trees 300 levels deep, and a pass may take several calls for each level.
RECURSION_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Compilation:
    """A compiled program: what the runtime needs, the warnings, and for `-d` the text of each stage asked for."""

    source: Source
    plan: Plan
    elf: bytes
    warnings: tuple[Diagnostic, ...]
    stages: Mapping[str, str] = field(default_factory=dict)


def compile_text(
    text: str, name: str = "stdin", options: Options | None = None, host: Host | None = None
) -> Compilation:
    """Compile a program for a machine (by default this one). Raises CompileError."""
    # features register themselves when they are imported, and the code generator loads LLVM
    import pytrace.language  # noqa: F401
    from pytrace.codegen.compiler import compile_program
    from pytrace.language.functions.options import check_options

    sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION_LIMIT))
    options = options or Options()
    source, diagnostics, stages = Source(name, text), Diagnostics(), dict[str, str]()
    program = analyse.parse(source, REGISTRY, diagnostics)
    if "ast" in options.stages:
        from pytrace.grammar.printer import print_program

        stages["ast"] = print_program(program)
    environment = {**os.environ, **dict(options.environment)}
    config = effective_config(program.config, environment, diagnostics)
    context = Context(
        host or live_host(options), config, diagnostics, options.parameters, options.pid,
        options.command is not None, options.unsafe, options.warnings, options.helper_errors, options.named,
    )  # fmt: skip
    typed = analyse.analyse(program, REGISTRY, context)
    check_options(context)
    compiled = compile_program(typed, source, REGISTRY, context, bool(options.stages))
    if options.stages:
        from pytrace.stages import describe_plan, describe_types

        stages |= {
            "types": describe_types(typed),
            "plan": describe_plan(compiled.plan),
            "codegen": compiled.ir,
            "codegen-opt": compiled.optimized,
            "asm": compiled.assembly,
        }
    return Compilation(source, compiled.plan, compiled.elf, tuple(diagnostics.warnings), stages)


def live_host(options: Options) -> Host:
    """The machine we are on."""
    from pytrace.runtime.host import LiveHost

    return LiveHost(options.include_dirs, options.include, options.unsafe, traceable=options.traceable)
