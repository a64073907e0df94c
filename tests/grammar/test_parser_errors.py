"""Programs that the parser refuses: what is said, and where."""

import pytest

from pytrace.grammar.diagnostics import CompileError, Diagnostics
from pytrace.grammar.parser import parse, parse_expression
from pytrace.grammar.source import Source
from tests.grammar.parsing import BUILTIN_WORDS, problem

tag = pytest.mark.tag


def check(text: str, code: str, message: str) -> None:
    """`«…»` in the text marks the place of the message."""
    start = text.index("«")
    end = text.index("»") - 1
    found = problem(text.replace("«", "").replace("»", ""))
    assert (found.code, found.message) == (code, message)
    assert found.span
    assert (found.span.start, found.span.end) == (start, end)


@tag("err.syntax.expected")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("begin { $a = 1 «$b» = 2 }", "expected ';'"),
        ("begin { f() «g»() }", "expected ';'"),
        ("begin { $x++ «+» 1 }", "expected ';'"),
        ("begin { print(1«;» }", "expected ')'"),
        ("begin { print(1«»", "expected ')'"),
        ("begin { $x = (1 «}»", "expected ')'"),
        ("begin { @a[1 «}»", "expected ']'"),
        ("begin { @x = 1;«»  \n\n", "expected '}'"),
        ("begin { if (1) { f();«» ", "expected '}'"),
        ("begin «$x» = 1;", "expected '{'"),
        ("begin«»", "expected '{'"),
        ("begin «kprobe»:f { }", "expected '{'"),
        ("begin { if (1) «f»(); }", "expected '{'"),
        ("begin { if (1) { } else «f»(); }", "expected '{'"),
        ("begin { while (1)«;» }", "expected '{'"),
        ("kprobe:f /pid == 1 «{» }", "expected '/'"),
        ("begin { 1 ? 2«;» }", "expected ':'"),
        ("begin { let «x» = 1; }", "expected variable"),
        ("begin { let $x: «5»; }", "expected type"),
        ("begin { $x->«5»; }", "expected name"),
        ("begin { $x.«*»; }", "expected field name or tuple index"),
        ("config «{» }", "expected '='"),
        ("begin { } «}»", "expected attach point, found '}'"),
        ("begin { }«;»", "expected attach point, found ';'"),
        ("«/»x/ { }", "expected attach point, found '/'"),
        ("begin { (a = 1, «2») }", "expected name"),
    ],
)
def test_expected(text: str, message: str) -> None:
    check(text, "err.syntax.expected", message)


@tag("err.syntax.expr")
@pytest.mark.parametrize(
    "text",
    [
        "begin { $x = «;» }",
        "begin { $x = «}»",
        "begin { f(1, «)» }",
        "begin { 1 + *«» ",
        "begin { 1 + «)» }",
        "begin { f(«»",
        "begin { «;» }",
        "begin { f();«;» }",
        "begin { for ($i : 0..2) { }«;» }",
        "begin { while (1) { }«;» }",
        "begin { unroll (1) { }«;» }",
        "begin / «/» { }",
        "begin { @[«]» }",
        "begin { «)» }",
        "begin { «?» }",
        "begin { «.»5 }",
        "begin { $x = «typeof»(1) }",
        "begin { sizeof(«typeof»(1)) }",
    ],
)
def test_expected_expression(text: str) -> None:
    check(text, "err.syntax.expr", "expected expression")


@tag("lex.nochar")
def test_no_character_literals() -> None:
    check("begin { $x = «'»x'; }", "err.syntax.expr", "expected expression")
    assert "character" in problem("begin { $x = 'x'; }").hints[0]


@tag("err.syntax.expected")
@pytest.mark.parametrize(
    ("text", "message", "advice"),
    [
        ("begin { $x«:» int8 = 5; }", "expected ';'", "let $x: type = …"),
        ("begin { if (pid) { f(); } ++«$y»; }", "expected ';'", "Put a ';' between"),
        ("begin { for ($i «=» 0; $i < 5; $i++) { } }", "expected ':'", "for ($i : 0..10) { … }"),
        ("typedef «int» foo; begin { }", "expected '{'", "Of C, a program has `#` lines and definitions"),
    ],
)
def test_what_to_do(text: str, message: str, advice: str) -> None:
    check(text, "err.syntax.expected", message)
    assert advice in problem(text.replace("«", "").replace("»", "")).hints[0]


@tag("lex.comment")
def test_hash_is_no_comment() -> None:
    check("begin { «#» comment\n }", "err.syntax.expr", "expected expression")
    assert "//" in problem("begin { # comment\n }").hints[0]


