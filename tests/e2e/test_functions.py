"""Functions on this kernel (reference part 2, sections 2.3 to 2.8)."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from pytrace.runtime.elf import ET_DYN, ElfFile
from pytrace.runtime.host import LiveHost
from tests.e2e.children import python
from tests.e2e.facts import COMM, KERNEL_TEXT, LIBC, UserText, refused
from tests.e2e.programs import Rule, begin, rules, run

pytestmark = pytest.mark.root


def kallsyms(name: str) -> int:
    """The address of a kernel symbol."""
    for line in Path("/proc/kallsyms").read_text().splitlines():
        address, _, symbol = line.split()[:3]
        if symbol == name:
            return int(address, 16)
    raise AssertionError(name)


# ---------------------------------------------------------------- symbols and registers


@pytest.mark.tag("fn.kaddr", "fn.ksym", "type.ksym", "val.sym", "sym.resolve")
def test_kernel_symbols() -> None:
    address = kallsyms("vfs_read")
    found = begin(
        'print(kaddr("vfs_read")); print(ksym(kaddr("vfs_read"))); print(ksym(kaddr("vfs_read") + 5)); print(ksym(1));'
    )
    assert found == f"{address} vfs_read vfs_read 0x1"
    assert run('begin { @[ksym(kaddr("vfs_read"))] = 1; }').printed_maps == "@[vfs_read]: 1\n"
    assert begin("print(sizeof(ksym(1)));") == "8"


@pytest.mark.tag("fn.kaddr", "type.addr-results")
def test_kaddr_points_into_the_kernel() -> None:
    assert begin('print((uint64)*kaddr("vfs_read") != 0); print(sizeof(kaddr("vfs_read")));') == "true 8"


@pytest.mark.tag("fn.usym", "type.usym", "fn.reg", "val.sym", "sym.resolve")
def test_user_symbols(tmp_path: Path) -> None:
    child = python(tmp_path, "import os, time; os.getppid(); time.sleep(1)")
    program = (
        f'uprobe:{LIBC}:getppid /pid == cpid/ {{ print(usym(reg("ip"))); print(usym(1)); '
        f"print(sizeof(usym(1))); exit(); }}"
    )
    assert run(program, command=child).text == "getppid\n0x1\n16\n"


@pytest.mark.tag("fn.reg")
def test_reg(tmp_path: Path) -> None:
    child = python(tmp_path, "import ctypes; ctypes.CDLL(None).labs(ctypes.c_long(-77))")
    program = (
        f'uprobe:{LIBC}:labs /pid == cpid/ {{ print((int64)reg("di")); print(reg("di") == arg0); '
        f'print(reg("ip") == reg("pc")); }}'
    )
    assert run(program, command=child).text == "-77\ntrue\ntrue\n"
    text = run('profile:hz:500 { @[reg("cs") & 3] = count(); @n++; if (@n > 20) { exit(); } }')
    assert set(text.maps["@"]) <= {0, 3}


@pytest.mark.tag("fn.kptr", "fn.uptr")
def test_address_spaces() -> None:
    value = ctypes.c_uint64(0x1122334455667788)
    assert begin('printf("%lx\\n", *uptr($1));', ctypes.addressof(value)) == "1122334455667788"
    assert begin("print(*kptr($1));", ctypes.addressof(value)) == "0"  # not kernel memory: the read fails
    assert begin(KERNEL_TEXT + "print(*(uint8 *)$p);") == str(ord(COMM[0]))


VARIABLES = """
#include <unistd.h>
unsigned char one = 200; short two = -2; unsigned four = 4000000000u; long eight = -8;
char text[] = "in the program";
const char *pointer = text;
__attribute__((noinline)) int probed(int x) { return x + getppid() * 0; }
int main(void) { return probed(5) - 5; }
"""


@pytest.fixture(params=["-fPIE -pie", "-no-pie"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A program with global variables."""
    source, path = tmp_path / "variables.c", tmp_path / "variables"
    source.write_text(VARIABLES)
    subprocess.run(["cc", "-O1", *request.param.split(), "-o", path, source], check=True)
    return path


