"""`--fmt` on the command line: streams, files, statuses."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pytrace import cli
from pytrace.files import replace_file

pytestmark = pytest.mark.tag("cli.fmt")
LAYOUT = "begin\n{\n  exit()\n}\n"


@pytest.fixture(autouse=True)
def _no_privileges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)


def test_on_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.main(["--fmt", "-e", "begin{exit()}"]) == 0
    assert capfdbinary.readouterr() == (LAYOUT.encode(), b"")
    assert cli.main(["--mode", "format", "-e", 'begin{print("\udcff")}']) == 0
    assert b'print("\xff")' in capfdbinary.readouterr().out


def test_a_file_is_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file, link = tmp_path / "a.bt", tmp_path / "link.bt"
    file.write_text("begin{exit()}")
    file.chmod(0o640)
    link.symlink_to(file)
    before = file.stat().st_ino
    assert cli.main(["--fmt", str(link), "-o", str(link)]) == 0
    assert file.read_text() == LAYOUT
    assert file.stat().st_ino != before  # another file took its place, at once
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert sorted(tmp_path.iterdir()) == [file, link]
    assert capfd.readouterr() == ("", "")


def test_what_is_no_program_leaves_the_file_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.bt"
    file.write_text("begin{exit(}")
    assert cli.main(["--fmt", str(file), "-o", str(file)]) == 1
    assert file.read_text() == "begin{exit(}"
    assert f"{file}:1:12-13: ERROR: " in capfd.readouterr().err


def test_a_file_that_cannot_be_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "none" / "a.bt"
    assert cli.main(["--fmt", "-e", "begin{exit()}", "-o", str(place)]) == 1
    assert capfd.readouterr().err == f'ERROR: Failed to open output file: "{place}": No such file or directory\n'


def test_no_part_is_ever_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    file = tmp_path / "a.bt"
    file.write_text("old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        replace_file(str(file), b"new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_device_is_written_to() -> None:
    replace_file("/dev/null", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
