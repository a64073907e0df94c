"""Types, promotion and casts at run time (reference part 1, sections 5 and 6, 11.3, 11.4)."""

from __future__ import annotations

import pytest

from pytrace.grammar.diagnostics import CompileError
from tests.e2e.programs import Rule, rules, run

pytestmark = pytest.mark.root

INTEGERS = [
    Rule(
        "type.int",
        "@a = (int8)-1; @b = (uint8)-1; @c = (int16)-1; @d = (uint16)-1; print((@a + 0, @b + 0, @c + 0, @d + 0));",
        "(-1, 255, -1, 65535)",
    ),
    Rule(
        "type.int",
        "@a = (int32)-1; @b = (uint32)-1; @c = (int64)-1; @d = (uint64)-1; print((@a, @b, @c, @d));",
        "(-1, 4294967295, -1, 18446744073709551615)",
    ),
    Rule(
        "type.bool",
        "$t = true; @m = $t; print((@m, $t == false)); $t = 5 > 6; print($t); print(sizeof(bool));",
        "(true, false) false 1",
    ),
    Rule(
        "type.literal.size type.sizeof",
        "print((sizeof(127), sizeof(128), sizeof(32768), sizeof(2147483648), sizeof(-129)));",
        "(1, 2, 4, 8, 2)",
    ),
    Rule("type.literal.flex", "$a = 1; $a = (uint64)-1; print($a);", "18446744073709551615"),
    Rule(
        "type.literal.flex infer.promote",
        "$a = 255; $a = (int8)-1; print($a); @a = 1; @a = (uint8)200; @b = @a; print(@b + 0);",
        "-1 200",
    ),
    Rule("infer.promote", "$a = (int8)-1; $a = (uint8)255; print(($a, sizeof($a)));", "(255, 2)"),
    Rule("infer.promote", "$a = (uint32)4294967295; $a = (int32)-2; print(($a, sizeof($a)));", "(-2, 8)"),
    Rule(
        "infer.promote infer.cast.implicit",
        "@a = (int8)-3; @b = @a; @b = (int64)1; @b = @a; print((@b, sizeof(@b)));",
        "(-3, 8)",
    ),
    Rule(
        "infer.promote",
        '$t = (1, "a"); $t = (300, "bcd"); $t = (2, "e"); print(($t, sizeof($t.0), sizeof($t.1)));',
        "((2, e), 2, 4)",
    ),
    Rule("infer.fixpoint", "let $v; $a = $v; $v = 10; print(($a, $v));", "(0, 10)"),
    Rule(
        "infer.var",
        'let $x: uint8 = 200; $x = (uint8)300; print($x); let $s: string = "ab"; $s = "abcd"; print($s);',
        "44 abcd",
    ),
    Rule("infer.map.value", "@n++; @n++; print((@n, sizeof(@n))); @d--; print(@d + 0);", "(2, 8) -1"),
    Rule(
        "infer.map.key",
        '@m["a"] = 1; @m["abc"] = 2; print((@m["a"], @m["abc"])); @k[1] = 1; @k[(int64)-1] = 2; print(@k[-1]);',
        "(1, 2) 2",
    ),
    Rule(
        "cast.explicit",
        "@x = 0x1ff; print(((uint8)@x, (int8)@x, (bool)@x, (uint64)(int8)@x));",
        "(255, -1, true, 18446744073709551615)",
    ),
    Rule(
        "cast.explicit",
        '$t = true; print(((int32)$t, (uint64)!$t, (bool)"", (bool)"x", (bool)0));',
        "(1, 0, false, true, false)",
    ),
    Rule(
        "cast.explicit",
        "$p = (int8 *)0x1234; print(((uint8)$p, (uint64)$p, (bool)$p)); print((int32 *)$p);",
        "(52, 4660, true) 0x1234",
    ),
    Rule("cast.explicit", '$s = "abc"; print(((string[8])$s, sizeof((string[8])$s)));', "(abc, 8)"),
    Rule(
        "cast.array cast.array.int",
        "$a = (int8[8])12345; print($a); print((int64)$a); print((int8[])(int16)513);",
        "[57,48,0,0,0,0,0,0] 12345 [1,2]",
    ),
    Rule(
        "cast.array",
        '@x = (uint16)0x0201; print((uint8[4])@x); print((int8[3])"ab"); print((bool[2])(uint16)@x);',
        "[1,2,0,0] [97,98,0] [true,true]",
    ),
    Rule("cast.array.int", 'print((uint32)pton("127.0.0.1"));', "16777343"),
    Rule(
        "cast.explicit type.pointer.arith", 'print(*(int32 *)"abc"); $s = "hello"; print(*(int8 *)$s);', "6513249 104"
    ),
]

