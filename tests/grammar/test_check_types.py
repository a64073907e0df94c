"""What the compiler says of types (reference part 1, section 12.5)."""

from __future__ import annotations

import pytest

from pytrace.grammar.diagnostics import Severity
from tests.grammar.messages import Said, rows
from tests.language.checking import check, errors, value_of


def variable(name: str, new: str, old: str) -> str:
    return f"Type mismatch for {name}: trying to assign value of type '{new}' when variable already has a type '{old}'"


def element(name: str, new: str, old: str) -> str:
    return f"Type mismatch for {name}: trying to assign value of type '{new}' when map already has a type '{old}'"


def key(name: str, given: str, wanted: str) -> str:
    return f"Argument mismatch for {name}: trying to access with arguments: '{given}' when map expects arguments: '{wanted}'"


SCALAR = "@x used as a map with an explicit key (non-scalar map), previously used without an explicit key (scalar map)"
KEYED = "@x used without an explicit key (scalar map), previously used as a map with an explicit key (non-scalar map)"

ASSIGNMENTS = [
    Said("err.type.assign", '$x = 1; $x = "a";', variable("$x", "string[2]", "int8"), '$x = "a"'),
    Said(
        "err.type.assign",
        "$x = (1, 2); $x = (1, 2, 3);",
        variable("$x", "(int8,int8,int8)", "(int8,int8)"),
        "$x = (1, 2, 3)",
    ),
    Said("err.type.assign", "$x = comm; $x = pid;", variable("$x", "uint32", "string[16]"), "$x = pid"),
    Said("err.type.assign", '@x = 1; @x = "a";', element("@x", "string[2]", "int8"), '@x = "a"'),
    Said(
        "err.type.assign",
        'begin { @x = 1; } begin { @x = "a"; }',
        element("@x", "string[2]", "int8"),
        '@x = "a"',
        tags="infer.fixpoint",
    ),
    Said(
        "err.type.assign", "@x = count(); @x = 5;", element("@x", "int8", "count_t"), "@x = 5", tags="type.agg.single"
    ),
    Said(
        "err.type.assign",
        "@x = 5; @x = count();",
        element("@x", "count_t", "int8"),
        "@x = count()",
        tags="type.agg.single",
    ),
    Said(
        "err.type.assign",
        "@x = count(); @x = sum(5);",
        element("@x", "sum_t", "count_t"),
        "@x = sum(5)",
        tags="type.agg.single",
    ),
    Said(
        "err.type.assign",
        '@x[1] = hist(5); @x[2] = "a";',
        element("@x", "string[2]", "hist_t"),
        '@x[2] = "a"',
        tags="type.agg.single",
    ),
    Said(
        "err.type.assign",
        'let $x: int8 = "a";',
        variable("$x", "string[2]", "int8"),
        'let $x: int8 = "a"',
        tags="infer.cast.error",
    ),
    Said(
        "err.type.assign",
        'let $x: string[3] = "hello";',
        variable("$x", "string[6]", "string[3]"),
        'let $x: string[3] = "hello"',
        tags="infer.cast.error",
    ),
    Said(
        "err.type.assign",
        "let $a: uint16 = -1;",
        variable("$a", "int8", "uint16"),
        "let $a: uint16 = -1",
        tags="err.type.literal-range infer.cast.warn",
    ),
    Said(
        "err.type.assign",
        "let $b: uint8 = 300;",
        variable("$b", "int16", "uint8"),
        "let $b: uint8 = 300",
        tags="err.type.literal-range infer.cast.warn",
    ),
    Said(
        "err.type.assign",
        "let $b: int8; $b = 128;",
        variable("$b", "int16", "int8"),
        "$b = 128",
        tags="err.type.literal-range",
    ),
    Said("err.type.assign", "let $s: string; $s = 5;", variable("$s", "int8", "string[1]"), "$s = 5", tags="infer.var"),
    Said("err.type.assign", "@a = {};", "Value 'none' cannot be stored in a map.", "@a = {}"),
    Said(
        "err.type.vardecl", "let $x: count_t;", "Invalid variable declaration type: count_t", "count_t", tags="stmt.let"
    ),
    Said("err.type.vardecl", "let $x: void;", "Invalid variable declaration type: void", "void", tags="stmt.let"),
    Said(
        "err.type.vardecl",
        "$x = if (pid) { 1 };",
        "Value 'none' cannot be assigned to a scratch variable.",
        "$x = if (pid) { 1 }",
    ),
    Said(
        "err.type.vardecl", "$x = print(1);", "Value 'none' cannot be assigned to a scratch variable.", "$x = print(1)"
    ),
    Said(
        "err.type.key",
        '@x[1] = 1; @x["a"] = 2;',
        key("@x", "string[2]", "int8"),
        '"a"',
        tags="map.key.types infer.map.key",
    ),
    Said("err.type.key", "@x[1, 2] = 1; print(@x[1]);", key("@x", "int8", "(int8,int8)"), "1", tags="map.multikey"),
    Said("err.type.key", '@g[1, "ab"] = 1; @g[1, 2] = 1;', key("@g", "(int8,int8)", "(int8,string[3])"), "1, 2"),
    Said("err.type.key", '@x[1] = 1; delete(@x, "a");', key("@x", "string[2]", "int8"), '"a"'),
    Said("err.type.scalar", "@x = 1; @x[1] = 1;", SCALAR, "@x[1]", (("@x", "Previous use"),), tags="map.scalar"),
    Said("err.type.scalar", "@x[1] = 1; @x = 1;", KEYED, "@x", (("@x[1]", "Previous use"),), tags="map.scalar"),
    Said("err.type.scalar", "@x[1] = 1; print(@x + 1);", KEYED, "@x", (("@x[1]", "Previous use"),), tags="map.scalar"),
    Said(
        "err.type.scalar",
        "begin { @x[1] = 1; } begin { @x++; }",
        KEYED,
        "@x",
        (("@x[1]", "Previous use"),),
        tags="map.scalar",
    ),
    Said(
        "err.type.scalar",
        "@x = 1; print(len(@x));",
        "call to len() expects a map with explicit keys (non-scalar map)",
        "len(@x)",
        tags="map.scalar map.len",
    ),
    Said(
        "err.type.scalar",
        "@x = 1; print(has_key(@x, 1));",
        "call to has_key() expects a map with explicit keys (non-scalar map)",
        "has_key(@x, 1)",
        tags="map.has_key",
    ),
    Said(
        "err.type.scalar",
        "@x[1] = 1; delete(@x);",
        "call to delete() with a single argument expects a map without explicit keys (scalar map)",
        "delete(@x)",
        tags="map.delete.scalar",
    ),
]

