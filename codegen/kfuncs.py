"""Functions of the kernel that programs may call (Documentation/bpf/kfuncs.rst).

Such a function is declared in the section `.ksyms`, with debug information of which LLVM makes the BTF by which
libbpf finds the kernel's.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from pytrace.codegen.debuginfo import DebugInfo
from pytrace.codegen.frame import I64, PTR


class _Declaration(ir.Function):  # type: ignore[misc]
    """A declaration whose debug information stands where LLVM wants it: llvmlite writes it at the end."""

    def descr_prototype(self, buf: list[str]) -> None:
        arguments = ", ".join(str(argument) for argument in self.args)
        metadata = self._stringify_metadata()
        name = self.get_reference()
        buf.append(f'declare {metadata} {self.return_value.type} {name}({arguments}) section "{self.section}"\n')


def kernel_function(module: ir.Module, debug: DebugInfo, name: str, pointers: int) -> Any:
    """A kernel function that takes so many pointers and returns a bool, in the low byte of its 64-bit result."""
    known = module.globals.get(name)
    if known is not None:
        return known
    function = _Declaration(module, ir.FunctionType(I64, [PTR] * pointers), name)
    function.section = ".ksyms"
    debug.declaration(function, debug.base("_Bool", 8, "DW_ATE_boolean"), pointers)
    return function
