"""Hypothesis strategies for programs: nearly right ones, real ones with mistakes, words in any order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

import pytrace.language  # noqa: F401  (features register themselves)
from pytrace.grammar.spec import REGISTRY, Aggregation

HERE = Path(__file__).parent

_ALIKE = re.compile("s?arg[1-9][0-9]?")  # arg0 and sarg0 stand for them
FUNCTIONS = sorted(
    n for n, f in REGISTRY.functions.items() if not isinstance(f, Aggregation) and not _ALIKE.fullmatch(n)
)
AGGREGATIONS = sorted(n for n, f in REGISTRY.functions.items() if isinstance(f, Aggregation))

POINTS = {  # of FakeHost, each with numbers, strings and pointers that only it has
    "begin": (("cpu",), ("probe",), ("curtask",)),
    "end": (("pid",), ("func",), ("&@i",)),
    "interval:s:1": (("elapsed",), ("probe",), ("curtask",)),
    "profile:hz:99": (("ncpus",), ("func",), ("ctx",)),
    "software:cpu-clock:1000000": (("cpu",), ("probe",), ("ctx",)),
    "hardware:cycles:1000000": (("rand",), ("probetype",), ("ctx",)),
    "tracepoint:syscalls:sys_enter_openat": (
        ("args.dfd", "args.flags", "args.mode"),
        ("args.filename", "str(args.filename)"),
        ("args.filename", "args"),
    ),
    "tracepoint:syscalls:sys_exit_read": (("args.ret", "args.ret"), ("probe",), ("args",)),
    "tracepoint:syscalls:sys_enter_*": (("args.__syscall_nr",), ("str(args.filename)",), ("args.filename",)),
    "tracepoint:syscalls:sys_enter_write": (
        ("args.fd", "args.count"),
        ("str(args.buf, args.count)", "str(args.buf, 9)"),
        ("args.buf",),
    ),
    "tracepoint:syscalls:sys_enter_execve": (
        ("cgroup",),
        ("str(args.filename)",),
        ("args.argv", "args.argv[1]"),
    ),
    "tracepoint:sched:sched_switch": (
        ("args.prev_pid", "args.prev_state"),
        ("args.next_comm", "args.prev_comm"),
        ("args", "(int8 *)ctx"),
    ),
    "tracepoint:sched:sched_process_exec": (
        ("args.pid",),
        ("str(args.filename)", "args.filename"),
        ("args",),
    ),
    "tracepoint:raw_syscalls:sys_enter": (
        ("args.id", "args.args[1]", "args.args[$i]"),
        ("probe",),
        ("args.args[2]",),
    ),
    "tracepoint:timer:hrtimer_start": (
        ("args.mode", "args.expires"),
        ("probe",),
        ("args.function", "args.hrtimer"),
    ),
    "rawtracepoint:sched_switch": (
        ("arg0", "args.preempt", "args.prev->pid"),
        ("args.next->comm",),
        ("args.prev", "arg1"),
    ),
    "kprobe:vfs_read": (
        ("arg2", 'reg("ip")'),
        ("str(arg1)", "func"),
        ("(struct file *)arg0", "(int8 *)arg1"),
    ),
    "kprobe:vfs_*": (("arg0",), ("func", "probe"), ("(struct file *)arg0", "kptr(arg1)")),
    "kretprobe:vfs_read": (("retval",), ("func",), ("(void *)retval",)),
    "fentry:vfs_read": (
        ("args.count", "args.file->f_flags", "*args.pos"),
        ("str(args.buf)", "str(args.file->f_path.dentry->d_name.name)"),
        ("args.file", "args.pos", "args.file->f_path.dentry"),
    ),
    "fexit:vfs_unlink": (("retval", "args.dir->i_mode"), ("func",), ("args.dentry", "args.delegated_inode")),
    "fentry:ext4:ext4_sync_fs": (("args.wait",), ("probe",), ("args",)),
    "uprobe:/bin/bash:readline": (("arg0",), ("str(arg0)", "func"), ("uptr(arg0)", "(int8 **)arg1")),
    "uretprobe:libc:malloc": (("retval",), ("str(retval)",), ("(void *)retval",)),
    "uprobe:libc:m*": (("arg1", 'reg("di")'), ("usym(arg0)",), ("(uint8 *)arg0",)),
    "usdt:libc:setjmp": (("arg1",), ("probe",), ("arg0",)),
    "usdt:libc:*": (("arg0",), ("str(arg0)",), ("(void *)arg0",)),
    "kprobe:vfs_read, tracepoint:syscalls:sys_enter_read": (("pid",), ("probe",), ("curtask",)),
}
ODD_POINTS = (
    "BEGIN", "interval:ms:10", "kprobe:vfs_read+4", "kprobe:$1", "kprobe:$3", "test:a", "self:signal:SIGUSR1",
    "iter:task", "watchpoint:0x1000:8:w", "bench:x", "kprobe:nosuch", "tracepoint:syscalls:sys_enter_opnat",
    "profile:hz:0", "f:", "interval:s:-1", "*:vfs_read", "uprobe:/bin/bash:0x100", "kprobe:1",
    "uprobe:x:cpp:y", "end, begin", "usdt:libc", ":",
)  # fmt: skip

INTEGERS = (
    "0", "1", "7", "-1", "0x7fffffffffffffff", "18446744073709551615", "-9223372036854775808", "1e3", "5ms",
    "$i", "$n", "$1", "$#", "@i[1]", "@c", "@e", "pid", "tid", "nsecs", "cpu", "(uint8)300", "(int32)$i",
    "sizeof(uint16)", "((struct task_struct *)curtask)->pid", "$t->flags", "$p->parent->pid", "$t->in_execve",
    "$p->cred->uid.val", "offsetof(struct task_struct, comm)", "PIDTYPE_TGID", "(1, $i).1", "@t[1].0",
    "$a[1]", "strlen(comm)", "len(@i)", "len(kstack)", "bswap(pid)", "(uint64)&$i", "*(int32 *)$i", "$r.a",
    "1 / $i", "@c / 0", "pid == 1", "true", "$u.0", "@i[pid]", "comm == \"a\"", "$a[$i]", "$t",
    "has_key(@i, 1)", "$i++", "--$n", "@i[2]++", "@e--", "(bool)$i",
)  # fmt: skip
STRINGS = (
    '""', '"a"', '"abc\\n"', r'"%d %s\n"', "comm", "$s", "@s[1]", "str($1)", "probe", "$t->comm",
    "(1, comm).1", "strerror(3)", '(string[8])"ab"', "$r.b", "probetype", "$u.1", "pcomm", "str($t->comm, 3)",
    "@s[$i]", 'str("abc", 2)',
)  # fmt: skip
POINTERS = (
    "curtask", "(struct task_struct *)curtask", "$t", "$t->parent", "&$i", "&@i", "&$u", "$t->mm",
    "(void *)0", "$p", "kptr($i)", "uptr($i)", "$t->files", "(uint8 **)$i", "&$s", "$t + 1", "(int16 *)$t",
)  # fmt: skip
OTHERS = (
    "(1, 2)", "(1, comm)", "(1, (2, comm))", "(a = 1, b = comm)", "@t[1]", "$u", "$r", "kstack", "ustack",
    "kstack(3)", "ustack(perf, 2)", "@k[kstack]", "ntop(0x0100007f)", 'pton("127.0.0.1")', "macaddr(curtask)",
    "ksym(curtask)", "usym($i)", "buf($t, 4)", "*$t", "$t->se", "$t->cred->uid", 'strftime("%H", nsecs)',
    "false", "username", "cgroup_path(cgroup)", "(int8[4])1", "$a", '(uint8[4])"abcd"', "buf($a)",
    "buf(comm, $i)", "kstack(raw)", "(1, (a = $i, b = ($s, kstack)))",
)  # fmt: skip
ODD = (
    "()", "@", "@i", "@h", "@s", "print(1)", "exit()", "(count_t)1", "typeof(1)", "args", "args.nosuch",
    "arg9", "retval", "x", "nosuch()", "_", "@nosuch", "$nosuch", "$i.0", "$t->nosuch", "(struct nosuch *)1",
    "(struct task_struct)1", "ctx", "sarg0", "args.args", "$k", "1 / 0", "macro(1)", "'a'", "08", "$s[0]",
    "comm[1]", "{ }", "if 1 { }", "(1,)",
)  # fmt: skip
TYPES = (
    "int8", "int32", "uint64", "bool", "string", "string[4]", "int8[2]", "uint8[]", "struct task_struct *",
    "void *", "enum pid_type", "ksym_t", "typeof($i)", "typeof(comm)", "int32 *", "atomic_t", "uint16",
)  # fmt: skip
ODD_TYPES = (
    "struct task_struct", "inet", "count_t", "buffer[4]", "uint16[2][3]", "nosuch", "stack", "usum_t",
    "timestamp", "void", "string[0]", "int8[1000000000]", "struct nosuch", "typeof(struct task_struct)",
    "typeof(nosuch)", "hist_t", "string *",
)  # fmt: skip
BINARY = ("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", "==", "!=", "<", "<=", ">", ">=", "&&", "||")
TARGETS = {
    "int": ("$i", "$n", "@e", "@i[1]", "@i[pid]", "@n[$s]", "@o[1, comm]", "@o[(1, comm)]", "@q[kstack]"),
    "string": ("$s", "@s[1]", "@s[pid]", "$w"),
    "pointer": ("$t", "$x", "@p"),
    "any": ("$y", "@z", "@y[1]", "_", "@k[kstack]", "@j[(a = 1, b = 2)]"),
    "aggregate": ("@", "@a", "@b[1]", "@d[comm, pid]", "@f[kstack]", "@g[(1, (2, comm))]"),
}  # fmt: skip
ODD_TARGETS = (
    "$a", "$u", "@i", "@c", "@t[1, 2]", "@e[1]", "$1", "@h", "args.x", "pid", "@s[comm]", "$k", "$t->pid",
)  # fmt: skip


def one(table: Iterable[str]) -> st.SearchStrategy[str]:
    """One of a table."""
    return st.sampled_from(sorted(table))


KINDS = {"int": INTEGERS, "string": STRINGS, "pointer": POINTERS, "any": OTHERS, "odd": ODD}
KIND_OF_PARAMETER = {k: k for k in ("int", "string", "pointer", "map")} | {"integer": "int", "word": "mode"}
MAPS, KEYED = ("@", "@i", "@s", "@c", "@e", "@k"), ("@i", "@s", "@t", "@k")
MODES = ("perf", "raw", "boot", "init", "curr_ns", "sw_tai")
FORMATS = (
    "", "x", "%d\\n", "%s", "%d %s", "%-8lld %s", "%r", "%p", "%d %d %d", "%08x%c", "%gr", "%f", "%*d", "%",
    "%%",
)  # fmt: skip
LITERALS = {"int": ("0", "1", "2", "3", "5", "10", "64", "1000", "-1", "$1", "1000000"), "string": (
    '"ip"', '"jiffies"', '"::1"', '"1.2.3.4"', '"/sys/fs/cgroup"', '"%H:%M"', '"vfs_read"', '"a"', '""', "$2",
)}  # fmt: skip
SETUP = (
    '$i = 1; $s = "abcd"; $t = (struct task_struct *)curtask; $p = $t; $u = (1, comm); $a = (int8[4])1; '
    "$n = (uint16)3; $r = (a = 1, b = comm); @i[1] = 2; @s[1] = comm; @c = count(); @t[1] = (1, 2); @e = 1; "
    "@k[kstack] = 1; @ = sum(1);"
)
HEADS = (
    "config = { max_strlen = 16 }", "config = { on_stack_limit = 0; stack_mode = perf }",
    "config = { max_map_keys = 1; print_maps_on_exit = 0 }", "config = { max_strlen = 300 }",
    "config = { missing_probes = error }", "let @i = lruhash(10);", "let @c = percpuhash(1);",
    "let @i = hash(0);", "let @h = nosuch(1);", "macro m($x, @y, z) { $x + z }",
    "fn f($x: int32): int32 { return $x; }", "config = { x = 1 }", "struct s { int a; };", "#include <x.h>",
    'import "x";', "#!/usr/bin/pytrace\n", "let @c = percpulruhash(5)",
)  # fmt: skip


@dataclass
class Writer:
    """Writes one program; `draw` makes the choices. One piece in `odd` is of a kind that nobody asked for."""

    draw: Callable[[st.SearchStrategy[str]], str]
    number: Callable[[int, int], int]
    odd: int
    depth: int = 0
    loops: int = 0
    own: tuple[tuple[str, ...], ...] = ()  # numbers, strings, pointers of the attach point

    def chance(self, one_in: int) -> bool:
        return self.number(1, one_in) == one_in

    def pick(self, *table: str) -> str:
        return self.draw(st.sampled_from(table))

    @contextmanager
    def deeper(self) -> Iterator[None]:
        self.depth += 1
        yield
        self.depth -= 1

    def atom(self, kind: str) -> str:
        table = KINDS[kind]
        if self.own and kind in ("int", "string", "pointer") and self.chance(3):
            table = self.own[("int", "string", "pointer").index(kind)]
        return self.pick(*table)

    def expression(self, kind: str = "any") -> str:
        """An expression, most often of that kind."""
        if self.chance(self.odd):
            kind = self.pick(*KINDS)
        if kind == "map":
            return self.pick(*MAPS)
        if kind == "mode":
            return self.pick(*MODES)
        if kind == "any":
            kind = self.pick("any", "int", "string", "pointer")
        if self.depth > 3 or self.chance(2):
            return self.atom(kind)
        with self.deeper():
            return self.composed(kind)

    def type(self) -> str:
        return self.pick(*(ODD_TYPES if self.chance(self.odd) else TYPES))

    def composed(self, kind: str) -> str:
        e, choice = self.expression, self.number(4 if kind == "any" else 1, 10)
        match choice:
            case 1:
                return f"({e('int')} ? {e(kind)} : {e(kind)})"
            case 2:
                return f"if ({e('int')}) {{ {e(kind)} }} else {{ {self.statement()} {e(kind)} }}"
            case 3:
                return f"{{ {self.statement()} {e(kind)} }}"
            case 4:
                return f"({self.type()}){e(kind)}" if kind != "any" else self.call(self.pick(*FUNCTIONS))
            case 5:
                return self.call(self.pick(*FUNCTIONS))
            case _:
                return self.composed_of_kind(kind, choice)

    def composed_of_kind(self, kind: str, choice: int) -> str:
        e = self.expression
        match kind:
            case "int" if choice == 6:
                return f"{self.pick('-', '!', '~')}({e('int')})"
            case "int" if choice == 7:
                return f"({e('string')} {self.pick('==', '!=')} {e('string')})"
            case "int" if choice == 8:
                return f"({e('pointer')} {self.pick('==', '!=', '<', '&&')} {e('pointer')})"
            case "int":
                return f"({e('int')} {self.pick(*BINARY)} {e('int')})"
            case "string":
                return f"str({e('pointer')})"
            case "pointer":
                return f"({e('pointer')} {self.pick('+', '-')} {e('int')})"
            case "odd":
                return f"{e()}{self.pick('.x', '.0', '->pid', '[1]', '.1.0', '++', '[comm]', '->comm[2]')}"
            case _:
                return self.pick(f"({e()}, {e()})", f"(a = {e()}, b = {e()})", f"({e()}, {e()}).1")

    def call(self, name: str) -> str:
        """A call of a feature with arguments mostly as it wants them."""
        arguments = []
        for index, parameter in enumerate(REGISTRY.functions[name].parameters):
            if (parameter.optional or parameter.rest) and self.chance(2):
                break
            wanted = [KIND_OF_PARAMETER.get(k, "any") for k in parameter.kinds] or ["any"]
            kind = wanted[self.number(0, len(wanted) - 1)]
            if parameter.name == "format" and not self.chance(self.odd):
                arguments.append(f'"{self.pick(*FORMATS)}"')
            elif parameter.literal and kind in LITERALS and not self.chance(self.odd):
                arguments.append(self.pick(*LITERALS[kind]))
            else:
                arguments.append(self.expression(kind))
            if parameter.rest:
                arguments += [self.expression() for _ in range(self.number(0, 2))]
            assert index < 10
        if self.chance(self.odd):
            arguments.append(self.expression())
        if self.chance(self.odd):
            arguments = arguments[1:]
        return f"{name}({', '.join(arguments)})"

    def target(self, kind: str) -> str:
        return self.pick(*(ODD_TARGETS if self.chance(self.odd) else TARGETS[kind]))

    def statement(self) -> str:
        with self.deeper():
            choice = self.number(1, 16)
            return self.compound(choice) if choice > 10 else self.simple(choice)

    def simple(self, choice: int) -> str:
        e = self.expression
        match choice:
            case 1 | 2 | 3:
                kind = self.pick("int", "string", "pointer", "any")
                op = self.pick("", "", "+", "-", "<<", "/", "|", "&", "*") if kind == "int" else ""
                return f"{self.target(kind)} {op}= {e(kind)};"
            case 4 | 5:
                return f"{self.target('aggregate')} = {self.call(self.pick(*AGGREGATIONS))};"
            case 6:
                return f"let $v{self.number(1, 9)}{self.pick('', ': ' + self.type())} = {e()};"
            case 7:
                return f"{self.target('int')}{self.pick('++', '--')};"
            case 8:
                word = self.pick("return", "return 1", "break", "continue", "break", "continue")
                return f"{word if self.loops or self.chance(self.odd) else 'return'};"
            case _:
                return f"{self.call(self.pick(*FUNCTIONS))};"

    def compound(self, choice: int) -> str:
        e = self.expression
        match choice:
            case 11:
                name, shown = self.pick(*KEYED), self.pick("$k", "$k.0", "$k.1", "$i")
                return f"for ($k : {name}) {{ {self.body(1)} print({shown}); }}"
            case 12:
                return f"for ($j : ({e('int')})..({e('int')})) {{ {self.body(1)} $n = $j; }}"
            case 13:
                return f"while ({e('int')}) {{ {self.body(1)} {self.pick('break;', 'continue;', '$i++;')} }}"
            case 14:
                count = e("int") if self.chance(self.odd) else self.pick("1", "2", "3", "$1")
                return f"unroll ({count}) {{ {self.body()} }}"
            case _:
                otherwise = f"else {{ {self.body()} }}" if self.chance(2) else ""
                return f"if ({e('int')}) {{ {self.body()} }} {otherwise}"

    def body(self, loops: int = 0) -> str:
        if self.depth > 3:
            return ""
        self.loops += loops
        text = " ".join(self.statement() for _ in range(self.number(0, 3)))
        self.loops -= loops
        return text

    def probe(self) -> str:
        point = self.pick(*POINTS)
        self.own = POINTS[point]
        if self.chance(self.odd):
            point = self.pick(*ODD_POINTS)
        predicate = f" / {self.expression('int')} /" if self.chance(4) else ""
        setup = "" if self.chance(self.odd) else SETUP
        return f"{point}{predicate} {{ {setup} {self.body()} {self.statement()} }}"

    def program(self) -> str:
        head = f"{self.pick(*HEADS)}\n" if self.chance(8) else ""
        return head + "\n".join(self.probe() for _ in range(2 if self.chance(5) else 1))


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Programs that are right or nearly so."""
    odd = draw(st.sampled_from([15, 60, 1000]))
    return Writer(draw, lambda least, most: draw(st.integers(least, most)), odd).program()


