"""The ways to name static probes, and what they need: semaphores, processes, libraries, odd names."""

from __future__ import annotations

import signal
import struct
import subprocess
from pathlib import Path

import pytest

from pytrace.api import trace
from pytrace.grammar.spec import REGISTRY
from pytrace.listing import list_probes
from pytrace.runtime.host import LiveHost
from tests.e2e.conftest import Start
from tests.e2e.programs import run
from tests.e2e.userland import background, build, program_of, refusal, wait_for

pytestmark = pytest.mark.root
tag = pytest.mark.tag

SOURCE = r"""
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>
#include <unistd.h>
#include <string.h>
unsigned short app_gated_semaphore __attribute__((section(".probes")));
unsigned short app_plain_semaphore __attribute__((section(".probes")));
unsigned short app_twice_semaphore __attribute__((section(".probes")));
unsigned short other_plain_semaphore __attribute__((section(".probes")));
/* what the macros cannot say: names that are no identifiers, an operand relative to the instruction pointer */
#define NOTE(provider, name, arguments) __asm__ volatile( \
    "990: nop\n.pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n.4byte 992f-991f, 994f-993f, 3\n" \
    "991: .asciz \"stapsdt\"\n992: .balign 4\n993: .8byte 990b, 0, 0\n" \
    ".asciz \"" provider "\"\n.asciz \"" name "\"\n.asciz \"" arguments "\"\n994: .balign 4\n.popsection\n")
int hidden_number[2] __attribute__((used)) = {1, -77};
int library_work(int);
static __attribute__((noipa)) int step(int i)
{
    hidden_number[0]++;
    if (app_gated_semaphore)
        DTRACE_PROBE1(app, gated, i);
    DTRACE_PROBE1(app, plain, i);
    DTRACE_PROBE1(other, plain, -i);
    DTRACE_PROBE1(app, twice, 5);
    DTRACE_PROBE1(app, twice, 5);
    NOTE("odd", "\\\"quoted: name\\\"", "");
    NOTE("odd", "relative", "-4@hidden_number+4(%rip)");
    return library_work(i);
}
int main(int argc, char **argv)
{
    do {
        step(3);
        if (argc > 1) usleep(1000);
    } while (argc > 1);
    return 0;
}
"""
LIBRARY = r"""
#include <sys/sdt.h>
int library_work(int i) { DTRACE_PROBE2(libwork, begun, i, "word"); return 0; }
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program, with its library next to it; it is always loaded at the same address."""
    folder = tmp_path_factory.mktemp("usdt")
    library = build(folder, "libusdtwork.so", LIBRARY, "-shared", "-fPIC", "-O1")
    return build(folder, "app", SOURCE, "-O1", "-no-pie", library, "-Wl,--no-as-needed", library)


def semaphore(app: str, pid: int, name: str = "app_gated_semaphore") -> int:
    """The value of a semaphore in the memory of a process; -1 while that has none."""
    found = LiveHost().user_variable(app, name, 0)
    assert found is not None
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(found.address)
            return int(struct.unpack("<H", memory.read(2))[0])
    except OSError:
        return -1


def wait_until_it_works(app: str, *processes: subprocess.Popen[bytes]) -> None:
    """Wait until processes have passed all probes."""
    for process in processes:
        wait_for(lambda process=process: semaphore(app, process.pid, "hidden_number") > 2)  # type: ignore[misc]


# ---------------------------------------------------------------- names


@tag("probe.usdt", "probe.usdt.ns", "probe.wildcard.star")
@pytest.mark.parametrize(
    ("point", "found"),
    [
        ("APP:plain", {("app:plain", 3), ("other:plain", -3)}),
        ("APP::plain", {("app:plain", 3), ("other:plain", -3)}),
        ("APP:other:plain", {("other:plain", -3)}),
        ("APP:o*r:pl*n", {("other:plain", -3)}),
        ("LIB:libwork:begun", {("libwork:begun", 3)}),
        ("LIB:*", {("libwork:begun", 3)}),
        ("APP:odd:relative", {("odd:relative", -77)}),
    ],
)
def test_names(app: str, point: str, found: set[tuple[str, int]]) -> None:
    library = str(Path(app).with_name("libusdtwork.so"))
    path = library if "LIB" in point else app
    text = f"usdt:{point.replace('APP', app).replace('LIB', library)} {{ @[probe, (int32)arg0] = count(); }}"
    maps = run(text, command=app).maps
    assert maps["@"] == {(f"usdt:{path}:{name}", value): 1 for name, value in found}


