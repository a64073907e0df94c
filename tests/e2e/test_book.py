"""The book's programs on workloads whose answer is known; those with kprobes are in test_book_vm.py."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytrace.api import trace
from tests.e2e.conftest import Runner, Start
from tests.e2e.workloads import SLOWDOWN, Bash, build, example, observe, printed, running
from tests.e2e.workloads.blockio import check_biolatency

pytestmark = pytest.mark.root
tag = pytest.mark.tag

X86 = os.uname().machine == "x86_64"
needs_open = pytest.mark.skipif(
    not Path("/sys/kernel/tracing/events/syscalls/sys_enter_open").exists()
    and not Path("/sys/kernel/debug/tracing/events/syscalls/sys_enter_open").exists(),
    reason="no open(2) on this machine",
)

# ---------------------------------------------------------------- opens


@pytest.fixture(scope="module")
def opener(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A static program: it opens what it is told to, and nothing else."""
    return build(tmp_path_factory.mktemp("opener"), "opener", "-O1", "-static")


def names(folder: Path) -> list[str]:
    """Files to open: there, not there, relative, with a blank, as long as str() shows by default."""
    (folder / "there").write_text("")
    short = f"{folder}/"
    return [f"{folder}/there", "/nonexistent/of book", ".", short + "x" * (63 - len(short)), "/" * 9]


@tag("probe.tracepoint", "probe.tracepoint.args", "bi.args", "probe.args", "bi.comm", "fn.str", "fn.printf")
@pytest.mark.parametrize(
    ("call", "argument"),
    [
        ("openat", "args.filename"),
        ("openat", "args->filename"),
        pytest.param("open", "args.filename", marks=needs_open),
        pytest.param("open", "args->filename", marks=needs_open),
    ],
)
def test_opens_one_liner(opener: str, tmp_path: Path, call: str, argument: str) -> None:
    text = f'tracepoint:syscalls:sys_enter_{call} {{ printf("%s %s\\n", comm, str({argument})); }}'
    outputs, _ = observe(text, lambda: subprocess.run([opener, call, *names(tmp_path)], check=True))
    lines = [line for line in printed(outputs) if line.startswith("book_opener ")]
    assert lines == [f"book_opener {name}" for name in names(tmp_path)]


@needs_open
@tag("probe.tracepoint", "prog.probe.list", "cli.file", "cli.c", "fmt.s")
def test_opens(opener: str, tmp_path: Path, run: Runner) -> None:
    files = [name for name in names(tmp_path) if " " not in name]  # -c knows no quotes
    for call in ("open", "openat"):
        result = run("-c", " ".join([opener, call, *files]), "examples/opens.bt", timeout=20 * SLOWDOWN)
        lines = [line for line in result.stdout.splitlines() if line.startswith("book_opener ")]
        assert lines == [f"{'book_opener':16} {name}" for name in files]
        assert (result.stderr, result.status) == ("Attached 2 probes\n", 0)


# ---------------------------------------------------------------- execs, syscount

OPENS = 20_000  # enough to be among the ten busiest of a busy machine


@tag("probe.tracepoint.args", "fn.join", "bi.elapsed", "probe.begin")
def test_execs() -> None:
    commands = [["true", f"{i}", "two words"] for i in range(3)]
    outputs, _ = observe(example("execs.bt"), lambda: [subprocess.run(c, check=True) for c in commands])
    lines = "".join(o.text for o in outputs if o.kind in ("printf", "join")).splitlines()
    assert re.fullmatch(r"MS +PID +ARGUMENTS", lines[0])
    found = [re.fullmatch(r"\d+ +\d+ +(true .*)", line) for line in lines]
    # a program is looked for in every folder of PATH: the last try succeeds
    tries = list(dict.fromkeys(m[1] for m in found if m))
    assert tries == [" ".join(c) for c in commands]


