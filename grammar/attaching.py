"""Where programs are attached: the places that a Plan names and the runtime attaches to."""

from __future__ import annotations

from pytrace.grammar.data import dataclass


@dataclass(frozen=True, slots=True)
class Attach:
    """One place where a program is attached; `name` is the probe's full name (`kprobe:vfs_read`)."""

    name: str


SIGUSR1 = "SIGUSR1"


@dataclass(frozen=True, slots=True)
class OnDemand(Attach):
    """Run by the tracer itself through BPF_PROG_TEST_RUN.

    `when` is `begin`, `end`, `SIGUSR1` (upon that signal), or the mode of a run (`test`, `bench`) in which it is.
    """

    when: str

    @property
    def waits(self) -> bool:
        """Whether a run goes on for its sake until something else ends it."""
        return self.when == SIGUSR1


@dataclass(frozen=True, slots=True)
class TracepointAttach(Attach):
    """A static tracepoint, by its category and event in tracefs. `cookie` is what the program gets from
    bpf_get_attach_cookie there."""

    category: str
    event: str
    cookie: int = 0


@dataclass(frozen=True, slots=True)
class RawTracepointAttach(Attach):
    """A tracepoint by its kernel name, with the arguments as the kernel passes them."""

    event: str


@dataclass(frozen=True, slots=True)
class SystemCallsAttach(Attach):
    """The entries of system calls, or their returns, by the raw tracepoint that all of them have; the program tells by
    the number which call it is. `probes` are the full names of the tracepoints that it stands for."""

    returns: bool
    probes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KprobeAttach(Attach):
    """Entry (`offset` bytes in) or return of a kernel function; `module` is empty for any.

    Without a `function` the offset is an address. `cookie` is what the program gets from bpf_get_attach_cookie there.
    """

    function: str
    offset: int = 0
    returns: bool = False
    module: str = ""
    cookie: int = 0


@dataclass(frozen=True, slots=True)
class KprobeMultiAttach(Attach):
    """Many kernel functions through one link (kernel ≥ 5.18 with CONFIG_FPROBE). `cookies`, if there are any, are those
    of the functions in the same order."""

    functions: tuple[str, ...]
    returns: bool = False
    cookies: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class KprobeSessionAttach(Attach):
    """Kernel functions through one link whose program runs at their entry and at their return (kernel ≥ 6.10)."""

    functions: tuple[str, ...]
    cookies: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class UprobeAttach(Attach):
    """A place in a file that is mapped executable: `offset` bytes into the file.

    `semaphore` is the file offset of a USDT reference counter, 0 for none. Of the several places of one
    probe only the first is `counted` among the attached probes. `cookie` is what the program gets from
    bpf_get_attach_cookie at this place.
    """

    path: str
    offset: int
    returns: bool = False
    semaphore: int = 0
    counted: bool = True
    cookie: int = 0


@dataclass(frozen=True, slots=True)
class TrampolineAttach(Attach):
    """fentry or fexit of a kernel function (`vmlinux` or a module), fixed when the program is loaded.

    `program` is not 0 for a function of a loaded BPF program, which has that id; `module` is empty then.
    """

    function: str
    returns: bool = False
    module: str = "vmlinux"
    program: int = 0


@dataclass(frozen=True, slots=True)
class PerfEventAttach(Attach):
    """A perf event (perf_event_open(2)): `type` and `config` as there.

    `period` counts events, or `frequency` is in hertz. `every_cpu` opens it on each online CPU, else on the
    first. `per_process` says whether `-p` and `-c` restrict it.
    """

    type: int
    config: int
    period: int = 0
    frequency: int = 0
    every_cpu: bool = True
    per_process: bool = True


@dataclass(frozen=True, slots=True)
class IterAttach(Attach):
    """A kernel iterator (`bpf_iter_ITERATOR`), walked once; with `pin` it is left at that path instead."""

    iterator: str
    pin: str = ""


@dataclass(frozen=True, slots=True)
class WatchpointAttach(Attach):
    """A hardware breakpoint on `length` bytes of memory at `address`.

    `type` has the bits HW_BREAKPOINT_R (1), _W (2) and _X (4) of include/uapi/linux/hw_breakpoint.h.
    """

    address: int
    length: int
    type: int


@dataclass(frozen=True, slots=True)
class XdpAttach(Attach):
    """Every frame that a network interface receives, as the driver hands it over; `index` is the interface's."""

    interface: str
    index: int


@dataclass(frozen=True, slots=True)
class TcAttach(Attach):
    """Every packet that a network interface takes in or (`egress`) sends, where traffic control sees it."""

    interface: str
    index: int
    egress: bool
