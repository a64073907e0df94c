"""Types of the kernel by BTF: what programs read is what the kernel tells this process in other ways."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytrace.grammar.diagnostics import CompileError
from pytrace.runtime.cpus import possible
from tests.e2e.programs import begin, run

pytestmark = pytest.mark.root

PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h


def error_of(text: str) -> str:
    """The first message of a program that does not compile."""
    with pytest.raises(CompileError) as caught:
        run(text)
    return caught.value.diagnostics[0].message


# ---------------------------------------------------------------- the task that runs the program: this one


@pytest.mark.tag("type.struct", "type.struct.field", "type.pointer", "type.string.chararray")
def test_members_through_pointers() -> None:
    shown = begin(
        "print((curtask->tgid, curtask->real_parent->tgid, curtask.group_leader->pid, curtask->static_prio - 120));"
        "print(curtask->fs->umask); print(curtask->nsproxy->uts_ns->name.nodename);"
        "print(curtask->mm->arg_end - curtask->mm->arg_start);"
    )
    umask = os.umask(0)
    os.umask(umask)
    arguments = len(Path("/proc/self/cmdline").read_bytes())
    expected = (
        f"({os.getpid()}, {os.getppid()}, {os.getpid()}, {os.nice(0)}) {umask} {socket.gethostname()} {arguments}"
    )
    assert shown == expected


@contextmanager
def reset_on_fork() -> Iterator[None]:
    """This thread with the flag that is a bit-field of its task_struct."""
    os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def subreaper() -> Iterator[None]:
    """This process with the flag that is a bit-field of its signal_struct, next to others."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.mark.tag("type.struct.bitfield")
def test_bit_fields() -> None:
    body = (
        "print((curtask->sched_reset_on_fork, curtask->signal->is_child_subreaper,"
        "curtask->signal->has_child_subreaper));"
    )
    assert begin(body) == "(0, 0, 0)"
    with reset_on_fork():
        assert begin(body) == "(1, 0, 0)"
    with subreaper():
        assert begin(body) == "(0, 1, 0)"
        assert ".is_child_subreaper = 1, .has_child_subreaper = 0" in begin("print(*curtask->signal);")


