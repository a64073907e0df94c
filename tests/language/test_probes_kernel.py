"""Attach points on the kernel: tracepoint, rawtracepoint, kprobe, kretprobe, fentry, fexit."""

from __future__ import annotations

import struct

import pytest

from pytrace.grammar.attaching import (
    KprobeAttach,
    KprobeMultiAttach,
    RawTracepointAttach,
    TracepointAttach,
    TrampolineAttach,
)
from pytrace.grammar.types import Int, Pointer, Space
from tests.fakehost import COMMON as COMMON_FIELDS
from tests.language.probe_world import Machine, World, expand, registers

tag = pytest.mark.tag
COMMON = [m.name for m in COMMON_FIELDS]


# ---------------------------------------------------------------- tracepoint


def test_tracepoint_has_the_fields_of_its_record() -> None:
    (target,) = expand("tracepoint:sched:sched_switch").targets
    assert target.attach == TracepointAttach("tracepoint:sched:sched_switch", "sched", "sched_switch")
    assert (target.section, target.space) == ("tracepoint", Space.KERNEL)
    assert [m.name for m in target.arguments or ()] == [*COMMON, "prev_comm", "prev_pid"]


def test_tracepoint_pointers_of_syscalls_are_user_memory() -> None:
    (target,) = expand("t:syscalls:sys_enter_openat").targets
    assert target.space is Space.USER
    kinds = {m.name: m.type for m in target.arguments or ()}
    assert kinds["filename"] == Pointer(Int(1, True), Space.USER)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("tracepoint:sched:sched_*", ["sched_process_exec", "sched_switch", "sched_waking"]),
        ("tracepoint:s*d:*w*ing", ["sched_waking"]),
        ("tracepoint:*sched_sw*", ["sched_switch"]),
        ("tracepoint:sched:[sched]*", []),
    ],
)
def test_tracepoint_wildcards(pattern: str, names: list[str]) -> None:
    assert [n.rpartition(":")[2] for n in expand(pattern).names] == names


@tag("err.ap.nomatch", "probe.tracepoint.hint")
@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("tracepoint:syscalls:sys_enter_opnat", "'sys_enter_openat'"),
        ("tracepoint:syscall:sys_enter_openat", "'syscalls:sys_enter_openat'"),
        ("tracepoint:scehd:nothing_like_it", "'sched'"),
        ("tracepoint:sched:xyz", "-l 'tracepoint:sched:*'"),
    ],
)
def test_tracepoint_that_is_not_there(text: str, hint: str) -> None:
    found = expand(text)
    target = text.partition(":")[2]
    assert found.errors == [f"err.ap.nomatch: No matches for tracepoint {target}."]
    assert hint in "".join(found.hints)


def test_tracepoint_without_category() -> None:
    found = expand("tracepoint:sched_switch")
    assert found.errors == ["err.ap.arity: tracepoint probe type requires 2 arguments, found 1"]


def test_tracepoint_without_tracefs_names_it() -> None:
    found = expand("tracepoint:sched:sched_switch", World(tracefs=False))
    assert found.errors == ["rt.feature.missing: tracefs is not mounted"]


def test_exact_names_are_looked_up_alone() -> None:
    world = World()
    expand("tracepoint:sched:sched_switch", world)
    expand("kprobe:vfs_read", world)
    expand("fentry:vfs_read", world)
    expand("rawtracepoint:sched_switch", world)
    assert world.asked == []


def test_tracepoint_fields_are_read_from_the_record() -> None:
    (target,) = expand("tracepoint:sched:sched_switch").targets
    machine = Machine(bytes(8) + b"bash".ljust(16, b"\0") + struct.pack("<i", -7))
    *_, comm, pid = target.arguments or ()
    assert target.type.member(machine.emit, target, comm).raw == b"bash".ljust(16, b"\0")
    assert target.type.member(machine.emit, target, pid).raw == -7
    assert machine.reads == []


