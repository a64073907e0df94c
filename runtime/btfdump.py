"""C definitions of BTF types, written by libbpf (btf_dump of its btf.h)."""

from __future__ import annotations

import ctypes
import re

from pytrace.grammar.host import HostError
from pytrace.runtime.btffile import BtfFile

_ROOM = 4096  # bytes of one piece of text; libbpf writes word by word
_DEFINITION = re.compile(r"^((?:struct|union|enum) [^\s{]+) \{\n.*?^\}[^\n]*;\n", re.MULTILINE | re.DOTALL)
# the third argument is a va_list, which the ABIs of x86-64 and arm64 pass like a pointer
_Write = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


class Definitions:
    """What C calls the types of one BTF blob. libbpf writes each definition once, with those that it needs in
    front, so they are kept."""

    def __init__(self, file: BtfFile) -> None:
        self._known: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self._format = ctypes.CDLL(None).vsnprintf
        self._format.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p)
        self._room = ctypes.create_string_buffer(_ROOM)
        self._callback = _Write(self._write)
        self._library = ctypes.CDLL("libbpf.so.1")
        make = self._library.btf_dump__new
        make.restype, make.argtypes = ctypes.c_void_p, (ctypes.c_void_p, _Write, ctypes.c_void_p, ctypes.c_void_p)
        self._library.btf_dump__dump_type.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        self._dump = make(file.handle, self._callback, None, None)
        if not self._dump:
            raise HostError(f"libbpf cannot write the types of {file.module}")

    def _write(self, _context: int, text: bytes, arguments: int) -> None:
        self._format(self._room, _ROOM, text, arguments)
        self._pieces.append(self._room.value)

    def text(self, name: str, number: int) -> str:
        """The definition of a type, by its name with `struct`, `union` or `enum` and its number."""
        if name not in self._known:
            self._pieces.clear()
            self._library.btf_dump__dump_type(self._dump, number)
            for found in _DEFINITION.finditer(b"".join(self._pieces).decode()):
                self._known.setdefault(found[1], found[0])
        return self._known.get(name, f"{name} {{\n}};\n")
