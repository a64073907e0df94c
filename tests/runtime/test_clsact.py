"""Traffic control as it was before Linux 6.6: filters that outlive their process, and how they are told apart."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pytrace.api import trace
from pytrace.runtime import attach_net, clsact
from pytrace.runtime.clsact import FilterLink, Owner
from tests.e2e.wire import Wire, wire

# ---------------------------------------------------------------- whose a filter is


def test_marks_in_names() -> None:
    assert clsact._read_mark("pytrace:12:345:4026531836:1") == (Owner(12, 345, 4026531836), True)
    assert clsact._read_mark("pytrace:12:345:4026531836:0") == (Owner(12, 345, 4026531836), False)
    for other in ("", "pytrace", "cil_from_netdev-eth0", "pytrace:a:b:c:d", "pytrace:1:2:3:1:5", "other:1:2:3:1"):
        assert clsact._read_mark(other) is None


def test_who_lives() -> None:
    own = clsact._own()
    assert own.pid == os.getpid()
    assert own.lives()
    assert not Owner(own.pid, own.started + 1, own.namespace).lives()  # another process had this number
    assert Owner(own.pid, own.started + 1, 7).lives()  # nobody knows: it is in another PID namespace
    assert not dead().lives()


def dead() -> Owner:
    """A process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return Owner(ended.pid, 1, clsact._own().namespace)


# ---------------------------------------------------------------- on this kernel


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """A wire, on a kernel that says it has no links for traffic control."""

    def refuse(program: int, attach_type: int, rest: bytes, target: int = 0, flags: int = 0) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(attach_net, "bpf_link_create", refuse)
    with wire() as made:
        words = ["dev", made.device, "clsact"]
        made_it = subprocess.run(["tc", "qdisc", "add", *words], check=False, capture_output=True, text=True)
        if "qdisc kind is unknown" in made_it.stderr:
            pytest.skip("this kernel has no clsact (CONFIG_NET_SCH_INGRESS)")
        made_it.check_returncode()
        subprocess.run(["tc", "qdisc", "del", *words], check=True)
        yield made


def attached(line: Wire, program: str) -> list[str]:
    """What tc(8) shows while a program is attached."""
    shown = ""
    with trace(program.replace("DEV", line.device)) as t:
        for output in t.outputs():
            if output.kind == "attached_probes":
                shown = line.filters()
                t.stop()
    return shown.splitlines()


@pytest.mark.root
def test_filters_come_and_go_with_the_qdisc(line: Wire) -> None:
    shown = attached(line, "tc:DEV:ingress { @a = count(); } tc:DEV:* { @b = count(); }")
    assert sum(f"pytrace:{os.getpid()}:" in text for text in shown) == 3
    assert all("direct-action" in text for text in shown if "pytrace:" in text)
    assert line.filters() == ""


@pytest.mark.root
def test_what_others_have_stays(line: Wire) -> None:
    subprocess.run(["tc", "qdisc", "add", "dev", line.device, "clsact"], check=True)
    other = ["dev", line.device, "ingress", "prio", "1", "protocol", "ip", "u32", "match", "u32", "0", "0"]
    subprocess.run(["tc", "filter", "add", *other], check=True)
    before = line.filters()
    shown = attached(line, "tc:DEV:ingress { @ = count(); }")
    assert sum("pytrace:" in text for text in shown) == 1
    assert line.filters() == before
    subprocess.run(["tc", "qdisc", "del", "dev", line.device, "clsact"], check=True)


@pytest.mark.root
@pytest.mark.parametrize("by", ["cleanup", "the next run"])
def test_what_the_dead_left_is_removed(line: Wire, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    owner = dead()
    with monkeypatch.context() as patch:
        patch.setattr(clsact, "_own", lambda: owner)
        patch.setattr(FilterLink, "stop", lambda link: None)  # as if killed
        attached(line, "tc:DEV:egress { @ = count(); }")
    assert line.filters().count(f"pytrace:{owner.pid}:") == 1
    if by == "cleanup":
        removed = [f"filter of process {owner.pid} on {line.device} egress", f"qdisc clsact on {line.device}"]
        assert clsact.clean() == removed
    else:
        shown = attached(line, "tc:DEV:ingress { @ = count(); }")
        assert f"pytrace:{owner.pid}:" not in "".join(shown)
    assert line.filters() == ""
    assert clsact.clean() == []
