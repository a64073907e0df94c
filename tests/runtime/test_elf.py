"""The ELF reader, held against binutils."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from pytrace.grammar.host import HostError
from pytrace.runtime.elf import ET_DYN, ET_EXEC, ElfFile

SOURCE = """
int counter = 3;
int twice(int x) { return 2 * x; }
static __attribute__((noinline)) int hidden(int x) { return x + counter; }
int main(void) { return twice(hidden(1)); }
"""
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="there is no compiler")


def build(folder: Path, *options: str) -> str:
    """Compile the small program."""
    (folder / "a.c").write_text(SOURCE)
    path = folder / "a.out"
    subprocess.run(["gcc", "-O0", *options, "-o", str(path), str(folder / "a.c")], check=True)
    return str(path)


def nm(path: str, kinds: str) -> set[tuple[str, int]]:
    """Name and address of symbols, by binutils."""
    text = subprocess.run(["nm", path], check=True, capture_output=True, text=True).stdout
    rows = (line.split() for line in text.splitlines())
    return {(row[2], int(row[0], 16)) for row in rows if len(row) == 3 and row[1] in kinds}


@needs_gcc
@pytest.mark.parametrize("option", ["-pie", "-no-pie"])
def test_functions_and_objects(tmp_path: Path, option: str) -> None:
    path = build(tmp_path, option)
    with ElfFile(path) as file:
        assert file.type == (ET_DYN if option == "-pie" else ET_EXEC)
        symbols = file.symbols()
        objects = {s.name for s in file.symbols(objects=True)}
        names = {s.name for s in symbols}
        assert {"main", "twice", "hidden"} <= names
        assert "counter" in objects
        assert "counter" not in names
        assert {(s.name, s.address) for s in symbols} <= nm(path, "tTwWi")
        assert symbols == sorted(symbols, key=lambda s: (s.address, s.name))
        assert all(s.function for s in symbols)
        # what lies at a function's offset in the file is its code, which starts like every other's
        found = file.find("twice")
        assert len(found) == 1
        code = Path(path).read_bytes()[found[0].offset :][: found[0].size]
        assert code.startswith((b"\x55", b"\xf3\x0f\x1e\xfa"))
        assert b"\xc3" in code[-1:]
        assert file.find("wice") == []
        assert file.find("no_such_function") == []
        assert [s.name for s in file.find("counter", objects=True)] == ["counter"]


@needs_gcc
def test_offsets_follow_the_segments(tmp_path: Path) -> None:
    with ElfFile(build(tmp_path, "-no-pie")) as file:
        main = file.find("main")[0]
        assert main.address - main.offset == 0x400000
        assert file.file_offset(1) is None


@needs_gcc
def test_stripped_files_take_their_symbols_from_a_debug_file(tmp_path: Path) -> None:
    path = build(tmp_path)
    with ElfFile(path) as file:
        whole = file.symbols()
    debug = str(tmp_path / "a.debug")
    subprocess.run(["objcopy", "--only-keep-debug", path, debug], check=True)
    subprocess.run(["objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", path], check=True)
    with ElfFile(path) as file:
        assert file.debug_file() == debug
        assert file.symbols() == whole
        assert [s.name for s in file.find("hidden")] == ["hidden"]
    Path(debug).unlink()
    with ElfFile(path) as file:
        assert file.debug_file() is None
        assert "hidden" not in {s.name for s in file.symbols()}


@needs_gcc
@pytest.mark.parametrize("damaged", [False, True])
def test_stripped_files_with_their_symbols_compressed_in_them(tmp_path: Path, damaged: bool) -> None:
    path, inner = build(tmp_path), tmp_path / "inner"
    subprocess.run(["objcopy", "--only-keep-debug", path, inner], check=True)
    packed = tmp_path / "packed"
    packed.write_bytes(b"no archive" if damaged else lzma.compress(inner.read_bytes()))
    subprocess.run(["objcopy", "--strip-all", f"--add-section=.gnu_debugdata={packed}", path], check=True)
    with ElfFile(path) as file:
        if damaged:  # who looks for a function hears of it; names of addresses do without
            with pytest.raises(HostError, match="gnu_debugdata"):
                file.symbols()
        else:
            assert {"main", "twice", "hidden"} <= {s.name for s in file.symbols()}
        functions = file.functions()
        assert functions.complete is not damaged
        assert functions.text is not None
        assert (b"hidden\0" in functions.text) is not damaged


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(60), b"\x7fELF\x02\x01"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(HostError, match=str(path)):
        ElfFile(str(path))
    with pytest.raises(HostError, match="missing"):
        ElfFile(str(tmp_path / "missing"))


def test_the_c_library() -> None:
    from pytrace.runtime.binaries import resolve

    with ElfFile(resolve("libc")[0]) as file:
        names = {s.name for s in file.symbols()}
        assert {"malloc", "free", "printf"} <= names
        assert {s.offset for s in file.symbols() if s.name == "malloc"} == {s.offset for s in file.find("malloc")}
