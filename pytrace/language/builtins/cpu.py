"""Where the program runs: CPU, NUMA node, user or kernel mode. And a random number."""

from __future__ import annotations

import os

from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.spec import Builtin, CallSite, feature
from pytrace.grammar.types import UINT8, UINT64, Type
from pytrace.language.probes.common import register


@feature
class Cpu(Builtin):
    """The number of the CPU that this runs on; a uint64.

    bt> profile:hz:99 { @[cpu] = count(); }

    Source: bpf_get_smp_processor_id (bpf-helpers(7)).
    """

    name = "cpu"
    steady = True
    returns = UINT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.helper("get_smp_processor_id")


@feature
class Ncpus(Builtin):
    """The number of possible CPUs; a uint64.

    bt> begin { print(ncpus); }

    Source: /sys/devices/system/cpu/possible, read when the programs are loaded.
    """

    name = "ncpus"
    returns = UINT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.global_word("cpus")


@feature
class Numaid(Builtin):
    """The NUMA node of the CPU that this runs on; a uint64.

    bt> profile:hz:99 { @[numaid] = count(); }

    Source: bpf_get_numa_node_id (bpf-helpers(7)).
    """

    name = "numaid"
    returns = UINT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.helper("get_numa_node_id")


@feature
class Rand(Builtin):
    """A pseudo-random number of 32 bits; a uint64.

    bt> interval:s:1 { print(rand % 6 + 1); }

    Source: bpf_get_prandom_u32 (bpf-helpers(7)).
    """

    name = "rand"
    returns = UINT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.helper("get_prandom_u32")


@feature
class Usermode(Builtin):
    """1 when the CPU was in user mode, 0 when it was in the kernel; a uint8. x86-64 only.

    Where the probe type says it already it is a constant: 1 in begin, end and self, 0 in probes of the
    kernel's own code.

    bt> profile:hz:99 { @[usermode] = count(); }

    Source: the low two bits of the saved `cs`, the privilege level (Intel SDM volume 3, 5.5); struct pt_regs.
    """

    name = "usermode"
    returns = UINT8
    reads_context = True

    def type(self, site: CallSite) -> Type:
        if os.uname().machine != "x86_64":
            site.error("err.feature", "'usermode' builtin is only supported on x86_64")
        return UINT8

    def fold(self, site: CallSite) -> int | None:
        if site.target.type.has_registers:
            return None
        return int(site.target.type.name in ("begin", "end", "self"))

    def emit(self, emit: Emit, site: CallSite) -> Value:
        level = emit.arith("&", register(emit, "cs"), emit.integer(3))
        return emit.convert(emit.compare("==", level, emit.integer(3)), UINT8)
