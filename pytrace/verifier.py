"""What the kernel's verifier has against a program, in one line and at its place in the script."""

from __future__ import annotations

import re

from pytrace.compilation import Compilation
from pytrace.grammar.diagnostics import Diagnostic, Severity
from pytrace.grammar.source import Source, Span
from pytrace.runtime.bpf_object import LoadError
from pytrace.runtime.lineinfo import instruction_count, line_table, place_of

_INSTRUCTION = re.compile(r"^(\d+): \(")
_SOURCE = re.compile(r"^; (?P<text>.*) @ (?P<file>\S+):(?P<line>\d+)$")
# what stands around the telling line in a verifier log (kernel/bpf/verifier.c)
_NOISE = re.compile(
    r"^(?:\d+: |; |processed \d+ insns|cur state|old state|arg#\d+ reference|func#\d+|Validating|from \d+ to"
    r"|R\d+=|last_idx|regs=|mark_precise|parent |\s*$|verification time|stack depth|-- |Global function|frame\d+:)"
)
_REMEDIES = (
    (re.compile(r"infinite loop|back-edge"), "Give the loop a bound that can be seen, e.g. `for ($i : 0..100) { … }`."),
    (
        re.compile(r"sequence of \d+ jumps is too complex"),
        "A while loop is followed round by round; `for ($i : 0..10000) { … }` is not, however many rounds it has.",
    ),
    (re.compile(r"too large|too many|BPF program is too|complexity"), "Do less in one probe: fewer or shorter loops."),
    (
        re.compile(r"func \S+#195\b|map_lookup_percpu_elem"),
        "Reading an aggregation in the program needs the kernel helper bpf_map_lookup_percpu_elem, which exists "
        "since Linux 5.19; printing the map does not.",
    ),
    (
        re.compile(r"invalid func|unknown func|helper .* not allowed|program of this type cannot use helper"),
        "This kernel does not allow that here.",
    ),
    (
        re.compile(r"combined stack size|invalid (?:write|read|access) (?:to|from)? ?stack|Stack is too"),
        "Stack size is too large. Try moving some scratch variables into maps, or a lower on_stack_limit "
        "(e.g. `config = { on_stack_limit=16 }`).",
    ),
    (
        re.compile(r"R1 type=scalar expected=(?:trusted_)?ptr_"),
        "The kernel takes only what lies in an object of the probe itself, such as path(ctx.file.f_path) or "
        "path(args.file.f_path), not what a pointer in it leads to.",
    ),
    (re.compile(r"invalid bpf_context access|out of bounds.*ctx"), "There is no such argument at this probe."),
)


def refusal(error: LoadError, compilation: Compilation) -> Diagnostic:
    """The diagnostic for a program that the kernel would not load."""
    program = next((p for p in compilation.plan.programs if p.symbol == error.program), None)
    name = program.attach[0].name if program else "the program"
    words = telling_line(error.log)
    reason = f": {words}" if words else f". Error code: {-error.errno}"
    span = None
    if program is not None:
        span = place(error.log, compilation, program.symbol, program.section)
    hints = tuple(text for pattern, text in _REMEDIES if pattern.search(words))
    if text := foreign_line(error.log, compilation):
        hints = (f"It happens in imported code: {text}", *hints)
    return Diagnostic(
        Severity.ERROR,
        "diag.load",
        f"Error loading BPF program for {name}{reason}",
        span,
        hints=(*hints, "Use -v for the full kernel error log."),
    )


def telling_line(log: str) -> str:
    """The line of a verifier log that says why: the last that is not a trace of what it looked at."""
    lines = [line.strip() for line in log.splitlines()]
    told = [line for line in lines if not _NOISE.match(line)]
    return told[-1] if told else ""


def foreign_line(log: str, compilation: Compilation) -> str:
    """The line of C that the verifier looked at last, if it is not of the script (Linux 6.9 says where it is from)."""
    shown = [found for line in log.splitlines() if (found := _SOURCE.match(line))]
    if not shown or any(source.name.endswith(shown[-1]["file"]) for source in compilation.sources):
        return ""
    return f"{shown[-1]['file']}:{shown[-1]['line']}: {shown[-1]['text']}"


def place(log: str, compilation: Compilation, symbol: str, section: str) -> Span | None:
    """The place in the script of the last instruction of the program's own that the verifier looked at; if that was in
    a function which the program calls, of the call."""
    size = instruction_count(compilation.elf, symbol)
    numbers = [int(found[1]) for line in log.splitlines() if (found := _INSTRUCTION.match(line))]
    numbers = [number for number in numbers if number < size]
    if not numbers:
        return None
    where = place_of(line_table(compilation.elf, symbol, section), numbers[-1])
    if where is None:
        return None
    line, column, name = where
    source = next((s for s in compilation.sources if s.name == name), compilation.source)
    return _word_at(source, line, column)


def _word_at(source: Source, line: int, column: int) -> Span | None:
    """From a line and column to the end of the word or statement that starts there."""
    if not 1 <= line <= len(source.line_starts):
        return None
    text = source.line(line)
    first = max(column - 1, 0) if column else len(text) - len(text.lstrip())
    rest = re.match(r"[^;{}]*", text[first:])
    width = len(rest[0].rstrip()) if rest else 0
    start = source.line_starts[line - 1] + first
    return source.span(start, start + max(1, width))
