"""Unwind tables, held against binutils (which print what holds at every place of every function)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from pytrace.runtime.ehframe import RBP_LOST, Frames, Kind, rows_of, rule, rule_parts
from pytrace.runtime.elf import ElfFile

pytestmark = [
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="unwind tables are for x86-64"),
    pytest.mark.skipif(not shutil.which("gcc"), reason="there is no compiler"),
]
LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")
LIBRARIES = [p for p in (LIBC, LIBC.with_name("libstdc++.so.6"), Path(sys.executable).resolve()) if p.exists()]
OTHER_DISTRIBUTIONS = Path("/lib64/libc.so.6")

Known = tuple[int, str, str, str]  # address; frame address, rbp and return address as readelf writes them


class Table:
    """The rows of a file, asked as a program asks them."""

    def __init__(self, path: str | Path) -> None:
        with ElfFile(str(path)) as file:
            self.rows = rows_of(file)
            self.low = min(s.address for s in file.segments)

    def rule(self, address: int) -> int:
        """The rule for an address."""
        key = (address - self.low) << 32 | 0xFFFFFFFF
        return self.rows[bisect_right(self.rows, key) - 1] & 0xFFFFFFFF if self.rows[0] <= key else 0

    def kind(self, address: int) -> Kind:
        """The kind of that rule."""
        return rule_parts(self.rule(address))[0]


def functions(path: str | Path) -> Iterator[tuple[int, int, list[Known]]]:
    """Start and end of each function, and what holds where, by readelf."""
    command = ["readelf", "--debug-dump=frames-interp", "--wide", str(path)]
    # its status is 1 if it only misses a file of debug information
    text = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    for block in re.split(r"\n\n+", text):
        head = re.search(r"FDE .*pc=([0-9a-f]+)\.\.([0-9a-f]+)", block)
        if not head:
            continue
        lines = re.sub(r" \(\w+\)", "", block[head.end() :]).strip().splitlines()  # `r5 (rdi)`
        known = []
        for line in lines[1:]:
            cells = dict(zip(lines[0].split(), line.split(), strict=True))
            known.append((int(cells["LOC"], 16), cells["CFA"], cells.get("rbp", "u"), cells["ra"]))
        yield int(head[1], 16), int(head[2], 16), known


def expected(frame: str, rbp: str, returns: str) -> int | None:
    """The rule that readelf's words stand for; None for what it does not tell (an expression)."""
    if returns == "u":
        return rule(Kind.END)
    if frame == "exp" or returns == "exp":
        return None
    if returns != "c-8":
        return rule(Kind.NONE)
    register, offset = re.fullmatch(r"(\w+)([+-]\d+)", frame).groups()  # type: ignore[union-attr]
    saved = 0 if rbp == "u" else int(rbp.removeprefix("c")) if rbp.startswith("c") else RBP_LOST
    kinds = {"rsp": Kind.RSP, "rbp": Kind.RBP}
    return rule(kinds[register], int(offset), saved) if register in kinds else rule(Kind.NONE)


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda p: p.name)
@pytest.mark.tag("stack.dwarf")
def test_every_place_of_every_function(path: Path) -> None:
    table, places, untold = Table(path), 0, list[Kind]()
    spans = list(functions(path))
    starts = {start for start, _, _ in spans}
    for _, end, known in spans:
        for number, (address, *words) in enumerate(known):
            until = known[number + 1][0] if number + 1 < len(known) else end
            wanted = expected(*words)
            if wanted is None:
                untold.append(table.kind(address))
            for place in (address, until - 1) if address < until else ():
                assert wanted is None or table.rule(place) == wanted, hex(place)
                places += 1
        if end not in starts:
            assert table.rule(end) == rule(Kind.NONE) or any(s <= end < e for s, e, _ in spans), hex(end)
    assert places > 10_000
    assert untold
    assert set(untold) <= {Kind.PLT, Kind.SIGNAL, Kind.AT_RBP}


