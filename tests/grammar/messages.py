"""Rows of (tags, program, what the compiler says, the piece of the program that it marks)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pytrace.grammar.diagnostics import Diagnostic, Severity
from tests.language.checking import check


@dataclass(frozen=True, slots=True)
class Said:
    """One program with one mistake: `code` is the class of the message, `marks` the text under the tildes.

    A program that is only a body becomes a `begin` probe. `notes` are further places with their texts, `hint` is part
    of a hint.
    """

    code: str
    program: str
    message: str
    marks: str
    notes: tuple[tuple[str, str], ...] = ()
    hint: str = ""
    params: tuple[str, ...] = ()
    tags: str = ""

    @property
    def text(self) -> str:
        """The whole program."""
        first = self.program.split(maxsplit=1)[0] if self.program else ""
        complete = first.partition(":")[0] in ("begin", "tracepoint", "kprobe", "interval", "let", "struct", "enum")
        complete = complete and "{" in self.program and not self.program.startswith("let $")
        return self.program if complete or self.program.startswith("#") else f"begin {{ {self.program} }}"

    def check(self, severity: Severity) -> Diagnostic:
        """Compile the program: this message, and no other of its severity."""
        found = check(self.text, *self.params).diagnostics
        ours = [d for d in found.items if d.severity is severity]
        assert [d.message for d in ours] == [self.message]
        (diagnostic,) = ours
        assert diagnostic.span is not None
        assert (diagnostic.code, diagnostic.span.text) == (self.code, self.marks)
        assert tuple((label.span.text, label.message) for label in diagnostic.labels) == self.notes
        assert self.hint in " ".join(diagnostic.hints)
        return diagnostic


def rows(table: list[Said]) -> pytest.MarkDecorator:
    """Parametrise a test with `said`, each case tagged with its class of message and its own tags."""
    return pytest.mark.parametrize(
        "said",
        [pytest.param(s, id=s.program[:60], marks=pytest.mark.tag(s.code, *s.tags.split())) for s in table],
    )
