"""How long the stages of a compilation take: `python -m tests.measure.compile_time [FILE] [--profile]`.

Figures, not a test: they depend on the machine. The least of several runs is shown, in milliseconds of this thread's
CPU time, so that it matters little what else the machine does.
"""

from __future__ import annotations

import cProfile
import gc
import pstats
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from pytrace.codegen import objectfile
from pytrace.compilation import compile_text, live_host
from pytrace.grammar.host import Host
from pytrace.options import Options

PROGRAM = Path(__file__).with_name("overview.bt")
RUNS = 7


def stages(text: str, host: Host) -> dict[str, float]:
    """Milliseconds of each stage of one compilation; `generate` is what of the code is made in Python."""
    spent: dict[str, float] = {}
    last = time.thread_time()

    def lap(stage: str) -> None:
        nonlocal last
        now = time.thread_time()
        spent[stage] = 1000 * (now - last)
        last = now

    def marked(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **more: object) -> object:
            lap("generate")
            return function(*arguments, **more)

        return call

    with patch.object(objectfile, "build", marked(objectfile.build)):
        compile_text(text, options=Options(), host=host, lap=lap)
    spent["LLVM"] = spent.pop("codegen")
    return spent


def main(words: list[str]) -> None:
    """Measure a program, by default the one next to this file."""
    file = next((Path(word) for word in words if not word.startswith("-")), PROGRAM)
    text, host = file.read_text(), live_host(Options())
    gc.disable()  # as for a run of the command line
    compile_text(text, host=host)
    if "--profile" in words:
        with cProfile.Profile() as profile:
            compile_text(text, host=host)
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        return
    runs = []
    for _ in range(RUNS):
        runs.append(stages(text, host))
        gc.collect()
    least = {stage: min(run[stage] for run in runs) for stage in runs[0]}
    print(f"{file.name}: {len(text.splitlines())} lines")
    for stage, spent in least.items():
        print(f"  {stage:<10} {spent:7.1f} ms")
    print(f"  types and generate together {least['types'] + least['generate']:.1f} ms")


if __name__ == "__main__":
    main(sys.argv[1:])
