"""Functions that ask the kernel's own functions, or the compiler, on this kernel (reference part 2, sections 1 and 2)."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytrace.api import trace
from pytrace.grammar.config import Config
from pytrace.grammar.data import fields
from pytrace.runtime.host import LiveHost
from tests.e2e.children import python
from tests.e2e.facts import COMM, refused
from tests.e2e.programs import Rule, begin, rules, run

pytestmark = pytest.mark.root
tag = pytest.mark.tag

TRACE = Path("/sys/kernel/tracing/trace")
SO_COOKIE = 57  # include/uapi/asm-generic/socket.h
TASK = "bpf_task_from_pid"


@pytest.fixture(scope="module")
def host() -> LiveHost:
    return LiveHost()


# ---------------------------------------------------------------- comm(PID), kfunc_exist, kfunc_allowed


@tag("bi.comm-pid")
def test_the_name_of_another_thread(host: LiveHost) -> None:
    if not host.has(f"kfunc:{TASK}:perf_event"):
        pytest.skip("this kernel does not let timers look for threads")
    ready = threading.Event()
    done = threading.Event()
    found: list[int] = []

    def thread() -> None:
        Path("/proc/thread-self/comm").write_text("name of fifteen")
        found.append(threading.get_native_id())
        ready.set()
        done.wait()

    worker = threading.Thread(target=thread)
    worker.start()
    ready.wait()
    text = (
        f'interval:ms:1 {{ @["own"] = comm({os.getpid()}); @["thread"] = comm({found[0]});'
        ' printf("[%s] %d", comm((int64)1 << 30), sizeof(comm(1))); exit(); }'
    )
    try:
        result = run(text)
    finally:
        done.set()
        worker.join()
    assert result.maps["@"] == {"own": COMM, "thread": "name of fifteen"}
    assert result.text == "[N/A] 64"
    assert "WARNING: No such process (pid=1073741824)\n" in result.errors


@tag("bi.comm-pid")
def test_comm_of_pid_where_it_is_not_possible(host: LiveHost) -> None:
    if host.function_prototype(TASK) is None:
        result = run("begin { print(comm(1)); }")
        assert result.text == "[unknown]\n"
        assert "WARNING: This kernel has no bpf_task_from_pid, which comm(PID) needs\n" in result.errors
    else:
        assert refused("rawtracepoint:sys_enter { print(comm(1)); }") == [
            "Syntax comm(PID) is not supported in this probe type yet. Type: rawtracepoint"
        ]
    assert refused('interval:ms:1 { print(comm("a")); }') == ["comm() only supports int arguments (string provided)"]
    assert refused("interval:ms:1 { print(comm(1, 2)); }") == ["comm() takes up to one argument (2 provided)"]


@tag("fn.kfunc_exist", "fn.kfunc_allowed")
def test_what_is_known_of_kernel_functions(host: LiveHost) -> None:
    asked = ("vfs_read", TASK, "no_such_function")
    exist = begin(" ".join(f'print(kfunc_exist("{name}"));' for name in asked)).split()
    assert exist == [str(host.function_prototype(name) is not None).lower() for name in asked]
    assert exist[0] == "true"
    assert exist[2] == "false"
    # vfs_read is a function like any other, which programs may not call
    assert begin('print(kfunc_allowed("vfs_read")); print(kfunc_allowed("no_such_function"));') == "false false"
    assert begin('print(kfunc_allowed("no:such")); print(kfunc_allowed(""));') == "false false"
    assert refused("begin { print(kfunc_exist(comm)); }") == ["kfunc_exist() accepts a string literal only"]
    assert refused("begin { print(kfunc_allowed(5)); }") == ["kfunc_allowed() accepts a string literal only"]
    assert refused("begin { print(kfunc_allowed()); }") == ["kfunc_allowed() requires one argument (0 provided)"]


@tag("fn.kfunc_allowed")
def test_the_kernel_agrees_about_what_may_be_called(host: LiveHost) -> None:
    """`comm(PID)` loads exactly where the function is allowed."""
    for probe in ("interval:ms:1", "tracepoint:sched:sched_switch", "rawtracepoint:sched_switch", "profile:hz:99"):
        asked = f'{probe} {{ print(kfunc_allowed("{TASK}")); exit(); }}'
        if run(asked).text.split()[:1] == ["true"]:
            run(f"{probe} {{ @ = comm({os.getpid()}); exit(); }}")
        elif host.function_prototype(TASK) is not None:
            assert refused(f"{probe} {{ @ = comm(1); }}")


@tag("fn.len")
def test_the_kernel_counts_as_we_do() -> None:
    text = """begin { for ($i : 0..500) { @[$i] = 1; @c[$i % 7] = count(); @l[$i] = 1; }
        delete(@, 3); delete(@, 499); @c[1] = count(); print((len(@), len(@c), len(@l), len(@none))); @none[1] = 1;
        clear(@); } end { print(len(@)); }"""
    expected = "(498, 7, 100, 0)"
    head = "let @l = lruhash(100); "
    for without in ((), ("kfunc:bpf_map_sum_elem_count:raw_tp",)):
        found = run(head + text, without=without).text.split("\n")
        counted = found[0].split(", ")
        # how many an LRU map keeps is its own business
        assert [counted[0], counted[1], counted[3]] == [expected.split(", ")[i] for i in (0, 1, 3)]
        assert 0 < int(counted[2]) <= 100
        assert found[1] == "0"


# ---------------------------------------------------------------- sockets


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, int]]:
    """A connected socket and its cookie."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        yield client, struct.unpack("Q", client.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0]


