"""Functions of the kernel, of its modules and of BPF programs as attach points; sessions; the guard against
recursion."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytrace.compilation import Compilation, compile_text
from pytrace.grammar.attaching import KprobeAttach, KprobeMultiAttach, KprobeSessionAttach, TrampolineAttach
from pytrace.grammar.diagnostics import CompileError
from pytrace.grammar.plan import GUARD
from pytrace.grammar.spec import REGISTRY
from pytrace.grammar.types import BOOL
from pytrace.listing import list_probes
from pytrace.options import Options
from tests.fakehost import FUNCTIONS, FakeHost
from tests.language.probe_world import World, expand

tag = pytest.mark.tag
READ = FUNCTIONS["vmlinux", "vfs_read"]


def compiled(text: str, host: FakeHost | None = None) -> Compilation:
    return compile_text(text, "stdin", Options(stages=frozenset({"codegen"})), host or FakeHost())


def places(text: str, host: FakeHost | None = None) -> list[object]:
    return [place for program in compiled(text, host).plan.programs for place in program.attach]


# ---------------------------------------------------------------- offsets and addresses


@tag("probe.kprobe.offset.check", "err.ap.offset")
def test_an_offset_must_lie_in_the_function() -> None:
    world = World(sizes={"vfs_read": 700})
    assert expand("kprobe:vfs_read+699", world).names == ["kprobe:vfs_read+699"]
    for text in ("kprobe:vfs_read+700", "kprobe:vmlinux:vfs_read+0x1000"):
        (error,) = expand(text, world).errors
        assert error == "err.ap.offset: Offset outside the function bounds ('vfs_read' has 700 bytes)"
    assert expand("kprobe:vfs_read+700", World(sizes={})).errors == []  # of a size that nobody knows


@tag("err.ap.addr", "probe.kprobe.addr")
def test_addresses_take_no_module() -> None:
    assert expand("kprobe:ext4:0x100", unsafe=True).errors == ["err.ap.addr: kprobe: an address takes no module"]
    (target,) = expand("kprobe:0xffffffff81000000", unsafe=True).targets
    assert target.attach == KprobeAttach("kprobe:18446744071578845184", "", 0xFFFFFFFF81000000)


# ---------------------------------------------------------------- what cannot be traced


@tag("probe.kprobe.traceable", "err.ap.traceable")
def test_functions_that_are_not_in_the_list() -> None:
    words = "err.ap.traceable: notrace_function is not traceable"
    assert expand("kprobe:notrace_function").warnings[0].startswith(words)
    silent = expand("kprobe:notrace_function", missing_probes="ignore")
    assert (silent.errors, silent.warnings, silent.names) == ([], [], [])
    forced = expand("kprobe:notrace_function", unsafe=True)
    assert forced.warnings[0].startswith(words)
    assert forced.names == ["kprobe:notrace_function"]
    assert expand("kprobe:notrace_function", unsafe=True, missing_probes="ignore").warnings == []
    assert expand("kprobe:vfs_split.part.0").names == []
    assert expand("kprobe:vfs_spl*").names == []


# ---------------------------------------------------------------- limits


@tag("probe.limits", "err.ap.limit", "probe.kprobe.multi")
def test_only_where_the_kernel_has_multi_links_are_they_one_probe() -> None:
    world = FakeHost()
    assert compiled("config = { max_probes = 1 } kprobe:vfs_* { @ = count(); }", world).plan.probe_count == 4
    world.features.discard("kprobe_multi")
    with pytest.raises(CompileError) as caught:
        compiled("config = { max_probes = 3 } kprobe:vfs_* { @ = count(); }", world)
    assert "Can't attach to 4 probes because it exceeds the current limit of 3 probes." in str(caught.value)
    assert "name fewer functions" in str(caught.value)
    assert "BPFTRACE_MAX_PROBES" in str(caught.value)


# ---------------------------------------------------------------- sessions


@pytest.fixture
def session_host() -> FakeHost:
    host = FakeHost()
    host.features.add("kprobe_session")
    host.functions["vmlinux", "bpf_session_is_return"] = replace(
        READ, name="bpf_session_is_return", parameters=(), result=BOOL, result_text="bool"
    )
    return host


@tag("probe.session")
def test_entry_and_return_of_the_same_functions_are_one_program(session_host: FakeHost) -> None:
    made = compiled(
        "kprobe:vfs_read { @a[arg0] = count(); } kretprobe:vfs_read { @b[retval] = count(); }", session_host
    )
    (program,) = made.plan.programs
    assert program.attach == (KprobeSessionAttach("kprobe:vfs_read", ("vfs_read",)),)
    assert program.reverse
    assert "declare !dbg" in made.stages["codegen"]
    assert 'i64 @"bpf_session_is_return"() section ".ksyms"' in made.stages["codegen"]
    assert made.plan.probe_count == 1
    many = compiled("kretprobe:vfs_* { @b = count(); } begin { } k:vfs_* { @a = count(); }", session_host).plan
    (session,) = (p.attach[0] for p in many.programs if p.reverse)
    assert session == KprobeSessionAttach("kprobe:vfs_fsync", ("vfs_fsync", "vfs_read", "vfs_unlink", "vfs_write"))


@tag("probe.session")
def test_the_function_that_asks_may_take_the_context(session_host: FakeHost) -> None:
    host = session_host
    key = ("vmlinux", "bpf_session_is_return")
    host.functions[key] = replace(host.functions[key], parameters=READ.parameters[:1])
    text = compiled("kprobe:vfs_read { @a = count(); } kretprobe:vfs_read { @b = count(); }", host).stages["codegen"]
    assert 'i64 @"bpf_session_is_return"(ptr %".1") section ".ksyms"' in text


@tag("probe.session")
@pytest.mark.parametrize(
    "text",
    [
        "kprobe:vfs_read { @a = 1; } kretprobe:vfs_write { @b = 1; }",
        "kprobe:vfs_read { @a = 1; } kprobe:vfs_read { @b = 1; } kretprobe:vfs_read { @c = 1; }",
        "kprobe:vfs_read { @a = 1; } kretprobe:vfs_read { @b = 1; } kretprobe:vfs_read { @c = 1; }",
        "kprobe:vfs_read, kprobe:vfs_write { @a = 1; } kretprobe:vfs_read { @b = 1; }",
        "kprobe:vfs_read { @a = 1; } kretprobe:vfs_read, kretprobe:vfs_write { @b = 1; }",
        "kprobe:vfs_read, kretprobe:vfs_read { @a = 1; }",
        "kprobe:vmlinux:vfs_read { @a = 1; } kretprobe:vmlinux:vfs_read { @b = 1; }",
        "kprobe:vfs_r* { @a = 1; } kretprobe:vfs_read { @b = 1; }",
        "kprobe:vfs_* { @a[probe] = 1; } kretprobe:vfs_* { @b = 1; }",
        "fentry:vfs_read { @a = 1; } fexit:vfs_read { @b = 1; }",
    ],
)
def test_what_is_no_session(text: str, session_host: FakeHost) -> None:
    assert not [p for p in places(text, session_host) if isinstance(p, KprobeSessionAttach)]


@tag("probe.session")
def test_kernels_without_sessions_get_two_programs() -> None:
    assert places("kprobe:vfs_read { @a = 1; } kretprobe:vfs_read { @b = 1; }") == [
        KprobeAttach("kprobe:vfs_read", "vfs_read"),
        KprobeAttach("kretprobe:vfs_read", "vfs_read", returns=True),
    ]
    entry, back = places("kprobe:vfs_* { @a = 1; } kretprobe:vfs_* { @b = 1; }")
    assert isinstance(entry, KprobeMultiAttach)
    assert isinstance(back, KprobeMultiAttach)


@tag("probe.session", "err.builtin.argN", "err.builtin.retval")
@pytest.mark.parametrize(("entry", "back"), [("retval", "1"), ("1", "arg0")])
def test_each_half_of_a_session_has_its_own_builtins(entry: str, back: str, session_host: FakeHost) -> None:
    with pytest.raises(CompileError):
        compiled(f"kprobe:vfs_read {{ @a = {entry}; }} kretprobe:vfs_read {{ @b = {back}; }}", session_host)


# ---------------------------------------------------------------- functions of modules


@tag("probe.fentry.ambiguous", "err.ap.module")
def test_a_function_of_several_modules_needs_the_module() -> None:
    twice = {("ext4", "vfs_read"): replace(READ, module="ext4"), ("vmlinux", "vfs_read"): READ}
    found = expand("fentry:vfs_read", World(functions=twice))
    assert found.errors == ["err.ap.module: Ambiguous function: vfs_read is in ext4, vmlinux."]
    assert found.hints == ["Name the module: fentry:ext4:vfs_read, fentry:vmlinux:vfs_read."]
    (target,) = expand("fentry:ext4:vfs_read", World(functions=twice)).targets
    assert target.attach == TrampolineAttach("fentry:ext4:vfs_read", "vfs_read", module="ext4")
    assert expand("fentry:vfs_*", World(functions=twice)).names == ["fentry:ext4:vfs_read", "fentry:vmlinux:vfs_read"]


# ---------------------------------------------------------------- functions of BPF programs


@tag("probe.fentry.bpf")
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("fentry:bpf:helper", ["fentry:bpf:9:helper"]),
        ("fentry:bpf:trace_open", ["fentry:bpf:7:trace_open", "fentry:bpf:9:trace_open"]),
        ("fexit:bpf:*:trace_open", ["fexit:bpf:7:trace_open", "fexit:bpf:9:trace_open"]),
        ("kfunc:bpf:7:trace_*", ["fentry:bpf:7:trace_open"]),
        ("fentry:bpf:9:*", ["fentry:bpf:9:trace_open", "fentry:bpf:9:helper"]),
    ],
)
def test_bpf_programs(text: str, found: list[str]) -> None:
    targets = expand(text).targets
    assert [t.name for t in targets] == found
    for target in targets:
        attach = target.attach
        assert isinstance(attach, TrampolineAttach)
        assert f"{attach.name.partition(':')[0]}:bpf:{attach.program}:{attach.function}" == target.name
        assert attach.returns == (target.type.name == "fexit")


@tag("err.ap.fentry.bpf")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fentry:bpf", "fentry: the name of a BPF program is required"),
        ("fexit:bpf:7:", "fexit: the name of a BPF program is required"),
        ("fentry:bpf:x:f", "fentry: the id of a BPF program must be a number or '*', not 'x'"),
        ("fentry:bpf:1*:f", "fentry: the id of a BPF program must be a number or '*', not '1*'"),
    ],
)
def test_bpf_programs_that_are_not_named_well(text: str, message: str) -> None:
    assert expand(text).errors == [f"err.ap.fentry.bpf: {message}"]


@tag("probe.fentry.bpf", "err.ap.nomatch", "err.ap.arity")
def test_bpf_programs_that_are_not_there() -> None:
    found = expand("fentry:bpf:8:helper")
    assert (found.errors, found.hints) == (
        ["err.ap.nomatch: No matches for fentry bpf:8:helper."],
        ["Did you mean 'bpf:9:helper'?"],
    )
    assert expand("fentry:bpf:trace_opne").hints == ["Did you mean 'trace_open'?"]
    assert expand("fentry:bpf:no*").warnings == ["err.ap.nomatch: No matches for fentry bpf:no*. Skipping."]
    assert expand("fentry:a:b:c").errors == ["err.ap.arity: fentry probe type requires 1 or 2 arguments, found 3"]


@tag("probe.fentry.bpf")
@pytest.mark.parametrize("word", ["args", "retval"])
def test_bpf_programs_have_no_arguments(word: str) -> None:
    with pytest.raises(CompileError) as caught:
        compiled(f"fexit:bpf:helper {{ print({word}); }}")
    assert f"{word} is not available at functions of BPF programs" in str(caught.value)


# ---------------------------------------------------------------- recursion


@tag("probe.fentry.recursion")
def test_spin_locks_give_all_programs_a_guard() -> None:
    host = FakeHost()
    lock = replace(READ, name="_raw_spin_lock")
    host.functions["vmlinux", "_raw_spin_lock"] = lock
    made = compiled("fentry:_raw_spin_lock { @ = count(); } begin { @n = 1; }", host)
    (warning,) = made.warnings
    assert warning.message.startswith("Attaching to _raw_spin_lock: BPF programs take this lock themselves")
    (guard,) = (m for m in made.plan.maps if m.symbol == GUARD)
    assert (guard.kind, guard.max_entries) == ("percpu_array", 3)
    assert made.stages["codegen"].count("define internal") == 2
    without = compiled("fentry:vfs_read { @ = count(); }", host)
    assert not [m for m in without.plan.maps if m.symbol == GUARD]
    assert without.warnings == ()


# ---------------------------------------------------------------- listing


@tag("list.type", "list.target")
@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("kprobe:vfs_read", ["kprobe:vfs_read"]),
        ("kprobe:vmlinux:vfs_read", ["kprobe:vmlinux:vfs_read"]),
        ("kretprobe:vfs_raed", []),
        ("fentry:vmlinux:vfs_read", ["fentry:vmlinux:vfs_read"]),
        ("fexit:ext4_sync_fs", ["fexit:ext4:ext4_sync_fs"]),
        ("fentry:ext4:vfs_read", []),
    ],
)
def test_an_exact_name_is_listed_without_reading_lists(search: str, found: list[str]) -> None:
    host = FakeHost()
    assert list(list_probes(search, host, REGISTRY, verbose=False)) == found
    assert host.asked == []


@tag("probe.fentry.bpf", "list.target")
def test_bpf_programs_are_listed() -> None:
    host = FakeHost()
    assert list(list_probes("fentry:bpf:*", host, REGISTRY)) == [
        "fentry:bpf:7:trace_open", "fentry:bpf:9:helper", "fentry:bpf:9:trace_open",
    ]  # fmt: skip
    assert list(list_probes("fexit:bpf:9:tr*", host, REGISTRY, verbose=True)) == ["fexit:bpf:9:trace_open"]
