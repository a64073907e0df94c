"""Running whole programs on this kernel, in this process, for the tests of the language's run-time rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from pytrace.api import trace
from pytrace.grammar.diagnostics import Diagnostic


@dataclass(frozen=True, slots=True)
class Run:
    """What a program showed: `text` before its maps are printed at the end, `errors` what goes to stderr."""

    text: str
    errors: str
    printed_maps: str
    maps: dict[str, Any]
    warnings: tuple[Diagnostic, ...]

    @property
    def words(self) -> list[str]:
        """The messages of the compiler's warnings."""
        return [w.message for w in self.warnings]


def run(text: str, *params: object, **options: Any) -> Run:
    """Compile, load and run a program to its end; options are those of `pytrace.trace`."""
    parts: dict[str, list[str]] = {"out": [], "err": [], "maps": []}
    where = "out"
    with trace(text, params, **options) as t:
        for output in t.outputs():
            if output.kind == "maps_follow":
                where = "maps"
            parts["err" if output.error else where].append(output.text)
        maps, warnings = t.maps, t.warnings
    out, err, final = ("".join(parts[name]) for name in ("out", "err", "maps"))
    return Run(out, err, final.lstrip("\n"), maps, warnings)


def begin(body: str, *params: object, **options: Any) -> str:
    """The lines that the body of one `begin` probe shows, joined by blanks (no blank at the end)."""
    return " ".join(run(f"begin {{ {body} }}", *params, **options).text.split())


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the language: the features it shows, the body of a `begin` probe, what that shows."""

    tags: str
    body: str
    shows: str
    params: tuple[object, ...] = ()
    head: str = ""  # what stands before the probe

    def run(self) -> str:
        """The lines it shows, joined by blanks."""
        result = run(f"{self.head}\nbegin {{ {self.body} }}", *self.params)
        return " ".join(result.text.split())


def rules(table: Iterable[Rule]) -> pytest.MarkDecorator:
    """Parametrise a test with `rule`, one case for each, tagged with its features."""
    return pytest.mark.parametrize(
        "rule", [pytest.param(r, id=r.body[:60], marks=pytest.mark.tag(*r.tags.split())) for r in table]
    )
