"""LLVM IR → BPF object file, in this process (llvmlite's wheel contains the BPF target)."""

from __future__ import annotations

from dataclasses import dataclass

import llvmlite.binding as llvm

TRIPLE = "bpfel-unknown-none"
# v3: 32-bit operations and jumps, which every kernel with BTF-based tracing has (Linux ≥ 5.4)
CPU = "v3"

_machine: llvm.TargetMachine | None = None


def machine() -> llvm.TargetMachine:
    """The BPF target machine, made once."""
    global _machine
    if _machine is None:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        _machine = llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=CPU, opt=2)
    return _machine


@dataclass(frozen=True, slots=True)
class Built:
    """A finished object and what it was made from, for `-d`."""

    elf: bytes
    optimized: str
    assembly: str


def build(ir_text: str, want_assembly: bool = False) -> Built:
    """Verify, optimise and emit a module. Raises RuntimeError with LLVM's message if the IR is not valid."""
    target = machine()
    module = llvm.parse_assembly(ir_text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    # the verifier unrolls loops itself, and vectors do not exist in BPF
    options.loop_unrolling = False
    options.loop_vectorization = options.slp_vectorization = False
    passes = llvm.create_pass_builder(target, options)
    passes.getModulePassManager().run(module, passes)
    assembly = target.emit_assembly(module) if want_assembly else ""
    return Built(target.emit_object(module), str(module) if want_assembly else "", assembly)
