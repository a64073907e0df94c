"""Functions of modules and of BPF programs, sessions, offsets, probes that the kernel refuses: on kernels that have
kprobes and fentry (run by tests/vm).

Starting a program takes seconds under emulation, so each test looks at many things in one run.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytrace.api import trace
from pytrace.grammar.attaching import KprobeSessionAttach
from pytrace.grammar.diagnostics import CompileError
from pytrace.grammar.spec import REGISTRY
from pytrace.listing import list_probes
from pytrace.runtime.attach import AttachError
from pytrace.runtime.host import LiveHost
from tests.e2e.workloads import observe

pytestmark = [pytest.mark.root, pytest.mark.vm]
tag = pytest.mark.tag

US = os.getpid()
OURS = f"/pid == {US}/"
TIMES = 5


def fail_to_make_folders() -> None:
    """Call do_mkdirat, a known number of times."""
    for _ in range(TIMES):
        with pytest.raises(OSError, match="No such file"):
            os.mkdir("/nonexistent-of-pytrace/folder", 0o750)


@pytest.fixture(scope="module")
def host() -> LiveHost:
    return LiveHost()


@pytest.fixture
def file() -> Iterator[Path]:
    """A file on the guest's root, which is an overlay."""
    path = Path("/root") / f"pytrace-functions-{US}"
    path.write_text("x")
    yield path
    path.unlink()


# ---------------------------------------------------------------- modules


@tag("probe.fentry.module", "probe.fentry.ambiguous", "probe.fentry.wildcard", "probe.kprobe.module", "bi.probe")
@tag("probe.kprobe.wildcard", "probe.name", "bi.func")
def test_functions_of_a_module(file: Path, host: LiveHost) -> None:
    def read() -> None:
        for _ in range(TIMES):
            assert file.read_text() == "x"

    _, maps = observe(
        f"fentry:ovl_open {OURS} {{ @alone[probe, func, str(args.file->f_path.dentry->d_name.name)] = count(); }}"
        f"fexit:overlay:ovl_open {OURS} {{ @back[probe, retval] = count(); }}"
        f"fentry:o*lay:ovl_rel*se {OURS} {{ @wild[probe] = count(); }}"
        f"kprobe:overlay:ovl_open {OURS} {{ @k[probe, func] = count(); }}"
        f"kretprobe:over*:ovl_rel*se {OURS} {{ @kr[probe, (int32)retval] = count(); }}",
        read,
    )
    assert maps["@alone"] == {("fentry:overlay:ovl_open", "ovl_open", file.name): TIMES}
    assert maps["@back"] == {("fexit:overlay:ovl_open", 0): TIMES}
    assert maps["@wild"] == {"fentry:overlay:ovl_release": TIMES}
    assert maps["@k"] == {("kprobe:overlay:ovl_open", "ovl_open"): TIMES}
    assert maps["@kr"] == {("kretprobe:overlay:ovl_release", 0): TIMES}
    assert host.function_modules("ovl_open") == ["overlay"]


@tag("probe.fentry.ambiguous", "err.ap.module", "probe.kprobe.module", "probe.fentry.module", "err.ap.attach")
def test_functions_of_one_name(host: LiveHost) -> None:
    """`device_show` of virtio and that of PCI, which a file of each device in sysfs calls."""
    if host.function_modules("device_show") != ["vmlinux", "virtio"]:
        pytest.skip("virtio is no module of this kernel")

    def read() -> None:
        of_pci = next(Path("/sys/bus/pci/devices").iterdir()) / "device"
        of_virtio = next(Path("/sys/bus/virtio/devices").iterdir()) / "device"
        for path in [of_pci] * 3 + [of_virtio] * 4:
            path.read_text()

    _, maps = observe(
        "".join(f"{kind}:device_show {OURS} {{ @[probe] = count(); }}" for kind in ("kprobe:vmlinux", "kprobe:virtio"))
        + f"fentry:vmlinux:device_show {OURS} {{ @[probe] = count(); }}"
        + f"kretprobe:vmlinux:device_show {OURS} {{ @[probe] = count(); }}",
        read,
    )
    assert maps["@"] == {
        "kprobe:vmlinux:device_show": 3,
        "kprobe:virtio:device_show": 4,
        "fentry:vmlinux:device_show": 3,
        "kretprobe:vmlinux:device_show": 3,
    }
    # before Linux 6.4 the kernel attaches to the wrong one, which must not go unseen
    config, counted = "config = { missing_probes = warn }", f"{OURS} {{ @[probe] = count(); }}"
    with trace(f"{config} fentry:virtio:device_show {counted} interval:s:1000 {{ }}") as t:
        for output in t.outputs():
            if output.kind == "attached_probes":
                read()
                t.stop()
        wrong = [failure.reason for failure in t.tracer.failures]
        assert t.maps["@"] == ({} if wrong else {"fentry:virtio:device_show": 4})
    assert all("takes another function called device_show for that of virtio" in reason for reason in wrong)
    with pytest.raises(CompileError, match="Ambiguous function: device_show is in vmlinux, virtio"):
        observe("fentry:device_show { }", read)
    with pytest.raises(AttachError, match="several functions of the kernel are called device_show; name the module"):
        observe("kprobe:device_show { }", read)


