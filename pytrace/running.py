"""`pytrace FILE` and `pytrace -e PROGRAM`: one run of a program, from its text to the last map."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING

from pytrace.arguments import Arguments, UsageError
from pytrace.messages import FAILED, NOT_RUNNING, Messages, interrupted_quietly, report
from pytrace.options import Options
from pytrace.printer import STDOUT, JsonPrinter, Stream, TextPrinter, WriteError, make_printer

if TYPE_CHECKING:
    from pytrace.api import Trace

NOTIFY = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"  # for test harnesses: say on stdout when probes are attached
BROKEN_PIPE = 128 + signal.SIGPIPE  # what a shell reports of a program that SIGPIPE has ended
DASHES = "-" * 40
STAGE_HEADERS = {
    "ast": "AST after: parser",
    "types": "Types",
    "plan": "Plan",
    "codegen": "LLVM IR before optimization",
    "codegen-opt": "LLVM IR after optimization",
    "asm": "BPF assembly",
}

MakeTrace = Callable[[str, str, Options], "Trace"]


def options_of(arguments: Arguments) -> Options:
    """What the command line says about compiling and running."""
    return Options(
        parameters=arguments.parameters,
        named=arguments.named,
        pid=arguments.pid,
        command=arguments.command,
        unsafe=arguments.unsafe,
        warnings=arguments.warnings,
        helper_errors=arguments.helper_errors,
        dry_run=arguments.dry_run,
        include_dirs=arguments.include_dirs,
        include=arguments.include,
        stages=arguments.stages,
        verbose=arguments.verbose,
        strict=arguments.strict,
        values=False,
        traceable=arguments.traceable,
    )


def _new_trace(text: str, name: str, options: Options) -> Trace:
    from pytrace.api import Trace

    return Trace(text, name, options)


class Run:
    """One run for the command line: the trace, its printer, and what signals do."""

    def __init__(self, arguments: Arguments, messages: Messages, make: MakeTrace = _new_trace) -> None:
        self._arguments = arguments
        self._messages = messages
        self._make = make
        self._trace: Trace | None = None
        self._running = False
        self._interrupted = False
        self._stages_shown = False

    def run(self, text: str, name: str) -> int:
        """Run a program; the exit status. Raises `UsageError` when the file of `-o` cannot be opened."""
        self._take_signals()
        with ExitStack() as stack:
            output = self._open_output(stack)
            try:
                return self._run(text, name, output, stack)
            except KeyboardInterrupt:
                return NOT_RUNNING
            except WriteError as error:
                if error.errno == errno.EPIPE:
                    return BROKEN_PIPE
                self._messages.error(str(error))
                return FAILED
            except Exception as error:
                self._show_stages()
                return report(error, self._messages, self._arguments.verbose, self._trace)

    def _run(self, text: str, name: str, output: int, stack: ExitStack) -> int:
        arguments = self._arguments
        trace = self._trace = self._make(text, name, options_of(arguments))
        # results are shown; what is left is the kernel's affair, and nobody must wait for it
        stack.callback(trace.close, wait=False)
        if "libbpf" in arguments.stages:
            from pytrace.runtime import libbpf

            stack.enter_context(libbpf.listen(_show_libbpf, libbpf.DEBUG))
        trace.__enter__()
        gc.freeze()
        gc.enable()
        if arguments.warnings:
            self._messages.diagnostics(trace.warnings)
        self._show_stages()
        if not trace.plan.programs:
            if not arguments.quiet:
                Stream(STDOUT, "none").write("No probes to attach\n")
            return FAILED
        printer = make_printer(arguments.format, output, arguments.buffering, arguments.quiet, arguments.warnings)
        return self._show(trace, printer)

    def _show(self, trace: Trace, printer: TextPrinter | JsonPrinter) -> int:
        """Show all outputs; the exit status."""
        for shown in trace.outputs():
            if not self._running:
                self._running = True
                if self._interrupted:  # the exception was lost in a callback from C
                    return NOT_RUNNING
                if not self._attached(trace):
                    return FAILED
            printer.show(shown)
            if not trace.pending:
                printer.settle()
        printer.close()
        status = trace.exit_code
        if self._arguments.strict and not status and trace.losses:
            return FAILED
        return status

    def _attached(self, trace: Trace) -> bool:
        """All probes are attached that can be: say which cannot. False when there is none left."""
        failures = trace.tracer.failures
        if trace.plan.config.missing_probes == "warn" and self._arguments.warnings:
            for failure in failures:
                self._messages.warning(f"Unable to attach probe: {failure.name}. Skipping. {failure.reason}")
        if failures and not trace.probe_count:
            self._messages.error("Attachment failed for all probes.")
            return False
        if self._arguments.verbose:
            names = [place.name for program in trace.plan.programs for place in program.attach]
            self._messages.write("".join(f"Attached {name}\n" for name in names))
        if os.environ.get(NOTIFY):
            Stream(STDOUT, "none").write(f"{NOTIFY}\n")
        return True

    # ---- output file, stages

    def _open_output(self, stack: ExitStack) -> int:
        """The descriptor for the program's output."""
        path = self._arguments.output
        if path is None:
            return STDOUT
        name = path.encode("utf-8", "surrogateescape")
        try:
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            reason = f'ERROR: Failed to open output file: "{path}": {error.strerror}'
            raise UsageError(reason) from error
        stack.callback(os.close, descriptor)
        return descriptor

    def _show_stages(self) -> None:
        """What `-d` asks for, as far as the compiler got."""
        compilation = getattr(self._trace, "compilation", None)
        wanted = self._arguments.stages
        if compilation is None or self._stages_shown:
            return
        self._stages_shown = True
        out = Stream(STDOUT, "full")
        for stage, header in STAGE_HEADERS.items():
            if stage in wanted and stage in compilation.stages:
                text = titled(header, compilation.stages[stage])
                if stage == "ast":
                    self._messages.write(text)
                else:
                    out.write(text)
        tracer = getattr(self._trace, "tracer", None)
        for program, log in tracer.verifier_logs.items() if tracer and "verifier" in wanted else ():
            out.write(titled(f"BPF verifier log for {program}:", log))
        out.flush()

    # ---- signals

    def _take_signals(self) -> None:
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        sys.unraisablehook = interrupted_quietly

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Before the program runs: give up. While it runs: the orderly end; again: no more draining."""
        if self._running and self._trace is not None:
            self._trace.stop()
            return
        self._interrupted = True
        raise KeyboardInterrupt


def titled(header: str, text: str) -> str:
    """One stage of `-d`."""
    return f"{header}\n{DASHES}\n{text.rstrip()}\n\n"


def _show_libbpf(level: int, text: str) -> None:
    """One message of libbpf, for `-d libbpf`."""
    name = ("WARN", "INFO", "DEBUG")[level] if 0 <= level <= 2 else str(level)
    stream = Stream(STDOUT, "full")
    for line in text.splitlines():
        stream.write(f"[{name}] {line}\n")
    stream.flush()
