"""What the compiler says of names: variables, maps, functions, types, fields (reference part 1, 12.3, 12.4)."""

from __future__ import annotations

import pytest

from pytrace.grammar.diagnostics import Severity
from tests.grammar.messages import Said, rows
from tests.language.checking import check, errors

DECLARED = "This is the initial declaration."
SHADOW = "Variable $x was already declared. Variable shadowing is not allowed."

ERRORS = [
    Said("err.name.ident", "print(foo);", "Unknown identifier: 'foo'", "foo", tags="diag.texts expr.bareword"),
    Said("err.name.ident", "$x = comn;", "Unknown identifier: 'comn'", "comn", hint="'comm'"),
    Said("err.name.func", "foo(1);", "Unknown function: 'foo'", "foo(1)", tags="expr.call"),
    Said("err.name.func", "prinft(1);", "Unknown function: 'prinft'", "prinft(1)", hint="'printf'"),
    Said("err.name.var", "print($x);", "Undefined or undeclared variable: $x", "$x", tags="diag.texts scope.undefined"),
    Said(
        "err.name.var",
        "$count = 1; print($coumt);",
        "Undefined or undeclared variable: $coumt",
        "$coumt",
        hint="'$count'",
    ),
    Said(
        "err.name.var",
        "if (1) { $x = 1; } print($x);",
        "Undefined or undeclared variable: $x",
        "$x",
        tags="scope.block",
    ),
    Said(
        "err.name.var",
        "if (1) { $x = 1; } else { $x = 2; } print($x);",
        "Undefined or undeclared variable: $x",
        "$x",
        tags="scope.undefined",
    ),
    Said("err.name.var", "{ $x = 1; } print($x);", "Undefined or undeclared variable: $x", "$x", tags="scope.block"),
    Said(
        "err.name.var",
        "for ($i : 0..2) { $x = $i; } print($x);",
        "Undefined or undeclared variable: $x",
        "$x",
        tags="scope.block",
    ),
    Said(
        "err.name.var",
        "for ($i : 0..2) { } print($i);",
        "Undefined or undeclared variable: $i",
        "$i",
        tags="stmt.for.common",
    ),
    Said(
        "err.name.var",
        "unroll (2) { $x = 1; } print($x);",
        "Undefined or undeclared variable: $x",
        "$x",
        tags="scope.block",
    ),
    Said("err.name.var", "$x++;", "Undefined or undeclared variable: $x", "$x", tags="expr.incdec.type"),
    Said("err.name.var", "$x += 1;", "Undefined or undeclared variable: $x", "$x"),
    Said(
        "err.name.var",
        "begin { $x = 1; } begin { print($x); }",
        "Undefined or undeclared variable: $x",
        "$x",
        tags="scope.block",
    ),
    Said("err.name.var", "begin / $x / { $x = 1; }", "Undefined or undeclared variable: $x", "$x"),
    Said("err.name.shadow", "$x = 1; let $x = 2;", SHADOW, "$x", (("$x", DECLARED),), tags="scope.noshadow"),
    Said(
        "err.name.shadow",
        "let $x = 1; if (1) { let $x = 2; }",
        SHADOW,
        "$x",
        (("$x", DECLARED),),
        tags="scope.noshadow",
    ),
    Said("err.name.shadow", "$x = 1; for ($x : 0..2) { }", SHADOW, "$x", (("$x", DECLARED),), tags="scope.noshadow"),
    Said(
        "err.name.shadow", "for ($x : 0..2) { let $x = 1; }", SHADOW, "$x", (("$x", DECLARED),), tags="scope.noshadow"
    ),
    Said("err.name.map", "begin { @a[1] = 1; print(@b); }", "Undefined map: @b", "@b", tags="diag.texts"),
    Said("err.name.map", "clear(@x);", "Undefined map: @x", "@x"),
    Said("err.name.map", "@abc[1] = 1; delete(@abd, 1);", "Undefined map: @abd", "@abd", hint="'@abc'"),
    Said("err.name.map", "for ($kv : @m) { }", "Undefined map: @m", "@m"),
    Said("err.name.map", "print(len(@m));", "Undefined map: @m", "@m"),
    Said("err.name.type", "let $x: nosuch;", 'Cannot resolve unknown type "nosuch"', "nosuch"),
    Said("err.name.type", "let $x: unit32;", 'Cannot resolve unknown type "unit32"', "unit32", hint="uint32"),
    Said("err.name.type", "$x = (nosuch *)5;", 'Cannot resolve unknown type "nosuch"', "nosuch *"),
    Said(
        "err.name.type",
        "print(((struct nosuch *)5)->x);",
        'Cannot resolve unknown type "struct nosuch"',
        "struct nosuch *",
        tags="type.struct.errors",
    ),
    Said(
        "err.call.argtype",
        "@a[1] = 1; @a[2] = 2; delete(@a[1], @a[2]);",
        "delete() expects a map argument",
        "@a[1]",
        hint="Name the map without a key",
        tags="map.delete.old",
    ),
    Said(
        "err.type.tuple-index",
        "$t = (1, 2); $i = 1; print($t[$i]);",
        "A tuple's index must be a literal: (int8,int8)",
        "$t[$i]",
        tags="type.tuple.access",
    ),
    Said(
        "err.type.tuple-index",
        "$r = (a=1); print($r[0]);",
        "A record's members have names, no index: record { .a = int8 }",
        "$r[0]",
        tags="type.record.literal",
    ),
    Said(
        "err.name.ident", "print(sizeof(nosuch));", "Unknown identifier: 'nosuch'", "nosuch", tags="type.typeof.bareword"
    ),
    Said("err.name.type", "print((nosuch)5);", 'Cannot resolve unknown type "nosuch"', "nosuch"),
    Said(
        "err.name.type", "print(sizeof(struct nosuch));", 'Cannot resolve unknown type "struct nosuch"', "struct nosuch"
    ),
    Said(
        "err.name.struct-field",
        "print(curtask->nosuch);",
        "Struct/union of type 'struct task_struct' does not contain a field named 'nosuch'",
        "curtask->nosuch",
        tags="diag.texts type.struct.errors",
    ),
    Said(
        "err.name.struct-field",
        "print(curtask->real_parent.pidd);",
        "Struct/union of type 'struct task_struct' does not contain a field named 'pidd'",
        "curtask->real_parent.pidd",
        hint="'pid'",
    ),
    Said(
        "err.name.struct-field",
        "print(pid.x);",
        "Can not access field 'x' on expression of type 'uint32'",
        "pid.x",
        tags="type.struct.errors",
    ),
    Said(
        "err.name.struct-field",
        "$r = (a = 1); print($r.b);",
        "Struct/union of type 'record { .a = int8 }' does not contain a field named 'b'",
        "$r.b",
    ),
    Said("err.name.enum", "print((enum nosuch)5);", 'Cannot resolve unknown type "enum nosuch"', "enum nosuch"),
    Said(
        "err.name.enum",
        "print((enum pid_type)9);",
        "Enum: pid_type doesn't contain a variant value of 9",
        "(enum pid_type)9",
    ),
    Said(
        "err.builtin.retval",
        "print(retval);",
        "The retval builtin can only be used with 'kretprobe' and 'uretprobe' and 'fexit' probes",
        "retval",
    ),
    Said(
        "err.builtin.retval",
        "tracepoint:sched:sched_switch { print(retval); }",
        "The retval builtin can only be used with 'kretprobe' and 'uretprobe' and 'fexit' probes (try to use args.ret instead)",
        "retval",
    ),
    Said(
        "err.builtin.argN",
        "print(arg0);",
        "The arg0 builtin can only be used with 'kprobes', 'uprobes' and 'usdt' probes",
        "arg0",
    ),
    Said(
        "err.builtin.args",
        "print(args.x);",
        "The args builtin can only be used with tracepoint, rawtracepoint, fentry/fexit, and uprobe probes (begin used here)",
        "args",
    ),
    Said("err.builtin.ctx", "print(ctx);", "The ctx builtin can not be used with 'begin' probes", "ctx"),
    Said(
        "err.builtin.in-for",
        "tracepoint:sched:sched_switch { for ($i : 0..2) { print(args.prev_pid); } }",
        "'args' builtin is not allowed in a for-loop",
        "args",
        tags="stmt.for.common",
    ),
    Said(
        "err.call.unsafe",
        'system("ls");',
        "system() is an unsafe function being used in safe mode",
        'system("ls")',
        hint="--unsafe",
    ),
    Said(
        "err.type.common",
        "tracepoint:sched:sched_switch { print(args.common_pid); }",
        "Common tracepoint field 'common_pid' can not be read by a program",
        "args.common_pid",
    ),
    Said(
        "err.feature",
        "print(typeinfo(pid));",
        "typeinfo feature is not enabled by default. To enable this unstable feature, "
        "set the config flag to enable. unstable_typeinfo=enable",
        "typeinfo(pid)",
    ),
]

