"""What features compute on the kernel is what they compute in plain Python, for any input.

Every feature whose value depends on nothing but its arguments is called by a program whose inputs come out of maps, so
that nothing is known while compiling; the same call of the same typed program is carried out by `ProgramEmit`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pytrace.api import Trace, trace
from pytrace.compilation import live_host
from pytrace.grammar import analyse
from pytrace.grammar.config import Config
from pytrace.grammar.diagnostics import Diagnostics
from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.layout import decode
from pytrace.grammar.nodes import Assign, Call, Cast, Expr, ExprStatement, Identifier, MapElement
from pytrace.grammar.promote import is_scalar
from pytrace.grammar.source import Source
from pytrace.grammar.spec import REGISTRY, Action, Aggregation, Builtin, Context
from pytrace.grammar.types import INT64, UINT64, Aggregate, Int, Type, size_of
from pytrace.grammar.typing import TypedProbe
from pytrace.options import Options
from tests.language.pyemit import MASK, Memory, ProgramEmit

pytestmark = pytest.mark.root

# Arguments for each function: `I` an integer, `L` a small one, `S` a string, `N` a short one, `M` six characters; `@k` a
# map of some small keys.
CALLS: dict[str, tuple[str, ...]] = {
    "bswap": ("I", "(uint32)I", "(int32)I", "(uint16)I", "(int8)I"),
    "buf": ("S, 4", "S, L", "N, I", 'pton("::1")'),
    "cgroup_path": ("I",),
    "default_str_length": ("",),
    "delete": ("@k, L",),
    "has_key": ("@k, L",),
    "is_array": ("I", 'pton("::1")'),
    "is_err": ("I", "(uint64)I", "L"),
    "is_integer": ("I", "S"),
    "is_literal": ("I", "7"),
    "is_ptr": ("I", "(int8 *)I"),
    "is_scalar": ("@k",),
    "is_str": ("I", "S"),
    "is_unsigned_integer": ("I", "(uint64)I"),
    "kptr": ("I", "(int8 *)I"),
    "ksym": ("I",),
    "len": ("@k",),
    "macaddr": ("M",),
    "ntop": ("I", "(uint32)I", "10, L", 'pton("1.2.3.4")', 'pton("fe80::1")', "2, I"),
    "pton": ('"1.2.3.4"', '"fe80::7:1"'),
    "signal_name": ("L", "I"),
    "str": ("S", "S, 5", "S, L", "N, I"),
    "strcap": ("S", "N"),
    "strcontains": ("S, N", 'S, "ab"', "N, S", 'S, ""'),
    "strerror": ("L", "I", "(int32)L"),
    "strftime": ('"%S", I', '"%H", L'),
    "strlen": ("S", "N", '"abc"'),
    "strncmp": ("S, S, 32", 'S, "ab", 2', "S, N, 5", "N, S, 64", "N, N, 0"),
    "strstr": ("S, N", 'S, "abcdefghi"', "N, N"),
    "syscall_name": ("L", "I"),
    "uptr": ("I",),
}
PRINTS: dict[str, tuple[str, ...]] = {
    "assert": ('true, "never shown"',),
    "assert_str": ("S",),
    "errorf": ('"%s|%d", N, I',),
    "print": ("I", "S", "(uint8)I", "buf(S, L)"),
    "printf": ('"%s|%-9s|%d %lld %x\\n", S, N, I, I, (uint16)I', '"%r %s\\n", buf(S, 5), ntop(I)'),
    "static_assert": ('true, "never shown"',),
    "warnf": ('"%lld %s", I, strerror(L)',),
}
# What cannot be compared, and why.
NOT_COMPARED = {
    "cat": "reads a file when it is shown",
    "cgroupid": "is known while compiling, and only for directories of the machine",
    "clear": "acts on a map after the program has run",
    "exit": "ends the run",
    "getopt": "depends on the command line",
    "join": "reads the memory of a process",
    "kaddr": "is known while compiling, and only for symbols of the kernel",
    "override": "changes what the kernel does",
    "path": "is the work of a helper",
    "reg": "reads the registers at a probe",
    "runtime_warning": "is not to be called",
    "signal": "kills",
    "signal_thread": "kills",
    "system": "runs a command",
    "time": "shows the time",
    "uaddr": "depends on where a file was loaded",
    "usym": "holds the process",
    "zero": "acts on a map after the program has run",
}

AGGREGATIONS = {
    "avg": ("I", "(uint64)I"),
    "count": ("",),
    "hist": ("I", "L", "I, 3", "(uint64)I, 5"),
    "lhist": ("L, 3, 60, 7", "I, 0, 100, 10"),
    "max": ("I", "(uint64)I"),
    "min": ("I", "(uint64)I"),
    "stats": ("I", "(uint64)I"),
    "sum": ("I", "(uint64)I"),
}


def test_every_feature_is_here() -> None:
    """A new one must be compared too, or be in the list of those that cannot be."""
    named = {n for n, f in REGISTRY.functions.items() if not isinstance(f, (Builtin, Aggregation)) and n == f.name}
    assert named == {*CALLS, *PRINTS, *NOT_COMPARED}
    assert {n for n, f in REGISTRY.functions.items() if isinstance(f, Aggregation) and n == f.name} == {*AGGREGATIONS}


# ---------------------------------------------------------------- inputs

EDGES = [0, 1, -1, 2, 255, 256, 0x7FFFFFFF, -0x80000000, 0xFFFFFFFF, (1 << 63) - 1, -(1 << 63)]
INTEGERS = st.one_of(st.sampled_from(EDGES), st.integers(-(1 << 63), (1 << 63) - 1))
TEXT = st.text("ab\x01~", max_size=31).map(str.encode)
ROUNDS = 3

Inputs = Mapping[tuple[str, int], int | bytes]


@st.composite
def inputs(draw: st.DrawFn) -> Inputs:
    """Elements of the input maps: `ROUNDS` of each kind, and the keys of `@k`."""
    found: dict[tuple[str, int], int | bytes] = {}
    for number in range(ROUNDS):
        found["i", number] = draw(INTEGERS)
        found["l", number] = draw(st.integers(0, 70))
        found["s", number] = draw(st.one_of(TEXT, st.just(b"a" * 31)))
        found["n", number] = draw(st.text("ab", max_size=7)).encode()
        found["m", number] = draw(st.text("xyz~", min_size=6, max_size=6)).encode()
    for key in draw(st.lists(st.integers(0, 70), min_size=1, max_size=9)):
        found["k", key] = 1
    return found


def literal(value: int | bytes) -> str:
    """The source text of a value."""
    if isinstance(value, int):
        return str(value) if value > -(1 << 63) else f"({value + 1} - 1)"
    return '"' + "".join(f"\\x{byte:02x}" for byte in value) + '"'


def setting(values: Inputs) -> str:
    """The block that fills the input maps; the longest strings come first, since they make the type."""
    longest = f'@s[-1] = "{"x" * 31}"; @n[-1] = "{"x" * 7}"; @m[-1] = "{"x" * 6}"; @k[-1] = 1; delete(@k, -1);'
    lines = (f"@{name}[{key}] = {literal(value)};" for (name, key), value in values.items())
    return f"begin {{ {longest} {' '.join(lines)} }}\n"


def arguments(template: str, number: int) -> str:
    """The arguments for one call."""
    other = (number + 1) % ROUNDS
    text, seen = "", set()
    for letter in template:
        if letter in "ILSNM" and (not text or not (text[-1].isalnum() or text[-1] in '"%')):
            text += f"@{letter.lower()}[{other if letter in seen else number}]"
            seen.add(letter)
        else:
            text += letter
    return text


# ---------------------------------------------------------------- both sides


@dataclass
class Both:
    """A program that is running, and the same program as typed nodes."""

    text: str
    values: Inputs

    def typed(self) -> tuple[TypedProbe, ...]:
        diagnostics = Diagnostics()
        program = analyse.parse(Source("stdin", self.text), REGISTRY, diagnostics)
        context = Context(live_host(Options()), Config(), diagnostics)
        return analyse.analyse(program, REGISTRY, context).probes

    def statements(self, kind: type[Assign] | type[ExprStatement]) -> Iterator[tuple[TypedProbe, Any]]:
        """The statements of all blocks but the first."""
        for typed in self.typed()[1:]:
            for statement in typed.probe.body.statements:
                assert isinstance(statement, kind)
                yield typed, statement

    def emitter(self, typed: TypedProbe) -> ProgramEmit:
        return ProgramEmit(typed, self.values)


def raw(value: Value, kind: Type) -> bytes:
    """A value's bytes in the storage of a map's value type."""
    size = size_of(kind)
    if isinstance(value.raw, Memory):
        own = min(size, size_of(value.type))
        return bytes(value.raw.data[value.raw.start : value.raw.start + own]).ljust(size, b"\0")
    return (value.raw & MASK).to_bytes(8, "little")[:size]


def call_blocks() -> str:
    """A block for each function; the results of one list of arguments are one map."""
    blocks = []
    for name, templates in CALLS.items():
        lines = [
            f"@r_{name}_{t}[{number}] = {name}({arguments(template, number)});"
            for t, template in enumerate(templates)
            for number in range(ROUNDS)
        ]
        blocks.append(f"begin {{ {' '.join(lines)} }}\n")
    return "".join(blocks)


few = settings(
    deadline=None, max_examples=4, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@few
@given(inputs())
def test_functions_agree(values: Inputs) -> None:
    text = setting(values) + call_blocks()
    both = Both(text, values)
    with trace(text) as t:
        t.run()
        got = {spec.name: (spec, dict(t.tracer.read_map(spec))) for spec in t.plan.user_maps}
    known = dict(values)
    for typed, statement in both.statements(Assign):
        target = cast("MapElement", statement.target)
        number = cast("int", typed.constants[target.key])
        spec, found = got[f"@{target.map.name}"]
        emit = ProgramEmit(typed, known)
        expected = emit.convert(emit.value(statement.value), spec.value.type)
        if statement.value.name == "delete":
            known.pop(("k", cast("int", known["l", number])), None)
        key = number.to_bytes(size_of(spec.key.type), "little")
        want = decode(spec.value, raw(expected, spec.value.type))
        assert decode(spec.value, found[key]) == want, statement.span.text


@few
@given(inputs())
def test_what_is_shown_agrees(values: Inputs) -> None:
    lines = [
        f"{name}({arguments(template, number)});"
        for name, templates in PRINTS.items()
        for template in templates
        for number in range(ROUNDS)
    ]
    text = setting(values) + "".join(f"begin {{ {line} }}\n" for line in lines)
    both = Both(text, values)
    with trace(text) as t:
        shown = [o.text for o in t.outputs() if o.kind in (*PRINTS, "value")]
        expected = [text for typed, s in both.statements(ExprStatement) for text in said(both, t, typed, s.value)]
    assert shown == expected


def said(both: Both, t: Trace, typed: TypedProbe, node: Expr) -> Iterator[str]:
    """What an action shows, handled from the values that the computing emitter sends."""
    emit, site = both.emitter(typed), typed.sites[node]
    site.feature.emit(cast("Emit", emit), site)
    for name, values, _ in emit.sent:
        feature = cast("Action", REGISTRY.functions[name])
        actions = (a for a in t.plan.actions if a.feature == name and a.span is not None)
        action = next(a for a in actions if a.span is not None and a.span.start == node.span.start)
        pairs = zip(values, action.fields, strict=True)
        decoded = tuple(decode(layout, raw(value, layout.type)) for value, layout in pairs)
        output = feature.handle(action, decoded, cast("Any", t.session))
        assert output is not None
        yield output.text


# ---------------------------------------------------------------- aggregations


def updated(kind: Aggregate, calls: Sequence[tuple[TypedProbe, Any]], values: Inputs) -> Any:
    """What one CPU's cells, or buckets of cells, hold after the calls."""
    feature = REGISTRY.aggregation(kind)
    word = Int(8, kind.signed)
    cells: dict[int, Slot] = {}
    for typed, node in calls:
        emit = ProgramEmit(typed, values)
        site = typed.sites[node]
        wanted = [emit.convert(emit.value(a), word) for a in site.arguments]
        if not feature.bucketed and not wanted:
            number = 0
        else:
            number = feature.bucket(cast("Emit", emit), site, wanted).raw if feature.bucketed else 0
        slot = cells.setdefault(number, emit.scratch(8 * feature.words))
        feature.update(cast("Emit", emit), slot, wanted)
    return cells


