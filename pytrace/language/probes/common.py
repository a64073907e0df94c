"""What the probe types share: wildcards, numbers in attach points, messages, the saved registers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache

from pytrace.grammar.attachpoint import AttachPoint
from pytrace.grammar.data import dataclass, replace
from pytrace.grammar.hints import TYPE_CHECKING
from pytrace.grammar.host import Host, HostError, Prototype
from pytrace.grammar.probetype import ProbeType
from pytrace.grammar.source import Span
from pytrace.grammar.spec import Context, Target
from pytrace.grammar.types import (
    UINT64,
    Array,
    Bool,
    EnumType,
    Int,
    Member,
    Pointer,
    Space,
    Struct,
    Type,
    round_up,
    size_of,
)

if TYPE_CHECKING:
    from pytrace.grammar.emit import Emit, Slot, Value

# Offsets in x86-64's `struct pt_regs` (arch/x86/include/uapi/asm/ptrace.h), by the names of `reg()`.
# `struct bpf_perf_event_data` starts with the same registers (include/uapi/asm-generic/bpf_perf_event.h).
REGISTERS = {
    "r15": 0, "r14": 8, "r13": 16, "r12": 24, "bp": 32, "bx": 40, "r11": 48, "r10": 56, "r9": 64, "r8": 72,
    "ax": 80, "cx": 88, "dx": 96, "si": 104, "di": 112, "orig_rax": 120, "ip": 128, "pc": 128, "cs": 136,
    "flags": 144, "sp": 152, "ss": 160,
}  # fmt: skip

# System V AMD64 ABI 3.2.3; the kernel's functions take theirs in the same registers
ARGUMENT_REGISTERS = ("di", "si", "dx", "cx", "r8", "r9")
RESULT_REGISTER = "ax"


# ---------------------------------------------------------------- wildcards and numbers


def is_wildcard(text: str) -> bool:
    """Whether a part of an attach point is a pattern. Brackets make it one, but match only themselves."""
    return "*" in text or ("[" in text and "]" in text)


@lru_cache(maxsize=64)
def number(text: str) -> int | None:
    """The integer that a part of an attach point spells (durations in nanoseconds), or None."""
    from pytrace.grammar.literals import LiteralError, parse_integer  # a listing has no numbers

    try:
        return parse_integer(text, external=True)
    except LiteralError:
        return None


def similar(name: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """The hint that offers the nearest of very many names, or those that have the name in them.

    Only names of about the same length that start or end alike are compared in earnest: the 60,000
    functions of a kernel would otherwise take seconds.
    """
    from pytrace.grammar.advice import containing
    from pytrace.grammar.diagnostics import did_you_mean

    candidates = list(candidates)
    head, tail = name[:2], name[-3:]
    alike = {c for c in candidates if abs(len(c) - len(name)) <= 3 and (c.startswith(head) or c.endswith(tail))}
    return did_you_mean(name, alike) or containing(name, candidates)


def plural(count: int, noun: str) -> str:
    """`1 argument`, `2 arguments`"""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def compose(*parts: str | int) -> str:
    """A probe's full name from its parts; empty and zero ones are left out."""
    return ":".join(str(p) for p in parts if p not in ("", 0))


# ---------------------------------------------------------------- an attach point being checked


@dataclass(frozen=True, slots=True)
class Place:
    """An attach point of some type at its place in the program, and where its messages go."""

    type: ProbeType
    point: AttachPoint
    span: Span
    context: Context

    @property
    def parts(self) -> tuple[str, ...]:
        """What stands behind the type."""
        return self.point.parts[1:]

    @property
    def host(self) -> Host:
        """The machine."""
        return self.context.host

    def error(self, code: str, message: str, hints: Iterable[str] = ()) -> None:
        """Report an error at the attach point."""
        self.context.diagnostics.error(code, message, self.span, hints=hints)

    def warning(self, code: str, message: str, hints: Iterable[str] = ()) -> None:
        """Report a warning at the attach point."""
        self.context.diagnostics.warning(code, message, self.span, hints=hints)

    def lacking(self, code: str, message: str, hints: Iterable[str] = ()) -> None:
        """Report something that is not there, as badly as `missing_probes` says ([probe.missing])."""
        match self.context.config.missing_probes:
            case "ignore":
                return
            case "warn":
                self.warning(code, f"{message} Skipping.", hints)
            case _:
                self.error(code, message, hints)

    def missing(self, target: str, hints: Iterable[str] = ()) -> None:
        """Report that an exact attach point does not exist."""
        self.lacking("err.ap.nomatch", f"No matches for {self.type.name} {target}.", hints)

    def vanished(self, target: str, hints: Iterable[str] = ()) -> None:
        """Note that a wildcard matches nothing: not an error, but never without a word either."""
        if self.context.config.missing_probes != "ignore":
            message = f"No matches for {self.type.name} {target}. Skipping."
            self.warning("err.ap.nomatch", message, hints)

    def check_arity(self) -> bool:
        """Whether the number of parts is right; reports it if not."""
        least, most = self.type.arity
        found = len(self.parts)
        if least <= found <= most:
            return True
        self.wrong_arity(" or ".join(str(n) for n in range(least, most + 1)))
        return False

    def wrong_arity(self, wanted: str) -> None:
        """Report that the number of parts is not one of those `wanted`."""
        noun = "argument" if wanted == "1" else "arguments"
        message = f"{self.type.name} probe type requires {wanted} {noun}, found {len(self.parts)}"
        self.error("err.ap.arity", message)