def test_tracepoint_text_at_an_odd_place_is_read_in_aligned_steps() -> None:
    (target,) = expand("tracepoint:sched:sched_waking").targets
    machine = Machine(bytes(12) + b"kworker/0:1".ljust(16, b"\0"))
    comm = (target.arguments or ())[-1]
    assert target.type.member(machine.emit, target, comm).raw == b"kworker/0:1".ljust(16, b"\0")


def test_tracepoint_varying_field_is_an_address_in_the_record() -> None:
    (target,) = expand("tracepoint:sched:sched_process_exec").targets
    machine = Machine(bytes(8) + struct.pack("<HH", 20, 5) + bytes(8) + b"/bin\0")
    name = (target.arguments or ())[-1]
    value = target.type.member(machine.emit, target, name)
    assert value.type == Int(8, space=Space.KERNEL)
    slot = machine.scratch(5)
    machine.read(slot, 5, value, Space.KERNEL)
    assert bytes(slot.raw) == b"/bin\0"


# ---------------------------------------------------------------- missing_probes


@tag("probe.missing", "err.ap.nomatch")
def test_missing_probe_is_an_error_a_warning_or_nothing() -> None:
    text = "No matches for kprobe vfs_nothing."
    assert expand("kprobe:vfs_nothing").errors == [f"err.ap.nomatch: {text}"]
    warned = expand("kprobe:vfs_nothing", missing_probes="warn")
    assert (warned.errors, warned.warnings) == ([], [f"err.ap.nomatch: {text} Skipping."])
    ignored = expand("kprobe:vfs_nothing", missing_probes="ignore")
    assert (ignored.errors, ignored.warnings, ignored.targets) == ([], [], [])


def test_wildcard_without_matches_is_no_error_but_said() -> None:
    found = expand("kprobe:xyz_*")
    assert (found.targets, found.errors) == ([], [])
    assert found.warnings == ["err.ap.nomatch: No matches for kprobe xyz_*. Skipping."]


# ---------------------------------------------------------------- rawtracepoint


@pytest.mark.parametrize(
    "text", ["rawtracepoint:sched_switch", "rt:vmlinux:sched_switch", "rawtracepoint:vm*:sched_s*"]
)
def test_rawtracepoint(text: str) -> None:
    (target,) = expand(text).targets
    assert target.attach == RawTracepointAttach("rawtracepoint:vmlinux:sched_switch", "sched_switch")
    assert (target.section, target.space) == ("raw_tp", Space.KERNEL)


def test_rawtracepoint_arguments() -> None:
    (target,) = expand("rawtracepoint:sched_switch").targets
    machine = Machine(struct.pack("<QQ", 0xFFFFFF01, 0xFFFF8800DEADBEE0))
    preempt, prev = target.arguments or ()
    assert target.type.member(machine.emit, target, preempt).raw == 1
    assert target.type.member(machine.emit, target, prev).raw == 0xFFFF8800DEADBEE0
    assert prev.type == Pointer(prev.type.to, Space.KERNEL)  # type: ignore[attr-defined]
    assert target.type.argument(machine.emit, target, 1).raw == 0xFFFF8800DEADBEE0
    assert target.type.refuse(target, "argN", 1) is None
    assert target.type.refuse(target, "argN", 2) == "rawtracepoint:vmlinux:sched_switch has no arg2: it has 2 arguments"


def test_rawtracepoint_that_is_not_there() -> None:
    found = expand("rawtracepoint:sched_swich")
    assert found.targets == []
    assert found.errors == []  # [probe.missing]: like a wildcard without matches
    assert found.hints == ["Did you mean 'sched_switch'?"]
    assert expand("rawtracepoint:ext4:sched_switch").errors == [
        "err.ap.nomatch: No matches for rawtracepoint ext4:sched_switch."
    ]


@tag("err.ap.btf")
@pytest.mark.parametrize("kind", ["rawtracepoint", "fentry", "fexit"])
def test_probes_that_need_btf(kind: str) -> None:
    found = expand(f"{kind}:sched_switch", World(features={"kprobe"}))
    assert found.errors == ["err.ap.btf: No BTF found for sched_switch."]
    assert found.hints


# ---------------------------------------------------------------- kprobe, kretprobe


