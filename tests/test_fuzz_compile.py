"""Whatever the text, the compiler gives an object or messages, and no exception of another kind."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from pytrace.compilation import Compilation, compile_text
from pytrace.grammar.diagnostics import CompileError, Diagnostic, Severity
from pytrace.grammar.source import decode_text
from pytrace.options import Options
from tests.fakehost import FakeHost
from tests.fuzz_programs import REAL, mutated, programs, soup

# The same programs in every run; for a long run with new ones raise `max_examples` and take
# `derandomize` away.
some = settings(
    deadline=None, derandomize=True, database=None, max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip

ALLOWED = Options(parameters=("7", "abc"), unsafe=True)
ONE_PROCESS = Options(pid=7)


def check(text: str, options: Options = ALLOWED) -> Compilation | None:
    """Compile for a made-up machine; None if the program is refused, which must be explained."""
    try:
        made = compile_text(text, options=options, host=FakeHost())
    except CompileError as error:
        check_messages(error.diagnostics)
        return None
    assert made.elf.startswith(b"\x7fELF")  # LLVM has verified the module
    return made


def check_messages(found: Sequence[Diagnostic]) -> None:
    """Every message has a text and a place; the first is an error."""
    assert found[0].severity is Severity.ERROR
    for message in found:
        assert message.message
        assert message.code
        assert message.render().endswith("\n")
        if message.code == "warn.feature.unstable":  # said once for the whole program
            assert message.span is None
            continue
        assert message.span is not None
        assert 0 <= message.span.start <= message.span.end <= len(message.span.source.text)


@some
@given(programs(), st.sampled_from([ALLOWED, ONE_PROCESS]))
@example("begin { print(count); }", ALLOWED)
@example("begin { (); }", ALLOWED)
@example("begin / (int8)zero(@) / { @ = 1 }", ALLOWED)
def test_programs_that_are_nearly_right(text: str, options: Options) -> None:
    check(text, options)


@some
@given(mutated())
def test_real_programs_with_mistakes(text: str) -> None:
    check(text)


@some
@given(soup())
def test_words_in_any_order(text: str) -> None:
    check(text)


@some
@given(st.binary(max_size=40))
def test_bytes_in_strings_and_keys(data: bytes) -> None:
    """Any bytes that may stand in a literal get through to the object."""
    inside = decode_text(data.translate(None, b'"\\\n\r'))
    assert check(f'begin {{ $x = "{inside}"; @[$x] = "{inside}"; print("{inside}"); }}')


@pytest.mark.parametrize("depth", [50, 250, 299, 300, 5000])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("(", ")"),
        ("-(", ")"),
        ("(1 + ", ")"),
        ("(pid ? 1 : ", ")"),
        ("{ ", " }"),
        ("str(", ")"),
        ("(uint64)(", ")"),
    ],
)
def test_deep_trees(before: str, after: str, depth: int) -> None:
    """As deep as the parser allows, every pass can follow; and one deeper is refused with a message."""
    check(f"begin {{ $x = {before * depth}pid{after * depth}; print($x); }}")


def test_deep_blocks() -> None:
    check(f"begin {{ {'if (pid) { ' * 290}@x = 1{' }' * 290} }}")
    check(f"begin {{ {'unroll (1) { ' * 290}@x = 1{' }' * 290} }}")
    check(f"begin {{ {'for ($i : 0..2) { ' * 40}@x = 1{' }' * 40} }}")


def test_the_generators_make_programs() -> None:
    """Refusals say nothing of code generation; enough texts must be programs, and those of all kinds."""
    accepted: list[str] = []

    @settings(some, max_examples=150, phases=[Phase.generate], derandomize=True)
    @given(st.one_of(programs(), mutated()))
    def run(text: str) -> None:
        if check(text):
            accepted.append(text)

    run()
    assert len(accepted) >= 10
    assert len({text.split(" ")[0] for text in accepted}) > 3
    assert len(REAL) > 100


@pytest.mark.root
@pytest.mark.parametrize(
    "point",
    [
        "tracepoint:syscalls:a\0b", "tracepoint:\udcff:*", "rawtracepoint:\udcff", "kprobe:\udcff", "fentry:\udcff",
        "uprobe:/\udcff:main", "uprobe:/bin/bash:\udcff", "uprobe:/bin/bash\0:main", "usdt:/\udcff:x:y",
        "uprobe:/dev/null:main", "uprobe:/tmp:main", "usdt:/etc/passwd:*",
    ],
)  # fmt: skip
def test_names_that_nothing_has(point: str) -> None:
    """Also on a real machine, which looks for them in files and asks the kernel."""
    with pytest.raises(CompileError) as caught:
        compile_text(f"{point} {{ @ = count(); }}")
    check_messages(caught.value.diagnostics)
