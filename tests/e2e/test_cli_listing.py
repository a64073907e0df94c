"""Listings of the command line on this kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Runner

pytestmark = pytest.mark.root
tag = pytest.mark.tag


@tag("cli.l", "list", "list.func", "list.type", "list.target", "run.status")
def test_listing(run: Runner) -> None:
    assert run("-l", "tracepoint:sched:sched_wakeup*").stdout == (
        "tracepoint:sched:sched_wakeup\ntracepoint:sched:sched_wakeup_new\n"
    )
    assert "tracepoint:sched:sched_wakeup\n" in run("--list", "sched_wakeup").stdout
    assert run("-l", "t:sched:no_such") == ("", "", 0)
    assert "software:page-faults:\n" in run("-l", "*ware:*").stdout
    bash = run("-l", "uprobe:/bin/bash:readline").stdout
    assert bash == "uprobe:/bin/bash:readline\n"
    everything = run("-l").stdout.splitlines()
    assert len(everything) > 1000
    assert "tracepoint:syscalls:sys_enter_openat" in everything
    unknown = run("-l", "tracepont:x:y")
    assert unknown.status == 1
    assert unknown.stderr.startswith("ERROR: Invalid probe type: tracepont\nHINT: ")


@tag("list.args")
def test_listing_with_parameters(run: Runner) -> None:
    assert run("-lv", "tracepoint:sched:sched_wakeup_new").stdout == (
        "tracepoint:sched:sched_wakeup_new\n    char comm[16]\n    pid_t pid\n    int prio\n    int target_cpu\n"
    )


@tag("list.prog")
def test_listing_a_program(run: Runner, tmp_path: Path) -> None:
    text = "begin { } tracepoint:sched:sched_wakeup* { } interval:s:1 { } software:cs:100 { } end { }"
    lines = "tracepoint:sched:sched_wakeup\ntracepoint:sched:sched_wakeup_new\ninterval:s:\nsoftware:cs:\n"
    assert run("-l", "-e", text) == (lines, "", 0)
    path = tmp_path / "a.bt"
    path.write_text(text)
    assert run("-l", str(path)).stdout == lines
    assert "tracepoint:sched:sched_wakeup_new\n    char comm[16]\n" in run("-lv", str(path)).stdout
    missing = run("-l", "no_such.bt")
    assert missing.status == 0
    assert missing.stderr.startswith(
        "WARNING: It appears that 'no_such.bt' is a filename but the file does not exist. "
        "Treating 'no_such.bt' as a search pattern.\n"
    )
    assert run("-l", "-e", "begin { ").status == 1