@pytest.mark.parametrize(
    ("text", "attach"),
    [
        ("kprobe:vfs_read", KprobeAttach("kprobe:vfs_read", "vfs_read")),
        ("k:vmlinux:vfs_read", KprobeAttach("kprobe:vmlinux:vfs_read", "vfs_read", module="vmlinux")),
        ("kprobe:vfs_read+0x10", KprobeAttach("kprobe:vfs_read+16", "vfs_read", 16)),
        ("kretprobe:vfs_read", KprobeAttach("kretprobe:vfs_read", "vfs_read", returns=True)),
    ],
)
def test_kprobe(text: str, attach: KprobeAttach) -> None:
    (target,) = expand(text).targets
    assert target.attach == attach
    assert target.section == target.type.name
    assert (target.result is not None) == attach.returns


def test_kprobe_wildcards() -> None:
    assert expand("kprobe:vfs_*e*").names == ["kprobe:vfs_read", "kprobe:vfs_wide", "kprobe:vfs_write"]
    assert expand("kretprobe:ext*:*read").names == ["kretprobe:ext4:ext4_read"]
    assert expand("kprobe:*.part*").names == []


def test_kprobes_of_one_program_go_by_one_link() -> None:
    targets = expand("kretprobe:vfs_w*").targets
    (merged,) = targets[0].type.merge(tuple(t.attach for t in targets))
    assert isinstance(merged, KprobeMultiAttach)
    assert (merged.functions, merged.returns) == (("vfs_wide", "vfs_write"), True)
    alone = tuple(t.attach for t in expand("kprobe:vfs_read").targets)
    in_module = tuple(t.attach for t in expand("kprobe:vmlinux:vfs_w*").targets)
    assert (targets[0].type.merge(alone), targets[0].type.merge(in_module)) == (alone, in_module)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("kprobe:vfs_raed", "Did you mean 'vfs_read'"),
        ("kprobe:sys_nanosleep", "Did you mean '__x64_sys_nanosleep'"),
        ("kprobe:write", "Did you mean 'vfs_write'"),
        ("fentry:vfs_raed", "Did you mean 'vfs_read'"),
        ("fentry:ext4:vfs_read", "Did you mean 'vmlinux:vfs_read'"),
    ],
)
def test_function_that_is_not_there(text: str, hint: str) -> None:
    found = expand(text)
    kind, _, target = text.partition(":")
    assert found.errors == [f"err.ap.nomatch: No matches for {kind} {target}."]
    assert found.hints[0].startswith(hint)


@tag("err.ap.module")
def test_kprobe_in_a_module_that_is_not_loaded_is_always_an_error() -> None:
    found = expand("kprobe:ext3:read", missing_probes="ignore")
    assert found.errors == ["err.ap.module: Kernel module 'ext3' is not loaded."]
    assert found.hints == ["Did you mean 'ext4'?"]


@tag("err.ap.traceable")
def test_kprobe_on_a_function_that_cannot_be_traced() -> None:
    found = expand("kprobe:notrace_function")
    assert found.errors == ["err.ap.nomatch: No matches for kprobe notrace_function."]
    assert found.warnings[0].startswith("err.ap.traceable: notrace_function is not traceable")
    tried = expand("kprobe:notrace_function", unsafe=True)
    assert tried.names == ["kprobe:notrace_function"]


@tag("err.ap.offset")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kretprobe:vfs_read+4", "Offset not allowed: kretprobe is at the return of a function"),
        ("kprobe:vfs_read+4+4", "Cannot have more than one '+' in 'vfs_read+4+4'"),
        ("kprobe:vfs_read+x", "Invalid offset 'x': not a non-negative integer"),
        ("kprobe:vfs_*+4", "A wildcard cannot be combined with an offset"),
    ],
)
def test_kprobe_offsets_that_are_wrong(text: str, message: str) -> None:
    assert expand(text).errors == [f"err.ap.offset: {message}"]


