"""`--info`: what this kernel and this installation can do (reference part 2, section 10.6)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import metadata

from pytrace import __version__
from pytrace.grammar.host import Host
from pytrace.runtime.host import LiveHost

_HELPERS = ("dpath", "get_tai_ns", "get_func_ip", "lookup_percpu_elem")
_HELPER_NAMES = {
    "dpath": "d_path",
    "get_tai_ns": "ktime_get_tai_ns",
    "lookup_percpu_elem": "map_lookup_percpu_elem",
}
_KERNEL = {"btf": "btf", "module btf": "module_btf"}
_PROBES = ("kprobe_multi", "uprobe_multi", "kprobe_session", "iter")
_MORE_PROBES = ("kprobe", "uprobe", "fentry", "tracefs", "perf_link", "uprobe_ref_ctr", "uprobe_session")
_COLUMN = 35


def describe(host: Host | None = None) -> str:
    """The whole text."""
    host = host or LiveHost()
    name = os.uname()
    blocks = {
        "System": [f"  OS: {name.sysname} {name.release} {name.version}", f"  Arch: {name.machine}"],
        "Build": [f"  version: v{__version__}", f"  LLVM: {_version('llvmlite')}"],
        "Kernel helpers": _table((h, host.has(_HELPER_NAMES.get(h, h))) for h in _HELPERS),
        "Kernel features": _table((shown, host.has(asked)) for shown, asked in _KERNEL.items()),
        "Probe types": _table((p, host.has(p)) for p in (*_PROBES, *_MORE_PROBES)),
    }
    return "\n".join(f"{title}\n" + "".join(f"{line}\n" for line in lines) for title, lines in blocks.items())


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return "no"


def _table(entries: Iterable[tuple[str, bool]]) -> list[str]:
    """`name: yes` entries, two a line."""
    cells = [f"  {name}: {'yes' if has else 'no'}" for name, has in entries]
    pairs = [cells[i : i + 2] for i in range(0, len(cells), 2)]
    return ["".join(cell.ljust(_COLUMN) for cell in pair) for pair in pairs]
