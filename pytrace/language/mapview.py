"""From the raw entries of a BPF map to what is shown: text, JSON, Python values (reference part 2, 3.3, 7).

A map of 100,000 keys goes through here in one piece, so whatever depends only on the map's types is decided
once, as functions, and the loops over entries call those.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property, partial
from operator import itemgetter

from pytrace.grammar.columns import Columns
from pytrace.grammar.data import dataclass
from pytrace.grammar.hints import Any
from pytrace.grammar.layout import Layout, Part, decode
from pytrace.grammar.plan import MapSpec
from pytrace.grammar.spec import Output, Registry, Services
from pytrace.grammar.types import Aggregate, EnumType, Int, Pointer, String, Tuple, round_up
from pytrace.language.aggregations.numbers import Count, Sum, divide
from pytrace.language.jsonvalue import clean, hashable, jsonable, number, python_value
from pytrace.language.text import shower

# a map's element as the runtime reads it: key, and one value or the values of all CPUs
RawEntry = tuple[bytes, bytes | Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class ValueView:
    """What can be done with the values of one map, decided by their type."""

    read: Callable[[Any], Any]
    order: Callable[[Any], Any] | None  # None: the map is sorted by key
    text: Callable[[Any, int], str]
    json: Callable[[Any, int], Any]
    python: Callable[[Any], Any]
    document: str = "map"
    picture: bool = False  # several lines
    relate: Callable[[list[Any]], list[Any]] | None = None  # what is shown depends on the other values
    by_key: bool = False  # sorted by the keys' bytes
    read_all: Callable[[Columns], list[Any] | None] = lambda columns: None  # what `read` makes of each, if fast
    digits: bool = False  # integers, shown as such


class MapSnapshot:
    """A map as it was at one moment: its elements in the order in which they are printed.

    `entries` are in the kernel's order; those of one histogram may be scattered.
    """

    def __init__(self, spec: MapSpec, entries: Iterable[RawEntry], registry: Registry, services: Services) -> None:
        self.spec = spec
        self._services = services
        self._key_text = shower(spec.key, services)
        self._view = value_view(spec.value, registry, services)
        values = self._view.read_all(entries) if isinstance(entries, Columns) else None
        self._plain = values is not None and isinstance(spec.key.type, Int)  # keys are kept as numbers
        if isinstance(entries, Columns) and values is not None:
            keys = integers(spec.key, entries.raw_keys) if self._plain else entries.split_keys()
            rows: list[tuple[Any, Any]] = list(zip(keys, values, strict=True))
        else:
            rows = self._elements(entries)
        if not spec.scalar:
            self._sort(rows)
        self._rows = rows
        self._label_cache: tuple[int, list[str]] | None = None

    def _elements(self, entries: Iterable[RawEntry]) -> list[tuple[Any, Any]]:
        """The keys as they are, and the values."""
        raw = _gather_buckets(self.spec, entries) if self.spec.buckets else list(entries)
        values = [self._view.read(value) for _, value in raw]
        if self._view.relate is not None:
            values = self._view.relate(values)
        return [(key, value) for (key, _), value in zip(raw, values, strict=True)]

    def _sort(self, rows: list[tuple[Any, Any]]) -> None:
        order = self._view.order
        if self._view.by_key:
            rows.sort(key=lambda row: row[0])
            return
        if order is not None:
            rows.sort(key=itemgetter(1) if self._view.digits else lambda row: order(row[1]))
            return
        by_key = key_order(self.spec.key)
        rows.sort(key=lambda row: by_key(row[0]))

    def _shown(self, top: int) -> list[tuple[Any, Any]]:
        return self._rows[-top:] if top > 0 else self._rows

    def text(self, top: int = 0, divisor: int = 0) -> str:
        """The map as text mode prints it; empty when there is nothing in it.

        `top` keeps only the last that many elements, `divisor` divides the numbers; 0 means off.
        """
        name, view, divisor = self.spec.name, self._view, max(divisor, 1)
        show = view.text
        form = "{}{}:\n{}\n" if view.picture else "{}{}: {}\n"
        if self.spec.scalar:
            return "".join(form.format(name, "", show(value, divisor)) for _, value in self._rows)
        if self._plain and divisor == 1:
            return "".join([f"{name}[{key}]: {value}\n" for key, value in self._shown(top)])
        if view.digits and divisor == 1:
            pairs = zip(self._labels(top), self._shown(top), strict=True)
            return "".join([f"{name}[{label}]: {value}\n" for label, (_, value) in pairs])
        fill = form.format
        rows = zip(self._labels(top), self._shown(top), strict=True)
        return "".join([fill(name, f"[{key}]", show(value, divisor)) for key, (_, value) in rows])

    def json(self, top: int = 0, divisor: int = 0) -> dict[str, Any] | None:
        """The `data` of the map's JSON document (its `type` is `document`); None when there is none."""
        show, divisor = self._view.json, max(divisor, 1)
        if not self._rows:
            # the reference writes a document for these kinds even when they are empty
            return {self.spec.name: {}} if self.document == "stats" else None
        if self.spec.scalar:
            return {self.spec.name: show(self._rows[0][1], divisor)}
        elements: dict[str, Any] = {}
        for key, (_, value) in zip(self._labels(top), self._shown(top), strict=True):
            label = clean(key)
            short = label.replace(" ", "")
            elements[_unused(short, elements)] = show(value, divisor)
        return {self.spec.name: elements}

    @property
    def document(self) -> str:
        """The type of the map's JSON document."""
        return self._view.document

    def output(self, top: int = 0, divisor: int = 0) -> Output:
        """The map as something to show; with no text and no data when there is nothing to show."""
        if self._view.digits:
            return NumbersOutput(self, top, divisor)
        return Output(self.document, self.text(top, divisor), self.json(top, divisor))

    def value(self) -> Any:
        """The map for Python: a scalar map's value (None if it has none), else a dict in printing order."""
        python = self._view.python
        if self.spec.scalar:
            return python(self._rows[0][1]) if self._rows else None
        read = (lambda key: key) if self._plain else _reader(self.spec.key)
        simple = isinstance(self.spec.key.type, Int)
        found: dict[Hashable, Any] = {}
        for raw, value in self._rows:
            key = read(raw)
            if not simple:
                key = _unused(hashable(python_value(self.spec.key, key, self._services)), found)
            found[key] = python(value)
        return found

    def _labels(self, top: int) -> list[str]:
        """The texts between the brackets, made once for text and JSON (stacks take long); one outer pair of
        parentheses is dropped."""
        if self._label_cache is None or self._label_cache[0] != top:
            keys = [raw for raw, _ in self._shown(top)]
            if self._plain:
                labels = list(map(str, keys))
            elif isinstance(self.spec.key.type, Int):
                labels = list(map(str, integers(self.spec.key, b"".join(keys))))
            else:
                read, show = _reader(self.spec.key), self._key_text
                texts = [show(read(raw)) for raw in keys]
                labels = [text[1:-1] if text[:1] == "(" and text[-1:] == ")" else text for text in texts]
            self._label_cache = top, labels
        return self._label_cache[1]


