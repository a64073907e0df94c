"""Types of operators (reference part 1, sections 5 and 7)."""

from __future__ import annotations

from pytrace.grammar.checker import Checker, shortened
from pytrace.grammar.data import replace
from pytrace.grammar.diagnostics import Label
from pytrace.grammar.fold import FoldError, fold_binary, fold_unary
from pytrace.grammar.nodes import (
    Binary,
    Call,
    Expr,
    Identifier,
    IncDec,
    Map,
    MapElement,
    Node,
    Ternary,
    Unary,
    Variable,
)
from pytrace.grammar.promote import arithmetic_type, copied, is_signed, literal_type, promote, settled
from pytrace.grammar.types import (
    BOOL,
    INT64,
    NONE,
    UINT64,
    VOID,
    Aggregate,
    Array,
    Bool,
    Buffer,
    EnumType,
    Int,
    Opaque,
    Pointer,
    Record,
    Space,
    Stack,
    String,
    Struct,
    Tuple,
    Type,
)

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


class OperatorChecker(Checker):
    """The part of the checker that knows operators."""

    def infer(self, node: Expr) -> Type:
        """The type of an expression (see `ExpressionChecker`)."""
        raise NotImplementedError

    def _plain(self, kind: Type) -> bool:
        """Numbers that arithmetic works on."""
        return isinstance(kind, (Int, EnumType, Bool))

    def operand(self, node: Expr) -> Type:
        """The type of an operand: it must have a value, and a castable aggregation is a number."""
        return self.number(self.need_value(node, self.infer(node)))

    # ---- binary

    def infer_binary(self, node: Binary) -> Type:
        """`left op right`"""
        left, right = self.operand(node.left), self.operand(node.right)
        a, b = self.constant(node.left), self.constant(node.right)
        if a is not None and b is not None:
            folded = self._fold(node, a, b)
            if folded is not None:
                return folded
        if NONE in (left, right):
            return self.set(node, BOOL if node.op in (*COMPARISONS, "&&", "||") else INT64)
        if node.op in ("&&", "||"):
            return self._logical(node, left, right)
        if node.op in COMPARISONS:
            return self._comparison(node, left, right)
        return self._arithmetic(node, left, right)

    def _fold(self, node: Binary, a: int | bool | bytes, b: int | bool | bytes) -> Type | None:
        try:
            value = fold_binary(node.op, a, b)
        except FoldError as problem:
            self.error("err.fold", str(problem), node)
            return self.set(node, INT64)
        if node.op == "+" and value == b"" and isinstance(b, int):
            self.warning("expr.fold", "literal string will always be empty", node)
        return None if value is None else self.set_constant(node, value)

    def set_constant(self, node: Expr, value: int | bool | bytes) -> Type:
        """Record an expression whose value is known."""
        if isinstance(value, bool):
            return self.set(node, BOOL, value)
        if isinstance(value, int):
            return self.set(node, literal_type(value), value)
        return self.set(node, String(len(value) + 1), value)

    def _logical(self, node: Binary, left: Type, right: Type) -> Type:
        if not all(isinstance(kind, (Int, EnumType, Bool, Pointer)) for kind in (left, right)):
            self._unfit(node, left, right)
        return self.set(node, BOOL)

    def _never_equal(self, node: Expr, kind: String, other: Expr) -> None:
        """Tell of a text that is longer than what it is compared with can be: the kernel cuts names of threads."""
        text = self.constant(other)
        if isinstance(text, bytes) and isinstance(node, (Identifier, Call)) and len(text) >= kind.size > 1:
            left = text[: kind.size - 1].decode(errors="replace")
            message = f"{shortened(node.span.text)} has at most {kind.size - 1} characters: it never equals this text"
            self.warning("expr.string.cmp", message, other, hints=(f'What is left of it is "{left}".',))

    def _comparison(self, node: Binary, left: Type, right: Type) -> Type:
        equality = node.op in ("==", "!=")
        match left, right:
            case (Int() | EnumType() | Bool(), Int() | EnumType() | Bool()):
                pass
            case (Pointer(to=a), Pointer(to=b)):
                if settled(a) != settled(b) and VOID not in (a, b):
                    self.warning("warn.type.ptrcmp", f"comparison of distinct pointer types: {left}, {right}", node)
            case (Pointer(), Int() | Bool()) | (Int() | Bool(), Pointer()):
                pass
            case (String(), String()) if equality:
                self._never_equal(node.left, left, node.right)
                self._never_equal(node.right, right, node.left)
            case (Buffer(), Buffer()) if equality:
                pass
            case (Opaque(), Opaque()) if equality and left == right:
                pass
            case (Array(), Array()) if equality:
                if left.count != right.count or left.element != right.element:
                    self.error(
                        "err.type.array-cmp",
                        "Only arrays of same size and element type support comparison operators",
                        node,
                    )
            case (Tuple() | Record() | Stack() | Struct(), _) if equality:
                if promote(copied(left), copied(right)) is None:
                    self._mismatch(node, left, right)
            case _:
                self._unfit(node, left, right)
        return self.set(node, BOOL)

    def _labels(self, node: Binary, left: Type, right: Type) -> tuple[Label, Label]:
        return Label(node.left.span, f"left ({left})"), Label(node.right.span, f"right ({right})")

    def _unfit(self, node: Binary, left: Type, right: Type) -> None:
        """Operands that an operator cannot work on: of unlike types, or of a type that it does not know."""
        alike = type(left) is type(right) or (self._plain(left) and self._plain(right))
        if alike or isinstance(left, Pointer) or isinstance(right, Pointer):
            self._bad_operator(node, left, right)
        else:
            self._mismatch(node, left, right)

    def _mismatch(self, node: Binary, left: Type, right: Type) -> None:
        self.error(
            "err.type.binop",
            f"Type mismatch for '{node.op}': comparing {left} with {right}",
            node,
            self._labels(node, left, right),
        )

    def _bad_operator(self, node: Binary, left: Type, right: Type) -> Type:
        return self.error(
            "err.type.binop",
            f"The {node.op} operator can not be used on expressions of types {left}, {right}",
            node,
            self._labels(node, left, right),
        )

    def _mixed(self, node: Binary, left: Type, right: Type) -> bool:
        """Whether one operand is an address of the kernel and the other one of the process, which is warned of."""
        spaces = {getattr(kind, "space", Space.NONE) for kind in (left, right)}
        if not spaces >= {Space.USER, Space.KERNEL}:
            return False
        self.warning("warn.type.addrspace", f"address space mismatch: '{left}' and '{right}'", node)
        return True

    def _arithmetic(self, node: Binary, left: Type, right: Type) -> Type:
        mixed = self._mixed(node, left, right)
        match left, right:
            case (Pointer(), Int() | EnumType() | Bool()) if node.op in ("+", "-"):
                return self.set(node, replace(left, space=Space.NONE) if mixed else left)
            case (Int() | EnumType() | Bool(), Pointer()) if node.op == "+":
                return self.set(node, replace(right, space=Space.NONE) if mixed else right)
            case (Int() | EnumType() | Bool(), Int() | EnumType() | Bool()):
                if isinstance(left, Bool) and isinstance(right, Bool):
                    return self.set(node, BOOL)
                if node.op in ("/", "%") and (is_signed(left) or is_signed(right)):
                    self.warning(
                        "warn.type.sdiv",
                        f"signed operands for '{node.op}' can lead to undefined behavior "
                        "(cast to unsigned to silence warning)",
                        node,
                    )
                result = arithmetic_type(node.op, left, right)
                return self.set(node, replace(result, space=Space.NONE) if mixed else result)
            case _:
                self._unfit(node, left, right)
                return self.set(node, INT64)

    # ---- unary

    def infer_unary(self, node: Unary) -> Type:
        """`- ! ~ *`"""
        kind = self.operand(node.operand)
        if node.op == "*":
            return self.infer_deref(node, kind)
        value = self.constant(node.operand)
        if value is not None:
            try:
                folded = fold_unary(node.op, value)
            except FoldError as problem:
                self.error("err.fold", str(problem), node)
                return self.set(node, INT64)
            if folded is not None:
                return self.set_constant(node, folded)
        if kind == NONE:
            return self.set(node, BOOL if node.op == "!" else INT64)
        if node.op == "!":
            if not self._plain(kind):
                self._bad_unary(node, kind)
            return self.set(node, BOOL)
        if not isinstance(kind, (Int, EnumType)):
            self._bad_unary(node, kind)
            return self.set(node, INT64)
        return self.set(node, INT64 if kind.signed else UINT64)

    def _bad_unary(self, node: Unary, kind: Type) -> None:
        self.error("err.type.unop", f"The {node.op} operator can not be used on expressions of type '{kind}'", node)

    def infer_deref(self, node: Unary, kind: Type) -> Type:
        """`*operand`: what a pointer points to, 8 bytes for an integer."""
        match kind:
            case Pointer(to=to, space=space):
                if str(to) == "void":
                    self.error("err.type.unop", "Can not dereference a pointer to void", node)
                    return self.set(node, UINT64)
                return self.set(node, self.with_space(to, self.space_or_probe(space)))
            case Int(space=space):
                return self.set(node, Int(8, False, space=self.space_or_probe(space)))
            case Struct(kind="args"):
                return self.set(node, kind)
            case _:
                if kind != NONE:
                    self.error("err.type.unop", f"Can not dereference a value of type '{kind}'", node)
                return self.set(node, UINT64)

    def space_or_probe(self, space: Space) -> Space:
        """The given memory, or that of the probe if it is not known."""
        return self.probe_space() if space is Space.NONE else space

    def infer_incdec(self, node: IncDec) -> Type:
        """`++` and `--`"""
        kind = self.number(self.infer_target(node.target))
        match kind:
            case Pointer():
                result: Type = kind
            case Int() | EnumType():
                declared = isinstance(node.target, Variable) and self.typed.variables[node.target].declared
                signed = kind.signed or node.op == "--"
                result = kind if declared else Int(8, signed, False)
            case _ if kind == NONE:
                result = INT64
            case _:
                self.error(
                    "err.type.unop",
                    f"The {node.op} operator can not be used on expressions of type '{kind}'",
                    node,
                )
                return self.set(node, INT64)
        self.store_target(node.target, result, node)
        return self.set(node, result)

    def infer_target(self, target: Variable | Map | MapElement) -> Type:
        """The present type of what is about to be assigned or stepped."""
        raise NotImplementedError

    def store_target(self, target: Variable | Map | MapElement, kind: Type, node: Node) -> None:
        """Note that a value of this type is stored in a variable or map."""
        raise NotImplementedError

    # ---- conditional

    def infer_ternary(self, node: Ternary) -> Type:
        """`a ? b : c` and `a ?: c`"""
        condition = self.infer(node.condition)
        self.check_condition(node.condition, condition)
        then = self.infer(node.then) if node.then else condition
        otherwise = self.infer(node.otherwise)
        if (then == NONE) != (otherwise == NONE):
            self.need_value(node.then or node.condition, then)
            self.need_value(node.otherwise, otherwise)
        kind = self.branch_type(node, then, otherwise)
        known = self.constant(node.condition)
        if known is not None:
            chosen = (node.then or node.condition) if known else node.otherwise
            value = self.constant(chosen)
            if value is not None:
                return self.set(node, kind, value)
        return self.set(node, kind)

    def branch_type(self, node: Expr, then: Type, otherwise: Type) -> Type:
        """The common type of two branches."""
        kinds = [self.number(then), self.number(otherwise)]
        unlike = NONE not in kinds and len({isinstance(kind, Aggregate) for kind in kinds}) == 2  # hist and a number
        kind = None if unlike else promote(*kinds)
        if kind is None:
            return self.error(
                "err.type.branch",
                f"Branches must return the same type or compatible types: have '{then}' and '{otherwise}'",
                node,
            )
        return kind

    def check_condition(self, node: Expr, kind: Type) -> None:
        """A condition must be an integer, bool or pointer; a literal string is folded."""
        if isinstance(kind, (Int, EnumType, Bool, Pointer)) or self.need_value(node, kind) == NONE:
            return
        if isinstance(kind, String) and self.constant(node) is not None:
            return
        hints: tuple[str, ...] = ()
        if isinstance(kind, Aggregate):
            hints = ("Compare the value, or cast it to an integer.",)
        self.error("err.type.cond", f"Invalid condition: {kind}", node, hints=hints)
