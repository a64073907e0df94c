"""Entry and return of functions of programs and libraries: `uprobe`, `uretprobe`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

from pytrace.grammar.attaching import UprobeAttach
from pytrace.grammar.attachpoint import AttachPoint, matcher
from pytrace.grammar.data import replace
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.hints import ClassVar, overload
from pytrace.grammar.host import Host, HostError, Symbol
from pytrace.grammar.source import Span
from pytrace.grammar.spec import Context, Target, feature
from pytrace.grammar.types import Array, Int, Member, Space, Struct, size_of
from pytrace.language.probes import sourceline
from pytrace.language.probes.common import (
    ARGUMENT_REGISTERS,
    REGISTERS,
    Place,
    compose,
    function_address,
    is_wildcard,
    number,
    placed,
    register,
    slot_value,
)
from pytrace.language.probes.userfile import FileProbe, own_executable
from pytrace.language.probes.userfunction import (
    CPP,
    check_offset,
    covering,
    functions,
    has_parameters,
    named,
    readable,
    report_missing,
    spellings,
    stripped_hint,
)

# functions that the compiler made out of others, and may have given other parameters
_CLONE = r"\.(isra|constprop|part|cold)\b"
_BY_SYMBOL = "Use the symbol as the file has it (nm FILE), with the offset behind it."


class Parameters(Sequence[Member]):
    """What `args` has at the entry of a function.

    Debug information is large, and most programs do without it: it is read when somebody looks.
    `offset` is how far into the function the probe is.
    """

    def __init__(self, host: Host, path: str, function: Symbol, offset: int = 0) -> None:
        self._host, self._path, self._function, self._offset = host, path, function, offset

    @cached_property
    def _found(self) -> tuple[tuple[Member, ...], str | None]:
        """The parameters that can be read, and why there are none."""
        name, most = self._function.name, len(ARGUMENT_REGISTERS)
        if not name or self._offset:
            return (), "the registers have the parameters only where a function starts"
        if re.search(_CLONE, name):
            return (), f"{name} is the compiler's variant of a function: its registers may have anything"
        try:
            prototype = self._host.user_prototype(self._path, name, self._function.address)
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
    cookies = True
    returns: ClassVar[bool] = False

    def targets(self, point: AttachPoint, span: Span, context: Context) -> list[Target]:
        parts = list(point.parts)
        if context.pid is not None and (len(parts) == 2 or parts[1] == CPP):
            parts.insert(1, own_executable(context.pid))
        if parts[2:3] == [CPP]:  # readable names have colons
            parts[3:] = [":".join(parts[3:])]
        place = Place(self, replace(point, parts=tuple(parts)), span, context)
        by_line = "@" in parts
        if not by_line and not self._check_parts(place):
            return []
        try:
            return list(self._at_line(place) if by_line else self.expand(place))
        except HostError as problem:
            place.error("rt.feature.missing", str(problem))
            return []

    def _check_parts(self, place: Place) -> bool:
        file, *rest = place.parts
        if "" in rest[1:] and len(rest) > 2:
            name = ":".join(rest)
            message = f"{self.name} probe type requires 2 or 3 arguments, found {len(place.parts)}"
            hint = f'Names with colons are written with the language: {self.name}:{file}:cpp:"{name}"'
            place.error("err.ap.arity", message, (hint,))
            return False
        if not rest:
            hint = f"Write {self.name}:FILE:{file}, e.g. {self.name}:libc:malloc; only -p PID tells the file."
            place.error("err.ap.arity", f"{self.name} probe type requires 2 or 3 arguments, found 1", (hint,))
            return False
        return place.check_arity()

    def expand(self, place: Place) -> Iterator[Target]:
        target, text = place.parts[0], place.parts[-1]
        language = place.parts[1] if len(place.parts) == 3 else ""
        if language not in ("", CPP):
            hints = (f"The only one is {CPP}, for C++ and Rust: {self.name}:{target}:{CPP}:NAME.",)
            place.error("err.ap.lang", f"{self.name} does not support the language '{language}'", hints)
            return
        wild = is_wildcard(text) or is_wildcard(target)
        for path in self.paths(place, target):
            if language:
                yield from self._readable(place, path, text)
            elif text[:1].isdigit():
                yield from self._address(place, target, path, text)
            elif wild:
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
        symbol = covering(functions(place, path), address)
        name = compose(self.name, path, address)
        if symbol is not None:
            offset = address - symbol.address
            if check_offset(place, path, symbol, offset):
                yield self._target(place, path, name, symbol, offset)
            return
        if not place.context.unsafe:
            hints = ("Give --unsafe if you know that an instruction starts there.",)
            place.error("err.ap.addr", f"No function of {path} is at address {text}", hints)
            return
        place.warning("err.ap.addr", f"No function of {path} is at address {text}: it cannot be checked")
        try:
            offset_in_file = place.host.file_offset(path, address)
        except HostError:  # --unsafe takes any file: then it is the place in the file
            offset_in_file = address
        if offset_in_file is None:
            place.error("err.ap.addr", f"Nothing of {path} is loaded at address {text}")
            return
        yield self._target(place, path, name, Symbol("", address, offset_in_file, 0), 0)

    def _wildcard(self, place: Place, path: str, text: str) -> Iterator[Target]:
        if "+" in text:
            place.error("err.ap.offset", "A wildcard cannot be combined with an offset")
            return
        match, taken = matcher(text), set[str]()
        symbols = functions(place, path)
        for symbol in symbols:
            if match(symbol.name):
                name = compose(self.name, path, symbol.name)
                yield self._target(place, path, name, symbol, 0, symbol.name not in taken)
                taken.add(symbol.name)
        if not taken and not is_wildcard(place.parts[0]):
            hints = (stripped_hint(path, len(symbols)),) if place.host.stripped(path) else ()
            place.vanished(f"{path}:{text}", hints)

    def _readable(self, place: Place, path: str, text: str) -> Iterator[Target]:
        """By the readable name: all functions that match, so all overloads."""
        if re.search(r"\+(0x)?[0-9]", text):
            place.error("err.ap.offset", f"The language {CPP} cannot be combined with an offset", (_BY_SYMBOL,))
            return
        symbols, taken = functions(place, path), set[str]()
        for symbol, readable_name in readable(place, symbols, text):
            name = compose(self.name, path, CPP, readable_name)
            yield self._target(place, path, name, symbol, 0, name not in taken)
            taken.add(name)
        if taken or is_wildcard(place.parts[0]):
            return
        if is_wildcard(text):
            place.vanished(f"{path}:{CPP}:{text}")
        else:
            report_missing(place, path, text, symbols)

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
        symbols = functions(place, path)
        found = named(symbols, name)
        if not found:
            report_missing(place, path, name, symbols)
            return
        if offset and len(found) > 1:
            places = ", ".join(f"{symbol.address + offset:#x}" for symbol in found)
            message = f"{path} has {len(found)} functions {name}: which one is +{offset} of?"
            place.error("err.ap.offset", message, (f"Give the address instead: {places}",))
            return
        shown = compose(self.name, path, f"{name}+{offset}" if offset else name)
        for index, symbol in enumerate(found):
            if check_offset(place, path, symbol, offset):
                yield self._target(place, path, shown, symbol, offset, not index)

    def _at_line(self, place: Place) -> Iterator[Target]:
        location = sourceline.parse(place)
        if location is None:
            return
        for path in self.paths(place, location.target):
            symbols = functions(place, path)
            for index, address in enumerate(sourceline.look_up(place, path, location)):
                symbol = covering(symbols, address)
                if symbol is None:  # a function without a symbol of its own
                    symbol = Symbol("", address, place.host.file_offset(path, address) or 0, 0)
                name = f"{self.name}:{path}@{location.text}"
                yield self._target(place, path, name, symbol, address - symbol.address, not index)

    def _target(
        self, place: Place, path: str, name: str, symbol: Symbol, offset: int, counted: bool = True
    ) -> Target:
        """`offset` bytes into a function."""
        attach = UprobeAttach(name, path, symbol.offset + offset, self.returns, counted=counted)
        result = Int(8, space=Space.USER) if self.returns else None
        arguments = None if self.returns else Parameters(place.host, path, symbol, offset)
        return Target(self, name, attach, self.name, Space.USER, arguments, result, path)

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        target, readable_names, function = pattern.partition(f":{CPP}:")
        if not readable_names:
            target, _, function = pattern.rpartition(":")
        match = matcher(function)
        for path in host.binaries(target or "*", pid):
            symbols = host.function_names(path)
            if not readable_names:
                yield from [f"{path}:{name}" for name in filter(match, symbols)]
                continue
            names = {host.demangle(name) for name in symbols}
            whole = has_parameters(function)
            found = {name for name in names if any(map(match, spellings(name, whole)))}
            yield from (f"{path}:{CPP}:{name}" for name in sorted(found))


@feature
class Uprobe(_Uprobe):
    """The entry of a function of a program or library: `uprobe:FILE:FUNCTION`, with `*` in both.

    FILE is a path, the name of a program in `$PATH`, or `libNAME` for a shared library; with `-p` it may be left out
    for the executable of the process. `APP.apk!/lib/x.so` is a library that is mapped out of a ZIP file.
    `FUNCTION+OFFSET` is the instruction that many bytes in, a number an address of the symbol table; both want
    `--unsafe` where it cannot be checked that an instruction starts there.

    `uprobe:FILE:cpp:"NAME"` takes names of C++ and Rust as people write them: all overloads, unless NAME has the
    parameters too (`"ns::f(int)"`). `uprobe:FILE@SOURCE:LINE[:COLUMN]` is the start of a source line, wherever the
    compiler put it; SOURCE is a file name or the end of a path.

    `arg0` to `arg5` are the arguments as
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
        path, language, function = found.partition(f":{CPP}:")
        if language:
            symbols = (s.name for s in host.symbols(path) if s.function)
            function = next((name for name in symbols if host.demangle(name) == function), function)
        else:
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
    # bpf_get_func_ip knows returns of user functions since the release that brought these links, Linux 6.6
    function_needs = "uprobe_multi"

    def function(self, emit: Emit, target: Target) -> Value:
        return function_address(emit)
