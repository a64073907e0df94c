"""Test and bench modes with programs that are only played: what is reported, how often a benchmark runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytrace.api import Trace
from pytrace.grammar.attaching import OnDemand
from pytrace.grammar.config import Config
from pytrace.grammar.plan import Plan, ProgramSpec
from pytrace.grammar.spec import Output
from pytrace.options import Options
from pytrace.printer import document
from pytrace.testmode import ModeRunner, compiler_bench, duration_text

tag = pytest.mark.tag


@dataclass
class Program:
    """What running a program gives: its result, nanoseconds, outputs and exit code."""

    name: str
    result: int = 0
    duration: int = 900
    outputs: tuple[Output, ...] = ()
    exit_code: int | None = None


@dataclass
class Played:
    """The parts of a trace that the modes use."""

    mode: str
    scripted: list[Program]
    stopping: bool = False
    interrupts: int = 0
    repeats: list[int] = field(default_factory=list)
    session: Any = field(default_factory=lambda: SimpleNamespace(exiting=False, exit_code=None))
    _last: Program | None = None

    @property
    def options(self) -> Options:
        return Options(mode=self.mode)

    @property
    def plan(self) -> Plan:
        programs = [ProgramSpec(p.name, "xdp", (OnDemand(f"{self.mode}:{p.name}", self.mode),)) for p in self.scripted]
        return Plan(tuple(programs), (), (), (), Config())

    @property
    def tracer(self) -> Played:
        return self

    def measure(self, program: ProgramSpec, repeat: int = 1) -> tuple[int, int]:
        if self.interrupts:
            self.interrupts -= 1
            raise InterruptedError
        self.repeats.append(repeat)
        self._last = next(p for p in self.scripted if p.name == program.symbol)
        return self._last.result, self._last.duration

    def drain(self) -> Iterator[Output]:
        assert self._last is not None
        self.session.exit_code = self._last.exit_code
        self.session.exiting = self._last.exit_code is not None
        yield from self._last.outputs


def report(mode: str, *programs: Program, color: bool = False) -> tuple[str, list[str], bool]:
    """The text, the JSON documents, and whether anything failed."""
    played = Played(mode, list(programs))
    test_mode = ModeRunner(cast("Trace", played), color)
    outputs = list(test_mode.outputs())
    assert (played.session.exiting, played.session.exit_code) == (False, None)
    return "".join(o.text for o in outputs), [d for o in outputs if (d := document(o))], test_mode.failed


PRINTED = Output("printf", "text printed by the failing probe\n", "text printed by the failing probe\n")


@tag("mode.test", "json.test")
def test_tests() -> None:
    text, documents, failed = report("test", Program("good", duration=1), Program("broken", 1, 1_000_000, (PRINTED,)))
    assert failed
    assert text == (
        "[==========] Running 2 tests.\n"
        "[ RUN      ] good\n"
        "[       OK ] good (1 ns)\n"
        "[ RUN      ] broken\n"
        "text printed by the failing probe\n"
        "[  FAILED  ] broken (1 ms)\n"
        "[==========] 2 tests ran.\n"
        "[  PASSED  ] 1 test.\n"
        "[  FAILED  ] 1 test, listed below:\n"
        "[  FAILED  ] broken\n"
    )
    assert documents == [
        '{"type": "test_result", "data": {"good": {"duration": 1, "passed": true, "output": ""}}}\n',
        '{"type": "test_result", "data": {"broken": {"duration": 1000000, "passed": false, '
        '"output": "text printed by the failing probe\\n"}}}\n',
    ]


@tag("mode.test")
def test_all_pass_and_say_nothing() -> None:
    text, _, failed = report("test", Program("one", outputs=(PRINTED,)))
    assert not failed
    assert text.splitlines()[1:] == [
        "[ RUN      ] one", "[       OK ] one (900 ns)", "[==========] 1 test ran.", "[  PASSED  ] 1 test.",
    ]  # fmt: skip


@tag("mode.test")
def test_colours() -> None:
    text, _, _ = report("test", Program("good"), Program("bad", 1), color=True)
    assert "\033[32m[ RUN      ]\033[0m good\n\033[32m[       OK ]\033[0m good (900 ns)\n" in text
    assert "\033[31m[  FAILED  ]\033[0m bad (900 ns)\n" in text


@tag("mode.test", "probe.test")
@pytest.mark.parametrize(
    ("program", "passes"),
    [
        (Program("x"), True),
        (Program("x", exit_code=0), True),
        (Program("x", outputs=(Output("warnf", "careful\n", error=True),)), True),
        (Program("x", result=2), False),
        (Program("x", exit_code=3), False),
        (Program("x", outputs=(Output("errorf", "bad\n", error=True),)), False),
        (Program("x", outputs=(Output("helper_error", "bad\n", error=True),)), False),
        (Program("x", outputs=(Output("lost_events", "Lost 1 events\n", error=True),)), False),
    ],
)
def test_what_makes_a_test_fail(program: Program, passes: bool) -> None:
    text, documents, failed = report("test", program)
    assert failed is not passes
    assert ("       OK" in text) is passes
    assert f'"passed": {str(passes).lower()}' in documents[0]


def test_output_without_newline_does_not_spoil_the_report() -> None:
    text, _, _ = report("test", Program("x", 1, outputs=(Output("printf", "half", "half"),)))
    assert "\nhalf\n[  FAILED  ] x" in text


@tag("mode.test", "json.test", "probe.bench")
def test_benchmarks() -> None:
    text, documents, failed = report(
        "bench",
        Program("loop", duration=40, outputs=(PRINTED,)),
        Program("n" * 50, duration=2_000_000),
        Program("skipped", 1),
    )
    assert not failed
    assert text == (
        f"{'Benchmark':51}{'Time(ns)':15}Iterations\n"
        f"{'-' * 76}\n"
        f"{'loop':51}{'40':15}32768\n"
        f"{'n' * 50} {'2000000':15}1\n"
    )
    assert documents[0] == '{"type": "benchmark_result", "data": {"loop": {"average": 40, "iters": 32768}}}\n'
    assert len(documents) == 2
    short, _, _ = report("bench", Program("loop", duration=1_000_000))
    assert short.startswith(f"{'Benchmark':41}{'Time(ns)':15}Iterations\n{'-' * 66}\n{'loop':41}1000000")


@tag("probe.bench")
def test_a_benchmark_runs_until_a_millisecond_is_full() -> None:
    played = Played("bench", [Program("x", duration=300_000)])
    list(ModeRunner(cast("Trace", played)).outputs())
    assert played.repeats == [1, 2, 4]
    endless = Played("bench", [Program("x", duration=0)])
    list(ModeRunner(cast("Trace", endless)).outputs())
    assert endless.repeats[-1] == 1 << 24


@tag("probe.bench")
@pytest.mark.parametrize("program", [Program("x", exit_code=1), Program("x", 1, outputs=(Output("errorf", "e"),))])
def test_a_benchmark_that_complains(program: Program) -> None:
    text, documents, failed = report("bench", program)
    assert failed
    assert text.endswith("ERROR: Benchmark 'x' failed.\n")
    assert not [d for d in documents if "benchmark_result" in d]


@tag("mode.test")
@pytest.mark.parametrize("mode", ["test", "bench"])
def test_none_at_all(mode: str) -> None:
    assert report(mode) == ("", [], False)


def test_signals_while_it_runs() -> None:
    played = Played("test", [Program("x")], interrupts=2)
    assert len(list(ModeRunner(cast("Trace", played)).outputs())) == 5
    stopped = Played("test", [Program("x")], stopping=True)
    assert [o.text for o in ModeRunner(cast("Trace", stopped)).outputs()][1:] == ["[ RUN      ] x\n"]
    assert not stopped.repeats


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0 ns"), (999, "999 ns"), (1000, "1 μs"), (1_999_999, "1 ms"), (3_000_000_000, "3 s")],
)
def test_durations(nanoseconds: int, text: str) -> None:
    assert duration_text(nanoseconds) == text


@tag("cli.mode")
def test_the_compilers_own_benchmark() -> None:
    now = 0

    def compile_once(lap: Any) -> None:
        nonlocal now
        for stage, cost in (("parser", 100), ("codegen", 7000)):
            now += cost
            lap(stage)

    lines = list(compiler_bench(compile_once, lambda: now))
    assert [line.split() for line in lines[2:]] == [["parser", "100", "10"], ["codegen", "7000", "10"]]
