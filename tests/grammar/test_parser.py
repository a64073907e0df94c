"""Programs and statements that the parser accepts, and what it makes of them."""

import pytest

from pytrace.grammar import nodes, parser
from pytrace.grammar.nodes import same, walk
from tests.grammar.parsing import PROGRAMS, block, expression, problem, program, shape, statement

tag = pytest.mark.tag


# ---------------------------------------------------------------- program structure


@tag("prog.order")
def test_sections_in_order() -> None:
    tree = program(
        "// first\n\n#!/usr/bin/env bpftrace\n#include <a.h>\nstruct s { int a; };\n"
        'import "x.bt"; config = { a = 1 } import "y.bt";\n'
        "begin { } macro m() { } let @m = hash(1) fn f(): void { } end { }"
    )
    assert tree.shebang == "#!/usr/bin/env bpftrace"
    assert [c.span.text for c in tree.c_texts] == ["#include <a.h>", "struct s { int a; };"]
    assert tree.config
    assert tree.config.settings[0].name == "a"
    assert [i.path for i in tree.imports] == [b"x.bt", b"y.bt"]
    assert [type(i).__name__ for i in tree.items] == ["Probe", "Macro", "MapDeclaration", "Function", "Probe"]
    assert len(tree.probes) == 2


@tag("prog.empty")
@pytest.mark.parametrize("text", ["", " \n", "// nothing", "#define A 1", "macro m() { }"])
def test_programs_without_probes_parse(text: str) -> None:
    assert program(text).probes == ()


@tag("lex.shebang")
def test_shebang() -> None:
    assert program("/* a */ \n #!/bin/x -y\nbegin { }").shebang == "#!/bin/x -y"
    assert program("begin { }").shebang is None
    assert problem("#!/bin/x\n#!/bin/x\n").code == "err.syntax.order"


@tag("lex.cpp.line")
def test_preprocessor_lines_are_kept_verbatim() -> None:
    tree = program("#include <linux/sched.h>\n  #define X(a) { a\n#pragma once\r\nbegin { }")
    assert [c.span.text for c in tree.c_texts] == [
        "#include <linux/sched.h>",
        "#define X(a) { a",
        "#pragma once\r",
    ]


@tag("lex.cdef", "type.enum.const")
@pytest.mark.parametrize(
    "text",
    [
        "struct s { int a; }",
        "struct s { int a; };",
        "struct s\n{ struct { int b; } a[4]; };",
        "union u { int a; /* } */ char c; // }\n }",
        "enum { A = 1, B }",
        "enum e { A };",
        "struct __attribute__((packed, aligned(8))) s { int a; }",
        "struct s { int a; } __attribute__((packed)) __attribute__ ((aligned(4)));",
        "struct s { } ;",
    ],
)
def test_c_definitions(text: str) -> None:
    tree = program(text + " begin { }")
    assert [c.span.text for c in tree.c_texts] == [text]


@tag("lex.cdef.limits")
@pytest.mark.parametrize("text", ["struct s;", "struct s { int a; } x;", "typedef int t;", "int f() { }"])
def test_other_c_is_refused(text: str) -> None:
    assert problem(text + "\nbegin { }").code == "err.syntax.expected"


@tag("prog.config")
def test_config() -> None:
    tree = program('config = { stack_mode = perf; n = 16_384; a = true; b = false; s = "x\\n"; if = while;; }').config
    assert tree
    settings = {s.name: s.value for s in tree.settings}
    assert settings == {
        "stack_mode": "perf", "n": 16384, "a": True, "b": False, "s": "x\n", "if": "while"
    }  # fmt: skip
    assert program("config={}").config
    assert problem("config { a = 1 }").message == "expected '='"
    assert problem("config = { a = -1 }").message.startswith("expected value")
    assert problem("config = { a = 1 b = 2 }").code == "err.syntax.expected"
    assert problem("config = { a = 1 };").code == "err.syntax.expected"


def test_import() -> None:
    assert program('import "a/b.bt";').imports[0].path == b"a/b.bt"
    assert problem('import "a.bt" begin { }').message == "expected ';'"
    assert problem("import a;").message == "expected string"


