"""What the tests of features use instead of a kernel: services and a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytrace.grammar.config import Config
from pytrace.grammar.layout import Layout, Part
from pytrace.grammar.spec import Output, Services
from pytrace.grammar.types import Array, Record, Stack, Tuple, Type, offsets_of


@dataclass
class FakeServices:
    """Two kernel functions, one user function, a machine that booted in 2020."""

    config: Config = field(default_factory=Config)
    boot: int = 1_577_836_800 * 10**9
    kernel: Mapping[int, tuple[str, int]] = field(
        default_factory=lambda: {0x1000: ("vfs_read", 187), 0x2000: ("ksys_read", 102)}
    )
    user: Mapping[tuple[int, int], tuple[str, int, str]] = field(
        default_factory=lambda: {(7, 0x4000): ("main", 16, "/bin/prog")}
    )

    def kernel_symbol(self, address: int) -> tuple[str, int] | None:
        return self.kernel.get(address)

    def user_symbol(self, address: int, pid: int, probe: int = 0) -> tuple[str, int, str] | None:
        return self.user.get((pid, address))

    def stack_symbols(self, kind: Stack, pid: int, frames: Sequence[int]) -> list[tuple[str, int, str] | None]:
        return [self.user_symbol(address, pid) for address in frames]

    def interface(self, index: int) -> str | None:
        return {1: "lo", 2: "eth0"}.get(index)

    def boot_time(self) -> int:
        return self.boot


SERVICES: Services = FakeServices()


@dataclass
class FakeSession:
    """Notes what actions ask for."""

    values = True
    services: Services = field(default_factory=FakeServices)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    map_answer: Output = field(default_factory=lambda: Output("map", "@: 1\n", {"@": 1}))

    def exit(self, code: int) -> None:
        self.asked.append(("exit", code))

    def clear(self, name: str) -> None:
        self.asked.append(("clear", name))

    def zero(self, name: str) -> None:
        self.asked.append(("zero", name))

    def map_output(self, name: str, top: int = 0, divisor: int = 0) -> Output:
        self.asked.append(("print", name, top, divisor))
        return self.map_answer


def lay(kind: Type) -> Layout:
    """The layout of a type that needs no C definitions."""
    match kind:
        case Tuple(items=items):
            names: Sequence[str] = [""] * len(items)
        case Record(names=given, items=items):
            names = given
        case Array(element=element):
            return Layout(kind, (Part("", 0, lay(element)),))
        case _:
            return Layout(kind)
    parts = [Part(n, o, lay(t)) for n, o, t in zip(names, offsets_of(items), items, strict=True)]
    return Layout(kind, tuple(parts))
