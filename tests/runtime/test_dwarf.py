"""Parameters and types of user functions, from programs that are compiled for the purpose."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pytrace.grammar.host import HostError, Prototype
from pytrace.grammar.types import (
    BOOL,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT32,
    Array,
    EnumType,
    Member,
    Opaque,
    Pointer,
    Space,
    String,
    Struct,
)
from pytrace.runtime.host import LiveHost

SOURCE = r"""
#include <stdbool.h>
struct hidden;
enum color { RED = 1, GREEN = 2, BLUE = -3 };
typedef struct { short x, y; } point_t;
struct file {
    char name[16];
    struct file *next;
    union { int number; unsigned char raw[4]; };
    unsigned a:3, b:7;
    enum color color;
    double weight;
    point_t at;
    int grid[2][3];
    struct { int deep; } inner;
    char rest[];
};
struct pair { int a; int b; long c; };
struct mixed { double d; long l; };
struct big { long v[5]; };
struct __attribute__((packed)) packed { char c; long l; };
union __attribute__((transparent_union)) any { int *one; long *two; };
#define F __attribute__((noinline, noipa))
F int plain(const char *prompt, int n, unsigned char c, long l, bool ok, enum color color) { return n; }
F int floats(int a, double d, int b, float f, struct file *file) { return b; }
F long byvalue(struct pair s, int n, struct mixed m, struct big g, struct packed p, int last) { return n; }
F struct big hidden_result(int first) { struct big b = {{first}}; return b; }
F struct pair registers(int first) { struct pair p = {first}; return p; }
F int many(int a, int b, int c, int d, int e, int f, int g) { return g; }
F int wide(__int128 a, int b) { return b; }
F int opaque(struct hidden *h, int (*call)(const char *, ...), char *const argv[], void *restrict p) {
    return !h;
}
F int unnamed(int, long l);
F void nothing(void) { }
F int transparent(union any a, int n) { return n; }
F int anonymous(struct { int only; } *p) { return p->only; }
int unnamed(int a, long l) { return l; }
int main(void) { return 0; }
"""

OTHER = r"""
struct hidden { int inside; };
struct file { long other; };
__attribute__((noipa)) long other(struct file *f, struct hidden *h) { return f->other + h->inside; }
"""

CPP = r"""
namespace net {
struct Base { int id; virtual ~Base() {} };
struct Plain { int a; int get() const { return a; } };
struct Owner { int a; ~Owner() { } };
struct Defaulted { int a; Defaulted(int x) : a(x) {} Defaulted(const Defaulted &) = default; };
struct Holder { Owner owner[2]; };
struct Empty {};
struct Conn : Base { static int count; long bytes; int send(const char *data, Conn &peer); };
int Conn::count;
int Conn::send(const char *data, Conn &peer) { return !data; }
Owner values(Plain plain, Owner owner, Defaulted defaulted, Holder holder, Empty empty, int last) {
    return owner;
}
}
int main() { net::Conn c; return c.send("x", c); }
"""

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="there is no compiler")


def build(folder: Path, *options: str, name: str = "app") -> str:
    """Compile the two C files; the path of the program."""
    for file, text in (("a.c", SOURCE), ("b.c", OTHER)):
        (folder / file).write_text(text)
    files = [str(folder / "a.c"), str(folder / "b.c")]
    subprocess.run(["gcc", "-w", *options, "-o", str(folder / name), *files], check=True)
    return str(folder / name)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program with debug information of the compiler's own choice."""
    return build(tmp_path_factory.mktemp("dwarf"), "-g", "-O0")


@pytest.fixture
def host() -> LiveHost:
    return LiveHost()


def prototype(host: LiveHost, path: str, symbol: str) -> Prototype:
    found = host.user_prototype(path, symbol)
    assert found is not None
    return found


def texts(host: LiveHost, path: str, symbol: str) -> list[str]:
    """The declarations of the parameters."""
    return [m.text for m in prototype(host, path, symbol).parameters]