ACCESSES = [
    Said(
        "err.type.cast",
        "print((int8)comm);",
        "Cannot cast from 'string[16]' to 'int8'",
        "(int8)comm",
        tags="cast.explicit",
    ),
    Said(
        "err.type.cast", "print((string)5);", "Cannot cast from 'int8' to 'string'", "(string)5", tags="cast.explicit"
    ),
    Said(
        "err.type.cast",
        "print((struct task_struct)5);",
        "Cannot cast from 'int8' to 'struct task_struct'",
        "(struct task_struct)5",
        tags="type.struct.value",
    ),
    Said(
        "err.type.cast",
        "print((int8)*curtask);",
        "Cannot cast from 'struct task_struct' to 'int8'",
        "(int8)*curtask",
        tags="type.struct.value",
    ),
    Said(
        "err.type.cast",
        "print((int32[])(int16)5);",
        "Cannot determine size of the array 'int32[0]'",
        "(int32[])(int16)5",
        tags="cast.array",
    ),
    Said(
        "err.type.cast", "print((int8[9])5);", "Cannot cast from 'int8' to 'int8[9]'", "(int8[9])5", tags="cast.array"
    ),
    Said(
        "err.type.cast",
        '$s = "abcdef"; print((string[3])$s);',
        "Cannot cast from 'string[7]' to 'string[3]'",
        "(string[3])$s",
        tags="cast.explicit",
    ),
    Said(
        "err.type.cast",
        "@h = hist(5); print((int64)@h);",
        "Cannot cast from 'hist_t' to 'int64'",
        "(int64)@h",
        tags="type.agg.opaque",
    ),
    Said(
        "err.type.index",
        "print(pid[0]);",
        "The array index operator [] can only be used on arrays and pointers, found 'uint32'",
        "pid[0]",
        tags="type.array.index",
    ),
    Said(
        "err.type.index",
        "print(curtask->comm[16]);",
        "the index 16 is out of bounds for string[16]",
        "curtask->comm[16]",
        tags="type.array.index",
    ),
    Said(
        "err.type.index",
        "$a = (int8[4])(int32)5; print($a[4]);",
        "the index 4 is out of bounds for array of size 4",
        "$a[4]",
        tags="type.array.index",
    ),
    Said(
        "err.type.index",
        "$i = -1; print(curtask->comm[$i]);",
        "The array index operator [] only accepts positive (unsigned) integer indices. Cast the index, e.g. (uint64)$i",
        "$i",
        tags="type.array.index",
    ),
    Said(
        "err.type.index",
        'print(curtask->comm["a"]);',
        "The array index operator [] expects an integer, found 'string[2]'",
        '"a"',
        tags="type.array.index",
    ),
    Said(
        "err.type.index",
        "$v = (void *)5; print($v[0]);",
        "The array index operator [] can not be used on 'void *'",
        "$v[0]",
        tags="type.array.index",
    ),
    Said(
        "err.type.tuple-index",
        "$t = (1, 2); print($t.2);",
        "Invalid tuple index: 2. Found 2 elements in tuple.",
        "$t.2",
        tags="type.tuple.access",
    ),
    Said(
        "err.type.tuple-index",
        "print(pid.0);",
        "Can not access index '0' on expression of type 'uint32'",
        "pid.0",
        tags="type.tuple.access",
    ),
    Said(
        "err.type.tuple-index",
        "print(1.5);",
        "Can not access index '5' on expression of type 'int8'",
        "1.5",
        tags="lex.nofloat",
    ),
    Said(
        "err.type.offsetof",
        "print(offsetof(struct task_struct, nosuch));",
        "Struct/union of type 'struct task_struct' does not contain a field named 'nosuch'",
        "offsetof(struct task_struct, nosuch)",
        tags="type.offsetof",
    ),
    Said(
        "err.type.offsetof",
        "print(offsetof(pid, x));",
        "'uint32' is not a C struct",
        "offsetof(pid, x)",
        tags="type.offsetof",
    ),
]