@pytest.mark.tag("type.array", "type.array.index", "type.struct.anon", "type.pointer.arith")
def test_arrays_of_structs_and_pointers(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    name = "a file with a name of its own"
    with (tmp_path / name).open("w") as file:
        fd, node = file.fileno(), os.fstat(file.fileno()).st_ino
        shown = begin(
            f"$l = curtask->signal->rlim[{resource.RLIMIT_NOFILE}]; print(($l.rlim_cur, $l.rlim_max));"
            "print(curtask->signal->pids[PIDTYPE_TGID]->numbers[0].nr);"
            "$fds = curtask->files->fdt->fd; $i = (uint64)$1;"
            "print(($fds[$i]->f_inode->i_ino, (*($fds + $i))->f_inode->i_nlink, $fds[$i]->f_path.dentry->d_name.len));"
            "print(str($fds[$1]->f_path.dentry->d_name.name));",
            fd,
        )
    assert shown == f"({limits[0]}, {limits[1]}) {os.getpid()} ({node}, 1, {len(name)}) {name}"


@pytest.mark.tag("type.struct.value", "val.record")
def test_a_struct_is_shown_whole() -> None:
    shown = begin("print(*curtask->cred); @c = *curtask->cred; print(@c.fsgid); print(curtask->cred->euid.val);")
    whole = next(line for line in shown.split(" } { ") if ".usage" in line)
    assert f".uid = {{ .val = {os.getuid()} }}, .gid = {{ .val = {os.getgid()} }}," in whole
    assert shown.endswith(f"{{ .val = {os.getgid()} }} {os.geteuid()}")


@pytest.mark.tag("type.enum", "type.enum.const")
def test_enumerators_of_the_kernel() -> None:
    body = "print((PIDTYPE_PID, PIDTYPE_SID, PIDTYPE_TGID + 0)); @x = 1; print((enum pid_type)@x);"
    assert begin(body) == "(PIDTYPE_PID, PIDTYPE_SID, 1) PIDTYPE_TGID"
    assert error_of("begin { print((enum pid_type)77); }") == "Enum: pid_type doesn't contain a variant value of 77"
    assert error_of("begin { print((enum nosuch)1); }") == 'Cannot resolve unknown type "enum nosuch"'


# ---------------------------------------------------------------- kernel types over memory with known bytes


def over(kind: str, data: bytes, body: str) -> str:
    """What a program shows of `$p`, a pointer to a kernel type that lies over some bytes of this process."""
    memory = ctypes.create_string_buffer(data, len(data))
    return begin(f"$p = ({kind} *)uptr((uint64)$1); {body}", ctypes.addressof(memory))


@pytest.mark.tag("type.array.flex")
def test_flexible_arrays() -> None:
    groups = b"".join(n.to_bytes(4, "little") for n in (1, 3, 10, 20, 30))
    body = (
        "print(($p->ngroups, $p->gid[0].val, $p->gid[2].val, sizeof($p->gid))); @i = 1; print($p->gid[(uint64)@i].val);"
    )
    assert over("struct group_info", groups, body) == "(3, 10, 30, 0) 20"
    entry = (99).to_bytes(8, "little") + bytes(8) + (24).to_bytes(2, "little") + b"\x04name\0"
    body = "print(($p->d_ino, $p->d_reclen, $p->d_type, $p->d_name[0])); print(str(uptr((uint64)$p + offsetof(struct linux_dirent64, d_name))));"
    assert over("struct linux_dirent64", entry, body) == "(99, 24, 4, 110) name"


@pytest.mark.tag("type.array.index", "type.array")
def test_arrays_of_arrays() -> None:
    numbers = b"".join(n.to_bytes(8, "little") for n in range(100, 130))
    memory = ctypes.create_string_buffer(numbers, len(numbers))
    text = (
        "struct cell { u32 low; u32 high; }; struct grid { u64 first; u64 cells[3][4]; struct cell more[2][2]; };"
        "begin { $g = (struct grid *)uptr($1); $i = (uint64)2;"
        "print(($g->cells[0][0], $g->cells[1][2], $g->cells[$i][$i + 1], $g->more[1][0].low, $g->more[1][$i / 2].low));"
        "$row = $g->cells[1]; print($row[3]); print($g->cells[2]); @rows = $g->cells; print((@rows)[1][1]); }"
    )
    assert run(text, ctypes.addressof(memory)).text == "(101, 107, 112, 115, 116)\n108\n[109,110,111,112]\n106\n"
    wrong = text.replace("$g->cells[1][2]", "$g->cells[1][4]").replace("$1", "0")
    assert error_of(wrong) == "the index 4 is out of bounds for array of size 4"


@pytest.mark.tag("type.struct.anon", "type.struct.bitfield", "type.cdef.btf-mix")
def test_bit_fields_of_a_network_header() -> None:
    # tests both halves of a byte, and a member of anonymous unions inside unions
    header = bytes.fromhex("4a0000541c4640004006b1e6c0a80001c0a800c7")
    body = "print(($p->ihl, $p->version, $p->ttl, bswap($p->tot_len), bswap($p->addrs.saddr) & 0xff, $p->saddr == $p->addrs.saddr));"
    assert over("struct iphdr", header, body) == "(10, 4, 64, 84, 1, true)"
    mixed = "struct mine { struct iphdr h; u16 after; } __attribute__((packed));"
    memory = ctypes.create_string_buffer(header + b"\x07\x00", 22)
    text = f"{mixed} begin {{ $m = (struct mine *)uptr($1); print(($m->h.ihl, $m->after, sizeof(struct mine))); }}"
    assert run(text, ctypes.addressof(memory)).text == "(10, 7, 22)\n"


# ---------------------------------------------------------------- functions


@pytest.mark.tag("fn.percpu_kaddr", "type.addr-results")
def test_per_cpu_variables() -> None:
    body = (
        'print(*percpu_kaddr("cpu_number") == cpu); print((*percpu_kaddr("current_task"))->pid == tid);'
        f'for ($c : 0..{possible()}) {{ $p = percpu_kaddr("this_cpu_off", $c);'
        'print((*percpu_kaddr("cpu_number", $c), (uint64)$p - *$p)); }'
        'print(percpu_kaddr("cpu_number", 100000));'
    )
    shown = run(f"begin {{ {body} }}").text.split("\n")
    assert shown[:2] == ["true", "true"]
    rows = [tuple(map(int, row.strip("()").split(", "))) for row in shown[2:-2]]
    assert [number for number, _ in rows] == list(range(possible()))
    assert len({start for _, start in rows}) == 1, "a copy minus its CPU's offset is the same place for all CPUs"
    assert shown[-2] == "0x0"


@pytest.mark.tag("fn.percpu_kaddr")
def test_a_per_cpu_struct_is_that_of_proc() -> None:
    def user() -> int:
        line = Path("/proc/stat").read_text().split("\n")[1]
        return int(line.split()[1])

    before = user()
    shown = int(begin('print(percpu_kaddr("kernel_cpustat", 0)->cpustat[CPUTIME_USER]);'))
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    assert before * tick <= shown <= (user() + 1) * tick


@pytest.mark.tag("fn.percpu_kaddr")
def test_no_such_per_cpu_variable() -> None:
    assert error_of('begin { percpu_kaddr("no_such_x"); }') == 'Could not resolve variable "no_such_x" from BTF'


@pytest.mark.tag("fn.container_of")
def test_container_of() -> None:
    body = (
        "$l = (struct list_head *)((uint64)curtask + offsetof(struct task_struct, tasks));"
        "print(container_of($l, typeof(struct task_struct), tasks)->pid == tid);"
        "$v = (uint64)curtask + offsetof(struct task_struct, se.vruntime);"
        "print(container_of($v, typeof(*curtask), se.vruntime) == curtask);"
    )
    assert begin(body) == "true true"
    wrong = "begin { print(container_of(curtask, typeof(struct task_struct), nosuch)); }"
    assert "does not contain a field named 'nosuch'" in error_of(wrong)
    assert error_of("begin { print(container_of(curtask, 5, pid)); }") == "container_of() expects typeof(...) here"


@pytest.mark.tag("fn.memcmp")
def test_memcmp() -> None:
    body = (
        'print((memcmp("abc", "abd", 3), memcmp("abc", "abd", 2), memcmp("\\xff", "\\x01", 1), memcmp("a", "b", 0)));'
        '$s = "abc"; print((memcmp($s, curtask, 0), memcmp(curtask->comm, comm, 16), memcmp(&$s, "abd", 3)));'
        "print(memcmp(curtask, curtask->group_leader, 64));"
    )
    assert begin(body) == "(-1, 0, -2, 0) (0, 0, -1) 0"
    assert "goes beyond a value of 4 bytes" in error_of('begin { print(memcmp("abc", "abd", 5)); }')


@pytest.mark.tag("map.find", "fn.find")
def test_find() -> None:
    body = "@m[1] = 5; $v = 9; print(find(@m, 2, $v)); print($v); print(find(@m, 1, $v)); print($v);"
    assert begin(body) == "false 9 true 5"
    body = '@s["a"] = ("x", comm); if (find(@s, "a", $t)) { print($t.0); } @c["k"] = count(); print(find(@c, "k", $n)); print($n);'
    assert begin(body) == "x true 1"
    body = "@u[1] = *curtask->signal; _ = find(@u, 1, $z); print($z.rlim[7].rlim_cur); clear(@u);"
    assert begin(body) == str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    assert error_of("begin { @m[1] = 1; print(find(@m, 1, 5)); }") == "find() expects a variable ($name) here"


@pytest.mark.tag("fn.len-stack")
def test_len_of_a_stack() -> None:
    depth = int(begin("print(len(kstack(100)));"))
    assert begin(f"print((len(kstack(2)), len(kstack(100)) == {depth}, len(ustack(1))));") == "(2, true, 1)"
    assert depth > 2


@pytest.mark.tag("type.typeinfo", "fn.typeinfo")
def test_typeinfo() -> None:
    switch = "config = { unstable_typeinfo=enable }"
    body = (
        'print(typeinfo(5)); $t = typeinfo(curtask); print($t.full_type); $x = 1; if (typeinfo($x).base_type == "int") { print("int"); }'
        "print(comptime (typeinfo(comm).base_type)); print(typeinfo(struct task_struct).btf_id > 0);"
        '@s = kstack(2); print(typeinfo(@s).full_type); print(typeinfo((1, "a")).full_type); clear(@s);'
    )
    assert run(f"{switch} begin {{ {body} }}").text.splitlines() == [
        "{ .btf_id = 0, .base_type = int, .full_type = int8 }",
        "struct task_struct *",
        "int",
        "string",
        "true",
        "kstack_bpftrace_2",
        "(int8,string[2])",
    ]


@pytest.mark.tag("type.typeof.noeval")
def test_operands_are_not_executed() -> None:
    body = "$x = 1; print((sizeof($x++), $x)); @m[1] = 2; print(sizeof(delete(@m, 1))); let $y: typeof($x++) = 3; print((@m[1], $x));"
    assert begin(body) == "(8, 1) 1 (2, 1)"


@pytest.mark.tag("cast.same", "type.addrspace.mix")
def test_warnings_of_casts_and_mixed_memories() -> None:
    shown = run("begin { $a = (int32)5; $b = (int32)$a; $x = kptr((int8 *)8) + uptr(8); print(($b, $x)); }")
    assert shown.text == "(5, 0x10)\n"
    assert shown.words == [
        "Unnecessary cast: the value is of type 'int32' already",
        "address space mismatch: 'int8 *' and 'int8'",
    ]


@pytest.mark.tag("type.array.cmp")
def test_arrays_are_compared_by_their_bytes() -> None:
    body = (
        'print((pton("1.2.3.4") == pton("1.2.3.4"), pton("1.2.3.4") != pton("1.2.3.5")));'
        "print(curtask->cpus_mask.bits == curtask->group_leader->cpus_mask.bits);"
        "$b = (uint64)curtask; print((int8[8])$b == (int8[8])(uint64)curtask->group_leader);"
    )
    assert begin(body) == "(true, true) true true"


@pytest.mark.tag("rt.ptr.width")
def test_pointers_have_64_bits() -> None:
    memory = ctypes.create_string_buffer((0x1122334455667788).to_bytes(8, "little") * 2)
    body = "$p = (int64 **)uptr($1); print(*$p); print((sizeof($p), sizeof(*$p), sizeof(void *)));"
    assert begin(body, ctypes.addressof(memory)) == "0x1122334455667788 (8, 8, 8)"


@pytest.mark.tag("rt.int.shift")
def test_shift_counts_are_taken_modulo_64() -> None:
    assert begin("@n = 65; @one = 1; print((@one << @n, (uint64)256 >> (@n + 2), @one << 63 >> @n));").startswith(
        "(2, 32, "
    )


@pytest.mark.tag("rt.limit.printf")
def test_arguments_of_printf_are_limited() -> None:
    def program(count: int) -> str:
        return f'begin {{ printf("{"%d" * count}\\n"{", 7" * count}); }}'

    assert run(program(127)).text == "7" * 127 + "\n"
    assert "printf() takes up to 128 arguments (129 provided)" in error_of(program(128))


@pytest.mark.tag("probe.ctx.loop")
def test_what_was_copied_before_a_loop_is_there_in_it() -> None:
    text = (
        "tracepoint:sched:sched_process_exit /pid == cpid/ { $p = args.pid; for ($i : 0..3) { @[$i] = $p; } exit(); }"
    )
    shown = run(text, command="/bin/true")
    assert set(shown.maps["@"]) == {0, 1, 2}
    assert len(set(shown.maps["@"].values())) == 1
    assert error_of(text.replace("= $p;", "= args.pid;")) == "'args' builtin is not allowed in a for-loop"
