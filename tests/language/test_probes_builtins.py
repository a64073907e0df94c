"""The values that belong to the probe: where each may be used, its type, its value where that is known."""

from __future__ import annotations

import pytest

from pytrace.grammar import analyse
from pytrace.grammar.config import Config
from pytrace.grammar.diagnostics import CompileError, Diagnostics
from pytrace.grammar.source import Source
from pytrace.grammar.spec import REGISTRY, Context
from pytrace.grammar.types import UINT64, Int, Opaque, Pointer, Space, String, Type
from tests.language.probe_world import World

tag = pytest.mark.tag


def check(text: str) -> tuple[list[str], dict[str, Type]]:
    """The messages for a program, and the types of its maps."""
    diagnostics = Diagnostics()
    context = Context(World(), Config(), diagnostics)
    try:
        program = analyse.parse(Source("stdin", text), REGISTRY, diagnostics)
        typed = analyse.analyse(program, REGISTRY, context)
    except CompileError as error:
        return [f"{d.code}: {d.message}" for d in error.diagnostics], {}
    return [], {name: info.value for name, info in typed.maps.items()}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("kprobe:vfs_read { @ = arg5 }", Int(8, space=Space.KERNEL)),
        ("uprobe:bash:main { @ = arg0 }", Int(8, space=Space.USER)),
        ("rawtracepoint:sched_switch { @ = arg1 }", Int(8, space=Space.KERNEL)),
        ("kretprobe:vfs_read { @ = retval }", Int(8, space=Space.KERNEL)),
        ("uretprobe:bash:main { @ = retval }", Int(8, space=Space.USER)),
        ("fexit:vfs_read { @ = retval }", Int(8, True)),
        ("kprobe:vfs_read { @ = func }", Opaque("ksym_t", 8)),
        ("fexit:vfs_read { @ = func }", Opaque("ksym_t", 8)),
        ("uretprobe:bash:main { @ = func }", Opaque("usym_t", 16)),
        ("tracepoint:sched:sched_switch { @ = args.prev_comm }", String(16)),
        ("tracepoint:sched:sched_switch { @ = args->prev_pid }", Int(4, True)),
        ("tracepoint:sched:sched_process_exec { @ = args.filename }", Int(8, space=Space.KERNEL)),
        ("fentry:vfs_read { @ = args.count }", UINT64),
        ("tracepoint:syscalls:sys_enter_openat { @ = args.filename }", Pointer(Int(1, True), Space.USER)),
        ("kprobe:vfs_read { @ = probe }", String(len("kprobe:vfs_read") + 1)),
        ("uprobe:bash:main { @ = ctx.ip }", UINT64),
        ("begin { @ = probetype }", String(len("special") + 1)),
    ],
)
def test_types(text: str, kind: Type) -> None:
    messages, maps = check(text)
    assert messages == []
    found = maps[""]
    assert found == kind or str(found) == str(kind)  # a map need not keep the memory a number points into


ARGN = "can only be used with 'kprobes', 'uprobes' and 'usdt' probes"
RETVAL = "The retval builtin can only be used with 'kretprobe' and 'uretprobe' and 'fexit' probes"


@tag("err.builtin.retval", "err.builtin.argN", "err.builtin.args", "err.builtin.args-resolve")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("interval:1s { print(arg0) }", f"err.builtin.argN: The arg0 builtin {ARGN}"),
        ("fentry:vfs_read { @ = arg1 }", f"err.builtin.argN: The arg1 builtin {ARGN}"),
        ("kretprobe:vfs_read { @ = arg0 }", f"err.builtin.argN: The arg0 builtin {ARGN}"),
        ("kprobe:vfs_read { @ = arg6 }", "err.builtin.argN: x86_64 doesn't support arg6"),
        ("kprobe:vfs_read { @ = retval }", f"err.builtin.retval: {RETVAL}"),
        (
            "tracepoint:sched:sched_switch { @ = retval }",
            f"err.builtin.retval: {RETVAL} (try to use args.ret instead)",
        ),
        (
            "fexit:vfs_void { @ = retval }",
            "err.builtin.retval: The retval builtin cannot be used here: vfs_void returns nothing (void)",
        ),
        (
            "kprobe:vfs_read { @ = args.file }",
            "err.builtin.args: The args builtin can only be used with tracepoint, rawtracepoint,"
            " fentry/fexit, and uprobe probes (kprobe used here)",
        ),
        (
            "fentry:vfs_wide { @ = args.a1 }",
            "err.builtin.args-resolve: The args builtin cannot be used here:"
            " vfs_wide has 7 parameters: only 6 can be read",
        ),
    ],
)
def test_where_values_are_not_to_be_had(text: str, message: str) -> None:
    assert message in check(text)[0]


@tag("err.builtin.ctx", "err.builtin.func", "err.builtin.removed")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "tracepoint:sched:sched_switch { @ = func }",
            "The func builtin can not be used with 'tracepoint' probes",
        ),
        ("tracepoint:sched:sched_switch { @ = (uint64)ctx }", "Use args instead of ctx in tracepoint"),
        ("begin { @ = (uint64)ctx }", "The ctx builtin can not be used with 'begin' probes"),
        (
            "kprobe:vfs_read { @ = sarg0 }",
            "sarg* is deleted. This was deprecated in v0.21 and was last available in v0.24.",
        ),
    ],
)
def test_messages_of_func_ctx_sarg(text: str, message: str) -> None:
    assert message in [m.partition(": ")[2] for m in check(text)[0]]


def test_each_target_of_a_wildcard_is_typed_by_its_own_arguments() -> None:
    messages, _ = check("tracepoint:sched:sched_s*, tracepoint:sched:sched_w* { $x = args.prev_pid; @ = $x }")
    assert len(messages) == 1
    assert "does not contain a field named 'prev_pid'" in messages[0]
    assert check("tracepoint:sched:sched_switch, tracepoint:sched:sched_waking { @ = count() }")[0] == []


@tag("err.builtin.in-for")
@pytest.mark.parametrize("word", ["arg0", "retval", "func", "ctx"])
def test_not_in_for_loops(word: str) -> None:
    probe = "kretprobe" if word == "retval" else "kprobe"
    messages, _ = check(f"{probe}:vfs_read {{ @m[1] = 1; for ($kv : @m) {{ print({word}) }} }}")
    assert f"err.builtin.in-for: '{word}' builtin is not allowed in a for-loop" in messages
