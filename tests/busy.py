"""Keeping the machine busy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SPIN = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"


@contextmanager
def every_cpu_busy() -> Iterator[None]:
    """A process on each CPU that does nothing, as fast as it can."""
    spinners = [
        subprocess.Popen([sys.executable, "-c", SPIN, str(cpu)], stdout=subprocess.PIPE)
        for cpu in sorted(os.sched_getaffinity(0))
    ]
    try:
        for spinner in spinners:
            assert spinner.stdout is not None
            spinner.stdout.readline()  # it has begun
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.communicate()
