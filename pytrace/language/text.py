"""The default text of values: what `print`, `%s`, map keys and map values show (reference part 2, section 5).

Text is `str` with bytes that are not UTF-8 as lone surrogates (`surrogateescape`), so that writing it gives
the traced program's own bytes back.
"""

from __future__ import annotations

from collections.abc import Callable

from pytrace.grammar.hints import Any, assert_never, cast
from pytrace.grammar.layout import Layout, Text
from pytrace.grammar.spec import REGISTRY, Services
from pytrace.grammar.types import (
    Aggregate,
    Array,
    Bool,
    Buffer,
    EnumType,
    Int,
    NoneType,
    Opaque,
    Pointer,
    Record,
    Stack,
    String,
    Struct,
    Tuple,
    Void,
)

FRAME_INDENT = " " * 8
UNWIND_FAILURE = (1 << 64) - 1  # the frame that the DWARF unwinder stores when it gives up

Show = Callable[[Any], str]


def text(layout: Layout, value: Any, services: Services) -> str:
    """The default text of a decoded value (`layout.decode`)."""
    return shower(layout, services)(value)


def shower(layout: Layout, services: Services) -> Show:
    """The function that gives the default text of values of one layout."""
    kind = layout.type
    match kind:
        case Int() | Aggregate():
            return str
        case Bool():
            return _bool
        case EnumType():
            names = dict(layout.enumerators)
            return lambda value: names.get(value) or str(value)
        case String():
            trailer = services.config.str_trunc_trailer
            return lambda value: value.value + trailer if value.truncated else value.value
        case Buffer():
            return readable_bytes
        case Pointer():
            return hex
        case Stack():
            return lambda value: stack_text(kind, value, services)
        case Opaque(feature=feature):
            shown = REGISTRY.kind(feature)
            return lambda value: shown.text(kind, value, services)
        case NoneType() | Void():
            return lambda value: "null"
        case Array() | Tuple() | Record() | Struct():
            return _composite(layout, services)
        case _:
            assert_never(cast("None", kind))  # type: ignore[arg-type]


def _composite(layout: Layout, services: Services) -> Show:
    shows = [shower(part.layout, services) for part in layout.parts]
    if isinstance(layout.type, Array):
        element = shows[0]
        return lambda value: f"[{','.join(map(element, value))}]"
    if isinstance(layout.type, Tuple):
        return lambda value: f"({', '.join([show(v) for show, v in zip(shows, value, strict=True)])})"
    members = [(part.name, show) for part, show in zip(layout.parts, shows, strict=True)]
    if not members:
        return lambda value: "{}"
    return lambda value: "{ " + ", ".join([f".{n} = {show(value[n])}" for n, show in members]) + " }"


def _bool(value: bool) -> str:
    return "true" if value else "false"


def readable_bytes(data: bytes) -> str:
    """Printable ASCII as it is, every other byte as `\\xhh` (`%r`)."""
    return "".join(chr(b) if 32 <= b <= 126 else f"\\x{b:02x}" for b in data)


def plain(value: Text) -> str:
    """A decoded string without the mark for cut text."""
    return value.value


# ---------------------------------------------------------------- stacks (section 6.2)


def stack_text(kind: Stack, value: tuple[int, tuple[int, ...] | bytes], services: Services) -> str:
    """A newline, then each frame with its newline."""
    return "\n" + "".join(f"{line}\n" for line in frame_lines(kind, value, services))


def frame_lines(kind: Stack, value: tuple[int, tuple[int, ...] | bytes], services: Services) -> list[str]:
    """The lines of a stack, innermost frame first."""
    pid, frames = value
    if isinstance(frames, bytes):
        return [_build_id_line(frames[i : i + 32]) for i in range(0, len(frames), 32)]
    failed = UNWIND_FAILURE in frames
    if failed:
        frames = frames[: frames.index(UNWIND_FAILURE)]
    if kind.mode == "raw":
        lines = [f"{address:x}" for address in frames]
    elif kind.user:
        symbols = services.stack_symbols(kind, pid, frames)
        lines = [_user_line(kind, *frame) for frame in zip(frames, symbols, strict=True)]
    else:
        lines = [_kernel_line(kind, address, services) for address in frames]
    if not frames and not (kind.user and kind.mode != "raw"):
        services.stack_symbols(kind, pid, frames)
    return [*lines, f"{FRAME_INDENT}<unwind failure>"] if failed else lines


def _user_line(kind: Stack, address: int, symbol: tuple[str, int, str] | None) -> str:
    name = f"{symbol[0]}+{symbol[1]}" if symbol else f"0x{address:x}"
    if kind.mode == "perf":
        return f"\t{address:x} {name} ({symbol[2] if symbol else '[unknown]'})"
    return f"{FRAME_INDENT}{name}"


def _kernel_line(kind: Stack, address: int, services: Services) -> str:
    symbol = services.kernel_symbol(address)
    name = f"{symbol[0]}+{symbol[1]}" if symbol else f"0x{address:x}"
    return f"\t{address:x} {name}" if kind.mode == "perf" else f"{FRAME_INDENT}{name}"


def _build_id_line(entry: bytes) -> str:
    """One `struct bpf_stack_build_id` (include/uapi/linux/bpf.h): s32 status, u8 id[20], u64 offset or ip."""
    address = int.from_bytes(entry[24:32], "little")
    if int.from_bytes(entry[:4], "little") == 1:  # BPF_STACK_BUILD_ID_VALID
        return f"{entry[4:24].hex()} 0x{address:02x}"
    return f"{address:x}"
