"""Attaching to network interfaces: XDP and traffic control, by BPF links where the kernel has them.

A link goes when its last descriptor is closed, so nothing stays behind however pytrace ends. Kernels before 6.6
have no links for traffic control: there a filter stands in, see `pytrace.runtime.clsact`.
"""

from __future__ import annotations

import errno
import struct

from pytrace.grammar.attaching import TcAttach, XdpAttach
from pytrace.runtime.links import DescriptorLink, Link
from pytrace.runtime.netns import inside
from pytrace.runtime.syscalls import bpf_link_create

# include/uapi/linux/bpf.h, include/uapi/linux/if_link.h
_BPF_XDP, _BPF_TCX_INGRESS, _BPF_TCX_EGRESS = 37, 46, 47
_BPF_F_BEFORE = 1 << 3
_XDP_FLAGS_SKB_MODE, _XDP_FLAGS_DRV_MODE = 1 << 1, 1 << 2

# these say nothing about the driver: asking again in generic mode would not help
_FINAL = (errno.EBUSY, errno.EEXIST, errno.EPERM, errno.ENODEV, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def attach(program: int, place: XdpAttach | TcAttach, pid: int) -> tuple[Link, str]:
    """Attach the program with this descriptor, in the network namespace of process `pid` (0: in ours).

    Returns the link, and a note for those who want to know more (or nothing). Raises OSError.
    """
    match place:
        case XdpAttach():
            return inside(pid, lambda: _xdp(program, place))
        case TcAttach():
            return inside(pid, lambda: _tc(program, place)), ""


def _xdp(program: int, place: XdpAttach) -> tuple[Link, str]:
    """In the driver if it can (native mode), else in the network stack (generic mode)."""
    try:
        link = bpf_link_create(program, _BPF_XDP, b"", place.index, _XDP_FLAGS_DRV_MODE)
        return DescriptorLink(place.name, link), ""
    except OSError as error:
        if error.errno in _FINAL:
            raise
        reason = error.strerror
    link = bpf_link_create(program, _BPF_XDP, b"", place.index, _XDP_FLAGS_SKB_MODE)
    return DescriptorLink(place.name, link), f"generic mode, because the driver does not run it: {reason}"


def _tc(program: int, place: TcAttach) -> Link:
    """Before all other programs, which may keep packets from those behind them."""
    where = _BPF_TCX_EGRESS if place.egress else _BPF_TCX_INGRESS
    try:
        # relative_fd 0: relative to all; expected_revision 0: any
        rest = struct.pack("=IIQ", 0, 0, 0)
        return DescriptorLink(place.name, bpf_link_create(program, where, rest, place.index, _BPF_F_BEFORE))
    except OSError as error:
        if error.errno != errno.EINVAL:  # what kernels say that do not know this type of link
            raise
    from pytrace.runtime.clsact import FilterLink  # pyroute2 takes a third of a second to import

    return FilterLink(program, place)