@pytest.mark.tag("fn.uaddr", "type.addr-results")
@pytest.mark.parametrize("probe", ["uprobe", "uretprobe"])
def test_uaddr(program: Path, probe: str) -> None:
    body = """print((*uaddr("one"), *uaddr("two"), *uaddr("four"), *uaddr("eight")));
        print((sizeof(*uaddr("one")), sizeof(*uaddr("two")), sizeof(*uaddr("four")), sizeof(*uaddr("text"))));
        print(str(uaddr("text"))); print(str(*uaddr("pointer"))); print(*(int64 *)uaddr("eight"));"""
    text = f"{probe}:{program}:probed /pid == cpid/ {{ {body} }}"
    if probe == "uretprobe" and ElfFile(str(program)).type == ET_DYN and not LiveHost().has("uprobe_multi"):
        assert "on this kernel" in refused(text, command=str(program))[0]
        return
    found = run(text, command=str(program))
    assert found.text == (
        "(200, 65534, 4000000000, 18446744073709551608)\n(1, 2, 4, 8)\nin the program\nin the program\n-8\n"
    )


@pytest.mark.tag("fn.uaddr", "err.call.probe")
def test_uaddr_refuses(program: Path) -> None:
    assert refused(f'uprobe:{program}:probed {{ print(uaddr("nothing")); }}') == [
        f"Could not resolve symbol: {program}:nothing"
    ]
    assert refused('begin { print(uaddr("one")); }') == ['__builtin_uaddr can not be used with "begin" probes']


@pytest.mark.tag("fn.is_err")
def test_is_err() -> None:
    assert begin("$x = (int64)-1; print((is_err($x), is_err((int64)-4095), is_err((int64)-4096), is_err(0)));") == (
        "(true, true, false, false)"
    )


@pytest.mark.tag("fn.path", "err.call.probe")
def test_path_refuses() -> None:
    assert refused("begin { print(path(curtask)); }")[0] == (
        "The path function can only be used with 'fentry', 'fexit', 'iter' probes"
    )


# ---------------------------------------------------------------- network

NETWORK = [
    Rule(
        "fn.ntop val.inet type.inet",
        'print(ntop(0x0100007f)); print(ntop(2, 0x0100007f)); print(ntop(pton("1.2.3.4"))); print(ntop("abc"));',
        "127.0.0.1 127.0.0.1 1.2.3.4 97.98.99.0",
    ),
    Rule(
        "fn.ntop fn.pton val.inet",
        'print(ntop(pton("fe80::1"))); print(ntop(10, pton("::1"))); $f = 10; '
        'print(ntop($f, pton("2001:db8::5")));'
        "print(sizeof(ntop(1)));",
        "fe80::1 ::1 2001:db8::5 24",
    ),
    Rule(
        "fn.pton",
        'print(pton("10.0.255.1")); print((uint32)pton("127.0.0.1")); print(sizeof(pton("::")));',
        "[10,0,255,1] 16777343 16",
    ),
    Rule(
        "fn.bswap",
        "$a = (uint16)0x1234; $b = (uint32)0x12345678; $c = (uint64)0x0102030405060708; "
        'printf("%x %x %lx %x\\n",'
        "bswap($a), bswap($b), bswap($c), bswap((uint8)0x12)); "
        "print((sizeof(bswap($a)), bswap((int16)0x00ff)));",
        "3412 78563412 807060504030201 12 (2, 65280)",
    ),
]


@rules(NETWORK)
def test_network(rule: Rule) -> None:
    assert rule.run() == rule.shows


