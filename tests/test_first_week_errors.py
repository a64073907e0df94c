"""The mistakes of a first week: each message points at the place and says what to write instead."""

import subprocess
import sys

import pytest

from pytrace.compilation import compile_text
from pytrace.grammar.diagnostics import CompileError
from tests.fakehost import FakeHost

tag = pytest.mark.tag


def complaint(text: str) -> str:
    """What the compiler says of a program, without the lines that repeat the program."""
    with pytest.raises(CompileError) as caught:
        compile_text(text, host=FakeHost())
    rendered = str(caught.value)
    assert f"\n{text}\n" in rendered
    return rendered.replace(f"{text}\n", "")


def message(text: str, marked: str, message: str, *more: str) -> str:
    """A located message about the last place where `marked` stands in the text, and what follows it."""
    start = text.rindex(marked)
    place = f"stdin:1:{start + 1}-{start + len(marked) + 1}: ERROR: {message}"
    return "\n".join([place, " " * start + "~" * max(1, len(marked)), *more])


@pytest.mark.parametrize(
    ("text", "marked", "said", "hint"),
    [
        pytest.param(
            "krobe:vfs_read { @ = count(); }",
            "krobe:vfs_read", "Invalid probe type: krobe",
            "Did you mean 'kprobe' or 'uprobe' or 'kretprobe'?",
            marks=tag("err.ap.type"), id="probe type",
        ),
        pytest.param(
            "kprobe:vfs_raed { @ = count(); }",
            "kprobe:vfs_raed", "No matches for kprobe vfs_raed.", "Did you mean 'vfs_read' or 'vfs_write'?",
            marks=tag("err.ap.nomatch"), id="function to probe",
        ),
        pytest.param(
            "tracepoint:syscalls:sys_enter_opnat { @ = count(); }",
            "tracepoint:syscalls:sys_enter_opnat", "No matches for tracepoint syscalls:sys_enter_opnat.",
            "Did you mean 'sys_enter_openat' or 'sys_enter_open' or 'sys_exit_openat'?",
            marks=tag("err.ap.nomatch"), id="tracepoint",
        ),
        pytest.param(
            "tracepoint:syscals:sys_enter_openat { @ = count(); }",
            "tracepoint:syscals:sys_enter_openat", "No matches for tracepoint syscals:sys_enter_openat.",
            "Did you mean 'syscalls:sys_enter_openat'?",
            marks=tag("err.ap.nomatch"), id="category",
        ),
        pytest.param(
            "tracepoint:syscalls:sys_enter_openat { @[com] = count(); }",
            "com", "Unknown identifier: 'com'", "Did you mean 'comm' or 'pcomm'?",
            marks=tag("err.name.ident"), id="builtin",
        ),
        pytest.param(
            "tracepoint:syscalls:sys_enter_openat { @[comm] = cuont(); }",
            "cuont()", "Unknown function: 'cuont'", "Did you mean 'count'?",
            marks=tag("err.name.func"), id="function",
        ),
        pytest.param(
            'tracepoint:syscalls:sys_enter_openat { printf("%s\\n", str(args.filenam)); }',
            "args.filenam", "Struct/union of type 'args tracepoint:syscalls:sys_enter_openat_args' does not "
            "contain a field named 'filenam'", "Did you mean 'filename'?",
            marks=tag("err.name.struct-field"), id="argument",
        ),
        pytest.param(
            'tracepoint:syscalls:sys_enter_openat { printf("hello\\n); }',
            '"hello\\n); }', "unterminated string",
            "Close the string with '\"' on the same line; a newline in it is written \\n.",
            marks=tag("err.syntax.string"), id="quote",
        ),
        pytest.param(
            "begin { $count = 1; print($cuont); }",
            "$cuont", "Undefined or undeclared variable: $cuont", "Did you mean '$count'?",
            marks=tag("err.name.var"), id="variable",
        ),
        pytest.param(
            "begin { @reads = count(); print(@raeds); }",
            "@raeds", "Undefined map: @raeds", "Did you mean '@reads'?",
            marks=tag("err.name.map"), id="map",
        ),
        pytest.param(
            "software:cpu-clok:100 { @ = count(); }",
            "software:cpu-clok:100", "cpu-clok is not a software probe", "Did you mean 'cpu-clock'?",
            marks=tag("err.ap.event"), id="software event",
        ),
        pytest.param(
            "uprobe:/bin/bash:radline { @ = count(); }",
            "uprobe:/bin/bash:radline", "No matches for uprobe /bin/bash:radline.",
            "Did you mean 'readline'?",
            marks=tag("err.ap.nomatch"), id="user function",
        ),
        pytest.param(
            "begin { print(nsecs(bot)); }",
            "bot", "Invalid timestamp mode: bot", "Did you mean 'boot'?", id="clock",
        ),
    ],
)  # fmt: skip
def test_the_nearest_name_is_offered(text: str, marked: str, said: str, hint: str) -> None:
    assert complaint(text) == message(text, marked, said, f"HINT: {hint}")


@tag("err.syntax.expected", "diag.format")
@pytest.mark.parametrize(
    ("text", "opened"),
    [
        ("tracepoint:syscalls:sys_enter_openat { @ = count();", "{ @"),
        ("tracepoint:syscalls:sys_enter_openat { if (pid == 1) { @ = count(); }", "{ if"),
    ],
)
def test_a_missing_brace(text: str, opened: str) -> None:
    """At the end of the text, and where the block began."""
    end, start = len(text), text.index(opened)
    assert complaint(text) == "\n".join(
        [
            f"stdin:1:{end + 1}-{end + 1}: ERROR: expected '}}'",
            f"{' ' * end}~",
            f"stdin:1:{start + 1}-{start + 2}: ERROR: opened here",
            f"{' ' * start}~",
            "HINT: Add the missing '}'.",
        ]
    )


@tag("fmt.check", "diag.format")
def test_a_format_that_does_not_fit() -> None:
    """The call and the value are shown."""
    text = 'tracepoint:syscalls:sys_enter_openat { printf("%d\\n", comm); }'
    call = message(text, 'printf("%d\\n", comm)', "unsupported format specifier for type 'string[16]': d")
    value = message(text, "comm", "value 1 of the format", "HINT: Use %s to print a value of type 'string[16]'.")
    assert complaint(text) == f"{call}\n{value}"


@pytest.mark.root
@tag("rt.caps")
@pytest.mark.parametrize("arguments", [["-e", "begin { exit(); }"], ["-l", "tracepoint:*"]])
def test_not_being_root(arguments: list[str]) -> None:
    """One sentence with the remedy, and nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "pytrace", *arguments],
        user="nobody", group="nogroup", extra_groups=[], capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert done.stderr == "ERROR: Missing CAP_BPF capability, please run pytrace as the root user.\n"
    assert (done.stdout, done.returncode) == ("", 1)
