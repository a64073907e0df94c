"""The types of probe, one class each."""

from pytrace.language.probes import (
    iterator,
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
    watchpoint,
)

__all__ = [
    "iterator", "kprobe", "packet", "perf", "rawtracepoint", "special", "timed", "tracepoint", "trampoline", "uprobe",
    "usdt", "watchpoint",
]  # fmt: skip