@tag("map.decl")
def test_map_declarations() -> None:
    first, second = program("let @a = hash(1_0) let @ = lruhash(0x10); begin { }").items[:2]
    assert isinstance(first, nodes.MapDeclaration)
    assert isinstance(second, nodes.MapDeclaration)
    assert (first.map.name, first.kind, first.entries) == ("a", "hash", 10)
    assert (second.map.name, second.kind, second.entries) == ("", "lruhash", 16)


def test_macros() -> None:
    (item,) = program("macro add($x, @m, y) { $x += y; $x }").items
    assert isinstance(item, nodes.Macro)
    assert (item.name, [shape(p) for p in item.parameters]) == ("add", ["$x", "@m", "y"])
    assert shape(item.body) == "{$x+=y; $x}"
    assert program("macro if() { }").items[0].name == "if"  # type: ignore[attr-defined]
    assert problem("macro m { }").message == "expected '('"
    assert problem("macro m(1) { }").code == "err.syntax.expected"


@tag("lex.builtin-names")
def test_builtin_word_is_no_macro_parameter() -> None:
    assert problem("macro m(a, pid) { }").code == "err.macro.hygiene"


def test_functions() -> None:
    (item,) = program("fn f($a: uint64, $b: struct foo *): typeof($a) { return $a; }").items
    assert isinstance(item, nodes.Function)
    assert [shape(p.type) for p in item.parameters] == ["<uint64>", "<struct foo*>"]
    assert (item.name, shape(item.result), shape(item.body)) == ("f", "(typeof $a)", "{return $a; -}")
    assert problem("fn f($a) : void { }").message == "expected ':'"
    assert problem("fn f() { }").message == "expected ':'"


# ---------------------------------------------------------------- probes


@tag("prog.probe.list", "prog.probe.name")
def test_attach_points() -> None:
    (probe,) = program("begin, x=kprobe:f* ,\n// here\ntracepoint:a:b,\n{ }").probes
    assert [a.text for a in probe.attach_points] == ["begin", "x=kprobe:f*", "tracepoint:a:b"]
    assert problem("begin,, end { }").message == "expected attach point, found ','"
    assert problem("{ }").message == "expected attach point, found '{'"


@tag("prog.probe.multi-block")
def test_same_attach_point_twice() -> None:
    texts = [p.attach_points[0].text for p in program("begin { } begin { }").probes]
    assert texts == ["begin", "begin"]


@tag("lex.ap.quote", "lex.ap.nobrace")
def test_attach_text_is_raw() -> None:
    (probe,) = program('uprobe:"/a b,{":"x\\"y"+8,kprobe:$1//x{ }').probes
    assert [a.text for a in probe.attach_points] == ['uprobe:"/a b,{":"x\\"y"+8', "kprobe:$1//x"]
    (probe,) = program("kprobe:{ @a = 1 }").probes
    assert probe.attach_points[0].text == "kprobe:"


@tag("lex.ap.predicate-space")
def test_predicate_after_the_attach_point() -> None:
    (probe,) = program("begin/pid == 1/ { }").probes
    assert (probe.attach_points[0].text, shape(probe.predicate)) == ("begin", "(== pid 1)")
    (probe,) = program("kprobe:f/x/ { }").probes
    assert (probe.attach_points[0].text, probe.predicate) == ("kprobe:f/x/", None)


@tag("prog.predicate", "grammar.notes")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/ @a / 2 / { }", "(/ @a 2)"),
        ("/@a/{ }", "@a"),
        ("/1 / 2 / // c {\n /* { */ { }", "(/ 1 2)"),
        ("/ ({ 1 }) / { }", "{1}"),
        ('/pid == $1 && comm == "a/{"/{ }', None),
    ],
)
def test_predicates(text: str, wanted: str | None) -> None:
    (probe,) = program(f"kprobe:f {text}").probes
    assert probe.predicate
    assert wanted is None or shape(probe.predicate) == wanted


@tag("prog.block.trailing")
def test_last_expression_needs_no_semicolon() -> None:
    assert shape(block("f(); g()")) == "{(f()); (g())}"
    assert shape(block("f(); g();")) == "{(f()); (g()); -}"
    assert shape(block("")) == "{-}"


