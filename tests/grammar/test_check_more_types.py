"""What the compiler says of casts that do nothing, of mixed memories, of tags, arrays and introspection."""

from __future__ import annotations

import pytest

from pytrace.grammar.diagnostics import Severity
from pytrace.grammar.types import INT8, Member, Pointer, Space, Struct
from tests.fakehost import FakeHost
from tests.grammar.messages import Said, rows
from tests.language.checking import check, errors

WARNINGS = [
    Said(
        "warn.type.cast-same",
        "$a = (int32)5; $b = (int32)$a; print($b);",
        "Unnecessary cast: the value is of type 'int32' already",
        "(int32)$a",
        tags="cast.same",
    ),
    Said(
        "warn.type.cast-same",
        "$t = (struct task_struct *)curtask; print($t);",
        "Unnecessary cast: the value is of type 'struct task_struct *' already",
        "(struct task_struct *)curtask",
        tags="cast.same",
    ),
    Said(
        "warn.type.addrspace",
        "$x = (uint64)curtask + (uint64)uptr((int8 *)8); print($x);",
        "address space mismatch: 'uint64' and 'uint64'",
        "(uint64)curtask + (uint64)uptr((int8 *)8)",
        tags="type.addrspace.mix",
    ),
    Said(
        "warn.type.addrspace",
        '$x = uptr((int8 *)8) + kaddr("jiffies"); print($x);',
        "address space mismatch: 'int8 *' and 'uint64'",
        'uptr((int8 *)8) + kaddr("jiffies")',
        tags="type.addrspace.mix",
    ),
]


@rows(WARNINGS)
def test_warning(said: Said) -> None:
    said.check(Severity.WARNING)


@pytest.mark.tag("cast.same", "type.addrspace.mix")
@pytest.mark.parametrize(
    "program",
    [
        "begin { $a = (int64)5; $b = (uint8)$a; @c = count(); print(((int64)@c, $b, (uint64)pid)); }",
        "begin { $p = kptr((int8 *)8) + 5; $q = 5 + uptr((int8 *)8); print(($p + pid, $q, (uint64)$p + nsecs)); }",
        "tracepoint:syscalls:sys_exit_read { if (args.ret + cpu < 0) { exit(); } }",
    ],
)
def test_no_warning(program: str) -> None:
    assert check(program).warnings == []


@pytest.mark.tag("type.addrspace.mix")
def test_a_mixed_address_is_read_from_either_memory() -> None:
    checked = check('begin { $x = uptr((int8 *)8) + kaddr("jiffies"); print($x); }')
    assert checked.typed is not None
    kinds = {str(b.type): b.type for b in checked.typed.probes[0].bindings.values()}
    assert kinds["int8 *"] == Pointer(INT8, Space.NONE)


@pytest.mark.tag("type.array.cmp", "err.type.array-cmp")
def test_arrays_are_compared_with_their_like() -> None:
    wrong = "Only arrays of same size and element type support comparison operators"
    assert errors('$a = pton("1.2.3.4"); print($a == pton("::1"));') == [wrong]
    assert errors("print((int8[4])(int32)5 != (uint8[4])(int32)5);") == [wrong]
    assert errors('$a = pton("1.2.3.4"); print($a == $a); print($a != pton("4.3.2.1"));') == []
    assert errors('print(pton("1.2.3.4") < pton("4.3.2.1"));') == [
        "The < operator can not be used on expressions of types uint8[4], uint8[4]"
    ]


@pytest.mark.tag("type.pointer.tag", "err.type.tag")
def test_pointers_with_tags() -> None:
    host = FakeHost()
    mount = Struct("mount", 16)
    pointer = Pointer(INT8, Space.KERNEL)
    host.structs[mount] = (Member("mnt_pcp", pointer, 0, tag="percpu"), Member("mnt", pointer, 8))
    body = "begin {{ $m = (struct mount *)kptr(8); print($m->{}); }}"
    message = "Attempting to access pointer field 'mnt_pcp' with unsupported tag attribute: percpu"
    assert check(body.format("mnt_pcp"), host=host).errors == [message]
    assert check(body.format("mnt"), host=host).errors == []


@pytest.mark.tag("type.typeof.noeval")
@pytest.mark.parametrize(
    "operand", ["sizeof(@x++)", "sizeof({ @x = 1; 5 })", "(typeof(@x++))5", "offsetof({ @x = 1; *curtask }, pid)"]
)
def test_maps_are_not_assigned_in_what_is_not_executed(operand: str) -> None:
    found = errors(f"print({operand});")
    assert found[0] == "A map cannot be assigned here: the operand of sizeof and the like is not executed"


@pytest.mark.tag("type.typeinfo", "fn.typeinfo", "err.feature")
def test_typeinfo_must_be_asked_for() -> None:
    message = (
        "typeinfo feature is not enabled by default. To enable this unstable feature, "
        "set the config flag to enable. unstable_typeinfo=enable"
    )
    assert errors("print(typeinfo(5));") == [message]
    warned = check("begin { print(typeinfo(5)); }", unstable_typeinfo="warn")
    assert [w.split(":")[0] for w in warned.warnings] == ["Script is using an unstable feature"]
    assert check("begin { print(typeinfo(5)); }", unstable_typeinfo="enable").warnings == []


@pytest.mark.tag("probe.ctx.loop", "err.builtin.in-for")
@pytest.mark.parametrize(
    ("probe", "use"),
    [
        ("kprobe:vfs_read", "ctx"),
        ("kprobe:vfs_read", "arg0"),
        ("kprobe:vfs_read", 'reg("ip")'),
        ("kretprobe:vfs_read", "retval"),
        ("tracepoint:syscalls:sys_enter_read", "args"),
    ],
)
def test_what_is_read_from_the_context_is_not_read_in_loops(probe: str, use: str) -> None:
    value = {"args": "args.fd", "ctx": "(uint64)ctx"}.get(use, use)
    refused = check(f"{probe} {{ for ($i : 0..3) {{ print({value}); }} }}")
    word = use.partition("(")[0]
    assert refused.errors[0] == f"'{word}' builtin is not allowed in a for-loop"
    assert check(f"{probe} {{ $v = {value}; for ($i : 0..3) {{ print($v); }} }}").errors == []
