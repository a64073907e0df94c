"""The mistakes of a first week: each message points at the place and says what to write instead."""

import subprocess
import sys

import pytest

from pytrace.compilation import compile_text
from pytrace.grammar.diagnostics import CompileError
from pytrace.options import Options
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
        pytest.param(
            "syscalls:sys_enter_openat { @ = count(); }",
            "syscalls:sys_enter_openat", "Invalid probe type: syscalls",
            "Did you mean 'tracepoint:syscalls:sys_enter_openat'?", marks=tag("err.ap.type"), id="no probe type",
        ),
        pytest.param(
            "tracepoint:syscalls:openat { @ = count(); }",
            "tracepoint:syscalls:openat", "No matches for tracepoint syscalls:openat.",
            "Did you mean 'sys_exit_openat' or 'sys_enter_openat'?", marks=tag("err.ap.nomatch"), id="part of a name",
        ),
        pytest.param(
            "tracepoint:syscalls { @ = count(); }",
            "tracepoint:syscalls", "tracepoint probe type requires 2 arguments, found 1",
            "Write tracepoint:syscalls:EVENT; -l 'tracepoint:syscalls:*' lists the events.",
            marks=tag("err.ap.arity"), id="category only",
        ),
        pytest.param(
            "uprobe:malloc { @ = count(); }",
            "uprobe:malloc", "uprobe probe type requires 2 or 3 arguments, found 1",
            "Write uprobe:FILE:malloc, e.g. uprobe:libc:malloc; only -p PID tells the file.",
            marks=tag("err.ap.arity"), id="function only",
        ),
        pytest.param(
            "tracepoint:syscalls:sys_enter_openat { print(str(filename)); }",
            "filename", "Unknown identifier: 'filename'", "Did you mean 'args.filename'?",
            marks=tag("err.name.ident"), id="argument without args",
        ),
        pytest.param(
            "begin { if (comm == bash) { } }",
            "bash", "Unknown identifier: 'bash'",
            'Text stands in double quotes: "bash"; a variable is written $bash, a map @bash.',
            marks=tag("err.name.ident"), id="text without quotes",
        ),
        pytest.param(
            "begin { if (pid == TASK_RUNNING) { } }",
            "TASK_RUNNING", "Unknown identifier: 'TASK_RUNNING'",
            "If it is a #define of a header: the kernel's type information has none. Include the header, or write "
            "`#define TASK_RUNNING VALUE` at the top of the program.",
            marks=tag("err.name.ident"), id="kernel's #define",
        ),
        pytest.param(
            "tracepoint:syscalls:sys_exit_openat { print(args.flagz); }",
            "args.flagz", "Struct/union of type 'args tracepoint:syscalls:sys_exit_openat_args' does not "
            "contain a field named 'flagz'", "It has: __syscall_nr, ret.",
            marks=tag("err.name.struct-field"), id="few fields",
        ),
        pytest.param(
            "begin { if (pid) { $x = 1; } print($x); }",
            "$x", "Undefined or undeclared variable: $x",
            "$x belongs to the block in which it is first assigned, and that has ended: declare it before the "
            "block with `let $x;`.", marks=tag("err.name.var", "scope.undefined"), id="variable of a block",
        ),
        pytest.param(
            "begin { $t = (task_struct *)0; }",
            "task_struct *", 'Cannot resolve unknown type "task_struct"', "Write 'struct task_struct'.",
            marks=tag("err.name.type"), id="struct",
        ),
        pytest.param(
            "begin { print(PID); }", "PID", "Unknown identifier: 'PID'", "Did you mean 'pid'?",
            marks=tag("err.name.ident"), id="capitals",
        ),
        pytest.param(
            "begin { print(null); }", "null", "Unknown identifier: 'null'", "A null pointer is 0.",
            marks=tag("err.name.ident"), id="null",
        ),
        pytest.param(
            "every:1s { @ = count(); }", "every:1s", "Invalid probe type: every",
            "`pytrace -l` lists the probes of the kernel, `pytrace -h TYPE` explains a type.",
            marks=tag("err.ap.type"), id="no such probe type",
        ),
        pytest.param(
            "begin { $start[tid] = 1; }", "$start",
            "invalid assignment target: only variables and map elements can be assigned to",
            "Only maps have keys: @start[…] = …", marks=tag("err.syntax.target"), id="variable with a key",
        ),
        pytest.param(
            "begin { print(1.5); }",
            "1.5", "Can not access index '5' on expression of type 'int8'", "Numbers are written without fractions.",
            marks=tag("lex.nofloat"), id="fraction",
        ),
        pytest.param(
            "tracepoint:syscalls:sys_enter_openat/pid==1/ { @ = count(); }",
            "tracepoint:syscalls:sys_enter_openat/pid==1/",
            "No matches for tracepoint syscalls:sys_enter_openat/pid==1/.",
            "Put a space between the attach point and the '/' of its predicate.",
            marks=tag("lex.ap.predicate-space"), id="predicate without a space",
        ),
    ],
)  # fmt: skip
def test_the_nearest_name_is_offered(text: str, marked: str, said: str, hint: str) -> None:
    assert complaint(text) == message(text, marked, said, f"HINT: {hint}")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("begin { for ($i = 0; $i < 3; $i++) { } }",
         "Loops are written as: for ($i : 0..10) { … } or for ($kv : @map) { … }"),
        ("begin { int x = 5; }", "A variable is declared as: let $x = …;"),
        ("begin { x = 5; }", "A variable is written $x, a map @x."),
        ('begin { print "hi"; }', "If print is a function, its arguments stand in parentheses: print(…)"),
        ("begin { print((unsigned int)5); }", "A type is one word: uint32, int64, …"),
        ("begin { $x = 5\n$y = 6; }", "The ';' is missing at the end of line 1."),
        ("begin { if (pid == 1 and tid == 2) { } }", "'and' is written '&&'."),
        ("begin /pid == 1 or tid == 2/ { }", "'or' is written '||'."),
        ("interval:1s profile:hz:9 { }", "Several attach points are separated by ','."),
        ("interval:1s && profile:hz:9 { }", "Several attach points are separated by ','."),
        ("interval:1s/pid == 1/ { }", "Put a space between the attach point and the '/' of its predicate."),
        ("interval:1s /pid == / { }",
         "If a parameter like $1 stood here, the shell has replaced it: put the program into single quotes."),
        ("begin { @[] = 1; }",
         "If a parameter like $1 stood here, the shell has replaced it: put the program into single quotes."),
        ("typedef int number; begin { }",
         "Of C, a program has `#` lines and definitions of struct, union and enum; all else stands in headers."),
        ("begin { var $x = 5; }", "A variable is declared as: let $x = …;"),
        ("begin { let x = 5; }", "The name of a variable starts with '$': $x"),
        ("begin { if (1) { } elif (2) { } }", "'elif' is written 'else if'."),
        ("begin { @start(tid) = 1; }", "The key of a map stands in square brackets: @start[…]"),
        ("begin { @a[1][2] = 1; }", "Several keys are written @name[KEY, KEY]."),
        ("kprobe vfs_read { }", "The parts of an attach point are joined by ':': kprobe:vfs_read"),
        ("interval s:1 { }", "The parts of an attach point are joined by ':': interval:s:1"),
        ('printf("hi");', "A probe is written as: attach-point /predicate/ { statements }"),
        ('begin { printf("%.2f", 5); }', "Integers have no fractions: use %d. A float or double of a struct is shown by %s."),
        ("# counts\nbegin { }", "A comment starts with '//'."),
    ],
)  # fmt: skip
@tag("err.syntax.expected", "err.syntax.expr", "err.syntax.target", "fmt.check")
def test_what_is_written_otherwise(text: str, hint: str) -> None:
    with pytest.raises(CompileError) as caught:
        compile_text(text, host=FakeHost())
    assert [d.hints for d in caught.value.diagnostics] == [(hint,)]


