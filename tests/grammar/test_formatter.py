"""`--fmt`: the layout changes, the program and its comments do not, and a second time nothing does."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytrace.grammar.diagnostics import CompileError, Diagnostics
from pytrace.grammar.formatter import WIDTH, format_program
from pytrace.grammar.lexer import Lexer
from pytrace.grammar.nodes import Program, same
from pytrace.grammar.parser import parse
from pytrace.grammar.source import Source
from tests.fuzz_programs import REAL, mutated, programs, soup
from tests.grammar.parsing import BUILTIN_WORDS, PROGRAMS
from tests.grammar.test_fuzz_parser import BLOCKS, EXPRESSIONS

pytestmark = pytest.mark.tag("cli.fmt")
EXAMPLES = Path(__file__).parents[2] / "examples"
quick = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])

COMMENT = re.compile(r"//[^\n]*|/\*(?s:.*?)(?:\*/|\Z)")


def tree(text: str) -> Program:
    return parse(Source("stdin", text), BUILTIN_WORDS, Diagnostics())


def formatted(text: str) -> str:
    return format_program(Source("stdin", text), BUILTIN_WORDS)


def comments(text: str) -> list[str]:
    """All comments outside strings and C text, without the white space at the ends of their lines."""
    found, at = [], 0
    for lexeme in [*Lexer(Source("", text), BUILTIN_WORDS).program(), None]:
        gap = text[at : lexeme.span.start if lexeme else len(text)]
        found += ["\n".join(line.strip() for line in c.split("\n")) for c in COMMENT.findall(gap)]
        at = lexeme.span.end if lexeme else at
    return found


def check(text: str) -> str:
    """The formatted text, after a look at what must not change."""
    before = tree(text)
    result = formatted(text)
    after = tree(result)
    assert same(before, after), result
    assert [c.span.text for c in before.c_texts] == [c.span.text for c in after.c_texts]
    assert comments(result) == comments(text), result
    assert formatted(result) == result
    return result


def check_if_program(text: str) -> None:
    try:
        tree(text)
    except CompileError:
        return
    check(text)


def test_layout() -> None:
    assert (
        check(
            '#!/bin/x\n#include <a.h>\nstruct s { int a; /* kept */ };\nconfig={a=b;c=1;;d=true}import "x";'
            "let@m=hash(5)\nmacro m($a,@b,c){$a}fn f($a:uint8*):void{return}\n\n\n\n"
            "begin{}kprobe:a,kprobe:b, /pid==1/{if(1){f()}else if $x{}else{$x=1}while(1){break}@a[1,2]+=5ms;\n"
            "let $p:struct s*=(struct s*)arg0;$y=- -1+(int8)-$x*$p->a.b[2]-sizeof( struct s );($x)++;@a++;++$x\n}"
        )
        == """#!/bin/x
