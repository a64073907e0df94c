"""What processes have mapped executable, also those that are gone: pid → images of their memory.

An image is a run of (start, end, offset in the file, number of the file). Processes share images until one of
them maps something, so a fork costs nothing.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple  # noqa: TID251 (a program that shows stacks can afford it)

MAX_PROCESSES = 32768  # that have exited, at most; 500 bytes each
MAX_IMAGES = 8  # of one process id: programs that it executed, processes that had the number
MAX_MAPPINGS = 4096  # of one image


class Mapping(NamedTuple):
    """Addresses `start` to `end` show a file, from `offset` on; `file` is its number in `MappedFiles`."""

    start: int
    end: int
    offset: int
    file: int


class Image:
    """The executable mappings of a process at one time, sorted; it never changes."""

    __slots__ = ("_count", "_words")

    def __init__(self, mappings: Iterable[Mapping] = ()) -> None:
        rows = sorted(mappings)
        self._count = len(rows)
        # columns, one after the other: all starts, all ends, all offsets, all files
        self._words = array("Q", [word for column in zip(*rows, strict=True) for word in column])

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self._words == other._words

    __hash__ = None  # type: ignore[assignment]

    def find(self, address: int) -> Mapping | None:
        """The mapping that an address is in."""
        words, count = self._words, self._count
        index = bisect_right(words, address, 0, count) - 1
        if index < 0 or address >= words[index + count]:
            return None
        return self._row(index)

    def has(self, address: int) -> bool:
        """Whether an address is in a mapping."""
        words, count = self._words, self._count
        index = bisect_right(words, address, 0, count) - 1
        return index >= 0 and address < words[index + count]

    def mappings(self) -> list[Mapping]:
        """All mappings, by address."""
        return [self._row(index) for index in range(self._count)]

    def _row(self, index: int) -> Mapping:
        words, count = self._words, self._count
        return Mapping(words[index], words[index + count], words[index + 2 * count], words[index + 3 * count])

    def plus(self, new: Mapping) -> Image:
        """The image with one more mapping; of what that covers, only what it leaves remains."""
        rows = [new]
        for old in self.mappings():
            if old.end <= new.start or old.start >= new.end:
                rows.append(old)
                continue
            if old.start < new.start:
                rows.append(old._replace(end=new.start))
            if old.end > new.end:
                rows.append(Mapping(new.end, old.end, old.offset + new.end - old.start, old.file))
        return Image(rows)


EMPTY = Image()


class Process:
    """The images of one process id, newest first, and the process that forked it (0: not known)."""

    __slots__ = ("images", "parent")

    def __init__(self, images: tuple[Image, ...], parent: int = 0) -> None:
        self.images = images
        self.parent = parent

    def push(self, image: Image) -> None:
        """Begin a new image; an empty one is not worth remembering."""
        kept = self.images if self.images and len(self.images[0]) else self.images[1:]
        self.images = (image, *kept[: MAX_IMAGES - 1])

    def best(self, addresses: Iterable[int]) -> Image:
        """The newest image that has most of these addresses."""
        newest = self.images[0]
        if len(self.images) == 1:
            return newest
        wanted = list(addresses)
        return max(self.images, key=lambda image: sum(map(image.has, wanted)))  # max gives the first of equals


class Processes:
    """All that is known of processes. `only` is the one process to be followed, 0 for all of them.

    Of processes that have exited the oldest are forgotten when there are more than `limit`; `forgotten` counts
    them. `refused` counts mappings beyond `MAX_MAPPINGS`.
    """

    def __init__(self, only: int = 0, limit: int = MAX_PROCESSES) -> None:
        self.forgotten = 0
        self.refused = 0
        self._only = only
        self._limit = limit
        self._known: dict[int, Process] = {}
        self._exited: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, pid: int) -> Process | None:
        """What is known of a process id."""
        return self._known.get(pid)

    def wants(self, pid: int) -> bool:
        """Whether this process is to be followed."""
        return not self._only or pid == self._only

    def exited(self, pid: int) -> bool:
        """Whether the process was seen to exit."""
        return pid in self._exited

    def fork(self, pid: int, parent: int) -> None:
        """A new process: it has what its parent has."""
        if not self.wants(pid):
            return
        image = self._known[parent].images[0] if parent in self._known else EMPTY
        self._process(pid).push(image)
        self._known[pid].parent = parent
        self._exited.pop(pid, None)

    def execute(self, pid: int) -> None:
        """A process executes another program: what it had mapped is gone."""
        if self.wants(pid):
            self._process(pid).push(EMPTY)

    def map(self, pid: int, mapping: Mapping) -> None:
        """A process maps something."""
        if not self.wants(pid):
            return
        process = self._process(pid)
        image = process.images[0]
        if len(image) >= MAX_MAPPINGS:
            self.refused += 1
            return
        process.images = (image.plus(mapping), *process.images[1:])

    def exit(self, pid: int) -> None:
        """A process has exited: it may be forgotten when there are too many."""
        if pid not in self._known:
            return
        self._exited[pid] = None
        self._exited.move_to_end(pid)
        if len(self._exited) > self._limit:
            oldest, _ = self._exited.popitem(last=False)
            del self._known[oldest]
            self.forgotten += 1

    def seen(self, pid: int, mappings: Iterable[Mapping]) -> None:
        """What a living process has mapped right now (/proc/PID/maps)."""
        image, process = Image(mappings), self._process(pid)
        if image != process.images[0]:
            if process.images[0].mappings() and not _related(process.images[0], image):
                process.push(image)
            else:
                process.images = (image, *process.images[1:])

    def _process(self, pid: int) -> Process:
        process = self._known.get(pid)
        if process is None:
            process = self._known[pid] = Process((EMPTY,))
        return process


def _related(old: Image, new: Image) -> bool:
    """Whether the second is what the first has become, and not another program: its first mapping is there."""
    first = old.mappings()[0]
    return new.find(first.start) == first
