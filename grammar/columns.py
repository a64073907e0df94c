"""The elements of a map as the kernel gives them: all keys in a row, all values in a row."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from pytrace.grammar.data import dataclass
from pytrace.grammar.types import round_up


@dataclass(frozen=True, slots=True)
class Columns:
    """Keys of `key_size` bytes each; values of `value_size` bytes for each CPU, padded to 8 (`cpus` is 0 if there is
    but one value for all, without padding). To go through them is to take them apart: (key, value or values)."""

    raw_keys: bytes
    raw_values: bytes
    key_size: int
    value_size: int
    cpus: int

    @property
    def cells(self) -> bytes | None:
        """The values, if they are 64-bit words for each CPU and nothing else."""
        return self.raw_values if self.cpus and self.value_size == 8 else None

    def split_keys(self) -> list[bytes]:
        """Each key for itself."""
        return [key for (key,) in struct.iter_unpack(f"{self.key_size}s", self.raw_keys)]

    def __len__(self) -> int:
        return len(self.raw_keys) // self.key_size

    def __iter__(self) -> Iterator[tuple[bytes, bytes | Sequence[bytes]]]:
        keys = self.split_keys()
        if self.cpus:
            padding = round_up(self.value_size, 8) - self.value_size
            form = f"{self.value_size}s{padding}x" * self.cpus
            return zip(keys, struct.iter_unpack(form, self.raw_values), strict=True)
        values = [value for (value,) in struct.iter_unpack(f"{self.value_size}s", self.raw_values)]
        return zip(keys, values, strict=True)
