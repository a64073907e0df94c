"""Precedence, operands, casts and types."""

import pytest

from tests.grammar.parsing import expression, problem, shape

tag = pytest.mark.tag

KEYWORDS = (
    "break comptime config continue else enum false fn for if import let macro offsetof return sizeof "
    "struct true typeinfo typeof union unroll while"
)


@tag("grammar.precedence")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1 + 2 * 3", "(+ 1 (* 2 3))"),
        ("1 * 2 + 3", "(+ (* 1 2) 3)"),
        ("1 - 2 - 3", "(- (- 1 2) 3)"),
        ("8 / 4 % 3 * 2", "(* (% (/ 8 4) 3) 2)"),
        ("1 << 2 + 3 >> 4", "(>> (<< 1 (+ 2 3)) 4)"),
        ("1 < 2 << 3", "(< 1 (<< 2 3))"),
        ("1 < 2 == 3 >= 4", "(== (< 1 2) (>= 3 4))"),
        ("1 & 2 == 3", "(& 1 (== 2 3))"),
        ("1 ^ 2 & 3", "(^ 1 (& 2 3))"),
        ("1 | 2 ^ 3", "(| 1 (^ 2 3))"),
        ("1 && 2 | 3", "(&& 1 (| 2 3))"),
        ("1 || 2 && 3", "(|| 1 (&& 2 3))"),
        ("1 || 2 ? 3 : 4", "(? (|| 1 2) 3 4)"),
        ("1 ? 2 : 3 ? 4 : 5", "(? 1 2 (? 3 4 5))"),
        ("1 ? 2 ? 3 : 4 : 5", "(? 1 (? 2 3 4) 5)"),
        ("-1 + !2 * ~3", "(+ (- 1) (* (! 2) (~ 3)))"),
        ("- -1", "(- (- 1))"),
        ("1 - -1", "(- 1 (- 1))"),
        ("*$p.x", "(* (. $p x))"),
        ("-$p->x", "(- (-> $p x))"),
        ("!@m[1] == 2", "(== (! (@m 1)) 2)"),
        ("++$x * 2", "(* (pre++ $x) 2)"),
        ("($x++) + 1", "(+ (post++ $x) 1)"),
        ("comptime $x.y + 1", "(+ (comptime (. $x y)) 1)"),
        ("(1 + 2) * 3", "(* (+ 1 2) 3)"),
        ("@a[1] - @b", "(- (@a 1) @b)"),
        ("a & &$x", "(& a (addr $x))"),
        ("a * *$x", "(* a (* $x))"),
        ("$a - - $b", "(- $a (- $b))"),
    ],
)
def test_precedence(text: str, wanted: str) -> None:
    assert shape(expression(text)) == wanted


@tag("expr.elvis")
def test_elvis() -> None:
    assert shape(expression("$a ?: $b")) == "(? $a - $b)"
    assert shape(expression("$a ? : $b ?: $c")) == "(? $a - (? $b - $c))"


@tag("cast.parse")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("(uint8)$x.y", "(cast <uint8> (. $x y))"),
        ("(int32)@m[1] + 2", "(+ (cast <int32> (@m 1)) 2)"),
        ("(struct task_struct *)arg0", "(cast <struct task_struct*> arg0)"),
        ("( struct\nfoo /* ) */ * * )$x", "(cast <struct foo**> $x)"),
        ("(int8[4])$x", "(cast <int8[4]> $x)"),
        ("(int8 [ ])$x", "(cast <int8[]> $x)"),
        ("(enum state)1", "(cast <enum state> 1)"),
        ("(typeof($x))$y", "(cast (typeof $x) $y)"),
        ("(typeof(struct foo))(1)", "(cast (typeof <struct foo>) 1)"),
        ("(uint8)-1", "(cast <uint8> (- 1))"),
        ("(uint8)(uint16)$x", "(cast <uint8> (cast <uint16> $x))"),
        ('(uint8)"a"', "(cast <uint8> 'a')"),
        ("(uint8)!$x", "(cast <uint8> (! $x))"),
        ("(uint8)~$x", "(cast <uint8> (~ $x))"),
        ("(foo) * $x", "(cast <foo> (* $x))"),
        ("(foo) - $x", "(cast <foo> (- $x))"),
        ("(foo) & $x", "(cast <foo> (addr $x))"),
        ("(pid) * 2", "(* pid 2)"),
        ("(pid) - 2", "(- pid 2)"),
        ("(foo)", "foo"),
        ("(foo) + 1", "(+ foo 1)"),
        ("(foo) == 1", "(== foo 1)"),
        ("(foo) != 1", "(!= foo 1)"),
        ("(foo) && 1", "(&& foo 1)"),
        ("(foo)->bar", "(-> foo bar)"),
        ("(foo).bar", "(. foo bar)"),
        ("(foo, 1)", "(tuple foo 1)"),
        ("($x) * 2", "(* $x 2)"),
        ("(@x[1]) - 2", "(- (@x 1) 2)"),
        ("(foo * 2) * 3", "(* (* foo 2) 3)"),
    ],
)
def test_cast_or_group(text: str, wanted: str) -> None:
    assert shape(expression(text)) == wanted


