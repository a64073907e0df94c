"""What processes have mapped: the book of it, and the watcher that keeps the book on this kernel."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytrace.runtime import mappings as watching
from pytrace.runtime.images import MAX_IMAGES, MAX_MAPPINGS, Image, Mapping, Processes
from pytrace.runtime.mappedfiles import MAX_OPEN, MappedFile, MappedFiles, Place, anonymous, build_id_of
from pytrace.runtime.mappings import MappingWatcher, is_kernel_thread, read_mappings
from pytrace.runtime.perfring import PerfRing
from pytrace.runtime.symbols import Symbolizer
from pytrace.runtime.syscalls import open_mapping_event

tag = pytest.mark.tag

# ---------------------------------------------------------------- images


def test_finding_an_address() -> None:
    image = Image([Mapping(300, 400, 0, 2), Mapping(100, 200, 50, 1)])
    assert image.find(100) == Mapping(100, 200, 50, 1)
    assert image.find(199) == Mapping(100, 200, 50, 1)
    assert image.find(399) == Mapping(300, 400, 0, 2)
    assert [image.find(address) for address in (99, 200, 299, 400)] == [None] * 4
    assert [image.has(address) for address in (99, 100, 250, 300)] == [False, True, False, True]
    assert Image().find(1) is None


@pytest.mark.parametrize(
    ("new", "left"),
    [
        (Mapping(200, 300, 0, 9), [(100, 200, 50, 1), (200, 300, 0, 9)]),
        (Mapping(100, 200, 0, 9), [(100, 200, 0, 9)]),
        (Mapping(50, 150, 0, 9), [(50, 150, 0, 9), (150, 200, 100, 1)]),
        (Mapping(150, 250, 0, 9), [(100, 150, 50, 1), (150, 250, 0, 9)]),
        (Mapping(120, 130, 0, 9), [(100, 120, 50, 1), (120, 130, 0, 9), (130, 200, 80, 1)]),
    ],
)
def test_a_mapping_over_another(new: Mapping, left: list[tuple[int, ...]]) -> None:
    assert Image([Mapping(100, 200, 50, 1)]).plus(new).mappings() == left


def test_a_fork_shares_what_its_parent_has_until_it_maps_something() -> None:
    book = Processes()
    book.map(1, Mapping(100, 200, 0, 1))
    book.fork(2, 1)
    parent, child = book.get(1), book.get(2)
    assert parent is not None
    assert child is not None
    assert child.images[0] is parent.images[0]
    book.map(2, Mapping(300, 400, 0, 2))
    assert [len(parent.images[0]), len(child.images[0])] == [1, 2]


def test_a_stack_belongs_to_the_newest_program_that_has_it_all() -> None:
    """Of a process that executed another program, or a number that another process got."""
    book = Processes()
    book.map(1, Mapping(100, 200, 0, 1))
    book.map(1, Mapping(500, 600, 0, 2))
    book.execute(1)
    book.map(1, Mapping(100, 200, 0, 3))
    book.exit(1)
    book.fork(1, 99)
    book.execute(1)
    book.map(1, Mapping(700, 800, 0, 4))
    process = book.get(1)
    assert process is not None

    def files(*addresses: int) -> list[int | None]:
        found = [process.best(addresses).find(address) for address in addresses]
        return [mapping.file if mapping else None for mapping in found]

    assert files(150) == [3]
    assert files(150, 550) == [1, 2]
    assert files(750) == [4]
    assert files(750, 150) == [4, None]


def test_what_is_remembered_is_bounded() -> None:
    book = Processes(limit=10)
    for pid in range(1, 31):
        book.map(pid, Mapping(100, 200, 0, pid))
        book.exit(pid)
    assert len(book) == 10
    assert book.forgotten == 20
    assert book.get(20) is None
    assert book.get(21) is not None
    for _ in range(2 * MAX_IMAGES):
        book.execute(30)
        book.map(30, Mapping(100, 200, 0, 1))
    process = book.get(30)
    assert process is not None
    assert len(process.images) == MAX_IMAGES
    book.seen(31, [Mapping(number * 10, number * 10 + 5, 0, 1) for number in range(MAX_MAPPINGS)])
    book.map(31, Mapping(1, 2, 0, 1))
    assert book.refused == 1


def test_only_one_process_is_followed() -> None:
    book = Processes(only=7)
    book.fork(8, 7)
    book.map(8, Mapping(100, 200, 0, 1))
    book.execute(8)
    assert book.get(8) is None
    book.map(7, Mapping(100, 200, 0, 1))
    assert book.get(7) is not None


# ---------------------------------------------------------------- files


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    path = tmp_path / "prog"
    path.write_bytes(Path(sys.executable).resolve().read_bytes())
    return path


def test_a_file_that_was_replaced_is_not_taken_for_the_other(elf: Path) -> None:
    identity = build_id_of(str(elf))
    assert len(identity) == 20
    file = MappedFile(identity, 0, str(elf))
    assert file.matches(str(elf))
    assert not MappedFile(b"x" * 20, 0, str(elf)).matches(str(elf))
    assert not file.matches("/bin/true")
    assert not file.matches("/nonexistent")
    by_inode = MappedFile(b"", elf.stat().st_ino + 1, str(elf), since=0.0)
    assert not by_inode.matches(str(elf))
    by_inode.since = time.time() + 10  # older than the trace, so the inode is another for other reasons
    assert by_inode.matches(str(elf))


def test_files_that_are_held_can_be_read_when_they_are_deleted(elf: Path) -> None:
    files = MappedFiles(hold=True)
    try:
        number = files.number((build_id_of(str(elf)), 0, str(elf)), Place(1, 0, 0))
        assert files.number((build_id_of(str(elf)), 0, str(elf)), Place(2, 0, 0)) == number
        file = files.get(number)
        assert file is not None
        elf.unlink()
        assert build_id_of(file.candidates()[0]) == file.build_id
    finally:
        files.close()
    assert file.descriptor == -1


def test_few_files_are_held(tmp_path: Path) -> None:
    files = MappedFiles(hold=True)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(MAX_OPEN + 20):
        path = tmp_path / str(number)
        path.touch()
        files.number((b"", path.stat().st_ino, str(path)), Place(1, 0, 0))
    assert len(os.listdir("/proc/self/fd")) == before + MAX_OPEN
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("path", "is_memory"),
    [
        ("", True),
        ("//anon", True),
        ("[heap]", True),
        ("/memfd:jit (deleted)", True),
        ("/bin/true", False),
        ("[vdso]", False),
    ],
)
def test_memory_without_a_file(path: str, is_memory: bool) -> None:
    assert anonymous(path) is is_memory


def test_our_own_mappings() -> None:
    files = MappedFiles()
    found = read_mappings(os.getpid(), files)
    assert found
    function = ctypes.cast(ctypes.CDLL(None).getppid, ctypes.c_void_p).value
    assert function
    mapping = Image(found).find(function)
    assert mapping is not None
    file = files.get(mapping.file)
    assert file is not None
    assert "libc" in file.path
    assert read_mappings(1 << 30, files) is None


@pytest.mark.root
def test_threads_of_the_kernel() -> None:
    assert is_kernel_thread(2)
    assert not is_kernel_thread(os.getpid())
    assert not is_kernel_thread(1 << 30)


# ---------------------------------------------------------------- this kernel


class Seen:
    """A watcher and what it keeps."""

    def __init__(self, only: int = 0) -> None:
        self.book, self.files = Processes(only), MappedFiles(hold=True)
        self.with_code: list[int] = []
        self.watcher = MappingWatcher(self.book, self.files, self.with_code.append)

    def paths(self, pid: int) -> list[str]:
        """The files of the newest image of a process."""
        self.watcher.update(everything=True)
        process = self.book.get(pid)
        assert process is not None
        found = [self.files.get(mapping.file) for mapping in process.images[0].mappings()]
        return [file.path for file in found if file]


@pytest.fixture
def seen() -> Iterator[Seen]:
    made = Seen()
    yield made
    made.watcher.close()
    made.files.close()


def short(*command: str) -> int:
    """Run a command to its end; the process id that it had."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        process.wait()
        return process.pid


