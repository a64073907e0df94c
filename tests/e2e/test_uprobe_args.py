"""`args` of user functions, and the types of user programs, by their debug information."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pytrace.grammar.diagnostics import CompileError
from pytrace.grammar.spec import REGISTRY
from pytrace.listing import list_probes
from pytrace.options import Options
from pytrace.program_listing import list_program
from pytrace.runtime.host import LiveHost
from tests.e2e.conftest import Runner
from tests.e2e.programs import Run, run

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("gcc"), reason="there is no compiler"),
]
tag = pytest.mark.tag

# the kernel has a struct file too, and so has the library: three different ones
SOURCE = r"""
#include <stdbool.h>
enum color { RED = 1, GREEN = 2, BLUE = -3 };
typedef struct { short x, y; } point_t;
struct pair { int a, b; long c; };
struct mixed { double d; long l; };
struct big { long v[3]; };
struct file {
    char name[16]; int fd; struct file *next; union { int number; unsigned char raw[4]; };
    unsigned a:3, b:7; enum color color; float ratio; double weight; point_t at;
    const char *const *words; int grid[2][3];
};
#define F __attribute__((noipa))
F int plain(const char *prompt, int n, unsigned char c, long l, bool ok, enum color color) { return n; }
F int floats(int a, double d, int b, float f, struct file *file) { return b; }
F long by_value(struct pair s, int n, struct mixed m, struct big g, int last) { return n; }
F struct big hidden_result(int first, const int *second) { struct big b = {{first, *second}}; return b; }
F int many(int a, int b, int c, int d, int e, int f, int g) { return g; }
F void nothing(void) { }
int other(void);
int main(int argc, char **argv)
{
    const char *words[] = {"zero", "one", 0};
    struct file last = {"last", 8, .number = 9};
    struct file file = {
        "first", 7, &last, {0x01020304}, 5, 77, GREEN, 0.1f, 2.5, {3, -4}, words, {{1, 2}, {4, 5, 6}}
    };
    struct pair pair = {1, -2, 1L << 40}; struct mixed mixed = {1.5, 44}; struct big big = {{5}};
    int number = 12;
    plain("hello", -5, 200, -7, true, BLUE);
    floats(1, 2.5, 3, 4.5f, &file);
    by_value(pair, 6, mixed, big, 9);
    hidden_result(21, &number);
    many(1, 2, 3, 4, 5, 6, 7);
    nothing();
    return other();
}
"""
LIBRARY = """
struct file { long handle; };
__attribute__((noipa)) long look(struct file *file, int unused, struct file *same) { return file->handle; }
int other(void) { struct file file = {77}; return look(&file, 0, &file) != 77; }
"""


def compiled(folder: Path, *options: str) -> str:
    """The program, with its library next to it."""
    for name, text in (("app", SOURCE), ("lib", LIBRARY)):
        (folder / f"{name}.c").write_text(text)
    library, path = str(folder / "libpytraceargs.so"), str(folder / "app")
    subprocess.run(["gcc", *options, "-shared", "-fPIC", "-o", library, str(folder / "lib.c")], check=True)
    subprocess.run(["gcc", "-w", *options, "-o", path, str(folder / "app.c"), library], check=True)
    return path


@pytest.fixture(scope="module", params=["-O0", "-O2"])
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled(tmp_path_factory.mktemp("args"), "-g", request.param)


@pytest.fixture(scope="module")
def stripped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program without debug information."""
    return compiled(tmp_path_factory.mktemp("noargs"), "-g0")


def shown(app: str, function: str, body: str) -> str:
    """What a probe at a function of the program shows."""
    return traced(app, f"uprobe:{app}:{function} {{ {body} }}").text


def traced(app: str, text: str) -> Run:
    """A run of a program while the application runs."""
    result = run(text, command=app)
    assert result.errors == ""
    return result


def refusal(text: str, **options: object) -> str:
    """The messages of a program that cannot be compiled."""
    with pytest.raises(CompileError) as caught:
        run(text, **options)
    return "\n".join(d.message for d in caught.value.diagnostics)


# ---------------------------------------------------------------- parameters


