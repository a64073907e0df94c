"""`printf` in the kernel: formats as bpf_seq_printf knows them (kernel/bpf/helpers.c, bpf_bprintf_prepare).

It takes up to 12 values, all as 64-bit words, and fewer conversions than `pytrace.language.printf`; what can be
said in its words is translated.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytrace.grammar.data import dataclass
from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.types import INT64, UINT64, Bool, Int, String, Type
from pytrace.language.printf import BITS, SIGNED_CONVERSIONS, Format, Problem, Specifier

MOST_VALUES = 12  # MAX_BPRINTF_VARARGS


def problem(parsed: Format, types: Sequence[Type]) -> Problem | None:
    """Why the kernel cannot make this text, or None; the format fits the types."""
    for index, (specifier, kind) in enumerate(zip(parsed.specifiers, types, strict=True)):
        remedy = _remedy(specifier, kind)
        if remedy:
            message = f"the kernel cannot format this: %{specifier.conversion} of type '{kind}' in a pinned iterator"
            return Problem(message, (remedy,), index)
    if len(pieces(parsed, types).words) > MOST_VALUES:
        hint = "Print them by several calls."
        return Problem(f"a pinned iterator prints up to {MOST_VALUES} values at once", (hint,))
    return None


def _remedy(specifier: Specifier, kind: Type) -> str:
    """What to do about a conversion that the kernel does not know; empty if it does."""
    if specifier.alternate:
        return "It has no '#': write 0x%x."
    match specifier.conversion:
        case "o":
            return "It has no octal numbers: use %x or %d."
        case "p" if specifier.width:
            return "It has no %p of a given width: use %llx."
        case "s" if not isinstance(kind, (String, Int, Bool)):
            return "Its %s takes strings and integers: print the parts of the value one by one."
        case "r" | "rx" | "rh" | "gr":
            return "It knows %d %i %u %x %X %c %p %s."
        case _:
            return ""


@dataclass(frozen=True, slots=True)
class Pieces:
    """A format in the kernel's words; `words` are the values for it: the number of a value with its type, or text."""

    template: bytes
    words: tuple[tuple[int, Type] | bytes, ...]


def pieces(parsed: Format, types: Sequence[Type]) -> Pieces:
    """A format and the types of its values, in the kernel's words."""
    template, words, number = b"", list[tuple[int, Type] | bytes](), 0
    for part in parsed.parts:
        if isinstance(part, Specifier):
            text, kind = _translate(part, types[number])
            template += text.encode()
            words.append((number, kind))
            number += 1
            continue
        data = part.encode("utf-8", "surrogateescape")
        if all(32 <= byte < 127 or byte in b"\t\n\v\f\r" for byte in data):
            template += data.replace(b"%", b"%%")
        else:  # the kernel takes only ASCII in formats, but anything in strings
            template += b"%s"
            words.append(data)
    return Pieces(template, tuple(words))


def _translate(specifier: Specifier, kind: Type) -> tuple[str, Type]:
    """A conversion in the kernel's words, and the type that the value is to be given as."""
    flags = "".join(c for c, on in (("-", specifier.left), ("+", specifier.plus), ("0", specifier.zero)) if on)
    start = f"%{flags}{specifier.width or ''}"
    conversion = specifier.conversion
    if conversion == "s":
        if isinstance(kind, String):
            return f"{start}s", String(kind.size + 1)  # a char[N] may be without its NUL
        if isinstance(kind, Bool):
            return f"{start}s", kind
        return (f"{start}lld", INT64) if isinstance(kind, Int) and kind.signed else (f"{start}llu", UINT64)
    if conversion == "c":
        return f"{start}c", UINT64
    if conversion == "p":
        return "0x%llx", UINT64
    bits = BITS.get(specifier.length, 32)
    long = "ll" if bits == 64 else ""
    return f"{start}{long}{conversion}", Int(bits // 8, conversion in SIGNED_CONVERSIONS)


def write(emit: Emit, parsed: Format, values: Sequence[Value]) -> None:
    """Make the code that writes the text to the iterator's file. Where it finds no room the kernel comes again."""
    template, words = arguments(emit, parsed, values)
    data = emit.scratch(8 * max(1, len(words)))
    for place, word in enumerate(words):
        emit.store(data, 8 * place, word)
    size, room = emit.integer(template.size), emit.integer(8 * len(words))
    emit.helper("seq_printf", emit.iterator_file(), template, size, data, room)


def arguments(emit: Emit, parsed: Format, values: Sequence[Value]) -> tuple[Slot, list[Value]]:
    """The format in the kernel's words, NUL included, and the 64-bit words for it."""
    made = pieces(parsed, [value.type for value in values])
    template = emit.slot(emit.text(made.template))
    return template, [_word(emit, word, values) for word in made.words]


def _word(emit: Emit, word: tuple[int, Type] | bytes, values: Sequence[Value]) -> Value:
    """A value as the kernel takes it: a number, or the address of a text."""
    if isinstance(word, bytes):
        return Value(UINT64, emit.text(word).raw)
    number, kind = word
    value = values[number]
    if isinstance(kind, Bool):
        yes, no = (Value(UINT64, emit.text(text).raw) for text in (b"true", b"false"))
        return emit.select(value, yes, no)
    return Value(UINT64, emit.convert(value, kind).raw)
