"""Functions of imported BPF C files and objects (reference part 1, sections 2.3 and 10.3), called on this kernel."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pytrace.compilation import compile_text
from pytrace.grammar.diagnostics import CompileError, Diagnostic
from pytrace.runtime import linkedunits
from tests.e2e.conftest import Runner
from tests.e2e.programs import run as run_here

tag = pytest.mark.tag
pytestmark = pytest.mark.root
Write = Callable[..., Path]

HEAD = """
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
"""

UNIT = (
    HEAD
    + """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16); __type(key, int); __type(value, long); } seen SEC(".maps");
struct task_struct { int tgid; } __attribute__((preserve_access_index));
struct pair { int a; short b; };
typedef struct { long x; } anonymous_t;
int base = 100;
const volatile int step = 5;

int add(int a, int b) { return a + b; }
char narrow(char c, unsigned char u, short s, unsigned short w) { return c + u + s + w; }
__u32 as_u32(__u32 x) { return x - 1; }
__s64 as_s64(__s64 x) { return x - 1; }
short as_short(short x) { return x; }
_Bool odd(unsigned long x) { return x & 1; }
_Bool flip(_Bool x) { return !x; }
enum bpf_cmd command(enum bpf_cmd c) { return c + 1; }
int next(void) { return base += step; }
void reset(int to) { base = to; }
static __attribute__((noinline)) int thrice(int x) { return x * 3; }
int nine(int x) { return thrice(thrice(x)); }
__u64 visits(int key)
{
	long one = 1, *value = bpf_map_lookup_elem(&seen, &key);
	if (value)
		return ++*value;
	bpf_map_update_elem(&seen, &key, &one, 0);
	return 1;
}
int tgid_of(struct task_struct *t)
{
	int tgid = 0;
	bpf_probe_read_kernel(&tgid, sizeof(tgid), &t->tgid);
	return tgid;
}
int read_int(const void *p)
{
	int x = 0;
	bpf_probe_read_kernel(&x, sizeof(x), p);
	return x;
}
const void *ahead(const char *p, anonymous_t *a, int (*f)(struct pair *), long (*t)[3]) { return p + 4; }
int by_value(struct pair p) { return p.a; }
SEC("kprobe/there_is_no_such_function") int own(void *ctx) { return 0; }
"""
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes C files into one folder: `write(unit="…")` makes `unit.bpf.c`."""

    def make(**files: str) -> Path:
        for name, text in files.items():
            (tmp_path / f"{name}.bpf.c").write_text(text)
        return tmp_path

    return make


def shown(folder: Path, body: str, imports: str = 'import "unit.bpf.c";') -> list[str]:
    """The lines that a script of that folder shows."""
    return run_here(f"{imports} begin {{ {body} }}", name=str(folder / "main.bt")).text.splitlines()


def refused(folder: Path, text: str) -> tuple[Diagnostic, ...]:
    """What is said of a script of that folder that is not compiled."""
    with pytest.raises(CompileError) as caught:
        compile_text(text, str(folder / "main.bt"))
    return caught.value.diagnostics


def compiled(folder: Path, name: str, *arguments: str) -> None:
    """Make an object of a C file, as users do."""
    clang = linkedunits.find_clang()
    assert clang, "make test installs clang"
    command = [clang, "-O2", "-target", "bpf", "-idirafter", linkedunits.system_headers(), *arguments]
    subprocess.run([*command, "-c", f"{name}.bpf.c", "-o", f"{name}.bpf.o"], cwd=folder, check=True)


@tag("fn.extern", "prog.import.root")
@pytest.mark.parametrize("kind", ["c", "v1", "v3"])
def test_values_go_in_and_come_out(write: Write, kind: str) -> None:
    folder = write(unit=UNIT)
    if kind != "c":
        compiled(folder, "unit", "-g", f"-mcpu={kind}")
    lines = shown(
        folder,
        """
        print((add(3, -5), add(2147483647, 1), narrow(-1, 255, -300, 65535)));
        $wide = (uint64)0x1_0000_0007; print((add($wide, 1), as_u32(0), as_s64(0), as_short($wide * 40000)));
        print((odd(7), odd($wide - 1), flip(true), flip($wide == 1), odd((uint64)-1)));
        print((uint64)command(3)); print(next() + next()); reset(-10); print(next());
        print(nine(2)); print((visits(7), visits(7), visits(8)));
        """,
        f'import "unit.bpf.{"c" if kind == "c" else "o"}";',
    )
    assert lines == [
        "(-2, -2147483648, -47)",
        "(8, 4294967295, -1, 17856)",
        "(true, false, false, true, true)",
        "4",
        "215",
        "-5",
        "18",
        "(1, 2, 1)",
    ]


