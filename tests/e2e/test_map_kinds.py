"""What lies behind a map must not be seen: scalars in arrays, short keys apart from long ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytrace.compilation import compile_text
from pytrace.options import Options
from tests.e2e.programs import Rule, begin, rules, run
from tests.e2e.userland import build

pytestmark = pytest.mark.root

SCALARS = [
    Rule(
        "map.delete.scalar fn.delete-scalar",
        "@x = 3; print(delete(@x)); print(@x + 0); print(delete(@x)); @x = 4; print(@x); @n++; --@n; print(delete(@n));",
        "true 0 false @x: 4 true",
    ),
    Rule(
        "map.delete.scalar fn.delete-scalar",
        "@c = count(); @c = count(); print(delete(@c)); print(delete(@c)); print((int64)@c); @c = count(); print((int64)@c);",
        "true false 0 1",
    ),
    Rule(
        "map.delete.scalar fn.delete-scalar",
        "@m = min(3); @m = min(9); print(delete(@m)); @m = min(5); print((int64)@m); @a = avg(2); delete(@a); @a = avg(8); print((int64)@a);",
        "true 5 8",
    ),
    Rule("map.scalar", "@a = (int8)-5; @b = (uint8)200; @c = true; @d = (int8 *)9; print((@a, @b, @c, @d));", "(-5, 200, true, 0x9)"),
    Rule("map.read.missing", "if (0) { @s = 1; @p = (int8 *)1; } print((@s + 0, @p));", "(0, 0x0)"),
]  # fmt: skip

LONG = "x" * 200  # longer than the keys that count as short


@rules(SCALARS)
def test_scalars(rule: Rule) -> None:
    assert rule.run() == rule.shows


@pytest.mark.tag("map.final-print", "map.scalar")
def test_a_scalar_that_was_never_stored_or_is_deleted_is_not_printed() -> None:
    body = (
        "@zero = 0; @none = 5; delete(@none); @counted = count(); @emptied = count(); delete(@emptied); "
        "@h = hist(5); @gone = hist(5); @gone = hist(500); delete(@gone); if (0) { @never = 1; @neither = lhist(1, 0, 9, 1); }"
    )
    ran = run(f"begin {{ {body} }}")
    assert ran.printed_maps.split("\n\n")[0].split() == ["@counted:", "1", "@h:", "[4,", "8)", "1", f"|{'@' * 52}|"]
    assert ran.printed_maps.split() == [*ran.printed_maps.split("\n\n")[0].split(), "@zero:", "0"]
    assert {name: value for name, value in ran.maps.items() if value is not None}.keys() == {"@counted", "@h", "@zero"}


@pytest.mark.tag("fn.clear", "fn.zero", "map.async")
def test_zero_keeps_a_scalar_and_clear_removes_it() -> None:
    ran = run(
        "begin { @a = 5; @b = count(); @c = sum(-4); @h = hist(3); zero(@a); zero(@b); zero(@c); zero(@h); "
        "@d = 5; @e = count(); @g = hist(3); clear(@d); clear(@e); clear(@g); }"
    )
    assert ran.printed_maps.split() == ["@a:", "0", "@b:", "0", "@c:", "0", "@h:"]


@pytest.mark.tag("agg.hist", "agg.lhist")
@pytest.mark.parametrize("bits", [0, 1, 5])
def test_the_outermost_buckets_of_a_scalar_histogram_are_kept(bits: int) -> None:
    ran = run(
        f"begin {{ @h = hist(-1, {bits}); @h = hist(0, {bits}); @h = hist((int64)9223372036854775807, {bits}); "
        "@l = lhist(-1, 0, 1000, 1); @l = lhist(1000, 0, 1000, 1); @l = lhist(5000, 0, 1000, 1); }"
    )
    assert sum(int(line.split("|")[0].split()[-1]) for line in ran.printed_maps.splitlines() if "|" in line) == 6


@pytest.mark.tag("map.key.types", "map.key.equality")
@pytest.mark.everywhere
@pytest.mark.parametrize("key", ["$k", "7, $k"], ids=["string", "tuple"])
def test_short_and_long_keys_are_one_map(key: str) -> None:
    """Texts of 1, 63, 64 and 200 bytes lie on both sides of the limit."""
    count = 'unroll (2) { $k = str("a"); @m[KEY] = count(); $k = str($1); @m[KEY] = count(); $k = str($2); @m[KEY] = count(); $k = str($3); @m[KEY] = count(); }'
    body = f"$k = str($3); {count.replace('KEY', key)} print(len(@m)); print((int64)@m[{key}]); print(delete(@m, ({key}))); print(has_key(@m, ({key}))); $k = str($1); print(has_key(@m, ({key}))); print(len(@m));"
    texts = ("b" * 63, "c" * 64, LONG)
    ran = run(f"begin {{ {body} }}", *texts)
    assert ran.text.split() == ["4", "2", "true", "false", "true", "3"]
    lead = "7, " if "," in key else ""
    assert sorted(ran.printed_maps.split("\n"))[-3:] == [f"@m[{lead}{text}]: 2" for text in ("a", *texts[:2])]


@pytest.mark.tag("fn.clear", "fn.zero", "map.async")
def test_clear_and_zero_reach_short_and_long_keys() -> None:
    ran = run(
        'begin { @z[str("a")] = 1; @z[str($1)] = 2; zero(@z); @c[str("a")] = 1; @c[str($1)] = 2; clear(@c); }', LONG
    )
    assert ran.printed_maps.split() == ["@z[a]:", "0", f"@z[{LONG}]:", "0"]


@pytest.mark.tag("stmt.for.map")
def test_a_map_that_is_iterated_shows_all_keys() -> None:
    body = '@m[str("a")] = 1; @m[str($1)] = 2; for ($kv : @m) { @seen[$kv.0] = $kv.1; } print((@seen["a"], @seen[str($1)], len(@seen)));'
    assert begin(body, LONG) == "(1, 2, 2)"


DEEPER = """
__attribute__((noinline)) void leaf(void) { __asm__ volatile(""); }
__attribute__((noinline)) void deep(int n) { if (n) deep(n - 1); else leaf(); __asm__ volatile(""); }
volatile int rounds = 2;
int main(void) { for (int i = 0; i < rounds; i++) for (int n = 0; n < 40; n++) deep(n); return 0; }
"""


@pytest.mark.tag("map.key.types", "map.key.equality")
def test_short_and_long_stacks_are_one_map(tmp_path: Path) -> None:
    """40 stacks of one more frame each, from what fits into the shortest tier to what fits into none."""
    path = build(tmp_path, "deeper", DEEPER, "-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls")
    ran = run(
        f"uprobe:{path}:leaf {{ @m[ustack] = count(); @n[1, ustack(raw)]++; @most = max(len(@m)); @len[len(ustack)] = count(); }}",
        command=path,
    )
    assert list(ran.maps["@m"].values()) == [2] * 40
    assert list(ran.maps["@n"].values()) == [2] * 40
    assert ran.maps["@most"] == 40
    assert len(ran.maps["@len"]) == 40


@pytest.mark.tag("map.multikey", "type.tuple.layout")
def test_a_key_of_several_parts_is_made_once() -> None:
    """Its bytes are copied where they are needed, not again for the map, and by words where they are aligned."""
    for body, most in (
        ("@[1, comm] = pid;", 16),  # of comm, which lies behind one byte
        ("$k = (comm, comm); @[$k] = $k;", 0),
    ):
        text = compile_text(f"begin {{ {body} }}", options=Options(stages=frozenset({"codegen"}))).stages["codegen"]
        assert text.count(" = load i8,") <= most