@pytest.mark.tag("fn.ntop")
def test_ntop_of_kernel_data(tmp_path: Path) -> None:
    """The addresses of a connection, from the tracepoint's own arrays."""
    text = """tracepoint:sock:inet_sock_set_state /args.newstate == 10 && args.sport == $1/ {
        @v4[ntop(args.saddr)] = 1; @v6[ntop(args.saddr_v6)] = 1; @f[ntop(args.family, args.saddr)] = 1; }"""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    code = f"import socket; s = socket.create_server(('127.0.0.1', {port}))"
    maps = run(text, port, command=python(tmp_path, code)).maps
    assert maps["@v4"] == maps["@f"] == {"127.0.0.1": 1}
    assert maps["@v6"] == {"::ffff:127.0.0.1": 1}


@pytest.mark.tag("fn.macaddr", "val.mac", "type.mac")
def test_macaddr() -> None:
    data = UserText(b"\xde\xad\x00\x01\xbe\xef")
    assert begin(
        "print(macaddr(uptr($1))); @[macaddr(uptr($1))] = 1; print(sizeof(macaddr(uptr($1))));", data.address
    ) == ("DE:AD:00:01:BE:EF 6")
    head = "struct packet { uint8_t from[6]; uint8_t to[6]; }; "
    body = "$p = (struct packet *)uptr($1); print(macaddr($p->to)); print(macaddr($p->from));"
    both = UserText(b"\x00\x01\x02\x03\x04\x05\xff\xfe\xfd\xfc\xfb\xfa")
    assert run(f"{head} begin {{ {body} }}", both.address).text == "FF:FE:FD:FC:FB:FA\n00:01:02:03:04:05\n"
    assert refused('begin { print(macaddr("abcdef")); }') == ["macaddr() does not support literal string arguments"]


@pytest.mark.tag("fn.cgroup_path", "val.cgroup", "type.cgroup_path", "fn.cgroupid")
def test_cgroup_path() -> None:
    mount = next(x.split()[1] for x in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in x)
    group = Path(mount, f"pytrace-test-{os.getpid()}")
    group.mkdir()
    try:
        body = f'print(cgroup_path(cgroupid("{group}"), "unified")); print(cgroupid("{group}"));'
        assert begin(body) == f"unified:/{group.name} {group.stat().st_ino}"
    finally:
        group.rmdir()
    assert refused('begin { print(cgroupid("/no/such")); }') == [
        'Failed to get `cgroupid` for path: "/no/such": No such file or directory'
    ]
    assert refused('begin { print(cgroupid("/etc")); }') == [
        'Failed to get `cgroupid` for path: "/etc": this is no control group (it has no file cgroup.procs)'
    ]


# ---------------------------------------------------------------- processes


@pytest.mark.tag("fn.signal", "err.call.unsafe")
@pytest.mark.parametrize("name", ['"USR1"', '"SIGUSR1"', '"usr1"', "10", "$s"])
def test_signal(name: str, tmp_path: Path) -> None:
    text = f"tracepoint:syscalls:sys_enter_getppid /pid == cpid/ {{ $s = 10; signal({name}); }}"
    code = "import os, signal; signal.signal(10, lambda *_: os._exit(77)); os.getppid(); os._exit(1)"
    marks = f"tracepoint:syscalls:sys_enter_exit_group /pid == cpid/ {{ print(args.error_code); }} {text}"
    assert run(marks, command=python(tmp_path, code), unsafe=True).text == "77\n"
    assert refused(text) == ["signal() is unsafe. To use you need the --unsafe flag"]


@pytest.mark.tag("fn.signal_thread")
def test_signal_thread(tmp_path: Path) -> None:
    text = """tracepoint:syscalls:sys_enter_getppid /pid == cpid/ { signal_thread("KILL"); }
        tracepoint:sched:sched_process_exit /pid == cpid/ { @ = 1; }"""
    child = python(tmp_path, "import os, time; os.getppid(); time.sleep(60)")
    assert run(text, command=child, unsafe=True).maps["@"] == 1


