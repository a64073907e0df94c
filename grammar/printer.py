"""From syntax tree to text, in one canonical layout.

`parse(print_program(tree))` gives the same tree again. Comments are not in the tree, so they are lost;
literals keep the spelling of their span as long as it still has their value.
"""

from __future__ import annotations

import re

from pytrace.grammar import nodes
from pytrace.grammar.lexer_code import STATEMENT_WORDS
from pytrace.grammar.literals import LiteralError, parse_integer, quote
from pytrace.grammar.nodes import Expr, Node
from pytrace.grammar.source import encode_text

INDENT = "  "

# how tightly a form binds; the numbers of section 13.2, the other way round
TERNARY = 1
BINARY = {
    "||": 2, "&&": 3, "|": 4, "^": 5, "&": 6, "==": 7, "!=": 7, "<": 8, "<=": 8, ">": 8, ">=": 8,
    "<<": 9, ">>": 9, "+": 10, "-": 10, "*": 11, "/": 11, "%": 11,
}  # fmt: skip
UNARY = 12
POSTFIX = 13
PRIMARY = 14

# a text that would be read as a type where both are possible
_LOOKS_LIKE_TYPE = re.compile(r"[A-Za-z_]\w*(?: ?\*|\[\w*\])*", re.ASCII)


def print_program(program: nodes.Program) -> str:
    """The text of a program, ending with a newline unless it is empty."""
    parts: list[str] = []
    if program.shebang is not None:
        parts.append(program.shebang)
    parts += [text.span.text for text in program.c_texts]
    if program.config:
        parts.append(_config(program.config))
    parts += [f"import {quote(item.path)};" for item in program.imports]
    parts += [print_item(item) for item in program.items]
    return "".join(part + "\n" for part in parts)


def print_item(item: nodes.Item) -> str:
    """The text of one item of the top level, without a newline at the end."""
    match item:
        case nodes.Probe():
            head = ",\n".join(point.text for point in item.attach_points)
            if item.predicate:
                head += f"\n{_predicate(item.predicate)}\n"
            else:
                head += " "
            return head + _block(item.body, 0)
        case nodes.Macro():
            parameters = ", ".join(print_expression(p) for p in item.parameters)
            return f"macro {item.name}({parameters}) {_block(item.body, 0)}"
        case nodes.Function():
            parameters = ", ".join(f"{print_expression(p.variable)}: {print_type(p.type)}" for p in item.parameters)
            result = print_type(item.result)
            return f"fn {item.name}({parameters}): {result} {_block(item.body, 0)}"
        case nodes.MapDeclaration():
            return f"let @{item.map.name} = {item.kind}({item.entries});"
        case nodes.Config():
            return _config(item)
        case nodes.Import():
            return f"import {quote(item.path)};"
        case nodes.CText():
            return item.span.text
        case _:
            raise AssertionError(f"not an item: {type(item).__name__}")


def _predicate(expr: Expr) -> str:
    text = print_expression(expr)
    # `/*` would begin a comment
    return f"/ {text} /" if text[0] == "*" else f"/{text}/"


def _config(config: nodes.Config) -> str:
    lines = "".join(f"{INDENT}{s.name} = {_setting(s.value)};\n" for s in config.settings)
    return f"config = {{\n{lines}}}"


