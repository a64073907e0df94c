"""The Plan: the contract between the compiler and the runtime.

It says which programs the BPF object holds and where each is to be attached, which maps there are, and —
in ONE table — every action: each kind of record that a program can send to user space, with its layout.
Code generation writes records by that layout and the event loop reads them by the same one. A Plan is plain
data: it can be pickled and used again with the object it was made with.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytrace.grammar.attaching import (
    Attach,
    KprobeMultiAttach,
    KprobeSessionAttach,
    OnDemand,
    SystemCallsAttach,
    UprobeAttach,
)
from pytrace.grammar.config import Config
from pytrace.grammar.data import dataclass, field
from pytrace.grammar.hints import Any
from pytrace.grammar.layout import Decoder, Layout, decoder
from pytrace.grammar.source import Span
from pytrace.grammar.types import round_up

# ---------------------------------------------------------------- programs, maps, actions


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """One BPF program of the object.

    `symbol` is its function in the object, `section` the section name by which libbpf knows its type,
    `attach` its places (several where one program serves many), `reverse` whether the kernel runs probes of this
    kind in reverse order of attaching.
    """

    symbol: str
    section: str
    attach: tuple[Attach, ...]
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Tier:
    """Which keys of a map with long keys are short, and lie in a map of their own with keys of `size` bytes.

    Hashing a key costs the kernel some 0.3 ns a byte, whatever is in it. A key is short if the unsigned word of
    `width` bytes at offset `at` is `most` or less; all its bytes from `size` on are zero then. A key belongs to the
    first tier that has it, else to the map itself.
    """

    symbol: str
    size: int
    at: int
    width: int
    most: int

    def has(self, key: bytes) -> bool:
        """Whether a key is short."""
        return int.from_bytes(key[self.at : self.at + self.width], "little") <= self.most


@dataclass(frozen=True, slots=True)
class MapSpec:
    """One BPF map of the object.

    `name` is the user's name with its `@`, empty for the maps pytrace itself needs; `symbol` the map's name in the
    object. `kind` is the kernel's map type without BPF_MAP_TYPE_ in lower case. `key` and `value` are layouts; a
    map of an aggregation has an `Aggregate` as value type and `value_size` bytes for each CPU. `buckets` says that the
    key is followed, 8-byte aligned, by a u64 bucket number. `scalar` maps have the one key 0.

    `presence` says that the kernel's map is an array, with the bucket number (or 0) as its 4-byte key, and that a
    word behind each value, 8-byte aligned, tells whether there is such an element. `key_size` and `value_size` stay
    those of the elements as everybody but the kernel sees them. Short keys are in the maps of `tiers`,
    the shortest first.
    """

    name: str
    symbol: str
    kind: str
    key: Layout
    value: Layout
    key_size: int
    value_size: int
    max_entries: int
    scalar: bool = False
    buckets: bool = False
    presence: bool = False
    tiers: tuple[Tier, ...] = ()

    @property
    def presence_at(self) -> int:
        """The offset of the word that says whether an element of an array is there."""
        return round_up(self.value_size, 8)

    @property
    def kernel_sizes(self) -> tuple[int, int]:
        """Bytes of a key and of a value in the kernel's map."""
        return (4, self.presence_at + 8) if self.presence else (self.key_size, self.value_size)

    @property
    def per_cpu(self) -> bool:
        """Whether each CPU has a value of its own."""
        return "percpu" in self.kind


RECORD_HEADER = 8  # bytes of the action's number at the start of every record


@dataclass(frozen=True, slots=True)
class Action:
    """A kind of record that programs send.

    `number` is what the record's first 8 bytes hold; `feature` names the class in the registry that handles it;
    `fields` are the values that follow, at `offsets`; `params` is what is known while compiling (the format
    string, the map's name, …); `span` is the call in the source.
    """

    number: int
    feature: str
    fields: tuple[Layout, ...]
    offsets: tuple[int, ...]
    size: int
    params: tuple[Any, ...] = ()
    span: Span | None = None

    def decoder(self) -> Decoder:
        """The function that gives the values of a record, header included in it."""
        return decoder(self.fields, self.offsets)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the runtime must know about a compiled program.

    `globals` names the 8-byte words of the object's global data, in order; the runtime fills those it knows
    (see `GLOBALS`) before the first program runs. `linked` says that imported objects are part of the object, which
    may have programs of their own.
    """

    programs: tuple[ProgramSpec, ...]
    maps: tuple[MapSpec, ...]
    actions: tuple[Action, ...]
    globals: tuple[str, ...]
    config: Config
    linked: bool = False

    @property
    def user_maps(self) -> tuple[MapSpec, ...]:
        """The maps of the program's text, in byte order of their names."""
        return tuple(sorted((m for m in self.maps if m.name), key=lambda m: m.name))

    def map(self, name: str) -> MapSpec:
        """The user map of that name (with its `@`)."""
        return next(m for m in self.maps if m.name == name)

    def on_demand(self, when: str) -> list[tuple[ProgramSpec, OnDemand]]:
        """The programs that the tracer runs itself at that time, in source order."""
        return [
            (program, place)
            for program in self.programs
            for place in program.attach
            if isinstance(place, OnDemand) and place.when == when
        ]

    @property
    def unwinds(self) -> bool:
        """Whether programs follow user stacks by unwind tables, which the runtime has to fill."""
        return any(m.symbol == UNWIND_PROCESSES for m in self.maps)

    @property
    def probe_count(self) -> int:
        """The N of `Attached N probes`."""
        return sum(count_of(a) for p in self.programs for a in p.attach)


