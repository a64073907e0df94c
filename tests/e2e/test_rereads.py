"""Map elements that are not looked up again (codegen/rereads.py): programs show what a naive reading of them gives."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest

from pytrace.compilation import compile_text
from pytrace.options import Options
from tests.e2e.programs import run

pytestmark = pytest.mark.root
tag = pytest.mark.tag

State = dict[str, int]


def statements(chance: random.Random, state: State, depth: int = 0) -> Iterator[str]:
    """Statements, whose effect on `state` has happened when they come."""
    for _ in range(chance.randint(1, 4)):
        one, other, number = chance.choice("abc"), chance.choice("abc"), chance.randint(0, 3)
        match chance.randint(0, 6 if depth < 2 else 4):
            case 0:
                state[one] = number
                yield f"@{one}[tid] = {number};"
            case 1:
                state[one] = state.get(one, 0) + state.get(other, 0) + number
                yield f"@{one}[tid] = @{one}[tid] + @{other}[tid] + {number};"
            case 2:
                state[one] = state.get(one, 0) + 1
                yield f"@{one}[tid]++;"
            case 3:
                state.pop(one, None)
                yield f"delete(@{one}[tid]);"
            case 4:
                state["$x"] = state.get(one, 0) - state.get(other, 0)
                yield f"$x = @{one}[tid] - @{other}[tid];"
            case _:
                left = state.get(one, 0) < number or state.get(other, 0) == number
                yield f"if (@{one}[tid] < {number} || @{other}[tid] == {number}) {{"
                yield from statements(chance, state if left else dict(state), depth + 1)
                yield "} else {"
                yield from statements(chance, dict(state) if left else state, depth + 1)
                yield "}"


@pytest.mark.parametrize("seed", range(12))
@tag("map.read.missing")
def test_random_blocks(seed: int) -> None:
    chance, blocks, wanted = random.Random(seed), list[str](), list[str]()
    state: State = {}
    for _ in range(4):
        first, number, state["$x"] = chance.choice("abc"), chance.randint(0, 2), 0
        inside = state if state.get(first, 0) >= number else dict(state)
        body = " ".join(statements(chance, inside))
        shown = "print((@a[tid], @b[tid], @c[tid], $x, @a[tid]));"
        blocks.append(f"begin /@{first}[tid] >= {number}/ {{ let $x: int64 = 0; {body} {shown} }}")
        if inside is state:
            values = [state.get(name, 0) for name in ("a", "b", "c", "$x", "a")]
            wanted.append(f"({', '.join(map(str, values))})")
    head = "begin { @a[0] = (int64)1; @b[0] = (int64)1; @c[0] = (int64)1; }"
    assert run("\n".join((head, *blocks))).text.splitlines() == wanted, "\n".join(blocks)


@pytest.mark.parametrize(
    ("block", "lookups"),
    [
        ("/@s[tid]/ { @ns = hist(nsecs - @s[tid]); delete(@s[tid]); }", 1),
        ("{ if (@s[pid, tid] > 5) { @x[@s[pid, tid]] = count(); } }", 1),
        ("{ $d = @s[args.__syscall_nr]; print(@s[args.__syscall_nr] + $d); }", 1),
        ("/@s[tid]/ { @s[tid] += 1; print(@s[tid]); }", 2),  # in place, and what it is then
        ("{ if (pid) { print(@s[tid]); } print(@s[tid]); }", 2),  # not on every way
        ("/pid && @s[tid]/ { print(@s[tid]); }", 2),
        ("{ $k = 1; $a = @s[$k]; $k = 2; print(@s[$k] + $a); }", 2),
        ("{ $a = @s[tid]; while (pid > 5) { print(@s[tid]); } }", 2),
    ],
)
@tag("map.read.missing")
def test_how_often_is_looked_up(block: str, lookups: int) -> None:
    key = "pid, tid" if "[pid, tid]" in block else "tid"
    text = f"tracepoint:syscalls:sys_enter_getppid {{ @s[{key}] = nsecs; }} tracepoint:syscalls:sys_exit_getppid {block}"
    made = compile_text(text, options=Options(stages=frozenset({"codegen-opt"})))
    code = made.stages["codegen-opt"].partition("sys_exit_getppid_1(")[2].partition("\n}")[0]
    found = re.findall(r"inttoptr \(i64 1 to ptr\)\(ptr [^@]*@AT_s", code)
    assert len(found) == lookups, code
