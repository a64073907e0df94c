"""Rust's mangled names, version 0 (`_R…`), as their authors wrote them: RFC 2603.

Shown as rustc does without hashes: `<app::Point<u32>>::shift`, `core::ptr::drop_in_place::<alloc::string::String>`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_NAMES = "i8 bool char f64 str f32 u8 isize usize i32 u32 i128 u128 _ i16 u16 () ... i64 u64 !"
_BASIC = dict(zip("abcdefhijlmnopstuvxyz", _NAMES.split(), strict=True))
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SPECIAL = {"C": "closure", "S": "shim"}
_MOST = 5_000  # parts of a name: references back into it could make it endless
_SHAPE = re.compile(r"_R([A-Z][0-9A-Za-z_]*)([.$].*)?", re.DOTALL)


class _Unknown(Exception):
    """The name is not of this form, or has something that is newer than this reader."""


def demangle_rust(name: str) -> str | None:
    """The readable form of a name; None for what is not such a name."""
    shape = _SHAPE.fullmatch(name)
    if shape is None:
        return None
    reader = _Reader(shape[1])
    try:
        text = reader.path(value=True)
        if not reader.over:
            reader.path(value=False)  # the crate that made this instance of a generic function
    except (_Unknown, IndexError, ValueError, RecursionError):
        return None
    if not reader.over:
        return None
    suffix = shape[2] or ""  # what LLVM made of it: `.llvm.1234` says nothing to people
    return text + re.sub(r"\.llvm\.[0-9A-F@]+", "", suffix)


class _Reader:
    """One pass over a name, from left to right. Methods read one production of the grammar and give its text."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._parts = 0
        self._bound = 0  # lifetimes that `for<'a, …>` around this place has

    @property
    def over(self) -> bool:
        """Whether everything is read."""
        return self._at == len(self._text)

    def path(self, value: bool, brackets: bool = True) -> str:
        """A path; `value` writes `::<` before the arguments of functions, types have `<` alone. Without `brackets`
        the arguments are left open, for more to follow."""
        self._count()
        match tag := self._next():
            case "C":
                return self._identifier()[0]
            case "N":
                kind = self._next()
                parent = self.path(value)
                name, number = self._identifier()
                if kind.isupper():
                    label = _SPECIAL.get(kind, kind)
                    return f"{parent}::{{{label}{':' if name else ''}{name}#{number}}}"
                return f"{parent}::{name}" if name else parent
            case "M" | "X":
                self._disambiguator()
                self.path(value=False)  # where the implementation stands
                return self._implementation(tag == "X")
            case "Y":
                return self._implementation(True)
            case "I":
                before = self.path(value) + ("::" if value else "")
                arguments = ", ".join(self._until_end(self._argument))
                return f"{before}<{arguments}{'>' if brackets else ''}"
            case "B":
                return self._back(lambda: self.path(value, brackets))
            case _:
                raise _Unknown

    def _implementation(self, of_trait: bool) -> str:
        kind = self._type()
        return f"<{kind} as {self.path(value=False)}>" if of_trait else f"<{kind}>"

    def _argument(self) -> str:
        if self._take("L"):
            return self._lifetime()
        return self._constant() if self._take("K") else self._type()

    # ------------------------------------------------------------ types

    def _type(self) -> str:
        self._count()
        tag = self._next()
        if tag in _BASIC:
            return _BASIC[tag]
        match tag:
            case "A":
                return f"[{self._type()}; {self._constant()}]"
            case "S":
                return f"[{self._type()}]"
            case "T":
                items = list(self._until_end(self._type))
                return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
            case "R" | "Q":
                lifetime = self._lifetime() if self._take("L") else ""
                named = f"{lifetime} " if lifetime not in ("", "'_") else ""
                return f"&{named}{'mut ' if tag == 'Q' else ''}{self._type()}"
            case "P":
                return f"*const {self._type()}"
            case "O":
                return f"*mut {self._type()}"
            case "F":
                return self._within_binder(self._function)
            case "D":
                bounds = self._within_binder(lambda: " + ".join(self._until_end(self._bound_trait)))
                if not self._take("L"):
                    raise _Unknown
                lifetime = self._lifetime()
                return f"dyn {bounds}" + (f" + {lifetime}" if lifetime != "'_" else "")
            case "B":
                return self._back(self._type)
            case _:
                self._at -= 1
                return self.path(value=False)

    def _function(self) -> str:
        unsafe = "unsafe " if self._take("U") else ""
        abi = ""
        if self._take("K"):
            word = "C" if self._take("C") else self._plain_identifier().replace("_", "-")
            abi = f'extern "{word}" '
        parameters = ", ".join(self._until_end(self._type))
        result = self._type()
        return f"{unsafe}{abi}fn({parameters})" + (f" -> {result}" if result != "()" else "")

    def _bound_trait(self) -> str:
        """A trait of `dyn`, with what its associated types are bound to."""
        trait = self.path(value=False, brackets=False)
        bindings = []
        while self._take("p"):
            name = self._plain_identifier()
            bindings.append(f"{name} = {self._type()}")
        if not _is_open(trait):
            return f"{trait}<{', '.join(bindings)}>" if bindings else trait
        return ", ".join([trait, *bindings]) + ">"

    def _within_binder(self, read: Callable[[], str]) -> str:
        """Something that may have lifetimes of its own: `for<'a, 'b> …`."""
        count = self._number() + 1 if self._take("G") else 0
        if count > _MOST:
            raise _Unknown
        names = []
        for _ in range(count):
            self._bound += 1
            names.append(self._name_of_lifetime(1))
        text = read()
        self._bound -= count
        return f"for<{', '.join(names)}> {text}" if names else text

    def _lifetime(self) -> str:
        return self._name_of_lifetime(self._number())

    def _name_of_lifetime(self, index: int) -> str:
        """0 is one without a name; others count from the innermost binder outwards."""
        if index == 0:
            return "'_"
        depth = self._bound - index
        if depth < 0:
            raise _Unknown
        return f"'{chr(ord('a') + depth)}" if depth < 26 else f"'_{depth}"

    # ------------------------------------------------------------ constants

    def _constant(self) -> str:
        self._count()
        match self._next():
            case "B":
                return self._back(self._constant)
            case "p":
                return "_"
            case "b":
                return {0: "false", 1: "true"}[self._hex()]
            case "c":
                return repr(chr(self._hex()))
            case "h" | "t" | "m" | "y" | "o" | "j":
                return _integer(self._hex())
            case "a" | "s" | "l" | "x" | "n" | "i":
                sign = "-" if self._take("n") else ""
                return sign + _integer(self._hex())
            case _:
                raise _Unknown

    def _hex(self) -> int:
        end = self._text.index("_", self._at)
        digits, self._at = self._text[self._at : end], end + 1
        return int(digits or "0", 16)

    # ------------------------------------------------------------ words

    def _next(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _take(self, tag: str) -> bool:
        """Read one character if it is the one."""
        found = self._text.startswith(tag, self._at)
        self._at += found
        return found

    def _until_end(self, read: Callable[[], str]) -> list[str]:
        items = []
        while not self._take("E"):
            items.append(read())
        return items

    def _number(self) -> int:
        """A number to the base 62, ended by `_`; without digits it is 0, else one more than they say."""
        value, digits = 0, 0
        while not self._take("_"):
            value = value * 62 + _DIGITS.index(self._next())
            digits += 1
        return value + 1 if digits else 0

    def _disambiguator(self) -> int:
        return self._number() + 1 if self._take("s") else 0

    def _identifier(self) -> tuple[str, int]:
        """A name, and the number that tells it apart from others of that name."""
        number = self._disambiguator()
        return self._plain_identifier(), number

    def _plain_identifier(self) -> str:
        encoded = self._take("u")
        found = re.compile(r"(0|[1-9][0-9]*)_?").match(self._text, self._at)
        if found is None:
            raise _Unknown
        start, size = found.end(), int(found[1])
        self._at = start + size
        if self._at > len(self._text):
            raise _Unknown
        word = self._text[start : self._at]
        if not encoded:
            return word
        head, _, tail = word.rpartition("_")  # Punycode with another hyphen
        return (f"{head}-{tail}" if head else tail).encode().decode("punycode")

    def _back(self, read: Callable[[], str]) -> str:
        """What stands at an earlier place of the name."""
        start = self._at - 1
        place = self._number()
        if place >= start:
            raise _Unknown
        after, self._at = self._at, place
        text = read()
        self._at = after
        return text

    def _count(self) -> None:
        self._parts += 1
        if self._parts > _MOST:
            raise _Unknown


def _is_open(path: str) -> bool:
    """Whether the arguments at the end of a path still wait for their bracket."""
    plain = path.replace("->", "")
    return plain.count("<") > plain.count(">")


def _integer(value: int) -> str:
    return str(value) if value < 1 << 64 else f"{value:#x}"
