"""Small BPF objects for the tests of the runtime, made from LLVM IR text: without our code generator."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import llvmlite.binding as llvm

from pytrace.grammar.attaching import Attach
from pytrace.grammar.config import Config
from pytrace.grammar.layout import Layout
from pytrace.grammar.plan import RING, MapSpec, Plan, ProgramSpec
from pytrace.grammar.types import UINT32, UINT64
from pytrace.runtime.maps import Values
from pytrace.runtime.process import Child
from pytrace.runtime.tracer import Tracer

KINDS = {"hash": 1, "array": 2, "percpu_hash": 5, "percpu_array": 6, "lru_hash": 9, "ringbuf": 27}


@dataclass(frozen=True, slots=True)
class Code:
    """A program: its symbol, section and body in LLVM IR (`%ctx` is its context), and where it belongs."""

    symbol: str
    section: str
    body: str
    attach: tuple[Attach, ...] = ()
    reverse: bool = False


def map_spec(symbol: str, kind: str, key: int = 4, value: int = 8, entries: int = 1, name: str = "") -> MapSpec:
    """A map with keys and values of so many bytes."""
    return MapSpec(name, symbol, kind, Layout(UINT32), Layout(UINT64), key, value, entries)


def ring(entries: int = 4096) -> MapSpec:
    """The ring buffer map."""
    return map_spec(RING, "ringbuf", 0, 0, entries)


def plan(maps: Iterable[MapSpec], programs: Iterable[Code], words: tuple[str, ...] = (), **config: object) -> Plan:
    """The Plan of these programs; `config` are settings that differ from the defaults."""
    specs = tuple(ProgramSpec(p.symbol, p.section, p.attach, p.reverse) for p in programs)
    return Plan(specs, tuple(maps), (), words, Config(**config))  # type: ignore[arg-type]


def build(maps: Iterable[MapSpec], programs: Iterable[Code]) -> bytes:
    """The object: maps in `.maps`, described to libbpf by debug information, and the programs."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(_module(list(maps), list(programs)))
    module.verify()
    target = llvm.Target.from_triple("bpfel").create_target_machine(cpu="v3", opt=2)
    return bytes(target.emit_object(module))


def _module(maps: list[MapSpec], programs: list[Code]) -> str:
    metadata = _Metadata()
    lines = ['target triple = "bpfel"', '@_license = dso_local global [4 x i8] c"GPL\\00", section "license"']
    for spec in maps:
        settings = {"type": KINDS[spec.kind], "max_entries": spec.max_entries}
        if spec.kind != "ringbuf":
            settings |= {"key_size": spec.key_size, "value_size": spec.value_size}
        kind, variable = f"[{len(settings)} x ptr]", metadata.map(spec.symbol, settings)
        lines.append(
            f'@{spec.symbol} = dso_local global {kind} zeroinitializer, section ".maps", align 8, !dbg {variable}'
        )
    for code in programs:
        lines.append(f'define i32 @{code.symbol}(ptr %ctx) section "{code.section}" {{\n{code.body}\n}}')
    names = ["_license", *(spec.symbol for spec in maps)]
    used = ", ".join(f"ptr @{name}" for name in names)
    lines.append(f'@llvm.compiler.used = appending global [{len(names)} x ptr] [{used}], section "llvm.metadata"')
    return "\n".join([*lines, *metadata.lines()]) + "\n"


class _Metadata:
    """The debug information from which libbpf reads maps: sizes are the lengths of arrays."""

    def __init__(self) -> None:
        self._nodes: list[str] = []
        self._maps: list[str] = []
        self._numbers = itertools.count(4)
        self._int = self._add('!DIBasicType(name: "int", size: 32, encoding: DW_ATE_signed)')

    def _add(self, text: str) -> str:
        name = f"!{next(self._numbers)}"
        self._nodes.append(f"{name} = {text}")
        return name

    def map(self, symbol: str, settings: Mapping[str, int]) -> str:
        """The description of one map."""
        members = []
        for place, (name, number) in enumerate(settings.items()):
            bounds = self._add(f"!{{{self._add(f'!DISubrange(count: {number})')}}}")
            array = self._add(
                f"!DICompositeType(tag: DW_TAG_array_type, baseType: {self._int}, size: {32 * number}, "
                f"elements: {bounds})"
            )
            pointer = self._add(f"!DIDerivedType(tag: DW_TAG_pointer_type, baseType: {array}, size: 64)")
            members.append(
                self._add(
                    f'!DIDerivedType(tag: DW_TAG_member, name: "{name}", file: !1, baseType: {pointer}, '
                    f"size: 64, offset: {64 * place})"
                )
            )
        struct = self._add(
            f"!DICompositeType(tag: DW_TAG_structure_type, file: !1, size: {64 * len(settings)}, "
            f"elements: {self._add('!{' + ', '.join(members) + '}')})"
        )
        variable = self._add(
            f'distinct !DIGlobalVariable(name: "{symbol}", scope: !0, file: !1, line: 1, type: {struct}, '
            "isLocal: false, isDefinition: true)"
        )
        self._maps.append(self._add(f"!DIGlobalVariableExpression(var: {variable}, expr: !DIExpression())"))
        return self._maps[-1]

    def lines(self) -> list[str]:
        """All metadata of the module."""
        return [
            "!llvm.dbg.cu = !{!0}",
            "!llvm.module.flags = !{!3}",
            "!0 = distinct !DICompileUnit(language: DW_LANG_C99, file: !1, emissionKind: FullDebug, globals: !2)",
            '!1 = !DIFile(filename: "test.c", directory: "/")',
            f"!2 = !{{{', '.join(self._maps)}}}",
            '!3 = !{i32 2, !"Debug Info Version", i32 3}',
            *self._nodes,
        ]


