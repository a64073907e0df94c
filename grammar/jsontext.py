"""Strings as JSON documents hold them."""

from __future__ import annotations

import re

_SPECIAL = r'["\\\x00-\x1f\ud800-\udfff]'  # compiled when it is first needed
_NAMED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def json_string(text: str) -> str:
    """A string between quotes; bytes that are not UTF-8 (`surrogateescape`) become U+FFFD."""
    return f'"{re.sub(_SPECIAL, _escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if char >= "\ud800":  # a byte that is not UTF-8
        return "\ufffd"
    return _NAMED.get(char) or f"\\u{ord(char):04x}"
