"""The import rules of the house as two import-linter contract types.

The types which import-linter ships name what is forbidden, so each new module of a floor above would
have to be added to a list. These two name what is allowed, as the table of floors does.
"""

from collections.abc import Iterable
from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class _DirectImports(Contract):
    """A contract on single import statements: finds the forbidden ones, shows each with its lines."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        broken = [
            f"{importer} -> {imported} (l. {_lines(graph, importer, imported)})"
            for importer in sorted(graph.modules)
            if not graph.is_module_squashed(importer)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if not self.allows(importer, imported)
        ]
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for line in cast(list[str], check.metadata["broken"]):
            output.print_error(line)

    def allows(self, importer: str, imported: str) -> bool:
        """Whether the module `importer` may have a statement that imports `imported`."""
        raise NotImplementedError


class MayImport(_DirectImports):
    """Modules in `sources` import, of the modules of the root package, only those in `allowed`."""

    sources = fields.ListField(subfield=fields.StringField())
    allowed = fields.ListField(subfield=fields.StringField())

    def allows(self, importer: str, imported: str) -> bool:
        ours = imported.split(".")[0] == importer.split(".")[0]
        return not (ours and _within(importer, self.sources)) or _within(imported, self.allowed)


class OnlyIn(_DirectImports):
    """The external `packages` are imported only by the modules in `places`."""

    packages = fields.ListField(subfield=fields.StringField())
    places = fields.ListField(subfield=fields.StringField())

    def allows(self, importer: str, imported: str) -> bool:
        return not _within(imported, self.packages) or _within(importer, self.places)


def _within(module: str, packages: object) -> bool:
    """Whether `module` is one of the packages or below one. import-linter fills fields at run time,
    so for a type checker `packages` is still the field."""
    names = cast(Iterable[str], packages)
    return any(module == name or module.startswith(f"{name}.") for name in names)


def _lines(graph: ImportGraph, importer: str, imported: str) -> str:
    details = graph.get_import_details(importer=importer, imported=imported)
    return ", ".join(str(line["line_number"]) for line in details)
