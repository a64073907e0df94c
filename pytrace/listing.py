"""`-l`: the probes that exist on this machine, by pattern (reference part 2, section 11)."""

from __future__ import annotations

from collections.abc import Iterator

from pytrace.grammar.diagnostics import did_you_mean
from pytrace.grammar.host import Host, HostError
from pytrace.grammar.spec import ProbeType, Registry
from pytrace.language.probes.common import is_wildcard, matcher


class ListingError(ValueError):
    """The search cannot be understood; `hints` may say what was meant."""

    def __init__(self, message: str, hints: tuple[str, ...] = ()) -> None:
        self.hints = hints
        super().__init__(message)


def list_probes(
    search: str, host: Host, registry: Registry, verbose: bool = False, pid: int | None = None
) -> Iterator[str]:
    """The lines that show the probes matching a search, with their parameters if `verbose`.

    `search` is one pattern or several with commas between them; an empty one means all probes of the kernel.
    `pid` adds the user probes of that process.

    Raises:
        ListingError: there is no such type of probe.
        HostError: the machine does not let us read what is asked for.
    """
    for part in search.split(","):
        yield from _list_one(part.strip() or "*", host, registry, verbose, pid)


def _list_one(search: str, host: Host, registry: Registry, verbose: bool, pid: int | None) -> Iterator[str]:
    word, colon, pattern = search.partition(":")
    if not colon:
        word, pattern = "*", word
    problems: list[HostError] = []
    listed = False
    for kind in _types(word, pattern, host, registry, pid):
        try:
            for found in sorted(kind.search(pattern, host, pid)):
                listed = True
                yield f"{kind.name}:{found}"
                if verbose:
                    yield from (f"    {line}" for line in kind.describe(found, host))
        except HostError as problem:  # the other types are listed all the same
            problems.append(problem)
    # where a pattern over all types found something, it does not matter that one type is not there
    if problems and not (is_wildcard(word) and listed):
        raise problems[0]


def _types(word: str, pattern: str, host: Host, registry: Registry, pid: int | None) -> list[ProbeType]:
    """The types of probe that the first part of a search stands for, in alphabetical order."""
    if not is_wildcard(word):
        kind = registry.probe_type(word)
        if kind is None:
            raise ListingError(f"Invalid probe type: {word}", did_you_mean(word.lower(), registry.probes))
        return [kind]
    wanted = {"kernel"}
    target = pattern.partition(":")[0]
    if pid is not None or ("/" in target and host.binaries(target, pid)):
        wanted.add("user")
    kinds = {kind.name: kind for kind in registry.probes.values() if kind.wild in wanted}
    return [kinds[name] for name in sorted(filter(matcher(word), kinds))]
