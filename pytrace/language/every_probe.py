"""Every type of probe, by their modules. A new one is named here, and nowhere else."""

# ruff: noqa: F401

import pytrace.language.probes.iterator
import pytrace.language.probes.kprobe
import pytrace.language.probes.packet
import pytrace.language.probes.perf
import pytrace.language.probes.rawtracepoint
import pytrace.language.probes.special
import pytrace.language.probes.timed
import pytrace.language.probes.tracepoint
import pytrace.language.probes.trampoline
import pytrace.language.probes.uprobe
import pytrace.language.probes.usdt
import pytrace.language.probes.watchpoint
