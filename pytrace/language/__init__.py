"""Every builtin, function, aggregation and probe type of the language: one class per feature (floor 3).

Importing this package tells `pytrace.grammar.spec.REGISTRY` where they are. A module of features is imported when one
is asked for that is not there yet: a run of a program that is compiled already gets by with a few of them.
"""

from pytrace.grammar.spec import REGISTRY

# the modules of the types of probe that are listed most: a listing of one type does without the others
_HOMES = {
    "tracepoint": "tracepoint", "t": "tracepoint", "kprobe": "kprobe", "k": "kprobe", "uprobe": "uprobe", "u": "uprobe",
}  # fmt: skip


def _home(word: str) -> None:
    if word in _HOMES:
        from importlib import import_module

        import_module(f"pytrace.language.probes.{_HOMES[word]}")


def _probes() -> None:
    import pytrace.language.every_probe  # noqa: F401


def _rest() -> None:
    import pytrace.language.everything  # noqa: F401


REGISTRY.home, REGISTRY.more_probes, REGISTRY.rest = _home, _probes, _rest


def _library() -> str:
    import pkgutil

    return (pkgutil.get_data("pytrace.language", "prelude.bt") or b"").decode()


REGISTRY.library = _library
