"""`Emit`: the narrow interface through which features make code.

A feature never sees an LLVM builder and never decides where scratch memory lies. Scalars (integers,
booleans, enumerations, pointers) are values; everything else is handled through the memory it lies in (`Slot`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytrace.grammar.data import dataclass
from pytrace.grammar.hints import TYPE_CHECKING, Any, Protocol
from pytrace.grammar.types import UINT64, Space, Type

if TYPE_CHECKING:  # a listing needs none of these
    from pytrace.grammar.config import Config
    from pytrace.grammar.nodes import Expr
    from pytrace.grammar.source import Span

SUM_ELEMENTS = "bpf_map_sum_elem_count"  # how many elements a map has (kernel/bpf/map_iter.c, Linux 6.6)


@dataclass(frozen=True, slots=True)
class Value:
    """A value in generated code.

    `raw` belongs to the emitter: of a scalar a 64-bit register holding the value extended by its own sign, of
    anything else the address of its bytes (of a struct or array outside the program's memory, see
    `Type.space`, a 64-bit register with the address).
    """

    type: Type
    raw: Any
    align: int = 0  # of the bytes of what is not a scalar, when it is more than the type's own


@dataclass(frozen=True, slots=True)
class Slot:
    """`size` bytes of memory, aligned to `align`, that the program may load from and store to directly."""

    raw: Any
    size: int
    align: int = 8


class Emit(Protocol):
    """The code generator, as features see it. Conditions are values of type bool."""

    @property
    def config(self) -> Config:
        """The effective configuration."""
        ...

    # ---- values
    def integer(self, value: int, type: Type = UINT64) -> Value:
        """A constant."""
        ...

    def value(self, node: Expr) -> Value:
        """The value of an argument."""
        ...

    def convert(self, value: Value, type: Type) -> Value:
        """The value as another type: truncated, extended by its own sign, padded with zeros."""
        ...

    def arith(self, op: str, a: Value, b: Value) -> Value:
        """`+ - * / % & | ^ << >>` on 64 bits; `/` and `%` unsigned, `>>` logical; `s/` signed division."""
        ...

    def compare(self, op: str, a: Value, b: Value, signed: bool = False) -> Value:
        """`== != < <= > >=` on 64 bits."""
        ...

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """One of two scalars, without a branch."""
        ...

    def truth(self, value: Value) -> Value:
        """Whether a scalar is not zero."""
        ...

    def highest_bit(self, value: Value) -> Value:
        """The number of the highest bit that is set in 64 bits; of 0 it is 0."""
        ...

    def swap_bytes(self, value: Value, size: int) -> Value:
        """The low `size` bytes in reverse order."""
        ...

    # ---- memory
    def scratch(self, size: int, zero: bool = True, shared: bool = False) -> Slot:
        """New memory of this program, 8-byte aligned; `shared` if the body of a `loop` is to change it."""
        ...

    def slot(self, value: Value) -> Slot:
        """The memory of a value that is not a scalar."""
        ...

    def at(self, slot: Slot, type: Type) -> Value:
        """The memory as a value of a type that is not a scalar."""
        ...

    def part(self, slot: Slot, offset: int | Value, size: int) -> Slot:
        """A part of a slot. The verifier must know that an offset that is not a constant is within bounds."""
        ...

    def load(self, slot: Slot, offset: int | Value, type: Type) -> Value:
        """A scalar from memory; at an offset that is not a constant only a byte, and only within the slot."""
        ...

    def store(self, slot: Slot, offset: int, value: Value) -> None:
        """Put a value of any type into memory, in the size of its type."""
        ...

    def store_word(self, slot: Slot, index: Value, value: Value) -> None:
        """Put 64 bits into memory as its word of that number; what lies beyond its end is not stored."""
        ...

    def copy(self, to: Slot, source: Slot, size: int) -> None:
        """Copy bytes between two places in the program's memory."""
        ...

    def text(self, data: bytes) -> Value:
        """A string constant, NUL added."""
        ...

    def choose(self, index: Value, texts: Sequence[bytes]) -> Value:
        """One of several string constants, as a string that has room for the longest."""
        ...

    # ---- control
    def pick(self, index: Value, numbers: Sequence[int]) -> Value:
        """One of several numbers of 16 bits; 0 if there are not so many."""
        ...

    def when(self, condition: Value, then: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        """Make the code of `then` for a true condition, of `otherwise` for a false one."""
        ...

    def repeat(self, count: int, body: Callable[[Value], Value | None]) -> None:
        """Run the body `count` times with the index, or until it gives a true value; the bound is known, the kernel
        unrolls nothing."""
        ...

    def loop(
        self, count: int, carried: Sequence[Value | Slot], body: Callable[[Value, Sequence[Value | Slot]], Value]
    ) -> None:
        """Like `repeat`, for long bodies: the kernel looks at the body once or twice, not in every round.

        The body is a function of its own. Of what is outside it sees only the index and `carried`: addresses
        of tables, and shared memory.
        """
        ...

    def finish(self) -> None:
        """End this run of the program."""
        ...

    def once(self, name: str, make: Callable[[], Value]) -> Value:
        """A scalar that is computed once, before anything else that the program does, whoever asks first.

        `name` tells such values of a program apart. `make` may ask for others, but not in a branch.
        """
        ...

    # ---- the kernel
    def context(self) -> Value:
        """The program's context pointer."""
        ...

    def context_word(self, offset: int, type: Type = UINT64) -> Value:
        """A scalar from the program's context."""
        ...

    def context_slot(self, offset: int, size: int) -> Slot:
        """Memory of the program's context, to be read at constant offsets only."""
        ...

    def require_object(self, offset: int) -> None:
        """End this run of the program if a pointer in its context is null."""
        ...

    def context_object(self, offset: int, type: Type) -> Value:
        """A pointer in the program's context that may be null, as a value that may be calculated with."""
        ...

    def iterator_file(self) -> Value:
        """The `struct seq_file *` that an iterator's program writes to."""
        ...

    def helper(self, name: str, *arguments: Value | Slot, type: Type = UINT64) -> Value:
        """Call a BPF helper by its kernel name without `bpf_` (include/uapi/linux/bpf.h)."""
        ...

    def kernel_function(self, name: str, types: Sequence[str], *arguments: Value) -> Value:
        """Call a function that the kernel offers to programs (Documentation/bpf/kfuncs.rst), by the C types of its
        result and its parameters: `int`, `long`, `bool`, `void`, `void *`, `struct NAME *`."""
        ...

    def read(self, to: Slot, size: int | Value, address: Value, space: Space) -> Value:
        """Copy from foreign memory; the result is 0 or a negative error, and the memory zero on failure."""
        ...

    def read_string(self, to: Slot, size: int | Value, address: Value, space: Space) -> Value:
        """Copy a string with its NUL from foreign memory; the result is its length or a negative error."""
        ...

    def read_text(self, node: Expr, room: int, count: int | Value, address: Value, space: Space) -> Slot:
        """New memory of `room` bytes with a string from foreign memory, the value of `node`, and zero behind it."""
        ...

    def percpu_address(self, variable: int, cpu: Value | None) -> Value:
        """Where a CPU has its own copy of a per-CPU variable of the kernel: of CPU `cpu`, or the current one.

        `variable` is its number in the kernel's BTF. 0 if there is no such CPU.
        """
        ...

    def global_word(self, name: str) -> Value:
        """A word of global data that the runtime fills in (see `plan.GLOBALS`)."""
        ...

    def option(self, offset: int, size: int, total: int) -> Slot:
        """A copy of part of the values of the program's own options (`total` bytes), which the runtime fills in."""
        ...

    # ---- maps
    def lookup(self, map: str, key: Expr | None) -> Value:
        """The address of an element's value, or null; `map` is a user map's name without `@`."""
        ...

    def take(self, map: str, key: Expr | None, variable: Expr) -> Value:
        """Look an element up once: whether there is one, whose value then is in the scratch variable."""
        ...

    def delete(self, map: str, key: Expr | None) -> Value:
        """Delete an element; 0, or a negative error if there was none."""
        ...

    def count_elements(self, map: str, sums: bool = False) -> Value:
        """The number of elements of a user map. `sums` says that the kernel may be asked (`SUM_ELEMENTS`)
        and they need not be counted one by one."""
        ...

    def table(self, name: str, key: Value) -> Value:
        """The address of one of the arrays that `plan.TABLES` speaks of, 0 if there is none for the key."""
        ...

    def row(self, table: Value, index: Value, size: int, then: Callable[[Slot], None]) -> None:
        """Make the code of `then` for a row of such an array, if it has one of that number."""
        ...

    # ---- events
    def send(
        self, feature: str, values: Sequence[Value], params: tuple[Any, ...] = (), span: Span | None = None
    ) -> None:
        """Send a record that the action `feature` handles; a record that finds no room is counted."""
        ...

    def warn(self, kind: str, code: Value, span: Span, helper: str = "") -> None:
        """Send a run-time warning (reference part 2, section 13.4)."""
        ...
