"""What a user asks for besides the program's text; the same for the command line and the Python API."""

from __future__ import annotations

from pytrace.grammar.data import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """How to compile and run a program.

    `parameters` are `$1`, `$2`, …; `named` the options after `--` (`--name=value` as given). `pid` restricts to a
    process, `command` is run and traced (`-c`). `environment` overrides the script's config block
    (`BPFTRACE_…` variables). `debug_folders` are searched for debug files before the system's (`--debuginfo`).
    `include` and `include_dirs` are for the C front end. `stages` are those of `-d`.
    `dwarf_pids` are processes whose stacks `dw_ustack` can follow besides `pid` and the command's.
    `mode` is empty for tracing, or `test` or `bench`: to run the probes of that type. `probe_filter` is a regular
    expression that the names of probes must match. `without` are facilities of the kernel to be taken for missing
    (`kprobe_multi`, …). `traceable` is a file that replaces the kernel's list of traceable functions. `color` lets
    the report of tests have colours. `strict` makes any loss an error. `values` gives outputs their Python values
    besides their text. `cache` lets compiled programs be kept and used again. `aot` compiles for later runs (`--aot`).
    """

    parameters: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    pid: int | None = None
    command: str | None = None
    dwarf_pids: tuple[int, ...] = ()
    unsafe: bool = False
    warnings: bool = True
    helper_errors: bool = False
    dry_run: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    include_dirs: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    debug_folders: tuple[str, ...] = ()
    stages: frozenset[str] = frozenset()
    verbose: bool = False
    strict: bool = False
    values: bool = True
    cache: bool = True
    mode: str = ""
    probe_filter: str | None = None
    without: tuple[str, ...] = ()
    color: bool = False
    traceable: str = ""
    aot: bool = False
