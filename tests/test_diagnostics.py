"""The catalogue of diagnostics (reference part 1, section 12): every class is produced, and says what it has to.

One row for each class, or for each of the mistakes that a class is about. Messages with their exact words and places
are tested next to what they belong to; this table shows that none is missing. What is about imports and functions is
tested with those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytrace.compilation import compile_text
from pytrace.grammar.diagnostics import CompileError, Diagnostic, Severity
from pytrace.grammar.host import CDefinitions
from pytrace.grammar.types import INT8, Member, Pointer, Space, Struct
from pytrace.options import Options
from tests.conformance.tags import load
from tests.fakehost import FakeHost

ELSEWHERE = {
    "err.ap.attach": "tests/e2e: the kernel says it",
    "err.comptime": "with comptime",
    "err.import": "with imports",
    "err.type.locked": "never: inference goes on until what sizeof and the like have seen is what they see",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A program with a mistake: the class of its message, and words of the message, its notes or its hints."""

    code: str
    program: str
    nouns: tuple[str, ...]
    params: tuple[str, ...] = ()
    host: Mapping[str, Any] = field(default_factory=dict)
    unsafe: bool = False

    @property
    def text(self) -> str:
        """The whole program; a body alone becomes a `begin` probe."""
        return self.program[1:] if self.program[:1] == "^" else f"begin {{ {self.program} }}"


def row(code: str, program: str, *nouns: str, params: tuple[str, ...] = (), unsafe: bool = False, **host: Any) -> Row:
    return Row(code, program, nouns, params, host, unsafe)


STACK = "kprobe:vfs_read { print(dw_ustack); }"
MOUNT = {Struct("mount", 16): (Member("mnt_pcp", Pointer(INT8, Space.KERNEL), 0, tag="percpu"),)}
# classes whose messages have the wording, and so the code, of another
WORDED_AS = {"err.type.literal-range": "err.type.assign", "err.type.agg-arg": "err.call.argtype"}
WARNED = ("err.ap.multi-target", "err.ap.traceable")  # warnings by the reference
NOWHERE = ("err.ap.limit", "warn.feature.unstable")  # classes that may speak of the whole program

# a program that begins with `^` is complete, without it
SYNTAX = [
    row("err.syntax.expected", "^begin { print(1) print(2) }", "expected ';'", "print"),
    row("err.syntax.expected", "^begin print(1)", "expected '{'"),
    row("err.syntax.expected", "print(1; ", "expected ')'"),
    row("err.syntax.expr", "$x = ;", "expected expression"),
    row("err.syntax.int", "print(18446744073709551616);", "18446744073709551615"),
    row("err.syntax.int", "print(5xy);", "suffix", "xy"),
    row("err.syntax.int", "print(1_);", "_"),
    row("err.syntax.int", "print(10e3);", "1", "9"),
    row("err.syntax.string", 'print("abc);', "unterminated string"),
    row("err.syntax.string", r'print("\q");', "escape", "q"),
    row("err.syntax.string", r'print("\777");', "777"),
    row("err.syntax.param", "print($0);", "$0", "$1"),
    row("err.syntax.param", "print($99999999999999999999);", "out of range"),
    row("err.syntax.order", "^begin { } struct s { int a; };", "before probes"),
    row("err.syntax.order", "^begin { } config = { max_strlen = 1 }", "before probes"),
    row("err.syntax.order", '^begin { } import "x";', "before probes"),
    row("err.syntax.order", "^config = { } config = { } begin { }", "duplicate config", "first config block"),
    row("err.syntax.immutable", "$t = (1, 2); $t.0 = 5;", "immutable", "new tuple"),
    row("err.syntax.target", "$x[1] = 5;", "invalid assignment target"),
    row("err.syntax.incdec", "pid++;", "++", "variable or map"),
    row("err.syntax.addrof", "print(&pid);", "&", "variable or map"),
    row("err.syntax.dupname", "$r = (a = 1, a = 2);", "a", "repeated"),
    row("err.syntax.mapdecl", "^let @m = hash(0); begin { @m[1] = 1; }", "positive"),
    row("err.syntax.mapdecl", "^let $x = 1; begin { }", "map declaration"),
    row("err.syntax.for", "for (x : @m) { }", "variable"),
    row("err.syntax.for", "for ($x : pid) { }", "map", "range"),
]

