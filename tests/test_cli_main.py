"""The command line around a trace: streams, statuses, signals, messages; with a trace that is only played."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import pytrace
from pytrace.api import Losses, Trace
from pytrace.arguments import UsageError, parse
from pytrace.cli import main, read_program
from pytrace.grammar.attaching import OnDemand
from pytrace.grammar.config import Config
from pytrace.grammar.diagnostics import CompileError, Diagnostics
from pytrace.grammar.plan import MapSpec, Plan, ProgramSpec
from pytrace.grammar.settings import SettingError
from pytrace.grammar.source import Source
from pytrace.grammar.spec import Output
from pytrace.messages import Messages, make_messages, report
from pytrace.options import Options
from pytrace.running import Run, options_of
from pytrace.runtime.attach import AttachError, AttachFailure
from pytrace.runtime.bpf_object import LoadError
from pytrace.runtime.libbpf import LibraryMissing
from pytrace.runtime.privileges import PrivilegeError
from pytrace.runtime.process import ProcessError

ATTACHED = Output("attached_probes", "", {"probes": 1}, fields={"count": 1})
A_MAP = SimpleNamespace(name="@a", symbol="AT_a")
BEGIN = ProgramSpec("begin_1", "raw_tp", (OnDemand("begin", "begin"),))


@dataclass
class Played:
    """A trace that shows given outputs; calling an item of `script` is something that happens meanwhile."""

    script: list[Output | Callable[[Played], None]] = field(default_factory=list)
    refuses: Exception | None = None
    programs: tuple[ProgramSpec, ...] = (BEGIN,)
    config: Config = field(default_factory=Config)
    failures: list[AttachFailure] = field(default_factory=list)
    partial: list[AttachFailure] = field(default_factory=list)
    idle_modes: frozenset[str] = frozenset()
    signals: int = 0
    stages: dict[str, str] = field(default_factory=dict)
    warned: Diagnostics = field(default_factory=Diagnostics)
    losses: Losses = field(default_factory=Losses)
    probe_count: int = 1
    exit_code: int = 0
    pending: bool = False
    stops: int = 0
    closed: bool = False
    options: Options = field(default_factory=Options)

    @property
    def plan(self) -> Any:
        """What the command line asks of the plan."""
        return Plan(self.programs, (cast("MapSpec", A_MAP),), (), (), self.config)

    @property
    def tracer(self) -> Any:
        """What the command line asks of the tracer."""
        logs = {"begin_1": "processed 2 insns"}
        return SimpleNamespace(failures=self.failures, partial=self.partial, notes={}, verifier_logs=logs)

    @property
    def compilation(self) -> Any:
        """What the command line asks of the compilation."""
        return SimpleNamespace(stages=self.stages, idle_modes=self.idle_modes)

    @property
    def warnings(self) -> Any:
        """What the compiler warns of."""
        return self.warned.warnings

    def __enter__(self) -> Played:
        if self.refuses:
            raise self.refuses
        return self

    def finish_lines(self, form: str) -> None:
        """There is nothing to make lines of."""

    def outputs(self) -> Iterator[Output]:
        """Play the script."""
        for item in self.script:
            if isinstance(item, Output):
                yield item
            else:
                item(self)

    def stop(self) -> None:
        """Count the calls."""
        self.stops += 1

    def user_signal(self, times: int = 1) -> None:
        """Count the signals."""
        self.signals += times

    def close(self, wait: bool = True) -> None:
        """Remember it."""
        self.closed = True


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """A run sets handlers for the whole process."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    handlers = [signal.getsignal(number) for number in numbers]
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def play(played: Played, *words: str) -> int:
    """The exit status of a run."""

    def make(text: str, name: str, options: Options) -> Trace:
        played.options = options
        return cast("Trace", played)

    return Run(parse(words), Messages(), make).run("begin {}", "stdin")


Capture = pytest.CaptureFixture[str]


# ---------------------------------------------------------------- the course of a run


