"""Operators at run time (reference part 1, sections 7, 11.1, 11.2, 13.2)."""

from __future__ import annotations

import pytest

from tests.e2e.programs import Rule, rules, run

pytestmark = pytest.mark.root

# values that pass through a map or a variable are not folded by the checker
ARITHMETIC = [
    Rule(
        "rt.int.shift", "@n = 65; @a = 1; $s = 64; print((@a << @n) == 2); $x = 5 >> $s; print($x == 5);", "true true"
    ),
    Rule("expr.arith", "@a = 7; @b = 3; print((@a + @b, @a - @b, @a * @b, @a / @b, @a % @b));", "(10, 4, 21, 2, 1)"),
    Rule(
        "expr.arith rt.int.wrap",
        "$a = (uint64)0xffffffffffffffff; print($a + 1); print($a * 2);",
        "0 18446744073709551614",
    ),
    Rule("expr.arith", "@a = -7; print(@a + 3); print(@a * 3); print(3 - @a);", "-4 -21 10"),
    Rule("expr.arith type.bool.ops", "$t = true; @one = 1; print($t + @one); print($t * 5);", "2 5"),
    Rule(
        "type.bool.ops",
        "$t = true; $f = false; print($t + $f); print($t & $f); print($t | $f); print($t + $t);",
        "true false true true",
    ),
    Rule("type.bool.ops", 'printf("%d %d %s\\n", true, false, true); print(!true);', "1 0 true false"),
    Rule("expr.bit", "@a = 0xf0; @b = 0x3c; print(@a & @b); print(@a | @b); print(@a ^ @b);", "48 252 204"),
    Rule(
        "expr.shift",
        "@a = 3; print(@a << 4); print(@a >> 1); $n = (int64)-8; print((uint64)($n >> 1));",
        "48 1 9223372036854775804",
    ),
    Rule("expr.shift", "@a = 1; @n = 63; print((uint64)(@a << @n));", "9223372036854775808"),
    Rule(
        "expr.compare",
        "@a = 5; print((@a == 5, @a != 5, @a < 6, @a <= 5, @a > 5, @a >= 6));",
        "(true, false, true, true, false, false)",
    ),
    Rule("expr.compare.sign", "@a = -1; @b = (uint64)1; print(@a < @b); print(@b > @a);", "true true"),
    Rule("expr.compare.sign", "@a = (uint64)-1; print(@a > 5); print(@a < 5);", "true false"),
    Rule("expr.compare.sign", "@a = (uint8)200; @b = (int8)-56; print(@a == @b); print(@a > @b);", "false true"),
    Rule("expr.compare.sign", "@a = -5; print(@a < 3); print(@a > -6); print(3 > @a);", "true true true"),
    Rule(
        "expr.compare",
        "$p = (int8 *)16; $q = (int8 *)17; print($p < $q); print($p == 16); print($p != $q);",
        "true true true",
    ),
    Rule(
        "expr.equal",
        '$s = "abc"; print($s == "abc"); print($s != "abc"); print($s == "abd"); print("abc" == comm);',
        "true false false false",
    ),
    Rule(
        "expr.equal",
        '@s = "abc"; @t = "abcdef"; print(@s == @t); print(@s != @t); $u = @s; print(@s == $u);',
        "false true true",
    ),
    Rule(
        "expr.equal expr.string.cmp",
        '@s[1] = "abc"; @s[2] = "abcdefgh"; print(@s[1] == "abc"); print(@s[1] == "ab");'
        'print(@s[2] == "abcdefgh"); print(@s[2] == "abc");',
        "true false true false",
    ),
    Rule("expr.string.cmp", '@a = "ab\\0cd"; @b = "ab"; print(@a == @b); print(@a == "ab");', "true true"),
    Rule(
        "expr.equal type.tuple.cmp",
        '$t = (1, "a"); print($t == (1, "a")); print($t == (2, "a")); print($t != (1, "b"));',
        "true false true",
    ),
    Rule("expr.equal", 'print(buf("abc", 3) == buf("abc", 3)); print(buf("abc", 3) == buf("abd", 3));', "true false"),
    Rule(
        "expr.logical", "@a = 2; @z = 0; print((@a && @z, @a || @z, @z || @z, @a && 1));", "(false, true, false, true)"
    ),
    Rule("expr.logical", "@z = 0; if (@z && (@n++ || true)) { } if (!@z || (@n++ || true)) { } print(@n + 0);", "0"),
    Rule("expr.logical", "$p = (int8 *)1; print($p && 1); print(curtask && true);", "true true"),
    Rule("expr.not", "@a = 5; @z = 0; print(!@a); print(!@z); print(!!@a);", "false true true"),
    Rule("expr.neg", "@a = 5; print(-@a); print(~@a); $u = (uint64)1; print(-$u);", "-5 -6 18446744073709551615"),
    Rule("expr.neg", "$x = (int16)300; print(-$x); @m = -$x; print(@m);", "-300 @m: -300"),
    Rule("expr.neg", "$x = (uint8)1; print(~$x); print(- -5); print(~0);", "18446744073709551614 5 -1"),
    Rule("expr.incdec", "@a = 5; print(@a++); print(@a + 0); print(++@a); print(@a--); print(--@a);", "5 6 7 7 5"),
    Rule("expr.incdec", "$a = 5; print($a++); print($a); print(++$a); print($a--); print(--$a);", "5 6 7 7 5"),
    Rule("expr.incdec", '@m["k"]++; @m["k"]++; ++@m["j"]; print(@m["k"]); print(@m["j"]); print(@m["k"]--);', "2 1 2"),
    Rule("expr.incdec", "$p = (int32 *)100; $p++; print((uint64)$p); $p--; --$p; print((uint64)$p);", "104 96"),
    Rule("expr.incdec", "@p = (int64 *)8; @p++; print(@p);", "@p: 0x10"),
    Rule("expr.incdec.type", "let $a: int8 = 127; $a++; print($a); $b = 127; $b++; print($b);", "-128 128"),
    Rule("expr.incdec.type", "let $a: uint16 = 0; $a--; print($a); @u--; print(@u);", "65535 @u: -1"),
    Rule("expr.incdec.type", "$a = (uint8)255; $a++; print($a); print(@new++); print(@new);", "256 0 @new: 1"),
    Rule("expr.ternary", '@a = 1; print(@a ? "yes" : "no"); print(@a > 1 ? 10 : -20000);', "yes -20000"),
    Rule("expr.ternary", "@a = 0; print(@a ? 1 : @a == 0 ? 2 : 3); print(@a ? @b++ : 7); print(@b);", "2 7"),
    Rule(
        "expr.ternary",
        '@z = 0; $s = @z ? "longer text" : "s"; print($s); print((@z ? (1, "a") : (300, "bcd")));',
        "s (300, bcd)",
    ),
    Rule("expr.elvis", "@a = 5; @z = 0; print(@a ?: 9); print(@z ?: 9);", "5 9"),
    Rule(
        "expr.sub.signed rt.int.sub",
        '@a = (uint64)3; @b = (uint64)5; $d = @a - @b; print($d); printf("%d %lu\\n", $d, $d);',
        "-2 -2 18446744073709551614",
    ),
    Rule(
        "rt.int.wrap",
        "let $a: uint8 = 200; $a = (uint8)($a + 100); print($a); $m = (int64)9223372036854775807; print($m + 1);",
        "44 -9223372036854775808",
    ),
    Rule("expr.postfix", "@t[1] = (1, (2, 3)); print(@t[1].1.0); print(@t[1].0); print(((4, 5), 6).0.1);", "2 1 5"),
    Rule("expr.call", 'print(strncmp("abc", "abd", 2)); print(str("xyz"));', "0 xyz"),
    Rule(
        "expr.call call.optional-parens",
        "print(pid == pid()); print(comm() == comm); print(nsecs() > 0);",
        "true true true",
    ),
    Rule("expr.bareword", "print(pid > 0); print(true); print(false);", "true true false"),
]

