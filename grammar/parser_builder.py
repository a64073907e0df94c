"""The syntax tree from the rules of `program.lark`.

`Builder` has one method per rule (or alias) of the grammar. Lark calls it when the rule is complete, with
the children in order: lexemes, punctuation included, and nodes that are built already. Both have a span.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytrace.grammar import nodes
from pytrace.grammar.data import replace
from pytrace.grammar.diagnostics import Label
from pytrace.grammar.hints import Any, TypeVar
from pytrace.grammar.lexeme import Lexeme, SyntaxProblem
from pytrace.grammar.nodes import Node
from pytrace.grammar.source import Span, decode_text

Children = Sequence[Any]  # of Lexeme and Node, as the rule says
N = TypeVar("N", bound=Node)

_OPERATIONS = nodes.Binary | nodes.Ternary | nodes.Unary | nodes.Cast | nodes.Comptime | nodes.If


def _span(children: Children) -> Span:
    first: Span = children[0].span
    return first.to(children[-1].span)


def _nodes(children: Iterable[Any], kind: type[N]) -> tuple[N, ...]:
    """The children that are nodes of a class."""
    return tuple(c for c in children if isinstance(c, kind))


def _node(children: Iterable[Any], kind: type[N]) -> N | None:
    """The first child that is a node of a class."""
    return next((c for c in children if isinstance(c, kind)), None)


def _is(child: Any, kind: str) -> bool:
    """Whether a child is a lexeme of a type."""
    return isinstance(child, Lexeme) and child.type == kind


class Builder:
    """Makes nodes; keeps no state. Raises `SyntaxProblem` for what the grammar cannot say."""

    # ------------------------------------------------------------ top level

    def program(self, c: Children) -> list[Any]:
        """The shebang and all items; `parser.parse` makes the `Program` that spans the whole text."""
        return list(c)

    def expression(self, c: Children) -> nodes.Expr:
        expr: nodes.Expr = c[0]
        return expr

    def c_text(self, c: Children) -> nodes.CText:
        return nodes.CText(_span(c))

    def config(self, c: Children) -> nodes.Config:
        return nodes.Config(_span(c), _nodes(c, nodes.Setting))

    def setting(self, c: Children) -> nodes.Setting:
        value = c[2].value
        if isinstance(value, bytes):
            value = decode_text(value)
        return nodes.Setting(_span(c), c[0].value, value)

    def import_item(self, c: Children) -> nodes.Import:
        return nodes.Import(_span(c), c[1].value)

    def map_declaration(self, c: Children) -> nodes.MapDeclaration:
        entries = c[5]
        if entries.value == 0:
            raise SyntaxProblem("err.syntax.mapdecl", "a map declaration needs a positive integer", entries.span)
        return nodes.MapDeclaration(_span(c), c[1], c[3].value, entries.value)

    def macro(self, c: Children) -> nodes.Macro:
        parameters = tuple(p for p in c[3:-2] if isinstance(p, Node))
        return nodes.Macro(_span(c), c[1].value, parameters, c[-1])  # type: ignore[arg-type]

    def word(self, c: Children) -> nodes.Identifier:
        return nodes.Identifier(_span(c), c[0].value)

    def function(self, c: Children) -> nodes.Function:
        return nodes.Function(_span(c), c[1].value, _nodes(c, nodes.Parameter), c[-2], c[-1])

    def parameter(self, c: Children) -> nodes.Parameter:
        return nodes.Parameter(_span(c), c[0], c[2])

    def probe(self, c: Children) -> nodes.Probe:
        predicate = c[-2] if isinstance(c[-2], nodes.Expr) else None
        return nodes.Probe(_span(c), _nodes(c, nodes.AttachText), predicate, c[-1])

    def attach_text(self, c: Children) -> nodes.AttachText:
        return nodes.AttachText(_span(c), c[0].value)

    def predicate(self, c: Children) -> nodes.Expr:
        expr: nodes.Expr = c[1]
        return expr

    # ------------------------------------------------------------ statements

    def block(self, c: Children) -> nodes.Block:
        value = c[-2] if isinstance(c[-2], nodes.Expr) else None
        return nodes.Block(_span(c), _nodes(c, nodes.Statement), value)

    def closed_statement(self, c: Children) -> nodes.Statement:
        statement: nodes.Statement = c[0]
        return statement

    def expression_statement(self, c: Children) -> nodes.ExprStatement:
        return nodes.ExprStatement(_span(c), c[0])

    def complete_statement(self, c: Children) -> nodes.ExprStatement:
        return nodes.ExprStatement(_span(c), c[0])

    def while_statement(self, c: Children) -> nodes.While:
        return nodes.While(_span(c), _condition(c), c[-1])

    def unroll_statement(self, c: Children) -> nodes.Unroll:
        return nodes.Unroll(_span(c), _condition(c), c[-1])

    def import_statement(self, c: Children) -> nodes.ImportStatement:
        return nodes.ImportStatement(_span(c), c[1].value)

    def let(self, c: Children) -> nodes.Let:
        annotation = c[3] if len(c) > 3 and _is(c[2], "COLON") else None
        value = c[-1] if len(c) > 3 and _is(c[-2], "ASSIGN") else None
        return nodes.Let(_span(c), c[1], annotation, value)

    def discard(self, c: Children) -> nodes.Discard:
        return nodes.Discard(_span(c), c[2])

    def assign(self, c: Children) -> nodes.Assign:
        return nodes.Assign(_span(c), c[0], c[1].text[:-1], c[2])

    def step_statement(self, c: Children) -> nodes.ExprStatement:
        return nodes.ExprStatement(_span(c), nodes.IncDec(_span(c), c[1].text, False, c[0]))

    def jump(self, c: Children) -> nodes.Jump:
        return nodes.Jump(_span(c), c[0].value)

    def return_statement(self, c: Children) -> nodes.Return:
        return nodes.Return(_span(c), c[1] if len(c) > 1 else None)

    def for_statement(self, c: Children) -> nodes.For:
        at = next(i for i, child in enumerate(c) if _is(child, "COLON"))
        variable, iterable, body = c[at - 1], c[at + 1], c[-1]
        if not isinstance(iterable, nodes.Map | nodes.Range):
            raise SyntaxProblem(
                "err.syntax.for",
                "expected map or range",
                iterable.span,
                hints=("Loop over a map (for ($kv : @map)) or a range (for ($i : 0..10)).",),
            )
        return nodes.For(_span(c), variable, iterable, body)

    def range(self, c: Children) -> nodes.Range:
        return nodes.Range(_span(c), c[0], c[2])

    # ------------------------------------------------------------ operators

    def ternary(self, c: Children) -> nodes.Ternary:
        return nodes.Ternary(_span(c), c[0], c[2], c[4])

    def elvis(self, c: Children) -> nodes.Ternary:
        return nodes.Ternary(_span(c), c[0], None, c[3])

    def binary(self, c: Children) -> nodes.Binary:
        return nodes.Binary(_span(c), c[1].text, c[0], c[2])

    def prefix_op(self, c: Children) -> nodes.Unary:
        return nodes.Unary(_span(c), c[0].text, c[1])

    def prefix_step(self, c: Children) -> nodes.IncDec:
        return nodes.IncDec(_span(c), c[0].text, True, c[1])

    def postfix_step(self, c: Children) -> nodes.IncDec:
        target, operator = c
        if not isinstance(target, nodes.Variable | nodes.Map | nodes.MapElement):
            message = f"'{operator.text}' needs a variable or map"
            label = Label(target.span, "this is neither")
            raise SyntaxProblem("err.syntax.incdec", message, operator.span, (label,))
        return nodes.IncDec(_span(c), operator.text, False, target)

    def address_of(self, c: Children) -> nodes.AddressOf:
        return nodes.AddressOf(_span(c), c[1])

    def cast(self, c: Children) -> nodes.Cast:
        return nodes.Cast(_span(c), c[1], c[3])

    def comptime(self, c: Children) -> nodes.Comptime:
        return nodes.Comptime(_span(c), c[1])

    def tuple_field(self, c: Children) -> nodes.TupleField:
        return nodes.TupleField(_span(c), c[0], c[2].value)

    def field(self, c: Children) -> nodes.Field:
        return nodes.Field(_span(c), c[0], c[2].value, _is(c[1], "ARROW"))

    def index(self, c: Children) -> nodes.Index:
        return nodes.Index(_span(c), c[0], c[2])

    # ------------------------------------------------------------ operands

    def group(self, c: Children) -> nodes.Expr:
        """Parentheses leave no node; they belong to the span of an operation, not to that of a name."""
        expr: nodes.Expr = c[1]
        return replace(expr, span=_span(c)) if isinstance(expr, _OPERATIONS) else expr

    def tuple(self, c: Children) -> nodes.TupleExpr:
        return nodes.TupleExpr(_span(c), _nodes(c, nodes.Expr))

    def record(self, c: Children) -> nodes.RecordExpr:
        names: dict[str, Lexeme] = {}
        for child in c:
            if not _is(child, "NAME"):
                continue
            if child.value in names:
                label = Label(names[child.value].span, "first one")
                message = f"name '{child.value}' is repeated in the record"
                raise SyntaxProblem("err.syntax.dupname", message, child.span, (label,))
            names[child.value] = child
        return nodes.RecordExpr(_span(c), (*names,), _nodes(c, nodes.Expr))

    def if_expr(self, c: Children) -> nodes.If:
        blocks = [child for child in c[2:] if isinstance(child, nodes.Block | nodes.If)]
        if _is(c[-2], "ELSE"):
            return nodes.If(_span(c), _condition(c), c[-3], c[-1])
        return nodes.If(_span(c), _condition(c), blocks[-1])  # type: ignore[arg-type]

    def size_of(self, c: Children) -> nodes.SizeOf:
        return nodes.SizeOf(_span(c), c[2])

    def type_info(self, c: Children) -> nodes.TypeInfo:
        return nodes.TypeInfo(_span(c), c[2])

    def offset_of(self, c: Children) -> nodes.OffsetOf:
        path = (*(child.value for child in c if _is(child, "NAME")),)
        return nodes.OffsetOf(_span(c), c[2], path)

    def call(self, c: Children) -> nodes.Call:
        return nodes.Call(_span(c), c[0].value, _nodes(c, nodes.Expr), c[0].span)

    def identifier(self, c: Children) -> nodes.Identifier:
        return nodes.Identifier(_span(c), c[0].value)

    def boolean(self, c: Children) -> nodes.Boolean:
        return nodes.Boolean(_span(c), c[0].value)

    def integer(self, c: Children) -> nodes.Integer:
        return nodes.Integer(_span(c), c[0].value)

    def string(self, c: Children) -> nodes.StringLiteral:
        return nodes.StringLiteral(_span(c), c[0].value)

    def positional(self, c: Children) -> nodes.Positional:
        return nodes.Positional(_span(c), c[0].value)

    def positional_count(self, c: Children) -> nodes.PositionalCount:
        return nodes.PositionalCount(_span(c))

    def variable(self, c: Children) -> nodes.Variable:
        return nodes.Variable(_span(c), c[0].value)

    def map_name(self, c: Children) -> nodes.Map:
        return nodes.Map(_span(c), c[0].value)

    def map_element(self, c: Children) -> nodes.MapElement:
        keys = _nodes(c[1:], nodes.Expr)
        key = keys[0] if len(keys) == 1 else nodes.TupleExpr(_span(keys), keys)
        return nodes.MapElement(_span(c), c[0], key)

    # ------------------------------------------------------------ types

    def type_of(self, c: Children) -> nodes.TypeOf:
        return nodes.TypeOf(_span(c), c[2])

    def type(self, c: Children) -> nodes.TypeName:
        kind = c[0].value if _is(c[0], "STRUCT") else ""
        name = next(child.value for child in c if _is(child, "TYPE_WORD"))
        suffixes: list[str | int | None] = []
        for child in c:
            if _is(child, "STAR"):
                suffixes.append("*")
            elif _is(child, "LBRACKET"):
                suffixes.append(None)
            elif _is(child, "INTEGER"):
                suffixes[-1] = child.value
        return nodes.TypeName(_span(c), kind, name, (*suffixes,))


def _condition(c: Children) -> nodes.Expr:
    """The condition after `if`, `while`, `unroll`, with or without parentheses."""
    expr: nodes.Expr = c[2] if _is(c[1], "COND_OPEN") else c[1]
    return expr