def tracer(
    maps: Iterable[MapSpec],
    programs: Iterable[Code],
    *,
    words: tuple[str, ...] = (),
    pid: int | None = None,
    child: Child | None = None,
    extra: Mapping[str, int] | None = None,
    **config: object,
) -> Tracer:
    """A Tracer for these programs, not loaded yet."""
    maps, programs = list(maps), list(programs)
    made = plan(maps, programs, words, **config)
    return Tracer(made, build(maps, programs), pid=pid, child=child, globals=extra)


def counters(run: Tracer, symbol: str = "counters") -> list[int]:
    """The values of an array map of u64."""
    spec = next(m for m in run.plan.maps if m.symbol == symbol)
    return [number(value) for _, value in run.read_map(spec)]


def number(value: Values) -> int:
    """The integer in a value, of a per-CPU map the sum."""
    cells = value if isinstance(value, tuple) else (value,)
    return sum(int.from_bytes(cell, "little") for cell in cells)


# ---------------------------------------------------------------- bodies of programs


def count(counters: str, slot: int = 0, result: int = 0, pid: int = 0) -> str:
    """Add one to `slot` of the array map `counters` (of u64); with `pid` only for hits of that process."""
    if_wanted = f"""
  %pidtgid = call i64 inttoptr (i64 14 to ptr)()
  %pid = lshr i64 %pidtgid, 32
  %wanted = icmp eq i64 %pid, {pid}
  br i1 %wanted, label %look, label %out"""
    always = "\n  br label %look"
    return f"""
  %key = alloca i32
  store i32 {slot}, ptr %key{if_wanted if pid else always}
look:
  %cell = call ptr inttoptr (i64 1 to ptr)(ptr @{counters}, ptr %key)
  %missing = icmp eq ptr %cell, null
  br i1 %missing, label %out, label %add
add:
  %added = atomicrmw add ptr %cell, i64 1 monotonic
  br label %out
out:
  ret i32 {result}"""


def send(words: Iterable[int], times: int = 1, flags: int = 0) -> str:
    """Send a record of these u64 `times` times; `flags` 1 is BPF_RB_NO_WAKEUP, 2 BPF_RB_FORCE_WAKEUP.

    Word 1 is overwritten by the number of the record.
    """
    numbers = list(words)
    stores = "\n".join(
        f"  %p{i} = getelementptr i64, ptr %record, i64 {i}\n  store i64 {n}, ptr %p{i}" for i, n in enumerate(numbers)
    )
    number = "  store i64 %i, ptr %p1\n" if len(numbers) > 1 else ""
    return f"""
  %record = alloca [{len(numbers)} x i64]
{stores}
  br label %loop
loop:
  %i = phi i64 [0, %0], [%next, %loop]
{number}
  %r = call i64 inttoptr (i64 130 to ptr)(ptr @{RING}, ptr %record, i64 {8 * len(numbers)}, i64 {flags})
  %next = add i64 %i, 1
  %again = icmp ult i64 %next, {times}
  br i1 %again, label %loop, label %done
done:
  ret i32 7"""


def note(seen: str) -> str:
    """Put the thread that is running into the hash map `seen` (u64 process and thread id → the same)."""
    return f"""
  %who = alloca i64
  %id = call i64 inttoptr (i64 14 to ptr)()
  store i64 %id, ptr %who
  %r = call i64 inttoptr (i64 2 to ptr)(ptr @{seen}, ptr %who, ptr %who, i64 0)
  ret i32 0"""


def store_word(source: str, word: int, target: str, slot: int = 0) -> str:
    """Copy u64 number `word` of the value of array map `source` to `slot` of the array map `target`."""
    return f"""
  %zero = alloca i32
  store i32 0, ptr %zero
  %key = alloca i32
  store i32 {slot}, ptr %key
  %from = call ptr inttoptr (i64 1 to ptr)(ptr @{source}, ptr %zero)
  %m1 = icmp eq ptr %from, null
  br i1 %m1, label %out, label %second
second:
  %to = call ptr inttoptr (i64 1 to ptr)(ptr @{target}, ptr %key)
  %m2 = icmp eq ptr %to, null
  br i1 %m2, label %out, label %copy
copy:
  %at = getelementptr i64, ptr %from, i64 {word}
  %value = load i64, ptr %at
  store i64 %value, ptr %to
  br label %out
out:
  ret i32 0"""
