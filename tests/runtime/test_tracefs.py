"""Format files of tracepoints: invented ones, and this kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytrace.grammar.host import HostError
from pytrace.grammar.types import (
    INT8,
    INT64,
    UINT8,
    UINT64,
    VOID,
    Array,
    Int,
    Member,
    Pointer,
    Space,
    String,
    Struct,
    Type,
)
from pytrace.runtime.btf import KernelTypes
from pytrace.runtime.tracefs import Tracefs
from tests.fakehost import FakeHost

tag = pytest.mark.tag

FORMAT = """name: made_up
ID: 1234
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

{fields}

print fmt: "%s", REC->a
"""


def parse(tmp_path: Path, line: str, category: str = "made") -> Member:
    """The field that a `field:` line describes."""
    folder = tmp_path / "events" / category / "up"
    folder.mkdir(parents=True)
    (folder / "format").write_text(FORMAT.format(fields=f"\t{line}"))
    event = Tracefs(FakeHost(), tmp_path).event(category, "up")
    assert event is not None
    assert [f.name for f in event.fields[:2]] == ["common_type", "common_pid"]
    assert all(f.offset < 8 for f in event.fields[:2])
    return event.fields[2]


TASK = Struct("task_struct", 3264)


@tag("probe.tracepoint.fields", "type.string.chararray")
@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("field:int a;\toffset:8;\tsize:8;\tsigned:0;", UINT64),
        ("field:long a;\toffset:8;\tsize:8;\tsigned:1;", INT64),
        ("field:enum zone_type a;\toffset:8;\tsize:4;\tsigned:0;", Int(4)),
        ("field:char a[16];\toffset:8;\tsize:16;\tsigned:1;", String(16)),
        ("field:char a[TASK_COMM_LEN];\toffset:8;\tsize:16;\tsigned:0;", String(16)),
        ("field:__u8 a[4];\toffset:8;\tsize:4;\tsigned:0;", Array(UINT8, 4)),
        ("field:unsigned long a[6];\toffset:8;\tsize:48;\tsigned:0;", Array(UINT64, 6)),
        ("field:strange_t a[3];\toffset:8;\tsize:12;\tsigned:0;", Array(Int(4), 3)),
        ("field:const char * a;\toffset:8;\tsize:8;\tsigned:0;", Pointer(INT8, Space.KERNEL)),
        ("field:void * a;\toffset:8;\tsize:8;\tsigned:0;", Pointer(VOID, Space.KERNEL)),
        ("field:struct task_struct * a;\toffset:8;\tsize:8;\tsigned:0;", Pointer(TASK, Space.KERNEL)),
        ("field:const struct task_struct *const a;\toffset:8;\tsize:8;", Pointer(TASK, Space.KERNEL)),
        ("field:struct unknown * a;\toffset:8;\tsize:8;\tsigned:0;", Pointer(VOID, Space.KERNEL)),
        ("field:struct task_struct a;\toffset:8;\tsize:3264;\tsigned:0;", TASK),
        ("field:bool a;\toffset:8;\tsize:1;\tsigned:0;", Int(1)),
    ],
)
def test_types_of_fields(tmp_path: Path, line: str, kind: Type) -> None:
    field = parse(tmp_path, line)
    assert (field.name, field.offset, field.type, field.data_loc) == ("a", 8, kind, False)


def test_text_is_as_written(tmp_path: Path) -> None:
    line = "field:const char *const * a;\toffset:8;\tsize:8;\tsigned:0;"
    field = parse(tmp_path, line, "syscalls")
    assert field.text == "const char *const * a"
    assert field.type == Pointer(Pointer(INT8, Space.USER), Space.USER)


@tag("probe.tracepoint.fields")
def test_data_that_lies_elsewhere_in_the_record(tmp_path: Path) -> None:
    field = parse(tmp_path, "field:__data_loc char[] a;\toffset:8;\tsize:4;\tsigned:0;")
    assert field == Member("a", Int(8, space=Space.KERNEL), 8, data_loc=True, text="__data_loc char[] a")


def test_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "format").write_text(FORMAT.format(fields=""))
    tracefs = Tracefs(FakeHost(), tmp_path)
    assert tracefs.event("..", "") is None
    assert tracefs.event("..", "../x") is None
    assert tracefs.event("no", "such") is None


def test_missing_tracefs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytrace.runtime.tracefs.tracefs", lambda: None)
    with pytest.raises(HostError, match="mount"):
        Tracefs(FakeHost()).event("sched", "sched_switch")


@pytest.fixture(scope="module")
def live() -> Tracefs:
    return Tracefs(KernelTypes())


@pytest.mark.root
@tag("probe.tracepoint", "probe.tracepoint.as")
def test_this_kernels_system_calls(live: Tracefs) -> None:
    found = live.event("syscalls", "sys_enter_openat")
    assert found is not None
    assert [(f.name, f.type, f.offset) for f in found.fields if f.offset >= 16] == [
        ("dfd", UINT64, 16),
        ("filename", Pointer(INT8, Space.USER), 24),
        ("flags", UINT64, 32),
        ("mode", UINT64, 40),
    ]
    old = live.event("syscalls", "sys_enter_open")
    assert old is not None
    assert old.fields[-3].name == "filename"
    exit_ = live.event("syscalls", "sys_exit_read")
    assert exit_ is not None
    assert exit_.fields[-1] == Member("ret", INT64, 16, text="long ret")


@pytest.mark.root
def test_this_kernels_scheduler(live: Tracefs) -> None:
    switch = live.event("sched", "sched_switch")
    assert switch is not None
    fields = {f.name: f for f in switch.fields}
    assert fields["prev_comm"].type == String(16)
    assert fields["next_pid"].type == Int(4, True)
    executed = live.event("sched", "sched_process_exec")
    assert executed is not None
    assert next(f for f in executed.fields if f.name == "filename").data_loc


@pytest.mark.root
def test_all_events_of_this_kernel_can_be_read(live: Tracefs) -> None:
    events = list(live.events())
    assert events == sorted(set(events))
    assert ("sched", "sched_switch") in events
    assert len(events) > 500
    assert [pair for pair in events if live.event(*pair) is None] == []
