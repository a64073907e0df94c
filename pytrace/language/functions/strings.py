"""Strings and buffers: reading, comparing and searching them (reference part 2, section 2.2)."""

from __future__ import annotations

from pytrace.grammar.check_calls import kind_word
from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import (
    INT8,
    NONE,
    UINT8,
    UINT32,
    UINT64,
    Array,
    Buffer,
    Space,
    String,
    Type,
    size_of,
)
from pytrace.language.functions.support import clamp, equal_prefix, literal_text, space_of, text_bytes

GROWS_BELOW = 1024  # a smaller `max_strlen` leaves room for one more byte, which shows that a text was cut
CONCATENATED = 1024  # bytes of what `str_concat` gives
LENGTH_FIELD = 4  # bytes of the length in front of a buffer's data


@feature
class Str(Function):
    """Read a NUL-terminated string from memory; a string of `max_strlen` bytes, or of `length` + 1.

    At most `length` bytes are read, the NUL included. The memory is the kernel's or the process's, as the
    type of the address or the probe says. What cannot be read is an empty string. A literal becomes a string
    literal: `str($1)` is the first parameter as text, `str($1 + 2)` that without its first two characters.

    bt> tracepoint:syscalls:sys_enter_openat { printf("%s\\n", str(args.filename)); }

    Source: bpf_probe_read_kernel_str, bpf_probe_read_user_str (Linux 5.5, bpf-helpers(7)).
    """

    name = "str"
    parameters = (Param("address", ("int", "string", "pointer")), Param("length", ("int",), optional=True))

    def type(self, site: CallSite) -> Type:
        most = site.context.config.max_strlen
        text = self.fold(site)
        if text is not None:
            if len(text) > most - 1:
                shown = text[:40].decode(errors="replace")
                site.error("err.call.strlen", f"String is too long (over {most - 1} bytes): {shown}…", 0)
            return String(len(text) + 1)
        source = site.types[0]
        if isinstance(source, String):
            most = min(most, source.size)
        elif space_of(site, 0) is Space.NONE and source != NONE:
            site.warning("warn.type.addrspace", "Addrspace is not set", 0)
        return String(self._size(site, most))

    def _size(self, site: CallSite, most: int) -> int:
        """The size of the result when `most` bytes are the most it can have."""
        length = _literal_length(site)
        if length is None:
            return most
        if length < 0:
            site.error("err.call.argtype", f"strcannot use negative length ({length})", 1)
            return most
        limit = site.context.config.max_strlen
        if length >= limit:
            message = (
                f"length param ({length}) is too long and will be shortened to {limit} bytes (see BPFTRACE_MAX_STRLEN)"
            )
            site.warning("fn.str", message, 1)
        return min(length + 1, most)

    def fold(self, site: CallSite) -> bytes | None:
        text = literal_text(site, 0)
        if text is None or len(site) == 1:
            return text
        length = _literal_length(site)
        return None if length is None or length < 0 else text[:length]

    def emit(self, emit: Emit, site: CallSite) -> Value:
        kind = site.type
        assert isinstance(kind, String)
        text = literal_text(site, 0)
        source = emit.value(site.arguments[0]) if text is None else emit.text(text)
        limit = emit.config.max_strlen
        literal = _literal_length(site)
        room = limit + 1 if literal is None and limit < GROWS_BELOW else kind.size
        count: int | Value = room
        if literal is not None:
            count = min(literal, limit)
        elif len(site) == 2:
            count = clamp(emit, emit.value(site.arguments[1]), room)
        if count != 0 and not isinstance(source.type, String):
            slot = emit.read_text(site.node, room, count, source, space_of(site, 0))
        else:
            slot = emit.scratch(room)
            if isinstance(source.type, String):
                self._copy(emit, slot, emit.slot(source), count)
        return emit.at(emit.part(slot, 0, kind.size), kind)

    def _copy(self, emit: Emit, to: Slot, text: Slot, count: int | Value) -> None:
        """At most `count` bytes of our own memory, NUL included."""
        most = min(to.size, text.size)
        if isinstance(count, int):
            kept = min(count, most)
            emit.copy(to, text, kept)
            if 0 < kept < text.size:
                emit.store(to, kept - 1, emit.integer(0, INT8))
        else:
            emit.helper("probe_read_kernel_str", to, clamp(emit, count, most), text)


def _literal_length(site: CallSite) -> int | None:
    """The length given as a literal, if one is."""
    length = site.constants[1] if len(site) > 1 else None
    return length if isinstance(length, int) else None


