"""What the tests of the parser share."""

from pathlib import Path

from pytrace.grammar import nodes
from pytrace.grammar.diagnostics import CompileError, Diagnostic, Diagnostics
from pytrace.grammar.parser import parse, parse_expression
from pytrace.grammar.source import Source

BUILTIN_WORDS = frozenset({"args", "ctx", "kstack", "nsecs", "pid", "tid", "ustack", "arg0", "arg1"})
PROGRAMS = {path.stem: path.read_text() for path in (Path(__file__).parent / "programs").glob("*.bt")}


def program(text: str) -> nodes.Program:
    return parse(Source("stdin", text), BUILTIN_WORDS, Diagnostics())


def block(statements: str) -> nodes.Block:
    """The block of a probe with these statements."""
    return program(f"begin {{ {statements} }}").probes[0].body


def statement(text: str) -> nodes.Statement:
    (only,) = block(text).statements
    return only


def expression(text: str) -> nodes.Expr:
    return parse_expression(Source("stdin", text), BUILTIN_WORDS, Diagnostics())


def problem(text: str) -> Diagnostic:
    """The one message about a program that is refused."""
    try:
        program(text)
    except CompileError as error:
        (only,) = error.diagnostics
        return only
    raise AssertionError(f"accepted: {text}")


def shape(node: object) -> str:
    """An expression with all its structure shown, in prefix form."""
    match node:
        case nodes.Binary():
            return f"({node.op} {shape(node.left)} {shape(node.right)})"
        case nodes.Unary():
            return f"({node.op} {shape(node.operand)})"
        case nodes.IncDec():
            return f"({'pre' if node.prefix else 'post'}{node.op} {shape(node.target)})"
        case nodes.AddressOf():
            return f"(addr {shape(node.target)})"
        case nodes.Cast():
            return f"(cast {shape(node.type)} {shape(node.operand)})"
        case nodes.Comptime():
            return f"(comptime {shape(node.operand)})"
        case nodes.Ternary():
            return f"(? {shape(node.condition)} {shape(node.then)} {shape(node.otherwise)})"
        case nodes.Field():
            return f"({'->' if node.arrow else '.'} {shape(node.operand)} {node.name})"
        case nodes.TupleField():
            return f"(. {shape(node.operand)} {node.index})"
        case nodes.Index():
            return f"([] {shape(node.operand)} {shape(node.index)})"
        case nodes.Call():
            return f"({' '.join([node.name + '()', *map(shape, node.arguments)])})"
        case nodes.TupleExpr():
            return f"(tuple{''.join(' ' + shape(item) for item in node.items)})"
        case nodes.RecordExpr():
            members = zip(node.names, node.items, strict=True)
            return f"(record{''.join(f' {name}={shape(item)}' for name, item in members)})"
        case nodes.SizeOf() | nodes.TypeInfo() | nodes.TypeOf():
            return f"({type(node).__name__.lower()} {shape(node.operand)})"
        case nodes.OffsetOf():
            return f"(offsetof {shape(node.operand)} {'.'.join(node.path)})"
        case nodes.TypeName():
            suffixes = "".join("*" if s == "*" else f"[{'' if s is None else s}]" for s in node.suffixes)
            return f"<{node.kind + ' ' if node.kind else ''}{node.name}{suffixes}>"
        case nodes.MapElement():
            return f"(@{node.map.name} {shape(node.key)})"
        case nodes.Map():
            return f"@{node.name}"
        case nodes.Variable():
            return f"${node.name}"
        case nodes.Identifier():
            return node.name
        case nodes.Integer():
            return str(node.value)
        case nodes.Boolean():
            return str(node.value).lower()
        case nodes.StringLiteral():
            return repr(node.value)[1:]
        case nodes.Positional():
            return f"${node.number}"
        case nodes.PositionalCount():
            return "$#"
        case nodes.Block():
            return "{" + " ".join([*map(shape, node.statements), shape(node.value)]) + "}"
        case nodes.If():
            return f"(if {shape(node.condition)} {shape(node.then)} {shape(node.otherwise)})"
        case nodes.Range():
            return f"{shape(node.start)}..{shape(node.end)}"
        case nodes.Statement():
            return _statement(node)
        case None:
            return "-"
        case _:
            raise AssertionError(type(node).__name__)


def _statement(node: nodes.Statement) -> str:
    match node:
        case nodes.ExprStatement():
            return f"{shape(node.value)};"
        case nodes.Assign():
            return f"{shape(node.target)}{node.op}={shape(node.value)};"
        case nodes.Let():
            return f"let {shape(node.variable)}:{shape(node.type)}={shape(node.value)};"
        case nodes.Discard():
            return f"_={shape(node.value)};"
        case nodes.Jump():
            return f"{node.word};"
        case nodes.Return():
            return f"return {shape(node.value)};"
        case nodes.While():
            return f"while {shape(node.condition)} {shape(node.body)};"
        case nodes.Unroll():
            return f"unroll {shape(node.count)} {shape(node.body)};"
        case nodes.For():
            return f"for {shape(node.variable)} {shape(node.iterable)} {shape(node.body)};"
        case nodes.ImportStatement():
            return f"import {node.path!r};"
        case _:
            raise AssertionError(type(node).__name__)