@pytest.mark.tag("fn.signal")
def test_signal_out_of_range(tmp_path: Path) -> None:
    text = "tracepoint:syscalls:sys_enter_getppid /pid == cpid/ { $s = 65; signal($s); $s = (uint64)0; signal($s); }"
    child = python(tmp_path, "import os; os.getppid()")
    errors = run(text, command=child, unsafe=True).errors
    assert "ERROR: signal() expects an integer between 1 and 64 (inclusive). Got 65\n" in errors
    assert "Got 0\n" in errors


@pytest.mark.tag("fn.assert", "fn.static_assert")
def test_assert() -> None:
    result = run(
        'begin { assert(1 == 1, "fine"); print(1); assert(pid == 0, "not the idle task"); print(2); } end { print(3); }'
    )
    assert result.text == "1\n3\n"
    where = r"stdlib/prelude\.bt:\d+:\d+-\d+: ERROR: assert failed: not the idle task\n"
    assert re.fullmatch(where + r"stdin:1:\d+-\d+: ERROR: expanded from\n", result.errors)
    assert begin('static_assert(sizeof(int64) == 8, "no"); print(1);') == "1"


# ---------------------------------------------------------------- options of the program

OPTIONS = """begin {
    print((getopt("n", 3), getopt("v"), getopt("s", "abc"), getopt("m", -1), getopt("on", true)));
    print((sizeof(getopt("n", 3)), sizeof(getopt("v")), sizeof(getopt("s", "abc"))));
    if (getopt("v")) { @[getopt("s", "abc")] = 1; } }"""


@pytest.mark.tag("fn.getopt", "param.named")
def test_getopt() -> None:
    assert run(OPTIONS).text == "(3, false, abc, -1, true)\n(8, 1, 1024)\n"
    named = ("--n=0x10", "--v", "--s=x y", "--m=-7", "--on=NO", "--n=17")
    given = run(OPTIONS, named=named)
    assert given.text == "(17, true, x y, -7, false)\n(8, 1, 1024)\n"
    assert given.maps["@"] == {"x y": 1}


@pytest.mark.tag("fn.getopt", "param.named", "err.param.named")
def test_getopt_refuses() -> None:
    assert refused(OPTIONS, named=("--n", "--m=zz", "--v=foo", "--bad")) == [
        "unexpected program command line options: --bad",
        "program command line option --n expects an integer (value: true)",
        "program command line option --v expects a boolean (e.g. 'true') (value: foo)",
        "program command line option --m invalid integer (value: zz)",
    ]
    # the default's type holds for the value too
    assert refused(OPTIONS, named=("--n=-5", "--m=18446744073709551615")) == [
        "program command line option --n invalid integer (value: -5)",
        "program command line option --m invalid integer (value: 18446744073709551615)",
    ]
    assert refused('begin { print(getopt("n", 1)); print(getopt("n", 2)); }') == [
        "Command line option 'n' needs to have the same default value in all places it is used. "
        "Previous default value: 1"
    ]


# ---------------------------------------------------------------- maps

