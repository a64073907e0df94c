"""Builtin values on this kernel (reference part 2, section 1): a `begin` probe runs in this very process."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pytrace.api import trace
from pytrace.runtime import clocks
from tests.e2e.children import python
from tests.e2e.programs import begin, run

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
LIBC = "/lib/x86_64-linux-gnu/libc.so.6"


def numbers(body: str, **options: object) -> list[int]:
    """The integers that the body of a `begin` probe prints."""
    return [int(word, 0) for word in begin(body, **options).split()]


def status(pid: int | str, field: str) -> str:
    """A field of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))


# ---------------------------------------------------------------- identity


@pytest.mark.tag("bi.pid", "bi.tid", "bi.pid-mode", "call.optional-parens")
def test_pid() -> None:
    found = numbers("print(pid); print(tid); print(pid()); print(pid(curr_ns)); print(tid(init));")
    assert found[:4] == [os.getpid(), threading.get_native_id(), os.getpid(), os.getpid()]
    assert begin("print((sizeof(pid), sizeof(tid)));") == "(4, 4)"


@pytest.mark.tag("bi.pid", "bi.tid")
def test_pid_differs_from_tid() -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(begin("print((pid, tid, comm));")))
    thread.start()
    tid = thread.native_id
    thread.join()
    assert found[0].startswith(f"({os.getpid()}, {tid}, ")


@pytest.mark.tag("bi.pid", "bi.tid", "bi.pid-mode")
def test_pid_in_a_namespace() -> None:
    """In a new PID namespace the first process has the number 1, and another one outside."""
    code = "from tests.e2e.programs import begin; print(begin('print((pid, tid, pid(init), tid(init)));'))"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    inside = tuple(int(word) for word in re.findall(r"\d+", made.stdout))
    assert inside[:2] == (1, 1)
    assert inside[2] > 1
    assert inside[2] == inside[3]


@pytest.mark.tag("bi.uid", "bi.gid", "bi.username", "val.username", "type.username")
def test_user(tmp_path: Path) -> None:
    assert numbers("print(uid); print(gid);") == [os.getuid(), os.getgid()]
    assert begin("print(username); @u[username] = 1;") == pwd.getpwuid(os.getuid()).pw_name
    text = "tracepoint:syscalls:sys_enter_getppid /pid == cpid/ { print((uid, gid)); print(username); }"
    become = "import os; os.setgid(12345); os.setuid(54321); os.getppid()"
    assert run(text, command=python(tmp_path, become)).text.split("\n")[:2] == ["(54321, 12345)", ""]


@pytest.mark.tag("bi.comm")
def test_comm() -> None:
    own = Path("/proc/self/comm").read_text().strip()
    assert begin("print(comm); print(sizeof(comm()));") == f"{own} 16"
    seen = run("begin { @[comm] = 1; @[comm] = 2; @[str(comm)] = 3; }").maps["@"]
    assert seen == {own: 3}


@pytest.mark.tag("bi.curtask", "type.struct")
def test_curtask() -> None:
    own = Path("/proc/self/comm").read_text().strip()
    found = begin("print(curtask.tgid); print(curtask.comm); print(curtask->pid); print((uint64)curtask);").split()
    assert found[:3] == [str(os.getpid()), own, str(threading.get_native_id())]
    assert int(found[3]) >> 47 == (1 << 17) - 1
    assert re.fullmatch("0x[0-9a-f]{16}", begin("print(curtask);"))


@pytest.mark.tag("bi.ppid", "bi.pcomm", "bi.leader_tid", "bi.leader_comm")
def test_family() -> None:
    parent = os.getppid()
    found = begin("print(ppid); print(ppid(curtask)); print(pcomm); print(leader_tid); print(leader_comm);")
    comm = status(parent, "Name")
    assert found == f"{parent} {parent} {comm} {os.getpid()} {status('self', 'Name')}"
    grandparent = status(parent, "PPid")
    assert begin("print(ppid(curtask.real_parent)); print(pcomm(curtask));") == f"{grandparent} {comm}"


