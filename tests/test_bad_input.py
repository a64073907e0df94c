"""What the command line says when something is not there: one error that names it and what to do, status 1,
and nothing was attached."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytrace.runtime.host import LiveHost

pytestmark = pytest.mark.root

ROOT = Path(__file__).parent.parent
# what a shell does before the program, in a mount namespace of its own
NO_TRACEFS = "umount /sys/kernel/tracing; "
LOCKED = (
    "mount -t tmpfs none /sys/kernel/security; echo 'none integrity [confidentiality]' >/sys/kernel/security/lockdown; "
)
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
CANNOT_MOUNT = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")


@dataclass(frozen=True, slots=True)
class Bad:
    """One mistake: the words of the command line, what the error says, a part of its hint (empty: none needed)."""

    arguments: tuple[str, ...]
    error: str
    hint: str = ""
    tags: str = ""
    status: int = 1
    env: tuple[tuple[str, str], ...] = ()
    prefix: tuple[str, ...] = ()
    shell: str = ""


def program(text: str, error: str, hint: str = "", tags: str = "", **more: object) -> Bad:
    """A mistake in a program."""
    return Bad(("-e", text), error, hint, tags, **more)  # type: ignore[arg-type]


NAMES = [
    program("kprobe:vfs_raed { }", "No matches for kprobe vfs_raed.", "Did you mean 'vfs_read'", "err.ap.nomatch"),
    program("fentry:vfs_raed { }", "No matches for fentry vfs_raed.", "Did you mean 'vfs_read'", "err.ap.nomatch"),
    program("uprobe:/bin/bash:raedline { }", "No matches for uprobe /bin/bash:raedline.", "'readline'"),
    program("tracepoint:sched:sched_swich { }", "No matches for tracepoint sched:sched_swich.", "'sched_switch'"),
    program("tracepoint:shced:sched_switch { }", "shced:sched_switch", "'sched:sched_switch'", "probe.tracepoint.hint"),
    program(
        "tracepoint:sched_switch { }", "requires 2 arguments", "Write tracepoint:CATEGORY:sched_switch", "err.ap.arity"
    ),
    program(
        "rawtracepoint:sched_swich { }",
        "Probe has no valid attach points.",
        "Did you mean 'sched_switch'",
        "err.ap.none",
    ),
    program("tracepoint:nothing*:x { }", "Probe has no valid attach points.", "'missing_probes'", "err.ap.none"),
    program("software:page-fualts:1 { }", "page-fualts is not a software probe", "'page-faults'", "err.ap.event"),
    program("hardware:cpu-cycels:1 { }", "cpu-cycels is not a hardware probe", "'cpu-cycles'", "err.ap.event"),
    program("krpobe:vfs_read { }", "Invalid probe type: krpobe", "'kprobe'", "err.ap.type"),
    program("interval:zz:1 { }", "unknown time unit: 'zz'", "The units are hz, ms, s, us.", "err.ap.unit"),
    program("begin { nosuch_function(); }", "Unknown function: 'nosuch_function'"),
    program("begin { print(curtask->pdi); }", "does not contain a field named 'pdi'", "'pid'", "err.name.struct-field"),
    program("begin { print((struct task_strct *)8); }", '"struct task_strct"', "'task_struct'", "err.name.type"),
    program("begin { print((enum pid_typ)8); }", '"enum pid_typ"', "'pid_type'", "err.name.enum"),
    program('begin { print(percpu_kaddr("runqueuse")); }', '"runqueuse" from BTF'),
    program('begin { print(kaddr("no_such_symbol")); }', "kernel symbol: no_such_symbol"),
    Bad(("-l", "krpobe:vfs_read"), "Invalid probe type: krpobe", "'kprobe'", "list.type"),
    Bad(("-l", "zzzz:x"), "Invalid probe type: zzzz", "begin, bench, end, fentry,", "list.type"),
]

FILES = [
    program("uprobe:/bin/no_such_file:main { }", "'/bin/no_such_file' does not exist", "There is no such file", "err.ap.target"),
    program("uprobe:libnosuch:main { }", "'libnosuch' does not exist", "There is no such file", "err.ap.target"),
    program("uprobe:/etc/passwd:main { }", "'/etc/passwd' does not exist or is not executable", "is not an ELF file"),
    program("uprobe:STRIPPED:main { }", "No matches for uprobe STRIPPED:main.", "is stripped"),
    program("usdt:/bin/no_such:a:b { }", "'/bin/no_such' does not exist", "There is no such file", "err.ap.target"),
    program("usdt:/bin/bash:no_provider:x { }", "Probe has no valid attach points.", "'missing_probes'", "err.ap.none"),
    Bad(("/nowhere/program.bt",), "failed to open file '/nowhere/program.bt': No such file or directory"),
    Bad(("-o", "/nowhere/out", "-e", "begin { }"), '"/nowhere/out": No such file or directory'),
    Bad(("-c", "/bin/no_such", "-e", "begin { }"), "'/bin/no_such' does not exist"),
    Bad(("-p", "4194304", "-e", "begin { }"), "(No such process)", "There is no process 4194304"),
    Bad(("-p", "word", "-e", "begin { }"), "invalid integer: word"),
    program('#include "nowhere.h"\nbegin { }', "'nowhere.h' file not found (no header nowhere.h is installed;"),
    Bad(("--include", "nowhere.h", "-e", "begin { }"), "'nowhere.h' file not found"),
]

NO_BTF = (("BPFTRACE_BTF", "/dev/null"),)
MACHINE = [
    program("fentry:vfs_read { }", "No BTF found for vfs_read.", "Use kprobe:vfs_read", "err.ap.btf", env=NO_BTF),
    program(
        "rawtracepoint:sched_switch { }", "No BTF found for sched_switch.", "Use tracepoint:", "err.ap.btf", env=NO_BTF
    ),
    program("begin { print(curtask->pid); }", "field 'pid'", "This kernel has no BTF", env=NO_BTF),
    program("begin { print((struct x *)8); }", '"struct x"', "This kernel has no BTF", env=NO_BTF),
    Bad(("-l", "struct task_struct"), "There is no BTF, from which types are listed", env=NO_BTF, tags="list.struct"),
    Bad(("-l", "rawtracepoint:*"), "this kernel has no BTF. Use tracepoint probes.", env=NO_BTF),
    program("begin { }", "Missing CAP_BPF capability, please run pytrace as the root user.", prefix=NOBODY, tags="rt.caps"),
    Bad(("-l", "tracepoint:*"), "Missing CAP_BPF capability", prefix=NOBODY, tags="rt.caps"),
    Bad(("--info",), "Missing CAP_BPF capability", prefix=NOBODY, tags="rt.caps"),
    program(
        "tracepoint:sched:sched_switch { }",
        "tracefs is not mounted at /sys/kernel/tracing; try `mount -t tracefs tracefs /sys/kernel/tracing`",
        prefix=CANNOT_MOUNT, shell=NO_TRACEFS, tags="rt.feature.missing",
    ),
    Bad(
        ("-l", "tracepoint:sched:*"), "tracefs is not mounted at /sys/kernel/tracing; try `mount",
        prefix=CANNOT_MOUNT, shell=NO_TRACEFS, tags="rt.feature.missing",
    ),
    program(
        "begin { }", "Kernel lockdown is enabled and set to 'confidentiality'.", shell=LOCKED, tags="diag.load"
    ),
]  # fmt: skip


def stripped(folder: Path) -> Path:
    """A program without symbols."""
    source = folder / "stripped.c"
    source.write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", "-s", "-o", folder / "stripped", source], check=True)
    return folder / "stripped"


def run(bad: Bad, folder: Path) -> tuple[int, str, str]:
    """Status, standard output and standard error of the command line."""
    words = list(bad.arguments)
    if any("STRIPPED" in word for word in words):
        path = str(stripped(folder))
        words = [word.replace("STRIPPED", path) for word in words]
    command = [*bad.prefix, sys.executable, "-m", "pytrace", *words]
    if bad.shell:
        command = ["unshare", "--mount", "sh", "-c", f'{bad.shell}exec "$@"', "sh", *command]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env={**os.environ, **dict(bad.env)}
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(
            b,
            id=" ".join((*b.shell.split()[:1], *b.prefix[:2], *b.arguments))[:60],
            marks=pytest.mark.tag(*b.tags.split()),
        )
        for b in (*NAMES, *FILES, *MACHINE)
    ],
)
def test_bad_input(bad: Bad, tmp_path: Path) -> None:
    status, out, told = run(bad, tmp_path)
    assert status == bad.status, told
    told = told.replace(str(tmp_path / "stripped"), "STRIPPED")
    errors = [line for line in told.splitlines() if "ERROR: " in line]
    assert len(errors) == 1, told
    assert bad.error in errors[0]
    assert bad.hint in "\n".join(line for line in told.splitlines() if line.startswith("HINT: "))
    assert "Attach" not in out.replace("No probes to attach", "")
    assert "Traceback" not in told


@pytest.mark.tag("diag.load")
def test_lockdown_is_explained_in_four_lines(tmp_path: Path) -> None:
    _, _, told = run(MACHINE[-1], tmp_path)
    lines = told.splitlines()
    assert len(lines) == 4
    assert "lockdown=integrity" in lines[3]


MECHANISMS = [
    ("kprobe", "kprobe:vfs_read { exit(); }", "this kernel has no kprobes", "CONFIG_KPROBES"),
    ("kprobe", "kretprobe:vfs_read { exit(); }", "this kernel has no kprobes", "CONFIG_KPROBES"),
    ("fentry", "fentry:vfs_read { exit(); }", "this kernel refuses programs on its functions", "Use tracepoint"),
    ("fentry", "fexit:vfs_read { exit(); }", "this kernel refuses programs on its functions", "Use tracepoint"),
]


@pytest.mark.tag("rt.feature.missing")
@pytest.mark.parametrize(("mechanism", "text", "error", "hint"), MECHANISMS)
def test_kernels_without_a_mechanism(mechanism: str, text: str, error: str, hint: str, tmp_path: Path) -> None:
    if LiveHost().has(mechanism):
        status, _, told = run(program(text, error), tmp_path)
        assert (status, told) == (0, "")
        return
    status, out, told = run(program(text, error), tmp_path)
    assert status == 1
    assert error in told
    assert hint in told
    assert out == ""