def test_the_c_library_has_them() -> None:
    """The test above would be content with nothing."""
    assert LIBRARIES
    kinds = {Kind(row & 7) for row in Table(LIBC if LIBC.exists() else OTHER_DISTRIBUTIONS).rows}
    assert kinds >= {Kind.NONE, Kind.RSP, Kind.RBP, Kind.SIGNAL, Kind.END}


# ---------------------------------------------------------------- what compilers do not write every day

SOURCE = """
.text
.globl f
.type f, @function
f: .cfi_startproc
    nop
    .cfi_def_cfa_offset 24
    .cfi_rel_offset rbp, 0
    nop
    .cfi_remember_state
    .cfi_def_cfa rbp, 16
    .skip 300
    .cfi_restore_state
    .skip 70000
    .cfi_restore rbp
    nop
    .cfi_undefined rbp
    nop
    .cfi_same_value rbp
    .cfi_adjust_cfa_offset 80000
    nop
    .cfi_register rbp, rax
    nop
    .cfi_same_value rbp
    .cfi_def_cfa rbx, 16
    nop
    .cfi_escape 0x0f, 3, 0x76, 0x78, 6        # frame address: DW_OP_breg6 -8, deref
    .cfi_escape 0x10, 6, 2, 0x76, 0           # rbp: at rbp + 0
    nop
    .cfi_escape 0x0f, 3, 0x73, 0x78, 6        # the same from rbx
    nop
    .cfi_def_cfa rsp, 8
    .cfi_same_value rbp
    .cfi_escape 0x12, 7, 0x7d                 # DW_CFA_def_cfa_sf rsp, -3 * -8
    .cfi_escape 0x11, 6, 2                    # DW_CFA_offset_extended_sf rbp, 2 * -8
    .cfi_escape 0x2e, 16                      # DW_CFA_GNU_args_size
    .cfi_escape 0x05, 3, 3                    # DW_CFA_offset_extended rbx
    nop
    .cfi_def_cfa rsp, 9
    nop
    .cfi_def_cfa rsp, 400000
    nop
    .cfi_def_cfa rsp, 8
    .cfi_undefined rip
    nop
    .cfi_endproc
"""
RULES = [
    rule(Kind.RSP, 8),
    rule(Kind.RSP, 24, -24),
    rule(Kind.RBP, 16, -24),
    rule(Kind.RSP, 24, -24),
    rule(Kind.RSP, 24),
    rule(Kind.RSP, 24, RBP_LOST),
    rule(Kind.RSP, 80024),
    rule(Kind.RSP, 80024, RBP_LOST),
    rule(Kind.NONE),
    rule(Kind.AT_RBP, -8),
    rule(Kind.NONE),
    rule(Kind.RSP, 24, -16),
    rule(Kind.NONE),  # no whole words
    rule(Kind.NONE),  # too far
    rule(Kind.END),
    rule(Kind.NONE),  # behind the function
]
LENGTHS = [1, 1, 300, 70000, *[1] * 11]


def assembled(folder: Path, sections: str = "", *options: str) -> str:
    """The functions in a shared object."""
    (folder / "frames.s").write_text(f"{sections}\n{SOURCE}")
    path = str(folder / "frames.so")
    command = ["gcc", "-shared", "-nostdlib", *options, "-o", path, str(folder / "frames.s")]
    subprocess.run(command, check=True)
    return path


def places(table: Table, path: str) -> list[int]:
    """The rules of the function from its start on."""
    with ElfFile(path) as file:
        start = file.find("f")[0].address
    found = []
    for length in [*LENGTHS, 1]:
        found += [table.rule(start)]
        assert table.rule(start + length - 1) == found[-1]
        start += length
    return found


