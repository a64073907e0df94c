"""A pair of network interfaces for tests: one here, its peer in a network namespace of its own."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from pytrace.runtime import netns

HERE, THERE = "10.199.77.1", "10.199.77.2"
HERE6, THERE6 = "fd99:77::1", "fd99:77::2"
INGRESS, EGRESS = 46, 47  # BPF_TCX_INGRESS, BPF_TCX_EGRESS (include/uapi/linux/bpf.h)
_PROG_QUERY, _SYS_BPF = 16, 321 if os.uname().machine == "x86_64" else 280
ETH_P_ALL = 3


class Wire:
    """`device` is our end; sockets of the other end are made with `there`."""

    def __init__(self) -> None:
        self.device, self.peer, self.namespace = f"ptr{os.getpid()}", "peer", f"pytrace-{os.getpid()}"
        self.index = 0

    def open(self) -> None:
        """Make the interfaces; the kernel loads a module for them if it must."""
        ip("netns", "add", self.namespace)
        ip("link", "add", self.device, "type", "veth", "peer", "name", self.peer, "netns", self.namespace)
        self._set_up([], self.device, HERE, HERE6)
        self._set_up(["-n", self.namespace], self.peer, THERE, THERE6)
        self.index = socket.if_nametoindex(self.device)

    def _set_up(self, where: list[str], device: str, address: str, address6: str) -> None:
        ip(*where, "address", "add", f"{address}/30", "dev", device)
        ip(*where, "address", "add", f"{address6}/64", "dev", device, "nodad")
        ip(*where, "link", "set", device, "up")

    def close(self) -> None:
        """Remove them: first the pair, because a namespace takes its time to go."""
        ip("link", "del", self.device)
        ip("netns", "del", self.namespace)

    def there(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of the other end, for use anywhere."""
        descriptor = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return netns.within(descriptor, lambda: socket.socket(family, kind, protocol))
        finally:
            os.close(descriptor)

    def process(self) -> subprocess.Popen[bytes]:
        """A process that lives at the other end until it is killed."""
        return subprocess.Popen(["ip", "netns", "exec", self.namespace, "sleep", "1000"])

    def send_frame(self, frame: bytes) -> None:
        """Send a frame from the other end as it is."""
        with self.there(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((self.peer, ETH_P_ALL))
            raw.send(frame)

    def xdp_programs(self) -> bool:
        """Whether our end has an XDP program."""
        return "prog/xdp" in ip("link", "show", self.device)

    def tcx_programs(self) -> int:
        """How many programs our end has in both directions (BPF_PROG_QUERY); 0 on kernels without TCX."""
        return sum(_query(self.index, where) for where in (INGRESS, EGRESS))

    def filters(self) -> str:
        """The filters and the qdisc of the time before TCX, as tc(8) shows them."""
        shown = [_tool("tc", "qdisc", "show", "dev", self.device, "clsact")]
        if "clsact" in shown[0]:
            shown += [_tool("tc", "filter", "show", "dev", self.device, way) for way in ("ingress", "egress")]
        return "".join(shown)

    @property
    def bare(self) -> bool:
        """Whether nothing is attached."""
        return not self.xdp_programs() and not self.tcx_programs() and not self.filters()


@contextmanager
def wire() -> Iterator[Wire]:
    """A wire, for as long as it is needed."""
    made = Wire()
    made.open()
    try:
        yield made
    finally:
        made.close()


def ip(*words: str) -> str:
    """Run ip(8)."""
    return _tool("ip", *words)


def _tool(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _query(index: int, where: int) -> int:
    ids = (ctypes.c_uint32 * 64)()
    attr = bytearray(64)
    struct.pack_into("=IIIIQI", attr, 0, index, where, 0, 0, ctypes.addressof(ids), 64)
    buffer = (ctypes.c_char * 64).from_buffer(attr)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_SYS_BPF, _PROG_QUERY, buffer, ctypes.c_ulong(64)) < 0:
        return 0
    return int(struct.unpack_from("=I", attr, 24)[0])