def slots(host: LiveHost, path: str, symbol: str) -> dict[str, int]:
    """The register in which each parameter starts; -1 for none."""
    return {m.name: m.offset // 8 for m in prototype(host, path, symbol).parameters}


def struct(host: LiveHost, path: str, symbol: str) -> tuple[Struct, dict[str, Member]]:
    """What the last parameter points to, and its members."""
    kind = prototype(host, path, symbol).parameters[-1].type
    assert isinstance(kind, Pointer)
    assert isinstance(kind.to, Struct)
    return kind.to, {m.name: m for m in host.members(kind.to)}


# ---------------------------------------------------------------- functions


@pytest.mark.tag("list.args")
def test_declarations_are_written_like_those_of_btf(host: LiveHost, app: str) -> None:
    assert texts(host, app, "plain") == [
        "const char * prompt", "int n", "unsigned char c", "long int l", "_Bool ok", "enum color color",
    ]  # fmt: skip
    assert texts(host, app, "opaque") == [
        "struct hidden * h",
        "int (*)(const char *, ...) call",
        "char * const * argv",
        "void * restrict p",
    ]
    assert texts(host, app, "unnamed") in (["int a", "long int l"], ["int arg0", "long int l"])
    assert texts(host, app, "nothing") == []
    assert prototype(host, app, "hidden_result").result_text == "struct big"


def test_types(host: LiveHost, app: str) -> None:
    found = prototype(host, app, "plain")
    color = EnumType("color", 4, True, app)
    chars = Pointer(INT8, Space.USER)
    assert [m.type for m in found.parameters] == [chars, INT32, UINT8, INT64, BOOL, color]
    assert [m.offset for m in found.parameters] == [0, 8, 16, 24, 32, 40]
    assert (found.result, found.result_text, found.slots, found.module) == (INT32, "int", 6, app)
    assert host.enumerators(color) == {"RED": 1, "GREEN": 2, "BLUE": -3}


@pytest.mark.parametrize(
    ("symbol", "expected", "needed"),
    [
        ("floats", {"a": 0, "d": -1, "b": 1, "f": -1, "file": 2}, 3),
        # a struct of a double and a long takes one general register, but is not all in it
        ("byvalue", {"s": 0, "n": 2, "m": -1, "g": -1, "p": -1, "last": 4}, 5),
        ("hidden_result", {"first": 1}, 2),  # the first register says where the result goes
        ("registers", {"first": 0}, 1),
        ("many", dict(zip("abcdefg", range(7), strict=True)), 7),
        ("wide", {"a": 0, "b": 2}, 3),
        ("transparent", {"a": 0, "n": 1}, 2),
    ],
)
def test_registers(host: LiveHost, app: str, symbol: str, expected: dict[str, int], needed: int) -> None:
    assert slots(host, app, symbol) == expected
    assert prototype(host, app, symbol).slots == needed


@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")
@pytest.mark.parametrize("options", [("-O0", "-gdwarf-5"), ("-O2", "-gdwarf-5"), ("-O0", "-gdwarf-4")])
def test_cpp(host: LiveHost, tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "a.cpp").write_text(CPP)
    path = str(tmp_path / "cpp")
    subprocess.run(["g++", "-w", *options, "-o", path, str(tmp_path / "a.cpp")], check=True)
    send, values = (next(s.name for s in host.symbols(path) if w in s.name) for w in ("send", "values"))
    assert texts(host, path, send) == ["struct Conn * const this", "const char * data", "struct Conn & peer"]
    _, members = struct(host, path, send)
    assert [(n, m.offset) for n, m in members.items()] == [("_vptr.Base", 0), ("id", 8), ("bytes", 16)]
    assert slots(host, path, values) == {  # the result, and what has a destructor, are in memory
        "plain": 1, "owner": 2, "defaulted": 3, "holder": 4, "empty": -1, "last": 5,
    }  # fmt: skip
    owner = prototype(host, path, values).parameters[1].type
    assert owner == Pointer(Struct("Owner", 4, origin=path), Space.USER)


# ---------------------------------------------------------------- structs


@pytest.mark.parametrize(
    "options",
    [
        ("-gdwarf-5",), ("-gdwarf-4",), ("-gdwarf-3", "-gstrict-dwarf"), ("-gdwarf-2", "-gstrict-dwarf"),
        ("-g", "-O2"), ("-g", "-gz"), ("-gdwarf-4", "-fdebug-types-section"), ("-g", "-flto", "-O1"),
        ("-g", "-ffunction-sections", "-static-pie"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_members(host: LiveHost, tmp_path: Path, options: tuple[str, ...]) -> None:
    path = build(tmp_path, *options)
    kind, members = struct(host, path, "floats")
    point = Struct("point_t", 4, origin=path)
    inner = Struct("file.inner", 4, origin=path)
    assert kind == Struct("file", 80, origin=path)
    assert {n: (m.type, m.offset, m.bits) for n, m in members.items()} == {
        "name": (String(16), 0, None),
        "next": (Pointer(kind, Space.USER), 16, None),
        "number": (INT32, 24, None),
        "raw": (String(4), 24, None),
        "a": (UINT32, 24, (32, 3)),
        "b": (UINT32, 24, (35, 7)),
        "color": (EnumType("color", 4, True, path), 32, None),
        "weight": (Opaque("float", 8, 8), 40, None),
        "at": (point, 48, None),
        "grid": (Array(Array(INT32, 3), 2), 52, None),
        "inner": (inner, 76, None),
        "rest": (Array(INT8, 0), 80, None),
    }
    assert members["grid"].text == "int grid[2][3]"
    assert members["b"].text == "unsigned int b:7"
    assert [(m.name, m.offset) for m in host.members(point)] == [("x", 0), ("y", 2)]
    assert [m.name for m in host.members(inner)] == ["deep"]


@pytest.mark.tag("type.struct.source")
def test_types_of_one_name_are_kept_apart(host: LiveHost, app: str) -> None:
    first, members = struct(host, app, "floats")
    parameter = prototype(host, app, "other").parameters[0].type
    assert isinstance(parameter, Pointer)
    second = parameter.to
    assert isinstance(second, Struct)
    assert first != second
    assert "weight" in members
    assert [m.name for m in host.members(second)] == ["other"]
    kernel = host.find_type("file", "struct")
    assert isinstance(kernel, Struct)
    assert "f_flags" in {m.name for m in host.members(kernel)}
    assert kernel not in (first, second)


def test_what_one_unit_declares_another_defines(host: LiveHost, app: str) -> None:
    parameter = prototype(host, app, "opaque").parameters[0].type
    assert isinstance(parameter, Pointer)
    assert isinstance(parameter.to, Struct)
    assert [m.name for m in host.members(parameter.to)] == ["inside"]
    # both units mean the same, so values of both can be in one map
    assert prototype(host, app, "other").parameters[1].type == parameter


@pytest.mark.tag("type.struct.source")
def test_types_by_name(host: LiveHost, app: str) -> None:
    assert host.user_type(app, "point_t") == Struct("point_t", 4, origin=app)
    assert host.user_type(app, "hidden", "struct") == Struct("hidden", 4, origin=app)
    assert host.user_type(app, "any", "union") == Struct("any", 8, "union", origin=app)
    assert host.user_type(app, "color", "enum") == EnumType("color", 4, True, app)
    for name, kind in (("point_t", "struct"), ("hidden", ""), ("task_struct", "struct"), ("den", "struct")):
        assert host.user_type(app, name, kind) is None


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("section", [".debug_aranges", ""])
def test_without_an_index_of_addresses(host: LiveHost, app: str, tmp_path: Path, section: str) -> None:
    path = str(tmp_path / "app")
    subprocess.run(["objcopy", *(["--remove-section", section] if section else []), app, path], check=True)
    assert slots(host, path, "floats") == slots(host, app, "floats")
    assert slots(host, path, "other") == {"f": 0, "h": 1}


@pytest.mark.parametrize("strip", ["-g", "-s"])
def test_separate_debug_file(host: LiveHost, app: str, tmp_path: Path, strip: str) -> None:
    path, debug = str(tmp_path / "app"), str(tmp_path / "app.debug")
    subprocess.run(["objcopy", "--only-keep-debug", app, debug], check=True)
    subprocess.run(["strip", strip, "-o", path, app], check=True)
    subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", path], check=True)
    assert texts(host, path, "plain") == texts(host, app, "plain")


def test_no_debug_information(host: LiveHost, tmp_path: Path) -> None:
    path = build(tmp_path, "-g0")
    with pytest.raises(HostError) as caught:
        host.user_prototype(path, "plain")
    assert str(caught.value) == f'No DWARF found for "{path}"'
    assert host.user_type(path, "point_t") is None


def test_functions_that_are_not_described(host: LiveHost, app: str, tmp_path: Path) -> None:
    assert host.user_prototype(app, "_start") is None
    assert host.user_prototype(app, "no_such_function") is None
    (tmp_path / "f.s").write_text(".globl main, f\n.type main,@function\nmain: ret\n.type f,@function\nf: ret\n")
    path = str(tmp_path / "assembled")
    subprocess.run(["gcc", "-g", "-o", path, str(tmp_path / "f.s")], check=True)
    assert host.user_prototype(path, "f") is None


def test_broken_debug_information(host: LiveHost, app: str, tmp_path: Path) -> None:
    path, junk = str(tmp_path / "app"), tmp_path / "junk"
    junk.write_bytes(bytes(range(1, 250)))
    subprocess.run(["objcopy", "--update-section", f".debug_abbrev={junk}", app, path], check=True)
    with pytest.raises(HostError, match="its debug information cannot be read"):
        host.user_prototype(path, "plain")


def test_only_the_needed_units_are_decoded(host: LiveHost, app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from elftools.dwarf.compileunit import CompileUnit
    from elftools.dwarf.die import DIE

    read: set[int] = set()
    real = CompileUnit.get_top_DIE

    def noted(unit: CompileUnit) -> DIE:
        read.add(unit.cu_offset)
        return real(unit)

    monkeypatch.setattr(CompileUnit, "get_top_DIE", noted)
    assert slots(host, app, "nothing") == {}
    assert len(read) == 1
    assert host.user_type(app, "no_such_type_anywhere", "struct") is None
    assert len(read) == 1
    assert host.user_type(app, "hidden", "struct") is not None
    assert len(read) == 2
