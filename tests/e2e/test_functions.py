"""Functions on this kernel (reference part 2, section 2, all but the output functions of 2.1)."""

from __future__ import annotations

import ctypes
import os
import re
import socket
from pathlib import Path

import pytest

from pytrace.grammar.diagnostics import CompileError
from pytrace.language.syscalls import SYSCALLS
from tests.e2e.children import python
from tests.e2e.programs import Rule, begin, rules, run

pytestmark = pytest.mark.root

LIBC = "/lib/x86_64-linux-gnu/libc.so.6"
COMM = Path("/proc/self/comm").read_text().strip()
# the name of the running task, as text in kernel memory
KERNEL_TEXT = "$p = kptr((uint64)curtask + offsetof(struct task_struct, comm)); "


def refused(text: str, **options: object) -> list[str]:
    """The messages of the errors that a program has."""
    with pytest.raises(CompileError) as caught:
        run(text, **options)
    return [d.message for d in caught.value.diagnostics if d.severity.value == "ERROR"]


def kallsyms(name: str) -> int:
    """The address of a kernel symbol."""
    for line in Path("/proc/kallsyms").read_text().splitlines():
        address, _, symbol = line.split()[:3]
        if symbol == name:
            return int(address, 16)
    raise AssertionError(name)


# ---------------------------------------------------------------- str and buf


class UserText:
    """A text in this process's memory, where `begin` probes run."""

    def __init__(self, text: bytes) -> None:
        self._buffer = ctypes.create_string_buffer(text)
        self.address = ctypes.addressof(self._buffer)


@pytest.mark.tag("fn.str", "fn.uptr", "rt.string.trunc")
def test_str_of_user_memory() -> None:
    text = UserText(b"some text in user memory")
    assert begin("print(str(uptr($1)));", text.address) == "some text in user memory"
    assert begin("print(str(uptr($1), 5));", text.address) == "some"
    assert begin("$n = 5; print(str(uptr($1), $n)); $n = -1; print(str(uptr($1), $n));", text.address) == (
        "some some text in user memory"
    )


@pytest.mark.tag("fn.str", "fn.kptr", "type.addrspace")
def test_str_of_kernel_memory() -> None:
    assert (
        begin(KERNEL_TEXT + "print(str($p)); print(str($p, 3)); print(str((int8 *)$p));")
        == f"{COMM} {COMM[:2]} {COMM}"
    )


@pytest.mark.tag("fn.str", "type.addrspace")
def test_str_of_an_argument(tmp_path: Path) -> None:
    path = "/no/such/file/but/a/long/name"
    text = "tracepoint:syscalls:sys_enter_openat /pid == cpid/ { @[str(args.filename)] = count(); }"
    assert run(text, command=f"/bin/cat {path}").maps["@"][path] == 1
    text = f"uprobe:{LIBC}:getenv /pid == cpid/ {{ @[str(arg0)] = count(); }}"
    child = python(tmp_path, "import ctypes; ctypes.CDLL(None).getenv(b'SOME_NAME')")
    assert run(text, command=child).maps["@"]["SOME_NAME"] == 1


@pytest.mark.tag("fn.str", "rt.read.fail")
def test_str_that_cannot_be_read() -> None:
    assert run('begin { printf("[%s]", str(uptr(1))); printf("[%s]", str(kptr(1))); }').text == "[][]"


@pytest.mark.tag("fn.str", "rt.string.trunc", "fmt.string-trunc", "cfg.max_strlen")
def test_str_is_cut() -> None:
    """A string that does not fit is 1023 characters long, or `max_strlen` ones and a trailer."""
    text = UserText(b"x" * 3000)
    assert begin("print(str(uptr($1)));", text.address) == "x" * 1023
    short = run(
        "config = { max_strlen = 10 } begin { print(str(uptr($1))); print(sizeof(str(uptr($1)))); }",
        text.address,
    )
    assert short.text == "xxxxxxxxxx..\n10\n"
    nine = UserText(b"123456789")
    fits = run("config = { max_strlen = 10 } begin { print(str(uptr($1))); }", nine.address)
    assert fits.text == "123456789\n"
    for size in (64, 200, 1000):  # sizes that no longer fit the BPF stack
        assert run(
            f"config = {{ max_strlen = {size} }} begin {{ print(str(uptr($1))); }}", text.address
        ).text == ("x" * size + "..\n")


