"""Commands for `-c`, which are split at blanks and know no quotes."""

from __future__ import annotations

import sys
from pathlib import Path


def python(folder: Path, code: str) -> str:
    """A command that runs Python code, which is kept in a file of `folder`."""
    path = folder / f"child-{len(list(folder.iterdir()))}.py"
    path.write_text(code)
    return f"{sys.executable} {path}"
