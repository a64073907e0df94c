"""Attach points in programs and libraries: uprobe, uretprobe, usdt."""

from __future__ import annotations

import struct

import pytest

from pytrace.grammar.attaching import UprobeAttach
from pytrace.grammar.host import UsdtArgument, UsdtLocation
from pytrace.grammar.types import Int, Space
from tests.language.probe_world import Machine, World, expand, registers

tag = pytest.mark.tag


@pytest.mark.parametrize(
    ("text", "attach"),
    [
        ("uprobe:/bin/bash:readline", UprobeAttach("uprobe:/bin/bash:readline", "/bin/bash", 0x200)),
        ("u:bash:readline", UprobeAttach("uprobe:/bin/bash:readline", "/bin/bash", 0x200)),
        ("uprobe:bash:0x1200", UprobeAttach("uprobe:/bin/bash:4608", "/bin/bash", 0x200)),
        ("uretprobe:bash:readline", UprobeAttach("uretprobe:/bin/bash:readline", "/bin/bash", 0x200, True)),
    ],
)
def test_uprobe(text: str, attach: UprobeAttach) -> None:
    (target,) = expand(text).targets
    assert target.attach == attach
    assert (target.section, target.space, target.path) == (target.type.name, Space.USER, "/bin/bash")


def test_uprobe_wildcards() -> None:
    assert expand("uprobe:bash:read*").names == ["uprobe:/bin/bash:readline", "uprobe:/bin/bash:read_all"]
    world = World(files={"/opt/*": ("/opt/a", "/opt/b")})
    assert expand("uprobe:/opt/*:main", world).names == ["uprobe:/opt/a:main", "uprobe:/opt/b:main"]
    assert expand("uprobe:bash:da*").names == []  # not a function


@tag("err.ap.target", "err.ap.nomatch")
@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        (
            "uprobe:nothing:main",
            "err.ap.target: uprobe target file 'nothing' does not exist or is not executable",
            "full path",
        ),
        ("uprobe:bash:raedline", "err.ap.nomatch: No matches for uprobe /bin/bash:raedline.", "'readline'"),
        ("uprobe:bash:rust:x", "err.ap.lang: uprobe does not support the language 'rust'", "uprobe:bash:cpp:NAME"),
        ("uprobe:bash", "err.ap.arity: uprobe probe type requires 2 or 3 arguments, found 1", ""),
        ("uprobe:bash:0x9999", "err.ap.addr: No function of /bin/bash is at address 0x9999", "--unsafe"),
        (
            "uretprobe:bash:main+4",
            "err.ap.offset: Offset not allowed: uretprobe is at the return of a function",
            "",
        ),
        ("uprobe:bash:main+99", "err.ap.offset: Offset outside the function main (32 bytes)", "--unsafe"),
        (
            "uprobe:bash:main+4",
            "err.ap.offset: main+4 is not on an instruction boundary: instructions start at main+1 and main+5",
            "--unsafe",
        ),
    ],
)
def test_uprobe_that_is_wrong(text: str, error: str, hint: str) -> None:
    found = expand(text)
    assert found.errors == [error]
    assert hint in "".join(found.hints)
    assert found.targets == []


def test_uprobe_offsets_with_unsafe() -> None:
    found = expand("uprobe:bash:main+4", unsafe=True)
    assert found.names == ["uprobe:/bin/bash:main+4"]
    assert found.targets[0].attach == UprobeAttach("uprobe:/bin/bash:main+4", "/bin/bash", 0x104)
    assert found.warnings
    checked = expand("uprobe:bash:main+5")
    assert (checked.names, checked.warnings) == (["uprobe:/bin/bash:main+5"], [])


@tag("err.ap.multi-target")
def test_several_binaries_without_a_wildcard() -> None:
    found = expand("uprobe:sh:main", World(files={"sh": ("/bin/sh", "/usr/local/bin/sh")}))
    assert found.names == ["uprobe:/bin/sh:main"]
    assert found.warnings == ["err.ap.multi-target: attaching to uprobe target file '/bin/sh' but matched 2 binaries"]


def test_uprobe_with_a_process_may_leave_the_file_out() -> None:
    world = World(files={"/proc/7/exe": ("/bin/bash",)})
    assert expand("uprobe:readline", world, pid=7).names == ["uprobe:/bin/bash:readline"]