def words(slot: Slot) -> tuple[int, ...]:
    return tuple(int.from_bytes(slot.raw.data[at : at + 8], "little") for at in range(0, slot.size, 8))


@few
@given(inputs())
def test_aggregations_agree(values: Inputs) -> None:
    names = [(name, t, template) for name, ts in AGGREGATIONS.items() for t, template in enumerate(ts)]
    lines = [
        f"@a_{name}_{t} = {name}({arguments(template, number)});"
        for name, t, template in names
        for number in range(ROUNDS)
    ]
    castable = [f"a_{name}_{t}" for name, t, _ in names if REGISTRY.functions[name].castable]  # type: ignore[attr-defined]
    casts = [f"@c_{name} = (int64)@{name};" for name in castable]
    text = setting(values) + f"begin {{ {' '.join(lines)} }}\n begin {{ {' '.join(casts)} }}"
    both = Both(text, values)
    with trace(text) as t:
        t.run()
        found, kinds = t.maps, {spec.name: spec.value.type for spec in t.plan.user_maps}
    by_map = itertools.groupby(both.statements(Assign), key=lambda pair: pair[1].target.name)
    for name, group in by_map:
        pairs = [(typed, s.value) for typed, s in group]
        if isinstance(pairs[0][1], Cast):
            continue
        assert all(isinstance(node, (Call, Identifier)) for _, node in pairs)
        kind = kinds[f"@{name}"]
        assert isinstance(kind, Aggregate)
        check_aggregation(kind, updated(kind, pairs, values), found[f"@{name}"], found.get(f"@c_{name}"), pairs[0][0])


def check_aggregation(kind: Aggregate, cells: dict[int, Slot], found: Any, read: int | None, typed: TypedProbe) -> None:
    """What user space shows, and what the program itself reads, is what the cells say."""
    feature = REGISTRY.aggregation(kind)
    unused = (0,) * feature.words
    if feature.bucketed:
        assert found == feature.python(kind, feature.read(kind, {n: [words(c)] for n, c in cells.items()}))
        return
    (cell,) = cells.values()
    assert found == feature.python(kind, feature.read(kind, [unused, words(cell), unused])), kind
    if not feature.castable:
        return
    emit = ProgramEmit(typed, {})
    total = emit.scratch(8 * feature.words)
    for one in (emit.scratch(8 * feature.words), cell):
        feature.combine(cast("Emit", emit), total, one, kind.signed)
    result = feature.result(cast("Emit", emit), total, kind.signed)
    assert read == decode_integer(result), kind


def decode_integer(value: Value) -> int:
    assert is_scalar(value.type)
    assert value.type in (INT64, UINT64)
    return cast("int", value.raw if value.raw < 1 << 63 else value.raw - (1 << 64))
