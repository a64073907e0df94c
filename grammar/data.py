"""`dataclass`, `field`, `fields` and `replace` as everybody knows them, but cheap to define.

The classes of a compiler are defined at every start, and most of them are not used by the run at hand. So mypy sees the
standard library's functions, frozen and all, and at run time a class gets its methods when they are first called. That
saves the standard decorator's work (0.2 ms for each of 150 classes) and the import of `dataclasses`, which loads
`inspect`. `frozen` only makes a class hashable: what it refuses, a type checker has refused before.
"""

from __future__ import annotations

from pytrace.grammar.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import fields as fields
    from dataclasses import replace as replace
else:
    _MISSING = object()
    _FIELDS = "__dataclass_fields__"

    class _Field:
        """What is known of one field; the names are those of dataclasses.Field."""

        __slots__ = ("_field_type", "default", "default_factory", "init", "name", "repr", "type")

        def __init__(self, default, default_factory, init, repr):
            self.default, self.default_factory, self.init, self.repr = default, default_factory, init, repr
            self.name = self.type = ""
            self._field_type = None  # dataclasses.replace() looks at it

    def field(*, default=_MISSING, default_factory=_MISSING, init=True, repr=True):
        """See dataclasses.field."""
        return _Field(default, default_factory, init, repr)

    def fields(kind):
        """See dataclasses.fields."""
        return tuple(getattr(kind, _FIELDS).values())

    def replace(value, /, **changes):
        """See dataclasses.replace."""
        kind = value.__class__
        for name, one in kind.__dataclass_fields__.items():
            if one.init and name not in changes:
                changes[name] = getattr(value, name)
        return kind(**changes)

    def dataclass(*, frozen=False, eq=True, repr=True, slots=False):
        """See dataclasses.dataclass."""

        def decorate(cls):
            own = _own_fields(cls)
            inherited = {n: f for base in reversed(cls.__mro__[1:]) for n, f in base.__dict__.get(_FIELDS, {}).items()}
            found = {**inherited, **own}
            if slots:
                cls = _with_slots(cls, own, inherited)
            setattr(cls, _FIELDS, found)
            cls.__match_args__ = tuple(name for name, one in found.items() if one.init)
            given = cls.__dict__
            _later(cls, "__init__", _init)
            if repr and "__repr__" not in given:
                cls.__repr__ = _repr
            if eq and "__eq__" not in given:
                _later(cls, "__eq__", _eq)
            if eq and frozen:
                _later(cls, "__hash__", _hash)
            elif eq:
                cls.__hash__ = None
            return cls

        return decorate

    def _own_fields(cls):
        found = {}
        # not inspect.get_annotations: inspect is what this module does without
        for name, kind in cls.__dict__.get("__annotations__", {}).items():  # noqa: RUF063
            if kind.startswith(("ClassVar", "typing.ClassVar")):
                continue
            default = cls.__dict__.get(name, _MISSING)
            one = default if isinstance(default, _Field) else _Field(default, _MISSING, True, True)
            one.name, one.type = name, kind
            found[name] = one
        return found

    def _with_slots(cls, own, inherited):
        """The class once more, with slots: they cannot be added to one that is there."""
        body = {name: value for name, value in cls.__dict__.items() if name not in own}
        for name in ("__dict__", "__weakref__"):
            body.pop(name, None)
        body["__slots__"] = tuple(name for name in own if name not in inherited)
        made = type(cls)(cls.__name__, cls.__bases__, body)
        made.__qualname__ = cls.__qualname__
        return made

    def _later(cls, name, make):
        """Give a class a method that is made at its first call."""

        def first(*arguments, **named):
            made = make(cls)
            made.__qualname__ = f"{cls.__qualname__}.{name}"
            setattr(cls, name, made)
            return made(*arguments, **named)

        setattr(cls, name, first)

    def _function(name, parameters, lines, names=None):
        scope = {"_MISSING": _MISSING, **(names or {})}
        body = "".join(f"\n    {line}" for line in lines or ["pass"])
        exec(f"def {name}({', '.join(parameters)}):{body}", scope)
        return scope[name]

    def _init(cls):
        parameters, lines, names = ["self"], [], {}
        for name, one in getattr(cls, _FIELDS).items():
            has_default, has_factory = one.default is not _MISSING, one.default_factory is not _MISSING
            if has_default:
                names[f"_{name}"] = one.default
            elif has_factory:
                names[f"_{name}"] = one.default_factory
            if one.init:
                default = f"=_{name}" if has_default else "=_MISSING" if has_factory else ""
                parameters.append(name + default)
                value = f"_{name}() if {name} is _MISSING else {name}" if has_factory else name
                lines.append(f"self.{name} = {value}")
            elif has_default or has_factory:
                lines.append(f"self.{name} = _{name}{'()' if has_factory else ''}")
        if hasattr(cls, "__post_init__"):
            lines.append("self.__post_init__()")
        return _function("__init__", parameters, lines, names)

    def _values(cls, value):
        return "(" + "".join(f"{value}.{name}, " for name in getattr(cls, _FIELDS)) + ")"

    def _eq(cls):
        same = f"return {_values(cls, 'self')} == {_values(cls, 'other')}"
        return _function(
            "__eq__", ["self", "other"], [f"if other.__class__ is self.__class__: {same}", "return NotImplemented"]
        )

    def _hash(cls):
        return _function("__hash__", ["self"], [f"return hash({_values(cls, 'self')})"])

    def _repr(self):
        shown = [f"{n}={getattr(self, n)!r}" for n, one in getattr(self, _FIELDS).items() if one.repr]
        return f"{self.__class__.__qualname__}({', '.join(shown)})"