@tag("expr.string.cmp")
def test_a_name_that_the_kernel_has_cut() -> None:
    compiled = compile_text('begin { print(comm == "qemu-system-x86_64"); print("x" != comm); }', host=FakeHost())
    (warning,) = compiled.warnings
    assert warning.message == "comm has at most 15 characters: it never equals this text"
    assert warning.hints == ('What is left of it is "qemu-system-x86".',)
    assert warning.span
    assert warning.span.text == '"qemu-system-x86_64"'


@pytest.mark.parametrize(
    "attach_point",
    [
        "$1", "tracepoint:$1:sys_enter_openat", "tracepoint:syscalls:$1", "rawtracepoint:$1", "kprobe:$1",
        "kretprobe:$1", "fentry:$1", "uprobe:$1:malloc", "uprobe:libc:$1", "uretprobe:libc:$1", "uprobe:libc:malloc+$1",
        "usdt:$1:x", "usdt:/usr/bin/python3:$1", "profile:hz:$1", "interval:s:$1", "interval:$1", "software:$1:1",
        "hardware:$1:1", "watchpoint:$1:8:w", "watchpoint:0x1000:$1:w", "watchpoint:0x1000:8:$1", "iter:$1", "xdp:$1",
        "tc:$1:ingress", "tc:lo:$1",
    ],
)  # fmt: skip
@tag("lex.ap.param", "warn.param.empty")
def test_a_parameter_of_an_attach_point_that_is_not_given(attach_point: str) -> None:
    """Whatever else is wrong with what is left of the attach point, that is why."""
    with pytest.raises(CompileError) as caught:
        compile_text(f"{attach_point} {{ }}", host=FakeHost())
    for diagnostic in caught.value.diagnostics:
        assert diagnostic.hints == (
            "Positional parameter $1 is empty or not provided: give it behind the program, `pytrace FILE VALUE` or "
            "`pytrace -e '…' VALUE`.",
        )


@tag("lex.ap.param", "warn.param.empty")
def test_a_parameter_that_an_attach_point_can_do_without() -> None:
    compiled = compile_text("software:faults:$2 { }", options=Options(parameters=("1",)), host=FakeHost())
    assert [w.message for w in compiled.warnings] == ["Positional parameter $2 is empty or not provided. "]
    compiled = compile_text("software:faults:$2 { }", options=Options(parameters=("1", "2")), host=FakeHost())
    assert compiled.warnings == ()


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


@pytest.mark.root
@tag("cli.c-child")
def test_a_command_that_is_meant_for_a_shell() -> None:
    def run(*arguments: str) -> tuple[list[str], str]:
        done = subprocess.run(
            [sys.executable, "-m", "pytrace", "-q", *arguments, "-e", "interval:s:9 { }"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        return done.stdout.split(), done.stderr

    output, errors = run("-c", "echo 'a b' | wc")
    assert output == ["'a", "b'", "|", "wc"]
    assert errors.startswith("WARNING: The command of -c is split at spaces and run without a shell")
    assert run("--no-warnings", "-c", "echo 'a b' | wc")[1] == run("-c", "echo a")[1] == ""
