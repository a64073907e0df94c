"""Pairs of blocks, at the entry and at the return of the same functions, that one program can serve
(reference [probe.session])."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pytrace.grammar.attaching import Attach
from pytrace.grammar.data import dataclass
from pytrace.grammar.host import Host
from pytrace.grammar.typing import TypedProbe


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The two blocks, and where their program is attached."""

    entry: TypedProbe
    back: TypedProbe
    place: Attach


def pairs(probes: Sequence[TypedProbe], host: Host) -> list[Pair]:
    """The pairs of a program: each of the two blocks must be the only one of its type for these functions."""
    used = Counter((probe.target.type.name, where(text.text)) for probe in probes for text in probe.probe.attach_points)
    blocks = Counter(probe.probe for probe in probes)
    alone = [p for p in probes if blocks[p.probe] == len(p.probe.attach_points) == 1 and used[_key(p)] == 1]
    found = []
    for entry in alone:
        for back in alone:
            if back is not entry and _key(entry)[1] == _key(back)[1]:
                place = entry.target.type.session(entry.targets, back.targets, host)
                if place is not None:
                    found.append(Pair(entry, back, place))
    return found


def where(text: str) -> str:
    """An attach point without its type."""
    return text.partition(":")[2]


def _key(probe: TypedProbe) -> tuple[str, str]:
    return probe.target.type.name, where(probe.probe.attach_points[0].text)
