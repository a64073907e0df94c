"""Memory reads, strings, warnings and limits at run time (reference part 1, section 11; part 2, section 13.4)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.programs import run

pytestmark = pytest.mark.root

C_TYPES = """
struct inner { int x; char c; };
struct outer {
  char tag; struct inner in; int arr[3]; unsigned lo : 3, hi : 5, wide : 20;
  union { int u32; unsigned char bytes[4]; };
  struct { short s1; short s2; };
  struct inner *next; char name[8]; struct inner list[2]; int grid[2][3];
  int *numbers; char *text; char **texts; unsigned long long big; signed char small; struct outer *self; void *nothing; char full[4];
};
enum color { RED, GREEN = 5, BLUE };
"""

C_PROGRAM = (
    "#include <stdlib.h>\n"
    + C_TYPES
    + """
_Static_assert(sizeof(struct outer) == 160, "");
struct inner second = { 77, 'z' };
int numbers[4] = { 10, -20, 30, -40 };
char *texts[2];
struct outer thing = { 'T', { 11, 'i' }, { 1, 2, 3 }, 5, 17, 0x54321, { 0x01020304 }, { -1, -2 }, &second, "name", { { 21, 'a' }, { 22, 'b' } },
  { { 1, 2, 3 }, { 4, 5, 6 } }, numbers, 0, texts, 0xfedcba9876543210ULL, -5, &thing, 0, { 'f', 'u', 'l', 'l' } };
