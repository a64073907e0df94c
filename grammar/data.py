"""`dataclass` as everybody knows it, but cheap to define.

The classes of a compiler are needed at every start, and of what `frozen=True` makes for a class (methods that refuse
assignment, others for pickling) nothing is of use once a type checker has read the code. So mypy sees the
standard decorator, frozen and all, and at run time `frozen` only makes a class hashable: 20 ms less of a start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    from dataclasses import dataclass as _dataclass

    def dataclass(*, frozen=False, eq=True, **options):
        """See dataclasses.dataclass."""
        return _dataclass(eq=eq, unsafe_hash=frozen and eq, **options)
