"""Loading, global data, programs on demand, losses; privileges, clocks, libbpf's messages."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytrace.grammar.attaching import OnDemand
from pytrace.grammar.plan import GLOBAL_DATA, LOST, REFUSED
from pytrace.runtime import clocks, cpus, libbpf, privileges
from pytrace.runtime.bpf_object import LoadError
from pytrace.runtime.privileges import PrivilegeError, check_privileges
from pytrace.runtime.process import Child, boot_time_ns, pid_namespace
from pytrace.runtime.tracer import Tracer
from tests.runtime.objects import Code, build, count, counters, map_spec, plan, store_word, tracer

BEGIN = (OnDemand("begin", "begin"),)
END = (OnDemand("end", "end"),)
COUNTERS = map_spec("counters", "array", entries=4)
GLOBALS = map_spec(GLOBAL_DATA, "array", value=128)
US = os.getpid()

# asks for a word at address 0
INVALID = "  %x = load volatile i64, ptr null\n  ret i32 0"


@pytest.mark.root
class TestLoading:
    def test_what_the_verifier_refuses_is_named_with_its_log(self) -> None:
        codes = [Code("fine", "raw_tp", "  ret i32 0"), Code("wrong", "raw_tp", INVALID)]
        with tracer([], codes) as run:
            with pytest.raises(LoadError) as error:
                run.load()
            assert error.value.program == "wrong"
            assert error.value.errno in (errno.EACCES, errno.EINVAL)
            assert "invalid mem access" in error.value.log
            assert not error.value.truncated

    def test_a_log_that_does_not_fit(self) -> None:
        body = "\n".join(f"  %x{i} = call i64 inttoptr (i64 5 to ptr)()" for i in range(100))
        with tracer([], [Code("wrong", "raw_tp", f"{body}\n{INVALID}")], log_size=256) as run:
            with pytest.raises(LoadError) as error:
                run.load()
            assert error.value.truncated
            assert 0 < len(error.value.log) < 256

    def test_every_program_has_its_log_at_log_level_2(self) -> None:
        codes = [Code("one", "raw_tp", "  ret i32 11"), Code("two", "raw_tp", "  ret i32 22")]
        with Tracer(plan([], codes), build([], codes), log_level=2) as run:
            run.load()
            assert "w0 = 11" in run.verifier_logs["one"]
            assert "w0 = 22" in run.verifier_logs["two"]
            assert "w0 = 11" not in run.verifier_logs["two"]

    def test_the_log_of_a_failure_at_log_level_1(self) -> None:
        codes = [Code("fine", "raw_tp", "  ret i32 11"), Code("wrong", "raw_tp", INVALID)]
        with Tracer(plan([], codes), build([], codes), log_level=1) as run:
            with pytest.raises(LoadError) as error:
                run.load()
            assert error.value.program == "wrong"
            assert "invalid mem access" in error.value.log

    def test_an_object_that_is_none(self) -> None:
        with pytest.raises(LoadError) as error:
            Tracer(plan([], []), b"not an ELF file")
        assert error.value.program == ""
        assert "ELF" in error.value.log

    def test_a_map_that_cannot_be(self) -> None:
        with tracer([map_spec("m", "hash", 0, 8, 1)], [Code("p", "raw_tp", count("m"))]) as run:
            with pytest.raises(LoadError) as error:
                run.load()
            assert error.value.program == ""
            assert "'m'" in error.value.log


@pytest.mark.root
class TestOnDemand:
    def test_results_in_source_order(self) -> None:
        codes = [
            Code("b1", "raw_tp", "  ret i32 3", BEGIN),
            Code("e1", "raw_tp", "  ret i32 4", END),
            Code("b2", "raw_tp", "  ret i32 5", BEGIN),
        ]
        with tracer([], codes) as run:
            run.load()
            assert run.run_on_demand("begin") == [3, 5]
            assert run.attach() == 3
            run.detach()
            assert run.run_on_demand("end") == [4]

    def test_they_run_in_this_process(self) -> None:
        with tracer([COUNTERS], [Code("b", "raw_tp", count("counters", pid=US), BEGIN)]) as run:
            run.load()
            run.run_on_demand("begin")
            assert counters(run)[0] == 1


@pytest.mark.root
class TestGlobals:
    def words(self, *names: str, setup: Callable[[], dict[str, object]] = dict) -> list[int]:
        """What a begin program reads of these words."""
        codes = [Code(f"b{i}", "raw_tp", store_word(GLOBAL_DATA, i, "counters", i), BEGIN) for i in range(len(names))]
        with tracer([COUNTERS, GLOBALS], codes, words=names, **setup()) as run:  # type: ignore[arg-type]
            run.load()
            run.run_on_demand("begin")
            return counters(run)[: len(names)]

    def test_the_start_is_just_before_begin(self) -> None:
        before = boot_time_ns()
        (start,) = self.words("start_ns")
        assert before < start < boot_time_ns()

    def test_what_is_not_known_is_zero(self) -> None:
        assert self.words("child_pid", "target_pid", "anything") == [0, 0, 0]

    def test_cpus_target_and_what_is_given(self) -> None:
        setup = {"pid": US, "extra": {"x": 2**64 - 1}}
        assert self.words("cpus", "target_pid", "x", setup=lambda: setup) == [
            cpus.possible(),
            US,
            2**64 - 1,
        ]

    def test_the_child(self) -> None:
        child = Child.start("true")
        assert self.words("child_pid", setup=lambda: {"child": child}) == [child.pid]
        child.close()

    def test_too_many_words_are_an_error(self) -> None:
        codes = [Code("b", "raw_tp", store_word(GLOBAL_DATA, 0, "counters"), BEGIN)]
        run = tracer([COUNTERS, GLOBALS], codes, words=tuple(map(str, range(17))))
        with run, pytest.raises(ValueError, match="136 bytes of globals do not fit in 128"):
            run.load()


# The process and thread id in the namespace that words 0 and 1 of the global data describe.
NAMESPACE_ID = f"""
  %zero = alloca i32
  store i32 0, ptr %zero
  %info = alloca i64
  store i64 0, ptr %info
  %words = call ptr inttoptr (i64 1 to ptr)(ptr @{GLOBAL_DATA}, ptr %zero)
  %m1 = icmp eq ptr %words, null
  br i1 %m1, label %out, label %ask
