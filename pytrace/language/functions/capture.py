"""Packets into a file (reference part 2, section 2.4)."""

from __future__ import annotations

import struct
from weakref import WeakKeyDictionary

from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.hints import Any, BinaryIO, ClassVar
from pytrace.grammar.nodes import Expr
from pytrace.grammar.plan import Action as ActionRecord
from pytrace.grammar.spec import Action, CallSite, Output, Param, Session, feature
from pytrace.grammar.types import NONE, UINT32, UINT64, Buffer, Pointer, Space, Struct, Type
from pytrace.language.functions.shell import failure
from pytrace.language.functions.support import clamp, hidden_zero

PROBES = ("fentry", "fexit", "iter", "rawtracepoint")
MOST_BYTES = 4096  # of one packet
LENGTH = 4  # bytes of the length before a buffer's data
SECOND = 1_000_000_000

# The file format of tcpdump with times in nanoseconds (pcap-savefile(5)): magic, version 2.4, two words that are
# not used, the longest packet, LINKTYPE_RAW (packets that start with their IP header).
FILE_HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 16, 101)


@feature
class Skboutput(Action):
    """Write a packet (`struct sk_buff *`) into a file in the format of tcpdump; a uint32, which is 0.

    `skboutput(file, skb, length, offset)` takes the first `length` bytes (4096 at most, and only those that lie in one
    piece) and leaves out the first `offset` of them: 14 where the packet starts with an Ethernet header, since the file
    is of packets that start with their IP header. In fentry, fexit, iter and rawtracepoint probes.

    bt> rawtracepoint:net_dev_queue { skboutput("/tmp/out.pcap", args.skb, 128, 14); } interval:s:1 { exit(); }

    Source: struct sk_buff (include/linux/skbuff.h): `data`, and `len` without the `data_len` bytes that lie elsewhere.
    """

    name = "skboutput"
    discardable = True
    returns = UINT32
    parameters: ClassVar[tuple[Param, ...]] = (
        Param("file", ("string",), literal=True),
        Param("skb", ("pointer",)),
        Param("length", ("int",)),
        Param("offset", ("int",), literal=True),
    )

    def __init__(self) -> None:
        self._files: WeakKeyDictionary[Session, dict[str, BinaryIO | None]] = WeakKeyDictionary()

    def type(self, site: CallSite) -> Type:
        if site.target.type.name not in PROBES:
            listed = ", ".join(f"'{name}'" for name in PROBES)
            site.error("err.call.probe", f"The skboutput function can only be used with {listed} probes")
        kind, offset = site.types[1], site.integer(3)
        packet = kind.to if isinstance(kind, Pointer) else NONE
        if packet != NONE and not (isinstance(packet, Struct) and packet.name == "sk_buff"):
            message = f"skboutput() only supports struct sk_buff * arguments ({packet} * provided)"
            site.error("err.call.argtype", message, 1)
        elif packet != NONE and len(_members(site)) < len(MEMBERS):
            site.error("err.name.type", "The kernel's BTF does not describe struct sk_buff")
        if not 0 <= offset < MOST_BYTES:
            site.error("err.call.argtype", f"skboutput() leaves out 0 to {MOST_BYTES - 1} bytes, not {offset}", 3)
        return UINT32

    def fields(self, site: CallSite) -> tuple[Expr, ...]:
        return ()

    def emit(self, emit: Emit, site: CallSite) -> Value | None:
        skb, members = emit.value(site.arguments[1]), _members(site)
        words = emit.scratch(8 * len(MEMBERS))
        for place, (name, size) in enumerate(MEMBERS.items()):
            source = emit.arith("+", skb, emit.integer(members[name]))
            emit.read(emit.part(words, 8 * place, size), size, source, Space.KERNEL)
        data, length, elsewhere = (emit.load(words, 8 * place, UINT64) for place in range(len(MEMBERS)))
        most = clamp(emit, emit.arith("-", length, elsewhere), MOST_BYTES)
        asked = clamp(emit, emit.value(site.arguments[2]), MOST_BYTES)
        count = emit.select(emit.compare("<", asked, most), asked, most)
        packet = emit.scratch(LENGTH + MOST_BYTES)
        # Once more: the verifier of Linux 6.1 has lost the bound by now, and the optimiser must not know it.
        bounded = clamp(emit, emit.arith("+", count, hidden_zero(emit)), MOST_BYTES)
        emit.read(emit.part(packet, LENGTH, MOST_BYTES), bounded, data, Space.KERNEL)
        emit.store(packet, 0, emit.convert(count, UINT32))
        now = emit.helper("ktime_get_boot_ns")
        kind = Buffer(LENGTH + MOST_BYTES)
        emit.send(self.name, [now, length, emit.at(packet, kind)], (site.text(0), site.integer(3)), site.span)
        return emit.integer(0, UINT32)

    def handle(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> Output | None:
        path, offset = action.params
        files = self._files.setdefault(session, {})
        if path not in files:
            try:
                # not buffered: what was captured is in the file, however the run ends
                files[path] = open(path, "wb", buffering=0)  # noqa: SIM115
                files[path].write(FILE_HEADER)  # type: ignore[union-attr]
            except OSError as error:
                files[path] = None  # it is said once
                return failure(f"failed to open file '{path}' ({error.strerror})")
        file = files[path]
        time, length, data = int(values[0]) + session.services.boot_time(), int(values[1]), bytes(values[2])[offset:]
        if file is not None:
            header = struct.pack("<IIII", *divmod(time, SECOND), len(data), max(length - offset, len(data)))
            file.write(header + data)
        return None


MEMBERS = {"data": 8, "len": 4, "data_len": 4}  # with their sizes


def _members(site: CallSite) -> dict[str, int]:
    """Where the members that are needed lie."""
    struct = site.context.host.find_type("sk_buff", "struct")
    members = site.context.host.members(struct) if isinstance(struct, Struct) else ()
    return {member.name: member.offset for member in members if member.name in MEMBERS}
