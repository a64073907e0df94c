"""The functions of loaded BPF programs as attach points: `fentry:bpf:PROGRAM`, `fentry:bpf:ID:PROGRAM`."""

from __future__ import annotations

from collections.abc import Iterator

from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.data import dataclass
from pytrace.grammar.host import Host
from pytrace.language.probes.common import Place, compose, is_wildcard, number, similar

WORD = "bpf"


@dataclass(frozen=True, slots=True)
class BpfFunction:
    """A program or subprogram: the id of the program and the function's name in its BTF."""

    program: int
    name: str

    def __str__(self) -> str:
        return f"{WORD}:{self.program}:{self.name}"


def expand(place: Place) -> Iterator[BpfFunction]:
    """The functions that an attach point means; mistakes are reported."""
    wanted, name = _split(place)
    if not name:
        return
    is_function = matcher(name)
    all_functions = [BpfFunction(*pair) for pair in place.host.bpf_functions()]
    found = [f for f in all_functions if is_function(f.name) and wanted in ("*", str(f.program))]
    if found:
        yield from found
    elif is_wildcard(name):
        place.vanished(compose(*place.parts))
    else:
        place.missing(compose(*place.parts), _hints(name, all_functions))


def _split(place: Place) -> tuple[str, str]:
    """The program id, `*` for any, and the function's name, which is empty after an error."""
    *ids, name = place.parts[1:] or ("",)
    wanted = ids[0] if ids else "*"
    if not name:
        message = f"{place.type.name}: the name of a BPF program is required"
        place.error("err.ap.fentry.bpf", message, (f"Give it as {place.type.name}:{WORD}:NAME; -l lists them.",))
        return "", ""
    if wanted == "*":
        return wanted, name
    value = number(wanted)
    if value is None or value < 0:
        message = f"{place.type.name}: the id of a BPF program must be a number or '*', not '{wanted}'"
        place.error("err.ap.fentry.bpf", message)
        return "", ""
    return str(value), name


def _hints(name: str, known: list[BpfFunction]) -> tuple[str, ...]:
    same = [str(f) for f in known if f.name == name]
    if same:
        return (f"Did you mean {' or '.join(map(repr, same[:3]))}?",)
    return similar(name, (f.name for f in known))


def search(pattern: str, host: Host) -> Iterator[str]:
    """The attach points (`bpf:ID:NAME`) that match a listing pattern: `bpf:NAME` or `bpf:ID:NAME`."""
    match = matcher(pattern if pattern.count(":") > 1 else pattern.replace(":", ":*:", 1))
    for pair in host.bpf_functions():
        found = str(BpfFunction(*pair))
        if match(found):
            yield found
