"""Values that belong to the probe: its arguments, result, function, name and context."""

from __future__ import annotations

from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.hints import ClassVar
from pytrace.grammar.spec import Builtin, CallSite, Constant, feature
from pytrace.grammar.types import NONE, UINT64, Int, Pointer, Space, String, Struct, Type, offsets_of, size_of
from pytrace.grammar.typing import is_common
from pytrace.language.builtins.task import current_id
from pytrace.language.values.symbols import KernelSymbol, UserSymbol

TRACEPOINT = "tracepoint"


@feature
class Args(Builtin):
    """The arguments of the probe, by their names: `args.NAME` (`args->NAME` is the same).

    tracepoint: the fields of the event's record. rawtracepoint, fentry, fexit: the parameters, by the
    kernel's BTF. `-lv PROBE` shows names and types. `print(args)` prints all of them.

    bt> tracepoint:syscalls:sys_enter_openat { printf("%s\\n", str(args.filename)); exit(); }
    """

    name = "args"
    reads_context = True
    per_target = True
    per_arguments = True

    def type(self, site: CallSite) -> Type:
        target = site.target
        if target.arguments is None:
            site.error(
                "err.builtin.args",
                "The args builtin can only be used with tracepoint, rawtracepoint, fentry/fexit, and uprobe"
                f" probes ({target.type.name} used here)",
            )
            return NONE
        reason = target.type.refuse(target, "args")
        if reason is not None:
            site.error("err.builtin.args-resolve", f"The args builtin cannot be used here: {reason}")
            return NONE
        return Struct("", 0, "args")  # type checking makes the target's own struct of it

    def emit(self, emit: Emit, site: CallSite) -> Value:
        target = site.target
        members = [m for m in target.arguments or () if not is_common(target, m)]
        record = emit.scratch(size_of(site.type))
        for member, offset in zip(members, offsets_of(tuple(m.type for m in members)), strict=True):
            emit.store(record, offset, target.type.member(emit, target, member))
        return emit.at(record, site.type)


class Argument(Builtin):
    """An argument of the probed function or probe as a 64-bit unsigned integer: `arg0`, `arg1`, …

    kprobe, uprobe: `arg0` to `arg5`, from the registers in which functions take them; floating-point
    parameters do not count. usdt: as the probe describes it. rawtracepoint: the same as `args`, without its
    type. Cast to use it as a pointer: `((struct file *)arg0)->f_flags`.

    bt> uprobe:libc:malloc { @bytes = hist(arg0); } interval:1s { exit(); }
    """

    reads_context = True
    steady = True
    number: ClassVar[int]

    def type(self, site: CallSite) -> Type:
        kind = site.target.type
        if not kind.has_argn:
            site.error(
                "err.builtin.argN",
                f"The {self.name} builtin can only be used with 'kprobes', 'uprobes' and 'usdt' probes",
                hints=_instead_of_argument(site),
            )
            return UINT64
        reason = kind.refuse(site.target, "argN", self.number)
        if reason is not None:
            site.error("err.builtin.argN", reason)
        return Int(8, space=site.target.space)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return site.target.type.argument(emit, site.target, self.number)


def _instead_of_argument(site: CallSite) -> tuple[str, ...]:
    """What to write where `argN` is not to be had."""
    target = site.target
    if target.arguments is not None:
        names = [m.name for m in target.arguments if not is_common(target, m)]
        return (f"Use args.NAME; the names here are: {', '.join(names)}.",) if names else ()
    if target.result is not None:
        return ("The arguments are gone at the return: keep them at the entry in a map whose key is tid.",)
    return ()


# usdt probes have at most 12 arguments (sys/sdt.h), rawtracepoints fewer
for _number in range(12):
    _body = {"name": f"arg{_number}", "number": _number, "__doc__": Argument.__doc__}
    feature(type(f"Argument{_number}", (Argument,), _body))


class RemovedArgument(Builtin):
    """Once an argument on the stack; removed. Read the stack: `*(reg("sp") + 8)`.

    At the entry of a function on x86-64 the return address is at `reg("sp")`, the seventh argument 8 bytes
    above it.

    bt> uprobe:libc:malloc { printf("returns to %p\\n", *reg("sp")); exit(); }
    """

    def type(self, site: CallSite) -> Type:
        site.error(
            "err.builtin.removed",
            "sarg* is deleted. This was deprecated in v0.21 and was last available in v0.24.",
            hints=('Use *(reg("sp") + <stack_offset>) instead.',),
        )
        return UINT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        raise AssertionError("refused when types are checked")


for _number in range(20):
    _body = {"name": f"sarg{_number}", "__doc__": RemovedArgument.__doc__}
    feature(type(f"Sarg{_number}", (RemovedArgument,), _body))


