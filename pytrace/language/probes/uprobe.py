"""Entry and return of functions of programs and libraries: `uprobe`, `uretprobe`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import ClassVar, overload

from pytrace.grammar.attachpoint import AttachPoint, matcher
from pytrace.grammar.data import replace
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.host import Host, HostError, Symbol
from pytrace.grammar.plan import UprobeAttach
from pytrace.grammar.source import Span
from pytrace.grammar.spec import Context, Target, feature
from pytrace.grammar.types import Array, Int, Member, Space, Struct, size_of
from pytrace.language.probes.common import (
    ARGUMENT_REGISTERS,
    REGISTERS,
    Place,
    RegisterProbe,
    compose,
    function_address,
    is_wildcard,
    number,
    placed,
    register,
    similar,
    slot_value,
)

# functions that the compiler made out of others, and may have given other parameters
_CLONE = re.compile(r"\.(isra|constprop|part|cold)\b")


class FileProbe(RegisterProbe):
    """Base of the probes in files: they have a path, resolved by `Host.binaries`, and see user memory."""

    reverse = True

    def paths(self, place: Place, target: str) -> Sequence[str]:
        """The files that a target stands for; an error if there is none, a warning if one must be chosen."""
        found = place.host.binaries(target, place.context.pid)
        if is_wildcard(target):
            if not found:
                place.vanished(target)
            return found
        if not found:
            hints = ("Give the full path; a bare name is looked up in $PATH, libNAME among the libraries.",)
            message = f"{self.name} target file '{target}' does not exist or is not executable"
            place.error("err.ap.target", message, hints)
        elif len(found) > 1:
            message = f"attaching to {self.name} target file '{found[0]}' but matched {len(found)} binaries"
            place.warning("err.ap.multi-target", message)
        return found[:1]


class Parameters(Sequence[Member]):
    """What `args` has at the entry of a function.

    Debug information is large, and most programs do without it: it is read when somebody looks.
    `offset` is how far into the function the probe is.
    """

    def __init__(self, host: Host, path: str, function: str, offset: int = 0) -> None:
        self._host, self._path, self._function, self._offset = host, path, function, offset

    @cached_property
    def _found(self) -> tuple[tuple[Member, ...], str | None]:
        """The parameters that can be read, and why there are none."""
        name, most = self._function, len(ARGUMENT_REGISTERS)
        if not name or self._offset:
            return (), "the registers have the parameters only where a function starts"
        if _CLONE.search(name):
            return (), f"{name} is the compiler's variant of a function: its registers may have anything"
        try:
            prototype = self._host.user_prototype(self._path, name)
        except HostError as problem:
            return (), f"{problem}; use arg0 to arg{most - 1}"
        if prototype is None:
            return (), f"the debug information of {self._path} does not describe {name}"
        if prototype.slots > most:
            return (), f"{name} needs {prototype.slots} registers for its parameters: only {most} can be read"
        return tuple(placed(m, Space.USER) for m in prototype.parameters if m.offset >= 0), None

    @property
    def problem(self) -> str | None:
        """Why there are none; None if they are known."""
        return self._found[1]

    @overload
    def __getitem__(self, index: int) -> Member: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Member]: ...
    def __getitem__(self, index: int | slice) -> Member | Sequence[Member]:
        return self._found[0][index]

    def __len__(self) -> int:
        return len(self._found[0])


class _Uprobe(FileProbe):
    """Base of both."""

    arity = (2, 3)
    has_function = True
    groupable = True
    returns: ClassVar[bool] = False

    def targets(self, point: AttachPoint, span: Span, context: Context) -> list[Target]:
        if "@" in point.parts:
            message = "Probes by source line (TARGET@FILE:LINE) are not supported"
            Place(self, point, span, context).error("err.ap.srcloc", message)
            return []
        if context.pid is not None and len(point.parts) == 2:
            point = replace(point, parts=(point.parts[0], f"/proc/{context.pid}/exe", point.parts[1]))
        return super().targets(point, span, context)

    def expand(self, place: Place) -> Iterator[Target]:
        target, text = place.parts[0], place.parts[-1]
        if len(place.parts) == 3:
            language = place.parts[1]
            hints = ("Write the symbol as the file has it (nm FILE).",)
            place.error("err.ap.lang", f"{self.name} does not support the language '{language}'", hints)
            return
        for path in self.paths(place, target):
            if text[:1].isdigit():
                yield from self._address(place, target, path, text)
            elif is_wildcard(text) or is_wildcard(target):
                yield from self._wildcard(place, path, text)
            else:
                yield from self._exact(place, path, text)

    def _address(self, place: Place, target: str, path: str, text: str) -> Iterator[Target]:
        address = number(text)
        if address is None:
            place.error("err.ap.addr", f"Invalid address '{text}'")
            return
        if is_wildcard(target):
            place.error("err.ap.addr", "An address cannot be combined with a wildcard in the path")
            return
        functions = place.host.symbols(path)
        covering = next((s for s in functions if s.address <= address < s.address + max(s.size, 1)), None)
        if covering is None and not place.context.unsafe:
            hints = ("Give --unsafe if you know that an instruction starts there.",)
            place.error("err.ap.addr", f"No function of {path} is at address {text}", hints)
            return
        # addresses and file offsets differ by a constant within a segment; the nearest symbol below knows it
        below = (s for s in functions if s.address <= address)
        near = covering or max(below, key=lambda s: s.address, default=None)
        offset = address - (near.address - near.offset if near else 0)
        if self._checked_inside(place, covering, address - covering.address if covering else 0):
            start = covering if covering and covering.address == address else None
            parameters = Parameters(place.host, path, start.name if start else "")
            yield self._target(path, compose(self.name, path, address), offset, parameters)

    def _wildcard(self, place: Place, path: str, text: str) -> Iterator[Target]:
        if "+" in text:
            place.error("err.ap.offset", "A wildcard cannot be combined with an offset")
            return
        match, taken = matcher(text), set()
        for symbol in place.host.symbols(path):
            if symbol.function and match(symbol.name) and symbol.name not in taken:
                taken.add(symbol.name)
                parameters = Parameters(place.host, path, symbol.name)
                yield self._target(path, compose(self.name, path, symbol.name), symbol.offset, parameters)
        if not taken and not is_wildcard(place.parts[0]):
            place.vanished(f"{path}:{text}")

    def _exact(self, place: Place, path: str, text: str) -> Iterator[Target]:
        name, *offsets = text.split("+")
        offset = number(offsets[0]) if offsets else 0
        if offsets and self.returns:
            place.error("err.ap.offset", f"Offset not allowed: {self.name} is at the return of a function")
            return
        if len(offsets) > 1:
            place.error("err.ap.offset", f"Cannot have more than one '+' in '{text}'")
            return
        if offset is None or offset < 0:
            place.error("err.ap.offset", f"Invalid offset '{offsets[0]}': not a non-negative integer")
            return
        symbols = place.host.symbols(path)
        symbol = next((s for s in symbols if s.name == name and s.function), None)
        if symbol is None:
            hints = similar(name, (s.name for s in symbols if s.function))
            if not symbols:
                hints = ("The file has no function symbols (it is stripped).",)
            place.missing(f"{path}:{name}", hints)
        elif self._checked_inside(place, symbol, offset):
            shown = f"{name}+{offset}" if offset else name
            parameters = Parameters(place.host, path, name, offset)
            yield self._target(path, compose(self.name, path, shown), symbol.offset + offset, parameters)

    def _checked_inside(self, place: Place, symbol: Symbol | None, offset: int) -> bool:
        """Whether an offset into a function may be probed; the kernel does not check it."""
        if symbol is None or not offset:
            return True
        problem = f"Cannot check that an instruction starts at {symbol.name}+{offset}"
        if symbol.size and offset >= symbol.size:
            problem = f"Offset outside the function {symbol.name} ({symbol.size} bytes)"
        elif not symbol.size:
            problem = f"Cannot check the offset: symbol {symbol.name} has no size"
        if place.context.unsafe:
            place.warning("err.ap.offset", problem)
            return True
        hints = ("A breakpoint inside an instruction breaks the program. Give --unsafe if you know better.",)
        place.error("err.ap.offset", problem, hints)
        return False

    def _target(self, path: str, name: str, offset: int, parameters: Parameters) -> Target:
        attach = UprobeAttach(name, path, offset, self.returns)
        result = Int(8, space=Space.USER) if self.returns else None
        arguments = None if self.returns else parameters
        return Target(self, name, attach, self.name, Space.USER, arguments, result, path)

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        target, _, function = pattern.rpartition(":")
        match = matcher(function)
        for path in host.binaries(target or "*", pid):
            names = {s.name for s in host.symbols(path) if s.function and match(s.name)}
            yield from (f"{path}:{name}" for name in sorted(names))


@feature
class Uprobe(_Uprobe):
    """The entry of a function of a program or library: `uprobe:FILE:FUNCTION`, with `*` in both.

    FILE is a path, the name of a program in `$PATH`, or `libNAME` for a shared library. `FUNCTION+OFFSET`
    is the instruction that many bytes in, a number an address of the symbol table; both want `--unsafe`
    where it cannot be checked that an instruction starts there. `arg0` to `arg5` are the arguments as
    64-bit integers, `func` is the function's name; all pointers are user space's.

    Where the file (or its separate debug file) has debug information, `args.NAME` are the parameters with
    their types, except those that are not passed in general registers (floating-point, large structs), and
    the types that it defines can be used in casts. `-lv uprobe:FILE:FUNCTION` shows the parameters.

    bt> uprobe:libc:malloc { @bytes = hist(arg0); } interval:1s { exit(); }

    Documentation/trace/uprobetracer.rst; the context is `struct pt_regs`.
    """

    name = "uprobe"
    aliases = ("u",)
    has_argn = True
    wild = "user"

    def function(self, emit: Emit, target: Target) -> Value:
        return register(emit, "ip", Space.USER)

    def member(self, emit: Emit, target: Target, member: Member) -> Value:
        first, kind = member.offset // 8, member.type
        if not isinstance(kind, (Struct, Array)):
            return slot_value(emit, REGISTERS[ARGUMENT_REGISTERS[first]], kind)
        words = -(-size_of(kind) // 8)  # a struct of up to 16 bytes is passed in one or two registers
        slot = emit.scratch(8 * words)
        for index in range(words):
            emit.store(slot, 8 * index, register(emit, ARGUMENT_REGISTERS[first + index]))
        return emit.at(slot, kind)

    def refuse(self, target: Target, word: str, index: int = 0) -> str | None:
        if word == "args" and isinstance(target.arguments, Parameters):
            return target.arguments.problem
        return super().refuse(target, word, index)

    def describe(self, found: str, host: Host) -> Iterator[str]:
        path, _, function = found.rpartition(":")
        try:
            prototype = host.user_prototype(path, function.partition("+")[0])
        except HostError as problem:
            raise HostError(f"{problem}, cannot show parameter info") from problem
        for member in prototype.parameters if prototype else ():
            yield member.text or f"{member.type} {member.name}"


@feature
class Uretprobe(_Uprobe):
    """The return of a function of a program or library: `uretprobe:FILE:FUNCTION`, with `*` in both.

    `retval` is the result as a 64-bit unsigned integer; the arguments are gone by then: keep them in a map
    whose key is `tid`.

    bt> uretprobe:/bin/bash:readline { printf("%s\\n", str(retval)); exit(); }

    Documentation/trace/uprobetracer.rst; the context is `struct pt_regs`.
    """

    name = "uretprobe"
    aliases = ("ur",)
    returns = True

    def function(self, emit: Emit, target: Target) -> Value:
        return function_address(emit)
