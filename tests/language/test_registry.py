"""Where features are: every module of them is found, and a few can be had without the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pytrace.language
from pytrace.grammar.spec import REGISTRY

LANGUAGE = Path(pytrace.language.__file__).parent
LISTS = ("everything.py", "every_probe.py")


def modules_with_features() -> list[str]:
    paths = [path for path in LANGUAGE.rglob("*.py") if "feature(" in path.read_text() or "@feature" in path.read_text()]
    return [".".join(("pytrace.language", *path.relative_to(LANGUAGE).with_suffix("").parts)) for path in paths]


def test_every_module_with_features_is_in_one_of_the_lists() -> None:
    listed = "".join((LANGUAGE / name).read_text() for name in LISTS).splitlines()
    assert len(modules_with_features()) > 30
    assert [name for name in modules_with_features() if f"import {name}" not in listed] == []


def known_after(statement: str) -> set[str]:
    """The features that a fresh interpreter has after a statement, without being asked for others."""
    code = (
        "from pytrace.grammar.spec import REGISTRY; import pytrace.language\n"
        f"{statement}\n"
        "print(*REGISTRY._functions, *REGISTRY._probes, *REGISTRY._kinds)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=LANGUAGE.parents[1])
    return set(run.stdout.split())


@pytest.mark.parametrize("word", sorted(pytrace.language._HOMES))
def test_a_type_of_probe_does_not_need_the_others(word: str) -> None:
    known = known_after(f"assert REGISTRY.probe_type({word!r}).name")
    assert word in known
    assert "profile" not in known


@pytest.mark.parametrize("asked", ["REGISTRY.functions['printf']", "REGISTRY.action('printf')", "REGISTRY.kind('inet')"])
def test_what_is_not_there_yet_is_found(asked: str) -> None:
    known = known_after(f"{asked}")
    assert {"printf", "count", "inet", "strftime"} <= known


def test_what_is_there_brings_nothing_else() -> None:
    known = known_after("import pytrace.language.functions.control; REGISTRY.action('exit')")
    assert known == {"exit", "clear", "zero"}


def test_unknown_types_of_probe() -> None:
    assert REGISTRY.probe_type("nonsense") is None
    assert REGISTRY.probe_type("TracePoint") is REGISTRY.probe_type("t")
