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
# BPF_COMPLEXITY_LIMIT_INSNS (include/linux/bpf.h) and, on kernels that have no such limit, BPF_MAXINSNS
_INSTRUCTIONS = {True: 1_000_000, False: 4096}
# parts that only some programs need, by the packages they come in
_PARTS = {"C definitions": "libclang", "DWARF": "pyelftools", "traffic control": "pyroute2", "disassembler": "capstone"}
_PROBES = ("kprobe_multi", "uprobe_multi", "kprobe_session", "iter")
_MORE_PROBES = ("kprobe", "uprobe", "fentry", "tracefs", "perf_link", "uprobe_ref_ctr", "uprobe_session")
_COLUMN = 35


def describe(host: Host | None = None) -> str:
    """The whole text."""
    host = host or LiveHost()
    name = os.uname()
    blocks = {
        "System": [f"  OS: {name.sysname} {name.release} {name.version}", f"  Arch: {name.machine}"],
        "Build": [f"  version: v{__version__}", f"  LLVM: {_version('llvmlite')}", *_parts()],
        "Kernel helpers": _table((h, host.has(_HELPER_NAMES.get(h, h))) for h in _HELPERS),
        "Kernel features": _rows(
            [
                f"Instruction limit: {_INSTRUCTIONS[host.has('large_programs')]}",
                *(f"{shown}: {_word(host.has(asked))}" for shown, asked in _KERNEL.items()),
            ]
        ),
        "Probe types": _table((p, host.has(p)) for p in (*_PROBES, *_MORE_PROBES)),
    }
    return "\n".join(f"{title}\n" + "".join(f"{line}\n" for line in lines) for title, lines in blocks.items())


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return "no"


def _parts() -> list[str]:
    """What is installed of the libraries that not every program needs."""
    return [f"  {name}: {_word(_version(package) != 'no')}" for name, package in _PARTS.items()]


def _word(has: bool) -> str:
    return "yes" if has else "no"


def _table(entries: Iterable[tuple[str, bool]]) -> list[str]:
    """`name: yes` entries, two a line."""
    return _rows([f"{name}: {_word(has)}" for name, has in entries])


def _rows(entries: list[str]) -> list[str]:
    cells = [f"  {entry}" for entry in entries]
    pairs = [cells[i : i + 2] for i in range(0, len(cells), 2)]
    return ["".join(cell.ljust(_COLUMN) for cell in pair) for pair in pairs]
