"""Every type of probe on every kernel: it fires, and by what mechanism. Runs here and under the other kernels.

What a test records makes docs/kernels.md. A kernel without a mechanism is asked for it first; it is a failure when it
has what the probe type needs and the probe does not fire.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytrace.api import Trace, trace
from pytrace.runtime.attach import AttachError
from pytrace.runtime.host import LiveHost
from pytrace.runtime.libbpf import library
from tests.e2e.workloads import SLOWDOWN

pytestmark = [pytest.mark.root, pytest.mark.everywhere]

# enum bpf_link_type, include/uapi/linux/bpf.h
LINKS = {
    1: "raw tracepoint", 2: "trampoline", 4: "iterator", 6: "XDP link", 7: "perf event", 8: "kprobe_multi", 11: "TCX link",
    12: "uprobe_multi",
}  # fmt: skip


def link_kind(fd: int) -> str:
    """What kind of link a descriptor is (BPF_OBJ_GET_INFO_BY_FD)."""
    info, size = ctypes.create_string_buffer(256), ctypes.c_uint32(256)
    if library().bpf_obj_get_info_by_fd(fd, info, ctypes.byref(size)) < 0:
        return "clsact filter"  # the one way of attaching that has no link
    (kind,) = struct.unpack_from("=I", info)
    return LINKS[kind]


def mechanisms(running: Trace) -> set[str]:
    """By what the programs of a running trace are attached."""
    return {link_kind(link.fd) for link in running.tracer.links}


def sleep() -> None:
    """Two calls of nanosleep(2), with some time for clocks to fire."""
    for _ in range(2):
        time.sleep(0.05)


WATCHED = ctypes.c_uint32(1)


def write() -> None:
    """Write the variable that is watched, some times."""
    for number in range(10):
        WATCHED.value = number


def talk() -> None:
    """Send a datagram to ourselves over the interface lo."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        one.bind(("127.0.0.1", 0))
        other.sendto(b"hello", one.getsockname())
        one.settimeout(10)
        assert one.recv(10) == b"hello"


@dataclass(frozen=True, slots=True)
class Case:
    """A probe type: what the kernel must have for it, a program that counts in `@`, what makes it fire."""

    probe: str
    needs: tuple[str, ...]
    text: str
    workload: Callable[[], object] = sleep


# what the kernels under tests/vm lack of what is asked for here; nothing else may be skipped there
KNOWN = {"6.1": {"kprobe_session"}, "6.12": set[str]()}
LIBC = "/lib/x86_64-linux-gnu/libc.so.6"

CASES = [
    Case("begin", (), "begin { @ = count(); } interval:s:100 { }"),
    Case("tracepoint", ("tracefs",), "tracepoint:syscalls:sys_enter_clock_nanosleep /pid == PID/ { @ = count(); }"),
    Case("rawtracepoint", ("btf",), "rawtracepoint:sys_enter /pid == PID/ { @ = count(); }"),
    Case("kprobe", ("kprobe",), "kprobe:hrtimer_nanosleep /pid == PID/ { @ = count(); }"),
    Case("kprobe (wildcard)", ("kprobe",), "kprobe:hrtimer_nano* /pid == PID/ { @ = count(); }"),
    Case("kretprobe", ("kprobe",), "kretprobe:hrtimer_nanosleep /pid == PID/ { @ = count(); }"),
    Case("kretprobe (wildcard)", ("kprobe",), "kretprobe:hrtimer_nano* /pid == PID/ { @ = count(); }"),
    Case(
        "kprobe and kretprobe (session)",
        ("kprobe", "kprobe_session"),
        "kprobe:hrtimer_nanosleep /pid == PID/ { @a = count(); } kretprobe:hrtimer_nanosleep /pid == PID/ { @ = count(); }",
    ),
    Case("fentry", ("fentry",), "fentry:hrtimer_nanosleep /pid == PID/ { @ = count(); }"),
    Case("fexit", ("fentry",), "fexit:hrtimer_nanosleep /pid == PID/ { @ = count(); }"),
    Case("uprobe", ("uprobe",), f"uprobe:{LIBC}:clock_nanosleep /pid == PID/ {{ @ = count(); }}"),
    Case("uprobe (wildcard)", ("uprobe",), f"uprobe:{LIBC}:clock_nano* /pid == PID/ {{ @ = count(); }}"),
    Case("uretprobe", ("uprobe",), f"uretprobe:{LIBC}:clock_nanosleep /pid == PID/ {{ @ = count(); }}"),
    Case("profile", (), "profile:hz:99 { @ = count(); }"),
    Case("interval", (), "interval:ms:10 { @ = count(); }"),
    Case("watchpoint", (), f"watchpoint:{ctypes.addressof(WATCHED):#x}:4:w {{ @ = count(); }}", write),
    Case("xdp", (), "xdp:lo { @ = count(); }", talk),
    Case("tc", (), "tc:lo:egress { @ = count(); }", talk),
    Case("software", (), "software:context-switches:1 { @ = count(); }"),
]


