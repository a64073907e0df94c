"""Aggregations on the running kernel: known values in, exact pictures out (reference part 2, section 3)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pytrace.api import trace
from pytrace.grammar.diagnostics import CompileError

pytestmark = pytest.mark.root


def shown(text: str, *params: object) -> str:
    """What a program writes on standard output."""
    with trace(text, params) as running:
        return "".join(output.text for output in running.outputs() if not output.error)


def maps(text: str) -> dict[str, Any]:
    """The maps that a program leaves behind."""
    with trace(text) as running:
        running.run()
        return running.maps


def refused(text: str) -> list[str]:
    """The messages with which the compiler refuses a program."""
    with pytest.raises(CompileError) as caught, trace(text):
        pass
    return [d.message for d in caught.value.diagnostics if d.severity.value == "ERROR"]


@pytest.mark.tag("agg.hist", "agg.hist-bucket", "out.hist", "out.hist-label", "type.hist")
def test_hist() -> None:
    values = (-3, 0, 1, 5, 6, 7, 9)
    assert (
        shown(f"begin {{ {' '.join(f'@ = hist({v});' for v in values)} }}")
        == """\


@:
(..., 0)               1 |@@@@@@@@@@@@@@@@@                                   |
[0]                    1 |@@@@@@@@@@@@@@@@@                                   |
[1]                    1 |@@@@@@@@@@@@@@@@@                                   |
[2, 4)                 0 |                                                    |
[4, 8)                 3 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[8, 16)                1 |@@@@@@@@@@@@@@@@@                                   |

"""
    )


@pytest.mark.tag("agg.hist", "agg.hist-bucket", "out.hist-label")
def test_hist_with_finer_buckets() -> None:
    assert (
        shown("begin { @q = hist(1900, 2); @q = hist(2100, 2); @q = hist(4200, 2); }")
        == """\


@q:
[1792, 2048)           1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[2048, 2560)           1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[2560, 3072)           0 |                                                    |
[3072, 3584)           0 |                                                    |
[3584, 4K)             0 |                                                    |
[4K, 5K)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

"""
    )


@pytest.mark.tag("agg.hist-bucket")
@pytest.mark.parametrize("bits", [0, 1, 3, 5])
def test_values_of_every_size_land_in_their_bucket(bits: int) -> None:
    values = [0, 1, 2, 3, 31, 32, 33, 63, 64, 1000, 1023, 1024, 123456789, 1 << 40, (1 << 62) + 5]
    lines = " ".join(f"@[{v}] = hist((int64){v}, {bits});" for v in values)
    found = maps(f"begin {{ {lines} @[-1] = hist((uint64)1 << 63, {bits}); }}")["@"]
    for value in values:
        (bucket,) = found[value].buckets
        assert bucket.lo <= value < bucket.hi
        assert bucket.count == 1
    (negative,) = found[-1].buckets
    assert (negative.lo, negative.hi) == (None, 0)


@pytest.mark.tag("agg.lhist", "agg.lhist-bucket", "out.lhist")
def test_lhist() -> None:
    lines = " ".join(f"@l = lhist({v}, 0, 50, 10);" for v in (-1, 4, 5, 12, 35, 50, 400))
    assert (
        shown(f"begin {{ {lines} }}")
        == """\


@l:
(..., 0)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[0, 10)                2 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[10, 20)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[20, 30)               0 |                                                    |
[30, 40)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[40, 50)               0 |                                                    |
[50, ...)              2 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

