"""`-l` and `-lv`."""

from __future__ import annotations

import pytest

from pytrace.grammar.host import HostError, UsdtLocation
from pytrace.grammar.spec import REGISTRY
from pytrace.grammar.types import EnumType
from pytrace.listing import ListingError, list_probes
from tests.language.probe_world import World

tag = pytest.mark.tag


def listed(search: str, world: World | None = None, verbose: bool = False, pid: int | None = None) -> list[str]:
    """The lines of a listing."""
    return list(list_probes(search, world or World(), REGISTRY, verbose, pid))


@tag("list.func")
def test_a_word_searches_all_kernel_probes() -> None:
    assert listed("*sched_switch") == ["rawtracepoint:vmlinux:sched_switch", "tracepoint:sched:sched_switch"]
    assert listed("vfs_read") == ["fentry:vmlinux:vfs_read", "kprobe:vfs_read"]
    assert listed("nothing_of_that_name") == []


def test_everything() -> None:
    found = listed("")
    kinds = [line.partition(":")[0] for line in found]
    assert list(dict.fromkeys(kinds)) == [
        "fentry", "hardware", "iter", "kprobe", "rawtracepoint", "software", "tc", "tracepoint", "xdp",
    ]  # fmt: skip
    assert found == listed("*") == listed("*:*")


@tag("list.type")
@pytest.mark.parametrize(
    ("search", "lines"),
    [
        ("t:*openat", ["tracepoint:syscalls:sys_enter_openat", "tracepoint:syscalls:sys_exit_openat"]),
        ("interval:*", ["interval:hz:", "interval:ms:", "interval:s:", "interval:us:"]),
        ("profile:h*", ["profile:hz:"]),
        ("software:faults", []),
        ("software:faults*", ["software:faults:"]),
        ("*ware:c*s:", [
            "hardware:cache-misses:", "hardware:cache-references:", "hardware:cpu-cycles:",
            "hardware:cycles:", "software:context-switches:", "software:cpu-migrations:", "software:cs:",
        ]),
        ("kretprobe:vfs_w*", ["kretprobe:vfs_wide", "kretprobe:vfs_write"]),
        ("kprobe:VFS_READ", []),
        ("k:vfs_read, t:sched:sched_wak*", ["kprobe:vfs_read", "tracepoint:sched:sched_waking"]),
        ("begin", []),
    ],
)  # fmt: skip
def test_one_type(search: str, lines: list[str]) -> None:
    assert listed(search) == lines


@tag("list.target")
@pytest.mark.parametrize(
    ("search", "lines"),
    [
        ("tracepoint:sched:sched_s*", ["tracepoint:sched:sched_switch"]),
        ("kprobe:ext4:*", ["kprobe:ext4:ext4_read"]),
        ("fexit:vm*:*write", ["fexit:vmlinux:vfs_write"]),
        ("uprobe:/bin/bash:read*", ["uprobe:/bin/bash:read_all", "uprobe:/bin/bash:readline"]),
        ("*:/bin/bash:read*", ["uprobe:/bin/bash:read_all", "uprobe:/bin/bash:readline"]),
    ],
)
def test_target(search: str, lines: list[str]) -> None:
    assert listed(search) == lines


def test_usdt() -> None:
    location = UsdtLocation("app", "request", 1, 0, ())
    world = World(probes=(location, location, UsdtLocation("lib", "done", 2, 0, ())))
    assert listed("usdt:/bin/bash:*", world) == ["usdt:/bin/bash:app:request", "usdt:/bin/bash:lib:done"]
    assert listed("usdt:/bin/bash:lib:*", world) == ["usdt:/bin/bash:lib:done"]


def test_a_process_adds_its_user_probes() -> None:
    world = World(files={"*": ("/bin/bash",)})
    assert listed("readline", world) == []
    assert listed("readline", world, pid=7) == ["uprobe:/bin/bash:readline"]


@tag("list.args")
@pytest.mark.parametrize(
    ("search", "lines"),
    [
        ("t:sched:sched_switch", [
            "tracepoint:sched:sched_switch", "    char prev_comm[16]", "    pid_t prev_pid",
        ]),
        ("fentry:vfs_read", ["fentry:vmlinux:vfs_read", "    struct file * file", "    size_t count"]),
        ("fexit:vfs_read", [
            "fexit:vmlinux:vfs_read", "    struct file * file", "    size_t count", "    ssize_t retval",
        ]),
        ("fexit:vfs_void", ["fexit:vmlinux:vfs_void", "    bool on"]),
        ("kprobe:vfs_read", ["kprobe:vfs_read", "    struct file * arg0", "    size_t arg1"]),
        ("kretprobe:vfs_read", ["kretprobe:vfs_read", "    ssize_t retval"]),
        ("kretprobe:vfs_void", ["kretprobe:vfs_void", "    void"]),
        ("rawtracepoint:sched_switch", [
            "rawtracepoint:vmlinux:sched_switch", "    bool preempt", "    struct task_struct * prev",
        ]),
        ("interval:s*", ["interval:s:"]),
    ],
)  # fmt: skip
def test_parameters(search: str, lines: list[str]) -> None:
    assert listed(search, verbose=True) == lines


def test_unknown_type() -> None:
    with pytest.raises(ListingError, match="Invalid probe type: krobe") as caught:
        listed("krobe:*")
    assert "'kprobe'" in caught.value.hints[0]


def test_what_the_kernel_lacks_is_said_when_asked_for() -> None:
    world = World(features={"btf"})
    with pytest.raises(HostError, match="no kprobes"):
        listed("kprobe:vfs_*", world)
    warnings: list[str] = []
    assert list(list_probes("vfs_read", world, REGISTRY, warn=warnings.append)) == []
    assert [w.split()[0] for w in warnings] == ["fentry", "kprobe"]
    assert listed("sched_switch", world) == [
        "rawtracepoint:vmlinux:sched_switch",
        "tracepoint:sched:sched_switch",
    ]


@tag("list.target", "list.type")
@pytest.mark.parametrize(
    ("search", "lines"),
    [
        ("tracepoint:sched:sched_switch", ["tracepoint:sched:sched_switch"]),
        ("tracepoint:sched:nothing_like_it", []),
        ("rawtracepoint:sched_switch", ["rawtracepoint:vmlinux:sched_switch"]),
        ("rawtracepoint:vmlinux:sched_switch", ["rawtracepoint:vmlinux:sched_switch"]),
        ("rawtracepoint:ext4:sched_switch", []),
        ("rawtracepoint:nothing_like_it", []),
        ("struct task_struct", ["struct task_struct"]),
        ("struct nothing_like_it", []),
    ],
)
@pytest.mark.parametrize("verbose", [False, True])
def test_of_one_name_no_list_is_read(search: str, lines: list[str], verbose: bool) -> None:
    world = World()
    found = [line for line in listed(search, world, verbose) if not line.startswith(" ")]
    assert [line.partition(" {")[0] for line in found] == lines
    assert world.asked == []


@tag("list.struct")
@pytest.mark.parametrize(
    ("search", "lines"),
    [
        ("struct task_str*", ["struct task_struct"]),
        ("struct task_struct,  enum pid_ty*", ["struct task_struct", "enum pid_type"]),
        ("union nothing*", []),
    ],
)
def test_types(search: str, lines: list[str]) -> None:
    world = World()
    world.enums[EnumType("pid_type", 4)] = {"PIDTYPE_PID": 0}
    assert listed(search, world) == lines
    assert listed(search, world, verbose=True) == [f"{line} {{\n}};\n" for line in lines]
