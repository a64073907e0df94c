"""The kernel's types of BPF programs, and what they may call."""

from __future__ import annotations

from pytrace.grammar.spec import CallSite

# program types by libbpf's section names; those that are not here are of the type "tracing"
_TYPES = {
    "uprobe": "kprobe", "uretprobe": "kprobe", "kretprobe": "kprobe", "ksyscall": "kprobe", "usdt": "kprobe",
    "kprobe": "kprobe", "tracepoint": "tracepoint", "raw_tp": "raw_tp", "perf_event": "perf_event", "xdp": "xdp",
    "tc": "tc", "tcx": "tc",
}  # fmt: skip


def program_type(section: str) -> str:
    """The type of a program with this section name (`uprobe.multi/…`)."""
    return _TYPES.get(section.partition("/")[0].partition(".")[0], "tracing")


def may_call(site: CallSite, name: str) -> bool:
    """Whether the program of a call may call a function of the kernel."""
    return site.context.host.has(f"kfunc:{name}:{program_type(site.target.section)}")
