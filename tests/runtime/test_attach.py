"""Attaching to each kind of place, in order, all or nothing."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytrace.grammar.attaching import (
    Attach,
    KprobeAttach,
    KprobeMultiAttach,
    KprobeSessionAttach,
    PerfEventAttach,
    RawTracepointAttach,
    TcAttach,
    TracepointAttach,
    TrampolineAttach,
    UprobeAttach,
    XdpAttach,
)
from pytrace.grammar.plan import ProgramSpec
from pytrace.runtime import attach, cpus, misses
from pytrace.runtime.attach import AttachError, order
from pytrace.runtime.attach_multi import UPROBE_MULTI, FileGroup, KernelGroup, groups, has_multi, singles
from pytrace.runtime.process import Child
from pytrace.runtime.reasons import describe
from pytrace.runtime.tracer import Tracer
from tests.busy import every_cpu_busy
from tests.runtime.objects import Code, count, counters, map_spec, note, ring, send, tracer

COUNTERS = map_spec("counters", "array", entries=4)
SEEN = map_spec("seen", "hash", 8, 8, 1024)
US = os.getpid()

GETPGID = TracepointAttach("tracepoint:syscalls:sys_enter_getpgid", "syscalls", "sys_enter_getpgid")
CPU_CLOCK = PerfEventAttach("profile:hz:100", 1, 0, frequency=100)


# ---------------------------------------------------------------- without a kernel


def test_reversed_kinds_are_attached_last_and_backwards() -> None:
    programs = [ProgramSpec(name, "", (), reverse=name.isupper()) for name in ("a", "B", "c", "D", "E")]
    assert [p.symbol for p in order(programs)] == ["a", "c", "E", "D", "B"]


def test_groups_are_by_file_and_direction() -> None:
    places = [UprobeAttach("", "/a", 1), UprobeAttach("", "/b", 2), UprobeAttach("", "/a", 3, returns=True)]
    assert groups(places) == [FileGroup((place,)) for place in places]
    assert groups([places[0], replace(places[0], offset=9)]) == [FileGroup((places[0], replace(places[0], offset=9)))]


def test_halving_a_group_loses_nothing() -> None:
    group = KernelGroup(KprobeMultiAttach("kprobe:f*", ("f1", "f2", "f3"), returns=True))
    assert [part.place.functions for part in group.parts()] == [("f1",), ("f2", "f3")]
    assert group.parts()[0].only() == KprobeAttach("kprobe:f1", "f1", returns=True)


def test_without_multi_links_each_function_is_a_place() -> None:
    assert singles(KprobeMultiAttach("kprobe:f*", ("f1", "f2"))) == [
        KprobeAttach("kprobe:f1", "f1"),
        KprobeAttach("kprobe:f2", "f2"),
    ]


@pytest.mark.parametrize(
    ("place", "number", "part"),
    [
        (KprobeAttach("", "f"), errno.ENODEV, "this kernel has no kprobes (CONFIG_KPROBE_EVENTS); use"),
        (KprobeAttach("", "f"), errno.ENOENT, "the kernel has no function f"),
        (KprobeAttach("", "f", 3), errno.EILSEQ, "try a different offset"),
        (UprobeAttach("", "/no", 0), errno.ENOENT, "there is no file /no"),
        (TracepointAttach("", "a", "b"), errno.ENOENT, "no tracepoint a:b"),
        (RawTracepointAttach("", "b"), errno.ENOENT, "no raw tracepoint b"),
        (RawTracepointAttach("", "b"), errno.EINVAL, "an argument that the tracepoint b does not have"),
        (TrampolineAttach("", "f"), errno.ESRCH, "BTF has no function f"),
        (TrampolineAttach("", "f"), 524, "trampolines cannot do f: too many arguments"),
        (TrampolineAttach("", "f", module="m"), errno.EADDRNOTAVAIL, "takes another function called f for that of m"),
        (TrampolineAttach("", "f", module="", program=7), errno.ENOENT, "BPF program 7 is gone, or has no function f"),
        (KprobeAttach("", "f", module="vmlinux"), errno.EADDRNOTAVAIL, "several functions of vmlinux are called f"),
        (KprobeAttach("", "f"), errno.EADDRNOTAVAIL, "several functions of the kernel are called f; name the module"),
        (KprobeAttach("", "", 4096), errno.EINVAL, "does not allow to probe 0x1000"),
        (KprobeSessionAttach("", ("f",)), errno.EPERM, "lockdown"),
        (PerfEventAttach("", 0, 0), errno.ENOENT, "does not have this event"),
        (PerfEventAttach("", 1, 0, frequency=10**9), errno.EINVAL, "kernel.perf_event_max_sample_rate"),
        (PerfEventAttach("", 0, 0), errno.EMFILE, "ulimit -n"),
        (PerfEventAttach("", 0, 0), errno.EFAULT, "Bad address"),
        (XdpAttach("", "eth0", 2), errno.EBUSY, "eth0 has an XDP program already"),
        (XdpAttach("", "eth0", 2), errno.EEXIST, "use tc:eth0:ingress"),
        (TcAttach("", "eth0", 2, False), errno.ENODEV, "the interface eth0 is gone"),
        (TcAttach("", "eth0", 2, True), errno.EINVAL, "does not run programs on its packets"),
    ],
)
def test_reasons_name_what_is_missing(place: Attach, number: int, part: str) -> None:
    assert part in describe(place, OSError(number, ""))


# ---------------------------------------------------------------- on this kernel


@pytest.fixture
def started() -> Iterator[Callable[..., Tracer]]:
    """Loads and attaches programs; closes them after the test."""
    runs: list[Tracer] = []

    def start(*programs: Code, **options: object) -> Tracer:
        maps = [COUNTERS, SEEN, ring()]
        run = tracer(maps, programs, **options)  # type: ignore[arg-type]
        runs.append(run)
        run.load()
        run.attach()
        return run

    yield start
    for run in runs:
        run.close()


def libc_place(function: str) -> tuple[str, int]:
    """File and offset of a function of the C library of this process."""
    address = ctypes.cast(getattr(ctypes.CDLL(None), function), ctypes.c_void_p).value
    assert address
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split()
        first, last = (int(part, 16) for part in span.split("-"))
        if first <= address < last:
            return path[0], address - first + int(offset, 16)
    raise AssertionError(f"{function} is nowhere")


def labs(times: int) -> None:
    """Call the C library's labs(3) so often."""
    for _ in range(times):
        ctypes.CDLL(None).labs(1)