MAPS = [
    Rule(
        "fn.delete map.delete",
        "@[1] = 5; print(delete(@, 1)); print(delete(@, 1)); print(@[1]);",
        "true false 0",
    ),
    Rule(
        "fn.delete",
        '@[1, "x"] = 5; @[2, "yy"] = 6; print(delete(@, (1, "x"))); print(delete(@, (1, "x"))); print(@[2, "yy"]);',
        "true false 6",
    ),
    Rule(
        "fn.delete",
        '@["abc"] = 1; @["abcdef"] = 1; print(delete(@, "abc")); print(has_key(@, "abcdef")); '
        'print(has_key(@, "abc"));',
        "true true false",
    ),
    Rule("fn.delete-scalar map.delete.scalar", "@x = 7; print(delete(@x)); print(@x + 0);", "true 0"),
    Rule(
        "fn.delete-old map.delete.old",
        '@[1] = 5; delete(@[1]); @k[1, "a"] = 2; print(delete(@k[1, "a"])); print(@[1] + @k[1, "a"]);',
        "true 0",
    ),
    Rule(
        "fn.delete",
        "@[1] = count(); @h[1] = hist(5); print(delete(@, 1)); print(has_key(@, 1));",
        "true false",
    ),
    Rule(
        "fn.delete fn.has_key agg.hist agg.lhist agg.tseries",
        "@h[1, comm] = hist(-5, 5); @h[1, comm] = hist((int64)9223372036854775807, 5); @h[2, comm] = hist(7, 5); "
        "print((has_key(@h, (1, comm)), has_key(@h, (3, comm)), delete(@h, (1, comm)), delete(@h, (1, comm)), "
        "has_key(@h, (1, comm)), len(@h))); "
        "@l[1] = lhist(-1, 0, 1000, 1); @l[1] = lhist(1000, 0, 1000, 1); print((delete(@l, 1), has_key(@l, 1), len(@l))); "
        "@t[1] = tseries(1, 1s, 3); print((has_key(@t, 1), delete(@t, 1), has_key(@t, 1)));",
        "(true, false, true, false, false, 1) (true, false, 0) (true, true, false)",
    ),
    Rule(
        "fn.has_key map.has_key",
        '@["a"] = 0; print(has_key(@, "a")); print(has_key(@, "b")); @t[1, 2] = 1; '
        "print(has_key(@t, (1, 2)));"
        "if (has_key(@t, (2, 1))) { print(9); }",
        "true false true",
    ),
    Rule(
        "fn.has_key",
        "@[tid] = nsecs; print(has_key(@, tid)); delete(@, tid); print(has_key(@, tid));",
        "true false",
    ),
    Rule(
        "fn.len map.len",
        "@[1] = 1; @[2] = 1; @[1] = 5; print(len(@)); delete(@, 1); print(len(@)); @c[7] = count(); print(len(@c));",
        "2 1 1",
    ),
    Rule("fn.len", "@[1] = 1; if (len(@) == 1) { print(len(@) * 10); } delete(@, 1); print(len(@));", "10 0"),
    Rule("fn.is_scalar", "@a = 1; @b[1] = 1; print((is_scalar(@a), is_scalar(@b)));", "(true, false)"),
]


@rules(MAPS)
def test_maps(rule: Rule) -> None:
    assert rule.run() == rule.shows


@pytest.mark.tag("fn.len-stack")
def test_len_of_a_stack(tmp_path: Path) -> None:
    text = run("tracepoint:sched:sched_switch { print(len(kstack(3))); $k = kstack; print(len($k) > 3); exit(); }").text
    assert text == "3\ntrue\n"
    child = python(tmp_path, "import os; os.getppid()")
    assert run(f"uprobe:{LIBC}:getppid /pid == cpid/ {{ print(len(ustack(1))); }}", command=child).text == "1\n"


@pytest.mark.tag("warn.delete", "fn.delete", "warn.stmt.discard")
def test_delete_of_what_is_not_there() -> None:
    result = run("begin { @[1] = 1; delete(@, 1); _ = delete(@, 2); delete(@, 3); }")
    assert result.words == []
    assert result.errors.splitlines()[:2] == [
        "stdin:1:51-63: WARNING: Can't delete map element because it does not exist.",
        "Additional Info - helper: map_delete_elem, retcode: -2",
    ]
    assert result.errors.count("WARNING") == 1


TYPES = [
    Rule(
        "fn.is_type",
        'print((is_str("a"), is_str(1), is_ptr(curtask), is_ptr(1), is_array(pton("::1")), is_array("a")));',
        "(true, false, true, false, true, false)",
    ),
    Rule(
        "fn.is_type",
        'print((is_integer(pid), is_integer("a"), is_unsigned_integer(pid), is_unsigned_integer((int8)1)));',
        "(true, false, true, false)",
    ),
    Rule(
        "fn.is_literal",
        '$x = 1; print((is_literal(1), is_literal("a"), is_literal($x), is_literal($1)));',
        "(true, true, false, true)",
        (4,),
    ),
]


@rules(TYPES)
def test_types(rule: Rule) -> None:
    assert rule.run() == rule.shows
