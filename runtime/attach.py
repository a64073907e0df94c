"""Attaching the programs of a Plan: each place by its mechanism, so that blocks run in source order."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable

from pytrace.grammar.attaching import (
    Attach,
    IterAttach,
    KprobeAttach,
    OnDemand,
    PerfEventAttach,
    RawTracepointAttach,
    SystemCallsAttach,
    TcAttach,
    TracepointAttach,
    TrampolineAttach,
    UprobeAttach,
    WatchpointAttach,
    XdpAttach,
)
from pytrace.grammar.data import dataclass
from pytrace.grammar.hints import TYPE_CHECKING, Any
from pytrace.grammar.plan import Plan, ProgramSpec, count_of
from pytrace.grammar.source import encode_text
from pytrace.runtime import attach_perf
from pytrace.runtime.attach_multi import FACILITIES, Group, groups, link_type, singles
from pytrace.runtime.bpf_object import BpfObject
from pytrace.runtime.libbpf import library
from pytrace.runtime.links import Link, release_all, stop_all

if TYPE_CHECKING:
    from pytrace.runtime.aims import Aims


@dataclass(frozen=True, slots=True)
class AttachFailure:
    """A place that could not be had: the probe's full name, and a sentence with the reason and the remedy."""

    name: str
    reason: str


class AttachError(Exception):
    """A probe cannot be attached and the program may not go without; nothing is left attached."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"Unable to attach probe: {name}: {reason}")


def order(programs: Iterable[ProgramSpec]) -> list[ProgramSpec]:
    """In which order to attach (reference [probe.order]): the reversed kinds last, and backwards."""
    programs = list(programs)
    return [p for p in programs if not p.reverse] + [p for p in reversed(programs) if p.reverse]


class Attacher:
    """Attaches the programs of an object; `pid` is the process that `-p` or `-c` is about, 0 for none.

    By the setting `missing_probes`, what is refused raises `AttachError` (`error`) or is left out and
    remembered in `failures`. `places` counts what is attached, each function of a multi link and each
    program on demand too. `partial` are probes that are attached, but not everywhere. Links of the kinds named in
    `without` (`kprobe_multi`, `uprobe_multi`) are not used.
    `notes` say of some probes how they are attached.
    """

    def __init__(self, plan: Plan, loaded: BpfObject, pid: int, without: frozenset[str] = frozenset()) -> None:
        self._plan, self._object, self._pid, self._without = plan, loaded, pid, without
        self._multi: set[str] = set()  # programs for multi links
        self._absent: set[str] = set()  # programs that are not loaded
        self.links: list[Link] = []
        self.failures: list[AttachFailure] = []
        self.partial: list[AttachFailure] = []
        self.notes: dict[str, str] = {}
        self.places = 0
        self._aims: Aims | None = None

    def prepare(self) -> None:
        """Before the load: tell libbpf what programs will be attached to. Raises `AttachError`.

        After the load, whether it succeeds or not, call `loaded`.
        """
        for program in self._plan.programs:
            kind = link_type(program)
            if kind is not None and FACILITIES[kind] not in self._without:
                handle = self._object.program(program.symbol)
                library().bpf_program__set_expected_attach_type(handle, kind)
                self._multi.add(program.symbol)
            for place in program.attach:
                if isinstance(place, TrampolineAttach):
                    self._aim(program.symbol, place)

    def loaded(self) -> None:
        """Give back what only the load needs."""
        if self._aims:
            self._aims.close()

    def attach(self) -> None:
        """Attach everything; raises `AttachError` when that is what the program asks for."""
        try:
            for program in order(self._plan.programs):
                if program.symbol not in self._absent:
                    self._attach_program(program)
        except BaseException:
            stop_all(self.links)
            release_all(self.links)
            self.links.clear()
            raise

    def _aim(self, symbol: str, place: TrampolineAttach) -> None:
        """Set the function that a trampoline program is for, or do without the program."""
        from pytrace.runtime.aims import Aims

        self._aims = self._aims or Aims()
        handle = self._object.program(symbol)
        try:
            self._aims.set(handle, place)
        except OSError as error:
            library().bpf_program__set_autoload(handle, False)
            self._absent.add(symbol)
            self._fail(place, error)

    def _attach_program(self, program: ProgramSpec) -> None:
        if program.symbol in self._multi:
            for group in groups(program.attach):
                self._attach_group(program.symbol, group)
            return
        for place in program.attach:
            for single in singles(place):
                self._attach_place(program.symbol, single)

    def _attach_place(self, symbol: str, place: Attach) -> None:
        try:
            self.links += self._open(symbol, place)
            self.places += count_of(place)
        except OSError as error:
            self._fail(place, error)

    def _attach_group(self, symbol: str, group: Group) -> None:
        """Attach a group by one link. If the kernel refuses one of its places, find out which by halving."""
        try:
            self.links.append(group.open(self._object.program_fd(symbol), self._pid))
            self.places += group.counted
        except OSError as error:
            if len(group) == 1:
                place = group.only()
                self._fail(place, error)
                return
            for part in group.parts():
                self._attach_group(symbol, part)

    def _open(self, symbol: str, place: Attach) -> list[Link]:
        """Attach to one place; raises OSError."""
        program = self._object.program(symbol)
        match place:
            case TracepointAttach() | KprobeAttach() | UprobeAttach() | PerfEventAttach():
                return attach_perf.attach(program, place, self._pid)
            case RawTracepointAttach(event=event):
                return [_link(place, library().bpf_program__attach_raw_tracepoint(program, encode_text(event)))]
            case SystemCallsAttach(returns=returns):
                called = b"sys_exit" if returns else b"sys_enter"
                return [_link(place, library().bpf_program__attach_raw_tracepoint(program, called))]
            case WatchpointAttach():
                links, refused = attach_perf.attach_watchpoint(program, place, self._pid)
                if refused is not None:
                    self.partial.append(AttachFailure(place.name, _reason(place, refused)))
                return links
            case TrampolineAttach():
                from pytrace.runtime import aims

                link = _link(place, library().bpf_program__attach_trace(program))
                if aims.traces_another(place):
                    link.stop()
                    raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
                return [link]
            case IterAttach():
                from pytrace.runtime import attach_iter

                return [attach_iter.attach(self._object.program_fd(symbol), place, self._pid)]
            case XdpAttach() | TcAttach():
                from pytrace.runtime import attach_net  # few programs need it

                link, note = attach_net.attach(self._object.program_fd(symbol), place, self._pid)
                if note:
                    self.notes[place.name] = note
                return [link]
            case OnDemand():
                return []  # nothing to attach, yet it counts
            case _:
                raise TypeError(f"cannot attach a program to {place!r}")

    def _fail(self, place: Attach, error: OSError) -> None:
        name, reason = place.name, _reason(place, error)
        match self._plan.config.missing_probes:
            case "error":
                raise AttachError(name, reason)
            case _:
                self.failures.append(AttachFailure(name, reason))


def _reason(place: Attach, error: OSError) -> str:
    """Why a place could not be had, and the remedy."""
    from pytrace.runtime.reasons import describe

    return describe(place, error)


def _link(place: Attach, handle: Any) -> Link:
    """The link that libbpf returned, or its error as OSError."""
    if not handle:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return Link(place.name, handle)
