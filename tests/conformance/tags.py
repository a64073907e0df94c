"""The features of the language, as tags.tsv lists them."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TSV = Path(__file__).with_name("tags.tsv")


@dataclass(frozen=True, slots=True)
class Feature:
    """One tagged feature. `part` (1 or 2) and `section` say where the language reference describes it."""

    tag: str
    tier: str
    part: int
    section: str


def load() -> tuple[Feature, ...]:
    """All features in the order of the reference. A few tags are described in both parts: two features."""
    with TSV.open() as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return tuple(Feature(row["tag"], row["tier"], int(row["part"]), row["section"]) for row in rows)


def names(features: Iterable[Feature]) -> frozenset[str]:
    return frozenset(feature.tag for feature in features)
