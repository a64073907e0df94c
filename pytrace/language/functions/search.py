"""The length of strings, and strings within strings (reference part 2, section 2.2)."""

from __future__ import annotations

from pytrace.grammar.spec import CallSite, Emit, Function, Param, Slot, Value, feature
from pytrace.grammar.types import BOOL, INT64, UINT64, Array, Int, String, Type, size_of
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
CHUNK = 32  # positions that are looked at before looking whether it is over
ONES = 0x0101_0101_0101_0101
MOST_WINDOWS = 1 << 14  # comparisons that one search may take, so that programs stay loadable

TEXTS = (Param("haystack", ("string",)), Param("needle", ("string",)))


def find_text(emit: Emit, site: CallSite) -> Value:
    """The index of the first place where the needle is in the haystack, or ABSENT.

    At each position the next 8 bytes are put together from two words and compared with the needle under a
    mask. A chunk of positions is straight code without a branch: the verifier would follow all combinations of
    them. After each chunk it goes on only if neither the needle nor the end was found.
    """
    haystack = text_bytes(emit, site.arguments[0])
    zero = hidden_zero(emit)
    needle, width = _needle(emit, site, zero)
    state = emit.scratch(8)

    def chunk(start: int) -> None:
        end = min(start + CHUNK, haystack.size)
        words = {at: _word(emit, haystack, at) for at in range(start, end + 8 * len(needle), 8)}
        alive, result = emit.integer(1), emit.integer(ABSENT & HIGHEST)
        for position in range(start, end):
            different = emit.arith("|", zero, _too_long(emit, width, haystack.size - position))
            for number, (text, mask) in enumerate(needle):
                other = emit.arith("^", _window(emit, words, position + 8 * number), text)
                different = emit.arith("|", different, emit.arith("&", other, mask))
            hit = emit.arith("&", alive, emit.arith("^", nonzero(emit, different, zero), emit.integer(1)))
            # the result goes from ABSENT to the position by one multiplication
            step = emit.arith("*", hit, emit.integer(position - ABSENT))
            result = emit.arith("+", result, step)
            byte = emit.arith("&", _window(emit, words, position), emit.integer(0xFF))
            more = emit.arith("&", alive, emit.arith("^", hit, emit.integer(1)))
            alive = emit.arith("&", more, nonzero(emit, byte, zero))
        emit.store(state, 0, result)
        if end < haystack.size:
            emit.when(alive, lambda: chunk(end))

    chunk(0)
    return emit.load(state, 0, INT64)


def _too_long(emit: Emit, width: Value, room: int) -> Value:
    """Not zero if the needle is longer than what is left of the haystack's storage."""
    return emit.arith(">>", emit.arith("-", emit.integer(room), width), emit.integer(63))


def _word(emit: Emit, text: Slot, offset: int) -> Value:
    """Eight bytes of a text as a number, the missing ones zero."""
    have = max(0, min(8, text.size - offset))
    word, done = emit.integer(0), 0
    while done < have:
        step = next(s for s in (8, 4, 2, 1) if s <= have - done)
        part = emit.arith("<<", emit.load(text, offset + done, Int(step)), emit.integer(8 * done))
        word = emit.arith("|", word, part)
        done += step
    return word


def _window(emit: Emit, words: dict[int, Value], at: int) -> Value:
    """The eight bytes that start at a position."""
    shift = at % 8 * 8
    low = emit.arith(">>", words[at - at % 8], emit.integer(shift))
    if shift == 0:
        return low
    high = words.get(at - at % 8 + 8, emit.integer(0))
    return emit.arith("|", low, emit.arith("<<", high, emit.integer(64 - shift)))


def _needle(emit: Emit, site: CallSite, zero: Value) -> tuple[list[tuple[Value, Value]], Value]:
    """The needle's words, each with a mask of the bytes that belong to it, and its length."""
    literal = literal_text(site, 1)
    if literal is not None:
        text = literal.partition(b"\0")[0]
        pairs = [_literal_word(emit, text[start : start + 8]) for start in range(0, max(1, len(text)), 8)]
        return pairs, emit.integer(len(text))
    slot = text_bytes(emit, site.arguments[1])
    pairs, alive, width = [], emit.integer(HIGHEST), emit.integer(0)
    for offset in range(0, slot.size, 8):
        word = _word(emit, slot, offset)
        nul = lowest_nul(emit, word, 8)
        lowest = emit.arith("&", nul, emit.arith("-", emit.integer(0), nul))
        # all ones when there is no NUL
        before = emit.arith("-", emit.arith(">>", lowest, emit.integer(7)), emit.integer(1))
        mask = emit.arith("&", before, alive)
        alive = emit.arith("&", alive, emit.arith("-", nonzero(emit, nul, zero), emit.integer(1)))
        pairs.append((word, mask))
        # one bit of each byte of the mask, added up in the highest byte
        bits = emit.arith("*", emit.arith("&", mask, emit.integer(ONES)), emit.integer(ONES))
        width = emit.arith("+", width, emit.arith(">>", bits, emit.integer(56)))
    return pairs, width


def _literal_word(emit: Emit, text: bytes) -> tuple[Value, Value]:
    mask = (1 << (8 * len(text))) - 1
    return emit.integer(int.from_bytes(text, "little")), emit.integer(mask)


class _Search(Function):
    """`strcontains` and `strstr`."""

    parameters = TEXTS

    def type(self, site: CallSite) -> Type:
        literal = literal_text(site, 1)
        needle = size_of(site.types[1]) if literal is None else len(literal)
        if (needle + 7) // 8 * size_of(site.types[0]) > MOST_WINDOWS:
            message = (
                f"{self.name}() of a {site.types[0]} and a {site.types[1]} would take too many comparisons"
            )
            hint = "Give the length of what str() reads, as in str($p, 64), or use a literal."
            site.error("fn.strcontains", message, hints=(hint,))
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