def test_registers_of_uprobes() -> None:
    (entry,) = expand("uprobe:bash:readline").targets
    machine = Machine(registers(di=1, r9=6, ip=0x700, ax=99))
    assert entry.type.argument(machine.emit, entry, 5).raw == 6
    assert entry.type.argument(machine.emit, entry, 0).type == Int(8, space=Space.USER)
    assert entry.type.function(machine.emit, entry).raw == 0x700
    (back,) = expand("uretprobe:bash:readline").targets
    assert back.type.result(machine.emit, back).raw == 99
    assert back.type.function(machine.emit, back).raw == 0xABC


# ---------------------------------------------------------------- usdt

ARGUMENTS = (
    UsdtArgument(-4, register="ax"),
    UsdtArgument(4, register="ax"),
    UsdtArgument(8, constant=42),
    UsdtArgument(-2, register="bp", dereference=True, offset=-8),
    UsdtArgument(8, register="bx", dereference=True, offset=16, index="cx", scale=4),
    UsdtArgument(-8),
)
LOCATIONS = (
    UsdtLocation("app", "request", 0x500, 0x4010, ARGUMENTS),
    UsdtLocation("app", "request", 0x600, 0x4010, ARGUMENTS[:1]),
    UsdtLocation("app", "done", 0x700, 0, ()),
    UsdtLocation("lib", "done", 0x800, 0, ()),
)


def places(text: str) -> list[tuple[str, int, bool]]:
    """Name, offset and whether it counts, of each place."""
    found = expand(text, World(probes=LOCATIONS))
    attaches = [t.attach for t in found.targets]
    return [(a.name, a.offset, a.counted) for a in attaches if isinstance(a, UprobeAttach)]


@tag("probe.usdt.multi-loc", "probe.usdt.ns")
def test_usdt() -> None:
    both = [("usdt:/bin/bash:app:request", 0x500, True), ("usdt:/bin/bash:app:request", 0x600, False)]
    assert places("usdt:bash:request") == both
    assert places("U:/bin/bash:app:request") == both
    assert places("usdt:bash::request") == both
    assert places("usdt:bash:l*:done") == [("usdt:/bin/bash:lib:done", 0x800, True)]
    assert len(places("usdt:bash:*")) == 4
    (target, _) = expand("usdt:bash:request", World(probes=LOCATIONS)).targets
    assert isinstance(target.attach, UprobeAttach)
    assert target.attach.semaphore == 0x4010
    assert (target.section, target.space) == ("uprobe", Space.USER)


def test_usdt_with_a_process_may_leave_the_file_out() -> None:
    world = World(files={"/proc/7/exe": ("/bin/bash",)}, probes=LOCATIONS)
    assert len(expand("usdt:request", world, pid=7).targets) == 2
    assert len(expand("usdt::lib:done", world, pid=7).targets) == 1


def test_usdt_that_is_not_there() -> None:
    found = expand("usdt:bash:requets", World(probes=LOCATIONS))
    assert (found.targets, found.errors) == ([], [])
    assert found.warnings == ["err.ap.nomatch: No matches for usdt bash:requets. Skipping."]
    assert found.hints == ["Did you mean 'request'?"]
    assert expand("usdt:bash:request").hints == ["/bin/bash has no USDT probes."]
    assert expand("usdt:nothing:request").errors[0].startswith("err.ap.target: ")


@tag("probe.usdt.args")
def test_usdt_arguments_follow_their_description() -> None:
    target = expand("usdt:bash:request", World(probes=LOCATIONS)).targets[0]
    machine = Machine(
        registers(ax=0xAAAA_FFFF_FFFE, bp=0x1008, bx=0x2000, cx=3),
        {0x1000: struct.pack("<h", -5), 0x2000 + 12 + 16: struct.pack("<Q", 77)},
    )
    values = [target.type.argument(machine.emit, target, n) for n in range(5)]
    wrapped = 1 << 64
    assert [v.raw % wrapped for v in values] == [-2 % wrapped, 0xFFFFFFFE, 42, -5 % wrapped, 77]
    assert {v.type for v in values} == {Int(8, space=Space.USER)}
    assert machine.reads == [Space.USER, Space.USER]
    assert target.type.refuse(target, "argN", 4) is None
    assert "floating-point" in (target.type.refuse(target, "argN", 5) or "")
    assert target.type.refuse(target, "argN", 6) == "usdt:/bin/bash:app:request has no arg6: it has 6 arguments"
