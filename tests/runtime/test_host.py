"""`LiveHost` as a whole, and its parts that look for binaries, functions and features."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytrace.grammar.host import Host, HostError
from pytrace.grammar.types import Struct
from pytrace.runtime.binaries import mapped_files, resolve
from pytrace.runtime.btf import KernelTypes
from pytrace.runtime.features import Features
from pytrace.runtime.host import LiveHost
from pytrace.runtime.kernel import KernelFunctions, KernelSymbols
from pytrace.runtime.roots import executable
from pytrace.runtime.tracefs import Tracefs
from tests.fakehost import FakeHost

tag = pytest.mark.tag


def test_both_hosts_are_hosts() -> None:
    hosts: list[Host] = [LiveHost(), FakeHost()]
    for host in hosts:
        assert host.cpus >= 1


def test_making_a_host_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pytrace.runtime.host import LiveHost; LiveHost();"
        "print([m for m in ('clang', 'bcc', 'llvmlite', 'pyroute2') if m in sys.modules],"
        " 'libbpf' in open('/proc/self/maps').read())"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[] False"


def test_the_fake_is_consistent() -> None:
    """Every struct that a member or an argument names has members, so that programs can go on from there."""
    host = FakeHost()
    opaque = {"bpf_iter_meta", "__kernel_timespec"}
    for struct, members in host.structs.items():
        assert host.find_type(struct.name, struct.kind) == struct
        for member in members:
            kind = getattr(member.type, "to", member.type)
            if isinstance(kind, Struct) and kind.name not in opaque:
                assert host.find_type(kind.name, kind.kind) == kind
                assert host.members(kind), kind


# ---------------------------------------------------------------- binaries


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders in $PATH with programs, and an empty working directory."""
    elf = Path(sys.executable).resolve().read_bytes()[:4096]
    fixed = bytearray(elf)
    fixed[16:18] = (2).to_bytes(2, "little")  # ET_EXEC
    shared = bytearray(elf)
    shared[16:18] = (3).to_bytes(2, "little")  # ET_DYN
    for folder, name, content, mode in (
        ("one", "prog", fixed, 0o755),
        ("two", "prog", fixed, 0o755),
        ("two", "progress", shared, 0o644),
        ("two", "proxy", fixed, 0o644),
        ("two", "script", b"#!/bin/sh\n", 0o755),
        ("work", "local", fixed, 0o755),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / name
        path.write_bytes(content)
        path.chmod(mode)
    monkeypatch.setenv("PATH", f"{tmp_path}/one:{tmp_path}/two")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@tag("probe.uprobe.resolve", "probe.wildcard.path")
def test_targets(programs: Path) -> None:
    one, two = programs / "one", programs / "two"
    assert resolve("prog") == [f"{one}/prog", f"{two}/prog"]
    assert resolve("progress") == [f"{two}/progress"]  # a shared object needs no permission
    assert resolve("proxy") == []  # an executable does
    assert resolve("script") == []
    assert resolve("local") == ["./local"]
    assert resolve("./local") == ["./local"]
    assert resolve("nothing") == []
    assert resolve("pro*") == [f"{one}/prog", f"{two}/prog", f"{two}/progress"]
    assert resolve(f"{two}/pro*") == [f"{two}/prog", f"{two}/progress"]
    assert resolve(f"{two}/script") == []
    assert resolve(f"{two}/script", unsafe=True) == [f"{two}/script"]
    assert resolve(str(two)) == []


@tag("probe.uprobe.lib")
def test_libraries() -> None:
    (libc,) = resolve("libc")
    assert libc.endswith("/libc.so.6")
    assert resolve("libc.so.6") == [libc]
    assert resolve("libc.so.5") == []
    assert resolve("libno_such_library") == []
    (ours,) = resolve("libc", os.getpid())
    assert os.path.samefile(ours, libc)


def test_files_of_a_process() -> None:
    assert os.path.samefile(executable(os.getpid()), sys.executable)
    mapped = mapped_files([os.getpid()])
    assert executable(os.getpid()) in mapped
    assert set(resolve("*", os.getpid())) <= set(mapped)
    assert set(mapped) <= set(mapped_files())
    with pytest.raises(HostError, match="process"):
        executable(1 << 30)


# ---------------------------------------------------------------- functions

LIST = "vfs_read\nvfs_write\nvfs_x.part.0\next4_sync [ext4]\n__ftrace_invalid_address___64\n"


def functions(folder: Path, text: str | None = LIST) -> KernelFunctions:
    """Functions of a kernel without BTF that lists `text` as traceable, and more in its symbols."""
    if text is not None:
        (folder / "available_filter_functions").write_text(text)
    (folder / "kallsyms").write_text(
        "ffffffff81000000 T vfs_read\nffffffff81000100 D data\nffffffffc0000000 t m\t[mod]\n"
    )
    types = KernelTypes("/nonexistent")
    return KernelFunctions(types, Tracefs(types, folder), KernelSymbols(str(folder / "kallsyms")))


@tag("probe.kprobe.traceable", "probe.kprobe.module")
def test_traceable_functions(tmp_path: Path) -> None:
    found = functions(tmp_path)
    assert list(found.all()) == [("ext4", "ext4_sync"), ("vmlinux", "vfs_read"), ("vmlinux", "vfs_write")]
    assert found.exists("vfs_read")
    assert found.exists("vfs_read", "vmlinux")
    assert not found.exists("vfs_read", "ext4")
    assert found.exists("ext4_sync")
    assert found.exists("ext4_sync", "ext4")
    assert not found.exists("ext4_sync", "vmlinux")
    assert not found.exists("vfs_x.part.0")
    assert not found.exists("vfs_rea")
    assert not found.exists("")


def test_a_list_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    names = [f"function_number_{i}" for i in range(20000)]
    found = functions(tmp_path, "\n".join(names) + "\nlast [mod]\n")
    assert all(found.exists(name) for name in names[::-777])
    assert not found.exists("function_number")
    assert not found.exists("function_number_20000")
    assert found.exists("last", "mod")
    assert len(list(found.all())) == 20001


@pytest.mark.skipif(not Path("/sys/kernel/btf/vmlinux").exists(), reason="the kernel has no BTF")
def test_the_list_counts_not_btf(tmp_path: Path) -> None:
    (tmp_path / "available_filter_functions").write_text("vfs_write\n")
    types = KernelTypes()
    assert types.prototype("vfs_read") is not None
    found = KernelFunctions(types, Tracefs(types, tmp_path), KernelSymbols())
    assert not found.exists("vfs_read")
    assert found.exists("vfs_write")


def test_without_the_list_code_symbols_stand_for_it(tmp_path: Path) -> None:
    found = functions(tmp_path, None)
    assert list(found.all()) == [("mod", "m"), ("vmlinux", "vfs_read")]
    assert found.exists("m", "mod")
    assert found.exists("vfs_read")
    assert not found.exists("data")


@pytest.mark.root
def test_functions_of_this_kernel() -> None:
    host = LiveHost()
    assert host.kernel_function("vfs_read")
    assert host.kernel_function("vfs_read", "vmlinux")
    assert not host.kernel_function("no_such_function")
    assert ("vmlinux", "vfs_read") in set(host.kernel_functions())
    assert host.kernel_address("vfs_read")


# ---------------------------------------------------------------- features


@pytest.mark.root
def test_features_of_this_kernel() -> None:
    host = LiveHost()
    assert host.has("btf") == Path("/sys/kernel/btf/vmlinux").exists()
    assert host.has("kprobe") == Path("/sys/bus/event_source/devices/kprobe").exists()
    assert host.has("tracefs")
    if host.has("btf"):
        assert host.has("map_lookup_elem")
        assert host.has("get_current_pid_tgid")
        assert not host.has("sk_lookup_tcp")  # a helper, but not for tracing
    assert not host.has("no_such_feature")


@pytest.mark.vm
def test_features_of_a_kernel_with_everything() -> None:
    host = LiveHost()
    assert host.has("kprobe")
    assert host.has("fentry")
    assert host.has("iter")
    assert host.has("perf_link")
    assert host.has("module_btf")
    assert host.has("bpf_loop")
    # a session needs the multi link it is a kind of
    assert host.has("kprobe_multi") or not host.has("kprobe_session")


@pytest.mark.vm
@tag("probe.fentry.module")
def test_functions_of_modules() -> None:
    host = LiveHost()
    modules = sorted(set(KernelTypes().module_names()) & {m for m, _ in host.kernel_functions()})
    assert modules
    module = modules[0]
    name = next(f for m, f in host.function_prototypes() if m == module)
    found = LiveHost().function_prototype(name, module)
    assert found is not None
    assert found.module == module
    assert LiveHost().function_prototype(name) is not None


def test_features_are_probed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    types = KernelTypes("/nonexistent")
    features = Features(types, Tracefs(types, tmp_path))
    assert features.has("tracefs")
    monkeypatch.setattr(Tracefs, "root", property(lambda self: pytest.fail("asked again")))
    assert features.has("tracefs")
    assert not features.has("btf")
    assert not features.has("bpf_loop")


def test_numbers_of_this_machine() -> None:
    host = LiveHost()
    assert host.cpus >= len(os.sched_getaffinity(0))
    namespace = host.pid_namespace()
    assert namespace is None or namespace[1] == os.stat("/proc/self/ns/pid").st_ino
