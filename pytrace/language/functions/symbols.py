"""Symbols, addresses and registers (reference part 2, section 2.3)."""

from __future__ import annotations

from pytrace.grammar.data import replace
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.hints import ClassVar
from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import BOOL, UINT64, Int, Opaque, Pointer, Space, Type
from pytrace.language.builtins.task import current_id
from pytrace.language.probes.common import REGISTERS, register

ADDRESS = Param("address", ("int", "pointer"))
FIRST_ERROR = (1 << 64) - 4095  # MAX_ERRNO
NAME = Param("name", ("string",), literal=True)


@feature
class Ksym(Function):
    """The kernel function that an address is in; a ksym_t.

    It prints as the function's name, or as `0x…` if there is none; it is looked up when it is printed.

    bt> tracepoint:timer:hrtimer_start { @[ksym(args.function)] = count(); }

    Source: /proc/kallsyms (proc(5)).
    """

    name = "ksym"
    parameters = (ADDRESS,)
    returns = Opaque("ksym_t", 8)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        slot = emit.scratch(8, zero=False)
        emit.store(slot, 0, emit.convert(emit.value(site.arguments[0]), UINT64))
        return emit.at(slot, self.returns)


@feature
class Usym(Function):
    """The function of the running process that an address is in; a usym_t.

    It prints as the function's name, or as `0x…` if there is none; the address is looked up in that process's
    files when it is printed.

    bt> uprobe:libc:malloc { @[usym(reg("ip"))] = count(); }

    Source: /proc/PID/maps (proc(5)), the symbol tables of ELF files (elf(5)).
    """

    name = "usym"
    needs = "task"
    parameters = (ADDRESS,)
    returns = Opaque("usym_t", 16)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        slot = emit.scratch(16, zero=False)
        emit.store(slot, 0, emit.convert(emit.value(site.arguments[0]), UINT64))
        emit.store(slot, 8, emit.convert(current_id(emit, site, offset=4), UINT64))
        return emit.at(slot, self.returns)


@feature
class Kaddr(Function):
    """The address of a kernel symbol; a uint64 in the kernel's memory.

    bt> begin { printf("%p\\n", kaddr("vfs_read")); }

    Source: /proc/kallsyms (proc(5)).
    """

    name = "kaddr"
    parameters = (NAME,)
    returns = Int(8, space=Space.KERNEL)

    def type(self, site: CallSite) -> Type:
        name = site.text(0)
        if site.context.host.kernel_address(name) is None:
            site.error("err.name.ident", f"Failed to resolve kernel symbol: {name}", 0)
        return self.returns

    def emit(self, emit: Emit, site: CallSite) -> Value:
        address = site.context.host.kernel_address(site.text(0))
        return emit.integer(address or 0, site.type)


@feature
class Reg(Function):
    """A saved register of the CPU; a uint64 in the memory of the probe.

    On x86-64: r8 to r15, ax, bx, cx, dx, si, di, bp, sp, ip (or pc), cs, ss, flags, orig_rax.

    bt> profile:hz:99 { @[usym(reg("ip"))] = count(); }

    Source: struct pt_regs (arch/x86/include/uapi/asm/ptrace.h).
    """

    name = "reg"
    parameters = (NAME,)
    returns = UINT64
    reads_context = True

    def type(self, site: CallSite) -> Type:
        name = site.text(0)
        if not site.target.type.has_registers:
            message = f'reg can not be used with "{site.target.type.name}" probes'
            site.error("err.call.probe", message)
        elif name not in REGISTERS:
            message = f"'{name}' is not a valid register on this architecture (x86_64)"
            site.error("err.call.argtype", message, 0)
        return Int(8, space=site.target.space)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return register(emit, site.text(0), site.target.space)


class _Relabel(Function):
    """`kptr` and `uptr`: the same value, pointing into another memory."""

    parameters = (ADDRESS,)
    space: ClassVar[Space]

    def type(self, site: CallSite) -> Type:
        kind = site.types[0]
        return replace(kind, space=self.space) if isinstance(kind, (Int, Pointer)) else kind

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return replace(emit.value(site.arguments[0]), type=site.type)


@feature
class Kptr(_Relabel):
    """An address in the kernel's memory: the same value, which is read from there.

    bt> rawtracepoint:sched_switch { print(*kptr(arg1)); }
    """

    name = "kptr"
    space = Space.KERNEL


@feature
class Uptr(_Relabel):
    """An address in the process's memory: the same value, which is read from there.

    bt> tracepoint:syscalls:sys_enter_openat { printf("%s\\n", str(uptr(args.filename))); }
    """

    name = "uptr"
    space = Space.USER


@feature
class IsErr(Function):
    """Whether a kernel function returned an error in place of a pointer; a bool.

    bt> kretprobe:filp_open /is_err(retval)/ { @[comm] = count(); }

    Source: include/linux/err.h, IS_ERR.
    """

    name = "is_err"
    parameters = (ADDRESS,)
    returns = BOOL

    def emit(self, emit: Emit, site: CallSite) -> Value:
        value = emit.convert(emit.value(site.arguments[0]), UINT64)
        return emit.compare(">=", value, emit.integer(FIRST_ERROR))