@pytest.mark.everywhere
@tag("fn.extern")
def test_pointers_may_be_any(write: Write) -> None:
    body = """
        print(tgid_of(curtask) == pid); $x = (int32)77; print(read_int(&$x));
        $pair = ((int32)1, (int32)2); $p = &$pair; print((read_int($p), read_int(ahead($p, $p, $p, $p))));
        print(tgid_of(curtask->real_parent) == ppid);
    """
    assert shown(write(unit=UNIT), body) == ["true", "77", "(1, 2)", "true"]


@tag("fn.extern")
def test_calls_anywhere(write: Write) -> None:
    body = """
        for ($i : 0..3) { print(add($i, 10)); }
        if (odd(3)) { print(add(add(1, 2), add(3, 4))); } @n[nine(1)] = 1; print(@n);
        print(twice(21)); print(through(4));
    """
    own = 'import "unit.bpf.c"; macro twice(x) { add(x, x) } fn through($x: int64): int32 { return add((int32)$x, 1); }'
    assert shown(write(unit=UNIT), body, own) == ["10", "11", "12", "10", "@n[9]: 1", "42", "5"]


@tag("fn.extern")
def test_messages_of_calls(write: Write) -> None:
    text = """import "unit.bpf.c";
    begin { add(1); add("a", 2); add(1, 0x1_0000_0000); tgid_of(3); read_int(comm); by_value(1); own(1); ad(1, 2);
    print(reset(1)); }"""
    assert [(d.code, d.message, d.hints) for d in refused(write(unit=UNIT), text)] == [
        ("err.call.nargs", "add() requires 2 arguments (1 provided)", ()),
        ("err.call.argtype", "add() expects 'int a', 'string[2]' provided", ()),
        ("err.call.argtype", "add() expects 'int b', 4294967296 does not fit", ()),
        ("err.call.argtype", "tgid_of() expects 'struct task_struct * t', 'int8' provided", ()),
        ("err.call.argtype", "read_int() expects 'const void * p', 'string[16]' provided",
         ("Give the address of a variable that holds it: &$x",)),
        ("fn.extern", f"by_value() of {write()}/unit.bpf.c can not be called: its parameter 1 is a struct", ()),
        ("fn.extern", f"own() of {write()}/unit.bpf.c can not be called: it is a program of its own (section "
                      "'kprobe/there_is_no_such_function')", ()),
        ("err.name.func", "Unknown function: 'ad'", ("Did you mean 'add' or 'rand'?",)),
        ("err.type.assign", "'reset(1)' has no value", ()),
    ]  # fmt: skip


@tag("fn.extern", "err.import")
def test_names_that_stand_for_two_things(write: Write) -> None:
    folder = write(unit=HEAD + "int add(int a) { return a; }", other=HEAD + "int add(int a) { return a; }",
                   kernel=HEAD + "int strlen_(int a) { return a; }\nlong nsecs(int a) { return a; }")  # fmt: skip
    body = "begin { print(add(1)); }"
    (two,) = refused(folder, f'import "unit.bpf.c"; import "other.bpf.c"; {body}')
    assert two.message.endswith(f"other.bpf.c is in {folder}/unit.bpf.c as well")
    (own,) = refused(folder, f'import "unit.bpf.c"; fn add($a: int32): int32 {{ return $a; }} {body}')
    assert own.message == f"Redefinition of function: add() of {folder}/unit.bpf.c is a function of the program"
    (language,) = refused(folder, 'import "kernel.bpf.c"; begin { }')
    assert language.message.endswith("kernel.bpf.c is a function of the language")


@tag("err.import")
@pytest.mark.parametrize(
    ("source", "words"),
    [
        (HEAD + "int f(int a) { return b; }", "unit.bpf.c:5:23: use of undeclared identifier 'b'"),
        (HEAD + "int f(int a) { return b + c; }", "use of undeclared identifier 'b' (and 1 more)"),
        ('#include "vmlinux.h"\n', "'vmlinux.h' file not found; make it with: bpftool btf dump file"),
        ("#include <bpf/no_such.h>\n", "'bpf/no_such.h' file not found; apt install libbpf-dev"),
        ("#include <no_such.h>\n", "'no_such.h' file not found; apt install linux-libc-dev"),
        (HEAD + 'char L[] SEC("license") = "Proprietary";', "has the license 'Proprietary', the program 'GPL'"),
    ],
)
def test_what_clang_says(write: Write, source: str, words: str) -> None:
    folder = write(unit=source)
    (error,) = refused(folder, 'import "unit.bpf.c"; begin { }')
    assert (error.code, words in error.message) == ("err.import", True), error.message
    assert error.span is not None
    assert error.span.text == 'import "unit.bpf.c";'