@tag("err.syntax.int", "lex.int.range", "lex.int.suffix")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("18446744073709551616", "integer overflow, maximum is 18446744073709551615"),
        ("0x1_0000_0000_0000_0000", "integer overflow, maximum is 18446744073709551615"),
        ("213504d", "integer overflow, maximum is 18446744073709551615"),
        ("4294967296u", "integer overflow, maximum is 4294967295"),
        ("10foo", "invalid integer suffix 'foo'"),
        ("10lu", "invalid integer suffix 'lu'"),
        ("0b101", "invalid integer suffix 'b101'"),
        ("0x1z", "invalid integer suffix 'z'"),
        ("1_", "an integer must not end with a trailing underscore '_'"),
        ("12e4", "the mantissa of an exponent must be one digit from 1 to 9"),
        ("1e0", "the exponent must start with a digit from 1 to 9"),
        ("08", "invalid octal integer: digits are 0 to 7"),
    ],
)
def test_integers(text: str, message: str) -> None:
    check(f"begin {{ $x = «{text}»; }}", "err.syntax.int", message)


@tag("err.syntax.string", "lex.string", "lex.string.escape")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('begin { f(«"abc); }»\n', "unterminated string"),
        ('begin { f(«"abc»', "unterminated string"),
        ('begin { f(«"abc\\»\n"); }', "unterminated string"),
        ('begin { "ab«\\q»" }', "invalid escape character 'q'"),
        ('begin { "«\\8»" }', "invalid escape character '8'"),
        ('begin { "«\\x»g" }', "invalid escape character 'x'"),
        ('begin { "«\\400»" }', "octal escape above 255"),
        ('uprobe:«"/bin/x:f { }»\n', "unterminated string"),
    ],
)
def test_strings(text: str, message: str) -> None:
    check(text, "err.syntax.string", message)


@tag("err.syntax.param", "lex.posparam")
@pytest.mark.parametrize("text", ["$0", "$01", "$9223372036854775808", "$" + "9" * 5000])
def test_parameters_out_of_range(text: str) -> None:
    check(
        f"begin {{ «{text}» }}",
        "err.syntax.param",
        f"positional parameter {text} out of range: legal are $1 to $9223372036854775807",
    )


@tag("lex.sigil")
def test_sigils_touch_their_names() -> None:
    check("begin { «$» x }", "err.syntax.param", "expected a name, a number from 1 or '#' after '$'")
    check("begin { @ «x» = 1 }", "err.syntax.expected", "expected ';'")


@tag("err.syntax.order", "prog.order", "lex.cdef.position", "prog.config")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("begin { } «config» = { }", "config must appear before probes and functions"),
        ("macro m() { } «config» = { }", "config must appear before probes and functions"),
        ('let @m = hash(1) «import» "x";', "import must appear before probes and functions"),
        ("config = { } «config» = { }", "duplicate config block"),
        ("begin { }\n«#include <a.h>»\n", "C definitions must appear before probes and functions"),
        ("config = { } «struct s { int a; }»", "C definitions must appear before probes and functions"),
        ("begin { } «enum { A,»\n B } end { }", "C definitions must appear before probes and functions"),
        ("begin { }\n«#!/bin/x»", "the shebang line must be the first line of the program"),
    ],
)
def test_order(text: str, message: str) -> None:
    check(text, "err.syntax.order", message)


@tag("err.syntax.immutable", "stmt.assign.target", "type.tuple.access")
@pytest.mark.parametrize("text", ["$x.«f» = 1", "$x.«0» += 1", "$x->«f» = 1", "@m[1].«f» = 1", "args.«f» = 1"])
def test_members_cannot_be_assigned(text: str) -> None:
    message = "tuples and records are immutable: their members cannot be assigned to"
    check(f"begin {{ {text}; }}", "err.syntax.immutable", message)


@tag("err.syntax.target", "stmt.assign.target")
@pytest.mark.parametrize("text", ["«$x»[1] = 2", "«$x»[f(1)[2]] += 2"])
def test_elements_cannot_be_assigned(text: str) -> None:
    message = "invalid assignment target: only variables and map elements can be assigned to"
    check(f"begin {{ {text}; }}", "err.syntax.target", message)


@tag("stmt.assign.target", "expr.noassign")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("*$p «=» 1;", "expected ';'"),
        ("5 «=» 1;", "expected ';'"),
        ("f() «=» 1;", "expected ';'"),
        ("($x) «=» 1;", "expected ';'"),
        ("$a = $b «=» 1;", "expected ';'"),
        ("$a = @b[1] «=» 1;", "expected ';'"),
        ("if ($a «=» 1) { }", "expected ')'"),
        ("f($a «=» 1);", "expected ')'"),
    ],
)
def test_assignment_is_a_statement(text: str, message: str) -> None:
    check(f"begin {{ {text} }}", "err.syntax.expected", message)


