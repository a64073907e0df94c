"""Entry and return of kernel functions: `kprobe`, `kretprobe`."""

from __future__ import annotations

from collections.abc import Iterator

from pytrace.grammar.attaching import Attach, KprobeAttach, KprobeMultiAttach, KprobeSessionAttach
from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.data import dataclass, replace
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.hints import ClassVar
from pytrace.grammar.host import Host, HostError, Prototype
from pytrace.grammar.spec import Target, feature
from pytrace.grammar.types import VOID, Int, Space
from pytrace.language.probes.common import (
    Place,
    RegisterProbe,
    compose,
    function_address,
    is_wildcard,
    number,
    plural,
    register,
    similar,
)

REMEDY = "Use tracepoint or rawtracepoint probes, or a kernel with CONFIG_KPROBES."

# what the kernel puts before the names of its syscalls (arch/x86/include/asm/syscall_wrapper.h)
SYSCALL_PREFIXES = ("__x64_", "__ia32_", "__do_", "__")


@dataclass(frozen=True, slots=True)
class _Function:
    """A function part taken apart: `vfs_read+8`."""

    name: str
    offset: int = 0
    has_offset: bool = False


class _Kprobe(RegisterProbe):
    """Base of both."""

    arity = (1, 2)
    has_function = True
    filtered = True
    groupable = True
    returns: ClassVar[bool] = False

    def expand(self, place: Place) -> Iterator[Target]:
        module, text = place.parts if len(place.parts) == 2 else ("", place.parts[0])
        if (address := number(text)) is not None and text[:1].isdigit():
            yield from self._address(place, address)
            return
        function = self._split(place, text)
        if function is None:
            return
        if is_wildcard(module) or is_wildcard(function.name):
            found = self._wildcard(place, module, function.name)
        else:
            found = self._exact(place, module, function)
        if found and function.has_offset and not self._inside(place, module, function):
            return
        if found and not place.host.has("kprobe"):
            place.lacking("rt.feature.missing", self._unavailable(), (REMEDY,))
            return
        for one, name in found:
            yield self._target(one, name, function.offset)

    def _address(self, place: Place, address: int) -> Iterator[Target]:
        if len(place.parts) == 2:
            place.error("err.ap.addr", f"{self.name}: an address takes no module")
        elif not place.context.unsafe:
            hints = ("Give --unsafe if you know that an instruction starts there.",)
            place.error("err.ap.addr", f"{self.name}: attaching to an address needs --unsafe", hints)
        else:
            name = compose(self.name, address)
            yield Target(self, name, KprobeAttach(name, "", address, self.returns), self.name, Space.KERNEL)

    def _split(self, place: Place, text: str) -> _Function | None:
        """The function part without its offset; None after an error."""
        name, *offsets = text.split("+")
        if not offsets:
            return _Function(name)
        offset = number(offsets[0])
        if self.returns:
            place.error("err.ap.offset", f"Offset not allowed: {self.name} is at the return of a function")
        elif len(offsets) > 1:
            place.error("err.ap.offset", f"Cannot have more than one '+' in '{text}'")
        elif is_wildcard(name):
            place.error("err.ap.offset", "A wildcard cannot be combined with an offset")
        elif offset is None or offset < 0:
            place.error("err.ap.offset", f"Invalid offset '{offsets[0]}': not a non-negative integer")
        else:
            return _Function(name, offset, True)
        return None

    def _inside(self, place: Place, module: str, function: _Function) -> bool:
        """Whether the offset is in the function, as far as that is known; reports it if not."""
        size = place.host.function_size(function.name, module)
        if size is None or function.offset < size:
            return True
        message = f"Offset outside the function bounds ('{function.name}' has {plural(size, 'byte')})"
        place.error("err.ap.offset", message)
        return False

    def _exact(self, place: Place, module: str, function: _Function) -> list[tuple[str, str]]:
        name, host = function.name, place.host
        if ".part." not in name and host.kernel_function(name, module):
            return [(module, name)]
        if module and module not in ("vmlinux", *(modules := {m for m, _ in host.kernel_functions()})):
            hints = similar(module, modules) or (f"Load it first (modprobe {module}).",)
            place.error("err.ap.module", f"Kernel module '{module}' is not loaded.", hints)
            return []
        unsafe = place.context.unsafe
        # of a name that is nothing at all the error says enough
        if place.context.config.missing_probes != "ignore" and (unsafe or host.kernel_address(name) is not None):
            place.warning("err.ap.traceable", _not_traceable(name))
        if unsafe:
            return [(module, name)]
        place.missing(compose(module, name), self._hints(host, module, name))
        return []

    def _hints(self, host: Host, module: str, name: str) -> tuple[str, ...]:
        wrapped = [prefix + name for prefix in SYSCALL_PREFIXES if host.kernel_function(prefix + name)]
        if wrapped:
            return (f"Did you mean {' or '.join(map(repr, wrapped[:3]))}?",)
        return similar(name, (f for m, f in host.kernel_functions() if module in ("", m)))

    def _wildcard(self, place: Place, module: str, function: str) -> list[tuple[str, str]]:
        in_module, is_function = matcher(module or "*"), matcher(function)
        found = [
            (m if module else "", f)
            for m, f in place.host.kernel_functions()
            if is_function(f) and in_module(m) and ".part." not in f
        ]
        if not found:
            place.vanished(compose(module, function))
        return list(dict.fromkeys(found))  # a name may be there several times, and one kprobe takes them all

    def _target(self, module: str, function: str, offset: int) -> Target:
        name = compose(self.name, module, f"{function}+{offset}" if offset else function)
        attach = KprobeAttach(name, function, offset, self.returns, module)
        return Target(
            self,
            name,
            attach,
            self.name,
            Space.KERNEL,
            result=Int(8, space=Space.KERNEL) if self.returns else None,
        )

    def merge(self, places: tuple[Attach, ...]) -> tuple[Attach, ...]:
        plain = [p for p in places if isinstance(p, KprobeAttach) and not p.offset and not p.module]
        if len(plain) < 2 or len(plain) < len(places):  # a link of many takes function entries and returns only
            return places
        name = f"{self.name}:{plain[0].function} and {len(plain) - 1} more"
        return (KprobeMultiAttach(name, tuple(p.function for p in plain), self.returns, _cookies(plain)),)

    def numbered(self, target: Target, number: int) -> Target | None:
        """See `ProbeType.numbered`."""
        assert isinstance(target.attach, KprobeAttach)
        return replace(target, attach=replace(target.attach, cookie=number))

    def links(self, places: tuple[Attach, ...], host: Host) -> int:
        return len(self.merge(places) if len(places) > 1 and host.has("kprobe_multi") else places)

    def _unavailable(self) -> str:
        return f"{self.name} probes are not available: this kernel has no kprobes."

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        if not host.has("kprobe"):
            raise HostError(f"{self._unavailable()} {REMEDY}")
        module, _, function = pattern.rpartition(":")
        if not is_wildcard(pattern):  # of one function the long list need not be read
            return iter([pattern] if host.kernel_function(function, module) else [])
        match = matcher(pattern)
        if ":" in pattern:
            found = {f"{m}:{f}" for m, f in host.kernel_functions() if ".part." not in f}
        else:
            found = {f for _, f in host.kernel_functions() if ".part." not in f}
        return iter(sorted(filter(match, found)))

    def describe(self, found: str, host: Host) -> Iterator[str]:
        module, _, function = found.rpartition(":")
        prototype = host.function_prototype(function, module)
        if prototype is not None:
            yield from self.lines(prototype)

    def lines(self, prototype: Prototype) -> Iterator[str]:
        """The parameter lines of a function, for `-lv`."""
        raise NotImplementedError


