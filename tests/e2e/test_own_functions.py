"""Functions of the program, `fn` (reference part 1, section 10.2): what they give, and the messages about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytrace.grammar.diagnostics import Severity
from tests.e2e.programs import run
from tests.grammar.messages import Said, rows
from tests.language.checking import check

tag = pytest.mark.tag

FUNCTIONS = """
fn add($a: int64, $b: typeof($a)): typeof($b) { return $a + $b; }
fn sign($a: int64): int8 { if ($a < 0) { return -1; } else if ($a > 0) { return 1; } return 0; }
fn count_it($what: uint64): void { @counts[$what] = count(); if ($what) { return; } @zeros++; }
fn size_word($n: uint64): string { if ($n > 3) { return "big"; } return "quite small"; }
fn total($n: int64): int64 { let $sum = (int64)0; for ($i : 0..$n) { $sum += $i; } return $sum; }
fn parent($task: struct task_struct *): int32 { return $task->real_parent->tgid; }
fn nested($n: int64): int64 { return add($n, add($n, sign($n))); }
fn fresh($set: int64): int64 { let $v: int64; if ($set) { $v = 7; } return $v; }
fn length($s: string): uint64 { return strlen($s); }
fn both($s: string, $n: int64): typeof(($n, $s)) { return ($n + 1, $s); }
fn fixed($s: string[8]): string[8] { return $s; }
fn up($task: struct task_struct *): struct task_struct * { return $task->real_parent; }
fn not($b: bool): bool { return !$b; }
fn checked($x: int64): int64 { if comptime (sizeof($x) == 8) { return $x; } else { return nothing; } }
fn leave(): void { print("leaving"); exit(); }
fn name_them(): void { @names["two"] = 2; @names["the third"] = 3; }
fn name_of($v: int64): string { for ($kv : @names) { if ($kv.1 == $v) { return $kv.0; } } return "none"; }
fn factor($n: int64): int64 { for ($i : 2..10) { for ($j : 2..10) { if ($i * $j == $n) { return $i * 100 + $j; } } } return -1; }
fn until($n: int64): void { for ($i : 0..3) { if ($i == $n) { return; } print($i); } print("all"); }
fn task($n: int64): struct task_struct * { for ($i : 0..3) { if ($i == $n) { return curtask; } } return up(curtask); }
fn twice($n: int64): int64 { for ($i : 0..3) { if (name_of($n) == "two") { return factor(6) + $i; } } return 0; }
fn leave_in($n: int64): int64 { for ($i : 0..3) { if ($n == 2) { exit(); } if ($i == 1) { return $i; } } return 7; }
fn pairs(): typeof((1, "abc")) { for ($i : 0..3) { return ($i + 5, "x"); } return (1, "abc"); }
"""


def shown(body: str) -> list[str]:
    """The lines that a `begin` block shows, which may call the functions."""
    return run(f"{FUNCTIONS} begin {{ {body} }}").text.splitlines()


@pytest.mark.root
@tag("fn.call", "fn.def")
@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ("print((add(1, 2), sign(-5), sign(add(3, 4)), sign(0)));", "(3, -1, 1, 0)"),
        ("print(add(add(1, 2), add(3, 4)) * 2);", "20"),
        ("print(size_word(1)); print((size_word(9), size_word(2)));", "quite small\n(big, quite small)"),
        ("print((total(5), total(3), nested(10)));", "(10, 3, 21)"),
        ("print(parent(curtask) == ppid);", "true"),
        ("print((fresh(1), fresh(0)));", "(7, 0)"),
        ('print((length("abc"), length("abcdefgh"), fixed("abc")));', "(3, 8, abc)"),
        ('print(both("xy", 4)); print(both("longer text", 5));', "(5, xy)\n(6, longer text)"),
        ("print(up(curtask)->comm == pcomm); print((not(true), not(1 == 2)));", "true\n(false, true)"),
        ("_ = checked(3); checked(4); print(checked(5));", "5"),
        ("for ($i : 0..3) { print((nested($i), size_word((uint64)$i * 2))); }",
         "(0, quite small)\n(3, quite small)\n(5, big)"),
        ("leave(); print(1);", "leaving"),
        ('name_them(); print((name_of(2), name_of(3), name_of(4))); print((twice(2), twice(1)));',
         "(two, the third, none)\n(203, 0)"),
        ("print((factor(42), factor(101))); until(1); until(5);", "(607, -1)\n0\n0\n1\n2\nall"),
        ("print((task(2) == curtask, task(7) == up(curtask))); print(pairs());", "(true, true)\n(5, x)"),
        ('for ($q : 0..4) { print(leave_in($q)); } print("never");', "1\n1"),
        ("$x = add(1, 1); while ($x < 5) { $x = add($x, 1); } print($x);", "5"),
    ],
)  # fmt: skip
def test_calls(body: str, lines: str) -> None:
    assert shown(body) == lines.splitlines()


@pytest.mark.root
@tag("fn.rules", "fn.call")
def test_maps_belong_to_all() -> None:
    maps = run(f"{FUNCTIONS} begin {{ count_it(0); count_it(5); count_it(5); }}").maps
    assert (maps["@counts"], maps["@zeros"]) == ({0: 1, 5: 2}, 1)


@pytest.mark.root
@tag("fn.call")
def test_in_a_predicate_and_in_several_probes() -> None:
    text = "fn even($n: int64): bool { return $n % 2 == 0; } "
    text += "interval:us:1 /even(@n++) && @n < 7/ { @hits++; } interval:ms:1 /even(0) && @n > 9/ { exit(); }"
    assert run(text).maps["@hits"] == 3


@pytest.mark.root
@tag("prog.import.root", "prog.import.order")
def test_imported_code_runs(tmp_path: Path) -> None:
    (tmp_path / "types.h").write_text("struct from_header { int a[5]; };\n")
    (tmp_path / "lib.bt").write_text(
        "struct theirs { long a; long b; };\nmacro twice(x) { x * 2 }\nfn half($x: int64): int64 { return $x / 2; }\n"
        'begin { print("lib"); }\n'
    )
    text = (
        'struct mine { struct theirs inner; int x; };\nimport "lib.bt";\nimport "types.h";\n'
        'begin { print("main"); print((sizeof(struct mine), sizeof(struct from_header), twice(4), half(8))); exit(); }'
    )
    assert run(text, name=str(tmp_path / "main.bt")).text == "lib\nmain\n(24, 20, 8, 4)\n"


@tag("prog.import.root")
def test_a_mistake_in_imported_c_text_is_found_there(tmp_path: Path) -> None:
    from pytrace.compilation import compile_text
    from pytrace.grammar.diagnostics import CompileError

    (tmp_path / "lib.bt").write_text("struct fine { int a; };\nstruct wrong { nothing a; };\n")
    with pytest.raises(CompileError) as caught:
        compile_text('struct ours { int a; };\nimport "lib.bt"; begin { }', str(tmp_path / "main.bt"))
    (error,) = caught.value.diagnostics
    assert error.span is not None
    assert error.span.location() == f"{tmp_path}/lib.bt:2:1-29"
    assert "lib.bt:2:16: unknown type name 'nothing'" in error.message
    (tmp_path / "lib.h").write_text("struct wrong { nothing a; };\n")
    with pytest.raises(CompileError) as caught:
        compile_text('struct ours { int a; };\nimport "lib.h"; begin { }', str(tmp_path / "main.bt"))
    (error,) = caught.value.diagnostics
    assert error.message == f"{tmp_path}/lib.h:1:16: unknown type name 'nothing'"
    assert error.span is not None
    assert error.span.source.name == f"{tmp_path}/lib.h"


@pytest.mark.root
@tag("macro.overload")
def test_macros_of_the_library() -> None:
    failing = run('begin { assert(1 == 2, "no"); } end { print("end"); }')
    assert failing.text == "end\n"
    first, second = failing.errors.splitlines()
    assert first.startswith("stdlib/prelude.bt:")
    assert first.endswith("ERROR: assert failed: no")
    assert second == "stdin:1:9-29: ERROR: expanded from"
    own = 'macro assert(a, b) { print(b); } macro assert(a) { print("one"); } begin { assert(0, "mine"); assert(5); }'
    assert run(own).text == "mine\none\n"
    # what the library uses is its own, whatever the program calls like that
    beside = 'macro assert(a, b, c) { print("three"); } begin { assert(1, 2, 3); assert(0, "theirs"); print(1); }'
    assert run(beside).text == "three\n"


@tag("macro.overload")
def test_the_library_keeps_its_own_macros(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytrace.grammar.spec import REGISTRY

    library = 'macro outer(x) { inner(x) + 1 }\nmacro inner(x) { x * 10 }\nmacro word() { "library" }\n'
    monkeypatch.setattr(REGISTRY, "library", lambda: library)
    text = 'macro inner(x) { "ours" } begin { @a = outer(2); @b = inner(2); @c = word; }'
    checked = check(text)
    assert checked.errors == []
    assert checked.typed is not None
    kinds = {name: str(info.value) for name, info in checked.typed.maps.items()}
    assert kinds == {"a": "int8", "b": "string[5]", "c": "string[8]"}
    (wrong,) = check('begin { print(outer("x")); }').diagnostics.errors
    assert wrong.span is not None
    assert wrong.span.source.name == "stdlib/prelude.bt"
    assert wrong.render().count("expanded from") == 2


def fn(code: str, text: str, message: str, marks: str, tags: str = "", **more: object) -> Said:
    """A mistake in a program that has functions in front of an empty probe, or of one that calls them."""
    body = more.pop("body", "")
    return Said(code, f"begin {{ {body} }} {text}", message, marks, tags=tags, **more)  # type: ignore[arg-type]


ONE = "fn f($a: int64): int64 { return $a; }"
NOT_ALL = "Not all code paths of function 'f' return a value of type 'int64'"
MISTAKES = [
    fn("fn.def", "fn f($a: typeof($b), $b: typeof($a)): int64 { return 1; }", "The type of $a depends on itself",
       "$a: typeof($b)"),
    fn("fn.def", f"{ONE} fn f(): void {{ }}", "Redefinition of function: f", "fn f(): void { }",
       notes=((ONE, "This is the first definition."),)),
    fn("fn.def", "fn strlen(): void { }", "Redefinition of function: strlen() is a function of the language",
       "fn strlen(): void { }"),
    fn("fn.def", "fn f($x: count_t): void { }", "A parameter cannot be of type 'count_t'", "$x: count_t"),
    fn("err.type.return", "fn f($a: int64): int64 { if ($a) { return 1; } }", NOT_ALL,
       "fn f($a: int64): int64 { if ($a) { return 1; } }", "fn.rules"),
    fn("err.type.return", "fn f(): int64 { while (1) { return 1; } }", NOT_ALL,
       "fn f(): int64 { while (1) { return 1; } }", "fn.rules"),
    fn("err.type.return", "fn f(): int64 { if comptime (false) { return 1; } }", NOT_ALL,
       "fn f(): int64 { if comptime (false) { return 1; } }", "fn.rules"),
    fn("err.type.return", "fn f(): string { return 1; }", "Function 'f' is of type 'string', cannot return 'int8'",
       "return 1", "fn.rules"),
    fn("err.type.return", "fn f(): void { return 1; }", "Function 'f' is of type 'void', cannot return 'int8'",
       "return 1", "fn.rules"),
    fn("err.type.return", "fn f(): int64 { return; }", "Function 'f' is of type 'int64', cannot return 'void'",
       "return", "fn.rules"),
    fn("err.type.return", "fn f(): int8 { return 300; }", "Function 'f' is of type 'int8', cannot return 'int16'",
       "return 300", "fn.rules"),
    fn("err.type.return", "fn f(): int64 { for ($i : 0..3) { return 1; } }", NOT_ALL,
       "fn f(): int64 { for ($i : 0..3) { return 1; } }", "fn.rules"),
    fn("err.type.return", "fn f(): int8 { for ($i : 0..3) { return 300; } return 1; }",
       "Function 'f' is of type 'int8', cannot return 'int16'", "return 300", "fn.rules"),
    fn("err.call.nargs", ONE, "f() requires one argument (2 provided)", "f(1, 2)", "fn.call", body="f(1, 2);",
       notes=((ONE, "This is the function."),)),
    fn("err.call.argtype", ONE, "f() expects 'int64' for $a, 'string[2]' provided", '"x"', "fn.call", body='f("x");',
       notes=(("$a: int64", "This is the parameter."),)),
    fn("fn.call", "fn f(): void { g(); } fn g(): void { f(); }", "Recursive call of a function: f > g > f", "f()"),
    fn("err.name.func", "fn other(): void { }", "Unknown function: 'othr'", "othr()", "fn.call", body="othr();",
       hint="'other'"),
    *(fn("err.builtin.outside", f"fn f(): void {{ print({word}); }}",
         f"{word} can not be used in functions: they do not belong to one probe", word, "fn.rules",
         hint="give it to the function")
      for word in ("probe", "args", "probetype", "arg0", "retval", "func", "ctx", "usermode")),
    fn("err.call.probe", 'fn f(): void { print(reg("ip")); }',
       "reg can not be used in functions: they do not belong to one probe", 'reg("ip")', "fn.rules"),
]  # fmt: skip


@rows(MISTAKES)
def test_mistakes(said: Said) -> None:
    said.check(Severity.ERROR)


@tag("fn.rules")
@pytest.mark.parametrize("word", ["func", "arg0", "retval", "ctx"])
def test_what_belongs_to_a_probe_is_an_error(word: str) -> None:
    assert len(check(f"fn f(): void {{ print({word}); }} begin {{ }}").errors) == 1


@tag("fn.rules")
def test_pointers_are_those_of_the_kernel() -> None:
    from pytrace.grammar.types import Pointer, Space

    checked = check("fn f($p: int8 *): void { @p = $p; } begin { }")
    assert checked.typed is not None
    kind = checked.typed.maps["p"].value
    assert isinstance(kind, Pointer)
    assert kind.space is Space.KERNEL


@tag("fn.call")
def test_what_a_function_needs_its_callers_must_have() -> None:
    text = "fn who(): uint64 { return pid; } fn outer(): uint64 { return who(); } xdp:lo { print(outer()); }"
    (error,) = check(text).diagnostics.errors
    assert error.code == "err.call.probe"
    assert [label.span.text for label in error.labels] == ["pid"]


@pytest.mark.root
@tag("prog.import.root")
def test_what_the_kernel_refuses_is_found_in_the_imported_file(tmp_path: Path) -> None:
    from pytrace.compilation import compile_text
    from pytrace.runtime.bpf_object import LoadError
    from pytrace.verifier import refusal

    (tmp_path / "lib.bt").write_text("// first\nmacro forever(x) { while (x) { } 5 }\n")
    text, name = 'import "lib.bt";\nbegin {\n  $x = forever(rand);\n}', str(tmp_path / "main.bt")
    with pytest.raises(LoadError) as caught:
        run(text, name=name)
    place = refusal(caught.value, compile_text(text, name)).span
    assert place is not None
    assert place.location().startswith(f"{tmp_path}/lib.bt:2:20-")