# ---------------------------------------------------------------- sessions


@tag("probe.session", "probe.order", "bi.retval", "bi.func", "bi.probe")
def test_entry_and_return_in_one_program(host: LiveHost) -> None:
    text = (
        f"kprobe:do_mkdirat {OURS} {{ @in[probe, func, (uint16)arg2] = count(); @since[tid] = nsecs; return 5; }}"
        f"kretprobe:do_mkdirat {OURS} {{ @out[probe, func, (int32)retval] = count();"
        " if (nsecs > @since[tid]) { @later++; } delete(@since, tid); }"
        f"kprobe:vfs_mk* {OURS} {{ @many[func] = count(); }} kretprobe:vfs_mk* {OURS} {{ @back[func] = count(); }}"
    )
    folder = Path(f"/dev/shm/pytrace-session-{US}")

    def work() -> None:
        fail_to_make_folders()
        folder.mkdir()
        folder.rmdir()

    with trace(text) as t:
        for output in t.outputs():
            if output.kind == "attached_probes":
                work()
                t.stop()
        maps, losses, programs = t.maps, t.losses, t.plan.programs
    places = [type(place) for program in programs for place in program.attach]
    if host.has("kprobe_session"):
        assert places == [KprobeSessionAttach, KprobeSessionAttach]
    else:
        assert KprobeSessionAttach not in places
        assert len(places) == 4
    failed = {-errno.ENOENT: TIMES, 0: 1}
    assert maps["@in"] == {
        ("kprobe:do_mkdirat", "do_mkdirat", 0o750): TIMES,
        ("kprobe:do_mkdirat", "do_mkdirat", 0o777): 1,
    }
    assert maps["@out"] == {("kretprobe:do_mkdirat", "do_mkdirat", result): n for result, n in failed.items()}
    assert maps["@later"] == TIMES + 1
    assert maps["@since"] == {}
    assert maps["@many"] == maps["@back"] == {"vfs_mkdir": 1}
    assert not losses


# ---------------------------------------------------------------- BPF programs

TRACED = """
import os, sys
sys.path[:0] = sys.path.pop(0).split(":")
from pytrace.api import trace
with trace("tracepoint:syscalls:sys_enter_getpgid { @ = count(); } kprobe:do_mkdirat { @m = count(); }") as t:
    for output in t.outputs():
        if output.kind == "attached_probes":
            os.write(1, b"r")
"""


