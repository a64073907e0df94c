"""What the verifier's refusals are turned into."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytrace.runtime.bpf_object import LoadError
from pytrace.verifier import refusal


def refused(log: str) -> Any:
    """The diagnostic for a program whose verifier log is this."""
    compilation = SimpleNamespace(plan=SimpleNamespace(programs=()))
    return refusal(LoadError("begin_0", errno.EINVAL, log), cast("Any", compilation))


@pytest.mark.tag("type.agg.feature", "err.feature")
@pytest.mark.parametrize(
    "line",
    [
        "invalid func unknown#195",  # before Linux 5.19, which does not know the number
        "unknown func bpf_map_lookup_percpu_elem#195",
        "program of this type cannot use helper bpf_map_lookup_percpu_elem#195",
    ],
)
def test_a_kernel_that_cannot_read_aggregations(line: str) -> None:
    found = refused(f"0: R1=ctx() R10=fp0\n8: (85) call bpf_map_lookup_percpu_elem#195\n{line}\nprocessed 9 insns")
    assert found.message.endswith(line)
    assert "bpf_map_lookup_percpu_elem, which exists since Linux 5.19" in found.hints[0]
    assert "printing the map does not" in found.hints[0]


def test_another_helper_has_another_hint() -> None:
    found = refused("8: (85) call unknown#36\nunknown func bpf_probe_write_user#36\nprocessed 9 insns")
    assert "percpu" not in found.hints[0]
    assert found.hints[0] == "This kernel does not allow that here."


def test_a_while_loop_of_many_rounds() -> None:
    found = refused("9: (25) if r1 > 0x270f goto pc+3\nThe sequence of 8193 jumps is too complex.\nprocessed 9 insns")
    assert "for ($i : 0..10000)" in found.hints[0]
