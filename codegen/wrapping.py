"""Programs around programs: a block's code as a function of its own, and what decides whether to call it."""

from __future__ import annotations

from llvmlite import ir

from pytrace.codegen.frame import I8, I64, PTR, Frame
from pytrace.codegen.kfuncs import kernel_function
from pytrace.grammar.hints import Any

# kernel/trace/bpf_trace.c, Linux 6.10; a later one takes the context
IS_RETURN = "bpf_session_is_return"


def inner_function(module: ir.Module, symbol: str) -> ir.Function:
    """A function for a program to call. It is not inlined, so that its stack is its own."""
    function = ir.Function(module, ir.FunctionType(I64, [PTR]), symbol)
    function.linkage = "internal"
    function.attributes.add("noinline")
    return function


def call_inner(frame: Frame, function: ir.Function) -> None:
    """Call one; what it returns is what the program returns."""
    context = frame.builder.load(frame.context_slot_, typ=PTR)
    frame.builder.store(frame.builder.call(function, [context]), frame.result)


def call_half(frame: Frame, entry: ir.Function, back: ir.Function, parameters: int) -> None:
    """Call `entry` or `back`, as the kernel says. The result stays 0: any other at entry would make the kernel leave
    out the return (kernel/trace/fprobe.c)."""
    context = frame.builder.load(frame.context_slot_, typ=PTR)
    ask = kernel_function(frame.function.module, frame.debug, IS_RETURN, ["bool", *["void *"] * parameters])
    returns = frame.builder.call(ask, [context] * parameters)
    low = frame.builder.trunc(returns, I8)
    at_return, at_entry, done = frame.block("return"), frame.block("at_entry"), frame.block("done")
    frame.builder.cbranch(frame.builder.icmp_unsigned("!=", low, ir.Constant(I8, 0)), at_return, at_entry)
    for block, function in ((at_return, back), (at_entry, entry)):
        frame.builder.position_at_end(block)
        frame.builder.call(function, [context])
        frame.builder.branch(done)
    frame.builder.position_at_end(done)


def enter(frame: Frame, guard: Any, number: int) -> Any:
    """Leave, and count it, if a program runs on this CPU already; otherwise note that one does. `leave` takes the
    result."""
    flag = frame.call_pointer("map_lookup_elem", guard, frame.zero_key())
    busy, there, free = frame.block("busy"), frame.block("there"), frame.block("free")
    _unless_null(frame, flag, there)
    running = frame.builder.load(flag, typ=I64, align=8)
    frame.builder.cbranch(frame.builder.icmp_unsigned("!=", running, ir.Constant(I64, 0)), busy, free)
    frame.builder.position_at_end(busy)
    key = frame.alloca(ir.IntType(32), 4)
    frame.builder.store(frame.i32(number + 1), key)
    counter = frame.call_pointer("map_lookup_elem", guard, key)
    count = frame.block("missed")
    _unless_null(frame, counter, count)
    before = frame.builder.load(counter, typ=I64, align=8)
    frame.builder.store(frame.builder.add(before, ir.Constant(I64, 1)), counter, align=8)
    frame.builder.branch(frame.exit)
    frame.builder.position_at_end(free)
    frame.builder.store(ir.Constant(I64, 1), flag, align=8)
    return flag


def leave(frame: Frame, flag: Any) -> None:
    """The other end of `enter`."""
    frame.builder.store(ir.Constant(I64, 0), flag, align=8)


def _unless_null(frame: Frame, pointer: Any, block: ir.Block) -> None:
    there = frame.builder.icmp_unsigned("!=", frame.builder.ptrtoint(pointer, I64), ir.Constant(I64, 0))
    frame.builder.cbranch(there, block, frame.exit)
    frame.builder.position_at_end(block)
