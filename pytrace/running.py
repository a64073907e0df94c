"""`pytrace FILE` and `pytrace -e PROGRAM`: one run of a program, from its text to the last map."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

from pytrace.arguments import Arguments
from pytrace.messages import FAILED, NOT_RUNNING, Messages, interrupted_quietly, report
from pytrace.options import Options
from pytrace.printer import STDOUT, JsonPrinter, TextPrinter, make_printer
from pytrace.source_text import ProgramText, say

if TYPE_CHECKING:
    from pytrace.api import Trace

NOTIFY = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"  # for test harnesses: print this line once probes are attached
BROKEN_PIPE = 128 + signal.SIGPIPE  # what a shell reports of a program that SIGPIPE has ended
DASHES = "-" * 40
_HEADERS = {
    "ast": "AST after: parser",
    "types": "Types",
    "plan": "Plan",
    "codegen": "LLVM IR before optimization",
    "codegen-opt": "LLVM IR after optimization",
    "asm": "BPF assembly",
}


class Interrupted(BaseException):
    """A signal came before the program was running."""


class Run:
    """One run for the command line: the trace, its printer, and what signals do."""

    def __init__(self, arguments: Arguments, messages: Messages) -> None:
        self._arguments = arguments
        self._messages = messages
        self._trace: Trace | None = None
        self._running = False
        self._interrupted = False

    def run(self, program: ProgramText) -> int:
        """Do it all; returns the exit status."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        sys.unraisablehook = interrupted_quietly
        try:
            with self._output() as descriptor:
                return self._trace_program(program, descriptor)
        except (Interrupted, KeyboardInterrupt):
            return NOT_RUNNING

    # ---- signals
