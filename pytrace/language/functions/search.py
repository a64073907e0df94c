"""The length of strings, and strings within strings (reference part 2, section 2.2)."""

from __future__ import annotations

from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import BOOL, INT64, UINT8, UINT64, Array, Int, String, Type, size_of
from pytrace.language.functions.support import (
    HIGHEST,
    hidden_zero,
    literal_text,
    lowest_nul,
    nonzero,
    own_bytes,
    space_of,
    text_bytes,
)

ABSENT = -2  # what strstr gives, -ENOENT
LONGEST = 64  # bytes of a needle: its words and windows must fit the BPF stack

TEXTS = (Param("haystack", ("string",)), Param("needle", ("string",)))


def find_text(emit: Emit, site: CallSite) -> Value:
    """The index of the first place where the needle is in the haystack, or ABSENT.

    Each word of the needle is compared, under its mask, with a window of 8 bytes that moves over the
    haystack: at every position one byte comes in at its upper end. There is one branch for each position,
    since the verifier lists those that it has still to follow and gives up at 8192 of them
    (kernel/bpf/verifier.c, BPF_COMPLEXITY_LIMIT_JMP_SEQ).
    """
    needle = _needle(emit, site)
    size = size_of(site.types[0])
    text = emit.scratch(size + 8 * len(needle))
    emit.store(text, 0, emit.value(site.arguments[0]))
    windows = [emit.scratch(8) for _ in needle]
    for number, window in enumerate(windows):
        for at in range(7):
            _push(emit, window, emit.load(text, 8 * number + at, UINT8))
    result = emit.scratch(8)
    emit.store(result, 0, emit.integer(ABSENT & HIGHEST))
    zero = hidden_zero(emit)

    def look(position: Value) -> Value:
        different = emit.integer(0)
        for number, (window, (word, mask)) in enumerate(zip(windows, needle, strict=True)):
            at = emit.arith("+", position, emit.integer(8 * number + 7))
            seen = _push(emit, window, emit.load(text, at, UINT8))
            other = emit.arith("&", emit.arith("^", seen, word), mask)
            different = emit.arith("|", different, other)
        hit = _is_zero(emit, different, zero)
        # from ABSENT to the position by one multiplication
        step = emit.arith("*", hit, emit.arith("-", position, emit.integer(ABSENT & HIGHEST)))
        emit.store(result, 0, emit.arith("+", emit.arith("+", step, emit.integer(ABSENT & HIGHEST)), zero))
        first = emit.arith("&", emit.load(windows[0], 0, UINT64), emit.integer(0xFF))
        return emit.arith("|", hit, _is_zero(emit, first, zero))

    emit.repeat(size, look)
    return emit.load(result, 0, INT64)


def _is_zero(emit: Emit, word: Value, zero: Value) -> Value:
    return emit.arith("^", nonzero(emit, word, zero), emit.integer(1))


def _push(emit: Emit, window: Slot, byte: Value) -> Value:
    """Move a window on by one byte, which comes in at the upper end."""
    moved = emit.arith(">>", emit.load(window, 0, UINT64), emit.integer(8))
    new = emit.arith("|", moved, emit.arith("<<", byte, emit.integer(56)))
    emit.store(window, 0, new)
    return new


def _needle(emit: Emit, site: CallSite) -> list[tuple[Value, Value]]:
    """What is looked for: for each 8 bytes a word and a mask of the bytes that belong to it."""
    literal = literal_text(site, 1)
    if literal is None:
        return _variable_needle(emit, text_bytes(emit, site.arguments[1]))
    text = literal.partition(b"\0")[0]
    pieces = [text[start : start + 8] for start in range(0, max(1, len(text)), 8)]
    return [(emit.integer(int.from_bytes(p, "little")), emit.integer((1 << 8 * len(p)) - 1)) for p in pieces]


