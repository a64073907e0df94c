"""The book's programs that need kprobes, on workloads whose answer is known (run by tests/vm)."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytrace.api import trace
from tests.e2e.workloads import SLOWDOWN, build, example, expect_byte, observe, running
from tests.e2e.workloads.blockio import check_biolatency

pytestmark = [pytest.mark.root, pytest.mark.vm]
tag = pytest.mark.tag


# ---------------------------------------------------------------- biolatency, on this kernel's block layer


@tag("probe.tracepoint.args", "fn.has_key", "fn.delete", "agg.hist", "map.multikey", "bi.nsecs")
def test_biolatency(tmp_path: Path) -> None:
    check_biolatency(tmp_path)


# ---------------------------------------------------------------- vfsstat

READS, WRITES = 30, 20


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on tmpfs: the guest's root is an overlay of two file systems, where calls count twice."""
    folder = Path(f"/dev/shm/pytrace-book-{os.getpid()}")
    folder.mkdir()
    yield folder
    for path in folder.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


@tag("probe.kprobe", "prog.probe.list", "bi.func", "agg.count", "fn.print", "fn.clear")
@tag("fn.time", "probe.interval", "probe.pid")
def test_vfsstat(tmp_path: Path, memory: Path) -> None:
    expected = {"vfs_open": 1, "vfs_create": 1, "vfs_write": WRITES + 1, "vfs_read": READS}
    counts: Counter[str] = Counter()
    kinds = []
    command = build(tmp_path, "files"), str(memory), str(READS), str(WRITES)
    with running(*command) as process, trace(example("vfsstat.bt"), pid=process.pid) as t:
        for output in t.outputs():
            kinds.append(output.kind)
            if output.kind == "attached_probes":
                assert output.data == {"probes": 8}
                process.send_signal(signal.SIGUSR1)
                expect_byte(process)
            if output.kind == "map" and output.data:
                counts.update(output.data["@"])
            if kinds.count("time") == 2:
                t.stop()
    assert counts == expected | {"vfs_fsync_range": 2}


COUNTING = example("vfsstat.bt").split("interval:s:1")[0]


@tag("probe.kprobe", "bi.func")
def test_vfsstat_of_the_whole_machine(tmp_path: Path, memory: Path) -> None:
    command = build(tmp_path, "files"), str(memory), str(READS), str(WRITES)

    def workload() -> None:
        with running(*command) as process:
            process.send_signal(signal.SIGUSR1)
            expect_byte(process)

    _, maps = observe(COUNTING, workload)
    assert maps["@"]["vfs_read"] > READS
    assert maps["@"]["vfs_write"] > WRITES
    assert maps["@"]["vfs_open"] > 1


@pytest.fixture
def lower_files(memory: Path) -> Iterator[list[Path]]:
    """Files of the lower side of an overlay: who changes one makes a copy, which vfs_fsync() writes out
    (fs/overlayfs/copy_up.c)."""
    top = memory / "top"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "book", top], check=True)
    for name in ("lower", "upper", "work", "merged"):
        (top / name).mkdir()
    names = ["one", "two", "three"]
    for name in names:
        (top / "lower" / name).write_text(name)
    options = ",".join(f"{name}dir={top}/{name}" for name in ("lower", "upper", "work"))
    subprocess.run(["mount", "-t", "overlay", "-o", options, "book", top / "merged"], check=True)
    yield [top / "merged" / name for name in names]
    subprocess.run(["umount", top / "merged"], check=True)
    subprocess.run(["umount", top], check=True)


@tag("probe.kprobe", "bi.func", "probe.pid")
def test_vfs_fsync(lower_files: list[Path]) -> None:
    def change_modes() -> None:
        for path in lower_files:
            path.chmod(0o600)

    _, maps = observe(COUNTING, change_modes, pid=os.getpid())
    assert maps["@"]["vfs_fsync"] == len(lower_files)


# ---------------------------------------------------------------- entry and return timed against each other

