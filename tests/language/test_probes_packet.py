"""xdp and tc: attach points, and what `args` makes of packets of all shapes."""

from __future__ import annotations

import struct
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytrace.compilation import compile_text
from pytrace.grammar.attaching import TcAttach, XdpAttach
from pytrace.grammar.emit import Emit
from pytrace.grammar.host import Interface
from pytrace.grammar.spec import REGISTRY
from pytrace.grammar.types import Opaque
from pytrace.language.probes.headers import FIELDS
from tests.fakehost import FakeHost
from tests.language.checking import check
from tests.language.fakes import SERVICES
from tests.language.packets import (
    ARP,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    QINQ,
    TCP,
    UDP,
    VLAN,
    PacketEmit,
    bytes_of,
    frame,
    ipv4,
    ipv6,
    tcp,
    udp,
)
from tests.language.probe_world import World, expand

KINDS = ("xdp", "tc")

# ---------------------------------------------------------------- attach points


def test_one_interface() -> None:
    (target,) = expand("xdp:eth0").targets
    assert target.attach == XdpAttach("xdp:eth0", "eth0", 2)
    (target,) = expand("tc:lo:egress").targets
    assert target.attach == TcAttach("tc:lo:egress", "lo", 1, egress=True)
    (target,) = expand("tc:lo:ingress").targets
    assert target.attach == TcAttach("tc:lo:ingress", "lo", 1, egress=False)


def test_wildcards() -> None:
    assert expand("xdp:eth*").names == ["xdp:eth0", "xdp:eth1"]
    assert expand("tc:eth1:*").names == ["tc:eth1:ingress", "tc:eth1:egress"]
    assert expand("tc:*0:in*").names == ["tc:eth0:ingress", "tc:tun0:ingress"]
    nothing = expand("xdp:wlan*")
    assert (nothing.names, nothing.errors) == ([], [])
    assert nothing.warnings == ["err.ap.nomatch: No matches for xdp wlan*. Skipping."]


def test_interfaces_without_ethernet_are_not_for_xdp() -> None:
    alone = expand("xdp:tun0")
    assert alone.errors == ["err.ap.nomatch: tun0 has no Ethernet header."]
    assert alone.hints == ["Use tc:tun0:ingress."]
    among = expand("xdp:*")
    assert among.names == ["xdp:eth0", "xdp:eth1", "xdp:lo"]
    assert among.warnings == ["err.ap.nomatch: tun0 has no Ethernet header. Skipping."]


def test_mistakes_in_attach_points() -> None:
    missing = expand("xdp:lo0")
    assert missing.errors == ["err.ap.nomatch: No matches for xdp lo0."]
    assert missing.hints == ["Did you mean 'lo'?"]
    far = expand("tc:nothing_like_it:ingress")
    assert far.hints == ["The interfaces are: eth0, eth1, lo, tun0."]
    direction = expand("tc:lo:ingres")
    assert direction.errors == ["err.ap.event: tc probe: 'ingres' is neither ingress nor egress"]
    assert direction.hints == ["Did you mean 'ingress' or 'egress'?"]
    assert expand("tc:lo").errors == ["err.ap.arity: tc probe type requires 2 arguments, found 1"]
    old = expand("xdp:lo", World(features=set()))
    assert old.errors == ["rt.feature.missing: This kernel lacks bpf_xdp_load_bytes (Linux 5.18)."]


def test_listing() -> None:
    host = FakeHost(devices=(Interface("lo", 1), Interface("wg0", 2, ethernet=False)))
    assert list(REGISTRY.probes["xdp"].search("*", host, None)) == ["lo"]
    assert list(REGISTRY.probes["tc"].search("*:e*", host, None)) == ["lo:egress", "wg0:egress"]
    shown = [text for _, _, text in FIELDS]
    assert list(REGISTRY.probes["xdp"].describe("lo", host)) == shown
    assert list(REGISTRY.probes["tc"].describe("lo:egress", host)) == shown


def test_one_program_serves_all_interfaces() -> None:
    plan = compile_text("tc:*:* { @[args.protocol] = count(); }", host=FakeHost()).plan
    (program,) = plan.programs
    assert len(program.attach) == plan.probe_count == 8
    apart = compile_text("tc:*:* { @[probe] = count(); }", host=FakeHost()).plan
    assert len(apart.programs) == 8


# ---------------------------------------------------------------- what has no meaning there

TASK = "a packet is handled in the context of whatever process runs"


@pytest.mark.parametrize("kind", ["xdp:lo", "tc:lo:ingress"])
@pytest.mark.parametrize(
    "word",
    ["pid", "tid", "uid", "gid", "comm", "username", "curtask", "cgroup", "ppid", "pcomm", "kstack", "ustack(3)",
     "usym(1)"],
)  # fmt: skip
def test_who_is_running_means_nothing(kind: str, word: str) -> None:
    name = word.partition("(")[0]
    message = f"{name} can not be used in {kind.partition(':')[0]} probes: {TASK}"
    assert check(f"{kind} {{ @ = {word}; }}").errors == [message]


