"""Reading and writing maps, and scratch variables (reference part 1, section 9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from pytrace.codegen.frame import I64, PTR, Frame
from pytrace.codegen.maptable import MapTable, user_symbol
from pytrace.codegen.records import RecordEmitter
from pytrace.codegen.rereads import Rereads
from pytrace.grammar.data import dataclass
from pytrace.grammar.emit import SUM_ELEMENTS, Slot, Value
from pytrace.grammar.hints import Any
from pytrace.grammar.nodes import Call, Expr, Identifier, Map, MapElement, Variable
from pytrace.grammar.plan import MapSpec, PlanBuilder, Tier
from pytrace.grammar.promote import is_scalar, settled
from pytrace.grammar.settings import SettingError
from pytrace.grammar.source import Span
from pytrace.grammar.spec import Aggregation, CallSite, Context, Registry, Sink
from pytrace.grammar.types import (
    INT32,
    INT64,
    NONE,
    UINT8,
    UINT32,
    UINT64,
    Aggregate,
    Int,
    Space,
    String,
    Type,
    round_up,
    size_of,
)
from pytrace.grammar.typing import Binding, ProgramTypes, TypedProbe

BPF_ANY = 0
CLOCKS = frozenset({"ktime_get_ns", "ktime_get_boot_ns", "ktime_get_tai_ns", "ktime_get_coarse_ns"})
ENOENT = 2
E2BIG = 7


@dataclass(frozen=True, slots=True)
class Element:
    """A map element that is about to be used: its map and the memory with its key."""

    spec: MapSpec
    variable: Any
    key: Slot
    span: Span


class MapAccess(RecordEmitter):
    """The part of the generator that knows maps and variables."""

    def __init__(
        self,
        frame: Frame,
        maps: MapTable,
        plan: PlanBuilder,
        context: Context,
        source: ProgramTypes,
        registry: Registry,
        typed: TypedProbe,
    ) -> None:
        super().__init__(frame, maps, plan, context, source)
        self.registry = registry
        self.typed = typed
        self.storages: dict[Binding, Any] = {}
        self.in_scratch: dict[Binding, int] = {}  # variables in scratch memory: where in it
        self.rereads = Rereads(typed, registry)
        self.short_text: tuple[Expr | None, int] = None, 0

    @property
    def sink(self) -> Sink:
        """See Emitter."""
        return self.typed.target.sink

    def is_control(self, feature: str, params: tuple[Any, ...]) -> bool:
        """See Emitter."""
        return self.registry.action(feature).is_control(params)

    def helper(self, name: str, *arguments: Value | Slot, type: Type = UINT64) -> Value:
        """See Emit. For tests a map can stand in for the clocks."""
        if name in CLOCKS and self.config.dummy_ts_map:
            return self.convert(self._dummy_time(self.config.dummy_ts_map), type)
        return super().helper(name, *arguments, type=type)

    def _dummy_time(self, label: str) -> Value:
        spec = self.maps.specs.get(user_symbol(label[1:]))
        if spec is None or not spec.scalar or not isinstance(spec.value.type, Int):
            raise SettingError(f"dummy_ts_map: the program has no map {label} of one integer")
        return self.read_element(self.locate_element(label[1:], None, self.typed.probe.span), spec.value.type)

    # ---- scratch variables

    def storage(self, binding: Binding) -> Any:
        """Where a variable lies: a register-sized word for scalars and references, else its bytes."""
        if binding in self.in_scratch:
            return self.frame.scratch_place(self.in_scratch[binding])
        if binding not in self.storages:
            kind = binding.type
            word = is_scalar(kind) or self.is_reference(kind) or kind == NONE
            # The verifier follows what is on the stack through every round of a loop, which may not come to an
            # end; of what is in scratch memory it knows nothing (so the context's address must not go there).
            carried = binding.carried and getattr(kind, "space", Space.NONE) is not Space.DIRECT
            if carried or not (word or self.frame.has_room(size_of(kind))):
                # all functions of a program find it at the same offset
                self.in_scratch[binding] = self.frame.scratch_used
                return self.frame.scratch_memory(8 if word else size_of(kind))
            if word:
                place = self.frame.alloca(I64)
                with self.builder.goto_block(self.frame.prologue):
                    self.builder.store(ir.Constant(I64, 0), place)
            else:
                place = self.frame.memory(size_of(kind), zero=True).raw
            self.storages[binding] = place
        return self.storages[binding]

    def load_variable(self, binding: Binding) -> Value:
        """The value of a scratch variable."""
        place = self.storage(binding)
        if is_scalar(binding.type) or self.is_reference(binding.type) or binding.type == NONE:
            return Value(binding.type, self.builder.load(place, typ=I64))
        return Value(binding.type, place, 8)

    def store_variable(self, binding: Binding, value: Value) -> None:
        """Give a scratch variable a value."""
        place = self.storage(binding)
        if is_scalar(binding.type) or self.is_reference(binding.type) or binding.type == NONE:
            self.builder.store(self.convert(value, binding.type).raw, place)
        else:
            self.store(Slot(place, size_of(binding.type)), 0, self.convert(value, binding.type))

    def clear_variable(self, binding: Binding) -> None:
        """Set a scratch variable to zero."""
        place = self.storage(binding)
        if is_scalar(binding.type) or self.is_reference(binding.type) or binding.type == NONE:
            self.builder.store(ir.Constant(I64, 0), place)
        else:
            self.frame.fill_zero(place, round_up(size_of(binding.type), 8))

    # ---- keys

    def element(self, target: Map | MapElement) -> Element:
        """The map and key that `@m` or `@m[k]` means."""
        name, key = (target.map, target.key) if isinstance(target, MapElement) else (target, None)
        return self.locate_element(name.name, key, target.span)

    def locate_element(self, name: str, key: Expr | None, span: Span) -> Element:
        """The element of a map by name; without a key that of a scalar map."""
        spec, variable = self.maps.user(name)
        self.rereads.forget(name)  # what reads an element remembers it afterwards
        if spec.presence:
            return Element(spec, variable, Slot(self.frame.zero_key(), 4), span)
        if key is None:
            slot = self.scratch(spec.key_size, zero=True)
            return Element(spec, variable, slot, span)
        kind = spec.key.type
        if spec.tiers and isinstance(kind, String) and self.typed.types.get(key) == kind:
            self.short_text = self.typed.expansions.get(key, key), spec.tiers[0].size
        value = self.convert(self.own_key(self.value(key)), kind)
        plain = not spec.buckets and not is_scalar(kind)
        if plain:
            return Element(spec, self.tier(spec, variable, value.raw), Slot(value.raw, spec.key_size), span)
        slot = self.scratch(spec.key_size, zero=spec.buckets)
        self.store(slot, 0, value)
        return Element(spec, variable, slot, span)

    def read_text(self, node: Expr, room: int, count: int | Value, address: Value, space: Space) -> Slot:
        """See Emit. Of a key that belongs to a map of short keys only those bytes are looked at: the others are set to
        zero if the string turns out to be longer (filling 1 KiB takes 40 ns)."""
        short = self.short_text[1] if node is self.short_text[0] else room
        if short >= room:
            slot = self.scratch(room)
            self.read_string(slot, count, address, space)
            return slot
        slot = self.scratch(room, zero=False)
        self.frame.fill_zero(slot.raw, short)
        self.read_string(slot, count, address, space)

        def read_again() -> None:
            self.frame.fill_zero(slot.raw, room)
            self.read_string(slot, count, address, space)

        self.when(self.truth(self.load(slot, short - 1, UINT8)), read_again)
        return slot

    def tier(self, spec: MapSpec, variable: Any, key: Any) -> Any:
        """The one of a map's tiers, or the map itself, that a key belongs to."""
        for tier in reversed(spec.tiers):
            variable = self.builder.select(self.bit(self.is_short(tier, key)), self.maps.short(tier), variable)
        return variable

    def is_short(self, tier: Tier, key: Any) -> Value:
        """Whether a key belongs to a tier and not to one of longer keys."""
        word = self.load(Slot(key, tier.size), tier.at, Int(tier.width))
        return self.compare("<=", word, self.integer(tier.most))

    def own_key(self, value: Value) -> Value:
        """A key's bytes must lie in the program's memory."""
        if not self.is_reference(value.type):
            return value
        slot = self.scratch(size_of(value.type))
        self.store(slot, 0, value)
        return self.at(slot, settled(value.type))

    def find(self, element: Element) -> Any:
        """The address of an element's value in the kernel's map, or null.

        Each tier has a call of its own: a call that is always of the same map is inlined by the kernel.
        """
        tiers = element.spec.tiers
        if not tiers:
            return self.frame.call_pointer("map_lookup_elem", element.variable, element.key.raw)
        place = self.frame.alloca(PTR)

        def look(index: int) -> None:
            symbol = tiers[index].symbol if index < len(tiers) else element.spec.symbol
            key = self.frame.apart(element.key.raw, index)
            found = self.frame.call_pointer("map_lookup_elem", self.maps.variables[symbol], key)
            self.put(self.frame.apart(found, index), place)

        def choose(index: int) -> None:
            if index == len(tiers):
                look(index)
                return
            short = self.is_short(tiers[index], element.key.raw)
            self.when(short, lambda: look(index), lambda: choose(index + 1))

        choose(0)
        return self.builder.load(place, typ=PTR)

    def lookup(self, map: str, key: Expr | None) -> Value:
        """See Emit."""
        element = self.locate_element(map, key, self.typed.probe.span)
        if element.spec.buckets and not element.spec.presence:
            return self._any_bucket(element)
        return Value(INT64, self.builder.ptrtoint(self.find(element), I64))

    def _any_bucket(self, element: Element) -> Value:
        """Whether a key has elements: one for each bucket in use."""
        result = Slot(self.frame.alloca(I64), 8)
        self.store(result, 0, self.integer(0))

        def look(key: Slot, result: Slot) -> Value:
            there = self.not_null(self.frame.call_pointer("map_lookup_elem", element.variable, key.raw))
            self.store(result, 0, there)
            return there

        self._each_bucket(element, result, look)
        return self.load(result, 0, INT64)

    def _each_bucket(self, element: Element, result: Slot, work: Callable[[Slot, Slot], Value]) -> None:
        """Work on a key with each of its buckets, and on the result, until that gives a true value."""
        kind, at = element.spec.value.type, round_up(size_of(element.spec.key.type), 8)
        assert isinstance(kind, Aggregate)

        def one(number: Value, carried: Sequence[Value | Slot]) -> Value:
            key, shared = carried
            assert isinstance(key, Slot)
            assert isinstance(shared, Slot)
            self.store(key, at, self.convert(number, UINT64))
            return work(key, shared)

        self.loop(self.registry.aggregation(kind).buckets(kind), [element.key, result], one)

    def take(self, map: str, key: Expr | None, variable: Expr) -> Value:
        """See Emit."""
        assert isinstance(variable, Variable)
        element, binding = self.locate_element(map, key, variable.span), self.typed.variables[variable]
        kind = element.spec.value.type
        found = self.find(element)

        def keep() -> None:
            if isinstance(kind, Aggregate):
                value = self.read_aggregate(element, kind)
            elif is_scalar(kind):
                value = self.load(Slot(found, size_of(kind)), 0, kind)
            else:
                value = Value(kind, found)  # the kernel aligns values to 8
            self.store_variable(binding, value)

        there = self.not_null(found)
        self.when(there, keep, self.missing(element))
        return there

    def delete(self, map: str, key: Expr | None) -> Value:
        """See Emit."""
        element = self.locate_element(map, key, self.typed.probe.span)
        if element.spec.presence:
            return self.empty(element)
        if element.spec.buckets:
            return self._delete_buckets(element)
        return Value(INT64, self.frame.call("map_delete_elem", element.variable, element.key.raw))

    def _delete_buckets(self, element: Element) -> Value:
        """Delete all elements of a key. 0, or -ENOENT."""
        result = Slot(self.frame.alloca(I64), 8)
        self.store(result, 0, self.integer(-ENOENT))

        def delete(key: Slot, result: Slot) -> Value:
            failed = self.truth(Value(INT64, self.frame.call("map_delete_elem", element.variable, key.raw)))
            self.when(failed, lambda: None, lambda: self.store(result, 0, self.integer(0)))
            return self.integer(0)

        self._each_bucket(element, result, delete)
        return self.load(result, 0, INT64)

    def empty(self, element: Element) -> Value:
        """What `delete` does to an array: every value and presence word becomes zero. 0, or -ENOENT."""
        spec = element.spec
        result = Slot(self.frame.alloca(I64), 8)
        self.store(result, 0, self.integer(-ENOENT))

        def clear(found: Any, result: Slot) -> None:
            there = self.load(Slot(found, 8), spec.presence_at, UINT64)
            self.when(there, lambda: self.store(result, 0, self.integer(0)))
            self.frame.fill_zero(found, spec.kernel_sizes[1])

        def one(key: Any, result: Slot) -> None:
            if not spec.per_cpu:
                found = self.frame.call_pointer("map_lookup_elem", element.variable, key)
                self.when(self.not_null(found), lambda: clear(found, result))
                return

            def cpu(number: Value) -> None:
                where = self.frame.i32(number.raw)
                found = self.frame.call_pointer("map_lookup_percpu_elem", element.variable, key, where)
                self.when(self.not_null(found), lambda: clear(found, result))

            self.repeat(self.compile_context.host.cpus, cpu)

        def bucket(number: Value, carried: Sequence[Value | Slot]) -> Value:
            (shared,) = carried
            assert isinstance(shared, Slot)
            one(self.short_key(number), shared)
            return self.integer(0)

        if spec.max_entries == 1:
            one(element.key.raw, result)
        else:
            self.loop(spec.max_entries, [result], bucket)
        return self.load(result, 0, INT64)

    def mark(self, element: Element, found: Any) -> None:
        """Note in an array that an element is there."""
        if element.spec.presence:
            self.put(self.integer(1).raw, self.frame.offset(found, element.spec.presence_at))

    def count_elements(self, map: str, sums: bool = False) -> Value:
        """See Emit. The helper calls a function for each element and gives their number."""
        spec, variable = self.maps.user(map)
        # the kernel counts the elements of hashes; not what is present in arrays, nor one map of several
        if sums and not spec.presence and not spec.tiers:
            return self.kernel_function(SUM_ELEMENTS, ("long", "struct bpf_map *"), Value(UINT64, variable))
        none = ir.Constant(I64, 0)
        unused = self.frame.zero_key()  # the helper insists on a pointer to the stack
        counted = self.frame.call("for_each_map_elem", variable, self.each_element(), unused, none)
        for tier in spec.tiers:
            short = self.maps.short(tier)
            others = self.frame.call("for_each_map_elem", short, self.each_element(), unused, none)
            counted = self.builder.add(counted, others)
        return Value(INT64, counted)

    def each_element(self) -> ir.Function:
        """A function that does nothing with a map element."""
        module = self.frame.function.module
        known = module.globals.get("each_element")
        if known is not None:
            return known
        function = ir.Function(module, ir.FunctionType(I64, [PTR, PTR, PTR, PTR]), "each_element")
        function.linkage = "internal"
        for argument, name in zip(function.args, ("map", "key", "value", "ctx"), strict=True):
            argument.name = name
        frame = Frame(function, self.frame.debug, self.maps, self.typed.probe.span, 0, 0)
        frame.goto(frame.exit)
        frame.goto(frame.leave)
        frame.finish_callback()
        return function

    # ---- reading

    def read_map(self, node: Map | MapElement) -> Value:
        """The value of an element; zero if there is none."""
        if isinstance(node, MapElement) and (known := self.rereads.place(node)) is not None:
            return Value(self.maps.user(node.map.name)[0].value.type, self.builder.load(known, typ=I64))
        element = self.element(node)
        kind = element.spec.value.type
        if isinstance(kind, Aggregate):
            return self.read_aggregate(element, kind)
        value = self.read_element(element, kind)
        if isinstance(node, MapElement) and is_scalar(kind) and self.rereads.wanted(node):
            place = self.frame.alloca(I64)
            self.put(value.raw, place)
            self.rereads.keep(node, place)
        return value

    def read_element(self, element: Element, kind: Type) -> Value:
        """A plain value; zero if there is none."""
        found = self.find(element)
        if is_scalar(kind):
            result = self.frame.alloca(I64)
            self.builder.store(ir.Constant(I64, 0), result)
            source = Slot(found, size_of(kind))
            missing = self.missing(element)

            def read() -> None:
                self.put(self.load(source, 0, kind).raw, result)
                if missing is not None and element.spec.presence:
                    there = self.load(Slot(found, 8), element.spec.presence_at, UINT64)
                    self.when(there, lambda: None, missing)

            self.when(self.not_null(found), read, missing)
            return Value(kind, self.builder.load(result, typ=I64))
        slot = self.scratch(size_of(kind), zero=True)
        self.when(
            self.not_null(found),
            lambda: self.frame.copy_bytes(slot.raw, found, size_of(kind)),  # the kernel aligns values to 8
            self.missing(element),
        )
        return self.at(slot, kind)

    def missing(self, element: Element) -> Callable[[], None] | None:
        """What is to be done when an element is not there: `-k` reports it."""
        if not self.compile_context.helper_errors:
            return None
        return lambda: self.warn("lookup", self.integer(0), element.span, "map_lookup_elem")

    def put(self, raw: Any, place: Any) -> None:
        """Store a register into a variable."""
        self.builder.store(raw, place)

    def read_aggregate(self, element: Element, kind: Aggregate) -> Value:
        """The integer that a castable aggregation stands for, over all CPUs."""
        feature = self.registry.aggregation(kind)
        if not feature.castable:
            return self.integer(0, kind)  # a statement `@h;`: nothing can be done with the value
        total = self.scratch(8 * feature.words, zero=True)

        def one(cpu: Value) -> None:
            found = self.frame.call_pointer(
                "map_lookup_percpu_elem", element.variable, element.key.raw, self.frame.i32(cpu.raw)
            )
            cell = Slot(found, 8 * feature.words)
            self.when(self.not_null(found), lambda: feature.combine(self, total, cell, kind.signed))

        self.repeat(self.compile_context.host.cpus, one)
        return feature.result(self, total, kind.signed)

    # ---- writing

    def write_map(self, target: Map | MapElement, value: Value) -> None:
        """`@m[k] = value`"""
        element = self.element(target)
        kind = element.spec.value.type
        value = self.convert(value, kind)
        if element.spec.presence:
            found = self.find(element)
            self.when(self.not_null(found), lambda: self.put_in_place(element, found, value))
            return
        if is_scalar(kind) or self.is_reference(value.type):
            slot = self.scratch(max(1, size_of(kind)), zero=False)
            self.store(slot, 0, value)
        else:
            slot = Slot(value.raw, size_of(kind))
        self.update(element, slot)

    def put_in_place(self, element: Element, found: Any, value: Value) -> None:
        """Give an array's element a value."""
        self.store(Slot(found, size_of(value.type)), 0, value)
        self.mark(element, found)

    def update(self, element: Element, value: Slot) -> None:
        """Write an element; a map that is full is reported."""
        code = self.frame.call(
            "map_update_elem", element.variable, element.key.raw, value.raw, ir.Constant(I64, BPF_ANY)
        )
        # the kernel calls the map's own function, which before Linux 6.4 returned an int
        self.check_update(self.convert(Value(INT64, code), INT32), element)

    def check_update(self, code: Value, element: Element) -> None:
        """Tell of an update that the kernel refused."""
        failed = self.compare("<", code, self.integer(0), signed=True)
        self.when(failed, lambda: self.refused(code, element))

    def refused(self, code: Value, element: Element) -> None:
        """A map that is full is counted each time and told of the first time on each CPU; the total stands with the
        result."""
        number = [m.symbol for m in self.plan.maps if m.name].index(element.spec.symbol)
        action = self.warning("update", element.span, "map_update_elem")
        given = {"number": self.integer(number, UINT32), "code": code}
        if action is not None:
            given["action"] = self.integer(action.number)

        def work(inside: dict[str, Value]) -> None:
            tell = (lambda: self.tell(action, inside)) if action is not None else (lambda: None)

            def count() -> None:
                self.bump(self.maps.refused(), self.short_key(inside["number"]), tell)

            self.when(self.compare("==", inside["code"], self.integer(-E2BIG)), count, tell)

        self.aside("update_failed", given, work)

    def step_map(self, target: Map | MapElement, stepped: Callable[[Value], Value], kind: Type, prefix: bool) -> Value:
        """`@m[k]++`: in place if the element exists, else it starts from zero."""
        element = self.element(target)
        stored = element.spec.value.type
        found = self.find(element)
        result = self.frame.alloca(I64)

        def step(old: Value) -> Value:
            new = stepped(self.convert(old, kind))
            self.builder.store((new if prefix else old).raw, result)
            return self.convert(new, stored)

        def present() -> None:
            slot = Slot(found, size_of(stored))
            self.store(slot, 0, step(self.load(slot, 0, stored)))
            self.mark(element, found)

        def absent() -> None:
            if element.spec.presence:
                self.put(self.integer(0).raw, result)  # cannot be: an array has all its elements
                return
            slot = self.scratch(size_of(stored), zero=False)
            self.store(slot, 0, step(self.integer(0, stored)))
            self.update(element, slot)

        self.when(self.not_null(found), present, absent)
        return Value(kind, self.builder.load(result, typ=I64))

    def update_aggregate(self, target: Map | MapElement, node: Call | Identifier) -> None:
        """`@m[k] = count()` and the like: this CPU's cell."""
        site = self.typed.sites[node]
        feature = site.feature
        assert isinstance(feature, Aggregation)
        arguments = [self.value(a) for a in site.arguments]
        element = self.element(target)
        kind = element.spec.value.type
        word = INT64 if isinstance(kind, Aggregate) and kind.signed else UINT64
        arguments = [self.convert(a, word) if is_scalar(a.type) else a for a in arguments]
        arguments = [*feature.prepare(self, site, arguments)]
        if feature.bucketed:
            bucket = feature.bucket(self, site, arguments)
            if element.spec.presence:
                element = Element(element.spec, element.variable, Slot(self.short_key(bucket), 4), element.span)
                self.aggregate_in_place(element, feature, site, arguments)
                return
            self.store(element.key, round_up(size_of(element.spec.key.type), 8), bucket)
        if element.spec.presence:
            self.aggregate_in_place(element, feature, site, arguments)
            return
        place = self.frame.alloca(PTR)
        self.builder.store(self.find(element), place)
        missing = self.compare("==", self.not_null(self.builder.load(place, typ=PTR)), self.integer(0))

        def insert() -> None:
            self.update(element, self.scratch(8 * feature.words, zero=True))
            self.builder.store(self.find(element), place)

        self.when(missing, insert)
        cell = self.builder.load(place, typ=PTR)
        slot = Slot(cell, 8 * feature.words)
        self.when(self.not_null(cell), lambda: feature.update(self, site, slot, arguments))

    def aggregate_in_place(
        self, element: Element, feature: Aggregation, site: CallSite, arguments: list[Value]
    ) -> None:
        """Update this CPU's cell in an array; one that is not there yet is all zero."""
        found = self.find(element)

        def update() -> None:
            feature.update(self, site, Slot(found, 8 * feature.words), arguments)
            self.mark(element, found)

        self.when(self.not_null(found), update)