@pytest.mark.parametrize(
    ("sections", "options"),
    [("", ()), (".cfi_sections .debug_frame", ()), (".cfi_sections .debug_frame", ("-Wl,--compress-debug-sections=zlib",))],
    ids=["eh_frame", "debug_frame", "compressed"],
)  # fmt: skip
def test_all_instructions(tmp_path: Path, sections: str, options: tuple[str, ...]) -> None:
    path = assembled(tmp_path, sections, *options)
    with ElfFile(path) as file:
        assert (file.section(".debug_frame") is None) == (not sections)
    assert places(Table(path), path) == RULES


def test_a_file_without_any(tmp_path: Path) -> None:
    path = tmp_path / "none.so"
    (tmp_path / "none.s").write_text(".text\nnop\n")
    subprocess.run(["gcc", "-shared", "-nostdlib", "-o", path, tmp_path / "none.s"], check=True)
    with ElfFile(str(path)) as file:
        assert rows_of(file) == []


@pytest.mark.parametrize("offset", [-(1 << 18), -8, 0, 8, (1 << 18) - 8])
@pytest.mark.parametrize("rbp", [RBP_LOST, -16, 0, 0x7FF8])
def test_rules_are_numbers(offset: int, rbp: int) -> None:
    for kind in (Kind.RSP, Kind.AT_RBP):
        assert rule_parts(rule(kind, offset, rbp)) == (kind, offset, rbp)
    for bad in ((1 << 18, rbp), (4, rbp), (offset, 0x8000), (offset, -12)):
        assert rule(Kind.RSP, *bad) == 0


# ---------------------------------------------------------------- broken sections

COMMON = bytes.fromhex("14000000 00000000 01 7a5200 01 78 10 01 1b 0c0708 9001 0000")  # zR, as gcc writes it


def entry(code: bytes, augmentation: bytes = b"\0") -> bytes:
    """An FDE of a function of 16 bytes at its own address, with these instructions."""
    body = b"\0\0\0\0" + (16).to_bytes(4, "little") + augmentation + code
    body += bytes(-len(body) % 4)
    return (len(body) + 4).to_bytes(4, "little") + (len(COMMON) + 4).to_bytes(4, "little") + body


def test_an_entry_by_hand() -> None:
    rows = Frames(COMMON + entry(b"\x41\x0e\x10") + bytes(4), 0x1000).rows(0x1000)
    start = len(COMMON) + 8
    assert [(row >> 32, row & 0xFFFFFFFF) for row in rows] == [
        (start, rule(Kind.RSP, 8)), (start + 1, rule(Kind.RSP, 16)), (start + 16, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    [
        entry(b"\x3f"),  # no such instruction
        entry(b"\x0b"),  # the state was never kept
        entry(b"\x01" + bytes(8)),  # DW_CFA_set_loc
        entry(b"\x0c\x87"),  # the number does not end
        entry(b"")[:14],
    ],
    ids=["unknown", "restore", "set_loc", "number", "short"],
)
def test_damage_is_limited_to_a_function(bad: bytes) -> None:
    good = entry(b"")
    data = COMMON + good + bad
    alone = Frames(COMMON + good, 0x1000).rows(0x1000)
    assert len(alone) == 2
    assert Frames(data, 0x1000).rows(0x1000) == alone


def test_other_processors() -> None:
    common = COMMON.replace(b"\x78\x10\x01", b"\x78\x1e\x01")  # the return address is in register 30
    assert common != COMMON
    assert Frames(common + entry(b""), 0).rows(0) == []


@pytest.mark.parametrize("seed", range(300))
def test_any_bytes(seed: int) -> None:
    """Nothing that a file may say stops the tracer."""
    random = Random(seed)
    data = bytearray(COMMON + entry(b"\x41\x0e\x10\x86\x02\x43\x0d\x06") + entry(b"\x0a\x4c\x0c\x07\x08\x0b"))
    for _ in range(random.randrange(1, 6)):
        data[random.randrange(len(data))] = random.randrange(256)
    rows = Frames(bytes(data), 0x1000).rows(0x1000)
    assert rows == sorted(rows)
