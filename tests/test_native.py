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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytrace.codegen.hostreader import MOST_ROOM, build
from pytrace.grammar.config import Config
from pytrace.grammar.layout import Layout
from pytrace.grammar.lines import HostCode
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


# ---------------------------------------------------------------- what matters in particular


def shown(plan: Plan, *values: bytes, form: str = "text") -> bytes:
    """One record of the first action, which machine code must be able to show."""
    slow, fast = both(plan, [(record_of(plan.actions[0], *values), 0)], form)
    assert (fast.data, fast.slowly) == (slow.data, 0)
    return fast.data


def test_fills_come_from_outside() -> None:
    assert shown(printf("%06d|%-6d|", INT32, INT32), *[struct.pack("<i", -42)] * 2) == b"000-42|-42   |"


def test_numbers_are_cut_to_their_length() -> None:
    one = struct.pack("<q", -1)
    expected = b"-1 255 65535 4294967295 18446744073709551615"
    assert shown(printf("%d %hhu %hu %u %lu", *[INT64] * 5), *[one] * 5) == expected


def test_a_cut_string_says_so() -> None:
    assert shown(printf("%s.", String(4)), b"abcd") == b"abcd" + b".." + b"."
    assert shown(printf("%s.", String(4)), b"abc\0") == b"abc."


def test_bytes_that_are_not_utf_8_pass() -> None:
    assert shown(printf("é%s%c", String(8), UINT8), b"\xff\xc3\0", b"\xa9") == "é".encode() + b"\xff\xc3\xa9"


def test_json_escapes() -> None:
    line = shown(printf('"%s"\n', String(16)), b'a"\\\n\t\r\x01\x7f\0', form="json")
    assert line == b'{"type": "printf", "data": "\\"a\\"\\\\\\n\\t\\r\\u0001\x7f\\"\\n"}\n'


def test_numbers_that_a_double_cannot_hold_are_quoted() -> None:
    plan = plan_of(("print", (lay(UINT64),), ()))
    for value, text in ((1 << 53, "9007199254740992"), ((1 << 53) + 1, '"9007199254740993"'), (1 << 63, str(1 << 63))):
        line = shown(plan, struct.pack("<Q", value), form="json")
        assert line == f'{{"type": "value", "data": {text}}}\n'.encode()


def test_what_is_not_ascii_in_json_is_left_to_python_and_stays_in_order() -> None:
    plan = printf("%s", String(8))
    texts = [b"one", "zwölf".encode(), b"\xff", b"two"]
    slow, fast = both(plan, [(record_of(plan.actions[0], t), 0) for t in texts], "json")
    assert fast.data == slow.data
    assert fast.slowly == 2
    assert [line.split('"')[-2] for line in fast.data.decode().splitlines()] == ["one", "zwölf", "�", "two"]


def test_other_records_keep_their_place() -> None:
    time = plan_of(("printf", (lay(UINT64),), ("%lu\n",)), ("time", (), ("now\n",)))
    number = [(record_of(time.actions[0], struct.pack("<Q", n)), 0) for n in range(4)]
    other = (record_of(time.actions[1]), 0)
    slow, fast = both(time, [number[0], other, other, number[1], number[2], other, number[3]], "text")
    assert fast.data == slow.data == b"0\nnow\nnow\n1\n2\nnow\n3\n"
    assert fast.slowly == 3


def test_a_record_that_is_being_written_ends_it() -> None:
    plan = printf("%u\n", UINT32)
    records = [record_of(plan.actions[0], struct.pack("<I", n)) for n in range(5)]
    sends = list(zip(records, (0, DISCARDED, 0, BUSY, 0), strict=True))
    assert both(plan, sends, "text")[1].data == b"0\n2\n"


def test_a_record_in_two_parts() -> None:
    plan = printf("%s\n", String(32))
    sends = [(record_of(plan.actions[0], b"%d" % n * 3), 0) for n in range(4)]
    for start in range(RING_BYTES - 160, RING_BYTES, 8):
        slow, fast = both(plan, sends, "text", start)
        assert fast.data == slow.data == b"000\n111\n222\n333\n"


def test_text_that_fills_the_buffer_many_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nativering, "BUFFER", 0)
    plan = printf("%s %300u\n", String(8), UINT32)
    sends = [(record_of(plan.actions[0], b"x", struct.pack("<I", n)), 0) for n in range(300)]
    slow, fast = both(plan, sends, "text")
    assert fast.data == slow.data
    assert (fast.slowly, len(fast.data)) == (0, 300 * 303)


def test_lines_without_bound_are_left_to_python() -> None:
    plan = printf(f"%{MOST_ROOM}u", UINT32)
    assert build(lines_of(plan, REGISTRY, "text")) is None


def test_the_room_of_records_is_given_back() -> None:
    plan = printf("x")
    sends = [(record_of(plan.actions[0]), 0)] * 100
    with reader_of(sends, 0) as reader:
        reader.make_lines(lambda seen: build(lines_of(plan, REGISTRY, "text")), lambda text: None)
        assert reader.consume(lambda records: None) == 100
        assert reader.consume(lambda records: None) == 0


# ---------------------------------------------------------------- when it starts


def test_it_is_compiled_when_that_pays_and_kept(tmp_path: Any) -> None:
    cache, plan = ObjectCache(str(tmp_path / "cache")), printf("%d\n", INT32)
    first = Accelerator(plan, REGISTRY, "text", cache)
    assert first.code(COMPILING_PAYS - 1) is None
    made = first.code(COMPILING_PAYS)
    assert made is not None
    again = Accelerator(plan, REGISTRY, "text", cache)
    assert again.code(KNOWN_PAYS - 1) is None
    assert again.code(KNOWN_PAYS) == made
    assert Accelerator(plan, REGISTRY, "json", cache).code(KNOWN_PAYS) is None  # that is other code
    assert Accelerator(printf("%u\n", INT32), REGISTRY, "text", cache).code(KNOWN_PAYS) is None
    assert cache.clear() == 1


def test_nothing_is_compiled_for_what_python_must_show() -> None:
    accelerator = Accelerator(plan_of(("time", (), ("%H\n",))), REGISTRY, "text", None)
    assert accelerator.code(COMPILING_PAYS) is None
    assert accelerator.over


def test_a_system_that_refuses_machine_code_is_served_by_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(nativering, "NativeReader", refused)
    plan = printf("%u\n", UINT32)
    sends = [(record_of(plan.actions[0], struct.pack("<I", 5)), 0)]
    assert both(plan, sends, "text")[1] == Shown(b"5\n", 1)


def test_the_code_stands_alone() -> None:
    """A literal too long for instructions, a table of digits: all of it is data, and reading moves with it."""
    plan = printf("a line that is longer than what instructions write %x %d\n", UINT32, INT64)
    code = build(lines_of(plan, REGISTRY, "text"))
    assert code is not None
    assert b"longer than" in code.data
    assert code.numbers == (0,)
