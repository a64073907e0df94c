"""Functions: one class for each name (reference part 2, section 2)."""

from pytrace.language.functions import (
    control,
    files,
    maps,
    names,
    network,
    options,
    output,
    process,
    runtime_warning,
    search,
    shell,
    strings,
    symbols,
    types,
    unwatch,
)

__all__ = [
    "control",
    "files",
    "maps",
    "names",
    "network",
    "options",
    "output",
    "process",
    "runtime_warning",
    "search",
    "shell",
    "strings",
    "symbols",
    "types",
    "unwatch",
]