WARNINGS = [
    Said(
        "warn.name.unassigned",
        "let $x; print((1, $x)); $x = 1;",
        "Variable used before it was assigned: $x",
        "$x",
        tags="scope.warnings diag.texts",
    ),
    Said(
        "warn.name.unassigned", "let $x;", "Variable $x was never assigned to.", "$x", tags="scope.warnings diag.texts"
    ),
    Said(
        "warn.name.map-unused",
        "let @a = hash(5); let @a = lruhash(6); begin { @a[1] = 1; }",
        "@a is declared already: this declaration has no effect",
        "let @a = lruhash(6);",
        notes=(("let @a = hash(5);", "This is the first declaration."),),
        tags="map.decl",
    ),
    Said(
        "warn.name.map-unused",
        "let @a = hash(5); begin { }",
        "Unused map: @a",
        "let @a = hash(5);",
        tags="diag.texts map.decl",
    ),
    Said(
        "warn.param.empty",
        "print($3);",
        "Positional parameter $3 is empty or not provided. ",
        "$3",
        params=("a", "b"),
        tags="param.pos",
    ),
]


@rows(ERRORS)
def test_error(said: Said) -> None:
    said.check(Severity.ERROR)


@rows(WARNINGS)
def test_warning(said: Said) -> None:
    said.check(Severity.WARNING)


