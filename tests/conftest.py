"""What every test of pytrace shares: the conformance marks, and the conditions `root` and `vm`."""

import os
import sys
from pathlib import Path

import pytest

pytest_plugins = ["tests.conformance.plugin", "pytester"]

# Tests compile what they run, whatever an earlier run left; those of the cache itself name a folder of their own.
os.environ["PYTRACE_CACHE_DIR"] = "/dev/null/nowhere"

# What the compiler sets; hypothesis complains when that happens in the middle of a test.
sys.setrecursionlimit(10_000)


def has_kprobes() -> bool:
    """Whether this kernel was built with CONFIG_KPROBE_EVENTS, which registers the PMU `kprobe`
    (kernel/trace/trace_event_perf.c and kernel/events/core.c, Linux 4.17 and later)."""
    return Path("/sys/bus/event_source/devices/kprobe").exists()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what cannot run here; nothing under tests/vm (PYTRACE_VM is set), whose kernels have it all."""
    if os.environ.get("PYTRACE_VM"):
        return
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root: run `make test`, or `sudo .venv/bin/pytest`")
    if item.get_closest_marker("vm") and not has_kprobes():
        pytest.skip("this kernel has no kprobes: run `make vm`")