def count_of(attach: Attach) -> int:
    """How many probes of `Attached N probes` a place is."""
    match attach:
        case KprobeMultiAttach(functions=functions) | KprobeSessionAttach(functions=functions):
            return len(functions)
        case SystemCallsAttach(probes=probes):
            return len(probes)
        case UprobeAttach(counted=counted):
            return int(counted)
        case _:
            return 1


# Words of global data that the runtime fills in.
GLOBALS = {
    "start_ns": "CLOCK_BOOTTIME in nanoseconds just before the begin probes run",
    "child_pid": "process id of the -c child, 0 without one",
    "target_pid": "process id given with -p, 0 without one",
    "cpus": "number of possible CPUs",
    "zero": "0, of which neither the optimiser nor the verifier knows",
    "tai_offset": "CLOCK_TAI minus CLOCK_BOOTTIME in nanoseconds",
    "pid_ns_dev": "device of the PID namespace that the tracer runs in; 0 when it is the initial one",
    "pid_ns_ino": "inode of that namespace",
}

# The maps that pytrace itself needs, by their names in the object.
RING = "events"
CONTROL = "control"  # ring buffer of control records (exit, clear, …) that found the other one full
GLOBAL_DATA = "globals"
OPTIONS = "options"  # array with one entry: the values of the program's own options, if only a run knows them
LOST = "lost"  # per-CPU array: [0] records that found the ring buffer full
REFUSED = "refused"  # per-CPU array: updates refused because the map was full, by map number
# per-CPU array: [0] is 1 while a program runs on the CPU, [1 + N] how often program N found it so and left
GUARD = "guard"


@dataclass(frozen=True, slots=True)
class Tables:
    """A map whose values are arrays that the runtime makes and fills: `kind` of map, bytes of a row of the arrays.

    The key is 4 bytes long, `max_entries` what it has unless the runtime says otherwise before the load.
    """

    kind: str
    row: int
    max_entries: int


# What programs that unwind stacks need to know of processes and their files. Little-endian words of 64 bits:
# By process id the executable mappings, in row 0 their number and how many addresses in none of them were met (programs
# count those); then, sorted, of each its start, its end, what to subtract from an address for a place in the file, and
# the number of the file (low half) with that of its rows (high half).
UNWIND_PROCESSES = "unwind_processes"
# By number of the file its rows, see runtime/ehframe.py.
UNWIND_FILES = "unwind_files"

TABLES = {
    UNWIND_PROCESSES: Tables("hash_of_maps", 32, 64),
    UNWIND_FILES: Tables("array_of_maps", 8, 1024),
}


@dataclass(slots=True)
class PlanBuilder:
    """A Plan that is still growing while code is generated."""

    config: Config
    programs: list[ProgramSpec] = field(default_factory=list)
    maps: list[MapSpec] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    globals: list[str] = field(default_factory=list)
    linked: bool = False
    _known: dict[tuple[Any, ...], Action] = field(default_factory=dict)

    def action(
        self,
        feature: str,
        fields: tuple[Layout, ...],
        params: tuple[Any, ...] = (),
        span: Span | None = None,
    ) -> Action:
        """The action with these properties, added to the table if it is new."""
        key = (feature, fields, params, span)
        if key not in self._known:
            offsets, size = record_offsets(fields)
            action = Action(len(self.actions), feature, fields, offsets, size, params, span)
            self.actions.append(action)
            self._known[key] = action
        return self._known[key]

    def global_word(self, name: str) -> int:
        """The index of a word of global data, added if it is new."""
        if name not in self.globals:
            self.globals.append(name)
        return self.globals.index(name)

    def finish(self) -> Plan:
        """The finished Plan."""
        parts = tuple(self.programs), tuple(self.maps), tuple(self.actions), tuple(self.globals)
        return Plan(*parts, self.config, self.linked)


def layouts(plan: Plan) -> Iterator[Layout]:
    """The layouts of all values that a Plan's records and maps have, and of their parts."""
    waiting = [layout for action in plan.actions for layout in action.fields]
    for spec in plan.maps:
        waiting += (spec.key, spec.value)
    while waiting:
        layout = waiting.pop()
        yield layout
        waiting += (part.layout for part in layout.parts)


def record_offsets(fields: tuple[Layout, ...]) -> tuple[tuple[int, ...], int]:
    """Where the values of a record lie (each 8-byte aligned) and how long the record is."""
    offsets, end = [], RECORD_HEADER
    for layout in fields:
        offsets.append(end)
        end = round_up(end + layout.size, 8)
    return tuple(offsets), end
