"""User stacks of programs without frame pointers: a walk by unwind tables, in the kernel.

User space makes tables of the `.eh_frame` of a process's files (runtime/ehframe.py) and puts them into maps
(`plan.TABLES`). A program then goes from frame to frame: it looks up the mapping that an address is in, and in the
table of its file the rule for that place. The rule says where the caller's frame and registers are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from pytrace.grammar.data import dataclass
from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.plan import TABLES, UNWIND_FILES, UNWIND_PROCESSES
from pytrace.grammar.spec import CallSite, feature
from pytrace.grammar.types import UINT32, UINT64, Int, Space, Stack, Struct, Type, size_of
from pytrace.language.builtins.stacks import StackBuiltin
from pytrace.language.builtins.task import current_id
from pytrace.language.probes.common import REGISTERS
from pytrace.language.text import UNWIND_FAILURE
from pytrace.language.unstable import check_unstable

# The words of the walk's state. RETURNED is 1 if the address is one to return to: it is that of the instruction
# behind a call, which may be in another function already, so what counts is the byte before it.
# PENDING is the kernel's note of the next return address that it has replaced (see `replaced_addresses`).
IP, SP, BP, RETURNED, COUNT, GO_ON, FAILED, PENDING = range(0, 64, 8)
STATE = 64
START = ((IP, "ip"), (SP, "sp"), (BP, "bp"))

# Kinds of rule and what else is in one (runtime/ehframe.py, `rule`).
NONE, RSP, RBP, PLT, SIGNAL, END, AT_RBP = range(7)
KIND, SAVED = 7, 0xFFF8
RBP_LOST = -0x8000
SIGNAL_REGISTERS, SIGNAL_SIZE = 120, 56  # from the saved rbp to rip, in struct sigcontext_64
SIGNAL_SP, SIGNAL_IP = 40, 48

# A function has at most as many pending uretprobes as this (MAX_URETPROBE_DEPTH, include/linux/uprobes.h).
MOST_PENDING = 64

# steps of a search are enough for 2 to that power of rows
MAPPING_STEPS, ROW_STEPS = 14, 26
SIGNED_HALF = Int(2, True)
MACHINE = os.uname().machine
USER_MODE = 3  # privilege level, the lowest bits of cs


@feature
class DwUstack(StackBuiltin):
    """The process's own call stack, followed without frame pointers; a ustack.

    The arguments are those of `ustack`, without `build_id`. The way from each function to its caller comes
    from the unwind tables (`.eh_frame`) of the process's files, which are read when the trace starts: so the process
    must be named with `-p`, `-c` or `--dwarf-pid`. A stack that cannot be followed to its end is closed by the line
    `<unwind failure>`. Files that the process maps later are noticed when a stack leads into them.

    bt> config = { unstable_dw_ustack=enable } profile:hz:99 { @[dw_ustack(perf, 5)] = count(); }

    It is unstable: a warning says so unless `unstable_dw_ustack` is set to `enable`. For x86-64 only.

    Source: bpf_loop (Linux 5.17), bpf_task_pt_regs (5.15; bpf-helpers(7)).
    """

    name = "dw_ustack"
    user = True

    def type(self, site: CallSite) -> Type:
        if MACHINE != "x86_64":
            message = "dw_ustack is not available in this build (requires x86_64 and LLVM >= 21)"
            site.error("err.feature", message)
        for helper in ("bpf_loop", "bpf_task_pt_regs"):
            if not site.context.host.has(helper):
                site.error("err.feature", f"dw_ustack needs the kernel's helper {helper}, which is missing here")
        check_unstable(site, self.name)
        return super().type(site)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        kind = site.type
        assert isinstance(kind, Stack)
        slot = emit.scratch(size_of(kind), shared=True)
        head = size_of(kind) - 8 * kind.limit
        process = current_id(emit, site, offset=4)
        emit.store(slot, 0, emit.convert(process, UINT64))
        table = emit.table(UNWIND_PROCESSES, process)
        emit.when(
            emit.truth(table),
            lambda: self._walk(emit, site, table, emit.part(slot, head - 8, 8), emit.part(slot, head, 8 * kind.limit)),
            lambda: emit.warn("unwind", emit.integer(0), site.span, self.name),
        )
        return emit.at(slot, kind)

    def _walk(self, emit: Emit, site: CallSite, process: Value, total: Slot, frames: Slot) -> None:
        state = emit.scratch(STATE, shared=True)
        start(emit, site, state)
        pending = replaced_addresses(site)
        if pending is not None:
            first_pending(emit, state, pending)
        limit = frames.size // 8

        def body(index: Value, carried: Sequence[Value | Slot]) -> Value:
            state, frames, process = carried
            assert isinstance(state, Slot)
            assert isinstance(frames, Slot)
            assert isinstance(process, Value)
            emit.store_word(frames, index, emit.load(state, IP, UINT64))
            following = emit.arith("+", index, emit.integer(1))
            emit.store(state, COUNT, following)
            emit.store(state, GO_ON, emit.integer(0))
            emit.when(emit.compare("<", following, emit.integer(limit)), lambda: step(emit, state, process))
            if pending is not None:
                replaced = emit.arith(
                    "&", emit.load(state, GO_ON, UINT64), emit.truth(emit.load(state, PENDING, UINT64))
                )
                emit.when(emit.truth(replaced), lambda: original_address(emit, state, pending))
            return emit.compare("==", emit.load(state, GO_ON, UINT64), emit.integer(0))

        emit.loop(limit, (state, frames, process), body)
        count, failed = emit.load(state, COUNT, UINT64), emit.load(state, FAILED, UINT64)
        # a failed step was not that to a last frame, so there is room for one more
        emit.when(emit.truth(failed), lambda: emit.store_word(frames, count, emit.integer(UNWIND_FAILURE)))
        emit.store(total, 0, emit.arith("+", count, failed))


def start(emit: Emit, site: CallSite, state: Slot) -> None:
    """The registers of the process: the probe's, if it interrupted user code, else those that it entered the kernel
    with."""

    def from_task() -> None:
        saved = emit.scratch(REGISTERS["ss"] + 8, zero=False)
        pointer = emit.helper("task_pt_regs", emit.helper("get_current_task_btf"))
        emit.read(saved, saved.size, pointer, Space.KERNEL)
        for place, name in START:
            emit.store(state, place, emit.load(saved, REGISTERS[name], UINT64))

    if not site.target.type.has_registers:
        from_task()
        return
    # not in one of two branches: LLVM would make one access of both, at an address that it calculates
    for place, name in START:
        emit.store(state, place, emit.context_word(REGISTERS[name]))
    mode = emit.arith("&", emit.context_word(REGISTERS["cs"]), emit.integer(USER_MODE))
    emit.when(emit.compare("!=", mode, emit.integer(USER_MODE)), from_task)


def step(emit: Emit, state: Slot, process: Value) -> None:
    """Go from the state's frame to its caller's; sets GO_ON if there is one, FAILED if nobody knows."""
    emit.store(state, FAILED, emit.integer(1))
    place = emit.arith("-", emit.load(state, IP, UINT64), emit.load(state, RETURNED, UINT64))
    size = TABLES[UNWIND_PROCESSES].row
    covered = emit.scratch(8)

    def search_mapping(first: Slot) -> None:
        count = emit.load(first, 0, UINT64)
        index = search(emit, process, (emit.integer(1), count), place, size, MAPPING_STEPS)
        emit.row(process, index, size, in_mapping)
        missed = emit.compare("==", emit.load(covered, 0, UINT64), emit.integer(0))
        emit.store(first, 8, emit.arith("+", emit.load(first, 8, UINT64), missed))

    def in_mapping(mapping: Slot) -> None:
        begin, end, base, file = (emit.load(mapping, at, UINT64) for at in (0, 8, 16, 24))
        inside = emit.arith("&", emit.compare(">=", place, begin), emit.compare("<", place, end))
        emit.when(emit.truth(inside), lambda: in_file(emit.arith("-", place, base), file))

    def in_file(offset: Value, file: Value) -> None:
        emit.store(covered, 0, emit.integer(1))
        rows = emit.table(UNWIND_FILES, emit.convert(file, UINT32))
        count = emit.arith(">>", file, emit.integer(32))
        emit.when(emit.truth(rows), lambda: apply_row(emit, state, rows, count, offset))

    emit.row(process, emit.integer(0), size, search_mapping)


def search(emit: Emit, table: Value, within: tuple[Value, Value], key: Value, size: int, steps: int) -> Value:
    """The number of the last row whose first word is not above the key, of the rows from a first one on, of which
    there is at least one; it is the first row also if that is above."""
    low, left = emit.scratch(8), emit.scratch(8)
    emit.store(low, 0, within[0])
    emit.store(left, 0, within[1])

    def halve(_: Value) -> Value:
        half = emit.arith(">>", emit.load(left, 0, UINT64), emit.integer(1))
        middle = emit.arith("+", emit.load(low, 0, UINT64), half)

        def look(row: Slot) -> None:
            below = emit.compare("<=", emit.load(row, 0, UINT64), key)
            emit.store(low, 0, emit.select(below, middle, emit.load(low, 0, UINT64)))

        emit.row(table, middle, size, look)
        rest = emit.arith("-", emit.load(left, 0, UINT64), half)
        emit.store(left, 0, rest)
        return emit.compare("<=", rest, emit.integer(1))

    emit.repeat(steps, halve)
    return emit.load(low, 0, UINT64)


def apply_row(emit: Emit, state: Slot, rows: Value, count: Value, offset: Value) -> None:
    """Find the row for a place in a file, and do what its rule says."""
    half = emit.integer(32)
    key = emit.arith("|", emit.arith("<<", offset, half), emit.integer(0xFFFFFFFF))
    size = TABLES[UNWIND_FILES].row
    index = search(emit, rows, (emit.integer(0), count), key, size, ROW_STEPS)

    def found(row: Slot) -> None:
        word = emit.load(row, 0, UINT64)
        # places behind 4 GB are not in the table
        there = emit.arith(
            "&", emit.compare("<=", word, key), emit.compare("==", emit.arith(">>", offset, half), emit.integer(0))
        )
        emit.when(emit.truth(there), lambda: apply_rule(emit, state, word))

    emit.row(rows, index, size, found)


def apply_rule(emit: Emit, state: Slot, word: Value) -> None:
    """Change the state to that of the calling function."""
    kind = emit.arith("&", word, emit.integer(KIND))

    def is_kind(number: int) -> Value:
        return emit.compare("==", kind, emit.integer(number))

    def others() -> None:
        emit.when(is_kind(SIGNAL), lambda: interrupted(emit, state), known)

    def known() -> None:
        emit.when(emit.compare("!=", kind, emit.integer(NONE)), lambda: called(emit, state, word, kind))

    emit.when(is_kind(END), lambda: emit.store(state, FAILED, emit.integer(0)), others)


def interrupted(emit: Emit, state: Slot) -> None:
    """The frame that a signal handler returns to: all registers of what was interrupted are on the stack."""
    saved = emit.scratch(SIGNAL_SIZE, zero=False)
    place = emit.arith("+", emit.load(state, SP, UINT64), emit.integer(SIGNAL_REGISTERS))
    code = emit.read(saved, SIGNAL_SIZE, place, Space.USER)

    def restore() -> None:
        for to, at in ((BP, 0), (SP, SIGNAL_SP)):
            emit.store(state, to, emit.load(saved, at, UINT64))
        go_on(emit, state, emit.load(saved, SIGNAL_IP, UINT64), returned=False)

    emit.when(emit.compare("==", code, emit.integer(0)), restore)


def called(emit: Emit, state: Slot, word: Value, kind: Value) -> None:
    """The frame of an ordinary function: the return address is below the frame address."""
    sp, bp = emit.load(state, SP, UINT64), emit.load(state, BP, UINT64)
    in_memory = emit.compare("==", kind, emit.integer(AT_RBP))
    by_bp = emit.arith("|", emit.compare("==", kind, emit.integer(RBP)), in_memory)
    offset = emit.convert(emit.arith(">>", word, emit.integer(16)), SIGNED_HALF)
    offset = emit.arith("<<", offset, emit.integer(3))
    # each entry of the linkage table pushes a word with its second instruction, 11 bytes in
    pushed = emit.compare(">=", emit.arith("&", emit.load(state, IP, UINT64), emit.integer(15)), emit.integer(11))
    linkage = emit.arith("+", emit.integer(8), emit.arith("<<", pushed, emit.integer(3)))
    offset = emit.select(emit.compare("==", kind, emit.integer(PLT)), linkage, offset)
    frame, address = emit.scratch(8), emit.scratch(8)
    emit.store(frame, 0, emit.arith("+", emit.select(by_bp, bp, sp), offset))

    def fetch() -> None:
        read_word(emit, frame, emit.load(frame, 0, UINT64))

    emit.when(in_memory, fetch)
    top = emit.load(frame, 0, UINT64)

    def restore() -> None:
        saved = emit.convert(emit.arith("&", word, emit.integer(SAVED)), SIGNED_HALF)
        base = emit.select(in_memory, bp, top)
        is_saved = emit.arith("|", emit.truth(saved), in_memory)
        emit.when(emit.truth(is_saved), lambda: restore_bp(emit, state, saved, base))
        emit.store(state, SP, top)
        go_on(emit, state, emit.load(address, 0, UINT64), returned=True)

    def above() -> None:
        code = read_word(emit, address, emit.arith("-", top, emit.integer(8)))
        emit.when(emit.compare("==", code, emit.integer(0)), restore)

    # a caller's frame is above that of what it calls, else the way would have no end
    emit.when(emit.compare(">", top, sp), above)


def restore_bp(emit: Emit, state: Slot, saved: Value, base: Value) -> None:
    """The caller's rbp; 0, which leads nowhere, if it is lost."""
    word = emit.scratch(8)
    lost = emit.compare("==", saved, emit.integer(RBP_LOST))
    read_word(emit, word, emit.arith("+", base, saved))
    emit.store(state, BP, emit.select(lost, emit.integer(0), emit.load(word, 0, UINT64)))


