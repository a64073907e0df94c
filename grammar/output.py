"""What user space does with records: the outputs that actions return, and what they may ask a running trace for."""

from __future__ import annotations

from pytrace.grammar.data import dataclass
from pytrace.grammar.hints import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytrace.grammar.config import Config
    from pytrace.grammar.types import Stack


@dataclass(frozen=True, slots=True)
class Output:
    """One thing to show.

    `kind` is the JSON document type; `text` what text mode writes (complete, newline included where one
    belongs); `data` what JSON and Python get. `error` goes to stderr in text mode. `raw` is written as text in
    every mode.
    """

    kind: str
    text: str
    data: Any = None
    values: tuple[Any, ...] = ()
    error: bool = False
    fields: dict[str, Any] | None = None
    raw: bool = False


class Services(Protocol):
    """What turns raw values into words: symbols, accounts, clocks."""

    @property
    def config(self) -> Config:
        """The effective configuration."""
        ...

    def kernel_symbol(self, address: int) -> tuple[str, int] | None:
        """Name of the kernel function an address is in, and the offset into it."""
        ...

    def user_symbol(self, address: int, pid: int, probe: int = 0) -> tuple[str, int, str] | None:
        """Name, offset and file of the user function that an address of a process is in."""
        ...

    def stack_symbols(self, kind: Stack, pid: int, frames: Sequence[int]) -> Sequence[tuple[str, int, str] | None]:
        """Like `user_symbol`, for the frames of one stack, which belong together.

        It is told of every stack that is shown, kernel stacks and empty ones included, so that it can count
        those that are odd; only those of user stacks have symbols.
        """
        ...

    def interface(self, index: int) -> str | None:
        """The name of a network interface."""
        ...

    def boot_time(self) -> int:
        """CLOCK_REALTIME minus CLOCK_BOOTTIME, in nanoseconds."""
        ...


class Session(Protocol):
    """A running trace, as actions see it."""

    @property
    def values(self) -> bool:
        """Whether anybody wants `Output.values`; making them takes time."""
        ...

    @property
    def services(self) -> Services:
        """Symbols, clocks and the like."""
        ...

    def exit(self, code: int) -> None:
        """Ask for the end of the run with this exit status."""
        ...

    def clear(self, name: str) -> None:
        """Delete every key of a map (name with `@`)."""
        ...

    def zero(self, name: str) -> None:
        """Set every value of a map to zero."""
        ...

    def map_output(self, name: str, top: int = 0, divisor: int = 0) -> Output:
        """A map as it is now."""
        ...
