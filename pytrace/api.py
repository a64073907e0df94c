"""The Python interface: `with pytrace.trace(text) as t: …`. The command line is a client of it.

Nothing here prints or exits. Errors are exceptions: `CompileError` with its diagnostics, `LoadError` and
`AttachError` of the runtime, `PrivilegeError` when rights are missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType

from pytrace.compilation import Compilation, compile_text, live_host
from pytrace.grammar.attaching import SIGUSR1, IterAttach, OnDemand, UprobeAttach
from pytrace.grammar.data import dataclass, field, replace
from pytrace.grammar.hints import TYPE_CHECKING, Any
from pytrace.grammar.plan import Plan
from pytrace.grammar.spec import REGISTRY, Output
from pytrace.objectcache import ObjectCache
from pytrace.options import Options
from pytrace.runtime.privileges import check_lockdown, check_privileges
from pytrace.runtime.process import Child, Target
from pytrace.runtime.tracer import NoTargetError, Tracer
from pytrace.session import LiveSession

if TYPE_CHECKING:
    from pytrace.grammar.diagnostics import Diagnostic

NO_TARGET = "dw_ustack requires a target process. Use -p, -c, or --dwarf-pid to specify one."
POLL_MS = 100  # how long to wait for events before looking at processes, losses and `stop`


@dataclass(frozen=True, slots=True)
class Losses:
    """What a trace could not do or show.

    `events`: records that found the ring buffer full. `updates`: by map, updates refused because it was full.
    `missed`: by probe, hits at which the program could not run. `mappings`: records of what processes map that
    were lost, so that addresses may lack names.
    """

    events: int = 0
    updates: Mapping[str, int] = field(default_factory=dict)
    missed: Mapping[str, int] = field(default_factory=dict)
    mappings: int = 0

    def __bool__(self) -> bool:
        return bool(self.events or self.mappings or any(self.updates.values()) or any(self.missed.values()))


def trace(
    text: str, params: Sequence[object] = (), *, name: str = "stdin", options: Options | None = None, **more: Any
) -> Trace:
    """A trace of a program; `params` are its positional parameters.

    `more` are fields of `Options` (`pid=…`, `command=…`, `unsafe=True`, …). The program is compiled and
    loaded when the `with` block is entered.

    >>> with pytrace.trace('interval:ms:10 { @ticks = count(); exit(); }') as t:
    ...     t.run()
    ...     t.maps["@ticks"]
    1
    """
    options = replace(options or Options(), **more)
    if params:
        options = replace(options, parameters=tuple(str(p) for p in params))
    return Trace(text, name, options)


class Trace:
    """One run of a program. Use it as a context manager, and take its `outputs` once."""

    def __init__(
        self, text: str, name: str = "stdin", options: Options | None = None, compiled: Compilation | None = None
    ) -> None:
        self.options = options or Options()
        self._compiled = compiled
        self._text, self._name = text, name
        self._queue: deque[Output] = deque()
        self._stopped = False
        self._draining_stopped = False
        self._lost = 0
        self._signals_wanted = self._signals_done = 0
        self._failed = False
        self._child: Child | None = None
        self._target: Target | None = None
        self.compilation: Compilation
        self.probe_count = 0
        self.session: LiveSession
        self.tracer: Tracer

    # ---- setting up and closing

    def __enter__(self) -> Trace:
        check_privileges()
        check_lockdown()
        text, name, options = self._text, self._name, self.options
        self.compilation = self._compiled or ObjectCache().compilation(
            text, name, options, lambda: live_host(options), lambda host: compile_text(text, name, options, host)
        )
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def _open(self) -> None:
        options = self.options
        if self.plan.unwinds and not (options.dwarf_pids or options.pid or options.command):
            raise NoTargetError(NO_TARGET)
        if options.pid is not None:
            self._target = Target(options.pid)
        if options.command is not None:
            # the probes of USDT are found in what a process has mapped, so it must have got as far as its exec;
            # the libraries that stacks lead through are mapped a little later (see `outputs`)
            until_exec = self.plan.unwinds or self._has_semaphores()
            self._child = Child.start(options.command, until_exec)
        level = 2 if "verifier" in options.stages else 0
        words = {}
        if "tai_offset" in self.plan.globals:
            from pytrace.runtime import clocks

            words["tai_offset"] = clocks.measure().tai
        self.tracer = Tracer(
            self.plan, self.compilation.elf, pid=options.pid, child=self._child, globals=words, log_level=level,
            without=frozenset(options.without), unwind=self._unwound(),
        )  # fmt: skip
        self.session = LiveSession(self.plan, self.tracer, REGISTRY, self._queue.append, options.values)
        self.tracer.load()
        if self._compiled:
            self._set_options(self._compiled)
        self.session.services.watch(options.pid)
        self.tracer.also_wake(self.session.services.descriptors)

    def _set_options(self, compiled: Compilation) -> None:
        """Fill in the program's own options, if it was compiled without knowing their values."""
        from pytrace.language.functions.options import option_data

        max_strlen = self.plan.config.max_strlen
        self.tracer.write_options(option_data(self.options.named, compiled.options, max_strlen))

    def _unwound(self) -> tuple[int, ...]:
        """The processes whose stacks are followed by unwind tables."""
        known = (self.options.pid, self._child.pid if self._child else None, *self.options.dwarf_pids)
        return tuple(dict.fromkeys(pid for pid in known if pid is not None))

    def _has_semaphores(self) -> bool:
        places = (a for p in self.plan.programs for a in p.attach)
        return any(isinstance(a, UprobeAttach) and a.semaphore for a in places)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, wait: bool = True) -> None:
        """Detach everything, end the child; `wait` until the kernel has let go."""
        if self._child is not None:
            self._child.close()
        if self._target is not None:
            self._target.close()
        if hasattr(self, "session"):
            self.session.services.close()
        if hasattr(self, "tracer"):
            self.tracer.close(wait)

    # ---- what it is

    @property
    def plan(self) -> Plan:
        """The Plan of the compiled program."""
        return self.compilation.plan

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What the compiler warns of."""
        return self.compilation.warnings

    @property
    def pending(self) -> bool:
        """Whether more outputs are there already; if not, `outputs` may wait for the next."""
        return bool(self._queue)

    @property
    def exit_code(self) -> int:
        """What the program said with `exit(code)`; 1 if it did not, but a test or benchmark failed."""
        return self.session.exit_code or int(self._failed)

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    # ---- running

    def stop(self) -> None:
        """Ask for the end; may be called from a signal handler. The second call stops draining as well."""
        self._draining_stopped = self._stopped
        self._stopped = True
        if hasattr(self, "tracer"):
            self.tracer.wake()

    def user_signal(self, times: int = 1) -> None:
        """Let the `self:signal:SIGUSR1` probes run as after so many signals, as soon as `outputs` gets to it.

        May be called from a signal handler or another thread.
        """
        self._signals_wanted += times
        if hasattr(self, "tracer"):
            self.tracer.wake()

    def run(self) -> None:
        """Run to the end and throw the outputs away; maps and losses can be read afterwards."""
        for _ in self.outputs():
            pass

    def events(self) -> Iterator[Output]:
        """Run to the end: what the program itself sends (`printf`, `print`, …), as it happens.

        Left out are the trace's own notes and the maps at the end; see `outputs`, `maps` and `losses` for those.
        """
        over = False
        for output in self.outputs():
            over = over or output.kind == "maps_follow"
            if not over and output.kind not in ("attached_probes", "pinned", "lost_events"):
                yield output

    def outputs(self) -> Iterator[Output]:
        """Run the program (reference part 2, section 9.1): everything it shows, in order."""
        self.tracer.run_on_demand("begin")
        if self.options.mode:
            yield from self._test_outputs()
            return
        self.probe_count = self.tracer.attach()
        if self.options.dry_run:
            self.tracer.unpin()
            return
        if self._child is not None:
            self._child.run(self.tracer.read_mappings if self.plan.unwinds else None)
        count = self.probe_count
        yield Output("attached_probes", "", {"probes": count}, fields={"count": count})
        for path in self.tracer.pins:
            yield Output("pinned", f"Program pinned to {path}\n", raw=True)
        yield from self._walk()
        yield from self._events()
        self.tracer.detach()
        yield from self._end()
        yield Output("maps_follow", "\n\n")
        if self.plan.config.print_maps_on_exit:
            for spec in self.plan.user_maps:
                yield self.session.map_output(spec.name)
        yield from self._stack_notes()
        yield from self._clock_notes()
        yield from self._loss_summary()

    def finish_lines(self, form: str) -> None:
        """Let what compiled code can show come as finished lines in a form, `text` or `json`, once that pays.

        Such an output is of the kind `LINES`, and its `data` are the bytes of many lines.
        """
        from pytrace.native import Accelerator

        cache = ObjectCache() if self.options.cache else None
        accelerator = Accelerator(self.plan, REGISTRY, form, cache)
        self.tracer.make_lines(accelerator.code, self.session.handle_lines)

    def _walk(self) -> Iterator[Output]:
        """What was sent before the iterator starts, then what it sends, in order and without loss."""
        for records in self.tracer.walk():
            yield from self.drain()
            self.session.handle(records)
            yield from self._taken()
            if self.session.exiting or self._stopped:
                return

    def _test_outputs(self) -> Iterator[Output]:
        """What the tests or benchmarks show, between what `begin` and `end` do."""
        from pytrace.testmode import ModeRunner

        if self.options.dry_run:
            return
        yield from self.drain()
        if not self.session.exiting:
            mode = ModeRunner(self, self.options.color)
            yield from mode.outputs()
            self._failed = mode.failed
        yield from self._end()
        yield Output("maps_follow", "\n\n")
        yield from self._loss_summary()

    def _run_signal_probes(self) -> None:
        """Make good for the signals that have come."""
        # only `user_signal` writes the one counter, only this the other: it may interrupt us at any place
        while self._signals_done < self._signals_wanted:
            self._signals_done += 1
            self.tracer.run_on_demand(SIGUSR1)

    def _events(self) -> Iterator[Output]:
        """Poll until the end is due; a program that nothing triggers any more ends when the ring is empty."""
        places = [a for p in self.plan.programs for a in p.attach]
        on_demand = all(isinstance(a, IterAttach) or (isinstance(a, OnDemand) and not a.waits) for a in places)
        while True:
            over = self._over()
            count = self.tracer.poll(0 if on_demand or over else POLL_MS, self.session.handle)
            self._run_signal_probes()
            self.session.services.update()
            yield from self._taken()
            if self.session.exiting or self._stopped or (not count and (on_demand or over)):
                return

    def _over(self) -> bool:
        """Whether the traced process has ended."""
        return (self._child is not None and self._child.exited()) or (
            self._target is not None and self._target.exited()
        )

    def _end(self) -> Iterator[Output]:
        """What is still in the ring, then the end probes and what they send."""
        if not self.session.exiting:
            yield from self.drain()
        else:
            self.session.discard()
        self.session.exiting = False
        self.tracer.run_on_demand("end")
        yield from self.drain()
        yield from self._loss_notes()

    def drain(self) -> Iterator[Output]:
        """What is in the ring now, unless `stop` was called twice."""
        while not self._draining_stopped and self.tracer.poll(0, self.session.handle):
            yield from self._taken()

    def _taken(self) -> Iterator[Output]:
        """The outputs so far, behind a note of new losses."""
        yield from self._loss_notes()
        while self._queue:
            yield self._queue.popleft()

    def _loss_notes(self) -> Iterator[Output]:
        lost = self.tracer.lost_events()
        new, self._lost = lost - self._lost, lost
        if new:
            yield Output("lost_events", f"Lost {new} events\n", {"events": new}, error=True, fields={"count": new})

    def _loss_summary(self) -> Iterator[Output]:
        """What was lost in all, next to the result."""
        losses = self.losses
        lines = [f"Total lost event count: {losses.events}"] if losses.events else []
        for name, count in losses.updates.items():
            most = self.plan.map(name).max_entries
            lines.append(f"{name}: {count} updates lost because the map was full ({most} entries)")
        lines += [f"{name}: missed {count} times" for name, count in losses.missed.items()]
        if losses.mappings:
            lines.append(f"{losses.mappings} records of what processes map were lost: addresses may have no names")
        if lines:
            fields = {"events": losses.events, "updates": dict(losses.updates), "missed": dict(losses.missed)}
            fields |= {"mappings": losses.mappings} if losses.mappings else {}
            text = "".join(f"WARNING: {line}\n" for line in lines)
            yield Output("losses", text, fields, error=True)

    def _stack_notes(self) -> Iterator[Output]:
        """Why stacks that were shown are empty, cut or without names; a document for each reason."""
        for note in self.session.services.stack_notes():
            data = {"files": note.files} if note.files else None
            yield Output("stack_note", note.text, data, fields={"msg": note.message, "count": note.count}, error=True)

    def _clock_notes(self) -> Iterator[Output]:
        """That the clocks could not be measured well enough for the times that were shown."""
        if skew := self.session.services.skew:
            message = f"{skew}us skew detected when calculating boot time. strftime() builtin may be inaccurate"
            yield Output("clock_skew", f"WARNING: {message}\n", fields={"msg": message, "skew": skew}, error=True)

    # ---- results

    @property
    def maps(self) -> dict[str, Any]:
        """Every map by its name with `@`, as Python values: see `MapSnapshot.value`."""
        return {spec.name: self.session.snapshot(spec).value() for spec in self.plan.user_maps}

    @property
    def losses(self) -> Losses:
        """What was lost, so far."""
        counted = self.tracer.losses()
        names = [spec.name for spec in self.plan.maps if spec.name]
        updates = {name: n for name, n in zip(names, counted.refused, strict=False) if n}
        return Losses(counted.events, updates, counted.missed, self.session.services.lost_mappings)