# ---------------------------------------------------------------- statements


@tag("stmt.assign", "stmt.assign.compound")
@pytest.mark.parametrize("op", ["", "+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"])
@pytest.mark.parametrize("target", ["$v", "@m", "@", "@m[1]", "@m[1, (2, 3)]"])
def test_assignments(op: str, target: str) -> None:
    tree = statement(f"{target} {op}= 1 + 2;")
    assert isinstance(tree, nodes.Assign)
    assert (shape(tree.target), tree.op) == (shape(expression(target)), op)
    assert shape(tree.value) == "(+ 1 2)"
    assert same(tree, statement(f"{target}{op}=1+2"))


@tag("stmt.let")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("let $v;", "let $v:-=-;"),
        ("let $v = 1", "let $v:-=1;"),
        ("let $v: uint8;", "let $v:<uint8>=-;"),
        ("let $v: struct foo * = 1;", "let $v:<struct foo*>=1;"),
        ("let $v: struct foo *= 1;", "let $v:<struct foo*>=1;"),
        ("let $v: int8[4][2];", "let $v:<int8[4][2]>=-;"),
        ('let $v: string[64] = "a"', "let $v:<string[64]>='a';"),
        ("let $v: typeof(@m[1]) = 1;", "let $v:(typeof (@m 1))=1;"),
        ("let $v: pid = 1;", "let $v:<pid>=1;"),
    ],
)
def test_let(text: str, wanted: str) -> None:
    assert shape(statement(text)) == wanted


@tag("stmt.discard", "grammar.notes")
def test_discard() -> None:
    assert shape(statement("_ = f();")) == "_=(f());"
    assert shape(statement("_ == 1;")) == "(== _ 1);"
    assert shape(statement("$x = _;")) == "$x=_;"


@tag("stmt.return", "stmt.jump", "stmt.exprstmt")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("return;", "return -;"),
        ("return", "return -;"),
        ("return 1 + 2;", "return (+ 1 2);"),
        ("return (1);", "return 1;"),
        ("break;", "break;"),
        ("continue", "continue;"),
        ("f(1);", "(f() 1);"),
        ("$x++;", "(post++ $x);"),
        ("@x[1]--", "(post-- (@x 1));"),
        ("++$x;", "(pre++ $x);"),
        ('import "a";', "import b'a';"),
    ],
)
def test_simple_statements(text: str, wanted: str) -> None:
    assert shape(statement(text)) == wanted


@tag("stmt.if")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("if (1) { f(); }", "(if 1 {(f()); -} -)"),
        ("if (1) { } else { }", "(if 1 {-} {-})"),
        ("if (1) { } else if (2) { } else { 3 }", "(if 1 {-} (if 2 {-} {3}))"),
        ("if !$x { }", "(if (! $x) {-} -)"),
        ("if $x.y { }", "(if (. $x y) {-} -)"),
        ("if comptime (1) { }", "(if (comptime 1) {-} -)"),
        ("if ((1, 2)) { }", "(if (tuple 1 2) {-} -)"),
        ("if (($a) && ($b)) { }", "(if (&& $a $b) {-} -)"),
    ],
)
def test_if(text: str, wanted: str) -> None:
    assert shape(block(text + ";")) == "{" + wanted + "; -}"
    assert shape(block(text)) == "{" + wanted + "}"


@tag("stmt.separator")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("if 1 { } $x++", "{(if 1 {-} -); (post++ $x); -}"),
        ("if 1 { } ($x).y", "{(if 1 {-} -); (. $x y)}"),
        ("if 1 { } f()", "{(if 1 {-} -); (f())}"),
        ("if 1 { }; ++$x", "{(if 1 {-} -); (pre++ $x)}"),
        ("if 1 { } -1", "{(- (if 1 {-} -) 1)}"),
        ("{ 1 } *$p", "{(* {1} $p)}"),
        ("{ 1 } &$v", "{(& {1} $v)}"),
        ("{ 1 }[0]", "{([] {1} 0)}"),
        ("if $a { 1 } else { 0 } ? f() : g();", "{(? (if $a {1} {0}) (f()) (g())); -}"),
        ("{ } { }", "{{-}; {-}}"),
        ("while (1) { } ++$x;", "{while 1 {-}; (pre++ $x); -}"),
        ("while (1) { } -1", "{while 1 {-}; (- 1)}"),
        ("unroll (2) { } *$p", "{unroll 2 {-}; (* $p)}"),
        ("for ($i : 0..2) { } &$v", "{for $i 0..2 {-}; (addr $v)}"),
    ],
)
def test_separators(text: str, wanted: str) -> None:
    assert shape(block(text)) == wanted


