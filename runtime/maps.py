"""Reading and emptying BPF maps, in batches where the kernel has them (Linux 5.6), else one by one."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from pytrace.grammar.columns import Columns
from pytrace.grammar.data import replace
from pytrace.grammar.plan import MapSpec
from pytrace.grammar.types import round_up
from pytrace.runtime import cpus
from pytrace.runtime.libbpf import library

Values = bytes | Sequence[bytes]
Entry = tuple[bytes, Values]

_BATCH_BYTES = 1 << 22
_ENOTSUPP = 524  # include/linux/errno.h; what a map type without batches answers
_NO_BATCH = (errno.EINVAL, _ENOTSUPP, errno.EOPNOTSUPP)
_BPF_EXIST = 2
_PRESENT = struct.pack("=Q", 1)


class LiveMap:
    """A map of a loaded object, by its file descriptor."""

    def __init__(self, spec: MapSpec, fd: int) -> None:
        self.spec, self.fd = spec, fd
        self._lib = library()
        self._cpus = cpus.possible() if spec.per_cpu else 1
        # the kernel pads each CPU's value to 8 bytes (Documentation/bpf/map_hash.rst)
        self._step = round_up(spec.value_size, 8) if spec.per_cpu else spec.value_size
        self._value_bytes = self._step * self._cpus

    def read(self) -> Iterable[Entry]:
        """All entries: key, and the value or a tuple with the value of each possible CPU. Raises OSError."""
        return self.columns()

    def columns(self) -> Columns:
        """All entries of the kernel's map. Raises OSError."""
        chunks = list(self._chunks())
        return self._columns(*map(b"".join, zip(*chunks, strict=True))) if chunks else self._columns(b"", b"")

    def _columns(self, keys: bytes, values: bytes) -> Columns:
        cpus = self._cpus if self.spec.per_cpu else 0
        return Columns(keys, values, self.spec.key_size, self.spec.value_size, cpus)

    def lookup(self, key: bytes) -> Values | None:
        """The value of one key."""
        value = self._lookup(key)
        return None if value is None else next(value for _, value in self._columns(key, value))

    def update(self, key: bytes, value: bytes) -> None:
        """Set the value of one key, in a per-CPU map on every CPU. Raises OSError."""
        full = value.ljust(self._step, b"\0") * self._cpus
        _check(self._lib.bpf_map_update_elem(self.fd, key, full, 0))

    def clear(self) -> None:
        """Remove every entry; an array's entries become zero. Raises OSError."""
        if self.spec.kind.endswith("array"):
            self.zero()
            return
        for keys, _ in list(self._chunks()):
            count = ctypes.c_uint32(len(keys) // self.spec.key_size)
            if self._lib.bpf_map_delete_batch(self.fd, keys, count, None) < 0:
                # no batches, or a program has removed one of the keys meanwhile
                for key in self._columns(keys, b"").split_keys():
                    self._lib.bpf_map_delete_elem(self.fd, key)

    def zero(self) -> None:
        """Set every value to zero bytes and keep the keys. Raises OSError."""
        nothing = bytes(self._value_bytes)
        for keys, _ in list(self._chunks()):
            for key in self._columns(keys, b"").split_keys():
                result = self._lib.bpf_map_update_elem(self.fd, key, nothing, _BPF_EXIST)
                _check(result, errno.ENOENT)  # gone meanwhile

    def _chunks(self) -> Iterator[tuple[bytes, bytes]]:
        """Some keys in a row and their values in a row, until all entries have been seen."""
        try:
            yield from self._batches()
        except NotImplementedError:
            yield from self._one_by_one()

    def _batches(self) -> Iterator[tuple[bytes, bytes]]:
        """BPF_MAP_LOOKUP_BATCH until the end; NotImplementedError where the map has no batches."""
        key_size, value_size = self.spec.key_size, self._value_bytes
        room = max(1, min(self.spec.max_entries, _BATCH_BYTES // (key_size + value_size)))
        position = ctypes.create_string_buffer(max(key_size, 8))
        start = None
        result = 0
        while result != errno.ENOENT:
            keys = ctypes.create_string_buffer(room * key_size)
            values = ctypes.create_string_buffer(room * value_size)
            count = ctypes.c_uint32(room)
            result = -self._lib.bpf_map_lookup_batch(self.fd, start, position, keys, values, count, None)
            if result == errno.ENOSPC and not count.value:
                room *= 2  # a bucket of the hash table holds more than fits
                continue
            if start is None and result in _NO_BATCH:
                raise NotImplementedError
            _check(-result, errno.ENOENT)
            if count.value:
                yield (
                    ctypes.string_at(keys, count.value * key_size),
                    ctypes.string_at(values, count.value * value_size),
                )
            start = position

    def _one_by_one(self) -> Iterator[tuple[bytes, bytes]]:
        following = ctypes.create_string_buffer(self.spec.key_size)
        key: bytes | None = None
        while self._lib.bpf_map_get_next_key(self.fd, key, following) == 0:
            key = following.raw
            value = self._lookup(key)
            if value is not None:
                yield key, value

    def _lookup(self, key: bytes) -> bytes | None:
        value = ctypes.create_string_buffer(self._value_bytes)
        result = self._lib.bpf_map_lookup_elem(self.fd, key, value)
        _check(result, errno.ENOENT)
        return value.raw if result == 0 else None


class ArrayMap(LiveMap):
    """A user map that is an array in the kernel: only elements whose presence word is set count as there."""

    def __init__(self, spec: MapSpec, fd: int) -> None:
        key_size, value_size = spec.kernel_sizes
        super().__init__(replace(spec, key_size=key_size, value_size=value_size, presence=False), fd)
        self._elements = spec
        self._keys = struct.Struct("=8xQ" if spec.buckets else f"={spec.key_size}x")

    def read(self) -> Iterable[Entry]:
        """See LiveMap."""
        found = [(self._element_key(key), self._shown(value)) for key, value in self.columns()]
        return [(key, value) for key, value in found if value is not None]

    def lookup(self, key: bytes) -> Values | None:
        """See LiveMap."""
        number = key[8:12] if self._elements.buckets else bytes(4)
        value = super().lookup(number)
        return None if value is None else self._shown(value)

    def zero(self) -> None:
        """See LiveMap: the presence word stays."""
        nothing = (bytes(self._elements.presence_at) + _PRESENT) * self._cpus
        for key, value in self.columns():
            if self._shown(value) is not None:
                _check(self._lib.bpf_map_update_elem(self.fd, key, nothing, _BPF_EXIST))

    def clear(self) -> None:
        """See LiveMap: what is all zero is not there."""
        super().zero()

    def _element_key(self, number: bytes) -> bytes:
        """The element's key, by the array's."""
        if not self._elements.buckets:
            return self._keys.pack()
        return self._keys.pack(int.from_bytes(number, sys.byteorder))

    def _shown(self, value: Values) -> Values | None:
        """A value without its presence word; None if the element is not there."""
        cells = (value,) if isinstance(value, bytes) else value
        at, size = self._elements.presence_at, self._elements.value_size
        if not any(cell[at] for cell in cells):
            return None
        return value[:size] if isinstance(value, bytes) else tuple([cell[:size] for cell in cells])


class TieredMap(LiveMap):
    """A user map whose short keys lie in maps of their own."""

    def __init__(self, spec: MapSpec, fd_of: Callable[[str], int]) -> None:
        super().__init__(spec, fd_of(spec.symbol))
        self._tiers = [
            (tier, LiveMap(replace(spec, key_size=tier.size, tiers=()), fd_of(tier.symbol))) for tier in spec.tiers
        ]

    def read(self) -> Iterable[Entry]:
        """See LiveMap."""
        keys, values = list[bytes](), list[bytes]()
        for tier, short in self._tiers:
            tail, columns = bytes(self.spec.key_size - tier.size), short.columns()
            keys += [key + tail for key in columns.split_keys()]
            values.append(columns.raw_values)
        long = self.columns()
        return replace(long, raw_keys=b"".join((*keys, long.raw_keys)), raw_values=b"".join((*values, long.raw_values)))

    def lookup(self, key: bytes) -> Values | None:
        """See LiveMap."""
        for tier, short in self._tiers:
            if tier.has(key):
                return short.lookup(key[: tier.size])
        return super().lookup(key)

    def update(self, key: bytes, value: bytes) -> None:
        """See LiveMap."""
        for tier, short in self._tiers:
            if tier.has(key):
                short.update(key[: tier.size], value)
                return
        super().update(key, value)

    def clear(self) -> None:
        """See LiveMap."""
        for _, short in self._tiers:
            short.clear()
        super().clear()

    def zero(self) -> None:
        """See LiveMap."""
        for _, short in self._tiers:
            short.zero()
        super().zero()


def live_map(spec: MapSpec, fd_of: Callable[[str], int]) -> LiveMap:
    """A map of a loaded object, read in the way that its kind needs; `fd_of` gives the descriptor of a symbol."""
    if spec.tiers:
        return TieredMap(spec, fd_of)
    return (ArrayMap if spec.presence else LiveMap)(spec, fd_of(spec.symbol))


def _check(result: int, *allowed: int) -> None:
    """Raise OSError for libbpf's -errno, unless it is one of the allowed ones."""
    if result < 0 and -result not in allowed:
        raise OSError(-result, os.strerror(-result))
