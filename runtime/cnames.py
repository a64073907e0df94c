"""C's arithmetic types on x86-64 by name, so that everyday names need no BTF."""

from __future__ import annotations

from pytrace.grammar.types import BOOL, UINT64, VOID, Array, Int, Type

_WORDS = frozenset({"signed", "unsigned", "char", "short", "int", "long"})
_QUALIFIERS = frozenset({"const", "volatile", "restrict", "__restrict", "__user", "__rcu", "__percpu"})

# name -> (bytes, signed), as the LP64 headers of Linux define them
_TYPEDEFS: dict[str, tuple[int, bool]] = {
    **{f"{prefix}{bits}": (bits // 8, False) for bits in (8, 16, 32, 64) for prefix in ("u", "__u")},
    **{f"{prefix}{bits}": (bits // 8, True) for bits in (8, 16, 32, 64) for prefix in ("s", "__s")},
    **{f"uint{bits}_t": (bits // 8, False) for bits in (8, 16, 32, 64)},
    **{f"int{bits}_t": (bits // 8, True) for bits in (8, 16, 32, 64)},
    **{f"__{end}{bits}": (bits // 8, False) for bits in (16, 32, 64) for end in ("be", "le")},
    **dict.fromkeys(("size_t", "uintptr_t", "dma_addr_t", "sector_t", "ino_t", "ulong"), (8, False)),
    **dict.fromkeys(("ssize_t", "intptr_t", "ptrdiff_t", "loff_t", "off_t", "time_t"), (8, True)),
    **dict.fromkeys(("uid_t", "gid_t", "dev_t", "gfp_t", "uint", "qid_t"), (4, False)),
    **dict.fromkeys(("pid_t", "clockid_t", "key_t", "daddr_t"), (4, True)),
    **dict.fromkeys(("umode_t", "ushort", "sa_family_t"), (2, False)),
    "__int128": (16, True),
    "__int128 unsigned": (16, False),
}


def integer(size: int, signed: bool) -> Type:
    """An integer of `size` bytes; 16-byte ones, which the language lacks, are two 8-byte words."""
    return Array(UINT64, 2) if size == 16 else Int(size, signed)


def base_type(name: str) -> Type | None:
    """The type that an arithmetic C name stands for (`unsigned long`, `u32`, `bool`, `void`), or None.

    `char` is signed, as the compilers have it on x86-64, also where the kernel is built with -funsigned-char.
    """
    words = [word for word in name.split() if word not in _QUALIFIERS]
    match words:
        case ["void"]:
            return VOID
        case ["bool"] | ["_Bool"]:
            return BOOL
        case [single] if single in _TYPEDEFS:
            return integer(*_TYPEDEFS[single])
    if not words or not _WORDS.issuperset(words):
        return None
    if "char" in words:
        size = 1
    elif "short" in words:
        size = 2
    else:
        size = 8 if "long" in words else 4
    return Int(size, "unsigned" not in words)


def is_char(name: str) -> bool:
    """Whether a C name is plain or signed `char`, whose arrays are strings."""
    return [word for word in name.split() if word not in _QUALIFIERS] in (["char"], ["signed", "char"])


def without_qualifiers(text: str) -> str:
    """A C type's text without `const`, `__user` and the like."""
    return " ".join(word for word in text.replace("*", " * ").split() if word not in _QUALIFIERS)
