"""`import`: what other files add to a program (reference part 1, section 2.3).

The result is one program. Probes of imported files stand before those of the file that imports them, their C text
stands before its C text, and each file is read once. Nodes keep the spans of the file they come from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

from pytrace.grammar.data import dataclass, field, replace
from pytrace.grammar.diagnostics import Label, did_you_mean
from pytrace.grammar.host import HostError, Imported
from pytrace.grammar.linked import ImportedUnit
from pytrace.grammar.literals import quote
from pytrace.grammar.nodes import CText, Import, ImportStatement, Item, Program, walk
from pytrace.grammar.source import BYTE_ORDER_MARK, Source, Span, decode_text, encode_text
from pytrace.grammar.spec import LIBRARY_FILE, Context, Registry

SCRIPT, HEADER = ".bt", ".h"
LINKED = (".bpf.c", ".bpf.o")
KINDS = (SCRIPT, HEADER, *LINKED)

CODE = "err.import"
LIBRARY = os.path.dirname(LIBRARY_FILE)


def resolve_imports(program: Program, registry: Registry, context: Context) -> tuple[Program, tuple[ImportedUnit, ...]]:
    """The program with all that it imports, and the objects to be linked. Mistakes go to the diagnostics; raises
    CompileError for those in the syntax of imported files."""
    if not any(_imports(program)):
        return program, ()
    importer = Importer(registry, context)
    importer.know(program.span.source)
    imported = importer.imported_by(program)
    items = (*imported.items, *program.items)
    whole = replace(program, c_texts=(*imported.c_texts, *program.c_texts), imports=(), items=items)
    return whole, tuple(imported.linked)


@dataclass(slots=True)
class Unit:
    """What an import adds."""

    c_texts: list[CText] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    linked: list[ImportedUnit] = field(default_factory=list)

    def add(self, other: Unit) -> None:
        """Take what another import adds."""
        self.c_texts += other.c_texts
        self.items += other.items
        self.linked += other.linked


@dataclass(slots=True)
class Importer:
    """Reads files; `seen` are the real paths of those that were read already."""

    registry: Registry
    context: Context
    seen: set[str] = field(default_factory=set)

    def know(self, source: Source) -> None:
        """The script itself: a file that it imports may import it again."""
        with suppress(HostError):
            found = self._look(source.name)
            if found is not None and found.data == encode_text(source.text):
                self.seen.add(found.path)

    def imported_by(self, program: Program) -> Unit:
        """What the imports of one file add, those inside of blocks included."""
        unit = Unit()
        for node in _imports(program):
            if isinstance(node, Import) or self._allowed(node):
                unit.add(self._target(decode_text(node.path), node.span))
        return unit

    def _allowed(self, node: ImportStatement) -> bool:
        """Whether `import` may stand inside of a block ([prog.import.stmt])."""
        switch, diagnostics = self.context.config.unstable_import_statement, self.context.diagnostics
        name = "import statements"
        if switch == "error":
            message = (
                f"{name} feature is not enabled by default. To enable this unstable feature, set the config flag "
                "to enable. unstable_import_statement=enable"
            )
            hints = ("Or import the file at the top of the program, before its probes.",)
            diagnostics.error("err.feature", message, node.span, hints=hints)
        elif switch == "warn":
            message = (
                f"Script is using an unstable feature: {name}. To prevent this warning you must explicitly enable it "
                "in the config e.g. unstable_import_statement=enable"
            )
            diagnostics.warning("warn.feature.unstable", message, node.span)
        return switch != "error"

    # ---- finding

    def _target(self, path: str, span: Span) -> Unit:
        """What one import adds."""
        tried = os.path.join(os.path.dirname(span.source.name), path)
        try:
            found = self._look(tried)
            if found is not None and not self._is_skipped(found, tried, span):
                return self._folder(found, tried, span) if found.entries is not None else self._file(found, tried, span)
        except HostError as error:
            self._error(f"Cannot import {quote(encode_text(path))}: {error}", span)
            return Unit()
        if found is None and is_library(path):
            return Unit()  # its macros are known to every program
        hints = [f"Tried: {tried}", *([f"the library's {path}"] if path.startswith(LIBRARY) else [])]
        names = [] if found is not None else self._near(tried)
        self._error(
            f"No path found for import {quote(encode_text(path))}",
            span,
            hints=(", ".join(hints), *did_you_mean(os.path.basename(path), names)),
        )
        return Unit()

    def _near(self, tried: str) -> Sequence[str]:
        """What there is in the folder of a missing file."""
        with suppress(HostError):
            folder = self._look(os.path.dirname(tried) or ".")
            if folder is not None and folder.entries is not None:
                return folder.entries
        return ()

    def _look(self, path: str) -> Imported | None:
        return self.context.host.imported(path)

    def _is_skipped(self, found: Imported, shown: str, span: Span) -> bool:
        """Whether a file or folder is one that anybody may have written ([prog.import.rules])."""
        if found.world_writable:
            what = "file" if found.entries is None else "directory"
            message = f"Skipping {what} {shown}: everybody may write to it (chmod o-w makes it importable)"
            self.context.diagnostics.warning(CODE, message, span)
        return found.world_writable

    def _error(self, message: str, span: Span, labels: Sequence[Label] = (), hints: Sequence[str] = ()) -> None:
        self.context.diagnostics.error(CODE, message, span, labels, hints)

    # ---- reading

    def _folder(self, found: Imported, shown: str, span: Span) -> Unit:
        """All files of a known type directly in a folder, in the order of their names."""
        unit = Unit()
        for name in sorted(found.entries or ()):
            path = os.path.join(shown, name)
            if not name.endswith(KINDS):
                continue
            file = self._look(path)
            if file is not None and file.data is not None and not self._is_skipped(file, path, span):
                unit.add(self._file(file, path, span))
        return unit

    def _file(self, found: Imported, shown: str, span: Span) -> Unit:
        """One file, unless it was read before."""
        if found.path in self.seen:
            return Unit()
        self.seen.add(found.path)
        if shown.endswith(SCRIPT):
            return self._script(found, shown, span)
        if shown.endswith(HEADER):
            line = Source(shown, f'#include "{found.path}"')
            return Unit([CText(line.span(0, len(line.text)))])
        if shown.endswith(LINKED):
            return self._object(found, shown, span)
        hint = f"What can be imported: {', '.join(f'*{kind}' for kind in KINDS)}, and directories of such files."
        self._error(f"Unknown file type: {shown}", span, hints=(hint,))
        return Unit()

    def _object(self, found: Imported, shown: str, span: Span) -> Unit:
        """An object, or a C file of which one is made."""
        try:
            unit = self.context.host.linked_unit(found.path)
        except HostError as error:
            self._error(f"Cannot import {quote(encode_text(shown))}: {error}", span)
            return Unit()
        config = self.context.config
        if unit.license and unit.license != config.license:
            message = f"{shown} has the license {unit.license!r}, the program {config.license!r}"
            hint = f'Give both the same: config = {{ license = "{unit.license}" }}'
            self._error(message, span, hints=(hint,))
        return Unit(linked=[ImportedUnit(unit, shown, span)])

    def _script(self, found: Imported, shown: str, span: Span) -> Unit:
        """The parts of another script, those of what it imports itself first."""
        from pytrace.grammar.parser import parse  # not loaded when a compiled program is run again

        source = Source(shown, decode_text((found.data or b"").removeprefix(BYTE_ORDER_MARK)))
        program = parse(source, self.registry.builtin_words(), self.context.diagnostics)
        if program.config is not None:
            labels = (Label(span, "The file is imported here."),)
            hints = ("Set it in the script that is run.",)
            self._error("A config block is not allowed in an imported file", program.config.span, labels, hints)
        nested = self.imported_by(program)
        return Unit([*nested.c_texts, *program.c_texts], [*nested.items, *program.items], nested.linked)


def is_library(path: str) -> bool:
    """Whether an import names the library, which every program knows anyway."""
    return path.removesuffix("/") == LIBRARY or path.removesuffix(SCRIPT) == LIBRARY_FILE.removesuffix(SCRIPT)


def _imports(program: Program) -> Iterator[Import | ImportStatement]:
    """The imports of one file in their order."""
    yield from program.imports
    for item in program.items:
        yield from (node for node in walk(item) if isinstance(node, ImportStatement))
