"""`--aot`: what cannot be kept for later runs, what the file holds, what it says about its words."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest

from pytrace import cli
from pytrace.aot import bundle
from pytrace.arguments import UsageError, parse
from pytrace.bundle import PROGRAM, Bundle, kernel_name, main
from pytrace.compilation import compile_text
from pytrace.grammar.diagnostics import CompileError, Diagnostics
from pytrace.grammar.host import UserVariable
from pytrace.language.functions.options import check_given, option_data, option_places
from pytrace.options import Options
from tests.fakehost import FakeHost

pytestmark = pytest.mark.tag("cli.aot", "aot")


def host() -> FakeHost:
    found = FakeHost()
    found.variables["/bin/bash", "readline"] = UserVariable(0x1000, 8)
    return found


def refusals(text: str, *parameters: str) -> list[tuple[str, str]]:
    """The refused parts of a program, and the messages."""
    with pytest.raises(CompileError) as caught:
        compile_text(text, options=Options(parameters=parameters, aot=True), host=host())
    return [(d.span.text if d.span else "", d.message) for d in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("begin { print($1); }", "$1", "positional parameters"),
        ("begin { print($#); }", "$#", "positional parameters"),
        ("interval:s:$1 { }", "interval:s:$1", "positional parameters"),
        ("interval:s:1, usdt:$2:$3:x { }", "usdt:$2:$3:x", "positional parameters"),
        ('begin { print(kaddr("vfs_read")); }', 'kaddr("vfs_read")', "kaddr()"),
        ('uprobe:/bin/bash:readline { print(uaddr("readline")); }', 'uaddr("readline")', "uaddr()"),
        ('begin { print(cgroupid("/sys/fs/cgroup")); }', 'cgroupid("/sys/fs/cgroup")', "cgroupid()"),
        ("begin { print(curtask); }", "curtask", "curtask"),
        ("begin { $t = (struct task_struct *)1; }", "(struct task_struct *)1", "struct casts"),
        ("macro m(x) { kaddr(x) } begin { print(m(\"vfs_read\")); }", "kaddr(x)", "kaddr()"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, place: str, what: str) -> None:
    assert (place, f"AOT does not yet support {what}") in refusals(text, "1")
    if "$2" not in text:
        compile_text(text, options=Options(parameters=("1",)), host=host())


def test_every_place_is_told_once() -> None:
    assert refusals("kprobe:vfs_* { print(curtask); print(curtask); print((int8)1); }") == [
        ("curtask", "AOT does not yet support curtask"),
        ("curtask", "AOT does not yet support curtask"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-k --aot x", "ERROR: Cannot use -k with --aot"),
        ("--aot x -p 1", "ERROR: Cannot use -p with --aot"),
        ("--aot x -c ls", "ERROR: Cannot use -c with --aot"),
        ("--aot x --dwarf-pid 1", "ERROR: Cannot use --dwarf-pid with --aot"),
        ("--aot x --test", "ERROR: Cannot use --mode with --aot"),
    ],
)
@pytest.mark.tag("cli.k")
def test_options_that_do_not_go_together(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words.split())
    assert caught.value.text == message


@pytest.mark.tag("param.named")
def test_values_of_options() -> None:
    """They lie where the program reads them, whatever their types."""
    made = compile_text(
        'begin { print((getopt("s", "abc"), getopt("n", -3), getopt("u", 7), getopt("b"), getopt("t", true))); }',
        options=Options(aot=True, environment=(("BPFTRACE_MAX_STRLEN", "12"),)), host=FakeHost(),
    )  # fmt: skip
    places, total = option_places(made.options, 12)
    assert (places, total) == ({"s": (0, 12), "n": (16, 8), "u": (24, 8), "b": (32, 8), "t": (40, 8)}, 48)
    words = ["--s=a very long word", "--n=-1", "--b"]
    numbers = [(-1).to_bytes(8, "little", signed=True), *(n.to_bytes(8, "little") for n in (7, 1, 1))]
    assert option_data(words, made.options, 12) == b"a very long\0".ljust(16, b"\0") + b"".join(numbers)
    check_given(words, made.options, Diagnostics())
    with pytest.raises(CompileError, match="--n expects an integer"):
        check_given(["--n"], made.options, Diagnostics())
    (spec,) = [m for m in made.plan.maps if m.symbol == "options"]
    assert spec.value_size == 48


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("aot") / "made"
    data, _ = bundle('begin { printf("%d\\n", getopt("n", 1)); }', "a.bt", Options())
    path.write_bytes(data)
    return path


def test_what_the_file_holds(program: Path) -> None:
    with zipfile.ZipFile(program) as archive:
        names = archive.namelist()
        kept: Bundle = pickle.loads(archive.read(PROGRAM))
    assert program.read_bytes().startswith(b"#!/")
    assert "pytrace/runtime/tracer.pyc" in names
    assert not [name for name in names if "codegen" in name or "grammar/parser.py" in name or name.endswith(".lark")]
    assert (kept.kernel, kept.compilation.source.name) == (kernel_name(), "a.bt")
    assert list(kept.compilation.options) == ["n"]
    assert kept.compilation.elf.startswith(b"\x7fELF")


def test_its_own_command_line(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(program) as archive:
        data = archive.read(PROGRAM)
    assert main(["-h"], data) == 0
    shown = capfd.readouterr().out
    assert all(f"{option} " in shown for option in ("-f", "-o,", "-q,", "-v,", "-d,", "-h,", "-V,"))
    assert kernel_name() in shown
    assert main(["-V"], data) == 0
    assert capfd.readouterr().out.startswith("pytrace v")
    for words, message in {
        "-p 1": "ERROR: USAGE: invalid option -- 'p'\nHINT: -h shows the options.\n",
        "x": "ERROR: USAGE: unexpected argument 'x'\nHINT: -h shows the options.\n",
        "-- --x": "ERROR: unexpected program command line options: --x\nHINT: expected program options: --n\n",
        "-- --help": "HINT: expected program options:\n--n\n",
    }.items():
        assert main(words.split(), data) == 1
        assert capfd.readouterr() == ("", message)


def test_a_place_that_cannot_be_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "none" / "made"
    assert cli.main(["--aot", str(place), "-e", "begin { exit(); }"]) == 1
    assert capfd.readouterr().err == f'ERROR: Failed to write file: "{place}": No such file or directory\n'
