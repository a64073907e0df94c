"""iter: walks over the kernel's objects, compared with what /proc says of a process that the test knows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytrace.api import trace
from pytrace.grammar.spec import REGISTRY
from pytrace.language.probes.iterator import OF_ONE_MAP
from pytrace.listing import list_probes
from pytrace.runtime.attach import AttachError
from pytrace.runtime.attach_iter import WalkError
from pytrace.runtime.host import LiveHost
from pytrace.runtime.mounts import bpffs
from tests.e2e.conftest import Runner
from tests.e2e.programs import run as run_program

COMM = "iterated-thing"
EXAMPLES = Path(__file__).parents[2] / "examples"
tag = pytest.mark.tag


def refused() -> bool:
    """Whether this kernel has no iterators; those of the guests do."""
    missing = os.geteuid() == 0 and not LiveHost().has("iter")
    assert not (missing and os.environ.get("PYTRACE_VM"))
    return missing


pytestmark = [pytest.mark.root, pytest.mark.skipif(refused(), reason="this kernel refuses iterators")]

# names itself, opens a file and maps it, says so, and waits
CHILD = """
import mmap, sys, threading
open("/proc/self/comm", "w").write(sys.argv[2])
file = open(sys.argv[1], "w+b")
file.write(bytes(12288))
file.flush()
mapped = mmap.mmap(file.fileno(), 12288)
print("ready", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class Known:
    """A process that does nothing any more."""

    pid: int
    file: str

    def files(self) -> dict[int, str]:
        """Its descriptors and what they are, by /proc."""
        folder = Path(f"/proc/{self.pid}/fd")
        return {int(entry.name): os.readlink(entry) for entry in folder.iterdir()}

    def mappings(self) -> list[tuple[int, ...]]:
        """The ranges of its mappings, by /proc; [vsyscall] is none of its own."""
        lines = Path(f"/proc/{self.pid}/maps").read_text().splitlines()
        return [ranged(line.split()[0]) for line in lines if "[vsyscall]" not in line]


def ranged(text: str) -> tuple[int, ...]:
    """Start and end of a mapping, as /proc/PID/maps has them."""
    return tuple(int(part, 16) for part in text.split("-"))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    """The process."""
    file = str(tmp_path_factory.mktemp("iter") / "opened.file")
    command = [sys.executable, "-I", "-S", "-c", CHILD, file, COMM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield Known(process.pid, file)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def pin() -> Iterator[str]:
    """The name of a pin that is not there before and after."""
    assert bpffs()
    name = f"pytrace_test_{os.getpid()}"
    yield name
    path = Path("/sys/fs/bpf", name)
    if path.exists():
        path.unlink()


# ---------------------------------------------------------------- what is walked


@tag("probe.iter", "probe.iter.ctx", "bi.ctx", "probe.alias")
def test_tasks(known: Known) -> None:
    text = 'iter:task { printf("%d %d %s\\n", ctx.task.tgid, ctx.task.pid, ctx.task.comm); @ = count(); }'
    result = run_program(text)
    lines = result.text.splitlines()
    assert f"{known.pid} {known.pid} {COMM}" in lines
    # the kernel's last call, which has no task, would add a line of zeros and be counted
    assert [line for line in lines if line.startswith("0 ")] == []
    assert result.maps["@"] == len(lines)
    assert run_program("it:task /ctx.task.tgid == $1/ { print(ctx.task.comm); }", known.pid).text == f"{COMM}\n"


@tag("probe.iter", "probe.iter.ctx", "probe.iter.single", "probe.pid", "fn.path")
def test_files_and_mappings_of_a_process(known: Known) -> None:
    text = 'iter:task_file { printf("%d %s %d %s\\n", ctx.task.pid, ctx.task.comm, ctx.fd, path(ctx.file.f_path)); }'
    lines = [f"{known.pid} {COMM} {fd} {path}" for fd, path in sorted(known.files().items())]
    assert run_program(text, pid=known.pid).text.splitlines() == lines
    assert any(line.endswith(known.file) for line in lines)
    text = """iter:task_vma {
        $name = str(ctx.vma.vm_file.f_path.dentry.d_name.name);
        printf("%lx-%lx\\n", ctx.vma.vm_start, ctx.vma.vm_end);
        if ($name == str($1)) { @size = sum(ctx.vma.vm_end - ctx.vma.vm_start); }
    }"""
    result = run_program(text, os.path.basename(known.file), pid=known.pid)
    assert [ranged(line) for line in result.text.splitlines()] == known.mappings()
    assert result.maps["@size"] == 12288


@tag("probe.iter", "list.type")
def test_every_iterator_of_this_kernel() -> None:
    names = list(LiveHost().iterators())
    assert {"task", "task_file", "task_vma", "bpf_map"} <= set(names)
    assert list(list_probes("iter:*", LiveHost(), REGISTRY)) == [f"iter:{name}" for name in names]
    for name in names:
        if name not in OF_ONE_MAP:
            run_program(f"iter:{name} {{ @ = count(); }}")


@tag("list.args")
def test_listing_shows_the_context() -> None:
    lines = list(list_probes("iter:task_file", LiveHost(), REGISTRY, verbose=True))
    assert lines[0] == "iter:task_file"
    assert [line.split()[-1] for line in lines[1:]] == ["task", "fd", "file"]


def test_control_groups_are_walked_from_the_root() -> None:
    root = os.stat("/sys/fs/cgroup").st_ino if Path("/sys/fs/cgroup/cgroup.procs").exists() else 1
    if "cgroup" not in LiveHost().iterators():
        pytest.skip("this kernel has no iterator of control groups")
    result = run_program("iter:cgroup { print(ctx.cgroup.kn.id); }")
    assert int(result.text.splitlines()[0]) == root


@tag("probe.iter.ctx")
def test_an_address_is_a_number_when_it_is_cast(known: Known) -> None:
    text = "iter:task { $a = (uint64)ctx.task; print((($a & 7), $a >> 63, ctx.task == 0, $a * 0)); }"
    assert run_program(text, pid=known.pid).text == "(0, 1, false, 0)\n"


@tag("diag.load")
def test_a_path_behind_another_pointer_is_explained(run: Runner) -> None:
    result = run("-e", "iter:task { print(path(ctx.task.mm.exe_file.f_path)); }")
    assert result.status != 0
    assert "The kernel takes only what lies in an object of the probe itself" in result.stderr


# ---------------------------------------------------------------- output


@tag("probe.iter.single", "fn.printf", "probe.lifecycle")
def test_output_is_in_order(known: Known) -> None:
    text = """
        begin { printf("first\\n"); }
        iter:task {
            printf("%-3d|%5s|%s\\n", 7, "ab", (1, "x"));
            for ($i : 0..2) { printf("round %d\\n", $i); }
            print(ctx.task.comm);
            @[ctx.task.comm] = count();
            for ($kv : @) { print($kv); }
        }
        end { printf("last\\n"); }
    """
    result = run_program(text, pid=known.pid)
    loop = "round 0\nround 1\n"
    assert result.text == f"first\n7  |   ab|(1, x)\n{loop}{COMM}\n({COMM}, 1)\nlast\n"
    assert result.printed_maps == f"@[{COMM}]: 1\n"


@tag("probe.iter.single", "fn.printf")
def test_nothing_is_lost_and_nothing_comes_twice() -> None:
    """More output than the kernel's buffer and ours hold, in lines that do not fit its end."""
    text = 'iter:ksym { printf("%s %0400d\\n", ctx.ksym.name, @n); @n++; } end { print(@n); clear(@n); }'
    if "ksym" not in LiveHost().iterators():
        text = text.replace("ctx.ksym.name", "ctx.task.comm").replace("iter:ksym", "iter:task_vma")
    lines = run_program(text).text.splitlines()
    assert len(lines) > 500
    assert [int(line.rpartition(" ")[2]) for line in lines] == [*range(len(lines) - 1), len(lines) - 1]


@tag("fn.exit")
def test_exit_ends_the_walk() -> None:
    text = 'iter:task { @n++; printf("%d\\n", @n); if (@n == 3) { exit(); } } end { clear(@n); }'
    assert run_program(text).text == "1\n2\n3\n"


@tag("stmt.return")
def test_return_goes_on_with_the_next_object() -> None:
    result = run_program("iter:task { @ = count(); if (ctx.task.pid > 0) { return 1; } @never = count(); }")
    assert result.maps["@"] > 5
    assert "@never" not in result.printed_maps


def test_too_much_for_one_object() -> None:
    text = 'iter:task { for ($i : 0..2000) { printf("%d %d %d %d", $i, $i, $i, $i); } }'
    with pytest.raises(WalkError, match="iter:task: the block prints more than 32 KB for one object"):
        run_program(text)


@tag("probe.iter.single")
def test_json_leaves_the_text_as_it_is(run: Runner, known: Known) -> None:
    text = 'begin { printf("x"); } iter:task { printf("plain\\n"); print(1); @ = 5; }'
    result = run("-f", "json", "-p", str(known.pid), "-e", text)
    lines = result.stdout.splitlines()
    assert lines.count("plain") == 1
    lines.remove("plain")
    assert [json.loads(line)["type"] for line in lines] == ["attached_probes", "printf", "value", "map"]


@tag("probe.cmd")
def test_the_process_of_a_command() -> None:
    text = 'iter:task { printf("%d %d\\n", ctx.task.tgid == cpid, ctx.task.tgid); }'
    lines = run_program(text, command="/bin/sleep 9").text.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("1 ")


# ---------------------------------------------------------------- pins


@tag("probe.iter.pin")
def test_a_pin_can_be_read_again_and_again(known: Known, pin: str) -> None:
    text = f"""iter:task:{pin} {{
        printf("%d %-16s|%5s|%x|%ld é %d%%\\n", ctx.task.tgid, ctx.task.comm, true, 255, -1, 50);
    }}"""
    path = f"/sys/fs/bpf/{pin}"
    result = run_program(text, pid=known.pid)
    assert result.text == f"Program pinned to {path}\n"
    line = f"{known.pid} {COMM:16}| true|ff|-1 é 50%\n"
    assert [Path(path).read_text() for _ in range(2)] == [line, line]
    with pytest.raises(AttachError, match=f"{path} exists already; remove it"):
        run_program(text)


def test_a_dry_run_leaves_no_pin(pin: str) -> None:
    assert run_program(f'iter:task:{pin} {{ printf("x"); }}', dry_run=True).text == ""
    assert not Path("/sys/fs/bpf", pin).exists()


@tag("probe.iter.pin")
def test_a_pinned_path(known: Known, pin: str) -> None:
    run_program(f'iter:task_file:{pin} {{ printf("%d %s\\n", ctx.fd, path(ctx.file.f_path)); }}', pid=known.pid)
    lines = Path("/sys/fs/bpf", pin).read_text().splitlines()
    assert lines == [f"{fd} {path}" for fd, path in sorted(known.files().items())]


@tag("probe.iter.pin", "err.ap.attach")
@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("no/such/folder", "there is no folder /sys/fs/bpf/no/such; make it with `mkdir -p /sys/fs/bpf/no/such`"),
        ("with.dot", "/sys/fs/bpf/with.dot cannot be made: names in a BPF file system must not have a dot"),
        ("/tmp/pytrace-pin", "/tmp/pytrace-pin cannot be made: a pin must lie in a BPF file system, /sys/fs/bpf"),
    ],
)
def test_pins_that_cannot_be_made(where: str, reason: str) -> None:
    with pytest.raises(AttachError) as caught, trace(f'iter:task:{where} {{ printf("x"); }}') as t:
        t.run()
    assert caught.value.reason == reason