@pytest.mark.tag("bi.cgroup", "fn.cgroupid")
def test_cgroup() -> None:
    line = next(x for x in Path("/proc/self/cgroup").read_text().splitlines() if x.startswith("0::"))
    mount = next(x.split()[1] for x in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in x)
    path = mount + line.removeprefix("0::")
    assert numbers("print(cgroup);") == [os.stat(path).st_ino]
    assert begin(f'print(cgroup == cgroupid("{path}"));') == "true"


@pytest.mark.tag("bi.cpid", "bi.has_cpid", "probe.cmd")
def test_child(tmp_path: Path) -> None:
    text = "tracepoint:syscalls:sys_enter_getppid /pid == cpid/ { print((has_cpid, pid == cpid)); }"
    child = python(tmp_path, "import os; os.getppid()")
    assert run(text, command=child).text == "(true, true)\n"
    without = run("begin { print((has_cpid, cpid)); }")
    assert without.text == "(false, 0)\n"
    assert without.words == ["No child command (`-c`); cpid is zero"]


# ---------------------------------------------------------------- time, CPU, chance


@pytest.mark.tag("bi.nsecs", "bi.nsecs-mode")
@pytest.mark.parametrize(
    ("mode", "clock"),
    [("", time.CLOCK_BOOTTIME), ("(boot)", time.CLOCK_BOOTTIME), ("(monotonic)", time.CLOCK_MONOTONIC)],
)
def test_nsecs(mode: str, clock: int) -> None:
    before = time.clock_gettime_ns(clock)
    (found,) = numbers(f"print(nsecs{mode});")
    assert before < found < time.clock_gettime_ns(clock)


@pytest.mark.tag("bi.nsecs-mode", "run.clocks")
@pytest.mark.parametrize("mode", ["tai", "sw_tai"])
def test_nsecs_tai(mode: str) -> None:
    before = time.clock_gettime_ns(time.CLOCK_TAI)
    (found,) = numbers(f"print(nsecs({mode}));")
    # sw_tai is exact only to the error of the measured difference of the clocks
    assert before - 10**6 < found < time.clock_gettime_ns(time.CLOCK_TAI) + 10**6


@pytest.mark.tag("run.clocks")
@pytest.mark.parametrize("gap", [99_999, 250_000])
def test_inexact_clocks_are_told(monkeypatch: pytest.MonkeyPatch, gap: int) -> None:
    real = clocks.measure()
    monkeypatch.setattr(clocks, "measure", lambda: replace(real, gap=gap))
    with trace('begin { print(strftime("%Y", nsecs)); exit(); }') as t:
        told = [o for o in t.outputs() if o.kind == "clock_skew"]
    assert [o.fields["skew"] for o in told if o.fields] == [250] * (gap >= 100_000)
    assert all(o.text.startswith("WARNING: 250us skew detected") and o.error for o in told)


@pytest.mark.tag("bi.elapsed")
def test_elapsed() -> None:
    result = run("begin { print(elapsed); } interval:ms:100 { print(elapsed); exit(); }")
    first, second = map(int, result.text.split())
    assert 0 < first < 100_000_000
    assert 90_000_000 < second - first < 2_000_000_000


@pytest.mark.tag("bi.jiffies")
def test_jiffies() -> None:
    result = run("begin { print(jiffies); } interval:ms:200 { print(jiffies); exit(); }")
    first, second = map(int, result.text.split())
    assert 10 <= second - first <= 2000  # HZ is between 100 and 1000


@pytest.mark.tag("bi.cpu", "bi.ncpus", "bi.numaid")
def test_cpu() -> None:
    possible = Path("/sys/devices/system/cpu/possible").read_text().strip()
    count = int(possible.rpartition("-")[2]) + 1
    allowed = os.sched_getaffinity(0)
    for number in sorted(allowed)[:2]:
        os.sched_setaffinity(0, {number})
        try:
            assert numbers("print(cpu); print(ncpus); print(numaid);") == [number, count, _node(number)]
        finally:
            os.sched_setaffinity(0, allowed)


def _node(cpu: int) -> int:
    nodes = Path(f"/sys/devices/system/cpu/cpu{cpu}").glob("node*")
    return next((int(n.name.removeprefix("node")) for n in nodes), 0)


@pytest.mark.tag("bi.rand")
def test_rand() -> None:
    found = numbers("unroll(8) { print(rand); } print(sizeof(rand()));")
    assert found.pop() == 8
    assert len(set(found)) == 8
    assert all(0 <= number < 1 << 32 for number in found)


