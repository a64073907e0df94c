"""The names of features are one vocabulary: what diagnostics are called by is in the language reference."""

import ast
import re
from pathlib import Path

import pytest

from tests.conformance.tags import load

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"(?:err|warn|diag)\.[a-z0-9-]+(?:\.[a-z0-9-]+)*")


def codes() -> dict[str, Path]:
    """Every string literal of the compiler that looks like the code of a diagnostic, and a file it is in."""
    found = {}
    for folder in ("grammar", "codegen", "runtime", "pytrace"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                    found[node.value] = path
    return found


@pytest.mark.tag("area.sub.name")
def test_every_code_is_a_feature() -> None:
    known = {feature.tag for feature in load()}
    used = codes()
    assert len(used) > 40
    assert {code: path for code, path in used.items() if code not in known} == {}