COPY = "The function that returns this type must be called directly e.g. `@x = {}(...);`."
AGGREGATES = [
    Said(
        "err.type.agg-place",
        "$x = count();",
        "count() must be assigned directly to a map, e.g. `@x = count(...);`.",
        "count()",
        tags="type.agg.assign",
    ),
    Said(
        "err.type.agg-place",
        "print(sum(5));",
        "sum() must be assigned directly to a map, e.g. `@x = sum(...);`.",
        "sum(5)",
        tags="type.agg.assign",
    ),
    Said(
        "err.type.agg-place",
        "hist(5);",
        "hist() must be assigned directly to a map, e.g. `@x = hist(...);`.",
        "hist(5)",
        tags="type.agg.assign",
    ),
    Said(
        "err.type.agg-place",
        "@x = 1 + count();",
        "count() must be assigned directly to a map, e.g. `@x = count(...);`.",
        "count()",
        tags="type.agg.assign",
    ),
    Said(
        "err.type.agg-assign",
        "@a = count(); @b = @a;",
        f"Map value 'count_t' cannot be assigned from one map to another. {COPY.format('count')}",
        "@a",
        hint="(int64)@y",
        tags="type.agg.cast",
    ),
    Said(
        "err.type.agg-assign",
        "@a = hist(1); @b = @a;",
        f"Map value 'hist_t' cannot be assigned from one map to another. {COPY.format('hist')}",
        "@a",
        tags="type.agg.opaque",
    ),
    Said(
        "err.type.agg-assign",
        "@a = hist(1); $x = @a;",
        "Value 'hist_t' cannot be assigned to a scratch variable.",
        "$x = @a",
        tags="diag.texts type.agg.opaque",
    ),
    Said(
        "err.type.agg-assign",
        "@a = hist(1); @b[@a] = 1;",
        "Value 'hist_t' cannot be used as a map key.",
        "@a",
        tags="diag.texts type.agg.opaque map.key.types",
    ),
    Said(
        "err.type.agg-in-tuple",
        "@a = hist(1); print((1, @a));",
        "Map type hist_t cannot exist inside a tuple.",
        "@a",
        tags="diag.texts type.tuple.members",
    ),
    Said(
        "err.type.agg-print",
        "@a[1] = hist(1); print(@a[1]);",
        "Map type hist_t cannot print the value of individual keys. You must print the whole map.",
        "@a[1]",
        tags="type.agg.opaque",
    ),
    Said(
        "err.call.argtype",
        '@a = sum("a");',
        "sum() only supports integer arguments (string provided)",
        '"a"',
        tags="err.type.agg-arg type.agg.sign",
    ),
    Said(
        "err.type.mapkind",
        "let @a = hash(5); begin { @a = count(); }",
        "Incompatible map types. Type from declaration: hash. Type from value/key type: percpuhash",
        "let @a = hash(5);",
        tags="map.kind",
    ),
    Said(
        "err.type.mapkind",
        "let @a = percpuhash(5); begin { @a = 1; }",
        "Incompatible map types. Type from declaration: percpuhash. Type from value/key type: hash",
        "let @a = percpuhash(5);",
        tags="map.kind",
    ),
    Said(
        "err.type.mapkind",
        "let @a = foo(5); begin { @a = 1; }",
        "Invalid bpf map type: foo",
        "let @a = foo(5);",
        hint="hash, lruhash, percpuhash, percpulruhash",
        tags="map.decl",
    ),
    Said(
        "err.type.for",
        "@a = 1; for ($x : @a) { }",
        "@a is a scalar map and cannot be iterated",
        "@a",
        tags="stmt.for.map.types",
    ),
    Said(
        "err.type.for",
        "@a[1] = hist(1); for ($x : @a) { }",
        "Loop expression does not support type: hist_t",
        "@a",
        tags="stmt.for.map.types",
    ),
    Said(
        "err.type.for",
        "for ($x : 0..comm) { }",
        "Loop range requires an integer, 'string[16]' provided",
        "comm",
        tags="stmt.for.range",
    ),
    Said(
        "err.type.return",
        'return "a";',
        "A probe can only return integers, not 'string[2]'",
        'return "a"',
        tags="stmt.return",
    ),
]