@tag("cast.parse")
@pytest.mark.parametrize("text", ["begin { (T){ 1 } }", "begin { $y = (T)++$x }"])
def test_not_a_cast(text: str) -> None:
    assert problem(text).message == "expected ';'"


@tag("type.tuple.access", "grammar.notes")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("()", "(tuple)"),
        ("(1,)", "(tuple 1)"),
        ("(1, 2)", "(tuple 1 2)"),
        ("(1, 2,)", "(tuple 1 2)"),
        ("((1, 2), 3)", "(tuple (tuple 1 2) 3)"),
        ("(1)", "1"),
        ("$t.1.0", "(. (. $t 1) 0)"),
        ("$t.010", "(. $t 8)"),
        ("$t.0x1", "(. $t 1)"),
        ("$t[1]", "([] $t 1)"),
        ("(1, 2).0", "(. (tuple 1 2) 0)"),
    ],
)
def test_tuples(text: str, wanted: str) -> None:
    assert shape(expression(text)) == wanted


@tag("type.record.literal", "grammar.notes")
def test_records() -> None:
    assert shape(expression("(a = 1, if = (b = 2))")) == "(record a=1 if=(record b=2))"
    assert shape(expression("(a == 1)")) == "(== a 1)"
    assert shape(expression("(a = 1).a")) == "(. (record a=1) a)"
    assert problem("begin { (a = 1, 2) }").message == "expected name"
    assert problem("begin { (a = 1,) }").message == "expected name"
    assert problem("begin { (pid = 1) }").message == "expected ')'"


@tag("lex.keyword.contextual", "type.struct.field")
@pytest.mark.parametrize(
    "word",
    KEYWORDS.split(),
)
def test_keywords_are_field_names(word: str) -> None:
    assert shape(expression(f"$x.{word}")) == f"(. $x {word})"
    assert shape(expression(f"$x->{word}.{word}")) == f"(. (-> $x {word}) {word})"
    assert shape(expression(f"offsetof(struct foo, {word}.{word})")) == (f"(offsetof <struct foo> {word}.{word})")
    assert shape(expression(f"{word}y")) == f"{word}y"


@tag("lex.keyword.contextual")
@pytest.mark.parametrize("word", sorted({*KEYWORDS.split(), "_"} - {"if", "comptime", "true", "false"}))
def test_statement_words_are_names_inside_expressions(word: str) -> None:
    assert shape(expression(f"1 + {word}")) == f"(+ 1 {word})"
    assert shape(expression(f"f({word})")) == f"(f() {word})"


@tag("expr.postfix", "expr.call")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("f()", "(f())"),
        ("f (1, $x, 2 + 3)", "(f() 1 $x (+ 2 3))"),
        ("f(1).x[2]->y", "(-> ([] (. (f() 1) x) 2) y)"),
        ("m(typeof(struct foo))", "(m() (typeof <struct foo>))"),
        ("m(typeof(@x[1]), 2)", "(m() (typeof (@x 1)) 2)"),
        ("@", "@"),
        ("@[1]", "(@ 1)"),
        ("@a[1, 2]", "(@a (tuple 1 2))"),
        ("@a[(1, 2)]", "(@a (tuple 1 2))"),
        ("@a[1][2]", "([] (@a 1) 2)"),
        ("@a[1].b", "(. (@a 1) b)"),
        ("$x[1][2]", "([] ([] $x 1) 2)"),
        ("$1 + $#", "(+ $1 $#)"),
        ("1.5", "(. 1 5)"),
    ],
)
def test_postfix(text: str, wanted: str) -> None:
    assert shape(expression(text)) == wanted