def uprobe(returns: bool = False, function: str = "labs") -> UprobeAttach:
    kind = "uretprobe" if returns else "uprobe"
    return UprobeAttach(f"{kind}:libc:{function}", *libc_place(function), returns=returns)


@pytest.mark.root
class TestKinds:
    def test_tracepoint(self, started: Callable[..., Tracer]) -> None:
        run = started(Code("p", "tracepoint", count("counters", pid=US), (GETPGID,)))
        for _ in range(37):
            os.getpgid(0)
        assert counters(run)[0] == 37

    def test_raw_tracepoint(self, started: Callable[..., Tracer]) -> None:
        place = RawTracepointAttach("rawtracepoint:sched_process_fork", "sched_process_fork")
        run = started(Code("p", "raw_tp", count("counters", pid=US), (place,)))
        for _ in range(5):
            subprocess.run(["true"], check=True)
        assert counters(run)[0] == 5

    @pytest.mark.parametrize("multi", [False, True])
    @pytest.mark.parametrize("returns", [False, True])
    def test_uprobe(
        self, started: Callable[..., Tracer], returns: bool, multi: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not multi:
            monkeypatch.setattr(attach, "link_type", lambda _: None)
        elif not has_multi(UPROBE_MULTI):
            pytest.skip("this kernel has no uprobe_multi links")
        section = "uretprobe" if returns else "uprobe"
        places = (uprobe(returns), uprobe(returns, "ffs"))
        run = started(Code("p", section, count("counters", pid=US), places))
        labs(11)
        ctypes.CDLL(None).ffs(1)
        assert counters(run)[0] == 12

    def test_every_cpu_has_its_timer(self, started: Callable[..., Tracer]) -> None:
        # a CPU that its hypervisor takes away misses ticks, one that nobody needs most of all
        with every_cpu_busy():
            run = started(Code("p", "perf_event", count("counters"), (CPU_CLOCK,)))
            time.sleep(1)
            counted, seconds, wanted = counters(run)[0], 1, 100 * len(cpus.online())
            while counted < 0.75 * wanted * seconds and seconds < 8:
                time.sleep(1)
                counted, seconds = counters(run)[0], seconds + 1
        assert 0.75 < counted / (wanted * seconds) < 1.5

    def test_a_timer_on_one_cpu_by_period(self, started: Callable[..., Tracer]) -> None:
        place = PerfEventAttach("interval:ms:10", 1, 0, 10_000_000, every_cpu=False, per_process=False)
        run = started(Code("p", "perf_event", count("counters"), (place,)), pid=US)
        time.sleep(1)
        assert 50 < counters(run)[0] < 150

    def test_one_program_may_have_places_of_several_files(self, started: Callable[..., Tracer]) -> None:
        other = TracepointAttach("tracepoint:syscalls:sys_exit_getpgid", "syscalls", "sys_exit_getpgid")
        run = started(Code("p", "tracepoint", count("counters", pid=US), (GETPGID, other)))
        os.getpgid(0)
        assert counters(run)[0] == 2
        assert run._attacher.places == 2


@pytest.mark.root
@pytest.mark.parametrize("multi", [False, True])
def test_blocks_on_one_place_run_in_source_order(
    started: Callable[..., Tracer], multi: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not multi:
        monkeypatch.setattr(attach, "link_type", lambda _: None)
    run = started(
        Code("u1", "uprobe", send([1]), (uprobe(),), reverse=True),
        Code("t1", "tracepoint", send([11]), (GETPGID,)),
        Code("u2", "uprobe", send([2]), (uprobe(),), reverse=True),
        Code("t2", "tracepoint", send([12]), (GETPGID,)),
        Code("u3", "uprobe", send([3]), (uprobe(),), reverse=True),
    )
    labs(1)
    os.getpgid(0)
    records: list[bytes] = []
    run.poll(100, records.extend)
    assert [int.from_bytes(r, "little") for r in records] == [1, 2, 3, 11, 12]


@pytest.mark.root
class TestProcesses:
    BUSY = (
        "import threading, time, sys\n"
        "def burn():\n"
        "    end = time.monotonic() + 1.5\n"
        "    while time.monotonic() < end: pass\n"
        "def start():\n"
        "    threads = [threading.Thread(target=burn) for _ in range(2)]\n"
        "    [t.start() for t in threads]\n"
        "    print(*(t.native_id for t in threads), flush=True)\n"
        "start(); sys.stdin.readline(); start()\n"
    )

    def test_a_profile_of_a_process_follows_its_threads_old_and_new(self, started: Callable[..., Tracer]) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", self.BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        old = process.stdout.readline()
        run = started(Code("p", "perf_event", note("seen"), (CPU_CLOCK,)), pid=process.pid)
        new, _ = process.communicate("go\n")
        hits = {int.from_bytes(key, "little") for key, _ in run.read_map(SEEN)}
        assert {hit >> 32 for hit in hits} == {process.pid}
        assert {int(tid) for tid in (old + new).split()} <= {hit & 0xFFFFFFFF for hit in hits}

    @pytest.mark.parametrize("multi", [False, True])
    def test_a_uprobe_of_a_process_fires_in_all_its_threads_and_nowhere_else(
        self, started: Callable[..., Tracer], multi: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not multi:
            monkeypatch.setattr(attach, "link_type", lambda _: None)
        code = (
            "import ctypes, threading, sys\n"
            "call = lambda: [ctypes.CDLL(None).labs(1) for _ in range(10)]\n"
            "print(flush=True); sys.stdin.readline(); call()\n"
            "thread = threading.Thread(target=call); thread.start(); thread.join()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        process.stdout.readline()
        run = started(Code("p", "uprobe", count("counters"), (uprobe(),)), pid=process.pid)
        labs(50)
        process.communicate("go\n")
        assert counters(run)[0] == 20

    @pytest.mark.parametrize("until_exec", [False, True])
    @pytest.mark.parametrize("multi", [False, True])
    def test_a_uprobe_of_a_child_sees_it_from_the_start_and_nobody_else(
        self,
        started: Callable[..., Tracer],
        multi: bool,
        until_exec: bool,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if not multi:
            monkeypatch.setattr(attach, "link_type", lambda _: None)
        script = tmp_path / "call.py"
        script.write_text("import ctypes\nfor _ in range(7): ctypes.CDLL(None).labs(1)\n")
        child = Child.start(f"{sys.executable} {script}", until_exec)
        run = started(Code("p", "uprobe", count("counters"), (uprobe(),)), child=child)
        labs(50)
        child.run()
        while not child.exited():
            time.sleep(0.01)
        assert child.status == 0
        assert counters(run)[0] == 7
        child.close()

    def test_the_exit_of_the_process_ends_the_wait(self, started: Callable[..., Tracer]) -> None:
        child = Child.start("true")
        run = started(Code("p", "tracepoint", send([1]), ()), child=child)
        timer = threading.Timer(0.05, child.run)
        timer.start()
        before = time.monotonic()
        run.poll(10_000, lambda _: None)
        assert time.monotonic() - before < 5
        timer.join()
        child.close()


@pytest.mark.root
class TestRefusals:
    GOOD = Code("good", "tracepoint", count("counters", pid=US), (GETPGID,))
    BAD = Code("bad", "tracepoint", count("counters", 1), (TracepointAttach("tracepoint:x:nope", "x", "nope"),))

    def test_by_default_nothing_stays_attached(self) -> None:
        with tracer([COUNTERS], [self.GOOD, self.BAD]) as run:
            run.load()
            with pytest.raises(AttachError) as error:
                run.attach()
            assert error.value.name == "tracepoint:x:nope"
            assert "no tracepoint x:nope" in error.value.reason
            os.getpgid(0)
            assert counters(run)[0] == 0
            assert open_perf_events() == 0

    @pytest.mark.parametrize("policy", ["warn", "ignore"])
    def test_or_the_rest_is_attached(self, started: Callable[..., Tracer], policy: str) -> None:
        run = started(self.GOOD, self.BAD, missing_probes=policy)
        os.getpgid(0)
        assert counters(run)[0] == 1
        assert [failure.name for failure in run.failures] == ["tracepoint:x:nope"]
        assert run._attacher.places == 1

    def test_of_a_group_only_the_bad_places_are_left_out(self, started: Callable[..., Tracer]) -> None:
        path, _ = libc_place("labs")
        places = [UprobeAttach(f"uprobe:bad:{i}", path, 1 << 40 | i) for i in range(3)]
        places.insert(1, uprobe())
        run = started(Code("p", "uprobe", count("counters", pid=US), tuple(places)), missing_probes="warn")
        labs(3)
        assert counters(run)[0] == 3
        assert [failure.name for failure in run.failures] == [f"uprobe:bad:{i}" for i in range(3)]

    def test_a_frequency_beyond_the_limit(self) -> None:
        place = replace(CPU_CLOCK, frequency=10**9)
        with tracer([COUNTERS], [Code("p", "perf_event", count("counters"), (place,))]) as run:
            run.load()
            with pytest.raises(AttachError, match="perf_event_max_sample_rate"):
                run.attach()

    def test_a_kernel_without_kprobes_is_named(self) -> None:
        if Path("/sys/bus/event_source/devices/kprobe").exists():
            pytest.skip("this kernel has kprobes")
        place = KprobeAttach("kprobe:vfs_read", "vfs_read")
        with tracer([COUNTERS], [Code("p", "kprobe", count("counters"), (place,))]) as run:
            run.load()
            with pytest.raises(AttachError, match="this kernel has no kprobes"):
                run.attach()


@pytest.mark.root
class TestDetaching:
    PLACES = tuple(
        TracepointAttach(f"tracepoint:syscalls:{name}", "syscalls", name)
        for name in ("sys_enter_getpgid", "sys_exit_getpgid", "sys_enter_sysinfo", "sys_exit_sysinfo")
    )

    def started(self) -> Tracer:
        run = tracer([COUNTERS], [Code("p", "tracepoint", count("counters", pid=US), self.PLACES)])
        run.load()
        assert run.attach() == 4
        os.getpgid(0)
        return run

    def test_after_detach_nothing_runs_and_maps_are_there(self) -> None:
        with self.started() as run:
            run.detach()
            os.getpgid(0)
            assert counters(run)[0] == 2
            run.detach()

    @pytest.mark.parametrize("wait", [True, False])
    def test_close_leaves_nothing_open(self, wait: bool) -> None:
        run = self.started()
        assert open_perf_events() == 8
        run.close(wait)
        assert open_perf_events() == 0
        run.close(wait)
        with pytest.raises(ChildProcessError):  # no process of ours is left for us to reap
            os.waitpid(-1, os.WNOHANG)

    def test_close_without_waiting_leaves_nothing_in_this_process(self) -> None:
        run = self.started()
        assert open_perf_events() > 0
        run.detach()
        run.close(wait=False)
        assert open_perf_events() == 0


def open_perf_events() -> int:
    """How many perf events this process holds open."""
    names = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{entry}"))
        except FileNotFoundError:
            continue
    return sum("[perf_event]" in name for name in names)


@pytest.mark.vm
class TestKprobes:
    def calls(self, times: int) -> None:
        for _ in range(times):
            os.getpriority(os.PRIO_PROCESS, 0)

    FUNCTION = "__x64_sys_getpriority"

    @pytest.mark.parametrize("returns", [False, True])
    def test_kprobe(self, started: Callable[..., Tracer], returns: bool) -> None:
        place = KprobeAttach("kprobe:x", self.FUNCTION, returns=returns)
        run = started(Code("p", "kprobe", count("counters", pid=US), (place,)))
        self.calls(13)
        assert counters(run)[0] == 13

    def test_of_a_module(self, started: Callable[..., Tracer], tmp_path: Path) -> None:
        place = KprobeAttach("kprobe:overlay:ovl_open", "ovl_open", module="overlay")
        run = started(Code("p", "kprobe", count("counters", pid=US), (place,)))
        Path(__file__).read_text()
        assert counters(run)[0] >= 1

    def test_an_unknown_function(self) -> None:
        place = KprobeAttach("kprobe:nope_nope", "nope_nope")
        with tracer([COUNTERS], [Code("p", "kprobe", count("counters"), (place,))]) as run:
            run.load()
            with pytest.raises(AttachError, match="the kernel has no function nope_nope"):
                run.attach()

    def test_an_offset_within_an_instruction(self) -> None:
        place = KprobeAttach("kprobe:x", "vfs_read", 1)
        with tracer([COUNTERS], [Code("p", "kprobe", count("counters"), (place,))]) as run:
            run.load()
            with pytest.raises(AttachError, match="vfs_read"):
                run.attach()

    @pytest.mark.parametrize("returns", [False, True])
    def test_many_functions(self, started: Callable[..., Tracer], returns: bool) -> None:
        """By one link where the kernel has them, else one by one."""
        names = (self.FUNCTION, "nope_nope", "__x64_sys_setpriority", "vfs_getattr")
        place = KprobeMultiAttach("kprobe:*priority", names, returns)
        run = started(Code("p", "kprobe", count("counters", pid=US), (place,)), missing_probes="warn", pid=None)
        self.calls(9)
        os.setpriority(os.PRIO_PROCESS, 0, 0)
        assert counters(run)[0] == 10
        assert [failure.name for failure in run.failures] == ["kprobe:nope_nope"]
        assert run._attacher.places == 3

    def test_fentry_and_fexit(self, started: Callable[..., Tracer]) -> None:
        entry = TrampolineAttach("fentry:x", self.FUNCTION)
        unknown = TrampolineAttach("fentry:nope", "nope_nope")
        run = started(
            Code("a", "fentry", count("counters", pid=US), (entry,)),
            Code("b", "fexit", count("counters", 1, pid=US), (replace(entry, returns=True),)),
            Code("c", "fentry", count("counters", 2), (unknown,)),
            missing_probes="warn",
        )
        self.calls(4)
        assert counters(run)[:3] == [4, 4, 0]
        assert [failure.name for failure in run.failures] == ["fentry:nope"]

    def test_missed_returns_are_counted(self, started: Callable[..., Tracer]) -> None:
        """Each sleeper takes an instance of the return probe, of which there are few."""
        place = KprobeAttach("kretprobe:x", "__x64_sys_clock_nanosleep", returns=True)
        run = started(Code("p", "kprobe", count("counters"), (place,)))
        sleepers = [subprocess.Popen(["sleep", "5"]) for _ in range(40)]
        for sleeper in sleepers:
            sleeper.wait()
        hits = counters(run)[0]
        if hits < 40 and not tells_misses(run):
            pytest.skip("this kernel does not tell about misses (Linux 6.7 does)")
        assert hits + run.losses().missed.get("kretprobe:x", 0) >= 40

    def test_a_function_that_programs_call_is_missed_there_and_counted(self, started: Callable[..., Tracer]) -> None:
        """The kernel does not start a kprobe's program inside of another one."""
        talk = """
  %comm = alloca [16 x i8]
  %r = call i64 inttoptr (i64 16 to ptr)(ptr %comm, i32 16)
  ret i32 0"""
        run = started(
            Code("outer", "kprobe", talk, (KprobeAttach("outer", self.FUNCTION),)),
            Code("inner", "kprobe", count("counters"), (KprobeAttach("inner", "bpf_get_current_comm"),)),
        )
        self.calls(6)
        assert counters(run)[0] == 0
        if not tells_misses(run):
            pytest.skip("this kernel does not tell about misses (Linux 6.7 does)")
        assert run.losses().missed["inner"] >= 6
        run.detach()
        assert run.losses().missed["inner"] >= 6


def tells_misses(run: Tracer) -> bool:
    """Whether the kernel's struct bpf_link_info is long enough to have the misses of a kprobe."""
    return len(misses._info(run._attacher.links[0].fd)) >= 56
