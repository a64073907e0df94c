"""Probes on the packets of network interfaces: `xdp` and `tc`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pytrace.grammar.attaching import Attach, TcAttach, XdpAttach
from pytrace.grammar.attachpoint import matcher
from pytrace.grammar.diagnostics import did_you_mean
from pytrace.grammar.emit import Emit, Slot, Value
from pytrace.grammar.hints import ClassVar
from pytrace.grammar.host import Host, Interface
from pytrace.grammar.spec import Target, feature
from pytrace.grammar.types import UINT32, Member, Space
from pytrace.language.probes import headers
from pytrace.language.probes.common import Place, Probe, is_wildcard

INGRESS, EGRESS = "ingress", "egress"
DIRECTIONS = (INGRESS, EGRESS)
BPF_HDR_START_NET = 1  # include/uapi/linux/bpf.h


class _Packet(Probe):
    """Base of both. What `args` has is read from the packet where the block uses it."""

    groupable = True
    repeats = False  # bpf_mprog_attach() in kernel/bpf/mprog.c
    same_arguments = True
    wild = "kernel"
    lacks: ClassVar[Mapping[str, str]] = {
        "task": "a packet is handled in the context of whatever process runs",
        "stack": "a packet is handled in the context of whatever process runs",
    }
    fixed_result = "every packet goes on unchanged"
    section: ClassVar[str]

    def find(self, place: Place, pattern: str) -> Sequence[Interface]:
        """The interfaces that a part of an attach point means; reports it if there are none."""
        known = place.host.interfaces(place.context.pid)
        match = matcher(pattern) if is_wildcard(pattern) else pattern.__eq__
        found = [interface for interface in known if match(interface.name)]
        if not found and is_wildcard(pattern):
            place.vanished(":".join(place.parts))
        elif not found:
            names = [interface.name for interface in known]
            hints = did_you_mean(pattern, names) or (f"The interfaces are: {', '.join(names)}.",)
            place.missing(":".join(place.parts), hints)
        return found

    def target(self, attach: Attach) -> Target:
        """The target for one place."""
        return Target(self, attach.name, attach, self.section, Space.KERNEL, arguments=headers.MEMBERS)

    def member(self, emit: Emit, target: Target, member: Member) -> Value:
        return headers.read(self, emit, member.name)

    def describe(self, found: str, host: Host) -> Iterator[str]:
        return (member.text for member in headers.MEMBERS)

    # ---- see `headers.Packet`

    def length(self, emit: Emit) -> Value:
        """Bytes of the frame."""
        raise NotImplementedError(self.name)

    def interface(self, emit: Emit) -> Value:
        """The number of the interface."""
        raise NotImplementedError(self.name)

    def first(self, emit: Emit) -> tuple[Value, int]:
        """The EtherType, and the offset of what follows it."""
        raise NotImplementedError(self.name)

    def load(self, emit: Emit, to: Slot, offset: Value, size: int) -> Value:
        """Copy bytes of the packet; whether it has that many."""
        raise NotImplementedError(self.name)


@feature
class Xdp(_Packet):
    """Every frame that a network interface receives, before the kernel's network stack sees it:
    `xdp:INTERFACE`, with `*` in it. All frames pass on unchanged.

    `args` has `len` (bytes of the frame), `ifindex`, `eth_proto` (0x0800 is IPv4; behind VLAN tags), and of
    IPv4 and IPv6 `saddr`, `daddr`, `protocol` (6 is TCP, 17 UDP, 1 ICMP, 58 ICMPv6), `sport`, `dport` and
    `tcp_flags`. What a packet does not have is 0, its addresses print as `-`. Options and up to 8 extension
    headers are passed over; a fragment that is not the first has no ports.

    An interface has room for one xdp program. Where its driver does not run XDP the kernel does (generic mode),
    which is slower; `-v` says which it is. Some drivers restart the interface for it. With `-p` the interfaces
    are those of the process's network namespace; `-p` and `-c` do not choose among packets.

    bt> xdp:lo { @[args.saddr, args.protocol] = count(); }
    bt> xdp:lo /args.saddr == ntop(pton("127.0.0.1")) && args.dport == 53/ { @ = sum(args.len); }

    BPF_LINK_CREATE (Linux 5.9), bpf_xdp_load_bytes (5.18); struct xdp_md in include/uapi/linux/bpf.h.
    """

    name = "xdp"
    return_code = 2  # XDP_PASS
    context_type = "xdp_md"
    section = "xdp.frags"  # packets that do not fit in one page are allowed, too

    def expand(self, place: Place) -> Iterator[Target]:
        if not place.host.has("xdp_load_bytes"):
            hints = (f"tc:{place.parts[0]}:{INGRESS} sees the same packets a little later.",)
            place.lacking("rt.feature.missing", "This kernel lacks bpf_xdp_load_bytes (Linux 5.18).", hints)
            return
        for interface in self.find(place, place.parts[0]):
            if interface.ethernet:
                name = f"{self.name}:{interface.name}"
                yield self.target(XdpAttach(name, interface.name, interface.index))
            elif is_wildcard(place.parts[0]):
                place.warning("err.ap.nomatch", f"{interface.name} has no Ethernet header. Skipping.")
            else:
                hints = (f"Use tc:{interface.name}:{INGRESS}.",)
                place.lacking("err.ap.nomatch", f"{interface.name} has no Ethernet header.", hints)

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        match = matcher(pattern)
        return (i.name for i in host.interfaces(pid) if i.ethernet and match(i.name))

    def length(self, emit: Emit) -> Value:
        return emit.helper("xdp_get_buff_len", emit.context(), type=UINT32)

    def interface(self, emit: Emit) -> Value:
        return emit.context_word(12, UINT32)  # ingress_ifindex

    def first(self, emit: Emit) -> tuple[Value, int]:
        slot = emit.scratch(8)
        self.load(emit, emit.part(slot, 0, 2), emit.integer(12), 2)
        return headers.big_endian(emit, slot, 0, 2), 14

    def load(self, emit: Emit, to: Slot, offset: Value, size: int) -> Value:
        code = emit.helper("xdp_load_bytes", emit.context(), offset, to, emit.integer(size))
        return headers.equal(emit, code, 0)


@feature
class Tc(_Packet):
    """Every packet that a network interface takes in or sends, where traffic control sees it:
    `tc:INTERFACE:ingress` or `tc:INTERFACE:egress`, with `*` in both parts. All packets go on unchanged, also
    to other programs.

    `args` is that of `xdp`; `len` includes the link-layer header, and may be more than the device's MTU where
    the kernel has joined packets or will have them cut. On an interface with an XDP program in generic mode `len`
    of ingress lacks the 14 bytes of that header (seen on Linux 6.18).

    With `-p` the interfaces are those of the process's network namespace; `-p` and `-c` do not choose among
    packets. Kernels before 6.6 have no links for this: a filter stands in, which stays if pytrace is
    killed; the next run that uses tc removes it, and so does `pytrace cleanup`.

    bt> tc:lo:egress /args.protocol == 6/ { @[args.dport] = sum(args.len); }

    TCX (Linux 6.6), or tc-bpf(8); struct __sk_buff in include/uapi/linux/bpf.h.
    """

    name = "tc"
    arity = (2, 2)
    reverse = True  # each goes before all that are there already
    return_code = -1  # TC_ACT_UNSPEC, TCX_NEXT
    context_type = "__sk_buff"
    section = "tc"

    def expand(self, place: Place) -> Iterator[Target]:
        pattern, wanted = place.parts
        match = matcher(wanted) if is_wildcard(wanted) else wanted.__eq__
        directions = [direction for direction in DIRECTIONS if match(direction)]
        if not directions:
            place.error("err.ap.event", f"{self.name} probe: '{wanted}' is neither {INGRESS} nor {EGRESS}",
                        did_you_mean(wanted, DIRECTIONS))  # fmt: skip
            return
        for interface in self.find(place, pattern):
            for direction in directions:
                name = f"{self.name}:{interface.name}:{direction}"
                yield self.target(TcAttach(name, interface.name, interface.index, direction == EGRESS))

    def search(self, pattern: str, host: Host, pid: int | None) -> Iterator[str]:
        match = matcher(pattern)
        found = (f"{i.name}:{direction}" for i in host.interfaces(pid) for direction in DIRECTIONS)
        return (name for name in found if match(name))

    def length(self, emit: Emit) -> Value:
        return emit.context_word(0, UINT32)

    def interface(self, emit: Emit) -> Value:
        return emit.context_word(40, UINT32)  # ifindex

    def first(self, emit: Emit) -> tuple[Value, int]:
        # the kernel's own note of it: what interfaces without Ethernet send has no such header
        return emit.swap_bytes(emit.context_word(16, UINT32), 2), 0

    def load(self, emit: Emit, to: Slot, offset: Value, size: int) -> Value:
        start = emit.integer(BPF_HDR_START_NET)
        code = emit.helper("skb_load_bytes_relative", emit.context(), offset, to, emit.integer(size), start)
        return headers.equal(emit, code, 0)