def read_word(emit: Emit, to: Slot, address: Value) -> Value:
    """Eight bytes of the process's memory; 0 or a negative error."""
    return emit.read(to, 8, address, Space.USER)


def go_on(emit: Emit, state: Slot, address: Value, returned: bool) -> None:
    """The next frame is known; there is none if its address is 0."""
    emit.store(state, IP, address)
    emit.store(state, RETURNED, emit.integer(int(returned)))
    emit.store(state, FAILED, emit.integer(0))
    emit.store(state, GO_ON, emit.convert(emit.truth(address), UINT64))


# ---------------------------------------------------------------- uretprobes


@dataclass(frozen=True, slots=True)
class Pending:
    """Where the kernel keeps the return addresses that uretprobes have replaced, as offsets in its structs.

    `task` and `first` lead from the task to the newest `struct return_instance` (include/linux/uprobes.h); that has the
    `next` one, the address on the `stack` of what was replaced, and the `original` address.
    """

    task: int
    first: int
    next: int
    stack: int
    original: int


def replaced_addresses(site: CallSite) -> Pending | None:
    """The offsets, if the kernel has uretprobes."""
    host, found = site.context.host, []
    for struct, member in (
        ("task_struct", "utask"), ("uprobe_task", "return_instances"), ("return_instance", "next"),
        ("return_instance", "stack"), ("return_instance", "orig_ret_vaddr"),
    ):  # fmt: skip
        kind = host.find_type(struct, "struct")
        members = host.members(kind) if isinstance(kind, Struct) else ()
        offsets = [m.offset for m in members if m.name == member]
        if not offsets:
            return None
        found.append(offsets[0])
    return Pending(*found)


