"""pytrace: a tracing tool for Linux with the language of bpftrace.

>>> import pytrace
>>> with pytrace.trace('tracepoint:syscalls:sys_enter_openat { @ = count(); } interval:s:1 { exit(); }') as t:
...     t.run()
...     t.maps["@"]
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pytrace.api import Losses, Trace, trace
    from pytrace.grammar.diagnostics import CompileError
    from pytrace.grammar.hints import Any
    from pytrace.options import Options

__version__ = "0.1.0"
__all__ = ["trace", "Trace", "Options", "Losses", "CompileError", "__version__"]

# Where each public name lives. It is imported when first asked for; `import pytrace` alone loads nothing.
_HOMES = {
    "trace": "pytrace.api",
    "Trace": "pytrace.api",
    "Losses": "pytrace.api",
    "Options": "pytrace.options",
    "CompileError": "pytrace.grammar.diagnostics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