def test_a_run(capfd: Capture) -> None:
    played = Played([ATTACHED, Output("printf", "hi\n", "hi\n"), Output("maps_follow", "\n\n")], exit_code=7)
    assert play(played) == 7
    assert capfd.readouterr() == ("hi\n\n\n", "Attached 1 probe\n")
    assert played.closed


def test_what_was_shown_so_far_is_written_before_waiting(capfd: Capture) -> None:
    seen = []
    played = Played([ATTACHED, Output("printf", "hi\n", "hi\n"), lambda _: seen.append(capfd.readouterr().out)])
    play(played)
    assert seen == ["hi\n"]


def test_an_output_file(capfd: Capture, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("something that was there before")
    assert play(Played([ATTACHED, Output("printf", "hi\n", "hi\n")]), "-o", str(path)) == 0
    assert path.read_text() == "hi\n"
    assert capfd.readouterr().out == ""


def test_a_dry_run_shows_nothing(capfd: Capture) -> None:
    played = Played()
    assert play(played, "--dry-run") == 0
    assert played.options.dry_run
    assert capfd.readouterr() == ("", "")


def test_no_probes(capfd: Capture) -> None:
    assert play(Played(programs=())) == 1
    assert capfd.readouterr() == ("No probes to attach\n", "")
    assert play(Played(programs=()), "-q") == 1
    assert capfd.readouterr() == ("", "")


def test_strict() -> None:
    lossy = Played([ATTACHED], losses=Losses(events=1))
    assert play(lossy) == 0
    assert play(lossy, "--strict") == 1
    assert play(Played([ATTACHED]), "--strict") == 0


def test_probes_that_are_left_out(capfd: Capture) -> None:
    failures = [AttachFailure("kprobe:f", "the kernel has no f")]
    played = Played([ATTACHED], failures=failures, config=Config(missing_probes="warn"))
    assert play(played) == 0
    told = "WARNING: Unable to attach probe: kprobe:f. Skipping. the kernel has no f\n"
    assert told in capfd.readouterr().err
    played.config = Config(missing_probes="ignore")
    assert play(played, "-q") == 0
    assert capfd.readouterr().err == ""


def test_probes_that_are_attached_in_part(capfd: Capture) -> None:
    played = Played([ATTACHED], partial=[AttachFailure("watchpoint:8:8:w", "No more HW registers left")])
    assert play(played, "-q") == 0
    told = "WARNING: watchpoint:8:8:w is attached to a part only of what it is for. No more HW registers left\n"
    assert capfd.readouterr().err == told
    assert play(played, "-q", "--no-warnings") == 0
    assert capfd.readouterr().err == ""


@pytest.mark.tag("probe.test", "probe.bench", "cli.test", "cli.bench")
@pytest.mark.parametrize(
    ("modes", "told"),
    [
        ({"test", "bench"}, "use --test to run test probes"),
        ({"test"}, "use --test to run test probes"),
        ({"bench"}, "use --bench to run benchmark probes"),
    ],
)
def test_nothing_but_tests(modes: set[str], told: str, capfd: Capture) -> None:
    assert play(Played(programs=(), idle_modes=frozenset(modes))) == 1
    assert capfd.readouterr() == ("", f"ERROR: No probes attached; {told}.\n")


def test_no_probe_could_be_attached(capfd: Capture) -> None:
    played = Played([ATTACHED], failures=[AttachFailure("kprobe:f", "no")], probe_count=0)
    assert play(played) == 1
    assert capfd.readouterr().err == "ERROR: Attachment failed for all probes.\n"


def test_word_for_test_harnesses(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("__BPFTRACE_NOTIFY_PROBES_ATTACHED", "1")
    play(Played([ATTACHED]))
    assert capfd.readouterr().out == "__BPFTRACE_NOTIFY_PROBES_ATTACHED\n"


def test_warnings_of_the_compiler(capfd: Capture) -> None:
    diagnostics = Diagnostics()
    diagnostics.warning("x", "careful", None)
    play(Played(warned=diagnostics))
    assert capfd.readouterr().err == "WARNING: careful\n"
    play(Played(warned=diagnostics), "--no-warnings")
    assert capfd.readouterr().err == ""


def test_stages(capfd: Capture) -> None:
    stages = {"ast": "A", "plan": "P", "codegen": "C"}
    play(Played(stages=stages), "-d", "ast,plan,verifier")
    out, err = capfd.readouterr()
    dashes = "-" * 40
    assert err == f"AST after: parser\n{dashes}\nA\n\n"
    assert out == f"Plan\n{dashes}\nP\n\nBPF verifier log for begin_1:\n{dashes}\nprocessed 2 insns\n\n"


def test_stages_are_shown_of_what_will_not_load(capfd: Capture) -> None:
    assert play(Played(stages={"plan": "P"}, refuses=LoadError("", 1, "")), "-d", "plan") == 255
    assert capfd.readouterr().out.startswith("Plan\n")


def test_options_reach_the_trace() -> None:
    arguments = parse(
        ["prog.bt", "a", "-p", "1", "--unsafe", "-k", "--dry-run", "-I", "/i", "--include", "x.h", "-d",
         "ast", "--strict", "-v", "--test", "--probe-filter", "x", "--no-feature", "uprobe_multi", "--emit-llvm",
         "f", "--", "--n=1"]
    )  # fmt: skip
    assert options_of(arguments) == Options(
        parameters=("a",),
        pid=1,
        named=("--n=1",),
        unsafe=True,
        helper_errors=True,
        dry_run=True,
        include_dirs=("/i",),
        include=("x.h",),
        stages=frozenset({"ast", "codegen", "codegen-opt"}),
        verbose=True,
        strict=True,
        values=False,
        mode="test",
        probe_filter="x",
        without=("uprobe_multi",),
        color=True,
    )
    other = options_of(parse(["x", "-c", "ls", "--no-warnings", "--mode", "codegen"]))
    assert other == Options(command="ls", warnings=False, values=False, color=True)


# ---------------------------------------------------------------- signals and broken pipes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_trace(number: int) -> None:
    def interrupt(_: Played) -> None:
        os.kill(os.getpid(), number)

    played = Played([ATTACHED, interrupt, interrupt, Output("printf", "end", "end")])
    assert play(played, "-q") == 0
    assert played.stops == 2


def test_a_signal_while_attaching_gives_up(capfd: Capture) -> None:
    played = Played([lambda _: os.kill(os.getpid(), signal.SIGINT), ATTACHED])
    assert play(played) == 255
    assert played.closed
    assert capfd.readouterr() == ("", "")


def test_a_signal_that_was_lost_in_a_callback_gives_up() -> None:
    def swallow(_: Played) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.sigtimedwait([], 0.1)
        except KeyboardInterrupt:
            pass

    assert play(Played([swallow, ATTACHED])) == 255


def test_sigusr1_is_ignored() -> None:
    assert play(Played([ATTACHED, lambda _: os.kill(os.getpid(), signal.SIGUSR1)])) == 0


@pytest.mark.tag("run.sigusr1", "probe.self")
def test_sigusr1_reaches_a_program_that_wants_it() -> None:
    """Each delivery counts, though Python runs its handler once for several."""

    def deliver(_: Played) -> None:
        for _i in range(3):
            signal.raise_signal(signal.SIGUSR1)

    program = ProgramSpec("self_1", "raw_tp", (OnDemand("self:signal:SIGUSR1", "SIGUSR1"),))
    played = Played([ATTACHED, deliver, deliver], programs=(program,))
    assert play(played, "-q") == 0
    assert played.signals == 6
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN  # as before it wanted them
    assert signal.set_wakeup_fd(-1) == -1


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path, capfd: Capture) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    played = Played([ATTACHED, lambda _: os.close(reader), Output("printf", "x\n", "x\n")])
    assert play(played, "-q", "-o", str(fifo)) == 141
    assert played.closed
    assert capfd.readouterr() == ("", "")


def test_a_full_disk_is_told(capfd: Capture) -> None:
    assert play(Played([ATTACHED, Output("printf", "x\n", "x\n")]), "-q", "-o", "/dev/full") == 1
    assert capfd.readouterr().err == "ERROR: Failed to write output: No space left on device\n"


# ---------------------------------------------------------------- exceptions


def compile_error() -> CompileError:
    """Of a program with one mistake."""
    diagnostics = Diagnostics()
    diagnostics.error("x", "bad", Source("a.bt", "foo").span(0, 3), hints=["better"])
    return CompileError(diagnostics.items)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (compile_error(), 1, "a.bt:1:1-4: ERROR: bad\nfoo\n~~~\nHINT: better\n"),
        (SettingError("max_probes: expecting a number, got x"), 2, "max_probes: expecting a number, got x\n"),
        (PrivilegeError("be root"), 1, "ERROR: be root\n"),
        (ProcessError("no such process"), 1, "ERROR: no such process\n"),
        (LibraryMissing("install libbpf1"), 1, "ERROR: install libbpf1\n"),
        (
            AttachError("kprobe:f", "the kernel has no f"),
            255,
            "The kernel has no f.\nERROR: Unable to attach probe: kprobe:f. If this is expected, set the "
            "'missing_probes' config variable to 'warn'.\n",
        ),
        (
            LoadError("", 1, "libbpf: map 'AT_a': failed to create\nlibbpf: failed to load\n"),
            255,
            "map @a: failed to create\nERROR: Unknown BPF object load failure. "
            'Try using the "-d libbpf" option to see the full loading log.\n',
        ),
        (
            ZeroDivisionError("oh\nno"),
            2,
            "ERROR: internal error: ZeroDivisionError: oh no. Please report it, with the program and the "
            "output of -v.\n",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_exceptions(error: Exception, status: int, text: str, capfd: Capture) -> None:
    assert play(Played(refuses=error)) == status
    assert capfd.readouterr() == ("", text)


def test_a_traceback_only_for_who_asks(capfd: Capture) -> None:
    play(Played(refuses=ZeroDivisionError()), "-v")
    assert "Traceback" in capfd.readouterr().err


def test_the_kernels_log_for_who_asks(capfd: Capture) -> None:
    error = LoadError("", 22, "R1 invalid\nprocessed 1 insns\n", truncated=True)
    assert report(error, Messages(), verbose=True) == 255
    err = capfd.readouterr().err
    assert "\nKernel error log: \nR1 invalid\nprocessed 1 insns\n" in err
    assert "BPFTRACE_LOG_SIZE" in err


def test_colours(capfd: Capture) -> None:
    report(compile_error(), make_messages({"BPFTRACE_COLOR": "always"}), verbose=False)
    assert capfd.readouterr().err.startswith("\033[31ma.bt:1:1-4: ERROR: bad\033[0m\nfoo\n")
    make_messages({"BPFTRACE_COLOR": "always"}).warning("w")
    assert capfd.readouterr().err == "\033[33mWARNING: w\033[0m\n"
    make_messages({"BPFTRACE_COLOR": "auto"}).warning("w")  # no terminal here
    assert capfd.readouterr().err == "WARNING: w\n"


def test_a_colour_that_is_none(capfd: Capture) -> None:
    make_messages({"BPFTRACE_COLOR": "pink"}).error("e")
    assert capfd.readouterr().err == (
        "WARNING: BPFTRACE_COLOR: Invalid value: valid values are auto, always, and never.\nERROR: e\n"
    )


# ---------------------------------------------------------------- the small commands


def test_without_words(capfd: Capture) -> None:
    assert main([]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("USAGE:\n")


def test_help_and_version(capfd: Capture) -> None:
    assert main(["--help"]) == 0
    assert capfd.readouterr().out.startswith("USAGE:\n")
    assert main(["-V"]) == 0
    assert capfd.readouterr() == (f"pytrace v{pytrace.__version__}\n", "")


def test_a_usage_error(capfd: Capture) -> None:
    assert main(["-p", "1", "-c", "ls", "x"]) == 1
    assert capfd.readouterr().err.startswith("ERROR: USAGE: Cannot use both -c and -p.\nUSAGE:\n")
    assert main(["--unsfe"]) == 1
    assert capfd.readouterr().err == ("ERROR: USAGE: unrecognized option '--unsfe'\nHINT: Did you mean --unsafe?\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-v"], "ERROR: USAGE: filename or -e 'program' required.\n"),
        (["-e", ""], "ERROR: USAGE: filename or -e 'program' required.\n"),
        (["/no/such.bt"], "ERROR: failed to open file '/no/such.bt': No such file or directory\n"),
        (["/"], "ERROR: failed to open file '/': Is a directory\n"),
        (
            ["begin { }"],
            "ERROR: failed to open file 'begin { }': No such file or directory\n"
            "HINT: The text of a program stands behind -e.\n",
        ),
        (
            ["-e", "/etc/hosts"],
            "ERROR: '/etc/hosts' is a file\n"
            "HINT: -e is followed by the text of a program; leave it out to run a file.\n",
        ),
        (
            ["/bin/sh"],
            "ERROR: '/bin/sh' is a binary, not the text of a program\n"
            "HINT: To trace it while it runs: pytrace -c /bin/sh FILE. Its functions are probed by "
            "uprobe:/bin/sh:FUNCTION.\n",
        ),
        (["-e", "x", "-o", "/n/x"], 'ERROR: Failed to open output file: "/n/x": No such file or directory\n'),
    ],
)
def test_files_that_are_not_there(words: list[str], text: str, capfd: Capture) -> None:
    assert main(words) == 1
    assert capfd.readouterr() == ("", text)


