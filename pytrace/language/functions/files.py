"""What lies in files: paths of open ones, variables of programs (reference part 2, section 2.3)."""

from __future__ import annotations

import re

from pytrace.grammar.attaching import UprobeAttach
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.host import UserVariable
from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import INT64, UINT64, Int, Pointer, Space, String, Struct, Type
from pytrace.language.builtins.probe import tells_function
from pytrace.language.probes.common import register

SYMBOL = re.compile(r"[a-zA-Z0-9./_-]+")


@feature
class Uaddr(Function):
    """The address of a variable of the probed program; a pointer to an unsigned integer of its size.

    In uprobe, uretprobe and usdt probes. Where the file was loaded is known from the place that was probed.

    bt> uprobe:/bin/bash:readline { printf("PS1 is %s\\n", str(*uaddr("ps1_prompt"))); }

    Source: the symbol table (elf(5)); the instruction pointer; bpf_get_func_ip (Linux 6.6 in uretprobes).
    """

    name = "uaddr"
    parameters = (Param("name", ("string",), literal=True),)
    reads_context = True
    per_target = True

    def type(self, site: CallSite) -> Type:
        unknown = Pointer(UINT64, Space.USER)
        if not isinstance(site.target.attach, UprobeAttach):
            # the name is that of the core of the library function
            message = f'__builtin_uaddr can not be used with "{site.target.type.name}" probes'
            site.error("err.call.probe", message)
            return unknown
        variable = self._find(site)
        if variable is None:
            message = f"Could not resolve symbol: {site.target.path}:{site.text(0)}"
            site.error("err.name.ident", message, 0)
            return unknown
        if variable.anchor is not None and not tells_function(site):
            message = f"uaddr() can not be used with {site.target.type.name} probes of relocatable files on this kernel"
            hints = ("It does not tell which function returns (Linux 6.6 does); take the address at the entry.",)
            site.error("err.call.probe", message, hints=hints)
            return unknown
        size = variable.size if variable.size in (1, 2, 4) else 8
        return Pointer(Int(size), Space.USER)

    def _find(self, site: CallSite) -> UserVariable | None:
        attach, name = site.target.attach, site.text(0)
        assert isinstance(attach, UprobeAttach)
        if not SYMBOL.fullmatch(name):
            return None
        return site.context.host.user_variable(attach.path, name, attach.offset)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        variable = self._find(site)
        assert variable is not None
        address = emit.integer(variable.address)
        if variable.anchor is not None:
            distance = emit.integer((variable.address - variable.anchor) & ((1 << 64) - 1))
            address = emit.arith("+", self._place(emit, site), distance)
        return emit.convert(address, site.type)

    def _place(self, emit: Emit, site: CallSite) -> Value:
        """The address of the place in the file that is probed."""
        target = site.target
        return target.type.function(emit, target) if target.type.has_function else register(emit, "ip")


@feature
class Path(Function):
    """The path of an open file; a string. The argument is a `struct path`, or the address of one.

    In fentry, fexit and iter probes, and only of functions that the kernel allows it in. `size` limits the
    string; what does not fit is cut off at the front.

    bt> fentry:filp_close { printf("%s\\n", path(args.filp.f_path)); }

    Source: bpf_d_path (Linux 5.10, bpf-helpers(7)); the list is btf_allowlist_d_path in
    kernel/trace/bpf_trace.c.
    """

    name = "path"
    parameters = (Param("path", ("struct", "pointer")), Param("size", ("int",), literal=True, optional=True))

    def type(self, site: CallSite) -> Type:
        if site.target.type.name not in ("fentry", "fexit", "iter"):
            message = "The path function can only be used with 'fentry', 'fexit', 'iter' probes"
            site.error("err.call.probe", message)
        kind = site.types[0].to if isinstance(site.types[0], Pointer) else site.types[0]
        if isinstance(kind, Struct) and kind.name != "path":
            message = f"path() only supports struct path arguments ({kind} provided)"
            site.error("err.call.argtype", message, 0)
        most = site.context.config.max_strlen
        return String(min(max(site.integer(1), 1), most) if len(site) > 1 else most)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        kind = site.type
        assert isinstance(kind, String)
        address = emit.value(site.arguments[0])
        slot = emit.scratch(kind.size)
        got = emit.helper("d_path", address, slot, emit.integer(kind.size), type=INT64)
        failed = emit.compare("<", got, emit.integer(0), signed=True)
        emit.when(failed, lambda: emit.warn("helper", got, site.span, "d_path"))
        return emit.at(slot, kind)