# three reads that have to be waited for, two that fail, one at the end of the file
READER = """
import os, signal, time
with open("/proc/self/comm", "w") as f:
    f.write("book_reader")
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
source, sink = os.pipe()
os.write(1, b"r")
signal.sigwait([signal.SIGUSR1])
if os.fork() == 0:
    os.close(source)
    for size in (100, 1, 7):
        time.sleep(0.2)
        os.write(sink, bytes(size))
    os._exit(0)
os.close(sink)
for _ in range(3):
    os.read(source, 4096)
os.wait()
os.read(source, 4096)
source, sink = os.pipe2(os.O_NONBLOCK)
for _ in range(2):
    try:
        os.read(source, 4096)
    except BlockingIOError:
        pass
os.write(1, b"d")
os._exit(0)
"""


@tag("probe.kprobe", "probe.kretprobe", "bi.retval", "probe.retval", "bi.tid", "fn.has_key", "fn.delete")
def test_vfsread() -> None:
    with running(sys.executable, "-I", "-S", "-c", READER) as process:

        def workload() -> None:
            process.send_signal(signal.SIGUSR1)
            expect_byte(process)

        _, maps = observe(example("vfsread.bt"), workload, "book_reader")
    assert maps["@bytes"] == {"book_reader": 108}
    assert maps["@errors"] == {("book_reader", -errno.EAGAIN): 2}
    assert set(maps["@ns"]) == {"book_reader"}
    times = maps["@ns"]["book_reader"]
    assert times.total == 6
    # the writer sleeps 200 ms each time; a reader that is late waits less, but hardly under a third of it
    assert sum(b.count for b in times if b.lo >= 1 << 26) == 3
    assert maps["@start"] == {}


SLEEPS_MS = (10, 40, 20, 80)


def sleep(*milliseconds: int) -> None:
    """Sleep for these times. `time.sleep` sleeps until a moment that it has chosen before it asks the kernel, so that
    what the kernel sees is a shorter time, on a busy machine by much; nanosleep(2) gives the kernel the length."""
    nanosleep = ctypes.CDLL(None).nanosleep
    for length in milliseconds:
        assert nanosleep(struct.pack("=qq", 0, length * 1_000_000), None) == 0


SLEEPER = """
kprobe:hrtimer_nanosleep /pid == $1/ { @since[tid] = nsecs; @asked[arg1] = count(); }
kretprobe:hrtimer_nanosleep /pid == $1 && has_key(@since, tid)/ {
  printf("%s %d %lld\\n", func, (int32)retval, nsecs - @since[tid]);
  delete(@since, tid);
}
"""


@tag("bi.nsecs", "bi.retval", "probe.retval", "bi.func", "fn.printf")
@pytest.mark.parametrize(
    "probe",
    [
        pytest.param("kprobe", marks=tag("probe.kprobe", "probe.kretprobe", "probe.argN")),
        pytest.param("fentry", marks=tag("probe.fentry", "probe.fexit", "probe.fentry.args")),
    ],
)
def test_known_sleeps(probe: str) -> None:
    text = SLEEPER
    if probe == "fentry":
        text = text.replace("kretprobe", "fexit").replace("kprobe", "fentry").replace("arg1", "args.mode")

    outputs, maps = observe(text, lambda: sleep(*SLEEPS_MS), os.getpid())
    shown = [o.text.split() for o in outputs if o.kind == "printf"]
    assert [(name, result) for name, result, _ in shown] == [("hrtimer_nanosleep", "0")] * len(SLEEPS_MS)
    for (_, _, nanoseconds), asked in zip(shown, SLEEPS_MS, strict=True):
        assert asked * 1_000_000 <= int(nanoseconds) < (asked + 1000) * 1_000_000 * SLOWDOWN
    (count,) = maps["@asked"].values()
    assert count == len(SLEEPS_MS)


# ---------------------------------------------------------------- stacks of kernel functions


@tag("bi.kstack", "fn.kstack", "stack.capture", "sym.resolve", "probe.kprobe", "probe.fentry")
def test_stacks_at_kernel_functions() -> None:
    text = (
        "kprobe:hrtimer_nanosleep /pid == $1/ { @k[kstack] = count(); }"
        "fentry:hrtimer_nanosleep /pid == $1/ { @f[kstack] = count(); }"
    )
    _, maps = observe(text, lambda: sleep(10), os.getpid())
    for name in ("@k", "@f"):
        ((stack, count),) = maps[name].items()
        names = [frame.split("+")[0] for frame in stack]
        assert count == 1
        order = [names.index(n) for n in ("hrtimer_nanosleep", "__x64_sys_clock_nanosleep", "do_syscall_64")]
        assert order == sorted(order)