@tag("err.syntax.incdec", "expr.incdec")
@pytest.mark.parametrize(
    ("text", "operator"),
    [
        ("5«++»;", "++"),
        ("f()«--»;", "--"),
        ("$x[1]«++»;", "++"),
        ("@m[1][2]«++»;", "++"),
        ("($x++)«++»;", "++"),
        ("++«5»;", "++"),
        ("--«(»$x);", "--"),
        ("1 + ++«-»$x;", "++"),
    ],
)
def test_increment_needs_a_place(text: str, operator: str) -> None:
    check(f"begin {{ {text} }}", "err.syntax.incdec", f"'{operator}' needs a variable or map")


@tag("err.syntax.addrof", "expr.addrof")
def test_address_needs_a_name() -> None:
    check("begin { &«5»; }", "err.syntax.addrof", "'&' needs a variable or map")
    check("begin { $x = &«(»$y); }", "err.syntax.addrof", "'&' needs a variable or map")
    check("begin { &@m«[»1]; }", "err.syntax.addrof", "'&' needs a variable or a map without a key")


@tag("err.syntax.dupname", "type.record.literal")
def test_record_names_are_unique() -> None:
    check("begin { (a = 1, b = 2, «a» = 3); }", "err.syntax.dupname", "name 'a' is repeated in the record")


@tag("err.syntax.mapdecl", "map.decl", "prog.order")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("let «$x» = 1;", "root-level let must be a map declaration"),
        ("let «x» = 1;", "root-level let must be a map declaration"),
        ("let @x = hash(«0»);", "a map declaration needs a positive integer"),
        ("let @x = hash(«$1»);", "a map declaration needs a positive integer"),
        ("let @x = hash(«-»1);", "a map declaration needs a positive integer"),
        ("let @x = hash(«)»;", "a map declaration needs a positive integer"),
    ],
)
def test_map_declarations(text: str, message: str) -> None:
    check(text, "err.syntax.mapdecl", message)


@tag("err.syntax.for", "stmt.for.range.primary")
@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("for («@x» : 0..2) { }", "err.syntax.for", "expected variable"),
        ("for «x» : 0..2 { }", "err.syntax.for", "expected variable"),
        ("for ($i : «-»3..3) { }", "err.syntax.for", "expected map or range"),
        ("for ($i : «$x») { }", "err.syntax.for", "expected map or range"),
        ("for ($i : «@m[1]») { }", "err.syntax.for", "expected map or range"),
        ("for ($i : 0..«-»3) { }", "err.syntax.expr", "expected expression"),
        ("for ($i : 0..args«.»n) { }", "err.syntax.expected", "expected ')'"),
        ("for $i : 0..args«.»n { }", "err.syntax.expected", "expected '{'"),
        ("for ($i : 0..3 «{» }", "err.syntax.expected", "expected ')'"),
        ("for $i : 0..3«)» { }", "err.syntax.expected", "expected '{'"),
        ("for ($i «in» @m) { }", "err.syntax.expected", "expected ':'"),
    ],
)
def test_for(text: str, code: str, message: str) -> None:
    check(f"begin {{ {text} }}", code, message)


@tag("stmt.if")
@pytest.mark.parametrize("text", ["if ($a) «&&» ($b) { }", "if $a «==» 1 { }", "if (uint8)«$a» { }", "if 1 «+» 2 { }"])
def test_conditions_without_parentheses_are_single_operands(text: str) -> None:
    check(f"begin {{ {text} }}", "err.syntax.expected", "expected '{'")


@tag("lex.nofloat")
def test_no_floats() -> None:
    message = "expected field name or tuple index: an index has no suffix"
    check("begin { $x = 1.«5u»; }", "err.syntax.expected", message)
    check("begin { $x = 1.«5x»; }", "err.syntax.int", "invalid integer suffix 'x'")


@tag("err.syntax.expected")
def test_missing_brace_points_at_the_open_one() -> None:
    found = problem("begin { if (1) { f(); }\nkprobe:f { }")
    assert found.message == "expected ';'"
    assert found.hints == ("Is a '}' missing before this probe?",)
    assert [(label.span.start, label.span.text) for label in found.labels] == [(6, "{")]
    found = problem("begin { if (1) {")
    assert [(label.span.start, label.message) for label in found.labels] == [(15, "opened here")]
    assert found.hints == ("Add the missing '}'.",)


@tag("diag.format")
def test_the_whole_message() -> None:
    with pytest.raises(CompileError) as caught:
        parse(Source("stdin", "begin {\n\tprint(1;\n}"), BUILTIN_WORDS, Diagnostics())
    assert str(caught.value) == (
        "stdin:2:9-10: ERROR: expected ')'\n"
        "    print(1;\n"
        "           ~\n"
        "stdin:2:7-8: ERROR: opened here\n"
        "    print(1;\n"
        "         ~"
    )


def test_parse_expression_takes_all_of_the_text() -> None:
    for text in ("", "1 2", "1;", "{", "a b", ")", "$x = 1", '"a'):
        with pytest.raises(CompileError):
            parse_expression(Source("macro", text), BUILTIN_WORDS, Diagnostics())
