"""The language reference is what the classes say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytrace import manual
from pytrace.cli import main
from pytrace.grammar.spec import REGISTRY

REFERENCE = Path(__file__).parent.parent / "docs" / "language.md"


def test_the_file_is_up_to_date() -> None:
    assert REFERENCE.read_text() == manual.manual(), "run `make docs`"


def test_it_is_the_same_in_every_run() -> None:
    """Whatever the order of sets is."""
    command = [sys.executable, "-m", "pytrace.manual"]
    texts = {
        subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert texts == {REFERENCE.read_bytes()}


def test_every_feature_is_in_it() -> None:
    text = REFERENCE.read_text()
    tables = (REGISTRY.functions, REGISTRY.probes, REGISTRY.kinds)
    for feature in (f for table in tables for f in table.values() if f.examples()):
        first = feature.doc().partition("\n\n")[0]
        assert first in text, feature.name
        assert all(f"```\n{e}\n" in text or f"\n{e}\n" in text for e in feature.examples()), feature.name
    assert "runtime_warning" not in text


def test_links_lead_to_headings() -> None:
    text = REFERENCE.read_text()
    headings = re.findall(r"^##+ (.+)$", text, re.M)
    anchors = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings]
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) == {*anchors} - {"contents"}


def test_an_entry() -> None:
    entry = REFERENCE.read_text().split("### count\n")[1].split("\n### ")[0]
    assert entry.startswith("\n`count()`\n\nCount how often this is reached.\n")
    assert "```\ntracepoint:syscalls:sys_enter_openat { @[comm] = count(); }\n```\n" in entry
    assert entry.endswith("*Can be read in expressions, as an integer.*\n")


def test_what_a_class_says_of_its_use() -> None:
    system, arg, usdt = (manual.plain(name) for name in ("system", "arg7", "U"))
    assert system is not None
    assert "Only with --unsafe. Done by the tracer" in system.replace("`", "")
    assert arg is not None
    assert arg.startswith("arg7\n\n")
    assert "Not in the body of a `for` loop." in arg
    assert usdt is not None
    assert usdt.startswith("Also written U.\n")
    assert manual.plain("runtime_warning") is None


def test_help_of_a_name(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--help", "strlen"]) == 0
    assert capfd.readouterr().out == manual.plain("strlen")
    assert main(["--help", "strln"]) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.startswith("ERROR: USAGE: no help for 'strln'\nHINT: Did you mean 'strlen'")
    assert main(["--help", __file__]) == 0  # a program
    assert capfd.readouterr().out.startswith("USAGE:")
