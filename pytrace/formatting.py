"""`--fmt`: a program in the canonical layout (reference part 2, section 10.1)."""

from __future__ import annotations

import sys

import pytrace.language  # noqa: F401  (features register themselves)
from pytrace.compilation import RECURSION_LIMIT
from pytrace.grammar.formatter import format_program
from pytrace.grammar.source import Source
from pytrace.grammar.spec import REGISTRY


def formatted(text: str, name: str) -> str:
    """A program in the canonical layout. Raises CompileError."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION_LIMIT))
    return format_program(Source(name, text), REGISTRY.builtin_words())
