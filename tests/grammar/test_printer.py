"""`parse(print(parse(x)))` is `parse(x)`."""

import pytest

from pytrace.grammar import nodes
from pytrace.grammar.nodes import same
from pytrace.grammar.printer import print_expression, print_program
from pytrace.grammar.source import Source
from tests.grammar.parsing import PROGRAMS, expression, program


def check(text: str) -> str:
    """The canonical form of a program, after a look at whether it is the same program, and stable."""
    tree = program(text)
    printed = print_program(tree)
    assert same(program(printed), tree), printed
    assert print_program(program(printed)) == printed
    return printed


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    check(PROGRAMS[name])


def test_layout() -> None:
    assert (
        check(
            '#!/bin/x\n#include <a.h>\nconfig={a=b;c=1;d=true}import "x";let @m=hash(5)\n'
            "macro m($a,@b,c){$a}fn f($a:uint8*):void{return}\n"
            "begin{}kprobe:a,kprobe:b /pid==1/{if(1){f()}else if $x{}else{$x=1}while(1){break}@a[1,2]+=5ms}"
        )
        == """#!/bin/x
#include <a.h>
config = {
  a = "b";
  c = 1;
  d = true;
}
import "x";
let @m = hash(5);
macro m($a, @b, c) {
  $a
}
fn f($a: uint8 *): void {
  return;
}
begin { }
kprobe:a,
kprobe:b
/pid == 1/
{
  if (1) {
    f()
  } else if ($x) { } else {
    $x = 1;
  }
  while (1) {
    break;
  }
  @a[1, 2] += 5ms;
}
"""
    )


@pytest.mark.parametrize(
    "statements",
    [
        "{ } ;",
        "if 1 { } ;",
        "if 1 { } ; -1",
        "if 1 { } ; -1;",
        "if 1 { } -1;",
        "{ 1 } ; ++$x;",
        "{ 1 } ; *$p",
        "{ 1 } { 2 }",
        "{ 1 } ; { 2 } ;",
        "if 1 { } $x++;",
        "$x++",
        "($x++)",
        "($x++);",
        "($x++) + 1;",
        "@m[1]-- ; (@m[1]--).x[2] ? 3 : 4",
        "(let); (return) + 1; (_) == 2; (for).x",
        "(else); (if 1 { 2 } else { 3 }) ? 4 : 5",
        "- -1; -(--$x); - -$x; !--$x; -(-1 + 2);",
        "$a - -1; $a - --$b; ($a--) - --$b",
        "&$x & &@y; $a * *$b; a / *$b",
        "(T)(++$x); (T)(--$x); (T)({ 1 }); (T)-1; (T)(a + b); ((T)a).b; (T)a.b; (T)(T*)a",
        "comptime (1 + 2); comptime 1 + 2; (comptime $x).y",
        "sizeof((x)[1]); sizeof(x[1]); sizeof((x[1])[2]); sizeof((x[$y])); sizeof(x * 2); sizeof(pid)",
        "sizeof(typeof_ *); m(typeof((x)[1])); typeinfo((x)[0x1]).a",
        "1 - (2 - 3); (1 - 2) - 3; 1 + 2 * 3; (1 + 2) * 3; 1 << (2 + 3); (1 < 2) < 3; 1 < (2 < 3)",
        "(1 ? 2 : 3) ? 4 : 5; 1 ? 2 : (3 ? 4 : 5); 1 ? (2 ? 3 : 4) : 5; (1 ?: 2) ?: 3; 1 ?: (2 ?: 3)",
        "(@m)[1]; (@)[1][2]",
        "(1,); (); ((1, 2), 3); @m[(1,)]; @m[()]; @m[(1, 2)]; @m[1, (2, 3)]; @m[(a = 1)]",
        "(1 + { 2 }) * 3; f({ 1 }, if 1 { 2 }); $x = { 1 }; $x = if 1 { 2 } else { 3 };",
        "for $i : (-1)..({ 2 }) { } for ($i : (int8)1..(comptime 2)) { } for ($i : ((@m))) { }",
        "for ($i : ($a.b)..f(1)) { } for ($i : ((1 + 2) * 3)..@m[1]) { }",
        'let $x: int8[4][] = 1; let $y: struct s **; let $z: typeof(x *); let $w; _ = 1; import "a";',
        r'"\n\"\\\t\r\0\x7f\xff é"',
        "1.2.3; $x.1.0x10; (-1).x; 0x1f; 010; 1e3; 5ms; 10ULL; 1_000",
        "return; return 1; return (if 1 { 2 })",
        "$x = true; $y = $1 + $#; $z = @ + @[1]",
        "while $x { } while ({ 1 }) { } unroll 3 { } unroll ($1 + 1) { continue }",
    ],
)
def test_statements(statements: str) -> None:
    check(f"begin {{ {statements} }}")


@pytest.mark.parametrize(
    "text",
    [
        'uprobe:"/a b":"x\\"{"+8, x=kprobe:f/x/ { }',
        "begin / { 1 } / { }",
        "begin / @a / ({ 2 }) / { }",
        "begin / if 1 { 2 } else { 3 } / { }",
        "begin / @a / 2 / { } end { }",
        "begin / *$p / { }",
        "struct s { int a; } __attribute__((packed)) enum { A }\n#define X \\\nbegin { }",
        'config = { a = "b\\"c"; b = "5"; c = "true" } begin { }',
        "",
    ],
)
def test_items(text: str) -> None:
    check(text)


def test_literals_keep_their_spelling_only_while_it_is_true() -> None:
    tree = expression("0x10")
    assert print_expression(tree) == "0x10"
    assert print_expression(nodes.Integer(tree.span, 17)) == "17"
    made = Source("", "a + b").span(0, 5)
    negative = nodes.Field(made, nodes.Integer(made, -5), "x")
    assert print_expression(negative) == "(-5).x"