def test_the_program_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bt"
    path.write_bytes(b"begin {} // \xff")
    assert read_program(parse([str(path)])) == ("begin {} // \udcff", str(path))
    assert read_program(parse(["-e", "x"])) == ("x", "stdin")
    path.write_bytes(b"\xef\xbb\xbfbegin {}")  # a byte order mark
    assert read_program(parse([str(path)])) == ("begin {}", str(path))
    path.write_bytes("begin {}".encode("utf-16"))
    with pytest.raises(UsageError, match="UTF-16"):
        read_program(parse([str(path)]))


def loaded(code: str) -> set[str]:
    """The modules that a new interpreter has loaded after running some code."""
    program = f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_what_is_not_needed_is_not_loaded() -> None:
    assert not {m for m in loaded("import pytrace") if m.startswith("pytrace.")}
    heavy = {"lark", "llvmlite", "argparse", "bcc", "pyroute2", "ctypes", "pytrace.language", "pytrace.api"}
    assert not heavy & loaded("from pytrace.cli import main; main(['--help'])")


def test_public_names() -> None:
    assert pytrace.trace.__module__ == "pytrace.api"
    assert {pytrace.Trace, pytrace.Losses, pytrace.Options, pytrace.CompileError} >= {Trace, CompileError}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        pytrace.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("removed", "shown"),
    [(["filter of process 7 on lo egress"], "Removed filter of process 7 on lo egress\n"), ([], "Nothing to remove\n")],
)
def test_cleanup(
    removed: list[str], shown: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pytrace.runtime.privileges.check_privileges", lambda: None)
    monkeypatch.setattr("pytrace.runtime.clsact.clean", lambda: removed)
    assert main(["cleanup"]) == 0
    assert capfd.readouterr() == (shown, "")


def test_a_program_named_cleanup_is_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cleanup").write_text("nonsense")
    monkeypatch.setattr("pytrace.runtime.privileges.check_privileges", lambda: None)
    assert main(["cleanup"]) == 1
    assert "cleanup:1:" in capfd.readouterr().err