class NumbersOutput(Output):
    """A map of plain numbers that is shown. Its data, which only JSON and Python need, is made when it is asked for."""

    def __init__(self, snapshot: MapSnapshot, top: int, divisor: int) -> None:
        super().__init__(snapshot.document, snapshot.text(top, divisor))
        del vars(self)["data"]  # which comes from the property
        self._how = snapshot, top, divisor

    @cached_property
    def data(self) -> dict[str, Any] | None:
        snapshot, top, divisor = self._how
        return snapshot.json(top, divisor)


def _unused(key: Any, taken: dict[Any, Any]) -> Any:
    """The key, with a number if another element shows the same (two addresses in one function)."""
    if key not in taken:
        return key
    count = 2
    while _numbered(key, count) in taken:
        count += 1
    return _numbered(key, count)


def _numbered(key: Any, count: int) -> Any:
    return (*key, f"#{count}") if isinstance(key, tuple) else f"{key}#{count}"


def _gather_buckets(spec: MapSpec, entries: Iterable[RawEntry]) -> list[tuple[bytes, Any]]:
    """Entries keyed {key, bucket} → one entry for each key, with a dict of its buckets' cells."""
    size = spec.key.size
    at = round_up(size, 8)
    found: dict[bytes, dict[int, Any]] = {}
    for key, value in entries:
        bucket = int.from_bytes(key[at : at + 8], "little")
        found.setdefault(key[:size], {})[bucket] = value
    return list(found.items())


