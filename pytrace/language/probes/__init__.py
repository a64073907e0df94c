"""The types of probe, one class each."""

from pytrace.language.probes import (
    iterator,
    kprobe,
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
    "iterator", "kprobe", "perf", "rawtracepoint", "special", "timed", "tracepoint", "trampoline", "uprobe", "usdt",
]  # fmt: skip