@tag("probe.tracepoint", "probe.interval", "fn.print", "fn.clear", "agg.count")
def test_syscount(opener: str) -> None:
    text = example("syscount.bt").replace("interval:s:5", "interval:ms:300")
    windows = []
    with trace(text) as t:
        for output in t.outputs():
            if output.kind == "attached_probes":
                subprocess.run([opener, "openat", *["."] * OPENS], check=True)
            if output.kind == "map" and output.data:
                windows.append(output.data["@calls"])
                if sum(calls.get("book_opener", 0) for calls in windows) >= OPENS or len(windows) == 20:
                    t.stop()
    assert OPENS < sum(calls.get("book_opener", 0) for calls in windows) < OPENS + 100
    for calls in windows:
        assert len(calls) <= 10
        assert list(calls.values()) == sorted(calls.values())


# ---------------------------------------------------------------- biolatency


@tag("probe.tracepoint.args", "fn.has_key", "fn.delete", "agg.hist", "map.multikey", "bi.nsecs")
def test_biolatency(tmp_path: Path) -> None:
    check_biolatency(tmp_path)


# ---------------------------------------------------------------- bashreadline

LINES = ["echo one", ": two words", ":  'quotes' \"and\" $((1 + 1)) # ~", "#" + "x" * 60, "true"]


@tag("probe.uprobe", "probe.uretprobe", "probe.retval", "bi.retval", "fn.time", "fn.str", "map.delete")
def test_bashreadline() -> None:
    pids = []

    def type_lines() -> None:
        bash = Bash()
        pids.append(bash.pid)
        bash.type(*LINES)
        assert bash.end() == 0

    outputs, _ = observe(example("bashreadline.bt"), type_lines)
    shown = [re.fullmatch(r"\d\d:\d\d:\d\d (\d+) + \d s  (.*)", line) for line in printed(outputs)]
    assert all(shown)
    assert [m[2] for m in shown if m and int(m[1]) == pids[0]] == LINES


@tag("probe.uprobe", "probe.uretprobe", "probe.signals", "probe.lifecycle")
def test_readline_is_entered_and_left_once_for_each_line(start: Start) -> None:
    tracer = start(
        "-e",
        "uprobe:/bin/bash:readline { @asked[pid] = count(); }"
        'uretprobe:/bin/bash:readline { @answered[pid] = count(); printf("%d:%s\\n", pid, str(retval)); }',
    )
    tracer.wait_for("Attached 2 probes", 20 * SLOWDOWN)
    bash = Bash()
    bash.type(*LINES)
    assert bash.end() == 0
    result = tracer.interrupt(20 * SLOWDOWN)
    mine = [line.split(":", 1)[1] for line in result.stdout.splitlines() if line.startswith(f"{bash.pid}:")]
    assert mine == [*LINES, ""]  # Ctrl-D: NULL
    for name in ("asked", "answered"):
        assert f"@{name}[{bash.pid}]: {len(LINES) + 1}\n" in result.stdout


# ---------------------------------------------------------------- usdt

HITS = 8


@pytest.fixture(scope="module", params=["-O0", "-O2"])
def probes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> str:
    """A program with static probes, whose arguments are in memory, in registers and constants."""
    return build(tmp_path_factory.mktemp("probes"), "probes", request.param)


@tag("probe.usdt", "probe.usdt.ns", "probe.usdt.args", "probe.argN", "bi.argN")
def test_usdt_arguments_of_every_size_and_sign(probes: str) -> None:
    text = (
        f"usdt:{probes}:book:sizes {{ @signed[(int64)arg0, (int64)arg2, (int64)arg4, (int64)arg6] = count();"
        " @unsigned[arg1, arg3, arg5, arg7] = count(); }"
        f"usdt:{probes}:book:words {{ @words[str(arg0), arg1, arg2] = count(); }}"
    )
    _, maps = observe(text, lambda: subprocess.run([probes, str(HITS)], check=True))
    numbers = range(HITS)
    assert maps["@signed"] == {(-1 - i, -300 - i, -70000 - i, -5 * 10**9 - i): 1 for i in numbers}
    assert maps["@unsigned"] == {(200 + i, 65000 + i, 4 * 10**9 + i, 0xFEDCBA98 << 32 | i): 1 for i in numbers}
    assert maps["@words"] == {("round", 42, i * i): 1 for i in numbers}