# ---------------------------------------------------------------- real programs with mistakes


def _texts() -> list[str]:
    folders = (HERE.parent / "examples", HERE / "grammar" / "programs")
    files = [file for folder in folders for file in sorted(folder.glob("*.bt"))]
    features = [*REGISTRY.functions.values(), *REGISTRY.probes.values()]
    return [f.read_text() for f in files] + [text for f in features for text in f.examples()]


REAL = _texts()
_TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|[$@]?\w+|"[^"\n]*"|\s+|[-+*/<>=!&|.]{2}|.', re.DOTALL)
VOCABULARY = sorted(
    {t for text in REAL for t in _TOKEN.findall(text) if not t.isspace()}
    | {*FUNCTIONS, *AGGREGATIONS, *INTEGERS, *STRINGS, *POINTERS, *OTHERS, *TYPES, *ODD, *ODD_TYPES, *MODES}
)


def sort_of(token: str) -> str:
    """What may stand in a token's place without a syntax error."""
    if token.isspace():
        return "space"
    if token[0] in "$@":
        return "value"
    if token[0] in '"(-' or token[0].isalnum():
        return "value" if len(token) > 2 or token[0].isalnum() else token
    return "sign" if token in BINARY else token


LIKE = {sort: [t for t in VOCABULARY if sort_of(t) == sort] for sort in ("value", "sign")}


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A real program with a few words missing, doubled, swapped or, most often, replaced by their like."""
    words = list(_TOKEN.findall(draw(st.sampled_from(REAL))))
    for _ in range(draw(st.integers(1, 3))):
        first = words.index("{") if "{" in words and draw(st.integers(0, 5)) else 0
        at = draw(st.sampled_from([i for i in range(first, len(words)) if not words[i].isspace()] or [0]))
        match draw(st.sampled_from(["remove", "double", "swap", "insert", *["replace"] * 12])):
            case "remove" if len(words) > 1:
                del words[at]
            case "double":
                words.insert(at, words[at])
            case "swap":
                other = draw(st.integers(0, len(words) - 1))
                words[at], words[other] = words[other], words[at]
            case "replace":
                words[at] = draw(st.sampled_from(LIKE.get(sort_of(words[at]), [words[at]])))
            case _:
                words.insert(at, draw(st.sampled_from(VOCABULARY)))
    return "".join(words)


def soup() -> st.SearchStrategy[str]:
    """Words in any order, in a block."""
    words = st.lists(st.sampled_from([*VOCABULARY, "{", "}", "(", ")", ";", ",", "="]), max_size=12)
    points = one([*POINTS, *ODD_POINTS])
    return st.tuples(points, words.map(" ".join)).map(lambda parts: f"{parts[0]} {{ {parts[1]} }}")
