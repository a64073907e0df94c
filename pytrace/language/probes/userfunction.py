"""Functions of programs and libraries: finding them by their names, checking places in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence

from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.host import HostError, Symbol
from pytrace.language.probes.common import Place, similar

CPP = "cpp"

# what may stand behind the parameters of a C++ function, and what compilers add to names; a text, compiled when it is
# needed: a listing does without
_BEHIND = r"(?:\s*(?:const|volatile|&&?|noexcept|\[[^\]]*\]|\[clone [^\]]*\]|\([.@][^)]*\)))+$"


def functions(place: Place, path: str) -> Sequence[Symbol]:
    """The functions of a file; of a file that is none of ELF (`--unsafe` takes any) nothing is known."""
    try:
        return [symbol for symbol in place.host.symbols(path) if symbol.function]
    except HostError:
        if not place.context.unsafe:
            raise
        return []


def covering(symbols: Iterable[Symbol], address: int) -> Symbol | None:
    """The function that an address is in."""
    return next((s for s in symbols if s.address <= address < s.address + max(s.size, 1)), None)


def named(symbols: Iterable[Symbol], name: str) -> list[Symbol]:
    """The functions of one name: files may have several, static ones or versions of one."""
    found = {s.address: s for s in symbols if s.name == name}
    return list(found.values())


def readable(place: Place, symbols: Iterable[Symbol], text: str) -> Iterator[tuple[Symbol, str]]:
    """The functions whose readable names match a text, each with that name; one at several names counts once."""
    match, whole, taken = matcher(text), has_parameters(text), set[int]()
    for symbol in symbols:
        name = place.host.demangle(symbol.name)
        if symbol.address not in taken and (match(symbol.name) or any(map(match, spellings(name, whole)))):
            taken.add(symbol.address)
            yield symbol, name


def has_parameters(text: str) -> bool:
    """Whether a text has a parameter list; other brackets are parts of names."""
    return "(" in text.replace("operator()", "").replace("(anonymous namespace)", "")


def spellings(name: str, whole: bool) -> Iterator[str]:
    """How people may write a readable name: as it is, without parameters unless `whole`, without the type of the
    result, which only templates have in their names."""
    if not whole:
        name = without_parameters(name)
    yield name
    start = _result_end(name)
    if start:
        yield name[start:]


def without_parameters(name: str) -> str:
    """A readable name without its parameter list: `ns::f(int) const` is `ns::f`."""
    end = len(re.sub(_BEHIND, "", name))
    if not name[:end].endswith(")"):
        return name
    depth = 0
    for at in range(end - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(name[at], 0)
        if not depth:
            # `operator()` and `(anonymous namespace)` are no parameters
            return name if name[:at].endswith("operator") or not at else name[:at]
    return name


def _result_end(name: str) -> int:
    """Where the name starts behind the type of the result; 0 if there is no such type."""
    depth, end = 0, 0
    for at, char in enumerate(name):
        if char in "<([{":
            depth += not name[:at].endswith(("operator", "operator<"))
        elif char in ">)]}" and name[at - 1 : at] != "-":
            depth -= not name[:at].endswith(("operator", "operator>"))
        elif char == " " and depth == 0:
            if name[:at].endswith("operator") or name.startswith(("non-virtual thunk", "virtual thunk", "guard ")):
                break
            end = at + 1
    return end


# ---------------------------------------------------------------- what is wrong

MERGED = ("libpthread.so", "libdl.so", "librt.so", "libutil.so")  # empty but for old programs' sake


def report_missing(place: Place, path: str, name: str, symbols: Sequence[Symbol]) -> None:
    """Say that a file has no such function, with the nearest names or another way."""
    demangle = place.host.demangle
    hints = similar(name, (s.name for s in symbols))
    shown = f"{path}:{name}"
    if place.parts[-2] == CPP:
        shown = f"{path}:{CPP}:{name}"
        hints = hints or similar(name, {without_parameters(demangle(s.name)) for s in symbols})
    elif any(name in spellings(demangle(s.name), has_parameters(name)) for s in symbols):
        hints = (f'That is the readable form of a name: write {place.type.name}:{path}:cpp:"{name}".',)
    if os.path.basename(path).startswith(MERGED):
        hints = (f"Since glibc 2.34 the functions of this library are in libc: {place.type.name}:libc:{name}.",)
    if place.host.stripped(path):
        hints = (*hints, stripped_hint(path, len(symbols)))
    if not hints:
        listing = f"pytrace -l '{place.type.name}:{path}:*' lists the functions"
        lines = f"{place.type.name}:{path}@SOURCE:LINE"
        hints = (f"{listing}; one that was inlined has no symbol, but its lines can be probed: {lines}.",)
    place.missing(shown, hints)


def stripped_hint(path: str, exported: int) -> str:
    """What to do about a file without symbols."""
    left = f"only the {exported} functions that it exports have names" if exported else "no function has a name"
    return (
        f"{path} is stripped: {left}. Install its debug symbols (on Debian a package *-dbgsym) or name their folder "
        "with --debuginfo; or use an address (0x…), or its usdt probes."
    )


def check_offset(place: Place, path: str, symbol: Symbol, offset: int) -> bool:
    """Whether a place in a function may be probed. The kernel does not check it: a breakpoint inside of an
    instruction breaks the program."""
    if not offset:
        return True
    problem = _problem(place, path, symbol, offset)
    if problem is None:
        return True
    if place.context.unsafe:
        place.warning("err.ap.offset", problem)
        return True
    hints = ("A breakpoint inside an instruction breaks the program. Give --unsafe if you know better.",)
    place.error("err.ap.offset", problem, hints)
    return False


def _problem(place: Place, path: str, symbol: Symbol, offset: int) -> str | None:
    name = symbol.name
    if not symbol.size:
        return f"Cannot check the offset: symbol {name} has no size"
    if offset >= symbol.size:
        return f"Offset outside the function {name} ({symbol.size} bytes)"
    *starts, end = place.host.instructions(path, symbol)
    if offset in starts:
        return None
    if offset >= end:
        return f"Cannot check that an instruction starts at {name}+{offset}: what is before it cannot be read as code"
    before = max(start for start in starts if start < offset)
    after = min((start for start in (*starts, end) if start > offset and start < symbol.size), default=None)
    near = f"{name}+{before}" if before else name
    both = f"{near} and {name}+{after}" if after is not None else near
    return f"{name}+{offset} is not on an instruction boundary: instructions start at {both}"
