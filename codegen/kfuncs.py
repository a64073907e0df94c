"""Functions of the kernel that programs may call (Documentation/bpf/kfuncs.rst).

Such a function is declared in the section `.ksyms`, with debug information of which LLVM makes the BTF by which
libbpf finds the kernel's.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from pytrace.codegen.debuginfo import DebugInfo
from pytrace.codegen.frame import I64, PTR
from pytrace.grammar.hints import Any


class Declaration(ir.Function):  # type: ignore[misc]
    """A declaration whose debug information stands where LLVM wants it: llvmlite writes it at the end."""

    def descr_prototype(self, buf: list[str]) -> None:
        arguments = ", ".join(str(argument) for argument in self.args)
        metadata = self._stringify_metadata()
        name = self.get_reference()
        section = f' section "{self.section}"' if self.section else ""
        buf.append(f"declare {metadata} {self.return_value.type} {name}({arguments}){section}\n")


def kernel_function(module: ir.Module, debug: DebugInfo, name: str, types: Sequence[str]) -> Any:
    """A function of the kernel by the C types of its result and its parameters: `bool`, `int`, `long`, `void`,
    `void *`, `struct NAME *`. To LLVM all but pointers are 64 bits wide; of a bool result only the low byte counts."""
    known = module.globals.get(name)
    if known is not None:
        return known
    result, *parameters = (PTR if text.endswith("*") else I64 for text in types)
    function = Declaration(module, ir.FunctionType(result, parameters), name)
    function.section = ".ksyms"
    debug.declaration(function, [_described(debug, text) for text in types])
    return function


def _described(debug: DebugInfo, text: str) -> Any:
    """The debug information of a C type."""
    match text:
        case "void":
            return ir.Constant(ir.MetaDataType(), None)
        case "void *":
            return debug.pointer
        case "bool":
            return debug.base("_Bool", 8, "DW_ATE_boolean")
        case "int":
            return debug.int
        case "long":
            return debug.long
        case _:
            return debug.pointer_of(debug.named("struct", text.removeprefix("struct ").removesuffix(" *")))
