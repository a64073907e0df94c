"""Comparing values (reference part 1, section 7.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llvmlite import ir

from pytrace.codegen.frame import I64
from pytrace.codegen.mapaccess import MapAccess
from pytrace.grammar.emit import Slot, Value
from pytrace.grammar.hints import Any
from pytrace.grammar.nodes import Binary, Expr
from pytrace.grammar.promote import is_scalar, is_signed, promote
from pytrace.grammar.types import BOOL, UINT8, UINT64, Aggregate, Buffer, EnumType, Int, Record, String, Tuple, size_of

UNROLLED = 128  # bytes that are compared without a loop
WORD = 8


class ComparisonGenerator(MapAccess):
    """The part of the generator that compares."""

    def comparison(self, node: Binary, left: Value, right: Value) -> Value:
        """Numbers by value, everything else by its bytes."""
        if is_scalar(left.type) and is_scalar(right.type):
            sides = ((node.left, left), (node.right, right))
            kinds = [self.typed.types[side] for side, _ in sides]  # they tell literals
            kinds = [v.type if isinstance(k, Aggregate) else k for k, (_, v) in zip(kinds, sides, strict=True)]
            literals = all(isinstance(k, (Int, EnumType)) and k.signed for k in kinds)
            return self.compare(node.op, left, right, literals or any(map(is_signed, kinds)))
        if isinstance(left.type, String) and isinstance(right.type, String):
            equal = self.equal_strings(node, left, right)
        else:
            equal = self.equal_bytes(left, right)
        return equal if node.op == "==" else self.compare("==", equal, self.integer(0))

    def equal_strings(self, node: Binary, left: Value, right: Value) -> Value:
        """Equal up to the first NUL; a literal decides how far to look."""
        for side, other in ((node.left, right), (node.right, left)):
            literal = self.literal_text(side)
            if literal is not None and len(literal) < UNROLLED:
                return self.equal_literal(other, literal)
        return self.compare_strings(left, right, min(size_of(left.type), size_of(right.type)))

    def literal_text(self, node: Expr) -> bytes | None:
        """The text of a literal, which ends at its first NUL."""
        constant = self.typed.constants.get(node)
        return constant.partition(b"\0")[0] if isinstance(constant, bytes) else None

    def equal_literal(self, value: Value, literal: bytes) -> Value:
        """Whether a string is the literal, its NUL included, compared in words."""
        want = (literal + b"\0")[: size_of(value.type)]
        difference: Any = ir.Constant(I64, 0)
        for start, step in pieces(len(want), self.alignment(value)):
            expected = int.from_bytes(want[start : start + step], "little")
            other = self.builder.xor(self.piece(value, start, step), ir.Constant(I64, expected))
            difference = self.builder.or_(difference, other)
        return self.compare("==", Value(UINT64, difference), self.integer(0))

    def compare_strings(self, left: Value, right: Value, size: int) -> Value:
        """Piece by piece, ending at the first NUL or difference: true if equal."""
        result, over = self.frame.alloca(I64), self.frame.alloca(I64)
        self.builder.store(ir.Constant(I64, 0), over)
        aligned = min(self.alignment(left), self.alignment(right)) >= WORD
        words = size // WORD if aligned else 0

        def look(step: int, start: int) -> Callable[[Value], Value]:
            def piece(index: Value) -> Value:
                at = self.arith("+", self.arith("*", index, self.integer(step)), self.integer(start))
                a, b = (
                    self.load(Slot(self.frame.offset(v.raw, at.raw), step), 0, Int(step)).raw for v in (left, right)
                )
                same, ended = self.equal_text(a, b, step)
                stop = self.builder.or_(ended.raw, self.compare("==", same, self.integer(0)).raw)
                self.builder.store(same.raw, result)
                self.builder.store(stop, over)
                return Value(BOOL, stop)

            return piece

        if words:
            self.repeat(words, look(WORD, 0))
        rest = size - words * WORD
        if rest:
            going_on = self.compare("==", Value(BOOL, self.builder.load(over, typ=I64)), self.integer(0))
            self.when(going_on, lambda: self.repeat(rest, look(1, words * WORD)))
        return Value(BOOL, self.builder.load(result, typ=I64))

    def equal_text(self, a: Any, b: Any, size: int) -> tuple[Value, Value]:
        """Of two pieces of text: whether they are equal up to a NUL, and whether there is a NUL in the
        first."""
        ones, tops = (int.from_bytes(bytes([n]) * size, "little") for n in (0x01, 0x80))
        borrowed = self.builder.sub(a, ir.Constant(I64, ones))
        # the lowest bit set is the top bit of the first byte that is zero
        zeros = self.builder.and_(self.builder.and_(borrowed, self.builder.not_(a)), ir.Constant(I64, tops))
        before = self.builder.xor(zeros, self.builder.sub(zeros, ir.Constant(I64, 1)))
        different = self.builder.and_(self.builder.xor(a, b), before)
        return self.compare("==", Value(UINT64, different), self.integer(0)), self.truth(Value(UINT64, zeros))

    def byte_at(self, value: Value, index: Value) -> Value:
        """One byte of a value in the program's memory."""
        return self.load(Slot(self.frame.offset(value.raw, index.raw), 1), 0, UINT8)

    def equal_bytes(self, left: Value, right: Value) -> Value:
        """Whether two values of one shape have the same bytes."""
        left, right = self.own(left), self.own(right)
        if left.type != right.type and isinstance(left.type, (Tuple, Record, Buffer)):
            common = promote(left.type, right.type)
            assert common is not None
            left, right = self.convert(left, common), self.convert(right, common)
        size, align = size_of(left.type), min(self.alignment(left), self.alignment(right))
        if size > UNROLLED:
            return self.equal_at_length(left, right, size, align)
        difference: Any = ir.Constant(I64, 0)
        for start, step in pieces(size, align):
            other = self.builder.xor(self.piece(left, start, step), self.piece(right, start, step))
            difference = self.builder.or_(difference, other)
        return self.compare("==", Value(UINT64, difference), self.integer(0))

    def equal_at_length(self, left: Value, right: Value, size: int, align: int) -> Value:
        """The same in a loop, for more than the registers and the stack would hold."""
        step = align if size % align == 0 else 1
        result = self.frame.alloca(I64)

        def look(index: Value) -> Value:
            start = self.arith("*", index, self.integer(step))
            a, b = (self.load(Slot(self.frame.offset(v.raw, start.raw), step), 0, Int(step)) for v in (left, right))
            different = self.compare("!=", a, b)
            self.builder.store(different.raw, result)
            return different

        self.repeat(size // step, look)
        return self.compare("==", Value(BOOL, self.builder.load(result, typ=I64)), self.integer(0))

    def piece(self, value: Value, start: int, size: int) -> Any:
        """Some bytes of a value in the program's memory, as a register."""
        place = self.frame.offset(value.raw, start)
        word = self.builder.load(place, typ=ir.IntType(size * 8), align=size)
        return word if size == WORD else self.builder.zext(word, I64)


def pieces(size: int, align: int) -> Iterator[tuple[int, int]]:
    """Where to read `size` bytes and how many at a time, each read aligned."""
    start = 0
    while start < size:
        step = next(s for s in (8, 4, 2, 1) if s <= align and start + s <= size and start % s == 0)
        yield start, step
        start += step
