"""Statements, scopes, predicates and parameters at run time (reference part 1, sections 2.6, 2.7, 8)."""

from __future__ import annotations

import pytest

from tests.e2e.programs import Rule, begin, rules, run

pytestmark = pytest.mark.root

ASSIGNMENTS = [
    Rule(
        "stmt.assign",
        '$v = 1; @m = 2; @k["a"] = 3; @k2[1, "b"] = 4; print(($v, @m, @k["a"], @k2[1, "b"]));',
        "(1, 2, 3, 4)",
    ),
    Rule(
        "stmt.assign.compound",
        "$a = 12; $a += 3; print($a); $a -= 5; print($a); $a *= 6; print($a); $a /= 4; print($a); $a %= 8; print($a);",
        "15 10 60 15 7",
    ),
    Rule(
        "stmt.assign.compound",
        "$a = 12; $a &= 10; print($a); $a |= 3; print($a); $a ^= 1; print($a); $a <<= 4; print($a); $a >>= 2; print($a);",
        "8 11 10 160 40",
    ),
    Rule(
        "stmt.assign.compound",
        '@a += 3; @a *= 5; print(@a + 0); @k["x"] -= 4; @k["x"] <<= 1; print(@k["x"]); @k["x"] |= 1; print(@k["x"]);',
        "15 -8 -7",
    ),
    Rule("stmt.assign.compound", "@n = 5; @n /= 2; @n %= 2; @n &= 1; @n ^= 3; print(@n + 0);", "3"),
    Rule(
        "stmt.assign",
        '$s = "one"; $t = $s; $s = "three"; print(($s, $t)); @a = $s; $s = "x"; print((@a, $s));',
        "(three, one) (three, x)",
    ),
    Rule(
        "stmt.let",
        "let $a; let $b = 5; let $c: int32; let $d: uint8 = 7; $a = 1; print(($a, $b, $c, $d)); $c = 9; print($c);",
        "(1, 5, 0, 7) 9",
    ),
    Rule(
        "stmt.let",
        'let $s: string; print($s == ""); $s = "abc"; let $t: string[8] = "ab"; print(($s, $t, sizeof($t)));',
        "true (abc, ab, 8)",
    ),
    Rule(
        "stmt.let",
        "let $p: int8 *; print($p); $p = (int8 *)3; print($p); let $b: bool = true; print($b); let $t: typeof((1, 2)); print($t);",
        "0x0 0x3 true (0, 0)",
    ),
    Rule("stmt.discard", "@m[1] = 1; _ = delete(@m, 1); print(has_key(@m, 1)); _ = 5;", "false"),
]

CONDITIONS = [
    Rule(
        "stmt.cond expr.elvis",
        'print(probe ? 1 : 2); print("" ?: "x"); if (probe) { print("y"); } if ("") { print("z"); }',
        "1 x y",
    ),
    Rule(
        "stmt.if stmt.cond",
        '@a = 2; if (@a == 1) { print("one"); } else if (@a == 2) { print("two"); } else { print("more"); }',
        "two",
    ),
    Rule(
        "stmt.if stmt.cond",
        '@a = 2; if @a { print("a"); } if !@a { print("b"); } if (@a > 1 && @a < 3) { print("c"); } else { print("d"); }',
        "a c",
    ),
    Rule(
        "stmt.cond",
        '$p = (int8 *)0; if ($p) { print("p"); } if (!(uint64)$p) { print("null"); } if (true) { print("t"); } if ("") { print("e"); } '
        'if ("x") { print("x"); }',
        "null t x",
    ),
    Rule(
        "stmt.separator prog.block.trailing",
        'if (1) { print("a") } if (1) { print("b"); }; { print("c"); } { print("d") }; print("e")',
        "a b c d e",
    ),
    Rule("stmt.separator", '@x = 1; if (@x) { print("a"); } @x++; unroll (2) { @x++ } print(@x + 0)', "a 4"),
    Rule(
        "expr.if expr.block",
        '@a = 3; $x = if (@a > 2) { "big" } else { "small" }; print($x); $y = { $z = 4; $z * 2 }; print($y);',
        "big 8",
    ),
    Rule(
        "expr.if",
        "@a = 1; print(if (@a == 0) { 1 } else if (@a == 1) { 2000 } else { 3 }); @m = { @a + 1 }; print(@m + 0);",
        "2000 2",
    ),
    Rule("expr.block", '@m = { count() }; print(@m + 0); printf("%s %d\\n", { "in" }, { 1 + 1 });', "1 in 2"),
]

