"""The config block and the environment: values, both spellings of mistakes, who wins."""

from __future__ import annotations

import pytest

from pytrace.grammar import nodes
from pytrace.grammar.config import Config
from pytrace.grammar.diagnostics import Diagnostics
from pytrace.grammar.settings import SettingError, Value, effective_config
from pytrace.grammar.source import Source


def block(**settings: Value) -> nodes.Config:
    """A config block, every setting at the same place."""
    span = Source("stdin", "config = {}").span(0, 6)
    return nodes.Config(span, tuple(nodes.Setting(span, name, value) for name, value in settings.items()))


def read(environment: dict[str, str], **settings: Value) -> Config:
    """The configuration of a block without mistakes, under an environment."""
    diagnostics = Diagnostics()
    config = effective_config(block(**settings), environment, diagnostics)
    assert not diagnostics.items
    return config


def setting(name: str, value: Value, field: str = "") -> Value:
    """What one setting of the block comes to; `field` is its name in `Config`."""
    diagnostics = Diagnostics()
    config = effective_config(block(**{name: value}), {}, diagnostics)
    assert not diagnostics.items
    found: Value = getattr(config, field or name)
    return found


def complaints(**settings: Value) -> list[str]:
    """The messages about a block."""
    diagnostics = Diagnostics()
    effective_config(block(**settings), {}, diagnostics)
    return [f"{d.severity.value}: {d.message}" for d in diagnostics.items]


def test_nothing_said_is_the_defaults() -> None:
    assert effective_config(None, {"PATH": "/bin", "BPFTRACE_UNHEARD_OF": "x"}, Diagnostics()) == Config()


@pytest.mark.parametrize("name", ["max_map_keys", "MAX_MAP_KEYS", "BPFTRACE_MAX_MAP_KEYS", "bpftrace_Max_map_keys"])
def test_names_have_three_spellings_in_any_case(name: str) -> None:
    assert setting(name, 16, "max_map_keys") == 16


def test_the_environment_wins() -> None:
    assert read({"BPFTRACE_MAX_STRLEN": "0x80"}, max_strlen=64, max_probes=3) == Config(max_strlen=128, max_probes=3)


@pytest.mark.parametrize(
    ("value", "truth"),
    [
        (True, True),
        (False, False),
        (7, True),
        (0, False),
        ("yes", True),
        ("OFF", False),
        ("True", True),
        ("1", True),
    ],
)
def test_truth_in_the_block(value: Value, truth: bool) -> None:
    assert setting("print_maps_on_exit", value) is truth


@pytest.mark.parametrize(("text", "truth"), [("1", True), ("on", True), ("No", False), ("0", False)])
def test_truth_in_the_environment(text: str, truth: bool) -> None:
    assert read({"BPFTRACE_CPP_DEMANGLE": text}).cpp_demangle is truth


@pytest.mark.parametrize(
    ("name", "value", "effective"),
    [
        ("cache_user_symbols", "none", "NONE"),
        ("cache_user_symbols", 0, "NONE"),
        ("cache_user_symbols", 1, "PER_PID"),
        ("cache_user_symbols", "Per_Program", "PER_PROGRAM"),
        ("license", "Dual BSD/GPL", "Dual BSD/GPL"),
        ("missing_probes", "warn", "warn"),
        ("stack_mode", "perf", "perf"),
        ("str_trunc_trailer", "", ""),
        ("unstable_tseries", "enable", "enable"),
        ("unstable_tseries", True, "enable"),
        ("unstable_typeinfo", "off", "error"),
        ("unstable_typeinfo", "warn", "warn"),
        ("max_probes", "1e3", 1000),
        ("max_probes", "2_000", 2000),
    ],
)
def test_values(name: str, value: Value, effective: Value) -> None:
    assert setting(name, value) == effective


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bad", 1, "bad: not a known configuration option"),
        ("max_probes", "x", "max_probes: expecting a number, got x"),
        ("max_probes", True, "max_probes: expecting a number, got true"),
        ("max_probes", "-1", "max_probes: expecting a number, got -1"),
        (
            "print_maps_on_exit",
            "maybe",
            "print_maps_on_exit: Invalid bool value: valid values are true, false, 1 or 0.",
        ),
        ("vmlinux", "x", "vmlinux: can only be set as an environment variable"),
        (
            "missing_probes",
            "Warn",
            "missing_probes: Invalid value for missing_probes: valid values are ignore, warn, and error.",
        ),
        (
            "cache_user_symbols",
            "x",
            "cache_user_symbols: Invalid value for cache_user_symbols: "
            "valid values are PER_PID, PER_PROGRAM, and NONE.",
        ),
        (
            "stack_mode",
            "x",
            "stack_mode: Invalid value for stack_mode: valid values are bpftrace, raw, perf, and build_id.",
        ),
        (
            "unstable_tseries",
            "x",
            "unstable_tseries: Invalid value for unstable config: valid values are enable, warn, and error.",
        ),
        (
            "license",
            "BSD",
            "Invalid value for license. Found: BSD. Valid values: GPL, GPL v2, GPL and additional rights, "
            "Dual BSD/GPL, Dual MIT/GPL, Dual MPL/GPL",
        ),
        ("max_strlen", 0, "max_strlen: expecting a number from 1 to 1048576, got 0"),
    ],
)
def test_mistakes(name: str, value: Value, message: str) -> None:
    assert complaints(**{name: value}) == [f"ERROR: {message}"]


def test_a_near_name_is_offered() -> None:
    diagnostics = Diagnostics()
    effective_config(block(max_probe=1), {}, diagnostics)
    assert "'max_probes'" in diagnostics.items[0].hints[0]


def test_old_names() -> None:
    assert complaints(strlen=3) == ["WARNING: strlen has been renamed, please use max_strlen"]
    assert complaints(unstable_macro=True) == ["WARNING: unstable_macro is deprecated and has no effect"]
    diagnostics = Diagnostics()
    config = effective_config(block(map_keys_max=7, no_cpp_demangle=True), {}, diagnostics)
    assert (config.max_map_keys, config.cpp_demangle) == (7, True)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("BPFTRACE_MAX_PROBES", "x", "max_probes: expecting a number, got x"),
        (
            "BPFTRACE_CPP_DEMANGLE",
            "2",
            "cpp_demangle: Invalid bool value: valid values are true, false, 1 or 0.",
        ),
    ],
)
def test_a_mistake_in_the_environment(variable: str, text: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        effective_config(None, {variable: text}, Diagnostics())
    assert str(caught.value) == message
