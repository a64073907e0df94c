"""A run in the kernel: load a Plan's object, attach its programs, take the records, read the maps.

The order of calls is that of the life cycle (reference [probe.lifecycle]): `load`, `run_on_demand("begin")`,
`attach`, `poll` …, `detach`, `run_on_demand("end")`, `poll` until nothing is left, `read_map`, `close`.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType

from pytrace.grammar.attaching import IterAttach, TrampolineAttach
from pytrace.grammar.data import dataclass
from pytrace.grammar.hints import TYPE_CHECKING
from pytrace.grammar.plan import CONTROL, GLOBAL_DATA, GUARD, LOST, OPTIONS, REFUSED, RING, MapSpec, Plan, ProgramSpec
from pytrace.runtime import cpus, libbpf
from pytrace.runtime.attach import Attacher, AttachFailure
from pytrace.runtime.bpf_object import BpfObject
from pytrace.runtime.links import Link, release_all, stop_all
from pytrace.runtime.maps import Entry, LiveMap, Values, live_map
from pytrace.runtime.misses import link_misses, program_misses
from pytrace.runtime.process import Child, boot_time_ns, pid_namespace
from pytrace.runtime.ring import Handler, MakeCode, RingReader, TakeLines, Waiter, ring_size
from pytrace.runtime.syscalls import raise_limits

if TYPE_CHECKING:
    from pytrace.runtime.attach_iter import IteratorLink
    from pytrace.runtime.unwind import Unwinder

ETHERNET_HEADER = 14  # bytes: ETH_HLEN of include/uapi/linux/if_ether.h
_FIRST = bytes(4)  # key 0 of an array


class NoTargetError(Exception):
    """The programs need a process to be named that they are about; the message is meant for the user."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What the programs could not do, counted since the load.

    `events`: records that found the ring buffer full. `refused`: by number of the map, updates that found
    it full. `missed`: by probe name, hits at which the program did not run (recursion, or a kretprobe
    without a free instance).
    """

    events: int
    refused: tuple[int, ...]
    missed: Mapping[str, int]


class Tracer:
    """Runs a Plan. `pid` is the process of `-p`, `child` that of `-c`; `globals` adds words of global data.

    `unwind` are the processes whose user stacks are followed by unwind tables, if the Plan asks for that.

    `log_level` is the verifier's: at 1 it writes a summary of every program to `verifier_logs`, at 2 every
    instruction it looks at. `without` are kernel facilities to do without, see `Attacher`.
    """

    def __init__(
        self,
        plan: Plan,
        object_bytes: bytes,
        *,
        pid: int | None = None,
        child: Child | None = None,
        globals: Mapping[str, int] | None = None,
        log_level: int = 0,
        without: frozenset[str] = frozenset(),
        unwind: Sequence[int] = (),
    ) -> None:
        self.plan = plan
        self._pid, self._child = pid or 0, child
        self._extra = dict(globals or {})
        self._watched: list[int] = []
        raise_limits()
        places = [place for program in plan.programs for place in program.attach]
        if any(isinstance(place, TrampolineAttach) for place in places):
            from pytrace.runtime.aims import in_modules, take_sections

            if in_modules(places):
                take_sections()
        self._object = BpfObject(object_bytes, plan.config.log_size, log_level)
        if plan.linked:
            self._object.load_only({program.symbol for program in plan.programs})
        if log_level:
            for program in plan.programs:
                self._object.keep_log(program.symbol)
        self._attacher = Attacher(plan, self._object, child.pid if child else self._pid, without)
        self._ring: RingReader | None = None
        self._waiter: Waiter | None = None  # of programs that send nothing
        self._control: RingReader | None = None
        self._maps: dict[str, LiveMap] = {}
        self._missed: dict[str, int] = {}  # by links that are closed
        self._unwinder: Unwinder | None = None
        if plan.unwinds:
            from pytrace.runtime.unwind import Unwinder

            self._unwinder = Unwinder(self._object, unwind)

    # ------------------------------------------------------------ setting up

    def load(self) -> None:
        """Create the maps, load the programs, fill the global data. Raises `LoadError`, `AttachError`."""
        if self._object.has_map(RING):
            self._object.resize_map(RING, ring_size(self.plan.config.perf_rb_pages, cpus.possible()))
        if self._unwinder:
            self._unwinder.prepare()
        try:
            self._attacher.prepare()
            self._object.load()
        finally:
            self._attacher.loaded()
        self._write_globals()
        if self._unwinder:
            self._unwinder.fill()
        if self._pid:
            self._watched.append(os.pidfd_open(self._pid))
        watch = [self._child.pidfd] if self._child else self._watched
        if not self._object.has_map(RING):
            self._waiter = Waiter(watch)
        else:
            self._ring = RingReader(self._object.map_fd(RING), self._object.map_entries(RING), watch)
        if self._object.has_map(CONTROL):
            entries = self._object.map_entries(CONTROL)
            self._control = RingReader(self._object.map_fd(CONTROL), entries)

    def run_on_demand(self, when: str) -> list[int]:
        """Run the programs that are for `when` (see `OnDemand`), in source order; returns their results.

        They run in this process, by BPF_PROG_TEST_RUN of a raw tracepoint program (Linux 5.10).
        Raises OSError.
        """
        if when == "begin":
            self._write_globals()  # the time of the start
        return [
            self._test_run(self._object.program_fd(program.symbol), libbpf.TestRunOptions())[0]
            for program, place in self.plan.on_demand(when)
        ]

    def measure(self, program: ProgramSpec, repeat: int = 1) -> tuple[int, int]:
        """Run an XDP program `repeat` times in a row: its last result, and the average time in nanoseconds.

        The packet that it gets is as short as one may be (bpf_prog_test_run_xdp in net/bpf/test_run.c wants
        an Ethernet header). Raises OSError.
        """
        packet = ctypes.create_string_buffer(ETHERNET_HEADER)
        options = libbpf.TestRunOptions(
            data_in=ctypes.addressof(packet), data_size_in=ETHERNET_HEADER, repeat=repeat
        )  # fmt: skip
        return self._test_run(self._object.program_fd(program.symbol), options)

    def attach(self) -> int:
        """Attach all programs in an order that keeps source order; returns the N of `Attached N probes`.

        Raises `AttachError`, and leaves nothing attached, if a probe fails that must not (`missing_probes`);
        the others that failed are in `failures`.
        """
        self._attacher.attach()
        return self._attacher.places

    @property
    def failures(self) -> list[AttachFailure]:
        """The probes that are left out because the kernel refused them."""
        return self._attacher.failures

    @property
    def links(self) -> list[Link]:
        """What holds the programs to their places, while they are attached."""
        return list(self._attacher.links)

    @property
    def partial(self) -> list[AttachFailure]:
        """The probes that are attached, but not to everything that they are about."""
        return self._attacher.partial

    @property
    def notes(self) -> Mapping[str, str]:
        """Of some probes, how they are attached."""
        return self._attacher.notes

    @property
    def verifier_logs(self) -> dict[str, str]:
        """What the verifier wrote about each program, by its symbol; empty at log level 0."""
        return self._object.logs

    def read_mappings(self) -> None:
        """Take in what the processes have mapped since `load`, for stacks that are followed by unwind tables."""
        if self._unwinder:
            self._unwinder.fill()

    # ------------------------------------------------------------ while it runs

    def poll(self, timeout_ms: int, handler: Handler) -> int:
        """Hand the waiting records to `handler`, in batches and in order; returns how many.

        Waits for the first at most `timeout_ms` (0: not at all); the end of the traced process and `wake` end
        the wait. Each record starts with the number of its action.
        """
        if self._unwinder:
            self._unwinder.refresh()
        if self._waiter and timeout_ms > 0:
            self._waiter.wait(timeout_ms / 1000)
        count = self._ring.poll(timeout_ms, handler) if self._ring else 0
        # control records come here when the ring was full, so after what was in it
        return count + (self._control.consume(handler) if self._control else 0)

    def make_lines(self, make: MakeCode, take: TakeLines) -> None:
        """Let `poll` give what machine code can show to `take`, as lines: see `RingReader.make_lines`."""
        if self._ring:
            self._ring.make_lines(make, take)

    def walk(self) -> Iterator[list[bytes]]:
        """Read the iterators to their end: their records, in batches. Raises `WalkError`."""
        for link in self._iterators():
            if not link.pin:
                yield from link.walk(tuple(action.size for action in self.plan.actions))

    def _iterators(self) -> list[IteratorLink]:
        if not any(isinstance(place, IterAttach) for program in self.plan.programs for place in program.attach):
            return []
        from pytrace.runtime.attach_iter import IteratorLink

        return [link for link in self._attacher.links if isinstance(link, IteratorLink)]

    @property
    def pins(self) -> list[str]:
        """Where iterators have been pinned."""
        return [link.pin for link in self._iterators() if link.pin]

    def unpin(self) -> None:
        """Take the pins away again."""
        for path in self.pins:
            os.unlink(path)

    def also_wake(self, descriptors: list[int]) -> None:
        """Let `poll` end its wait whenever one of these becomes readable."""
        waiting = self._ring or self._waiter
        if waiting:
            waiting.watch(descriptors)

    def wake(self) -> None:
        """End the wait of `poll`; for signal handlers."""
        waiting = self._ring or self._waiter
        if waiting:
            waiting.wake()

    def losses(self) -> Losses:
        """What has been lost so far."""
        missed = dict(self._missed or self._missed_by_links())
        guarded = self._counters(GUARD)[1:]
        for number, program in enumerate(self.plan.programs):
            count = program_misses(self._object.program_fd(program.symbol))
            if guarded:
                count += guarded[number]
            if count:
                name = program.attach[0].name
                missed[name] = missed.get(name, 0) + count
        return Losses(self.lost_events(), self._counters(REFUSED), missed)

    def lost_events(self) -> int:
        """Records that found the ring buffer full, so far: the part of `losses` that is cheap to ask."""
        return sum(self._counters(LOST))

    # ------------------------------------------------------------ maps

    def read_map(self, spec: MapSpec) -> Iterable[Entry]:
        """All (key, value) pairs as bytes; a per-CPU map's value is a tuple, one for each possible CPU."""
        return self._map(spec).read()

    def lookup(self, spec: MapSpec, key: bytes) -> Values | None:
        """The value of one key."""
        return self._map(spec).lookup(key)

    def clear_map(self, spec: MapSpec) -> None:
        """Remove all entries; a scalar becomes zero."""
        self._map(spec).clear()

    def zero_map(self, spec: MapSpec) -> None:
        """Set all values to zero, keeping the keys."""
        self._map(spec).zero()

    # ------------------------------------------------------------ the end

    def detach(self) -> None:
        """Take all programs off their probes; when it returns none runs any more. Maps and ring stay."""
        self._missed = self._missed or self._missed_by_links()
        stop_all(self._attacher.links)

    def close(self, wait: bool = True) -> None:
        """Detach and release everything.

        The kernel removes the perf events of programs one after the other, 40 to 80 ms each. Without `wait` a
        process of its own stays behind for that.
        """
        self.detach()
        release_all(self._attacher.links, wait)
        self._attacher.links.clear()
        for ring in (self._ring, self._control, self._waiter):
            if ring:
                ring.close()
        self._ring = self._control = self._waiter = None
        while self._watched:
            os.close(self._watched.pop())
        if self._unwinder:
            self._unwinder.close()
        self._object.close()

    def __enter__(self) -> Tracer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------ inside

    def _write_globals(self) -> None:
        if not self.plan.globals or not self._object.has_map(GLOBAL_DATA):
            return
        device, inode = pid_namespace() or (0, 0)
        known = {
            "start_ns": boot_time_ns(),
            "child_pid": self._child.pid if self._child else 0,
            "target_pid": self._pid,
            "cpus": cpus.possible(),
            "pid_ns_dev": device,
            "pid_ns_ino": inode,
        } | self._extra
        words = [known.get(name, 0) for name in self.plan.globals]
        self._write_array(GLOBAL_DATA, struct.pack(f"={len(words)}Q", *words))

    def write_options(self, data: bytes) -> None:
        """After the load: set the values of the program's own options, if a program reads any. Raises OSError."""
        if self._object.has_map(OPTIONS):
            self._write_array(OPTIONS, data)

    def _write_array(self, symbol: str, data: bytes) -> None:
        """Fill the one entry of an array."""
        size = self._object.map_value_size(symbol)
        if len(data) > size:
            raise ValueError(f"{len(data)} bytes of {symbol} do not fit in {size}")
        entry = data.ljust(size, b"\0")
        result = libbpf.library().bpf_map_update_elem(self._object.map_fd(symbol), _FIRST, entry, 0)
        if result < 0:
            raise OSError(-result, os.strerror(-result))

    def _test_run(self, program: int, options: libbpf.TestRunOptions) -> tuple[int, int]:
        options.size = ctypes.sizeof(libbpf.TestRunOptions)
        result = libbpf.library().bpf_prog_test_run_opts(program, ctypes.byref(options))
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return int(options.retval), int(options.duration)

    def _missed_by_links(self) -> dict[str, int]:
        missed: dict[str, int] = {}
        for link in self._attacher.links:
            count = link_misses(link.fd)
            if count:
                missed[link.name] = missed.get(link.name, 0) + count
        return missed

    def _map(self, spec: MapSpec) -> LiveMap:
        if spec.symbol not in self._maps:
            self._maps[spec.symbol] = live_map(spec, self._object.map_fd)
        return self._maps[spec.symbol]

    def _counters(self, symbol: str) -> tuple[int, ...]:
        """The sums over the CPUs of a per-CPU array of counters."""
        spec = next((m for m in self.plan.maps if m.symbol == symbol), None)
        if spec is None:
            return ()
        return tuple(_total(values) for _, values in self.read_map(spec))


def _total(values: Values) -> int:
    """The sum of a counter's values."""
    cells = values if isinstance(values, tuple) else (values,)
    return sum(int.from_bytes(cell, "little") for cell in cells)
