"""What processes say of code that they made at run time: `/tmp/perf-PID.map`, written by compilers in the process
(tools/perf/Documentation/jit-interface.txt)."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections import OrderedDict

from pytrace.runtime.symboltable import SymbolTable

MAX_PROCESSES = 256
MAX_FOLDERS = 64  # of containers that are kept open
_STALE = 0.2  # seconds after which a file is looked at again

UserSymbol = tuple[str, int, str]  # name, offset into it, file


class _PerfMap:
    """The map of one process. `folder` is a descriptor of its /tmp if that is not ours, else -1."""

    def __init__(self, pid: int) -> None:
        self.folder = -1
        self._own = _own_number(pid)
        self._places = [f"/tmp/perf-{pid}.map"]
        self._looked = 0.0
        self._state: tuple[int, int, int] | None = None
        self._table: SymbolTable | None = None
        with contextlib.suppress(OSError):
            there, here = os.stat(f"/proc/{pid}/root/tmp"), os.stat("/tmp")
            if self._own != pid or (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
                # the folder itself: what a container has mounted cannot be reached from its root when it has ended
                self.folder = os.open(f"/proc/{pid}/root/tmp", os.O_PATH | os.O_CLOEXEC)
                self._places.insert(0, f"/proc/self/fd/{self.folder}/perf-{self._own}.map")

    def resolve(self, address: int) -> UserSymbol | None:
        """Name, offset and map of an address."""
        self._read()
        found = self._table.resolve(address) if self._table is not None else None
        return None if found is None else (*found, f"/tmp/perf-{self._own}.map")

    def _read(self) -> None:
        now = time.monotonic()
        if now - self._looked < _STALE:
            return
        self._looked = now
        for place in self._places:
            try:
                status = os.stat(place)
                state = (status.st_ino, status.st_mtime_ns, status.st_size)
                if not stat.S_ISREG(status.st_mode):  # nobody shall make us wait for a pipe
                    continue
                if state != self._state:
                    self._table, self._state = SymbolTable.of_perf_map(place), state
            except OSError:
                continue
            return

    def close(self) -> None:
        """Let go of the folder."""
        if self.folder >= 0:
            os.close(self.folder)
            self.folder = -1


class PerfMaps:
    """The maps of all processes that have such code, also when they are gone."""

    def __init__(self) -> None:
        self._maps: OrderedDict[int, _PerfMap] = OrderedDict()

    def remember(self, pid: int) -> None:
        """A process has memory with code of its own: note where its map will be, while it lives."""
        if pid in self._maps:
            return
        self._maps[pid] = _PerfMap(pid)
        folders = [known for known in self._maps.values() if known.folder >= 0]
        if len(folders) > MAX_FOLDERS:
            folders[0].close()
        if len(self._maps) > MAX_PROCESSES:
            self._maps.popitem(last=False)[1].close()

    def resolve(self, pid: int, address: int) -> UserSymbol | None:
        """What the map of a process says of an address."""
        self.remember(pid)
        return self._maps[pid].resolve(address)

    def close(self) -> None:
        """Let go of everything."""
        while self._maps:
            self._maps.popitem()[1].close()


def _own_number(pid: int) -> int:
    """The number by which a process knows itself: in the innermost of its PID namespaces."""
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("NSpid:"):
                    return int(line.split()[-1])
    except OSError:
        pass
    return pid
