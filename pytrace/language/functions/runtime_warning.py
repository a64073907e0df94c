"""The run-time warnings that generated code sends (reference part 2, section 13.4)."""

from __future__ import annotations

import errno
import os

from pytrace.grammar.diagnostics import Diagnostic, Severity
from pytrace.grammar.hints import Any
from pytrace.grammar.nodes import Expr
from pytrace.grammar.plan import Action as ActionRecord
from pytrace.grammar.spec import Action, CallSite, Output, Param, Session, feature
from pytrace.grammar.types import NONE, Type
from pytrace.language.functions.output import place

MAP_FULL = (
    "Map full; can't update element. Try increasing max_map_keys config or manually setting the max "
    "entries in a map declaration e.g. `let @a = hash(5000)`"
)

# kinds that come from a failed helper; None: the words for the error code
HELPER_TEXTS: dict[str, str | None] = {
    "update": None,
    "helper": None,
    "read": None,
    "lookup": "Can't lookup map element because it does not exist.",
    "delete": "Can't delete map element because it does not exist.",
}

OTHER_TEXTS = {
    "div0": "Divide or modulo by 0 detected. This can lead to unexpected results. 1 is being used as the result.",
    "oob": "Array access out of bounds. This can lead to unexpected results.",
    "stack": "Error reading {helper}.",
    "unwind": "No DWARF unwind data available for this process. Use -p or --dwarf-pid to specify target PIDs.",
    "cpus": "CPU count mismatch; unable to find per-cpu data.",
}


@feature
class RuntimeWarning(Action):
    """Tell about a mishap while the program ran. Generated code sends it; programs cannot call it.

    The record holds the error code that the kernel returned; the parameters are the kind of mishap and the
    helper (of the kind `stack`: `kstack` or `ustack`).
    """

    name = "runtime_warning"
    parameters = (Param("arguments", rest=True),)

    def type(self, site: CallSite) -> Type:
        site.error("err.name.func", f"Unknown function: '{self.name}'")
        return NONE

    def fields(self, site: CallSite) -> tuple[Expr, ...]:
        return ()

    def handle(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> Output | None:
        kind, helper = action.params
        code, span = int(values[0]), action.span
        assert span is not None
        if kind in OTHER_TEXTS:
            text = OTHER_TEXTS[kind].format(helper=helper)
            fields = {"msg": text, **place(span)}
            return self._output("runtime_error", text, action, fields)
        words = os.strerror(abs(code))
        full = kind == "update" and code == -errno.E2BIG
        text = MAP_FULL if full else HELPER_TEXTS[kind] or words
        info = f"Additional Info - helper: {helper}, retcode: {code}"
        fields = {"msg": words, "helper": helper, "retcode": code, **place(span)}
        return self._output("helper_error", f"{text}\n{info}", action, fields)

    def _output(self, kind: str, text: str, action: ActionRecord, fields: dict[str, Any]) -> Output:
        diagnostic = Diagnostic(Severity.WARNING, "warn.runtime", text, action.span)
        return Output(kind, diagnostic.render(), None, (), error=True, fields=fields)