@pytest.fixture
def mechanism(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Record `PROBE TYPE: MECHANISM` for docs/kernels.md."""
    return lambda text: request.node.user_properties.append(("mechanism", text))


def test_iter(mechanism: Callable[[str], None]) -> None:
    with trace("iter:task { @[ctx.task.pid] = count(); }", values=True) as t:
        for output in t.outputs():
            if output.kind == "attached_probes":
                found = mechanisms(t)
        assert t.maps["@"][os.getpid()] == 1
    mechanism(f"iter: {', '.join(sorted(found))}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.probe)
def test_it_fires(case: Case, mechanism: Callable[[str], None]) -> None:
    host = LiveHost()
    lacking = [feature for feature in case.needs if not host.has(feature)]
    if (series := os.environ.get("PYTRACE_VM")) in KNOWN:
        assert set(lacking) <= KNOWN[series], "this kernel has it: asking for it is wrong"
    if lacking:
        mechanism(f"{case.probe}: not there (no {', '.join(lacking)})")
        pytest.skip(f"this kernel has no {', '.join(lacking)}")
    found: set[str] = set()
    pid = os.getpid() if case.workload is write else None
    with trace(case.text.replace("PID", str(os.getpid())), pid=pid) as t:
        for output in t.outputs():
            if output.kind == "attached_probes":
                found = mechanisms(t)
                deadline = time.monotonic() + 5 * SLOWDOWN
                while not t.maps["@"] and time.monotonic() < deadline:
                    case.workload()
                t.stop()
        assert t.maps["@"]
    mechanism(f"{case.probe}: {', '.join(sorted(found))}")


USDT = """
#include <sys/sdt.h>
#include <unistd.h>
int main(void) { for (;;) { DTRACE_PROBE1(mine, tick, 7); usleep(1000); } }
"""


def test_usdt(tmp_path: Path, mechanism: Callable[[str], None]) -> None:
    (tmp_path / "ticks.c").write_text(USDT)
    path = tmp_path / "ticks"
    subprocess.run(["gcc", "-o", path, tmp_path / "ticks.c"], check=True)
    with subprocess.Popen([path]) as process:
        try:
            with trace(f"usdt:{path}:mine:tick {{ @[arg0] = count(); exit(); }}") as t:
                for output in t.outputs():
                    if output.kind == "attached_probes":
                        found = mechanisms(t)
                assert t.maps["@"][7] >= 1
        finally:
            process.kill()
    mechanism(f"usdt: {', '.join(sorted(found))}")


def test_hardware(mechanism: Callable[[str], None]) -> None:
    """A machine without a PMU refuses it in words; one that has a PMU must count."""
    text = "hardware:cpu-cycles:1000000 { @ = count(); }"
    if not any(Path("/sys/bus/event_source/devices").glob("cpu*")):
        with trace(text) as t, pytest.raises(AttachError, match="does not have this event"):
            t.run()
        mechanism("hardware: not there (no PMU)")
        return
    with trace(text) as t:
        for output in t.outputs():
            if output.kind == "attached_probes":
                assert sum(n * n for n in range(3_000_000))
                t.stop()
        assert t.maps["@"]
    mechanism("hardware: perf event")