@tag("fn.socket_cookie")
def test_socket_cookie_in_an_iterator(connection: tuple[socket.socket, int]) -> None:
    client, cookie = connection
    port = client.getsockname()[1]
    with trace('iter:tcp { printf("%d %d\\n", ctx.sk_common.skc_num, socket_cookie(ctx.sk_common)); }') as running:
        lines = "".join(output.text for output in running.outputs()).splitlines()
    assert f"{port} {cookie}" in lines


@tag("fn.socket_cookie")
def test_socket_cookie_in_a_raw_tracepoint(tmp_path: Path) -> None:
    child = python(
        tmp_path,
        f"""
import socket, struct
server = socket.create_server(("127.0.0.1", 0))
client = socket.socket()
print(struct.unpack("Q", client.getsockopt(socket.SOL_SOCKET, {SO_COOKIE}, 8))[0], file=open("{tmp_path}/cookie", "w"))
client.connect(server.getsockname())
""",
    )
    text = "rawtracepoint:inet_sock_set_state /pid == cpid && args.newstate == 1/ { @[socket_cookie(args.sk)] = 1; }"
    found = run(text, command=child).maps["@"]
    assert int((tmp_path / "cookie").read_text()) in found
    null = "rawtracepoint:sys_enter { @ = socket_cookie((struct sock *)0); exit(); }"
    assert run(null).maps["@"] == 0


@pytest.mark.vm
@tag("fn.socket_cookie", "bi.comm-pid", "fn.kfunc_allowed")
def test_socket_cookie_and_comm_at_functions_of_the_kernel() -> None:
    """The socket gets its number from the probe, and tells it afterwards."""
    me = os.getpid()
    text = f"""fentry:tcp_v4_connect /pid == {me}/ {{ @entry = socket_cookie(args.sk); }}
        fexit:tcp_v4_connect /pid == {me}/ {{
            @back = socket_cookie(args.sk);
            if comptime (kfunc_allowed("{TASK}")) {{ @name = comm({me}); }} else {{ @name = comm; }}
            exit(); }}"""
    with socket.create_server(("127.0.0.1", 0)) as server, trace(text) as running:
        client: list[socket.socket] = []
        for output in running.outputs():
            if output.kind == "attached_probes":
                client.append(socket.create_connection(server.getsockname()))
        found = running.maps
    with client[0] as connected:
        cookie = struct.unpack("Q", connected.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0]
    assert cookie
    assert found == {"@entry": cookie, "@back": cookie, "@name": COMM}