@tag("err.import")
def test_without_clang(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    (error,) = refused(write(unit=UNIT), 'import "unit.bpf.c"; begin { }')
    assert "clang is not installed" in error.message
    assert "apt install clang libbpf-dev" in error.message


def test_the_newest_clang_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("clang-9", "clang-19", "clang-14", "clang-tidy-20"):
        (tmp_path / name).write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert linkedunits.find_clang() == f"{tmp_path}/clang-19"


@tag("err.import", "prog.import.root")
def test_objects_that_cannot_be_linked(write: Write) -> None:
    folder = write(plain=UNIT, names=HEAD + "struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); "
                   '__type(key, int); __type(value, int); } events SEC(".maps"); int first(void) { return !!&events; }')  # fmt: skip
    compiled(folder, "plain")
    (error,) = refused(folder, 'import "plain.bpf.o"; begin { }')
    assert error.message.endswith("plain.bpf.o: the object has no BTF; compile it with -g")
    shutil.copy(shutil.which("true") or "", folder / "true.bpf.o")
    assert refused(folder, 'import "true.bpf.o"; begin { }')[0].message.endswith("true.bpf.o: not a BPF object")
    (folder / "text.bpf.o").write_text("text")
    assert "not a 64-bit little-endian ELF file" in refused(folder, 'import "text.bpf.o"; begin { }')[0].message
    (clash,) = refused(folder, 'import "names.bpf.c"; begin { print(first()); }')
    assert clash.message.startswith(f"Cannot link {folder}/names.bpf.c: ")
    assert "events" in clash.message


@tag("prog.import.root", "prog.import.rules")
def test_a_folder_with_all_kinds(write: Write) -> None:
    folder = write(unit=UNIT)
    (folder / "parts").mkdir()
    (folder / "parts" / "a.bpf.c").write_text(HEAD + 'int one(void) { return 1; } char L[] SEC("license") = "GPL";')
    (folder / "parts" / "b.bpf.c").write_text(HEAD + 'int one(void); int two(void) { return 2; } char L2[] SEC("license") = "GPL";')
    (folder / "parts" / "c.bt").write_text("macro three() { one() + two() }")
    assert shown(folder, "print(three());", 'import "parts"; import "./parts/a.bpf.c";') == ["3"]


@tag("fn.extern")
def test_what_the_kernel_refuses_is_shown_at_the_call(write: Write, run: Runner) -> None:
    folder = write(unit=HEAD + "int deref(void *p)\n{\n\treturn *(int *)p;\n}\n")
    (folder / "main.bt").write_text('import "unit.bpf.c";\nbegin {\n  print(1);\n  print(deref(curtask));\n  print(3);\n}\n')
    result = run(str(folder / "main.bt"))
    assert result.status == 255
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"{folder}/main.bt:4:9-24: ERROR: Error loading BPF program for begin: ")
    assert any(line.startswith("HINT: It happens in imported code: unit.bpf.c:7: return *(int *)p;") for line in lines)


@tag("fn.extern")
def test_a_compiled_program_notices_changed_headers(write: Write, run: Runner, tmp_path: Path) -> None:
    folder = write(unit=HEAD + '#include "value.h"\nint value(void) { return VALUE; }')
    (folder / "main.bt").write_text('import "unit.bpf.c"; begin { print(value()); }')
    environment = {"PYTRACE_CACHE_DIR": str(tmp_path / "cache")}
    for number in (7, 7, 8):
        text = f"#define VALUE {number}\n"
        if not (folder / "value.h").exists() or (folder / "value.h").read_text() != text:
            (folder / "value.h").write_text(text)
        assert str(number) in run(str(folder / "main.bt"), env=environment).stdout.split()
    assert len([*(tmp_path / "cache").iterdir()]) == 1


@tag("fn.extern", "cli.aot")
def test_a_bundle_has_the_functions(write: Write, run: Runner) -> None:
    folder = write(unit=UNIT)
    (folder / "main.bt").write_text('import "unit.bpf.c"; begin { print(nine(2)); }')
    made = run("--aot", str(folder / "bundle"), str(folder / "main.bt"))
    assert made.status == 0, made.stderr
    ended = subprocess.run([folder / "bundle"], capture_output=True, text=True)
    assert (ended.stdout.split(), ended.returncode) == (["18"], 0), ended.stderr
