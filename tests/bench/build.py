"""The C programs of the benchmarks: compiled once, and again when their source changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "programs"
FUNCTIONS = 200  # of the program with many
CALLS_EACH = 10  # for each line that it reads
_FRAMES = ("-fno-omit-frame-pointer", "-fno-optimize-sibling-calls")


def _many_functions() -> str:
    functions = "".join(
        f"__attribute__((noinline)) void bench_fn_{i:03}(void) {{ sink += {i}; }}\n" for i in range(FUNCTIONS)
    )
    calls = "".join(f"bench_fn_{i:03}();\n" for i in range(FUNCTIONS))
    return (
        f"#include <stdio.h>\nstatic volatile int sink;\n{functions}"
        "int main(void) { char line[64]; setvbuf(stdin, 0, _IONBF, 0); while (fgets(line, sizeof line, stdin)) {\n"
        f"for (int i = 0; i < {CALLS_EACH}; i++) {{\n{calls}}}\n"
        'puts("called"); fflush(stdout); } return 0; }\n'
    )


def _compile(name: str, source: str, command: list[str], suffix: str = ".c") -> Path:
    digest = hashlib.sha256(f"{source}{command}".encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"pytrace-bench-{os.getuid()}" / digest
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    out = folder / name  # the programs are also known by this name
    if not out.exists():
        text = folder / f"{name}{suffix}"
        text.write_text(source)
        subprocess.run([*command, str(text), "-o", str(out)], check=True)
    return out


def workloads() -> dict[str, Path]:
    """The programs that are traced."""
    compiler = [os.environ.get("CC", "cc"), "-g"]
    return {
        "benchwork": _compile("benchwork", (SOURCES / "benchwork.c").read_text(), [*compiler, "-O2", *_FRAMES]),
        "benchstacks": _compile("benchstacks", (SOURCES / "benchstacks.c").read_text(), [*compiler, "-O1", *_FRAMES]),
        "benchmany": _compile("benchmany", _many_functions(), [*compiler, "-O1"]),
    }


def floor() -> list[str] | None:
    """The command that runs hand-written BPF programs; None without clang or libbpf's headers."""
    if not shutil.which("clang"):
        return None
    compiler = os.environ.get("CC", "cc")
    triple = subprocess.run([compiler, "-dumpmachine"], capture_output=True, text=True, check=True).stdout.strip()
    clang = ["clang", "-O2", "-g", "-target", "bpf", f"-I/usr/include/{triple}", "-c"]
    try:
        programs = _compile("floor-bpf", (SOURCES / "floor.bpf.c").read_text(), clang, ".bpf.c")
        source = (SOURCES / "floor.c").read_text()
        loader = _compile("floor", source, ["sh", "-c", f'{compiler} -O2 "$@" -lbpf', "cc"])
    except subprocess.CalledProcessError:
        return None
    return [str(loader), str(programs)]
