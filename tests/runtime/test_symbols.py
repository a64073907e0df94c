"""Addresses to names: kernel symbols, processes that live and processes that have gone."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytrace.grammar.host import HostError
from pytrace.runtime.demangle import demangle
from pytrace.runtime.elf import ElfFile
from pytrace.runtime.images import Mapping
from pytrace.runtime.kernel import KernelSymbols
from pytrace.runtime.mappedfiles import Place
from pytrace.runtime.symbols import Symbolizer
from pytrace.runtime.symboltable import SymbolTable

tag = pytest.mark.tag

KALLSYMS = """0000000000000000 A percpu_base
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000100 T vfs_read
ffffffff81000200 t vfs_read.part.0
ffffffffc0002000 t late\t[mod_b]
ffffffffc0001000 t early\t[mod_a]
ffffffff82000000 D some_data
"""


@pytest.fixture
def symbols(tmp_path: Path) -> KernelSymbols:
    path = tmp_path / "kallsyms"
    path.write_text(KALLSYMS)
    return KernelSymbols(str(path))


@tag("sym.resolve")
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (0xFFFFFFFF81000000, ("_stext", 0)),  # the first of two names
        (0xFFFFFFFF81000105, ("vfs_read", 5)),
        (0xFFFFFFFF810002FF, ("vfs_read.part.0", 255)),
        (0xFFFFFFFFC0001010, ("early", 16)),
        (0xFFFFFFFFC0002000, ("late", 0)),
        (0xFFFFFFFF80000000, None),
        (0x00007F0000000000, None),  # of a process
        (0xFFFFFFFFFFFFFFFF, ("late", 0x3FFFDFFF)),
        (0, None),
    ],
)
def test_kernel_symbols(symbols: KernelSymbols, address: int, expected: object) -> None:
    assert symbols.resolve(address) == expected
    assert Symbolizer(symbols).kernel(address) == expected


@tag("type.addr-results")
def test_addresses_of_kernel_symbols(symbols: KernelSymbols) -> None:
    assert symbols.address("vfs_read") == 0xFFFFFFFF81000100
    assert symbols.address("late") == 0xFFFFFFFFC0002000
    assert symbols.address("some_data") == 0xFFFFFFFF82000000
    assert symbols.address("vfs") is None
    assert symbols.address("read") is None
    assert symbols.address("") is None


def test_hidden_addresses_are_said(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text("0000000000000000 T _text\n0000000000000000 T vfs_read\n")
    with pytest.raises(HostError, match="root"):
        KernelSymbols(str(path)).address("vfs_read")
    assert KernelSymbols(str(path)).resolve(0xFFFFFFFF81000000) is None
    with pytest.raises(HostError, match="missing"):
        KernelSymbols(str(tmp_path / "missing")).address("vfs_read")


@pytest.mark.root
def test_this_kernels_symbols() -> None:
    symbols = KernelSymbols()
    address = symbols.address("vfs_read")
    assert address is not None
    assert symbols.resolve(address + 3) == ("vfs_read", 3)


def test_which_symbol_of_a_table() -> None:
    functions = [
        (100, 50, "outer"),
        (110, 10, "inner"),
        (200, 10, "__libc_malloc"),
        (200, 10, "malloc"),
        (300, 0, "assembly"),
        (400, 10, "last"),
    ]
    table = SymbolTable.of_functions((at, size, name.encode()) for at, size, name in functions)
    expected = {
        99: None,
        100: ("outer", 0),
        112: ("inner", 2),
        130: ("outer", 30),  # behind the inner one
        160: None,
        205: ("malloc", 5),
        350: ("assembly", 50),
        409: ("last", 9),
        410: None,
    }
    assert {position: table.resolve(position) for position in expected} == expected


@tag("sym.resolve")
def test_our_own_functions() -> None:
    symbolizer = Symbolizer()
    function = ctypes.cast(ctypes.CDLL(None).getppid, ctypes.c_void_p).value
    assert function is not None
    found = symbolizer.user(function + 2, os.getpid())
    assert found is not None
    assert found[:2] == ("getppid", 2)
    assert "libc" in found[2]
    assert symbolizer.user(function + 2, os.getpid()) == found
    assert symbolizer.user(8, os.getpid()) is None


SOURCE = """
#include <stdio.h>
#include <unistd.h>
int target(int x) { return x + 1; }
int main(void) { printf("%p\\n", (void *)target); fflush(stdout); getchar(); return 0; }
"""


@pytest.fixture(params=["-pie", "-no-pie"])
def program(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A running program, its file, and the address of its function `target`."""
    if not shutil.which("gcc"):
        pytest.skip("there is no compiler")
    (tmp_path / "a.c").write_text(SOURCE)
    path = str(tmp_path / "a.out")
    subprocess.run(["gcc", request.param, "-o", path, str(tmp_path / "a.c")], check=True)
    with subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, path, int(process.stdout.readline(), 16)
        process.kill()


@pytest.mark.root
@tag("sym.resolve")
def test_another_process(program: tuple[subprocess.Popen[str], str, int]) -> None:
    process, path, address = program
    symbolizer = Symbolizer()
    assert symbolizer.user(address + 1, process.pid) == ("target", 1, path)
    process.kill()
    process.wait()
    # what was seen once is known for good, and so is what was in the same mapping
    assert symbolizer.user(address, process.pid) == ("target", 0, path)


