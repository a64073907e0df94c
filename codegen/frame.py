"""One BPF function while it is being built: its blocks, its memory, its debug location."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llvmlite import ir

from pytrace.codegen.debuginfo import DebugInfo
from pytrace.codegen.helpers import HELPERS, STEADY
from pytrace.codegen.maptable import MapTable
from pytrace.grammar.emit import Slot
from pytrace.grammar.hints import Any
from pytrace.grammar.source import Span
from pytrace.grammar.types import round_up

I8, I32, I64 = (ir.IntType(bits) for bits in (8, 32, 64))
PTR = ir.PointerType()

# Of the 512 bytes of BPF stack this much is used for objects; the rest is left to LLVM for spilled registers.
STACK_BUDGET = 256
# The BPF backend expands larger copies into calls of memcpy, which do not exist; a helper does those.
INLINE_COPY = 256


# The kernel's per-CPU memory comes in pieces of at most this size (PCPU_MIN_UNIT_SIZE,
# include/linux/percpu.h).
PER_CPU_MOST = 32 << 10


class Frame:
    """The function being built and the instructions that everything else is made of."""

    def __init__(
        self, function: ir.Function, debug: DebugInfo, maps: MapTable, span: Span, number: int, on_stack: int
    ) -> None:
        function.attributes.add("nounwind")  # nothing throws; the table for unwinding would be of no use
        self.function = function
        self.debug = debug
        self.maps = maps
        self.number = number
        self.on_stack = on_stack
        self.stack_used = 0
        self.scratch_used = 0
        self.scratch_peak = 0
        self.depth = 0  # how many functions around this one
        self.kept = 0  # where in the scratch entry what outlives its statement ends
        self._live: list[tuple[int, Any]] = []  # objects on the stack: size and place
        self._free: dict[int, list[Any]] = {}  # places on the stack whose object is not needed any more, by size
        self._zero_key: Any = None
        self.objects: dict[int, Any] = {}  # pointers of the context that are known not to be null, by offset
        self._is_early = False
        names = tuple(argument.name for argument in function.args)
        self.scope = debug.function(function, span, names)
        self.allocas = function.append_basic_block("entry")
        self.prologue = function.append_basic_block("prologue")
        self.body = function.append_basic_block("body")
        self.exit = function.append_basic_block("exit")
        self.leave = function.append_basic_block("leave")
        self.builder = ir.IRBuilder(self.body)
        self.locate(span)
        self.context_slot_ = self.alloca(PTR)
        self.scratch_slot = self.alloca(PTR)
        self.result = self.alloca(I64)

    # ---- places in the source

    def locate(self, span: Span) -> None:
        """Say which part of the script the next instructions come from."""
        self.builder.debug_metadata = self.debug.location(span, self.scope)
        self.span = span

    @contextmanager
    def located(self, span: Span) -> Iterator[None]:
        """The instructions made inside come from another part of the script."""
        before = self.span
        self.locate(span)
        yield
        self.locate(before)

    # ---- blocks

    def block(self, name: str) -> ir.Block:
        """A new basic block of the function."""
        return self.function.append_basic_block(name)

    def goto(self, block: ir.Block) -> None:
        """Jump to a block unless the present one has ended, and go on there."""
        if not self.builder.block.is_terminated:
            self.builder.branch(block)
        self.builder.position_at_end(block)

    def dead_end(self) -> None:
        """Go on in a block that nothing reaches."""
        self.builder.position_at_end(self.block("unreachable"))

    def begin(self) -> None:
        """The block's own code starts here; what is made `early` comes before it."""
        self._early_end, self._start = self.block("early"), self.block("start")
        self.builder.branch(self._early_end)
        self.builder.position_at_end(self._start)

    @contextmanager
    def early(self) -> Iterator[None]:
        """The instructions made inside run before the block's own code, in the order in which they are made."""
        if self._is_early:
            yield
            return
        here, self._is_early = self.builder.block, True
        self.builder.position_at_end(self._early_end)
        yield
        self._early_end, self._is_early = self.builder.block, False
        self.builder.position_at_end(here)

    # ---- memory

    def alloca(self, kind: ir.Type, align: int = 8) -> Any:
        """A variable on the stack, which LLVM may keep in registers."""
        with self.builder.goto_block(self.allocas):
            slot = self.builder.alloca(kind)
            slot.align = align
        # llvmlite remembers what an alloca points to and checks stores against it; a plain `ptr` holds
        # anything
        slot.type = PTR
        return slot

    def memory(self, size: int, zero: bool) -> Slot:
        """Memory for an object: small ones on the stack, others in this program's scratch entry."""
        room = max(8, round_up(size, 8))
        slot = Slot(self._on_stack(room) or self._in_scratch(room), size)
        if zero:
            self.fill_zero(slot.raw, room)
        return slot

    def scratch_memory(self, size: int) -> Any:
        """Zeroed memory in the scratch entry, however small."""
        room = round_up(size, 8)
        place = self._in_scratch(room)
        self.fill_zero(place, room)
        return place

    def lasting(self, size: int) -> Slot:
        """Memory of which the address is kept: it serves no later statement."""
        place = self._in_scratch(round_up(size, 8))
        self.kept = self.scratch_used
        return Slot(place, size)

    def enter(self, outer: Frame) -> None:
        """Take memory behind that of the function around this one, which uses the same scratch entry."""
        self.stack_used, self.scratch_used, self.kept = outer.stack_used, outer.scratch_used, outer.kept
        self.depth = outer.depth + 1

    @property
    def has_asides(self) -> bool:
        """Whether what is done seldom may be in functions of its own. The kernel allows 8 calls inside of each other,
        and 512 bytes of stack for all."""
        return self.on_stack > 0 and self.depth < 4

    def rejoin(self, outer: Frame) -> None:
        """The function around this one goes on."""
        outer.scratch_peak, outer.kept = max(outer.scratch_peak, self.scratch_peak), self.kept

    def has_room(self, size: int) -> bool:
        """Whether an object may lie on the stack."""
        room = max(8, round_up(size, 8))
        fits = self.stack_used + room <= STACK_BUDGET or bool(self._free.get(room))
        return room <= self.on_stack and fits

    def _on_stack(self, room: int) -> Any | None:
        """A place on the stack, or None if the object is too large or the stack too full."""
        if room > self.on_stack:
            return None
        free = self._free.get(room)
        if free:
            place = free.pop()
        elif self.stack_used + room <= STACK_BUDGET:
            self.stack_used += room
            place = self.alloca(ir.ArrayType(I64, room // 8))
        else:
            return None
        self._live.append((room, place))
        return place

    def words(self, count: int) -> Any:
        """Words on the stack, where alone pointers to the stack can be kept; free again after the statement."""
        room = min((size for size, places in self._free.items() if places and size >= 8 * count), default=0)
        if room:
            place = self._free[room].pop()
        else:
            room = 8 * count
            self.stack_used += room
            place = self.alloca(ir.ArrayType(I64, count))
        self._live.append((room, place))
        return place

    def scratch_place(self, offset: int) -> Any:
        """An address in the scratch entry."""
        return self.offset(self.builder.load(self.scratch_slot, typ=PTR), offset)

    def _in_scratch(self, room: int) -> Any:
        place = self.scratch_place(self.scratch_used)
        self.scratch_used += room
        self.scratch_peak = max(self.scratch_peak, self.scratch_used)
        return place

    @contextmanager
    def temporaries(self) -> Iterator[None]:
        """What gets memory inside gives it up at the end: the memory of one statement serves the next."""
        used, live = self.scratch_used, len(self._live)
        yield
        self.scratch_used = max(used, self.kept)
        for room, place in self._live[live:]:
            self._free.setdefault(room, []).append(place)
        del self._live[live:]

    def zero_key(self) -> Any:
        """A 4-byte zero: the key of maps that have one entry."""
        if self._zero_key is None:
            self._zero_key = self.alloca(I32, 4)
            with self.builder.goto_block(self.prologue):
                self.builder.store(ir.Constant(I32, 0), self._zero_key)
        return self._zero_key

    def offset(self, pointer: Any, offset: Any) -> Any:
        """A pointer some bytes further on."""
        if isinstance(offset, int):
            if offset == 0:
                return pointer
            offset = ir.Constant(I64, offset)
        else:
            pointer = self.opaque(pointer)
        return self.builder.gep(pointer, [offset], source_etype=I8)

    def opaque(self, value: Any, type: ir.Type = PTR) -> Any:
        """A pointer, or number, of which LLVM knows nothing: it turns additions to an aligned place on the stack
        into bitwise operations, which the verifier does not allow on pointers."""
        kind = ir.FunctionType(type, [type])
        return self.builder.asm(kind, "", "=r,0", [value], False)

    def apart(self, pointer: Any, number: int) -> Any:
        """The pointer; LLVM does not merge what makes it with the like code of another number."""
        kind = ir.FunctionType(PTR, [PTR, I64])
        return self.builder.asm(kind, "", "=r,0,i", [pointer, ir.Constant(I64, number)], False)

    def number_of(self, pointer: Any) -> Any:
        """A pointer as a number that may be calculated with: the verifier forgets what it is on the way
        through scratch memory."""
        place = self.scratch_memory(8)
        self.builder.store(pointer, place)
        self.builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)
        return self.builder.load(place, typ=I64)

    def fill_zero(self, pointer: Any, size: int) -> None:
        """Set memory to zero."""
        if size > INLINE_COPY:
            # a failing probe read clears its target (mm/maccess.c, bpf_probe_read_kernel_common)
            self.call("probe_read_kernel", pointer, self.i32(size), ir.Constant(I64, 0))
            return
        for done in range(0, size, 8):
            self.builder.store(ir.Constant(I64, 0), self.offset(pointer, done), align=8)

    def copy_bytes(self, to: Any, source: Any, size: int, align: int = 8) -> None:
        """Copy memory that the program may access directly."""
        if size > INLINE_COPY:
            self.call("probe_read_kernel", to, self.i32(size), source)
            return
        step = align
        done = 0
        while done < size:
            while step > size - done or done % step:
                step //= 2
            kind = ir.IntType(step * 8)
            word = self.builder.load(self.offset(source, done), typ=kind, align=step)
            self.builder.store(word, self.offset(to, done), align=step)
            done += step
            step = align

    # ---- calls

    def i32(self, value: Any) -> Any:
        """A 32-bit argument."""
        return ir.Constant(I32, value) if isinstance(value, int) else self.builder.trunc(value, I32)

    def call(self, helper: str, *arguments: Any) -> Any:
        """Call a BPF helper; the result has 64 bits."""
        kind = ir.FunctionType(I64, [a.type for a in arguments])
        target = ir.Constant(I64, HELPERS[helper]).inttoptr(PTR)
        # LLVM keeps one of several calls that read no memory, as far as it knows
        attributes = ("readnone", "nounwind") if helper in STEADY else ()
        return self._indirect(target, kind, list(arguments), attributes)

    def call_pointer(self, helper: str, *arguments: Any) -> Any:
        """Call a BPF helper whose result is a pointer."""
        kind = ir.FunctionType(PTR, [a.type for a in arguments])
        target = ir.Constant(I64, HELPERS[helper]).inttoptr(PTR)
        return self._indirect(target, kind, list(arguments))

    def _indirect(
        self, target: Any, kind: ir.FunctionType, arguments: list[Any], attributes: Sequence[str] = ()
    ) -> Any:
        return self.builder.call(_Typed(target, kind), arguments, attrs=attributes)

    def intrinsic(self, name: str, kind: ir.FunctionType) -> ir.Function:
        """An LLVM intrinsic, declared when it is first used."""
        module = self.function.module
        return module.globals.get(name) or ir.Function(module, kind, name)

    # ---- the end

    def finish(self, code: int = 0) -> None:
        """Close the function of a program; without `return` its result is `code`."""
        self.goto(self.exit)
        self.goto(self.leave)
        with self.builder.goto_block(self._early_end):
            self.builder.branch(self._start)
        self._close(code)
        if not self.scratch_peak:
            self.builder.branch(self.body)
            return
        key = self.alloca(I32, 4)
        if self.scratch_peak > PER_CPU_MOST:
            self.builder.store(self.i32(self.call("get_smp_processor_id")), key)
            scratch = self.maps.large_scratch(self.scratch_peak)
        else:
            self.builder.store(ir.Constant(I32, self.maps.scratch_users), key)
            scratch = self.maps.scratch(self.scratch_peak)
        entry = self.call_pointer("map_lookup_elem", scratch, key)
        self.builder.store(entry, self.scratch_slot)
        there = self.builder.icmp_unsigned("!=", self.builder.ptrtoint(entry, I64), ir.Constant(I64, 0))
        self.builder.cbranch(there, self.body, self.exit)

    def finish_callback(self) -> None:
        """Close the function of a loop's body, whose blocks all lead to `leave` already."""
        self.builder.position_at_end(self.leave)
        self._close(0)
        self.builder.branch(self.body)

    def _close(self, code: int) -> None:
        self.builder.ret(self.builder.load(self.result, typ=I64))
        with self.builder.goto_block(self.allocas):
            self.builder.branch(self.prologue)
        self.builder.position_at_end(self.prologue)
        self.builder.store(ir.Constant(I64, code), self.result)


class _Typed:
    """A callee that is not an `ir.Function`: the address of a helper, with the type to call it by."""

    def __init__(self, pointer: Any, kind: ir.FunctionType) -> None:
        self.pointer = pointer
        self.function_type = kind
        self.type = PTR

    def get_reference(self) -> str:
        return str(self.pointer.get_reference())