STRINGS = [
    Rule("type.string", '$s = "abc"; @m = $s; print(($s, @m, sizeof($s)));', "(abc, abc, 4)"),
    Rule(
        "type.string.size",
        '@z = 0; print((sizeof(str(@z)), sizeof(str(@z, 10)), sizeof(comm()), sizeof("abc")));',
        "(1024, 11, 16, 4)",
    ),
    Rule(
        "type.string.grow rt.string.pad",
        '$s = "ab"; print((sizeof($s), $s)); $s = "abcdef"; $s = "x"; print($s);@k[$s] = 1; print(@k["x"]);',
        "(7, ab) x 1",
    ),
    Rule(
        "type.string.grow",
        '@m["longer key"] = "v"; @m["k"] = "a longer value"; print((@m["k"], @m["longer key"], @m["no"]));',
        "(a longer value, v, )",
    ),
    Rule(
        "type.string.grow",
        '$t = (1, "ab"); $t = (2, "abcdef"); @v[$t] = $t; $t = (1, "ab"); @v[$t] = $t;'
        'print(@v[2, "abcdef"]); print(@v[1, "ab"]);',
        "(2, abcdef) (1, ab)",
    ),
    Rule(
        "type.string.index",
        '$s = "hello"; print($s[1]); @i = (uint64)4; print($s[@i]); print("x"[0]); print(sizeof($s[0]));',
        "101 111 120 1",
    ),
    Rule("lex.string.limit", 'print("a\\0b"); @m["a\\0b"] = 1; @m["a"]++; print(@m["a"]);', "a 1"),
]

TUPLES = [
    Rule(
        "type.tuple",
        '$t = (1, "two", (3, true)); print($t); print(($t.0, $t.1, $t.2.1, $t[0]));',
        "(1, two, (3, true)) (1, two, true, 1)",
    ),
    Rule(
        "type.tuple.access",
        "@t = (1, (2, (3, 4))); $u = @t; print((@t.1.1.0, @t.1.0, $u[1][0])); $a = (5,); print($a.0);",
        "(3, 2, 2) 5",
    ),
    Rule(
        "type.tuple.layout",
        'print((sizeof(((int8)1, (int64)1)), sizeof((1, "abc", (int32)1)), sizeof((true, true))));',
        "(16, 12, 2)",
    ),
    Rule(
        "type.tuple.layout map.key.equality",
        '$k = ((int8)1, (int64)2); @m[$k] = 7; print(@m[1, 2]); @n[1, "a", 3] = 4; print(@n[1, "a", 3]);',
        "7 4",
    ),
    Rule(
        "type.tuple.members",
        "@c = count(); @c = count(); print((1, @c)); @s = sum(5); print((@s, @c));",
        "(1, 2) (5, 2)",
    ),
    Rule(
        "type.tuple.members",
        '@m[1] = (1, "a", pid, comm, true); $t = @m[1]; print($t.1); print(@m[2].1 == "");',
        "a true",
    ),
    Rule(
        "type.record.literal",
        '$r = (a = 1, b = "x"); print($r); print($r.b); @r = $r; print(@r.a);',
        "{ .a = 1, .b = x } x 1",
    ),
    Rule(
        "type.record.literal type.tuple.cmp",
        "$r = (a = 1, b = 300); print($r == (b = 300, a = 1)); print($r == (a = 1, b = 2));",
        "true false",
    ),
    Rule("type.tuple", '$t = (1, "a"); $u = $t; $t = (2, "b"); print($u); print($t);', "(1, a) (2, b)"),
]

