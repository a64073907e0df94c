"""Builtin values: their types, constants and messages (reference part 2, section 1)."""

from __future__ import annotations

import pytest

from pytrace.grammar.types import VOID, Int, Opaque, Pointer, Space, Stack, String, Type
from tests.fakehost import FakeHost
from tests.language.checking import check, errors, value_of

tag = pytest.mark.tag
U64, U32 = Int(8), Int(4)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param("pid", U32, marks=tag("bi.pid")),
        pytest.param("tid", U32, marks=tag("bi.tid")),
        pytest.param("pid(init)", U32, marks=tag("bi.pid-mode")),
        pytest.param("uid", U64, marks=tag("bi.uid")),
        pytest.param("gid", U64, marks=tag("bi.gid")),
        pytest.param("comm", String(16), marks=tag("bi.comm")),
        pytest.param("username", Opaque("username_t", 8), marks=tag("bi.username")),
        pytest.param("cgroup", U64, marks=tag("bi.cgroup")),
        pytest.param("nsecs", Int(8, clock="boot"), marks=tag("bi.nsecs")),
        pytest.param("nsecs()", Int(8, clock="boot"), marks=tag("call.optional-parens")),
        pytest.param("nsecs(monotonic)", Int(8, clock="monotonic"), marks=tag("bi.nsecs-mode")),
        pytest.param("nsecs(tai)", Int(8, clock="tai"), marks=tag("bi.nsecs-mode")),
        pytest.param("nsecs(sw_tai)", Int(8, clock="sw_tai"), marks=tag("bi.nsecs-mode")),
        pytest.param("elapsed", U64, marks=tag("bi.elapsed")),
        pytest.param("cpu", U64, marks=tag("bi.cpu")),
        pytest.param("ncpus", U64, marks=tag("bi.ncpus")),
        pytest.param("numaid", U64, marks=tag("bi.numaid")),
        pytest.param("rand", U64, marks=tag("bi.rand")),
        pytest.param("jiffies", U64, marks=tag("bi.jiffies")),
        pytest.param("kstack", Stack(False), marks=tag("bi.kstack")),
        pytest.param("kstack(5)", Stack(False, limit=5), marks=tag("fn.kstack")),
        pytest.param("kstack(raw)", Stack(False, "raw"), marks=tag("fn.kstack")),
        pytest.param("ustack(perf, 3)", Stack(True, "perf", 3), marks=tag("fn.ustack")),
        pytest.param("ustack(build_id)", Stack(True, "build_id"), marks=tag("fn.ustack")),
    ],
)
def test_types(text: str, kind: Type) -> None:
    assert value_of(text) == (kind, None)


@tag("bi.curtask")
def test_curtask_is_a_typed_pointer() -> None:
    kind, _ = value_of("curtask")
    assert isinstance(kind, Pointer)
    assert (kind.space, str(kind)) == (Space.KERNEL, "struct task_struct *")
    assert value_of("curtask", host=FakeHost(structs={}))[0] == Pointer(VOID, Space.KERNEL)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print(pid(here));", "Invalid PID namespace mode: here (expects: curr_ns or init)"),
        ("print(pid(3));", "pid() only supports curr_ns and init as the argument"),
        ("print(tid(3));", "tid() only supports curr_ns and init as the argument"),
        ("print(pid(init, 1));", "pid() takes up to one argument (2 provided)"),
        ("print(nsecs(utc));", "Invalid timestamp mode: utc"),
        ("print(comm(1, 2));", "comm() takes up to one argument (2 provided)"),
        ("print(kstack(1025));", "kstack([int limit]): limit shouldn't exceed 1024, 1025 given"),
        ("print(ustack(perf, 4000));", "ustack([int limit]): limit shouldn't exceed 1024, 4000 given"),
        ("print(kstack(3, 4));", "Expected stack mode as first argument"),
        (
            "print(kstack(fast));",
            "Error parsing stack mode: kstack: Invalid value for stack_mode: "
            "valid values are bpftrace, raw, perf, and build_id.",
        ),
        ("print(kstack(build_id));", "'build_id' stack mode can only be used for ustack"),
        ('print(kstack("perf"));', "kstack() expects a int literal (string provided)"),
        ("print(ustack(perf, pid));", "ustack() expects a int literal (int provided)"),
        ("print(kstack(perf, 3, 4));", "kstack() takes up to 2 arguments (3 provided)"),
    ],
)
@tag("bi.pid-mode", "bi.nsecs-mode", "fn.kstack", "fn.ustack", "err.call.nargs", "err.call.argtype")
def test_messages(body: str, message: str) -> None:
    assert errors(body) == [message]


@tag("bi.nsecs-mode")
def test_tai_needs_its_helper() -> None:
    old = FakeHost(features={"btf"})
    assert errors("print(nsecs(tai));", host=old) == ["Kernel does not support tai timestamp, please try sw_tai"]
    assert errors("print(nsecs(sw_tai));", host=old) == []


@tag("fn.kstack", "cfg.stack_mode")
def test_stack_mode_setting() -> None:
    assert value_of("kstack", stack_mode="perf")[0] == Stack(False, "perf")
    assert value_of("kstack(raw)", stack_mode="perf")[0] == Stack(False, "raw")
    assert value_of("ustack(7)", stack_mode="build_id")[0] == Stack(True, "build_id", 7)
    fallback = check("begin { print(kstack); }", stack_mode="build_id")
    assert fallback.warnings == ["'build_id' stack mode can only be used for ustack. Falling back to 'raw' mode."]
    assert errors("print(kstack(5));", stack_mode="build_id") == ["'build_id' stack mode can only be used for ustack"]


@tag("fn.kstack", "param.pos")
def test_stack_limit_from_a_parameter() -> None:
    assert value_of("kstack($1)", "9")[0] == Stack(False, limit=9)


@tag("bi.usermode", "probe.usermode")
def test_usermode_is_a_constant_where_the_probe_says_it() -> None:
    assert value_of("usermode") == (Int(1), 1)
    assert value_of("usermode", probe="tracepoint:syscalls:sys_enter_openat") == (Int(1), 0)
    assert value_of("usermode", probe="profile:hz:99") == (Int(1), None)
    loop = check("profile:hz:99 { @[1] = 1; for ($kv : @) { print(usermode); } }")
    assert loop.errors == ["'usermode' builtin is not allowed in a for-loop"]


@tag("bi.cpid", "bi.has_cpid")
def test_child() -> None:
    assert value_of("has_cpid")[1] is False
    assert check("begin { print(cpid); }").warnings == ["No child command (`-c`); cpid is zero"]


@tag("bi.ppid")
def test_family_needs_type_information() -> None:
    bare = FakeHost(structs={})
    assert errors("print(ppid);", host=bare) == ["ppid needs the kernel's type information (BTF)"]
    assert value_of("ppid")[0] == U32
    assert value_of("pcomm(curtask)")[0] == String(16)
