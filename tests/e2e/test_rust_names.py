"""Functions of Rust by the names that people give them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.programs import run
from tests.e2e.userland import background, build, hits

pytestmark = pytest.mark.root
tag = pytest.mark.tag

RUST = """
pub struct Point<T>(pub T);
impl<T: std::fmt::Debug> Point<T> { #[inline(never)] pub fn shift(&self) { println!("{:?}", self.0); } }
fn main() { Point(3u32).shift(); Point("x").shift(); }
"""


@tag("probe.uprobe.cpp", "cfg.cpp_demangle")
@pytest.mark.parametrize("mangling", ["v0", "legacy"])
def test_rust_names(tmp_path: Path, mangling: str) -> None:
    """With names as the compiler of Rust makes them: in a program of its own, or as labels of assembly."""
    symbols = {
        "v0": ("_RNvMCs1234_5shapeINtB2_5PointmE5shiftB2_", "<shape::Point<u32>>::shift"),
        "legacy": ("_ZN5shape5Point5shift17h0123456789abcdefE", "shape::Point::shift"),
    }
    symbol, name = symbols[mangling]
    path = build(
        tmp_path, "rusty", "#include <unistd.h>\n"
        f'int shift(int) __asm__("{symbol}"); __attribute__((noipa)) int shift(int x) {{ return x; }}'
        "int main(int argc, char **argv) { while (argc > 1) { shift(0); usleep(1000); } return shift(0); }",
    )  # fmt: skip
    assert hits(path, f'uprobe:{path}:cpp:"{name}"') == {f":cpp:{name}": 1}
    assert hits(path, f"uprobe:{path}:{symbol}") == {f":{symbol}": 1}
    with background(path, "loop"):
        assert run(f"uprobe:{path}:{symbol} {{ print(func); exit(); }}").text == f"{name}\n"


@tag("probe.uprobe.cpp")
@pytest.mark.skipif(not shutil.which("rustc"), reason="there is no compiler of Rust; test_rust_names does without")
def test_a_rust_program(tmp_path: Path) -> None:
    (tmp_path / "shape.rs").write_text(RUST)
    path = str(tmp_path / "shape")
    options = ["-O", "-C", "symbol-mangling-version=v0", "-o", path, str(tmp_path / "shape.rs")]
    subprocess.run(["rustc", *options], check=True)
    found = hits(path, f'uprobe:{path}:cpp:"<shape::Point<*>>::shift"')
    assert found == {":cpp:<shape::Point<u32>>::shift": 1, ":cpp:<shape::Point<&str>>::shift": 1}