@tag("probe.usdt", "lex.ap.quote")
def test_a_quoted_name(app: str) -> None:
    maps = run(f'usdt:{app}:"\\"quoted: name\\"" {{ @[probe] = count(); }}', command=app).maps
    assert maps["@"] == {f'usdt:{app}:odd:"quoted: name"': 1}


@tag("probe.usdt.multi-loc", "probe.count", "probe.wildcard.path")
def test_places_with_the_same_arguments_share_a_program(app: str) -> None:
    with trace(f"usdt:{app}:app:twice {{ @[arg0, probe] = count(); }}", command=app) as t:
        assert len(t.plan.programs) == 1
        t.run()
        assert (t.maps["@"], t.probe_count) == ({(5, f"usdt:{app}:app:twice"): 2}, 1)
    folder = str(Path(app).parent)
    text = f"usdt:{folder}/*:*:begun, usdt:{folder}/ap*:odd:rel* {{ @[probe] = count(); }}"
    library = f"{folder}/libusdtwork.so"
    names = {f"usdt:{library}:libwork:begun": 1, f"usdt:{app}:odd:relative": 1}
    assert run(text, command=app).maps["@"] == names


# ---------------------------------------------------------------- processes


@tag("probe.usdt.pid", "probe.usdt.all", "probe.pid")
@pytest.mark.parametrize(
    ("point", "name"),
    [
        ("gated", "app:gated"),
        (":app:plain", "app:plain"),
        (":other:pl*", "other:plain"),
        ("*:libwork:begun", "libwork:begun"),
        ("*:*:begun", "libwork:begun"),
    ],
)
def test_probes_of_a_process(app: str, point: str, name: str) -> None:
    with background(app, "loop") as other, background(app, "loop") as mine:
        wait_until_it_works(app, mine, other)
        maps = run(f"usdt:{point} {{ @[probe, pid] = count(); if (++@n == 5) {{ exit(); }} }}", pid=mine.pid).maps
    file = "libusdtwork.so" if "begun" in point else "app"
    assert list(maps["@"]) == [(f"usdt:{Path(app).with_name(file)}:{name}", mine.pid)]


@tag("probe.usdt.all")
def test_probes_of_all_processes(app: str) -> None:
    with background(app, "loop") as one, background(app, "loop") as two:
        wait_until_it_works(app, one, two)
        text = "usdt:*:app:gated { @[probe, pid] = count(); } usdt:*:libwork:beg* { @l[pid] = count(); }"
        with trace(text + " interval:ms:20 /len(@l) == 2 && len(@) == 2/ { exit(); }") as t:
            t.run()
            assert set(t.maps["@"]) == {(f"usdt:{app}:app:gated", pid) for pid in (one.pid, two.pid)}
            assert set(t.maps["@l"]) == {one.pid, two.pid}


@tag("probe.pid.mntns", "probe.usdt.pid", "probe.usdt.all")
@pytest.mark.parametrize("known", [True, False])
def test_another_mount_namespace(app: str, tmp_path: Path, known: bool) -> None:
    """Found by the process, or among the files of all processes; its file exists only in there."""
    folder = tmp_path / "inside"
    folder.mkdir()
    script = f"mount -t tmpfs none {folder} && cp {app} {folder}/hidden && exec {folder}/hidden loop"
    with background("unshare", "-m", "--propagation", "private", "sh", "-c", script) as process:
        wait_for(lambda: program_of(process.pid) == "hidden")
        name = f"usdt:/proc/{process.pid}/root{folder}/hidden:app:gated"
        if known:
            maps = run(f"usdt:{folder}/hidden:app:gated {{ @[probe] = count(); exit(); }}", pid=process.pid).maps
        else:
            text = f"usdt:*:app:gated /pid == {process.pid}/ {{ @[probe] = count(); exit(); }}"
            maps = run(text).maps
        assert list(maps["@"]) == [name]


