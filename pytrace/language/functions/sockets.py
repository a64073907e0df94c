"""Sockets of the kernel (reference part 2, section 2.4)."""

from __future__ import annotations

from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.host import Host
from pytrace.grammar.spec import CallSite, Function, Param, feature
from pytrace.grammar.types import UINT64, Pointer, Space, Struct, Type

COOKIE = ("sock_common", "skc_cookie")  # every struct of a socket starts with this one (include/net/sock.h)
WITH_HELPER = ("fentry", "fexit", "iter")
PROBES = (*WITH_HELPER, "rawtracepoint")


@feature
class SocketCookie(Function):
    """The number that the kernel gives a socket, which no other has until the next boot; a uint64, 0 for a null
    pointer.

    In fentry, fexit and iter probes, which give a socket its number if it has none. In rawtracepoint probes it is 0
    as long as nobody has asked for it (getsockopt SO_COOKIE, `ss -e`, or other probes do).

    bt> rawtracepoint:inet_sock_set_state { printf("%d: state %d\\n", socket_cookie(args.sk), args.newstate); }

    Source: bpf_get_socket_cookie (for tracing Linux 5.12, bpf-helpers(7)); net/core/sock_diag.c.
    """

    name = "socket_cookie"
    parameters = (Param("socket", ("pointer",)),)
    returns = UINT64

    def type(self, site: CallSite) -> Type:
        if site.target.type.name not in PROBES:
            listed = ", ".join(f"'{name}'" for name in PROBES)
            site.error("err.call.probe", f"The socket_cookie function can only be used with {listed} probes")
        kind = site.types[0].to if isinstance(site.types[0], Pointer) else None
        if kind is not None and not (isinstance(kind, Struct) and _is_socket(kind.name)):
            message = f"socket_cookie() only supports struct sock * arguments ({kind} * provided)"
            site.error("err.call.argtype", message, 0)
        elif site.target.type.name not in WITH_HELPER and _offset(site.context.host) is None:
            site.error("err.name.type", f"The kernel's BTF does not have {'.'.join(COOKIE)}")
        return UINT64

    def emit(self, emit: Emit, site: CallSite) -> Value:
        socket = emit.value(site.arguments[0])
        if site.target.type.name in WITH_HELPER:
            return emit.helper("get_socket_cookie", socket)
        offset = _offset(site.context.host)
        assert offset is not None
        slot = emit.scratch(8)
        emit.read(slot, 8, emit.arith("+", socket, emit.integer(offset)), Space.KERNEL)
        return emit.load(slot, 0, UINT64)


def _is_socket(name: str) -> bool:
    return name in ("sock", "sock_common") or name.endswith("_sock")


def _offset(host: Host) -> int | None:
    """Where in a socket its number is."""
    struct = host.find_type(COOKIE[0], "struct")
    members = host.members(struct) if isinstance(struct, Struct) else ()
    return next((member.offset for member in members if member.name == COOKIE[1]), None)
