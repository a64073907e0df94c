"""Constant folding: operators on literals, evaluated while compiling (reference 7.2)."""

from __future__ import annotations

import operator
from collections.abc import Callable

from pytrace.grammar.hints import Any

Constant = int | bool | bytes

LOWEST, HIGHEST_SIGNED, HIGHEST = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1


class FoldError(ValueError):
    """The constant expression has no value; the text is the message for the user."""


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

PLAIN: dict[str, Callable[[int, int], int]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "&": operator.and_, "|": operator.or_, "^": operator.xor,
}  # fmt: skip


def fold_binary(op: str, a: Constant, b: Constant) -> Constant | None:
    """The value of `a op b`, or None if it is not to be folded; raises FoldError."""
    if isinstance(a, bytes) != isinstance(b, bytes):
        if op == "+" and isinstance(a, bytes) and isinstance(b, int):
            return a[b:] if 0 <= b else None
        return None
    if op in COMPARE:
        return COMPARE[op](a, b)
    if op == "&&":
        return bool(a) and bool(b)
    if op == "||":
        return bool(a) or bool(b)
    if isinstance(a, bytes) or isinstance(b, bytes):
        return a + b if op == "+" and isinstance(a, bytes) and isinstance(b, bytes) else None
    value = _checked(_arithmetic(op, int(a), int(b)))
    return bool(value) if isinstance(a, bool) and isinstance(b, bool) else value


def _arithmetic(op: str, a: int, b: int) -> int:
    if op in PLAIN:
        return PLAIN[op](a, b)
    if op in ("<<", ">>"):
        if not 0 <= b < 64:
            raise FoldError(f"shift amount {b} is not between 0 and 63")
        return (a << b) & HIGHEST if op == "<<" else a >> b
    if b == 0:
        raise FoldError("unable to fold: division by zero" if op == "/" else "unable to fold: modulo by zero")
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return quotient if op == "/" else a - quotient * b


def _checked(value: int) -> int:
    if value < LOWEST:
        raise FoldError(f"unable to fold: underflow, the result {value} is below {LOWEST}")
    if value > HIGHEST:
        raise FoldError(f"unable to fold: overflow, the result {value} is above {HIGHEST}")
    return value


def fold_unary(op: str, value: Constant) -> Constant | None:
    """The value of `op value`, or None if it is not to be folded; raises FoldError."""
    if isinstance(value, bytes):
        return None
    if op == "!":
        return not value
    if isinstance(value, bool):
        return None
    if op == "-":
        if value > HIGHEST_SIGNED + 1:
            raise FoldError(f"unable to fold: negative underflow of {value}")
        return -value
    return ~value if op == "~" else None
