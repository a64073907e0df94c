"""Probes that the tracer runs itself: self upon a real signal, tests and benchmarks; options about compiling."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

import pytrace
from pytrace.runtime.attach_multi import UPROBE_MULTI, has_multi
from pytrace.usersignal import Deliveries
from tests.e2e.conftest import Runner, Start

pytestmark = pytest.mark.root
tag = pytest.mark.tag

# ---------------------------------------------------------------- self


@tag("probe.self", "run.sigusr1", "probe.count", "msg.attached", "bi.usermode", "bi.probetype")
def test_a_signal_runs_the_probe_and_nothing_else(start: Start) -> None:
    text = (
        'begin { @maps = 1; printf("ready\\n"); } self:signal:SIGUSR1 { @n++; printf("%d: %d %s %s %d\\n", @n, pid, probe,'
        ' probetype, usermode); } self:signal:SIGUSR1 { printf("after %d\\n", @n); }'
    )
    running = start("-e", text)
    running.wait_for("ready\n")
    running.wait_for("Attached 3 probes\n")
    for n in (1, 2, 3):
        began = time.monotonic()
        running.signal(signal.SIGUSR1)
        running.wait_for(f"after {n}\n")
        assert time.monotonic() - began < 5
    lines = [f"{n}: {running.pid} self:signal:SIGUSR1 special 1\nafter {n}\n" for n in (1, 2, 3)]
    assert running.stdout == "ready\n" + "".join(lines)  # no maps
    assert running.interrupt() == (f"ready\n{''.join(lines)}\n\n@maps: 1\n@n: 3\n", "Attached 3 probes\n", 0)


@tag("probe.self", "run.sigusr1")
def test_every_delivery_counts(start: Start) -> None:
    """Also one right before the end."""
    running = start("-e", 'begin { printf("ready\\n"); } self:signal:SIGUSR1 { @n++; }')
    running.wait_for("Attached 2 probes\n")
    taken = Path(f"/proc/{running.pid}/status")
    bit = 1 << (signal.SIGUSR1 - 1)
    for _ in range(200):
        # the kernel merges signals that are pending, so wait until it has delivered the last one
        while int(re.search(r"^ShdPnd:\t(\w+)", taken.read_text(), re.M)[1], 16) & bit:  # type: ignore[index]
            pass
        running.signal(signal.SIGUSR1)
    while int(re.search(r"^ShdPnd:\t(\w+)", taken.read_text(), re.M)[1], 16) & bit:  # type: ignore[index]
        pass
    assert running.interrupt().stdout.endswith("@n: 200\n")


@tag("run.sigusr1")
def test_deliveries_before_python_has_looked(tmp_path: Path) -> None:
    """While Python is inside of a call into C, its handler does not run."""
    (tmp_path / "many.c").write_text("#include <signal.h>\nvoid many(int n) { while (n--) raise(SIGUSR1); }\n")
    library = tmp_path / "many.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "many.c"], check=True)
    many = ctypes.CDLL(str(library)).many
    taken: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    with Deliveries(signal.SIGUSR1, taken.append):
        many(1)
        many(5)
    assert taken == [1, 5]
    assert signal.getsignal(signal.SIGUSR1) is before


@tag("run.sigusr1")
def test_without_a_probe_the_signal_is_ignored(start: Start) -> None:
    running = start("-e", 'begin { printf("ready\\n"); @m = 1; } interval:s:100 { }')
    running.wait_for("ready\n")
    for _ in range(3):
        running.signal(signal.SIGUSR1)
    assert running.interrupt() == ("ready\n\n\n@m: 1\n", "Attached 2 probes\n", 0)


@tag("probe.self")
def test_from_python() -> None:
    with pytrace.trace('self:signal:SIGUSR1 { printf("%s\\n", probe); @n++; if (@n == 3) { exit(); } }') as t:
        seen = []
        for output in t.outputs():
            seen.append(output.kind)
            if output.kind == "attached_probes":
                assert output.data == {"probes": 1}
                t.user_signal(2)
            elif seen.count("printf") == 2:
                t.user_signal()
        assert t.maps["@n"] == 3
        assert seen == ["attached_probes", "printf", "printf", "printf", "maps_follow", "map"]


def test_a_program_that_sends_nothing_sleeps(start: Start) -> None:
    """Without a ring buffer to look at, the tracer must not spin; and a signal gets through."""
    running = start("-e", "self:signal:SIGUSR1 { $x = 1; }")
    running.wait_for("Attached 1 probe\n")

    def spent() -> int:
        fields = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = spent()
    time.sleep(0.5)
    assert spent() - before < 0.2 * os.sysconf("SC_CLK_TCK")
    assert running.interrupt().status == 0


# ---------------------------------------------------------------- test, bench

PROGRAM = """
test:good { @s = sum(2); @s = sum(3); if ((int64)@s != 5) { errorf("the sum is %d", (int64)@s); } }
test:returns { printf("text of the failing one\\n"); return 1; }
test:exits { printf("before\\n"); exit(3); }
test:complains { errorf("bad %d", 3); }
test:constants { print((probe, probetype, usermode)); return 1; }
bench:loop { @n = count(); }
bench:skipped { return 1; }
begin { printf("begin\\n"); }
end { printf("end\\n"); }
"""


def masked(text: str) -> str:
    """A report without its durations."""
    return re.sub(r"\(\d+ (?:ns|μs|ms)\)", "(TIME)", text)


@tag("mode.test", "cli.test", "probe.test", "err.ap.special", "bi.usermode", "bi.probetype", "run.status")
def test_tests(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "t.bt"
    path.write_text(PROGRAM.strip())
    result = run("--test", str(path), env={"BPFTRACE_COLOR": "never"})
    assert masked(result.stdout) == (
        "begin\n"
        "[==========] Running 5 tests.\n"
        "[ RUN      ] good\n"
        "[       OK ] good (TIME)\n"
        "[ RUN      ] returns\n"
        "text of the failing one\n"
        "[  FAILED  ] returns (TIME)\n"
        "[ RUN      ] exits\n"
        "before\n"
        "[  FAILED  ] exits (TIME)\n"
        "[ RUN      ] complains\n"
        f"{path}:4:18-37: ERROR: bad 3\n"
        "[  FAILED  ] complains (TIME)\n"
        "[ RUN      ] constants\n"
        "(test:constants, test, 0)\n"
        "[  FAILED  ] constants (TIME)\n"
        "[==========] 5 tests ran.\n"
        "[  PASSED  ] 1 test.\n"
        "[  FAILED  ] 4 tests, listed below:\n"
        "[  FAILED  ] returns\n"
        "[  FAILED  ] exits\n"
        "[  FAILED  ] complains\n"
        "[  FAILED  ] constants\n"
        "end\n\n\n"
    )
    assert (result.stderr, result.status) == ("", 1)


@tag("mode.test", "cli.test", "cli.mode", "run.status")
def test_tests_that_pass(run: Runner) -> None:
    result = run("--mode", "test", "-e", "test:one { @ = 1; } interval:s:1 { print(1); }")
    assert masked(result.stdout) == (
        "\033[32m[==========]\033[0m Running 1 test.\n"
        "\033[32m[ RUN      ]\033[0m one\n"
        "\033[32m[       OK ]\033[0m one (TIME)\n"
        "\033[32m[==========]\033[0m 1 test ran.\n"
        "\033[32m[  PASSED  ]\033[0m 1 test.\n\n\n"
    )
    assert (result.stderr, result.status) == ("", 0)


@tag("mode.test", "probe.test", "probe.bench", "cli.test", "cli.bench")
def test_none_of_the_kind(run: Runner) -> None:
    for option in ("--test", "--bench"):
        assert run(option, "-e", "interval:s:1 { }") == ("\n\n", "", 0)


@tag("probe.test", "probe.bench", "run.status")
def test_without_the_option_they_are_ignored(run: Runner) -> None:
    asked = run("-e", "test:a { } bench:b { }")
    assert asked == ("", "ERROR: No probes attached; use --test to run test probes.\n", 1)
    asked = run("-e", "bench:b { }")
    assert asked == ("", "ERROR: No probes attached; use --bench to run benchmark probes.\n", 1)
    assert run("-e", 'test:a { @a = 1; } begin { printf("x\\n"); }') == ("x\n\n\n", "Attached 1 probe\n", 0)


@tag("json.test", "cli.test", "cli.bench", "cli.mode")
def test_json(run: Runner) -> None:
    result = run("--test", "-f", "json", "-e", 'test:ok { printf("fine"); } test:bad { printf("x"); return 1; }')
    ok, bad = (json.loads(line) for line in result.stdout.splitlines())
    assert ok["data"]["ok"].pop("duration") > 0
    assert bad["data"]["bad"].pop("duration") > 0
    assert ok == {"type": "test_result", "data": {"ok": {"passed": True, "output": "fine"}}}
    assert bad == {"type": "test_result", "data": {"bad": {"passed": False, "output": "x"}}}
    assert result.status == 1
    result = run("--mode", "bench", "-f", "json", "-e", "bench:loop { @ = count(); }")
    (document,) = (json.loads(line) for line in result.stdout.splitlines())
    loop = document["data"]["loop"]
    assert document["type"] == "benchmark_result"
    assert loop["average"] * loop["iters"] >= 1_000_000
    assert (result.stderr, result.status) == ("", 0)


@tag("mode.test", "cli.bench", "probe.bench")
def test_benchmarks(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "t.bt"
    path.write_text(PROGRAM)
    result = run("--bench", str(path))
    lines = result.stdout.splitlines()
    assert lines[:3] == ["begin", f"{'Benchmark':41}{'Time(ns)':15}Iterations", "-" * 66]
    assert re.fullmatch(r"loop {37}(\d+) +\d+", lines[3])
    assert lines[3][41:56].strip().isdigit()
    assert lines[3][56:].isdigit()
    assert lines[4:] == ["end", "", ""]
    assert (result.stderr, result.status) == ("", 0)
    failed = run("--bench", "-e", 'bench:bad { errorf("no"); }')
    assert (failed.stderr, failed.status) == ("ERROR: Benchmark 'bad' failed.\n", 1)


@tag("cli.test", "cli.bench", "cli.mode")
def test_from_python_too() -> None:
    with pytrace.trace("test:a { } test:b { return 1; }", mode="test") as t:
        results = [o.data for o in t.events() if o.kind == "test_result"]
        assert [r[name]["passed"] for r, name in zip(results, "ab", strict=True)] == [True, False]
        assert t.exit_code == 1


# ---------------------------------------------------------------- options about compiling


@tag("cli.probe-filter", "run.status")
def test_a_filter(run: Runner) -> None:
    text = 'begin { printf("b\\n"); } interval:s:1 { print(1); } interval:ms:1 { exit(); } end { printf("e\\n"); }'
    assert run("--probe-filter", "ms", "-e", text) == ("b\ne\n\n\n", "Attached 3 probes\n", 0)
    assert run("--probe-filter", "nothing", "-e", "interval:s:1 { }") == ("No probes to attach\n", "", 1)
    bad = run("--probe-filter", "(", "-e", text)
    assert bad.stderr.startswith("ERROR: Invalid --probe-filter regex '(': ")
    assert bad.status == 255


@tag("cli.mode", "cli.emit-elf", "cli.emit-llvm", "cli.verify-ir")
def test_only_compiling(run: Runner, tmp_path: Path) -> None:
    text = 'begin { printf("x\\n"); } tracepoint:sched:sched_switch { @ = count(); }'
    base = str(tmp_path / "out")
    done = run("--mode", "codegen", "--verify-llvm-ir", "--emit-elf", f"{base}.o", "--emit-llvm", base, "-e", text)
    assert done == ("", "", 0)
    elf = Path(f"{base}.o").read_bytes()
    assert elf[:4] == b"\x7fELF"
    assert int.from_bytes(elf[18:20], "little") == 247  # EM_BPF
    original, optimized = (Path(f"{base}.{kind}.ll").read_text() for kind in ("original", "optimized"))
    for code in (original, optimized):
        assert "define" in code
        assert "tracepoint_sched_sched_switch" in code
    assert original != optimized
    assert run("--mode", "codegen", "-e", "begin { foo }").status == 1


@tag("cli.emit-elf", "cli.emit-llvm")
def test_the_run_goes_on(run: Runner, tmp_path: Path) -> None:
    file = tmp_path / "x.o"
    assert run("--emit-elf", str(file), "-q", "-e", 'begin { printf("x\\n"); }') == ("x\n\n\n", "", 0)
    assert file.stat().st_size > 1000
    refused = run("--emit-llvm", "/nonexistent/x", "-e", "begin { }")
    told = 'ERROR: Failed to write file: "/nonexistent/x.original.ll": No such file or directory\n'
    assert refused == ("", told, 1)


@tag("cli.mode")
def test_how_long_compiling_takes(run: Runner) -> None:
    result = run("--mode", "compiler-bench", "-e", "begin { @ = 1; }")
    header, dashes, *stages = result.stdout.splitlines()
    assert header.split() == ["Benchmark", "Time(ns)", "Iterations"]
    assert set(dashes) == {"-"}
    assert [line.split()[0] for line in stages] == ["parser", "types", "codegen"]
    assert all(int(line.split()[1]) > 10_000 for line in stages)
    assert (result.stderr, result.status) == ("", 0)


@tag("cli.no-feature")
def test_doing_without_a_feature(run: Runner) -> None:
    """What one link can do takes one for each function, with the same result."""
    links: dict[tuple[str, ...], int] = {}
    for without in ((), ("uprobe_multi",)):
        with pytrace.trace(
            "uprobe:libc:getpg* { if (pid == $1) { @ = count(); } }", (os.getpid(),), without=without
        ) as t:
            for output in t.outputs():
                if output.kind == "attached_probes":
                    links[without] = len(t.tracer._attacher.links)
                    assert t.probe_count > 1
                    for _ in range(3):
                        os.getpgrp()
                    t.stop()
            assert t.maps["@"] == 3
            assert not t.losses
            assert links[without] == (1 if has_multi(UPROBE_MULTI) and not without else t.probe_count)
    text = "uprobe:libc:getpg* { }"
    assert run("--no-feature", "uprobe_multi,kprobe_multi", "--dry-run", "-e", text) == ("", "", 0)
