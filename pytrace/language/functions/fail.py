"""`fail`: an error that the program itself raises while it is compiled (reference part 2, section 2.5)."""

from __future__ import annotations

from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.hints import cast
from pytrace.grammar.layout import Layout, Text
from pytrace.grammar.spec import CallSite, Constant, Function, Param, Services, feature
from pytrace.grammar.types import NONE, Type
from pytrace.language import printf


@feature
class Fail(Function):
    """Refuse to compile, with a message; the format is that of printf, and its values must be literals.

    It is for branches of `if comptime`: one that is not kept does not fail.

    bt> begin { if comptime (sizeof(int64) != 8) { fail("%d bytes?", sizeof(int64)); } }
    """

    name = "fail"
    parameters = (Param("format", ("string",), literal=True), Param("values", rest=True))

    def type(self, site: CallSite) -> Type:
        parsed, types, values = printf.parse(site.text(0)), site.types[1:], site.constants[1:]
        wrong = next((n for n, value in enumerate(values, 1) if value is None), None)
        if wrong is not None:
            site.error("fn.fail", "fail() arguments need to be literals", wrong)
        elif problem := printf.problem(parsed, types):
            site.error("fmt.check", problem.message, None, problem.hints)
        else:
            # of what services there are, literals need no more than the configuration
            services = cast("Services", site.context)
            layouts = tuple(Layout(kind) for kind in types)
            site.error("fn.fail", printf.formatter(parsed, layouts, services)([_decoded(v) for v in values]))
        return NONE

    def emit(self, emit: Emit, site: CallSite) -> Value | None:
        raise AssertionError("a program with fail() in it is not compiled")


def _decoded(value: Constant | None) -> object:
    """A literal as the layout of its type would decode it."""
    return Text(value.decode("utf-8", "surrogateescape"), False) if isinstance(value, bytes) else value
