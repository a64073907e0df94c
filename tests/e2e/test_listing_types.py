"""`-l` and `-lv` of this kernel's types and probes, and what listing loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.e2e.conftest import Result

pytestmark = pytest.mark.root

IPHDR = """struct iphdr {
	__u8 ihl: 4;
	__u8 version: 4;
	__u8 tos;
	__be16 tot_len;
	__be16 id;
	__be16 frag_off;
	__u8 ttl;
	__u8 protocol;
	__sum16 check;
	union {
		struct {
			__be32 saddr;
			__be32 daddr;
		};
		struct {
			__be32 saddr;
			__be32 daddr;
		} addrs;
	};
};

"""


def listing(*arguments: str) -> Result:
    """A listing by the command line."""
    command = [sys.executable, "-m", "pytrace", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return Result(done.stdout, done.stderr, done.returncode)


@pytest.mark.tag("list.struct")
def test_types_of_the_kernel() -> None:
    assert listing("-l", "struct iphdr, union sigval,enum pid_typ*") == (
        "struct iphdr\nunion sigval\nenum pid_type\n",
        "",
        0,
    )
    assert listing("-lv", "struct iphdr") == (IPHDR, "", 0)
    assert listing("-lv", "enum pid_typ*").stdout.startswith(
        "enum pid_type {\n\tPIDTYPE_PID = 0,\n\tPIDTYPE_TGID = 1,\n"
    )
    assert listing("-lv", "union sigval").stdout == "union sigval {\n\tint sival_int;\n\tvoid *sival_ptr;\n};\n\n"
    assert listing("-lv", "struct there_is_no_such_struct") == ("", "", 0)


@pytest.mark.tag("list.struct")
def test_all_structs_have_a_definition() -> None:
    names = listing("-l", "struct *").stdout.splitlines()
    text = listing("-lv", "struct *").stdout
    heads = [line.removesuffix(" {") for line in text.splitlines() if line.startswith("struct ")]
    assert heads == names
    assert len(names) > 1000
    assert text.count("\n};\n\n") + text.count("\n} __attribute__((packed));\n\n") >= len(names) * 0.99


def test_listing_loads_neither_the_compiler_nor_other_features() -> None:
    code = (
        "import sys; from pytrace.cli import main; main(['-lv', 'tracepoint:sched:sched_switch']);"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('lark', 'llvmlite', 'elftools', 'clang', 'ctypes')"
        "or m.startswith(('pytrace.language.functions', 'pytrace.codegen', 'pytrace.runtime.btf'))))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert shown.startswith("tracepoint:sched:sched_switch\n    char prev_comm[16]\n")
    assert shown.splitlines()[-1] == "[]"
