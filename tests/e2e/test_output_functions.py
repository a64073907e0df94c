"""What programs show: printf, print, time, join, strftime and the like on the running kernel."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pytrace.api import trace
from pytrace.grammar.diagnostics import CompileError
from pytrace.grammar.spec import Output

pytestmark = pytest.mark.root


def outputs(text: str, **options: Any) -> list[Output]:
    """Everything that a program shows between the start and its maps."""
    with trace(text, **options) as running:
        found = list(running.outputs())
    kinds = [o.kind for o in found]
    return found[1 : kinds.index("maps_follow")]


def shown(text: str, **options: Any) -> str:
    """What a program writes on standard output, without its maps."""
    return "".join(o.text for o in outputs(text, **options) if not o.error)


def refused(text: str) -> list[str]:
    """The messages with which the compiler refuses a program."""
    with pytest.raises(CompileError) as caught, trace(text):
        pass
    return [d.message for d in caught.value.diagnostics if d.severity.value == "ERROR"]


@pytest.mark.tag("fn.printf", "fmt.spec", "fmt.d", "fmt.x", "fmt.c", "fmt.s", "fmt.width", "fmt.len")
@pytest.mark.tag("fmt.r", "fmt.rx", "fmt.rh")
def test_printf() -> None:
    program = r"""enum colour { RED = 2, BLUE = 5 };
    begin {
      $v = (uint64)0x1122334455667788;
      printf("%5d|%-5d|%05d|%x|%lx|%hhx|%c|%%\n", 42, 42, 42, $v, $v, $v, 65);
      printf("%8s|%-8s|%s|%d|%s|%s\n", "ab", "cd", BLUE, BLUE, true, (1, "z"));
      printf("%r %rx %rh\n", buf("ok\x01", 3), buf("ok", 2), buf("ok", 2));
    }"""
    assert shown(program) == (
        "   42|42   |00042|55667788|1122334455667788|88|A|%\n"
        "      ab|cd      |BLUE|5|true|(1, z)\n"
        "ok\\x01 \\x6f\\x6b 6f 6b\n"
    )


@pytest.mark.tag("fmt.d", "fmt.u", "fmt.x", "fmt.p", "fmt.len", "rt.int.sub")
def test_numbers() -> None:
    program = r"""begin {
      printf("%d %u %lu %ld\n", (uint64)3 - (uint64)5, -1, (uint64)3 - (uint64)5, (int64)1 << 40);
      printf("%o %X %#x %p %p\n", 8, 48879, 255, (uint64)31, (uint64)0);
      printf("%hd %hhd %d\n", 0x18000, 0x1ff, (uint64)1 << 32);
    }"""
    assert shown(program) == ("-2 4294967295 18446744073709551614 1099511627776\n10 BEEF 0xff 0x1f 0\n-32768 -1 0\n")


@pytest.mark.tag("fn.print", "fmt.default", "val.int", "val.bool", "val.string", "val.tuple", "val.pointer", "val.enum")
def test_print() -> None:
    program = r"""enum colour { RED = 2, BLUE = 5 };
    begin {
      print(-5); print((uint8)250); print(1 == 1); print("a\"b"); print((1, "x", (2, 3))); print((int8*)0);
      print((int8*)0xffff888000000000); print(RED); print(buf("a\xff", 2));
    }"""
    assert shown(program) == ('-5\n250\ntrue\na"b\n(1, x, (2, 3))\n0x0\n0xffff888000000000\nRED\na\\xff\n')


@pytest.mark.tag("fn.print", "rt.async")
def test_a_map_is_printed_as_it_is_when_the_tracer_gets_to_it() -> None:
    program = """begin {
        @hits["x"] = 4; print(@hits); print(@hits["x"]); print((7, "ok", true)); @hits["x"] = 9;
    }"""
    assert shown(program) == "@hits[x]: 9\n4\n(7, ok, true)\n"


@pytest.mark.tag("json.printf", "json.value", "json.map", "json.time")
def test_what_json_and_python_get() -> None:
    program = 'printf("hi %d\\n", 3); print((1, "x")); @m[1, "a b"] = 7; print(@m); time("%Y");'
    found = outputs(f"begin {{ {program} }}")
    year = time.strftime("%Y")
    assert [(o.kind, o.data) for o in found] == [
        ("printf", "hi 3\n"), ("value", [1, "x"]), ("map", {"@m": {"1,ab": 7}}), ("time", year),
    ]  # fmt: skip
    assert [o.values for o in found[:2]] == [(3,), ((1, "x"),)]


@pytest.mark.tag("fn.exit", "run.finish")
def test_exit() -> None:
    program = 'begin { printf("a"); exit(300); printf("b"); } end { printf("end"); }'
    with trace(program) as running:
        text = "".join(o.text for o in running.outputs() if o.kind == "printf")
        assert (text, running.exit_code) == ("aend", 44)
        assert [w.message for w in running.warnings] == ["Unreachable statement."]


@pytest.mark.tag("fn.time")
def test_time() -> None:
    before = int(time.time())
    text = shown('begin { time("%s %%\\n"); time(); }')
    seconds, clock = text.splitlines()
    assert before <= int(seconds.removesuffix(" %")) <= before + 5
    assert re.fullmatch(r"\d\d:\d\d:\d\d", clock)


@pytest.mark.tag("fn.strftime", "val.timestamp", "type.timestamp")
def test_strftime() -> None:
    before = time.time()
    text = shown('begin { printf("%s\\n", strftime("%s.%f", nsecs)); }')
    assert abs(float(text) - before) < 5
    assert re.fullmatch(r"\d+\.\d{6}\n", text)
    assert refused('begin { print(strftime("%Y", nsecs(monotonic))); }') == [
        "strftime() can not take a monotonic timestamp"
    ]


@pytest.mark.tag("fn.join")
def test_join(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(
        "import subprocess\n"
        "subprocess.run(['/bin/true', 'a b', 'c'])\n"
        "subprocess.run(['/bin/true', *(f'x{i}' for i in range(20))])\n"
        "subprocess.run(['/bin/true', 'y', '', 'z'])\n"
    )
    program = (
        'tracepoint:syscalls:sys_enter_execve /str(args.filename) == "/bin/true"/ { join(args.argv, ","); }'
        " interval:s:20 { exit(1); }"
    )
    text = shown(program, command=f"{sys.executable} {script}")
    many = ",".join(f"x{i}" for i in range(15))
    assert text == f"/bin/true,a b,c\n/bin/true,{many}\n/bin/true,y\n"


@pytest.mark.tag("fn.errorf", "fn.warnf", "diag.errorf", "json.errorf")
def test_errorf_and_warnf() -> None:
    error, warning = outputs('begin { errorf("depth %d", 3); warnf("w\\n"); }')
    assert (error.text, error.error) == ("stdin:1:9-30: ERROR: depth 3\n", True)
    assert error.fields == {"msg": "depth 3", "filename": "stdin", "line": 1, "col": 9}
    assert (warning.text, warning.kind) == ("stdin:1:32-44: WARNING: w\n", "warnf")


@pytest.mark.tag("fn.cat")
def test_cat(tmp_path: Path) -> None:
    (tmp_path / "file7").write_text("hello")
    found = outputs(f'begin {{ cat("{tmp_path}/file%d", 7); cat("{tmp_path}/none"); }}')
    assert [o.text for o in found] == [
        "hello", f"ERROR: failed to open file '{tmp_path}/none' (No such file or directory)\n",
    ]  # fmt: skip


@pytest.mark.tag("fn.system")
def test_system() -> None:
    found = outputs('begin { system("echo out%d", 1); system("exit 3"); }', unsafe=True)
    assert found[0].text == "out1\n\n"
    assert found[1].text.startswith("ERROR: command exited with code 3")
    assert refused('begin { system("true"); }') == ["system() is an unsafe function being used in safe mode"]


@pytest.mark.tag("warn.div0", "rt.div0", "json.runtime_error")
def test_division_by_zero() -> None:
    program = "begin { $a = 0; print(5 / $a); }"
    warning, value = outputs(program)
    assert warning.text == (
        "stdin:1:23-29: WARNING: Divide or modulo by 0 detected. This can lead to unexpected results. "
        f"1 is being used as the result.\n{program}\n{' ' * 22}~~~~~~\n"
    )
    assert warning.kind == "runtime_error"
    assert value.text == "1\n"


@pytest.mark.tag("warn.map-full", "map.full", "json.helper_error")
def test_a_full_map() -> None:
    program = "let @m = hash(1); begin { @m[1] = 1; @m[2] = 2; }"
    (warning,) = outputs(program)
    first, second, *_ = warning.text.splitlines()
    assert first.startswith("stdin:1:38-43: WARNING: Map full; can't update element. Try increasing ")
    assert second == "Additional Info - helper: map_update_elem, retcode: -7"
    assert warning.fields is not None
    assert warning.fields["msg"] == "Argument list too long"


@pytest.mark.tag("warn.delete")
def test_a_delete_of_what_is_not_there() -> None:
    warning, _ = outputs("begin { @m[1] = 1; delete(@m, 2); print(@m[7]); }")
    first = warning.text.splitlines()[0]
    assert first.endswith("WARNING: Can't delete map element because it does not exist.")


@pytest.mark.tag("fmt.check")
@pytest.mark.parametrize(
    ("program", "message"),
    [
        ('begin { printf("%d"); }', "not enough arguments for format string (0 supplied, 1 expected)"),
        ('begin { printf("x", 1, 2); }', "too many arguments for format string (2 supplied, 0 expected)"),
        ('begin { printf("%d", comm); }', "unsupported format specifier for type 'string[16]': d"),
        ('begin { printf("%f", 1); }', "unsupported format specifier: f"),
        ("begin { $f = comm; printf($f); }", "printf() expects a string literal (string provided)"),
        ("begin { print(1, 2); }", "Non-map print() only takes 1 argument, 2 found"),
        (
            'begin { @x = count(); printf("%d", @x); }',
            "unsupported format specifier for type 'count_t': d",
        ),
    ],
)
def test_refusals(program: str, message: str) -> None:
    assert refused(program) == [message]
