"""Builtins and functions in probes of kernel functions, on kernels that have them (run by tests/vm)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.e2e.programs import Run, run

pytestmark = [pytest.mark.root, pytest.mark.vm]


def during(text: str, action: str) -> Run:
    """Run a program while a child does something."""
    return run(text, command=f"/bin/{action}")


@pytest.mark.tag("fn.path")
def test_path() -> None:
    text = """fentry:security_file_open /pid == cpid/ { @open[path(args.file.f_path)] = 1; }
        fentry:security_inode_getattr /pid == cpid/ {
            @stat[path(args.path)] = 1; @short[path(args.path, 7)] = 1; }"""
    result = during(text, "cat /etc/passwd")
    assert "/etc/passwd" in result.maps["@open"]
    assert "/etc/passwd" in result.maps["@stat"]
    assert "passwd" in result.maps["@short"]
    assert "WARNING: File name too long\nAdditional Info - helper: d_path, retcode: -36\n" in result.errors


@pytest.mark.tag("fn.str", "type.addrspace")
def test_str_in_both_memories(tmp_path: Path) -> None:
    victim = tmp_path / "victim-of-unlink"
    victim.touch()
    text = """kprobe:vfs_unlink /pid == cpid/ { @name[str(((struct dentry *)arg2)->d_name.name)] = 1; }
        kprobe:do_unlinkat /pid == cpid/ { @path[str(((struct filename *)arg1)->uptr)] = 1; }
        kprobe:do_sys_openat2 /pid == cpid/ { @open[str(uptr(arg1))] = 1; }"""
    maps = during(text, f"rm {victim}").maps
    assert maps["@name"] == {victim.name: 1}
    assert any("libc.so" in path for path in maps["@open"])


@pytest.mark.tag("bi.kstack", "stack.capture")
def test_kstack_starts_at_the_function() -> None:
    text = run("kprobe:vfs_read /pid == cpid/ { print(kstack(2)); exit(); }", command="/bin/cat /etc/passwd").text
    # probes that sit on the call of the function tracer are a few bytes in
    assert re.match(r"\n        vfs_read\+\d+\n        ksys_read\+\d+\n\n", text)


@pytest.mark.tag("fn.reg", "fn.ksym", "fn.kaddr")
def test_registers() -> None:
    text = """kprobe:vfs_read /pid == cpid/ { print(reg("di") == arg0); print(ksym(reg("ip")));
        print(reg("ip") - kaddr("vfs_read") < 16); exit(); }"""
    assert during(text, "cat /etc/passwd").text == "true\nvfs_read\ntrue\n"


@pytest.mark.tag("fn.is_err")
def test_is_err() -> None:
    text = "kretprobe:do_filp_open /pid == cpid/ { @[is_err(retval)] = count(); }"
    maps = during(text, "cat /no/such/file").maps
    assert maps["@"][True] >= 1
    assert maps["@"][False] >= 1


@pytest.mark.tag("fn.signal")
def test_signal_from_a_kprobe() -> None:
    text = """kprobe:vfs_read /pid == cpid/ { signal("KILL"); }
        tracepoint:sched:sched_process_exit /pid == cpid/ { @ = 1; }"""
    assert run(text, command="/bin/cat /etc/passwd", unsafe=True).maps["@"] == 1


@pytest.mark.tag("bi.curtask", "bi.ppid")
def test_task_in_a_kprobe() -> None:
    text = "kprobe:vfs_read /pid == cpid/ { print((ppid, curtask.comm, pid == curtask.tgid)); exit(); }"
    assert during(text, "cat /etc/passwd").text == f"({os.getpid()}, cat, true)\n"
