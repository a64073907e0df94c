"""The object cache: hits, everything that must make it miss, and what it must never read."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytrace import objectcache
from pytrace.cli import main
from pytrace.compilation import Compilation, compile_text
from pytrace.grammar.host import HostError
from pytrace.objectcache import ObjectCache, cache_folder, entry_name
from pytrace.options import Options
from pytrace.runtime import facts, recording
from pytrace.runtime.facts import FileFact, FilesFact, stat_of
from pytrace.runtime.recording import RecordingHost
from tests.fakehost import FakeHost

TEXT = "begin { print(1); }"


class Counting:
    """A compiler that counts how often it is asked; `host` answers it, `ask` is what it asks the host first."""

    def __init__(self, folder: Path, host: Any = None, ask: Callable[[Any], object] = lambda host: None) -> None:
        self.cache = ObjectCache(str(folder))
        self.host = host or FakeHost()
        self.ask = ask
        self.made = 0

    def __call__(self, text: str = TEXT, name: str = "stdin", options: Options | None = None) -> Compilation:
        options = options or Options()

        def compile(host: Any) -> Compilation:
            self.made += 1
            self.ask(host)
            return compile_text(text, name, options, host)

        return self.cache.compilation(text, name, options, lambda: self.host, compile)


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "cache")


def test_the_second_time_it_is_there(counting: Counting) -> None:
    first, second = counting(), counting()
    assert counting.made == 1
    assert (second.elf, second.plan.programs, second.plan.maps) == (first.elf, first.plan.programs, first.plan.maps)
    (action,) = second.plan.actions
    assert action.span is not None
    assert action.span.text == "print(1)"


def test_warnings_are_kept(counting: Counting) -> None:
    text = "begin { exit(); print(1); }"
    assert [w.message for w in counting(text).warnings] == [w.message for w in counting(text).warnings] != []


@pytest.mark.parametrize(
    "other",
    [
        {"text": TEXT + " "},
        {"name": "script.bt"},
        {"options": Options(parameters=("1",))},
        {"options": Options(unsafe=True)},
        {"options": Options(pid=1)},
        {"options": Options(helper_errors=True)},
        {"options": Options(warnings=False)},
        {"options": Options(environment=(("BPFTRACE_MAX_STRLEN", "32"),))},
    ],
)
def test_what_is_known_before_compiling(counting: Counting, other: dict[str, Any]) -> None:
    counting()
    counting(**other)
    assert counting.made == 2


def test_named_parameters(counting: Counting) -> None:
    for given in ("--a=1", "--a=2", "--a=1"):
        counting('begin { print(getopt("a", 1)); }', options=Options(named=(given,)))
    assert counting.made == 2


def test_settings_of_the_environment(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    counting()
    monkeypatch.setenv("BPFTRACE_STACK_MODE", "raw")
    counting()
    assert counting.made == 2


def test_the_version(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    counting()
    monkeypatch.setattr(objectcache, "__version__", "99")
    counting()
    assert counting.made == 2


def test_the_kernel(counting: Counting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    counting()
    notes = tmp_path / "notes"
    notes.write_bytes(b"another build id")
    monkeypatch.setattr(facts, "_NOTES", str(notes))
    counting()
    assert counting.made == 2
    boot = tmp_path / "boot"
    boot.write_text("another boot")
    monkeypatch.setattr(facts, "_BOOT", str(boot))
    counting()
    assert counting.made == 3


def test_another_btf_file(counting: Counting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    btf = tmp_path / "btf"
    btf.write_bytes(b"1")
    monkeypatch.setenv("BPFTRACE_BTF", str(btf))
    counting()
    counting()
    assert counting.made == 1
    btf.write_bytes(b"22")
    counting()
    assert counting.made == 2


def test_how_it_is_run_does_not_matter(counting: Counting) -> None:
    counting()
    counting(options=Options(verbose=True, strict=True, dry_run=True, values=False))
    assert counting.made == 1


@pytest.mark.parametrize("options", [Options(cache=False), Options(stages=frozenset({"plan"}))])
def test_compiled_anew_on_request(counting: Counting, options: Options) -> None:
    counting(options=options)
    counting(options=options)
    assert counting.made == 2
    assert not os.path.exists(counting.cache.folder)


# ---------------------------------------------------------------- what the compiler asked


def test_a_changed_binary(tmp_path: Path) -> None:
    binary = tmp_path / "program"
    binary.write_bytes(b"1")
    counting = Counting(tmp_path / "cache", ask=lambda host: host.symbols(str(binary)))
    counting()
    counting()
    assert counting.made == 1
    binary.write_bytes(b"22")
    counting()
    assert counting.made == 2
    binary.unlink()
    counting()
    assert counting.made == 3


class Moving(FakeHost):
    """A host on which a library is found in one place, then in another."""

    place = "/lib/a.so"

    def binaries(self, target: str, pid: int | None = None) -> list[str]:
        if not self.place:
            raise HostError("there is none")
        return [self.place]


def test_a_library_that_is_found_elsewhere(tmp_path: Path) -> None:
    host = Moving()
    counting = Counting(tmp_path / "cache", host, lambda host: host.binaries("liba"))
    counting()
    counting()
    assert counting.made == 1
    host.place = "/lib/b.so"
    counting()
    assert counting.made == 2


@pytest.mark.parametrize(
    ("before", "ask", "made"),
    [
        ("", lambda host: list(host.events()), 2),
        ("", lambda host: host.event("mine", "read"), 2),  # there is none, yet
        ("p:sched/sched_switch vfs_open\n", lambda host: host.event("sched", "sched_switch"), 2),
        ("", lambda host: host.event("sched", "sched_switch"), 1),  # the kernel's own
    ],
    ids=["all", "missing", "dynamic", "static"],
)
def test_dynamic_events(
    before: str, ask: Callable[[Any], object], made: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "dynamic_events"
    events.write_text(before)
    monkeypatch.setattr(recording, "tracefs", lambda: str(tmp_path))
    counting = Counting(tmp_path / "cache", ask=ask)
    counting()
    counting()
    assert counting.made == 1
    events.write_text("p:mine/read vfs_read\n")
    counting()
    assert counting.made == made


def test_our_own_code_is_a_fact() -> None:
    (ours, *_) = RecordingHost(FakeHost()).facts()
    assert isinstance(ours, FilesFact)
    names = {Path(path).name for path in ours.paths}
    assert {"compilation.py", "facts.py", "spec.py"} <= names
    assert ours.holds(FakeHost)
    assert not FilesFact(ours.paths, b"another digest").holds(FakeHost)


def test_a_question_that_is_not_known_is_not_cached(tmp_path: Path) -> None:
    class Newer(FakeHost):
        def phase_of_the_moon(self) -> int:
            return 3

    counting = Counting(tmp_path / "cache", Newer(), lambda host: host.phase_of_the_moon())
    counting()
    counting()
    assert counting.made == 2


def test_every_question_of_the_protocol_is_known() -> None:
    from pytrace.grammar.host import Host

    kept = recording._BY_FILE | recording._BY_ANSWER | recording._BY_TRACEFS | recording._BY_KERNEL
    asked = {name for kind in Host.__mro__ for name in vars(kind) if not name.startswith("_")}
    assert asked - kept - {"members", "c_definitions", "event", "imported", "linked_unit"} == set()


def test_a_missing_file_is_a_fact(tmp_path: Path) -> None:
    path = str(tmp_path / "later")
    fact = FileFact(path, stat_of(path))
    assert fact.stat is None
    assert fact.holds(FakeHost)
    Path(path).touch()
    assert not fact.holds(FakeHost)


# ---------------------------------------------------------------- safety


def entries(counting: Counting) -> list[Path]:
    return sorted(Path(counting.cache.folder).iterdir())


def test_only_we_can_read_it(counting: Counting) -> None:
    counting()
    (entry,) = entries(counting)
    assert entry.stat().st_mode & 0o777 == 0o600
    assert entry.parent.stat().st_mode & 0o777 == 0o700


class Boom:
    """What a forged entry would do when it is read."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a forged entry was read",)