#include <a.h>
struct s { int a; /* kept */ };
config = {
  a = b;
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

begin
{ }
kprobe:a,
kprobe:b
/pid == 1/
{
  if (1) {
    f()
  } else if $x { } else {
    $x = 1;
  }
  while (1) {
    break;
  }
  @a[1, 2] += 5ms;
  let $p: struct s * = (struct s *)arg0;
  $y = - -1 + (int8)-$x * $p->a.b[2] - sizeof(struct s);
  ($x)++;
  @a++;
  ++$x
}
"""
    )


def test_comments_stay() -> None:
    assert (
        check(
            "// first\n\n\n/* second\n * goes on */\nbegin // third\n{ // fourth\n\n"
            "    /* fifth\n       goes on\n    */\n\n\n  $x=1 /* sixth */+2;   // seventh\n  /* eighth */ $y=2;/* ninth */$z\n"
            "=3 // tenth\n\t+ 4; if $x { // eleventh\n // twelfth\n } // 13\n // 14\n else { 1 } f(1, // 15\n 2)\n// 16\n"
            "}\n/* 17 */ end{/**/}// 18"
        )
        == """// first

/* second
 * goes on */
begin // third
{ // fourth

  /* fifth
     goes on
  */

  $x = 1 /* sixth */ + 2; // seventh
  /* eighth */ $y = 2;
  /* ninth */ $z = 3 // tenth
    + 4;
  if $x { // eleventh
    // twelfth
  } // 13
  // 14
  else {
    1
  }
  f(1, // 15
    2)
  // 16
}
/* 17 */ end
{ /**/ } // 18
"""
    )


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("begin { f(// a\n /*\n*/1); }", "begin\n{\n  f( // a\n    /*\n*/ 1);\n}\n"),
        ("config={a=1;/* a */;// b\nb=2} begin{}", "config = {\n  a = 1;\n  /* a */ // b\n  b = 2;\n}\nbegin\n{ }\n"),
        ("begin{}\n/*\n * never closed\n *  ", "begin\n{ }\n/*\n * never closed\n *\n"),
        ("begin{}\n/* never closed\n\n  ", "begin\n{ }\n/* never closed\n"),
    ],
)
def test_odd_comments(text: str, result: str) -> None:
    assert formatted(text) == result
    assert formatted(result) == result


def test_long_lines() -> None:
    arguments = ", ".join(f"args.member_{i}" for i in range(20))
    result = check(
        f'begin {{ printf("a long format\\n", {arguments}); $x = f(1, g({arguments})) && {arguments[:11]} }}'
    )
    assert max(map(len, result.splitlines())) <= WIDTH
    assert (
        result.splitlines()[2]
        == '  printf("a long format\\n", args.member_0, args.member_1, args.member_2, args.member_3, args.member_4, args.member_5,'
    )
    assert result.splitlines()[3].startswith("    args.member_6, ")


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.bt")), ids=lambda file: file.stem)
def test_the_examples_are_in_this_layout(file: Path) -> None:
    assert check(file.read_text()) == file.read_text()


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    check(PROGRAMS[name])


def test_examples_of_features() -> None:
    for text in REAL:
        check(text)


GAPS = st.sampled_from(
    [
        " ",
        "\n",
        "\n\n\n",
        "\t",
        " /* a */ ",
        " /* b\n   c */",
        " // d\n",
        "\n// e\n",
        "\n/* f\n * g */\n",
        "\n/* h */ ",
        " /**/\n",
        " /* i */",
        " //*\n",
        "\n/* j\n*/",
        " /*\n*/",
        "\r\n",
    ]
)


@st.composite
def stretched(draw: st.DrawFn, text: str) -> str:
    """A program with other white space and comments between its lexemes, where any may be."""
    result, at, after = "", 0, ""
    for lexeme in Lexer(Source("", text), BUILTIN_WORDS).program():
        gap = text[at : lexeme.span.start]
        may = after not in ("SHEBANG", "C_TEXT") and at > 0 and "(" not in gap and ")" not in gap
        result += " " if after == "ATTACH" else ""  # or a comment would belong to it
        result += draw(GAPS) if may and draw(st.integers(0, 3)) == 0 else gap
        result += lexeme.text
        at, after = lexeme.span.end, lexeme.type
    return result + draw(GAPS)


@quick
@given(st.sampled_from(sorted([*PROGRAMS.values(), *REAL])).flatmap(stretched))
def test_comments_anywhere(text: str) -> None:
    tree(text)
    check(text)


@quick
@given(programs())
def test_made_programs(text: str) -> None:
    check_if_program(text)


@quick
@given(st.one_of(mutated(), soup()))
def test_mutated_programs(text: str) -> None:
    check_if_program(text)


@quick
@given(BLOCKS)
@example("({ 1 }); { 1 } - 1; if 1 { } ; -1; { } ;")
@example("sizeof((/* a */ x /* b */)); - -1; -(--$x); $a - --$b; !--$x; *&@y & &$x")
def test_statements(text: str) -> None:
    check_if_program(f"begin {{ {text} }}")


@quick
@given(EXPRESSIONS)
@example("*$p")
@example("{ 1 }")
def test_predicates(text: str) -> None:
    check_if_program(f"begin / {text} / {{ }}")
