"""Macros: each call becomes a copy of the macro's body (reference part 1, section 10.1).

A pass over the tree, before anything is typed. The body's own variables get names that no program can spell, so they
meet nobody else's. What is copied remembers the call it comes from (`Span.via`), and messages show that chain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from pytrace.grammar.data import dataclass, field, fields, replace
from pytrace.grammar.diagnostics import Diagnostics, Label
from pytrace.grammar.hints import cast
from pytrace.grammar.nodes import (
    Block,
    Call,
    Expr,
    For,
    Identifier,
    Jump,
    Let,
    Macro,
    Map,
    Node,
    OffsetOf,
    Program,
    Return,
    SizeOf,
    TypeInfo,
    TypeName,
    TypeOf,
    Variable,
    While,
    children,
    walk,
)
from pytrace.grammar.source import Source, Span
from pytrace.grammar.spec import LIBRARY_FILE, Registry

_DEFINED = re.compile(r"^macro (\w+)", re.MULTILINE)

Parameter = Variable | Map | Identifier


def expand_macros(program: Program, registry: Registry, diagnostics: Diagnostics) -> Program:
    """The program without macros: their definitions are gone, their calls are replaced. Mistakes go to the
    diagnostics."""
    macros = [item for item in program.items if isinstance(item, Macro)]
    library = library_macros(program, registry, diagnostics)
    if not macros and not library:
        return program
    expander = Expander(macros, diagnostics, library)
    items = tuple(expander.rewrite(item) for item in program.items if not isinstance(item, Macro))
    return replace(program, items=items)  # type: ignore[arg-type]  # an item stays an item


def library_macros(program: Program, registry: Registry, diagnostics: Diagnostics) -> dict[str, list[Macro]]:
    """The macros of the library, by name; none if the program has no name of one in its text."""
    text = registry.library()
    sources = {item.span.source for item in program.items}
    if not any(name in source.text for name in _DEFINED.findall(text) for source in sources):
        return {}
    from pytrace.grammar.parser import parse  # not loaded when a compiled program is run again

    found: dict[str, list[Macro]] = {}
    for item in parse(Source(LIBRARY_FILE, text), registry.builtin_words(), diagnostics).items:
        if isinstance(item, Macro):
            found.setdefault(item.name, []).append(item)
    return found


@dataclass(slots=True)
class Expansion:
    """One body being copied: what its parameters stand for, and the call it takes the place of."""

    call: Span
    arguments: dict[tuple[type, str], Expr]
    number: int  # makes the names of its variables unlike all others


@dataclass(slots=True)
class Expander:
    """Replaces calls of macros; `chain` holds the macros that are being expanded, outermost first."""

    macros: list[Macro]
    diagnostics: Diagnostics
    library: dict[str, list[Macro]] = field(default_factory=dict)
    by_name: dict[str, list[Macro]] = field(default_factory=dict)
    chain: list[tuple[Macro, Span]] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        for macro in self.macros:
            self._check_definition(macro)
            self.by_name.setdefault(macro.name, []).append(macro)

    # ---- definitions

    def _check_definition(self, macro: Macro) -> None:
        names: set[tuple[type, str]] = set()
        for parameter in macro.parameters:
            if _key(parameter) in names:
                message = f"Duplicate macro parameter: {_shown(parameter)}"
                self.diagnostics.error("err.macro.hygiene", message, parameter.span)
            names.add(_key(parameter))
        for other in self.by_name.get(macro.name, ()):
            if [type(p) for p in other.parameters] == [type(p) for p in macro.parameters]:
                message = f"Redefinition of macro: {macro.name}"
                labels = (Label(other.span, "This is the first definition."),)
                self.diagnostics.error("err.macro.hygiene", message, macro.span, labels)
        for node in walk(macro.body):
            if isinstance(node, Map) and _key(node) not in names:
                shown = _shown(node)
                message = f"Unhygienic access to map: {shown}. Pass {shown} into the macro as an argument."
                self.diagnostics.error("err.macro.hygiene", message, node.span)
            elif isinstance(node, Let) and _key(node.variable) in names:
                message = f"Variable declaration shadows macro arg {_shown(node.variable)}"
                self.diagnostics.error("err.macro.hygiene", message, node.span)
        self._check_jumps(macro, macro.body)

    def _check_jumps(self, macro: Macro, node: Node) -> None:
        """A macro must not leave what it is used in: jumps are for its own loops."""
        if isinstance(node, (Return, Jump)):
            word = node.word if isinstance(node, Jump) else "return"
            message = f"'{word}' statement is not allowed in a macro, but for in a loop of its own"
            self.diagnostics.error("err.flow.jump", message, node.span)
        if not isinstance(node, (For, While)):
            for child in children(node):
                self._check_jumps(macro, child)

    # ---- calls

    def rewrite(self, node: Node) -> Node:
        """A tree with its calls of macros replaced; what has none stays the same object."""
        return _transform(node, self._replacement)

    def _replacement(self, node: Node) -> Node | None:
        """What a node is to be replaced by; None if its parts decide."""
        match node:
            case Identifier(name=name) if any(not m.parameters for m in self._known(name)):
                return self._call(node, name, (), node.span)
            case Call(name=name) if self._known(name):
                arguments = tuple(self.rewrite(a) for a in node.arguments)
                return self._call(node, name, arguments, node.name_span)  # type: ignore[arg-type]
            case _:
                return None

    def _call(self, node: Expr, name: str, arguments: tuple[Expr, ...], name_span: Span) -> Expr:
        macro = self._choose(name, arguments)
        if macro is None:
            if name in self.by_name:  # for one of the library the checker has better words
                self._no_match(node, name, arguments)
            return node
        if any(macro is outer for outer, _ in self.chain):
            names = " > ".join([*(outer.name for outer, _ in self.chain), name])
            labels = tuple(Label(span, f"{outer.name} is called here") for outer, span in self.chain)
            self.diagnostics.error("err.macro.recursion", f"Recursive call of a macro: {names}", node.span, labels)
            return node
        self.count += 1
        given = zip(macro.parameters, arguments, strict=True)
        expansion = Expansion(node.span, {_key(p): _protected(p, a) for p, a in given}, self.count)
        self.chain.append((macro, name_span))
        body = self.rewrite(_transform(macro.body, lambda part: _instance(part, expansion), expansion.call))
        self.chain.pop()
        assert isinstance(body, Block)
        if not body.statements and body.value is not None and not isinstance(body.value, Map):
            return body.value  # so that a literal stays a literal
        return body

    def _known(self, name: str) -> list[Macro]:
        """The definitions of a name: those of the program come first, and the library knows only its own."""
        own, library = self.by_name.get(name, []), self.library.get(name, [])
        inside = bool(self.chain) and any(self.chain[-1][0] is m for m in self.library.get(self.chain[-1][0].name, ()))
        return library if inside else own + library

    def _choose(self, name: str, arguments: tuple[Expr, ...]) -> Macro | None:
        """The definition that says most about its arguments, of those that take them."""
        fitting = [m for m in self._known(name) if _fits(m, arguments)]
        return max(fitting, key=lambda m: sum(not isinstance(p, Identifier) for p in m.parameters), default=None)

    def _no_match(self, node: Expr, name: str, arguments: tuple[Expr, ...]) -> None:
        closest = min(
            self.by_name[name], key=lambda m: (abs(len(m.parameters) - len(arguments)), _misfits(m, arguments))
        )
        if len(closest.parameters) != len(arguments):
            expected = f"Expected: {len(closest.parameters)} but got {len(arguments)}"
            problem = f"has a different number of arguments. {expected}"
        else:
            number = _misfits(closest, arguments)[0]
            kind = "a variable" if isinstance(closest.parameters[number], Variable) else "a map"
            problem = f"expects {kind} as argument {number + 1} ({_shown(closest.parameters[number])})"
        labels = (Label(closest.span, f"The closest definition of {name}() {problem}"),)
        message = f"Call to {name}() has arguments that do not match any definition."
        self.diagnostics.error("err.macro.match", message, node.span, labels)


def _key(parameter: Parameter) -> tuple[type, str]:
    return type(parameter), parameter.name


def _shown(parameter: Parameter) -> str:
    return {Variable: "$", Map: "@"}.get(type(parameter), "") + parameter.name


def _misfits(macro: Macro, arguments: Iterable[Expr]) -> list[int]:
    """The numbers of the arguments that are not what the parameter wants."""
    pairs = enumerate(zip(macro.parameters, arguments, strict=False))
    return [i for i, (p, a) in pairs if not isinstance(p, Identifier) and type(a) is not type(p)]


def _fits(macro: Macro, arguments: tuple[Expr, ...]) -> bool:
    return len(macro.parameters) == len(arguments) and not _misfits(macro, arguments)


def _protected(parameter: Parameter, argument: Expr) -> Expr:
    """What stands for a parameter: one that takes any expression must not assign to the caller's variable."""
    if isinstance(parameter, Identifier) and isinstance(argument, (Variable, Map)):
        return Block(argument.span, (), argument)
    return argument


