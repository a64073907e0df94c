"""Entry and return of kernel functions with typed arguments: `fentry`, `fexit`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.host import Host, HostError, Prototype
from pytrace.grammar.plan import TrampolineAttach
from pytrace.grammar.spec import Target, feature
from pytrace.grammar.types import VOID, Member, Space
from pytrace.language.probes.common import (
    ARGUMENT_REGISTERS,
    Place,
    Probe,
    compose,
    function_address,
    is_wildcard,
    placed,
    similar,
    slot_value,
    slots_of,
)

REMEDY = "Use tracepoint or rawtracepoint probes."


class _Trampoline(Probe):
    """Base of both. The context is an array of u64: the arguments, then the result."""

    arity = (1, 2)
    has_function = True
    filtered = True
    reverse = True
    returns: ClassVar[bool] = False
    instead: ClassVar[str]  # the probe that does without BTF

    def expand(self, place: Place) -> Iterator[Target]:
        module, function = place.parts if len(place.parts) == 2 else ("", place.parts[0])
        host = place.host
        if not host.has("btf"):
            hints = (f"Use {self.instead}:{compose(module, function)}, which does without.",)
            place.lacking("err.ap.btf", f"No BTF found for {compose(module, function)}.", hints)
            return
        if is_wildcard(module) or is_wildcard(function):
            # each needs a program of its own, and of more than are allowed one is enough to say so
            most = place.context.config.max_bpf_progs + 1
            found = self._wildcard(host, module or "*", function, most)
            if not found:
                place.vanished(compose(module, function))
        else:
            prototype = host.function_prototype(function, module)
            found = [prototype] if prototype else []
            if not prototype:
                place.missing(compose(module, function), self._hints(host, module, function))
        if found and not host.has("fentry"):
            place.lacking("rt.feature.missing", self._unavailable(), (REMEDY,))
            return
        yield from map(self._target, found)

    def _wildcard(self, host: Host, module: str, function: str, most: int) -> list[Prototype]:
        """The first `most` functions that match."""
        traceable = {name for _, name in host.kernel_functions()}
        in_module, is_function = matcher(module), matcher(function)
        names = [
            (m, f)
            for m, f in host.function_prototypes()
            if in_module(m) and is_function(f) and f in traceable and ".part." not in f
        ]
        return [p for p in (host.function_prototype(f, m) for m, f in names[:most]) if p]

    def _hints(self, host: Host, module: str, function: str) -> tuple[str, ...]:
        if module and (elsewhere := host.function_prototype(function)):
            return (f"Did you mean '{elsewhere.module}:{function}'?",)
        if not module and host.kernel_function(function):
            return (f"BTF does not describe it; use {self.instead}:{function}.",)
        return similar(function, (f for m, f in host.function_prototypes() if module in ("", m)))

    def _target(self, prototype: Prototype) -> Target:
        name = f"{self.name}:{prototype.module}:{prototype.name}"
        result = prototype.result if self.returns and prototype.result != VOID else None
        return Target(
            self,
            name,
            TrampolineAttach(name, prototype.name, self.returns, prototype.module),
            section=f"{self.name}/{prototype.name}",
            space=Space.KERNEL,
            arguments=tuple(placed(m, Space.KERNEL) for m in prototype.parameters),
            result=placed(Member("retval", result, 0), Space.KERNEL).type if result else None,
            data=prototype,
        )

    def member(self, emit: Emit, target: Target, member: Member) -> Value:
        return slot_value(emit, member.offset, member.type)

    def result(self, emit: Emit, target: Target) -> Value:
        assert target.result is not None
        return slot_value(emit, 8 * slots_of(target.data), target.result)

    def function(self, emit: Emit, target: Target) -> Value:
        return function_address(emit)

    def refuse(self, target: Target, word: str, index: int = 0) -> str | None:
        prototype: Prototype = target.data
        if len(prototype.parameters) > len(ARGUMENT_REGISTERS):
            count, most = len(prototype.parameters), len(ARGUMENT_REGISTERS)
            return f"{prototype.name} has {count} parameters: only {most} can be read"
        if word == "retval" and target.result is None:
            return f"{prototype.name} returns nothing (void)"
        return None

    def _unavailable(self) -> str:
        return f"{self.name} probes are not available: this kernel refuses programs on its functions."

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        if not host.has("fentry"):
            raise HostError(f"{self._unavailable()} {REMEDY}")
        match = matcher(pattern if ":" in pattern else f"*:{pattern}")
        traceable = {name for _, name in host.kernel_functions()}
        for module, function in host.function_prototypes():
            found = f"{module}:{function}"
            if match(found) and function in traceable and ".part." not in function:
                yield found

    def describe(self, found: str, host: Host) -> Iterator[str]:
        module, _, function = found.partition(":")
        prototype = host.function_prototype(function, module)
        if prototype is None:
            return
        for member in prototype.parameters:
            yield member.text or f"{member.type} {member.name}"
        if self.returns and prototype.result != VOID:
            yield f"{prototype.result_text} retval"


@feature
class Fentry(_Trampoline):
    """The entry of a kernel function, with its typed arguments: `fentry:FUNCTION` or
    `fentry:MODULE:FUNCTION`, with `*` in both. Cheaper than `kprobe`.

    `args.NAME` are the parameters by the kernel's BTF; `-lv fentry:vmlinux:FUNCTION` shows them.

    bt> fentry:vfs_unlink { printf("%s %s\\n", comm, str(args.dentry.d_name.name)); } interval:1s { exit(); }

    BPF_TRACE_FENTRY (Linux 5.5); the context is an array of u64 (kernel/bpf/btf.c, btf_ctx_access).
    """

    name = "fentry"
    aliases = ("f", "kfunc")
    wild = "kernel"
    instead = "kprobe"


@feature
class Fexit(_Trampoline):
    """The return of a kernel function, with its typed arguments and result: `fexit:FUNCTION` or
    `fexit:MODULE:FUNCTION`, with `*` in both.

    `args.NAME` are the parameters (as they were passed), `retval` is the result with its declared type.

    bt> fexit:vfs_read { @[args.count, retval] = count(); } interval:1s { exit(); }

    BPF_TRACE_FEXIT (Linux 5.5); the context is an array of u64 (kernel/bpf/btf.c, btf_ctx_access).
    """

    name = "fexit"
    aliases = ("fr", "kretfunc")
    returns = True
    instead = "kretprobe"