# ---------------------------------------------------------------- values


def value_view(layout: Layout, registry: Registry, services: Services) -> ValueView:
    """How the values of a map are read and shown."""
    if isinstance(layout.type, Aggregate):
        return _aggregate_view(layout.type, registry)
    show, read = shower(layout, services), _reader(layout)
    python = partial(python_value, layout, services=services)
    if isinstance(layout.type, Int):
        return ValueView(
            read,
            lambda value: value,
            lambda value, divisor: str(divide(value, divisor)),
            lambda value, divisor: number(divide(value, divisor)),
            lambda value: value,
        )
    order = (lambda value: value) if isinstance(layout.type, EnumType) else None
    return ValueView(
        read,
        order,
        lambda value, divisor: show(value),
        lambda value, divisor: jsonable(layout, value, services),
        python,
    )


def _aggregate_view(kind: Aggregate, registry: Registry) -> ValueView:
    aggregation = registry.aggregation(kind)
    cell = struct.Struct(f"<{aggregation.words}Q").unpack_from

    def read(cpus: Sequence[bytes]) -> Any:
        return aggregation.read(kind, [cell(data) for data in cpus])

    def read_buckets(buckets: dict[int, Sequence[bytes]]) -> Any:
        cells = {number: [cell(data) for data in cpus] for number, cpus in buckets.items()}
        return aggregation.read(kind, cells)

    def read_all(columns: Columns) -> list[Any] | None:
        cells = None if aggregation.bucketed or aggregation.words > 1 else columns.cells
        return None if cells is None else aggregation.read_all(kind, array("Q", cells), columns.cpus)

    return ValueView(
        read_buckets if aggregation.bucketed else read,
        partial(aggregation.order, kind),
        partial(aggregation.text, kind),
        partial(aggregation.json, kind),
        partial(aggregation.python, kind),
        aggregation.document,
        aggregation.bucketed,
        partial(aggregation.relate, kind) if aggregation.bucketed else None,
        aggregation.by_key,
        read_all,
        isinstance(aggregation, (Count, Sum)),
    )


# ---------------------------------------------------------------- keys


def integers(layout: Layout, raw: bytes) -> Iterable[int]:
    """Integers that lie in a row."""
    kind = layout.type
    assert isinstance(kind, Int)
    code = _INTEGER_CODES[kind.size]
    return array(code if kind.signed else code.upper(), raw)


_INTEGER_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}


def _reader(layout: Layout) -> Callable[[bytes], Any]:
    """Raw bytes → decoded value; integers by a way that is several times faster than `decode`."""
    match layout.type:
        case Int(size=size, signed=signed) | EnumType(size=size, signed=signed):
            return _integer_reader(size, signed)
        case Pointer():
            return _integer_reader(8, False)
        case Tuple():
            parts = [(part.offset, part.offset + size, _reader(part.layout)) for part, size in _sized(layout)]
            return lambda data: tuple([read(data[start:end]) for start, end, read in parts])
        case _:
            return partial(decode, layout)


def _sized(layout: Layout) -> list[tuple[Part, int]]:
    """The parts of a layout and their sizes."""
    return [(part, part.layout.size) for part in layout.parts]


def _integer_reader(size: int, signed: bool) -> Callable[[bytes], int]:
    code = _INTEGER_CODES[size]
    unpack = struct.Struct("<" + (code if signed else code.upper())).unpack_from
    return lambda data: unpack(data)[0]


def key_order(layout: Layout) -> Callable[[bytes], Any]:
    """Raw key → what keys are sorted by.

    Integers compare as signed numbers of their width, also unsigned ones (as in the reference), strings by
    their bytes, tuples member by member; keys of other kinds stay in the map's order.
    """
    match layout.type:
        case Int(size=size) | EnumType(size=size):
            return _integer_reader(size, True)
        case String(size=size):
            return lambda data: data[:size]
        case Tuple():
            members = [(part.offset, key_order(part.layout)) for part in layout.parts]
            return lambda data: tuple([order(data[offset:]) for offset, order in members])
        case _:
            return lambda data: 0