char hello[] = "hello world", first[] = "first", last[] = "second", some[] = "some text";
int take(struct outer *o, int n, char *s, enum color c) { return n + (o != 0) + (s != 0) + c; }
int main(void) {
  thing.text = some; texts[0] = first; texts[1] = last;
  numbers[0] += hello[0] - 'h'; /* a probe can read only pages that are present */
  exit(take(&thing, -7, hello, BLUE) & 127);
}
"""
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program whose function `take` is called once, with pointers to known data."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "thing.c").write_text(C_PROGRAM)
    subprocess.run(["gcc", "-g0", "-O0", "-o", folder / "thing", folder / "thing.c"], check=True)
    return folder / "thing"


def taken(program: Path, body: str, **options: object) -> str:
    """What a probe on `take` shows, with its lines joined by blanks."""
    text = f"{C_TYPES}\nuprobe:{program}:take {{ $o = (struct outer *)arg0; {body} }}"
    return " ".join(run(text, command=str(program), **options).text.split())


@pytest.mark.tag("type.struct", "type.struct.field", "type.struct.source", "type.addrspace", "rt.string.field")
def test_fields(program: Path) -> None:
    assert taken(
        program,
        "print(($o->tag, $o->in.x, $o.in.c, $o->next->x, $o->next.c, $o->name, $o->small, $o->self->self->in.x));",
    ) == ("(84, 11, 105, 77, 122, name, -5, 11)")
    assert taken(
        program,
        "print($o->big); print((int32)arg1); print(str(arg2)); print(str($o->text)); print($o->nothing); print(*$o->numbers);",
    ) == ("18364758544493064720 -7 hello world some text 0x0 10")


@pytest.mark.tag("type.array", "type.array.index", "type.pointer.arith", "type.pointer")
def test_arrays_and_pointers(program: Path) -> None:
    body = "$i = (uint64)((int32)arg1 + 8); print(($o->arr[0], $o->arr[2], $o->arr[$i], $o->list[1].x, $o->list[$i].c, $o->grid[1][2], $o->grid[$i][0]));"
    assert taken(program, body) == "(1, 3, 2, 22, 98, 6, 4)"
    body = "$n = $o->numbers; print(($n[1], *($n + 2), *($n + 3), $n[3])); $n++; print(*$n); print(str($o->texts[1])); print(str(*$o->texts));"
    assert taken(program, body) == "(-20, 30, -40, -40) -20 second first"
    assert taken(
        program,
        "$p = &$o->arr; print($p);".replace("&$o->arr", "$o + 1")
        + "print((uint64)$p - (uint64)$o == sizeof(struct outer)); print(sizeof(struct outer));",
    ).split()[1:] == ["true", "160"]
    assert (
        taken(program, "print($o->arr); print($o->bytes); print($o->grid); print($o->in);")
        == "[1,2,3] [4,3,2,1] [[1,2,3],[4,5,6]] { .x = 11, .c = 105 }"
    )


@pytest.mark.tag("type.struct.anon", "type.struct.bitfield", "type.string.chararray", "val.record")
def test_bitfields_and_anonymous_members(program: Path) -> None:
    assert taken(
        program, "print(($o->lo, $o->hi, $o->wide, $o->u32, $o->bytes[0], $o->bytes[3], $o->s1, $o->s2));"
    ) == ("(5, 17, 344865, 16909060, 4, 1, -1, -2)")
    assert (
        taken(
            program,
            'print($o->name == "name"); print($o->name[0]); @n[$o->name] = 1; print(@n["name"]); print(strncmp($o->name, "nax", 2));',
        )
        == "true 110 1 0"
    )


@pytest.mark.tag("type.struct.value", "type.array.copy", "map.value.copy", "rt.struct.ref")
def test_structs_and_arrays_by_value(program: Path) -> None:
    body = "@in = $o->in; $arr = $o->arr; $in = $o->in; $s = *$o; print((@in.x, @in.c, $arr[1], $in.x, $s.next->x, $s.arr[2])); @t[$o->in] = 5; print(@t[$o->in]);"
    assert taken(program, body) == "(11, 105, 2, 11, 77, 3) 5"
    assert taken(
        program,
        "@all = *$o; $all = @all; print((@all.in.x, $all.arr[2], @all.hi, @all.next->x, @all.name, $all.list[1].c)); $t = ($o->in, 4); print($t); print($t.0.x);",
    ) == ("(11, 3, 17, 77, name, 98) ({ .x = 11, .c = 105 }, 4) 11")
    assert (
        taken(program, "print($o->in == $o->list[0]); $a = $o->arr; print($a == $o->arr); print($o->in == $o->in);")
        == "false true true"
    )


@pytest.mark.tag("type.enum", "cast.explicit", "type.ctypedef")
def test_casts_of_arguments(program: Path) -> None:
    body = "print((enum color)arg3); print((uint8)arg1); print((int8)arg1); print(((struct inner *)$o->next)->x); print((char)arg1); print((uint16)-1);"
    assert taken(program, body) == "BLUE 249 -7 77 -7 65535"
    assert (
        taken(
            program,
            "print(*(int8 *)arg2); print(*(uint16 *)arg2); print(((uint8 *)arg2)[4]); print(*arg2 & 0xff); print((bool)arg2);",
        )
        == "104 25960 111 104 true"
    )


@pytest.mark.tag("rt.read.fail", "rt.warnings", "warn.read")
def test_failing_reads_give_nothing(program: Path) -> None:
    body = "$bad = (struct outer *)8; print(($bad->tag, $bad->in.x, $bad->name, $bad->numbers, $bad->arr[1])); print(str($bad)); print(*(int32 *)8); @x = *$bad; print(@x.in.x);"
    text = f"{C_TYPES}\nuprobe:{program}:take {{ {body} }}"
    result = run(text, command=str(program))
    assert " ".join(result.text.split()) == "(0, 0, , 0x0, 0) 0 0"
    assert result.errors == ""
    loud = run(
        f"uprobe:{program}:take {{ print(*(int32 *)8); print(str(8 + arg1 * 0)); }}",
        command=str(program),
        helper_errors=True,
    )
    assert loud.text == "0\n\n"
    assert [line for line in loud.errors.splitlines() if "helper" in line or "WARNING" in line] == [
        f"stdin:1:{len(f'uprobe:{program}:take {{ print(') + 1}-{len(f'uprobe:{program}:take {{ print(*(int32 *)8') + 1}: WARNING: Bad address",
        "Additional Info - helper: probe_read_user, retcode: -14",
        f"stdin:1:{len(f'uprobe:{program}:take {{ print(*(int32 *)8); print(') + 1}-{len(f'uprobe:{program}:take {{ print(*(int32 *)8); print(str(8 + arg1 * 0)') + 1}"
        ": WARNING: Bad address",
        "Additional Info - helper: probe_read_user_str, retcode: -14",
    ]


@pytest.mark.tag("rt.string.trunc", "rt.limit.string", "type.string.size")
def test_long_strings_are_cut(program: Path) -> None:
    shown = taken(
        program,
        "print(str(arg2, 6)); print(str(arg2, 5)); $s = str(arg2); print($s); print(sizeof($s)); print(sizeof(str(arg2, 5)));",
    )
    assert shown == "hello hell hello world 1024 6"
    assert taken(program, "print($o->full); print($o->name);") == "full.. name"
    short = run(
        f"config = {{ max_strlen = 8 }} uprobe:{program}:take {{ print(str(arg2)); print(sizeof(str(arg2))); }}",
        command=str(program),
    )
    assert short.text == "hello wo..\n8\n"


@pytest.mark.tag("warn.oob", "rt.warnings", "type.array.index")
def test_array_index_out_of_bounds_warns(program: Path) -> None:
    text = f"{C_TYPES}uprobe:{program}:take {{ $o = (struct outer *)arg0; $i = (uint64)-arg1; $x = $o->arr[$i]; }}"
    errors = run(text, command=str(program)).errors
    assert ": WARNING: Array access out of bounds. This can lead to unexpected results.\n" in errors
    assert errors.splitlines()[1:] == [
        text.splitlines()[-1],
        " " * text.splitlines()[-1].index("$o->arr[$i]") + "~" * len("$o->arr[$i]"),
    ]


@pytest.mark.tag("warn.lookup", "rt.warnings")
def test_missing_elements_are_reported_on_request() -> None:
    text = "begin { @m[1] = 1; print(@m[7]); }"
    assert run(text).errors == ""
    assert run(text, helper_errors=True).errors == (
        "stdin:1:26-31: WARNING: Can't lookup map element because it does not exist.\n"
        "Additional Info - helper: map_lookup_elem, retcode: 0\n"
        "begin { @m[1] = 1; print(@m[7]); }\n"
        "                         ~~~~~\n"
    )


@pytest.mark.tag("warn.delete", "rt.warnings")
def test_deleting_what_is_not_there_warns_if_nobody_looks() -> None:
    assert run("begin { @m[1] = 1; _ = delete(@m, 2); if (delete(@m, 3)) { } }").errors == ""
    errors = run("begin { @m[1] = 1; delete(@m, 2); }").errors
    assert errors.startswith("stdin:1:20-33: WARNING: Can't delete map element because it does not exist.\n")


@pytest.mark.tag("stmt.for.range.limit", "warn.helper", "rt.warnings")
def test_too_many_rounds_do_not_start() -> None:
    result = run(
        "begin { for ($i : 0..8388609) { @n = count(); } for ($i : 0..0x200000001) { @n = count(); } for ($i : 0..3) { @n = count(); } }"
    )
    assert result.maps == {"@n": 3}
    assert result.errors.count("WARNING: Argument list too long") == 2
    assert result.errors.count("helper: loop, retcode: -7") == 2


@pytest.mark.tag("rt.limit.stack", "map.scratch", "rt.limit.string")
def test_programs_with_many_and_large_values() -> None:
    """What does not fit on the BPF stack, nor in one piece of per-CPU memory, nor within a short jump."""
    text = "str((uint64)curtask + offsetof(struct task_struct, comm))"
    variables = " ".join(f"$s{i} = {text};" for i in range(40))
    assert (
        run(
            f"begin {{ {variables} print($s0 == $s39); print($s0 == comm); }} begin {{ $x = {text}; print($x == comm); }}"
        ).text
        == "true\n" * 3
    )
    assert run(f"begin {{ unroll (60) {{ @a[{text}] = count(); }} print(@a[comm] + 0); }}").text == "60\n"
    assert (
        run(
            f"begin {{ @k[{', '.join([text] * 30)}] = 1; print(len(@k)); for ($kv : @k) {{ print($kv.0.29 == comm); }} }}"
        ).text
        == "1\ntrue\n"
    )
    assert run(f"begin {{ $x = 1; {'if ($x) { $x++; ' * 60} print($x); {'}' * 60} }}").text == "61\n"
    many = " ".join(
        f"@m = @m * 3 + {i}; if (@m == {i}) {{ print(@m); }} @t[@m, comm, {i}] = (@m, comm); @h[@m] = hist(@m);"
        for i in range(150)
    )
    assert (
        run(f"begin {{ @m = 1; {many} }}").maps["@m"]
        == run(f"begin {{ @m = 1; {' '.join(f'@m = @m * 3 + {i};' for i in range(150))} }}").maps["@m"]
    )


@pytest.mark.tag("rt.limit.stack", "stmt.for.common")
def test_nested_loops_share_many_variables() -> None:
    declared = " ".join(f"$v{i} = (uint64){i}; $w{i} = (1, {i});" for i in range(12))
    changed = " ".join(f"$v{i} += $a + $b + $c; $w{i} = ($a, $v{i} % 100);" for i in range(12))
    shown = " ".join(f"print(($v{i}, $w{i}.0));" for i in range(12))
    result = run(
        f"begin {{ {declared} for ($a : 0..3) {{ for ($b : 0..3) {{ for ($c : 0..3) {{ {changed} }} }} }} {shown} }}"
    )
    assert result.text.splitlines() == [f"({i + 81}, 2)" for i in range(12)]


@pytest.mark.tag("rt.warnings", "rt.div0")
def test_warnings_can_be_switched_off() -> None:
    text = "let @m = hash(1); begin { @m[1] = 1 / @z; @m[2] = 3; @z = 0; }"
    assert "Divide or modulo by 0" in run(text).errors
    assert "Map full" in run(text).errors
    assert "stdin" not in run(text, warnings=False).errors
