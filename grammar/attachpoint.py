"""The structure of an attach point's text (reference part 1, section 1.8).

The text is split at `:`; what the parts mean is the business of the probe types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pytrace.grammar.data import dataclass
from pytrace.grammar.hints import TYPE_CHECKING

if TYPE_CHECKING:  # a listing needs neither
    from pytrace.grammar.diagnostics import Diagnostics
    from pytrace.grammar.nodes import AttachText

# Parameters may name each other; their total text must stay sensible even so.
MAX_LENGTH = 64 * 1024

# texts, compiled when they are first needed: a listing needs few of them
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_PARAMETER = r"\$([1-9][0-9]*)"
_PLAIN = r'[^"$:@=]+'
_QUOTED = r'(?s:"((?:\\.|[^"\\])*+)")'
_ESCAPE = r"(?s:\\(.))"


@dataclass(frozen=True, slots=True)
class AttachPoint:
    """`name=part:part:…`: parts without quotes; an unquoted `@` is a part of its own."""

    parts: tuple[str, ...]
    name: str | None = None


class AttachPointError(ValueError):
    """The text is not an attach point; `start`/`end` are the faulty characters of it."""

    def __init__(self, message: str, start: int, end: int, hint: str = "", code: str = "err.syntax.param"):
        super().__init__(message)
        self.message, self.start, self.end, self.hint, self.code = message, start, end, hint, code


def split(text: str, parameters: Sequence[str] = ()) -> AttachPoint:
    """The parts of an attach point; `$N` is replaced by `parameters[N - 1]`, or by nothing.

    The replaced text is read again, so that a parameter may contain `:` and further `$N`.
    Raises `AttachPointError`.
    """
    return _Splitter(text, parameters).split()


def parameters_in(text: str) -> list[int]:
    """The numbers of the parameters that an attach point names, each once."""
    return sorted({int(digits) for digits in re.findall(_PARAMETER, re.sub(_QUOTED, "", text)) if len(digits) < 10})


def split_node(node: AttachText, parameters: Sequence[str], diagnostics: Diagnostics) -> AttachPoint | None:
    """`split` for a node of the tree; an error is reported at its place, and gives None."""
    try:
        return split(node.text, parameters)
    except AttachPointError as error:
        start = node.span.start
        span = node.span.source.span(start + error.start, start + error.end)
        hints = (error.hint,) if error.hint else ()
        diagnostics.error(error.code, error.message, span, hints=hints)
        return None


class _Splitter:
    """One pass over the text, in which parameters are put in as they are met."""

    def __init__(self, text: str, parameters: Sequence[str]) -> None:
        self.original = text
        self.parameters = parameters
        self.text = text
        self.at = 0
        self.parts = [""]
        self.name: str | None = None
        self.quoted = False  # whether the current part has quoted text
        # parameters being read: number, and how much text is left when it has been read
        self.active: list[tuple[int, int]] = []
        self.outermost = 0  # where in the original text the first of them stands

    def split(self) -> AttachPoint:
        self._limit(len(self.text))
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                self._quotes()
            elif char == "$":
                self._parameter()
            elif char in ":@=":
                self.at += 1
                self._separator(char)
            else:
                run = re.compile(_PLAIN).match(self.text, self.at)
                assert run is not None
                self.parts[-1] += run[0]
                self.at = run.end()
        if "\0" in "".join(self.parts):  # neither the kernel nor a file has such a name
            message = "an attach point cannot contain a NUL byte"
            raise AttachPointError(message, 0, len(self.original), code="err.syntax.expected")
        return AttachPoint((*self.parts,), self.name)

    def _separator(self, char: str) -> None:
        first = len(self.parts) == 1 and not self.quoted and self.name is None
        if char == "=" and first and re.fullmatch(_NAME, self.parts[0]):
            self.name, self.parts[0] = self.parts[0], ""
        elif char == "=":
            self.parts[-1] += char
        else:
            self.parts += [""] if char == ":" else ["@", ""]
            self.quoted = False

    def _place(self) -> int:
        """Where we are in the original text; inside a parameter, where its `$N` stands."""
        left = len(self.text) - self.at
        if self.active and left > self.active[0][1]:
            return self.outermost
        return len(self.original) - left

    def _quotes(self) -> None:
        """Text in quotes is taken as it is; `\\x` in it stands for `x`."""
        self.quoted = True
        match = re.compile(_QUOTED).match(self.text, self.at)
        if match is None:
            start, end = self._place(), len(self.original)
            raise AttachPointError("unterminated string", start, end, code="err.syntax.string")
        self.parts[-1] += re.sub(_ESCAPE, r"\1", match[1])
        self.at = match.end()

    def _parameter(self) -> None:
        """Replace `$N` by its text."""
        match = re.compile(_PARAMETER).match(self.text, self.at)
        if match is None:
            place = self._place()
            raise AttachPointError(
                "expected a parameter number from 1 after '$' in the attach point",
                place,
                place + 1,
                "For a literal '$' put the name into double quotes: \"a$b\"",
            )
        number = int(match[1]) if len(match[1]) < 10 else len(self.parameters) + 1
        value = self.parameters[number - 1] if number <= len(self.parameters) else ""
        rest = self.text[match.end() :]
        # one that ends where this one does is still being read, for it may name itself with its last word
        self.active = [(n, left) for n, left in self.active if left <= len(rest)]
        if any(n == number for n, _ in self.active):
            message = f"parameter ${number} contains itself"
            raise AttachPointError(message, self.outermost, self.outermost + 2)
        self._limit(len(value) + len(rest))
        if not self.active:
            self.outermost = self._place()
        self.active.append((number, len(rest)))
        self.text, self.at = value + rest, 0

    def _limit(self, length: int) -> None:
        if length + sum(map(len, self.parts)) > MAX_LENGTH:
            message = f"attach point too long: the limit is {MAX_LENGTH} characters"
            raise AttachPointError(message, 0, len(self.original), code="err.syntax.expected")


def matcher(pattern: str) -> Callable[[str], bool]:
    """A test for names: `*` stands for any run of characters, everything else for itself."""
    if pattern.strip("*") == "" and pattern:
        return lambda name: True
    expression = re.compile(".*".join(map(re.escape, re.split(r"\*+", pattern))), re.DOTALL)
    return lambda name: expression.fullmatch(name) is not None
