"""Functions for text and bytes on this kernel (reference part 2, section 2.2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytrace.language.syscalls import SYSCALLS
from tests.e2e.children import python
from tests.e2e.facts import COMM, KERNEL_TEXT, LIBC, UserText
from tests.e2e.programs import Rule, begin, rules, run

pytestmark = pytest.mark.root

# ---------------------------------------------------------------- str and buf


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
        begin(KERNEL_TEXT + "print(str($p)); print(str($p, 3)); print(str((int8 *)$p));") == f"{COMM} {COMM[:2]} {COMM}"
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
        assert run(f"config = {{ max_strlen = {size} }} begin {{ print(str(uptr($1))); }}", text.address).text == (
            "x" * size + "..\n"
        )


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


FORMATS = [
    # a format is not one of the strings that max_strlen limits
    Rule("lex.string.limit fn.printf", f'printf("{"x" * 3000}%d\\n", 7);', f"{'x' * 3000}7"),
    Rule("lex.string.limit fn.cat", f'cat("{"/" * 1100}proc/%d/comm", pid);', COMM),
]  # fmt: skip

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
    Rule("fn.str", 'if (str($1) == "x y") { print("same"); } printf("%s\\n", str($1));', "same x y", ("x y",)),
]


@rules(FORMATS)
def test_long_formats(rule: Rule) -> None:
    assert rule.run() == rule.shows


@rules(STR_FOLD)
def test_str_of_literals(rule: Rule) -> None:
    assert rule.run() == rule.shows


@pytest.mark.tag("fn.buf", "type.buffer", "val.buffer", "fmt.r")
def test_buf() -> None:
    data = UserText(b"a\x01b\xffcdefgh")
    body = 'printf("%r|%rx|%rh\\n", buf(uptr($1), 4), buf(uptr($1), 2), buf(uptr($1), 3));'
    assert run(f"begin {{ {body} }}", data.address).text == "a\\x01b\\xff|\\x61\\x01|61 01 62\n"
    assert begin("$n = 6; print(buf(uptr($1), $n)); $n = 0; print(sizeof(buf(uptr($1), 3)));", data.address) == (
        "a\\x01b\\xffcd 7"
    )
    assert begin('print(buf(pton("1.2.3.4"))); print(buf("abc", 2)); $s = "hello"; $n = 4; print(buf($s, $n));') == (
        "\\x01\\x02\\x03\\x04 ab hell"
    )
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
        KERNEL_TEXT + f'print(strcontains(str($p), "{COMM[2:]}")); print(strcontains(str($p), "{COMM[2:]}x"));'
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
        'print(sizeof(strerror(2))); if (strerror(11) == "Resource temporarily unavailable") { print("again"); }',
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
    assert run("config = { max_strlen = 10 } begin { print(strlen(str(uptr($1)))); }", text.address).text == "10\n"


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
    if "cachestat" not in names:
        pytest.skip("this kernel is older than all of these system calls (Linux 6.5 has the first)")
    assert len(names) >= 3
    points = ", ".join(f"tracepoint:syscalls:sys_enter_{n}" for n in names)
    text = f"""{points} /pid == cpid/ {{ @p[probe] = 1; }}
        tracepoint:raw_syscalls:sys_enter /pid == cpid && args.id > 450/ {{
            @n[syscall_name(args.id)] = 1; }}"""
    maps = run(text, command=python(tmp_path, code)).maps
    probes = {name.removeprefix("tracepoint:syscalls:sys_enter_") for name in maps["@p"]}
    assert probes == set(names) <= set(maps["@n"])