@pytest.mark.parametrize("word", ["arg0", "retval", "func", 'reg("ip")', "args.comm"])
def test_what_belongs_to_other_probes_is_refused(word: str) -> None:
    checked = check(f"xdp:lo {{ @ = {word}; }}")
    assert len(checked.errors) == 1


def test_the_result_is_not_the_program_s() -> None:
    message = "A block of tc can not return a value: every packet goes on unchanged"
    assert check("tc:lo:egress { return 2; }").errors == [message]
    assert check("tc:lo:egress { if (args.len > 100) { return; } @ = count(); }").errors == []


def test_what_works_everywhere_works_here() -> None:
    body = '@[cpu, rand] = hist(nsecs - elapsed); printf("%s %d", args.saddr, args.len); @b[strftime("%S", nsecs)] = 1;'
    assert check(f"xdp:lo, tc:lo:egress {{ {body} }}").errors == []


# ---------------------------------------------------------------- packets


def seen(kind: str, data: bytes) -> dict[str, Any]:
    """All fields of a packet, as a program of that kind reads them; addresses as they are shown."""
    (target,) = expand("xdp:lo" if kind == "xdp" else "tc:lo:ingress").targets
    found: dict[str, Any] = {}
    for member in target.arguments or ():
        emit = PacketEmit(data)
        value = target.type.member(cast("Emit", emit), target, member)
        assert value.type == member.type
        if isinstance(member.type, Opaque):
            kind_of = REGISTRY.kinds[member.type.feature]
            found[member.name] = kind_of.text(member.type, bytes_of(emit, value), SERVICES)
        else:
            found[member.name] = value.raw
    return found


def expect(data: bytes, eth_proto: int = IPV4, **fields: Any) -> dict[str, Any]:
    """What is read from a packet if it has these fields and no others."""
    nothing = {"saddr": "-", "daddr": "-", "protocol": 0, "sport": 0, "dport": 0, "tcp_flags": 0}
    return {"len": len(data), "ifindex": 3, "eth_proto": eth_proto, **nothing, **fields}


FOUR = {"saddr": "10.9.0.1", "daddr": "10.9.0.2"}
SIX = {"saddr": "fd09::1", "daddr": "fd09::2"}
PORTS = {"sport": 1000, "dport": 53}
DATAGRAM = udp(1000, 53, b"data")


def extension(following: int, length: int = 0) -> bytes:
    """An extension header of 8 + 8 × length bytes."""
    return bytes((following, length)) + bytes(6 + 8 * length)


def fragment(following: int, part: int) -> bytes:
    """A fragment header; `part` in units of 8 bytes."""
    return struct.pack(">BBHI", following, 0, part << 3 | 1, 99)


PACKETS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "udp": (frame(IPV4, ipv4(UDP, DATAGRAM)), {"protocol": UDP, **FOUR, **PORTS}),
    "tcp": (frame(IPV4, ipv4(TCP, tcp(1000, 53, 0x12))), {"protocol": TCP, "tcp_flags": 0x12, **FOUR, **PORTS}),
    "all flags": (frame(IPV4, ipv4(TCP, tcp(1, 2, 0xFF))), {"protocol": TCP, "tcp_flags": 0xFF, "sport": 1, "dport": 2,
                                                           **FOUR}),
    "icmp": (frame(IPV4, ipv4(ICMP, bytes((8, 0, 1, 2, 3, 4, 5, 6)))), {"protocol": ICMP, **FOUR}),
    "sctp": (frame(IPV4, ipv4(132, DATAGRAM)), {"protocol": 132, **FOUR, **PORTS}),
    "options": (frame(IPV4, ipv4(UDP, DATAGRAM, options=b"\x01" * 12)), {"protocol": UDP, **FOUR, **PORTS}),
    "first fragment": (frame(IPV4, ipv4(UDP, DATAGRAM, part=0x2000)), {"protocol": UDP, **FOUR, **PORTS}),
    "later fragment": (frame(IPV4, ipv4(UDP, DATAGRAM, part=5)), {"protocol": UDP, **FOUR}),
    "vlan": (frame(IPV4, ipv4(UDP, DATAGRAM), VLAN), {"protocol": UDP, **FOUR, **PORTS}),
    "two tags": (frame(IPV6, ipv6(UDP, DATAGRAM), QINQ, VLAN), {"eth_proto": IPV6, "protocol": UDP, **SIX, **PORTS}),
    "three tags": (frame(IPV4, ipv4(UDP, DATAGRAM), QINQ, VLAN, VLAN), {"eth_proto": VLAN}),
    "udp6": (frame(IPV6, ipv6(UDP, DATAGRAM)), {"eth_proto": IPV6, "protocol": UDP, **SIX, **PORTS}),
    "icmp6": (frame(IPV6, ipv6(ICMPV6, bytes(8))), {"eth_proto": IPV6, "protocol": ICMPV6, **SIX}),
    "tcp6": (frame(IPV6, ipv6(TCP, tcp(1000, 53, 2))), {"eth_proto": IPV6, "protocol": TCP, "tcp_flags": 2, **SIX,
                                                       **PORTS}),
    "extensions": (
        frame(IPV6, ipv6(0, extension(43) + extension(60, 2) + extension(UDP, 1) + DATAGRAM)),
        {"eth_proto": IPV6, "protocol": UDP, **SIX, **PORTS},
    ),
    "authentication": (  # its length is in units of 4 bytes, less 2
        frame(IPV6, ipv6(51, bytes((UDP, 4)) + bytes(22) + DATAGRAM)),
        {"eth_proto": IPV6, "protocol": UDP, **SIX, **PORTS},
    ),
    "first fragment6": (frame(IPV6, ipv6(44, fragment(UDP, 0) + DATAGRAM)), {"eth_proto": IPV6, "protocol": UDP, **SIX,
                                                                            **PORTS}),
    "later fragment6": (frame(IPV6, ipv6(44, fragment(UDP, 9) + DATAGRAM)), {"eth_proto": IPV6, "protocol": UDP,
                                                                            **SIX}),
    "eight extensions": (frame(IPV6, ipv6(60, extension(60) * 7 + extension(UDP) + DATAGRAM)),
                         {"eth_proto": IPV6, "protocol": UDP, **SIX, **PORTS}),
    "nine extensions": (frame(IPV6, ipv6(60, extension(60) * 8 + extension(UDP) + DATAGRAM)),
                        {"eth_proto": IPV6, "protocol": 60, **SIX}),
    "cut in an extension": (frame(IPV6, ipv6(60, b"\x11")), {"eth_proto": IPV6, "protocol": 60, **SIX}),
    "cut before the ports": (frame(IPV4, ipv4(UDP, b"\0\1\2")), {"protocol": UDP, **FOUR}),
    "cut before the flags": (frame(IPV4, ipv4(TCP, tcp(1000, 53, 2)[:13])), {"protocol": TCP, **FOUR, **PORTS}),
    "cut in the IP header": (frame(IPV4, ipv4(UDP, b"")[:15]), {}),
    "cut between the addresses": (frame(IPV4, ipv4(UDP, b"")[:16]), {"saddr": "10.9.0.1"}),
    "arp": (frame(ARP, bytes(28)), {"eth_proto": ARP}),
    "a wrong version": (frame(IPV4, b"\x65" + ipv4(UDP, DATAGRAM)[1:]), {**FOUR}),
    "a header too short": (frame(IPV4, b"\x44" + ipv4(UDP, DATAGRAM)[1:]), {**FOUR}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PACKETS)
