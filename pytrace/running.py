"""`pytrace FILE` and `pytrace -e PROGRAM`: one run of a program, from its text to the last map."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType

from pytrace.arguments import Arguments, UsageError
from pytrace.grammar.attaching import SIGUSR1
from pytrace.grammar.hints import TYPE_CHECKING
from pytrace.grammar.lines import LINES
from pytrace.messages import COLOR_VARIABLE, FAILED, NOT_RUNNING, Messages, interrupted_quietly, report
from pytrace.options import Options
from pytrace.printer import STDOUT, JsonPrinter, Stream, TextPrinter, WriteError, make_printer

if TYPE_CHECKING:
    from pytrace.api import Trace
    from pytrace.compilation import Compilation

NOTIFY = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"  # for test harnesses: say on stdout when probes are attached
BROKEN_PIPE = 128 + signal.SIGPIPE  # what a shell reports of a program that SIGPIPE has ended
FOR_SHELLS = frozenset("\"'|<>;&`")  # characters of a command that mean nothing without a shell
NO_SHELL = (
    "The command of -c is split at spaces and run without a shell, so quotes, pipes and the like are plain text in it. "
    "Put it into a script and run that."
)
DASHES = "-" * 40
IDLE_MODES = {"test": "test", "bench": "benchmark"}  # mode -> what its probes are called
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
        dwarf_pids=arguments.dwarf_pids,
        unsafe=arguments.unsafe,
        warnings=arguments.warnings,
        helper_errors=arguments.helper_errors,
        dry_run=arguments.dry_run,
        include_dirs=arguments.include_dirs,
        include=arguments.include,
        debug_folders=arguments.debug_folders,
        stages=arguments.stages | ({"codegen", "codegen-opt"} if arguments.emit_llvm else frozenset()),
        verbose=arguments.verbose,
        strict=arguments.strict,
        cache=arguments.cache,
        values=False,
        mode=arguments.mode if arguments.mode in ("test", "bench") else "",
        probe_filter=arguments.probe_filter,
        without=tuple(sorted(arguments.without)),
        color=os.environ.get(COLOR_VARIABLE) != "never",
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
        self._compilation: Compilation | None = None

    def run(self, text: str, name: str) -> int:
        """Run a program; the exit status. Raises `UsageError` when the file of `-o` cannot be opened."""
        self._take_signals()
        with ExitStack() as stack:
            output = self._open_output(stack)
            try:
                return self._run(text, name, output, stack)
            except KeyboardInterrupt:
                return NOT_RUNNING
            except UsageError:
                raise
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
        if arguments.mode in ("codegen", "compiler-bench"):
            return self._compile(text, name, output)
        if arguments.warnings and FOR_SHELLS & set(arguments.command or ""):
            self._messages.warning(NO_SHELL)
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
        if not trace.plan.programs and not trace.options.mode:
            return self._nothing_to_run(trace)
        if not trace.options.mode:
            trace.finish_lines(arguments.format)
        printer = make_printer(arguments.format, output, arguments.buffering, arguments.quiet, arguments.warnings)
        return self._show(trace, printer)

    def _nothing_to_run(self, trace: Trace) -> int:
        """Say why nothing can happen; the exit status."""
        for mode, what in IDLE_MODES.items():
            if mode in trace.compilation.idle_modes:
                self._messages.error(f"No probes attached; use --{mode} to run {what} probes.")
                return FAILED
        if not self._arguments.quiet:
            Stream(STDOUT, "none").write("No probes to attach\n")
        return FAILED

    def _compile(self, text: str, name: str, output: int) -> int:
        """The modes that only compile; the exit status."""
        from pytrace.compilation import compile_text

        options = options_of(self._arguments)
        if self._arguments.mode == "codegen":
            self._compilation = compile_text(text, name, options)
            if self._arguments.warnings:
                self._messages.diagnostics(self._compilation.warnings)
            self._show_stages()
            return 0
        from pytrace.testmode import compiler_bench

        out = Stream(output, "full")
        for line in compiler_bench(lambda lap: compile_text(text, name, options, lap=lap), time.perf_counter_ns):
            out.write(f"{line}\n")
        out.flush()
        return 0

    def _show(self, trace: Trace, printer: TextPrinter | JsonPrinter) -> int:
        """Show all outputs; the exit status."""
        with ExitStack() as stack:
            if trace.plan.on_demand(SIGUSR1):
                from pytrace.usersignal import Deliveries

                stack.enter_context(Deliveries(signal.SIGUSR1, trace.user_signal))
            if not self._show_outputs(trace, printer):
                return NOT_RUNNING if self._interrupted else FAILED
        printer.close()
        status = trace.exit_code
        if self._arguments.strict and not status and trace.losses:
            return FAILED
        return status

    def _show_outputs(self, trace: Trace, printer: TextPrinter | JsonPrinter) -> bool:
        """Show them; whether there was something to run."""
        for shown in trace.outputs():
            if not self._running:
                self._running = True
                # an interrupt's exception may be lost in a callback from C
                if self._interrupted or not self._attached(trace):
                    return False
            if shown.kind == "maps_follow":
                gc.disable()  # what is left makes many objects and no garbage
            if shown.kind == LINES:
                printer.show_ready(shown.data)
            else:
                printer.show(shown)
            if not trace.pending:
                printer.settle()
        return True

    def _attached(self, trace: Trace) -> bool:
        """All probes are attached that can be: say which cannot. False when there is none left."""
        failures = trace.tracer.failures
        if trace.plan.config.missing_probes == "warn" and self._arguments.warnings:
            for failure in failures:
                self._messages.warning(f"Unable to attach probe: {failure.name}. Skipping. {failure.reason}")
        for failure in trace.tracer.partial if self._arguments.warnings else ():
            self._messages.warning(f"{failure.name} is attached to a part only of what it is for. {failure.reason}")
        if failures and not trace.probe_count:
            self._messages.error("Attachment failed for all probes.")
            return False
        if self._arguments.verbose and not trace.options.mode:
            names = [place.name for program in trace.plan.programs for place in program.attach]
            notes = {name: f" ({note})" for name, note in trace.tracer.notes.items()}
            self._messages.write("".join(f"Attached {name}{notes.get(name, '')}\n" for name in names))
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
        compilation = self._compilation or getattr(self._trace, "compilation", None)
        wanted = self._arguments.stages
        if compilation is None or self._stages_shown:
            return
        self._stages_shown = True
        self._write_files(compilation)
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

    def _write_files(self, compilation: Compilation) -> None:
        """What `--emit-elf` and `--emit-llvm` ask for. Raises `UsageError`."""
        path, base = self._arguments.emit_elf, self._arguments.emit_llvm
        files = {path: compilation.elf} if path is not None else {}
        if base is not None:
            files[f"{base}.original.ll"] = compilation.stages["codegen"].encode()
            files[f"{base}.optimized.ll"] = compilation.stages["codegen-opt"].encode()
        for name, data in files.items():
            try:
                with open(name.encode("utf-8", "surrogateescape"), "wb") as file:
                    file.write(data)
            except OSError as error:
                raise UsageError(f'ERROR: Failed to write file: "{name}": {error.strerror}') from error

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
