"""`Emit` on LLVM: what features (and the translation of expressions and statements) make code with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from pytrace.codegen.frame import I32, I64, PTR, Frame
from pytrace.codegen.kfuncs import kernel_function
from pytrace.codegen.maptable import MapTable
from pytrace.grammar.config import Config
from pytrace.grammar.emit import Slot, Value
from pytrace.grammar.hints import Any
from pytrace.grammar.nodes import Expr
from pytrace.grammar.plan import PlanBuilder
from pytrace.grammar.promote import is_scalar, settled
from pytrace.grammar.source import Span
from pytrace.grammar.spec import Context
from pytrace.grammar.types import (
    BOOL,
    UINT64,
    Array,
    Bool,
    Buffer,
    EnumType,
    Int,
    Record,
    Space,
    String,
    Struct,
    Tuple,
    Type,
    TypeSource,
    align_of,
    offsets_of,
    round_up,
    size_of,
)

ARITHMETIC = {
    "+": "add", "-": "sub", "*": "mul", "/": "udiv", "%": "urem", "&": "and_", "|": "or_", "^": "xor", "<<": "shl",
    ">>": "lshr",
}  # fmt: skip

# helpers that read memory, by the space the address lies in; without one the old helper picks by the address
READ = {Space.KERNEL: "probe_read_kernel", Space.USER: "probe_read_user"}
READ_STRING = {Space.KERNEL: "probe_read_kernel_str", Space.USER: "probe_read_user_str"}


class Emitter:
    """The code generator for one program; see `pytrace.grammar.emit.Emit` for what the methods mean."""

    def __init__(self, frame: Frame, maps: MapTable, plan: PlanBuilder, context: Context, source: TypeSource) -> None:
        self.frame = frame
        self.maps = maps
        self.plan = plan
        self.compile_context = context
        self.source = source
        self._once: dict[str, tuple[Type, Any]] = {}  # type and place of values that are computed early

    @property
    def builder(self) -> ir.IRBuilder:
        """Where instructions go."""
        return self.frame.builder

    @property
    def config(self) -> Config:
        """See Emit."""
        return self.plan.config

    # ---- values

    def integer(self, value: int, type: Type = UINT64) -> Value:
        """See Emit."""
        return Value(type, ir.Constant(I64, value & ((1 << 64) - 1)))

    def value(self, node: Expr) -> Value:
        """See Emit; the translation of expressions gives it its meaning."""
        raise NotImplementedError

    def convert(self, value: Value, type: Type) -> Value:
        """See Emit."""
        if is_scalar(type) and is_scalar(value.type):
            return Value(type, self._extend(self._truncate(value, type), type))
        if isinstance(type, (String, Buffer)) and isinstance(value.type, (String, Buffer)):
            return self._resize(value, type)
        if isinstance(type, (Tuple, Record)) and settled(value.type) != settled(type):
            return self._convert_items(value, type)
        if self.is_reference(value.type) and not self.is_reference(type):
            return self.own(value)
        return Value(type, value.raw, value.align)

    def own(self, value: Value) -> Value:
        """A copy in the program's memory of a value that is only referred to."""
        if not self.is_reference(value.type):
            return value
        slot = self.scratch(size_of(value.type))
        self.store(slot, 0, value)
        return self.at(slot, settled(value.type))

    def _truncate(self, value: Value, type: Type) -> Any:
        if isinstance(type, Bool):
            if isinstance(value.type, Bool):
                return value.raw
            flag = self.builder.icmp_unsigned("!=", value.raw, ir.Constant(I64, 0))
            return self.builder.zext(flag, I64)
        return value.raw

    def _extend(self, raw: Any, type: Type) -> Any:
        """Cut a register to the type's size and extend it again by the type's sign."""
        size = size_of(type)
        if size >= 8 or isinstance(type, Bool):
            return raw
        small = self.builder.trunc(raw, ir.IntType(size * 8))
        signed = isinstance(type, (Int, EnumType)) and type.signed
        return self.builder.sext(small, I64) if signed else self.builder.zext(small, I64)

    def _resize(self, value: Value, type: String | Buffer) -> Value:
        have, want = size_of(value.type), type.size
        if have >= want:
            return Value(type, value.raw, value.align)
        slot = self.scratch(want, zero=True)
        self.frame.copy_bytes(slot.raw, value.raw, have, self.alignment(value))
        return self.at(slot, type)

    def _convert_items(self, value: Value, type: Tuple | Record) -> Value:
        items = value.type.items if isinstance(value.type, (Tuple, Record)) else ()
        slot = self.scratch(size_of(type), zero=True)
        starts = offsets_of(items)
        for index, (offset, item) in enumerate(zip(offsets_of(type.items), type.items, strict=True)):
            origin = index
            if isinstance(type, Record) and isinstance(value.type, Record):
                origin = value.type.names.index(type.names[index])
            part = self.member(value, starts[origin], items[origin])
            self.store(slot, offset, self.convert(part, item))
        return Value(type, slot.raw)

    def member(self, value: Value, offset: int, type: Type) -> Value:
        """A member of a value that lies in the program's memory."""
        pointer = self.frame.offset(value.raw, offset)
        if is_scalar(type):
            return self.load(Slot(pointer, size_of(type)), 0, type)
        return Value(type, pointer, aligned(self.alignment(value), offset))

    def arith(self, op: str, a: Value, b: Value) -> Value:
        """See Emit."""
        if op == "s/":
            return self._signed_division(a, b)
        right = b.raw
        if op in ("<<", ">>"):  # what the machine does with more; LLVM would leave the result undefined
            right = self.builder.and_(right, ir.Constant(I64, 63))
        made = getattr(self.builder, ARITHMETIC[op])(a.raw, right)
        signed = any(isinstance(v.type, Int) and v.type.signed for v in (a, b))
        return Value(Int(8, signed), made)

    def _signed_division(self, a: Value, b: Value) -> Value:
        """Division by absolute values, since BPF before v4 has no signed one; `b` is positive."""
        zero = ir.Constant(I64, 0)
        negative = self.builder.icmp_signed("<", a.raw, zero)
        size = self.builder.select(negative, self.builder.neg(a.raw), a.raw)
        quotient = self.builder.udiv(size, b.raw)
        return Value(Int(8, True), self.builder.select(negative, self.builder.neg(quotient), quotient))

    def compare(self, op: str, a: Value, b: Value, signed: bool = False) -> Value:
        """See Emit."""
        compare = self.builder.icmp_signed if signed else self.builder.icmp_unsigned
        return self.flag(compare(op, a.raw, b.raw))

    def flag(self, bit: Any) -> Value:
        """An LLVM i1 as a value of type bool."""
        return Value(BOOL, self.builder.zext(bit, I64))

    def bit(self, value: Value) -> Any:
        """A scalar as an LLVM i1: whether it is not zero."""
        return self.builder.icmp_unsigned("!=", value.raw, ir.Constant(I64, 0))

    def truth(self, value: Value) -> Value:
        """See Emit."""
        return self.flag(self.bit(value))

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """See Emit."""
        return Value(a.type, self.builder.select(self.bit(condition), a.raw, b.raw))

    def highest_bit(self, value: Value) -> Value:
        """See Emit. By halves: the BPF backend before v4 has no instruction for it and would take 40."""
        raw, total = value.raw, ir.Constant(I64, 0)
        for shift in (32, 16, 8, 4, 2):
            high = self.builder.lshr(raw, ir.Constant(I64, shift))
            there = self.builder.icmp_unsigned("!=", high, ir.Constant(I64, 0))
            step = self.builder.select(there, ir.Constant(I64, shift), ir.Constant(I64, 0))
            raw = self.builder.lshr(raw, step)  # not another choice: each takes a jump
            total = self.builder.add(total, step)
        return Value(UINT64, self.builder.add(total, self.builder.lshr(raw, ir.Constant(I64, 1))))

    def swap_bytes(self, value: Value, size: int) -> Value:
        """See Emit."""
        if size == 1:
            return Value(Int(1), value.raw)
        kind = ir.IntType(size * 8)
        swap = self.frame.intrinsic(f"llvm.bswap.i{size * 8}", ir.FunctionType(kind, [kind]))
        low = value.raw if size == 8 else self.builder.trunc(value.raw, kind)
        swapped = self.builder.call(swap, [low])
        return Value(Int(size), swapped if size == 8 else self.builder.zext(swapped, I64))

    # ---- memory

    def scratch(self, size: int, zero: bool = True, shared: bool = False) -> Slot:
        """See Emit."""
        # the verifier would follow what is on the stack through every round of a loop
        return Slot(self.frame.scratch_memory(size), size) if shared else self.frame.memory(size, zero)

    def slot(self, value: Value) -> Slot:
        """See Emit."""
        return Slot(value.raw, size_of(value.type), self.alignment(value))

    def at(self, slot: Slot, type: Type) -> Value:
        """See Emit."""
        return Value(type, slot.raw, slot.align)

    def part(self, slot: Slot, offset: int | Value, size: int) -> Slot:
        """See Emit."""
        if isinstance(offset, Value):
            return Slot(self.frame.offset(slot.raw, offset.raw), size, 1)
        return Slot(self.frame.offset(slot.raw, offset), size, aligned(slot.align, offset))

    def load(self, slot: Slot, offset: int | Value, type: Type) -> Value:
        """See Emit."""
        size = max(1, size_of(type))
        place = offset if isinstance(offset, int) else offset.raw
        word = self.builder.load(
            self.frame.offset(slot.raw, place), typ=ir.IntType(size * 8), align=1 if size == 1 else size
        )
        if size == 8:
            return Value(type, word)
        signed = isinstance(type, (Int, EnumType)) and type.signed
        return Value(type, self.builder.sext(word, I64) if signed else self.builder.zext(word, I64))

    def store(self, slot: Slot, offset: int, value: Value) -> None:
        """See Emit."""
        size = size_of(value.type)
        pointer = self.frame.offset(slot.raw, offset)
        if is_scalar(value.type):
            word = value.raw if size == 8 else self.builder.trunc(value.raw, ir.IntType(size * 8))
            self.builder.store(word, pointer, align=size)
        elif self.is_reference(value.type):
            self.read(Slot(pointer, size), size, value, value.type.space)  # type: ignore[attr-defined]
        else:
            step = min(self.alignment(value), aligned(slot.align, offset))
            self.frame.copy_bytes(pointer, value.raw, size, step)

    def store_word(self, slot: Slot, index: Value, value: Value) -> None:
        """See Emit."""
        number = self.frame.opaque(index.raw, I64)  # so that the verifier sees that what is used is what was compared

        def put() -> None:
            self.builder.store(value.raw, self.frame.offset(slot.raw, self.builder.shl(number, ir.Constant(I64, 3))))

        self.when(self.compare("<", Value(UINT64, number), self.integer(slot.size // 8)), put)

    def alignment(self, value: Value) -> int:
        """The widest access that is aligned for the bytes of a value."""
        return value.align or align_of(value.type)

    def is_reference(self, type: Type) -> bool:
        """Whether a value of the type is an address in foreign memory, not bytes in the program's own."""
        return isinstance(type, (Struct, Array)) and type.space is not Space.DIRECT

    def copy(self, to: Slot, source: Slot, size: int) -> None:
        """See Emit."""
        self.frame.copy_bytes(to.raw, source.raw, size, min(to.align, source.align))

    def text(self, data: bytes) -> Value:
        """See Emit: the bytes go into the program's memory as immediate stores."""
        size = len(data) + 1
        slot = self.scratch(size, zero=False)
        padded = data + bytes(-len(data) % 8 or 8)
        for start in range(0, size, 8):
            word = int.from_bytes(padded[start : start + 8].ljust(8, b"\0"), "little")
            self.builder.store(ir.Constant(I64, word), self.frame.offset(slot.raw, start), align=8)
        return self.at(slot, String(size))

    def choose(self, index: Value, texts: Sequence[bytes]) -> Value:
        """See Emit."""
        longest = max(map(len, texts)) + 1
        step = round_up(longest, 8)
        slot = self.scratch(longest, zero=False)
        self.frame.copy_bytes(slot.raw, self._entry(index, [text.ljust(step, b"\0") for text in texts]), step)
        return self.at(slot, String(longest))

    def pick(self, index: Value, numbers: Sequence[int]) -> Value:
        """See Emit."""
        entry = self._entry(index, [number.to_bytes(2, "little") for number in numbers])
        inside = self.compare("<", index, self.integer(len(numbers)))
        return self.select(inside, self.load(Slot(entry, 2), 0, Int(2)), self.integer(0))

    def _entry(self, index: Value, entries: list[bytes]) -> Any:
        """The address of one of several entries of a size. They lie in read-only memory, padded to a number that an
        `and` can keep the index below: so the verifier sees that it stays inside."""
        step, count = len(entries[0]), 1 << (len(entries) - 1).bit_length()
        inside = self.arith("&", index, self.integer(count - 1))
        place = self.builder.mul(inside.raw, ir.Constant(I64, step))
        return self.frame.offset(self.maps.constant(b"".join(entries).ljust(step * count, b"\0")), place)

    # ---- control

    def when(self, condition: Value, then: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        """See Emit."""
        yes, done = self.frame.block("then"), self.frame.block("done")
        no = self.frame.block("else") if otherwise else done
        self.builder.cbranch(self.bit(condition), yes, no)
        self.builder.position_at_end(yes)
        then()
        if not self.builder.block.is_terminated:
            self.builder.branch(done)
        if otherwise:
            self.builder.position_at_end(no)
            otherwise()
            if not self.builder.block.is_terminated:
                self.builder.branch(done)
        self.builder.position_at_end(done)

    def repeat(self, count: int, body: Callable[[Value], Value | None]) -> None:
        """See Emit."""
        index = self.frame.alloca(I64)
        self.builder.store(ir.Constant(I64, 0), index)
        head, inside, done = (self.frame.block(n) for n in ("loop", "body", "done"))
        self.frame.goto(head)
        now = self.builder.load(index, typ=I64)
        self.builder.cbranch(self.builder.icmp_unsigned("<", now, ir.Constant(I64, count)), inside, done)
        self.builder.position_at_end(inside)
        stop = body(Value(UINT64, now))
        if stop is not None:
            again = self.frame.block("again")
            self.builder.cbranch(self.bit(stop), done, again)
            self.builder.position_at_end(again)
        self.builder.store(self.builder.add(now, ir.Constant(I64, 1)), index)
        self.frame.goto(head)
        self.builder.position_at_end(done)

    def loop(
        self, count: int, carried: Sequence[Value | Slot], body: Callable[[Value, Sequence[Value | Slot]], Value]
    ) -> None:
        """See Emit; the translation of loops gives it its meaning."""
        raise NotImplementedError

    def finish(self) -> None:
        """See Emit."""
        self.frame.builder.branch(self.frame.exit)
        self.frame.dead_end()

    def once(self, name: str, make: Callable[[], Value]) -> Value:
        """See Emit."""
        if name not in self._once:
            place = self.frame.alloca(I64)
            with self.frame.early():
                made = make()
                self.builder.store(made.raw, place)
            self._once[name] = made.type, place
        kind, place = self._once[name]
        return Value(kind, self.builder.load(place, typ=I64))

    # ---- the kernel

    def context(self) -> Value:
        """See Emit."""
        return Value(UINT64, self.builder.ptrtoint(self._context_pointer(), I64))

    def _context_pointer(self) -> Any:
        return self.builder.load(self.frame.context_slot_, typ=PTR)

    def context_word(self, offset: int, type: Type = UINT64) -> Value:
        """See Emit. Volatile order does not matter, but the access must be at a constant offset of the
        context."""
        return self.load(self.context_slot(offset, size_of(type)), 0, type)

    def context_slot(self, offset: int, size: int) -> Slot:
        """See Emit."""
        return Slot(self.frame.offset(self._context_pointer(), offset), size)

    def require_object(self, offset: int) -> None:
        """See Emit. From then on the verifier knows that this register holds an object."""
        pointer = self.builder.load(self.context_slot(offset, 8).raw, typ=PTR)
        self.when(self.not_null(pointer), lambda: None, self.finish)
        self.frame.objects[offset] = pointer

    def context_object(self, offset: int, type: Type) -> Value:
        """See Emit. In the body of a loop, which is another function, the verifier has to forget what it is."""
        known = self.frame.objects.get(offset)
        if known is not None:
            return Value(type, self.builder.ptrtoint(known, I64))
        return Value(type, self.frame.number_of(self.builder.load(self.context_slot(offset, 8).raw, typ=PTR)))

    def iterator_file(self) -> Value:
        """See Emit. It is the first member of the first member (include/linux/bpf.h, struct bpf_iter_meta)."""
        meta = self.builder.load(self._context_pointer(), typ=PTR)
        return Value(UINT64, self.builder.load(meta, typ=PTR))

    def helper(self, name: str, *arguments: Value | Slot, type: Type = UINT64) -> Value:
        """See Emit."""
        made = self.frame.call(name, *(a.raw for a in arguments))
        return Value(type, self._extend(made, type))

    def kernel_function(self, name: str, types: Sequence[str], *arguments: Value) -> Value:
        """See Emit."""
        function = kernel_function(self.frame.function.module, self.frame.debug, name, types)
        passed = [
            self.builder.inttoptr(a.raw, PTR) if text.endswith("*") and a.raw.type != PTR else a.raw
            for text, a in zip(types[1:], arguments, strict=True)
        ]
        made = self.builder.call(function, passed)
        return Value(UINT64, self.builder.ptrtoint(made, I64) if types[0].endswith("*") else made)

    def read(self, to: Slot, size: int | Value, address: Value, space: Space) -> Value:
        """See Emit."""
        if space is Space.DIRECT:
            assert isinstance(size, int)
            self.frame.copy_bytes(to.raw, address.raw, size, 1)
            return self.integer(0)
        return self._read(READ.get(space, "probe_read"), to, size, address)

    def read_string(self, to: Slot, size: int | Value, address: Value, space: Space) -> Value:
        """See Emit."""
        helper = "probe_read_kernel_str" if space is Space.DIRECT else READ_STRING.get(space, "probe_read_str")
        return self._read(helper, to, size, address)

    def _read(self, helper: str, to: Slot, size: int | Value, address: Value) -> Value:
        length = self.frame.i32(size if isinstance(size, int) else size.raw)
        code = Value(Int(8, True), self.frame.call(helper, to.raw, length, address.raw))
        if self.compile_context.helper_errors:
            failed = self.compare("<", code, self.integer(0), signed=True)
            self.when(failed, lambda: self.warn("read", code, self.frame.span, helper))
        return code

    def percpu_address(self, variable: int, cpu: Value | None) -> Value:
        """See Emit. LLVM has an intrinsic for instructions that the kernel completes: BPF_PSEUDO_BTF_ID (3)."""
        pseudo = self.frame.intrinsic("llvm.bpf.pseudo", ir.FunctionType(I64, [I64, I64]))
        number = self.builder.call(pseudo, [ir.Constant(I64, 3), ir.Constant(I64, variable)])
        pointer = self.builder.inttoptr(number, PTR)
        if cpu is None:
            found = self.frame.call_pointer("this_cpu_ptr", pointer)
        else:
            found = self.frame.call_pointer("per_cpu_ptr", pointer, self.frame.i32(cpu.raw))
        return Value(UINT64, self.frame.number_of(found))

    def global_word(self, name: str) -> Value:
        """See Emit."""
        index = self.plan.global_word(name)
        key = self.frame.zero_key()
        entry = self.frame.call_pointer("map_lookup_elem", self.maps.global_data(), key)
        result = self.frame.alloca(I64)
        self.builder.store(ir.Constant(I64, 0), result)
        self.when(
            self.not_null(entry),
            lambda: self._fetch(Slot(self.frame.offset(entry, 8 * index), 8), result),
        )
        return Value(UINT64, self.builder.load(result, typ=I64))

    def _fetch(self, slot: Slot, result: Any) -> None:
        self.builder.store(self.load(slot, 0, UINT64).raw, result)

    def option(self, offset: int, size: int, total: int) -> Slot:
        """See Emit."""
        slot = self.scratch(size)
        entry = self.frame.call_pointer("map_lookup_elem", self.maps.option_data(total), self.frame.zero_key())
        self.when(
            self.not_null(entry),
            lambda: self.frame.copy_bytes(slot.raw, self.frame.offset(entry, offset), size),
        )
        return slot

    def current_process(self) -> Value:
        """The current process id as the tracer's own PID namespace knows it."""
        namespace = self.compile_context.host.pid_namespace()
        if namespace is None:
            both = self.helper("get_current_pid_tgid")
            return self.arith(">>", both, self.integer(32))
        info = self.scratch(8)
        words = (self.global_word("pid_ns_dev"), self.global_word("pid_ns_ino"))
        self.frame.call("get_ns_current_pid_tgid", words[0].raw, words[1].raw, info.raw, self.frame.i32(8))
        return self.load(info, 4, Int(4))

    def not_null(self, pointer: Any) -> Value:
        """Whether an LLVM pointer is not null."""
        return self.truth(Value(UINT64, self.builder.ptrtoint(pointer, I64)))

    # ---- tables that user space fills

    def table(self, name: str, key: Value) -> Value:
        """See Emit."""
        entry = self.frame.call_pointer("map_lookup_elem", self.maps.tables(name), self.short_key(key))
        return Value(UINT64, self.builder.ptrtoint(entry, I64))

    def row(self, table: Value, index: Value, size: int, then: Callable[[Slot], None]) -> None:
        """See Emit."""
        array = self.builder.inttoptr(table.raw, PTR)
        entry = self.frame.call_pointer("map_lookup_elem", array, self.short_key(index))
        self.when(self.not_null(entry), lambda: then(Slot(entry, size)))

    def short_key(self, key: Value) -> Any:
        """The key of an array, on the stack."""
        place = self.frame.alloca(I32, 4)
        self.builder.store(self.frame.i32(key.raw), place)
        return place

    def warn(self, kind: str, code: Value, span: Span, helper: str = "") -> None:
        """See Emit."""
        raise NotImplementedError


def aligned(align: int, offset: int) -> int:
    """The alignment of what lies `offset` bytes behind something that is aligned."""
    while offset % align:
        align //= 2
    return align