LOOPS = [
    Rule("stmt.unroll", "$i = 0; unroll (3) { $i += 2; } print($i); unroll ($1) { print(5); }", "6 5 5", params=(2,)),
    Rule("stmt.unroll", "unroll (2) { $x = @n++; print($x); }", "0 1"),
    Rule(
        "stmt.while",
        "$i = 0; while ($i < 4) { $i++; if ($i == 2) { continue; } if ($i == 4) { break; } print($i); } print($i);",
        "1 3 4",
    ),
    Rule("stmt.while", "@n = 3; $i = 0; while ($i < 3 && @n) { print(@n--); $i++; }", "3 2 1"),
    Rule("stmt.for.range", "for ($i : 0..4) { print($i); } for $i : 2..4 { print($i * 10); }", "0 1 2 3 20 30"),
    Rule(
        "stmt.for.range",
        "for ($i : 5..2) { print($i); } for ($i : (-2)..1) { print($i); } for ($i : 3..3) { print($i); }",
        "-2 -1 0",
    ),
    Rule(
        "stmt.for.range stmt.for.range.primary",
        "@from = 2; $to = 5; for ($i : @from..$to) { $to = 100; @from = 7; print($i); } for ($i : 0..(1 + 1)) { print($i); }",
        "2 3 4 0 1",
    ),
    Rule(
        "stmt.for.common stmt.jump",
        "for ($i : 0..10) { if ($i == 2) { continue; } if ($i == 5) { break; } print($i); } print(9);",
        "0 1 3 4 9",
    ),
    Rule(
        "stmt.for.common",
        '$n = 0; $s = "a"; let $late; for ($i : 0..5) { $n += $i; $s = "longer"; $late = $i; $own = 3; $n += $own - 3; } print(($n, $s, $late));',
        "(10, longer, 4)",
    ),
    Rule(
        "stmt.for.common",
        "$sum = 0; for ($i : 0..3) { for ($j : 0..4) { if ($j == 2) { break; } $sum += $i * 10 + $j; } } print($sum);",
        "63",
    ),
    Rule(
        "stmt.for.common stmt.return",
        'for ($i : 0..3) { for ($j : 0..3) { if ($i == 1) { return; } print(($i, $j)); } } print("never");',
        "(0, 0) (0, 1) (0, 2)",
    ),
    Rule(
        "stmt.for.common",
        '$t = (1, "a"); for ($i : 0..3) { $t = ($i, "bcd"); @k[$t] = $i; } print($t); print(@k[1, "bcd"]);',
        "(2, bcd) 1",
    ),
    Rule(
        "stmt.for.common",
        "for ($i : 0..2) { for ($j : 0..2) { for ($k : 0..2) { @n = count(); @s = sum($i * 4 + $j * 2 + $k); } } } print((@n, @s));",
        "(8, 28)",
    ),
    Rule(
        "stmt.for.common",
        '@s["x"] = "v"; for ($i : 0..2) { $v = @s["x"]; printf("%s %d %s\\n", $v, $i, comm == comm ? "same" : "other"); }',
        "v 0 same v 1 same",
    ),
    Rule(
        "stmt.for.common",
        "for ($i : 0..3) { unroll (2) { if ($i == 1) { continue; } print($i); } } $w = 0; for ($i : 0..2) { while ($w < 3) { $w++; } } print($w);",
        "0 0 2 2 3",
    ),
    Rule(
        "stmt.for.range",
        "for ($i : (uint64)0..3) { @last = $i; } print(@last + 0); for ($i : 0..200000) { @c = count(); } print(@c + 0);",
        "2 200000",
    ),
    Rule(
        "stmt.for.map",
        '@m["a"] = 1; @m["bc"] = 20; for ($kv : @m) { @sum += $kv.1; @seen[$kv.0] = $kv.1; } print((@sum, @seen["bc"]));',
        "(21, 20)",
    ),
    Rule(
        "stmt.for.map",
        '@m[1, "x"] = 5; for ($kv : @m) { print(($kv.0.0, $kv.0.1, $kv.1)); print($kv); }',
        "(1, x, 5) ((1, x), 5)",
    ),
    Rule(
        "stmt.for.map.types",
        '@c["a"] = count(); @c["a"] = count(); for ($kv : @c) { print($kv.1 + 1); @i = $kv.1; } print(@i + 0);',
        "3 2",
    ),
    Rule(
        "stmt.for.map",
        "@m[1] = 1; @m[2] = 2; @m[3] = 3; $n = 0; for ($kv : @m) { $n++; delete(@m, $kv.0); if ($n == 2) { break; } } print(($n, len(@m)));",
        "(2, 1)",
    ),
    Rule("stmt.for.map stmt.return", '@m[1] = 1; for ($kv : @m) { if ($kv.1) { return; } } print("never");', ""),
    Rule(
        "stmt.for.map",
        "@m[1] = 1; @m[2] = 1; @o[7] = 1; @o[8] = 1; for ($a : @m) { for ($b : @o) { @p = count(); for ($i : 0..3) { @q = sum($i); } } } print((@p, @q));",
        "(4, 12)",
    ),
    Rule("stmt.return", "print(1); if (@never == 0) { return; } print(2); @never = 1;", "1"),
]

