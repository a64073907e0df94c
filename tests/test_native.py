"""Compiled code shows records as the features' own classes do, byte for byte."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytrace.codegen.hostreader import MOST_ROOM, build
from pytrace.grammar.config import Config
from pytrace.grammar.layout import Layout
from pytrace.grammar.lines import HostCode, Literal
from pytrace.grammar.plan import Action, Plan, PlanBuilder
from pytrace.grammar.spec import REGISTRY
from pytrace.grammar.types import (
    BOOL,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    VOID,
    Array,
    Buffer,
    EnumType,
    Pointer,
    Record,
    String,
    Tuple,
    Type,
)
from pytrace.language.printf import parse, problem
from pytrace.native import COMPILING_PAYS, KNOWN_PAYS, Accelerator, lines_of
from pytrace.objectcache import ObjectCache
from pytrace.printer import JsonPrinter, Printer, Stream, TextPrinter
from pytrace.runtime import nativering, ring
from pytrace.runtime.ring import RingReader
from tests.language.fakes import FakeServices, FakeSession, lay

RING_BYTES = 4 * mmap.PAGESIZE
BUSY, DISCARDED = 1 << 31, 1 << 30
CONFIG = Config()

Send = tuple[bytes, int]  # a record and the flags of its header


def layout(kind: Type) -> Layout:
    """The layout of a type; one enumeration has names."""
    return Layout(kind, (), COLOR_NAMES) if kind == COLORS else lay(kind)


class NoWaiter:
    """In the place of `Waiter`: memory alone cannot be waited for."""

    def __init__(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        pass


@contextmanager
def reader_of(sends: Sequence[Send], start: int) -> Iterator[RingReader]:
    """The reader of a ring in plain memory in which these records lie, from a position on."""
    data, position = bytearray(RING_BYTES), start
    for record, flags in sends:
        whole = struct.pack("<II", len(record) | flags, 0) + record
        for index, byte in enumerate(whole):
            data[(position + index) % RING_BYTES] = byte
        position += -(-len(whole) // 8) * 8
    assert position - start <= RING_BYTES
    descriptor = os.memfd_create("ring")
    try:
        os.truncate(descriptor, 2 * mmap.PAGESIZE + RING_BYTES)
        os.pwrite(descriptor, struct.pack("<Q", start), 0)
        os.pwrite(descriptor, struct.pack("<Q", position), mmap.PAGESIZE)
        os.pwrite(descriptor, data, 2 * mmap.PAGESIZE)
        reader = RingReader(descriptor, RING_BYTES)
        yield reader
        reader.close()
    finally:
        os.close(descriptor)


@pytest.fixture(autouse=True, scope="module")
def without_waiting() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ring, "Waiter", NoWaiter)
        yield


@dataclass
class Shown:
    """What a printer has written, and how many records it was shown in the usual way."""

    data: bytes
    slowly: int


def show(plan: Plan, sends: Sequence[Send], form: str, code: HostCode | None, start: int = 0) -> Shown:
    """Show all records, by the machine code if there is some."""
    output = os.memfd_create("output")
    kind = JsonPrinter if form == "json" else TextPrinter
    printer: Printer = kind(Stream(output, "full"), Stream(2))
    session, shown = FakeSession(FakeServices(plan.config)), Shown(b"", 0)
    decoders = [action.decoder() for action in plan.actions]

    def handle(records: list[bytes]) -> None:
        for record in records:
            shown.slowly += 1
            action = plan.actions[int.from_bytes(record[:8], "little")]
            values = decoders[action.number](record)
            found = REGISTRY.action(action.feature).handle(action, values, session)
            if found is not None:
                printer.show(found)

    try:
        with reader_of(sends, start) as reader:
            reader.make_lines(lambda seen: code, printer.show_ready)
            reader.consume(handle)
            printer.close()
        shown.data = os.pread(output, 1 << 24, 0)
        return shown
    finally:
        os.close(output)


def plan_of(*actions: tuple[str, tuple[Layout, ...], tuple[Any, ...]], config: Config = CONFIG) -> Plan:
    builder = PlanBuilder(config)
    for feature, fields, params in actions:
        builder.action(feature, fields, params)
    return builder.finish()


def printf(text: str, *types: Type) -> Plan:
    """The plan of one printf."""
    return plan_of(("printf", tuple(map(layout, types)), (text,)))


def record_of(action: Action, *values: bytes) -> bytes:
    data = bytearray(action.size)
    data[:8] = struct.pack("<Q", action.number)
    for value, offset in zip(values, action.offsets, strict=True):
        data[offset : offset + len(value)] = value
    return bytes(data)


def both(plan: Plan, sends: Sequence[Send], form: str, start: int = 0) -> tuple[Shown, Shown]:
    """Shown in the usual way, and by machine code."""
    code = build(lines_of(plan, REGISTRY, form))
    return show(plan, sends, form, None, start), show(plan, sends, form, code, start)


# ---------------------------------------------------------------- anything

COLORS = EnumType("color", 4, True)
COLOR_NAMES = ((0, "RED"), (1, "GREEN_WITH_A_LONG_NAME"), (-1, "NONE"), (1, "GREEN"), (7, ""))

SCALARS: tuple[Type, ...] = (
    INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, BOOL, Pointer(VOID), EnumType("e", 4, True), COLORS,
)  # fmt: skip
scalars = st.sampled_from(SCALARS)
strings = st.integers(1, 24).map(String)
parts = st.one_of(scalars, strings)
composites = st.one_of(
    st.lists(parts, min_size=2, max_size=3).map(lambda items: Tuple(tuple(items))),
    st.lists(parts, min_size=1, max_size=2).map(lambda items: Record(("a", "b_c")[: len(items)], tuple(items))),
    st.builds(Array, scalars, st.integers(0, 3)),
)
types = st.one_of(scalars, strings, composites, st.integers(4, 20).map(Buffer))
literals = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from('\n"\\\x01 ab\udc80\udcc3\udca9\udcff')), max_size=40
).map(lambda text: text.replace("%", "%%"))


@st.composite
def conversions(draw: st.DrawFn, kind: Type) -> str:
    """A conversion that suits a type."""
    if isinstance(kind, Buffer):
        letters = ["s", "r", "rx", "rh"]
    elif kind in SCALARS:
        letters = ["d", "i", "u", "x", "X", "o", "c", "p", "s", "gr"]
    else:
        letters = ["s"]
    flags = "".join(draw(st.sampled_from((flag, ""))) for flag in "-+ #0")
    width = draw(st.sampled_from(("", "", "1", "5", "20", "33")))
    length = draw(st.sampled_from(("", "hh", "h", "l", "ll", "j", "z")))
    return f"%{flags}{width}{length}{draw(st.sampled_from(letters))}"


@st.composite
def actions(draw: st.DrawFn) -> tuple[str, tuple[Layout, ...], tuple[Any, ...]]:
    """A printf with up to four values, or a print of one."""
    if draw(st.integers(0, 3)) == 0:
        kind = draw(types)
        return "print", (layout(kind),), ()
    kinds = draw(st.lists(types, max_size=4))
    text = "".join(draw(literals) + draw(conversions(kind)) for kind in kinds) + draw(literals)
    assert problem(parse(text), kinds) is None
    return "printf", tuple(map(layout, kinds)), (text,)


FAVOURITES = (b"\0" * 8, b"\xff" * 8, b"\x80" + b"\0" * 7, b"\0" * 7 + b"\x80", b"/bin/sh\0", b'a"\\\n\x01\x7f\t\r')
words = st.one_of(st.sampled_from(FAVOURITES), st.binary(min_size=8, max_size=8), st.integers(0, 200).map(
    lambda n: n.to_bytes(8, "little")))  # fmt: skip


@st.composite
def traffic(draw: st.DrawFn) -> tuple[Plan, list[Send]]:
    plan = plan_of(*draw(st.lists(actions(), min_size=1, max_size=5)), config=Config(str_trunc_trailer="…!"))
    sends: list[Send] = []
    for _ in range(draw(st.integers(1, 25))):
        action = draw(st.sampled_from(plan.actions))
        count = (action.size - 8) // 8
        body = b"".join(draw(st.lists(words, min_size=count, max_size=count)))
        sends.append((struct.pack("<Q", action.number) + body, draw(st.sampled_from((0, 0, 0, 0, DISCARDED)))))
    return plan, sends


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(traffic(), st.integers(0, RING_BYTES // 8), st.sampled_from(("text", "json")))
def test_any_record_is_shown_the_same(case: tuple[Plan, list[Send]], start: int, form: str) -> None:
    plan, sends = case
    slow, fast = both(plan, sends, form, 8 * start)
    assert fast.data == slow.data
    assert fast.slowly <= slow.slowly
