"""Kernel types and prototypes from this kernel's BTF, held against what protocols and other tools say."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from pytrace.grammar.types import (
    BOOL,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    VOID,
    Array,
    EnumType,
    Int,
    Member,
    Pointer,
    Space,
    String,
    Struct,
    size_of,
)
from pytrace.runtime.btf import KernelTypes, place_bits
from pytrace.runtime.btffile import BtfFile, Kind

tag = pytest.mark.tag
needs_btf = pytest.mark.skipif(not Path("/sys/kernel/btf/vmlinux").exists(), reason="the kernel has no BTF")


@pytest.fixture(scope="module")
def kernel() -> KernelTypes:
    return KernelTypes()


def by_name(types: KernelTypes, name: str, kind: str = "struct") -> dict[str, Member]:
    """The members of a kernel struct."""
    struct = types.find_type(name, kind)
    assert isinstance(struct, Struct), name
    return {m.name: m for m in types.members(struct)}


@needs_btf
def test_nothing_is_loaded_for_everyday_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> BtfFile | None:
        raise AssertionError("BTF was loaded")

    monkeypatch.setattr(BtfFile, "kernel", refuse)
    types = KernelTypes()
    assert types.find_type("u32") == UINT32
    assert types.find_type("long") == INT64
    with pytest.raises(AssertionError, match="loaded"):
        types.find_type("task_struct", "struct")


@needs_btf
@tag("type.ctypedef")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("char", INT8),
        ("unsigned", UINT32),
        ("unsigned long", UINT64),
        ("uint64_t", UINT64),
        ("size_t", UINT64),
        ("pid_t", INT32),
        ("umode_t", UINT16),
        ("bool", BOOL),
        ("void", VOID),
        ("fmode_t", UINT32),
        ("no_such_type_t", None),
    ],
)
def test_types_by_name(kernel: KernelTypes, name: str, expected: object) -> None:
    assert kernel.find_type(name) == expected


@needs_btf
def test_a_typedef_of_an_anonymous_struct_has_its_name(kernel: KernelTypes) -> None:
    counter = kernel.find_type("atomic_t")
    assert counter == Struct("atomic_t", 4)
    assert isinstance(counter, Struct)
    assert [(m.name, m.type, m.offset) for m in kernel.members(counter)] == [("counter", INT32, 0)]


@needs_btf
@tag("type.struct.field", "type.string.chararray")
def test_members_of_task_struct(kernel: KernelTypes) -> None:
    members = by_name(kernel, "task_struct")
    task = kernel.find_type("task_struct", "struct")
    assert members["comm"].type == String(16)
    assert members["comm"].text == "char comm[16]"
    assert members["pid"].type == INT32
    assert members["real_parent"].type == Pointer(task, Space.KERNEL)  # type: ignore[arg-type]
    assert members["real_parent"].text == "struct task_struct * real_parent"


@needs_btf
@tag("type.struct.anon")
def test_members_of_anonymous_members_are_at_their_place(kernel: KernelTypes) -> None:
    qstr = by_name(kernel, "qstr")
    assert {n: m.offset for n, m in qstr.items()} == {"hash": 0, "len": 4, "hash_len": 0, "name": 8}
    assert qstr["name"].text == "const unsigned char * name"


@needs_btf
def test_anonymous_structs_that_have_a_member_name_are_found_again(kernel: KernelTypes) -> None:
    inner = by_name(kernel, "in6_addr")["in6_u"].type
    assert inner == Struct("in6_addr.in6_u", 16, "union")
    assert isinstance(inner, Struct)
    found = {m.name: m.type for m in kernel.members(inner)}
    assert found == {"u6_addr8": String(16), "u6_addr16": Array(UINT16, 8), "u6_addr32": Array(UINT32, 4)}


@needs_btf
@tag("type.struct.bitfield")
def test_bit_fields(kernel: KernelTypes) -> None:
    """The layout of an IP and a TCP header is known from RFC 791 and RFC 9293."""
    version, length = by_name(kernel, "iphdr")["version"], by_name(kernel, "iphdr")["ihl"]
    packet = bytes([0x45]) + bytes(19)
    assert (bits_of(version, packet), bits_of(length, packet)) == (4, 5)
    header = bytearray(20)
    header[12], header[13] = 8 << 4, 0x12  # 8 words, SYN and ACK
    tcp = by_name(kernel, "tcphdr")
    found = {n: bits_of(tcp[n], bytes(header)) for n in ("doff", "syn", "ack", "fin", "rst")}
    assert found == {"doff": 8, "syn": 1, "ack": 1, "fin": 0, "rst": 0}


def bits_of(member: Member, data: bytes) -> int:
    """A bit-field the way that programs read it: 8 bytes at its offset, shifted and masked."""
    assert member.bits is not None
    shift, width = member.bits
    raw = int.from_bytes(data[member.offset : member.offset + 8], "little")
    return raw >> shift & (1 << width) - 1


@pytest.mark.parametrize(
    ("bit", "width", "size", "expected"),
    [
        (3, 2, 8, (0, (3, 2))),
        (70, 4, 64, (8, (6, 4))),
        (100, 4, 14, (6, (52, 4))),  # 8 bytes from 8 would leave the struct
        (9, 3, 2, (0, (9, 3))),  # smaller than 8 bytes: they must start in front
        (60, 8, 24, (7, (4, 8))),  # across a word
    ],
)
def test_where_bits_are_read(bit: int, width: int, size: int, expected: object) -> None:
    assert place_bits(bit, width, size) == expected


@needs_btf
def test_every_member_lies_inside_its_struct(kernel: KernelTypes) -> None:
    for name in ("task_struct", "sock", "sk_buff", "file", "inode", "dentry", "mm_struct", "net_device"):
        struct = kernel.find_type(name, "struct")
        assert isinstance(struct, Struct)
        for member in kernel.members(struct):
            assert 0 <= member.offset <= struct.size - size_of(member.type) or member.bits, (name, member)
            assert not member.bits or (0 <= member.bits[0] and sum(member.bits) <= 64), (name, member)


@needs_btf
@tag("type.enum.const")
def test_enumerations(kernel: KernelTypes) -> None:
    kind = kernel.find_type("pid_type", "enum")
    assert kind == EnumType("pid_type", 4)
    assert isinstance(kind, EnumType)
    values = kernel.enumerators(kind)
    assert values["PIDTYPE_PID"] == 0
    assert values["PIDTYPE_TGID"] == 1
    assert kernel.enumerator("PIDTYPE_TGID") == (EnumType("pid_type", 8), 1)
    assert kernel.enumerator("BPF_FUNC_map_lookup_elem") == (EnumType("bpf_func_id", 8), 1)
    assert kernel.enumerator("NO_SUCH_ENUMERATOR") is None


@needs_btf
@tag("probe.fentry.args")
def test_prototypes(kernel: KernelTypes) -> None:
    found = kernel.prototype("vfs_read")
    assert found is not None
    assert [p.text for p in found.parameters] == [
        "struct file * file",
        "char * buf",
        "size_t count",
        "loff_t * pos",
    ]
    assert [p.offset for p in found.parameters] == [0, 8, 16, 24]
    assert (found.result, found.result_text, found.module, found.slots) == (INT64, "ssize_t", "vmlinux", 4)
    assert kernel.prototype("vfs_read", "vmlinux") == found
    assert kernel.prototype("vfs_read", "no_such_module") is None
    assert kernel.prototype("no_such_function") is None


@needs_btf
@tag("probe.rawtracepoint")
def test_raw_tracepoints(kernel: KernelTypes) -> None:
    found = kernel.raw_tracepoint("sched_switch")
    assert found is not None
    task = kernel.find_type("task_struct", "struct")
    assert [p.name for p in found.parameters][:3] == ["preempt", "prev", "next"]
    assert found.parameters[1].type == Pointer(task, Space.KERNEL)  # type: ignore[arg-type]
    assert found.parameters[1].text == "struct task_struct * prev"
    assert kernel.raw_tracepoint("no_such_tracepoint") is None
    assert ("vmlinux", "sched_switch") in set(kernel.raw_tracepoints())


@needs_btf
def test_lists_agree_with_bpftool(kernel: KernelTypes) -> None:
    """The kernel's own tool counts the functions."""
    try:
        command = ["bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "raw"]
        dump = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("bpftool does not run")
    expected = {line.split("'")[1] for line in dump.splitlines() if "] FUNC '" in line}
    found = [name for module, name in kernel.functions() if module == "vmlinux"]
    assert found == sorted(expected)


def test_a_bad_file_is_a_warning_and_no_btf(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(b"not BTF")
    types = KernelTypes(str(path))
    assert types.find_type("task_struct", "struct") is None
    assert types.members(Struct("task_struct", 10)) == ()
    assert types.warnings == [f"BTF: failed to parse BTF from {path}"]


@needs_btf
def test_a_file_given_instead_of_the_kernels(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    path.write_bytes(Path("/sys/kernel/btf/vmlinux").read_bytes())
    types = KernelTypes(str(path))
    assert types.find_type("task_struct", "struct") == KernelTypes().find_type("task_struct", "struct")
    assert types.warnings == []


def test_signs_and_widths_of_base_types() -> None:
    types = KernelTypes("/nonexistent")
    assert types.find_type("short int") == Int(2, True)
    assert types.find_type("unsigned char") == UINT8
    assert types.find_type("__int128") == Array(UINT64, 2)


def write_btf(path: Path, types: list[tuple[str, int, int, int, bytes]]) -> KernelTypes:
    """A BTF file with these types: name, kind, number of members, size or type, what follows."""
    names, records = b"\0", b""
    for name, kind, count, value, rest in types:
        offset = len(names) if name else 0
        names += name.encode() + b"\0" if name else b""
        records += struct.pack("<III", offset, kind << 24 | count, value) + rest
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(records), len(records), len(names))
    path.write_bytes(header + records + names)
    return KernelTypes(str(path))


@tag("type.pointer.tag")
def test_tags_of_pointers(tmp_path: Path) -> None:
    members = b"".join(struct.pack("<III", 0, pointer, 64 * n) for n, pointer in enumerate((3, 5, 7, 8)))
    kernel = write_btf(
        tmp_path / "btf",
        [
            ("char", Kind.INT, 0, 1, struct.pack("<I", 8)),
            ("percpu", Kind.TYPE_TAG, 0, 1, b""),
            ("", Kind.PTR, 0, 2, b""),
            ("rcu", Kind.TYPE_TAG, 0, 1, b""),
            ("", Kind.PTR, 0, 4, b""),
            ("user", Kind.TYPE_TAG, 0, 1, b""),
            ("", Kind.PTR, 0, 6, b""),
            ("", Kind.PTR, 0, 1, b""),
            ("mount", Kind.STRUCT, 4, 32, members),
        ],
    )
    mount = kernel.find_type("mount", "struct")
    assert isinstance(mount, Struct)
    found = [(m.tag, m.type.space) for m in kernel.members(mount) if isinstance(m.type, Pointer)]
    assert found == [("percpu", Space.KERNEL), ("", Space.KERNEL), ("", Space.USER), ("", Space.KERNEL)]
