"""Network addresses."""

from __future__ import annotations

from pytrace.grammar.hints import ClassVar
from pytrace.grammar.spec import Services, ValueKind, feature
from pytrace.grammar.types import Opaque

AF_UNSPEC, AF_INET, AF_INET6 = 0, 2, 10  # include/linux/socket.h
ADDRESS_BYTES = {AF_INET: 4, AF_INET6: 16}
ADDRESS_OFFSET = 8  # of the address in an inet value, behind the u64 address family


@feature
class Inet(ValueKind):
    """An IPv4 or IPv6 address, the result of `ntop()`: {u64 address family; u8 address[16]}. Family 0 is no
    address and prints as `-`.

    bt> begin { print(ntop(0x0100007f)); }
    """

    name = "inet"
    size: ClassVar[int] = 24

    def text(self, kind: Opaque, data: bytes, services: Services) -> str:
        family = int.from_bytes(data[:8], "little")
        if family == AF_UNSPEC:
            return "-"
        if family not in ADDRESS_BYTES:
            return f"unknown address family {family}"
        import socket  # only now: it costs 4 ms of every start

        return socket.inet_ntop(family, data[8 : 8 + ADDRESS_BYTES[family]])


@feature
class MacAddress(ValueKind):
    """A hardware address, the result of `macaddr()`, shown as `AA:BB:CC:DD:EE:FF`: six bytes.

    bt> tracepoint:net:net_dev_queue { print(macaddr(((struct sk_buff *)args.skbaddr)->dev->dev_addr)); }
    """

    name = "mac_address"
    aliases = ("macaddr_t",)
    size: ClassVar[int] = 6
    align: ClassVar[int] = 1

    def text(self, kind: Opaque, data: bytes, services: Services) -> str:
        return ":".join(f"{byte:02X}" for byte in data[:6])


@feature
class InterfaceName(ValueKind):
    """The number of a network interface, shown as its name (`ifname()`); the number if there is none.

    bt> xdp:lo { @[ifname(args.ifindex)] = count(); }
    """

    name = "ifname_t"
    size: ClassVar[int] = 4
    align: ClassVar[int] = 4

    def text(self, kind: Opaque, data: bytes, services: Services) -> str:
        index = int.from_bytes(data[:4], "little")
        return services.interface(index) or str(index)
