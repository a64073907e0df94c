"""Debug information: from it LLVM makes the BTF that the kernel wants.

The script's own text is in the DIFile and every instruction has a DILocation, so the verifier's log and
`bpftool prog dump xlated linum` show the lines of the script.
"""

from __future__ import annotations

from llvmlite import ir
from llvmlite.ir.values import DIValue, MDValue

from pytrace.grammar.hints import Any
from pytrace.grammar.source import Source, Span

NUMBERS = frozenset({"index", "action", "code", "number"})  # parameters of functions that are no pointers


class Node(DIValue):  # type: ignore[misc]
    """A debug node that compares by identity: llvmlite's compares by content, which in a cycle never ends."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class List(MDValue):  # type: ignore[misc]
    """A list of nodes, by identity as well."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class DebugInfo:
    """The debug metadata of one module."""

    def __init__(self, module: ir.Module, source: Source) -> None:
        self.module = module
        self._known: dict[Any, Node] = {}
        self.files: dict[Source, Node] = {}
        self.file = self.file_of(source)
        self.unit = self._node(
            "DICompileUnit",
            {
                "language": ir.DIToken("DW_LANG_C99"),
                "file": self.file,
                "producer": "pytrace",
                "isOptimized": True,
                "runtimeVersion": 0,
                "emissionKind": ir.DIToken("FullDebug"),
            },
            is_distinct=True,
        )
        i32 = ir.IntType(32)
        module.add_named_metadata("llvm.dbg.cu", self.unit)
        for name, value in (("Dwarf Version", 4), ("Debug Info Version", 3)):
            flag = module.add_metadata([ir.Constant(i32, 2), name, ir.Constant(i32, value)])
            module.add_named_metadata("llvm.module.flags", flag)
        self.int = self.base("int", 32, "DW_ATE_signed")
        self.long = self.base("long long", 64, "DW_ATE_signed")
        self.pointer = self._node(
            "DIDerivedType", {"tag": ir.DIToken("DW_TAG_pointer_type"), "size": 64, "baseType": None}
        )
        self._uints: dict[int, Any] = {}
        self._sources: dict[Node, Source] = {}  # of the functions
        self.globals: list[Any] = []

    def file_of(self, source: Source) -> Node:
        """The DIFile of the script or of a file that it imports."""
        if source not in self.files:
            operands = {"filename": source.name, "directory": "", "source": printable(source.text)}
            self.files[source] = self._node("DIFile", operands)
        return self.files[source]

    def base(self, name: str, bits: int, encoding: str) -> Any:
        """A DIBasicType."""
        return self._node("DIBasicType", {"name": name, "size": bits, "encoding": ir.DIToken(encoding)})

    def function(self, function: ir.Function, span: Span, parameters: tuple[str, ...]) -> Any:
        """Attach a DISubprogram to a function whose parameters are 64 bits wide.

        Without a named variable for each parameter the kernel rejects the BTF of the whole object.
        """
        line, file = span.first[0], self.file_of(span.source)
        flags = ["DISPFlagDefinition", "DISPFlagOptimized"]
        if function.linkage == "internal":
            flags.append("DISPFlagLocalToUnit")  # the kernel takes only static functions as callbacks
        types = [self.long] + [self.long if p in NUMBERS else self.pointer for p in parameters]
        subprogram = self._node(
            "DISubprogram",
            {
                "name": function.name,
                "scope": file,
                "file": file,
                "line": line,
                "type": self.signature(types),
                "scopeLine": line,
                "spFlags": ir.DIToken(" | ".join(flags)),
                "unit": self.unit,
            },
            is_distinct=True,
        )
        variables = [
            self._parameter(name, number, types[number], subprogram) for number, name in enumerate(parameters, 1)
        ]
        # the variables name the subprogram as their scope, so they can only be added afterwards
        _add_operand(subprogram, "retainedNodes", self._list(variables))
        function.set_metadata("dbg", subprogram)
        self._sources[subprogram] = span.source
        return subprogram

    def named(self, kind: str, name: str, size: int = 0) -> Any:
        """A `struct`, `union` or `enum` of which nothing is said but its name, and the size in bytes of an `enum`."""
        tag = {"struct": "structure", "enum": "enumeration"}.get(kind, kind)
        operands = {"tag": ir.DIToken(f"DW_TAG_{tag}_type"), "name": name, "file": self.file, "size": size * 8}
        return self._node("DICompositeType", operands | {"elements": self._list([])})

    def pointer_of(self, target: Any) -> Any:
        """A pointer to what a node describes."""
        return self._node("DIDerivedType", {"tag": ir.DIToken("DW_TAG_pointer_type"), "baseType": target, "size": 64})

    def array(self, element: Any, count: int, bits: int) -> Any:
        """An array of `count` elements, `bits` large altogether."""
        operands = {"tag": ir.DIToken("DW_TAG_array_type"), "baseType": element, "size": bits}
        length = self._node("DISubrange", {"count": count})
        return self._node("DICompositeType", operands | {"elements": self._list([length])})

    def signature(self, types: list[Any]) -> Any:
        """The type of a function: what it returns (None: void), and its parameters."""
        return self._node("DISubroutineType", {"types": self._list(types)})

    def declaration(self, function: ir.Function, types: list[Any]) -> None:
        """Attach a DISubprogram to a function that is declared only: the type of its result (None: void), and those of
        its parameters."""
        subprogram = self._node(
            "DISubprogram",
            {
                "name": function.name,
                "scope": self.file,
                "file": self.file,
                "line": 1,
                "type": self.signature(types),
                "spFlags": ir.DIToken("DISPFlagOptimized"),
            },
        )
        function.set_metadata("dbg", subprogram)

    def _parameter(self, name: str, number: int, kind: Any, scope: Any) -> Any:
        return self._node(
            "DILocalVariable",
            {"name": name, "arg": number, "scope": scope, "file": self.file, "line": 1, "type": kind},
        )

    def _node(self, kind: str, operands: dict[str, Any], is_distinct: bool = False) -> Node:
        """A new node, or the one that is the same already."""
        key = (kind, tuple((n, v.value if isinstance(v, ir.DIToken) else v) for n, v in operands.items()))
        if is_distinct or key not in self._known:
            number = str(len(self.module.metadata))
            self._known[key] = Node(self.module, is_distinct, kind, tuple(operands.items()), number)
        return self._known[key]

    def _list(self, nodes: list[Any]) -> List:
        return List(self.module, nodes, name=str(len(self.module.metadata)))

    def finish(self) -> None:
        """Tell the compile unit of its globals; to be called once, at the end."""
        _add_operand(self.unit, "globals", self._list(self.globals))

    def location(self, span: Span, scope: Any) -> Any:
        """A DILocation."""
        line, column = span.first
        if self._sources[scope] is not span.source:  # the body of a macro from another file
            file = self.file_of(span.source)
            scope = self._node("DILexicalBlockFile", {"scope": scope, "file": file, "discriminator": 0})
        return self._node("DILocation", {"line": line, "column": column, "scope": scope})

    def map(self, variable: ir.GlobalVariable, settings: dict[str, int]) -> None:
        """Describe a BTF-defined map: each setting is the length of the array that a pointer member points to."""
        members = []
        for number, (name, value) in enumerate(settings.items()):
            members.append(
                self._node(
                    "DIDerivedType",
                    {
                        "tag": ir.DIToken("DW_TAG_member"),
                        "name": name,
                        "file": self.file,
                        "baseType": self._number(value),
                        "size": 64,
                        "offset": 64 * number,
                    },
                )
            )
        struct = self._node(
            "DICompositeType",
            {
                "tag": ir.DIToken("DW_TAG_structure_type"),
                "file": self.file,
                "size": 64 * len(members),
                "elements": self._list(members),
            },
        )
        self.variable(variable, struct)

    def variable(self, variable: ir.GlobalVariable, kind: Any) -> None:
        """Attach a DIGlobalVariable to a global."""
        description = self._node(
            "DIGlobalVariable",
            {
                "name": variable.name,
                "scope": self.unit,
                "file": self.file,
                "line": 1,
                "type": kind,
                "isLocal": False,
                "isDefinition": True,
            },
            is_distinct=True,
        )
        expression = self._node("DIExpression", {})
        both = self._node("DIGlobalVariableExpression", {"var": description, "expr": expression})
        variable.set_metadata("dbg", both)
        self.globals.append(both)

    def text(self, variable: ir.GlobalVariable) -> None:
        """Describe a global that is an array of characters."""
        count = variable.value_type.count
        self.variable(variable, self.array(self.base("char", 8, "DW_ATE_signed_char"), count, 8 * count))

    def _number(self, value: int) -> Any:
        """A pointer to `int[value]`, libbpf's way to write a number in a type (bpf_helpers.h, __uint)."""
        if value not in self._uints:
            self._uints[value] = self.pointer_of(self.array(self.int, value, 32 * value))
        return self._uints[value]


def printable(text: str) -> str:
    """Program text as metadata can hold it: bytes that are not UTF-8 become question marks."""
    return text.replace("\0", "?").encode("utf-8", "replace").decode()


def _add_operand(node: Any, name: str, value: Any) -> None:
    node.operands = (*node.operands, (name, value))