@tag("stmt.while", "stmt.unroll")
def test_while_and_unroll() -> None:
    assert shape(statement("while ($x < 5) { $x++; }")) == "while (< $x 5) {(post++ $x); -};"
    assert shape(statement("while $x { }")) == "while $x {-};"
    assert shape(statement("unroll ($1) { f() }")) == "unroll $1 {(f())};"
    assert shape(statement("unroll 5 { }")) == "unroll 5 {-};"


@tag("stmt.for.range", "stmt.for.range.primary", "stmt.for.map")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("for ($i : 0..5) { }", "for $i 0..5 {-};"),
        ("for $i : 0..5 { }", "for $i 0..5 {-};"),
        ("for ($i : (-3)..$n) { }", "for $i (- 3)..$n {-};"),
        ("for ($i : @a[1]..f(2)) { }", "for $i (@a 1)..(f() 2) {-};"),
        ("for ($i : @a..(args.n)) { }", "for $i @a..(. args n) {-};"),
        ("for ($i : (int8)$a..5) { }", "for $i (cast <int8> $a)..5 {-};"),
        ("for ($kv : @m) { }", "for $kv @m {-};"),
        ("for $kv : @m { }", "for $kv @m {-};"),
        ("for ($kv : ((@m))) { }", "for $kv @m {-};"),
    ],
)
def test_for(text: str, wanted: str) -> None:
    assert shape(statement(text)) == wanted


# ---------------------------------------------------------------- the tree as a whole


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_node_lies_within_its_parent(name: str) -> None:
    tree = program(PROGRAMS[name])
    for node in walk(tree):
        for child in nodes.children(node):
            assert node.span.start <= child.span.start <= child.span.end <= node.span.end, child


def test_spans() -> None:
    tree = block("$x = f(1, (2 + 3));")
    (assign,) = tree.statements
    assert isinstance(assign, nodes.Assign)
    assert isinstance(assign.value, nodes.Call)
    assert assign.span.text == "$x = f(1, (2 + 3))"
    assert assign.value.name_span.text == "f"
    assert [a.span.text for a in assign.value.arguments] == ["1", "(2 + 3)"]
    assert tree.span.text == "{ $x = f(1, (2 + 3)); }"


def test_nesting_of_200_works() -> None:
    assert shape(expression("(" * 200 + "1" + ")" * 200)) == "1"
    assert shape(expression("-(" * 200 + "1" + ")" * 200)).count("(-") == 200
    assert shape(expression("+".join("1" * 200))).count("+") == 199


@tag("err.syntax.expected")
@pytest.mark.parametrize(
    "text",
    [
        "begin { " + "!" * 1000 + "1 }",
        "begin { " + "1+" * 10_000 + "1 }",
        "begin { " + "{" * 1000 + "}" * 1000 + "}",
        "begin { " + "if (1) { " * 1000 + "}" * 1001,
        "begin { " + "if (1) { } else " * 1000 + "{ } }",
        "begin { " + "f(" * 5000 + ")" * 5000 + "}",
        "begin { " + "(typeof(" * 1000 + "1" + "))1" * 1000 + "}",
    ],
)
def test_deep_nesting_is_refused(text: str) -> None:
    assert problem(text).message.startswith("nested too deeply")


@pytest.mark.parametrize("text", ["(", "{", "@[", "-", "(typeof(", "if (", "{ f(", "$x[", "(a=", "sizeof("])
def test_deep_nesting_without_end_is_refused(text: str) -> None:
    assert problem("begin { " + text * 5000).code.startswith("err.syntax.")


def test_stored_tables_are_those_of_the_grammar() -> None:
    """Made anew by: python -m pytrace.grammar.parser"""
    assert parser.stored_tables() is not None