def converted(value: str, target: str) -> str:
    return f"Type '{value}' is being cast to '{target}', which may cause unexpected results. Use an explicit cast to silence this warning."


SIGNED = "signed operands for '{}' can lead to undefined behavior (cast to unsigned to silence warning)"
WARNINGS = [
    Said(
        "warn.type.intcast",
        "let $b: uint8 = pid;",
        converted("uint32", "uint8"),
        "pid",
        tags="infer.cast.warn infer.cast.implicit",
    ),
    Said(
        "warn.type.intcast",
        "let $b: uint32 = (int8)pid;",
        converted("int8", "uint32"),
        "(int8)pid",
        tags="infer.cast.warn",
    ),
    Said(
        "warn.type.intcast",
        "$x = (int64)5; $x = nsecs;",
        converted("uint64", "int64"),
        "nsecs",
        tags="infer.promote infer.cast.warn",
    ),
    Said(
        "warn.type.intcast",
        "$x = -1; $x = (uint64)2;",
        converted("uint64", "int64"),
        "(uint64)2",
        tags="infer.promote type.literal.flex",
    ),
    Said(
        "warn.type.intcast", "@x = (int64)5; @x = nsecs;", converted("uint64", "int64"), "nsecs", tags="infer.map.value"
    ),
    Said("warn.type.sdiv", "$a = -7; print($a / 2);", SIGNED.format("/"), "$a / 2", tags="expr.div diag.texts"),
    Said("warn.type.sdiv", "@a = (int64)7; print(@a % 2);", SIGNED.format("%"), "@a % 2", tags="expr.div"),
    Said(
        "warn.type.ptrcmp",
        "$p = (int8 *)5; $q = (int32 *)5; print($p == $q);",
        "comparison of distinct pointer types: int8 *, int32 *",
        "$p == $q",
        tags="expr.ptr",
    ),
]


