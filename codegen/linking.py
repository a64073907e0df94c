"""Declarations of functions that the linker adds: those of imported BPF objects."""

from __future__ import annotations

from llvmlite import ir

from pytrace.codegen.debuginfo import DebugInfo
from pytrace.codegen.frame import I64
from pytrace.codegen.kfuncs import Declaration
from pytrace.grammar.hints import Any
from pytrace.grammar.host import CShape, LinkedFunction


class LinkedDeclaration(Declaration):
    """A function that is in another object."""


def linked_function(module: ir.Module, debug: DebugInfo, function: LinkedFunction) -> Any:
    """The declaration of a function of an imported object.

    To LLVM all values are 64 bits wide, extended by their signs: right for callees that were compiled for whole
    registers and for halves (`-mcpu` v1 and v3). The debug information says what they are, which the linker compares.
    """
    name = function.prototype.name
    known = module.globals.get(name)
    if known is not None:
        return known
    result = ir.VoidType() if function.shape.parts[0].kind == "void" else I64
    parameters = [I64] * len(function.prototype.parameters)
    made = LinkedDeclaration(module, ir.FunctionType(result, parameters), name)
    debug.declaration(made, [_described(debug, part) for part in function.shape.parts])
    return made


def has_linked(module: ir.Module) -> bool:
    """Whether a module calls functions of other objects."""
    return any(isinstance(function, LinkedDeclaration) for function in module.functions)


def _described(debug: DebugInfo, shape: CShape) -> Any:
    """The debug information of a C type."""
    match shape.kind:
        case "void":
            return ir.Constant(ir.MetaDataType(), None)
        case "int":
            return debug.base(f"int{shape.size * 8}", shape.size * 8, "DW_ATE_signed")
        case "floating-point number":
            return debug.base(f"real{shape.size * 8}", shape.size * 8, "DW_ATE_float")
        case "pointer" if shape.parts[0].kind == "void":
            return debug.pointer
        case "pointer":
            return debug.pointer_of(_described(debug, shape.parts[0]))
        case "array":
            return debug.array(_described(debug, shape.parts[0]), shape.size, 0)
        case "function":
            return debug.signature([_described(debug, part) for part in shape.parts])
        case _:
            return debug.named(shape.kind, shape.name, shape.size)