PRECEDENCE = [
    Rule(
        "grammar.precedence",
        "@a = 2; @b = 3; @c = 4; print(@a + @b * @c); print((@a + @b) * @c); print(@a - @b - @c);",
        "14 20 -5",
    ),
    Rule(
        "grammar.precedence",
        "@a = 20; @b = 6; @c = 2; print(@a / @b / @c); print(@a % @b * @c); print(@a - @b + @c);",
        "1 4 16",
    ),
    Rule(
        "grammar.precedence",
        "@a = 1; @b = 2; print(@a + @b << 3); print(@a << @b + 1); print(@a << 2 << 3);",
        "24 8 32",
    ),
    Rule(
        "grammar.precedence",
        "@a = 1; @b = 4; print(@a << 2 < @b); print(@a << 2 == @b); print(@a < 2 == true);",
        "false true true",
    ),
    Rule("grammar.precedence", "@a = 6; print(@a & 3 == 2); print((@a & 3) == 2); print(@a | 1 ^ 3 & 2);", "0 true 7"),
    Rule(
        "grammar.precedence",
        "@z = 0; @o = 1; print(@o || @z && @z); print((@o || @z) && @z); print(@z && @z || @o);",
        "true false true",
    ),
    Rule("grammar.precedence", "@o = 1; @z = 0; print(@z ? 1 : @o ? 2 : 3); print(@o || @z ? 4 : 5);", "2 4"),
    Rule(
        "grammar.precedence",
        "@a = 3; print(-@a + 5); print(!@a == false); print(~@a & 0xf); print(- -@a);",
        "2 true 12 3",
    ),
    Rule(
        "grammar.precedence",
        "@m[1] = 300; @t = (513, 2); print((uint8)@m[1] + 1); print((uint8)@t.0); print(-@t.1);",
        "45 1 -2",
    ),
    Rule("grammar.precedence", "@a = 5; $p = 1; print(@a++ * 2); print(-$p++); print($p);", "10 -1 2"),
    Rule(
        "grammar.precedence",
        "@x = 1; @y = 2; print(@x | @y && @x); print(@x ^ @y | @x); print(@x == 1 & @y);",
        "true 3 0",
    ),
    Rule(
        "cast.parse",
        "@x = 5; print((pid) * 2 == pid * 2); print((int8)-1); print((uint8)@x + 1); print((@x));",
        "true -1 6 @x: 5",
    ),
    Rule("cast.parse", "@x = (uint64)300; print((int8)(@x)); print((uint8)~@x); print((uint8)!@x);", "44 211 0"),
]