AGGREGATES = [
    Rule(
        "type.agg.cast agg.sync-read",
        "@c = count(); @c = count(); print(@c + 1); print((int64)@c); $x = @c; print($x); print(@c > 1);",
        "3 2 2 true",
    ),
    Rule(
        "type.agg.cast",
        "@s = sum(5); @s = sum(-7); @mi = min(3); @mi = min(9); @ma = max(3); @ma = max(9); @av = avg(4); @av = avg(8);"
        "print(((int64)@s, @mi + 0, @ma + 0, @av + 0));",
        "(-2, 3, 9, 6)",
    ),
    Rule(
        "type.agg.cast",
        '@c["a"] = count(); @i = (int64)0; @i = @c["a"]; print(@i + 0); @k[@c["a"]] = 5; print(@k[1]);',
        "1 5",
    ),
    Rule(
        "type.agg.cast agg.sync-read",
        '@c["a"] = count(); print(@c["zz"] + 0); if (@c["a"] == 1) { print("one"); } @v = avg(-6); @v = avg(-9); print(@v + 0);',
        "0 one -7",
    ),
    Rule(
        "type.agg.sign",
        "@s = sum((uint32)5); print((@s + 0, sizeof(@s))); @t = max((uint64)-1); print(@t + 0);",
        "(5, 8) 18446744073709551615",
    ),
    Rule(
        "type.agg map.percpu.read",
        "@m = max(-5); print(@m + 0); @n = min((uint64)7); print(@n + 0); @e = count(); print(@e * 3);",
        "-5 7 3",
    ),
]

C_HEAD = """#define SEVEN 7
#define SUM (SEVEN + 1)
#define NAME "macro text"
#define FIELD curtask->pid
struct inner { int x; char c; };
struct outer {
  char tag; struct inner in; int arr[3]; unsigned lo : 3, hi : 5;
  union { int u32; char bytes[4]; };
  struct { short s1; short s2; };
  struct inner *next; char name[8]; struct inner list[2]; int grid[2][3];
};
enum color { RED, GREEN = 5, BLUE };
enum { ANON_A = 1, ANON_B };
struct __attribute__((packed)) tight { char a; int b; };
"""

