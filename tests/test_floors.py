"""The contract types of import-linter which guard the floors: they must see a violation."""

from grimp import ImportGraph
from importlinter import Contract

from tests.floors import MayImport, OnlyIn


def broken(contract: Contract, *imports: tuple[str, str]) -> list[str]:
    graph = ImportGraph()
    for importer, imported in imports:
        graph.add_import(importer=importer, imported=imported, line_number=7, line_contents="import it")
    found = contract.check(graph, verbose=False)
    lines: list[str] = found.metadata.get("broken", [])
    assert found.kept is not bool(lines)
    return lines


def test_a_floor_may_import_only_what_is_allowed() -> None:
    floor = MayImport("floor", {}, {"sources": ["p.grammar"], "allowed": ["p.grammar"]})
    assert broken(
        floor,
        ("p.grammar.check", "p.grammar.nodes"),
        ("p.grammar.check", "dataclasses"),
        ("p.cli", "p.grammar"),
        ("p.grammarian", "p.cli"),
        ("p.grammar.check", "p.language"),
        ("p.grammar", "p"),
    ) == ["p.grammar -> p (l. 7)", "p.grammar.check -> p.language (l. 7)"]


def test_a_package_is_known_in_its_places_only() -> None:
    rule = OnlyIn("rule", {}, {"packages": ["lark"], "places": ["p.grammar.parser"]})
    assert broken(
        rule,
        ("p.grammar.parser", "lark"),
        ("p.grammar.check", "larkspur"),
        ("p.grammar.check", "lark"),
    ) == ["p.grammar.check -> lark (l. 7)"]
