"""`--test` and `--bench`: the probes of these types, one after the other (reference part 2, section 10.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pytrace.grammar.data import dataclass
from pytrace.grammar.hints import TYPE_CHECKING
from pytrace.grammar.spec import Output

if TYPE_CHECKING:
    from pytrace.api import Trace
    from pytrace.grammar.attaching import OnDemand
    from pytrace.grammar.plan import ProgramSpec

GREEN, RED, RESET = "\033[32m", "\033[31m", "\033[0m"

# outputs that make a test fail; after a lost event nobody can know whether it was one of them
FAILURES = frozenset({"errorf", "error", "runtime_error", "helper_error", "lost_events"})

ENOUGH_NS = 1_000_000  # a benchmark runs for so long in all
MOST_REPEATS = 1 << 24

NAME_WIDTH, TIME_WIDTH = 40, 15


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of running a program: its result, its average time in nanoseconds, what it showed, how it ended."""

    result: int
    duration: int
    outputs: tuple[Output, ...]
    exit_code: int

    @property
    def complained(self) -> bool:
        """Whether it told of an error."""
        return bool(self.exit_code) or any(output.kind in FAILURES for output in self.outputs)

    @property
    def passed(self) -> bool:
        """Whether a test is content."""
        return self.result == 0 and not self.complained

    @property
    def text(self) -> str:
        """All that it showed."""
        return "".join(output.text for output in self.outputs)


class ModeRunner:
    """Runs the tests or benchmarks of a loaded trace. `failed` says whether any of them went wrong."""

    def __init__(self, trace: Trace, color: bool = False) -> None:
        self._trace = trace
        self._color = color
        self._mode = trace.options.mode
        self.failed = False

    def outputs(self) -> Iterator[Output]:
        """Run them, and show how they do."""
        programs = self._trace.plan.on_demand(self._mode)
        if programs:
            yield from (self._tests if self._mode == "test" else self._benches)(programs)

    # ---- tests

    def _tests(self, programs: list[tuple[ProgramSpec, OnDemand]]) -> Iterator[Output]:
        passed: list[str] = []
        failed: list[str] = []
        yield _line(f"{self._green('[==========]')} Running {_tests(len(programs))}.")
        for program, place in programs:
            name = name_of(place)
            yield _line(f"{self._green('[ RUN      ]')} {name}")
            outcome = self._run(program)
            if outcome is None:
                return
            self.failed = self.failed or not outcome.passed
            (passed if outcome.passed else failed).append(name)
            yield self._result(name, outcome)
        yield _line(f"{self._green('[==========]')} {_tests(len(programs))} ran.")
        yield _line(f"{self._green('[  PASSED  ]')} {_tests(len(passed))}.")
        if failed:
            yield _line(f"{self._red('[  FAILED  ]')} {_tests(len(failed))}, listed below:")
            for name in failed:
                yield _line(f"{self._red('[  FAILED  ]')} {name}")

    def _result(self, name: str, outcome: Outcome) -> Output:
        shown, mark = outcome.text, self._red("[  FAILED  ]")
        if outcome.passed:
            shown, mark = "", self._green("[       OK ]")
        elif shown and not shown.endswith("\n"):
            shown += "\n"
        text = f"{shown}{mark} {name} ({duration_text(outcome.duration)})\n"
        result = {"duration": outcome.duration, "passed": outcome.passed, "output": outcome.text}
        return Output("test_result", text, {name: result})

    # ---- benchmarks

    def _benches(self, programs: list[tuple[ProgramSpec, OnDemand]]) -> Iterator[Output]:
        width = max(NAME_WIDTH, *(len(name_of(place)) for _, place in programs)) + 1
        yield _line(bench_line(width, "Benchmark", "Time(ns)", "Iterations"))
        yield _line("-" * (width + TIME_WIDTH + len("Iterations")))
        for program, place in programs:
            name, repeat = name_of(place), 1
            outcome = self._run(program)
            while outcome and outcome.passed and outcome.duration * repeat < ENOUGH_NS and repeat < MOST_REPEATS:
                repeat *= 2
                outcome = self._run(program, repeat)
            if outcome is None:
                return
            if outcome.complained:
                self.failed = True
                yield Output("error", f"ERROR: Benchmark '{name}' failed.\n", error=True)
            elif outcome.passed:  # others ask to be skipped
                text = bench_line(width, name, str(outcome.duration), str(repeat))
                result = {"average": outcome.duration, "iters": repeat}
                yield Output("benchmark_result", f"{text}\n", {name: result})

    # ---- both

    def _run(self, program: ProgramSpec, repeat: int = 1) -> Outcome | None:
        """Run a program, and take what it sends; None if the run is to end."""
        trace = self._trace
        while not trace.stopping:
            try:
                result, duration = trace.tracer.measure(program, repeat)
            except InterruptedError:  # by a signal; whose handler has asked for the end, or not
                continue
            outputs = tuple(trace.drain())
            exit_code = trace.session.exit_code or 0
            trace.session.exiting, trace.session.exit_code = False, None
            return Outcome(result, duration, outputs, exit_code)
        return None

    def _green(self, text: str) -> str:
        return f"{GREEN}{text}{RESET}" if self._color else text

    def _red(self, text: str) -> str:
        return f"{RED}{text}{RESET}" if self._color else text


def _line(text: str) -> Output:
    """A line for people; it has no JSON document."""
    return Output("progress", f"{text}\n")


def name_of(place: OnDemand) -> str:
    """The name of a test or benchmark: its probe's without the type."""
    return place.name.partition(":")[2]


def _tests(count: int) -> str:
    return f"{count} test" if count == 1 else f"{count} tests"


def bench_line(width: int, name: str, average: str, iterations: str) -> str:
    """A line of the table of benchmarks."""
    return f"{name:<{width}}{average:<{TIME_WIDTH}}{iterations}"


def duration_text(nanoseconds: int) -> str:
    """A duration in the largest unit of which there is a whole one."""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("μs", 10**3)):
        if nanoseconds >= size:
            return f"{nanoseconds // size} {unit}"
    return f"{nanoseconds} ns"


# ---------------------------------------------------------------- the compiler's own benchmark

COMPILATIONS = 10


def compiler_bench(compile_once: Callable[[Callable[[str], None]], object], clock: Callable[[], int]) -> Iterator[str]:
    """The lines of a table of how long each stage of a compilation takes, on average over several.

    `compile_once(lap)` compiles, and calls `lap(stage)` after each stage; `clock` is in nanoseconds.
    """
    spent: dict[str, int] = {}
    for _ in range(COMPILATIONS):
        last = clock()

        def lap(stage: str) -> None:
            nonlocal last
            now = clock()
            spent[stage] = spent.get(stage, 0) + now - last
            last = now

        compile_once(lap)
    yield bench_line(NAME_WIDTH + 1, "Benchmark", "Time(ns)", "Iterations")
    yield "-" * (NAME_WIDTH + 1 + TIME_WIDTH + len("Iterations"))
    for stage, total in spent.items():
        yield bench_line(NAME_WIDTH + 1, stage, str(total // COMPILATIONS), str(COMPILATIONS))
