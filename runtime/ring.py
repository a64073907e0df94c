"""Reading a BPF ring buffer: the records that programs send to user space.

The kernel's side is Documentation/bpf/ringbuf.rst and kernel/bpf/ringbuf.c. We read the mapped pages
ourselves: 0.3 µs a record, a third less than through libbpf and its callback for each record.
"""

from __future__ import annotations

import mmap
import os
import select
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from pytrace.grammar.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from pytrace.grammar.lines import HostCode
    from pytrace.runtime.nativering import NativeReader

Handler = Callable[[list[bytes]], None]
MakeCode = Callable[[int], "HostCode | None"]
TakeLines = Callable[[bytes], None]

# The header of a record: u32 length with two flags on top, u32 page offset (BPF_RINGBUF_* in the kernel).
BACKLOG = 48 << 20  # bytes of records that are taken out of the ring and not shown yet, at most
_HEADER = 8
_BUSY, _DISCARDED = 1 << 31, 1 << 30
_U32 = 0xFFFFFFFF
_BATCH = 4096

# Programs may send without waking us (BPF_RB_NO_WAKEUP), so nobody sleeps longer than this.
TICK_MS = 100
# A reader that found so many records lets more gather: who is not waited for wakes nobody, which costs the traced
# program more than the record itself. It waits for half of the time that it takes to fill the ring with as many
# bytes a second as we can show, and not so long that somebody would see it; the shortest wait is that of epoll.
MANY, FASTEST, SHORTEST, LONGEST = 100, 400e6, 0.002, 0.025