C_TYPES = [
    Rule(
        "type.cmacro lex.cpp.line",
        "print(SEVEN); print(SUM * 2); print(NAME); print(FIELD == tid);",
        "7 16 macro text true",
        head=C_HEAD,
    ),
    Rule(
        "type.enum type.enum.const val.enum",
        'print(GREEN); @e = BLUE; print(@e == BLUE); print((@e, ANON_B, RED + 1)); printf("%d %s\\n", GREEN, GREEN);',
        "GREEN true (BLUE, ANON_B, 1) 5 GREEN",
        head=C_HEAD,
    ),
    Rule(
        "type.enum.const",
        "@x = 6; $c = (enum color)@x; print($c); @x = 9; print((enum color)@x); print((enum color)5);",
        "BLUE 9 GREEN",
        head=C_HEAD,
    ),
    Rule(
        "infer.promote type.enum",
        "$n = 10; $p = (struct of_enum *)&$n; $a = GREEN; $a = $p->c; print($a); $b = 5; $b = BLUE; print($b);"
        "$c = (int32)-1; $c = BLUE; print(($c, sizeof($c))); $d = $n > 5 ? $p->c : RED; print($d); $e = RED; $e = TOP; print($e);",
        "BIG BLUE (6, 8) BIG 3",
        head=C_HEAD.replace("BLUE }", "BLUE, BIG = 10 }; enum top { TOP = 3 }; struct of_enum { enum color c; }"),
    ),
    Rule(
        "infer.promote infer.map.key type.enum",
        '@m[BLUE, "a"] = GREEN; @m[(int32)5, "b"] = 7; $k = (int32)6; print(@m[$k, "a"]); @n[GREEN] = 1; @n[300] = 2;'
        "print(@n[5]); for ($kv : @n) { if ($kv.1 == 1) { print($kv.0); } }",
        "GREEN 1 GREEN",
        head=C_HEAD,
    ),
    Rule("type.typeof.bareword", "print((sizeof(GREEN), sizeof((GREEN)), sizeof(pid)));", "(8, 8, 4)", head=C_HEAD),
    Rule(
        "type.sizeof type.offsetof lex.cdef",
        "print((sizeof(struct inner), offsetof(struct outer, in.c), offsetof(struct outer, s2), sizeof(struct outer)));",
        "(8, 8, 34, 96)",
        head=C_HEAD,
    ),
    Rule(
        "lex.cdef type.cdef.btf-mix",
        "print((sizeof(struct a), sizeof(struct b), offsetof(struct b, l), TOP));",
        "(4, 36, 12, TOP)",
        head="struct a { int x; } struct b { struct a *p; u32 y; struct list_head l; struct task_struct *t; } __attribute__((packed)) enum tops { TOP = 3 }",
    ),
    Rule(
        "type.struct.source",
        "print(sizeof(struct task_struct)); $t = (struct task_struct *)(uint64)curtask; print($t->one == curtask->one); print(sizeof(curtask->two));",
        "16 true 8",
        head="struct task_struct { int one; long two; };",
    ),
    Rule(
        "lex.cpp.line type.struct.source",
        "print(VALUE);",
        "4",
        head="#ifdef BPFTRACE_HAVE_BTF\n#define VALUE 4\n#else\n#include <nosuch.h>\n#endif",
    ),
    Rule("type.struct.attr", "print((sizeof(struct tight), offsetof(struct tight, b)));", "(5, 1)", head=C_HEAD),
    Rule(
        "type.syntax.postfix type.void",
        "print((sizeof(int32*[4]), sizeof(int32[4]*), sizeof(string[64][2]), sizeof(void*), sizeof(int8[2][3]))); $v = (void *)5; print($v);",
        "(32, 8, 128, 8, 6) 0x5",
    ),
    Rule(
        "stmt.let type.array",
        'let $a: int8[8] = (int8[8])5; print($a); let $t: struct task_struct; $t = *curtask; print($t.pid == tid); let $c: typeof(curtask->comm); $c = "ab"; print($c);',
        "[5,0,0,0,0,0,0,0] true ab",
    ),
    Rule(
        "stmt.let type.inet type.timestamp",
        'let $x: timestamp; $x = strftime("now", nsecs); print($x); let $i: inet; $i = ntop(1); print($i);',
        "now 1.0.0.0",
    ),
    Rule(
        "type.sizeof",
        "print((sizeof(uint32), sizeof(int64 *), sizeof(int8[7]), sizeof(struct task_struct) > 1000, sizeof(pid), sizeof(1 + 2)));",
        "(4, 8, 7, true, 4, 1)",
    ),
]

