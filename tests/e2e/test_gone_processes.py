"""Stacks and addresses of processes that have exited before anything is shown: all have names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pytrace.api import trace
from pytrace.grammar.spec import Output
from pytrace.printer import document
from pytrace.runtime import mappings
from tests.e2e.workloads import build, observe

pytestmark = pytest.mark.root

COUNT = 200
FLAGS = ("-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls")
PLUGIN = "int plugin(int (*call)(int), int x) { return call(x) + 1; }\n"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The workload: many processes that live for a moment."""
    return Path(build(tmp_path, "shortlived", *FLAGS, "-pie", "-fPIE"))


def workload(program: Path, mode: str, *more: object, count: int = COUNT) -> Callable[[], object]:
    """Start the processes and wait until all have ended."""
    return lambda: subprocess.run([program, str(count), mode, *map(str, more)], check=True)


def stacks(outputs: list[Output], name: str = "@") -> list[list[str]]:
    """The names of the frames of each key of a map, as it was printed at the end."""
    text = next(o.text for o in outputs if o.text.startswith(f"{name}["))
    assert not re.search("^ +0x", text, re.MULTILINE), text
    keys = re.findall(r"^@\w*\[\n(.*?)^[,\]]", text, re.MULTILINE | re.DOTALL)
    found = [re.findall(r"^ +(.*)\+\d+$", key, re.MULTILINE) for key in keys]
    return [[name for name in names if name != "skipped"] for names in found]


@pytest.mark.tag("sym.resolve", "stack.bpftrace", "bi.ustack")
@pytest.mark.parametrize("mode", ["direct", "forked", "chain"])
def test_stacks_in_a_map(program: Path, mode: str) -> None:
    outputs, _ = observe(f"uprobe:{program}:probed {{ @[ustack, pid] = count(); }}", workload(program, mode))
    found = [names[:3] for names in stacks(outputs)]
    middle = "once" if mode == "forked" else "main"
    assert len(found) == COUNT
    assert all(names[:2] == ["probed", "called"] and names[2] in (middle, "once", "main") for names in found)


@pytest.mark.tag("sym.resolve", "fn.usym", "type.usym")
def test_addresses_in_printf(program: Path) -> None:
    """Nothing is shown before all processes have ended: the trace is not polled until then."""
    text = f'uprobe:{program}:probed {{ printf("%s|%s|%s\\n", ustack(2), usym(reg("ip")), func); }}'
    with trace(text) as t:
        t.tracer.attach()
        workload(program, "direct")()
        t.stop()
        shown = [output.text for output in t.outputs() if output.kind == "printf"]
    assert len(shown) == COUNT
    assert all(re.fullmatch(r"\n +probed\+0\n +called\+\d+\n\|probed\|probed\n", line) for line in shown)


@pytest.mark.tag("sym.resolve", "stack.perf")
def test_a_library_that_was_loaded_by_hand(program: Path, tmp_path: Path) -> None:
    (tmp_path / "plugin.c").write_text(PLUGIN)
    library = tmp_path / "plugin.so"
    subprocess.run(["cc", *FLAGS, "-shared", "-fPIC", "-o", library, tmp_path / "plugin.c"], check=True)
    _, maps = observe(
        f"uprobe:{program}:probed {{ @[ustack(perf, 3), pid] = count(); }}", workload(program, "library", library)
    )
    keys = [frames for frames, _ in maps["@"]]
    assert len(keys) == COUNT
    for frames in keys:
        names = [re.sub(r"^\w+ (\w+)\+\d+ ", r"\1 ", frame) for frame in frames]
        assert names == [f"probed ({program})", f"plugin ({library})", f"once ({program})"]


@pytest.mark.tag("sym.resolve", "stack.perf")
def test_a_function_of_the_c_library(program: Path) -> None:
    _, maps = observe(f"uprobe:{program}:probed {{ @[ustack(perf, 3), pid] = count(); }}", workload(program, "libc"))
    keys = [frames for frames, _ in maps["@"]]
    assert len(keys) == COUNT
    for frames in keys:
        assert re.fullmatch(r"\w+ lfind\+\d+ \(.*/libc.*\.so.*\)", frames[2])
        assert " compare+" in frames[1]


@pytest.mark.tag("sym.resolve")
def test_files_that_were_deleted_or_replaced(program: Path, tmp_path: Path) -> None:
    """The file at the path is another one when the stacks are shown; the right one is still used."""
    copy = tmp_path / "copy"
    shutil.copy(program, copy)

    def work() -> None:
        workload(copy, "direct", count=5)()

    with trace(f"uprobe:{copy}:probed {{ @[ustack(2), pid] = count(); }}") as t:
        t.tracer.attach()
        work()
        t.session.services.update()
        copy.unlink()
        shutil.copy("/bin/true", copy)
        shown = t.session.map_output("@")
    assert len(stacks([shown])) == 5
    assert all(names == ["probed", "called"] for names in stacks([shown]))


@pytest.mark.tag("stack.build_id", "bi.ustack")
def test_build_ids(program: Path) -> None:
    notes = subprocess.run(["readelf", "-n", program], check=True, capture_output=True, text=True).stdout
    build_id = notes.partition("Build ID: ")[2].split()[0]
    outputs, maps = observe(
        f"uprobe:{program}:probed {{ @[ustack(build_id, 2)] = count(); }}", workload(program, "direct", count=3)
    )
    assert len(maps["@"]) == 3  # user stacks differ by process
    symbols = subprocess.run(["nm", program], check=True, capture_output=True, text=True).stdout
    start = next(int(line.split()[0], 16) for line in symbols.splitlines() if line.endswith(" probed"))
    for frames in maps["@"]:
        assert frames[0] == f"{build_id} 0x{start:02x}"
        assert re.fullmatch(rf"{build_id} 0x[0-9a-f]+", frames[1])
    data = json.loads(document(next(o for o in outputs if o.kind == "map")))["data"]["@"]
    first = next(iter(data)).split("#")[0]
    assert re.fullmatch(rf"\n({build_id}0x[0-9a-f]+\n){{2}}", first)


