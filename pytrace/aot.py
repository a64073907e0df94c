"""`--aot`: a compiled program as an executable file (reference part 2, section 10.8).

The file is a zip archive behind a `#!` line, which Python runs as it is (see the documentation of zipapp): pytrace's
own modules except the parser and the code generator, as byte code, and the compilation. So it needs the Python that
made it and libbpf, neither LLVM nor Lark nor an installed pytrace.

What a program rests on is settled when it is compiled. Refused is what would be another thing in another run:
positional parameters, addresses of symbols, numbers of cgroups; and what the reference counts among them.
"""

from __future__ import annotations

import io
import marshal
import os
import pickle
import re
import sys
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER, source_hash

import pytrace
from pytrace.bundle import PROGRAM, Bundle, kernel_name
from pytrace.compilation import compile_text
from pytrace.grammar.data import replace
from pytrace.grammar.diagnostics import Diagnostic, Diagnostics
from pytrace.grammar.nodes import (
    AttachText,
    Call,
    Cast,
    Identifier,
    Node,
    Positional,
    PositionalCount,
    Program,
    walk,
)
from pytrace.grammar.source import Span
from pytrace.grammar.types import Array, Pointer, Struct, Type
from pytrace.grammar.typing import TypedProbe, TypedProgram
from pytrace.options import Options

_FUNCTIONS = ("kaddr", "uaddr", "cgroupid")
_LEFT_OUT = ("codegen", os.path.join("grammar", "parser.py"), "aot.py", "__main__.py")
_UNCHECKED = 0b01  # a flag of .pyc files: they are not compared with their sources (PEP 552)
_MAIN = "from pytrace.bundle import start\n\nstart(__loader__)\n"
_POSITIONAL = re.compile(r"\$(?:[0-9]+|#)")


def bundle(text: str, name: str, options: Options) -> tuple[bytes, tuple[Diagnostic, ...]]:
    """The content of the executable for a program, and what the compiler warns of. Raises CompileError."""
    made = compile_text(text, name, replace(options, aot=True))
    kept = Bundle(kernel_name(), replace(made, warnings=(), stages={}))
    return _archive(pickle.dumps(kept, pickle.HIGHEST_PROTOCOL)), made.warnings


# ---------------------------------------------------------------- what cannot be kept


def refuse_parameters(program: Program, diagnostics: Diagnostics) -> None:
    """Refuse positional parameters, which also decide what is attached to. Raises CompileError."""
    for node in walk(program):
        named = isinstance(node, AttachText) and _POSITIONAL.search(node.text)
        if named or isinstance(node, Positional | PositionalCount):
            _refuse("positional parameters", node.span, diagnostics)
    diagnostics.raise_errors()


def refuse_unportable(typed: TypedProgram, diagnostics: Diagnostics) -> None:
    """Refuse what means something else in a later run. Raises CompileError."""
    found = ((node, probe) for probe in typed.probes for node in walk(probe.probe))
    places = dict.fromkeys((node.span, what) for node, probe in found if (what := _unportable(node, probe)))
    for span, what in places:  # of a block with several attach points, each once
        _refuse(what, span, diagnostics)
    diagnostics.raise_errors()


def _refuse(what: str, span: Span, diagnostics: Diagnostics) -> None:
    hint = "Run the program without --aot."
    diagnostics.error("err.feature", f"AOT does not yet support {what}", span, hints=(hint,))


def _unportable(node: Node, probe: TypedProbe) -> str:
    """What it is that a node makes a program unfit for later runs by, empty for nothing."""
    match node:
        case Call(name=name) if name in _FUNCTIONS:
            return f"{name}()"
        case Call(name="curtask") | Identifier(name="curtask"):
            return "curtask"
        case Cast() if _is_struct(probe.types.get(node)):
            return "struct casts"
        case _:
            return ""


def _is_struct(type: Type | None) -> bool:
    """Whether a type is a struct, or leads to one."""
    while isinstance(type, Pointer | Array):
        type = type.to if isinstance(type, Pointer) else type.element
    return isinstance(type, Struct)


# ---------------------------------------------------------------- the file


def _archive(program: bytes) -> bytes:
    import zipfile

    file = io.BytesIO()
    file.write(f"#!{sys.executable}\n".encode("utf-8", "surrogateescape"))
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("__main__.py", _MAIN)
        archive.writestr(PROGRAM, program, zipfile.ZIP_DEFLATED)
        for path, source in _sources():
            archive.writestr(f"{path}c", _byte_code(path, source))
    return file.getvalue()


def _sources() -> Iterator[tuple[str, bytes]]:
    """The modules that a run may need: their paths in the archive, and their texts."""
    root = os.path.dirname(os.path.abspath(pytrace.__file__ or ""))
    for folder, folders, files in os.walk(root, followlinks=True):
        inside = os.path.relpath(folder, root)
        folders[:] = sorted(
            f for f in folders if f != "__pycache__" and os.path.normpath(os.path.join(inside, f)) not in _LEFT_OUT
        )
        for name in sorted(files):
            path = os.path.normpath(os.path.join(inside, name))
            if name.endswith(".py") and path not in _LEFT_OUT:
                with open(os.path.join(folder, name), "rb") as file:
                    yield os.path.join("pytrace", path), file.read()


def _byte_code(path: str, source: bytes) -> bytes:
    """A .pyc file (PEP 552) that is used whatever the times of files say."""
    code = compile(source, path, "exec", dont_inherit=True)
    return MAGIC_NUMBER + _UNCHECKED.to_bytes(4, "little") + source_hash(source) + marshal.dumps(code)
