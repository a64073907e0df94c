"""What a user asks for besides the program's text; the same for the command line and the Python API."""

from __future__ import annotations

from pytrace.grammar.data import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """How to compile and run a program.

    `parameters` are `$1`, `$2`, …; `named` the options after `--` (`--name=value` as given). `pid` restricts to a
    process, `command` is run and traced (`-c`). `environment` overrides the script's config block
    (`BPFTRACE_…` variables). `include` and `include_dirs` are for the C front end. `stages` are those of `-d`.
    `strict` makes any loss an error. `values` gives outputs their Python values besides their text.
    `traceable` is a file that replaces the kernel's list of traceable functions.
    """

    parameters: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    pid: int | None = None
    command: str | None = None
    unsafe: bool = False
    warnings: bool = True
    helper_errors: bool = False
    dry_run: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    include_dirs: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    stages: frozenset[str] = frozenset()
    verbose: bool = False
    strict: bool = False
    values: bool = True
    traceable: str = ""
