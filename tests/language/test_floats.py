"""How floating-point members of C structs are shown."""

from __future__ import annotations

import math
import struct
from typing import Any, cast

import pytest

from pytrace.grammar.spec import Services
from pytrace.grammar.types import Opaque
from pytrace.language.values.floats import Float

FLOAT = Float()
NOBODY = cast(Services, None)  # no service is needed


def x87(mantissa: int, exponent: int, negative: bool = False) -> bytes:
    """The 16 bytes of a `long double`."""
    return struct.pack("<QH6x", mantissa, exponent | negative << 15)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (struct.pack("<e", 0.5), "0.5"),
        (struct.pack("<f", 0.1), "0.1"),
        (struct.pack("<f", 16777217), "16777216"),
        (struct.pack("<f", 1 / 3), "0.33333334"),
        (struct.pack("<d", 0.1), "0.1"),
        (struct.pack("<d", 0.1 + 0.2), "0.30000000000000004"),
        (struct.pack("<d", -2.5), "-2.5"),
        (struct.pack("<d", 100000), "100000"),
        (struct.pack("<d", 1e100), "1e+100"),
        (struct.pack("<d", math.inf), "inf"),
        (struct.pack("<d", math.nan), "nan"),
        (x87(0, 0), "0"),
        (x87(1 << 63, 16383), "1"),
        (x87(5 << 61, 16384, True), "-2.5"),
        (x87(1 << 63, 0x7FFF, True), "-inf"),
        (x87(3 << 62, 0x7FFF), "nan"),
        (x87(1 << 63, 0x7FFE), "inf"),  # beyond what Python has
    ],
)
def test_text(data: bytes, text: str) -> None:
    assert FLOAT.text(Opaque("float", len(data), 8), data, NOBODY) == text


@pytest.mark.parametrize(("value", "shown"), [(2.5, 2.5), (math.inf, "inf"), (math.nan, "nan")])
def test_json(value: float, shown: Any) -> None:
    assert FLOAT.json(Opaque("float", 8, 8), struct.pack("<d", value), NOBODY) == shown


def test_formats_that_are_not_known() -> None:
    kind = Opaque("float", 2, 2, ("__bf16",))
    assert FLOAT.text(kind, b"\x80\x3f", NOBODY) == FLOAT.json(kind, b"\x80\x3f", NOBODY) == "0x3f80"
