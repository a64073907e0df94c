"""Compiled code shows the events of this kernel: all of them, in order, to the last."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.e2e.conftest import Runner, Start

pytestmark = pytest.mark.root

EVENTS = 200_000
LINES = 20_000
# More records than it takes to make compiling pay are in the ring before it is first looked at.
BURST = """begin {
  for ($i : 0..20000) {
    if ($i == 10000) { time("now\\n") }
    printf("%d %-6s %x|", $i, "ab", $i);
    print(($i, "x"));
  }
  exit();
}"""


def expected(number: int, form: str) -> str:
    """The two lines of one turn of `BURST`."""
    line = f"{number} ab     {number:x}|"
    if form == "text":
        return f"{line}({number}, x)\n"
    return f'{{"type": "printf", "data": "{line}"}}\n{{"type": "value", "data": [{number},"x"]}}\n'


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.tag("fn.printf", "fn.print", "json.printf", "json.value", "ev.ring")
def test_a_burst_is_shown_by_compiled_code(run: Runner, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "cache"
    shown = "".join(expected(n, form) for n in range(LINES))
    middle = len("".join(expected(n, form) for n in range(LINES // 2)))
    now = "now\n" if form == "text" else '{"type": "time", "data": "now\\n"}\n'
    for _ in range(2):  # compiled, then kept
        result = run("-q", "-f", form, "-e", BURST, env={"PYTRACE_CACHE_DIR": str(folder)})
        assert result.status == 0
        assert result.stdout.rstrip("\n") == (shown[:middle] + now + shown[middle:]).rstrip("\n")
        # the program, and the machine code that was worth making
        assert len(list(folder.iterdir())) == 2


@pytest.mark.tag("ev.loss", "ev.ring")
def test_every_event_before_an_interrupt_is_shown_or_counted(start: Start) -> None:
    mine = f"tracepoint:syscalls:sys_enter_getppid /pid == {os.getpid()}/"
    running = start("-e", f'{mine} {{ printf("%d %s %llu\\n", pid, comm, nsecs); }}')
    running.wait_for("Attached 1 probe")
    for _ in range(EVENTS):
        os.getppid()
    result = running.interrupt()
    lines = result.stdout.rstrip("\n").split("\n")
    lost = sum(map(int, re.findall(r"^Lost (\d+) events$", result.stderr, re.MULTILINE)))
    assert len(lines) + lost == EVENTS
    assert all(re.fullmatch(rf"{os.getpid()} \S.* \d+", line) for line in lines)
    times = [int(line.rsplit(" ", 1)[1]) for line in lines]
    assert len(set(times)) > EVENTS / 100  # no line came twice
