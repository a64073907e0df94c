"""What a compilation asked the machine, so that a later run can tell whether the answers would be the same.

A compiled program may be used again if nothing changed that shaped it. `RecordingHost` stands between the compiler
and the machine and keeps a `Fact` for each thing an answer rested on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from pytrace.grammar.hints import Any
from pytrace.grammar.host import Event, Host
from pytrace.runtime.facts import (
    AnswerFact,
    DebugFileFact,
    Fact,
    FileFact,
    FilesFact,
    TextFact,
    answer_of,
    debug_file,
    digest_of,
    stat_of,
    text_digest,
)
from pytrace.runtime.mounts import tracefs
from pytrace.runtime.textfile import read_text
from pytrace.runtime.zipped import container

# probe events that somebody made at run time, and which are tracepoints like others (Documentation/trace)
_DYNAMIC = "dynamic_events"
# their categories, unless they were given others
_RUNTIME_EVENTS = ("kprobes", "uprobes", "eprobes", "fprobes", "tracepoints", "synthetic", "user_events")


# How each question is kept: by the files that the answer rests on (the first argument), by asking again, or not at all
# because `kernel_identity` covers it.
def _names(*methods: Callable[..., Any]) -> frozenset[str]:
    return frozenset(method.__name__ for method in methods)


_BY_FILE = _names(
    Host.symbols,
    Host.function_names,
    Host.user_variable,
    Host.usdt,
    Host.user_prototype,
    Host.user_type,
    Host.stripped,
    Host.file_offset,
    Host.instructions,
    Host.source_line,
)
_BY_ANSWER = _names(
    Host.binaries, Host.explain_target, Host.pid_namespace, Host.cgroup_id, Host.interfaces, Host.bpf_functions
)
_BY_TRACEFS = _names(Host.events)
_BY_KERNEL = _names(
    Host.notes,  # the file is part of an entry's name
    Host.find_type,
    Host.enumerators,
    Host.enumerator,
    Host.kernel_function,
    Host.kernel_functions,
    Host.function_prototype,
    Host.function_prototypes,
    Host.raw_tracepoint,
    Host.raw_tracepoints,
    Host.kernel_address,
    Host.has,
    Host.demangle,
    Host.function_modules,
    Host.function_size,
    Host.iterators,
    Host.percpu_variable,
    Host.type_names,
    Host.type_definition,
    Host.type_number,
) | {"cpus"}


class RecordingHost:
    """A `Host` that passes every question on to another one, and remembers what the answers rest on.

    `cacheable` turns False when an answer rests on something that cannot be looked at again cheaply (C headers, or a
    question that this class does not know).
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._facts: dict[Fact, None] = {}
        self.cacheable = True

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._host, name)
        if name in _BY_KERNEL:
            return found
        if name in _BY_FILE:
            return self._noting(found, lambda path, *_: self._note_binary(path))
        if name in _BY_TRACEFS:
            return self._noting(found, lambda *_: self._note(_dynamic_events()))
        if name in _BY_ANSWER:
            return self._noting(found, lambda *given: self._note_answer(name, given))
        self.cacheable = False
        return found

    def event(self, category: str, name: str) -> Event | None:
        """See `Host`. An event of the kernel's own stays as it is while the kernel and its modules do."""
        found = self._host.event(category, name)
        if found is None or category in _RUNTIME_EVENTS or name in _dynamic_text():
            self._note(_dynamic_events())
        return found

    def members(self, struct: Any) -> Any:
        """See `TypeSource`."""
        if struct.origin:
            self._note_binary(struct.origin)
        return self._host.members(struct)

    def imported(self, path: str) -> Any:
        """See `Host`."""
        self._note(FileFact(path, stat_of(path)))
        return self._host.imported(path)

    def linked_unit(self, path: str) -> Any:
        """See `Host`. One that cannot be made is tried again each time: what is missing may be installed."""
        found = self._host.linked_unit(path)
        for file in found.files:
            self._note(FileFact(file, stat_of(file)))
        return found

    def c_definitions(self, text: str) -> Any:
        """See `Host`. Headers may come from many places, so a program that includes some is compiled each time."""
        found = self._host.c_definitions(text)
        if found.headers:
            self.cacheable = False
        return found

    def facts(self) -> tuple[Fact, ...]:
        """Everything that must still hold, the cheapest first; the code of pytrace and LLVM themselves included."""
        ours = [
            module.__file__
            for name, module in sys.modules.items()
            if name.partition(".")[0] in ("pytrace", "llvmlite") and getattr(module, "__file__", None)
        ]
        return (FilesFact.of(map(str, ours)), *self._facts)

    def _noting(self, method: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def ask(*arguments: Any) -> Any:
            note(*arguments)
            return method(*arguments)

        return ask

    def _note(self, fact: Fact) -> None:
        self._facts[fact] = None

    def _note_binary(self, path: str) -> None:
        """An ELF file, and the separate file that has its symbols or debug information."""
        file = container(path)
        fact = FileFact(file, stat_of(file))
        if fact not in self._facts:
            self._note(fact)
            self._note(DebugFileFact(path, debug_file(path)))

    def _note_answer(self, method: str, arguments: tuple[Any, ...]) -> None:
        answer = answer_of(getattr(self._host, method), arguments)
        self._note(AnswerFact(method, arguments, digest_of([answer])))


def _dynamic_path() -> str:
    return os.path.join(tracefs() or "/", _DYNAMIC)


def _dynamic_events() -> TextFact:
    """That no event was made or removed since. Reading the list waits while perf events are being closed."""
    return TextFact(_dynamic_path(), text_digest(_dynamic_path()))


def _dynamic_text() -> str:
    try:
        return read_text(_dynamic_path())
    except OSError:
        return ""
