"""The types of probe, one class each."""

from pytrace.language.probes import (
    kprobe,
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
    "kprobe", "perf", "rawtracepoint", "special", "timed", "tracepoint", "trampoline", "uprobe", "usdt",
    "watchpoint",
]  # fmt: skip
