"""When the records of a run become lines by compiled code: as soon as there are enough of them to earn it."""

from __future__ import annotations

from pytrace.grammar.hints import TYPE_CHECKING
from pytrace.grammar.lines import HostCode, Literal, Piece
from pytrace.grammar.plan import Plan
from pytrace.grammar.spec import Registry
from pytrace.printer import around

if TYPE_CHECKING:
    from pytrace.objectcache import ObjectCache

# Bytes of records that have come since the start, or wait, from which on the machine code of an earlier run is worth
# a look; and from which on it is worth compiling (30 ms, 100 ms if LLVM is not loaded yet: what 20,000 records
# cost in Python).
KNOWN_PAYS, COMPILING_PAYS = 4 << 10, 256 << 10


def lines_of(plan: Plan, registry: Registry, form: str) -> dict[int, tuple[Piece, ...]]:
    """What the actions of a plan show in a form (`text` or `json`), by number, of those that compiled code can do."""
    found: dict[int, tuple[Piece, ...]] = {}
    for action in plan.actions:
        line = registry.action(action.feature).line(action, plan.config)
        if line is None:
            continue
        if form == "text":
            found[action.number] = line.text
        elif line.data is not None:
            before, behind = around(line.kind)
            found[action.number] = (Literal(before.encode()), *line.data, Literal(behind.encode()))
    return found


class Accelerator:
    """The machine code for one run, made when it pays, or never."""

    def __init__(self, plan: Plan, registry: Registry, form: str, cache: ObjectCache | None) -> None:
        self._plan, self._registry, self._form, self._cache = plan, registry, form, cache
        self._lines: dict[int, tuple[Piece, ...]] | None = None
        self._asked = False  # whether the cache knows it
        self.over = False  # there is nothing more to try

    def code(self, gathered: int) -> HostCode | None:
        """The machine code, if there is some or it pays to make it after so many bytes of records."""
        if self.over or gathered < KNOWN_PAYS:
            return None
        if self._lines is None:
            self._lines = lines_of(self._plan, self._registry, self._form)
        if not self._lines:
            self.over = True
            return None
        if not self._asked and self._cache is not None:
            self._asked = True
            known = self._cache.host_code(self._lines)
            if known is not None:
                self.over = True
                return known
        if gathered < COMPILING_PAYS:
            return None
        self.over = True
        return self._compiled(self._lines)

    def _compiled(self, lines: dict[int, tuple[Piece, ...]]) -> HostCode | None:
        from pytrace.codegen.hostreader import NoHostCodeError, build

        try:
            made = build(lines)
        except NoHostCodeError:  # Python does it as well
            return None
        if made is not None and self._cache is not None:
            self._cache.keep_host_code(lines, made)
        return made
