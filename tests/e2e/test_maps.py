"""Maps at run time (reference part 1, section 9; part 2, section 2.6)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.programs import Rule, rules, run

pytestmark = pytest.mark.root

ELEMENTS = [
    Rule("map.scalar", "@s = 5; @k[7] = 8; @ = 1; print((@s, @k[7], @)); @[1]++;".replace(" @[1]++;", ""), "(5, 8, 1)"),
    Rule(
        "map.multikey",
        '@m[1, "a"] = 2; print(@m[(1, "a")]); $k = (1, "a"); print(@m[$k]); @m[(2, "b")] = 3; print(@m[2, "b"]);',
        "2 2 3",
    ),
    Rule(
        "map.key.types",
        '@a["text"] = 1; @b[true] = 2; @c[(int8 *)5] = 3; @d[(1, (2, "x"))] = 4; print((@a["text"], @b[true], @c[(int8 *)5], @d[1, (2, "x")]));',
        "(1, 2, 3, 4)",
    ),
    Rule(
        "map.key.types",
        '@a[kstack(2)] = 1; @b[buf("abc", 3)] = 2; @c[comm, pid, tid] = 3; print((@b[buf("abc", 3)], @c[comm, pid, tid], len(@a)));',
        "(2, 3, 1)",
    ),
    Rule(
        "map.key.types",
        "@n = count(); @k[@n] = 5; @t[(@n, 1)] = 6; print((@k[1], @t[1, 1])); @e[1 == 1 ? 5 : 6] = 2; print(@e[5]);",
        "(5, 6) 2",
    ),
    Rule(
        "map.key.equality",
        "@m[(int8)1] = 1; @m[(int64)1]++; @m[-1] = 5; print((@m[1], @m[(int16)-1], len(@m)));",
        "(2, 5, 2)",
    ),
    Rule(
        "map.key.equality",
        '$s = "a"; @m[$s, (int8)1] = 1; $s = "abcdef"; @m[$s, (int64)2] = 2; @m["a", 1]++; print((len(@m), @m["a", 1], @m["abcdef", 2]));',
        "(2, 2, 2)",
    ),
    Rule(
        "map.key.equality",
        "@m[(uint8)1, (uint64)2] = 1; @m[(uint16)1, 2]++; print(len(@m)); @t[((int8)1, (int32)2), 3] = 4; print(@t[(1, 2), 3]);",
        "1 4",
    ),
    Rule(
        "map.value.types",
        '@a = "s"; @b = (1, "x"); @c = true; @d = (int8 *)9; @e = buf("ab", 2); @f = (n = 1); @g = kstack(3); print((@a, @b, @c, @d, @f.n)); print(sizeof(@e));',
        "(s, (1, x), true, 0x9, 1) 6",
    ),
    Rule(
        "map.value.copy",
        "@t = *curtask; print(@t.pid == tid); @c = curtask->comm; print(@c == comm); @k[1] = curtask->se; print(@k[1].load.weight > 0);",
        "true true true",
    ),
    Rule(
        "map.read.missing",
        '@i[1] = 1; @s[1] = "abc"; @t[1] = (5, "x"); print((@i[2], @s[2], @t[2])); print(len(@i)); @p[1] = (int8 *)7; print(@p[2]);',
        "(0, , (0, )) 1 0x0",
    ),
    Rule(
        "map.read.missing",
        "@x = 5; clear(@x); @b[1] = true; print(@b[0]); @st[1] = *curtask; print(@st[2].pid);",
        "false 0",
    ),
    Rule("map.increment", "@m[1]++; @m[1]++; ++@m[2]; @m[1]--; print((@m[1], @m[2], @m[3]));", "(1, 1, 0)"),
    Rule(
        "map.delete fn.delete",
        '@m[1, "a"] = 1; print(delete(@m, (1, "a"))); print(delete(@m, (1, "a"))); print(len(@m)); @s["k"] = 1; delete(@s, "k"); print(@s["k"]);',
        "true false 0 0",
    ),
    Rule(
        "map.delete.old fn.delete-old",
        "@m[1] = 1; @m[2] = 1; delete(@m[1]); print(len(@m)); @n[1, 2] = 3; delete(@n[1, 2]); print(len(@n));",
        "1 0",
    ),
    Rule("map.delete.scalar fn.delete-scalar", "@s = 5; delete(@s); print(@s + 0);", "0"),
    Rule(
        "map.has_key fn.has_key",
        '@m["a"] = 0; print((has_key(@m, "a"), has_key(@m, "b"))); @t[1, 2] = 1; print(has_key(@t, (1, 2)));',
        "(true, false) true",
    ),
    Rule(
        "map.len fn.len",
        "@m[1] = 1; @m[2] = 1; @m[1] = 3; print(len(@m)); delete(@m, 1); print(len(@m)); @c[5] = count(); print(len(@c));",
        "2 1 1",
    ),
    Rule(
        "map.percpu.read",
        "@c[1] = count(); @c[1] = count(); @s[1] = sum(-5); @mi[1] = min(7); @ma[1] = max(-7); @av[1] = avg(-9);"
        "print((@c[1], @s[1], @mi[1], @ma[1], @av[1])); print(@c[2] + 0);",
        "(2, -5, 7, -7, -9) 0",
    ),
    Rule("rt.agg.percpu", "@c = count(); @c = count(); @s = sum(1); @s = sum(2); print((@c, @s));", "(2, 3)"),
    Rule(
        "map.scratch rt.limit.stack",
        '@m["a rather long key that is longer than thirty-two bytes"] = "a value that is also longer than thirty-two bytes";'
        'print(@m["a rather long key that is longer than thirty-two bytes"]);',
        "a value that is also longer than thirty-two bytes",
    ),
]


@rules(ELEMENTS)
def test_map(rule: Rule) -> None:
    assert rule.run() == rule.shows


@pytest.mark.tag("map.async", "fn.clear", "fn.zero", "rt.async")
def test_clear_and_zero_happen_when_the_tracer_reads_them() -> None:
    result = run(
        "begin { @a[1] = 5; @b[1] = 5; @c = 5; clear(@a); zero(@b); clear(@c); print(@a); print(@b); @late[1] = @a[1]; }"
    )
    assert result.text == "@b[1]: 0\n"
    assert result.maps == {"@a": {}, "@b": {1: 0}, "@c": None, "@late": {1: 5}}


@pytest.mark.tag("map.final-print")
def test_maps_are_printed_at_the_end() -> None:
    program = 'begin { @z = 1; @a["x"] = 2; @e[1] = 3; delete(@e, 1); @c[1, "y"] = count(); }'
    assert run(program).printed_maps == "@a[x]: 2\n@c[1, y]: 1\n@z: 1\n"
    assert run(f"config = {{ print_maps_on_exit = false }} {program}").printed_maps == ""


@pytest.mark.everywhere  # before Linux 6.4 the helper gives an int
@pytest.mark.tag("map.full", "warn.map-full", "rt.limit.map", "rt.warnings", "map.decl", "map.kind")
def test_a_full_map_refuses_and_warns() -> None:
    result = run("let @m = hash(2); begin { @m[1] = 1; @m[2] = 2; @m[3] = 3; @m[1] = 7; }")
    assert result.maps == {"@m": {1: 7, 2: 2}}
    first, info, *_ = result.errors.splitlines()
    assert first == (
        "stdin:1:49-54: WARNING: Map full; can't update element. Try increasing max_map_keys config or manually setting "
        "the max entries in a map declaration e.g. `let @a = hash(5000)`"
    )
    assert info == "Additional Info - helper: map_update_elem, retcode: -7"
    default = run("begin { for ($i : 0..5000) { @m[$i] = $i; } }")
    assert len(default.maps["@m"]) == 4096
    assert "Map full" in default.errors


@pytest.mark.tag("map.decl", "map.kind", "map.full")
def test_declared_kinds() -> None:
    lru = run(
        "let @l = lruhash(64); let @c = percpuhash(3); let @p = percpulruhash(100); begin { for ($i : 0..1000) { @l[$i] = $i; } "
        "@c[1] = count(); @p[1] = sum(4); @p[1] = sum(5); }"
    )
    assert lru.errors == ""
    assert 0 < len(lru.maps["@l"]) <= 64
    assert (lru.maps["@c"], lru.maps["@p"]) == ({1: 1}, {1: 9})
    few = run("config = { max_map_keys = 3 } begin { for ($i : 0..9) { @m[$i] = 1; } }")
    assert len(few.maps["@m"]) == 3


@pytest.mark.everywhere
@pytest.mark.tag("map.key.equality", "fn.str")
def test_keys_of_all_lengths_in_turn(tmp_path: Path) -> None:
    """Short keys have a map of their own, and what a longer one left behind them in memory must not matter."""
    lengths = (1000, 5, 64, 62, 63, 65, 400, 2, 63, 64, 900, 63, 4000, 30)
    names = [f"/{'x' * (length - 2)}{number % 10}" for number, length in enumerate(lengths)]
    script = tmp_path / "calls.py"
    script.write_text(f"import os\nfor name in {names!r} * 3:\n    os.access(name, 0)")
    text = """
    tracepoint:syscalls:sys_enter_access /pid == cpid/ {
        @n[str(args.filename)] = count(); @last[str(args.filename)] = args.mode + 7; @len[strlen(str(args.filename))]++;
        if (@last[str(args.filename)] == 7) { @found = count(); }
        @gone[str(args.filename)] = 1; delete(@gone[str(args.filename)]);
    }
    """
    found = run(text, command=f"{sys.executable} -S {script}").maps
    wanted = {name[:1023]: 3 for name in names}
    assert {name: count for name, count in found["@n"].items() if name in wanted} == wanted
    assert {name: value for name, value in found["@last"].items() if name in wanted} == dict.fromkeys(wanted, 7)
    assert found["@found"] >= 3 * len(names)
    assert not found.get("@gone")
