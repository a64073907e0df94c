"""USDT notes and their argument strings."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pytrace.grammar.host import UsdtArgument
from pytrace.runtime.elf import ElfFile
from pytrace.runtime.usdt import parse_arguments, usdt_locations

tag = pytest.mark.tag


@tag("probe.usdt.args")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-4@%edi", UsdtArgument(-4, register="di")),
        ("8@%rax", UsdtArgument(8, register="ax")),
        ("1@%cl", UsdtArgument(1, register="cx")),
        ("2@%r10w", UsdtArgument(2, register="r10")),
        ("1@%sil", UsdtArgument(1, register="si")),
        ("%rdx", UsdtArgument(8, register="dx")),
        ("8@$5", UsdtArgument(8, constant=5)),
        ("-4@$-5", UsdtArgument(-4, constant=-5)),
        ("4@-20(%rbp)", UsdtArgument(4, register="bp", dereference=True, offset=-20)),
        ("8@(%rsp)", UsdtArgument(8, register="sp", dereference=True)),
        ("8@0x10(%r12)", UsdtArgument(8, register="r12", dereference=True, offset=16)),
        ("8@(%rax,%rbx,4)", UsdtArgument(8, register="ax", dereference=True, index="bx", scale=4)),
        ("8@8(%rax,%rbx)", UsdtArgument(8, register="ax", dereference=True, offset=8, index="bx")),
        ("8@16(,%rcx,8)", UsdtArgument(8, dereference=True, offset=16, index="cx", scale=8)),
        ("8f@%xmm0", UsdtArgument(8)),  # what cannot be read
        ("1@%ah", UsdtArgument(1)),
        ("8@somewhere", UsdtArgument(8)),
        ("8@$symbol", UsdtArgument(8)),
    ],
)
def test_one_argument(text: str, expected: UsdtArgument) -> None:
    assert list(parse_arguments(text)) == [expected]


def test_several_arguments() -> None:
    found = list(parse_arguments("-4@%edi 8@$7 8@-8(%rbp)"))
    assert [(a.size, a.register, a.constant) for a in found] == [
        (-4, "di", None),
        (8, "", 7),
        (8, "bp", None),
    ]
    assert list(parse_arguments("")) == []


# what <sys/sdt.h> makes of a probe, without needing that header
SOURCE = """
long global = 42;
unsigned short __attribute__((section(".probes"))) made_up_semaphore;
#define PROBE(name, semaphore, arguments) \\
    asm volatile("990: nop\\n" \\
        ".pushsection .note.stapsdt,\\"\\",\\"note\\"\\n.balign 4\\n.4byte 992f-991f, 994f-993f, 3\\n" \\
        "991: .asciz \\"stapsdt\\"\\n992: .balign 4\\n993: .8byte 990b, _.stapsdt.base, " semaphore "\\n" \\
        ".asciz \\"made\\"\\n.asciz \\"" name "\\"\\n.asciz \\"" arguments "\\"\\n" \\
        "994: .balign 4\\n.popsection\\n" \\
        ".ifndef _.stapsdt.base\\n" \\
        ".pushsection .stapsdt.base,\\"aG\\",\\"progbits\\",.stapsdt.base,comdat\\n" \\
        ".weak _.stapsdt.base\\n.hidden _.stapsdt.base\\n_.stapsdt.base: .space 1\\n" \\
        ".size _.stapsdt.base, 1\\n.popsection\\n.endif\\n")
int main(void) {
    PROBE("up", "made_up_semaphore", "-4@%edi 8@global(%rip)");
    PROBE("up", "0", "");
    PROBE("other", "0", "8@$1");
    return global;
}
"""


@pytest.mark.skipif(not shutil.which("gcc"), reason="there is no compiler")
@tag("probe.usdt", "probe.usdt.multi-loc", "probe.usdt.semaphore")
@pytest.mark.parametrize("option", ["-pie", "-no-pie"])
def test_locations_of_a_file(tmp_path: Path, option: str) -> None:
    (tmp_path / "a.c").write_text(SOURCE)
    path = str(tmp_path / "a.out")
    subprocess.run(["gcc", option, "-o", path, str(tmp_path / "a.c")], check=True)
    first, second, other = usdt_locations(path)
    assert [(x.provider, x.name) for x in (first, second, other)] == [("made", "up")] * 2 + [("made", "other")]
    content = Path(path).read_bytes()
    assert {content[x.offset] for x in (first, second, other)} == {0x90}
    assert len({x.offset for x in (first, second, other)}) == 3
    assert (second.semaphore, other.semaphore) == (0, 0)
    with ElfFile(path) as file:
        assert first.semaphore == file.find("made_up_semaphore", objects=True)[0].offset
        variable = file.find("global", objects=True)[0]
        probe = next(s for s in file.find("main"))
    register, relative = first.arguments
    assert register == UsdtArgument(-4, register="di")
    assert (relative.register, relative.dereference) == ("ip", True)
    # the probe's address plus the distance is where the variable is
    address = probe.address + (first.offset - probe.offset)
    assert address + relative.offset == variable.address
    assert struct.unpack_from("<q", content, variable.offset) == (42,)
    assert second.arguments == ()