@pytest.mark.root
@tag("sym.resolve")
def test_a_process_that_has_ended(seen: Seen) -> None:
    pid = short("/bin/true")
    paths = seen.paths(pid)
    assert any(path.endswith("/true") for path in paths)
    assert any("libc" in path for path in paths)
    assert "[vdso]" in paths
    assert seen.book.exited(pid)


@pytest.mark.root
@tag("sym.resolve")
def test_processes_that_ran_before(seen: Seen) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        os.kill(process.pid, signal.SIGSTOP)
        later = Seen()
        process.kill()
        process.wait()
        assert any(path.endswith("/sleep") for path in later.paths(process.pid))
        later.watcher.close()
        later.files.close()


@pytest.mark.root
def test_one_process_only() -> None:
    ours = Seen(os.getpid())
    pid = short("/bin/true")
    ours.watcher.update(everything=True)
    assert ours.book.get(pid) is None
    assert ours.book.get(os.getpid()) is not None
    ours.watcher.close()
    ours.files.close()


@pytest.mark.root
@tag("sym.resolve")
def test_memory_that_is_made_executable_is_told(seen: Seen) -> None:
    area = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    seen.watcher.update(everything=True)
    process = seen.book.get(os.getpid())
    assert process is not None
    mapping = process.images[0].find(start)
    assert mapping is not None
    file = seen.files.get(mapping.file)
    assert file is not None
    assert file.code
    assert os.getpid() in seen.with_code