@tag("expr.incdec")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("++$x", "(pre++ $x)"),
        ("--@x", "(pre-- @x)"),
        ("++@x[1, 2]", "(pre++ (@x (tuple 1 2)))"),
        ("$x--", "(post-- $x)"),
        ("@x[1]++", "(post++ (@x 1))"),
        ("($x)++", "(post++ $x)"),
        ("1 + $x++", "(+ 1 (post++ $x))"),
    ],
)
def test_increments(text: str, wanted: str) -> None:
    assert shape(expression(text)) == wanted


@tag("expr.addrof")
def test_address_of() -> None:
    assert shape(expression("&$x")) == "(addr $x)"
    assert shape(expression("&@m + 1")) == "(+ (addr @m) 1)"


@tag("type.sizeof", "type.offsetof", "type.typeof", "type.typeof.bareword")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("sizeof(struct foo)", "(sizeof <struct foo>)"),
        ("sizeof(uint64)", "(sizeof <uint64>)"),
        ("sizeof((uint64))", "(sizeof <uint64>)"),
        ("sizeof( ( (uint64) ) )", "(sizeof <uint64>)"),
        ("sizeof(comm)", "(sizeof <comm>)"),
        ("sizeof(comm())", "(sizeof (comm()))"),
        ("sizeof(pid)", "(sizeof pid)"),
        ("sizeof((pid))", "(sizeof pid)"),
        ("sizeof(x[1])", "(sizeof <x[1]>)"),
        ("sizeof((x)[1])", "(sizeof ([] x 1))"),
        ("sizeof((x[1]))", "(sizeof ([] x 1))"),
        ("sizeof(x *)", "(sizeof <x*>)"),
        ("sizeof(x * 2)", "(sizeof (* x 2))"),
        ("sizeof((x) + 1)", "(sizeof (+ x 1))"),
        ("sizeof($x.y)", "(sizeof (. $x y))"),
        ("sizeof(((int8)1, (int64)1))", "(sizeof (tuple (cast <int8> 1) (cast <int64> 1)))"),
        ("offsetof(struct foo, a.b)", "(offsetof <struct foo> a.b)"),
        ("offsetof((foo), a)", "(offsetof <foo> a)"),
        ("offsetof($x, a)", "(offsetof $x a)"),
        ("typeinfo(struct foo *)", "(typeinfo <struct foo*>)"),
        ("typeinfo(1 + 2).btf_id", "(. (typeinfo (+ 1 2)) btf_id)"),
    ],
)
def test_type_operands(text: str, wanted: str) -> None:
    assert shape(expression(text)) == wanted


@tag("expr.block", "expr.if")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{ $x = 1; $x }", "{$x=1; $x}"),
        ("{ 1 } + 2", "(+ {1} 2)"),
        ("if $x { 1 } else { 2 }", "(if $x {1} {2})"),
        ("if ($x) { 1 } else if $y { 2 } + 3", "(+ (if $x {1} (if $y {2} -)) 3)"),
        ("f({ 1 }, if 1 { 2 })", "(f() {1} (if 1 {2} -))"),
        ("if comptime (1) { 2 }", "(if (comptime 1) {2} -)"),
        ("if !$x { }", "(if (! $x) {-} -)"),
    ],
)
def test_blocks_and_ifs_are_expressions(text: str, wanted: str) -> None:
    assert shape(expression(text)) == wanted


@tag("lex.whitespace", "lex.comment")
def test_white_space_and_comments_separate() -> None:
    wanted = shape(expression("$x+f(1,@a[2])"))
    assert shape(expression(" $x\t+ // plus\r\n f /* * / ** */ ( 1 ,@a [\n2 ] ) /* open")) == wanted


def test_spans_count_characters() -> None:
    tree = expression('"é" + (1 + $ab)')
    assert tree.span.text == '"é" + (1 + $ab)'
    assert [n.span.text for n in (tree.left, tree.right)] == ['"é"', "(1 + $ab)"]  # type: ignore[attr-defined]