KERNEL = [
    Rule(
        "cast.explicit",
        '$s = "abc"; $p = (int8 *)$s; print((*$p, $p[1], *($p + 2), ((uint64)$p & 1) == 0, (bool)$p));',
        "(97, 98, 99, true, true)",
    ),
    Rule(
        "type.struct type.struct.field type.pointer",
        "print(curtask->pid == tid); print(curtask.tgid == pid); $t = curtask; print($t.pid == tid);",
        "true true true",
    ),
    Rule(
        "type.struct.field type.string.chararray",
        "print(curtask->comm == comm); print(curtask.group_leader->comm == comm);"
        "print(curtask->real_parent->pid > 0); print(sizeof(curtask->comm));",
        "true true true 16",
    ),
    Rule(
        "type.struct.anon",
        "print(curtask->mm->pgd != 0); print(curtask->group_leader->group_leader->pid == pid);",
        "true true",
    ),
    Rule(
        "type.pointer.arith",
        "$t = curtask; $u = $t + 1; print((uint64)$u - (uint64)$t == sizeof(struct task_struct)); $v = $u - 1; print($v == $t);"
        "print(1 + $t == $u);",
        "true true true",
    ),
    Rule(
        "expr.deref type.pointer.arith",
        "$p = (int32 *)((uint64)curtask + offsetof(struct task_struct, pid)); print(*$p == tid); print($p[0] == tid);"
        "print(*kptr($p) == tid);",
        "true true true",
    ),
    Rule(
        "expr.deref",
        "print(*((uint64)curtask + offsetof(struct task_struct, group_leader)) == (uint64)curtask->group_leader);",
        "true",
    ),
    Rule(
        "type.array type.array.index",
        "$c = (uint8[16])curtask->comm; $d = curtask->comm; print($d[0] == comm[0]); print(curtask->comm[0] == comm[0]);",
        "true true",
    ),
    Rule(
        "cast.explicit",
        "$t = (struct task_struct *)(uint64)curtask; print($t->pid == tid); print(((struct task_struct *)curtask)->pid == tid);",
        "true true",
    ),
    Rule(
        "type.ctypedef",
        "@x = -1; print((pid_t)@x); print((u32)@x); print((size_t)@x); print(sizeof(char)); print((unsigned)@x);",
        "-1 4294967295 18446744073709551615 1 4294967295",
    ),
    Rule(
        "rt.read.fail",
        "$p = (int64 *)16; print($p[0]); @z = 16; print(str(@z)); $t = (struct task_struct *)64; print($t->pid); print($t->comm); print(*kptr($p));"
        "print($t->mm->pgd);",
        "0 0 0 0x0",
    ),
    Rule(
        "cast.array",
        "$b = pid > 0; print((bool[1])$b); print((int8[1])$b); print((uint8[])$b == (uint8[])false); print((uint8[8])GREEN);",
        "[true] [1] false [5,0,0,0,0,0,0,0]",
        head=C_HEAD,
    ),
    Rule(
        "type.string.index type.array.index",
        '$s = "abc"; $i = 2; $j = 9; print(($s[$i], $s[$j])); @a = curtask->comm; $n = 0; $c = str(curtask->comm);'
        "for ($k : 0..20) { if ($c[$k] == 0) { break; } $n++; } print($n == strlen($c));"
        "@q = (int32[])(uint64)0x0000000700000005; $w = @q; $l = 1; print(($w[$l], $w[$j]));",
        "(99, 0) true (7, 0)",
    ),
    Rule(
        "cast.explicit",
        '$p = (int8 *)"abc"; $q = (int8 *)str(curtask->comm); $other = ("words", comm, str(curtask->comm));'
        'for ($i : 0..2) { $r = (int8 *)"loop"; $more = ("text", comm); $q = (int8 *)"new"; print(str($r)); }'
        '$last = ("words", comm, str(curtask->comm)); print(($p[1], str($p), str($q)));',
        "loop loop (98, abc, new)",
    ),
    Rule("expr.addrof", '$x = 5; $p = &$x; print(*$p); $s = "text"; print(str(&$s));', "5 text"),
    Rule(
        "type.typeof", "$x = (int16)5; let $y: typeof($x) = 300; print((sizeof($y), (typeof($x))70000));", "(2, 4464)"
    ),
]


@rules([*INTEGERS, *STRINGS, *TUPLES, *AGGREGATES, *C_TYPES, *KERNEL])
def test_type(rule: Rule) -> None:
    assert rule.run() == rule.shows


@pytest.mark.tag("type.struct.errors", "err.name.type")
def test_a_field_of_a_struct_of_which_only_the_name_is_known() -> None:
    head = "struct known { struct nosuch *p; }; struct empty { };"
    for field, message in (
        ("p.x", 'Cannot resolve unknown type "struct nosuch"'),
        ("y", "Struct/union of type 'struct known' does not contain a field named 'y'"),
    ):
        with pytest.raises(CompileError) as caught:
            run(f"{head} begin {{ print(((struct known *)curtask).{field}); }}")
        assert [d.message for d in caught.value.diagnostics] == [message]
    with pytest.raises(CompileError, match="Struct/union of type 'struct empty'"):
        run(f"{head} begin {{ print(((struct empty *)curtask).x); }}")
