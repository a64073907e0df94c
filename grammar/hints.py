"""The words of `typing` that annotations are made of, without loading `typing`: that takes 1.4 ms of every start.

mypy sees the standard library's; at run time nothing looks at annotations, so that stand-ins will do.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any as Any
    from typing import BinaryIO as BinaryIO
    from typing import ClassVar as ClassVar
    from typing import Generic as Generic
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
    from typing import Self as Self
    from typing import TypeVar as TypeVar
    from typing import assert_never as assert_never
    from typing import cast as cast
    from typing import overload as overload
else:

    class _Word:
        """What can stand wherever a type can."""

        def __getitem__(self, _):
            return self

        def __or__(self, _):
            return self

        __ror__ = __or__

        def __mro_entries__(self, _):
            return ()

    Any = BinaryIO = ClassVar = Generic = NoReturn = Protocol = Self = _Word()

    def TypeVar(*_, **__):
        """See typing.TypeVar."""
        return Any

    def cast(_, value):
        """See typing.cast."""
        return value

    def overload(_):
        """See typing.overload."""

    def assert_never(value):
        """See typing.assert_never."""
        raise AssertionError(f"Expected code to be unreachable, but got: {value!r}")
