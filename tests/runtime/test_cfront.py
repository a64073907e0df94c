"""What libclang makes of a program's C text."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytrace.grammar.host import CDefinitions
from pytrace.grammar.types import (
    BOOL,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    VOID,
    Array,
    EnumType,
    Pointer,
    String,
    Struct,
    Type,
)
from pytrace.runtime.cfront import CFront, kernel_header_arguments
from tests.fakehost import FakeHost

tag = pytest.mark.tag


def read(text: str, **options: object) -> CDefinitions:
    """The definitions of a text that has no mistakes."""
    found = CFront(FakeHost(), **options).definitions(text)  # type: ignore[arg-type]
    assert found.errors == ()
    return found


def layout(found: CDefinitions, name: str) -> list[tuple[str, Type, int]]:
    """Name, type and offset of the members of a struct."""
    return [(m.name, m.type, m.offset) for m in found.members[name]]


@tag("lex.cdef", "type.struct.field")
def test_a_struct() -> None:
    found = read("struct a { int x; char *name; struct a *next; unsigned short s; };")
    assert found.structs == {"a": Struct("a", 32)}
    assert layout(found, "a") == [
        ("x", INT32, 0),
        ("name", Pointer(INT8), 8),
        ("next", Pointer(Struct("a", 32)), 16),
        ("s", UINT16, 24),
    ]
    assert [m.text for m in found.members["a"]] == [
        "int x",
        "char * name",
        "struct a * next",
        "unsigned short s",
    ]


@tag("type.struct.anon")
def test_anonymous_members_and_unions() -> None:
    found = read(
        "struct a { int x; union { long q; struct { int low; int high; }; };"
        " struct { int m; } first; struct { int n; long o; } second; };"
    )
    assert layout(found, "a") == [
        ("x", INT32, 0),
        ("q", INT64, 8),
        ("low", INT32, 8),
        ("high", INT32, 12),
        ("first", Struct("a.first", 4), 16),
        ("second", Struct("a.second", 16), 24),
    ]
    assert layout(found, "a.first") == [("m", INT32, 0)]
    assert layout(found, "a.second") == [("n", INT32, 0), ("o", INT64, 8)]
    assert read("union u { int a; long b; };").structs == {"u": Struct("u", 8, "union")}


@tag("type.struct.attr")
def test_attributes() -> None:
    found = read(
        "struct a { char c; int x; } __attribute__((packed));\nstruct b { int x; } __attribute__((aligned(64)));"
    )
    assert layout(found, "a") == [("c", INT8, 0), ("x", INT32, 1)]
    assert found.structs["b"].size == 64


@tag("type.struct.bitfield")
def test_bit_fields() -> None:
    members = read("struct a { unsigned a:3; unsigned b:5; unsigned c:24; long d:40; };").members["a"]
    assert [(m.name, m.offset * 8 + m.bits[0], m.bits[1]) for m in members if m.bits] == [
        ("a", 0, 3),
        ("b", 3, 5),
        ("c", 8, 24),
        ("d", 64, 40),
    ]


@tag("type.string.chararray", "type.array.flex")
def test_arrays() -> None:
    found = read(
        "#include <stdint.h>\nstruct a { char s[16]; int8_t i[4]; uint8_t u[4]; int m[2][3]; char *p[2]; int f[]; };"
    )
    assert [m.type for m in found.members["a"]] == [
        String(16),
        Array(INT8, 4),
        Array(UINT8, 4),
        Array(Array(INT32, 3), 2),
        Array(Pointer(INT8), 2),
        Array(INT32, 0),
    ]


@tag("type.enum.const")
def test_enumerations() -> None:
    found = read("enum color { RED, GREEN = 5, BLUE };\nenum { LOW = -1, HIGH = 1 };\nstruct s { enum color c; };")
    assert found.enums["color"] == EnumType("color", 4)
    assert found.enumerators["BLUE"] == (EnumType("color", 8), 6)
    anonymous, low = found.enumerators["LOW"]
    assert (low, anonymous.signed, anonymous) == (-1, True, found.enumerators["HIGH"][0])
    assert found.enumerators["HIGH"][1] == 1
    assert found.members["s"][0].type == EnumType("color", 4)


@tag("type.cmacro")
def test_macros() -> None:
    found = read(
        "#define A (1 + 2)\n#define F(x) x\n#define EMPTY\n#define S sizeof(struct a)\n"
        '#define T "a b"\n#define GONE 1\n#undef GONE\n#define BACK 1\n#undef BACK\n#define BACK 2\n'
    )
    assert found.macros == {
        "A": "(1+2)",
        "F": "",
        "EMPTY": "",
        "S": "sizeof(struct a)",
        "T": '"a b"',
        "BACK": "2",
    }


@tag("type.struct.source")
def test_the_macro_that_tells_of_btf() -> None:
    text = "#ifdef BPFTRACE_HAVE_BTF\n#define FOUND 1\n#endif"
    assert read(text).macros == {"FOUND": "1"}
    assert read(text, have_btf=False).macros == {}


@tag("type.cdef.btf-mix")
def test_kernel_types_need_no_include() -> None:
    found = read(
        "struct a { u32 x; struct task_struct *t; bool b; atomic_t c; struct list_head l; enum pid_type p; u8 d[6]; };"
    )
    assert found.structs == {"a": Struct("a", 56)}
    assert layout(found, "a") == [
        ("x", UINT32, 0),
        ("t", Pointer(Struct("task_struct", 3264)), 8),
        ("b", BOOL, 16),
        ("c", Struct("atomic_t", 4), 20),
        ("l", Struct("list_head", 16), 24),
        ("p", EnumType("pid_type", 4), 40),
        ("d", Array(UINT8, 6), 44),
    ]
    # their members and enumerators are BTF's business
    assert set(found.members) == {"a"}
    assert found.enumerators == {}
    assert found.typedefs == {}


def test_function_pointers_and_floating_point() -> None:
    found = read("struct a { int (*f)(int); double d; };")
    assert found.members["a"][0].type == Pointer(VOID)
    assert [m.offset for m in found.members["a"]] == [0, 8]


@tag("lex.cpp.line")
def test_headers(tmp_path: Path) -> None:
    (tmp_path / "mine.h").write_text("#define ONE 1\ntypedef unsigned long mine_t;\nstruct mine { mine_t m; };\n")
    expected = [("m", UINT64, 0)]
    found = read('#include "mine.h"\n', include_dirs=[str(tmp_path)])
    assert layout(found, "mine") == expected
    assert found.typedefs["mine_t"] == UINT64
    assert found.macros["ONE"] == "1"
    found = read("struct b { struct mine m; };", includes=[str(tmp_path / "mine.h")])
    assert found.structs["b"] == Struct("b", 8)


def test_the_compilers_own_headers() -> None:
    found = read("#include <stddef.h>\n#include <stdbool.h>\nstruct a { size_t n; bool b; };")
    assert layout(found, "a") == [("n", UINT64, 0), ("b", BOOL, 8)]


@pytest.mark.skipif(not Path("/usr/include/linux/in.h").exists(), reason="there are no user-space kernel headers")
def test_linux_headers() -> None:
    found = read("#include <linux/in.h>\n#include <linux/types.h>\nstruct a { __be16 port; struct in_addr address; };")
    assert found.structs["sockaddr_in"].size == 16
    assert found.enumerators["IPPROTO_TCP"][1] == 6
    assert layout(found, "a") == [("port", UINT16, 0), ("address", Struct("in_addr", 4), 4)]


@tag("type.struct.errors")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#include <no/such.h>", "definitions.h:1:10: 'no/such.h' file not found (no header"),
        ("struct a {\n  nothing_t x;\n};", "definitions.h:2:3: unknown type name 'nothing_t'"),
        ("struct a { struct nothing x; };", "field has incomplete type 'struct nothing'"),
        ("struct a { int 5; };", "expected member name or ';'"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    errors = CFront(FakeHost()).definitions(text).errors
    assert message in errors[0]


def test_kernel_headers_are_used_where_they_are(tmp_path: Path) -> None:
    assert kernel_header_arguments("0.0.0-none", {}) == []
    (tmp_path / "include/linux").mkdir(parents=True)
    (tmp_path / "include/linux/kconfig.h").write_text("#define CONFIGURED 1\n")
    arguments = kernel_header_arguments("0.0.0-none", {"BPFTRACE_KERNEL_SOURCE": str(tmp_path)})
    found = read("#ifdef CONFIGURED\n#define YES 1\n#endif\n", kernel_headers=arguments)
    assert found.macros["YES"] == "1"
    assert arguments[-1] == "-D__BPF_TRACING__"