def test_fields_of_a_packet(kind: str, name: str) -> None:
    data, fields = PACKETS[name]
    assert seen(kind, data) == expect(data, **fields)


@given(st.sampled_from(KINDS), st.sampled_from([IPV4, IPV6, VLAN]), st.binary(max_size=120))
def test_any_bytes_can_be_read(kind: str, ethertype: int, payload: bytes) -> None:
    data = frame(ethertype, payload)
    found = seen(kind, data)
    assert found["len"] == len(data)
    if len(payload) < 8:  # no IP header that could be read
        assert (found["protocol"], found["sport"], found["tcp_flags"]) == (0, 0, 0)


@given(st.sampled_from(KINDS), st.sampled_from(sorted(PACKETS)), st.integers(0, 80))
def test_a_packet_that_is_cut_short_shows_nothing_that_it_does_not_have(kind: str, name: str, cut: int) -> None:
    data = PACKETS[name][0]
    whole, short = seen(kind, data), seen(kind, data[: max(14, cut)])
    for field in ("saddr", "daddr", "sport", "dport", "tcp_flags"):
        assert short[field] in (whole[field], 0, "-")


def test_only_what_is_used_is_read() -> None:
    (target,) = expand("xdp:lo").targets
    loads = {}
    for member in target.arguments or ():
        emit = PacketEmit(PACKETS["tcp"][0])
        target.type.member(cast("Emit", emit), target, member)
        loads[member.name] = emit.loads
    assert loads["len"] == loads["ifindex"] == 0
    assert loads["eth_proto"] == 1 < loads["saddr"] == loads["protocol"] == 2 < loads["sport"] == 3


def test_addresses_are_compared() -> None:
    assert check('xdp:lo /args.saddr == ntop(pton("::1")) || args.saddr != args.daddr/ { @ = count(); }').errors == []
    mixed = check('xdp:lo /args.saddr == pton("::1")/ { @ = count(); }')
    assert mixed.errors[0] == "Type mismatch for '==': comparing inet with uint8[16]"
    assert check("xdp:lo /args.saddr < args.daddr/ { @ = count(); }").errors


# ---------------------------------------------------------------- names of interfaces


def test_names_of_interfaces() -> None:
    kind = Opaque("ifname_t", 4, 4)
    feature = REGISTRY.kinds["ifname_t"]
    assert feature.text(kind, struct.pack("<I", 1), SERVICES) == "lo"
    assert feature.text(kind, struct.pack("<I", 77), SERVICES) == "77"
    assert feature.json(kind, struct.pack("<I", 2), SERVICES) == "eth0"
    assert check('begin { @[ifname(1)] = count(); printf("%s", ifname(2)); print(ifname(3)); }').errors == []
    assert check('begin { print(ifname("lo")); }').errors == ["ifname() only supports int arguments (string provided)"]
