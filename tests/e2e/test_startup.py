"""What a run costs before anything happens: which modules it loads. Times are for tests/bench."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytrace.api import trace

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
# `run` without ending the process, then the modules that are there
SHOW = """
import sys
from pytrace.cli import main
status = main(sys.argv[1:])
print("LOADED", *sorted(sys.modules))
sys.exit(status)
"""
HELLO = 'BEGIN { printf("hello %d\\n", 1); exit(); }'

OURS = {
    "", ".api", ".arguments", ".cli", ".compilation", ".messages", ".native", ".objectcache", ".options", ".printer",
    ".running", ".services", ".session",
    ".grammar", ".grammar.attaching", ".grammar.columns", ".grammar.config", ".grammar.data", ".grammar.hints", ".grammar.layout", ".grammar.plan", ".grammar.source",
    ".grammar.jsontext", ".grammar.lines", ".grammar.output", ".grammar.spec", ".grammar.types",
    ".runtime", ".runtime.attach", ".runtime.attach_multi", ".runtime.attach_perf", ".runtime.bpf_object",
    ".runtime.cpus", ".runtime.facts", ".runtime.libbpf", ".runtime.links", ".runtime.maps", ".runtime.misses",
    ".runtime.mounts", ".runtime.privileges", ".runtime.process", ".runtime.ring", ".runtime.syscalls",
    ".runtime.textfile", ".runtime.tracer",
    ".language", ".language.functions",
}  # fmt: skip
OF_EXIT = {".language.functions.control"}
# heavy ones, or of no use to a program that is compiled already
NEVER = {
    "lark", "llvmlite", "dataclasses", "typing", "inspect", "pathlib", "urllib", "ipaddress", "socket", "threading", "tempfile",
    "logging", "json", "elftools", "clang", "pyroute2", "bcc",
}  # fmt: skip


def loaded(tmp_path: Path, *words: str) -> set[str]:
    """The modules of a run of these words, by a Python that starts without those of site-packages' own hooks."""
    environment = {**os.environ, "PYTRACE_CACHE_DIR": str(tmp_path)}
    # -S: an editable install brings modules of its own; the packages are then given by PYTHONPATH
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *(p for p in sys.path if p.endswith("-packages"))])
    run = subprocess.run(
        [sys.executable, "-S", "-c", SHOW, *words], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.partition("LOADED ")[2].split())


def ours(modules: set[str]) -> set[str]:
    return {name.removeprefix("pytrace") for name in modules if name.partition(".")[0] == "pytrace"}


def test_modules_of_a_cached_run(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    first = loaded(tmp_path, "-e", "BEGIN { exit(); }")
    assert {"lark", "llvmlite"} <= first
    second = loaded(tmp_path, "-e", "BEGIN { exit(); }")
    assert ours(second) == OURS | OF_EXIT
    assert second & NEVER == set()


def test_modules_of_a_cached_run_that_prints(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    loaded(tmp_path, "-e", HELLO)
    modules = loaded(tmp_path, "-e", HELLO)
    more = ours(modules) - OURS - OF_EXIT
    assert ".language.functions.output" in more
    assert more & {".grammar.checker", ".grammar.parser", ".runtime.symbols", ".language.everything"} == set()
    assert modules & NEVER == set()


@pytest.mark.parametrize("words", [("-l", "tracepoint:sched:*"), ("-l", "-v", "tracepoint:sched:sched_switch")])
def test_modules_of_a_listing(tmp_path: Path, words: tuple[str, ...]) -> None:
    modules = loaded(tmp_path, *words)
    assert ours(modules) & {".language.everything", ".language.every_probe", ".grammar.parser", ".codegen"} == set()
    assert modules & NEVER == set()


@pytest.mark.everywhere
@pytest.mark.tag("bi.probe")
def test_one_program_counts_many_tracepoints_by_their_names() -> None:
    text = "tracepoint:syscalls:sys_enter_getp* /pid == $1/ { @[probe] = count(); }"
    with trace(text + " interval:ms:300 { exit(); }", [os.getpid()]) as running:
        programs = [p for p in running.plan.programs if p.section == "tracepoint"]
        assert len(programs) == 1
        cookies = [place.cookie for place in programs[0].attach]  # type: ignore[attr-defined]
        assert cookies == list(range(len(cookies)))
        assert len(cookies) > 3
        for output in running.outputs():
            if output.kind == "attached_probes":
                for _ in range(7):
                    os.getppid()
                os.getpgid(0)
                os.getpriority(os.PRIO_PROCESS, 0)
        counts = running.maps["@"]
    assert counts["tracepoint:syscalls:sys_enter_getppid"] == 7
    assert counts["tracepoint:syscalls:sys_enter_getpgid"] == 1
    assert counts["tracepoint:syscalls:sys_enter_getpriority"] == 1


@pytest.mark.tag("bi.probe")
def test_a_block_that_compares_the_name_has_a_program_for_each() -> None:
    text = 'tracepoint:syscalls:sys_enter_getp* /probe == "tracepoint:syscalls:sys_enter_getpgid" && pid == $1/ { @ = count(); }'
    with trace(text + " interval:ms:200 { exit(); }", [os.getpid()]) as running:
        assert len([p for p in running.plan.programs if p.section == "tracepoint"]) > 3
        for output in running.outputs():
            if output.kind == "attached_probes":
                os.getppid()
                os.getpgid(0)
        assert running.maps["@"] == 1
