"""What turns raw values into words while a trace runs: symbols and clocks, loaded when they are first needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from pytrace.grammar.attaching import TcAttach, UprobeAttach, XdpAttach
from pytrace.grammar.config import Config
from pytrace.grammar.hints import TYPE_CHECKING
from pytrace.grammar.layout import Layout
from pytrace.grammar.plan import Plan, layouts
from pytrace.grammar.spec import REGISTRY
from pytrace.grammar.types import Opaque, Stack

if TYPE_CHECKING:  # most programs show no addresses
    from pytrace.runtime.clocks import Clocks
    from pytrace.runtime.symbols import Symbolizer
    from pytrace.stacknotes import Note, StackNotes


class LiveServices:
    """`Services` of a trace on this machine."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.watching = False
        self.unwatched = ""  # why the mappings of processes cannot be watched

    @property
    def config(self) -> Config:
        """The effective configuration."""
        return self._plan.config

    @cached_property
    def symbolizer(self) -> Symbolizer:
        """Resolves addresses; symbols of processes that are gone are looked for in the probed files."""
        from pytrace.runtime.symbols import Symbolizer

        paths = {a.path for p in self._plan.programs for a in p.attach if isinstance(a, UprobeAttach)}
        return Symbolizer(
            demangled=self.config.cpp_demangle,
            fallback=paths.pop() if len(paths) == 1 else "",
            cached=self.config.cache_user_symbols != "NONE",
        )

    @cached_property
    def notes(self) -> StackNotes:
        """What is odd about the stacks that were shown."""
        from pytrace.stacknotes import StackNotes

        return StackNotes(self.symbolizer.explain, self.symbolizer.kernel_thread)

    def watch(self, pid: int | None) -> None:
        """If the program shows addresses of processes: note from now on what they (or the one of `-p`) map."""
        if any(map(_user_addresses, layouts(self._plan))):
            self.watching = True
            try:
                self.symbolizer.watch(pid or 0)
            except OSError as error:
                self.unwatched = error.strerror or str(error)

    def update(self) -> None:
        """Take in what processes have mapped meanwhile."""
        if self.watching:
            self.symbolizer.update()

    @property
    def descriptors(self) -> list[int]:
        """Readable when `update` should not wait for the next tick."""
        return self.symbolizer.descriptors if self.watching else []

    @property
    def lost_mappings(self) -> int:
        """Records of what processes map that were lost, so far."""
        return self.symbolizer.lost if self.watching else 0

    def stack_notes(self) -> Iterator[Note]:
        """Why stacks that were shown are empty, cut or without names."""
        if "notes" not in self.__dict__:
            return
        from pytrace.stacknotes import Note

        yield from self.notes.notes()
        if self.unwatched:
            yield Note(0, f"what processes map could not be watched: {self.unwatched}", {})
        if forgotten := self.symbolizer.processes.forgotten:
            yield Note(forgotten, "processes were forgotten: too many have ended since", {})

    def close(self) -> None:
        """Stop watching."""
        if "symbolizer" in self.__dict__:
            self.symbolizer.close()

    @cached_property
    def clocks(self) -> Clocks:
        """How the kernel's clocks relate."""
        from pytrace.runtime import clocks

        return clocks.measure()

    def kernel_symbol(self, address: int) -> tuple[str, int] | None:
        """See Services."""
        return self.symbolizer.kernel(address)

    def user_symbol(self, address: int, pid: int, probe: int = 0) -> tuple[str, int, str] | None:
        """See Services."""
        return self.symbolizer.user(address, pid)

    def stack_symbols(self, kind: Stack, pid: int, frames: Sequence[int]) -> Sequence[tuple[str, int, str] | None]:
        """See Services."""
        symbols = self.symbolizer.user_stack(frames, pid) if kind.user and frames else ()
        self.notes.stack(kind, pid, frames, symbols)
        return symbols

    @cached_property
    def _probed(self) -> dict[int, str]:
        places = (a for p in self._plan.programs for a in p.attach)
        return {a.index: a.interface for a in places if isinstance(a, (XdpAttach, TcAttach))}

    def interface(self, index: int) -> str | None:
        """See Services."""
        import socket  # only now: it costs 4 ms of every start

        if index in self._probed:
            return self._probed[index]
        try:
            return socket.if_indextoname(index)
        except (OSError, OverflowError):
            return None

    @property
    def skew(self) -> int:
        """How inexact the relation of the clocks is that times were shown by, in microseconds; 0: good enough."""
        return self.clocks.gap // 1000 if "clocks" in self.__dict__ and self.clocks.skewed else 0

    def boot_time(self) -> int:
        """See Services."""
        return self.clocks.realtime


def _user_addresses(layout: Layout) -> bool:
    """Whether values of a layout are addresses of processes that are shown by name."""
    match layout.type:
        case Stack(user=user, mode=mode):
            return user and mode in ("bpftrace", "perf")
        case Opaque(feature=name):
            kind = REGISTRY.known_kind(name)
            return kind is not None and kind.user_addresses
        case _:
            return False
