"""Executables made by `--aot`, on this kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pytrace.aot import bundle
from pytrace.options import Options
from tests.e2e.conftest import Runner

pytestmark = [pytest.mark.root, pytest.mark.tag("cli.aot", "aot")]

PROGRAM = """
begin { printf("%d %s %d %d\\n", getopt("n", 3), getopt("s", "abc"), getopt("m", -2), getopt("v")); }
tracepoint:syscalls:sys_enter_getpid* { @calls[comm, kstack(1)] = count(); }
interval:ms:1 { @h = hist(5); @e = (1, "x"); exit(); }
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("aot") / "made"
    command = [sys.executable, "-m", "pytrace", "--aot", str(path), "-e", PROGRAM]
    subprocess.run(command, check=True)
    return path


def call(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(path), *words], capture_output=True, text=True, cwd="/", check=False)


def test_a_run(made: Path) -> None:
    result = call(made)
    assert result.stdout.startswith("3 abc -2 0\n\n\n")
    assert "@e: (1, x)\n" in result.stdout
    assert "[4, 8)" in result.stdout
    assert (result.stderr, result.returncode) == ("Attached 3 probes\n", 0)


@pytest.mark.tag("param.named")
def test_options_of_the_program(made: Path) -> None:
    result = call(made, "-q", "--", "--n=8", "--s=hello world", "--m=5", "--v=yes")
    assert (result.stdout.splitlines()[0], result.stderr) == ("8 hello world 5 1", "")
    wrong = call(made, "--", "--n=x")
    assert (wrong.stderr, wrong.returncode) == (
        "ERROR: program command line option --n invalid integer (value: x)\n", 1,
    )  # fmt: skip


def test_output(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "out"
    assert call(made, "-f", "json", "-o", str(file)).stdout == ""
    kinds = [json.loads(line)["type"] for line in file.read_text().splitlines()]
    assert kinds[:2] == ["attached_probes", "printf"]
    assert "Attached interval:ms:1\n" in call(made, "-v").stderr


def test_it_needs_nothing_but_python_and_libbpf(made: Path) -> None:
    """Without the installed packages; and it loads neither LLVM nor a parser."""
    command = [sys.executable, "-I", "-S", "-X", "importtime", str(made), "-q"]
    result = subprocess.run(command, capture_output=True, text=True, cwd="/", check=True)
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "pytrace.runtime.tracer" in loaded
    heavy = ("lark", "llvmlite", "pytrace.codegen", "pytrace.grammar.lexer", "pytrace.grammar.parser")
    assert [name for name in loaded if name.startswith(heavy)] == []
    assert result.stdout.startswith("3 abc")


@pytest.mark.tag("env.OBJCOPY")
def test_no_objcopy_is_needed(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "made"
    result = run("--aot", str(path), "-e", "begin { exit(); }", env={"BPFTRACE_OBJCOPY": "/no/such"})
    assert result == ("", "", 0)
    assert call(path).returncode == 0


def test_another_kernel_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytrace.aot.kernel_name", lambda: "Linux 1.0")
    path = tmp_path / "made"
    path.write_bytes(bundle("begin { exit(); }", "stdin", Options())[0])
    path.chmod(0o755)
    assert call(path, "-q").stderr == (
        "WARNING: This program was made for Linux 1.0: on other kernels it may show wrong values.\n"
    )