def _variable_needle(emit: Emit, text: Slot) -> list[tuple[Value, Value]]:
    """The words of a text that is known at run time only, and masks that end at its NUL."""
    zero = hidden_zero(emit)
    words, alive = [], emit.integer(HIGHEST)
    for offset in range(0, text.size, 8):
        word = _word(emit, text, offset)
        nul = lowest_nul(emit, word, 8)
        lowest = emit.arith("&", nul, emit.arith("-", emit.integer(0), nul))
        # all ones when there is no NUL
        before = emit.arith("-", emit.arith(">>", lowest, emit.integer(7)), emit.integer(1))
        words.append((word, emit.arith("&", before, alive)))
        alive = emit.arith("&", alive, emit.arith("-", nonzero(emit, nul, zero), emit.integer(1)))
    return words


def _word(emit: Emit, text: Slot, offset: int) -> Value:
    """Eight bytes of a text as a number, the missing ones zero."""
    have = min(8, text.size - offset)
    word, done = emit.integer(0), 0
    while done < have:
        step = next(s for s in (8, 4, 2, 1) if s <= have - done)
        part = emit.arith("<<", emit.load(text, offset + done, Int(step)), emit.integer(8 * done))
        word = emit.arith("|", word, part)
        done += step
    return word


class _Search(Function):
    """`strcontains` and `strstr`."""

    parameters = TEXTS

    def type(self, site: CallSite) -> Type:
        literal = literal_text(site, 1)
        length = size_of(site.types[1]) - 1 if literal is None else len(literal)
        if length > LONGEST:
            message = f"{self.name}() looks for at most {LONGEST} bytes, this string may have {length}"
            site.error("fn.strcontains", message, 1)
        return self.returns


@feature
class Strcontains(_Search):
    """Whether a string is in another one; a bool.

    bt> tracepoint:syscalls:sys_enter_openat /strcontains(str(args.filename), ".so")/ { @[comm] = count(); }
    """

    name = "strcontains"
    returns = BOOL

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.compare(">=", find_text(emit, site), emit.integer(0), signed=True)


@feature
class Strstr(_Search):
    """Where a string is in another one; an int64: the index of its first byte, negative if it is not in it.

    bt> begin { print(strstr("needle in a haystack", "hay")); }
    """

    name = "strstr"
    returns = INT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return find_text(emit, site)


@feature
class Strlen(Function):
    """The number of bytes in a string before its NUL; a uint64.

    The argument may also be an array of bytes or the address of some; then at most `max_strlen` are
    looked at.

    bt> tracepoint:syscalls:sys_enter_openat { @ = hist(strlen(str(args.filename))); }

    Source: bpf_probe_read_kernel_str, which returns the length (Linux 5.5, bpf-helpers(7)).
    """

    name = "strlen"
    parameters = (Param("text", ("string", "array", "pointer")),)
    returns = UINT64

    def fold(self, site: CallSite) -> int | None:
        text = site.constants[0]
        return len(text.partition(b"\0")[0]) if isinstance(text, bytes) else None

    def emit(self, emit: Emit, site: CallSite) -> Value:
        value = emit.value(site.arguments[0])
        if not isinstance(value.type, (String, Array)):
            most = emit.config.max_strlen
            got = emit.read_string(emit.scratch(most, zero=False), most, value, space_of(site, 0))
            return _without_nul(emit, got)
        text = own_bytes(emit, value)
        copy = emit.scratch(text.size, zero=False)
        got = emit.helper("probe_read_kernel_str", copy, emit.integer(text.size), text, type=INT64)
        # the helper always ends the copy with a NUL, so of a text that fills its storage it counts one less
        last = emit.load(text, text.size - 1, Int(1))
        whole = emit.compare("==", got, emit.integer(text.size))
        full = emit.arith("&", whole, emit.truth(last))
        return emit.select(full, emit.integer(text.size), _without_nul(emit, got))


def _without_nul(emit: Emit, length: Value) -> Value:
    """A length that counts a NUL, without it; 0 for an error."""
    some = emit.compare(">", length, emit.integer(0), signed=True)
    less = emit.convert(emit.arith("-", length, emit.integer(1)), UINT64)
    return emit.select(some, less, emit.integer(0))


@feature
class Strcap(Strlen):
    """The room for text: the size of a string, the number of elements of an array, `strlen` of a pointer.

    bt> begin { print(strcap(comm)); }
    """

    name = "strcap"

    def fold(self, site: CallSite) -> int | None:
        match site.types[0]:
            case String(size=size):
                return size
            case Array(count=count):
                return count
            case _:
                return None