def forge(counting: Counting) -> Path:
    counting()
    (entry,) = entries(counting)
    entry.write_bytes(pickle.dumps(Boom()))
    return entry


def test_an_entry_that_others_may_write(counting: Counting) -> None:
    forge(counting).chmod(0o622)
    counting()
    assert counting.made == 2


def test_a_folder_that_others_may_write(counting: Counting) -> None:
    forge(counting).parent.chmod(0o777)
    counting()
    assert counting.made == 2


@pytest.mark.root
def test_an_entry_of_somebody_else(counting: Counting) -> None:
    os.chown(forge(counting), 65534, 65534)
    counting()
    assert counting.made == 2


def test_a_link(counting: Counting, tmp_path: Path) -> None:
    entry = forge(counting)
    elsewhere = tmp_path / "elsewhere"
    entry.rename(elsewhere)
    entry.symlink_to(elsewhere)
    counting()
    assert counting.made == 2


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_an_entry_that_is_cut_off(counting: Counting, left: int) -> None:
    counting()
    (entry,) = entries(counting)
    entry.write_bytes(entry.read_bytes()[:left])
    counting()
    counting()
    assert counting.made == 2


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    counting = Counting(tmp_path / "file" / "cache")
    counting()
    counting()
    assert counting.made == 2


def test_its_size_is_bounded(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectcache, "MAX_ENTRIES", 3)
    texts = [f"begin {{ print({number}); }}" for number in range(5)]
    names = [entry_name(text, "stdin", Options()) for text in texts]
    for number, text in enumerate(texts):
        counting(text)
        os.utime(Path(counting.cache.folder, names[number]), (number + 1, number + 1))
    assert [entry.name for entry in entries(counting)] == sorted(names[2:])