SCOPES = [
    Rule(
        "scope.block",
        '$a = 1; if (1) { $a = 2; $b = 3; print($b); } { $b = "text"; print($b); } print($a); $b = true; print($b);',
        "3 text 2 true",
    ),
    Rule(
        "scope.block scope.noshadow",
        'for ($i : 0..1) { $x = $i; } for ($i : 5..6) { $x = "s"; print(($i, $x)); } if (1) { let $y = 1; } let $y = "z"; print($y);',
        "(5, s) z",
    ),
    Rule("scope.undefined", "let $a; if (1) { $a = 1; } else { $a = 2; } print($a);", "1"),
    Rule("scope.block", "if (1) { $v = 5; } if (1) { let $v; print($v); $v = 1; }", "0"),
]

PARAMETERS = [
    Rule(
        "param.pos lex.posparam",
        'print($1 + 1); print($2); printf("%s %d\\n", $2, $3); print($3 < 0);',
        "42 word word -7 true",
        params=(41, "word", "-7"),
    ),
    Rule(
        "param.pos",
        "print(($1, $2, $3, $4)); print($9);",
        "(31, 2000000, 5000000, 1x) 0",
        params=("0x1f", "2e6", "5ms", "1x"),
    ),
    Rule(
        "param.pos.str",
        "print(str($1)); print(str($2)); print(str($1 + 1)); print(str($2, 2)); print(str($7)); print(str($2 + 9));",
        "123 hello 23 he",
        params=(123, "hello"),
    ),
    Rule(
        "param.pos.str param.pos",
        'if ($1 == "abc") { print("eq"); } if (str($2) == "5") { print("five"); } @[$1] = $2; print(@["abc"]);',
        "eq five 5",
        params=("abc", 5),
    ),
    Rule("param.count", "print($#); print(str($#)); print($# == 2);", "2 2 true", params=("a", "b")),
    Rule(
        "param.pos",
        "unroll ($1) { @n++; } print(@n + 0); @l = lhist(5, $2, $3, $4); print($5 == 3 ? 1 : 2);",
        "3 1",
        params=(3, 0, 10, 2, 3),
    ),
    Rule(
        "bi.positional lex.int.external",
        "print(($1, $2, $3)); print($4);",
        "(5, 12e4, 08) 0b2",
        params=("0b101", "12e4", "08", "0b2"),
    ),
]


@rules([*ASSIGNMENTS, *CONDITIONS, *LOOPS, *SCOPES, *PARAMETERS])
def test_statement(rule: Rule) -> None:
    assert rule.run() == rule.shows


@pytest.mark.tag("stmt.for.range", "stmt.for.common", "rt.limit.stack")
def test_many_loops_in_one_block() -> None:
    loops = 'for ($i : 0..3) { $x += $i; $y += $x; if ($z == "abc") { $y++; } } ' * 30
    assert begin(f'$x = 0; $y = 1; $z = "abc"; {loops} print(($x, $y));') == "(90, 4126)"


@pytest.mark.tag("rt.limit.stack", "map.scratch")
def test_more_values_than_the_stack_holds() -> None:
    """What does not fit moves to scratch memory, also what LLVM needs to have registers free."""
    text = '$a = "a"; $b = "b"; $c = "c"; $d = comm; $e = comm; $f = comm; $g = comm; $h = comm; $i = (1, comm, 2);'
    text += "$j = (comm, comm); $k = (comm, comm, comm, comm); $l = str(curtask.comm); $m = ($k, $k, $k);"
    text += "$n = 1; $o = 2; $p = 3; for ($z : 0..2) { $n += $z; $o += $z; $p += $o;"
    text += "@x[$a, $b, $c, $d, $e, $f, $g, $h] = $m; $i = ($n, comm, $p); $d = $h; }"
    assert begin(f"{text} print(($n, $o, $p, len(@x), $i.0)); clear(@x);") == "(2, 3, 8, 1, 2)"


@pytest.mark.tag("prog.predicate")
@pytest.mark.parametrize(
    ("predicate", "passes"),
    [("1", True), ("0", False), ("@x == 0 || 8 / 4 == 3", True), ("pid == 1 && comm == \"x\"", False), ("@a / 2", False), ("@k[1] / 2 / 3 == 0", True),
     ("\"text\"", True), ("$1 == 7", True), ("curtask", True), ("!$1", False)],
)  # fmt: skip
def test_predicate(predicate: str, passes: bool) -> None:
    shown = run(
        f'begin {{ @x = 0; @a = 1; @k[1] = 5; }} begin / {predicate} / {{ printf("in "); }} begin {{ printf("end"); }}',
        7,
    ).text
    assert shown == ("in end" if passes else "end")


@pytest.mark.tag("prog.probe.multi-block", "prog.probe.list", "prog.block.trailing")
def test_blocks_of_one_probe_run_in_source_order() -> None:
    assert (
        run('begin { printf("a"); return; } begin, { printf("b") } end { printf("c") } end, end { printf("d") }').text
        == "abcdd"
    )
