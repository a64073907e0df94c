"""Stacks of programs without frame pointers, compared with what libgcc's unwinder sees in the process itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytrace.api import trace
from tests.e2e.conftest import Runner
from tests.e2e.programs import run
from tests.e2e.workloads import HERE, SLOWDOWN, running

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="unwind tables are for x86-64"),
    pytest.mark.skipif(not shutil.which("g++"), reason="there is no compiler"),
]
tag = pytest.mark.tag

ENABLED = "config = { unstable_dw_ustack = enable }\n"
LIBRARY = "long relay(long (*end)(long), long n) { char room[300]; room[n] = n; return end(n) + *(volatile char *)(room + n); }"
FAILURE = "<unwind failure>"


def compiled(folder: Path, *flags: str) -> str:
    """The workload, with its library next to it."""
    path = str(folder / "pytrace_stacks")
    (folder / "relay.c").write_text(LIBRARY)
    subprocess.run(["gcc", "-w", *flags, "-o", path, HERE / "stacks.c"], check=True)
    subprocess.run(
        ["gcc", "-O2", "-shared", "-fPIC", "-fomit-frame-pointer", "-o", f"{path}.so", folder / "relay.c"], check=True
    )
    return path


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled(tmp_path_factory.mktemp("stacks"), "-O2", "-fomit-frame-pointer")


@pytest.fixture(scope="module")
def with_pointers(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled(tmp_path_factory.mktemp("pointers"), "-O2", "-fno-omit-frame-pointer")


@pytest.fixture(scope="module")
def unwinding(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("unwinding") / "pytrace_unwinding")
    subprocess.run(["g++", "-O2", "-fomit-frame-pointer", "-o", path, HERE / "unwinding.cc"], check=True)
    return path


def stacks(text: str) -> list[list[str]]:
    """The stacks that were printed with `%s`, as lists of lines."""
    return [[line.strip() for line in part.strip().split("\n")] for part in text.split("|\n")[:-1]]


def functions(stack: list[str]) -> list[str]:
    """The names of a stack's functions, without the offsets."""
    return [frame.partition("+")[0] for frame in stack]


def written(path: Path) -> list[list[str]]:
    """The stacks that the workload has written down itself."""
    return [line.split() for line in path.read_text().splitlines()]


def shown(program: str, count: int, command: str) -> list[list[str]]:
    """The first `count` stacks that a program prints about a command, which is ended then and not before."""
    found: list[list[str]] = []
    with trace(ENABLED + program, command=command) as t:
        assert t.warnings == ()
        for output in t.events():
            assert not output.error, output.text
            found += stacks(output.text)
            if len(found) == count:
                wait_for(Path(command.split()[-1]), command)
                return found
    raise AssertionError(f"only {len(found)} stacks")


def wait_for(path: Path, command: str) -> None:
    """Wait until the workload has written down what it has to."""
    deadline = time.monotonic() + 10 * SLOWDOWN
    while "quiet" not in command and not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---------------------------------------------------------------- against the process's own unwinder

CHAINS = {
    "calls": ["leaf", "third", "second", "first", "main"],
    "aligned": ["leaf", "third", "second", "first", "aligned", "main"],
    "sorted": ["leaf", "third", "second", "first", "compare", "sorted", "main"],
    "deep": ["leaf", *["deep"] * 61, "main"],
    "signal": ["leaf", "third", "second", "first", "on_fault", "faulty", "fault", "main"],
    "other_stack": ["leaf", "third", "second", "first", "on_fault", "faulty", "fault", "main"],
    "thread": ["leaf", "third", "second", "first", "thread"],
}


@pytest.mark.parametrize("mode", CHAINS)
@tag("fn.dw_ustack", "stack.dwarf")
def test_the_whole_chain(app: str, mode: str, tmp_path: Path) -> None:
    """Every frame, down to the first one of the process or thread."""
    path, own = tmp_path / "out", [*CHAINS[mode], "_start"]
    program = f'uprobe:{app}:leaf {{ printf("%s|\\n%s|\\n", dw_ustack, dw_ustack(raw)); }}'
    named, raw = shown(program, 2, f"{app} {mode} {path}")
    assert [name for name in functions(named) if name in own] == (own[:-1] if mode == "thread" else own)
    (truth,) = written(path)
    assert raw[1:] == truth
    assert len(raw) == len(named)


@pytest.mark.parametrize("flags", ["-no-pie", "-static -no-pie", "-static-pie", "-Wl,-z,noseparate-code", "-O0"])
@tag("stack.dwarf")
def test_ways_to_build_it(flags: str, tmp_path: Path) -> None:
    """Where its segments lie, in the file and in memory, differs."""
    built, path = compiled(tmp_path, "-O2", "-fomit-frame-pointer", *flags.split()), tmp_path / "out"
    (raw,) = shown(f'uprobe:{built}:leaf {{ printf("%s|\\n", dw_ustack(raw)); }}', 1, f"{built} sorted {path}")
    (truth,) = written(path)
    assert raw[1:] == truth


