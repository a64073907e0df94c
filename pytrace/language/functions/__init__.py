"""Functions: one class for each name (reference part 2, section 2)."""

from pytrace.language.functions import (
    control,
    maps,
    network,
    output,
    runtime_warning,
    shell,
    strings,
    symbols,
    types,
)

__all__ = [
    "control",
    "maps",
    "network",
    "output",
    "runtime_warning",
    "shell",
    "strings",
    "symbols",
    "types",
]
