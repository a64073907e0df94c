"""`import` (reference part 1, section 2.3): what other files add, in which order, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytrace.compilation import compile_text
from pytrace.grammar.diagnostics import CompileError, Diagnostic
from pytrace.grammar.host import Imported
from pytrace.objectcache import ObjectCache
from pytrace.options import Options
from pytrace.program_listing import list_program
from pytrace.runtime.importedfiles import read_imported
from pytrace.runtime.recording import RecordingHost
from tests.fakehost import FakeHost

tag = pytest.mark.tag


class Reader(FakeHost):
    """The made-up machine, with the real machine's files."""

    def imported(self, path: str) -> Imported | None:
        return read_imported(path)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes files into one folder: `write(main="…")` makes `main.bt`."""

    def make(**files: str) -> Path:
        for name, text in files.items():
            (tmp_path / f"{name}.bt").write_text(text)
        return tmp_path

    return make


def compiled(folder: Path, text: str, **options: object) -> list[str]:
    """The names of the programs' probes, in their order, of a script in a folder."""
    made = compile_text(text, str(folder / "main.bt"), Options(**options), Reader())  # type: ignore[arg-type]
    return [place.name for program in made.plan.programs for place in program.attach]


def refused(folder: Path, text: str) -> tuple[Diagnostic, ...]:
    """What is said of a script that is not compiled."""
    with pytest.raises(CompileError) as caught:
        compiled(folder, text)
    return caught.value.diagnostics


@tag("prog.import.root")
def test_everything_but_the_configuration_is_merged(write: Callable[..., Path]) -> None:
    folder = write(
        lib="let @n = hash(3); macro twice(x) { x * 2 } fn half($x: int64): int64 { return $x / 2; } interval:ms:7 { @n[1] = 1; }"
    )
    text = 'import "lib.bt"; interval:ms:5 { print((twice(2), half(4))); @n[twice(3)] = 1; }'
    made = compile_text(text, str(folder / "main.bt"), host=Reader())
    assert [p.attach[0].name for p in made.plan.programs] == ["interval:ms:7", "interval:ms:5"]
    assert next(m for m in made.plan.maps if m.name == "@n").max_entries == 3


@tag("prog.import.root", "prog.import.order", "prog.import.rules")
def test_the_order_of_probes(write: Callable[..., Path]) -> None:
    folder = write(
        a='import "deep/c.bt"; interval:ms:1 { }',
        b='import "a.bt"; import "b.bt"; import "./deep/../a.bt"; interval:ms:2 { }',
        main='import "a.bt"; import "b.bt"; interval:ms:4 { }',
    )
    (folder / "deep").mkdir()
    (folder / "deep" / "c.bt").write_text('import "d.bt"; import "../main.bt"; interval:ms:3 { }')
    (folder / "deep" / "d.bt").write_text("interval:ms:5 { }")
    order = ["interval:ms:5", "interval:ms:3", "interval:ms:1", "interval:ms:2", "interval:ms:4"]
    assert compiled(folder, (folder / "main.bt").read_text()) == order


@tag("prog.import.root")
def test_a_folder_adds_its_files_by_name(write: Callable[..., Path]) -> None:
    folder = write()
    (folder / "parts" / "inner").mkdir(parents=True)
    (folder / "parts" / "inner" / "no.bt").write_text("no program")
    (folder / "parts" / "README.md").write_text("no program")
    for name, period in (("b", 2), ("a", 1)):
        (folder / "parts" / f"{name}.bt").write_text(f"interval:ms:{period} {{ }}")
    assert compiled(folder, 'import "parts"; interval:ms:3 { }') == ["interval:ms:1", "interval:ms:2", "interval:ms:3"]


@tag("prog.import.root")
def test_the_library_is_known_by_name(write: Callable[..., Path]) -> None:
    text = 'import "stdlib"; import "stdlib/prelude"; import "stdlib/prelude.bt"; begin { assert(1, "x"); }'
    assert compiled(write(), text) == ["begin"]
    (found,) = refused(write(), 'import "stdlib/nothing"; begin { }')
    assert found.message == 'No path found for import "stdlib/nothing"'
    assert "the library's stdlib/nothing" in found.hints[0]


@tag("prog.import.rules")
def test_what_everybody_may_write_is_skipped(write: Callable[..., Path]) -> None:
    folder = write(open="interval:ms:1 { }")
    (folder / "open.bt").chmod(0o666)
    error, warning = refused(folder, 'import "open.bt"; begin { }')
    assert (error.code, error.message) == ("err.import", 'No path found for import "open.bt"')
    assert "Skipping file" in warning.message
    assert "chmod o-w" in warning.message
    (folder / "parts").mkdir()
    (folder / "parts").chmod(0o777)
    assert "Skipping directory" in refused(folder, 'import "parts"; begin { }')[1].message
    (folder / "parts").chmod(0o755)
    (folder / "parts" / "x.bt").write_text("interval:ms:1 { }")
    (folder / "parts" / "x.bt").chmod(0o602)
    made = compile_text('import "parts"; begin { }', str(folder / "main.bt"), host=Reader())
    assert len(made.plan.programs) == 1
    assert [w.code for w in made.warnings] == ["err.import"]


