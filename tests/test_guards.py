"""Guards of the house: features are known by their classes only, and every class explains itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytrace.language  # noqa: F401  (features register themselves)
from pytrace.compilation import compile_text
from pytrace.grammar.diagnostics import CompileError
from pytrace.grammar.host import Host
from pytrace.grammar.plan import ProgramSpec
from pytrace.grammar.spec import REGISTRY, Feature
from pytrace.options import Options
from tests.fakehost import FakeHost

ROOT = Path(__file__).parent.parent
CGROUPS = Path("/sys/fs/cgroup/cgroup.controllers")  # of version 2

# Words below the floor of the language that are spelled like a feature but are something else, by file.
OTHER_WORDS = {
    # the kind of `Struct` that holds a probe's arguments
    "grammar/check_calls.py": {"args"},
    "grammar/check_expressions.py": {"args"},
    "grammar/check_operators.py": {"args"},
    "grammar/typing.py": {"args"},
    "codegen/expressions.py": {"args"},
    "grammar/checker.py": {"inet"},  # `inet[16]` is a size, not an array
    # the block `config = {}`
    "grammar/lexer.py": {"config"},
    "grammar/lexer_code.py": {"config"},
    "grammar/data.py": {"self"},  # of the methods that are made
    "grammar/plan.py": {"zero"},  # a word of global data
    "grammar/settings.py": {"strlen", "str"},  # the old name of a setting; Python's type
    "codegen/compiler.py": {"ctx"},  # names of arguments in debug information
    "codegen/loops.py": {"ctx"},
    "codegen/mapaccess.py": {"ctx"},
    "codegen/debuginfo.py": {"count"},  # of LLVM's DISubrange
    "codegen/frame.py": {"exit"},  # a basic block
    "codegen/helpers.py": {"strncmp"},  # a BPF helper
    "codegen/records.py": {"runtime_warning"},  # the one action that no program calls: code generation does
    "runtime/btf.py": {"float"},  # the kind of `Opaque` for floating-point members
    "runtime/cfront.py": {"float"},
    "runtime/usdt.py": {"float"},  # of a pattern's group
    "runtime/usertypes.py": {"float"},
    "runtime/attach_perf.py": {"kprobe", "uprobe"},  # the kernel's PMUs
    "runtime/attach_iter.py": {"cgroup"},  # the kernel's iterator
    # the kernel's facilities and types of programs
    "runtime/features.py": {"kprobe", "uprobe", "fentry", "iter", "tracepoint", "xdp", "tc"},
    "runtime/libbpf.py": {"retval", "cpu"},  # members of struct bpf_test_run_opts
    "runtime/process.py": {"self"},  # /proc/self
    "runtime/reasons.py": {"cpu"},  # the PMU of the processor
    "runtime/tracer.py": {"begin"},  # when a program on demand runs
}


def features() -> list[Feature]:
    """Every feature once."""
    tables = (REGISTRY.functions, REGISTRY.probes, REGISTRY.kinds)
    return list({id(f): f for table in tables for f in table.values()}.values())


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """The string literals of a module, with their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_no_feature_is_named_below_the_language() -> None:
    # one letter may be a struct(3) code or a prefix
    names = {name for f in features() for name in (f.name, *f.aliases) if len(name) > 1}
    found: dict[str, set[str]] = {}
    unexpected = []
    for folder in ("grammar", "codegen", "runtime"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            file = f"{folder}/{path.relative_to(ROOT / folder)}"
            for line, text in literals(path):
                if text in names:
                    found.setdefault(file, set()).add(text)
                    if text not in OTHER_WORDS.get(file, ()):
                        unexpected.append(f"{file}:{line}: {text!r}")
    assert not unexpected
    assert found == OTHER_WORDS  # what is not there any more needs no exception


def test_the_scan_finds_names(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('if word == "count":\n    x = {"hist": 1}\n')
    assert list(literals(path)) == [(1, "count"), (2, "hist")]


# ---------------------------------------------------------------- documentation

INTERNAL = {"runtime_warning"}  # not to be called by programs
EXAMPLES = [pytest.param(text, id=f"{f.name}-{number}") for f in features() for number, text in enumerate(f.examples())]


@pytest.mark.parametrize("feature", features(), ids=lambda f: f.name)
def test_every_feature_explains_itself(feature: Feature) -> None:
    own = type(feature).__doc__ or ""
    first = feature.doc().partition("\n\n")[0]
    assert own.strip(), "the class has no docstring of its own"
    assert first.endswith((".", "…")), f"the first paragraph is not a sentence: {first}"
    assert bool(feature.examples()) == (feature.name not in INTERNAL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_compiles_for_a_made_up_machine(text: str) -> None:
    assert programs_of(text, FakeHost())


def programs_of(text: str, host: Host | None = None) -> tuple[ProgramSpec, ...]:
    """The programs of an example, compiled in the mode in which it does something."""
    compiled = compile_text(text, options=Options(unsafe=True), host=host)
    for mode in compiled.idle_modes:
        compiled = compile_text(text, options=Options(unsafe=True, mode=mode), host=host)
    return compiled.plan.programs


@pytest.mark.root
@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_compiles_here(text: str) -> None:
    """Unless this machine lacks what it is about, which is the only thing that may be said then."""
    lacking = {"rt.feature.missing"}
    if not CGROUPS.exists():
        lacking.add("fn.cgroupid")
    try:
        programs = programs_of(text)
    except CompileError as error:
        if {d.code for d in error.diagnostics} <= lacking:
            return
        raise
    assert programs
