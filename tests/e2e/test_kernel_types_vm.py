"""What Debian's kernels allow and others may not: writing into a process, symbols of the kernel's data."""

from __future__ import annotations

import ctypes
import subprocess

import pytest

from pytrace.runtime.btf import KernelTypes
from tests.e2e.programs import begin, run

pytestmark = [pytest.mark.root, pytest.mark.vm]


@pytest.mark.tag("fn.write_user")
def test_write_user() -> None:
    memory = ctypes.create_string_buffer(b"before the call")
    address = ctypes.addressof(memory)
    body = (
        'print(write_user($1, "AF", 2)); print(write_user(8, "AF", 2));'
        "$x = (uint16)0x5a59; write_user($1 + 13, &$x, 2);"
    )
    assert begin(body, address, unsafe=True) == "true false"
    assert memory.value == b"AFfore the caYZ"


@pytest.mark.tag("rt.struct.ref")
def test_a_struct_in_a_variable_is_read_later() -> None:
    memory = ctypes.create_string_buffer(b"\x05" + bytes(15), 16)
    body = (
        "$s = (struct list_head *)uptr($1); $v = *$s; @m = *$s; $seven = (uint64)7;"
        "print(write_user($1, &$seven, 8)); print(($v.next, @m.next));"
    )
    assert begin(body, ctypes.addressof(memory), unsafe=True) == "true (0x7, 0x5)"


@pytest.mark.tag("fn.percpu_kaddr")
def test_per_cpu_variables_by_symbol() -> None:
    body = (
        'print(percpu_kaddr("runqueues")->cpu == cpu); print(percpu_kaddr("runqueues", 0)->cpu);'
        'for ($c : 0..2) { $p = percpu_kaddr("this_cpu_off", $c); print((uint64)$p - *$p == kaddr("this_cpu_off")); }'
        'print(percpu_kaddr("runqueues", 100000));'
    )
    assert begin(body) == "true 0 true true 0x0"


@pytest.mark.tag("type.struct.source")
def test_types_of_a_module_that_a_probe_names() -> None:
    subprocess.run(["modprobe", "loop"], check=True)
    text = "begin { print(offsetof(struct loop_device, lo_number)); exit(); }"
    named = run(f"fentry:loop:loop_queue_rq {{ }} {text}")
    assert named.text == "0\n"
    unnamed = KernelTypes()
    assert unnamed.find_type("loop_device", "struct") is None
    assert unnamed.module("loop") is not None
    assert unnamed.find_type("loop_device", "struct") is not None
