"""Packets for tests: frames from their headers up, and an `Emit` whose program sees one of them."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Any

from pytrace.grammar.emit import Slot, Value
from pytrace.grammar.types import UINT64, Int, Type, size_of
from tests.language.pyemit import PythonEmit

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
IPV4, IPV6, ARP, VLAN, QINQ = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8
MACS = bytes.fromhex("02000000000a02000000000b")


def frame(ethertype: int, payload: bytes, *tags: int) -> bytes:
    """An Ethernet frame; `tags` are the EtherTypes of VLAN tags, outermost first."""
    kinds = [*tags, ethertype]
    inner = b"".join(struct.pack(">HH", 42, kind) for kind in kinds[1:])
    return MACS + struct.pack(">H", kinds[0]) + inner + payload


def ipv4(
    protocol: int, payload: bytes, source: str = "10.9.0.1", to: str = "10.9.0.2", options: bytes = b"", part: int = 0
) -> bytes:
    """A packet with a right checksum; `part` is the fragment's offset in units of 8 bytes."""
    words = 5 + len(options) // 4
    ends = socket.inet_aton(source) + socket.inet_aton(to)
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, 4 * words + len(payload), 7, part, 64, protocol, 0)
    total = checksum(head + ends + options)
    return head[:10] + struct.pack(">H", total) + ends + options + payload


def ipv6(following: int, payload: bytes, source: str = "fd09::1", to: str = "fd09::2") -> bytes:
    """A packet; extension headers are part of the payload."""
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, to)
    return struct.pack(">IHBB", 6 << 28, len(payload), following, 64) + ends + payload


def udp(source: int, to: int, data: bytes = b"", checksum: int = 0) -> bytes:
    """A datagram; checksum 0 means none, which IPv4 allows."""
    return struct.pack(">HHHH", source, to, 8 + len(data), checksum) + data


def tcp(source: int, to: int, flags: int) -> bytes:
    """A segment without data."""
    return struct.pack(">HHIIBBHHH", source, to, 1, 0, 0x50, flags, 1000, 0, 0)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(int(word) for word in struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass
class PacketEmit(PythonEmit):
    """A program that sees a frame: at its start as XDP does, or as traffic control with a note of its type."""

    data: bytes
    index: int = 3
    loads: int = 0

    def once(self, name: str, make: Any) -> Value:
        made: Value = make()
        return made

    def context(self) -> Value:
        return self.integer(0)

    def context_word(self, offset: int, type: Type = UINT64) -> Value:
        kind = socket.htons(struct.unpack_from(">H", self.data.ljust(14, b"\0"), 12)[0])
        xdp = {12: self.index}
        tc = {0: len(self.data), 16: kind, 40: self.index}
        return Value(type, {**xdp, **tc}[offset])

    def helper(self, name: str, *arguments: Value | Slot, type: Type = UINT64) -> Value:
        if name == "xdp_get_buff_len":
            return Value(type, len(self.data))
        _, offset, to, size, *more = arguments
        assert isinstance(to, Slot)
        assert isinstance(offset, Value)
        assert isinstance(size, Value)
        if name == "skb_load_bytes_relative":
            assert [value.raw for value in more] == [1]  # BPF_HDR_START_NET
            start = offset.raw + 14
        else:
            assert name == "xdp_load_bytes"
            start = offset.raw
        self.loads += 1
        found = self.data[start : start + size.raw]
        if len(found) < size.raw:
            return self.integer(-14, Int(8, True))
        self.copy(to, Slot(self.text(found).raw, len(found)), size.raw)
        return self.integer(0)


def bytes_of(emit: PythonEmit, value: Value) -> bytes:
    """The bytes of a value that is not a scalar."""
    slot = emit.slot(value)
    return bytes(slot.raw.data[slot.raw.start : slot.raw.start + size_of(value.type)])