ask:
  %dev = load i64, ptr %words
  %at = getelementptr i64, ptr %words, i64 1
  %ino = load i64, ptr %at
  %r = call i64 inttoptr (i64 120 to ptr)(i64 %dev, i64 %ino, ptr %info, i32 8)
  %to = call ptr inttoptr (i64 1 to ptr)(ptr @counters, ptr %zero)
  %m2 = icmp eq ptr %to, null
  br i1 %m2, label %out, label %copy
copy:
  %both = load i64, ptr %info
  store i64 %both, ptr %to
  %result = trunc i64 %r to i32
  ret i32 %result
out:
  ret i32 99"""


def namespace_pid() -> None:
    """Print our process id and what a program of ours says it is."""
    words = ("pid_ns_dev", "pid_ns_ino")
    with tracer([COUNTERS, GLOBALS], [Code("b", "raw_tp", NAMESPACE_ID, BEGIN)], words=words) as run:
        run.load()
        result = run.run_on_demand("begin")
        both = counters(run)[0]
    print(os.getpid(), both >> 32, both & 0xFFFFFFFF, result, pid_namespace() is not None)


@pytest.mark.root
def test_the_helper_finds_our_pid_in_a_pid_namespace() -> None:
    code = "from tests.runtime.test_tracer import namespace_pid; namespace_pid()"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    output = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True).stdout
    assert output == "1 1 1 [0] True\n"


@pytest.mark.root
class TestLosses:
    def test_counters_are_summed_over_the_cpus(self) -> None:
        maps = [map_spec(LOST, "percpu_array"), map_spec(REFUSED, "percpu_array", entries=3)]
        codes = [
            Code("l", "raw_tp", count(LOST), BEGIN),
            Code("r", "raw_tp", count(REFUSED, 2), BEGIN),
        ]
        with tracer(maps, codes) as run:
            run.load()
            for cpu in (*cpus.online(), cpus.online()[0]):
                os.sched_setaffinity(0, {cpu})
                run.run_on_demand("begin")
            os.sched_setaffinity(0, cpus.online())
            hits = len(cpus.online()) + 1
            losses = run.losses()
            assert (losses.events, losses.refused, losses.missed) == (hits, (0, 0, hits), {})
            assert run.lost_events() == hits

    def test_without_the_maps_there_are_none(self) -> None:
        with tracer([], [Code("b", "raw_tp", "  ret i32 0", BEGIN)]) as run:
            run.load()
            assert run.losses().events == 0
            assert run.losses().refused == ()


STATUS = "Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{effective:016x}\n"
BPF, PERFMON, ADMIN, READ_SEARCH, OVERRIDE = 1 << 39, 1 << 38, 1 << 21, 1 << 2, 1 << 1


@pytest.mark.parametrize(
    ("effective", "missing"),
    [
        (BPF | PERFMON | READ_SEARCH | OVERRIDE, ()),
        (ADMIN | READ_SEARCH | OVERRIDE, ()),
        (PERFMON | READ_SEARCH | OVERRIDE, ("CAP_BPF",)),
        (BPF | READ_SEARCH | OVERRIDE, ("CAP_PERFMON",)),
        (ADMIN, ("CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE")),
        (0, ("CAP_BPF", "CAP_PERFMON", "CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE")),
    ],
)
def test_missing_capabilities(effective: int, missing: tuple[str, ...]) -> None:
    assert privileges.missing(STATUS.format(uid=1000, effective=effective)) == missing


def test_the_message_names_the_capability_and_the_remedy(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(STATUS.format(uid=1000, effective=0))
    with pytest.raises(PrivilegeError) as error:
        check_privileges(str(status))
    assert str(error.value) == "Missing CAP_BPF capability, please run pytrace as the root user."
    status.write_text(STATUS.format(uid=0, effective=ADMIN))
    with pytest.raises(PrivilegeError, match=r"CAP_DAC_READ_SEARCH .* --cap-add=DAC_READ_SEARCH"):
        check_privileges(str(status))


def test_clocks() -> None:
    measured = clocks.measure()
    now = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert abs(measured.realtime - now) < 50_000_000
    tai = time.clock_gettime_ns(time.CLOCK_TAI) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert abs(measured.tai - tai) < 50_000_000
    assert 0 < measured.gap
    assert measured.skewed == (measured.gap >= clocks.SKEW_LIMIT)


def test_cpu_lists() -> None:
    assert cpus.parse("0-3,8,10-11\n") == (0, 1, 2, 3, 8, 10, 11)
    assert cpus.parse("0\n") == (0,)
    assert set(os.sched_getaffinity(0)) <= set(cpus.online())


def test_messages_of_libbpf_are_heard_only_while_listening(capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []
    with pytest.raises(LoadError), libbpf.listen(lambda _, text: heard.append(text)):
        Tracer(plan([], []), b"x")
    assert heard
    count = len(heard)
    with pytest.raises(LoadError):
        Tracer(plan([], []), b"x")
    assert len(heard) == count
    assert capfd.readouterr() == ("", "")