@pytest.mark.tag("fn.str", "rt.string.pad")
def test_str_as_key() -> None:
    """What was in the memory before must not be part of the key."""
    long, short = UserText(b"a rather long text"), UserText(b"short")
    body = "@[str(uptr($1))] = count(); @[str(uptr($2))] = count(); @[str(uptr($2))] = count(); $n = 4; "
    body += '@[str(uptr($2), $n)] = count(); @["short"] = count();'
    assert run(f"begin {{ {body} }}", long.address, short.address).maps["@"] == {
        "a rather long text": 1,
        "short": 3,
        "sho": 1,
    }


STR_FOLD = [
    Rule(
        "fn.str-fold",
        'print(str(12)); print(str("abc")); print(str("abc", 2)); print(sizeof(str("abc")));',
        "12 abc ab 4",
    ),
    Rule(
        "fn.str-fold param.pos.str bi.positional",
        "print(str($1)); print(str($2)); print(str($1 + 2)); print(str($2, 2));",
        "hello 1234 llo 12",
        ("hello", 1234),
    ),
    Rule(
        "fn.str-fold param.pos.str",
        'printf("[%s]", str($9)); printf("[%s]", str($1 + 9)); print(str($#));',
        "[][]1",
        ("hello",),
    ),
    Rule(
        "fn.str",
        '$n = 3; print(str(comm, $n)); print(str("abcdef", $n)); print(str(comm, 4));',
        f"{COMM[:2]} ab {COMM[:3]}",
    ),
    Rule(
        "fn.str", 'if (str($1) == "x y") { print("same"); } printf("%s\\n", str($1));', "same x y", ("x y",)
    ),
]


@rules(STR_FOLD)
def test_str_of_literals(rule: Rule) -> None:
    assert rule.run() == rule.shows


@pytest.mark.tag("fn.buf", "type.buffer", "val.buffer", "fmt.r")
def test_buf() -> None:
    data = UserText(b"a\x01b\xffcdefgh")
    body = 'printf("%r|%rx|%rh\\n", buf(uptr($1), 4), buf(uptr($1), 2), buf(uptr($1), 3));'
    assert run(f"begin {{ {body} }}", data.address).text == "a\\x01b\\xff|\\x61\\x01|61 01 62\n"
    assert begin(
        "$n = 6; print(buf(uptr($1), $n)); $n = 0; print(sizeof(buf(uptr($1), 3)));", data.address
    ) == ("a\\x01b\\xffcd 7")
    assert begin(
        'print(buf(pton("1.2.3.4"))); print(buf("abc", 2)); $s = "hello"; $n = 4; print(buf($s, $n));'
    ) == ("\\x01\\x02\\x03\\x04 ab hell")
    found = run(
        "begin { @[buf(uptr($1), 2)] = 1; @[buf(uptr($1), 2)] = 2; @[buf(uptr($1 + 1), 2)] = 3; }",
        data.address,
    )
    assert sorted(found.maps["@"].values()) == [2, 3]


@pytest.mark.tag("fn.buf", "rt.read.fail")
def test_buf_that_cannot_be_read() -> None:
    assert begin("print(buf(uptr(1), 3));") == "\\x00\\x00\\x00"


@pytest.mark.tag("fn.buf")
def test_buf_of_a_system_call(tmp_path: Path) -> None:
    text = """tracepoint:syscalls:sys_enter_write /pid == cpid && args.fd == 1/ {
        printf("%r\\n", buf(args.buf, args.count)); }"""
    child = python(tmp_path, "import os; os.write(1, b'hello\\x02')")
    assert run(text, command=child).text == "hello\\x02\n"


# ---------------------------------------------------------------- comparing and searching

LONG = "0123456789abcdefghijklmnop"