def _setting(value: int | bool | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return quote(encode_text(value)) if isinstance(value, str) else str(value)


# ---------------------------------------------------------------- statements


def _block(block: nodes.Block, depth: int) -> str:
    """A block whose closing brace stands at `depth`."""
    inner = INDENT * (depth + 1)
    lines = [_statement(statement, depth + 1) for statement in block.statements]
    if block.value:
        lines.append(_at_start(block.value, depth + 1, is_value=True))
    for i, statement in enumerate(block.statements):
        following = lines[i + 1] if i + 1 < len(lines) else "}"
        if _may_go_on(statement) and following[0] in "}+-*&":
            lines[i] += ";"
    if not lines:
        return "{ }"
    return "{\n" + "".join(f"{inner}{line}\n" for line in lines) + INDENT * depth + "}"


def _may_go_on(statement: nodes.Statement) -> bool:
    """Whether what follows could be read as part of the statement's expression."""
    return isinstance(statement, nodes.ExprStatement) and isinstance(statement.value, nodes.If | nodes.Block)


def _statement(statement: nodes.Statement, depth: int) -> str:
    match statement:
        case nodes.Let():
            kind = f": {print_type(statement.type)}" if statement.type else ""
            value = f" = {_expr(statement.value, depth)}" if statement.value else ""
            return f"let ${statement.variable.name}{kind}{value};"
        case nodes.Assign():
            return f"{_expr(statement.target, depth)} {statement.op}= {_expr(statement.value, depth)};"
        case nodes.Discard():
            return f"_ = {_expr(statement.value, depth)};"
        case nodes.ExprStatement():
            end = "" if _may_go_on(statement) else ";"
            return _at_start(statement.value, depth, is_value=False) + end
        case nodes.Jump():
            return f"{statement.word};"
        case nodes.Return():
            return f"return {_expr(statement.value, depth)};" if statement.value else "return;"
        case nodes.While():
            return f"while ({_expr(statement.condition, depth)}) {_block(statement.body, depth)}"
        case nodes.Unroll():
            return f"unroll ({_expr(statement.count, depth)}) {_block(statement.body, depth)}"
        case nodes.For():
            head = f"for (${statement.variable.name} : {_iterable(statement.iterable, depth)})"
            return f"{head} {_block(statement.body, depth)}"
        case nodes.ImportStatement():
            return f"import {quote(statement.path)};"
        case _:
            raise AssertionError(f"not a statement: {type(statement).__name__}")


def _iterable(iterable: nodes.Map | nodes.Range, depth: int) -> str:
    if isinstance(iterable, nodes.Map):
        return f"@{iterable.name}"
    return f"{_expr(iterable.start, depth, PRIMARY)}..{_expr(iterable.end, depth, PRIMARY)}"


def _at_start(expr: Expr, depth: int, is_value: bool) -> str:
    """An expression where a statement starts: some would be read as another statement there."""
    text = _expr(expr, depth)
    first = _leftmost(expr)
    is_step = isinstance(first, nodes.IncDec) and not first.prefix
    is_word = isinstance(first, nodes.Identifier | nodes.Call) and (
        first.name in STATEMENT_WORDS or first.name == "else"
    )
    if is_word or (is_step and (is_value or first is not expr)):
        return f"({text})"
    return text


def _leftmost(expr: Expr) -> Expr:
    """The operand with which the text of an expression begins."""
    while True:
        match expr:
            case nodes.Binary():
                expr = expr.left
            case nodes.Ternary():
                expr = expr.condition
            case nodes.Field() | nodes.TupleField() | nodes.Index():
                expr = expr.operand
            case _:
                return expr


# ---------------------------------------------------------------- expressions


def print_expression(expr: Expr) -> str:
    """The text of an expression."""
    return _expr(expr, 0)


def _expr(expr: Expr, depth: int, least: int = 0) -> str:
    """The text of an expression, in parentheses if it binds less than `least`."""
    text = _bare(expr, depth)
    return text if _binding(expr) >= least else f"({text})"


def _binding(expr: Expr) -> int:
    match expr:
        case nodes.Ternary():
            return TERNARY
        case nodes.Binary():
            return BINARY[expr.op]
        case nodes.Unary() | nodes.AddressOf() | nodes.Cast() | nodes.Comptime():
            return UNARY
        case nodes.IncDec():
            return UNARY if expr.prefix else POSTFIX
        case nodes.Field() | nodes.TupleField() | nodes.Index():
            return POSTFIX
        case nodes.If() | nodes.Block():
            return 0  # operands by the grammar, but readable only in parentheses
        case nodes.Integer():
            return PRIMARY if expr.value >= 0 else UNARY
        case _:
            return PRIMARY


def _bare(expr: Expr, depth: int) -> str:
    match expr:
        case nodes.Ternary():
            otherwise = _expr(expr.otherwise, depth, TERNARY)
            middle = f"? {_expr(expr.then, depth, TERNARY)} :" if expr.then else "?:"
            return f"{_expr(expr.condition, depth, TERNARY + 1)} {middle} {otherwise}"
        case nodes.Binary():
            level = BINARY[expr.op]
            return f"{_expr(expr.left, depth, level)} {expr.op} {_expr(expr.right, depth, level + 1)}"
        case nodes.Unary():
            operand = _expr(expr.operand, depth, UNARY)
            # `--x` would be a decrement
            return f"{expr.op}({operand})" if operand[0] == expr.op == "-" else expr.op + operand
        case nodes.AddressOf():
            return f"&{_expr(expr.target, depth)}"
        case nodes.Cast():
            operand = _expr(expr.operand, depth, UNARY)
            # what begins with `++` or `--` is not seen as the operand of a cast
            stepped = f"({operand})" if operand[:2] in ("++", "--") else operand
            return f"({print_type(expr.type)}){stepped}"
        case nodes.Comptime():
            return f"comptime {_expr(expr.operand, depth, UNARY)}"
        case nodes.IncDec():
            target = _expr(expr.target, depth)
            return expr.op + target if expr.prefix else target + expr.op
        case nodes.Field():
            return f"{_expr(expr.operand, depth, POSTFIX)}{'->' if expr.arrow else '.'}{expr.name}"
        case nodes.TupleField():
            return f"{_expr(expr.operand, depth, POSTFIX)}.{expr.index}"
        case nodes.Index():
            return _index(expr, depth)
        case nodes.Block():
            return _block(expr, depth)
        case nodes.If():
            return _if(expr, depth)
        case _:
            return _primary(expr, depth)


def _index(expr: nodes.Index, depth: int) -> str:
    operand = _expr(expr.operand, depth, POSTFIX)
    if isinstance(expr.operand, nodes.Map):
        operand = f"({operand})"  # `@m[1]` would be an element of the map
    return f"{operand}[{_expr(expr.index, depth)}]"


def _if(expr: nodes.If, depth: int) -> str:
    parts = []
    while True:  # a chain of `else if` is as deep as it is long
        parts.append(f"if ({_expr(expr.condition, depth)}) {_block(expr.then, depth)}")
        if not isinstance(expr.otherwise, nodes.If):
            break
        expr = expr.otherwise
    if expr.otherwise:
        parts.append(_block(expr.otherwise, depth))
    return " else ".join(parts)


def _primary(expr: Expr, depth: int) -> str:
    match expr:
        case nodes.Integer():
            return _integer(expr)
        case nodes.StringLiteral():
            return quote(expr.value)
        case nodes.Boolean():
            return "true" if expr.value else "false"
        case nodes.Positional():
            return f"${expr.number}"
        case nodes.PositionalCount():
            return "$#"
        case nodes.Identifier():
            return expr.name
        case nodes.Variable():
            return f"${expr.name}"
        case nodes.Map():
            return f"@{expr.name}"
        case nodes.MapElement():
            return f"@{expr.map.name}[{_key(expr.key, depth)}]"
        case nodes.Call():
            return f"{expr.name}({_list(expr.arguments, depth)})"
        case nodes.TupleExpr():
            return f"({_list(expr.items, depth)}{',' if len(expr.items) == 1 else ''})"
        case nodes.RecordExpr():
            members = zip(expr.names, expr.items, strict=True)
            return f"({', '.join(f'{name} = {_expr(item, depth)}' for name, item in members)})"
        case nodes.SizeOf():
            return f"sizeof({_operand(expr.operand, depth)})"
        case nodes.TypeInfo():
            return f"typeinfo({_operand(expr.operand, depth)})"
        case nodes.OffsetOf():
            return f"offsetof({_operand(expr.operand, depth)}, {'.'.join(expr.path)})"
        case nodes.TypeOf():
            return print_type(expr)
        case _:
            raise AssertionError(f"not an expression: {type(expr).__name__}")


def _integer(expr: nodes.Integer) -> str:
    spelling = expr.span.text
    try:
        if parse_integer(spelling) == expr.value:
            return spelling
    except LiteralError:
        pass  # a literal that some pass has made
    return str(expr.value)


def _key(key: Expr, depth: int) -> str:
    # `@m[(a, b)]` and `@m[a, b]` are the same tree
    if isinstance(key, nodes.TupleExpr) and len(key.items) > 1:
        return _list(key.items, depth)
    return _expr(key, depth)


def _list(items: tuple[Expr, ...], depth: int) -> str:
    return ", ".join(_expr(item, depth) for item in items)


def _operand(operand: Node, depth: int) -> str:
    """The operand of `sizeof` and its like: what looks like a type is one there."""
    if isinstance(operand, nodes.TypeName):
        return print_type(operand)
    assert isinstance(operand, Expr)
    text = _expr(operand, depth)
    if isinstance(operand, nodes.Index) and _LOOKS_LIKE_TYPE.fullmatch(text):
        return f"({text})"
    return text


def print_type(annotation: nodes.TypeAnnotation) -> str:
    """The text of a type."""
    if isinstance(annotation, nodes.TypeOf):
        return f"typeof({_operand(annotation.operand, 0)})"
    suffixes = "".join("*" if s == "*" else f"[{'' if s is None else s}]" for s in annotation.suffixes)
    space = " " if suffixes.startswith("*") else ""
    return f"{annotation.kind} {annotation.name}{space}{suffixes}".lstrip()