@pytest.mark.tag("bi.usermode", "probe.usermode")
def test_usermode(tmp_path: Path) -> None:
    assert begin("print(usermode);") == "1"
    child = python(tmp_path, "import os; os.getppid()")
    text = "tracepoint:syscalls:sys_enter_getppid /pid == cpid/ { print(usermode); }"
    assert run(text, command=child).text == "0\n"
    text = f"uprobe:{LIBC}:getppid /pid == cpid/ {{ print(usermode); }}"
    assert run(text, command=child).text == "1\n"


# ---------------------------------------------------------------- stacks


@pytest.mark.tag("bi.kstack", "fn.kstack", "stack.capture", "stack.render", "stack.bpftrace", "val.stack")
def test_kstack() -> None:
    text = run("tracepoint:sched:sched_switch { print(kstack(2)); exit(); }").text
    assert re.match(r"\n(        [\w.]+\+\d+\n){2}\n", text)
    text = run("tracepoint:sched:sched_switch { print(kstack); exit(); }").text
    assert "__schedule+" in text
    assert begin("print((sizeof(kstack(3)), sizeof(kstack()), sizeof(kstack(raw, 1))));") == "(32, 1024, 16)"


@pytest.mark.tag("fn.kstack", "stack.perf", "stack.raw")
def test_kstack_modes() -> None:
    text = run("tracepoint:sched:sched_switch { print(kstack(perf, 2)); exit(); }").text
    assert re.match(r"\n(\t[0-9a-f]{16} [\w.]+\+\d+\n){2}\n", text)
    text = run("tracepoint:sched:sched_switch { print(kstack(raw, 2)); exit(); }").text
    assert re.match(r"\n([0-9a-f]{16}\n){2}\n", text)


@pytest.mark.tag("bi.kstack", "stack.capture", "type.stack")
def test_kstacks_as_keys() -> None:
    result = run("tracepoint:sched:sched_switch { @[kstack(1)] = count(); @n++; if (@n > 50) { exit(); } }")
    assert len(result.maps["@"]) < 20  # the same stack is one key, whoever runs


@pytest.mark.tag("bi.ustack", "fn.ustack", "stack.capture", "stack.bpftrace", "val.stack")
def test_ustack(tmp_path: Path) -> None:
    child = python(tmp_path, "import os, time; os.getppid(); time.sleep(1)")
    program = (
        f"uprobe:{LIBC}:getppid /pid == cpid/ {{ print(ustack(1)); print(ustack(raw, 1)); @[ustack(1)] = 1; exit(); }}"
    )
    with trace(program, command=child) as running:
        shown = [o.text for o in running.outputs() if o.kind not in ("attached_probes", "maps_follow")]
    assert shown[0] == "\n        getppid+0\n\n"
    assert re.fullmatch(r"\n[0-9a-f]+\n\n", shown[1])
    assert shown[2] == "@[\n        getppid+0\n]: 1\n"
    assert begin("print((sizeof(ustack(3)), sizeof(ustack(build_id, 2))));") == "(40, 80)"


@pytest.mark.tag("fn.ustack", "stack.perf")
def test_ustack_perf(tmp_path: Path) -> None:
    child = python(tmp_path, "import os, time; os.getppid(); time.sleep(1)")
    program = f"uprobe:{LIBC}:getppid /pid == cpid/ {{ print(ustack(perf, 1)); exit(); }}"
    with trace(program, command=child) as running:
        shown = "".join(o.text for o in running.outputs() if o.kind == "value")
    assert re.fullmatch(r"\n\t[0-9a-f]+ getppid\+0 \(.*/libc.so.6\)\n\n", shown)


@pytest.mark.tag("stack.capture", "bi.ustack")
def test_ustacks_of_two_processes_differ(tmp_path: Path) -> None:
    child = python(tmp_path, "import os; os.getppid(); child = os.fork(); os.getppid(); child and os.wait()")
    text = "tracepoint:syscalls:sys_enter_getppid /pid == cpid || ppid == cpid/ { @u[ustack(raw, 1)] = count(); }"
    assert sorted(run(text, command=child).maps["@u"].values()) == [1, 2]
