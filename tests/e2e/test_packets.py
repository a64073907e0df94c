"""xdp and tc on a wire of two interfaces, with known traffic: every packet is counted and none is changed."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Runner, Running, Start
from tests.e2e.wire import HERE, HERE6, THERE, THERE6, Wire, wire
from tests.language.packets import (
    IPV4,
    IPV6,
    UDP,
    VLAN,
    checksum,
    frame,
    ipv4,
    ipv6,
    udp,
)

pytestmark = pytest.mark.root
SLOWDOWN = float(os.environ.get("PYTRACE_SLOWDOWN", "1"))
PORT, FROM = 40077, 40078
DATAGRAMS, DATAGRAMS6, PINGS = 5, 3, 4
ETHERNET = 14


@pytest.fixture(scope="module")
def line() -> Iterator[Wire]:
    """The wire of these tests."""
    with wire() as made:
        yield made


# ---------------------------------------------------------------- traffic


def send_datagrams(line: Wire, count: int, count6: int) -> None:
    """Datagrams from the other end, which must arrive as they were sent."""
    for family, here, there, number in (
        (socket.AF_INET, HERE, THERE, count),
        (socket.AF_INET6, HERE6, THERE6, count6),
    ):
        with socket.socket(family, socket.SOCK_DGRAM) as receiver, line.there(family, socket.SOCK_DGRAM) as sender:
            receiver.bind((here, PORT))
            receiver.settimeout(10)
            sender.bind((there, FROM))
            for n in range(number):
                data = bytes((n,)) * (100 + n)
                sender.sendto(data, (here, PORT))
                assert receiver.recvfrom(1000)[0] == data


def connect(line: Wire) -> None:
    """One TCP connection from the other end, with an answer."""
    with socket.socket() as listener, line.there(socket.AF_INET, socket.SOCK_STREAM) as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HERE, PORT))
        listener.listen()
        client.settimeout(10)
        client.connect((HERE, PORT))
        server, _ = listener.accept()
        with server:
            client.sendall(b"question")
            assert server.recv(100) == b"question"
            server.sendall(b"answer")
            assert client.recv(100) == b"answer"


def ping(line: Wire, count: int) -> None:
    """Echo requests from the other end, and their replies."""
    with line.there(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(10)
        for n in range(count):
            body = struct.pack(">HH", 77, n) + b"abcdefgh"
            total = checksum(struct.pack(">BBH", 8, 0, 0) + body)
            raw.sendto(struct.pack(">BBH", 8, 0, total) + body, (HERE, 0))
            while (answer := raw.recv(1000))[20] != 0:  # an echo reply
                pass
            assert answer[24:] == body


def maps_of(shown: str) -> dict[str, object]:
    """The maps in a JSON output, by name."""
    maps: dict[str, object] = {}
    for document in map(json.loads, filter(None, shown.splitlines())):
        if document["type"] in ("map", "stats", "hist"):
            maps |= document["data"]
    return maps


def traced(start: Start, *arguments: str) -> Running:
    """A run that has attached its probes; its maps come as JSON."""
    running = start("-f", "json", *arguments)
    running.wait_for("attached_probes", 20 * SLOWDOWN)
    return running


def until_bare(line: Wire) -> None:
    """The kernel takes a moment to let go of what a process held."""
    end = time.monotonic() + 10 * SLOWDOWN
    while not line.bare:
        assert time.monotonic() < end, "something is still attached"
        time.sleep(0.05)


# ---------------------------------------------------------------- what is seen

PROGRAM = """
xdp:DEV {
  if (args.protocol == 17) {
    @xdp[args.saddr, args.daddr, args.eth_proto, args.sport, args.dport] = count();
    @bytes[args.eth_proto] = sum(args.len);
  }
  if (args.protocol == 6 && args.tcp_flags & 2) { @syn["xdp", args.tcp_flags] = count(); }
  if (args.protocol == 1) { @icmp["xdp", args.saddr] = count(); }
  if (args.len > 100000) { return; }
}
tc:DEV:ingress /args.protocol == 17/ {
  @in[args.saddr, args.sport, args.dport] = count(); @inbytes = sum(args.len);
}
tc:DEV:* /args.protocol == 6 && args.tcp_flags & 2/ { @syn[probe, args.tcp_flags] = count(); }
tc:DEV:ingress /args.saddr == ntop(pton("10.199.77.2")) && args.protocol == 17/ { @four = count(); }
tc:DEV:ingress /args.saddr == ntop(pton("fd99:77::2")) && args.protocol == 17/ { @six = count(); }
tc:DEV:* /args.protocol == 1/ { @icmp[probe, args.saddr] = count(); @at[ifname(args.ifindex)] = count(); }
"""


def expected(device: str) -> dict[str, object]:
    """What the program counts of the traffic."""
    sizes = sum(ETHERNET + 28 + 100 + n for n in range(DATAGRAMS))
    sizes6 = sum(ETHERNET + 48 + 100 + n for n in range(DATAGRAMS6))
    ways = {f"tc:{device}:ingress": (2, THERE), f"tc:{device}:egress": (18, HERE), "xdp": (2, THERE)}
    return {
        "@in": {f"{THERE},{FROM},{PORT}": DATAGRAMS, f"{THERE6},{FROM},{PORT}": DATAGRAMS6},
        "@inbytes": sizes + sizes6,
        "@four": DATAGRAMS,
        "@six": DATAGRAMS6,
        "@syn": {f"{way},{flags}": 1 for way, (flags, _) in ways.items()},
        "@icmp": {f"{way},{source}": PINGS for way, (_, source) in ways.items()},
        "@at": {device: 2 * PINGS},
        "@xdp": {
            f"{THERE},{HERE},{IPV4},{FROM},{PORT}": DATAGRAMS,
            f"{THERE6},{HERE6},{IPV6},{FROM},{PORT}": DATAGRAMS6,
        },
        "@bytes": {str(IPV4): sizes, str(IPV6): sizes6},
    }


def all_traffic(line: Wire) -> None:
    send_datagrams(line, DATAGRAMS, DATAGRAMS6)
    connect(line)
    ping(line, PINGS)


def test_every_packet_is_counted(line: Wire, start: Start) -> None:
    running = traced(start, "-e", PROGRAM.replace("DEV", line.device))
    all_traffic(line)
    result = running.interrupt()
    assert result.status == 0
    assert maps_of(result.stdout) == expected(line.device)
    assert line.bare


@pytest.mark.vm
def test_every_packet_is_counted_on_other_kernels(line: Wire, start: Start, run: Runner) -> None:
    """Linux 6.1 has filters instead of links, which outlive a killed pytrace until the next one cleans up."""
    program = PROGRAM.replace("DEV", line.device)
    running = traced(start, "-e", program)
    filters = line.filters()
    assert bool(filters) != bool(line.tcx_programs())
    all_traffic(line)
    result = running.interrupt(20 * SLOWDOWN)
    assert maps_of(result.stdout) == expected(line.device)
    assert line.bare

    small = f"tc:{line.device}:* {{ @ = count(); }}"
    killed, other = start("-e", small), start("-e", small)
    for running in (killed, other):
        running.wait_for("Attached", 20 * SLOWDOWN)
    killed.signal(signal.SIGKILL)
    killed.finish()
    cleaned = run("cleanup", timeout=20 * SLOWDOWN)
    if filters:
        left = f"Removed filter of process {killed.pid} on {line.device} "
        assert sorted(set(cleaned.stdout.splitlines())) == [f"{left}egress", f"{left}ingress"]
        assert f"pytrace:{other.pid}:" in line.filters()
        assert f"pytrace:{killed.pid}:" not in line.filters()
    else:
        assert cleaned.stdout == "Nothing to remove\n"
    other.interrupt(20 * SLOWDOWN)
    until_bare(line)


def test_frames_of_unusual_shape(line: Wire, start: Start) -> None:
    program = (
        "PROBE /args.sport == 1 || args.protocol == 253/ { @[args.dport, args.eth_proto, args.protocol] = count(); }"
    )
    tc, xdp = (program.replace("PROBE", f"{p}") for p in (f"tc:{line.device}:ingress", f"xdp:{line.device}"))
    runs = [traced(start, "-e", text) for text in (tc, xdp)]
    hop = bytes((60, 0, 1, 4, 0, 0, 0, 0)) + bytes((UDP, 0, 1, 4, 0, 0, 0, 0))
    for number, data in enumerate(
        [
            frame(IPV4, ipv4(UDP, udp(1, 2), THERE, HERE), VLAN),
            frame(IPV4, ipv4(UDP, udp(1, 3), THERE, HERE, options=b"\x01" * 8)),
            frame(IPV6, ipv6(0, hop + udp(1, 4), THERE6, HERE6)),
            frame(IPV4, ipv4(253, b"", THERE, HERE, part=9)),
            frame(IPV4, b"\x45"),
        ]
    ):
        for _ in range(number + 1):
            line.send_frame(data)
    wanted = {f"2,{IPV4},{UDP}": 1, f"3,{IPV4},{UDP}": 2, f"4,{IPV6},{UDP}": 3, f"0,{IPV4},253": 4}
    for running in runs:
        assert maps_of(running.interrupt().stdout) == {"@": wanted}


def test_interfaces_of_another_namespace(line: Wire, start: Start, run: Runner) -> None:
    process = line.process()
    try:
        end = time.monotonic() + 10
        while os.path.samefile(f"/proc/{process.pid}/ns/net", "/proc/self/ns/net"):
            assert time.monotonic() < end
            time.sleep(0.01)
        listed = run("-p", str(process.pid), "-l", "xdp:*").stdout.split()
        assert listed == ["xdp:lo", "xdp:peer"]
        probes = f"xdp:lo, xdp:{line.peer}, tc:{line.peer}:egress"
        program = f"{probes} /args.protocol == 1/ {{ @[ifname(args.ifindex)] = count(); }}"
        running = traced(start, "-v", "-p", str(process.pid), "-e", program)
        ping(line, PINGS)
        result = running.interrupt()
        assert maps_of(result.stdout) == {"@": {line.peer: 2 * PINGS}}
        assert (
            "Attached xdp:lo (generic mode, because the driver does not run it: Operation not supported)\n"
            in result.stderr
        )
        assert "Attached xdp:peer\n" in result.stderr  # the driver of veth does
    finally:
        process.kill()
        process.wait()


def test_example(line: Wire, start: Start) -> None:
    running = start("examples/packets.bt", line.device)
    running.wait_for("Attached")
    connect(line)
    send_datagrams(line, 2, 0)
    shown = running.interrupt().stdout
    assert shown.startswith(f"{THERE} connects to {HERE} port {PORT}\n")
    assert f"@packets[{THERE}, {HERE}, 17, {PORT}]: 2\n" in shown
    assert f"@bytes[{THERE}, {HERE}, 17, {PORT}]: {2 * (ETHERNET + 28) + 201}\n" in shown
    assert f"@size[{line.device}]:" in shown


# ---------------------------------------------------------------- the end, and others


def test_nothing_stays_after_a_kill(line: Wire, start: Start) -> None:
    running = traced(start, "-e", f"xdp:{line.device}, tc:{line.device}:* {{ @ = count(); }}")
    assert line.xdp_programs()
    assert line.tcx_programs() == 2
    running.signal(signal.SIGKILL)
    running.finish()
    until_bare(line)


def test_two_at_once(line: Wire, start: Start, run: Runner) -> None:
    program = f"tc:{line.device}:ingress /args.protocol == 1/ {{ @ = count(); }}"
    first = traced(start, "-e", program + f" xdp:{line.device} /args.protocol == 1/ {{ @x = count(); }}")
    second = traced(start, "-e", program)
    busy = run("-e", f"xdp:{line.device} {{ @ = count(); }}")
    assert busy.status != 0
    assert busy.stderr.count("ERROR") == 1
    assert f"nterface {line.device} has an XDP program already" in busy.stderr
    assert f"use tc:{line.device}:ingress" in busy.stderr
    ping(line, PINGS)
    assert maps_of(second.interrupt().stdout) == {"@": PINGS}
    assert maps_of(first.interrupt().stdout) == {"@": PINGS, "@x": PINGS}


@pytest.mark.tag("probe.order")
def test_blocks_run_in_the_order_of_the_source(line: Wire, start: Start) -> None:
    probe = f"tc:{line.device}:ingress /args.protocol == 1/"
    running = start("-e", f'{probe} {{ printf("one "); }} {probe} {{ printf("two\\n"); }}')
    running.wait_for("Attached")
    ping(line, 2)
    assert running.interrupt().stdout.split() == ["one", "two"] * 2


# ---------------------------------------------------------------- listing, names, mistakes


def test_a_place_that_is_named_twice(line: Wire, start: Start) -> None:
    """The kernel refuses the same program twice at one place."""
    place = f"tc:{line.device}:ingress"
    running = traced(start, "-e", f"{place}, {place}, tc:{line.device}:* /args.protocol == 1/ {{ @ = count(); }}")
    ping(line, PINGS)
    assert maps_of(running.interrupt().stdout) == {"@": 4 * PINGS}


def test_listing(line: Wire, run: Runner) -> None:
    found = run("-l", f"xdp:{line.device[:-1]}*,tc:{line.device}:*").stdout.split()
    assert found == [f"xdp:{line.device}", f"tc:{line.device}:egress", f"tc:{line.device}:ingress"]
    shown = run("-lv", f"tc:{line.device}:in*").stdout
    assert "    inet saddr\n    inet daddr\n    u8 protocol\n    u16 sport\n" in shown


def test_names_of_interfaces(line: Wire, run: Runner) -> None:
    program = f'begin {{ printf("%s %s\\n", ifname({line.index}), ifname(99999999)); @[ifname(1)] = ifname(2); }}'
    shown = run("-e", program).stdout.split("\n")
    assert shown[0] == f"{line.device} 99999999"
    assert f"@[lo]: {socket.if_indextoname(2)}" in shown


def test_the_interface_of_a_kernel_structure(line: Wire, start: Start) -> None:
    device = "((struct sk_buff *)args.skbaddr)->dev->ifindex"
    running = traced(start, "-e", f"tracepoint:net:net_dev_queue {{ @[ifname({device})] = count(); }}")
    send_datagrams(line, 0, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(7):
            sender.sendto(b"x", (THERE, PORT))
    counted = maps_of(running.interrupt().stdout)["@"]
    assert isinstance(counted, dict)
    assert counted[line.device] >= 7


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("xdp:DEV1 { @ = count(); }", "No matches for xdp DEV1."),
        ("tc:DEV:out { @ = count(); }", "tc probe: 'out' is neither ingress nor egress"),
        ("xdp:DEV { @[pid] = count(); }",
         "pid can not be used in xdp probes: a packet is handled in the context of whatever process runs"),
    ],
)  # fmt: skip
def test_mistakes(line: Wire, run: Runner, program: str, message: str) -> None:
    result = run("-e", program.replace("DEV", line.device))
    assert result.status == 1
    assert result.stderr.count("ERROR") == 1
    assert f"ERROR: {message.replace('DEV', line.device)}\n" in result.stderr
    assert line.bare
