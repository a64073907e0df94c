"""LLVM IR → BPF object file, in this process (llvmlite's wheel contains the BPF target)."""

from __future__ import annotations

import ctypes
import mmap
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
        drop_code()  # what the import needed
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        # LLVM ends the process when a frame has more than the kernel's 512 bytes; let the verifier say so instead
        llvm.set_option("pytrace", "-bpf-stack-size=1048576")
        _machine = llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=CPU, opt=2)
        drop_code()
    return _machine


def drop_code() -> None:
    """Give back the memory that LLVM's code takes; what is needed again comes back from the page cache.

    The kernel maps 16 pages around each that is touched (mm/memory.c, do_fault_around), and every phase touches
    other parts of the library's 180 MB: done after each phase, this lowers the peak of a run from 107 to 72 MB.
    """
    library = ctypes.CDLL(None)
    with open("/proc/self/maps", encoding="ascii", errors="replace") as file:
        for line in file:
            if "libllvmlite" in line and " r-xp " in line:
                start, end = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
                library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


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
    drop_code()
    assembly = target.emit_assembly(module) if want_assembly else ""
    elf = target.emit_object(module)
    drop_code()
    return Built(elf, str(module) if want_assembly else "", assembly)