@feature
class Retval(Builtin):
    """The result of the probed function, in kretprobe, uretprobe (a 64-bit unsigned integer) and fexit (as
    declared).

    Cast it to test for negative errors in kretprobe and uretprobe: `(int32)retval < 0`.

    bt> uretprobe:libc:malloc /retval == 0/ { @failed = count(); } interval:1s { exit(); }
    """

    name = "retval"
    reads_context = True

    def type(self, site: CallSite) -> Type:
        target = site.target
        reason = target.type.refuse(target, "retval")
        if reason is not None:
            site.error("err.builtin.retval", f"The retval builtin cannot be used here: {reason}")
        elif target.result is None:
            advice = " (try to use args.ret instead)" if target.type.name == TRACEPOINT else ""
            site.error(
                "err.builtin.retval",
                "The retval builtin can only be used with 'kretprobe' and 'uretprobe' and 'fexit' probes" + advice,
            )
        return target.result or UINT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return site.target.type.result(emit, site.target)


def tells_function(site: CallSite) -> bool:
    """Whether the kernel can say which function was probed: if not, its address would be 0."""
    needs = site.target.type.function_needs
    return not needs or site.context.host.has(needs)


@feature
class Func(Builtin):
    """The name of the probed function, in kprobe, kretprobe, fentry, fexit (ksym_t) and uprobe, uretprobe
    (usym_t).

    It is kept as an address and looked up when it is shown.

    bt> uprobe:libc:mallo* { @[func] = count(); } interval:1s { exit(); }

    kprobe, uprobe: the instruction pointer; the others: bpf_get_func_ip (Linux 5.15; uretprobe 6.6).
    """

    name = "func"
    reads_context = True

    def type(self, site: CallSite) -> Type:
        target = site.target
        if not target.type.has_function:
            message = f"The func builtin can not be used with '{target.type.name}' probes"
            site.error("err.builtin.func", message, hints=("The builtin probe is the name of the probe.",))
        elif not tells_function(site):
            message = f"The func builtin can not be used with '{target.type.name}' probes on this kernel"
            hints = ("It does not tell which function returns (Linux 6.6 does); use the builtin probe.",)
            site.error("err.builtin.func", message, hints=hints)
        kind = UserSymbol() if target.space is Space.USER else KernelSymbol()
        return kind.type_named()

    def emit(self, emit: Emit, site: CallSite) -> Value:
        address = site.target.type.function(emit, site.target)
        slot = emit.scratch(size_of(site.type))
        emit.store(slot, 0, emit.convert(address, UINT64))
        if site.target.space is Space.USER:
            emit.store(slot, 8, emit.convert(current_id(emit, site, offset=4), UINT64))
        return emit.at(slot, site.type)


@feature
class Probe(Builtin):
    """The full name of the probe that fires, as a string: wildcards are filled in, short names made long.

    A block that compares it is compiled once for each probe that a wildcard stands for. Where it is only kept or shown,
    one program serves all tracepoints, kprobes or uprobes, and looks the name up by the cookie of the place.

    bt> tracepoint:sched:sched_w* { @[probe] = count(); } interval:1s { exit(); }
    """

    name = "probe"
    per_target = True
    numbered = True

    def type(self, site: CallSite) -> Type:
        return String(max(map(len, _names(site))) + 1)

    def fold(self, site: CallSite) -> Constant | None:
        names = _names(site)
        return names[0] if len(names) == 1 else None

    def emit(self, emit: Emit, site: CallSite) -> Value:
        names = _names(site)
        if len(names) == 1:
            return emit.text(names[0])
        return emit.choose(site.target.type.place_number(emit, site.target), names)


def _names(site: CallSite) -> list[bytes]:
    """The names of all probes that the program serves."""
    return [target.name.encode() for target in site.targets or (site.target,)]


@feature
class ProbeTypeName(Builtin):
    """The type of the probe, as a string: `kprobe`, `tracepoint`, …; begin and end are `special`.

    bt> begin { print(probetype); }
    """

    name = "probetype"
    per_type = True

    def fold(self, site: CallSite) -> bytes:
        kind = site.target.type
        return (kind.family or kind.name).encode()

    def type(self, site: CallSite) -> Type:
        return String(len(self.fold(site)) + 1)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.text(self.fold(site))


@feature
class Ctx(Builtin):
    """The context that the kernel gives the program, as a pointer to a struct: `ctx.ip`.

    kprobe, kretprobe, uprobe, uretprobe, usdt: `struct pt_regs *`. profile, interval, software, hardware:
    `struct bpf_perf_event_data *`. iter: `struct bpf_iter__NAME *`.

    bt> profile:hz:99 { @[ctx.sample_period] = count(); } interval:1s { exit(); }
    """

    name = "ctx"
    reads_context = True

    def type(self, site: CallSite) -> Type:
        target = site.target
        word = target.type.context_struct(target)
        if word:
            struct = site.context.host.find_type(word, "struct")
            return Pointer(struct or Struct(word, 0), Space.DIRECT)
        if target.type.name == TRACEPOINT:
            site.error("err.builtin.ctx", "Use args instead of ctx in tracepoint")
        else:
            site.error("err.builtin.ctx", f"The ctx builtin can not be used with '{target.type.name}' probes")
        return NONE

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return Value(site.type, emit.context().raw)