def first_pending(emit: Emit, state: Slot, pending: Pending) -> None:
    """Note the newest replaced address of the current task."""
    word = emit.scratch(8)
    place = emit.arith("+", emit.helper("get_current_task"), emit.integer(pending.task))
    emit.read(word, 8, place, Space.KERNEL)

    def newest() -> None:
        place = emit.arith("+", emit.load(word, 0, UINT64), emit.integer(pending.first))
        emit.read(word, 8, place, Space.KERNEL)

    emit.when(emit.truth(emit.load(word, 0, UINT64)), newest)
    emit.store(state, PENDING, emit.load(word, 0, UINT64))


def original_address(emit: Emit, state: Slot, pending: Pending) -> None:
    """If a uretprobe has replaced the return address just found, put the original one into the state."""
    place = emit.arith("-", emit.load(state, SP, UINT64), emit.integer(8))
    size = max(pending.next, pending.stack, pending.original) + 8
    noted, at = emit.scratch(size, zero=False), emit.scratch(8)
    emit.store(at, 0, emit.load(state, PENDING, UINT64))

    def look(_: Value) -> Value:
        emit.read(noted, size, emit.load(at, 0, UINT64), Space.KERNEL)
        following = emit.load(noted, pending.next, UINT64)
        same = emit.compare("==", emit.load(noted, pending.stack, UINT64), place)

        def found() -> None:
            emit.store(state, IP, emit.load(noted, pending.original, UINT64))
            emit.store(state, PENDING, following)

        emit.when(same, found)
        emit.store(at, 0, following)
        return emit.arith("|", same, emit.compare("==", following, emit.integer(0)))

    emit.repeat(MOST_PENDING, look)
