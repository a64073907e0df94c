"""Static probes that programs and libraries bring along: `usdt`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytrace.grammar.attaching import UprobeAttach
from pytrace.grammar.attachpoint import AttachPoint, matcher
from pytrace.grammar.data import replace
from pytrace.grammar.diagnostics import did_you_mean
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.host import Host, UsdtArgument, UsdtLocation
from pytrace.grammar.source import Span
from pytrace.grammar.spec import Context, Target, feature
from pytrace.grammar.types import UINT64, Int, Space
from pytrace.language.probes.common import Place, is_wildcard, plural, register, similar
from pytrace.language.probes.userfile import FileProbe, own_executable


@feature
class Usdt(FileProbe):
    """A static probe of a program or library: `usdt:FILE:PROVIDER:NAME` or `usdt:FILE:NAME`, with `*` in
    all parts.

    `arg0`, `arg1`, … are the probe's arguments, read as the probe describes them and widened to 64 bits;
    pointers are user space's. `-l 'usdt:FILE:*'` shows what a file has.

    With `-p` the file may be left out: `usdt:NAME`, `usdt::PROVIDER:NAME` are in the executable of the process, and
    `usdt:*:PROVIDER:NAME` is in all that it has mapped (without `-p`: in what all running processes have).

    bt> usdt:/usr/bin/python3:function__entry { @[str(arg0), str(arg1)] = count(); } interval:1s { exit(); }

    SystemTap's notes (section `.note.stapsdt`); a probe inlined at several places has a note for each, with
    arguments of its own. Semaphores are raised by the kernel (ref_ctr_offset, Linux 4.20).
    """

    name = "usdt"
    aliases = ("U",)
    arity = (2, 3)
    has_argn = True
    groupable = True
    wild = "user"

    def targets(self, point: AttachPoint, span: Span, context: Context) -> list[Target]:
        parts = point.parts
        if context.pid is not None and (len(parts) == 2 or (len(parts) == 4 and not parts[1])):
            target = own_executable(context.pid)
            point = replace(point, parts=(parts[0], target, *(parts[1:] if len(parts) == 2 else parts[2:])))
        return super().targets(point, span, context)

    def expand(self, place: Place) -> Iterator[Target]:
        file, *middle, name = place.parts
        provider = (middle[0] if middle else "") or "*"
        is_provider, is_name = matcher(provider), matcher(name)
        wild = is_wildcard(file) or is_wildcard(name)
        paths = self.paths(place, file)
        known = [(path, location) for path in paths for location in place.host.usdt(path)]
        found = [(p, loc) for p, loc in known if is_provider(loc.provider) and is_name(loc.name)]
        counted: set[tuple[str, str, str]] = set()
        for path, location in found:
            key = (path, location.provider, location.name)
            yield self._target(path, location, key not in counted)
            counted.add(key)
        if paths and not found:
            hints = () if wild else _near(paths[0], provider, name, [location for _, location in known])
            place.vanished(":".join(place.parts), hints)

    def _target(self, path: str, location: UsdtLocation, counted: bool) -> Target:
        name = f"{self.name}:{path}:{location.provider}:{location.name}"
        attach = UprobeAttach(name, path, location.offset, semaphore=location.semaphore, counted=counted)
        return Target(self, name, attach, "uprobe", Space.USER, path=path, data=location)

    def alike(self, target: Target) -> object:
        location: UsdtLocation = target.data
        return location.arguments

    def argument(self, emit: Emit, target: Target, index: int) -> Value:
        location: UsdtLocation = target.data
        argument = location.arguments[index]
        kind = Int(abs(argument.size), argument.size < 0)
        if argument.dereference:
            slot = emit.scratch(8)
            emit.read(slot, kind.size, _address(emit, argument), Space.USER)
            value = emit.load(slot, 0, kind)
        elif argument.constant is not None:
            return emit.integer(argument.constant & ((1 << 64) - 1), Int(8, space=Space.USER))
        else:
            value = emit.convert(register(emit, argument.register), kind)
        return emit.convert(value, Int(8, space=Space.USER))

    def refuse(self, target: Target, word: str, index: int = 0) -> str | None:
        location: UsdtLocation = target.data
        count = len(location.arguments)
        if word != "argN":
            return None
        if index >= count:
            return f"{target.name} has no arg{index}: it has {plural(count, 'argument')}"
        argument = location.arguments[index]
        readable = argument.dereference or argument.register or argument.constant is not None
        reason = "it is a floating-point number, or at a place that only the program itself can tell"
        return None if readable else f"arg{index} of {target.name} cannot be read: {reason}"

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        target, _, rest = pattern.partition(":") if ":" in pattern else ("", "", pattern)
        match = matcher(rest if ":" in rest else f"*:{rest}")
        for path in host.binaries(target or "*", pid):
            names = {f"{loc.provider}:{loc.name}" for loc in host.usdt(path)}
            yield from (f"{path}:{name}" for name in sorted(filter(match, names)))


def _near(path: str, provider: str, name: str, known: Sequence[UsdtLocation]) -> tuple[str, ...]:
    """What to say of a probe that a file does not have."""
    if not known:
        return (f"{path} has no USDT probes.",)
    providers = sorted({location.provider for location in known})
    if not any(map(matcher(provider), providers)):
        listed = f"The providers of {path}: {', '.join(providers[:8])}{', …' if len(providers) > 8 else ''}"
        return did_you_mean(provider, providers) or (listed,)
    names = {location.name for location in known if matcher(provider)(location.provider)}
    return similar(name, names) or (f"pytrace -l 'usdt:{path}:*' lists what there is.",)


def _address(emit: Emit, argument: UsdtArgument) -> Value:
    """Where an argument in memory lies: base register + index register × scale + offset."""
    address = register(emit, argument.register) if argument.register else emit.integer(0)
    if argument.index:
        index = register(emit, argument.index)
        address = emit.arith("+", address, emit.arith("*", index, emit.integer(argument.scale)))
    return emit.arith("+", address, emit.integer(argument.offset & ((1 << 64) - 1), UINT64))