@pytest.mark.tag("sym.resolve")
def test_the_one_process_of_a_trace_that_has_ended(program: Path) -> None:
    """With -p: it ran before, executes the program while it is traced, and is gone when its stack is shown."""
    command = ["sh", "-c", f"read go; exec {program} 0 direct"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        outputs, _ = observe(
            f"uprobe:{program}:probed {{ @[ustack, pid] = count(); }}",
            lambda: process.communicate(b"\n"),
            pid=process.pid,
        )
    assert [names[:2] for names in stacks(outputs)] == [["probed", "called"]]


def test_lost_records_of_mappings_are_told(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mappings, "_PAGES", 1)
    monkeypatch.setattr(mappings, "_FEWEST_PAGES", 1)
    with trace(f"uprobe:{program}:probed {{ @[ustack, pid] = count(); }}") as t:
        t.tracer.attach()
        workload(program, "direct", count=100)()
        t.stop()
        t.session.services.update()
        workload(program, "direct", count=2)()  # the kernel tells of a loss with the next record that has room
        outputs = list(t.outputs())
        lost = t.losses.mappings
    assert lost
    (said,) = (o for o in outputs if o.kind == "losses")
    assert f"WARNING: {lost} records of what processes map were lost: addresses may have no names\n" in said.text
    assert json.loads(document(said))["data"]["mappings"] == lost
    assert any("no name: the process was gone before its mappings were known" in note for note in notes(outputs))


# ---------------------------------------------------------------- what is said of odd stacks


def notes(outputs: list[Output]) -> list[str]:
    """The notes, which come behind the maps."""
    kinds = [o.kind for o in outputs]
    assert "stack_note" not in kinds[: kinds.index("maps_follow")]
    return [o.text for o in outputs if o.kind == "stack_note"]


def test_whole_stacks_need_no_note(program: Path) -> None:
    outputs, _ = observe(f"uprobe:{program}:probed {{ @[ustack(3)] = count(); }}", workload(program, "direct", count=2))
    assert notes(outputs) == []


@pytest.mark.tag("stack.capture")
def test_threads_of_the_kernel_have_no_user_stack() -> None:
    text = "tracepoint:sched:sched_switch /pid && curtask.flags & 0x200000/ { @[ustack, pid] = count(); exit(); }"
    with trace(text) as t:
        outputs = list(t.outputs())
    (note,) = (o for o in outputs if o.kind == "stack_note")
    assert re.fullmatch(r"NOTE: \d+ user stacks? (is|are) empty: kernel threads have none\n", note.text)
    assert re.match(r'\{"type": "stack_note", "msg": "user stacks? .*", "count": \d+\}\n', document(note))


def test_code_without_frame_pointers_is_named(tmp_path: Path) -> None:
    program = build(tmp_path, "shortlived", "-O2", "-fomit-frame-pointer")
    outputs, _ = observe(
        f"uprobe:{program}:probed {{ @[ustack] = count(); }}", workload(Path(program), "direct", count=3)
    )
    (note,) = [o for o in outputs if o.kind == "stack_note" and "cut short" in o.text]
    assert note.text.startswith("NOTE: 3 user stacks are cut short by code that keeps no frame pointers")
    assert note.text.endswith(f": {program} (3)\n")
    assert json.loads(document(note))["data"] == {"files": {program: 3}}


def test_a_file_without_symbols_is_named(program: Path) -> None:
    symbols = subprocess.run(["nm", program], check=True, capture_output=True, text=True).stdout
    start = next(int(line.split()[0], 16) for line in symbols.splitlines() if line.endswith(" probed"))
    subprocess.run(["strip", program], check=True)
    outputs, _ = observe(
        f"uprobe:{program}:{start:#x} {{ @[ustack(2)] = count(); }}",
        workload(program, "direct", count=3),
        unsafe=True,
    )
    (note,) = notes(outputs)
    assert note == (
        "NOTE: 6 addresses have no name: the file has no full symbol table (install its debug package): "
        f"{program} (6)\n"
    )


# ---------------------------------------------------------------- modes


@pytest.mark.tag("stack.raw")
def test_raw_addresses(program: Path) -> None:
    outputs, maps = observe(
        f"uprobe:{program}:probed {{ @[ustack(raw, 2), ustack(perf, 2)] = count(); }}",
        workload(program, "direct", count=2),
    )
    for raw, perf in maps["@"]:
        assert list(raw) == [frame.split()[0] for frame in perf]
    text = next(o.text for o in outputs if o.kind == "map")
    assert re.match(r"@\[\n[0-9a-f]+\n[0-9a-f]+\n, \n\t[0-9a-f]+ probed\+0 ", text)


@pytest.mark.tag("cfg.cache_user_symbols", "sym.resolve")
@pytest.mark.parametrize("choice", ["PER_PID", "PER_PROGRAM", "NONE"])
def test_names_do_not_depend_on_how_symbols_are_kept(program: Path, choice: str) -> None:
    text = f"config = {{ cache_user_symbols = {choice} }} uprobe:{program}:probed {{ @[ustack(2), pid] = count(); }}"
    outputs, _ = observe(text, workload(program, "direct", count=20))
    assert [names[0] for names in stacks(outputs)] == ["probed"] * 20
