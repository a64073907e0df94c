"""Messages of the command line on standard error: colours, and what each exception means to a user."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping

from pytrace.grammar.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from pytrace.api import Trace
    from pytrace.grammar.diagnostics import Diagnostic
    from pytrace.runtime.bpf_object import LoadError

# exit statuses (reference part 2, section 9.3)
FAILED, INTERNAL, NOT_RUNNING = 1, 2, 255

_RED, _YELLOW, _RESET = "\033[31m", "\033[33m", "\033[0m"
COLOR_VARIABLE = "BPFTRACE_COLOR"


class Messages:
    """Writes to standard error; `color` says whether message lines are coloured."""

    def __init__(self, color: bool = False) -> None:
        self.color = color

    def write(self, text: str) -> None:
        """Write text as it is; when nobody reads standard error any more, nothing is left to be said."""
        data = text.encode("utf-8", "surrogateescape")
        try:
            while data:
                data = data[os.write(2, data) :]
        except OSError:
            pass

    def error(self, text: str) -> None:
        """One `ERROR: …` line."""
        self._line("ERROR", text, _RED)

    def warning(self, text: str) -> None:
        """One `WARNING: …` line."""
        self._line("WARNING", text, _YELLOW)

    def hint(self, text: str) -> None:
        """One `HINT: …` line."""
        self.write(f"HINT: {text}\n")

    def diagnostics(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Messages of the compiler."""
        self.write("".join(diagnostic.render(self.color) for diagnostic in diagnostics))

    def _line(self, word: str, text: str, color: str) -> None:
        line = f"{word}: {text}"
        self.write(f"{color}{line}{_RESET}\n" if self.color else f"{line}\n")


def make_messages(environment: Mapping[str, str]) -> Messages:
    """Messages with or without colours: by default with, if a person reads both streams on a terminal."""
    choice = environment.get(COLOR_VARIABLE, "auto")
    messages = Messages(choice == "always" or (choice != "never" and os.isatty(1) and os.isatty(2)))
    if choice not in ("auto", "always", "never"):
        messages.warning(f"{COLOR_VARIABLE}: Invalid value: valid values are auto, always, and never.")
    return messages


# ---------------------------------------------------------------- exceptions


def report(error: Exception, messages: Messages, verbose: bool, trace: Trace | None = None) -> int:
    """Say what went wrong; the exit status for it."""
    from pytrace.grammar.diagnostics import CompileError

    if isinstance(error, CompileError):
        messages.diagnostics(error.diagnostics)
        return FAILED
    return _report_run(error, messages, verbose, trace)


def _report_run(error: Exception, messages: Messages, verbose: bool, trace: Trace | None) -> int:
    """Like `report`, for what the machine refuses."""
    from pytrace.compilation import FilterError
    from pytrace.grammar.host import HostError
    from pytrace.grammar.settings import SettingError
    from pytrace.listing import ListingError
    from pytrace.runtime.attach import AttachError
    from pytrace.runtime.attach_iter import WalkError
    from pytrace.runtime.bpf_object import LoadError
    from pytrace.runtime.libbpf import LibraryMissing
    from pytrace.runtime.privileges import PrivilegeError
    from pytrace.runtime.process import ProcessError
    from pytrace.runtime.tracer import NoTargetError

    match error:
        case SettingError():
            messages.write(f"{error}\n")
            return INTERNAL
        case PrivilegeError() | ProcessError() | HostError() | LibraryMissing() | WalkError():
            messages.error(str(error))
            if hint := getattr(error, "hint", ""):
                messages.hint(hint)
            return FAILED
        case ListingError():
            messages.error(str(error))
            for hint in error.hints:
                messages.hint(hint)
            return FAILED
        case FilterError() | NoTargetError():
            messages.error(str(error))
            return NOT_RUNNING
        case LoadError():
            _report_load(error, messages, verbose, trace)
            return NOT_RUNNING
        case AttachError():
            _report_attach(error, messages)
            return NOT_RUNNING
        case _:
            return _report_internal(error, messages, verbose)


def _report_attach(error: Exception, messages: Messages) -> None:
    name, reason = getattr(error, "name", ""), getattr(error, "reason", "")
    if reason:
        messages.write(f"{reason[:1].upper()}{reason[1:]}{'' if reason.endswith('.') else '.'}\n")
    advice = "If this is expected, set the 'missing_probes' config variable to 'warn'."
    messages.error(f"Unable to attach probe: {name}. {advice}")


def _report_load(error: LoadError, messages: Messages, verbose: bool, trace: Trace | None) -> None:
    """The telling line at its place in the script; with -v the whole log."""
    if error.program and trace is not None:
        from pytrace.verifier import refusal

        messages.diagnostics([refusal(error, trace.compilation)])
    else:
        told = first_failure(error.log)
        for spec in trace.plan.maps if trace is not None else ():
            told = told.replace(f"'{spec.symbol}'", spec.name or spec.symbol)
        messages.write(f"{told}\n" if told else "")
        advice = 'Try using the "-d libbpf" option to see the full loading log.'
        messages.error(f"Unknown BPF object load failure. {advice}")
    if verbose and error.log:
        messages.write(f"\nKernel error log: \n{error.log.rstrip()}\n")
        if error.truncated:
            messages.warning(
                "Kernel log seems to be trimmed. This may be due to buffer not being big enough, try "
                f"increasing the BPFTRACE_LOG_SIZE from the current value of {len(error.log)} bytes."
            )


def first_failure(log: str) -> str:
    """The first of libbpf's messages that speaks of a failure; what follows are its consequences."""
    lines = [line.removeprefix("libbpf: ") for line in log.splitlines() if line.strip()]
    return next((line for line in lines if "fail" in line), lines[0] if lines else "")


def _report_internal(error: Exception, messages: Messages, verbose: bool) -> int:
    """Something that must not happen: one line, and with -v the traceback."""
    if verbose:
        import traceback

        messages.write("".join(traceback.format_exception(error)))
    what = f"{type(error).__name__}: {error}".replace("\n", " ")
    messages.error(f"internal error: {what}. Please report it, with the program and the output of -v.")
    return INTERNAL


def interrupted_quietly(unraisable: sys.UnraisableHookArgs) -> None:
    """For `sys.unraisablehook`: no traceback for an interrupt that came while C code was calling us back."""
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