@pytest.mark.root
def test_lost_records_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_PAGES", 1)
    monkeypatch.setattr(watching, "_FEWEST_PAGES", 1)
    seen = Seen()
    try:
        for _ in range(40):
            short("/bin/true")
        seen.watcher.update(everything=True)
        for _ in range(2):  # the kernel tells of a loss with the next record that has room
            short("/bin/true")
            seen.watcher.update(everything=True)
        assert seen.watcher.lost > 0
    finally:
        seen.watcher.close()
        seen.files.close()


@pytest.mark.root
def test_a_ring_is_read_around_its_end() -> None:
    """More records than the ring has room for, taken in portions: none is lost or torn."""
    before = os.sched_getaffinity(0)
    cpu = min(before)
    ring = PerfRing(open_mapping_event(cpu, 1 << 30), 1)
    try:
        ring.enable()
        os.sched_setaffinity(0, {cpu})
        taken = 0
        for _ in range(30):
            short("/bin/true")
            for kind, _, data in ring.take():
                assert kind in (3, 4, 7, 10)
                assert len(data) % 8 == 0
                taken += kind == 4
        assert taken >= 30
        assert not ring.waiting()
    finally:
        os.sched_setaffinity(0, before)
        ring.close()


@pytest.mark.root
@tag("sym.resolve")
def test_a_library_from_memory(tmp_path: Path) -> None:
    """A file that never had a name (memfd_create(2)), of a process that is gone."""
    source, library = tmp_path / "a.c", tmp_path / "a.so"
    source.write_text("int from_memory(int x) { return x + 1; }")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    code = (
        "import ctypes, os, sys\n"
        "fd = os.memfd_create('x'); os.write(fd, open(sys.argv[1], 'rb').read())\n"
        "lib = ctypes.CDLL(f'/proc/self/fd/{fd}')\n"
        "print(ctypes.cast(lib.from_memory, ctypes.c_void_p).value, flush=True); sys.stdin.read()\n"
    )
    symbolizer = Symbolizer()
    symbolizer.watch()
    command = [sys.executable, "-c", code, str(library)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = int(process.stdout.readline())
        symbolizer.update()  # a tick while it lives
        process.communicate()
    try:
        assert symbolizer.user(address + 1, process.pid) == ("from_memory", 1, "/memfd:x")
    finally:
        symbolizer.close()
