"""Static tracepoints of the kernel, by the arguments the kernel passes: `rawtracepoint`."""

from __future__ import annotations

from collections.abc import Iterator

from pytrace.grammar.attaching import RawTracepointAttach
from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.host import Host, HostError, Prototype
from pytrace.grammar.spec import Target, feature
from pytrace.grammar.types import Int, Member, Space
from pytrace.language.probes.common import (
    Place,
    Probe,
    is_wildcard,
    placed,
    plural,
    similar,
    slot_value,
    slots_of,
)


@feature
class RawTracepoint(Probe):
    """A static tracepoint of the kernel with the arguments that the kernel's code passes, which is cheaper
    than `tracepoint`: `rawtracepoint:EVENT` or `rawtracepoint:MODULE:EVENT`, with `*` in both.

    `args.NAME` are the arguments by the kernel's BTF; `argN` is the Nth of them as an integer. All pointers
    are the kernel's. `-lv rawtracepoint:*:EVENT` shows the arguments.

    bt> rawtracepoint:sched_switch { @[args.prev.comm] = count(); } interval:1s { exit(); }

    BPF_PROG_TYPE_RAW_TRACEPOINT: the context is an array of u64 (include/uapi/linux/bpf.h, struct
    bpf_raw_tracepoint_args); the kernel refuses to attach a program that reads beyond the last argument.
    """

    name = "rawtracepoint"
    aliases = ("rt",)
    arity = (1, 2)
    has_argn = True
    filtered = True
    wild = "kernel"

    def expand(self, place: Place) -> Iterator[Target]:
        module, event = place.parts if len(place.parts) == 2 else ("*", place.parts[0])
        shown = event if module == "*" else f"{module}:{event}"
        if not place.host.has("btf"):
            without = (f"Use tracepoint:CATEGORY:{event}, which does without.",)
            place.lacking("err.ap.btf", f"No BTF found for {shown}.", without)
            return
        if is_wildcard(event):
            found = self._wildcard(place, module, event)
        else:
            prototype = place.host.raw_tracepoint(event)
            found = [prototype] if prototype and matcher(module)(prototype.module) else []
        if found:
            yield from map(self._target, found)
            return
        hints = () if is_wildcard(event) else similar(event, (n for _, n in place.host.raw_tracepoints()))
        if is_wildcard(module) or is_wildcard(event):
            place.vanished(shown, hints)
        else:
            place.missing(shown, hints)

    def _wildcard(self, place: Place, module: str, event: str) -> list[Prototype]:
        in_module, is_event = matcher(module), matcher(event)
        names = [n for m, n in place.host.raw_tracepoints() if in_module(m) and is_event(n)]
        return [p for p in map(place.host.raw_tracepoint, names) if p]

    def _target(self, prototype: Prototype) -> Target:
        name = f"{self.name}:{prototype.module}:{prototype.name}"
        return Target(
            self,
            name,
            RawTracepointAttach(name, prototype.name),
            section="raw_tp",
            space=Space.KERNEL,
            arguments=tuple(placed(m, Space.KERNEL) for m in prototype.parameters),
            data=prototype,
        )

    def argument(self, emit: Emit, target: Target, index: int) -> Value:
        return emit.context_word(8 * index, Int(8, space=Space.KERNEL))

    def member(self, emit: Emit, target: Target, member: Member) -> Value:
        return slot_value(emit, member.offset, member.type)

    def refuse(self, target: Target, word: str, index: int = 0) -> str | None:
        count = slots_of(target.data)
        if word == "argN" and index >= count:
            return f"{target.name} has no arg{index}: it has {plural(count, 'argument')}"
        return None

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        if not host.has("btf"):
            raise HostError("rawtracepoint probes are not available: this kernel has no BTF. Use tracepoint probes.")
        if not is_wildcard(pattern):  # of one event the long list need not be read
            module, _, name = pattern.rpartition(":")
            event = host.raw_tracepoint(name)
            return iter([f"{event.module}:{name}"] if event and module in ("", event.module) else [])
        match = matcher(pattern if ":" in pattern else f"*:{pattern}")
        return (name for name in (f"{m}:{e}" for m, e in host.raw_tracepoints()) if match(name))

    def describe(self, found: str, host: Host) -> Iterator[str]:
        prototype = host.raw_tracepoint(found.partition(":")[2])
        for member in prototype.parameters if prototype else ():
            yield member.text or f"{member.type} {member.name}"
