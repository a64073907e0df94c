"""Machine code for this machine that takes records out of a ring buffer and writes them as lines.

It is one block that refers to nothing outside of itself, so that it can be kept and run without LLVM later:
constants come with it as `HostCode.data`, and there are no calls into libraries.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import llvmlite.binding as llvm

from pytrace.codegen.hostlines import ATTRIBUTES, Constants, LineWriter, most
from pytrace.codegen.hosttext import HELPERS, LOOP
from pytrace.codegen.objectfile import drop_code
from pytrace.grammar.lines import HostCode, Piece

SLACK = 64  # helpers write up to so many bytes too many
MOST_ROOM = 1 << 20  # bytes of a line; what may be longer is left to others


class NoHostCodeError(Exception):
    """This machine's code could not be made so that it stands alone."""


def build(lines: Mapping[int, Sequence[Piece]]) -> HostCode | None:
    """The machine code for these lines, by number of the action; None if there is nothing that it could do.

    Raises `NoHostCodeError` where LLVM does not know this machine or needs what lies outside.
    """
    if sys.byteorder != "little":
        return None
    fitting = {number: pieces for number, pieces in lines.items() if most(pieces) < MOST_ROOM}
    if not fitting:
        return None
    constants, functions, cases, blocks, scratch = Constants(), [], [], [], SLACK
    for number, pieces in fitting.items():
        writer = LineWriter(constants)
        writer.write(pieces)
        functions.append(writer.function(f"line_{number}"))
        scratch = max(scratch, writer.scratch + SLACK)
        cases.append(f"    i64 {number}, label %case_{number}")
        blocks.append(_case(number, most(pieces) + SLACK))
    results = "".join(f", [ %new_{number}, %wrote_{number} ]" for number in fitting)
    loop = LOOP.format(cases="\n".join(cases), blocks="\n".join(blocks), results=results.removeprefix(", "))
    # the entry is the first function, so it lies at the start of the code
    code = _assemble("\n".join((loop, HELPERS, *functions, ATTRIBUTES)))
    room = max(map(most, fitting.values())) + SLACK
    return HostCode(code, constants.data, tuple(fitting), room, scratch)


def _case(number: int, room: int) -> str:
    return f"""
case_{number}:
  %fits_{number} = icmp uge i64 %left, {room}
  br i1 %fits_{number}, label %write_{number}, label %full
write_{number}:
  %new_{number} = call ptr @line_{number}(ptr %out, ptr %record, ptr %data, ptr %scratch)
  %made_{number} = icmp ne ptr %new_{number}, null
  br i1 %made_{number}, label %wrote_{number}, label %other
wrote_{number}:
  br label %written"""


def _assemble(text: str) -> bytes:
    """The bytes of the one section of code that a module makes."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    try:
        target = llvm.Target.from_default_triple().create_target_machine(opt=2, reloc="pic", codemodel="small")
        module = llvm.parse_assembly(text)
        module.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        # vectors would need constants in memory, and unrolled loops are slow to compile
        options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
        passes = llvm.create_pass_builder(target, options)
        passes.getModulePassManager().run(module, passes)
        made = llvm.ObjectFileRef.from_data(target.emit_object(module))
    except RuntimeError as error:
        raise NoHostCodeError(str(error)) from error
    finally:
        drop_code()
    code = b""
    for section in made.sections():
        name = section.name()
        if section.is_text() and section.size():
            code += section.data()
        elif section.size() and (name.startswith((b".rodata", b".data")) or name in (b".rela.text", b".rel.text")):
            raise NoHostCodeError(f"the code needs {name.decode()}")
    return code
