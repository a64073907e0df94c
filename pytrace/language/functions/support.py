"""What several functions need: where an argument's memory is, its bytes, comparing text."""

from __future__ import annotations

from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.nodes import (
    Binary,
    Expr,
    Field,
    Index,
    Integer,
    Positional,
    PositionalCount,
    TupleField,
    Unary,
)
from pytrace.grammar.source import encode_text
from pytrace.grammar.spec import CallSite
from pytrace.grammar.types import UINT64, Array, Int, Pointer, Space, size_of

HIGHEST = (1 << 64) - 1


def space_of(site: CallSite, index: int) -> Space:
    """The memory that an address given as an argument points into; that of the probe if it does not say."""
    kind = site.types[index]
    own = kind.space if isinstance(kind, (Int, Pointer)) else Space.NONE
    return site.target.space if own is Space.NONE else own


def own_bytes(emit: Emit, value: Value) -> Slot:
    """The bytes of a value that is not a scalar, in the program's own memory."""
    kind = value.type
    if isinstance(kind, Array) and kind.space is not Space.DIRECT:
        slot = emit.scratch(size_of(kind))
        emit.store(slot, 0, value)
        return slot
    return emit.slot(value)


def text_bytes(emit: Emit, node: Expr) -> Slot:
    """The bytes of a string, aligned so that they can be read in words."""
    value = emit.value(node)
    if not isinstance(node, (TupleField, Field, Index)):
        return emit.slot(value)
    slot = emit.scratch(size_of(value.type))
    emit.store(slot, 0, value)
    return slot


def clamp(emit: Emit, value: Value, most: int) -> Value:
    """A length that is at most `most`; a negative one counts as too long."""
    length, limit = emit.convert(value, UINT64), emit.integer(most)
    return emit.select(emit.compare("<=", length, limit), length, limit)


def literal_text(site: CallSite, index: int) -> bytes | None:
    """The text that a literal stands for: of `$N` the parameter as it was given, of a number its digits."""
    found = _parameter_text(site, site.arguments[index])
    if found is not None:
        return found
    constant = site.constants[index]
    if isinstance(constant, bytes):
        return constant
    # other constants, as `(uint64)4096`, are addresses
    if isinstance(constant, int) and isinstance(site.arguments[index], (Integer, Unary, Binary)):
        return str(constant).encode()
    return None


def _parameter_text(site: CallSite, node: Expr) -> bytes | None:
    """The text of `$N`, `$N + K` (without the first K characters) or `$#`; None for anything else."""
    parameters = site.context.parameters
    match node:
        case Positional(number=number):
            return encode_text(parameters[number - 1]) if number <= len(parameters) else b""
        case PositionalCount():
            return str(len(parameters)).encode()
        case Binary(op="+", left=Positional() as left, right=Integer(value=skipped)):
            text = _parameter_text(site, left) or b""
            return text[skipped:]
        case _:
            return None


def equal_prefix(emit: Emit, a: Slot, b: Slot, count: int) -> Value:
    """Whether two texts agree in their first `count` bytes, or up to a NUL in both before that.

    Eight bytes at a time, until there is a difference or a NUL. With z from `lowest_nul`, `z ^ (z - 1)`
    covers the NUL and the bytes before it.
    """
    different = emit.scratch(8)  # the bits in which the last words differ

    def compare(offset: int) -> None:
        step = next(s for s in (8, 4, 2, 1) if s <= count - offset)
        left = emit.load(a, offset, Int(step))
        difference = emit.arith("^", left, emit.load(b, offset, Int(step)))
        nul = lowest_nul(emit, left, step)
        upto = emit.arith("^", nul, emit.arith("-", nul, emit.integer(1)))
        seen = emit.arith("&", difference, upto)
        emit.store(different, 0, seen)
        if offset + step < count:
            undecided = emit.compare("==", emit.arith("|", seen, nul), emit.integer(0))
            emit.when(undecided, lambda: compare(offset + step))

    if count:
        compare(0)
    return emit.compare("==", emit.load(different, 0, UINT64), emit.integer(0))


def lowest_nul(emit: Emit, word: Value, size: int) -> Value:
    """A number whose lowest set bit is the highest bit of the word's first NUL byte; 0 if it has none.

    It is `(w - 0x01…) & ~w & 0x80…`; the borrow can set bits above the first NUL, never below.
    """
    ones, highs = (int.from_bytes(bytes([byte]) * size, "little") for byte in (0x01, 0x80))
    inverted = emit.arith("^", word, emit.integer(HIGHEST))
    less = emit.arith("-", word, emit.integer(ones))
    return emit.arith("&", emit.arith("&", less, inverted), emit.integer(highs))


def hidden_zero(emit: Emit) -> Value:
    """A zero that neither the optimiser nor the verifier knows.

    With it `nonzero` stays arithmetic, where the optimiser would make branches, whose combinations the
    verifier would follow. A number to which it was added has no known value, so that paths which differ in
    it are one path to the verifier.
    """
    return emit.global_word("zero")


def nonzero(emit: Emit, word: Value, zero: Value) -> Value:
    """1 if a word is not zero, else 0, without a branch; `zero` is from `hidden_zero`."""
    either = emit.arith("|", word, emit.arith("-", zero, word))
    return emit.arith(">>", either, emit.integer(63))