@tag("probe.usdt.ns", "param.pos", "lex.ap.param")
def test_usdt_by_parameters(probes: str) -> None:
    _, maps = observe(example("usdt.bt"), lambda: subprocess.run([probes, "5"], check=True), probes, "book", "sizes")
    assert maps["@hits"] == {"book_probes": 5}
    assert maps["@arg0"].total == 5


def has_python_probes() -> bool:
    """Whether python3 was built with --with-dtrace, as Debian's and Ubuntu's are."""
    notes = subprocess.run(["readelf", "-n", "/usr/bin/python3"], capture_output=True, text=True, check=False)
    return "import__find__load__start" in notes.stdout


@pytest.fixture
def python(tmp_path: Path) -> Callable[[str], str]:
    """`python(code)` is the command, without quotes, that runs code beside two modules."""
    if not has_python_probes():
        assert "debian" not in Path("/etc/os-release").read_text()
        pytest.skip("this python3 has no static probes")
    (tmp_path / "book_outer.py").write_text("import time\ntime.sleep(0.02)\nimport book_inner\n")
    (tmp_path / "book_inner.py").write_text("import time\ntime.sleep(0.01)\n")

    def command(code: str) -> str:
        (tmp_path / "program.py").write_text(code)
        return f"/usr/bin/python3 -S {tmp_path}/program.py"

    return command


IMPORTS = """
import book_outer, book_inner
try:
    import book_missing
except ImportError:
    pass
"""


@tag("probe.usdt", "probe.usdt.ns", "probe.usdt.args", "probe.usdt.semaphore", "probe.argN")
def test_usdt_of_python(python: Callable[[str], str]) -> None:
    command = python(IMPORTS)
    outputs, _ = observe(example("pyimports.bt"), lambda: subprocess.run(command.split(), check=True))
    found = [re.fullmatch(r"(\S+) +(\d+) +(\d+) us  (book_.*)", line) for line in printed(outputs)]
    assert [(m[1], m[4]) for m in found if m] == [
        ("python3", name) for name in ("book_inner", "book_outer", "book_missing (not found)")
    ]
    inner, outer, _ = (int(m[3]) for m in found if m)
    assert inner >= 10_000
    assert outer >= inner + 20_000


@tag("probe.usdt", "probe.cmd", "cli.c", "bi.cpid", "probe.usdt.args")
def test_usdt_of_python_with_signs(python: Callable[[str], str], run: Runner) -> None:
    seven_cycles = "for i in range(7):\n x = []\n x.append(x)\ndel x\n"
    command = python(f"import gc\ngc.collect()\ngc.disable()\n{seven_cycles}gc.collect(1)\ngc.collect(0)\n")
    text = (
        'usdt:/usr/bin/python3:python:gc__start { printf("%d", (int32)arg0); }'
        'usdt:/usr/bin/python3:python:gc__done { printf("=%d ", (int64)arg0); }'
    )
    result = run("-q", "-c", command, "-e", text, timeout=20 * SLOWDOWN)
    assert " 1=7 0=0 " in result.stdout
    assert result.status == 0


# ---------------------------------------------------------------- profile

FRAMES = ["c", "b", "a", "main"]
TICKS = 60  # of CPU time, at 100 a second


