"""Attach points on kernel iterators, what a pinned one can print, and the records of one that is read."""

from __future__ import annotations

import pytest

from pytrace.compilation import compile_text
from pytrace.grammar.attaching import IterAttach
from pytrace.grammar.diagnostics import CompileError
from pytrace.grammar.spec import REGISTRY, Sink
from pytrace.grammar.types import (
    BOOL,
    INT8,
    INT32,
    INT64,
    UINT16,
    UINT64,
    Buffer,
    EnumType,
    Pointer,
    Space,
    String,
    Struct,
    Tuple,
    Type,
)
from pytrace.language import kernelprintf
from pytrace.language.printf import parse
from pytrace.listing import list_probes
from pytrace.options import Options
from pytrace.runtime.attach_iter import split
from tests.fakehost import FakeHost
from tests.language.checking import check
from tests.language.probe_world import World, expand

tag = pytest.mark.tag


# ---------------------------------------------------------------- attach points


@tag("probe.iter")
def test_an_iterator() -> None:
    (target,) = expand("iter:task").targets
    assert target.attach == IterAttach("iter:task", "task")
    assert (target.section, target.space, target.sink) == ("iter/task", Space.KERNEL, Sink.RECORDS)
    assert expand("it:task_file").names == ["iter:task_file"]


@tag("probe.iter.pin")
def test_a_pinned_iterator() -> None:
    (target,) = expand("iter:task:mine/tasks").targets
    assert target.attach == IterAttach("iter:task:mine/tasks", "task", "mine/tasks")
    assert target.sink is Sink.TEXT


@tag("err.ap.iter", "probe.iter.single")
@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("iter:tsk", "iter tsk is not available for your kernel.", "Did you mean 'task'?"),
        ("iter:nothing_like_it", "iter nothing_like_it is not available for your kernel.", "-l 'iter:*'"),
        ("iter:t*", "iter does not allow wildcards: it walks one kind of object.", "-l 'iter:*'"),
        ("iter:task:", "iter:task: has an empty pin: leave out the colon or name a file.", ""),
        ("iter:bpf_map_elem", "iter:bpf_map_elem walks over one BPF map", "bpftool map dump"),
    ],
)
def test_wrong_iterators(text: str, message: str, hint: str) -> None:
    found = expand(text)
    assert not found.targets
    (error,) = found.errors
    assert error.startswith(f"err.ap.iter: {message}")
    assert hint in "".join(found.hints)


@pytest.mark.parametrize(("feature", "code"), [("btf", "err.ap.btf"), ("iter", "rt.feature.missing")])
def test_kernels_without(feature: str, code: str) -> None:
    world = World()
    world.features.discard(feature)
    found = expand("iter:task", world)
    assert not found.targets
    assert [error.partition(":")[0] for error in found.errors] == [code]


def test_what_no_process_limits() -> None:
    world = World()
    assert expand("iter:task", world, pid=1).warnings == []
    task = next(s for s in world.structs if s.name == "bpf_iter__task")
    world.structs[Struct("bpf_iter__tcp", 16)] = world.structs[task]
    (warning,) = expand("iter:tcp", world, pid=1).warnings
    assert "-p and -c do not limit iter:tcp" in warning


@tag("err.ap.iter", "probe.iter.single")
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("iter:task { } interval:s:1 { }", "interval:s:1"),
        ("kprobe:vfs_read { } iter:task { }", "kprobe:vfs_read"),
        ("iter:task { } iter:task_file { }", "iter:task_file"),
        ("iter:task,iter:task_file { }", "iter:task_file"),
    ],
)
def test_an_iterator_is_alone(text: str, place: str) -> None:
    (error,) = check(text).diagnostics.errors
    assert error.code == "err.ap.iter"
    assert error.span is not None
    assert error.span.text == place


def test_begin_and_end_may_stand_next_to_it() -> None:
    assert check("begin { } iter:task { print(1); } end { }").errors == []


@tag("list.type", "list.args")
def test_listing() -> None:
    assert list(list_probes("it:task*", FakeHost(), REGISTRY)) == ["iter:task", "iter:task_file"]
    assert list(list_probes("iter:task_file", FakeHost(), REGISTRY, verbose=True)) == [
        "iter:task_file",
        "    struct task_struct * task",
        "    u32 fd",
        "    struct file * file",
    ]


# ---------------------------------------------------------------- ctx


