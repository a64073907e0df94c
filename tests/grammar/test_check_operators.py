"""What the compiler says of operators, conditions and constants (reference part 1, sections 7, 8.3, 12.5)."""

from __future__ import annotations

from pytrace.grammar.diagnostics import Severity
from tests.grammar.messages import Said, rows


def sides(left: str, left_type: str, right: str, right_type: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (left, f"left ({left_type})"), (right, f"right ({right_type})")


def refused(op: str, left: str, right: str) -> str:
    return f"The {op} operator can not be used on expressions of types {left}, {right}"


OPERATORS = [
    Said(
        "err.type.binop",
        '$s = "a"; print($s + 1);',
        "Type mismatch for '+': comparing string[2] with int8",
        "$s + 1",
        sides("$s", "string[2]", "1", "int8"),
        tags="expr.arith",
    ),
    Said(
        "err.type.binop",
        "print(comm == 1);",
        "Type mismatch for '==': comparing string[16] with int8",
        "comm == 1",
        sides("comm", "string[16]", "1", "int8"),
        tags="diag.texts expr.equal",
    ),
    Said(
        "err.type.binop",
        "print(comm < comm);",
        refused("<", "string[16]", "string[16]"),
        "comm < comm",
        sides("comm", "string[16]", "comm", "string[16]"),
        tags="expr.compare diag.texts",
    ),
    Said(
        "err.type.binop",
        "print(comm && 1);",
        "Type mismatch for '&&': comparing string[16] with int8",
        "comm && 1",
        sides("comm", "string[16]", "1", "int8"),
        tags="expr.logical",
    ),
    Said(
        "err.type.binop",
        "print((1, 2) < (1, 2));",
        refused("<", "(int8,int8)", "(int8,int8)"),
        "(1, 2) < (1, 2)",
        sides("(1, 2)", "(int8,int8)", "(1, 2)", "(int8,int8)"),
        tags="type.tuple.cmp",
    ),
    Said(
        "err.type.binop",
        '$t = (1, "a"); print($t == (1, 2));',
        "Type mismatch for '==': comparing (int8,string[2]) with (int8,int8)",
        "$t == (1, 2)",
        sides("$t", "(int8,string[2])", "(1, 2)", "(int8,int8)"),
        tags="type.tuple.cmp",
    ),
    Said(
        "err.type.binop",
        "$p = (int8 *)5; print($p - $p);",
        refused("-", "int8 *", "int8 *"),
        "$p - $p",
        sides("$p", "int8 *", "$p", "int8 *"),
        tags="expr.ptr",
    ),
    Said(
        "err.type.binop",
        "$p = (int8 *)5; print($p * 2);",
        refused("*", "int8 *", "int8"),
        "$p * 2",
        sides("$p", "int8 *", "2", "int8"),
        tags="expr.ptr",
    ),
    Said(
        "err.type.binop",
        "$p = (int8 *)5; print(2 - $p);",
        refused("-", "int8", "int8 *"),
        "2 - $p",
        sides("2", "int8", "$p", "int8 *"),
        tags="expr.ptr",
    ),
    Said(
        "err.type.binop",
        "@h = hist(5); print(@h > 1);",
        "Type mismatch for '>': comparing hist_t with int8",
        "@h > 1",
        sides("@h", "hist_t", "1", "int8"),
        tags="type.agg.opaque",
    ),
    Said(
        "err.type.unop",
        "print(!comm);",
        "The ! operator can not be used on expressions of type 'string[16]'",
        "!comm",
        tags="expr.not",
    ),
    Said(
        "err.type.unop",
        "print(!curtask);",
        "The ! operator can not be used on expressions of type 'struct task_struct *'",
        "!curtask",
        tags="expr.not",
    ),
    Said(
        "err.type.unop",
        "print(-comm);",
        "The - operator can not be used on expressions of type 'string[16]'",
        "-comm",
        tags="expr.neg",
    ),
    Said(
        "err.type.unop",
        "print(-(pid == 1));",
        "The - operator can not be used on expressions of type 'bool'",
        "-(pid == 1)",
        tags="type.bool.ops",
    ),
    Said(
        "err.type.unop",
        "$b = true; print(~$b);",
        "The ~ operator can not be used on expressions of type 'bool'",
        "~$b",
        tags="type.bool.ops",
    ),
    Said(
        "err.type.unop", "print(*comm);", "Can not dereference a value of type 'string[16]'", "*comm", tags="expr.deref"
    ),
    Said(
        "err.type.unop",
        "print(*(void *)5);",
        "Can not dereference a pointer to void",
        "*(void *)5",
        tags="type.pointer.arith",
    ),
    Said(
        "err.type.unop",
        '@x = "a"; @x++;',
        "The ++ operator can not be used on expressions of type 'string[2]'",
        "@x++",
        tags="expr.incdec",
    ),
    Said("err.type.cond", "if (comm) { }", "Invalid condition: string[16]", "comm", tags="stmt.cond"),
    Said("err.type.cond", "if (kstack) { }", "Invalid condition: kstack_bpftrace_127", "kstack", tags="stmt.cond"),
    Said("err.type.cond", "if (*curtask) { }", "Invalid condition: struct task_struct", "*curtask", tags="stmt.cond"),
    Said(
        "err.type.cond",
        "@c = count(); if (@c) { }",
        "Invalid condition: count_t",
        "@c",
        hint="cast",
        tags="stmt.cond type.agg.cast",
    ),
    Said("err.type.cond", "begin / comm / { }", "Invalid condition: string[16]", "comm", tags="prog.predicate"),
    Said("err.type.cond", "print(comm ? 1 : 2);", "Invalid condition: string[16]", "comm", tags="expr.ternary"),
    Said("err.type.cond", "if ((1, 2)) { }", "Invalid condition: (int8,int8)", "(1, 2)", tags="stmt.cond"),
    Said(
        "err.type.branch",
        "@h = hist(1); print(pid ? @h : 1);",
        "Branches must return the same type or compatible types: have 'hist_t' and 'int8'",
        "pid ? @h : 1",
    ),
    Said(
        "err.type.branch",
        'print(pid ? 1 : "a");',
        "Branches must return the same type or compatible types: have 'int8' and 'string[2]'",
        'pid ? 1 : "a"',
        tags="expr.ternary",
    ),
    Said(
        "err.type.branch",
        '$x = if (pid) { 1 } else { "a" };',
        "Branches must return the same type or compatible types: have 'int8' and 'string[2]'",
        'if (pid) { 1 } else { "a" }',
        tags="expr.if",
    ),
    Said(
        "err.fold",
        "print(9223372036854775807 * 4);",
        "unable to fold: overflow, the result 36893488147419103228 is above 18446744073709551615",
        "9223372036854775807 * 4",
        tags="expr.fold",
    ),
    Said(
        "err.fold",
        "print(-9223372036854775808 - 1);",
        "unable to fold: underflow, the result -9223372036854775809 is below -9223372036854775808",
        "-9223372036854775808 - 1",
        tags="expr.fold",
    ),
    Said("err.fold", "print(1 / 0);", "unable to fold: division by zero", "1 / 0", tags="expr.fold"),
    Said("err.fold", "print(5 % 0);", "unable to fold: modulo by zero", "5 % 0", tags="expr.fold"),
    Said("err.fold", "print(1 << 64);", "shift amount 64 is not between 0 and 63", "1 << 64", tags="expr.fold"),
    Said("err.fold", "print(1 >> -1);", "shift amount -1 is not between 0 and 63", "1 >> -1", tags="expr.fold"),
]


@rows(OPERATORS)
def test_error(said: Said) -> None:
    said.check(Severity.ERROR)