@tag("probe.uprobe.args", "bi.args", "probe.args")
def test_scalars(app: str) -> None:
    words = "str(args.prompt), args.n, args->c, args.l, args.ok"
    assert shown(app, "plain", f'printf("%s %d %d %lld %d", {words})') == "hello -5 200 -7 1"
    assert shown(app, "plain", "print(args.color)") == "BLUE\n"
    assert shown(app, "nothing", "print(args)") == "{}\n"
    whole = shown(app, "plain", "print(args)")
    assert re.fullmatch(r"{ \.prompt = 0x\w+, \.n = -5, \.c = 200, \.l = -7, \.ok = true, \.color = BLUE }\n", whole)


@tag("probe.uprobe.args")
def test_registers_of_floating_point_parameters_do_not_count(app: str) -> None:
    assert shown(app, "floats", "print((args.a, args.b, args.file.fd))") == "(1, 3, 7)\n"


@tag("probe.uprobe.args")
def test_structs_in_registers(app: str) -> None:
    body = "print((args.s.a, args.s.b, args.s.c, args.n, args.last)); print(args.s)"
    expected = "(1, -2, 1099511627776, 6, 9)\n{ .a = 1, .b = -2, .c = 1099511627776 }\n"
    assert shown(app, "by_value", body) == expected
    assert traced(app, f"uprobe:{app}:by_value {{ @ = args.s }}").maps["@"] == {"a": 1, "b": -2, "c": 1 << 40}


@tag("probe.uprobe.args")
def test_a_result_in_memory_takes_the_first_register(app: str) -> None:
    assert shown(app, "hidden_result", "print((args.first, *args.second))") == "(21, 12)\n"


@tag("probe.uprobe.args")
def test_several_functions(app: str) -> None:
    text = f"uprobe:{app}:plain, uprobe:{app}:by_* {{ @[probe] = sum(args.n) }}"
    assert traced(app, text).maps["@"] == {f"uprobe:{app}:plain": -5, f"uprobe:{app}:by_value": 6}


# ---------------------------------------------------------------- structs


@tag("probe.uprobe.args", "type.struct.anon", "type.struct.bitfield")
def test_structs_behind_pointers(app: str) -> None:
    body = """
        $f = args.file;
        print(($f.name, $f.next.name, $f->next->fd, $f.number, $f.raw[1], $f.a, $f.b));
        print(($f.at.x, $f.at.y, $f.grid[1][2], str($f.words[1])));
        print($f.color); print($f.weight); print($f.ratio); print($f.at);
    """
    assert shown(app, "floats", body).splitlines() == [
        "(first, last, 8, 16909060, 3, 5, 77)",
        "(3, -4, 6, one)",
        "GREEN",
        "2.5",
        "0.1",
        "{ .x = 3, .y = -4 }",
    ]
    whole = shown(app, "floats", "print(*args.file.next)")
    assert whole.startswith("{ .name = last, .fd = 8, .next = 0x0, .number = 9, ")


@tag("type.struct.source")
def test_the_file_comes_before_the_kernel(app: str) -> None:
    casts = "print(((struct file *)arg2)->fd); print(((point_t *)arg2)->x); print((enum color)arg0)"
    assert shown(app, "floats", casts).splitlines() == ["7", str(int.from_bytes(b"fi", "little")), "RED"]
    kernel = run("begin { print(sizeof(struct file)); exit() }").text
    user = shown(app, "nothing", "print(sizeof(struct file)); print(sizeof(struct task_struct))").splitlines()
    assert user[0] not in kernel
    assert int(user[1]) > 1000
    text = f"uretprobe:{app}:nothing {{ print(sizeof(struct file)) }}"
    assert traced(app, text).text.splitlines() == user[:1]


@tag("type.struct.source")
def test_the_program_comes_before_the_file(app: str) -> None:
    text = f"struct file {{ char letters[9]; }} uprobe:{app}:floats {{ print(args.file.letters) }}"
    assert traced(app, text).text == "first\n"


@tag("type.struct.source")
def test_each_file_has_its_own_types(app: str) -> None:
    library = str(Path(app).with_name("libpytraceargs.so"))
    text = (
        f"uprobe:{app}:floats {{ @name = args.file.name; }}"
        f"uprobe:{library}:look {{ @handle = args.file.handle }}"
        f"uprobe:{app}:floats, uprobe:{library}:look {{ @size[sizeof(struct file)] = count(); }}"
    )
    maps = traced(app, text).maps
    assert (maps["@name"], maps["@handle"]) == ("first", 77)
    assert maps["@size"] == {8: 1, 96: 1}


