"""Functions that only the compiler evaluates (reference part 2, section 2.7)."""

from __future__ import annotations

from pytrace.grammar import types
from pytrace.grammar.spec import CallSite, Emit, Function, Param, Value, feature
from pytrace.grammar.types import BOOL, NONE, Array, Int, Pointer, String, Type

ANY = Param("value")


class _IsType(Function):
    """Whether an expression is of a kind of type; a bool, known while compiling."""

    parameters = (ANY,)
    returns = BOOL

    def fold(self, site: CallSite) -> bool:
        return self.matches(site.types[0])

    def matches(self, kind: Type) -> bool:
        """Whether a type is of that kind."""
        raise NotImplementedError


@feature
class IsStr(_IsType):
    """Whether the argument is a string; a bool, known while compiling.

    bt> begin { print(is_str(comm)); }
    """

    name = "is_str"

    def matches(self, kind: Type) -> bool:
        return isinstance(kind, String)


@feature
class IsPtr(_IsType):
    """Whether the argument is a pointer; a bool, known while compiling.

    bt> begin { print(is_ptr(curtask)); }
    """

    name = "is_ptr"

    def matches(self, kind: Type) -> bool:
        return isinstance(kind, Pointer)


@feature
class IsArray(_IsType):
    """Whether the argument is an array; a bool, known while compiling.

    bt> begin { print(is_array(pton("::1"))); }
    """

    name = "is_array"

    def matches(self, kind: Type) -> bool:
        return isinstance(kind, Array)


@feature
class IsInteger(_IsType):
    """Whether the argument is an integer; a bool, known while compiling.

    bt> begin { print(is_integer(pid)); }
    """

    name = "is_integer"

    def matches(self, kind: Type) -> bool:
        return isinstance(kind, Int)


@feature
class IsUnsignedInteger(_IsType):
    """Whether the argument is an unsigned integer; a bool, known while compiling.

    bt> begin { print(is_unsigned_integer(pid)); }
    """

    name = "is_unsigned_integer"

    def matches(self, kind: Type) -> bool:
        return isinstance(kind, Int) and not kind.signed


@feature
class IsLiteral(Function):
    """Whether the argument is a literal; a bool, known while compiling.

    bt> begin { print(is_literal("a")); }
    """

    name = "is_literal"
    parameters = (ANY,)
    returns = BOOL

    def fold(self, site: CallSite) -> bool:
        return site.constants[0] is not None


@feature
class DefaultStrLength(Function):
    """The setting `max_strlen`, which is the size of the string that `str()` gives; an integer.

    bt> begin { print(default_str_length()); }
    """

    name = "default_str_length"
    returns = types.INT64

    def fold(self, site: CallSite) -> int:
        return site.context.config.max_strlen


@feature
class StaticAssert(Function):
    """Refuse to compile, with a message, unless a condition holds that is known while compiling.

    bt> begin { static_assert(sizeof(int64) == 8, "int64 is not 8 bytes"); }
    """

    name = "static_assert"
    parameters = (Param("condition", literal=True), Param("message", ("string",), literal=True))

    def type(self, site: CallSite) -> Type:
        if not site.constants[0]:
            site.error("fn.static_assert", site.text(1))
        return NONE

    def emit(self, emit: Emit, site: CallSite) -> Value | None:
        return None


@feature
class AssertStr(Function):
    """Refuse to compile unless the argument is text: a string, an int8[] or an int8*.

    bt> begin { assert_str(comm); }
    """

    name = "assert_str"
    parameters = (ANY,)

    def type(self, site: CallSite) -> Type:
        match site.types[0]:
            case String() | types.NoneType():
                pass
            case Array(element=Int(size=1)) | Pointer(to=Int(size=1)):
                pass
            case _:
                message = "string-like values must be either strings, arrays or pointers"
                site.error("fn.assert_str", message, 0)
        return NONE

    def emit(self, emit: Emit, site: CallSite) -> Value | None:
        return None
