"""Messages about a program: what is wrong, where, and what to do about it.

A user's mistake is a `Diagnostic`. Passes collect them in `Diagnostics` and go on as far as is
meaningful; `CompileError` carries them out of the compiler. The text form is that of language part 2,
section 13.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from pytrace.grammar.data import dataclass, field
from pytrace.grammar.source import Span


class Severity(Enum):
    """How bad it is; the value is the word that is printed."""

    ERROR = "ERROR"
    WARNING = "WARNING"
    HINT = "HINT"


@dataclass(frozen=True, slots=True)
class Label:
    """A further place that belongs to a message (`left (int64)`, the first declaration, …)."""

    span: Span
    message: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message. `code` is the tag of its class in the language reference (`err.name.var`)."""

    severity: Severity
    code: str
    message: str
    span: Span | None = None
    labels: tuple[Label, ...] = ()
    hints: tuple[str, ...] = ()

    def render(self, color: bool = False) -> str:
        """The message as text, ending with a newline."""
        parts = [_located(self.severity, self.message, self.span, color)]
        parts += [_located(self.severity, label.message, label.span, color) for label in self.labels]
        parts += [f"HINT: {hint}\n" for hint in self.hints]
        call = self.span.via if self.span else None
        while call is not None:
            parts.append(_located(self.severity, "expanded from", call, color))
            call = call.via
        return "".join(parts)


def _located(severity: Severity, message: str, span: Span | None, color: bool) -> str:
    where = f"{span.location()}: " if span else ""
    line = f"{where}{severity.value}: {message}"
    if color:
        line = f"\033[{31 if severity is Severity.ERROR else 33}m{line}\033[0m"
    return f"{line}\n" + (_excerpt(span) if span else "")


def _excerpt(span: Span) -> str:
    """The source line with `~` under the range, or all lines of a longer range."""
    (line, column), (last_line, last_column) = span.first, span.last
    source = span.source
    if line != last_line:
        return "".join(source.line(n).replace("\t", "    ") + "\n" for n in range(line, last_line + 1))
    text = source.line(line)
    # a tab is shown as four columns, so the marker must move with it
    before = len(text[: column - 1].replace("\t", "    "))
    width = max(1, len(text[column - 1 : last_column - 1].replace("\t", "    ")))
    return f"{text.replace(chr(9), '    ')}\n{' ' * before}{'~' * width}\n"


class CompileError(Exception):
    """The program is rejected; `diagnostics` says why."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("".join(d.render() for d in self.diagnostics).rstrip("\n"))


@dataclass(slots=True)
class Diagnostics:
    """The messages collected so far, in the order found; the same message at one place counts once."""

    items: list[Diagnostic] = field(default_factory=list)

    def add(self, diagnostic: Diagnostic) -> None:
        """Take one message, unless the same stands there already."""
        if diagnostic not in self.items:
            self.items.append(diagnostic)

    def error(
        self,
        code: str,
        message: str,
        span: Span | None,
        labels: Iterable[Label] = (),
        hints: Iterable[str] = (),
    ) -> None:
        """Collect an error."""
        self.add(Diagnostic(Severity.ERROR, code, message, span, tuple(labels), tuple(hints)))

    def warning(
        self,
        code: str,
        message: str,
        span: Span | None,
        labels: Iterable[Label] = (),
        hints: Iterable[str] = (),
    ) -> None:
        """Collect a warning."""
        self.add(Diagnostic(Severity.WARNING, code, message, span, tuple(labels), tuple(hints)))

    @property
    def errors(self) -> list[Diagnostic]:
        """The errors, in the order found."""
        return [d for d in self.items if d.severity is Severity.ERROR]

    @property
    def warnings(self) -> list[Diagnostic]:
        """The warnings, in the order found."""
        return [d for d in self.items if d.severity is Severity.WARNING]

    def raise_errors(self) -> None:
        """Raise `CompileError` with all errors, then all warnings, if there is any error."""
        if self.errors:
            raise CompileError(self.errors + self.warnings)


def nearest(name: str, candidates: Iterable[str], most: int = 3) -> list[str]:
    """The known names most like an unknown one, best first."""
    import difflib  # only now: most programs have no mistake

    return difflib.get_close_matches(name, list(candidates), n=most, cutoff=0.6)


def did_you_mean(name: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """The hint that offers the nearest names, or nothing."""
    names = nearest(name, candidates)
    return (f"Did you mean {' or '.join(repr(n) for n in names)}?",) if names else ()
