"""Maps: deleting and asking for elements (reference part 2, section 2.6)."""

from __future__ import annotations

from pytrace.grammar.emit import SUM_ELEMENTS, Emit, Value
from pytrace.grammar.nodes import Expr
from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import BOOL, INT64, Stack, Type
from pytrace.language.programtypes import may_call

MAP = Param("map", ("map",))


@feature
class Delete(Function):
    """Delete an element of a map; a bool, true if there was one.

    `delete(@m)` empties a map that is used without keys. The old spelling `delete(@m[key])` works too. A histogram or
    series goes with all its buckets.

    bt> tracepoint:syscalls:sys_exit_read { delete(@start, tid); @start[tid] = nsecs; }

    Source: bpf_map_delete_elem (bpf-helpers(7)).
    """

    name = "delete"
    parameters = (MAP, Param("key", ("key",), optional=True))
    returns = BOOL
    discardable = True

    def type(self, site: CallSite) -> Type:
        if len(site) == 1 and site.scalars[0] is False:
            message = "call to delete() with a single argument expects a map without explicit keys (scalar map)"
            site.error("err.type.scalar", message)
        elif len(site) == 2 and site.scalars[0]:
            message = (
                f"@{site.map(0)} used as a map with an explicit key (non-scalar map), "
                "previously used without an explicit key (scalar map)"
            )
            site.error("err.type.scalar", message, 0)
        return BOOL

    def emit(self, emit: Emit, site: CallSite) -> Value:
        got = emit.delete(site.map(0), _key(site))
        there = emit.compare("==", got, emit.integer(0))
        if site.discarded:
            missing = emit.truth(got)
            emit.when(missing, lambda: emit.warn("delete", got, site.span, "map_delete_elem"))
        return there


@feature
class HasKey(Function):
    """Whether a map has an element with this key; a bool.

    bt> tracepoint:syscalls:sys_enter_read { @seen[comm] = 1; if (has_key(@seen, "cat")) { exit(); } }

    Source: bpf_map_lookup_elem (bpf-helpers(7)).
    """

    name = "has_key"
    parameters = (MAP, Param("key", ("key",)))
    returns = BOOL

    def type(self, site: CallSite) -> Type:
        _check_keyed(site)
        return BOOL

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.truth(emit.lookup(site.map(0), _key(site)))


@feature
class Find(Function):
    """Whether a map has an element with this key, whose value is then put into a variable; a bool.

    It looks once where `has_key` and reading look twice. Without such an element the variable stays as it is.

    bt> begin { @m["a"] = 5; if (find(@m, "a", $v)) { print($v); } }

    Source: bpf_map_lookup_elem (bpf-helpers(7)).
    """

    name = "find"
    parameters = (MAP, Param("key", ("key",)), Param("variable", ("variable",)))
    returns = BOOL

    def type(self, site: CallSite) -> Type:
        _check_keyed(site)
        return BOOL

    def emit(self, emit: Emit, site: CallSite) -> Value:
        return emit.take(site.map(0), _key(site), site.arguments[2])


@feature
class IsScalar(Function):
    """Whether a map is used without keys; a bool, known while compiling.

    bt> begin { @a = 1; print(is_scalar(@a)); }
    """

    name = "is_scalar"
    parameters = (MAP,)
    returns = BOOL

    def fold(self, site: CallSite) -> bool:
        return bool(site.scalars[0])


@feature
class Len(Function):
    """The number of elements of a map, or of frames of a stack; an int64.

    A histogram has an element for each bucket in use.

    bt> tracepoint:syscalls:sys_enter_openat { @seen[comm] = 1; @most = max(len(@seen)); }

    Source: the kernel function bpf_map_sum_elem_count (Linux 6.6); bpf_for_each_map_elem (5.13, bpf-helpers(7)), which
    looks at each.
    """

    name = "len"
    parameters = (Param("what", ("map", "stack")),)
    returns = INT64

    def type(self, site: CallSite) -> Type:
        _check_keyed(site)
        return INT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        kind = site.types[0]
        if site.scalars[0] is None and isinstance(kind, Stack):
            stack = emit.slot(emit.value(site.arguments[0]))
            return emit.load(stack, 8 if kind.user else 0, INT64)
        return emit.convert(emit.count_elements(site.map(0), may_call(site, SUM_ELEMENTS)), INT64)


def _key(site: CallSite) -> Expr | None:
    return site.arguments[1] if len(site) > 1 else None


def _check_keyed(site: CallSite) -> None:
    """Report a map that is used without keys."""
    if site.scalars[0]:
        message = f"call to {site.feature.name}() expects a map with explicit keys (non-scalar map)"
        site.error("err.type.scalar", message)
