"""Static tracepoints of the kernel, by their record: `tracepoint`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytrace.grammar.attaching import Attach, TracepointAttach
from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.data import replace
from pytrace.grammar.hints import TYPE_CHECKING
from pytrace.grammar.host import Event, Host
from pytrace.grammar.spec import Function, Target, feature
from pytrace.grammar.types import Int, Member, Space
from pytrace.language.probes.common import Place, Probe, context_value, is_wildcard, placed, similar

if TYPE_CHECKING:
    from pytrace.grammar.emit import Emit, Value

ADDRESS = Int(8, space=Space.KERNEL)


@feature
class Tracepoint(Probe):
    """A static tracepoint of the kernel: `tracepoint:CATEGORY:EVENT`, with `*` in both.

    `args.NAME` are the fields of the event's record; `-lv tracepoint:CATEGORY:EVENT` shows them. A text
    field of varying length is read by `str(args.NAME)`. Pointers in category `syscalls` are user space's,
    all others the kernel's.

    bt> tracepoint:syscalls:sys_enter_openat { printf("%s %s\\n", comm, str(args.filename)); exit(); }

    Fields from tracefs, events/CATEGORY/EVENT/format. The program's context is the record itself; its first
    8 bytes (the `common_` fields) are not readable (kernel/trace/bpf_trace.c, tp_prog_is_valid_access).
    """

    name = "tracepoint"
    aliases = ("t",)
    arity = (1, 2)
    filtered = True
    groupable = True
    by_arguments = True
    repeats = False  # bpf_prog_array_copy() in kernel/bpf/core.c
    return_code = 1  # the record goes on to perf's own readers (kernel/trace/bpf_trace.c, trace_call_bpf)
    wild = "kernel"

    def expand(self, place: Place) -> Iterator[Target]:
        parts = place.parts
        if len(parts) == 1 and not is_wildcard(parts[0]):
            hints = (f"Write tracepoint:CATEGORY:{parts[0]}; -l 'tracepoint:*:{parts[0]}' finds it.",)
            if any(category == parts[0] for category, _ in place.host.events()):
                hints = (f"Write tracepoint:{parts[0]}:EVENT; -l 'tracepoint:{parts[0]}:*' lists the events.",)
            place.error("err.ap.arity", "tracepoint probe type requires 2 arguments, found 1", hints)
            return
        category, name = parts if len(parts) == 2 else ("*", parts[0])
        if is_wildcard(category) or is_wildcard(name):
            yield from self._wildcard(place, category, name)
            return
        event = place.host.event(category, name)
        if event is None:
            place.missing(f"{category}:{name}", self._hints(place.host, category, name))
        else:
            yield self._target(event)

    def _wildcard(self, place: Place, category: str, name: str) -> Iterator[Target]:
        in_category, is_name = matcher(category), matcher(name)
        found = False
        for one, other in place.host.events():
            if in_category(one) and is_name(other) and (event := place.host.event(one, other)):
                found = True
                yield self._target(event)
        if not found:
            place.vanished(f"{category}:{name}")

    def _target(self, event: Event) -> Target:
        name = f"{self.name}:{event.category}:{event.name}"
        space = Space.USER if event.category == "syscalls" else Space.KERNEL
        return Target(
            self,
            name,
            TracepointAttach(name, event.category, event.name),
            section="tracepoint",
            space=space,
            arguments=tuple(_typed(m, space) for m in event.fields),
        )

    def _hints(self, host: Host, category: str, name: str) -> tuple[str, ...]:
        """What may have been meant: the event in another category, a near category, a near event."""
        from pytrace.grammar.advice import unknown_event
        from pytrace.grammar.diagnostics import did_you_mean

        events = list(host.events())
        names = [n for c, n in events if c == category]
        if names:
            return unknown_event(name, names) or (f"List them with -l '{self.name}:{category}:*'.",)
        elsewhere = [f"{c}:{n}" for c, n in events if n == name]
        if elsewhere:
            return (f"Did you mean {' or '.join(map(repr, elsewhere[:3]))}?",)
        return did_you_mean(category, {c for c, _ in events}) or similar(name, [n for _, n in events])

    def numbered(self, target: Target, number: int) -> Target:
        if not isinstance(target.attach, TracepointAttach):
            return target
        return replace(target, attach=replace(target.attach, cookie=number))

    def gather(self, targets: list[Target], features: Sequence[Function] | None, host: Host) -> list[list[Target]]:
        if len(targets) < 2:
            return [targets]
        from pytrace.language.probes.systemcalls import gathered  # few programs need it

        return gathered(targets, features, host)

    def merge(self, places: tuple[Attach, ...]) -> tuple[Attach, ...]:
        if len(places) < 2:
            return places
        from pytrace.language.probes.systemcalls import joined

        return joined(places)

    def enter(self, emit: Emit, target: Target) -> None:
        if target.data is not None:
            emit.when(emit.truth(target.data.place(emit)), lambda: None, emit.finish)

    def place_number(self, emit: Emit, target: Target) -> Value:
        if target.data is None:
            return super().place_number(emit, target)
        return emit.arith("-", target.data.place(emit), emit.integer(1))

    def member(self, emit: Emit, target: Target, member: Member) -> Value:
        if target.data is not None:
            value: Value = target.data.member(emit, member)
            return value
        if not member.data_loc:
            return context_value(emit, member.offset, member.type)
        # the low half of the word is the offset in the record, of a __rel_loc field from the field's end
        # (include/trace/stages/stage4_event_cb.h)
        word = emit.context_word(member.offset, Int(4))
        offset = emit.arith("&", word, emit.integer(0xFFFF))
        if member.text.startswith("__rel_loc"):
            offset = emit.arith("+", offset, emit.integer(member.offset + 4))
        return emit.convert(emit.arith("+", emit.context(), offset), ADDRESS)

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        category, colon, name = pattern.partition(":")
        if colon and not is_wildcard(pattern):  # of one event the long list need not be read
            return iter([pattern] if host.event(category, name) else [])
        match = matcher(pattern if colon else f"*:{pattern}")
        return filter(match, [f"{c}:{e}" for c, e in host.events()])

    def describe(self, found: str, host: Host) -> Iterator[str]:
        category, _, name = found.partition(":")
        event = host.event(category, name)
        for member in event.fields if event else ():
            if not is_common(member):
                yield member.text or f"{member.type} {member.name}"


def is_common(member: Member) -> bool:
    """Whether a field belongs to the header that every record has."""
    return member.name.startswith("common_") and member.offset < 8


def _typed(member: Member, space: Space) -> Member:
    """A field of the record as `args` shows it: where a varying one lies is a number, the address."""
    if not member.data_loc:
        return placed(member, space)
    return Member(member.name, ADDRESS, member.offset, None, True, member.text)