@rows([*ASSIGNMENTS, *ACCESSES, *AGGREGATES])
def test_error(said: Said) -> None:
    said.check(Severity.ERROR)


@rows(WARNINGS)
def test_warning(said: Said) -> None:
    said.check(Severity.WARNING)


@pytest.mark.tag("infer.cast.warn", "infer.promote", "type.literal.flex", "expr.div")
@pytest.mark.parametrize(
    "body",
    [
        "let $b: uint8 = (uint8)pid;", "$x = (int8)1; $x = (uint8)2;", "$x = 1; $x = nsecs;", "$x = nsecs; $x = 1;",
        "@x = 1; @x = nsecs;", "$a = 7; print($a / 2);", "print(nsecs / 1000);", "print(pid % 7);", "@c = count(); $x = 5; $x = @c;",
        "$x = (int32)5; $x = pid;", "@m[pid] = 1; @m[-1] = 2;", "let $p: int8 *; $p = (int8 *)5; print($p == 0);", "@x[pid]++; @x[5] = 1;",
    ],
)  # fmt: skip
def test_conversions_without_warning(body: str) -> None:
    found = check(f"begin {{ {body} }}")
    assert (found.errors, found.warnings) == ([], [])


@pytest.mark.tag("infer.fixpoint", "infer.map.value", "infer.var", "infer.map.key")
def test_types_do_not_depend_on_the_order() -> None:
    typed = check(
        'begin { $x = @m; @k[@m] = @n[1]; } begin { @m = (int32)1; @m = "a" == "b" ? 1 : (int32)2; @n["a"[0]] = "text"; }'
    ).typed
    assert typed is not None
    assert {name: (str(m.key), str(m.value)) for name, m in typed.maps.items()} == {
        "m": ("int64", "int32"), "k": ("int32", "string[5]"), "n": ("int8", "string[5]"),
    }  # fmt: skip
    assert [str(b.type) for b in typed.probes[0].bindings.values()] == ["int32"]
    assert errors("let $v; $a = $v; $v = 10; $a = 300; print(($a, $v));") == []


@pytest.mark.tag(
    "type.literal.size",
    "type.addr-results",
    "type.string.size",
    "expr.arith",
    "expr.sub.signed",
    "expr.neg",
    "expr.incdec.type",
)
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("127", "int8"), ("128", "int16"), ("32768", "int32"), ("2147483648", "int64"), ("9223372036854775807", "int64"),
        ("9223372036854775808", "uint64"), ("-128", "int8"), ("-129", "int16"), ("5 == 6", "bool"), ('"abc"', "string[4]"),
        ("comm", "string[16]"), ("pid", "uint32"), ("nsecs", "uint64"), ("cpu", "uint64"), ("nsecs + 1", "uint64"), ("pid + 1", "uint64"), ("nsecs - 1", "int64"),
        ("pid * (int8)1", "int64"), ("pid & pid", "uint64"), ("-pid", "uint64"), ("~(int8)pid", "int64"), ("curtask", "struct task_struct *"),
        ("*curtask", "struct task_struct"), ("curtask + 1", "struct task_struct *"), ("curtask->comm", "string[16]"), ("curtask->comm[0]", "int8"),
        ("*nsecs", "uint64"), ("*(int16 *)nsecs", "int16"), ("((int16 *)nsecs)[1]", "int16"), ("(pid, comm)", "(uint32,string[16])"), ("str(nsecs)", "string[1024]"),
        ("str(nsecs, 10)", "string[11]"), ("pid ? 1 : 300", "int16"), ("(a = 1, b = comm)", "record { .a = int8, .b = string[16] }"), ("pid > 1 && comm == \"a\"", "bool"),
        ("curtask->in_execve", "uint64"), ("PIDTYPE_TGID", "enum pid_type"), ("PIDTYPE_TGID + 1", "int8"), ("{ 1; pid }", "uint32"),
    ],
)  # fmt: skip
def test_type_of_expression(expression: str, expected: str) -> None:
    assert str(value_of(expression)[0]) == expected