FOLDED = [
    Rule(
        "expr.fold",
        "print(1 + 2 * 3); print(-7 / 2); print(-8 >> 1); print(-7 % 3); print(9223372036854775807 + 1);",
        "7 -3 -4 -1 9223372036854775808",
    ),
    Rule(
        "expr.fold",
        'print("a" < "b"); print("a" == "a"); print("b" <= "a"); print("ab" + "cd"); print("abc" + 1);',
        "true true false abcd bc",
    ),
    Rule(
        "expr.fold",
        'print(1 ? 2 : 3); print("" ? 1 : 2); print("x" ? 1 : 2); print("abc"[1]); print((1, 7)[1]);',
        "2 2 1 98 7",
    ),
    Rule(
        "expr.fold",
        "print(1 << 63); print(0xff & 0x0f); print(!5); print(true && 0); print({ 3 + 4 });",
        "9223372036854775808 15 false false 7",
    ),
    Rule(
        "expr.fold type.string.index",
        'print("a" + "b" == "ab"); print("a\\0b" == "a"); print(1 == 1 ? "t" : "f");',
        "true false t",
    ),
    Rule(
        "lex.int.decimal lex.int.hex lex.int.octal lex.int.exponent",
        "print((1_000_000, 0x1f, 0Xff_ff, 0755, 2e6, 1e1_0));",
        "(1000000, 31, 65535, 493, 2000000, 10000000000)",
    ),
    Rule(
        "lex.int.suffix",
        "print((10u, 10ul, 10ull, 10l, 10ll, 10UL, 4294967295u));",
        "(10, 10, 10, 10, 10, 10, 4294967295)",
    ),
    Rule(
        "lex.int.duration",
        "print((15ns, 20us, 5ms, 3s, 2m, 1h, 7d));",
        "(15, 20000, 5000000, 3000000000, 120000000000, 3600000000000, 604800000000000)",
    ),
    Rule(
        "lex.int.range",
        "print(18446744073709551615); print(0xffffffffffffffff); print(-9223372036854775808);",
        "18446744073709551615 18446744073709551615 -9223372036854775808",
    ),
    Rule(
        "lex.string lex.string.escape",
        'print("tab\\tq\\"b\\\\ \\101\\x42\\x4a."); print("\\x41\\0cut");',
        'tab q"b\\ ABJ. A',
    ),
]


@rules([*ARITHMETIC, *PRECEDENCE, *FOLDED])
def test_value(rule: Rule) -> None:
    assert rule.run() == rule.shows


@pytest.mark.tag("expr.div", "rt.div0", "warn.div0")
@pytest.mark.parametrize("op", ["/", "%"])
def test_division_by_zero_gives_one_and_warns(op: str) -> None:
    result = run(f"begin {{ @z = (uint64)0; @n = (uint64)7; print(@n {op} @z); print(@n {op} @z); print(2); }}")
    assert result.text.split() == ["1", "1", "2"]
    start = 41 + 6  # `begin { @z = (uint64)0; @n = (uint64)7; print(`
    assert result.errors == "".join(
        f"stdin:1:{column}-{column + 7}: WARNING: Divide or modulo by 0 detected. "
        "This can lead to unexpected results. 1 is being used as the result.\n"
        f"begin {{ @z = (uint64)0; @n = (uint64)7; print(@n {op} @z); print(@n {op} @z); print(2); }}\n"
        f"{' ' * (column - 1)}~~~~~~~\n"
        for column in (start, start + 16)
    )


@pytest.mark.tag("expr.string.cmp", "expr.equal")
@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 15, 16, 17, 40])
def test_strings_are_compared_up_to_the_first_nul(size: int) -> None:
    """Pairs that differ at each place, or only behind the NUL; 300 is more than is compared without a loop."""
    text = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"[: size - 1]
    pairs = [(text, text, True), (text, text + "x", False), ("", text, text == "")]
    for place in range(len(text)):
        other = text[:place] + "#" + text[place + 1 :]
        pairs += [
            (text, other, False),
            (text[:place], text, False),
            (f"{text[:place]}\\0q", f"{text[:place]}\\0r", True),
        ]
    body = " ".join(f'@a[{i}] = "{a}"; @b[{i}] = "{b}";' for i, (a, b, _) in enumerate(pairs))
    body += f' @a[-1] = "{"y" * 300}"; @c[-1] = "{"y" * 300}"; @c[-2] = "{"y" * 299}z"; print(@a[-1] == @c[-1]); print(@a[-1] == @c[-2]);'
    body += " ".join(f"print(@a[{i}] == @b[{i}]);" for i in range(len(pairs)))
    shown = run(f"begin {{ {body} }}").text.split()
    assert shown == ["true", "false", *(str(equal).lower() for _, _, equal in pairs)]