class Probe(ProbeType):
    """Base of all probe types: checks the number of parts, then lets `expand` do the rest."""

    def targets(self, point: AttachPoint, span: Span, context: Context) -> list[Target]:
        place = Place(self, point, span, context)
        if not place.check_arity():
            return []
        try:
            return list(self.expand(place))
        except HostError as problem:
            place.error("rt.feature.missing", str(problem))
            return []

    def expand(self, place: Place) -> Iterator[Target]:
        """The targets of an attach point whose number of parts is right."""
        raise NotImplementedError(self.name)


# ---------------------------------------------------------------- data of a probe


class RegisterProbe(Probe):
    """Base of the probes whose context holds the saved registers (`struct pt_regs`)."""

    has_registers = True
    context_type = "pt_regs"

    def argument(self, emit: Emit, target: Target, index: int) -> Value:
        return register(emit, ARGUMENT_REGISTERS[index], target.space)

    def result(self, emit: Emit, target: Target) -> Value:
        return register(emit, RESULT_REGISTER, target.space)

    def refuse(self, target: Target, word: str, index: int = 0) -> str | None:
        if word == "argN" and index >= len(ARGUMENT_REGISTERS):
            return f"{os.uname().machine} doesn't support arg{index}"
        return None


def register(emit: Emit, name: str, space: Space = Space.NONE) -> Value:
    """A saved register, taken for an address in `space`."""
    return emit.context_word(REGISTERS[name], Int(8, space=space))


def function_address(emit: Emit) -> Value:
    """The entry of the probed function, where the instruction pointer does not have it.

    bpf_get_func_ip: fentry, fexit, kprobe, kretprobe since Linux 5.15, uretprobe since 6.6.
    """
    return emit.helper("get_func_ip", emit.context(), type=UINT64)


def context_value(emit: Emit, offset: int, kind: Type) -> Value:
    """A value that lies in the program's context, which may be read only by constant, aligned offsets.

    Strings, arrays and structs are copied into the program's own memory.
    """
    match kind:
        case Bool() | Int() | EnumType() | Pointer():
            return emit.context_word(offset, kind)
        case _:
            return emit.at(context_bytes(emit, offset, size_of(kind)), kind)


def context_bytes(emit: Emit, offset: int, size: int) -> Slot:
    """A copy of some bytes of the context."""
    slot = emit.scratch(size)
    if size > 256:  # one helper call is cheaper, and the program stays short
        emit.read(slot, size, emit.arith("+", emit.context(), emit.integer(offset)), Space.KERNEL)
        return slot
    done = 0
    while done < size:
        step = next(s for s in (8, 4, 2, 1) if not ((offset + done) % s or done % s) and done + s <= size)
        emit.store(slot, done, emit.context_word(offset + done, Int(step)))
        done += step
    return slot


def slot_value(emit: Emit, offset: int, kind: Type) -> Value:
    """An argument or result of a kernel function, which fills whole 8-byte slots of the context.

    The upper bits of a narrow one are whatever the register held, so it is cut to its type.
    """
    match kind:
        case Bool() | Int() | EnumType():
            return emit.convert(emit.context_word(offset, UINT64), kind)
        case _:
            return context_value(emit, offset, kind)


def placed(member: Member, space: Space) -> Member:
    """A member of `args` with its memory decided: pointers point into `space` unless they say where to."""
    return replace(member, type=_in_space(member.type, space))


def _in_space(kind: Type, space: Space) -> Type:
    match kind:
        case Pointer(to=to, space=own):
            return Pointer(_in_space(to, space), space if own is Space.NONE else own)
        case Array() | Struct():
            return replace(kind, space=Space.DIRECT)
        case _:
            return kind


def slots_of(prototype: Prototype) -> int:
    """The 8-byte slots that a function's parameters fill; its result comes in the slot after them."""
    return max((m.offset + round_up(size_of(m.type), 8) for m in prototype.parameters), default=0) // 8
