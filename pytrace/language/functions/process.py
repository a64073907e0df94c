"""Functions that act on the running process, or stop the run (reference part 2, section 2.5)."""

from __future__ import annotations

from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.hints import ClassVar
from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import INT64, NONE, UINT64, String, Type

# numbers as on x86-64 and arm64 (include/uapi/asm-generic/signal.h)
SIGNALS = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
    "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
    "WINCH", "POLL", "PWR", "SYS",
)  # fmt: skip
HIGHEST_SIGNAL = 64

MAY_SIGNAL = (
    "kprobe", "kretprobe", "uprobe", "uretprobe", "usdt", "tracepoint", "rawtracepoint", "profile",
    "fentry", "fexit",
)  # fmt: skip


def signal_number(name: str) -> int | None:
    """The number of a signal: `kill`, `KILL` and `SIGKILL` are the same."""
    short = name.upper().removeprefix("SIG")
    return SIGNALS.index(short) + 1 if short in SIGNALS else None


class _Signal(Function):
    """`signal` and `signal_thread`, which differ in the helper."""

    parameters = (Param("signal", ("int", "string")),)
    unsafe = True
    unsafe_text = "{name}() is unsafe. To use you need the --unsafe flag"
    helper: ClassVar[str]

    def type(self, site: CallSite) -> Type:
        probe = site.target.type.name
        if probe not in MAY_SIGNAL:
            site.error("err.call.probe", f"{self.name}() can not be used for this probetype {probe}")
        given = site.constants[0]
        range_text = "a string literal or an integer between 1 and 64 (inclusive)"
        if isinstance(given, bytes):
            text = site.text(0)
            if signal_number(text) is None:
                site.error("err.call.argtype", f"Invalid string for signal: {text}", 0)
        elif isinstance(site.types[0], String) or (given is not None and not 1 <= given <= HIGHEST_SIGNAL):
            site.error("err.call.argtype", f"{self.name}() accepts {range_text}", 0)
        return NONE

    def emit(self, emit: Emit, site: CallSite) -> Value | None:
        given = site.constants[0]
        if given is not None:
            number = signal_number(site.text(0)) if isinstance(given, bytes) else int(given)
            assert number is not None
            self._send(emit, site, emit.integer(number))
            return None
        value = emit.convert(emit.value(site.arguments[0]), INT64)
        # of unsigned numbers, 1 to 64 are those that are below 64 after taking 1 away
        good = emit.compare("<", emit.arith("-", value, emit.integer(1)), emit.integer(HIGHEST_SIGNAL))
        text = f"{self.name}() expects an integer between 1 and 64 (inclusive). Got %lld"
        emit.when(
            good,
            lambda: self._send(emit, site, value),
            lambda: emit.send("errorf", [value], (text,), site.span),
        )
        return None

    def _send(self, emit: Emit, site: CallSite, number: Value) -> None:
        got = emit.helper(self.helper, number, type=INT64)
        failed = emit.compare("!=", got, emit.integer(0))
        text = f"{self.name} call failed with error %lld"
        emit.when(failed, lambda: emit.send("warnf", [got], (text,), site.span))


@feature
class Signal(_Signal):
    """Send a signal to the running process. Needs `--unsafe`.

    The signal is a number from 1 to 64 or a name: `signal("KILL")`.

    bt> tracepoint:syscalls:sys_enter_execve /comm == "runaway"/ { signal("KILL"); }

    Source: bpf_send_signal (Linux 5.3, bpf-helpers(7)), signal(7).
    """

    name = "signal"
    helper = "send_signal"


@feature
class SignalThread(_Signal):
    """Send a signal to the running thread. Needs `--unsafe`. The argument is as in `signal`.

    bt> tracepoint:syscalls:sys_enter_execve /comm == "runaway"/ { signal_thread("USR1"); }

    Source: bpf_send_signal_thread (Linux 5.6, bpf-helpers(7)), signal(7).
    """

    name = "signal_thread"
    helper = "send_signal_thread"


@feature
class Override(Function):
    """Let the probed kernel function return this value at once, without running. kprobe only.

    The kernel allows it for functions that are marked for error injection, system calls among them.
    Needs `--unsafe`.

    bt> kprobe:__x64_sys_getuid /comm == "id"/ { override(42); }

    Source: bpf_override_return (Linux 4.16, bpf-helpers(7)), CONFIG_BPF_KPROBE_OVERRIDE.
    """

    name = "override"
    parameters = (Param("result", ("int",)),)
    unsafe = True
    unsafe_text = "{name}() is unsafe. To use you need the --unsafe flag"
    reads_context = True

    def type(self, site: CallSite) -> Type:
        if site.target.type.name != "kprobe":
            site.error("err.call.probe", "override() can only be used inside kprobes")
        return NONE

    def emit(self, emit: Emit, site: CallSite) -> Value | None:
        result = emit.convert(emit.value(site.arguments[0]), UINT64)
        emit.helper("override_return", emit.context(), result)
        return None


@feature
class Assert(Function):
    """Report an error and end the run with status 1, unless a condition holds; a macro of the library.

    bt> begin { assert(ncpus > 0, "a machine without CPUs"); }
    """

    name = "assert"
    parameters = (Param("condition", ("bool", "int", "pointer")), Param("message", ("string",)))
