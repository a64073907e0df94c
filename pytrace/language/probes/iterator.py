"""Kernel iterators, which walk over the kernel's objects: `iter`."""

from __future__ import annotations

from collections.abc import Iterator

from pytrace.grammar.attaching import IterAttach
from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.diagnostics import did_you_mean
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.host import Host
from pytrace.grammar.spec import Sink, Target, feature
from pytrace.grammar.types import Member, Pointer, Space, Struct
from pytrace.language.probes.common import Place, Probe, compose, is_wildcard

# those that walk one map, which they must be told (kernel/bpf/map_iter.c, net/core/)
OF_ONE_MAP = ("bpf_map_elem", "bpf_sk_storage_map", "sockmap")
OF_TASKS = ("task", "task_file", "task_vma")

META = "meta"


@feature
class Iter(Probe):
    """Every object of a kind that the kernel has, once, at the start: `iter:NAME` or `iter:NAME:PIN`.

    `-l 'iter:*'` lists the names: `task` (threads), `task_file` (open files), `task_vma` (mappings), `bpf_map`,
    `tcp`, `unix` and more. `ctx.NAME` are the objects, `-lv iter:NAME` shows them. No other attached probe may be in
    the script. `-p` and `-c` limit the first three to a process.

    With a PIN, a path relative to /sys/fs/bpf, nothing is printed: each reader of that file gets a walk of its own.

    bt> iter:task { printf("%-7d %s\\n", ctx.task.pid, ctx.task.comm); }

    BPF_TRACE_ITER (Linux 5.8), Documentation/bpf/bpf_iterators.rst. At the end the kernel calls the program once
    more without an object (kernel/bpf/task_iter.c, task_seq_stop); the block does not run for that.
    """

    name = "iter"
    aliases = ("it",)
    arity = (1, 2)
    reverse = True
    alone = True
    has_result = False  # 1 would make the kernel come again with the same object (kernel/bpf/bpf_iter.c)
    wild = "kernel"

    def expand(self, place: Place) -> Iterator[Target]:
        iterator, pin = (*place.parts, "")[:2]
        if self._refuse(place, iterator, pin):
            return
        struct = context_of(place.host, iterator)
        if struct is None:
            hints = did_you_mean(iterator, place.host.iterators()) or (f"List them with -l '{self.name}:*'.",)
            place.lacking("err.ap.iter", f"{self.name} {iterator} is not available for your kernel.", hints)
            return
        if not place.host.has("iter"):
            place.lacking("rt.feature.missing", "iter probes are not available: this kernel refuses their programs.")
            return
        if (place.context.pid is not None or place.context.child) and iterator not in OF_TASKS:
            place.warning("err.ap.iter", f"-p and -c do not limit {self.name}:{iterator}: it walks over everything.")
        name = compose(self.name, iterator, pin)
        yield Target(
            self,
            name,
            IterAttach(name, iterator, pin),
            section=f"iter/{iterator}",
            space=Space.KERNEL,
            data=tuple(place.host.members(struct)),
            path=struct.name,
            sink=Sink.TEXT if pin else Sink.RECORDS,
        )

    def _refuse(self, place: Place, iterator: str, pin: str) -> bool:
        """Report what is wrong with an attach point whatever the kernel has."""
        if is_wildcard(iterator) or is_wildcard(pin):
            hint = f"List what there is with -l '{self.name}:*'."
            place.error("err.ap.iter", f"{self.name} does not allow wildcards: it walks one kind of object.", (hint,))
        elif len(place.parts) == 2 and not pin:
            place.error("err.ap.iter", f"{self.name}:{iterator}: has an empty pin: leave out the colon or name a file.")
        elif not place.host.has("btf"):
            place.lacking("err.ap.btf", f"No BTF found for {self.name}:{iterator}.")
        elif iterator in OF_ONE_MAP:
            hint = "bpftool map dump shows the elements of a map."
            message = f"{self.name}:{iterator} walks over one BPF map, and a script has no way to name one of others."
            place.error("err.ap.iter", message, (hint,))
        else:
            return False
        return True

    def context_struct(self, target: Target) -> str:
        return target.path

    def context_member(self, emit: Emit, target: Target, member: Member) -> Value | None:
        if member.name == META or not isinstance(member.type, Pointer):
            return None
        return emit.context_object(member.offset, member.type)

    def enter(self, emit: Emit, target: Target) -> None:
        for member in target.data:
            if member.name != META and isinstance(member.type, Pointer):
                emit.require_object(member.offset)

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        return filter(matcher(pattern), host.iterators())

    def describe(self, found: str, host: Host) -> Iterator[str]:
        struct = context_of(host, found)
        for member in host.members(struct) if struct else ():
            if member.name != META:
                yield member.text or f"{member.type} {member.name}"


def context_of(host: Host, iterator: str) -> Struct | None:
    """The struct that `ctx` points to in an iterator's program."""
    found = host.find_type(f"bpf_iter__{iterator}", "struct")
    if found is None and iterator in host.iterators():  # of a module, whose types have been read now
        found = host.find_type(f"bpf_iter__{iterator}", "struct")
    return found if isinstance(found, Struct) else None