# ---------------------------------------------------------------- other kernels


@pytest.mark.vm
@tag("probe.iter", "probe.iter.ctx", "probe.iter.single", "probe.iter.pin", "fn.path")
def test_on_other_kernels(known: Known, pin: str) -> None:
    test_tasks(known)
    test_files_and_mappings_of_a_process(known)
    test_nothing_is_lost_and_nothing_comes_twice()
    test_output_is_in_order(known)
    test_every_iterator_of_this_kernel()
    test_a_pin_can_be_read_again_and_again(known, pin)


# ---------------------------------------------------------------- examples


@tag("probe.iter")
def test_example_tasks(known: Known) -> None:
    result = run_program((EXAMPLES / "tasks.bt").read_text(), pid=known.pid)
    header, line = (text.split() for text in result.text.splitlines())
    assert header == ["PID", "TID", "PPID", "UID", "CPU", "S", "COMMAND"]
    assert line[:4] == [str(known.pid), str(known.pid), str(os.getpid()), "0"]
    assert line[5:] == ["1", COMM]
    assert result.printed_maps == "@threads[0]: 1\n"


@tag("probe.iter", "fn.path")
def test_example_openfiles(known: Known) -> None:
    result = run_program((EXAMPLES / "openfiles.bt").read_text(), pid=known.pid)
    lines = result.text.splitlines()[1:]
    assert [(int(w[2]), w[4]) for w in (line.split(None, 4) for line in lines)] == sorted(known.files().items())
    assert next(line.split()[3] for line in lines if line.endswith(known.file)) == "12288"
    assert result.printed_maps == f"@open[{COMM}]: {len(lines)}\n"
