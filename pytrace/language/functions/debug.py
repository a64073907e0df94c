"""Messages to the kernel's own trace (reference part 2, section 2.1)."""

from __future__ import annotations

from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import NONE, Bool, Int, Pointer, String, Type
from pytrace.language import kernelprintf
from pytrace.language.printf import parse, problem

MOST_VALUES = 3
NUMBERS = ("d", "u", "x", "p")


@feature
class Debugf(Function):
    """Write a line to the kernel's trace, which `cat /sys/kernel/tracing/trace_pipe` shows.

    The kernel makes the text: `%d %u %x %p` of integers and `%s` of strings, at most three of them.

    bt> tracepoint:syscalls:sys_enter_openat /pid == 1/ { debugf("%s opens a file", comm); }

    Source: bpf_trace_printk (bpf-helpers(7)).
    """

    name = "debugf"
    parameters = (Param("format", ("string",), literal=True), Param("values", rest=True))

    def type(self, site: CallSite) -> Type:
        name = self.name
        message = f"The {name}() builtin is not recommended for production use."
        site.warning("fn.debugf", f"{message} For more information see bpf_trace_printk in bpf-helpers(7).")
        parsed, kinds = parse(site.text(0)), site.types[1:]
        mismatch = problem(parsed, kinds)
        if mismatch is not None:
            at = None if mismatch.index is None else mismatch.index + 1
            site.error("fmt.check", mismatch.message, at, mismatch.hints)
            return NONE
        for index, (specifier, kind) in enumerate(zip(parsed.specifiers, kinds, strict=True), 1):
            number = isinstance(kind, (Int, Bool, Pointer)) and specifier.conversion in NUMBERS
            if not number and not (isinstance(kind, String) and specifier.conversion == "s") and kind != NONE:
                site.error("fn.debugf", f"Invalid format specifier for `{name}`: {specifier.conversion}", index)
                return NONE
        if NONE not in kinds and len(kernelprintf.pieces(parsed, kinds).words) > MOST_VALUES:
            site.error("fn.debugf", f"cannot use more than {MOST_VALUES} conversion specifiers")
        return NONE

    def emit(self, emit: Emit, site: CallSite) -> Value | None:
        values = [emit.value(argument) for argument in site.arguments[1:]]
        template, words = kernelprintf.arguments(emit, parse(site.text(0)), values)
        emit.helper("trace_printk", template, emit.integer(template.size), *words)
        return None
