"""Whatever the text, the parser gives a program or a message; and programs survive printing."""

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytrace.grammar.diagnostics import CompileError, Diagnostics
from pytrace.grammar.nodes import same
from pytrace.grammar.parser import parse
from pytrace.grammar.printer import print_program
from pytrace.grammar.source import Source, decode_text
from tests.grammar.parsing import BUILTIN_WORDS, PROGRAMS

quick = settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])

WORDS = """
    break comptime config continue else enum false fn for if import let macro offsetof return sizeof struct
    true typeinfo typeof union unroll while _ x foo pid args begin kprobe:f hash(1) count()
"""
SIGNS = r"""
    += -= *= /= <<= >>= == != < <= > >= << >> ++ -- ! ~ = || && | ^ & + - * / % ? : ; , . -> .. ( ) { } [ ]
    ( ) { } { } ; ; $x $y @ @m @m[1] $1 $# $0 $ 0 1 0x1f 08 5ms 1e3 1_ " "a" "\n" ' # #! // /* */ \
"""
BINARY = "+ - * / % & | ^ << >> == != < > <= && || ?:"
TOKENS = st.sampled_from([*WORDS.split(), *SIGNS.split(), "\n"])
SOUP = st.lists(TOKENS, max_size=25).flatmap(lambda parts: st.sampled_from([" ".join(parts), "".join(parts)]))


def operators(operand: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts of expressions made from smaller ones; most are programs, some need parentheses they lack."""
    two = st.tuples(operand, operand)
    return st.one_of(
        st.tuples(operand, st.sampled_from(BINARY.split()), operand).map(" ".join),
        st.tuples(st.sampled_from(["-", "!", "~", "*", "++", "comptime ", "(T)", "(struct s *)"]), operand).map(
            "".join
        ),
        st.tuples(operand, st.sampled_from([".x", ".0", "->if", "++", "--", "[1]"])).map("".join),
        operand.map("({})".format),
        operand.map("({},)".format),
        operand.map("{{ {} }}".format),
        operand.map("sizeof({})".format),
        operand.map("m(typeof({}))".format),
        two.map("({0[0]}, {0[1]})".format),
        two.map("(a = {0[0]}, b = {0[1]})".format),
        two.map("@m[{0[0]}, {0[1]}]".format),
        two.map("f({0[0]}, {0[1]})".format),
        two.map("{0[0]}[{0[1]}]".format),
        two.map("if {0[0]} {{ {0[1]} }}".format),
        two.map("{{ {0[0]}; {0[1]} }}".format),
        st.tuples(operand, operand, operand).map("{0[0]} ? {0[1]} : {0[2]}".format),
        st.tuples(operand, operand, operand).map("if ({0[0]}) {{ {0[1]} }} else {{ {0[2]}; }}".format),
    )


EXPRESSIONS = st.recursive(
    st.sampled_from(["1", "0x1f", "$x", "@", "@m", "@m[1]", "$1", "$#", "x", "pid", "true", '"a\\n"', "()", "let"]),
    operators,
    max_leaves=8,
)
STATEMENTS = st.one_of(
    EXPRESSIONS.map("{};".format),
    EXPRESSIONS,
    EXPRESSIONS.map("$x = {};".format),
    EXPRESSIONS.map("@m[1] += {};".format),
    EXPRESSIONS.map("let $y: T* = {};".format),
    EXPRESSIONS.map("_ = {};".format),
    EXPRESSIONS.map("return {};".format),
    EXPRESSIONS.map("if {} {{ }}".format),
    EXPRESSIONS.map("while ({}) {{ break }}".format),
    EXPRESSIONS.map("for ($i : ({})..5) {{ }}".format),
    st.sampled_from(["$x++;", "@m[1]--", "if 1 { }", "{ }", "for ($i : @m) { }", 'import "a";', "continue;"]),
)
BLOCKS = st.lists(STATEMENTS, max_size=5).map("\n".join)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A real program with a few pieces removed, doubled, moved or put in."""
    text = draw(st.sampled_from(sorted(PROGRAMS.values())))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        end = min(len(text), at + draw(st.integers(0, 12)))
        to = draw(st.integers(0, len(text)))
        match draw(st.sampled_from(["remove", "double", "move", "insert", "cut"])):
            case "remove":
                text = text[:at] + text[end:]
            case "double":
                text = text[:end] + text[at:]
            case "move":
                text = text[:to] + text[at:end] + text[to:]
            case "insert":
                text = text[:at] + draw(TOKENS) + text[at:]
            case _:  # cut
                text = text[:at]
    return text


def check(text: str) -> bool:
    """Whether the text is a program; if so, it is the same one after printing."""
    try:
        tree = parse(Source("stdin", text), BUILTIN_WORDS, Diagnostics())
    except CompileError as error:
        (found,) = error.diagnostics
        assert found.span is not None
        assert found.code.startswith("err.")
        assert 0 <= found.span.start <= found.span.end <= len(text)
        assert found.render()
        return False
    printed = print_program(tree)
    again = parse(Source("printed", printed), BUILTIN_WORDS, Diagnostics())
    assert same(tree, again), printed
    return True


@quick
@given(st.binary())
@example(b"\xff\xfe{\x00")
def test_random_bytes(data: bytes) -> None:
    check(decode_text(data))


@quick
@given(st.binary())
def test_random_bytes_in_a_block(data: bytes) -> None:
    check("begin {" + decode_text(data) + "}")


@quick
@given(SOUP)
def test_token_soup(text: str) -> None:
    check(text)


@quick
@given(SOUP)
def test_token_soup_in_a_block(text: str) -> None:
    check(f"begin {{ {text} }}")


@quick
@given(BLOCKS)
def test_statements(text: str) -> None:
    check(f"begin {{ {text} }}")


@quick
@given(EXPRESSIONS)
@example("*$x")
def test_predicates(text: str) -> None:
    check(f"begin / {text} / {{ }}")


@quick
@given(mutated())
def test_mutated_programs(text: str) -> None:
    check(text)


def test_the_generators_make_programs() -> None:
    """Round trips say nothing if everything is refused."""
    accepted: list[bool] = []

    @settings(deadline=None, max_examples=100, database=None, derandomize=True)
    @given(STATEMENTS)
    def run(text: str) -> None:
        accepted.append(check(f"begin {{ {text} }}"))

    run()
    assert sum(accepted) > len(accepted) // 3