# ---------------------------------------------------------------- semaphores


@tag("probe.usdt.semaphore", "cli.usdt-file")
@pytest.mark.parametrize("options", [(), ("--usdt-file-activation",), ("-p",)])
def test_semaphores(app: str, start: Start, options: tuple[str, ...]) -> None:
    """Raised while anybody traces (the kernel counts places, not tracers), in processes that run already and in those
    that come later, and lowered again."""
    text = f"usdt:{app}:app:gated {{ @[pid] = count(); }}"
    with background(app, "loop") as process:
        wait_until_it_works(app, process)
        assert semaphore(app, process.pid) == 0
        more = ("-p", str(process.pid)) if "-p" in options else options
        tracers = [start(*more, "-e", text) for _ in range(2)]
        for tracer in tracers:
            tracer.wait_for("Attached 1 probe")
        assert semaphore(app, process.pid) == 1
        with background(app, "loop") as later:
            wait_until_it_works(app, later)
            passed = semaphore(app, process.pid, "hidden_number")
            wait_for(lambda: semaphore(app, process.pid, "hidden_number") != passed)
            assert semaphore(app, later.pid) == (0 if "-p" in options else 1)
        tracers[0].signal(signal.SIGINT)
        first = tracers[0].finish()
        assert semaphore(app, process.pid) == 1
        second = tracers[1].interrupt()
        wait_for(lambda: semaphore(app, process.pid) == 0)
        assert f"@[{process.pid}]: " in first.stdout
        assert f"@[{process.pid}]: " in second.stdout
        assert (f"@[{later.pid}]: " in second.stdout) == ("-p" not in options)


# ---------------------------------------------------------------- mistakes


@tag("err.ap.nomatch", "err.ap.target", "err.ap.none", "err.ap.arity", "err.builtin.argN")
def test_what_is_wrong(app: str) -> None:
    table = {
        f"usdt:{app}:app:plian": "Did you mean 'plain'",
        f"usdt:{app}:ap:plain": "Did you mean 'app'",
        f"usdt:{app}:zzz:plain": f"The providers of {app}: app, odd, other",
        f"usdt:{app}:app:zzzzzzz": f"pytrace -l 'usdt:{app}:*' lists what there is",
        "usdt:/bin/true:x:y": "/bin/true has no USDT probes.",
        f"usdt:{app}_no:app:plain": "There is no such file",
        "usdt:plain": "usdt probe type requires 2 or 3 arguments, found 1",
    }
    for point, remedy in table.items():
        message = refusal(f"{point} {{ }}")
        assert remedy in message, message
    assert "has no arg1: it has 1 argument" in refusal(f"usdt:{app}:app:plain {{ print(arg1); }}")


@tag("list.target", "list.type")
def test_listing(app: str) -> None:
    start = f"usdt:{app}"
    found = list(list_probes(f"{start}:*", LiveHost(), REGISTRY))
    names = ["app:gated", "app:plain", "app:twice", 'odd:"quoted: name"', "odd:relative", "other:plain"]
    assert found == [f"{start}:{name}" for name in names]
    with background(app, "loop") as process:
        wait_until_it_works(app, process)
        of_process = list(list_probes("usdt:*:libwork:*", LiveHost(), REGISTRY, pid=process.pid))
    assert of_process == [f"usdt:{Path(app).with_name('libusdtwork.so')}:libwork:begun"]


def test_no_probe_is_left_behind(app: str) -> None:
    """A process that has been traced runs on as if nothing had been."""
    with background(app, "loop") as process:
        wait_until_it_works(app, process)
        run(f"usdt:{app}:app:gated {{ exit(); }} uprobe:{app}:step {{ }}", pid=process.pid)
        before = semaphore(app, process.pid, "hidden_number")
        wait_for(lambda: semaphore(app, process.pid, "hidden_number") != before)
        assert process.poll() is None
        assert subprocess.run([app], check=True).returncode == 0