PLACES = [
    row("err.ap.type", "^krobe:vfs_read { }", "Invalid probe type", "krobe"),
    row("err.ap.arity", "^tracepoint:a { }", "tracepoint", "2", "1"),
    row("err.ap.none", "^uprobe:/bin/*nosuch:main { }", "attach points", "missing_probes"),
    row("err.ap.nomatch", "^kprobe:vfs_raed { }", "kprobe", "vfs_raed"),
    row("err.ap.target", "^uprobe:/no/such:main { }", "/no/such", "does not exist", "not executable"),
    row(
        "err.ap.multi-target", "^uprobe:sh:main { }", "/bin/bash", "2 binaries", files={"sh": ("/bin/bash", "/bin/sh")}
    ),
    row("err.ap.traceable", "^kprobe:quiet { }", "quiet", "notrace", addresses={"quiet": 0xFFFFFFFF81000000}),
    row("err.ap.module", "^kprobe:ext3:vfs_read { }", "ext3", "not loaded"),
    row("err.ap.offset", "^kretprobe:vfs_read+4 { }", "Offset not allowed"),
    row("err.ap.offset", "^kprobe:vfs_read+1+2 { }", "more than one"),
    row("err.ap.addr", "^kprobe:0x1000 { }", "--unsafe"),
    row("err.ap.lang", "^uprobe:/bin/bash:java:main { }", "java"),
    row("err.ap.srcloc", "^uprobe:/bin/bash@x { }", "TARGET@FILE:LINE"),
    row("err.ap.unit", "^interval:year:1 { }", "year"),
    row("err.ap.unit", "^interval:s:x { }", "x"),
    row("err.ap.unit", "^interval:s:0 { }", "0"),
    row("err.ap.unit", "^interval:us:0 { }", "0"),
    row("err.ap.event", "^software:nosuch:1 { }", "nosuch"),
    row("err.ap.event", "^software:cpu*:1 { }", "ildcard"),
    row("err.ap.event", "^software:cpu-clock:x { }", "x"),
    row("err.ap.watchpoint", "^watchpoint:0:8:w { }", "address"),
    row("err.ap.watchpoint", "^watchpoint:0x1000:3:w { }", "1", "2", "4", "8"),
    row("err.ap.watchpoint", "^watchpoint:0x1000:8:q { }", "r", "w", "x"),
    row("err.ap.watchpoint", "^watchpoint:0x1000:8:ww { }", "w"),
    row("err.ap.iter", "^iter:nosuch { }", "nosuch"),
    row("err.ap.iter", "^iter:* { }", "ildcard"),
    row("err.ap.arity", "^begin:x { }", "begin", "0", "1"),
    row("err.ap.special", "^self:signal:SIGKILL { }", "SIGKILL", "SIGUSR1"),
    row("err.ap.special", "^test: { }", "name"),
    row("err.ap.special", "^test:a { } test:a { }", "a"),
    row("err.ap.fentry.bpf", "^fentry:bpf { }", "name"),
    row("err.ap.fentry.bpf", "^fentry:bpf:x:y { }", "number", "*"),
    row("err.ap.btf", "^fentry:vfs_read { }", "BTF", "kprobe", features=set()),
    row("err.ap.limit", "^config = { max_probes = 2 } kprobe:vfs_* { print(probe); }", "4", "2", "BPFTRACE_MAX_PROBES"),
    row("err.ap.limit", "^config = { max_bpf_progs = 1 } begin { } end { }", "1", "BPFTRACE_MAX_BPF_PROGS"),
]

BUILTINS = [
    row("err.builtin.retval", "print(retval);", "kretprobe", "uretprobe", "fexit"),
    row("err.builtin.retval", "^tracepoint:syscalls:sys_exit_read { print(retval); }", "args.ret"),
    row("err.builtin.argN", "print(arg0);", "kprobe", "uprobe", "usdt"),
    row("err.builtin.argN", "^kprobe:vfs_read { print(arg9); }", "arg9"),
    row("err.builtin.args", "print(args);", "begin", "tracepoint"),
    row("err.builtin.args-resolve", "^uprobe:/bin/bash:readline { print(args); }", "args", "DWARF", prototypes={}),
    row("err.builtin.ctx", "print(ctx);", "begin"),
    row("err.builtin.ctx", "^tracepoint:sched:sched_switch { print(ctx); }", "args"),
    row("err.builtin.func", "print(func);", "begin"),
    row("err.builtin.in-for", "^kprobe:vfs_read { @a[1] = 1; for ($k : @a) { print(arg0); } }", "arg0", "for"),
    row("err.builtin.outside", "^fn f(): uint64 { return arg0; } begin { print(f()); }", "arg0", "functions", "give"),
    row("err.builtin.removed", "print(sarg0);", "sarg0", 'reg("sp")'),
    row("err.call.probe", 'print(reg("sp"));', "reg", "begin"),
    row("err.call.unsafe", 'system("ls");', "system", "--unsafe"),
]

