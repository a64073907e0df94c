"""Typed program → Plan and BPF object."""

from __future__ import annotations

import re

from llvmlite import ir

from pytrace.codegen import objectfile
from pytrace.codegen.debuginfo import DebugInfo
from pytrace.codegen.frame import I64, PTR, Frame
from pytrace.codegen.maptable import MapTable
from pytrace.codegen.statements import StatementGenerator
from pytrace.grammar.data import dataclass
from pytrace.grammar.plan import Plan, PlanBuilder, ProgramSpec
from pytrace.grammar.source import Source
from pytrace.grammar.spec import Context, Registry
from pytrace.grammar.typing import TypedProbe, TypedProgram


@dataclass(frozen=True, slots=True)
class Compiled:
    """A program that is ready to run, and the stages on the way for `-d`."""

    plan: Plan
    elf: bytes
    ir: str
    optimized: str
    assembly: str


def compile_program(
    program: TypedProgram, source: Source, registry: Registry, context: Context, stages: bool = False
) -> Compiled:
    """Generate code for every probe and build the object; `stages` keeps the optimised IR and the assembly."""
    plan = PlanBuilder(context.config)
    module = ir.Module(name="pytrace")
    module.triple = objectfile.TRIPLE
    module.data_layout = "e-m:e-p:64:64-i64:64-i128:128-n32:64-S128"
    debug = DebugInfo(module, source)
    maps = MapTable(module, debug, plan, program, registry)
    for number, typed in enumerate(program.running):
        generate(module, debug, maps, plan, program, typed, registry, context, number)
    maps.finish()
    debug.finish()
    license_text(module, context.config.license)
    text = str(module)
    built = objectfile.build(text, stages)
    return Compiled(plan.finish(), built.elf, text, built.optimized, built.assembly)


def generate(
    module: ir.Module,
    debug: DebugInfo,
    maps: MapTable,
    plan: PlanBuilder,
    program: TypedProgram,
    typed: TypedProbe,
    registry: Registry,
    context: Context,
    number: int,
) -> None:
    """One BPF program."""
    target = typed.target
    symbol = f"{re.sub(r'[^A-Za-z0-9_]', '_', target.name)[:80]}_{number}"
    function = ir.Function(module, ir.FunctionType(I64, [PTR]), symbol)
    function.section = target.section
    function.args[0].name = "ctx"
    frame = Frame(function, debug, maps, typed.probe.span, number, context.config.on_stack_limit)
    frame.builder.store(function.args[0], frame.context_slot_)
    generator = StatementGenerator(frame, maps, plan, context, program.source, registry, typed)
    if target.type.filtered and context.pid is not None:
        filter_process(generator)
    frame.begin()
    target.type.enter(generator, target)
    generator.program()
    frame.finish(target.type.return_code)
    places = target.type.merge(tuple(t.attach for t in typed.targets))
    plan.programs.append(ProgramSpec(symbol, target.section, places, target.type.reverse))


def filter_process(generator: StatementGenerator) -> None:
    """Leave at once unless the current process is the one given with `-p`."""
    current = generator.current_process()
    same = generator.compare("==", current, generator.global_word("target_pid"))
    generator.when(same, lambda: None, generator.finish)


def license_text(module: ir.Module, text: str) -> None:
    """The license, by which the kernel decides which helpers are allowed."""
    data = bytearray(text.encode() + b"\0")
    kind = ir.ArrayType(ir.IntType(8), len(data))
    # not named `license`: LLVM refuses a global that is named like its section
    variable = ir.GlobalVariable(module, kind, "_license")
    variable.section = "license"
    variable.initializer = ir.Constant(kind, data)
