"""Tracepoints of many system calls by one raw tracepoint: attached at once, and nothing else to see."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytrace.compilation import compile_text
from pytrace.language.probes import systemcalls
from tests.e2e.conftest import SLOWDOWN, Runner, Start
from tests.e2e.programs import run as run_here

tag = pytest.mark.tag
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64"),
]

# each as often as its number says
CALLS = """
import ctypes
call = ctypes.CDLL(None).syscall
for number, *arguments in ((39,), (110,), (63, 0), (166, b"/nonexistent", 0), (40, -1, -1, 0, 0), (1000,), (-1,)):
    for _ in range(number):
        call(number, *arguments)
"""
# with 32 bits 20 is the number of getpid, with 64 that of writev
COMPAT = """
int main(void)
{
    long pid = 0;
    for (int i = 0; i < 50; i++)
        __asm__ volatile("int $0x80" : "=a"(pid) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
    return pid <= 0;
}
"""
ALL = "tracepoint:syscalls:sys_enter_*"


@pytest.fixture
def calls(tmp_path: Path) -> str:
    """A command that makes system calls."""
    script = tmp_path / "calls.py"
    script.write_text(CALLS)
    return f"{sys.executable} -S {script}"


@pytest.mark.everywhere
@tag("probe.tracepoint")
def test_names_numbers_and_results(run: Runner, calls: str) -> None:
    text = """
    tracepoint:syscalls:sys_enter_* /pid == cpid/ { @in[probe] = count(); }
    tracepoint:syscalls:sys_exit_* /pid == cpid/ { @out[probe, args.ret < 0, args.__syscall_nr] = count(); }
    """
    result = run("-e", text, "-c", calls)
    lines = result.stdout.splitlines()
    for name, number, failed in (
        ("getpid", 39, "false"),
        ("getppid", 110, "false"),
        ("newuname", 63, "true"),
        ("umount", 166, "true"),
        ("sendfile64", 40, "true"),
    ):
        assert f"@in[tracepoint:syscalls:sys_enter_{name}]: {number}" in lines, result.stdout
        assert f"@out[tracepoint:syscalls:sys_exit_{name}, {failed}, {number}]: {number}" in lines, result.stdout


@tag("probe.tracepoint")
def test_both_ways_show_the_same(calls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for many in (1 << 20, systemcalls.MANY):
        monkeypatch.setattr(systemcalls, "MANY", many)
        # names with few calls of the interpreter's own, which may differ from one run to the next
        shown = run_here("tracepoint:syscalls:sys_enter_*e* /pid == cpid/ { @[probe] = count(); }", command=calls)
        found.append({key: value for key, value in shown.maps["@"].items() if value > 20})
    assert found[0] == found[1]
    assert len(found[0]) >= 5


@tag("probe.tracepoint")
def test_calls_with_32_bits_are_others(tmp_path: Path, run: Runner) -> None:
    (tmp_path / "compat.c").write_text(COMPAT)
    subprocess.run(["gcc", "-O1", "-o", tmp_path / "compat", tmp_path / "compat.c"], check=True)
    if subprocess.run([tmp_path / "compat"]).returncode:
        pytest.skip("this kernel takes no 32-bit system calls")
    result = run("-e", f"{ALL} /pid == cpid/ {{ @[probe] = count(); }}", "-c", str(tmp_path / "compat"))
    assert "sys_enter_mmap]" in result.stdout
    assert "writev" not in result.stdout


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("{ @[probe] = count(); }", ["raw_tp"]),
        ("{ @[comm, ustack] = count(); }", ["raw_tp"]),
        ("{ @[kstack] = count(); }", ["tracepoint"]),  # it would show another way
        ("{ @ = f(); }", ["tracepoint"]),
        ("{ @[STACK] = count(); }", ["tracepoint"]),
        ("/args.__syscall_nr == 1/ { @ = count(); }", None),  # the records differ
    ],
)
@tag("probe.tracepoint")
def test_which_blocks_are_taken(text: str, sections: list[str] | None) -> None:
    program = f"#define STACK kstack\nfn f(): uint64 {{ @k = kstack; return 1; }} {ALL} {text}"
    found = [made.section for made in compile_text(program).plan.programs]
    assert found == sections if sections else set(found) == {"tracepoint"}


@tag("probe.tracepoint")
def test_few_and_others_stay_as_they_are() -> None:
    few = compile_text("tracepoint:syscalls:sys_enter_open* { @[probe] = count(); }").plan
    assert [program.section for program in few.programs] == ["tracepoint"]
    mixed = compile_text(f"{ALL}, tracepoint:sched:sched_switch, tracepoint:syscalls:sys_exit_* {{ @[probe] = count(); }}")
    assert [(p.section, len(p.attach)) for p in mixed.plan.programs] == [("raw_tp", 1), ("raw_tp", 1), ("tracepoint", 1)]
    events = [name for name in os.listdir("/sys/kernel/tracing/events/syscalls") if name.startswith("sys_")]
    assert mixed.plan.probe_count == len(events) + 1


@tag("probe.tracepoint")
def test_it_leaves_at_once(start: Start) -> None:
    running = start("-e", f"{ALL} {{ @[probe] = count(); }}")
    running.wait_for("Attached")
    began = time.monotonic()
    result = running.interrupt()
    assert time.monotonic() - began < 1 * SLOWDOWN
    assert "sys_enter_read]" in result.stdout
    assert result.status == 0
