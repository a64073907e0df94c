"""Floating-point numbers, which programs can pass on but not compute with."""

from __future__ import annotations

import math
import struct

from pytrace.grammar.hints import Any, ClassVar
from pytrace.grammar.spec import Services, ValueKind, feature
from pytrace.grammar.types import Opaque

_FORMATS = {2: "<e", 4: "<f", 8: "<d"}


@feature
class Float(ValueKind):
    """A floating-point number in a C struct (`float`, `double`, `long double`), shown with the digits that
    tell it from its neighbours, at least six: `2.5`, `1e+100`.

    The language cannot compute with it, and parameters of this type are in registers that probes do not see.
    What is neither IEEE 754 nor x87 (`__float128`, `__bf16`) is shown as hexadecimal digits.

    bt> begin { print(sizeof(float)); }
    """

    name = "float"
    size: ClassVar[int] = 4
    align: ClassVar[int] = 4

    def text(self, kind: Opaque, data: bytes, services: Services) -> str:
        value = self._number(kind, data)
        if value is None:
            return "0x" + data[kind.size - 1 :: -1].hex()
        form = _FORMATS.get(kind.size, "<d")
        for digits in range(6, 17):
            shown = f"{value:.{digits}g}"
            if struct.pack(form, float(shown)) == struct.pack(form, value):
                return shown
        return repr(value)

    def json(self, kind: Opaque, data: bytes, services: Services) -> Any:
        value = self._number(kind, data)
        finite = value is not None and math.isfinite(value)  # JSON has no others
        return value if finite else self.text(kind, data, services)

    def _number(self, kind: Opaque, data: bytes) -> float | None:
        if kind.params:  # the name of another format
            return None
        if kind.size in _FORMATS:
            (number,) = struct.unpack_from(_FORMATS[kind.size], data)
            return float(number)
        return _extended(data)


def _extended(data: bytes) -> float:
    """An x87 number: 64 bits of which the highest is 1, then exponent and sign (Intel SDM 1, 4.2)."""
    mantissa, word = struct.unpack_from("<QH", data)
    exponent, sign = word & 0x7FFF, -1.0 if word >> 15 else 1.0
    if exponent == 0x7FFF:
        return math.nan if mantissa << 1 & (1 << 64) - 1 else sign * math.inf
    try:
        return sign * math.ldexp(mantissa, exponent - 16383 - 63)
    except OverflowError:
        return sign * math.inf
