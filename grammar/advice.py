"""What to write instead: hints for names that are not known and for attach points that match nothing.

Each function gives the hints of one message, best first, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytrace.grammar import attachpoint
from pytrace.grammar.attachpoint import AttachPoint
from pytrace.grammar.data import replace
from pytrace.grammar.diagnostics import Diagnostics, did_you_mean
from pytrace.grammar.host import Host
from pytrace.grammar.nodes import Assign, AttachText, Identifier, Let, Node, Variable, walk

FEW = 12  # names that a hint may list
GLUED = "Put a space between the attach point and the '/' of its predicate."


def unknown_word(node: Identifier, words: Iterable[str], arguments: Sequence[str]) -> tuple[str, ...]:
    """For a bare word that means nothing; `arguments` are the names in `args`."""
    if node.name in arguments:
        return (f"Did you mean 'args.{node.name}'?",)
    words = list(words)
    if node.name.lower() in (*words, "true", "false"):
        return (f"Did you mean '{node.name.lower()}'?",)
    if node.name.lower() == "null":
        return ("A null pointer is 0.",)
    if node.name.isupper():
        near = did_you_mean(node.name, words)
        return near or (
            f"If it is a #define of a header: the kernel's type information has none. Include the header, or write "
            f"`#define {node.name} VALUE` at the top of the program.",
        )
    return did_you_mean(node.name, words) or (
        f'Text stands in double quotes: "{node.name}"; a variable is written ${node.name}, a map @{node.name}.',
    )


def unknown_variable(node: Variable, known: Iterable[str], body: Node) -> tuple[str, ...]:
    """For a variable that is not known here: it may have been one of a block that has ended."""
    for other in walk(body):
        target = other.target if isinstance(other, Assign) else other.variable if isinstance(other, Let) else None
        if isinstance(target, Variable) and target.name == node.name and other.span.start < node.span.start:
            return (
                f"{node.shown} belongs to the block in which it is first assigned, and that has ended: "
                f"declare it before the block with `let {node.shown};`.",
            )
    return did_you_mean(node.shown, known)


def unknown_member(name: str, members: Sequence[str]) -> tuple[str, ...]:
    """For a field that a struct does not have."""
    near = did_you_mean(name, members)
    return near or ((f"It has: {', '.join(members)}.",) if 0 < len(members) <= FEW else ())


def unknown_event(name: str, names: Sequence[str]) -> tuple[str, ...]:
    """For one of many long names, of which people remember a part: `openat` of `sys_enter_openat`."""
    return containing(name, names) or did_you_mean(name, names)


def containing(part: str, names: Iterable[str]) -> tuple[str, ...]:
    """The shortest names of which `part` is a part."""
    if len(part) < 4:
        return ()
    found = sorted({name for name in names if part in name}, key=lambda name: (len(name), name))
    return (f"Did you mean {' or '.join(map(repr, found[:3]))}?",) if found else ()


def explain_attach_point(text: AttachText, parameters: Sequence[str], diagnostics: Diagnostics, since: int) -> None:
    """Give the messages since number `since`, which are about an attach point, the hint that goes deeper than theirs.
    A parameter without text is told even if nothing else is wrong."""
    missing = missing_parameters(text, parameters)
    hints = missing or glued_predicate(text)
    if hints:
        diagnostics.items[since:] = [replace(item, hints=hints) for item in diagnostics.items[since:]]
    if missing and len(diagnostics.items) == since:
        numbers = ", ".join(f"${n}" for n in empty_parameters(text, parameters))
        message = f"Positional parameter {numbers} is empty or not provided. "
        diagnostics.warning("warn.param.empty", message, text.span)


def empty_parameters(text: AttachText, parameters: Sequence[str]) -> list[int]:
    """The numbers of the parameters in an attach point that have no text."""
    return [n for n in attachpoint.parameters_in(text.text) if not "".join(parameters[n - 1 : n])]


def missing_parameters(text: AttachText, parameters: Sequence[str]) -> tuple[str, ...]:
    """For an attach point with `$N` for which there is no text."""
    return tuple(
        f"Positional parameter ${n} is empty or not provided: give it behind the program, `pytrace FILE VALUE` or "
        "`pytrace -e '…' VALUE`."
        for n in empty_parameters(text, parameters)[:1]
    )


def glued_predicate(text: AttachText) -> tuple[str, ...]:
    """For `kprobe:f/cond/ {`: behind a `:` a `/` belongs to the name."""
    last = text.text.rpartition(":")[2]
    if last.endswith("/") and last.count("/") > 1 and not last.startswith("/"):
        return (GLUED,)
    return ()


def unknown_probe_type(point: AttachPoint, names: Iterable[str], host: Host) -> tuple[str, ...]:
    """For an attach point whose first part is no type of probe."""
    if len(point.parts) == 2 and host.event(*point.parts):
        return (f"Did you mean 'tracepoint:{':'.join(point.parts)}'?",)
    near = did_you_mean(point.parts[0], names)
    return near or ("`pytrace -l` lists the probes of the kernel, `pytrace -h TYPE` explains a type.",)