NAMES = [
    row("err.name.ident", "print(com);", "com", "comm"),
    row("err.name.func", "@ = cuont();", "cuont", "count"),
    row("err.name.var", "print($x);", "$x"),
    row("err.name.shadow", "let $x = 1; if 1 { let $x = 2; }", "$x", "shadow", "let $x"),
    row("err.name.shadow", "$k = 1; @a[1] = 1; for ($k : @a) { }", "$k"),
    row("err.name.map", "print(@a);", "@a"),
    row("warn.name.unassigned", "let $x; print($x);", "$x"),
    row("warn.name.map-unused", "^let @m = hash(5); begin { }", "@m"),
    row("err.name.type", "$x = (struct nosuch *)1; print($x->a);", "nosuch"),
    row("err.name.struct-field", "$t = (struct task_struct *)1; print($t->pdi);", "pdi", "task_struct"),
    row("err.name.struct-field", "$r = (a = 1, b = 2); print($r.c);", "c"),
    row("err.name.struct-field", "$x = 1; print($x.c);", "c"),
    row("err.name.enum", "print((enum nosuch)1);", "nosuch"),
    row("err.name.cmacro", "print(BAD);", "expand", "BAD", definitions=CDefinitions(macros={"BAD": "do {"})),
    row("err.name.cmacro", "print(A);", "A -> B -> A", definitions=CDefinitions(macros={"A": "B", "B": "A"})),
]

TYPES = [
    row("err.type.assign", '$x = 1; $x = "a";', "$x", "string", "int"),
    row("err.type.key", '@m[1] = 1; @m["a"] = 1;', "@m", "string", "int"),
    row("err.type.scalar", "@m = 1; @m[1] = 2;", "@m"),
    row("err.type.scalar", "@m[1] = 1; print(@m + 1);", "@m"),
    row("err.type.binop", "print(comm + 1);", "+", "left", "right"),
    row("err.type.unop", 'print(-"a");', "-", "string"),
    row("err.type.unop", "$x = 1; print(*comm);", "*"),
    row("err.type.cond", "if (comm) { }", "Invalid condition", "string"),
    row("err.type.branch", 'print(1 ? "a" : 2);', "string", "int"),
    row("err.type.cast", "print((int8[3])(1, 2));", "cast"),
    row("warn.type.cast-same", "print((uint64)nsecs);", "nnecessary cast"),
    row("warn.type.intcast", "@x = (int64)5; @x = nsecs;", "uint64", "int64"),
    row("err.type.literal-range", "let $x: int8 = 300;", "300", "int8"),
    row("warn.type.sdiv", "$x = (int64)-1; print($x / 2);", "unsigned"),
    row("warn.type.ptrcmp", "$x = (int8 *)1; $y = (int32 *)2; print($x == $y);", "int8 *", "int32 *"),
    row("warn.type.addrspace", "$x = (uint64)curtask + (uint64)uptr((int8 *)8); print($x);", "address space"),
    row("err.type.index", "print(pid[1]);", "index"),
    row("err.type.index", "$a = (int8[4])1; print($a[comm]);", "index"),
    row("err.type.index", "$a = (int8[4])1; print($a[9]);", "9", "4"),
    row("err.type.index", "$p = (void *)1; print($p[1]);", "void"),
    row("err.type.tuple-index", "$t = (1, 2); print($t.5);", "5", "2"),
    row("err.type.tuple-index", "$t = 1; print($t.5);", "5", "int8"),
    row("err.type.array-cmp", "$a = (int8[4])1; $b = (int8[2])1; print($a == $b);", "4", "2"),
    row("err.type.agg-place", "$x = count();", "count", "map"),
    row("err.type.agg-assign", "@a = count(); @b = @a;", "@a", "cast"),
    row("err.type.agg-arg", "@ = sum(comm);", "sum", "integer"),
    row("err.type.agg-print", "@h[1] = hist(1); print(@h[1]);", "hist"),
    row("err.type.agg-in-tuple", "@h = hist(1); print((1, @h));", "tuple"),
    row("err.type.for", "@m = 1; for ($k : @m) { }", "@m"),
    row("err.type.for", "for ($i : comm..5) { }", "integer"),
    row("err.type.vardecl", "let $x: count_t = 1;", "count_t"),
    row("err.type.mapkind", "^let @m = percpuhash(5); begin { @m[1] = 1; }", "percpuhash"),
    row("err.type.mapkind", "^let @m = hahs(5); begin { @m[1] = 1; }", "hahs", "hash"),
    row("err.type.ctxkey", "^kprobe:vfs_read { @m[ctx] = 1; }", "context", "key"),
    row("err.type.ctxkey", "^kprobe:vfs_read { @m[1, (2, ctx)] = 1; }", "context", "key"),
    row(
        "err.type.ctxkey", "^kprobe:vfs_read { $k = (a = ctx, b = 2); print(has_key(@m, $k)); @m[$k] = 1; }", "context"
    ),
    row("err.type.return", 'return "a";', "integer"),
    row("err.type.tag", "$m = (struct mount *)kptr(8); print($m->mnt_pcp);", "mnt_pcp", "tag", structs=MOUNT),
    row("err.type.common", "^tracepoint:sched:sched_switch { print(args.common_pid); }", "common"),
    row("err.type.offsetof", "print(offsetof(struct task_struct, nosuch));", "nosuch"),
    row("err.type.offsetof", "print(offsetof(uint64, a));", "uint64"),
]

