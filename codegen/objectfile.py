"""LLVM IR → BPF object file, in this process (llvmlite's wheel contains the BPF target)."""

from __future__ import annotations

import ctypes
import mmap
from functools import cache

import llvmlite.binding as llvm

from pytrace.grammar.data import dataclass

TRIPLE = "bpfel-unknown-none"
# v3: 32-bit operations and jumps, which every kernel with BTF-based tracing has (Linux ≥ 5.4)
CPU = "v3"
# v4: jumps over more than 32,767 instructions (Linux ≥ 6.6). LLVM aborts the process when v3 cannot do one.
LARGE_CPU = "v4"
# Text of a module from which on it may have that many; there are 70 to 105 characters to an instruction.
LARGE = 1_500_000


@cache
def machine(cpu: str = CPU) -> llvm.TargetMachine:
    """The BPF target machine, made once."""
    llvm.initialize_all_targets()
    drop_code()
    llvm.initialize_all_asmprinters()
    # LLVM ends the process when a frame has more than the kernel's 512 bytes; let the verifier say so instead
    llvm.set_option("pytrace", "-bpf-stack-size=1048576")
    made = llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=cpu, opt=2)
    drop_code()
    return made


def drop_code() -> None:
    """Give back the memory that LLVM's code takes; what is needed again comes back from the page cache.

    The kernel maps 16 pages around each that is touched (mm/memory.c, do_fault_around), and every phase touches
    other parts of the library's 180 MB: done after each phase, this lowers the peak of a run from 107 to 75 MB.
    """
    madvise = ctypes.CDLL(None).madvise
    for start, size in code_ranges():
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_DONTNEED)


@cache
def code_ranges() -> tuple[tuple[int, int], ...]:
    """Where LLVM's code and constants are mapped: (start, size) of what can only be read and was never
    written.

    What the dynamic linker has relocated is read-only as well, but dropping it would lose it: that (RELRO) lies
    right before the data.
    """
    mappings = []
    with open("/proc/self/maps", encoding="ascii", errors="replace") as file:
        for line in file:
            if "libllvmlite" in line:
                place, rights, *_ = line.split(" ", 2)
                start, end = (int(part, 16) for part in place.split("-"))
                mappings.append((start, end - start, rights))
    following = [rights for _, _, rights in mappings[1:]]
    return tuple(
        (start, size)
        for (start, size, rights), after in zip(mappings, following, strict=False)
        if "w" not in rights and "w" not in after
    )


@dataclass(frozen=True, slots=True)
class Built:
    """A finished object and what it was made from, for `-d`."""

    elf: bytes
    optimized: str
    assembly: str


def build(ir_text: str, want_assembly: bool = False) -> Built:
    """Verify, optimise and emit a module. Raises RuntimeError with LLVM's message if the IR is not valid."""
    target = machine(CPU if len(ir_text) < LARGE else LARGE_CPU)
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


drop_code()  # what loading the library has touched: constructors all over it
