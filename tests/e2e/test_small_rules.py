"""Small rules of the language that stand alone, on this kernel (the tags say which)."""

from __future__ import annotations

import pytest

from pytrace.api import trace
from pytrace.grammar.diagnostics import CompileError
from tests.e2e.facts import COMM, refused
from tests.e2e.programs import Rule, begin, rules, run

pytestmark = pytest.mark.root
tag = pytest.mark.tag


@tag("bi.sargN")
@pytest.mark.parametrize("body", ["print(sarg0);", "$x = sarg12;", "@[sarg1] = 1;", 'printf("%d", sarg3 + 1);'])
def test_sargs_are_gone(body: str) -> None:
    with pytest.raises(CompileError) as caught:
        trace(f"begin {{ {body} }}").__enter__()
    (found,) = caught.value.diagnostics
    assert found.message == "sarg* is deleted. This was deprecated in v0.21 and was last available in v0.24."
    assert found.hints == ('Use *(reg("sp") + <stack_offset>) instead.',)


@rules(
    [
        Rule("fn.typeof", "let $x: typeof((uint8)1) = 255; $x++; print($x); print(sizeof($x));", "0 1"),
        Rule("fn.typeof", 'let $s: typeof(comm) = "ab"; print($s); print(sizeof($s));', "ab 16"),
        Rule("fn.typeof", "print((typeof((int8)1))200);", "-56"),
        Rule("fn.typeof", "let $x: typeof(uint16) = 65535; print(sizeof($x));", "2"),
        # its operand is not evaluated
        Rule("fn.typeof", "$a = 1; let $b: typeof($a++) = 9; print(($a, $b));", "(1, 9)"),
        Rule("fn.typeof", "@m[(uint8)1] = (int16)4; let $v: typeof(@m[1]) = 3; print(sizeof($v));", "2"),
        Rule("fn.typeof", "let $t: typeof(curtask) = curtask; print($t.pid == tid);", "true"),
        Rule("fn.typeof", 'let $t: typeof((1, "abc")) = (7, "xyz"); print($t);', "(7, xyz)"),
        Rule("type.record", 'print((a = 1, b = "x", c = (d = (uint8)4)));', "{ .a = 1, .b = x, .c = { .d = 4 } }"),
        Rule(
            "type.record",
            "$r = (a = (int64)1, b = comm); print(sizeof($r)); print($r.a + 1); print($r.b);",
            f"24 2 {COMM}",
        ),
        Rule(
            "type.record",
            "$r = (a = (uint8)1, b = (int64)2, c = true); print(sizeof($r)); print($r);",
            "24 { .a = 1, .b = 2, .c = true }",
        ),
        Rule("type.record", "@[(k = 1, v = 2)] = 5; print(@[(k = 1, v = 2)]); print(@[(k = 1, v = 3)]);", "5 0"),
        Rule("type.record fn.typeof", "$r = (a = 1, b = 2); let $s: typeof($r) = (a = 3, b = 4); print($s.b);", "4"),
    ]
)
def test_rules(rule: Rule) -> None:
    assert rule.run() == rule.shows


@tag("fn.typeof", "type.record")
def test_what_types_are_not() -> None:
    assert refused("begin { print(typeof(1)); }") == ["A type cannot be used as a value here"]
    (message,) = refused("begin { $r = (a = 1, b = 2); print($r.c); }")
    assert "does not contain a field named 'c'" in message


@tag("warn.flow.print-loop")
def test_printing_a_map_in_a_loop() -> None:
    warning = (
        "Due to it's asynchronous nature using 'print()' in a loop can lead to unexpected behavior. The map will likely "
        "be updated before the runtime can 'print' it."
    )
    map_ = "@m[1] = 1;"
    assert warning in run(f"begin {{ {map_} for ($i : 0..2) {{ print(@m); }} }}").words
    assert warning in run(f"begin {{ {map_} $i = 0; while ($i < 2) {{ print(@m); $i++; }} }}").words
    assert warning not in run(f"begin {{ {map_} unroll (2) {{ print(@m); }} print(@m); }}").words
    assert warning not in run(f"begin {{ {map_} for ($i : 0..2) {{ print(@m[1]); print($i); }} }}").words


@tag("prog.config.names", "cfg.old")
@pytest.mark.parametrize(
    "name", ["max_strlen", "MAX_STRLEN", "Max_StrLen", "BPFTRACE_MAX_STRLEN", "bpftrace_max_strlen"]
)
def test_spellings_of_settings(name: str) -> None:
    text = "begin { print(sizeof(str(curtask))); }"
    head = f"config = {{ {name} = 20 }} "
    assert run(head + text).text.split() == ["20"]
    # the environment wins
    assert run(head + text, environment=(("BPFTRACE_MAX_STRLEN", "30"),)).text.split() == ["30"]


@tag("prog.config.names", "cfg.old")
def test_names_of_settings_that_have_changed() -> None:
    result = run("config = { strlen = 10; unstable_macro = 1; symbol_source = 2 } begin { print(config.max_strlen); }")
    assert result.text.split() == ["10"]
    assert result.words == [
        "strlen has been renamed, please use max_strlen",
        "unstable_macro is deprecated and has no effect",
        "symbol_source is deprecated and has no effect",
    ]
    assert refused("config = { max_strlne = 20 } begin { }") == ["max_strlne: not a known configuration option"]


@tag("probe.wildcard.type")
def test_a_wildcard_for_the_type_of_probe() -> None:
    found = run("t*point:sched:sched_switch { @[probe] = count(); exit(); }").maps["@"]
    assert list(found) == ["tracepoint:sched:sched_switch"]
    assert refused("zz*:sched:sched_switch { }") == ["Invalid probe type: zz*"]
    # of several types, those that want another number of parts are left out: here only usdt and uprobe are possible
    assert refused("u*obe:/no/such/file:main { }") == refused("uprobe:/no/such/file:main { }")


@tag("probe.wildcard.bracket")
def test_brackets_match_themselves() -> None:
    with pytest.raises(CompileError) as caught:
        trace("tracepoint:[s]ched:sched_switch { }").__enter__()
    messages = [d.message for d in caught.value.diagnostics]
    assert messages == [
        "Probe has no valid attach points.",
        "No matches for tracepoint [s]ched:sched_switch. Skipping.",
    ]
    assert begin("print(1);") == "1"
