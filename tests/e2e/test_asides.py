"""What programs do seldom is in functions that they share (codegen/records.py): compiled once, and nothing else shows."""

from __future__ import annotations

import re

import pytest

from pytrace.compilation import compile_text
from pytrace.options import Options
from tests.e2e.programs import run

pytestmark = pytest.mark.root
tag = pytest.mark.tag


def asides(text: str) -> list[str]:
    """The functions of an object that are none of the blocks' own."""
    made = compile_text(text, options=Options(stages=frozenset({"codegen"})))
    return re.findall(r'define internal i64 @"(count_lost|send_warning|update_failed)"', made.stages["codegen"])


@tag("rt.warnings")
def test_each_is_made_once() -> None:
    many = 'begin { @a[1] = 1; @b[2] = 2; $x = pid; print(5 / $x); printf("x"); @c[1]++; }'
    assert sorted(asides(f"{many} end {{ @d[4] = 4; print(4 / pid); }}")) == ["count_lost", "send_warning", "update_failed"]
    assert asides(f"config = {{ on_stack_limit = 0 }} {many}") == []
    assert asides("iter:task { @[pid] = 1; }") == []


@pytest.mark.everywhere
@tag("map.full", "warn.map-full")
@pytest.mark.parametrize("limit", ["", "on_stack_limit = 0;"])
def test_full_maps_are_told_of_and_counted_by_map(limit: str) -> None:
    text = f"""config = {{ max_map_keys = 2; {limit} }}
    begin {{
        for ($i : 0..6) {{ @a[(int64)$i] = 1; for ($j : 0..3) {{ @b[(int64)$i, $j] = count(); }} }}
        @c = 7 / @a[5]; exit();
    }}"""
    found = run(text)
    assert found.errors.count("Map full") == 2  # the first time of each map
    assert found.errors.count("Divide or modulo by 0") == 1
    assert re.findall(r"@(\w): (\d+) updates lost", found.errors) == [("a", "4"), ("b", "16")]
