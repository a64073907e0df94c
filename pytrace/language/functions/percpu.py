"""Per-CPU variables of the kernel (reference part 2, section 2.3)."""

from __future__ import annotations

from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.host import Host, PercpuVariable
from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import UINT32, UINT64, VOID, Pointer, Space, Struct, Type

RUNQUEUES = "runqueues"
# from a task to the run queue of one CPU: the group that it is scheduled in has a queue on each, which lies in
# that CPU's `runqueues` or knows where that is (kernel/sched/sched.h, CONFIG_FAIR_GROUP_SCHED)
TO_RUNQUEUE = (("task_struct", "sched_task_group"), ("task_group", "cfs_rq"), ("cfs_rq", "rq"))


@feature
class PercpuKaddr(Function):
    """The address of a CPU's own copy of a per-CPU variable of the kernel; a pointer to the variable's type.

    Without `cpu` it is the copy of the CPU that runs the program. For a CPU that does not exist it is null.

    bt> begin { printf("CPU %d forked %d tasks\\n", cpu, *percpu_kaddr("process_counts")); }

    Source: bpf_this_cpu_ptr, bpf_per_cpu_ptr (Linux 5.10, bpf-helpers(7)). They need the variable's symbol, so
    where the kernel has none of data (CONFIG_KALLSYMS_ALL) the place comes from BTF's section `.data..percpu`
    and from where that section is known to have the run queue.
    """

    name = "percpu_kaddr"
    parameters = (Param("name", ("string",), literal=True), Param("cpu", ("int",), optional=True))
    returns = Pointer(VOID, Space.KERNEL)

    def type(self, site: CallSite) -> Type:
        host, name = site.context.host, site.text(0)
        found = host.percpu_variable(name)
        if found is None:
            site.error("err.name.ident", f'Could not resolve variable "{name}" from BTF', 0)
            return self.returns
        if host.kernel_address(name) is None and _path(host) is None:
            message = f'No address of "{name}" is known: the kernel has no symbols of data (CONFIG_KALLSYMS_ALL)'
            site.error("err.name.ident", message, 0)
        return Pointer(found.type, Space.KERNEL)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        host, name = site.context.host, site.text(0)
        found = host.percpu_variable(name)
        assert found is not None
        cpu = emit.convert(emit.value(site.arguments[1]), UINT64) if len(site) > 1 else None
        if host.kernel_address(name) is not None:
            address = emit.percpu_address(found.number, cpu)
        else:
            address = _by_runqueue(emit, host, found, cpu)
        return Value(site.type, address.raw)


def _path(host: Host) -> tuple[int, ...] | None:
    """Offsets of the members of TO_RUNQUEUE, and of `runqueues`; None where the kernel has not all of them."""
    offsets = []
    for name, member in TO_RUNQUEUE:
        struct = host.find_type(name, "struct")
        places = {m.name: m.offset for m in host.members(struct)} if isinstance(struct, Struct) else {}
        if member not in places:
            return None
        offsets.append(places[member])
    queues = host.percpu_variable(RUNQUEUES)
    return (*offsets, queues.offset) if queues is not None else None


def _by_runqueue(emit: Emit, host: Host, variable: PercpuVariable, cpu: Value | None) -> Value:
    """The address of a CPU's variable, by its distance from that CPU's run queue; 0 if there is no such CPU."""
    path = _path(host)
    assert path is not None
    to_group, to_queues, to_runqueue, at = path
    if cpu is None:
        cpu = emit.helper("get_smp_processor_id", type=UINT32)
    group = _word(emit, emit.helper("get_current_task"), to_group)
    queues = _word(emit, group, to_queues)
    queue = _word(emit, emit.arith("+", queues, emit.arith("*", cpu, emit.integer(8))), 0)
    place = emit.arith("+", _word(emit, queue, to_runqueue), emit.integer(variable.offset - at))
    exists = emit.compare("<", cpu, emit.integer(host.cpus))
    return emit.select(exists, emit.convert(place, UINT64), emit.integer(0))


def _word(emit: Emit, base: Value, offset: int) -> Value:
    slot = emit.scratch(8)
    emit.read(slot, 8, emit.arith("+", base, emit.integer(offset)), Space.KERNEL)
    return emit.load(slot, 0, UINT64)
