"""How much stack the code of an object takes, so that a program that takes too much can be made again with less."""

from __future__ import annotations

from struct import iter_unpack

import llvmlite.binding as llvm

STACK_BYTES = 512  # MAX_BPF_STACK (include/linux/filter.h)
CALL_BYTES = 32  # check_max_stack_depth() in kernel/bpf/verifier.c
CALLBACKS = ".text"  # the section of what programs call; their own code has sections of its own

FRAME = 10  # the register that holds the end of the stack frame
LDX, ST, STX = 1, 2, 3  # classes of instructions that go to memory
MOVE, ADD = 0xBF, 0x07  # `r1 = r2` and `r1 += number`, 64 bits


def too_deep(elf: bytes) -> bool:
    """Whether the kernel would refuse a program because of its stack, which it shares with the loops in it."""
    depths = {".": 0, CALLBACKS: 0}
    for section in llvm.ObjectFileRef.from_data(elf).sections():
        if section.is_text():
            name = section.name().decode() if isinstance(section.name(), bytes) else section.name()
            depths[name] = _depth(section.data())
    called = depths.pop(CALLBACKS)
    # each call takes a multiple of 32 bytes, and the last may be of what is done seldom (`RecordEmitter.aside`)
    aside = CALL_BYTES if called else 0
    return max(map(_rounded, depths.values())) + _rounded(called) + aside > STACK_BYTES


def _rounded(depth: int) -> int:
    return -(-depth // CALL_BYTES) * CALL_BYTES


def _depth(code: bytes) -> int:
    """The lowest place of the stack that instructions name, by address or by taking its address."""
    deepest, copied = 0, -1  # `copied`: the register that the instruction before has set to the frame's end
    for op, registers, offset, number in iter_unpack("<BBhi", code):
        to, source, kind = registers & 15, registers >> 4, op & 7
        if offset < deepest and ((kind == LDX and source == FRAME) or (kind in (ST, STX) and to == FRAME)):
            deepest = offset
        elif op == ADD and to == copied and number < deepest:
            deepest = number
        copied = to if op == MOVE and source == FRAME else -1
    return -deepest