@tag("fn.dw_ustack")
def test_frame_pointers_do_not_lead_there(app: str, tmp_path: Path) -> None:
    """Otherwise the test above would show nothing."""
    program = f'uprobe:{app}:leaf {{ printf("%s|\\n", ustack); }}'
    (named,) = shown(program, 1, f"{app} calls {tmp_path / 'out'}")
    assert "main" not in functions(named)


@tag("fn.dw_ustack")
def test_exceptions(unwinding: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    program = f'uprobe:{unwinding}:*leaf* {{ printf("%s|\\n%s|\\n", dw_ustack, dw_ustack(raw)); }}'
    found = shown(program, 4, f"{unwinding} {path}")
    own = ["witness(long)", "catcher(long)", "main", "_start"]
    names = [[name.removesuffix(" [clone .cold]") for name in functions(stack)] for stack in found[::2]]
    assert [[name for name in stack if name in own] for stack in names] == [own, own[1:]]
    assert [stack[1:] for stack in found[1::2]] == written(path)


@tag("fn.dw_ustack")
def test_a_big_program(tmp_path: Path) -> None:
    """Python itself, with libraries that it loads while it runs, calls the C library's own unwinder."""
    code, path, go = tmp_path / "child.py", tmp_path / "out", tmp_path / "go"
    code.write_text(
        "import ctypes, functools, os, time\n"
        "lib, frames = ctypes.CDLL(None), (ctypes.c_void_p * 200)()\n"
        "lib.backtrace(frames, 1)  # which loads libgcc\n"
        "os.write(1, b'.')\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        "def look(*_): return lib.backtrace(frames, 200)\n"
        "count = functools.reduce(lambda a, b: max(map(look, [1])), [1, 2])\n"
        f"open({str(path)!r}, 'w').write(' '.join(f'{{f:x}}' for f in frames[:count]))\n"
    )
    program = f'{ENABLED}uprobe:libc:backtrace {{ printf("%s|\\n", dw_ustack(raw)); }}'
    found = []
    with running(os.path.realpath(sys.executable), str(code)) as process, trace(program, pid=process.pid) as t:
        for output in t.outputs():
            assert not output.error
            if output.kind == "attached_probes":
                go.touch()
            if output.kind == "printf":
                found += stacks(output.text)
    (truth,) = written(path)
    assert [stack[1:] for stack in found] == [truth]
    assert len(truth) > 10


@tag("fn.dw_ustack")
def test_the_same_as_frame_pointers(with_pointers: str, tmp_path: Path) -> None:
    """Where there are frame pointers: the program's own functions, and the one that has called main()."""
    program = f'usdt:{with_pointers}:stacks:quiet {{ printf("%s|\\n%s|\\n", dw_ustack, ustack); }}'
    unwound, followed = shown(program, 2, f"{with_pointers} quiet {tmp_path / 'out'}")
    own = functions(unwound).index("main") + 2
    assert functions(unwound)[: own - 1] == ["quiet", "third", "second", "first", "main"]
    assert followed[:own] == unwound[:own]


# ---------------------------------------------------------------- in every kind of probe


@pytest.mark.parametrize(
    "probe",
    [
        "usdt:{app}:stacks:quiet",
        "tracepoint:syscalls:sys_enter_getsid",
        "rawtracepoint:sys_enter",
        "uretprobe:{app}:quiet",
    ],
)
@tag("fn.dw_ustack", "stack.dwarf")
def test_probes(app: str, probe: str, tmp_path: Path) -> None:
    """With the registers of the probe, and with those that the process entered the kernel with."""
    probe = probe.format(app=app)
    filtered = "if (pid != cpid || args.id != 124) { return; }" if probe.startswith("raw") else ""
    program = f'{probe} {{ {filtered} if (pid == cpid) {{ printf("%s|\\n", dw_ustack); }} }}'
    (stack,) = shown(program, 1, f"{app} quiet {tmp_path / 'out'}")
    own = ["quiet", "third", "second", "first", "main", "_start"]
    if probe.startswith("uretprobe"):
        del own[0]
    assert [name for name in functions(stack) if name in own] == own


@tag("fn.dw_ustack")
def test_the_first_instruction(app: str, tmp_path: Path) -> None:
    """Where pytrace would have put a breakpoint of its own, to see the libraries when they are mapped."""
    program = f"""uprobe:{app}:_start {{ printf("%s|\\n", dw_ustack); }}
        uprobe:{app}:leaf {{ printf("%s|\\n", dw_ustack(4)); }}"""
    found = shown(program, 2, f"{app} calls {tmp_path / 'out'}")
    assert [functions(stack) for stack in found] == [["_start"], CHAINS["calls"][:4]]


@tag("fn.dw_ustack")
def test_return_probes_on_the_way(app: str, tmp_path: Path) -> None:
    """They replace return addresses on the stack; what is shown is where the functions will return to."""
    quiet = f"uretprobe:{app}:second, uretprobe:{app}:first, uretprobe:{app}:third {{ @ = 1; }} uretprobe:{app}:second {{ @ = 2; }}"
    program = f'uprobe:{app}:leaf {{ printf("%s|\\n", dw_ustack(raw)); }}'
    path = tmp_path / "out"
    (found,) = shown(f"{program} {quiet}", 1, f"{app} calls {path}")
    (without,) = shown(program, 1, f"{app} calls {path}")
    assert [int(a, 16) & 0xFFF for a in found] == [int(a, 16) & 0xFFF for a in without]
    assert len(found) == len(without)
    assert FAILURE not in found


@tag("fn.dw_ustack")
def test_samples(app: str, tmp_path: Path) -> None:
    """Wherever a sample finds the program, in the kernel's own shared object too, its stack is whole."""
    program = f"{ENABLED}profile:hz:499 {{ @[dw_ustack] = count(); @n += 1; if (@n == 60) {{ exit(); }} }}"
    maps = run(program, command=f"{app} spin {tmp_path / 'out'}").maps["@"]
    found = [functions(list(key)) for key in maps]
    spinning = [stack for stack in found if "spin" in stack]
    own = ["spin", "third", "second", "first", "main", "_start"]
    assert spinning
    for stack in spinning:
        assert [name for name in stack if name in own] == own


@pytest.mark.vm
@tag("fn.dw_ustack")
def test_kernel_functions(app: str, tmp_path: Path) -> None:
    """And the other kinds again, because kernels differ in what they accept of a program."""
    places = ["kprobe:__x64_sys_getsid", "kretprobe:__x64_sys_getsid", "fentry:__x64_sys_getsid", f"usdt:{app}:stacks:quiet",
              "tracepoint:syscalls:sys_enter_getsid"]  # fmt: skip
    program = "".join(f'{place} /pid == cpid/ {{ printf("%s|\\n", dw_ustack); }}\n' for place in places)
    found = shown(program, len(places), f"{app} quiet {tmp_path / 'out'}")
    own = ["quiet", "third", "second", "first", "main", "_start"]
    assert [[name for name in functions(stack) if name in own] for stack in found] == [own] * len(places)
    samples = run(
        f"{ENABLED}profile:hz:99 {{ @[dw_ustack] = count(); @n += 1; if (@n == 10) {{ exit(); }} }}",
        command=f"{app} spin {tmp_path / 'out'}",
    )
    own[0] = "spin"
    spinning = [functions(list(key)) for key in samples.maps["@"]]
    assert own in [[name for name in stack if name in own] for stack in spinning]


# ---------------------------------------------------------------- which processes


@contextmanager
def waiting(app: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The workload in the mode that loads a library and then calls leaf() through it for ever."""
    with subprocess.Popen([app, "loaded", str(folder / "out"), f"{app}.so"]) as process:
        try:
            deadline = time.monotonic() + 10 * SLOWDOWN
            while not (folder / "out").exists() or not (folder / "out").read_text():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


RELAYED = ["leaf", "relay", "loaded", "main", "_start"]


@pytest.mark.parametrize("option", ["-p", "--dwarf-pid"])
@tag("cli.dwarf-pid", "fn.dw_ustack")
def test_processes_that_run_already(app: str, option: str, tmp_path: Path, run: Runner) -> None:
    program = f'{ENABLED}uprobe:{app}:leaf /pid == $1/ {{ printf("%s|\\n", dw_ustack); exit(); }}'
    with waiting(app, tmp_path) as process:
        result = run("-q", option, str(process.pid), "-e", program, str(process.pid))
    assert result.stderr == ""
    (stack,) = stacks(result.stdout)
    assert [name for name in functions(stack) if name in RELAYED] == RELAYED


@tag("stack.dwarf")
def test_libraries_that_are_loaded_later(app: str, tmp_path: Path) -> None:
    """At first they are unknown, and the stack says so; then they have been noticed."""
    program = f'{ENABLED}uprobe:{app}:leaf {{ printf("%s|\\n", dw_ustack); }}'
    seen, deadline = [], time.monotonic() + 20 * SLOWDOWN
    with trace(program, command=f"{app} loaded {tmp_path / 'out'} {app}.so") as t:
        for output in t.events():
            (stack,) = stacks(output.text)
            seen.append([name for name in functions(stack) if name in RELAYED])
            if seen[-1] == RELAYED or time.monotonic() > deadline:
                t.stop()
                break
    assert seen[0] == ["leaf", "relay"]
    assert seen[-1] == RELAYED


@tag("stack.dwarf")
def test_a_program_that_executes_another(app: str, tmp_path: Path) -> None:
    """The tables of the first one are of no use then."""
    script, built = tmp_path / "script", compiled(tmp_path, "-O2", "-fomit-frame-pointer", "-no-pie")
    script.write_text(f"#!/bin/sh\nexec {built} loaded {tmp_path / 'out'} {app}.so\n")
    script.chmod(0o755)
    program = f'{ENABLED}uprobe:{built}:leaf {{ printf("%s|\\n", dw_ustack); }}'
    deadline = time.monotonic() + 20 * SLOWDOWN
    with trace(program, command=str(script)) as t:
        for output in t.events():
            (stack,) = stacks(output.text)
            if [name for name in functions(stack) if name in RELAYED] == RELAYED:
                return
            assert FAILURE in stack
            assert time.monotonic() < deadline


@tag("stack.dwarf")
def test_an_unknown_place_ends_the_stack(app: str, tmp_path: Path, run: Runner) -> None:
    program = f"{ENABLED}uprobe:{app}:leaf {{ print(dw_ustack); exit(); }}"
    result = run("-q", "-e", program, "-c", f"{app} loaded {tmp_path / 'out'} {app}.so")
    assert re.fullmatch(r"\n        leaf\+0\n        \S+\n        <unwind failure>\n\n+", result.stdout)


@tag("stack.dwarf", "fn.dw_ustack")
def test_other_processes_have_no_tables(app: str, tmp_path: Path, run: Runner) -> None:
    program = f"{ENABLED}uprobe:{app}:leaf /pid == $1/ {{ @[dw_ustack] = count(); exit(); }}"
    with waiting(app, tmp_path) as process:
        result = run("-q", "--dwarf-pid", str(os.getpid()), "-e", program, str(process.pid))
    message = "No DWARF unwind data available for this process. Use -p or --dwarf-pid to specify target PIDs."
    assert f"WARNING: {message}" in result.stderr
    assert result.stdout.strip() == "@[\n]: 1"


# ---------------------------------------------------------------- form, limits, messages


@tag("fn.dw_ustack")
def test_modes_and_limits(app: str, tmp_path: Path) -> None:
    command = f"{app} calls {tmp_path / 'out'}"
    one, three = shown(f'uprobe:{app}:leaf {{ printf("%s|\\n%s|\\n", dw_ustack(1), dw_ustack(3)); }}', 2, command)
    assert [functions(one), functions(three)] == [["leaf"], ["leaf", "third", "second"]]
    text = run(f"{ENABLED}uprobe:{app}:leaf {{ print(dw_ustack(perf, 2)); exit(); }}", command=command).text
    assert re.fullmatch(rf"\n\t[0-9a-f]+ leaf\+0 \({app}\)\n\t[0-9a-f]+ third\+\d+ \({app}\)\n\n", text)


@tag("fn.dw_ustack", "stack.dwarf")
def test_no_target(run: Runner) -> None:
    result = run("-e", f"{ENABLED}profile:hz:99 {{ @[dw_ustack] = count(); }}")
    message = "ERROR: dw_ustack requires a target process. Use -p, -c, or --dwarf-pid to specify one.\n"
    assert (result.status, result.stderr) == (255, message)


@tag("cli.dwarf-pid")
def test_no_such_process(run: Runner) -> None:
    program = f"{ENABLED}profile:hz:99 {{ @[dw_ustack] = count(); }}"
    result = run("--dwarf-pid", "4194304", "-e", program)
    assert result.status == 1
    assert "ERROR: Failed to read the mappings of process 4194304: there is no such process\n" in result.stderr


@tag("cfg.unstable", "warn.feature.unstable")
def test_it_is_unstable(app: str, tmp_path: Path, run: Runner) -> None:
    program = f"uprobe:{app}:leaf {{ @[dw_ustack] = count(); @b[dw_ustack(3)] = count(); exit(); }}"
    result = run("-q", "-e", program, "-c", f"{app} calls {tmp_path / 'out'}")
    assert result.stderr == (
        "WARNING: Script is using an unstable feature: dw_ustack. To prevent this warning you must explicitly enable "
        "it in the config e.g. unstable_dw_ustack=enable\n"
    )
    refused = run("-e", f"config = {{ unstable_dw_ustack = error }} {program}", "-c", "/bin/true")
    assert refused.status == 1
    assert (
        "ERROR: dw_ustack feature is not enabled by default. To enable this unstable feature, set the config flag to "
        "enable. unstable_dw_ustack=enable\n"
    ) in refused.stderr
