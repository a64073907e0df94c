"""Functions: types, constants, messages (reference part 2, sections 0 and 2); random texts compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytrace.grammar.emit import Slot
from pytrace.grammar.types import (
    BOOL,
    INT64,
    UINT8,
    UINT64,
    Array,
    Buffer,
    Int,
    Opaque,
    Pointer,
    Space,
    String,
    Type,
)
from pytrace.language.functions.names import SignalName, Strerror, SyscallName
from pytrace.language.functions.process import signal_number
from pytrace.language.functions.support import equal_prefix
from tests.language.checking import check, errors, value_of
from tests.language.pyemit import Memory, python_emit

tag = pytest.mark.tag
TRACEPOINT = "tracepoint:syscalls:sys_enter_openat"


# ---------------------------------------------------------------- types and constants


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param("str(curtask)", String(1024), marks=tag("fn.str", "type.string.size")),
        pytest.param("str(curtask, 10)", String(11), marks=tag("fn.str")),
        pytest.param("str(curtask, pid)", String(1024), marks=tag("fn.str")),
        pytest.param("str(comm)", String(16), marks=tag("fn.str")),
        pytest.param("buf(curtask, 10)", Buffer(14), marks=tag("fn.buf")),
        pytest.param("buf(curtask, pid)", Buffer(1024), marks=tag("fn.buf")),
        pytest.param("buf(curtask, 5000)", Buffer(1024), marks=tag("fn.buf")),
        pytest.param('buf(pton("::1"))', Buffer(20), marks=tag("fn.buf")),
        pytest.param('strncmp(comm, "a", 1)', UINT64, marks=tag("fn.strncmp")),
        pytest.param('strcontains(comm, "a")', BOOL, marks=tag("fn.strcontains")),
        pytest.param('strstr(comm, "a")', INT64, marks=tag("fn.strstr")),
        pytest.param("strlen(comm)", UINT64, marks=tag("fn.strlen")),
        pytest.param("strerror(2)", String(64), marks=tag("fn.strerror")),
        pytest.param("ksym(1)", Opaque("ksym_t", 8), marks=tag("fn.ksym")),
        pytest.param("usym(1)", Opaque("usym_t", 16), marks=tag("fn.usym")),
        pytest.param('kaddr("jiffies")', Int(8, space=Space.KERNEL), marks=tag("fn.kaddr")),
        pytest.param("ntop(1)", Opaque("inet", 24), marks=tag("fn.ntop")),
        pytest.param('pton("::1")', Array(UINT8, 16, Space.DIRECT), marks=tag("fn.pton")),
        pytest.param('pton("1.2.3.4")', Array(UINT8, 4, Space.DIRECT), marks=tag("fn.pton")),
        pytest.param("macaddr(curtask)", Opaque("mac_address", 6, 1), marks=tag("fn.macaddr")),
        pytest.param("bswap((int16)1)", Int(2), marks=tag("fn.bswap")),
        pytest.param("kptr(pid)", Int(4, space=Space.KERNEL), marks=tag("fn.kptr")),
        pytest.param("uptr(pid)", Int(4, space=Space.USER), marks=tag("fn.uptr")),
        pytest.param("cgroup_path(1)", Opaque("cgroup_path_t", 16, 8, ("*",)), marks=tag("fn.cgroup_path")),
        pytest.param('cgroup_path(1, "uni*")', Opaque("cgroup_path_t", 16, 8, ("uni*",)), marks=tag("fn.cgroup_path")),
        pytest.param("len(kstack)", INT64, marks=tag("fn.len-stack")),
    ],
)
def test_types(text: str, kind: Type) -> None:
    assert value_of(text) == (kind, None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("str(12)", b"12", marks=tag("fn.str-fold")),
        pytest.param("str(-5)", b"-5", marks=tag("fn.str-fold")),
        pytest.param('str("abc")', b"abc", marks=tag("fn.str-fold")),
        pytest.param('str("abcdef", 4)', b"abcd", marks=tag("fn.str-fold")),
        pytest.param("str($1)", b"0x10", marks=tag("fn.str-fold", "param.pos.str")),
        pytest.param("str($2 + 3)", b"lo", marks=tag("fn.str-fold", "param.pos.str")),
        pytest.param("str($2, 2)", b"he", marks=tag("fn.str-fold", "param.pos.str")),
        pytest.param("str($#)", b"2", marks=tag("fn.str-fold", "param.pos.str")),
        pytest.param("$1", 16, marks=tag("bi.positional")),
        pytest.param('strncmp("abc", "abd", 2)', 0, marks=tag("fn.strncmp")),
        pytest.param('strncmp("abc", "abd", 3)', 1, marks=tag("fn.strncmp")),
        pytest.param('strlen("abc")', 3, marks=tag("fn.strlen")),
        pytest.param("strcap(comm)", 16, marks=tag("fn.strcap")),
        pytest.param("default_str_length()", 1024, marks=tag("fn.default_str_length")),
        pytest.param('cgroupid("/sys/fs/cgroup")', 1, marks=tag("fn.cgroupid")),
        pytest.param("is_str(comm)", True, marks=tag("fn.is_type")),
        pytest.param("is_literal(comm)", False, marks=tag("fn.is_literal")),
    ],
)
def test_constants(text: str, value: object) -> None:
    assert value_of(text, "0x10", "hello")[1] == value


@tag("fn.str", "cfg.max_strlen")
def test_sizes_follow_the_setting() -> None:
    assert value_of("str(curtask)", max_strlen=50)[0] == String(50)
    assert value_of("str(curtask, 60)", max_strlen=50)[0] == String(50)
    assert value_of("buf(curtask, pid)", max_strlen=50)[0] == Buffer(50)
    warned = check("begin { print(str(curtask, 50)); }", max_strlen=50)
    assert warned.warnings == [
        "length param (50) is too long and will be shortened to 50 bytes (see BPFTRACE_MAX_STRLEN)"
    ]


@tag("fn.str", "type.addrspace")
def test_where_addresses_point() -> None:
    """An address says it itself; else the probe does; else the reader is warned."""
    assert check("begin { $x = (uint64)5; print(str($x)); }").warnings == ["Addrspace is not set"]
    assert check("kprobe:vfs_read { print(str(arg0)); }").warnings == []
    assert check("begin { print(str(kptr(pid))); }").warnings == []


@tag("fn.kptr", "fn.uptr")
def test_relabelling_keeps_the_type() -> None:
    kind, _ = value_of("uptr(curtask)")
    assert isinstance(kind, Pointer)
    assert (kind.space, str(kind)) == (Space.USER, "struct task_struct *")


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param("print(str(curtask, -1));", "strcannot use negative length (-1)", marks=tag("fn.str")),
        pytest.param("print(str());", "str() requires at least one argument (0 provided)", marks=tag("fn.str")),
        pytest.param("print(str(1, 2, 3));", "str() takes up to 2 arguments (3 provided)", marks=tag("fn.str")),
        pytest.param(
            "print(buf(curtask));",
            "buf() expects a length argument for non-array type pointer",
            marks=tag("fn.buf"),
        ),
        pytest.param(
            "print(strncmp(comm, comm, -1));",
            "Builtin strncmp requires a non-negative literal",
            marks=tag("fn.strncmp"),
        ),
        pytest.param(
            "print(strncmp(comm, comm, pid));",
            "strncmp() expects a int literal (int provided)",
            marks=tag("fn.strncmp"),
        ),
        pytest.param(
            "print(strncmp(1, comm, 3));",
            "strncmp() only supports string arguments (int provided)",
            marks=tag("fn.strncmp"),
        ),
        pytest.param(
            'print(kaddr("no_such_symbol"));',
            "Failed to resolve kernel symbol: no_such_symbol",
            marks=tag("fn.kaddr"),
        ),
        pytest.param("print(kaddr(1));", "kaddr() expects a string literal (int provided)", marks=tag("fn.kaddr")),
        pytest.param('print(reg("ip"));', 'reg can not be used with "begin" probes', marks=tag("fn.reg")),
        pytest.param('print(ntop("abcd"));', "ntop() argument must be 4 or 16 bytes in size", marks=tag("fn.ntop")),
        pytest.param(
            'print(ntop("a", 1));',
            "ntop() only supports int arguments (string provided)",
            marks=tag("fn.ntop"),
        ),
        pytest.param('print(pton("x.y"));', "pton() expects a valid IPv4/IPv6 address, got x.y", marks=tag("fn.pton")),
        pytest.param(
            'print(pton("host"));',
            "pton() expects an string argument of an IPv4/IPv6 address, got host",
            marks=tag("fn.pton"),
        ),
        pytest.param(
            'print(macaddr("abcdef"));',
            "macaddr() does not support literal string arguments",
            marks=tag("fn.macaddr"),
        ),
        pytest.param(
            'print(cgroupid("/nowhere"));',
            'Failed to get `cgroupid` for path: "/nowhere": /nowhere',
            marks=tag("fn.cgroupid"),
        ),
        pytest.param(
            "@a[1] = 1; delete(@a);",
            "call to delete() with a single argument expects a map without explicit keys (scalar map)",
            marks=tag("fn.delete-scalar"),
        ),
        pytest.param(
            "@a = 1; delete(@a, 1);",
            "@a used as a map with an explicit key (non-scalar map), previously used without an explicit key "
            "(scalar map)",
            marks=tag("fn.delete", "err.type.scalar"),
        ),
        pytest.param(
            "@a = 1; print(has_key(@a, 1));",
            "call to has_key() expects a map with explicit keys (non-scalar map)",
            marks=tag("fn.has_key"),
        ),
        pytest.param(
            "@a = 1; print(len(@a));",
            "call to len() expects a map with explicit keys (non-scalar map)",
            marks=tag("fn.len"),
        ),
        pytest.param("delete(1);", "delete() expects a map argument", marks=tag("fn.delete")),
        pytest.param("delete(@a, 1);", "Undefined map: @a", marks=tag("fn.delete")),
        pytest.param(
            '@g[1, "ab"] = 1; delete(@g, (1, 2));',
            "Argument mismatch for @g: trying to access with arguments: '(int8,int8)' when map expects "
            "arguments: '(int8,string[3])'",
            marks=tag("fn.delete", "err.type.key"),
        ),
        pytest.param('static_assert(1 == 2, "not so");', "not so", marks=tag("fn.static_assert")),
        pytest.param(
            "assert_str(1);",
            "string-like values must be either strings, arrays or pointers",
            marks=tag("fn.assert_str"),
        ),
        pytest.param(
            "print(strcontains(comm, str(curtask)));",
            "strcontains() looks for at most 64 bytes, this string may have 1023",
            marks=tag("fn.strcontains"),
        ),
    ],
)
def test_messages(body: str, message: str) -> None:
    assert errors(body) == [message]


@tag("fn.reg")
def test_unknown_register() -> None:
    assert check('profile:hz:99 { print(reg("foo")); }').errors == [
        "'foo' is not a valid register on this architecture (x86_64)"
    ]
    loop = check('profile:hz:99 { @[1] = 1; for ($kv : @) { print(reg("ip")); } }')
    assert loop.errors == ["'reg' builtin is not allowed in a for-loop"]


@tag("fn.signal", "err.call.unsafe")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{TRACEPOINT} {{ signal(65); }}",
            "signal() accepts a string literal or an integer between 1 and 64 (inclusive)",
        ),
        (
            f"{TRACEPOINT} {{ signal(comm); }}",
            "signal() accepts a string literal or an integer between 1 and 64 (inclusive)",
        ),
        (f'{TRACEPOINT} {{ signal("nosuch"); }}', "Invalid string for signal: nosuch"),
        ("interval:s:1 { signal(9); }", "signal() can not be used for this probetype interval"),
        ("begin { override(1); }", "override() can only be used inside kprobes"),
    ],
)
def test_signal_messages(text: str, message: str) -> None:
    assert check(text, unsafe=True).errors == [message]


@tag("fn.signal", "fn.override", "err.call.unsafe")
@pytest.mark.parametrize("call", ["signal(9)", "signal_thread(9)"])
def test_unsafe_functions(call: str) -> None:
    name = call.partition("(")[0]
    assert check(f"{TRACEPOINT} {{ {call}; }}").errors == [f"{name}() is unsafe. To use you need the --unsafe flag"]


@tag("fn.signal")
def test_signal_names() -> None:
    assert [signal_number(n) for n in ("kill", "SIGKILL", "KILL", "stop", "segv", "SYS", "nope")] == [
        9, 9, 9, 19, 11, 31, None,
    ]  # fmt: skip


@tag("warn.stmt.discard", "fn.delete")
def test_discarded_results() -> None:
    assert check("begin { @a[1] = 1; delete(@a, 1); }").warnings == []
    assert check("begin { @a[1] = 1; has_key(@a, 1); }").warnings == ["Return value discarded."]


@tag("fn.is_scalar")
def test_is_scalar_is_known_at_the_end() -> None:
    checked = check("begin { @x = is_scalar(@a); @y = is_scalar(@b); } end { @a = 1; @b[1] = 1; }")
    assert checked.typed is not None
    constants = checked.typed.probes[0].constants
    assert {n.arguments[0].name: v for n, v in constants.items() if hasattr(n, "arguments")} == {
        "a": True,
        "b": False,
    }


# ---------------------------------------------------------------- tables


@tag("fn.strerror", "fn.signal_name", "fn.syscall_name")
def test_tables() -> None:
    assert Strerror().rows()[2] == "No such file or directory"
    assert Strerror().rows()[0] == "Success"
    assert SignalName().rows()[2] == "Interrupt"
    assert sorted(SignalName().rows()) == list(range(65))
    assert {SyscallName().rows()[n] for n in (0, 59, 257, 435)} == {"read", "execve", "openat", "clone3"}
    assert all(len(text) < 64 for table in (Strerror(), SignalName(), SyscallName()) for text in table.rows().values())


# ---------------------------------------------------------------- comparing text

TEXT = st.binary(max_size=40).map(lambda b: b.replace(b"\0", b"\1"))


def c_equal(a: bytes, b: bytes, count: int) -> bool:
    """strncmp(3) == 0"""
    return a.partition(b"\0")[0][:count] == b.partition(b"\0")[0][:count]


def slot(text: bytes) -> Slot:
    """A text in the storage of a string, NUL added."""
    data = bytearray(text + b"\0")
    return Slot(Memory(data), len(data))


@given(TEXT, TEXT, TEXT, st.integers(0, 50))
@tag("fn.strncmp")
def test_equal_prefix(common: bytes, a: bytes, b: bytes, count: int) -> None:
    left, right = common + a, common + b
    limit = min(count, len(left) + 1, len(right) + 1)
    found = equal_prefix(python_emit(), slot(left), slot(right), limit)
    assert bool(found.raw) == c_equal(left, right, count)


@given(TEXT, TEXT, st.binary(max_size=9), st.binary(max_size=9))
@tag("fn.strncmp")
def test_what_is_behind_the_nul_does_not_count(a: bytes, b: bytes, behind: bytes, other: bytes) -> None:
    left, right = a + b"\0" + behind + bytes(60), b + b"\0" + other + bytes(60)
    assert bool(equal_prefix(python_emit(), slot(left), slot(right), 60).raw) == (a == b)