def _instance(node: Node, expansion: Expansion) -> Node | None:
    """What a node of the body becomes in one expansion; None if its parts decide."""
    match node:
        case Variable() | Map() | Identifier():
            given = expansion.arguments.get(_key(node))
            if given is not None:
                return _transform(given, lambda part: None, fresh=True)
            if isinstance(node, Variable):
                span = replace(node.span, via=expansion.call)
                return Variable(span, f"{node.name}#{expansion.number}")
            return None
        case TypeName(kind="", name=name, suffixes=suffixes):
            given = expansion.arguments.get((Identifier, name))
            if not isinstance(given, TypeOf):
                return None
            return TypeOf(given.span, given.operand, (*given.suffixes, *suffixes))
        case SizeOf(operand=TypeName() as word) | TypeInfo(operand=TypeName() as word):
            return _measured(node, word, expansion)
        case OffsetOf(operand=TypeName() as word) | TypeOf(operand=TypeName() as word):
            return _measured(node, word, expansion)
        case _:
            return None


def _measured(node: SizeOf | OffsetOf | TypeInfo | TypeOf, word: TypeName, expansion: Expansion) -> Node | None:
    """`sizeof(x)` and the like, where `x` is an argument that is an expression."""
    given = expansion.arguments.get((Identifier, word.name))
    if given is None or isinstance(given, TypeOf) or word.kind or word.suffixes:
        return None
    if isinstance(given, Block) and not given.statements and isinstance(given.value, (Variable, Map)):
        given = given.value  # nothing can assign to it here
    operand = cast("Expr", _transform(given, lambda part: None, fresh=True))
    return replace(node, span=replace(node.span, via=expansion.call), operand=operand)


def _transform(node: Node, change: Callable[[Node], Node | None], via: Span | None = None, fresh: bool = False) -> Node:
    """A copy of a tree in which `change` replaces nodes; `via` is the call that the copy is made for. Without
    that, and unless all is to be `fresh`, what has no change in it is not copied."""
    changed = change(node)
    if changed is not None:
        return changed
    parts: dict[str, object] = {}
    for one in fields(node):
        value = getattr(node, one.name)
        if isinstance(value, Node):
            made: object = _transform(value, change, via, fresh)
        elif isinstance(value, tuple) and any(isinstance(part, Node) for part in value):
            made = tuple(_transform(p, change, via, fresh) if isinstance(p, Node) else p for p in value)
            made = value if all(a is b for a, b in zip(made, value, strict=True)) else made
        elif isinstance(value, Span) and via is not None:
            made = replace(value, via=via)
        else:
            continue
        if made is not value:
            parts[one.name] = made
    return replace(node, **parts) if parts or fresh else node  # type: ignore[arg-type]