CALLS = [
    row("err.call.nargs", "print(strlen());", "strlen", "1", "0"),
    row("err.call.nargs", "exit(1, 2, 3);", "exit", "3"),
    row("err.call.argtype", "print(strlen(5));", "string", "int"),
    row("err.call.argtype", "printf($1);", "str($1)", params=("7",)),
    row("err.call.strlen", f'print("{"x" * 2000}");', "1023"),
    row("err.flow.jump", "break;", "break", "loop"),
    row("err.flow.jump", "^macro m() { return; } begin { m(); }", "return", "macro"),
    row("warn.flow.unreachable", "return; print(1);", "nreachable"),
    row("warn.flow.while", "while (0) { }", "while", "range"),
    row("warn.flow.print-loop", "@m[1] = 1; for ($i : 1..3) { print(@m); }", "loop"),
    row("warn.stmt.discard", "strlen(comm);", "strlen", "discarded"),
    row("err.flow.unroll", "unroll (pid) { }", "literal"),
    row("err.flow.unroll", "unroll (0) { }", "minimum", "1"),
    row("err.flow.unroll", "unroll (101) { }", "maximum", "100"),
    row("err.fold", "print(9223372036854775807 * 9223372036854775807);", "overflow"),
    row("err.fold", "print(1 / 0);", "zero"),
    row("err.fold", "print(-9223372036854775807 - 5);", "underflow"),
    row("warn.param.empty", "print($1);", "$1"),
    row("err.param.named", 'print(getopt("a", 1)); print(getopt("a", 2));', "a", "1"),
    row("err.macro.match", "^macro m($x, @y) { } begin { m(1); }", "m()", "closest"),
    row("err.macro.hygiene", "^macro m() { @x = 1; } begin { m(); }", "@x"),
    row("err.macro.hygiene", "^macro m($a, $a) { } begin { }", "$a"),
    row("err.macro.hygiene", "^macro m() { } macro m() { } begin { }", "m"),
    row("err.macro.recursion", "^macro a() { b() } macro b() { a() } begin { a(); }", "a", "b"),
    row("err.feature", f"^config = {{ unstable_dw_ustack = error }} {STACK}", "unstable_dw_ustack=enable"),
    row("err.feature", "print(nsecs(tai));", "sw_tai", features={"btf"}),
    row("warn.feature.unstable", f"^{STACK}", "dw_ustack"),
]

ROWS = (*SYNTAX, *PLACES, *BUILTINS, *NAMES, *TYPES, *CALLS)


def said(row: Row) -> list[Diagnostic]:
    """What the compiler says of a program."""
    options = Options(parameters=row.params, unsafe=row.unsafe)
    host = FakeHost(**row.host)
    try:
        return list(compile_text(row.text, options=options, host=host).warnings)
    except CompileError as error:
        return list(error.diagnostics)


@pytest.mark.parametrize(
    "row", [pytest.param(r, id=f"{r.code} {r.program[:40]}", marks=pytest.mark.tag(r.code)) for r in ROWS]
)
def test_every_class_is_produced(row: Row) -> None:
    found = said(row)
    code = WORDED_AS.get(row.code, row.code)
    told = next((d for d in found if d.code == code), None)
    assert told is not None, [(d.code, d.message) for d in found]
    assert (told.severity is Severity.WARNING) == (row.code.startswith("warn.") or row.code in WARNED)
    assert told.span is not None or row.code in NOWHERE
    whole = told.render()
    assert [noun for noun in row.nouns if noun not in whole] == []


def test_no_class_is_missing() -> None:
    """Section 12 of part 1; what part 2 says of runs is tested there."""
    classes = {f.tag for f in load() if f.part == 1 and f.section.startswith("12.")}
    assert classes == {r.code for r in ROWS} | set(ELSEWHERE)