def test_clear(counting: Counting) -> None:
    counting()
    assert counting.cache.clear() == 1
    assert entries(counting) == []
    assert counting.cache.clear() == 0


def test_where_it_is() -> None:
    assert cache_folder({"PYTRACE_CACHE_DIR": "/x"}) == "/x"
    expected = "/var/cache/pytrace" if os.geteuid() == 0 else "/c/pytrace"
    assert cache_folder({"XDG_CACHE_HOME": "/c"}) == expected


# ---------------------------------------------------------------- through the command line

MODULES = """
import sys
from pytrace.cli import main
status = main(sys.argv[1:])
print(sorted({name.partition(".")[0] for name in sys.modules} & {"lark", "llvmlite", "bcc", "pyroute2"}))
sys.exit(status)
"""


@pytest.mark.root
def test_a_second_run_loads_neither_the_parser_nor_llvm(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTRACE_CACHE_DIR": str(tmp_path / "cache")}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", MODULES, *arguments, "-q", "-e", 'begin { @ = 5; printf("%d\\n", $1); }', "7"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = "7\n\n\n@: 5\n"
    assert run() == f"{shown}['lark', 'llvmlite']\n"
    assert run() == f"{shown}[]\n"
    assert run("--no-cache") == f"{shown}['lark', 'llvmlite']\n"


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "cache"
    monkeypatch.setenv("PYTRACE_CACHE_DIR", str(folder))
    Counting(folder)()
    assert main(["cache", "clear"]) == 0
    assert capfd.readouterr().out == f"Removed 1 compiled programs from {folder}\n"
    assert not list(folder.iterdir())
    assert main(["cache"]) == 1
    assert capfd.readouterr().err == "ERROR: USAGE: pytrace cache clear\n"
