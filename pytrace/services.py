"""What turns raw values into words while a trace runs: symbols and clocks, loaded when they are first needed."""

from __future__ import annotations

from functools import cached_property

from pytrace.grammar.config import Config
from pytrace.grammar.plan import Plan, TcAttach, UprobeAttach, XdpAttach
from pytrace.runtime import clocks
from pytrace.runtime.symbols import Symbolizer


class LiveServices:
    """`Services` of a trace on this machine."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    @property
    def config(self) -> Config:
        """The effective configuration."""
        return self._plan.config

    @cached_property
    def symbolizer(self) -> Symbolizer:
        """Resolves addresses; symbols of processes that are gone are looked for in the probed files."""
        paths = {a.path for p in self._plan.programs for a in p.attach if isinstance(a, UprobeAttach)}
        return Symbolizer(
            demangled=self.config.cpp_demangle,
            fallback=paths.pop() if len(paths) == 1 else "",
            cached=self.config.cache_user_symbols != "NONE",
        )

    @cached_property
    def clocks(self) -> clocks.Clocks:
        """How the kernel's clocks relate."""
        return clocks.measure()

    def kernel_symbol(self, address: int) -> tuple[str, int] | None:
        """See Services."""
        return self.symbolizer.kernel(address)

    def user_symbol(self, address: int, pid: int, probe: int = 0) -> tuple[str, int, str] | None:
        """See Services."""
        return self.symbolizer.user(address, pid)

    @cached_property
    def _probed(self) -> dict[int, str]:
        places = (a for p in self._plan.programs for a in p.attach)
        return {a.index: a.interface for a in places if isinstance(a, (XdpAttach, TcAttach))}

    def interface(self, index: int) -> str | None:
        """See Services."""
        import socket  # only now: it costs 4 ms of every start

        if index in self._probed:
            return self._probed[index]
        try:
            return socket.if_indextoname(index)
        except (OSError, OverflowError):
            return None

    def boot_time(self) -> int:
        """See Services."""
        return self.clocks.realtime

    def tai_offset(self) -> int:
        """See Services."""
        return self.clocks.tai
