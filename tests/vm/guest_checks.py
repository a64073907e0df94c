"""What the other tests rely on in the guest. Not collected by name: run by
`python tests/vm/run_tests.py tests/vm/guest_checks.py`.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.vm
TRACING = Path("/sys/kernel/tracing")


@contextmanager
def trace_event(event: str) -> Iterator[None]:
    enable = TRACING / "events" / event / "enable"
    enable.write_text("1")
    try:
        yield
    finally:
        enable.write_text("0")


def test_the_kernel_is_the_one_asked_for() -> None:
    assert os.uname().release.startswith(os.environ["PYTRACE_VM"] + ".")


@pytest.mark.parametrize(
    "mount",
    [
        "tracefs /sys/kernel/tracing",
        "debugfs /sys/kernel/debug",
        "bpf /sys/fs/bpf",
        "cgroup2 /sys/fs/cgroup",
    ],
)
def test_is_mounted(mount: str) -> None:
    kind, where = mount.split()
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    assert (where, kind) in [(fields[1], fields[2]) for fields in lines]


def test_the_kernel_has_btf() -> None:
    magic = b"\x9f\xeb"  # BTF_MAGIC, include/uapi/linux/btf.h
    assert Path("/sys/kernel/btf/vmlinux").read_bytes().startswith(magic)


def test_the_compiler_and_the_parser_load() -> None:
    import lark
    import llvmlite.binding

    assert lark.Lark("start: /a/").parse("a").children == ["a"]
    llvmlite.binding.initialize_all_targets()
    assert llvmlite.binding.Target.from_triple("bpf")


def test_a_kprobe_fires() -> None:
    (TRACING / "kprobe_events").write_text("p:check/read vfs_read\n")
    try:
        with trace_event("check/read"):
            Path("/proc/self/stat").read_text()
        name, hits, _ = (TRACING / "kprobe_profile").read_text().split()
    finally:
        (TRACING / "kprobe_events").write_text("")
    assert name == "read"
    assert int(hits) > 0


def test_a_loop_device_does_block_io(tmp_path: Path) -> None:
    subprocess.run(["modprobe", "loop"], check=True)
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    attach = ["losetup", "-f", "--show", str(image)]
    device = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
    try:
        (TRACING / "trace").write_text("")
        with trace_event("block/block_rq_issue"), open(device, "wb", buffering=0) as disk:
            disk.write(bytes(4096))
            os.fsync(disk.fileno())
        trace = (TRACING / "trace").read_text()
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
    assert "block_rq_issue" in trace
