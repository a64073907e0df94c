"""The values of literals: integers, durations, escapes (reference part 1, sections 1.4 and 1.5).

One reader serves program text and outside text (positional parameters, numbers in attach points),
which additionally allows a sign, `0b101` and a trailing `_`, and refuses upper-case suffixes.
"""

from __future__ import annotations

import re

from pytrace.grammar.source import encode_text

MAX_UINT32 = (1 << 32) - 1
MAX_INT64 = (1 << 63) - 1
MAX_UINT64 = (1 << 64) - 1

# C suffix -> largest value it allows; the suffix has no other effect
C_SUFFIXES = {
    "u": MAX_UINT32,
    "l": MAX_INT64,
    "ll": MAX_INT64,
    "ul": MAX_UINT64,
    "ull": MAX_UINT64,
}

# duration suffix -> nanoseconds
DURATIONS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3_600 * 1_000_000_000,
    "d": 86_400 * 1_000_000_000,
}

_HEX = re.compile(r"0[xX](?P<digits>[0-9a-fA-F][0-9a-fA-F_]*)?(?P<rest>\w*)", re.ASCII)
_BINARY = re.compile(r"0[bB](?P<digits>[01][01_]*)(?P<rest>\w*)", re.ASCII)
_DECIMAL = re.compile(r"(?P<digits>[0-9][0-9_]*)(?:[eE](?P<exponent>[0-9_]*))?(?P<rest>\w*)", re.ASCII)
_ESCAPE = re.compile(r"\\(?:(?P<octal>[0-7]{1,3})|[xX](?P<hex>[0-9a-fA-F]{1,2})|(?P<char>[ntr\"\\]))")
_ESCAPED = {"n": b"\n", "t": b"\t", "r": b"\r", '"': b'"', "\\": b"\\"}


class LiteralError(ValueError):
    """The text is not a legal literal; the argument says why. `start`/`end` are offsets in the text."""

    def __init__(self, message: str, start: int = 0, end: int | None = None) -> None:
        super().__init__(message)
        self.start = start
        self.end = end


def parse_integer(text: str, external: bool = False) -> int:
    """The value of an integer literal; a duration is in nanoseconds.

    `external` reads the text of a parameter or attach point instead of program text: the value may then
    be negative, down to -2^63. Raises `LiteralError`.
    """
    if not external:
        return _magnitude(text)
    sign = text[:1] if text[:1] in ("+", "-") else ""
    body = text[len(sign) :]
    value = -_magnitude(body, external=True) if sign == "-" else _magnitude(body, external=True)
    if value < -MAX_INT64 - 1:
        raise LiteralError(f"integer underflow, minimum is {-MAX_INT64 - 1}")
    return value


def _magnitude(text: str, external: bool = False) -> int:
    if match := _HEX.fullmatch(text):
        return _prefixed(match, 16, "hexadecimal", external)
    if external and (match := _BINARY.fullmatch(text)):
        return _prefixed(match, 2, "binary", external)
    if not (match := _DECIMAL.fullmatch(text)):
        raise LiteralError("not an integer")
    digits, exponent, suffix = match["digits"], match["exponent"], match["rest"]
    if exponent is not None:
        _check_underscore(exponent, external and not suffix)
        return _suffixed(_scientific(digits, exponent), suffix, external)
    _check_underscore(digits, external and not suffix)
    plain = digits.replace("_", "")
    if len(plain) > 1 and plain[0] == "0":
        if set(plain) & {"8", "9"}:
            raise LiteralError("invalid octal integer: digits are 0 to 7")
        if suffix in DURATIONS:
            raise LiteralError(f"invalid integer suffix '{suffix}': an octal integer cannot be a duration")
        return _suffixed(int(plain, 8), suffix, external)
    # int() refuses very long texts, and no value this long is in range
    value = int(plain) if len(plain) <= 20 else MAX_UINT64 + 1
    return _suffixed(value, suffix, external)


def _prefixed(match: re.Match[str], base: int, name: str, external: bool) -> int:
    """A hexadecimal or binary literal: no suffix may follow."""
    if not match["digits"]:
        raise LiteralError(f"expected {name} digits after '{match[0][:2]}'")
    if match["rest"]:
        raise LiteralError(f"invalid integer suffix '{match['rest']}'")
    _check_underscore(match["digits"], external)
    return _in_range(int(match["digits"].replace("_", ""), base), MAX_UINT64)


def _scientific(mantissa: str, exponent: str) -> int:
    if len(mantissa) != 1 or mantissa == "0":
        raise LiteralError("the mantissa of an exponent must be one digit from 1 to 9")
    if not exponent or exponent[0] in "0_":
        raise LiteralError("the exponent must start with a digit from 1 to 9")
    plain = exponent.replace("_", "")
    power: int = 10 ** (int(plain) if len(plain) <= 2 else 99)
    return int(mantissa) * power


def _suffixed(value: int, suffix: str, external: bool) -> int:
    if not suffix:
        return _in_range(value, MAX_UINT64)
    if suffix in DURATIONS:
        return _in_range(value * DURATIONS[suffix], MAX_UINT64)
    # bpftrace 0.26 refuses the upper case that its manual lists; outside text keeps to the refusal
    most = C_SUFFIXES.get(suffix if external else suffix.lower())
    if most is None:
        raise LiteralError(f"invalid integer suffix '{suffix}'")
    return _in_range(value, most)


def _check_underscore(digits: str, allowed: bool) -> None:
    if digits.endswith("_") and not allowed:
        raise LiteralError("an integer must not end with a trailing underscore '_'")


def _in_range(value: int, most: int) -> int:
    if value > most:
        raise LiteralError(f"integer overflow, maximum is {most}")
    return value


def parse_string(body: str) -> bytes:
    """The bytes of the text between the quotes of a string literal. Raises `LiteralError`."""
    parts: list[bytes] = []
    done = 0
    while (at := body.find("\\", done)) >= 0:
        parts.append(encode_text(body[done:at]))
        match = _ESCAPE.match(body, at)
        if match is None:
            raise LiteralError(f"invalid escape character '{body[at + 1 : at + 2]}'", at, at + 2)
        if match["octal"]:
            value = int(match["octal"], 8)
            if value > 255:
                raise LiteralError("octal escape above 255", at, match.end())
            parts.append(bytes([value]))
        elif match["hex"]:
            parts.append(bytes([int(match["hex"], 16)]))
        else:
            parts.append(_ESCAPED[match["char"]])
        done = match.end()
    parts.append(encode_text(body[done:]))
    return b"".join(parts)


def quote(value: bytes) -> str:
    """The string literal, quotes included, that stands for `value`."""
    out = []
    for char in value.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif char in '"\\':
            out.append("\\" + char)
        elif char in "\n\t\r":
            out.append({"\n": "\\n", "\t": "\\t", "\r": "\\r"}[char])
        elif code < 32 or code == 127:
            out.append(f"\\x{code:02x}")
        else:
            out.append(char)
    return f'"{"".join(out)}"'
