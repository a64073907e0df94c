"""Why stacks are empty, cut or without names: counted while they are shown, told after the maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from pytrace.grammar.data import dataclass
from pytrace.grammar.spec import REGISTRY
from pytrace.grammar.types import Stack

MAX_STACKS = 65536  # that are remembered, so that showing one twice counts once
MAX_FILES = 256  # of one reason
_SHORT = 2  # frames; a walk that goes wrong mostly does so at once
_NAMED = 3  # files that are named in the text

# where threads and programs begin: nothing has called these
_ENTRIES = frozenset(
    {"_start", "_dl_start", "_dl_start_user", "clone", "clone3", "__clone", "__clone3", "thread_start"}
    | {"start_thread", "runtime.goexit", "runtime.mstart", "runtime.rt0_go", "_rt0_amd64", "_rt0_arm64"}
)
_ENTRY_PREFIXES = ("__libc_start", "runtime.goexit.", "runtime.rt0_go.", "_rt0_")

# reason → what is said of one, of many, and advice
_TEXTS = {
    "kernel": ("kernel stack is", "kernel stacks are", "empty: the CPU was not in the kernel", ""),
    "other": ("user stack is", "user stacks are", "empty: it belongs to the idle task or another PID namespace", ""),
    "thread": ("user stack is", "user stacks are", "empty: kernel threads have none", ""),
    "empty": ("user stack is", "user stacks are", "empty: the process was starting, ending or could not be read", ""),
    "gone": ("address has", "addresses have", "no name: the process was gone before its mappings were known", ""),
    "unmapped": ("user stack has", "user stacks have", "an address that no mapping of the process holds", ""),
    "code": ("address has", "addresses have", "no name: code made at run time, without a /tmp/perf-PID.map", ""),
    "missing": ("address has", "addresses have", "no name: the file was deleted or replaced", ""),
    "stripped": (
        "address has", "addresses have", "no name: the file has no full symbol table", "install its debug package",
    ),
    "unnamed": ("address has", "addresses have", "no name: no function of the file is there", ""),
    "cut": ("user stack is", "user stacks are", "cut short by code that keeps no frame pointers", ""),
}  # fmt: skip

Symbols = Sequence[tuple[str, int, str] | None]
Explain = Callable[[int, int], tuple[str, str]]  # see Symbolizer.explain


@dataclass(frozen=True, slots=True)
class Note:
    """One reason: how many stacks or addresses it holds for (0: it is about none in particular), and how often each
    file was met."""

    count: int
    message: str
    files: dict[str, int]

    @property
    def text(self) -> str:
        """One line for people, with the files that were met most often."""
        start = f"NOTE: {self.count} {self.message}" if self.count else f"NOTE: {self.message}"
        if not self.files:
            return f"{start}\n"
        most = sorted(self.files.items(), key=lambda item: -item[1])
        named = ", ".join(f"{file} ({count})" for file, count in most[:_NAMED])
        more = f" and {len(most) - _NAMED} more" if len(most) > _NAMED else ""
        return f"{start}: {named}{more}\n"


class StackNotes:
    """Looks at stacks as they are shown and counts what is odd about them, once for each different stack.

    `explain` says why an address of a process has no name, `kernel_thread` whether a process is one.
    """

    def __init__(self, explain: Explain, kernel_thread: Callable[[int], bool]) -> None:
        self._explain, self._kernel_thread = explain, kernel_thread
        self._seen: set[int] = set()
        self._counts: Counter[str] = Counter()
        self._files: dict[str, Counter[str]] = {}

    def stack(self, kind: Stack, pid: int, frames: Sequence[int], symbols: Symbols) -> None:
        """Look at one stack. `symbols` are the names of a user stack's frames."""
        key = hash((kind.user, pid, tuple(frames)))
        if key in self._seen:
            return
        if len(self._seen) >= MAX_STACKS:
            self._seen.clear()
        self._seen.add(key)
        if not frames:
            self._count(self._why_empty(kind, pid))
        elif kind.user:
            self._look(kind, pid, frames, symbols)

    def notes(self) -> Iterator[Note]:
        """What was odd, the most frequent first."""
        for reason, count in self._counts.most_common():
            one, many, what, advice = _TEXTS[reason]
            if reason == "cut" and "dw_ustack" in REGISTRY.functions:
                advice = "dw_ustack() needs none"
            message = f"{one if count == 1 else many} {what}" + (f" ({advice})" if advice else "")
            yield Note(count, message, dict(self._files.get(reason, {})))

    def _count(self, reason: str, file: str = "") -> None:
        self._counts[reason] += 1
        if file:
            files = self._files.setdefault(reason, Counter())
            if file in files or len(files) < MAX_FILES:
                files[file] += 1

    def _why_empty(self, kind: Stack, pid: int) -> str:
        if not kind.user:
            return "kernel"
        if not pid:
            return "other"
        return "thread" if self._kernel_thread(pid) else "empty"

    def _look(self, kind: Stack, pid: int, frames: Sequence[int], symbols: Symbols) -> None:
        """Names that are missing, and whether the walk went astray: what it found behind that is no address of
        a function."""
        last, file = "", ""
        for index, (address, symbol) in enumerate(zip(frames, symbols, strict=True)):
            if symbol is not None:
                last, _, file = symbol
                continue
            reason, where = self._explain(address, pid)
            if reason == "unmapped":
                self._astray(index, last, file)
                return
            self._count(reason, where)
            last, file = "", where
        if file and len(frames) <= _SHORT and len(frames) < kind.limit:
            self._astray(len(frames), last, file)

    def _astray(self, frames: int, last: str, file: str) -> None:
        if not frames:
            self._count("unmapped")
        elif last not in _ENTRIES and not last.startswith(_ENTRY_PREFIXES):
            self._count("cut", file)
