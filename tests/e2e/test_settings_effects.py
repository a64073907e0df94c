"""What the settings of the `config` block change, on this kernel (reference part 2, section 12)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytrace.api import trace
from pytrace.compilation import compile_text
from pytrace.grammar.settings import LICENSES
from pytrace.options import Options
from tests.e2e.facts import refused
from tests.e2e.programs import run

pytestmark = pytest.mark.root
tag = pytest.mark.tag

RINGBUF = 27  # BPF_MAP_TYPE_RINGBUF
PAGE = 4096


def rings() -> list[int]:
    """The sizes in bytes of the ring buffers that this process has open."""
    found = []
    for path in Path("/proc/self/fdinfo").iterdir():
        try:
            lines = dict(line.split(":\t") for line in path.read_text().splitlines() if ":\t" in line)
        except (FileNotFoundError, ValueError):
            continue
        if lines.get("map_type") == str(RINGBUF):
            found.append(int(lines["max_entries"]))
    return found


@tag("cfg.max_cat_bytes", "cfg.old")
def test_max_cat_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("0123456789" * 2000)
    text = f'begin {{ cat("{path}"); }}'
    assert run(text).text == path.read_text()[:10240]
    assert run(f"config = {{ max_cat_bytes = 7 }} {text}").text == "0123456"
    assert run(f"config = {{ cat_bytes_max = 3 }} {text}").text == "012"
    assert run(text, environment=(("BPFTRACE_MAX_CAT_BYTES", "15_000"),)).text == path.read_text()[:15000]


@tag("cfg.license")
def test_license() -> None:
    for text in LICENSES:
        head = f'config = {{ license = "{text}" }} '
        assert run(head + "begin { print(nsecs > 0); }").text == "true\n"
        assert text.encode() + b"\0" in compile_text(head + "begin { }").elf
    (message,) = refused('config = { license = "MIT" } begin { }')
    assert message == f"Invalid value for license. Found: MIT. Valid values: {', '.join(LICENSES)}"


@tag("cfg.max_bpf_progs")
def test_max_bpf_progs() -> None:
    text = "begin { } end { } interval:s:1 { }"
    (message,) = refused(f"config = {{ max_bpf_progs = 2 }} {text}")
    assert message.startswith("Your program is trying to generate more than 2 BPF programs, which exceeds the current")
    with trace(f"config = {{ max_bpf_progs = 3 }} {text}"):
        pass


@tag("cfg.on_stack_limit")
def test_on_stack_limit() -> None:
    """A larger object lies in scratch memory, and is the same."""
    text = 'begin { $t = (1, "fourteen bytes"); @[$t] = (int64)6; print(@[$t]); }'
    for limit, scratch in ((8, True), (64, False)):
        whole = f"config = {{ on_stack_limit = {limit} }} {text}"
        assert any(m.symbol == "scratch" for m in compile_text(whole).plan.maps) == scratch
        assert run(whole).text == "6\n"


@tag("cfg.perf_rb_pages", "ev.size")
def test_size_of_the_ring() -> None:
    text = "begin { print(1); }"
    before = rings()
    for pages in (8, 64):
        with trace(f"config = {{ perf_rb_pages = {pages} }} {text}", options=Options(cache=False)):
            assert max(rings()) == pages * PAGE
    assert rings() == before
    available = next(
        int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    if available < 1 << 15:
        pytest.skip("this machine has less than 32 MB to spare, of which the size depends")
    with trace(text):
        assert max(rings()) == 16 << 20


@tag("cfg.use_blazesym", "cfg.show_debug_info", "cfg.lazy_symbolication")
def test_settings_that_change_nothing_that_can_be_seen() -> None:
    head = "config = { use_blazesym = true; show_debug_info = false; lazy_symbolication = false; log_size = 5000 } "
    shown = "print((config.use_blazesym, config.show_debug_info, config.lazy_symbolication, config.log_size));"
    assert run(f"{head} begin {{ {shown} }}").text == "(true, false, false, 5000)\n"
    assert refused("config = { use_blazesym = maybe } begin { }")
    assert refused('config = { log_size = "much" } begin { }') == ["log_size: expecting a number, got much"]