@tag("err.ap.addr")
def test_kprobe_address_needs_unsafe() -> None:
    assert expand("kprobe:0xffffffff81000000").errors == ["err.ap.addr: kprobe: attaching to an address needs --unsafe"]
    (target,) = expand("kprobe:0x100", unsafe=True).targets
    assert target.attach == KprobeAttach("kprobe:256", "", 256)


@pytest.mark.parametrize(("text", "feature"), [("kprobe:vfs_read", "kprobe"), ("fexit:vfs_read", "fentry")])
def test_missing_facility_is_named_with_a_remedy(text: str, feature: str) -> None:
    found = expand(text, World(features={"btf", "kprobe", "fentry"} - {feature}))
    assert found.targets == []
    assert found.errors[0].startswith("rt.feature.missing: ")
    assert "not available" in found.errors[0]
    assert "tracepoint" in found.hints[0]
    # a wrong name is said first, on any kernel
    wrong = expand(text.replace("read", "raed"), World(features={"btf"}))
    assert wrong.errors[0].startswith("err.ap.nomatch: ")


def test_registers_of_kprobes() -> None:
    (entry,) = expand("kprobe:vfs_read").targets
    machine = Machine(registers(di=1, si=2, dx=3, cx=4, r8=5, r9=6, ip=0x700, ax=99))
    assert [entry.type.argument(machine.emit, entry, n).raw for n in range(6)] == [1, 2, 3, 4, 5, 6]
    assert entry.type.argument(machine.emit, entry, 0).type == Int(8, space=Space.KERNEL)
    assert entry.type.function(machine.emit, entry).raw == 0x700
    assert "doesn't support arg6" in (entry.type.refuse(entry, "argN", 6) or "")
    (back,) = expand("kretprobe:vfs_read").targets
    assert back.type.result(machine.emit, back).raw == 99
    assert back.type.function(machine.emit, back).raw == 0xABC


# ---------------------------------------------------------------- fentry, fexit


@pytest.mark.parametrize(
    ("text", "attach", "section"),
    [
        ("fentry:vfs_read", TrampolineAttach("fentry:vmlinux:vfs_read", "vfs_read"), "fentry/vfs_read"),
        (
            "kfunc:ext4_read",
            TrampolineAttach("fentry:ext4:ext4_read", "ext4_read", module="ext4"),
            "fentry/ext4_read",
        ),
        (
            "fr:vmlinux:vfs_read",
            TrampolineAttach("fexit:vmlinux:vfs_read", "vfs_read", True),
            "fexit/vfs_read",
        ),
    ],
)
def test_fentry(text: str, attach: TrampolineAttach, section: str) -> None:
    (target,) = expand(text).targets
    assert (target.attach, target.section) == (attach, section)


def test_fentry_wildcards_take_traceable_functions_only() -> None:
    assert expand("fentry:vm*:vfs_*e").names == ["fentry:vmlinux:vfs_wide", "fentry:vmlinux:vfs_write"]
    assert expand("fexit:*_read").names == ["fexit:ext4:ext4_read", "fexit:vmlinux:vfs_read"]


def test_fexit_sees_arguments_and_result() -> None:
    (target,) = expand("fexit:vfs_read").targets
    machine = Machine(struct.pack("<QQq", 0xFFFF8800DEADBEE0, 4096, -11))
    file, count = target.arguments or ()
    assert target.type.member(machine.emit, target, file).raw == 0xFFFF8800DEADBEE0
    assert target.type.member(machine.emit, target, count).raw == 4096
    assert target.result == Int(8, True)
    assert target.type.result(machine.emit, target).raw == -11


def test_narrow_results_are_cut_to_their_type() -> None:
    (target,) = expand("fexit:vfs_write").targets
    machine = Machine(struct.pack("<Q", 0x12345678_FFFFFFF5))
    assert target.type.result(machine.emit, target).raw == -11


def test_functions_whose_data_cannot_be_read() -> None:
    (void,) = expand("fexit:vfs_void").targets
    assert void.type.refuse(void, "retval") == "vfs_void returns nothing (void)"
    (wide,) = expand("fentry:vfs_wide").targets
    assert wide.type.refuse(wide, "args") == "vfs_wide has 7 parameters: only 6 can be read"