def _plain(targets: tuple[Target, ...]) -> list[KprobeAttach]:
    """The places of targets; none if there is a module, an offset or an address in them."""
    places = [t.attach for t in targets if isinstance(t.attach, KprobeAttach)]
    return [] if any(p.module or p.offset or not p.function for p in places) else places


def _cookies(places: list[KprobeAttach]) -> tuple[int, ...]:
    """The cookies of places; none if all are 0."""
    return tuple(p.cookie for p in places) if any(p.cookie for p in places) else ()


def _not_traceable(name: str) -> str:
    reasons = "either non-existing, inlined, or marked as 'notrace'"
    return f"{name} is not traceable ({reasons}); attaching to it will likely fail"


@feature
class Kprobe(_Kprobe):
    """The entry of a kernel function: `kprobe:FUNCTION` or `kprobe:MODULE:FUNCTION`, with `*` in both;
    `kprobe:FUNCTION+OFFSET` is the instruction that many bytes in, `kprobe:0xADDRESS` (with --unsafe) the one at an
    address.

    `arg0` to `arg5` are the arguments as 64-bit integers (cast pointers: `((struct file *)arg0)->f_flags`),
    `func` is the function's name, `reg()` reads registers.

    bt> kprobe:vfs_read { @[comm] = count(); } interval:1s { exit(); }

    Documentation/trace/kprobes.rst; the context is `struct pt_regs`.
    """

    name = "kprobe"
    aliases = ("k",)
    has_argn = True
    reverse = True
    wild = "kernel"

    def function(self, emit: Emit, target: Target) -> Value:
        return register(emit, "ip", Space.KERNEL)

    def session(self, entry: tuple[Target, ...], back: tuple[Target, ...], host: Host) -> Attach | None:
        """BPF_TRACE_KPROBE_SESSION, Linux 6.10. It goes by the functions that ftrace knows."""
        if back[0].type.name != Kretprobe.name:
            return None
        places, others = _plain(entry), _plain(back)
        functions = tuple(place.function for place in places)
        if not functions or functions != tuple(place.function for place in others) or not host.has("kprobe_session"):
            return None
        if not all(host.kernel_function(name) for name in functions):
            return None
        # both have the same, or one has none
        return KprobeSessionAttach(entry[0].name, functions, _cookies(places) or _cookies(others))

    def lines(self, prototype: Prototype) -> Iterator[str]:
        for index, member in enumerate(prototype.parameters):
            text = member.text.removesuffix(member.name).rstrip() if member.text else str(member.type)
            yield f"{text} arg{index}"


@feature
class Kretprobe(_Kprobe):
    """The return of a kernel function: `kretprobe:FUNCTION` or `kretprobe:MODULE:FUNCTION`, with `*` in both.

    `retval` is the result as a 64-bit unsigned integer; cast it to test for errors (`(int32)retval < 0`).
    The arguments are gone by then: keep them in a map whose key is `tid`.

    bt> kretprobe:vfs_read { @bytes = hist(retval); } interval:1s { exit(); }

    Documentation/trace/kprobes.rst; the context is `struct pt_regs`.
    """

    name = "kretprobe"
    aliases = ("kr",)
    returns = True

    def function(self, emit: Emit, target: Target) -> Value:
        return function_address(emit)

    def lines(self, prototype: Prototype) -> Iterator[str]:
        yield "void" if prototype.result == VOID else f"{prototype.result_text} retval"
