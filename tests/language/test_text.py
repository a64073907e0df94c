"""Default text of values and stacks (reference part 2, sections 5 and 6.2)."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from pytrace.grammar.config import Config
from pytrace.grammar.layout import Layout, Part, Text, decode
from pytrace.grammar.types import (
    BOOL,
    INT8,
    INT32,
    INT64,
    NONE,
    UINT8,
    UINT64,
    Array,
    Buffer,
    EnumType,
    Opaque,
    Pointer,
    Record,
    Stack,
    String,
    Struct,
    Tuple,
    Type,
)
from pytrace.language.text import text
from pytrace.language.values import accounts, timestamp
from tests.language.fakes import SERVICES, FakeServices, lay

COLOUR = Layout(EnumType("colour"), (), ((2, "RED"), (5, "BLUE")))


def shown(kind: Type, value: object) -> str:
    return text(lay(kind), value, SERVICES)


@pytest.mark.tag("val.int", "fmt.default")
def test_integers_are_decimal_with_the_sign_of_their_type() -> None:
    raw = b"\xff" * 8
    assert text(lay(INT64), decode(lay(INT64), raw), SERVICES) == "-1"
    assert text(lay(UINT64), decode(lay(UINT64), raw), SERVICES) == "18446744073709551615"
    assert text(lay(UINT8), decode(lay(UINT8), raw), SERVICES) == "255"


@pytest.mark.tag("val.bool")
def test_bool() -> None:
    assert (shown(BOOL, True), shown(BOOL, False)) == ("true", "false")


@pytest.mark.tag("val.string")
def test_strings_end_at_the_nul_and_are_not_escaped() -> None:
    kind = lay(String(8))
    assert text(kind, decode(kind, b'a"\n\0junk'), SERVICES) == 'a"\n'


@pytest.mark.tag("fmt.string-trunc")
def test_a_string_without_room_for_its_nul_gets_the_trailer() -> None:
    kind = lay(String(4))
    cut = decode(kind, b"abcd")
    assert text(kind, cut, SERVICES) == "abcd.."
    assert text(kind, cut, FakeServices(Config(str_trunc_trailer=""))) == "abcd"


def test_bytes_that_are_not_utf8_survive() -> None:
    kind = lay(String(4))
    value = text(kind, decode(kind, b"\xc3\xa9\xff\0"), SERVICES)
    assert value.encode("utf-8", "surrogateescape") == b"\xc3\xa9\xff"


@pytest.mark.tag("val.pointer")
def test_pointers() -> None:
    assert shown(Pointer(INT8), 0xFFFF888000000000) == "0xffff888000000000"
    assert shown(Pointer(INT8), 0) == "0x0"


@pytest.mark.tag("val.enum")
def test_enums_by_name_or_number() -> None:
    assert text(COLOUR, 5, SERVICES) == "BLUE"
    assert text(COLOUR, 9, SERVICES) == "9"


@pytest.mark.tag("val.buffer")
def test_buffers() -> None:
    assert shown(Buffer(7), b"ok\x01\x7f\xff") == "ok\\x01\\x7f\\xff"


@pytest.mark.tag("val.array")
def test_arrays_have_no_spaces() -> None:
    assert shown(Array(INT32, 3), [1, 2, 3]) == "[1,2,3]"
    assert shown(Array(Array(INT32, 2), 2), [[1, 2], [3, 4]]) == "[[1,2],[3,4]]"


@pytest.mark.tag("val.tuple")
def test_tuples() -> None:
    kind = Tuple((INT8, String(2), Tuple((INT64, INT64))))
    assert shown(kind, (1, Text("x"), (2, 3))) == "(1, x, (2, 3))"


@pytest.mark.tag("val.record")
def test_records_and_structs() -> None:
    kind = Record(("a", "b", "c"), (INT8, Array(INT8, 2), Record(("d",), (INT8,))))
    assert shown(kind, {"a": 1, "b": [2, 3], "c": {"d": 4}}) == "{ .a = 1, .b = [2,3], .c = { .d = 4 } }"
    assert shown(Struct("empty", 0), {}) == "{}"


@pytest.mark.tag("val.record")
def test_bit_fields_are_extracted() -> None:
    parts = (Part("low", 0, lay(INT32), (0, 3)), Part("high", 0, lay(INT32), (3, 5)))
    layout = Layout(Struct("bits", 4), parts)
    assert text(layout, decode(layout, b"\xad\0\0\0\0\0\0\0"), SERVICES) == "{ .low = 5, .high = 21 }"


@pytest.mark.tag("val.none")
def test_none() -> None:
    assert shown(NONE, None) == "null"


@pytest.mark.tag("val.stack", "stack.render", "stack.bpftrace")
def test_stack_in_mode_bpftrace() -> None:
    frames = (0x1000, 0x2000, 0xDEAD)
    expected = "\n        vfs_read+187\n        ksys_read+102\n        0xdead\n"
    assert shown(Stack(False), (0, frames)) == expected
    assert shown(Stack(True), (7, (0x4000, 0x5000))) == "\n        main+16\n        0x5000\n"


@pytest.mark.tag("stack.perf")
def test_stack_in_mode_perf() -> None:
    kernel = shown(Stack(False, "perf"), (0, (0x1000, 0xDEAD)))
    assert kernel == "\n\t1000 vfs_read+187\n\tdead 0xdead\n"
    user = shown(Stack(True, "perf"), (7, (0x4000, 0x5000)))
    assert user == "\n\t4000 main+16 (/bin/prog)\n\t5000 0x5000 ([unknown])\n"


@pytest.mark.tag("stack.raw")
def test_stack_in_mode_raw() -> None:
    assert shown(Stack(False, "raw"), (0, (0x1000, 0xDEAD))) == "\n1000\ndead\n"


@pytest.mark.tag("stack.build_id")
def test_stack_in_mode_build_id() -> None:
    valid = struct.pack("<i20sQ", 1, bytes(range(20)), 5)
    address = struct.pack("<i20sQ", 2, bytes(20), 0x7F0010)
    expected = "\n000102030405060708090a0b0c0d0e0f10111213 0x05\n7f0010\n"
    assert shown(Stack(True, "build_id"), (7, valid + address)) == expected


def test_the_unwinder_giving_up_ends_a_stack() -> None:
    frames = (0x4000, (1 << 64) - 1, 0x4000)
    assert shown(Stack(True), (7, frames)) == "\n        main+16\n        <unwind failure>\n"


@pytest.mark.tag("val.sym", "fn.ksym", "fn.usym")
def test_symbols_have_no_offset() -> None:
    kernel, user = Opaque("ksym_t", 8), Opaque("usym_t", 16)
    assert shown(kernel, struct.pack("<Q", 0x1000)) == "vfs_read"
    assert shown(kernel, struct.pack("<Q", 0xABC)) == "0xabc"
    assert shown(kernel, bytes(8)) == "0"
    assert shown(user, struct.pack("<QII", 0x4000, 7, 0)) == "main"
    assert shown(user, struct.pack("<QII", 0x4000, 8, 0)) == "0x4000"


@pytest.mark.tag("val.inet")
def test_internet_addresses() -> None:
    kind = Opaque("inet", 24)
    assert shown(kind, struct.pack("<Q16s", socket.AF_INET, bytes((10, 0, 0, 1)))) == "10.0.0.1"
    v6 = socket.inet_pton(socket.AF_INET6, "fe80::1")
    assert shown(kind, struct.pack("<Q16s", socket.AF_INET6, v6)) == "fe80::1"
    assert shown(kind, bytes(24)) == "-"  # AF_UNSPEC: no address
    assert shown(kind, struct.pack("<Q16x", socket.AF_UNIX)) == "unknown address family 1"


@pytest.mark.tag("val.mac")
def test_hardware_addresses() -> None:
    assert shown(Opaque("mac_address", 6, 1), bytes.fromhex("aabbccddee0f")) == "AA:BB:CC:DD:EE:0F"


@pytest.mark.tag("val.username")
def test_account_names(tmp_path: object) -> None:
    assert shown(Opaque("username_t", 8), bytes(8)) == "root"
    assert shown(Opaque("username_t", 8), struct.pack("<Q", 4_000_000_001)) == ""


def test_of_two_accounts_with_one_id_the_first_counts(tmp_path: object) -> None:
    path = f"{tmp_path}/passwd"
    with open(path, "w") as file:
        file.write("first:x:5:5::/:/bin/sh\nbroken\nsecond:x:5:5::/:/bin/sh\n")
    assert accounts.account_name(5, path) == "first"


@pytest.mark.tag("val.cgroup")
def test_control_group_paths(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    os.makedirs(f"{tmp_path}/v2/a/b")
    os.makedirs(f"{tmp_path}/memory")
    mounts = [("unified", f"{tmp_path}/v2"), ("memory", f"{tmp_path}/memory")]
    monkeypatch.setattr(accounts, "_hierarchies", lambda: mounts)
    inode = os.stat(f"{tmp_path}/v2/a/b").st_ino
    kind = Opaque("cgroup_path_t", 16, 8, ("*",))
    assert shown(kind, struct.pack("<QQ", 0, inode)) == "unified:/a/b"
    assert shown(Opaque("cgroup_path_t", 16, 8, ("mem*",)), struct.pack("<QQ", 0, inode)) == ""
    top = os.stat(f"{tmp_path}/memory").st_ino
    assert shown(kind, struct.pack("<QQ", 0, top)) == "memory:/"


@pytest.mark.tag("val.timestamp", "fn.strftime")
def test_time_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    raw = struct.pack("<QQ", 0, 3_012_345_678)  # 3.012345678 s after the fake machine's boot
    kind = Opaque("timestamp", 16, 8, ("%Y-%m-%d %H:%M:%S %f %l %k %%f", "boot"))
    assert shown(kind, raw) == "2020-01-01 00:00:03 012345 012 012345678 %f"
    assert shown(Opaque("timestamp", 16, 8, ("%Y %S", "tai")), raw) == "1970 03"
    assert shown(Opaque("timestamp", 16, 8, ("", "boot")), raw) == timestamp.FAILED
    before = struct.pack("<Qq", 0, -1)
    assert shown(Opaque("timestamp", 16, 8, ("%Y %k", "boot")), before) == "2019 999999999"
