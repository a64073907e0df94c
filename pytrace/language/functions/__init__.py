"""Functions: one class for each name (reference part 2, section 2)."""

from pytrace.language.functions import (
    control,
    files,
    maps,
    memory,
    names,
    network,
    options,
    output,
    percpu,
    process,
    runtime_warning,
    search,
    shell,
    strings,
    symbols,
    types,
)

__all__ = [
    "control",
    "files",
    "maps",
    "memory",
    "names",
    "network",
    "options",
    "output",
    "percpu",
    "process",
    "runtime_warning",
    "search",
    "shell",
    "strings",
    "symbols",
    "types",
]
