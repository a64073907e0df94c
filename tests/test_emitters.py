"""What features compute on the kernel is what they compute in plain Python, for any input.

Every feature whose value depends on nothing but its arguments is called by a program whose inputs come out of
maps, so that nothing is known while compiling; `ProgramEmit` carries out the same call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytrace.api import Trace, trace
from pytrace.compilation import live_host
from pytrace.grammar import analyse
from pytrace.grammar.config import Config
from pytrace.grammar.diagnostics import Diagnostics
from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.layout import decode
from pytrace.grammar.nodes import Expr
from pytrace.grammar.source import Source
from pytrace.grammar.spec import REGISTRY, Aggregation, Builtin, Context, Output
from pytrace.grammar.types import Aggregate, Int, Type, size_of
from pytrace.grammar.typing import TypedProbe
from pytrace.options import Options
from pytrace.session import LiveSession
from tests.language.pyemit import MASK, Memory, ProgramEmit, PythonEmit, signed64

pytestmark = pytest.mark.root

# Arguments for each function: `I` an integer, `L` a small one, `S` a string, `N` a short one, `M` six
# characters; `@k` is a map of some small keys.
CALLS: dict[str, tuple[str, ...]] = {
    "bswap": ("I", "(uint32)I", "(int32)I", "(uint16)I", "(int8)I"),
    "buf": ("S, 4", "S, L", "N, I", 'pton("::1")'),
    "cgroup_path": ("I",),
    "default_str_length": ("",),
    "delete": ("@k, L",),
    "has_key": ("@k, L",),
    "ifname": ("I", "(uint8)I"),
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
    "memcmp": ("S, S, 32", 'S, "ab", 2', "N, N, 0", "S, N, 5"),
    "ntop": ("I", "(uint32)I", "10, L", 'pton("1.2.3.4")', 'pton("fe80::1")', "2, I"),
    "pton": ('"1.2.3.4"', '"fe80::7:1"'),
    "signal_name": ("L",),
    "str": ("S", "S, 5", "S, L", "N, I"),
    "str_concat": ("S, N", 'S, "ab"', "N, S", "S, S"),
    "strcap": ("S", "N"),
    "strcontains": ("S, N", 'S, "ab"', "N, S", 'S, ""'),
    "strerror": ("I", "(int32)L"),
    "strftime": ('"%S", I', '"%H", L'),
    "strlen": ("S", "N", '"abc"'),
    "strncmp": ("S, S, 32", 'S, "ab", 2', "S, N, 5", "N, S, 64", "N, N, 0"),
    "strstr": ("S, N", 'S, "abcdefghi"', "N, N"),
    "syscall_name": ("L",),
    "uptr": ("I",),
}
PRINTS: dict[str, tuple[str, ...]] = {
    "assert_str": ("S",),
    "errorf": ('"%s|%d", N, I',),
    "print": ("I", "S", "(uint8)I", "buf(S, L)"),
    "printf": ('"%s|%-9s|%d %lld %x\\n", S, N, I, I, (uint16)I', '"%r %s\\n", buf(S, 5), ntop(I)'),
    "static_assert": ('true, "never shown"',),
    "warnf": ('"%lld %s", I, strstr(S, N)',),
}
# What cannot be compared, and why.
NOT_COMPARED = {
    "assert": "is a macro of the library",
    "cat": "reads a file when it is shown",
    "cgroupid": "is known while compiling, and only for directories of the machine",
    "container_of": "depends on a type of the kernel",
    "clear": "acts on a map after the program has run",
    "debugf": "writes to the kernel's trace",
    "exit": "ends the run",
    "fail": "is refused",
    "find": "gives a variable a value",
    "getopt": "depends on the command line",
    "join": "reads the memory of a process",
    "kfunc_allowed": "is known while compiling, and depends on the kernel",
    "kfunc_exist": "is known while compiling, and depends on the kernel",
    "kaddr": "is known while compiling, and only for symbols of the kernel",
    "override": "changes what the kernel does",
    "path": "is the work of a helper",
    "percpu_kaddr": "depends on where the kernel keeps its variables",
    "reg": "reads the registers at a probe",
    "runtime_warning": "is not to be called",
    "signal": "kills",
    "signal_thread": "kills",
    "skboutput": "writes a file",
    "socket_cookie": "needs a socket of the kernel",
    "system": "runs a command",
    "time": "shows the time",
    "uaddr": "depends on where a file was loaded",
    "unwatch": "is refused",
    "usym": "holds the process",
    "write_user": "writes into a process",
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
# What depends on the time, which differs between two runs.
CLOCKED = {"tseries"}


def test_every_feature_is_here() -> None:
    """A new one must be compared too, or be in the list of those that cannot be."""
    features = {f for f in REGISTRY.functions.values() if not isinstance(f, Builtin)}
    aggregations = {f for f in features if isinstance(f, Aggregation)}
    assert {f.name for f in features - aggregations} == {*CALLS, *PRINTS, *NOT_COMPARED}
    assert {f.name for f in aggregations} == {*AGGREGATIONS, *CLOCKED}


# ---------------------------------------------------------------- inputs

EDGES = [0, 1, -1, 2, 255, 256, 0x7FFFFFFF, -0x80000000, 0xFFFFFFFF, (1 << 63) - 1, -(1 << 63)]
INTEGERS = st.one_of(st.sampled_from(EDGES), st.integers(-(1 << 63), (1 << 63) - 1))
TEXT = st.one_of(st.text("ab\x01~", max_size=31), st.just("a" * 31)).map(str.encode)
ROUNDS = 3

Inputs = Mapping[tuple[str, int], int | bytes]

# Never run: gives the input maps their types.
TYPES = f"""end {{
    @i[0] = (int64)-1; @l[0] = (int64)-1; @k[0] = (int64)1;
    @s[0] = "{"x" * 31}"; @n[0] = "{"x" * 7}"; @m[0] = "{"x" * 6}";
}}
"""


@st.composite
def inputs(draw: st.DrawFn) -> Inputs:
    """Elements of the input maps: `ROUNDS` of each kind, and the keys of `@k`."""
    found: dict[tuple[str, int], int | bytes] = {}
    for number in range(ROUNDS):
        found["i", number] = draw(INTEGERS)
        found["l", number] = draw(st.integers(0, 70))
        found["s", number] = draw(TEXT)
        found["n", number] = draw(st.text("ab", max_size=7)).encode()
        found["m", number] = draw(st.text("xyz~", min_size=6, max_size=6)).encode()
    for key in draw(st.lists(st.integers(0, 70), min_size=1, max_size=9)):
        found["k", key] = 1
    return found


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


class Both:
    """A program that is loaded, and the same program as typed nodes."""

    def __init__(self, text: str, t: Trace) -> None:
        self.trace = t
        self.maps = {spec.name.removeprefix("@"): spec for spec in t.plan.user_maps}
        self.outputs: list[Output] = []
        self.session = LiveSession(t.plan, t.tracer, REGISTRY, self.outputs.append)
        diagnostics = Diagnostics()
        program = analyse.parse(Source("stdin", text), REGISTRY, diagnostics)
        context = Context(live_host(Options()), Config(), diagnostics)
        probes = analyse.analyse(program, REGISTRY, context).probes
        statements = ((typed, s) for typed in probes[1:] for s in typed.probe.body.statements)
        self.statements: list[tuple[TypedProbe, Any]] = list(statements)

    def run(self, values: Inputs) -> None:
        """Run the program once with these inputs."""
        tracer = self.trace.tracer
        for spec in self.maps.values():
            tracer.clear_map(spec)
        for (name, key), value in values.items():
            if name in self.maps:
                spec = self.maps[name]
                data = value.to_bytes(8, "little", signed=True) if isinstance(value, int) else value
                assert len(data) <= size_of(spec.value.type)
                storage = data.ljust(size_of(spec.value.type), b"\0")
                tracer._map(spec).update(key.to_bytes(spec.key_size, "little"), storage)
        self.outputs.clear()
        tracer.run_on_demand("begin")
        while tracer.poll(0, self.session.handle):
            pass


@contextmanager
def both(blocks: Iterable[str]) -> Iterator[Both]:
    """A program of `begin` blocks."""
    text = TYPES + "".join(f"begin {{ {block} }}\n" for block in blocks)
    with trace(text) as t:
        yield Both(text, t)


def raw(value: Value, kind: Type) -> bytes:
    """A value's bytes in the storage of a map's value type."""
    size = size_of(kind)
    if isinstance(value.raw, Memory):
        own = min(size, size_of(value.type))
        return bytes(value.raw.data[value.raw.start : value.raw.start + own]).ljust(size, b"\0")
    return cast("int", value.raw & MASK).to_bytes(8, "little")[:size]


many = settings(deadline=None, max_examples=30, derandomize=True, database=None)


# ---------------------------------------------------------------- functions


@pytest.fixture(scope="module")
def calls() -> Iterator[Both]:
    """A block for each function; the results of one list of arguments are one map."""
    blocks = [
        " ".join(
            f"@r_{name}_{index}[{number}] = {name}({arguments(template, number)});"
            for index, template in enumerate(templates)
            for number in range(ROUNDS)
        )
        for name, templates in CALLS.items()
    ]
    with both(blocks) as made:
        yield made


@many
@given(values=inputs())
def test_functions_agree(calls: Both, values: Inputs) -> None:
    calls.run(values)
    found = {name: dict(calls.trace.tracer.read_map(spec)) for name, spec in calls.maps.items()}
    left = dict(values)  # what earlier calls of delete() have left
    for typed, statement in calls.statements:
        target = statement.target
        number = cast("int", typed.constants[target.key])
        spec = calls.maps[target.map.name]
        layout = spec.value
        emit = ProgramEmit(typed, left)
        expected = raw(emit.convert(emit.value(statement.value), layout.type), layout.type)
        if statement.value.name == "delete":
            left.pop(("k", cast("int", values["l", number])), None)
        got = found[target.map.name][number.to_bytes(spec.key_size, "little")]
        assert isinstance(got, bytes)
        assert decode(layout, got) == decode(layout, expected), statement.span.text


# ---------------------------------------------------------------- what is shown


@pytest.fixture(scope="module")
def prints() -> Iterator[Both]:
    lines = [
        f"{name}({arguments(template, number)});"
        for name, templates in PRINTS.items()
        for template in templates
        for number in range(ROUNDS)
    ]
    with both(lines) as made:
        yield made


@many
@given(values=inputs())
def test_what_is_shown_agrees(prints: Both, values: Inputs) -> None:
    prints.run(values)
    expected = [text for typed, s in prints.statements for text in said(prints, typed, s.value, values)]
    assert [output.text for output in prints.outputs] == expected
    assert expected


def said(program: Both, typed: TypedProbe, node: Expr, values: Inputs) -> Iterator[str]:
    """What an action shows, handled from the values that the computing emitter sends."""
    emit, site = ProgramEmit(typed, values), typed.sites[node]
    site.feature.emit(cast("Emit", emit), site)
    for name, sent, _ in emit.sent:
        actions = ((a, a.span) for a in program.trace.plan.actions if a.feature == name)
        action = next(a for a, span in actions if span is not None and span.start == node.span.start)
        pairs = zip(sent, action.fields, strict=True)
        decoded = tuple(decode(layout, raw(value, layout.type)) for value, layout in pairs)
        output = REGISTRY.action(name).handle(action, decoded, program.session)
        assert output is not None
        yield output.text


# ---------------------------------------------------------------- aggregations

UPDATES = [
    (name, f"{name}_{index}", template)
    for name, templates in AGGREGATIONS.items()
    for index, template in enumerate(templates)
]


def aggregation(name: str) -> Aggregation:
    return cast("Aggregation", REGISTRY.functions[name])


@pytest.fixture(scope="module")
def updates() -> Iterator[Both]:
    blocks = [
        " ".join(f"@{label} = {name}({arguments(template, number)});" for number in range(ROUNDS))
        for name, label, template in UPDATES
    ]
    casts = [f"@c_{label} = (int64)@{label};" for name, label, _ in UPDATES if aggregation(name).castable]
    with both([*blocks, " ".join(casts)]) as made:
        yield made


@many
@given(values=inputs())
def test_aggregations_agree(updates: Both, values: Inputs) -> None:
    updates.run(values)
    found = updates.trace.maps
    by_map: dict[str, list[tuple[TypedProbe, Expr]]] = {}
    for typed, statement in updates.statements:
        by_map.setdefault(statement.target.name, []).append((typed, statement.value))
    for _, label, _ in UPDATES:
        kind = updates.maps[label].value.type
        assert isinstance(kind, Aggregate)
        cells = updated(kind, by_map[label], values)
        assert found[f"@{label}"] == shown(kind, cells), label
        if REGISTRY.aggregation(kind).castable:
            assert found[f"@c_{label}"] == summed(kind, cells[0]), label


def updated(kind: Aggregate, calls: Sequence[tuple[TypedProbe, Expr]], values: Inputs) -> dict[int, Slot]:
    """This CPU's cell, or its cells by bucket, after the calls."""
    feature, cells = REGISTRY.aggregation(kind), dict[int, Slot]()
    for typed, node in calls:
        emit, site = ProgramEmit(typed, values), typed.sites[node]
        given_ = [emit.convert(emit.value(a), Int(8, kind.signed)) for a in site.arguments]
        bucket = feature.bucket(cast("Emit", emit), site, given_).raw if feature.bucketed else 0
        slot = cells.setdefault(bucket, emit.scratch(8 * feature.words))
        feature.update(cast("Emit", emit), site, slot, given_)
    return cells


def words(slot: Slot) -> tuple[int, ...]:
    return tuple(int.from_bytes(slot.raw.data[at : at + 8], "little") for at in range(0, slot.size, 8))


def shown(kind: Aggregate, cells: Mapping[int, Slot]) -> Any:
    """What Python gets, of a machine on which the other CPUs saw nothing."""
    feature = REGISTRY.aggregation(kind)
    if feature.bucketed:
        return feature.python(kind, feature.read(kind, {n: [words(cell)] for n, cell in cells.items()}))
    unused = (0,) * feature.words
    return feature.python(kind, feature.read(kind, [unused, words(cells[0]), unused]))


def summed(kind: Aggregate, cell: Slot) -> int:
    """What a program reads, cast to int64."""
    feature, emit = REGISTRY.aggregation(kind), PythonEmit()
    total = emit.scratch(cell.size)
    for one in (emit.scratch(cell.size), cell):
        feature.combine(cast("Emit", emit), total, one, kind.signed)
    return signed64(feature.result(cast("Emit", emit), total, kind.signed).raw)
