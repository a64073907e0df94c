"""kprobe, kretprobe, fentry, fexit: kernels that have them (run by tests/vm), on workloads with known counts.

Starting a program takes seconds under emulation, so each test looks at many things in one run.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytrace.grammar.diagnostics import CompileError
from pytrace.grammar.spec import REGISTRY
from pytrace.listing import list_probes
from pytrace.runtime.host import LiveHost
from tests.e2e.programs import run

pytestmark = [pytest.mark.root, pytest.mark.vm]
tag = pytest.mark.tag

READS = 7
SIZE = 4096
AT_FDCWD = -100  # include/uapi/linux/fcntl.h

# reads its own file, and fails to make a directory, a known number of times
WORKLOAD = f"""
import os, sys
f = os.open(sys.argv[0], os.O_RDONLY)
for i in range({READS}):
    os.pread(f, {SIZE}, 0)
    try:
        os.mkdir("/nonexistent-of-pytrace/folder", 0o750)
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command line of the workload."""
    path = tmp_path_factory.mktemp("work") / "pytrace_reads.py"
    path.write_text(WORKLOAD)
    return f"{os.path.realpath(sys.executable)} -I -S {path}"


@tag(
    "probe.kprobe",
    "probe.kretprobe",
    "probe.argN",
    "bi.argN",
    "probe.retval",
    "bi.retval",
    "bi.func",
    "probe.func",
)
@tag("bi.probe", "bi.ctx", "prog.probe.multi-block", "probe.order")
def test_kprobes(command: str) -> None:
    maps = run(
        f"kprobe:vfs_read /pid == cpid && arg2 == {SIZE}/ {{"
        " @in[func, probe] = count(); @of[tid] = arg2; @ctx[ctx.dx == arg2] = count(); @order = 1; }"
        f"kprobe:vfs_read /pid == cpid && arg2 == {SIZE}/ {{ @order = @order * 10 + 2; }}"
        "kretprobe:vfs_read /pid == cpid && @of[tid]/ { @out[func, (int64)retval > 0] = count();"
        " delete(@of, tid); }"
        "kprobe:do_mkdirat /pid == cpid/ { @args[(int32)arg0, (uint16)arg2] = count(); }"
        "kretprobe:do_mkdirat /pid == cpid/ { @error[(int32)retval] = count(); }",
        command=command,
    ).maps
    assert maps["@in"]["vfs_read", "kprobe:vfs_read"] >= READS
    assert maps["@in"] == {("vfs_read", "kprobe:vfs_read"): sum(maps["@out"].values())}
    assert maps["@ctx"] == {True: sum(maps["@out"].values())}
    assert maps["@out"]["vfs_read", True] >= READS
    assert maps["@args"] == {(AT_FDCWD, 0o750): READS}
    assert maps["@order"] == 12
    assert maps["@error"] == {-errno.ENOENT: READS}


@tag(
    "probe.kprobe.wildcard",
    "probe.wildcard.star",
    "probe.kprobe.multi",
    "probe.kprobe.module",
    "probe.kprobe.offset",
)
@tag("probe.expand.force", "bi.probe")
def test_kprobe_wildcards(command: str) -> None:
    maps = run(
        "kprobe:vfs_re*d /pid == cpid/ { @many[func] = count(); }"
        "kretprobe:vfs_re*d /pid == cpid/ { @back = count(); }"
        "kprobe:do_mk*rat, kprobe:vfs_unlin* /pid == cpid/ { @named[probe] = count(); }"
        "kprobe:vmlinux:do_mkdirat /pid == cpid/ { @module[probe] = count(); }"
        "kprobe:do_mkdirat+0 /pid == cpid/ { @offset[probe] = count(); }",
        command=command,
    ).maps
    assert maps["@many"]["vfs_read"] >= READS
    assert maps["@back"] == sum(maps["@many"].values())
    assert maps["@named"] == {"kprobe:do_mkdirat": READS}
    assert maps["@module"] == {"kprobe:vmlinux:do_mkdirat": READS}
    assert maps["@offset"] == {"kprobe:do_mkdirat": READS}


@tag(
    "probe.fentry",
    "probe.fexit",
    "probe.fentry.args",
    "probe.fentry.module",
    "bi.args",
    "probe.args",
    "bi.func",
)
@tag("bi.retval", "bi.probe", "probe.name", "probe.retval", "probe.order")
def test_fentry_and_fexit(command: str) -> None:
    name = Path(command.split()[-1]).name
    maps = run(
        f"fentry:vfs_read /pid == cpid && args.count == {SIZE}/ {{ @order = 1;"
        " @in[probe, func, str(args.file->f_path.dentry->d_name.name)] = count(); }"
        f"fentry:vmlinux:vfs_read /pid == cpid && args.count == {SIZE}/ {{ @order = @order * 10 + 2; }}"
        "fexit:vfs_read /pid == cpid/ { @out[func, retval <= args.count] = count(); }"
        "fexit:do_mkdirat /pid == cpid/ { @error[retval, args.dfd] = count(); }"
        "kfunc:do_mkdirat /pid == cpid/ { @all = args; }",
        command=command,
    ).maps
    assert maps["@in"]["fentry:vmlinux:vfs_read", "vfs_read", name] >= READS
    assert set(maps["@out"]) == {("vfs_read", True)}
    assert maps["@order"] == 12
    assert maps["@error"] == {(-errno.ENOENT, AT_FDCWD): READS}
    assert (maps["@all"]["dfd"], maps["@all"]["mode"]) == (AT_FDCWD, 0o750)


@tag("probe.fentry.wildcard", "probe.wildcard.star", "probe.expand.clone")
def test_fentry_wildcards(command: str) -> None:
    maps = run(
        "fentry:do_mk*rat, fentry:vm*:vfs_rea* /pid == cpid/ { @in[probe] = count(); }"
        "fexit:*:do_mkdira* /pid == cpid/ { @out[probe, retval] = count(); }",
        command=command,
    ).maps
    assert maps["@in"]["fentry:vmlinux:do_mkdirat"] == READS
    assert maps["@in"]["fentry:vmlinux:vfs_read"] >= READS
    assert sum(maps["@out"].values()) == READS
    assert {probe for probe, _ in maps["@out"]} == {"fexit:vmlinux:do_mkdirat"}


# A function that is hit all the time with a kprobe and a trampoline on it at once: when both go, 6.12 under TCG has
# jumped to address 0 (seen once). So one kind at a time.
@tag("probe.pid", "cli.p-filter")
@pytest.mark.parametrize("kinds", [("kprobe", "kretprobe"), ("fentry", "fexit")])
def test_kernel_probes_of_one_process(kinds: tuple[str, str]) -> None:
    entry, back = kinds
    process = subprocess.Popen(["cat", "/dev/zero"], stdout=subprocess.DEVNULL)
    try:
        maps = run(
            f"{entry}:vfs_read {{ @in[pid] = count(); }} {back}:vfs_read {{ @out[pid] = count(); }}"
            "interval:ms:300 { @i = count(); exit(); }",
            pid=process.pid,
        ).maps
    finally:
        process.kill()
        process.wait()
    assert maps.pop("@i") >= 1  # the timer goes on until the tracer has read of the exit
    assert {name: set(keys) for name, keys in maps.items()} == {"@in": {process.pid}, "@out": {process.pid}}


@tag("err.ap.nomatch", "err.builtin.args-resolve")
def test_mistakes() -> None:
    for text, hint in (
        ("kprobe:vfs_raed { }", "'vfs_read'"),
        ("fexit:vfs_raed { }", "'vfs_read'"),
        ("kprobe:sys_nanosleep { }", "'__x64_sys_nanosleep'"),
        ("fentry:vfs_read { print(args.fiel); }", "'file'"),
    ):
        with pytest.raises(CompileError) as caught:
            run(text)
        assert hint in str(caught.value)


@tag("list.type", "list.target", "list.args", "list.func")
def test_listing() -> None:
    host = LiveHost()

    def listed(search: str, verbose: bool = False) -> list[str]:
        return list(list_probes(search, host, REGISTRY, verbose))

    assert {"kprobe:vfs_read", "kprobe:vfs_readv"} <= set(listed("kprobe:vfs_rea*"))
    assert listed("vfs_fsync") == ["fentry:vmlinux:vfs_fsync", "kprobe:vfs_fsync"]
    assert listed("fexit:vfs_fsync", True) == [
        "fexit:vmlinux:vfs_fsync", "    struct file * file", "    int datasync", "    int retval",
    ]  # fmt: skip
    assert listed("kprobe:vfs_fsync", True) == ["kprobe:vfs_fsync", "    struct file * arg0", "    int arg1"]
    assert listed("kretprobe:vfs_fsync", True) == ["kretprobe:vfs_fsync", "    int retval"]