TEXTS = [
    Rule(
        "fn.strncmp",
        f'print(strncmp(comm, "{COMM}", 16)); print(strncmp(comm, "{COMM[:2]}zz", 2));'
        f'print(strncmp(comm, "{COMM[:2]}zz", 3)); print(strncmp("ab", "abc", 2)); '
        'print(strncmp(comm, "x", 0));',
        "0 0 1 0 0",
    ),
    Rule(
        "fn.strncmp",
        KERNEL_TEXT + f'$t = "{COMM} "; print(strncmp($t, str($p), {len(COMM)}));'
        f"print(strncmp($t, str($p), {len(COMM) + 1})); print(strncmp(str($p), comm, 1000)); "
        "print(strncmp(str($p + 1), comm, 1000));",
        "0 1 0 1",
    ),
    Rule(
        "fn.strncmp",
        '$a = "0123456789012345678901234567890123456789012345678901234567890123456789x";'
        '$b = "0123456789012345678901234567890123456789012345678901234567890123456789y";'
        "print(strncmp($a, $b, 70)); print(strncmp($a, $b, 71)); print(strncmp($a, $b, 200));",
        "0 1 1",
    ),
    Rule(
        "fn.strncmp",
        '$a = "0123456789012345678901234567890123"; print(strncmp((1, $a).1, $a, 200)); '
        'print(strncmp((1, $a).1, "012x", 4));',
        "0 1",
    ),
    Rule(
        "fn.strcontains",
        f'$s = "{LONG}"; print(strcontains($s, "9ab")); print(strcontains($s, "9abd")); '
        'print(strcontains($s, ""));'
        f'print(strcontains(comm, "{COMM[1:3]}")); print(strcontains("abc", "bc"));',
        "true false true true true",
    ),
    Rule(
        "fn.strstr",
        f'$s = "{LONG}"; print(strstr($s, "0")); print(strstr($s, "9abcdefghij")); '
        'print(strstr($s, "nop"));'
        'print(strstr($s, "nopq") < 0); print(strstr($s, ""));',
        "0 9 23 true 0",
    ),
    Rule(
        "fn.strstr fn.strcontains",
        f'$s = "{LONG}"; $n = "mno"; print(strstr($s, $n)); $n = "9abcdefghijk"; '
        "print(strstr($s, $n));"
        '$n = ""; print(strstr($s, $n)); $n = "x"; print(strcontains($s, $n));',
        "22 9 0 false",
    ),
    Rule(
        "fn.strcontains",
        KERNEL_TEXT
        + f'print(strcontains(str($p), "{COMM[2:]}")); print(strcontains(str($p), "{COMM[2:]}x"));'
        f'$x = strstr(str($p), "{COMM[2:]}"); if ($x == 2) {{ print("two"); }} if ($x * 3 > 6) '
        f'{{ print("more"); }}',
        "true false two",
    ),
    Rule(
        "fn.strlen",
        KERNEL_TEXT + 'print(strlen(comm)); print(strlen("abc")); print(strlen((int8 *)$p)); $s = "hello"; '
        '$s = "he";'
        "print(strlen($s)); print(strlen(str($p, 4)));",
        f"{len(COMM)} 3 {len(COMM)} 2 3",
    ),
    Rule(
        "fn.strcap",
        KERNEL_TEXT + 'print(strcap(comm)); print(strcap((int8 *)$p)); print(strcap(pton("::1")));',
        f"16 {len(COMM)} 16",
    ),
    Rule("fn.default_str_length", "print(default_str_length());", "1024"),
    Rule(
        "fn.strerror",
        "print(strerror(2)); $e = -13; print(strerror($e)); $e = 0; print(strerror($e)); "
        "$e = 9999; print(strerror($e));",
        "No such file or directory Permission denied Success Unknown error",
    ),
    Rule(
        "fn.strerror",
        "print(sizeof(strerror(2))); "
        'if (strerror(11) == "Resource temporarily unavailable") { print("again"); }',
        "64 again",
    ),
    Rule(
        "fn.signal_name",
        "print(signal_name(2)); print(signal_name(0)); print(signal_name(33)); "
        "print(signal_name(40)); print(signal_name(65));"
        "print(signal_name(-1));",
        "Interrupt Unknown signal 0 Unknown signal 33 Real-time signal 6 N/A N/A",
    ),
    Rule("fn.assert_str", 'assert_str("a"); assert_str(comm); print(1);', "1"),
]


@rules(TEXTS)
def test_texts(rule: Rule) -> None:
    assert rule.run() == rule.shows


@pytest.mark.tag("fn.strlen", "fmt.string-trunc")
def test_strlen_of_a_cut_string() -> None:
    text = UserText(b"x" * 30)
    assert (
        run("config = { max_strlen = 10 } begin { print(strlen(str(uptr($1)))); }", text.address).text
        == "10\n"
    )


@pytest.mark.tag("fn.strcontains")
def test_strcontains_in_a_predicate() -> None:
    text = """tracepoint:syscalls:sys_enter_openat /pid == cpid && strcontains(str(args.filename), "libc.so")/
        { @ = count(); }"""
    assert run(text, command="/bin/true").maps["@"] == 1


