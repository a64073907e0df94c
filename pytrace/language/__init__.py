"""Every builtin, function, aggregation and probe type of the language: one class per feature (floor 3).

Importing this package fills `pytrace.grammar.spec.REGISTRY`: with the types of probe at once, with the rest when
somebody asks for it.
"""

from pytrace.grammar.spec import REGISTRY
from pytrace.language import probes


def _rest() -> None:
    from pytrace.language import aggregations, builtins, functions, values

    assert all((aggregations, builtins, functions, values))


def _library() -> str:
    import pkgutil

    return (pkgutil.get_data("pytrace.language", "prelude.bt") or b"").decode()


REGISTRY.rest = _rest
REGISTRY.library = _library

__all__ = ["probes"]