@pytest.fixture
def other_tracer() -> Iterator[None]:
    """Another process with programs of its own."""
    command = [sys.executable, "-c", TRACED.replace("sys.path.pop(0)", repr(os.getcwd()))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"r"
            yield
        finally:
            process.kill()


@tag("probe.fentry.bpf", "bi.func", "bi.probe", "list.target", "probe.name")
@pytest.mark.usefixtures("other_tracer")
def test_functions_of_bpf_programs(host: LiveHost) -> None:
    program, name = next(pair for pair in host.bpf_functions() if pair[1].startswith("kprobe_do_mkdirat"))
    shown = list(list_probes("fentry:bpf:*mkdirat*", host, REGISTRY))
    assert shown == [f"fentry:bpf:{program}:{name}"]

    def work() -> None:
        fail_to_make_folders()
        for _ in range(TIMES):
            os.getpgid(0)

    _, maps = observe(
        f"fentry:bpf:{name} {OURS} {{ @in[probe] = count(); }}"
        f"fexit:bpf:{program}:{name} {OURS} {{ @out[probe] = count(); }}"
        f"fexit:bpf:*:*sys_enter_getpgid* {OURS} {{ @wild = count(); }}",
        work,
    )
    assert maps["@in"] == {f"fentry:bpf:{program}:{name}": TIMES}
    assert maps["@out"] == {f"fexit:bpf:{program}:{name}": TIMES}
    assert maps["@wild"] == TIMES
    with pytest.raises(CompileError, match="No matches for fentry bpf:0"):
        observe(f"fentry:bpf:0:{name} {{ }}", work)


# ---------------------------------------------------------------- recursion


@tag("probe.fentry.recursion")
def test_programs_at_spin_locks() -> None:
    def work() -> None:
        fail_to_make_folders()
        for _ in range(TIMES):
            os.getpgid(0)

    with trace(
        "fentry:_raw_spin_lock { @lock = count(); } fentry:_raw_spin_unlock_irqrestore { @unlock = count(); }"
        f'tracepoint:syscalls:sys_enter_getpgid {OURS} {{ @calls = count(); printf("call\\n"); }}'
    ) as t:
        shown: Counter[str] = Counter()
        for output in t.outputs():
            shown[output.text] += output.kind == "printf"
            if output.kind == "attached_probes":
                work()
                t.stop()
        maps, warnings = t.maps, [w.message for w in t.warnings]
    assert [w.split(":")[0] for w in warnings] == [
        "Attaching to _raw_spin_lock", "Attaching to _raw_spin_unlock_irqrestore",
    ]  # fmt: skip
    assert maps["@calls"] == shown["call\n"] == TIMES
    assert maps["@lock"] > TIMES
    assert maps["@unlock"] > 0


OUTER = "{outer} {{ @names[str({name})] = count(); }} kprobe:strncpy_from_user_nofault {{ @inner = count(); }}"


@tag("rt.recursion")
@pytest.mark.parametrize(
    ("outer", "name", "inside"), [("kprobe", "uptr(arg1)", 0), ("fentry", "uptr(args.filename)", TIMES)]
)
def test_a_kprobe_does_not_run_inside_of_another(outer: str, name: str, inside: int) -> None:
    """Reading the text, the program at do_sys_openat2 comes to the other probe: only of a kprobe, whose like the
    kernel does not let in, that goes unseen."""
    path = "/nonexistent-of-pytrace/file"

    def fail_to_open() -> None:
        for _ in range(TIMES):
            assert not os.path.exists(path)
            with pytest.raises(OSError, match="No such file"):
                os.open(path, os.O_RDONLY)

    _, maps = observe(OUTER.format(outer=f"{outer}:do_sys_openat2 {OURS}", name=name), fail_to_open)
    assert maps["@names"][path] == TIMES
    assert (maps["@inner"] or 0) >= inside
    assert maps["@inner"] is None or inside


SLEEPERS = 60  # more than the kernel keeps return addresses of (kernel/trace/trace_kprobe.c, maxactive)


@tag("probe.kretprobe")
def test_returns_that_are_missed_are_counted(host: LiveHost) -> None:
    nanosleep = ctypes.CDLL(None).nanosleep
    length = struct.pack("=qq", 1, 0)
    with trace(f"kretprobe:hrtimer_nanosleep {OURS} {{ @seen = count(); }}") as t:
        shown = []
        for output in t.outputs():
            shown.append(output.text)
            if output.kind == "attached_probes":
                threads = [threading.Thread(target=nanosleep, args=(length, None)) for _ in range(SLEEPERS)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                t.stop()
        seen, missed = t.maps["@seen"], t.losses.missed
    assert 0 < seen < SLEEPERS
    # others that sleep may have been missed as well
    if missed or host.has("kprobe_session"):  # links tell how many they missed since before that (Linux 6.7)
        assert missed["kretprobe:hrtimer_nanosleep"] >= SLEEPERS - seen
        assert any("kretprobe:hrtimer_nanosleep: missed" in text for text in shown)


# ---------------------------------------------------------------- pointers of arguments


@tag("rt.read.direct")
def test_pointers_of_arguments_and_behind_them(file: Path) -> None:
    def unlink() -> None:
        file.unlink()
        file.write_text("x")

    _, maps = observe(
        f"fentry:vfs_unlink {OURS} {{ $d = args.dentry; @name[str($d->d_name.name)] = count();"
        " @up[str($d->d_parent->d_name.name)] = count(); @same = $d->d_inode->i_ino;"
        " @parent = args.dir->i_ino == $d->d_parent->d_inode->i_ino; }",
        unlink,
    )
    assert maps["@name"][file.name] >= 1
    assert maps["@up"]["root"] >= 1
    assert maps["@same"] > 0
    assert maps["@parent"]


# ---------------------------------------------------------------- places in functions

NOP5 = 0x00441F0F  # its first four bytes: what stands for ftrace's call


@tag("probe.kprobe.addr", "probe.kprobe.offset", "probe.kprobe.offset.check", "err.ap.offset", "err.ap.attach")
@tag("env.VMLINUX", "probe.kprobe.traceable", "probe.missing")
def test_places_in_functions(host: LiveHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, size = host.kernel_address("do_mkdirat"), host.function_size("do_mkdirat")
    assert address
    assert size
    _, maps = observe(
        f"kprobe:{address:#x} {OURS} {{ @at[probe, func] = count(); }}"
        f"kprobe:do_mkdirat+{_behind_ftrace(address)} {OURS} {{ @in = count(); }}",
        fail_to_make_folders,
        unsafe=True,
    )
    assert maps == {"@at": {(f"kprobe:{address}", "do_mkdirat"): TIMES}, "@in": TIMES}
    with pytest.raises(AttachError, match="try a different offset"):
        observe(f"kprobe:do_mkdirat+{_behind_ftrace(address) - 1} {{ }}", fail_to_make_folders)
    with pytest.raises(CompileError, match=rf"Offset outside the function bounds .*has {size} bytes"):
        observe(f"kprobe:do_mkdirat+{size} {{ }}", fail_to_make_folders)
    monkeypatch.setenv("BPFTRACE_VMLINUX", str(tmp_path / "vmlinux"))
    with pytest.raises(CompileError, match=r"vmlinux: .*No such file"):
        observe("kprobe:do_mkdirat+4 { }", fail_to_make_folders)


def _behind_ftrace(address: int) -> int:
    """The offset of the instruction behind the 5 bytes that ftrace may replace, which `endbr64` may precede, or
    what the kernel has put in its place."""
    outputs, _ = observe(f"begin {{ print((uint32)*kptr((uint32 *){address:#x})); exit(); }}", lambda: None)
    first = next(int(o.text) for o in outputs if o.kind == "value")
    return 5 if first == NOP5 else 9


# ---------------------------------------------------------------- what the kernel refuses

# NOKPROBE_SYMBOL (kernel/notifier.c), which ftrace knows nevertheless
REFUSED = "notifier_call_chain"


@tag("probe.missing", "err.ap.attach", "probe.kprobe.traceable", "probe.kprobe.multi")
def test_probes_that_the_kernel_refuses() -> None:
    text = (
        f"config = {{ missing_probes = %s }} kprobe:{REFUSED} {{ @no = count(); }}"
        f"kprobe:do_mkdir* {OURS} {{ @yes[func] = count(); }} kprobe:no_such_function {{ @none = count(); }}"
    )
    for policy in ("warn", "ignore"):
        with trace(text % policy) as t:
            for output in t.outputs():
                if output.kind == "attached_probes":
                    fail_to_make_folders()
                    t.stop()
            maps, failures = t.maps, t.tracer.failures
            words = [w.message for w in t.warnings]
        assert maps["@yes"] == {"do_mkdirat": TIMES}
        assert [f.name for f in failures] == [f"kprobe:{REFUSED}"]
        assert f"does not allow to probe {REFUSED}" in failures[0].reason
        assert any("No matches for kprobe no_such_function. Skipping." in word for word in words) == (policy == "warn")
        assert not words or policy == "warn"
    with pytest.raises(CompileError, match="No matches for kprobe no_such_function"):
        observe(text % "error", fail_to_make_folders)
    with pytest.raises(AttachError, match=f"Unable to attach probe: kprobe:{REFUSED}: the kernel does not allow"):
        observe(f"kprobe:do_mkdirat {{ }} kprobe:{REFUSED} {{ }}", fail_to_make_folders)