@pytest.mark.tag("fn.syscall_name")
def test_syscall_name(tmp_path: Path) -> None:
    text = "tracepoint:raw_syscalls:sys_enter /pid == cpid/ { @[syscall_name(args.id)] = count(); }"
    calls = "libc.getppid(); [libc.syscall(n, -1) for n in (9999, 451, 461, 462)]"
    child = python(tmp_path, f"import ctypes; libc = ctypes.CDLL(None); {calls}")
    seen = run(text, command=child).maps["@"]
    assert {
        "getppid",
        "execve",
        "openat",
        "Unknown syscall",
        "cachestat",
        "lsm_list_modules",
        "mseal",
    } <= set(seen)


@pytest.mark.tag("fn.syscall_name")
def test_names_of_the_newest_syscalls(tmp_path: Path) -> None:
    """They are those that the kernel's own tracepoints have; all arguments are wrong."""
    code = "from ctypes import CDLL\nfor n in range(451, 470): CDLL(None).syscall(n, -1, -1, -1, -1, -1, -1)"
    events = Path("/sys/kernel/tracing/events/syscalls")
    names = [n for n in list(SYSCALLS["x86_64"].values())[-19:] if Path(events, f"sys_enter_{n}").exists()]
    assert len(names) >= 10
    points = ", ".join(f"tracepoint:syscalls:sys_enter_{n}" for n in names)
    text = f"""{points} /pid == cpid/ {{ @p[probe] = 1; }}
        tracepoint:raw_syscalls:sys_enter /pid == cpid && args.id > 450/ {{
            @n[syscall_name(args.id)] = 1; }}"""
    maps = run(text, command=python(tmp_path, code)).maps
    probes = {name.removeprefix("tracepoint:syscalls:sys_enter_") for name in maps["@p"]}
    assert probes == set(names) <= set(maps["@n"])


# ---------------------------------------------------------------- symbols and registers


@pytest.mark.tag("fn.kaddr", "fn.ksym", "type.ksym", "val.sym", "sym.resolve")
def test_kernel_symbols() -> None:
    address = kallsyms("vfs_read")
    found = begin(
        'print(kaddr("vfs_read")); print(ksym(kaddr("vfs_read"))); '
        'print(ksym(kaddr("vfs_read") + 5)); print(ksym(1));'
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


# ---------------------------------------------------------------- network

NETWORK = [
    Rule(
        "fn.ntop val.inet type.inet",
        'print(ntop(0x0100007f)); print(ntop(2, 0x0100007f)); print(ntop(pton("1.2.3.4"))); '
        'print(ntop("abc"));',
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
    assert refused('begin { print(macaddr("abcdef")); }') == [
        "macaddr() does not support literal string arguments"
    ]


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
    text = (
        "tracepoint:syscalls:sys_enter_getppid /pid == cpid/ { $s = 65; signal($s); "
        "$s = (uint64)0; signal($s); }"
    )
    child = python(tmp_path, "import os; os.getppid()")
    errors = run(text, command=child, unsafe=True).errors
    assert "ERROR: signal() expects an integer between 1 and 64 (inclusive). Got 65\n" in errors
    assert "Got 0\n" in errors


@pytest.mark.tag("fn.assert", "fn.static_assert")
def test_assert() -> None:
    result = run(
        'begin { assert(1 == 1, "fine"); print(1); assert(pid == 0, "not the idle task"); '
        "print(2); } end { print(3); }"
    )
    assert result.text == "1\n3\n"
    assert re.fullmatch(r"stdin:1:\d+-\d+: ERROR: assert failed: not the idle task\n", result.errors)
    assert begin('static_assert(sizeof(int64) == 8, "no"); print(1);') == "1"


# ---------------------------------------------------------------- options of the program

OPTIONS = """begin { print((getopt("n", 3), getopt("v"), getopt("s", "abc"), getopt("m", -1), getopt("on", true)));
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
        '@[1, "x"] = 5; @[2, "yy"] = 6; print(delete(@, (1, "x"))); print(delete(@, (1, "x"))); '
        'print(@[2, "yy"]);',
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
        "@[1] = 1; @[2] = 1; @[1] = 5; print(len(@)); delete(@, 1); print(len(@)); "
        "@c[7] = count(); print(len(@c));",
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
    text = run(
        "tracepoint:sched:sched_switch { print(len(kstack(3))); $k = kstack; print(len($k) > 3); exit(); }"
    ).text
    assert text == "3\ntrue\n"
    child = python(tmp_path, "import os; os.getppid()")
    assert (
        run(f"uprobe:{LIBC}:getppid /pid == cpid/ {{ print(len(ustack(1))); }}", command=child).text == "1\n"
    )


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
