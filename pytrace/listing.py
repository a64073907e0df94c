"""`-l`: the probes that exist on this machine, by pattern (reference part 2, section 11)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.host import Host, HostError
from pytrace.grammar.probetype import ProbeType
from pytrace.grammar.spec import Registry
from pytrace.language.probes.common import is_wildcard

TYPES = ("struct", "union", "enum")


class ListingError(ValueError):
    """The search cannot be understood; `hints` may say what was meant."""

    def __init__(self, message: str, hints: tuple[str, ...] = ()) -> None:
        self.hints = hints
        super().__init__(message)


def list_probes(
    search: str,
    host: Host,
    registry: Registry,
    verbose: bool = False,
    pid: int | None = None,
    warn: Callable[[str], None] = lambda message: None,
) -> Iterator[str]:
    """The lines that show the probes matching a search, with their parameters if `verbose`.

    `search` is one pattern or several with commas between them; an empty one means all probes of the kernel.
    `pid` adds the user probes of that process. Where a pattern over several types finds nothing, `warn` hears
    which of them this machine does not have; it also hears, once, why parameters cannot be shown.

    Raises:
        ListingError: there is no such type of probe.
        HostError: the machine does not let us read what is asked for.
    """
    describe = Parameters(host, warn) if verbose else None
    for part in (piece.strip() for piece in search.split(",")):
        problems: list[HostError] = []
        word, _, pattern = part.partition(" ")
        if word in TYPES and pattern:
            yield from _list_types(word, pattern.strip(), host, verbose)
            continue
        lines = list(_list_one(part or "*", host, registry, describe, pid, problems))
        yield from lines
        if not lines:
            for problem in problems:
                warn(str(problem))


class Parameters:
    """The lines that show the parameters of probes. What keeps them from being known goes to `warn`, once."""

    def __init__(self, host: Host, warn: Callable[[str], None]) -> None:
        self._host, self._warn = host, warn
        self._warned: set[str] = set()

    def __call__(self, kind: ProbeType, found: str) -> Iterator[str]:
        """The lines of one attach point (without its type)."""
        try:
            yield from (f"    {line}" for line in kind.describe(found, self._host))
        except HostError as problem:
            if (message := str(problem)) not in self._warned:
                self._warned.add(message)
                self._warn(message)


def _list_types(kind: str, pattern: str, host: Host, verbose: bool) -> Iterator[str]:
    """The types of the kernel that match, or their C definitions, each followed by an empty line."""
    names = filter(matcher(pattern), host.type_names(kind)) if is_wildcard(pattern) else [pattern]
    for name in names:
        text = host.type_definition(kind, name) if verbose or not is_wildcard(pattern) else ""
        if text is not None:
            yield text if verbose else f"{kind} {name}"


def _list_one(
    search: str,
    host: Host,
    registry: Registry,
    describe: Parameters | None,
    pid: int | None,
    problems: list[HostError],
) -> Iterator[str]:
    """The lines for one pattern. What keeps one type of several from being listed goes to `problems`."""
    word, colon, pattern = search.partition(":")
    if not colon:
        word, pattern = "*", word
    for kind in _types(word, pattern, host, registry, pid):
        try:
            names = sorted(kind.search(pattern, host, pid))
            if describe is None:
                yield from [f"{kind.name}:{found}" for found in names]
                continue
            for found in names:
                yield f"{kind.name}:{found}"
                yield from describe(kind, found)
        except HostError as problem:
            if not is_wildcard(word):
                raise
            problems.append(problem)


def _types(word: str, pattern: str, host: Host, registry: Registry, pid: int | None) -> list[ProbeType]:
    """The types of probe that the first part of a search stands for, in alphabetical order."""
    if not is_wildcard(word):
        kind = registry.probe_type(word)
        if kind is None:
            names = sorted({kind.name for kind in registry.probes.values() if kind.arity[1] < 99})
            from pytrace.grammar.diagnostics import did_you_mean

            hints = did_you_mean(word.lower(), registry.probes) or (f"The types are {', '.join(names)}.",)
            raise ListingError(f"Invalid probe type: {word}", hints)
        return [kind]
    wanted = {"kernel"}
    target = pattern.partition(":")[0]
    if pid is not None or ("/" in target and host.binaries(target, pid)):
        wanted.add("user")
    kinds = {kind.name: kind for kind in registry.probes.values() if kind.wild in wanted}
    return [kinds[name] for name in sorted(filter(matcher(word), kinds))]