@tag("fn.socket_cookie")
def test_bad_calls_of_socket_cookie() -> None:
    assert refused("begin { print(socket_cookie((struct sock *)0)); }") == [
        "The socket_cookie function can only be used with 'fentry', 'fexit', 'iter', 'rawtracepoint' probes"
    ]
    assert refused("iter:task { print(socket_cookie(ctx.task)); }") == [
        "socket_cookie() only supports struct sock * arguments (struct task_struct * provided)"
    ]
    assert refused("iter:tcp { print(socket_cookie(5)); }") == [
        "socket_cookie() only supports pointer arguments (int provided)"
    ]


# ---------------------------------------------------------------- packets

SEND = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
for number in range(3):
    s.sendto(b"packet number %d" % number, s.getsockname())
"""
ETHERNET, IP_AND_UDP = 14, 28  # bytes of headers
TEXT = len("packet number 0")


def pcap(path: Path) -> list[tuple[float, int, bytes]]:
    """Time, true length and bytes of each packet of a file (pcap-savefile(5))."""
    data = path.read_bytes()
    assert struct.unpack("<IHHiIII", data[:24]) == (0xA1B23C4D, 2, 4, 0, 0, 65536, 101)
    found, at = [], 24
    while at < len(data):
        seconds, nanoseconds, size, length = struct.unpack_from("<IIII", data, at)
        found.append((seconds + nanoseconds / 1e9, length, data[at + 16 : at + 16 + size]))
        at += 16 + size
    return found


@tag("fn.skboutput")
def test_skboutput(tmp_path: Path) -> None:
    whole, start = tmp_path / "whole", tmp_path / "start"
    text = f"""rawtracepoint:net_dev_queue /pid == cpid/ {{
        $r = skboutput("{whole}", args.skb, args.skb.len, {ETHERNET});
        skboutput("{start}", args.skb, 20, 0);
        skboutput("/nonexistent/file", args.skb, 20, 0);
        print($r); }}"""
    before = time.time()
    result = run(text, command=python(tmp_path, SEND))
    packets = pcap(whole)
    assert [data[IP_AND_UDP:] for _, _, data in packets] == [b"packet number %d" % number for number in range(3)]
    assert all(data[:1] == b"\x45" and data[12:20] == bytes((127, 0, 0, 1)) * 2 for _, _, data in packets)
    assert all(length == IP_AND_UDP + TEXT for _, length, _ in packets)
    assert all(before - 1 < moment < time.time() + 1 for moment, _, _ in packets)
    assert [(length, len(data)) for _, length, data in pcap(start)] == [(ETHERNET + IP_AND_UDP + TEXT, 20)] * 3
    assert result.text == "0\n0\n0\n"
    # said once, not for each packet
    assert result.errors.count("failed to open file '/nonexistent/file' (No such file or directory)") == 1


@tag("fn.skboutput")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("skboutput(comm, args.skb, 1, 0)", "skboutput() expects a string literal (string provided)"),
        ('skboutput("f", args.skb, 1, pid)', "skboutput() expects a int literal (int provided)"),
        ('skboutput("f", args.skb, 1)', "skboutput() requires 4 arguments (3 provided)"),
        (
            'skboutput("f", curtask, 1, 0)',
            "skboutput() only supports struct sk_buff * arguments (struct task_struct * provided)",
        ),
        ('skboutput("f", args.skb, 1, 5000)', "skboutput() leaves out 0 to 4095 bytes, not 5000"),
    ],
)
def test_bad_calls_of_skboutput(call: str, message: str) -> None:
    assert refused(f"rawtracepoint:net_dev_queue {{ {call}; }}") == [message]
    assert refused('begin { skboutput("f", (struct sk_buff *)0, 1, 0); }') == [
        "The skboutput function can only be used with 'fentry', 'fexit', 'iter', 'rawtracepoint' probes"
    ]


# ---------------------------------------------------------------- strings and messages


@rules(
    [
        Rule("fn.str_concat", 'print(str_concat("abc", "de"));', "abcde"),
        Rule(
            "fn.str_concat", 'print(str_concat("", "")); print(str_concat("", "x")); print(str_concat("x", ""));', "x x"
        ),
        Rule("fn.str_concat", 'print(str_concat(str_concat(comm, "-"), str(12)));', f"{COMM}-12"),
        Rule("fn.str_concat", 'print(sizeof(str_concat("a", "b")));', "1024"),
        Rule("fn.str_concat", '@a[0] = "four"; print(str_concat(@a[0], "five"));', "fourfive"),
        Rule("fn.str_concat", "print(strlen(str_concat(str($1), str($1))));", "1023", ("y" * 600,)),
        Rule("fn.str_concat", "print(strlen(str_concat(str($1), $2)));", "1023", ("y" * 1023, "zz")),
    ]
)
def test_str_concat(rule: Rule) -> None:
    assert rule.run() == rule.shows


@tag("fn.str_concat")
def test_bad_calls_of_str_concat() -> None:
    assert refused('begin { print(str_concat("a")); }') == ["str_concat() requires 2 arguments (1 provided)"]
    assert refused('begin { print(str_concat("a", 1)); }') == [
        "str_concat() only supports string arguments (int provided)"
    ]


@tag("fn.debugf")
def test_debugf_writes_to_the_kernels_trace() -> None:
    mark = f"pytrace-{os.getpid()}"
    result = run(
        f'begin {{ debugf("{mark} plain 100%%"); debugf("{mark} %d %u %x", (int64)-5, (uint32)7, 255);'
        f' debugf("{mark} %s|%s", comm, "text"); debugf("{mark} %ld", (int64)1 << 40); }}'
    )
    assert (
        result.words
        == [
            "The debugf() builtin is not recommended for production use. For more information see bpf_trace_printk in "
            "bpf-helpers(7)."
        ]
        * 4
    )
    lines = [line.partition(mark)[2] for line in TRACE.read_text().splitlines() if mark in line]
    assert lines == [" plain 100%", " -5 7 ff", f" {COMM}|text", f" {1 << 40}"]


@tag("fn.debugf")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ('debugf("%c", 65)', "Invalid format specifier for `debugf`: c"),
        ('debugf("%s", 65)', "Invalid format specifier for `debugf`: s"),
        ('debugf("%r", buf("a", 1))', "Invalid format specifier for `debugf`: r"),
        ('debugf("%d %d %d %d", 1, 2, 3, 4)', "cannot use more than 3 conversion specifiers"),
        ('debugf("%d")', "not enough arguments for format string (0 supplied, 1 expected)"),
        ("debugf(comm)", "debugf() expects a string literal (string provided)"),
    ],
)
def test_bad_calls_of_debugf(call: str, message: str) -> None:
    assert refused(f"begin {{ {call}; }}") == [message]


# ---------------------------------------------------------------- while compiling


@tag("bi.config")
def test_config() -> None:
    shown = run("begin { print(config); }").text
    for setting in fields(Config):
        hidden = setting.name in ("cache_user_symbols", "dummy_ts_map")
        assert (f".{setting.name} = " in shown) != hidden
    assert ".max_strlen = 1024, .missing_probes = error," in shown
    assert ".cpp_demangle = true," in shown
    head = 'config = { max_strlen = 100; stack_mode = "perf"; print_maps_on_exit = false } '
    text = "begin { print((config.max_strlen, config.stack_mode, config.print_maps_on_exit, sizeof(config.license))); }"
    assert run(head + text).text.split("\n")[0] == "(100, perf, false, 4)"
    assert run(text, environment=(("BPFTRACE_MAX_STRLEN", "77"),)).text.startswith("(77, bpftrace, true, 4)")
    folded = 'begin { print(comptime (config.stack_mode == "perf")); static_assert(config.max_strlen == 100, "no"); }'
    assert run(head + folded).text.split() == ["true"]
    for word in ("max_strln", "cache_user_symbols", "dummy_ts_map"):
        (message,) = refused(f"begin {{ print(config.{word}); }}")
        assert f"'{word}'" in message
