"""The maps of an object: what kind and size each gets, and their definitions in the module."""

from __future__ import annotations

from llvmlite import ir

from pytrace.codegen.debuginfo import DebugInfo
from pytrace.grammar.data import replace
from pytrace.grammar.hints import Any
from pytrace.grammar.layout import Layout, layout_of
from pytrace.grammar.plan import (
    CONTROL,
    GLOBAL_DATA,
    GUARD,
    LOST,
    OPTIONS,
    REFUSED,
    RING,
    TABLES,
    MapSpec,
    PlanBuilder,
    Tier,
)
from pytrace.grammar.promote import is_scalar
from pytrace.grammar.spec import Registry
from pytrace.grammar.types import (
    INT64,
    UINT32,
    UINT64,
    Aggregate,
    Stack,
    String,
    Tuple,
    Type,
    offsets_of,
    round_up,
    size_of,
)
from pytrace.grammar.typing import MapInfo, TypedProgram, whole_maps

# include/uapi/linux/bpf.h, enum bpf_map_type
KINDS = {
    "hash": 1,
    "array": 2,
    "percpu_hash": 5,
    "percpu_array": 6,
    "lru_hash": 9,
    "lru_percpu_hash": 10,
    "array_of_maps": 12,
    "hash_of_maps": 13,
    "ringbuf": 27,
}

# kinds as map declarations name them -> the kernel's
DECLARED = {
    "hash": "hash",
    "lruhash": "lru_hash",
    "percpuhash": "percpu_hash",
    "percpulruhash": "lru_percpu_hash",
}

CONTROL_BYTES = 1 << 14
# Keys that end in a shorter string (in bytes, its NUL included), or in a stack of so many frames at most, have maps
# of their own. Most names of files fit, and most stacks.
SHORT_STRINGS = (64,)
SHORT_STACKS = (8, 28)
WORDS = ("bpftrace", "raw", "perf")  # modes of stacks that are {…, u64 count, u64 addresses[limit]}

RING_BYTES = 1 << 18  # until the runtime sets what the configuration says


class MapTable:
    """The maps of one module; those pytrace needs itself are made when they are first asked for."""

    def __init__(
        self, module: ir.Module, debug: DebugInfo, plan: PlanBuilder, program: TypedProgram, registry: Registry
    ) -> None:
        self.module = module
        self.debug = debug
        self.plan = plan
        self.registry = registry
        self.variables: dict[str, ir.GlobalVariable] = {}
        self.specs: dict[str, MapSpec] = {}
        self._constants: dict[bytes, ir.GlobalVariable] = {}
        self.scratch_size = 0
        self.scratch_users = 0
        self.large_scratches = 0
        self.cpus = program.source.host.cpus
        unused, whole = program.unused_maps, whole_maps(program.running)
        for name in sorted(program.maps):
            info = program.maps[name]
            if info.assigned and name not in unused:
                self._add_user(user_map(info, registry, program, plan), name not in whole)

    def _add_user(self, spec: MapSpec, divisible: bool) -> None:
        """A map of the program's text; with one for short keys where that pays and is allowed."""
        tiers = tiers_of(spec) if divisible and spec.kind in ("hash", "percpu_hash") and not spec.buckets else ()
        self._add(replace(spec, tiers=tiers) if tiers else spec)
        for tier in tiers:
            self._add(replace(spec, name="", symbol=tier.symbol, key_size=tier.size))

    def _add(self, spec: MapSpec) -> None:
        self.plan.maps.append(spec)
        self.specs[spec.symbol] = spec
        self._define(spec, self._declare(spec.symbol))

    def _declare(self, symbol: str) -> ir.GlobalVariable:
        # the content does not matter: libbpf reads the map's definition from the variable's type
        variable = ir.GlobalVariable(self.module, ir.ArrayType(ir.IntType(64), 5), symbol)
        variable.section = ".maps"
        variable.initializer = ir.Constant(variable.value_type, None)
        variable.align = 8
        self.variables[symbol] = variable
        return variable

    def _define(self, spec: MapSpec, variable: ir.GlobalVariable) -> None:
        settings = {"type": KINDS[spec.kind]}
        if spec.kind != "ringbuf":
            key_size, value_size = spec.kernel_sizes
            settings |= {"key_size": key_size, "value_size": value_size}
        settings["max_entries"] = spec.max_entries
        self.debug.map(variable, settings)

    def user(self, name: str) -> tuple[MapSpec, Any]:
        """A map of the program's text, by its name without `@`."""
        symbol = user_symbol(name)
        return self.specs[symbol], self.variables[symbol]

    def short(self, tier: Tier) -> Any:
        """The map for the short keys of a user map."""
        return self.variables[tier.symbol]

    def ring(self) -> Any:
        """The ring buffer of events."""
        return self._internal(RING, "ringbuf", 0, 0, RING_BYTES)

    def control(self) -> Any:
        """The ring buffer in reserve for control records."""
        return self._internal(CONTROL, "ringbuf", 0, 0, CONTROL_BYTES)

    def lost(self) -> Any:
        """The counter of records that found no room."""
        return self._internal(LOST, "percpu_array", 4, 8, 1)

    def refused(self) -> Any:
        """The counters of updates that a full map refused, by number of the user map."""
        return self._internal(REFUSED, "percpu_array", 4, 8, sum(1 for m in self.plan.maps if m.name))

    def guard(self, programs: int) -> Any:
        """Whether a program runs on the CPU, and how often each of so many found that one does."""
        return self._internal(GUARD, "percpu_array", 4, 8, 1 + programs)

    def global_data(self) -> Any:
        """The words that the runtime fills in; more than enough room for all of them."""
        return self._internal(GLOBAL_DATA, "array", 4, 128, 1)

    def option_data(self, size: int) -> Any:
        """The values of the program's own options."""
        return self._internal(OPTIONS, "array", 4, size, 1)

    def constant(self, data: bytes) -> Any:
        """Read-only bytes, which libbpf puts into a map of their own."""
        if data not in self._constants:
            kind = ir.ArrayType(ir.IntType(8), len(data))
            variable = ir.GlobalVariable(self.module, kind, f"constant_{len(self._constants)}")
            variable.linkage = "internal"
            variable.section = ".rodata"
            variable.global_constant = True
            variable.initializer = ir.Constant(kind, bytearray(data))
            variable.align = 8
            self._constants[data] = variable
        return self._constants[data]

    def tables(self, name: str) -> Any:
        """A map of arrays that the runtime makes (`plan.TABLES`)."""
        kind = TABLES[name]
        return self._internal(name, kind.kind, 4, 4, kind.max_entries)

    def scratch(self, size: int) -> Any:
        """Scratch memory: one entry for each program that needs some, which this adds."""
        self.scratch_users += 1
        self.scratch_size = max(self.scratch_size, size)
        return self.variables.get("scratch") or self._declare("scratch")

    def large_scratch(self, size: int) -> Any:
        """Scratch memory of one program that needs more than per-CPU memory has: an entry for each CPU."""
        self.large_scratches += 1
        return self._internal(f"scratch_{self.large_scratches}", "array", 4, size, self.cpus)

    def finish(self) -> None:
        """Define the scratch map, whose size is known now; to be called once, at the end."""
        if self.scratch_users:
            empty, size = (Layout(UINT32), Layout(UINT64)), self.scratch_size
            spec = MapSpec("", "scratch", "percpu_array", *empty, 4, size, self.scratch_users)
            self.plan.maps.append(spec)
            self._define(spec, self.variables["scratch"])

    def _internal(self, symbol: str, kind: str, key: int, value: int, entries: int) -> Any:
        if symbol not in self.variables:
            empty = Layout(UINT32), Layout(UINT64)
            self._add(MapSpec("", symbol, kind, *empty, key, value, entries))
        return self.variables[symbol]