@tag("probe.iter.ctx", "bi.ctx")
def test_ctx_has_the_objects() -> None:
    text = "iter:task_file { $a = ctx.task.pid; $b = ctx.fd; $c = ctx.file; }"
    checked = check(text)
    assert checked.typed is not None, checked.errors
    kinds = {b.label: b.type for b in checked.typed.probes[0].bindings.values()}
    assert kinds["$a"] == INT32
    assert isinstance(kinds["$c"], Pointer)
    (message,) = check("iter:task { print(ctx.tsk); }").errors
    assert message == "Struct/union of type 'struct bpf_iter__task' does not contain a field named 'tsk'"


# ---------------------------------------------------------------- what a pinned one prints


def compiled(text: str) -> None:
    compile_text(text, options=Options(), host=FakeHost())


@tag("probe.iter.pin")
@pytest.mark.parametrize(
    ("body", "call"),
    [
        ("print(1);", "print(1)"),
        ("exit();", "exit()"),
        ("@ = 1; print(@);", "print(@)"),
        ('for ($i : 0..2) { warnf("x"); }', 'warnf("x")'),
    ],
)
def test_nobody_hears_what_a_pinned_one_sends(body: str, call: str) -> None:
    with pytest.raises(CompileError) as caught:
        compiled(f"iter:task:pin {{ {body} }}")
    (error,) = caught.value.diagnostics
    assert "cannot be used in a pinned iterator" in error.message
    assert error.span is not None
    assert error.span.text == call
    compiled(f"iter:task {{ {body} }}")


@tag("fn.printf")
@pytest.mark.parametrize(
    ("text", "kinds", "template"),
    [
        ("%d %i %u %x %X", [INT32] * 5, "%d %i %u %x %X"),
        ("%ld %llu %lx", [INT64] * 3, "%lld %llu %llx"),
        ("%5d|%-8s|%05d|%+d", [INT32, String(16), INT32, INT32], "%5d|%-8s|%05d|%+d"),
        ("%s %s %s", [INT64, UINT64, BOOL], "%lld %llu %s"),
        ("%p %c", [UINT64, INT8], "0x%llx %c"),
        ("100%% %d", [INT8], "100%% %d"),
        ("é%d", [INT8], "%s%d"),
    ],
)
def test_formats_in_the_kernels_words(text: str, kinds: list[Type], template: str) -> None:
    assert kernelprintf.problem(parse(text), kinds) is None
    assert kernelprintf.pieces(parse(text), kinds).template.decode() == template


@pytest.mark.parametrize(
    ("text", "kind", "kept"),
    [("%d", UINT64, INT32), ("%hhd", INT64, INT8), ("%hu", INT64, UINT16), ("%s", String(16), String(17))],
)
def test_values_as_the_kernel_takes_them(text: str, kind: Type, kept: Type) -> None:
    assert kernelprintf.pieces(parse(text), [kind]).words == ((0, kept),)


@pytest.mark.parametrize(
    ("text", "kinds", "index", "hint"),
    [
        ("%d %o", [INT32, INT32], 1, "use %x or %d"),
        ("%#x", [INT32], 0, "write 0x%x"),
        ("%20p", [UINT64], 0, "use %llx"),
        ("%s", [Tuple((INT32, INT32))], 0, "one by one"),
        ("%s", [EnumType("colour")], 0, "one by one"),
        ("%r", [Buffer(8)], 0, "It knows"),
        ("%d" * 13, [INT32] * 13, None, "several calls"),
    ],
)
def test_formats_that_the_kernel_does_not_know(text: str, kinds: list[Type], index: int | None, hint: str) -> None:
    found = kernelprintf.problem(parse(text), kinds)
    assert found is not None
    assert found.index == index
    assert hint in found.hints[0]


@tag("fn.printf")
def test_the_error_has_its_place() -> None:
    text = 'iter:task:pin { printf("%d %o", 1, 8); }'
    (error,) = check(text).diagnostics.errors
    assert error.code == "fmt.check"
    assert [label.span.text for label in error.labels] == ["8"]
    assert check(text.replace(":pin", "")).errors == []


# ---------------------------------------------------------------- reading


def test_records_come_in_pieces() -> None:
    first, second = (0).to_bytes(8, "little") + b"a" * 8, (1).to_bytes(8, "little")
    stream = first + second + first
    whole: list[bytes] = []
    rest = b""
    for start in range(0, len(stream), 5):
        records, rest = split(rest + stream[start : start + 5], (16, 8))
        whole += records
    assert (whole, rest) == ([first, second, first], b"")
