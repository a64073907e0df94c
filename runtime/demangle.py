"""C++ and Rust names as their authors wrote them."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache, lru_cache

from pytrace.runtime.rustnames import demangle_rust

_RUST_HASH = re.compile(r"::h[0-9a-f]{16}$")
# the punctuation of Rust's legacy mangling, rustc_codegen_utils/src/symbol_names/legacy.rs
_RUST_WORDS = {"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","}
_RUST_ESCAPE = re.compile(r"\$(?:(SP|BP|RF|LT|GT|LP|RP|C)|u([0-9a-f]{1,6}))\$")


@lru_cache(maxsize=65536)
def demangle(name: str) -> str:
    """The readable form of a mangled C++ or Rust name; any other name as it is."""
    if name.startswith("_R"):
        return demangle_rust(name) or name
    if not name.startswith("_Z"):
        return name
    text = _cxa_demangle()(name)
    if text is None:
        return name
    if _RUST_HASH.search(text) is None:
        return text
    text = _RUST_ESCAPE.sub(lambda m: _RUST_WORDS[m[1]] if m[1] else chr(int(m[2], 16)), text)
    return _RUST_HASH.sub("", text).replace("..", "::").replace("::_<", "::<").removeprefix("_")


@cache
def _cxa_demangle() -> Callable[[str], str | None]:
    """The C++ run-time library's own function; without that library nothing is demangled."""
    try:
        library = ctypes.CDLL("libstdc++.so.6")
    except OSError:
        return lambda name: None
    function, free = library.__cxa_demangle, ctypes.CDLL(None).free
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)]
    free.argtypes = [ctypes.c_void_p]

    def call(name: str) -> str | None:
        status = ctypes.c_int()
        text = function(name.encode("utf-8", "surrogateescape"), None, None, ctypes.byref(status))
        if not text:
            return None
        try:
            return ctypes.string_at(text).decode("utf-8", "replace")
        finally:
            free(text)

    return call
