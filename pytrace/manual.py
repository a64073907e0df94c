"""The language reference, made from the features' own classes: `python -m pytrace.manual [FILE]`.

The text is the same on every machine. A feature without an example is internal and left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import pytrace.language  # noqa: F401  (features register themselves)
from pytrace.grammar.data import dataclass
from pytrace.grammar.probetype import ProbeType
from pytrace.grammar.spec import (
    REGISTRY,
    Action,
    Aggregation,
    Builtin,
    Feature,
    Function,
    ValueKind,
)

HEAD = """\
# The language: every probe type, builtin, function and aggregation

Made by `make docs` from the classes in `pytrace/language/`, one for each entry; do not edit. Every example
is a program that can be run as it is: `pytrace -e '…'`. In signatures `const` is a literal, `[…]` may be left
out, `…` is any number of arguments. `pytrace --help NAME` shows one entry.
"""

_REST = re.compile(r"\s*(\(reference|[.:]( |$)).*")  # of a first sentence, what is not needed in a list


@dataclass(frozen=True, slots=True)
class Entry:
    """What the manual says of one feature, or of several that share their documentation (`arg0`, `arg1`)."""

    features: tuple[Feature, ...]

    @property
    def title(self) -> str:
        """The heading."""
        names = [f.name for f in self.features]
        return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"

    @property
    def anchor(self) -> str:
        """Where links to the heading go, as GitHub makes it."""
        return re.sub(r"[^\w -]", "", self.title.lower()).replace(" ", "-")

    @property
    def topic(self) -> str:
        """What the module of the feature is about, in a few words."""
        module = sys.modules[type(self.features[0]).__module__]
        return _REST.sub("", (module.__doc__ or "").partition("\n")[0])


@dataclass(frozen=True, slots=True)
class Chapter:
    """One kind of features."""

    title: str
    kind: type[Feature]
    without: tuple[type[Feature], ...] = ()

    def entries(self) -> list[Entry]:
        """The features by their modules, and in a module as they are written there.

        Not as they are registered: that order depends on which module was imported first.
        """
        tables = (REGISTRY.probes, REGISTRY.functions, REGISTRY.kinds)
        known = {id(f): f for table in tables for f in table.values()}.values()
        chosen = (f for f in known if isinstance(f, self.kind) and not isinstance(f, self.without))
        documented = sorted((f for f in chosen if f.examples()), key=lambda f: type(f).__module__)
        return [Entry(tuple(group)) for _, group in groupby(documented, key=lambda f: f.doc())]


CHAPTERS = (
    Chapter("Probe types", ProbeType),
    Chapter("Builtin values", Builtin),
    Chapter("Functions", Function, (Builtin, Aggregation)),
    Chapter("Map aggregations", Aggregation),
    Chapter("Types of values", ValueKind),
)


def manual() -> str:
    """The whole reference, as Markdown."""
    chapters = [(chapter, chapter.entries()) for chapter in CHAPTERS]
    parts = [HEAD, "## Contents\n"]
    parts += [_contents(chapter, entries) for chapter, entries in chapters]
    for chapter, entries in chapters:
        parts.append(f"## {chapter.title}\n")
        parts += [describe(entry) for entry in entries]
    return "\n".join(parts)


def plain(name: str) -> str | None:
    """What the reference says of one feature, for a terminal; None if there is none of that name."""
    for feature in (f for chapter in CHAPTERS for entry in chapter.entries() for f in entry.features):
        if name in (feature.name, *feature.aliases):
            usage = [line.strip().replace("`", "") for line in _usage(feature)]
            notes = " ".join(_notes(feature))
            return "\n\n".join(part for part in (*usage, feature.doc(), notes) if part) + "\n"
    return None


def names() -> list[str]:
    """The names that `plain` knows."""
    return [f.name for chapter in CHAPTERS for entry in chapter.entries() for f in entry.features]


def _contents(chapter: Chapter, entries: Iterable[Entry]) -> str:
    """The links to the entries of a chapter, by topic."""
    lines = [f"* [{chapter.title}](#{chapter.title.lower().replace(' ', '-')})"]
    for topic, group in groupby(entries, key=lambda e: e.topic):
        links = ", ".join(f"[{e.title}](#{e.anchor})" for e in group)
        lines.append(f"  * {topic}: {links}")
    return "\n".join(lines) + "\n"


def describe(entry: Entry) -> str:
    """One entry, as Markdown."""
    feature = entry.features[0]
    lines = [f"### {entry.title}\n", *_usage(feature), *_text(feature.doc())]
    notes = [*_notes(feature)]
    if notes:
        lines.append(f"*{' '.join(notes)}*\n")
    return "\n".join(lines)


def _usage(feature: Feature) -> Iterator[str]:
    """The signature of a function, the short names of a probe type."""
    if isinstance(feature, Function):
        text = feature.signature()
        yield f"`{text.replace('()', '', 1) if feature.bare and not feature.parameters else text}`\n"
    if feature.aliases:
        yield f"Also written {', '.join(f'`{a}`' for a in feature.aliases)}.\n"


def _text(doc: str) -> Iterator[str]:
    """The paragraphs of a docstring, with the examples as programs of their own."""
    for paragraph in doc.split("\n\n"):
        lines = paragraph.split("\n")
        for example, group in groupby(lines, key=lambda line: line.startswith("bt>")):
            if example:
                programs = "\n".join(line.removeprefix("bt>").strip() for line in group)
                yield f"```\n{programs}\n```\n"
            else:
                yield "\n".join(group) + "\n"


def _notes(feature: Feature) -> Iterator[str]:
    """What the class says besides its documentation."""
    if not isinstance(feature, Function):
        return
    if feature.unsafe:
        yield "Only with `--unsafe`."
    if feature.reads_context:
        yield "Not in the body of a `for` loop."
    if isinstance(feature, Action):
        yield "Done by the tracer when the event gets to it."
    if isinstance(feature, Aggregation) and feature.castable:
        yield "Can be read in expressions, as an integer."


def main() -> None:
    """Write the reference to a file, or to standard output."""
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(manual(), encoding="utf-8")
    else:
        sys.stdout.write(manual())


if __name__ == "__main__":
    main()
