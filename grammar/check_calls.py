"""Types of calls: arity, kinds of arguments, then what the feature itself has to say."""

from __future__ import annotations

from pytrace.grammar.check_operators import OperatorChecker
from pytrace.grammar.diagnostics import Label, did_you_mean
from pytrace.grammar.hints import cast
from pytrace.grammar.host import LinkedFunction
from pytrace.grammar.nodes import (
    Call,
    Expr,
    Field,
    Identifier,
    Map,
    MapElement,
    OffsetOf,
    Positional,
    StringLiteral,
    TypeName,
    TypeOf,
    Variable,
)
from pytrace.grammar.promote import assignable, fits, promote
from pytrace.grammar.spec import Aggregation, Builtin, CallSite, Function, Param
from pytrace.grammar.types import (
    NONE,
    Array,
    Bool,
    Buffer,
    EnumType,
    Int,
    Pointer,
    Record,
    Space,
    Stack,
    String,
    Struct,
    Tuple,
    Type,
)
from pytrace.grammar.typing import Signature


class CallChecker(OperatorChecker):
    """The part of the checker that knows calls of features."""

    def check_key(self, name: Map, key: Expr) -> None:
        """Unify the type of a key expression with the map's key type."""
        raise NotImplementedError

    def infer_call(self, node: Call) -> Type:
        """`name(arguments)`"""
        feature = self.registry.functions.get(node.name)
        if feature is None and node.name in self.functions:
            return self.set(node, self.infer_function(node, self.functions[node.name]))
        if feature is None and node.name in self.linked:
            return self.set(node, self.infer_linked(node, self.linked[node.name]))
        if feature is None:
            for argument in node.arguments:
                if not isinstance(argument, (Map, TypeOf)):
                    self.infer(argument)
            return self.set(
                node,
                self.error(
                    "err.name.func",
                    f"Unknown function: '{node.name}'",
                    node,
                    hints=did_you_mean(node.name, [*self.registry.functions, *self.functions, *self.linked]),
                ),
            )
        if isinstance(feature, Aggregation):
            return self.misplaced_aggregation(node)
        return self.infer_site(node, feature, node.arguments)

    def infer_function(self, node: Call, signature: Signature) -> Type:
        """A call of one of the program's own functions."""
        self.typed.calls[node] = signature
        wanted, given = signature.function.parameters, node.arguments
        self.check_count(node, len(wanted), (Label(signature.function.span, "This is the function."),))
        for argument, parameter, binding in zip(given, wanted, signature.parameters, strict=False):
            kind = self.number(self.need_value(argument, self.infer(argument)))
            constant = self.constant(argument)
            if isinstance(kind, String) and unsized(parameter.type):
                binding.type = promote(binding.type, kind) or binding.type
            good = NONE in (kind, binding.type) or assignable(kind, binding.type)
            if isinstance(constant, int) and isinstance(binding.type, Int):
                good = good and fits(constant, binding.type)
            if not good:
                message = f"{node.name}() expects '{binding.type}' for {binding.label}, '{kind}' provided"
                labels = (Label(parameter.span, "This is the parameter."),)
                self.error("err.call.argtype", message, argument, labels)
        probe = self.typed.target.type
        for site in signature.uses():
            if site.feature.needs in probe.lacks:
                reason = probe.lacks[site.feature.needs]
                message = f"{node.name}() can not be called in {probe.name} probes: {reason}"
                labels = (Label(site.span, f"{site.feature.name} is used here."),)
                self.error("err.call.probe", message, node, labels)
        return signature.result

    def check_count(self, node: Call, wanted: int, labels: tuple[Label, ...] = ()) -> None:
        """Report a call of a function with a fixed number of parameters that has another number of arguments."""
        given = len(node.arguments)
        if given != wanted:
            words = {0: "no arguments", 1: "one argument"}.get(wanted, f"{wanted} arguments")
            self.error("err.call.nargs", f"{node.name}() requires {words} ({given} provided)", node, labels)

    def infer_linked(self, node: Call, function: LinkedFunction) -> Type:
        """A call of a function of an imported object: integers are converted, a pointer may be any pointer."""
        self.typed.linked[node] = function
        prototype = function.prototype
        if function.refusal:
            self.error("fn.extern", f"{node.name}() of {function.file} can not be called: {function.refusal}", node)
            return prototype.result
        self.check_count(node, len(prototype.parameters))
        for argument, parameter in zip(node.arguments, prototype.parameters, strict=False):
            kind, constant = self.number(self.need_value(argument, self.infer(argument))), self.constant(argument)
            if isinstance(parameter.type, Pointer):
                good = isinstance(kind, Pointer)
            else:
                good = isinstance(kind, (Int, EnumType, Bool))
            if good and isinstance(constant, int) and isinstance(parameter.type, Int):
                if not fits(constant, parameter.type):
                    message = f"{node.name}() expects '{parameter.text}', {constant} does not fit"
                    self.error("err.call.argtype", message, argument)
            elif kind != NONE and not good:
                message = f"{node.name}() expects '{parameter.text}', '{kind}' provided"
                hint = "Give the address of a variable that holds it: &$x"
                hints = (hint,) if isinstance(parameter.type, Pointer) and in_memory(kind) else ()
                self.error("err.call.argtype", message, argument, hints=hints)
        return prototype.result

    def misplaced_aggregation(self, node: Call | Identifier) -> Type:
        """An aggregation that does not stand on the right of `@m = `."""
        message = f"{node.name}() must be assigned directly to a map, e.g. `@x = {node.name}(...);`."
        return self.set(node, self.error("err.type.agg-place", message, node))

    def infer_site(
        self,
        node: Call | Identifier,
        feature: Function,
        arguments: tuple[Expr, ...],
        element: Map | MapElement | None = None,
    ) -> Type:
        """One use of a feature: its arguments, then what the feature itself has to say."""
        if (
            len(arguments) == 1
            and isinstance(arguments[0], MapElement)
            and [p.kinds for p in feature.parameters] == [("map",), ("key",)]
        ):  # delete(@m[k]) is the old spelling of delete(@m, k)
            arguments = (arguments[0].map, arguments[0].key)
        if not self.check_arity(node, feature, len(arguments)):
            return self.set(node, feature.returns)
        types, good = [], True
        for index, argument in enumerate(arguments):
            kind = self.argument_type(feature, index, arguments)
            types.append(kind)
            good = self.check_argument(feature, index, argument, kind) and good
        constants = tuple(None if isinstance(a, Map) else self.constant(a) for a in arguments)
        site = CallSite(
            node, feature, arguments, tuple(types), constants, self.typed.target, self.context,
            self.diagnostics, feature.returns, element, bool(self.loops),
            tuple(self.map_info(a).used_without_key if isinstance(a, Map) else None for a in arguments),
            targets=self.typed.targets, repeated=self.loop_depth > 0,
        )  # fmt: skip
        self.typed.sites[node] = site
        if feature.unsafe and not self.context.unsafe:
            site.error(
                "err.call.unsafe",
                feature.unsafe_text.format(name=feature.name),
                hints=("Use --unsafe to allow it.",),
            )
        probe = self.typed.target.type
        if self.typed.signature is not None and (feature.per_target or feature.per_type or feature.reads_context):
            code = "err.builtin.outside" if isinstance(feature, Builtin) else "err.call.probe"
            message = f"{node.name} can not be used in functions: they do not belong to one probe"
            site.error(code, message, hints=("Use it in the probe, and give it to the function as an argument.",))
            return self.set(node, feature.returns)
        if feature.needs in probe.lacks:
            reason = probe.lacks[feature.needs]
            site.error("err.call.probe", f"{node.name} can not be used in {probe.name} probes: {reason}")
            return self.set(node, feature.returns)
        if feature.reads_context and site.in_loop:
            site.error("err.builtin.in-for", f"'{node.name}' builtin is not allowed in a for-loop")
            good = False
        site.type = feature.type(site) if good else feature.returns
        if isinstance(site.type, Struct) and site.type.kind == "args":
            site.type = self.source.argument_struct(self.typed.target)
            site.type = cast("Struct", self.with_space(site.type, Space.DIRECT))
        made = feature.expand(site) if good else None
        if made is not None:
            self.typed.expansions[node] = made
            return self.set(node, self.infer(made), self.constant(made))
        value = feature.fold(site) if good and not isinstance(feature, Aggregation) else None
        return self.set(node, site.type, value)

    def parameter(self, feature: Function, index: int) -> Param | None:
        """The parameter that an argument belongs to; the last one takes the rest."""
        if index < len(feature.parameters):
            return feature.parameters[index]
        last = feature.parameters[-1] if feature.parameters else None
        return last if last is not None and last.rest else None

    def argument_type(self, feature: Function, index: int, arguments: tuple[Expr, ...]) -> Type:
        """The type of an argument; maps without key and words have none."""
        argument, parameter = arguments[index], self.parameter(feature, index)
        kinds = parameter.kinds if parameter else ()
        if isinstance(argument, Map) and "map" in kinds:
            info = self.map_info(argument)
            self.need_map(argument)
            return info.value
        if isinstance(argument, Identifier) and self._is_word(argument, parameter):
            return NONE
        if "key" in kinds and isinstance(arguments[index - 1], Map):
            name = cast("Map", arguments[index - 1])
            if self.map_info(name).used_without_key:  # the feature says what is wrong, in its own words
                return self.map_info(name).key
            self.decide_scalar(name, False, name.span)
            self.check_key(name, argument)
            return self.map_info(name).key
        if isinstance(argument, Variable) and "variable" in kinds:
            kind = next((self.map_info(a).value for a in arguments if isinstance(a, Map)), NONE)
            self.store_target(argument, kind, argument)
            return kind
        if isinstance(argument, TypeOf) and "type" in kinds:
            return self.resolve(argument)
        if "member" in kinds:
            return self._member_offset(arguments[index - 1], argument)
        if isinstance(argument, StringLiteral) and parameter and parameter.literal and kinds == ("string",):
            # the program never holds it, so it may be longer than `max_strlen` ([lex.string.limit])
            return self.set(argument, String(len(argument.value) + 1), argument.value)
        kind = self.need_value(argument, self.infer(argument))
        return self.number(kind) if "int" in kinds else kind

    def _member_offset(self, owner: Expr, member: Expr) -> Type:
        """`a` or `a.b` as an argument: it stands for where that is in the type that the argument before it
        names."""
        path: list[str] = []
        node = member
        while isinstance(node, Field):
            path.insert(0, node.name)
            node = node.operand
        if not isinstance(node, Identifier) or not isinstance(owner, TypeOf):
            return self.error("err.type.offsetof", "Not the name of a member", member)
        offset = OffsetOf(member.span, owner.operand, (node.name, *path))
        kind = self.infer(offset)
        return self.set(member, kind, self.constant(offset))

    def _is_word(self, node: Identifier, parameter: Param | None) -> bool:
        """Whether an argument is a word of the function's, not a value."""
        if parameter is None or "word" not in parameter.kinds:
            return False
        # looking for an enumerator takes time
        return node.name in parameter.words or not self._is_value(node)

    def _is_value(self, node: Identifier) -> bool:
        return self.source.enumerator(node.name) is not None and node.name not in self.registry.functions

    def check_arity(self, node: Call | Identifier, feature: Function, given: int) -> bool:
        """Whether the number of arguments is right."""
        least = sum(1 for p in feature.parameters if not p.optional and not p.rest)
        rest = any(p.rest for p in feature.parameters)
        most = None if rest else len(feature.parameters)
        if given >= least and (most is None or given <= most):
            return True
        words = {0: "no arguments", 1: "one argument"}
        if most == least:
            wanted = f"requires {words.get(least, f'{least} arguments')}"
        elif given < least:
            wanted = f"requires at least {words.get(least, f'{least} arguments')}"
        else:
            wanted = f"takes up to {words.get(most or 0, f'{most} arguments')}"
        self.error("err.call.nargs", f"{feature.name}() {wanted} ({given} provided)", node)
        return False

    def check_argument(self, feature: Function, index: int, argument: Expr, kind: Type) -> bool:
        """Whether an argument is of a kind that its parameter accepts."""
        parameter = self.parameter(feature, index)
        if parameter is None or (not parameter.kinds and not parameter.literal):
            return True
        is_word = isinstance(argument, Identifier) and "word" in parameter.kinds
        if is_word or (isinstance(argument, Map) and "map" in parameter.kinds):
            return True
        if "key" in parameter.kinds or "member" in parameter.kinds:
            return True
        for word, node, text in (("variable", Variable, "a variable ($name)"), ("type", TypeOf, "typeof(...)")):
            if word in parameter.kinds and not isinstance(argument, node):
                self.error("err.call.argtype", f"{feature.name}() expects {text} here", argument)
                return False
            if word in parameter.kinds:
                return True
        if parameter.kinds == ("map",):
            advice = ("Name the map without a key here.",) if isinstance(argument, MapElement) else ()
            self.error("err.call.argtype", f"{feature.name}() expects a map argument", argument, hints=advice)
            return False
        kinds = [k for k in parameter.kinds if k not in ("map", "word")]
        good = not kinds or kind == NONE or any(of_kind(self.number(kind), k) for k in kinds)
        if parameter.literal and (self.constant(argument) is None or not good):
            wanted = kinds[0] if kinds else "constant"
            hints: tuple[str, ...] = ()
            if isinstance(argument, Positional) and wanted == "string":
                hints = (f"Use str(${argument.number}) to treat ${argument.number} as a string",)
            self.error(
                "err.call.argtype",
                f"{feature.name}() expects a {wanted} literal ({kind_word(kind)} provided)",
                argument,
                hints=hints,
            )
            return False
        if not good:
            wanted = ", ".join(kinds[:-1]) + (" or " if len(kinds) > 1 else "") + kinds[-1]
            self.error(
                "err.call.argtype",
                f"{feature.name}() only supports {wanted} arguments ({kind_word(kind)} provided)",
                argument,
            )
        return good


def in_memory(kind: Type) -> bool:
    """Whether values of a type lie in memory, so that there is an address of them."""
    return isinstance(kind, (Array, Buffer, Record, Stack, String, Struct, Tuple))


def unsized(node: TypeName | TypeOf) -> bool:
    """Whether a type annotation is `string` without a size."""
    return isinstance(node, TypeName) and (node.kind, node.name, node.suffixes) == ("", "string", ())


KINDS: dict[str, tuple[type[Type], ...]] = {
    "int": (Int, EnumType),
    "integer": (Int, EnumType),
    "bool": (Bool,),
    "string": (String,),
    "pointer": (Pointer,),
    "buffer": (Buffer,),
    "array": (Array,),
    "tuple": (Tuple,),
    "record": (Record,),
    "stack": (Stack,),
    "struct": (Struct,),
}


def of_kind(kind: Type, word: str) -> bool:
    """Whether a type is of the kind that a `Param` names."""
    return word == "any" or isinstance(kind, KINDS.get(word, ()))


def kind_word(kind: Type) -> str:
    """The word for a type in argument messages: `int`, `string`, …"""
    for word, classes in KINDS.items():
        if isinstance(kind, classes):
            return word
    return str(kind)
