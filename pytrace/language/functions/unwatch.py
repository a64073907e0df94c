"""A function that is no more: unwatch."""

from __future__ import annotations

from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import NONE, Type


@feature
class Unwatch(Function):
    """Not supported any more: a watchpoint stays until the script ends.

    To take no more notice of one, test a flag in its predicate.

    bt> watchpoint:0x10000000:8:w /!@done/ { printf("written by %s\\n", comm); @done = true; }
    """

    name = "unwatch"
    parameters = (Param("address"),)

    def type(self, site: CallSite) -> Type:
        hints = ("A watchpoint stays until the script ends; test a flag in its predicate instead.",)
        site.error("fn.unwatch", "unwatch() is not supported any more", hints=hints)
        return NONE
