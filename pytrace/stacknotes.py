"""Why stacks are empty, cut or without names: counted while they are shown, told after the maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pytrace.grammar.types import Stack
from pytrace.runtime.symbols import Symbolizer

MAX_STACKS = 65536  # that are remembered, so that showing one twice counts once
_SHORT = 2  # frames; a stack that goes wrong does so at once, longer ones have been followed for a while

# where threads and programs begin: nothing has called these
_ENTRIES = frozenset(
    {"_start", "_dl_start", "_dl_start_user", "clone", "clone3", "__clone", "__clone3", "thread_start"}
    | {"start_thread", "runtime.goexit", "runtime.mstart", "runtime.rt0_go", "_rt0_amd64", "_rt0_arm64"}
)
_ENTRY_PREFIXES = ("__libc_start", "runtime.goexit.", "runtime.rt0_go.", "_rt0_")

Symbols = Sequence[tuple[str, int, str] | None]

_REASONS = {
    "gone": "addresses have no names: their processes were gone before it was known what they had mapped",
    "unmapped": "addresses lie in no mapping of their process: the stack was followed through code without frame pointers",
    "code": "addresses lie in code made at run time: no /tmp/perf-PID.map names it",
    "missing": "addresses in {file} have no names: the file was deleted or replaced",
    "stripped": "addresses in {file} have no names: it has no full symbol table; install its debug package",
    "unnamed": "addresses in {file} have no names: none of its functions is there",
}


class StackNotes:
    """Looks at stacks as they are shown and counts what is odd about them, once for each different stack.

    `alone` is the process of `-p`, for advice.
    """

    def __init__(self, symbolizer: Symbolizer) -> None:
        self._symbolizer = symbolizer
        self._seen: set[int] = set()
        self._counts: Counter[str] = Counter()

    def stack(self, kind: Stack, pid: int, frames: Sequence[int], symbols: Symbols) -> None:
        """Look at one stack. `symbols` are the names of a user stack's frames."""
        key = hash((kind.user, pid, tuple(frames)))
        if key in self._seen or len(self._seen) >= MAX_STACKS:
            return
        self._seen.add(key)
        if not frames:
            self._counts[self._why_empty(kind, pid)] += 1
        elif kind.user:
            self._why_unnamed(pid, frames, symbols)
            self._why_cut(kind, frames, symbols)

    def lines(self) -> Iterator[tuple[int, str]]:
        """How often, and what; the most frequent first."""
        yield from ((count, text) for text, count in self._counts.most_common())

    def _why_empty(self, kind: Stack, pid: int) -> str:
        if not kind.user:
            return "kernel stacks are empty: the CPU was not in the kernel"
        if not pid:
            return "user stacks are empty: they are of the idle task, or of processes in another PID namespace"
        if self._symbolizer.kernel_thread(pid):
            return "user stacks are empty: kernel threads have none"
        return "user stacks are empty: there was none, or it could not be read"

    def _why_unnamed(self, pid: int, frames: Sequence[int], symbols: Symbols) -> None:
        for address, symbol in zip(frames, symbols, strict=True):
            if symbol is None:
                reason, file = self._symbolizer.explain(address, pid)
                self._counts[_REASONS[reason].format(file=file)] += 1

    def _why_cut(self, kind: Stack, frames: Sequence[int], symbols: Symbols) -> None:
        if len(frames) > _SHORT or len(frames) >= kind.limit:
            return
        last = next((symbol for symbol in reversed(symbols) if symbol is not None), None)
        if last is None or last[0] in _ENTRIES or last[0].startswith(_ENTRY_PREFIXES):
            return
        self._counts[
            f"user stacks are cut short in {last[2]}, which seems to be built without frame pointers; "
            "dw_ustack() can do without them"
        ] += 1