class Waiter:
    """Waits until something is there: `once` (pidfds, …) and `wake` end a wait once, `always` and what `watch` adds
    whenever it is readable."""

    def __init__(self, once: Iterable[int] = (), always: Iterable[int] = ()) -> None:
        self._waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.epoll()
        self.watch(always)
        for descriptor in (self._waker, *once):
            self._poll.register(descriptor, select.EPOLLIN | select.EPOLLONESHOT)

    def watch(self, descriptors: Iterable[int]) -> None:
        """Let these end a wait every time they become readable."""
        for descriptor in descriptors:
            self._poll.register(descriptor, select.EPOLLIN)

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; whether something ended the wait."""
        return bool(self._poll.poll(max(0.0, seconds)))

    def mind(self, descriptor: int, wanted: bool) -> None:
        """Let a watched descriptor end waits, or not for now."""
        self._poll.modify(descriptor, select.EPOLLIN if wanted else 0)

    def wake(self) -> None:
        """End a wait that is going on or the next one; may be called by a signal handler."""
        os.eventfd_write(self._waker, 1)
        self._poll.modify(self._waker, select.EPOLLIN | select.EPOLLONESHOT)

    def close(self) -> None:
        """Release the descriptors."""
        self._poll.close()
        os.close(self._waker)


class RingReader:
    """The reader of one ring buffer map; there may be only one. Close it before the map's descriptor.

    Besides the ring, `watch` (pidfds, …) ends a wait, once for each descriptor.
    """

    def __init__(self, map_fd: int, size: int, watch: Iterable[int] = ()) -> None:
        page = mmap.PAGESIZE
        self._start, self._mask = page, size - 1
        # one page that we write (how far we have read), then one that the kernel writes (how far it has written)
        # and the data. The kernel offers the data twice in a row, so that no record is ever in two parts; mapping it
        # once saves as much memory as the ring is large, and only a record at the very end has two parts then.
        self._ours = mmap.mmap(map_fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._theirs = mmap.mmap(map_fd, page + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumed = memoryview(self._ours).cast("Q")
        self._words = memoryview(self._theirs).cast("Q")
        self._waiter = Waiter(watch, (map_fd,))
        self._fd, self._size = map_fd, size
        self._native: NativeReader | None = None
        self._make: MakeCode | None = None
        self._take: TakeLines = lambda text: None
        self._seen = 0  # bytes of records, while there is no machine code
        self._many = False

    def make_lines(self, make: MakeCode, take: TakeLines) -> None:
        """Make lines of records by machine code as soon as `make` gives it; `take` gets them, in order with the
        records that are left.

        `make` is asked whenever records are taken, with the bytes of all so far.
        """
        self._make, self._take = make, take

    def _start_native(self, make: MakeCode) -> None:
        waiting = self._words[0] - self._consumed[0]
        self._seen += waiting
        code = make(self._seen) if waiting else None
        if code is None:
            return
        from pytrace.runtime.nativering import NativeReader, address_of

        theirs = address_of(self._theirs)
        self._make = None
        with suppress(OSError):  # the system does not allow it, and Python does it as well
            self._native = NativeReader(code, address_of(self._ours), theirs, theirs + self._start, self._size)

    def poll(self, timeout_ms: int, handler: Handler) -> int:
        """Hand the waiting records to `handler` in batches; if there are none, first wait for some.

        `timeout_ms` 0 does not wait. As records may come unannounced, the ring is looked at every tick.
        Returns how many records there were.
        """
        ready = timeout_ms <= 0 or (self._many and self._gather())
        count = self.consume(handler)
        deadline = time.monotonic_ns() + timeout_ms * 1_000_000
        while not count and not ready:
            left = (deadline - time.monotonic_ns()) / 1e9
            ready = self._waiter.wait(min(left, TICK_MS / 1000)) or left <= TICK_MS / 1000
            count = self.consume(handler)
        self._many = count >= MANY
        return count

    def _gather(self) -> bool:
        """Let records come for a moment, unless many have come already or the ring is too small for that.

        Whether something else ended the wait.
        """
        seconds = min(self._size / FASTEST / 2, LONGEST)
        if seconds < SHORTEST or self._words[0] - self._consumed[0] > self._size // 8:
            return False
        self._waiter.mind(self._fd, False)
        try:
            return self._waiter.wait(seconds)
        finally:
            self._waiter.mind(self._fd, True)

    def consume(self, handler: Handler) -> int:
        """Empty the ring, then hand over what was in it; returns how many records.

        Taking a record out costs a tenth of showing it, so a burst is first brought to safety: the ring loses
        nothing as long as the backlog, which is limited, has room.
        """
        if self._make:
            self._start_native(self._make)
        if self._native:
            return self._consume_native(self._native, handler)
        backlog: list[bytes] = []
        limit = self._consumed[0] + BACKLOG
        while self._consumed[0] < limit and (records := self._batch(self._words[0])):
            backlog += records
        if backlog:
            handler(backlog)
        return len(backlog)

    def _consume_native(self, native: NativeReader, handler: Handler) -> int:
        """The same; records that become lines come as text."""
        backlog: list[bytes | list[bytes]] = []
        limit, count = self._consumed[0] + BACKLOG, 0
        while self._consumed[0] < limit:
            text, number = native.read()
            if text:
                backlog.append(text)
            records = self._batch(self._words[0], native.numbers) if native.needs_python else []
            if records:
                backlog.append(records)
            count += number + len(records)
            if not number and not records:
                break
        for shown in backlog:
            if isinstance(shown, bytes):
                self._take(shown)
            else:
                handler(shown)
        return count

    def _batch(self, end: int, until: frozenset[int] = frozenset()) -> list[bytes]:
        """Up to a batch of complete records before position `end`; their room is free again.

        It ends before the second record whose action is in `until`: the first is here because it must be.

        Orders of memory: the kernel clears the busy flag after writing a record, and we move on after copying
        it. x86 keeps both orders; elsewhere the interpreter's work between two accesses has to.
        """
        data, words, start, mask = self._theirs, self._words, self._start, self._mask
        end_of_data = start + mask + 1
        records: list[bytes] = []
        take = records.append
        position = self._consumed[0]
        while position < end and len(records) < _BATCH:
            at = start + (position & mask)
            length = words[at >> 3] & _U32
            if length >= _DISCARDED:
                if length & _BUSY:
                    break
                length &= ~_DISCARDED
            else:
                first, last = at + _HEADER, at + _HEADER + length
                if until and records and words[(start + (position + _HEADER & mask)) >> 3] in until:
                    break
                if last <= end_of_data:
                    take(data[first:last])
                else:  # it goes on at the beginning
                    take(data[first:end_of_data] + data[start : start + last - end_of_data])
            position += (length + _HEADER + 7) & ~7
        self._consumed[0] = position
        return records

    def watch(self, descriptors: Iterable[int]) -> None:
        """Let these end a wait every time they become readable."""
        self._waiter.watch(descriptors)

    def wake(self) -> None:
        """End a wait that is going on or the next one; may be called by a signal handler."""
        self._waiter.wake()

    def close(self) -> None:
        """Unmap the ring."""
        self._native = self._make = None
        self._consumed.release()
        self._words.release()
        self._ours.close()
        self._theirs.close()
        self._waiter.close()


def ring_size(pages: int, cpus: int) -> int:
    """How many bytes the ring shall have (reference [ev.size]): `pages` pages, at least one for each CPU.

    0 pages stands for a size by the memory that is available. The kernel wants a power of two.
    """
    if pages:
        return 1 << (max(pages, cpus) * mmap.PAGESIZE - 1).bit_length()
    return 1024 * closest_power_of_two(min(max(_available_kb(), 256), 16544))


def closest_power_of_two(value: int) -> int:
    """The power of two that is nearest; of two equally near ones the greater."""
    below = 1 << (value.bit_length() - 1)
    return below if value - below < 2 * below - value else 2 * below


def _available_kb() -> int:
    with open("/proc/meminfo") as lines:
        return next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), 0)
