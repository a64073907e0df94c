"""Write tags.tsv from the two parts of the language reference: `extract_tags.py PART1 PART2 > tags.tsv`.

How features are counted:

* Part 1: `[area.name] (A)` is a feature; in `[a] [b] (A)` both have the tier. A tag without a tier is a
  cross reference.
* Part 2: the tag stands in back quotes. Its tier is the letter after it, in a table row the second cell
  if that is a single letter (which then holds for every tag of the first cell). Without either it is a cross
  reference.
* A tag in both parts is two features, one to show for each part, with the same name.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

NAME = r"[a-z]\w*(?:\.[\w-]+)*"
HEADING = re.compile(r"#+ ([\d.]+) (.*)")


def part1(line: str) -> Iterator[tuple[str, str]]:
    for tag in re.finditer(rf"\[({NAME})\]", line):
        tier = re.match(rf"(?: \[{NAME}\])* \(([ABC])\)", line[tag.end() :])
        if tier:
            yield tag[1], tier[1]


def part2(line: str) -> Iterator[tuple[str, str]]:
    in_row = line.startswith("|")
    for tag in re.finditer(rf"`\[({NAME})\]`", line):
        rest = line[tag.end() :]
        tier = re.match(rf"(?: `\[{NAME}\]`)* ([ABC])\b", rest)
        if not tier and in_row:
            tier = re.match(r"[^|]*\| ([ABC]) \|", rest)
        if tier:
            yield tag[1], tier[1]


def rows(paths: list[str]) -> Iterator[str]:
    for part, (path, tags) in enumerate(zip(paths, (part1, part2), strict=True), start=1):
        section = ""
        for line in Path(path).read_text().splitlines():
            if heading := HEADING.match(line):
                title = re.sub(rf"\s*`?\[{NAME}\]`?\s*(\([ABC]\)|[ABC]\b)?", "", heading[2])
                section = f"{heading[1].rstrip('.')} {title}".strip()
            for tag, tier in tags(line):
                yield f"{tag}\t{tier}\t{part}\t{section}"


if __name__ == "__main__":
    print("tag\ttier\tpart\tsection", *rows(sys.argv[1:]), sep="\n")
