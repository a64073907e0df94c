"""Several BPF objects made into one, by libbpf's linker (bpf_linker of its libbpf.h)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from pytrace.grammar.host import HostError, LinkedUnit
from pytrace.runtime import libbpf
from pytrace.runtime.memoryfile import MemoryFile


def link(elf: bytes, units: Sequence[LinkedUnit]) -> bytes:
    """The object of a program with the units that it calls functions of.

    Raises:
        HostError: they do not fit together, in libbpf's words.
    """
    library, notices = libbpf.library(), list[str]()
    inputs = [MemoryFile(data) for data in (elf, *(unit.elf for unit in units))]
    with MemoryFile() as output, libbpf.listen(lambda _, text: notices.append(text)):
        linker = library.bpf_linker__new(output.path.encode(), None)
        try:
            results = [library.bpf_linker__add_file(linker, file.path.encode(), None) for file in inputs]
            failed = next((result for result in results if result < 0), 0) or library.bpf_linker__finalize(linker)
        finally:
            library.bpf_linker__free(linker)
            for file in inputs:
                file.close()
        if failed < 0:
            raise HostError(_words(notices) or os.strerror(-failed))
        return output.read()


def _words(notices: Sequence[str]) -> str:
    """What libbpf said, without its prefix and the names of files that only we know."""
    text = "; ".join(line.strip() for line in notices)
    return re.sub(r"libbpf: |(?: in| of)? ?'?/proc/self/fd/\d+'?:? ?", "", text)
