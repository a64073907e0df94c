"""What is built is what lies in the checkout: pyproject.toml lists packages by hand."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_folder_with_code_is_a_listed_package() -> None:
    folders = {
        path.parent.relative_to(ROOT)
        for top in ("pytrace", "grammar", "codegen", "runtime")
        for path in (ROOT / top).rglob("*.py")  # does not follow the three links
        if not any((ROOT / top / link) in path.parents for link in ("grammar", "codegen", "runtime"))
    }
    names = {".".join(f.parts if f.parts[0] == "pytrace" else ("pytrace", *f.parts)) for f in folders}
    assert names == set(SETUPTOOLS["packages"])


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_every_package_has_its_init(package: str) -> None:
    folder = SETUPTOOLS["package-dir"].get(package, package.replace(".", "/"))
    assert (ROOT / folder / "__init__.py").exists(), "without it mypy and the build see no package"


@pytest.mark.parametrize(("name", "folder"), SETUPTOOLS["package-dir"].items())
def test_each_top_folder_has_its_link(name: str, folder: str) -> None:
    assert (ROOT / name.replace(".", "/")).readlink() == Path("..") / folder


def test_every_data_file_is_packaged() -> None:
    patterns = SETUPTOOLS["package-data"]["*"]
    for top in ("pytrace", "grammar", "codegen", "runtime"):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and path.suffix not in {".py", ".pyc"}:
                assert any(path.match(pattern) for pattern in patterns), f"{path} is in no package-data"