@pytest.fixture(scope="module")
def spin(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that spins in main -> a -> b -> c."""
    flags = ("-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-fno-inline")
    return build(tmp_path_factory.mktemp("spin"), "spin", *flags)


def functions(stack: tuple[str, ...]) -> list[str]:
    """The names of a stack's functions."""
    return [re.split(r"[+@ ]", frame)[0] for frame in stack]


def ticks(pid: int) -> int:
    """The CPU time of a process in hundredths of a second (proc_pid_stat(5), utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def use(pid: int) -> Callable[[], None]:
    """Wait until a process has used TICKS of CPU time."""

    def wait() -> None:
        end = ticks(pid) + TICKS
        deadline = time.monotonic() + 20 * SLOWDOWN
        while ticks(pid) < end:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    return wait


def plausible(samples: int, used: int) -> bool:
    """Whether 99 samples a second fit that many ticks of CPU time. A CPU that its hypervisor takes away
    misses some, and an emulated one most; a process that changes between CPUs, whose timers are not in step, can meet
    some more."""
    return used // (5 * SLOWDOWN) <= samples <= used * 1.1 + 2


@tag("probe.profile", "bi.ustack", "bi.kstack", "stack.capture", "type.stack", "sym.resolve", "map.multikey")
def test_profile_of_a_known_call_chain(spin: str) -> None:
    with running(spin, "user") as process:
        before = ticks(process.pid)
        _, maps = observe(example("profile.bt"), use(process.pid))
        used = ticks(process.pid) - before
    mine = {stacks: count for stacks, count in maps["@"].items() if stacks[2] == "book_spin"}
    assert plausible(sum(mine.values()), used)
    users = [functions(user) for _, user, _ in mine]
    assert all(names[:4] == FRAMES for names in users), users


KERNEL_FRAMES = ["vfs_read", "ksys_read", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"]
SAMPLES = re.compile(r"@\[\n((?: {8}.*\n)*), \n((?: {8}.*\n)*), book_spin\]: (\d+)\n")


@pytest.mark.skipif(not X86, reason="the names of x86's system call entry")
@tag("probe.profile", "bi.kstack", "stack.render", "stack.bpftrace", "val.stack", "sym.resolve", "cli.p")
def test_profile_of_the_kernel(spin: str, start: Start) -> None:
    with running(spin, "kernel") as process:
        before = ticks(process.pid)
        tracer = start("-p", str(process.pid), "examples/profile.bt")
        tracer.wait_for("Attached 1 probe", 20 * SLOWDOWN)
        use(process.pid)()
        text = tracer.interrupt(20 * SLOWDOWN).stdout
        used = ticks(process.pid) - before
    counts: dict[bool, int] = {True: 0, False: 0}
    for kernel, user, count in SAMPLES.findall(text):
        assert functions(tuple(user.split()))[:4] == FRAMES
        known = [name for name in functions(tuple(kernel.split())) if name in KERNEL_FRAMES]
        assert known == KERNEL_FRAMES or "vfs_read" not in known
        counts[known == KERNEL_FRAMES] += int(count)
    assert plausible(sum(counts.values()), used)
    assert counts[True] > counts[False]  # it reads a megabyte at a time: nearly all its time is the kernel's


@pytest.mark.skipif(not X86, reason="the names of x86's system call entry")
@tag("bi.kstack", "fn.kstack", "stack.capture", "stack.render", "sym.resolve", "fn.ksym", "val.stack")
def test_kernel_stacks_of_known_calls() -> None:
    text = (
        "tracepoint:sched:sched_process_exec /comm == str($1)/ { @exec[kstack] = count(); }"
        "tracepoint:sched:sched_process_exit /comm == str($1)/ { @exit[kstack, kstack(2)] = count();"
        ' printf("%s", kstack(1)); }'
    )
    outputs, maps = observe(text, lambda: subprocess.run(["true"], check=True), "true")
    ((call, count),) = maps["@exec"].items()
    assert count == 1
    inner = functions(call)
    assert inner[-3:] == ["x64_sys_call", *KERNEL_FRAMES[-2:]] or inner[-2:] == KERNEL_FRAMES[-2:]
    order = [inner.index(name) for name in ("bprm_execve", "__x64_sys_execve", "do_syscall_64")]
    assert order == sorted(order)
    (((whole, two), count),) = maps["@exit"].items()
    assert (count, whole[:2]) == (1, two)
    assert {"do_exit", "do_group_exit", "__x64_sys_exit_group"} <= set(functions(whole))
    assert "".join(o.text for o in outputs if o.kind == "printf") == f"\n        {whole[0]}\n"
