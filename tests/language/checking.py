"""Checking whole programs on a machine that is made up: their messages and the types in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytrace.language  # noqa: F401  (it tells where the features are)
from pytrace.grammar import analyse
from pytrace.grammar.config import Config
from pytrace.grammar.diagnostics import CompileError, Diagnostics
from pytrace.grammar.host import Host
from pytrace.grammar.source import Source
from pytrace.grammar.spec import REGISTRY, Constant, Context
from pytrace.grammar.types import Type
from pytrace.grammar.typing import TypedProgram
from tests.fakehost import FakeHost


@dataclass(frozen=True, slots=True)
class Checked:
    """A program after type checking; `typed` is None if it has errors."""

    typed: TypedProgram | None
    diagnostics: Diagnostics

    @property
    def errors(self) -> list[str]:
        """The messages of the errors."""
        return [d.message for d in self.diagnostics.errors]

    @property
    def warnings(self) -> list[str]:
        """The messages of the warnings."""
        return [d.message for d in self.diagnostics.warnings]


def check(text: str, *params: str, host: Host | None = None, unsafe: bool = False, **config: Any) -> Checked:
    """Parse and check a program; `config` are settings."""
    diagnostics = Diagnostics()
    context = Context(host or FakeHost(), Config(**config), diagnostics, params, unsafe=unsafe)
    try:
        program = analyse.parse(Source("stdin", text), REGISTRY, diagnostics)
        return Checked(analyse.analyse(program, REGISTRY, context), diagnostics)
    except CompileError:
        return Checked(None, diagnostics)


def errors(body: str, *params: str, **options: Any) -> list[str]:
    """The errors of a `begin` probe with this body."""
    return check(f"begin {{ {body} }}", *params, **options).errors


def value_of(expression: str, *params: str, probe: str = "begin", **options: Any) -> tuple[Type, Constant | None]:
    """The type of an expression, and its value if the compiler knows it."""
    checked = check(f"{probe} {{ _ = {expression}; }}", *params, **options)
    assert checked.typed is not None, checked.errors
    typed = checked.typed.probes[0]
    (statement,) = typed.probe.body.statements
    node = statement.value  # type: ignore[attr-defined]
    return typed.types[node], typed.constants.get(node)
