"""Clocks. A time stamp's type says which clock it is of, so that `strftime` can read it."""

from __future__ import annotations

from pytrace.grammar.diagnostics import did_you_mean
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.spec import Builtin, CallSite, Param, feature
from pytrace.grammar.types import UINT64, Int, Type

# how each clock is read: the BPF helper, without `bpf_`
CLOCKS = {
    "boot": "ktime_get_boot_ns",
    "monotonic": "ktime_get_ns",
    "tai": "ktime_get_tai_ns",
    "sw_tai": "ktime_get_boot_ns",
}


def read_clock(emit: Emit, clock: str) -> Value:
    """The time of one of `CLOCKS` in nanoseconds."""
    now = emit.helper(CLOCKS[clock])
    # what stands in for the clocks in tests (`dummy_ts_map`) is the time as it is to be
    if clock != "sw_tai" or emit.config.dummy_ts_map:
        return now
    return emit.arith("+", now, emit.global_word("tai_offset"))


@feature
class Nsecs(Builtin):
    """The time in nanoseconds since boot, sleep included (CLOCK_BOOTTIME); a uint64.

    `nsecs(monotonic)` leaves out sleep (CLOCK_MONOTONIC). `nsecs(tai)` counts atomic seconds since 1970
    (CLOCK_TAI); `nsecs(sw_tai)` is the same on kernels that lack the helper: the boot clock plus the
    difference of the two clocks at the start of the run.

    bt> tracepoint:syscalls:sys_enter_read { @start[tid] = nsecs; }
    bt> begin { print(nsecs(monotonic)); }

    Source: bpf_ktime_get_boot_ns (Linux 5.8), bpf_ktime_get_ns, bpf_ktime_get_tai_ns (6.1); clock_gettime(2).
    """

    name = "nsecs"
    parameters = (Param("clock", ("word",), optional=True, words=tuple(CLOCKS)),)
    returns = UINT64

    def type(self, site: CallSite) -> Type:
        clock = _clock(site)
        if clock not in CLOCKS:
            shown = clock if clock is not None else site.arguments[0].span.text
            hints = did_you_mean(shown, CLOCKS)
            site.error("err.call.argtype", f"Invalid timestamp mode: {shown}", 0, hints)
            return UINT64
        if clock == "tai" and not site.context.host.has("ktime_get_tai_ns"):
            site.error("err.feature", "Kernel does not support tai timestamp, please try sw_tai", 0)
        return Int(8, clock=clock)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        clock = _clock(site)
        assert clock is not None
        return emit.convert(read_clock(emit, clock), site.type)


def _clock(site: CallSite) -> str | None:
    return site.word(0) if len(site) else "boot"


@feature
class Elapsed(Builtin):
    """Nanoseconds since just before the begin probes ran; a uint64.

    bt> interval:s:1 { printf("%d s\\n", elapsed / 1000000000); }

    Source: bpf_ktime_get_boot_ns (bpf-helpers(7)) and the tracer's own start time.
    """

    name = "elapsed"
    returns = UINT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.arith("-", emit.helper("ktime_get_boot_ns"), emit.global_word("start_ns"))


@feature
class Jiffies(Builtin):
    """The kernel's count of timer ticks; a uint64.

    bt> interval:s:1 { print(jiffies); }

    Source: bpf_jiffies64 (Linux 5.6, bpf-helpers(7)).
    """

    name = "jiffies"
    returns = UINT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.helper("jiffies64")
