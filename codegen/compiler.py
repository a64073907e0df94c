"""Typed program → Plan and BPF object."""

from __future__ import annotations

import re

from llvmlite import ir

from pytrace.codegen import objectfile
from pytrace.codegen.debuginfo import DebugInfo
from pytrace.codegen.frame import I64, PTR, Frame
from pytrace.codegen.linking import has_linked
from pytrace.codegen.maptable import MapTable
from pytrace.codegen.stackdepth import too_deep
from pytrace.codegen.statements import StatementGenerator
from pytrace.codegen.wrapping import IS_RETURN, call_half, call_inner, enter, inner_function, leave
from pytrace.grammar.data import dataclass
from pytrace.grammar.linked import ImportedUnit
from pytrace.grammar.plan import Plan, PlanBuilder, ProgramSpec
from pytrace.grammar.sessions import Pair, pairs
from pytrace.grammar.source import Source
from pytrace.grammar.spec import Context, Registry
from pytrace.grammar.typing import TypedProbe, TypedProgram


@dataclass(frozen=True, slots=True)
class Compiled:
    """A program that is ready to run once it is linked with `units`, the files it has code from, and the stages on the
    way for `-d`."""

    plan: Plan
    elf: bytes
    sources: tuple[Source, ...]
    units: tuple[ImportedUnit, ...]
    ir: str
    optimized: str
    assembly: str


def compile_program(
    program: TypedProgram, source: Source, registry: Registry, context: Context, stages: bool = False
) -> Compiled:
    """Generate code for every probe and build the object; `stages` keeps the optimised IR and the assembly."""
    most = context.config.on_stack_limit
    made = _compile(program, source, registry, context, stages, most)
    if most and too_deep(made.elf):
        # what LLVM itself puts on the stack, to have registers free, is not known before
        return _compile(program, source, registry, context, stages, 0)
    return made


def _compile(
    program: TypedProgram, source: Source, registry: Registry, context: Context, stages: bool, on_stack: int
) -> Compiled:
    builder = ObjectBuilder(program, source, registry, context, on_stack)
    running = program.running
    sessions = pairs(running, context.host)
    guarded = any(t.type.guards(t) for typed in running for t in typed.targets)
    for number, typed in enumerate(running):
        if not any(pair.back is typed for pair in sessions):
            pair = next((pair for pair in sessions if pair.entry is typed), None)
            builder.generate(typed, number, pair, guarded)
    builder.maps.finish()
    units = program.units if has_linked(builder.module) else ()
    builder.plan.linked = bool(units)
    if not any(imported.unit.license for imported in units):
        license_text(builder.module, builder.debug, context.config.license)
    builder.debug.finish()
    text = str(builder.module)
    built = objectfile.build(text, stages)
    files = tuple(builder.debug.files)
    return Compiled(builder.plan.finish(), built.elf, files, units, text, built.optimized, built.assembly)


class ObjectBuilder:
    """The object while its programs are made: the LLVM module, and what grows with it."""

    def __init__(
        self, program: TypedProgram, source: Source, registry: Registry, context: Context, on_stack: int
    ) -> None:
        self.program, self.registry, self.context, self.on_stack = program, registry, context, on_stack
        self.plan = PlanBuilder(context.config)
        self.module = ir.Module(name="pytrace")
        self.module.triple = objectfile.TRIPLE
        self.module.data_layout = "e-m:e-p:64:64-i64:64-i128:128-n32:64-S128"
        self.debug = DebugInfo(self.module, source)
        self.maps = MapTable(self.module, self.debug, self.plan, program, registry)

    def generate(self, typed: TypedProbe, number: int, pair: Pair | None = None, guarded: bool = False) -> None:
        """One BPF program, which may be that of a pair of blocks. `guarded` keeps it from running inside of another."""
        target = typed.target
        symbol = f"{re.sub(r'[^A-Za-z0-9_]', '_', target.name)[:80]}_{number}"
        places = target.type.merge(tuple(t.attach for t in typed.targets))
        function = main_function(self.module, symbol, target.section)
        if pair is None and not guarded:
            self._block(function, typed, number)
        else:
            frame = self._frame(function, typed, number)
            frame.begin()
            guard = self.maps.guard(len(self.program.probes)) if guarded else None
            flag = enter(frame, guard, len(self.plan.programs)) if guarded else None
            entry = self._block(inner_function(self.module, f"{symbol}_entry"), typed, number)
            if pair is None:
                call_inner(frame, entry)
            else:
                back = self._block(inner_function(self.module, f"{symbol}_return"), pair.back, number)
                call_half(frame, entry, back, parameters_of(IS_RETURN, self.context))
                places = (pair.place,)
            if guarded:
                leave(frame, flag)
            frame.finish(target.type.return_code)
        self.plan.programs.append(ProgramSpec(symbol, target.section, places, target.type.reverse))

    def _block(self, function: ir.Function, typed: TypedProbe, number: int) -> ir.Function:
        """The code of a block, with its predicate, in a function that takes the program's context."""
        target, context = typed.target, self.context
        function.args[0].name = "ctx"
        frame = self._frame(function, typed, number)
        source = self.program.source
        generator = StatementGenerator(frame, self.maps, self.plan, context, source, self.registry, typed)
        if target.type.filtered and context.pid is not None:
            filter_process(generator)
        frame.begin()
        target.type.enter(generator, target)
        generator.program()
        frame.finish(target.type.return_code)
        return function

    def _frame(self, function: ir.Function, typed: TypedProbe, number: int) -> Frame:
        frame = Frame(function, self.debug, self.maps, typed.probe.span, number, self.on_stack)
        frame.builder.store(function.args[0], frame.context_slot_)
        return frame


def main_function(module: ir.Module, symbol: str, section: str) -> ir.Function:
    """The function that the kernel calls."""
    function = ir.Function(module, ir.FunctionType(I64, [PTR]), symbol)
    function.section = section
    function.args[0].name = "ctx"
    return function


def parameters_of(name: str, context: Context) -> int:
    """How many parameters a function of the kernel has that programs may call."""
    prototype = context.host.function_prototype(name)
    return len(prototype.parameters) if prototype else 0


def filter_process(generator: StatementGenerator) -> None:
    """Leave at once unless the current process is the one given with `-p`."""
    current = generator.current_process()
    same = generator.compare("==", current, generator.global_word("target_pid"))
    generator.when(same, lambda: None, generator.finish)


def license_text(module: ir.Module, debug: DebugInfo, text: str) -> None:
    """The license, by which the kernel decides which helpers are allowed."""
    data = bytearray(text.encode() + b"\0")
    kind = ir.ArrayType(ir.IntType(8), len(data))
    # not named `license`: LLVM refuses a global that is named like its section
    variable = ir.GlobalVariable(module, kind, "_license")
    variable.section = "license"
    variable.initializer = ir.Constant(kind, data)
    debug.text(variable)
