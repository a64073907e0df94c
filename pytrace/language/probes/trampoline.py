"""Entry and return of kernel functions with typed arguments: `fentry`, `fexit`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytrace.grammar.attaching import TrampolineAttach
from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.hints import ClassVar
from pytrace.grammar.host import Host, HostError, Prototype
from pytrace.grammar.spec import Target, feature
from pytrace.grammar.types import VOID, Member, Space
from pytrace.language.probes import bpf
from pytrace.language.probes.bpf import BpfFunction
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
RECURSION = (
    "BPF programs take this lock themselves, so all programs get a guard: while one runs on a CPU, others do not run "
    "on it. What is missed so is counted."
)


# The kernel's spin locks, which BPF programs and their helpers take as well: a program at one of these may run
# inside of another that is inside of it, and wait for ever for a lock that its own CPU holds.
SPIN_LOCKS = frozenset(
    {"_raw_spin_lock", "_raw_spin_lock_irqsave", "_raw_spin_unlock_irqrestore", "queued_spin_lock_slowpath"}
)


class _Trampoline(Probe):
    """Base of both. The context is an array of u64: the arguments, then the result."""

    arity = (1, 3)
    has_function = True
    filtered = True
    reverse = True
    returns: ClassVar[bool] = False
    instead: ClassVar[str]  # the probe that does without BTF

    def expand(self, place: Place) -> Iterator[Target]:
        found: Sequence[Prototype | BpfFunction]
        if place.parts[0] == bpf.WORD:
            found = list(bpf.expand(place))
        elif len(place.parts) > 2:
            place.wrong_arity("1 or 2")
            return
        else:
            found = self._kernel(place)
        if found and not place.host.has("fentry"):
            place.lacking("rt.feature.missing", self._unavailable(), (REMEDY,))
            return
        for one in found:
            yield self._program(one) if isinstance(one, BpfFunction) else self._function(place, one)

    def _kernel(self, place: Place) -> list[Prototype]:
        """The functions of the kernel and its modules."""
        module, function = place.parts if len(place.parts) == 2 else ("", place.parts[0])
        host = place.host
        if not host.has("btf"):
            hints = (f"Use {self.instead}:{compose(module, function)}, which does without.",)
            place.lacking("err.ap.btf", f"No BTF found for {compose(module, function)}.", hints)
            return []
        if is_wildcard(module) or is_wildcard(function):
            # each needs a program of its own, and of more than are allowed one is enough to say so
            most = place.context.config.max_bpf_progs + 1
            found = self._wildcard(host, module or "*", function, most)
            if not found:
                place.vanished(compose(module, function))
            return found
        return self._exact(place, module, function)

    def _exact(self, place: Place, module: str, function: str) -> list[Prototype]:
        host = place.host
        if not module and len(modules := host.function_modules(function)) > 1:
            hints = (f"Name the module: {', '.join(f'{self.name}:{m}:{function}' for m in modules)}.",)
            place.error("err.ap.module", f"Ambiguous function: {function} is in {', '.join(modules)}.", hints)
            return []
        prototype = host.function_prototype(function, module or next(iter(modules), ""))
        if prototype is None:
            place.missing(compose(module, function), self._hints(host, module, function))
            return []
        return [prototype]

    def _wildcard(self, host: Host, module: str, function: str, most: int) -> list[Prototype]:
        """The first `most` functions that match."""
        traceable = set(host.kernel_functions())
        in_module, is_function = matcher(module), matcher(function)
        names = [
            (m, f)
            for m, f in host.function_prototypes()
            if in_module(m) and is_function(f) and (m, f) in traceable and ".part." not in f
        ]
        return [p for p in (host.function_prototype(f, m) for m, f in names[:most]) if p]

    def _hints(self, host: Host, module: str, function: str) -> tuple[str, ...]:
        if module and (elsewhere := host.function_prototype(function)):
            return (f"Did you mean '{elsewhere.module}:{function}'?",)
        if not module and host.kernel_function(function):
            return (f"BTF does not describe it; use {self.instead}:{function}.",)
        return similar(function, (f for m, f in host.function_prototypes() if module in ("", m)))

    def _function(self, place: Place, prototype: Prototype) -> Target:
        name = f"{self.name}:{prototype.module}:{prototype.name}"
        result = prototype.result if self.returns and prototype.result != VOID else None
        if prototype.name in SPIN_LOCKS:
            place.warning("probe.fentry.recursion", f"Attaching to {prototype.name}: {RECURSION}")
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

    def _program(self, found: BpfFunction) -> Target:
        """A function of a BPF program: there is nothing of it but that it was called."""
        name = f"{self.name}:{found}"
        attach = TrampolineAttach(name, found.name, self.returns, "", found.program)
        section = f"{self.name}/{found.name}"
        return Target(self, name, attach, section, Space.KERNEL, arguments=(), data=found)

    def guards(self, target: Target) -> bool:
        return isinstance(target.data, Prototype) and target.data.name in SPIN_LOCKS

    def member(self, emit: Emit, target: Target, member: Member) -> Value:
        return slot_value(emit, member.offset, member.type)

    def result(self, emit: Emit, target: Target) -> Value:
        assert target.result is not None
        return slot_value(emit, 8 * slots_of(target.data), target.result)

    def function(self, emit: Emit, target: Target) -> Value:
        return function_address(emit)

    def refuse(self, target: Target, word: str, index: int = 0) -> str | None:
        if isinstance(target.data, BpfFunction):
            return f"{word} is not available at functions of BPF programs"
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
        if pattern.startswith(f"{bpf.WORD}:"):
            yield from bpf.search(pattern, host)
            return
        if not is_wildcard(pattern):  # of one function the long lists need not be read
            module, _, function = pattern.rpartition(":")
            for one in [module] if module else host.function_modules(function):
                if host.kernel_function(function, one) and host.function_prototype(function, one):
                    yield f"{one}:{function}"
            return
        match = matcher(pattern if ":" in pattern else f"*:{pattern}")
        traceable = set(host.kernel_functions())
        for module, function in host.function_prototypes():
            found = f"{module}:{function}"
            if match(found) and (module, function) in traceable and ".part." not in function:
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

    `fentry:bpf:PROGRAM` and `fentry:bpf:ID:PROGRAM` are the functions of loaded BPF programs, which have no `args`.

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

    `fexit:bpf:PROGRAM` and `fexit:bpf:ID:PROGRAM` are the functions of loaded BPF programs, which have no `args`.

    BPF_TRACE_FEXIT (Linux 5.5); the context is an array of u64 (kernel/bpf/btf.c, btf_ctx_access).
    """

    name = "fexit"
    aliases = ("fr", "kretfunc")
    returns = True
    instead = "kretprobe"