@feature
class Buf(Function):
    """Read bytes from memory; a buffer.

    `length` may be left out for an array, whose size it then is; at most `max_strlen` - 4 bytes are read.
    Print a buffer with `%r` (printable characters and `\\xhh`), `%rx` or `%rh`. What cannot be read is zero.

    bt> tracepoint:syscalls:sys_enter_write { printf("%r\\n", buf(args.buf, args.count)); }

    Source: bpf_probe_read_kernel, bpf_probe_read_user (Linux 5.5, bpf-helpers(7)).
    """

    name = "buf"
    parameters = (
        Param("address", ("int", "string", "pointer", "array")),
        Param("length", ("int",), optional=True),
    )

    def type(self, site: CallSite) -> Type:
        most = site.context.config.max_strlen - LENGTH_FIELD
        source, length = site.types[0], _literal_length(site)
        if len(site) == 1:
            if not isinstance(source, Array):
                if source != NONE:
                    message = f"buf() expects a length argument for non-array type {kind_word(source)}"
                    site.error("err.call.nargs", message)
                return Buffer(LENGTH_FIELD + most)
            length = size_of(source)
        if length is None:
            return Buffer(LENGTH_FIELD + most)
        if length < 0:
            site.error("err.call.argtype", f"buf cannot use negative length ({length})", 1)
        return Buffer(LENGTH_FIELD + min(max(length, 0), most))

    def emit(self, emit: Emit, site: CallSite) -> Value:
        kind = site.type
        assert isinstance(kind, Buffer)
        room = kind.size - LENGTH_FIELD
        source = emit.value(site.arguments[0])
        own = emit.slot(source) if _is_own(source.type) else None
        most = room if own is None else min(room, own.size)
        count: int | Value = most
        if len(site) == 2 and _literal_length(site) is None:
            count = clamp(emit, emit.value(site.arguments[1]), most)
        slot = emit.scratch(kind.size)
        length = emit.integer(count) if isinstance(count, int) else count
        emit.store(slot, 0, emit.convert(length, UINT32))
        data = emit.part(slot, LENGTH_FIELD, room)
        if own is None:
            emit.read(data, count, source, self._space(site))
        elif isinstance(count, int):
            emit.copy(data, own, count)
        else:
            emit.helper("probe_read_kernel", data, count, own)
        return emit.at(slot, kind)

    def _space(self, site: CallSite) -> Space:
        kind = site.types[0]
        return kind.space if isinstance(kind, Array) else space_of(site, 0)


def _is_own(kind: Type) -> bool:
    """Whether a value's bytes are in the program's own memory."""
    return isinstance(kind, String) or (isinstance(kind, Array) and kind.space is Space.DIRECT)


@feature
class Strncmp(Function):
    """Compare the first `n` characters of two strings; a uint64, 0 if they are equal and 1 if not.

    bt> tracepoint:syscalls:sys_enter_openat /strncmp(comm, "python", 6) == 0/ { @[comm] = count(); }
    """

    name = "strncmp"
    parameters = (Param("a", ("string",)), Param("b", ("string",)), Param("n", ("int",), literal=True))
    returns = UINT64

    def type(self, site: CallSite) -> Type:
        if site.integer(2) < 0:
            site.error("err.call.argtype", "Builtin strncmp requires a non-negative literal", 2)
        return UINT64

    def fold(self, site: CallSite) -> int | None:
        a, b = site.constants[0], site.constants[1]
        if not isinstance(a, bytes) or not isinstance(b, bytes) or site.integer(2) < 0:
            return None
        count = site.integer(2)
        return int(a.partition(b"\0")[0][:count] != b.partition(b"\0")[0][:count])

    def emit(self, emit: Emit, site: CallSite) -> Value:
        a, b = (text_bytes(emit, argument) for argument in site.arguments[:2])
        count = min(site.integer(2), *(size_of(t) for t in site.types[:2]))
        equal = equal_prefix(emit, a, b, count)
        return emit.select(equal, emit.integer(0), emit.integer(1))


@feature
class StrConcat(Function):
    """Two strings, one after the other; a string[1024]. What does not fit is cut off.

    bt> begin { print(str_concat(comm, "!")); }

    Source: bpf_probe_read_kernel_str, which returns the length (Linux 5.5, bpf-helpers(7)).
    """

    name = "str_concat"
    parameters = (Param("a", ("string",)), Param("b", ("string",)))
    returns = String(CONCATENATED)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        # the second text has room behind the longest first one
        both, start = emit.scratch(2 * CONCATENATED), emit.integer(0)
        for argument in site.arguments:
            value = emit.value(argument)
            text = emit.scratch(size_of(value.type) + 1)  # a string may fill its storage, without a NUL
            emit.store(text, 0, value)
            place = emit.part(both, start, CONCATENATED)
            size = emit.integer(min(text.size, CONCATENATED))
            got = emit.helper("probe_read_kernel_str", place, size, text)
            # both are at least 1, for the NUL
            start = emit.arith("&", emit.arith("-", got, emit.integer(1)), emit.integer(CONCATENATED - 1))
        emit.store(both, CONCATENATED - 1, emit.integer(0, UINT8))
        return emit.at(both, self.returns)
