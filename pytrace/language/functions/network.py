"""Network addresses and control groups (reference part 2, section 2.4)."""

from __future__ import annotations

from pytrace.grammar.check_calls import kind_word
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import (
    NONE,
    UINT8,
    UINT32,
    UINT64,
    Array,
    EnumType,
    Int,
    Opaque,
    Pointer,
    Space,
    String,
    Type,
    size_of,
)
from pytrace.language.functions.support import own_bytes, space_of
from pytrace.language.values.addresses import ADDRESS_OFFSET, AF_INET, AF_INET6


@feature
class Ntop(Function):
    """An IPv4 or IPv6 address as text; an inet.

    `ntop(address)` takes an integer or 4 bytes for IPv4 (in network order, as the kernel has it) and 16
    bytes for IPv6; `ntop(family, address)` is told which.

    bt> begin { print(ntop(0x0100007f)); }

    Source: inet_ntop(3), address_families(7).
    """

    name = "ntop"
    parameters = (
        Param("family_or_address", ("int", "array", "string")),
        Param("address", ("int", "array", "string"), optional=True),
    )
    returns = Opaque("inet", 24)

    @classmethod
    def signature(cls) -> str:
        return "ntop([int family, ]int|array|string address) -> inet"

    def type(self, site: CallSite) -> Type:
        if len(site) == 2 and not isinstance(site.types[0], (Int, EnumType)) and site.types[0] != NONE:
            message = f"ntop() only supports int arguments ({kind_word(site.types[0])} provided)"
            site.error("err.call.argtype", message, 0)
        address = site.types[-1]
        if isinstance(address, (Array, String)) and size_of(address) not in (4, 16):
            message = "ntop() argument must be 4 or 16 bytes in size"
            site.error("err.call.argtype", message, len(site) - 1)
        return self.returns

    def emit(self, emit: Emit, site: CallSite) -> Value:
        address = emit.value(site.arguments[-1])
        scalar = isinstance(address.type, (Int, EnumType))
        size = 4 if scalar else size_of(address.type)
        family = emit.integer(AF_INET if size == 4 else AF_INET6)
        if len(site) == 2:
            family = emit.convert(emit.value(site.arguments[0]), UINT64)
        slot = emit.scratch(24)
        emit.store(slot, 0, family)
        if scalar:
            emit.store(slot, ADDRESS_OFFSET, emit.convert(address, UINT32))
        else:
            emit.copy(emit.part(slot, ADDRESS_OFFSET, size), own_bytes(emit, address), size)
        return emit.at(slot, self.returns)


@feature
class Pton(Function):
    """The bytes of an IPv4 or IPv6 address that is given as text; a uint8[4] or uint8[16].

    bt> begin { print(pton("127.0.0.1")); }

    Source: inet_pton(3).
    """

    name = "pton"
    parameters = (Param("text", ("string",), literal=True),)

    def type(self, site: CallSite) -> Type:
        text = site.text(0)
        if not set(text) & set(".:"):
            message = f"pton() expects an string argument of an IPv4/IPv6 address, got {text}"
            site.error("err.call.argtype", message, 0)
        elif _address_bytes(text) is None:
            message = f"pton() expects a valid IPv4/IPv6 address, got {text}"
            site.error("err.call.argtype", message, 0)
        return Array(UINT8, 16 if ":" in text else 4, Space.DIRECT)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        data = _address_bytes(site.text(0))
        assert data is not None
        slot = emit.scratch(len(data), zero=False)
        for offset in range(0, len(data), 4):
            word = int.from_bytes(data[offset : offset + 4], "little")
            emit.store(slot, offset, emit.integer(word, UINT32))
        return emit.at(slot, site.type)


def _address_bytes(text: str) -> bytes | None:
    """The address in network order; None if the text is none."""
    try:
        import socket  # only now: it costs 4 ms of every start

        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, UnicodeError):
        return None