@pytest.mark.root
@tag("sym.resolve")
def test_a_process_that_has_gone(program: tuple[subprocess.Popen[str], str, int]) -> None:
    process, path, address = program
    symbolizer = Symbolizer()
    symbolizer.snapshot(process.pid)
    process.kill()
    process.wait()
    assert symbolizer.user(address, process.pid) == ("target", 0, path)
    unseen = Symbolizer(fallback=path).user(address, process.pid)
    relocated = address > 1 << 32
    assert unseen == (None if relocated else ("target", 0, path))
    assert Symbolizer().user(address, process.pid) is None


@pytest.mark.root
def test_a_file_that_was_deleted(program: tuple[subprocess.Popen[str], str, int]) -> None:
    process, path, address = program
    Path(path).unlink()
    assert Symbolizer().user(address, process.pid) == ("target", 0, path)


@tag("sym.resolve")
def test_code_made_at_run_time(tmp_path: Path) -> None:
    """A process's own list of its functions; ours, as we can write it."""
    import mmap

    area = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.write_text(f"{start:x} 40 some jitted function\ngarbage\n{start + 64:x} 10 second\n")
    try:
        symbolizer = Symbolizer()
        assert symbolizer.user(start + 4, os.getpid()) == ("some jitted function", 4, str(path))
        assert symbolizer.user(start + 65, os.getpid()) == ("second", 1, str(path))
        assert symbolizer.user(start + 200, os.getpid()) is None
    finally:
        path.unlink()


@pytest.mark.root
@tag("sym.resolve")
def test_code_made_at_run_time_in_a_container() -> None:
    """The process knows itself by another number, has a /tmp of its own, and is gone when it is asked for."""
    code = (
        "import ctypes, mmap, os\n"
        "assert os.system('mount -t tmpfs tmpfs /tmp') == 0\n"  # by itself: its own file may be in the other /tmp
        "area = mmap.mmap(-1, 4096, prot=7)\n"
        "start = ctypes.addressof(ctypes.c_char.from_buffer(area))\n"
        "open(f'/tmp/perf-{os.getpid()}.map', 'w').write(f'{start:x} 40 in_container\\n')\n"
        "print(os.getpid(), start, flush=True); input()\n"
    )
    symbolizer = Symbolizer()
    symbolizer.watch()
    try:
        process = subprocess.Popen(
            ["unshare", "--pid", "--mount", "--fork", "--mount-proc", sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            own, start = map(int, process.stdout.readline().split())
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            symbolizer.update(everything=True)
            process.communicate("\n")
        assert own == 1
        assert symbolizer.user(start + 4, int(children[0])) == ("in_container", 4, "/tmp/perf-1.map")
    finally:
        symbolizer.close()


def test_a_pipe_in_the_place_of_a_perf_map_is_not_waited_for() -> None:
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    os.mkfifo(path)
    try:
        assert Symbolizer().user(8, os.getpid()) is None
    finally:
        path.unlink()


@tag("sym.resolve")
def test_the_kernels_own_object_in_every_process() -> None:
    with open("/proc/self/maps") as maps:
        start = next(int(line.split("-")[0], 16) for line in maps if line.endswith("[vdso]\n"))
    symbolizer = Symbolizer()
    found = [symbolizer.user(address, os.getpid()) for address in range(start, start + 8192, 4)]
    names = {symbol[0] for symbol in found if symbol}
    assert "clock_gettime" in names or "__kernel_clock_gettime" in names
    assert {symbol[2] for symbol in found if symbol} == {"[vdso]"}


@tag("sym.resolve")
def test_what_is_kept_does_not_grow_with_the_processes() -> None:
    """20,000 addresses of 200 processes in one library: its names are kept once, and are few."""
    path = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libc.so" in line)
    with ElfFile(path) as file:
        functions = [symbol.offset for symbol in file.symbols()][:100]
    symbolizer = Symbolizer()
    number = symbolizer.files.number((b"", 0, path), Place(0, 0, 0))
    size = os.path.getsize(path) + 4096 & ~4095
    for pid in range(200):
        base = 0x7F00_0000_0000 + (pid << 24)
        symbolizer.processes.seen(1 << 30 | pid, [Mapping(base, base + size, 0, number)])

    def resolve(pid: int) -> None:
        base = 0x7F00_0000_0000 + (pid << 24)
        found = symbolizer.user_stack([base + offset for offset in functions], 1 << 30 | pid)
        assert None not in found

    resolve(0)
    tracemalloc.start()
    try:
        for pid in range(200):
            resolve(pid)
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()


@tag("cfg.cpp_demangle")
@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("_ZN3foo3barEi", "foo::bar(int)"),
        ("_ZN4core3fmt9Formatter9write_str17h0123456789abcdefE", "core::fmt::Formatter::write_str"),
        (
            "_ZN50_$LT$T$u20$as$u20$core..convert..Into$LT$U$GT$$GT$4into17h0123456789abcdefE",
            "<T as core::convert::Into<U>>::into",
        ),
        ("main", "main"),
        ("_Znonsense", "_Znonsense"),
    ],
)
def test_demangling(name: str, readable: str) -> None:
    assert demangle(name) == readable