# ---------------------------------------------------------------- what there is not


@tag("err.builtin.args-resolve", "probe.uprobe.args")
def test_refusals(app: str, stripped: str) -> None:
    def error(point: str, expression: str = "args.n", **options: object) -> str:
        return refusal(f"uprobe:{point} {{ print({expression}) }}", **options)

    cannot = "The args builtin cannot be used here: "
    assert error(f"{app}:many") == cannot + "many needs 7 registers for its parameters: only 6 can be read"
    assert error(f"{stripped}:plain") == cannot + f'No DWARF found for "{stripped}"; use arg0 to arg5'
    assert error(f"{app}:_start").startswith(cannot + f"the debug information of {app} does not describe")
    assert error(f"{app}:plain+4", unsafe=True).startswith(cannot + "the registers have the parameters only")
    assert "does not contain a field named 'nn'" in error(f"{app}:plain", "args.nn")
    assert "does not contain a field named 'd'" in error(f"{app}:floats", "args.d")
    assert "does not contain a field named 'g'" in error(f"{app}:by_value", "args.g")
    used = refusal(f"uretprobe:{app}:plain {{ print(args.n) }}")
    assert used.endswith("and uprobe probes (uretprobe used here)")


def test_variants_by_the_compiler_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text(
        "int total; static __attribute__((noinline)) void add(int unused, int n) { total += n; }"
        "int main(int argc, char **argv) { add(1, argc); add(1, argc * 2); return 0; }"
    )
    path = str(tmp_path / "app")
    subprocess.run(["gcc", "-g", "-O2", "-o", path, str(tmp_path / "a.c")], check=True)
    (symbol,) = (s.name for s in LiveHost().symbols(path) if s.name.startswith("add"))
    assert "." in symbol
    message = refusal(f"uprobe:{path}:{symbol} {{ print(args.n) }}")
    assert "is the compiler's variant of a function" in message


def test_arg_numbers_need_no_debug_information(stripped: str) -> None:
    assert shown(stripped, "plain", 'printf("%s %d", str(arg0), (int32)arg1)') == "hello -5"


# ---------------------------------------------------------------- listing

PLAIN = [
    "    const char * prompt", "    int n", "    unsigned char c", "    long int l", "    _Bool ok",
    "    enum color color",
]  # fmt: skip


@tag("list.args")
def test_listing(app: str, stripped: str) -> None:
    warnings: list[str] = []

    def listed(search: str) -> list[str]:
        return list(list_probes(search, LiveHost(), REGISTRY, verbose=True, warn=warnings.append))

    assert listed(f"uprobe:{app}:plain") == [f"uprobe:{app}:plain", *PLAIN]
    floats = ["    int a", "    double d", "    int b", "    float f", "    struct file * file"]
    assert listed(f"uprobe:{app}:floats") == [f"uprobe:{app}:floats", *floats]
    assert listed(f"uprobe:{app}:nothing") == [f"uprobe:{app}:nothing"]
    assert warnings == []
    found = listed(f"uprobe:{stripped}:*l*,uprobe:{stripped}:plain")
    assert found.count(f"uprobe:{stripped}:plain") == 2
    assert f"uprobe:{stripped}:floats" in found
    assert warnings == [f'No DWARF found for "{stripped}", cannot show parameter info']


@tag("list.args", "list.prog")
def test_listing_of_a_program(app: str, stripped: str) -> None:
    warnings: list[str] = []
    text = f"uprobe:{app}:plain {{ }} uprobe:{stripped}:plain, uprobe:{stripped}:many {{ }}"
    found = list_program(text, "program", Options(), verbose=True, warn=warnings.append)
    assert list(found) == [
        f"uprobe:{app}:plain", *PLAIN, f"uprobe:{stripped}:plain", f"uprobe:{stripped}:many",
    ]  # fmt: skip
    assert warnings == [f'No DWARF found for "{stripped}", cannot show parameter info']


@tag("list.args")
def test_listing_on_the_command_line(stripped: str, run: Runner) -> None:
    result = run("-lv", f"uprobe:{stripped}:plain")
    assert result.stdout == f"uprobe:{stripped}:plain\n"
    assert result.stderr == f'WARNING: No DWARF found for "{stripped}", cannot show parameter info\n'