def user_symbol(name: str) -> str:
    """The name of a user map in the object; a prefix keeps it apart from pytrace's own."""
    return f"AT_{name}"


def tiers_of(spec: MapSpec) -> tuple[Tier, ...]:
    """How the short keys of a map are told from others: those whose last part, a string or a stack, is short."""
    kind: Type = spec.key.type
    start = 0
    if isinstance(kind, Tuple) and kind.items:
        start, kind = offsets_of(kind.items)[-1], kind.items[-1]
    tiers = []
    if isinstance(kind, String):
        for most in SHORT_STRINGS:
            size = start + most
            # the last byte is the NUL, or one of the zeros behind it
            tiers.append(Tier(f"SHORT_{most}_{spec.symbol}", size, size - 1, 1, 0))
    elif isinstance(kind, Stack) and kind.mode in WORDS:
        head = start + size_of(kind) - 8 * kind.limit
        for most in SHORT_STACKS:
            tiers.append(Tier(f"SHORT_{most}_{spec.symbol}", head + 8 * most, head - 8, 8, most))
    return tuple(tier for tier in tiers if tier.size <= spec.key_size // 2)


def user_map(info: MapInfo, registry: Registry, program: TypedProgram, plan: PlanBuilder) -> MapSpec:
    """Kind and size of a map of the program's text (reference part 1, section 9.3)."""
    config = plan.config
    value, aggregate = info.value, isinstance(info.value, Aggregate)
    buckets, cells = False, 1
    value_size = size_of(value)
    if isinstance(value, Aggregate):
        feature = registry.aggregation(value)
        buckets, value_size = feature.bucketed, 8 * feature.words
        cells = feature.buckets(value)
    key: Type = INT64 if info.scalar else info.key
    key_size = size_of(key)
    if buckets:
        key_size = round_up(key_size, 8) + 8
    kind = "percpu_hash" if aggregate else "hash"
    entries = config.max_map_keys if buckets or not info.scalar else 1
    # an array has all its elements from the start, so it must not be larger than a hash would be
    presence = bool(info.scalar) and (aggregate or is_scalar(value)) and cells <= config.max_map_keys
    presence = presence and info.declaration is None
    if presence:
        kind, entries = "percpu_array" if aggregate else "array", cells
    if info.declaration is not None:
        kind, entries = DECLARED[info.declaration.kind], info.declaration.entries
    return MapSpec(
        info.label, user_symbol(info.name), kind, layout_of(key, program.source),
        layout_of(value, program.source), key_size, max(1, value_size), entries, bool(info.scalar), buckets, presence,
    )  # fmt: skip
