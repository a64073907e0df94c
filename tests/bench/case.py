"""What a case is: a function that takes one sample of one tracer, and checks what that printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.process import SampleError, Worker

# The two ends of a program: when both have printed, what is between them is attached. No tool's own word is trusted.
READY_A = 'tracepoint:syscalls:sys_enter_getsid { printf("A\\n"); } '
READY_Z = ' tracepoint:syscalls:sys_enter_getsid { printf("Z\\n"); }'
STRAY = 5000  # calls by other processes of the machine that may be counted


@dataclass(frozen=True)
class Tool:
    """A tracer: a command with bpftrace's options. The floor is one too, with its programs by name."""

    name: str
    command: tuple[str, ...]
    is_floor: bool = False


@dataclass
class Sample:
    """The metrics of one run, and what was not as it must be."""

    round: int
    metrics: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def check(self, good: bool, text: str) -> None:
        """Note a result that is wrong."""
        if not good:
            self.wrong.append(text)


@dataclass(frozen=True)
class Bench:
    """What all cases need: the traced programs, a scratch folder, the CPU of the traced loop, less work or all."""

    programs: dict[str, Path]
    folder: Path
    cpu: int
    quick: bool

    def work(self) -> Worker:
        """The program that makes system calls as it is told."""
        return Worker([str(self.programs["benchwork"]), str(self.cpu)])


Take = Callable[[Bench, "Case", Tool, Sample], None]


@dataclass(frozen=True)
class Case:
    """One case. `lead` is the metric that counts, `floor` the hand-written program for it, `most` the rounds at most."""

    name: str
    title: str
    lead: str
    take: Take
    floor: str = ""
    most: int = 99

    def command(self, tool: Tool, program: str) -> list[str]:
        """What runs a program."""
        return [*tool.command, *([self.floor] if tool.is_floor else ["-e", program])]

    def sample(self, bench: Bench, tool: Tool, number: int) -> Sample:
        """One sample; one that could not be taken is wrong."""
        sample = Sample(number)
        try:
            self.take(bench, self, tool, sample)
        except (SampleError, OSError, ValueError, LookupError) as error:
            sample.wrong.append(f"failed: {type(error).__name__}: {error}")
        return sample


CASES: dict[str, Case] = {}


def case(name: str, title: str, lead: str, floor: str = "", most: int = 99) -> Callable[[Take], Take]:
    """Put a case into the list."""

    def add(take: Take) -> Take:
        CASES[name] = Case(name, title, lead, take, floor, most)
        return take

    return add


def near(found: int, wanted: int) -> bool:
    """Whether a count is right, but for calls of others."""
    return wanted <= found <= wanted + STRAY
