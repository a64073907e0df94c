"""The types of probe, one class each."""

from pytrace.language.probes import (
    kprobe,
    packet,
    perf,
    rawtracepoint,
    special,
    timed,
    tracepoint,
    trampoline,
    uprobe,
    usdt,
)

__all__ = [
    "kprobe", "packet", "perf", "rawtracepoint", "special", "timed", "tracepoint", "trampoline", "uprobe", "usdt",
]  # fmt: skip
