"""Names of the kernel's page allocation flags, for `%gr` (reference part 2, section 4).

Bit numbers: include/linux/gfp_types.h (`___GFP_*_BIT`) of Linux 6.10 and later on x86-64, where the bits of
hardware-tag KASAN and of lockdep are not compiled in and their masks are 0. Compound masks: the same file.
"""

from __future__ import annotations

_BITS = {
    "DMA": 0, "HIGHMEM": 1, "DMA32": 2, "MOVABLE": 3, "RECLAIMABLE": 4, "HIGH": 5, "IO": 6, "FS": 7,
    "ZERO": 8, "DIRECT_RECLAIM": 10, "KSWAPD_RECLAIM": 11, "WRITE": 12, "NOWARN": 13, "RETRY_MAYFAIL": 14,
    "NOFAIL": 15, "NORETRY": 16, "MEMALLOC": 17, "COMP": 18, "NOMEMALLOC": 19, "HARDWALL": 20,
    "THISNODE": 21, "ACCOUNT": 22, "ZEROTAGS": 23, "NO_OBJ_EXT": 24,
}  # fmt: skip


def _mask(*names: str) -> int:
    return sum(1 << _BITS[name] for name in names)


_RECLAIM = _mask("DIRECT_RECLAIM", "KSWAPD_RECLAIM")
_KERNEL = _RECLAIM | _mask("IO", "FS")
_USER = _KERNEL | _mask("HARDWALL")
_HIGHUSER = _USER | _mask("HIGHMEM")
_HIGHUSER_MOVABLE = _HIGHUSER | _mask("MOVABLE")
_TRANSHUGE_LIGHT = (_HIGHUSER_MOVABLE | _mask("COMP", "NOMEMALLOC", "NOWARN")) & ~_RECLAIM

# in the order in which they are tried
GFP_NAMES: tuple[tuple[str, int], ...] = (
    ("GFP_TRANSHUGE", _TRANSHUGE_LIGHT | _mask("DIRECT_RECLAIM")),
    ("GFP_TRANSHUGE_LIGHT", _TRANSHUGE_LIGHT),
    ("GFP_HIGHUSER_MOVABLE", _HIGHUSER_MOVABLE),
    ("GFP_HIGHUSER", _HIGHUSER),
    ("GFP_USER", _USER),
    ("GFP_KERNEL_ACCOUNT", _KERNEL | _mask("ACCOUNT")),
    ("GFP_KERNEL", _KERNEL),
    ("GFP_NOFS", _RECLAIM | _mask("IO")),
    ("GFP_ATOMIC", _mask("HIGH", "KSWAPD_RECLAIM")),
    ("GFP_NOIO", _RECLAIM),
    ("GFP_NOWAIT", _mask("KSWAPD_RECLAIM")),
    ("GFP_DMA", _mask("DMA")),
    ("__GFP_HIGHMEM", _mask("HIGHMEM")),
    ("GFP_DMA32", _mask("DMA32")),
    *(
        (f"__GFP_{name}", _mask(name))
        for name in (
            "HIGH", "IO", "FS", "ZERO", "DIRECT_RECLAIM", "KSWAPD_RECLAIM", "WRITE", "NOWARN",
            "RETRY_MAYFAIL", "NOFAIL", "NORETRY", "MEMALLOC", "COMP", "NOMEMALLOC", "HARDWALL", "THISNODE",
            "ACCOUNT", "ZEROTAGS", "NO_OBJ_EXT",
        )
    ),
)  # fmt: skip


def gfp_text(flags: int) -> str:
    """The names of the flags joined with `|`; what has no name is left as a hexadecimal number."""
    if not flags:
        return "0"
    names = []
    for name, mask in GFP_NAMES:
        if flags & mask == mask:
            names.append(name)
            flags &= ~mask
    return "|".join([*names, f"0x{flags:x}"] if flags else names)