@feature
class Macaddr(Function):
    """A link-layer address as text, like `AA:BB:CC:DD:EE:FF`; a mac_address.

    It takes six bytes, or the address of six bytes.

    bt> tracepoint:net:net_dev_queue { print(macaddr(((struct sk_buff *)args.skbaddr)->dev->dev_addr)); }
    """

    name = "macaddr"
    parameters = (Param("address", ("int", "array", "string", "pointer")),)
    returns = Opaque("mac_address", 6, 1)

    def type(self, site: CallSite) -> Type:
        kind = site.types[0]
        if isinstance(site.constants[0], bytes):
            site.error("err.call.argtype", "macaddr() does not support literal string arguments", 0)
        # an array of six `char` in the program's own C definitions is a string[7]
        elif isinstance(kind, (Array, String)) and size_of(kind) not in (6, 7):
            site.error("err.call.argtype", "macaddr() argument must be 6 bytes in size", 0)
        return self.returns

    def emit(self, emit: Emit, site: CallSite) -> Value:
        value = emit.value(site.arguments[0])
        slot = emit.scratch(8)
        if isinstance(value.type, (Int, EnumType, Pointer)):
            emit.read(emit.part(slot, 0, 6), 6, value, space_of(site, 0))
        else:
            emit.copy(emit.part(slot, 0, 6), own_bytes(emit, value), 6)
        return emit.at(emit.part(slot, 0, 6), self.returns)


@feature
class Ifname(Function):
    """The name of a network interface, by its number; an ifname_t.

    The number is kept and looked up when it is shown, in the network namespace that pytrace runs in; the
    interfaces of the program's own probes are known by the names they were found by. An unknown number is shown
    as it is.

    bt> tc:*:ingress { @[ifname(args.ifindex)] = count(); }
    bt> tracepoint:net:net_dev_queue { @[ifname(((struct sk_buff *)args.skbaddr)->dev->ifindex)] = count(); }

    Source: if_indextoname(3).
    """

    name = "ifname"
    parameters = (Param("index", ("int",)),)
    returns = Opaque("ifname_t", 4, 4)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        slot = emit.scratch(8)
        emit.store(slot, 0, emit.convert(emit.value(site.arguments[0]), UINT32))
        return emit.at(emit.part(slot, 0, 4), self.returns)


@feature
class Bswap(Function):
    """The bytes of an integer in reverse order; an unsigned integer of the same size.

    bt> begin { printf("%x\\n", bswap((uint16)0x1234)); }
    """

    name = "bswap"
    parameters = (Param("value", ("int",)),)
    returns = UINT64

    def type(self, site: CallSite) -> Type:
        return Int(self._size(site))

    def _size(self, site: CallSite) -> int:
        return size_of(site.types[0]) or 8

    def emit(self, emit: Emit, site: CallSite) -> Value:
        value, size = emit.value(site.arguments[0]), self._size(site)
        if size == 1:
            return emit.convert(value, site.type)
        return emit.convert(emit.swap_bytes(value, size), site.type)


@feature
class CgroupPath(Function):
    """The path of a control group, by its id; a cgroup_path_t.

    It prints as `hierarchy:/path`, several joined with commas. `filter` chooses hierarchies by name (the
    version 2 hierarchy is called `unified`); `*` stands for any characters.

    bt> tracepoint:syscalls:sys_enter_openat { @[cgroup_path(cgroup)] = count(); }

    Source: cgroups(7).
    """

    name = "cgroup_path"
    parameters = (Param("id", ("int",)), Param("filter", ("string",), literal=True, optional=True))
    returns = Opaque("cgroup_path_t", 16)

    def type(self, site: CallSite) -> Type:
        return Opaque("cgroup_path_t", 16, 8, (site.text(1) if len(site) == 2 else "*",))

    def emit(self, emit: Emit, site: CallSite) -> Value:
        slot = emit.scratch(16)
        emit.store(slot, 8, emit.convert(emit.value(site.arguments[0]), UINT64))
        return emit.at(slot, site.type)


@feature
class Cgroupid(Function):
    """The id of the control group with this directory, found while compiling; a uint64.

    bt> tracepoint:syscalls:sys_enter_openat /cgroup == cgroupid("/sys/fs/cgroup")/ { @[comm] = count(); }

    Source: cgroups(7), name_to_handle_at(2).
    """

    name = "cgroupid"
    parameters = (Param("path", ("string",), literal=True),)
    returns = UINT64

    def fold(self, site: CallSite) -> int | None:
        path = site.text(0)
        try:
            return site.context.host.cgroup_id(path)
        except OSError as problem:
            message = f'Failed to get `cgroupid` for path: "{path}": {problem.strerror or problem}'
            site.error("fn.cgroupid", message, 0)
            return 0
