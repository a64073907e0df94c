"""`fn`: functions of a program, their signatures and bodies (reference part 1, section 10.2).

A body is checked like the block of a probe, one that knows nothing of where it runs.
"""

from __future__ import annotations

from pytrace.grammar.attaching import OnDemand
from pytrace.grammar.check_statements import StatementChecker
from pytrace.grammar.data import dataclass
from pytrace.grammar.diagnostics import Label
from pytrace.grammar.nodes import (
    Block,
    Call,
    Comptime,
    Expr,
    ExprStatement,
    Function,
    If,
    Node,
    Parameter,
    Probe,
    Program,
    Return,
    Statement,
    Variable,
    walk,
)
from pytrace.grammar.probetype import ProbeType
from pytrace.grammar.spec import FUNCTION, Context, Registry, Target
from pytrace.grammar.types import NONE, VOID, Aggregate, Space, String, Void
from pytrace.grammar.typing import Signature, TypedProbe


class FunctionBody(ProbeType):
    """What stands for the probe while the body of a function is checked: nothing is known of it."""

    name = FUNCTION


BODY = FunctionBody()


def declared_functions(program: Program, registry: Registry, context: Context) -> list[TypedProbe]:
    """The functions of a program, to be checked like probes."""
    found: dict[str, Function] = {}
    for item in program.items:
        if not isinstance(item, Function):
            continue
        if item.name in found:
            labels = (Label(found[item.name].span, "This is the first definition."),)
            context.diagnostics.error("fn.def", f"Redefinition of function: {item.name}", item.span, labels)
        elif item.name in registry.functions:
            message = f"Redefinition of function: {item.name}() is a function of the language"
            context.diagnostics.error("fn.def", message, item.span)
        found.setdefault(item.name, item)
    _refuse_recursion(found, context)
    return [typed_function(function) for function in found.values()]


def _refuse_recursion(functions: dict[str, Function], context: Context) -> None:
    """Each call is a copy of the function's code, so none may lead back to itself."""
    calls = {
        name: [node for node in walk(f.body) if isinstance(node, Call) and node.name in functions]
        for name, f in functions.items()
    }
    done: set[str] = set()

    def follow(name: str, chain: tuple[str, ...]) -> None:
        for call in calls[name]:
            if call.name in chain:
                names = " > ".join([*chain[chain.index(call.name) :], call.name])
                context.diagnostics.error("fn.call", f"Recursive call of a function: {names}", call.span)
            elif call.name not in done:
                follow(call.name, (*chain, call.name))
        done.add(name)

    for name in functions:
        if name not in done:
            follow(name, (name,))


def typed_function(function: Function) -> TypedProbe:
    """A function before anything is known of its types."""
    name = f"{FUNCTION}:{function.name}"
    target = Target(BODY, name, OnDemand(name, when=FUNCTION), section="", space=Space.KERNEL)
    return TypedProbe(Probe(function.span, (), None, function.body), (target,), signature=Signature(function))


def check_function(checker: StatementChecker, typed: TypedProbe, signature: Signature) -> None:
    """One pass over one function, for which the checker was prepared already."""
    function = signature.function
    _declare_parameters(checker, function)
    result = checker.resolve(function.result)
    if not (isinstance(signature.result, String) and result == String(0)):  # what it returns has given it a size
        signature.result = checker.with_space(result, Space.KERNEL)
    signature.parameters = tuple(checker.bind(p.variable) for p in function.parameters)
    signature.body = typed
    if isinstance(signature.result, Aggregate):
        checker.error("fn.def", f"A function cannot return '{signature.result}'", function.result)
    checker.check_discarded(function.body)
    if signature.result not in (VOID, NONE) and not Paths(checker, typed).block(function.body):
        message = f"Not all code paths of function '{function.name}' return a value of type '{signature.result}'"
        checker.error("err.type.return", message, function.span)


def _declare_parameters(checker: StatementChecker, function: Function) -> None:
    """Give the parameters their types; `typeof` in one may refer to others, in any order."""
    waiting = list(function.parameters)
    while waiting:
        names = {parameter.variable.name for parameter in waiting}
        ready = [parameter for parameter in waiting if not names & _mentioned(parameter)]
        if not ready:
            message = f"The type of {waiting[0].variable.shown} depends on itself"
            checker.error("fn.def", message, waiting[0])
            return
        for parameter in ready:
            _declare(checker, parameter)
        waiting = [parameter for parameter in waiting if parameter not in ready]


def _mentioned(parameter: Parameter) -> set[str]:
    """The names of the variables in the type of a parameter."""
    return {node.name for node in walk(parameter.type) if isinstance(node, Variable)}


def _declare(checker: StatementChecker, parameter: Parameter) -> None:
    checker.check_shadow(parameter.variable)
    binding = checker.bind(parameter.variable)
    checker.typed.variables[parameter.variable] = binding
    kind = checker.resolve(parameter.type)
    if isinstance(kind, (Aggregate, Void)):
        checker.error("fn.def", f"A parameter cannot be of type '{kind}'", parameter)
    if not (isinstance(binding.type, String) and kind == String(0)):  # the calls give it a size
        binding.type = checker.with_space(kind, Space.KERNEL)
    binding.declared = binding.assigned = binding.used = True


@dataclass(slots=True)
class Paths:
    """Whether every way through a body ends with `return`; what is in a loop may not be reached."""

    checker: StatementChecker
    typed: TypedProbe

    def block(self, block: Block) -> bool:
        """Whether a block never comes to its end."""
        ended = any(map(self._statement, block.statements))
        return ended or (block.value is not None and self._expression(block.value))

    def _statement(self, node: Statement) -> bool:
        if isinstance(node, ExprStatement):
            return self._expression(node.value) or self.checker.ends(node)
        return isinstance(node, Return)

    def _expression(self, node: Expr) -> bool:
        match node:
            case Block():
                return self.block(node)
            case If(condition=Comptime()):
                return self._branch(self.typed.branch(node))
            case If(then=then, otherwise=otherwise):
                return self.block(then) and self._branch(otherwise)
            case _:
                return False

    def _branch(self, node: Node | None) -> bool:
        return isinstance(node, (Block, If)) and self._expression(node)