@tag("prog.import.root")
def test_a_byte_order_mark(write: Callable[..., Path]) -> None:
    folder = write()
    (folder / "marked.bt").write_bytes(b"\xef\xbb\xbfinterval:ms:1 { }")
    made = compile_text('import "marked.bt"; begin { }', str(folder / "main.bt"), host=Reader())
    assert len(made.plan.programs) == 2


@tag("err.import")
def test_what_cannot_be_imported(write: Callable[..., Path]) -> None:
    folder = write(config="config = { max_map_keys = 5 } interval:ms:1 { }", wrong="interval:ms:1 { print(1 }")
    (folder / "x.txt").write_text("text")
    (folder / "x.bpf.o").write_bytes(b"\x7fELF")
    (missing,) = refused(folder, 'import "confg.bt"; begin { }')
    assert missing.code == "err.import"
    assert missing.message == 'No path found for import "confg.bt"'
    assert missing.hints == (f"Tried: {folder}/confg.bt", "Did you mean 'config.bt' or 'wrong.bt'?")
    assert missing.span is not None
    assert missing.span.text == 'import "confg.bt";'
    (kind,) = refused(folder, 'import "x.txt"; begin { }')
    assert kind.message == f"Unknown file type: {folder}/x.txt"
    assert "*.bt, *.h" in kind.hints[0]
    (bad,) = refused(folder, 'import "x.bpf.o"; begin { }')
    assert bad.message == f'Cannot import "{folder}/x.bpf.o": no BPF object'
    (config,) = refused(folder, 'import "config.bt"; begin { }')
    assert config.message == "A config block is not allowed in an imported file"
    assert config.span is not None
    assert config.span.location() == f"{folder}/config.bt:1:1-30"
    assert [label.span.text for label in config.labels] == ['import "config.bt";']
    (syntax,) = refused(folder, 'import "wrong.bt"; begin { }')
    assert syntax.span is not None
    assert syntax.span.source.name == f"{folder}/wrong.bt"


@tag("err.import")
def test_a_file_that_cannot_be_read_is_named(write: Callable[..., Path]) -> None:
    folder = write()
    os.symlink("loop.bt", folder / "loop.bt")
    (error,) = refused(folder, 'import "loop.bt"; begin { }')
    assert error.message == f'Cannot import "loop.bt": {folder}/loop.bt: Too many levels of symbolic links'
    (folder / "parts").mkdir()
    os.symlink("x.bt", folder / "parts" / "x.bt")
    (error,) = refused(folder, 'import "parts"; begin { }')
    assert error.message == f'Cannot import "parts": {folder}/parts/x.bt: Too many levels of symbolic links'


@tag("prog.import.stmt")
def test_inside_of_a_block(write: Callable[..., Path]) -> None:
    folder = write(lib="macro three() { 3 }")
    text = 'begin { import "lib.bt"; print(three()); }'
    (error,) = refused(folder, text)
    assert (error.code, "unstable_import_statement=enable" in error.message) == ("err.feature", True)
    assert compiled(folder, f"config = {{ unstable_import_statement = enable }} {text}") == ["begin"]
    warned = f"config = {{ unstable_import_statement = warn }} {text}"
    made = compile_text(warned, str(folder / "main.bt"), host=Reader())
    assert [w.code for w in made.warnings] == ["warn.feature.unstable"]


@tag("prog.import.root", "macro.diag")
def test_messages_name_the_file(write: Callable[..., Path]) -> None:
    folder = write(lib="// a comment\nmacro bad(x) { x * undefined }\n")
    (error,) = refused(folder, 'import "lib.bt";\nbegin { print(bad(1)); }')
    lines = error.render().splitlines()
    assert lines[0] == f"{folder}/lib.bt:2:20-29: ERROR: Unknown identifier: 'undefined'"
    assert lines[1] == "macro bad(x) { x * undefined }"
    assert f"{folder}/main.bt:2:15-21: ERROR: expanded from" in lines


@tag("prog.import.root")
def test_listing_has_the_probes_of_imported_files(write: Callable[..., Path]) -> None:
    folder = write(lib="interval:ms:7 { }")
    lines = list_program('import "lib.bt"; interval:ms:5 { }', str(folder / "main.bt"), Options(), host=Reader())
    assert len([*lines]) == 2


@tag("prog.import.rules")
def test_a_cached_program_notices_changed_files(write: Callable[..., Path]) -> None:
    folder = write(lib="interval:ms:1 { }")
    cache, text, made = ObjectCache(str(folder / "cache")), 'import "lib.bt"; import "parts"; begin { }', []
    (folder / "parts").mkdir()

    def names() -> list[str]:
        def compile(host: object) -> object:
            made.append(isinstance(host, RecordingHost))
            return compile_text(text, str(folder / "main.bt"), Options(), host)  # type: ignore[arg-type]

        found = cache.compilation(text, str(folder / "main.bt"), Options(), Reader, compile)  # type: ignore[arg-type]
        return [program.attach[0].name for program in found.plan.programs]

    assert names() == names() == ["interval:ms:1", "begin"]
    assert len(made) == 1
    (folder / "lib.bt").write_text("interval:ms:20 { }")
    assert names() == ["interval:ms:20", "begin"]
    (folder / "parts" / "new.bt").write_text("interval:ms:3 { }")
    assert names() == ["interval:ms:20", "interval:ms:3", "begin"]
    assert len(made) == 3
