"""Sizes of kernel functions, the list of `--traceable-functions`, numbers of BPF programs and of BTF."""

from __future__ import annotations

import errno
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pytrace.api import trace
from pytrace.cli import main
from pytrace.compilation import compile_text
from pytrace.grammar.attaching import KprobeMultiAttach, KprobeSessionAttach, TrampolineAttach
from pytrace.grammar.diagnostics import CompileError
from pytrace.grammar.host import HostError
from pytrace.options import Options
from pytrace.runtime import bpfids
from pytrace.runtime.aims import Aims, in_modules
from pytrace.runtime.attach_multi import KPROBE_SESSION, KernelGroup, groups, link_type, singles
from pytrace.runtime.host import LiveHost
from pytrace.runtime.kernel import KernelSymbols, image_addresses
from pytrace.runtime.libbpf import library
from tests.fakehost import FakeHost

tag = pytest.mark.tag


# ---------------------------------------------------------------- sizes


@tag("probe.kprobe.offset.check")
def test_a_function_ends_where_the_next_symbol_starts(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text(
        "ffffffff81000000 T vfs_read\nffffffff81000000 T an_alias\nffffffffc0000000 t m\t[mod]\n"
        "ffffffff81000150 D data\n"
    )
    symbols = KernelSymbols(str(path))
    assert symbols.size("vfs_read") == symbols.size("an_alias") == 0x150
    assert symbols.size("m") is None  # the last: who knows
    assert symbols.size("no_such") is None


@tag("probe.kprobe.module")
def test_functions_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text(
        "ffffffff81000000 t device_show\nffffffff81000010 D device_show\nffffffff81000020 T device_shown\n"
        "ffffffffc0000000 t device_show\t[virtio]\n"
    )
    assert image_addresses("device_show", str(path)) == [0xFFFFFFFF81000000]
    assert image_addresses("device_sho", str(path)) == []


@tag("env.VMLINUX", "probe.kprobe.offset.check")
def test_an_image_of_the_kernel_knows_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, image = tmp_path / "image.c", tmp_path / "vmlinux"
    source.write_text("int pytrace_image_function(int a) { return a * 3; }\n")
    subprocess.run(["gcc", "-O1", "-shared", "-o", image, source], check=True)
    nm = subprocess.run(["nm", "-S", image], check=True, capture_output=True, text=True).stdout
    size = next(int(line.split()[1], 16) for line in nm.splitlines() if "pytrace_image_function" in line)
    monkeypatch.setenv("BPFTRACE_VMLINUX", str(image))
    assert LiveHost().function_size("pytrace_image_function") == size
    assert LiveHost().function_size("pytrace_image_function", "vmlinux") == size
    monkeypatch.setenv("BPFTRACE_VMLINUX", str(source))
    with pytest.raises(HostError, match="not a 64-bit little-endian ELF file"):
        LiveHost().function_size("pytrace_image_function")


# ---------------------------------------------------------------- --traceable-functions


@tag("cli.traceable", "probe.kprobe.traceable")
def test_a_file_says_what_can_be_traced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "traceable"
    path.write_text("vfs_read\nvfs_mine\next4_mine [ext4]\n")
    host = LiveHost(traceable=str(path))
    assert list(host.kernel_functions()) == [("ext4", "ext4_mine"), ("vmlinux", "vfs_mine"), ("vmlinux", "vfs_read")]
    assert host.kernel_function("vfs_mine")
    assert not host.kernel_function("vfs_write")
    host = LiveHost(traceable=str(tmp_path / "none"))
    with pytest.raises(HostError, match=r"cannot read the list of traceable functions .*none: No such file"):
        host.kernel_function("vfs_read")
    with pytest.raises(CompileError, match="cannot read the list of traceable functions"):
        compile_text("kprobe:vfs_read { }", "x", Options(traceable=str(tmp_path / "none")))
    if LiveHost().has("kprobe"):
        assert main(["--traceable-functions", str(path), "-l", "kprobe:*mine"]) == 0
        assert capfd.readouterr().out == "kprobe:ext4_mine\nkprobe:vfs_mine\n"


# ---------------------------------------------------------------- links


@tag("probe.session", "probe.kprobe.multi")
def test_sessions_are_links_of_their_own_kind() -> None:
    place = KprobeSessionAttach("kprobe:vfs_*", ("a", "b", "c"), (4, 5, 6))
    program = compile_text("begin { }", "x", Options(), FakeHost()).plan.programs[0]
    assert link_type(replace(program, attach=(place,))) == KPROBE_SESSION
    (group,) = groups((place,))
    assert isinstance(group, KernelGroup)
    assert group.counted == 3
    first, second = group.parts()
    assert (first.place.functions, first.place.cookies) == (("a",), (4,))
    assert (second.place.functions, second.place.cookies) == (("b", "c"), (5, 6))
    assert [(s.name, getattr(s, "cookie", None)) for s in singles(second.place)] == [("kprobe:b", 5), ("kprobe:c", 6)]
    multi = KprobeMultiAttach("kretprobe:x", ("a",), returns=True)
    assert [(s.name, getattr(s, "returns", None)) for s in singles(multi)] == [("kretprobe:a", True)]


# ---------------------------------------------------------------- numbers


@pytest.mark.root
@tag("probe.fentry.bpf")
def test_programs_that_are_loaded() -> None:
    text = f"tracepoint:syscalls:sys_enter_getsid /pid == {os.getpid()}/ {{ for ($i : 0..3) {{ @[$i] = count(); }} }}"
    before = set(bpfids.functions())
    with trace(text) as t:
        for output in t.outputs():
            if output.kind == "attached_probes":
                symbol = t.plan.programs[0].symbol
                new = [pair for pair in bpfids.functions() if pair not in before and symbol in pair[1]]
                t.stop()
    (number,) = {number for number, _ in new}
    main_function, *others = [name for _, name in new]
    assert main_function == symbol
    assert len(others) == 1  # the body of the loop
    with pytest.raises(OSError, match="No such file"):
        bpfids.open_program(number)


@tag("probe.fentry.bpf")
def test_a_kernel_that_does_not_show_its_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library(), "bpf_prog_get_next_id", lambda number, found: -errno.EPERM)
    with pytest.raises(HostError, match="does not show its BPF programs: Operation not permitted"):
        list(bpfids.functions())
    monkeypatch.setattr(library(), "bpf_prog_get_next_id", lambda number, found: -errno.ENOENT)
    assert list(bpfids.functions()) == []


@pytest.mark.root
@pytest.mark.skipif(not Path("/sys/kernel/btf/vmlinux").exists(), reason="the kernel has no BTF")
@tag("probe.fentry.module")
def test_aiming_at_what_is_not_there() -> None:
    os.close(bpfids.open_btf("vmlinux"))
    with pytest.raises(OSError, match="No such file"):
        bpfids.open_btf("no_such_module")
    places = TrampolineAttach("", "f", module="no_such_module"), TrampolineAttach("", "f", program=1 << 30)
    assert [in_modules([place]) for place in places] == [True, False]
    aims = Aims()
    for place in places:
        with pytest.raises(OSError, match="No such file"):
            aims.set(0, place)
    aims.close()
