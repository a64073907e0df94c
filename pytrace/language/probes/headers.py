"""Reading the headers of a packet: where each starts is found once per program, and only if something needs it.

Formats: IEEE 802.3 and 802.1Q, RFC 791 (IPv4), RFC 8200 and 4302 (IPv6), RFC 9293 (TCP), RFC 768 (UDP).
"""

from __future__ import annotations

from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.hints import Protocol
from pytrace.grammar.types import UINT8, UINT16, UINT32, UINT64, Member, Opaque, Type
from pytrace.language.values.addresses import ADDRESS_OFFSET, AF_INET, AF_INET6

# include/uapi/linux/if_ether.h
ETH_P_IP, ETH_P_IPV6, ETH_P_8021Q, ETH_P_8021AD = 0x0800, 0x86DD, 0x8100, 0x88A8
TAGS = 2  # VLAN tags that are passed over: one, or two of them (802.1ad)

IPPROTO_TCP = 6
WITH_PORTS = (IPPROTO_TCP, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite: all start with the two ports

# IPv6 extension headers that lead on: hop-by-hop, routing, fragment, authentication, destination options
EXTENSIONS = (0, 43, 44, 51, 60)
FRAGMENT, AUTHENTICATION = 44, 51
MOST_EXTENSIONS = 8

INET = Opaque("inet", 24)

# the offsets only tell them apart
FIELDS: tuple[tuple[str, Type, str], ...] = (
    ("len", UINT32, "u32 len"),
    ("ifindex", UINT32, "u32 ifindex"),
    ("eth_proto", UINT16, "u16 eth_proto"),
    ("saddr", INET, "inet saddr"),
    ("daddr", INET, "inet daddr"),
    ("protocol", UINT8, "u8 protocol"),
    ("sport", UINT16, "u16 sport"),
    ("dport", UINT16, "u16 dport"),
    ("tcp_flags", UINT8, "u8 tcp_flags"),
)
MEMBERS = tuple(Member(name, kind, 8 * n, text=text) for n, (name, kind, text) in enumerate(FIELDS))


class Packet(Protocol):
    """How programs of one kind get at their packet."""

    def length(self, emit: Emit) -> Value:
        """Bytes of the frame."""
        ...

    def interface(self, emit: Emit) -> Value:
        """The number of the interface."""
        ...

    def first(self, emit: Emit) -> tuple[Value, int]:
        """The EtherType of the frame, in host order, and the offset of what follows it."""
        ...

    def load(self, emit: Emit, to: Slot, offset: Value, size: int) -> Value:
        """Copy bytes of the packet into memory that is zero; whether the packet has that many."""
        ...


def read(packet: Packet, emit: Emit, name: str) -> Value:
    """`args.NAME`; zero where the packet has no such field."""
    match name:
        case "len":
            return packet.length(emit)
        case "ifindex":
            return packet.interface(emit)
        case "eth_proto":
            return emit.convert(network(packet, emit), UINT16)
        case "protocol":
            return emit.convert(transport(packet, emit), UINT8)
        case "saddr":
            return address(packet, emit, 12, 8)
        case "daddr":
            return address(packet, emit, 16, 24)
        case "sport":
            return emit.convert(emit.arith(">>", ports(packet, emit), emit.integer(16)), UINT16)
        case "dport":
            return emit.convert(ports(packet, emit), UINT16)
        case "tcp_flags":
            return tcp_flags(packet, emit)
        case _:
            raise AssertionError(f"no such field: {name}")


# ---------------------------------------------------------------- where headers start


def network(packet: Packet, emit: Emit) -> Value:
    """The EtherType behind VLAN tags in the low 16 bits, above it the offset of the header it announces."""
    return emit.once("network", lambda: _network(packet, emit))


def _network(packet: Packet, emit: Emit) -> Value:
    kind, start = emit.scratch(8), emit.scratch(8)
    first, offset = packet.first(emit)
    emit.store(kind, 0, emit.convert(first, UINT64))
    emit.store(start, 0, emit.integer(offset))

    def pass_tag() -> None:
        # a tag: two bytes of priority and number, then the EtherType of what follows
        inner, at = emit.scratch(8), emit.load(start, 0, UINT64)
        packet.load(emit, emit.part(inner, 0, 2), plus(emit, at, 2), 2)
        emit.store(kind, 0, emit.convert(big_endian(emit, inner, 0, 2), UINT64))
        emit.store(start, 0, plus(emit, at, 4))

    for _ in range(TAGS):
        now = emit.load(kind, 0, UINT64)
        emit.when(either(emit, now, (ETH_P_8021Q, ETH_P_8021AD)), pass_tag)
    return pack(emit, emit.load(kind, 0, UINT64), emit.load(start, 0, UINT64), 16)


def transport(packet: Packet, emit: Emit) -> Value:
    """The protocol that IP carries in the low 8 bits; above it the offset of its header, 0 if the packet does
    not have that (it is a later fragment, or cut short)."""
    return emit.once("transport", lambda: _transport(packet, emit))


def _transport(packet: Packet, emit: Emit) -> Value:
    kind, start = emit.scratch(8), emit.scratch(8)
    ethertype, offset = unpack(emit, network(packet, emit), 16)
    emit.when(
        equal(emit, ethertype, ETH_P_IP),
        lambda: _ipv4(packet, emit, offset, kind, start),
        lambda: emit.when(
            equal(emit, ethertype, ETH_P_IPV6),
            lambda: _ipv6(packet, emit, offset, kind, start),
        ),
    )
    return pack(emit, emit.load(kind, 0, UINT64), emit.load(start, 0, UINT64), 8)


def _ipv4(packet: Packet, emit: Emit, offset: Value, kind: Slot, start: Slot) -> None:
    header = emit.scratch(24)
    found = packet.load(emit, emit.part(header, 0, 20), offset, 20)
    first = emit.load(header, 0, UINT8)  # version, and the header's length in words of 4 bytes
    length = emit.arith("<<", emit.arith("&", first, emit.integer(15)), emit.integer(2))
    version = equal(emit, emit.arith(">>", first, emit.integer(4)), 4)
    good = emit.arith("&", emit.arith("&", found, version), emit.compare(">=", length, emit.integer(20)))
    part = emit.arith("&", big_endian(emit, header, 6, 2), emit.integer(0x1FFF))  # which fragment

    def take() -> None:
        emit.store(kind, 0, emit.convert(emit.load(header, 9, UINT8), UINT64))
        behind = emit.arith("+", offset, length)
        emit.store(start, 0, emit.select(equal(emit, part, 0), behind, emit.integer(0)))

    emit.when(good, take)


def _ipv6(packet: Packet, emit: Emit, offset: Value, kind: Slot, start: Slot) -> None:
    header = emit.scratch(8)
    found = packet.load(emit, header, offset, 8)
    version = equal(emit, emit.arith(">>", emit.load(header, 0, UINT8), emit.integer(4)), 6)

    def take() -> None:
        emit.store(kind, 0, emit.convert(emit.load(header, 6, UINT8), UINT64))
        emit.store(start, 0, plus(emit, offset, 40))
        emit.repeat(MOST_EXTENSIONS, lambda _: _extension(packet, emit, kind, start))
        last = emit.load(kind, 0, UINT64)
        emit.when(leads_on(emit, last), lambda: emit.store(start, 0, emit.integer(0)))

    emit.when(emit.arith("&", found, version), take)


def _extension(packet: Packet, emit: Emit, kind: Slot, start: Slot) -> Value:
    """Pass over one extension header; true when there is none (any more)."""
    done, header = emit.scratch(8), emit.scratch(8)
    now, at = emit.load(kind, 0, UINT64), emit.load(start, 0, UINT64)
    emit.store(done, 0, emit.integer(1))

    def step() -> None:
        found = packet.load(emit, emit.part(header, 0, 4), at, 4)
        units = emit.load(header, 1, UINT8)
        size = emit.select(
            equal(emit, now, AUTHENTICATION),
            emit.arith("<<", plus(emit, units, 2), emit.integer(2)),
            emit.arith("<<", plus(emit, units, 1), emit.integer(3)),
        )
        fragment = equal(emit, now, FRAGMENT)  # always 8 bytes
        size = emit.select(fragment, emit.integer(8), size)
        part = emit.arith("&", big_endian(emit, header, 2, 2), emit.integer(0xFFF8))
        later = emit.arith("&", fragment, emit.truth(part))

        def take() -> None:
            emit.store(kind, 0, emit.convert(emit.load(header, 0, UINT8), UINT64))
            emit.store(start, 0, emit.select(emit.truth(later), emit.integer(0), emit.arith("+", at, size)))
            emit.store(done, 0, emit.convert(later, UINT64))

        emit.when(found, take, lambda: emit.store(start, 0, emit.integer(0)))

    emit.when(leads_on(emit, now), step)
    return emit.load(done, 0, UINT64)


def leads_on(emit: Emit, kind: Value) -> Value:
    """Whether an IPv6 "next header" is an extension that announces another."""
    known = sum(1 << number for number in EXTENSIONS)
    bit = emit.arith(
        "&", emit.arith(">>", emit.integer(known), emit.arith("&", kind, emit.integer(63))), emit.integer(1)
    )
    return emit.arith("&", bit, emit.compare("<", kind, emit.integer(64)))


# ---------------------------------------------------------------- fields


def address(packet: Packet, emit: Emit, in_ipv4: int, in_ipv6: int) -> Value:
    """An address by its place in each kind of header: {u64 address family; u8 address[16]}."""
    slot = emit.scratch(INET.size)
    ethertype, offset = unpack(emit, network(packet, emit), 16)

    def take(family: int, place: int, size: int) -> None:
        found = packet.load(emit, emit.part(slot, ADDRESS_OFFSET, size), plus(emit, offset, place), size)
        emit.store(slot, 0, emit.select(found, emit.integer(family), emit.integer(0)))

    emit.when(
        equal(emit, ethertype, ETH_P_IP),
        lambda: take(AF_INET, in_ipv4, 4),
        lambda: emit.when(equal(emit, ethertype, ETH_P_IPV6), lambda: take(AF_INET6, in_ipv6, 16)),
    )
    return emit.at(slot, INET)


def ports(packet: Packet, emit: Emit) -> Value:
    """Both ports, the source in the high 16 of 32 bits."""
    return emit.once("ports", lambda: _ports(packet, emit))


def _ports(packet: Packet, emit: Emit) -> Value:
    slot = emit.scratch(8)
    protocol, offset = unpack(emit, transport(packet, emit), 8)
    there = emit.arith("&", either(emit, protocol, WITH_PORTS), emit.truth(offset))
    emit.when(there, lambda: _load(packet, emit, emit.part(slot, 0, 4), offset))
    return big_endian(emit, slot, 0, 4)


def tcp_flags(packet: Packet, emit: Emit) -> Value:
    """The eight flags of TCP, from FIN in the lowest bit to CWR."""
    slot = emit.scratch(8)
    protocol, offset = unpack(emit, transport(packet, emit), 8)
    there = emit.arith("&", equal(emit, protocol, IPPROTO_TCP), emit.truth(offset))
    emit.when(there, lambda: _load(packet, emit, emit.part(slot, 0, 1), plus(emit, offset, 13)))
    return emit.load(slot, 0, UINT8)


def _load(packet: Packet, emit: Emit, to: Slot, offset: Value) -> None:
    packet.load(emit, to, offset, to.size)


# ---------------------------------------------------------------- arithmetic


def plus(emit: Emit, value: Value, number: int) -> Value:
    """value + number"""
    return emit.arith("+", value, emit.integer(number))


def equal(emit: Emit, value: Value, number: int) -> Value:
    """value == number"""
    return emit.compare("==", value, emit.integer(number))


def either(emit: Emit, value: Value, numbers: tuple[int, ...]) -> Value:
    """Whether a value is one of several numbers."""
    found = equal(emit, value, numbers[0])
    for number in numbers[1:]:
        found = emit.arith("|", found, equal(emit, value, number))
    return emit.truth(found)


def big_endian(emit: Emit, slot: Slot, offset: int, size: int) -> Value:
    """A number in network order."""
    return emit.swap_bytes(emit.load(slot, offset, {2: UINT16, 4: UINT32}[size]), size)


def pack(emit: Emit, low: Value, high: Value, bits: int) -> Value:
    """Two numbers in one, of which the lower has so many bits."""
    return emit.convert(emit.arith("|", low, emit.arith("<<", high, emit.integer(bits))), UINT64)


def unpack(emit: Emit, both: Value, bits: int) -> tuple[Value, Value]:
    """The lower and the higher of two packed numbers."""
    low = emit.arith("&", both, emit.integer((1 << bits) - 1))
    return low, emit.arith(">>", both, emit.integer(bits))
