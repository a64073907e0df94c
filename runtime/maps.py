"""Reading and emptying BPF maps, in batches where the kernel has them (Linux 5.6), else one by one."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator

from pytrace.grammar.plan import MapSpec
from pytrace.grammar.types import round_up
from pytrace.runtime import cpus
from pytrace.runtime.libbpf import library

Values = bytes | tuple[bytes, ...]
Entry = tuple[bytes, Values]

_BATCH_BYTES = 1 << 22
_ENOTSUPP = 524  # include/linux/errno.h; what a map type without batches answers
_NO_BATCH = (errno.EINVAL, _ENOTSUPP, errno.EOPNOTSUPP)
_BPF_EXIST = 2


class LiveMap:
    """A map of a loaded object, by its file descriptor."""

    def __init__(self, spec: MapSpec, fd: int) -> None:
        self.spec, self.fd = spec, fd
        self._lib = library()
        self._cpus = cpus.possible() if spec.per_cpu else 1
        # the kernel pads each CPU's value to 8 bytes (Documentation/bpf/map_hash.rst)
        self._step = round_up(spec.value_size, 8) if spec.per_cpu else spec.value_size
        self._value_size = self._step * self._cpus
        self._is_array = spec.kind.endswith("array")

    def read(self) -> list[Entry]:
        """All entries: key, and the value or a tuple with the value of each possible CPU. Raises OSError."""
        return [(key, self._value(value)) for key, value in self._entries()]

    def lookup(self, key: bytes) -> Values | None:
        """The value of one key."""
        value = self._lookup(key)
        return None if value is None else self._value(value)

    def update(self, key: bytes, value: bytes) -> None:
        """Set the value of one key, in a per-CPU map on every CPU. Raises OSError."""
        full = value.ljust(self._step, b"\0") * self._cpus
        _check(self._lib.bpf_map_update_elem(self.fd, key, full, 0))

    def clear(self) -> None:
        """Remove every entry; an array's entries become zero. Raises OSError."""
        if self._is_array:
            self.zero()
            return
        keys = [key for key, _ in self._entries()]
        count = ctypes.c_uint32(len(keys))
        if keys and self._lib.bpf_map_delete_batch(self.fd, b"".join(keys), count, None) < 0:
            # no batches, or a program has removed one of the keys meanwhile
            for key in keys:
                self._lib.bpf_map_delete_elem(self.fd, key)

    def zero(self) -> None:
        """Set every value to zero bytes and keep the keys. Raises OSError."""
        nothing = bytes(self._value_size)
        for key, value in self._entries():
            if value != nothing:
                result = self._lib.bpf_map_update_elem(self.fd, key, nothing, _BPF_EXIST)
                _check(result, errno.ENOENT)  # gone meanwhile

    def _value(self, raw: bytes) -> Values:
        size, step = self.spec.value_size, self._step
        if not self.spec.per_cpu:
            return raw
        return tuple([raw[at : at + size] for at in range(0, len(raw), step)])

    def _entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and raw values. Read at once, so that deleting while iterating is safe."""
        batches = self._in_batches()
        if batches is None:
            return iter(list(self._one_by_one()))
        return iter(batches)

    def _in_batches(self) -> list[tuple[bytes, bytes]] | None:
        """BPF_MAP_LOOKUP_BATCH until the end, or None where the map has no batches."""
        key_size, value_size = self.spec.key_size, self._value_size
        room = max(1, min(self.spec.max_entries, _BATCH_BYTES // (key_size + value_size)))
        position = ctypes.create_string_buffer(max(key_size, 8))
        entries: list[tuple[bytes, bytes]] = []
        first = True
        while True:
            keys = ctypes.create_string_buffer(room * key_size)
            values = ctypes.create_string_buffer(room * value_size)
            count = ctypes.c_uint32(room)
            start = None if first else position
            result = -self._lib.bpf_map_lookup_batch(self.fd, start, position, keys, values, count, None)
            if result == errno.ENOSPC and not count.value:
                room *= 2  # a bucket of the hash table holds more than fits
                continue
            if first and result in _NO_BATCH:
                return None
            if result not in (0, errno.ENOENT):
                raise OSError(result, os.strerror(result))
            entries += _split(keys, values, count.value, key_size, value_size)
            first = False
            if result == errno.ENOENT:
                return entries

    def _one_by_one(self) -> Iterator[tuple[bytes, bytes]]:
        following = ctypes.create_string_buffer(self.spec.key_size)
        key: bytes | None = None
        while self._lib.bpf_map_get_next_key(self.fd, key, following) == 0:
            key = following.raw
            value = self._lookup(key)
            if value is not None:
                yield key, value

    def _lookup(self, key: bytes) -> bytes | None:
        value = ctypes.create_string_buffer(self._value_size)
        result = self._lib.bpf_map_lookup_elem(self.fd, key, value)
        _check(result, errno.ENOENT)
        return value.raw if result == 0 else None


def _split(
    keys: ctypes.Array[ctypes.c_char],
    values: ctypes.Array[ctypes.c_char],
    count: int,
    key_size: int,
    value_size: int,
) -> list[tuple[bytes, bytes]]:
    all_keys, all_values = keys.raw, values.raw
    return [
        (
            all_keys[i * key_size : (i + 1) * key_size],
            all_values[i * value_size : (i + 1) * value_size],
        )
        for i in range(count)
    ]


def _check(result: int, *allowed: int) -> None:
    """Raise OSError for libbpf's -errno, unless it is one of the allowed ones."""
    if result < 0 and -result not in allowed:
        raise OSError(-result, os.strerror(-result))