@pytest.mark.tag("scope.block", "scope.noshadow")
@pytest.mark.parametrize(
    "body",
    [
        'if (1) { $a = 1; } $a = "text"; print($a);',
        "for ($i : 0..2) { } for ($i : 0..3) { } $i = 1;",
        "$x = { let $y = 1; $y + 1 }; let $y = 2; print(($x, $y));",
        'if (1) { let $x = 1; } else { let $x = "s"; }',
        "let $x; if (1) { $x = 1; } print($x);",
        "$p = curtask; { $p = curtask; } print($p->pid);",
    ],
)
def test_what_scopes_allow(body: str) -> None:
    assert errors(body) == []


@pytest.mark.tag("err.name.cmacro", "type.cmacro")
def test_macros_that_are_no_expressions() -> None:
    from pytrace.grammar.host import CDefinitions
    from tests.fakehost import FakeHost

    class Host(FakeHost):
        def c_definitions(self, text: str) -> CDefinitions:
            return CDefinitions(
                macros={
                    "GOOD": "(1+2)",
                    "USES": "GOOD*2",
                    "BAD": "do{",
                    "EMPTY": "",
                    "A": "B+1",
                    "B": "A",
                    "NAME": '"text"',
                    "WORD": "comm",
                }
            )

    def said(body: str) -> list[str]:
        return check(f"#define GOOD 1\nbegin {{ {body} }}", host=Host()).errors

    assert said("print(GOOD); print(USES); print(NAME); print(WORD); $x = GOOD; unroll (GOOD) { }") == []
    assert said("print(BAD);") == ["unable to expand macro as an expression: BAD"]
    assert said("print(EMPTY);") == ["unable to expand macro as an expression: EMPTY"]
    assert said("print(A);") == ["Macro recursion: A -> B -> A"]


@pytest.mark.tag("type.cmacro", "type.enum.const")
def test_macros_beside_enumerators() -> None:
    """`#define SOCK_STREAM SOCK_STREAM` of <sys/socket.h>: a macro is not expanded in its own text."""
    from pytrace.grammar.host import CDefinitions
    from pytrace.grammar.types import EnumType
    from tests.fakehost import FakeHost

    class Host(FakeHost):
        def c_definitions(self, text: str) -> CDefinitions:
            kind = EnumType("kinds", 4, False)
            return CDefinitions(
                enums={"kinds": kind},
                enumerators={"STREAM": (kind, 7)},
                macros={"STREAM": "STREAM", "BOTH": "STREAM|8", "SELF": "SELF"},
            )

    def said(body: str) -> list[str]:
        return check(f"#define GOOD 1\nbegin {{ {body} }}", host=Host()).errors

    assert said("static_assert(STREAM == 7, \"\"); static_assert(BOTH == 15, \"\"); @ = STREAM;") == []
    assert said("print(SELF);") == ["Macro recursion: SELF -> SELF"]
