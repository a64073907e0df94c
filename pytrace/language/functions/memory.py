"""Bytes in memory: comparing, writing, and what lies around them (reference part 2, sections 2.2 and 2.3)."""

from __future__ import annotations

from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import BOOL, INT8, INT32, INT64, UINT64, VOID, Int, Pointer, Space, Struct, Type, size_of
from pytrace.language.functions.support import own_bytes, space_of

BYTES = ("string", "array", "struct", "pointer", "int")
LENGTH = Param("n", ("int",), literal=True)
ADDRESSES = (Int, Pointer)


def check_length(site: CallSite, index: int, of: tuple[int, ...]) -> bool:
    """Report a literal length that is negative, above `max_strlen` or beyond the end of a value."""
    length, most = site.integer(index), site.context.config.max_strlen
    sizes = [size_of(site.types[i]) for i in of if not isinstance(site.types[i], ADDRESSES)]
    if not 0 <= length <= most:
        site.error(
            "err.call.argtype", f"{site.feature.name}() takes 0 to {most} bytes (max_strlen), not {length}", index
        )
    elif any(length > size for size in sizes):
        message = f"{site.feature.name}() of {length} bytes goes beyond a value of {min(sizes)} bytes"
        site.error("err.call.argtype", message, index)
    else:
        return True
    return False


def bytes_of(emit: Emit, site: CallSite, index: int, length: int) -> Slot:
    """The first bytes of an argument, or of what it points to, in the program's own memory."""
    value = emit.value(site.arguments[index])
    if not isinstance(value.type, ADDRESSES):
        return own_bytes(emit, value)
    slot = emit.scratch(max(length, 1))
    if length:
        emit.read(slot, length, value, space_of(site, index))
    return slot


@feature
class Memcmp(Function):
    """Compare the first `n` bytes of two values, or of what they point to; an int32.

    It is 0 if they are equal, else the difference of the first two bytes that differ, taken as signed numbers.

    bt> begin { print(memcmp("abc", "abd", 3)); }
    """

    name = "memcmp"
    parameters = (Param("a", BYTES), Param("b", BYTES), LENGTH)
    returns = INT32

    def type(self, site: CallSite) -> Type:
        check_length(site, 2, (0, 1))
        return INT32

    def emit(self, emit: Emit, site: CallSite) -> Value:
        length = site.integer(2)
        a, b = (bytes_of(emit, site, index, length) for index in (0, 1))
        result = emit.scratch(8)

        def differ(position: Value) -> Value:
            difference = emit.arith("-", emit.load(a, position, INT8), emit.load(b, position, INT8))
            emit.store(result, 0, emit.convert(difference, INT64))
            return emit.truth(difference)

        emit.repeat(length, differ)
        return emit.convert(emit.load(result, 0, INT64), INT32)


@feature
class ContainerOf(Function):
    """The struct that has a member at an address; a pointer to that struct.

    bt> begin { $s = (uint64)curtask + offsetof(struct task_struct, se); @ = container_of($s, typeof(*curtask), se); }

    Source: include/linux/container_of.h.
    """

    name = "container_of"
    parameters = (Param("pointer", ("pointer", "int")), Param("type", ("type",)), Param("member", ("member",)))
    returns = Pointer(VOID)

    def type(self, site: CallSite) -> Type:
        kind = site.types[1]
        if not isinstance(kind, Struct):
            site.error("err.type.offsetof", f"'{kind}' is no struct or union", 1)
            return self.returns
        pointer = site.types[0]
        return Pointer(kind, pointer.space if isinstance(pointer, ADDRESSES) else Space.NONE)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        address = emit.convert(emit.value(site.arguments[0]), UINT64)
        return Value(site.type, emit.arith("-", address, emit.integer(site.integer(2))).raw)


@feature
class WriteUser(Function):
    """Write the first `n` bytes of a value, or of what it points to, into the process's memory; a bool.

    It is false if the memory is not there or not writable. It changes the program that is traced, so it needs
    `--unsafe`.

    bt> tracepoint:syscalls:sys_enter_openat { write_user(args.filename, "x", 1); }

    Source: bpf_probe_write_user (bpf-helpers(7)).
    """

    name = "write_user"
    parameters = (Param("to", ("pointer", "int")), Param("from", BYTES), LENGTH)
    returns = BOOL
    unsafe = True
    unsafe_text = "{name}() is unsafe. To use you need the --unsafe flag"
    discardable = True

    def type(self, site: CallSite) -> Type:
        check_length(site, 2, (1,))
        return BOOL

    def emit(self, emit: Emit, site: CallSite) -> Value:
        length = site.integer(2)
        source = bytes_of(emit, site, 1, length)
        to = emit.convert(emit.value(site.arguments[0]), UINT64)
        code = emit.helper("probe_write_user", to, source, emit.integer(length), type=INT64)
        return emit.compare("==", code, emit.integer(0))