"""
    )
    lines = " ".join(f"@l = lhist({v}, 0, 10, 3);" for v in (2, 9, 10, 11))
    assert shown(f"begin {{ {lines} }}").splitlines()[3:] == [
        "[0, 3)                 1 |@@@@@@@@@@@@@@@@@                                   |",
        "[3, 6)                 0 |                                                    |",
        "[6, 9)                 0 |                                                    |",
        "[9, ...)               3 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|",
        "",
    ]


@pytest.mark.tag("agg.stats", "agg.avg", "out.stats")
def test_stats_and_avg() -> None:
    text = shown('begin { @io["rd"] = stats(10); @io["rd"] = stats(30); @w = avg(7); @w = avg(8); }')
    assert text == "\n\n@io[rd]: { .count = 2, .average = 20, .total = 40 }\n@w: 7\n"


@pytest.mark.tag("agg.count", "agg.sum", "agg.min", "agg.max", "agg.avg", "type.agg")
def test_plain_aggregations() -> None:
    calls = "@c = count(); @s = sum({0}); @l = min({0}); @h = max({0}); @a = avg({0});"
    lines = " ".join(calls.format(value) for value in (5, -9, 2))
    assert maps(f"begin {{ {lines} }}") == {"@c": 3, "@s": -2, "@l": -9, "@h": 5, "@a": 0}
    found = maps(f"begin {{ {calls.format('(uint8)250')} {calls.format('(uint8)251')} }}")
    assert found == {"@c": 2, "@s": 501, "@l": 250, "@h": 251, "@a": 250}


@pytest.mark.tag("type.agg.sign")
def test_a_map_is_signed_if_any_argument_is() -> None:
    found = maps(
        "begin { @a = sum((uint64)1 << 63); @b = sum((uint64)1 << 63); @b = sum((int32)1);"
        " @c = max((uint64)5); @c = max((int32)-1); @d = min((int32)-1); @d = min((uint64)5); }"
    )
    assert found == {"@a": 1 << 63, "@b": 1 - (1 << 63), "@c": 5, "@d": -1}


@pytest.mark.tag("rt.agg.percpu", "agg.sync-read", "map.percpu.read")
def test_every_cpu_counts_for_itself_and_readers_add_up(tmp_path: Path) -> None:
    """The same system call from every CPU: the picture from user space and the value in the program agree."""
    cpus = sorted(os.sched_getaffinity(0))
    work = (
        "import os, sys\n"
        "for cpu in map(int, sys.argv[1:]):\n"
        "    os.sched_setaffinity(0, [cpu])\n"
        "    for _ in range(100): os.getppid()\n"
    )
    program = (
        "tracepoint:syscalls:sys_enter_getppid /pid == cpid/ "
        "{ @count = count(); @sum = sum(3); @max = max(cpu); @min = min(cpu); @avg = avg(10);"
        " @by[cpu] = count(); }"
        ' end { printf("%d %d %d %d %d", (int64)@count, @sum + 0, (int64)@max, (int64)@min, (int64)@avg); }'
    )
    script = tmp_path / "work.py"
    script.write_text(work)
    command = " ".join([sys.executable, str(script), *map(str, cpus)])
    with trace(program, command=command) as running:
        text = "".join(o.text for o in running.outputs() if o.kind == "printf")
        found = running.maps
    total = 100 * len(cpus)
    assert text == f"{total} {3 * total} {cpus[-1]} {cpus[0]} 10"
    assert found["@by"] == dict.fromkeys(cpus, 100)
    assert (found["@count"], found["@sum"]) == (total, 3 * total)


@pytest.mark.tag("agg.sync-read", "type.agg.cast")
def test_castable_aggregations_become_integers() -> None:
    program = """begin {
        @c = count(); @c = count(); @s = sum(-5); @a = avg(-7); @a = avg(-8); @m[1] = max(9);
        $x = @c; @i = 1; @i = @s; @k[@c] = 1;
        printf("%d %d %d %s ", $x + 1, @c > 1, (int64)@a, @s);
        print((@c, @m[1])); print(@m[2] + 1);
    }"""
    assert shown(program) == "3 1 -7 -5 (2, 9)\n1\n\n\n@a: -7\n@c: 2\n@i: -5\n@k[2]: 1\n@m[1]: 9\n@s: -5\n"


@pytest.mark.tag("agg.sync-read", "type.agg.sign")
def test_signed_aggregations_compare_as_signed() -> None:
    program = """begin {
        @mi = min((int64)-1); @ma = max(-3); @av = avg((int8)-5); @s[1] = sum(-4); @n = count(); @u = max((uint64)-1);
        @mx = min((uint64)5); @mx = min((int64)-1);
        print((@mi < 0, @ma >= 0, 0 > @av, @s[1] < 1, @s[2] < 0, @mx < 0, @av < @mi, @n > @s[1], @u > 5, @u < 0));
        if (@s[1] > 3) { print("positive"); } print(@ma < 0 ? "less" : "more"); clear(@s);
    }"""
    assert shown(program).split("\n")[:2] == ["(true, false, true, true, false, true, true, true, true, false)", "less"]


@pytest.mark.tag("agg.sync-read", "fn.kptr", "fn.uptr", "fn.bswap", "fn.strerror")
def test_functions_take_aggregations_as_integers() -> None:
    program = """begin {
        @n = count(); @s = sum(-3); printf("%d %d %s %s ", kptr(@n), uptr(@s), strerror(@n), ksym(@n));
        print((kptr(@s), bswap(@n) >> 56)); print(uptr(@n)); clear(@n); clear(@s);
    }"""
    assert shown(program) == "1 -3 Operation not permitted 0x1 (-3, 1)\n1\n\n\n"


@pytest.mark.tag("agg.sync-read", "agg.hist", "agg.stats")
def test_an_aggregation_that_is_no_integer_may_be_a_statement() -> None:
    program = """begin {
        @h = hist(1); @h; @st["a"] = stats(2); @st["a"]; _ = @h; if (pid) { @h } else { @st["b"] }
        clear(@h); clear(@st); print("here");
    }"""
    assert shown(program) == "here\n\n\n"


@pytest.mark.tag("out.map", "out.map-top", "out.map-div", "map.multikey")
def test_order_top_and_div() -> None:
    program = """begin {
        @n["b"] = (int64)5; @n["a"] = 2; @n["c"] = 9; @t[2, "x"] = "late"; @t[1, "y"] = "early";
        print(@n, 2); print(@n, 0, 2); clear(@n);
    }"""
    assert shown(program) == ("@n[b]: 5\n@n[c]: 9\n@n[a]: 1\n@n[b]: 2\n@n[c]: 4\n\n\n@t[1, y]: early\n@t[2, x]: late\n")


@pytest.mark.tag("fn.clear", "fn.zero", "out.map")
def test_clear_and_zero() -> None:
    program = """begin {
        @g = 1; clear(@g); @k["a"] = count(); clear(@k); @h = hist(3); zero(@h); @c["a"] = count(); zero(@c);
        @m = min(7); zero(@m); @a = avg(7); zero(@a); @x = 5; zero(@x);
    }"""
    assert shown(program) == "\n\n@a: 0\n@c[a]: 0\n@h:\n\n@m: 0\n@x: 0\n"


@pytest.mark.tag("type.agg.assign", "type.agg.single", "type.agg.opaque", "agg.hist", "agg.lhist", "agg.sum")
@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("begin { @x = hist(1, 6); }", "hist: bits 6 must be 0..5"),
        ("begin { @x = hist(1, 2); @x = hist(1, 3); }", "Different bits in a single hist unsupported"),
        (
            "begin { @x = lhist(1, 0, 9, 1); @x = lhist(1, 0, 8, 1); }",
            "Different lhist bounds in a single map unsupported",
        ),
        ("begin { @x = lhist(1, 0, 5, 0); }", "lhist() step must be >= 1 (0 provided)"),
        ("begin { @x = lhist(1); }", "lhist() requires 4 arguments (1 provided)"),
        ("begin { @x = hist(1, 2, 3); }", "hist() takes up to 2 arguments (3 provided)"),
        ('begin { @x = sum("a"); }', "sum() only supports integer arguments (string provided)"),
        (
            "begin { @x = count(); @x = sum(5); }",
            "Type mismatch for @x: trying to assign value of type 'sum_t' when map already has a type 'count_t'",
        ),
        ("begin { @x = hist(1); $y = @x; }", "Value 'hist_t' cannot be assigned to a scratch variable."),
        (
            "begin { @x[1] = hist(1); print(@x[1]); }",
            "Map type hist_t cannot print the value of individual keys. You must print the whole map.",
        ),
    ],
)
def test_refusals(program: str, message: str) -> None:
    assert refused(program) == [message]
