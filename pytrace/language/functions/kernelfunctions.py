"""What is known of the functions that the kernel offers to programs (reference part 2, section 2.7)."""

from __future__ import annotations

from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import BOOL, Type
from pytrace.language.programtypes import may_call


class _Question(Function):
    """Base of both."""

    parameters = (Param("name"),)
    returns = BOOL

    def type(self, site: CallSite) -> Type:
        if not isinstance(site.constants[0], bytes):
            site.error("err.call.argtype", f"{self.name}() accepts a string literal only", 0)
        return BOOL


@feature
class KfuncExist(_Question):
    """Whether the kernel has a function of this name, that programs might call; a bool, known while compiling.

    bt> begin { if comptime kfunc_exist("bpf_strnstr") { print("it can search strings"); } }

    Source: the kernel's BTF.
    """

    name = "kfunc_exist"

    def fold(self, site: CallSite) -> bool | None:
        if not isinstance(site.constants[0], bytes):
            return None
        return site.context.host.function_prototype(site.text(0), "vmlinux") is not None


@feature
class KfuncAllowed(_Question):
    """Whether programs of this probe's type may call a function of the kernel; a bool, known while compiling.

    bt> interval:s:1 { print(kfunc_allowed("bpf_task_from_pid")); exit(); }

    Source: the verifier is asked with a program that calls it (Documentation/bpf/kfuncs.rst).
    """

    name = "kfunc_allowed"

    def fold(self, site: CallSite) -> bool | None:
        return may_call(site, site.text(0)) if isinstance(site.constants[0], bytes) else None
