"""Counting a signal that may come several times before Python looks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

_PIPE = 1 << 16  # bytes that fit in a pipe by default (pipe(7))


class Deliveries:
    """While inside, `take(n)` is called when a signal was delivered `n` times. For the main thread only.

    Python runs a handler once for all deliveries since it last looked. Its handler in C however writes one byte for
    each to the wake-up descriptor (signal.set_wakeup_fd), and these are counted. What the kernel merges
    stays one: it keeps no more than one signal of a number pending (signal(7), "Queueing and delivery semantics
    for standard signals").
    """

    def __init__(self, number: int, take: Callable[[int], None]) -> None:
        self._number, self._take = number, take

    def __enter__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup = signal.set_wakeup_fd(self._write)
        self._handler = signal.signal(self._number, self._handle)

    def __exit__(self, *exception: object) -> None:
        signal.signal(self._number, self._handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._read)
        os.close(self._write)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        try:
            numbers = os.read(self._read, _PIPE)
        except BlockingIOError:
            return  # counted already
        if count := numbers.count(self._number):
            self._take(count)
