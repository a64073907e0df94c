"""The config block and the environment → the effective `Config` (reference part 2, section 12).

What the environment says overrides the block. In the block a mistake is a located diagnostic; in the
environment it raises `SettingError`, because there is no place to point at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytrace.grammar import nodes
from pytrace.grammar.config import Config
from pytrace.grammar.data import fields, replace
from pytrace.grammar.diagnostics import Diagnostics, did_you_mean
from pytrace.grammar.literals import LiteralError, parse_integer

Value = int | bool | str

PREFIX = "BPFTRACE_"
TAG = "cfg.block"

RENAMED = {
    "strlen": "max_strlen",
    "cat_bytes_max": "max_cat_bytes",
    "map_keys_max": "max_map_keys",
    "no_cpp_demangle": "cpp_demangle",  # the value is not inverted: so the reference does it
}
RETIRED = frozenset(
    {
        "symbol_source",
        "max_type_res_iterations",
        "unstable_addr",
        "unstable_import",
        "unstable_macro",
        "unstable_map_decl",
    }
)
ENVIRONMENT_ONLY = frozenset({"btf", "color", "dummy_ts_map", "kernel_build", "kernel_source", "objcopy", "vmlinux"})
LICENSES = (
    "GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL",
)  # fmt: skip
TRUE, FALSE = frozenset({"1", "true", "on", "yes"}), frozenset({"0", "false", "off", "no"})

# What a number may be, so that a slip of the hand is not an enormous allocation or a map the kernel refuses.
_RANGES = {
    "log_size": (1, 1 << 30),
    "max_cat_bytes": (0, 1 << 30),
    # libbpf reads max_entries off the length of an int array, whose size BTF limits to 32 bits
    "max_map_keys": (1, (1 << 30) - 1),
    "max_strlen": (1, 1 << 20),
    "on_stack_limit": (0, 512),  # MAX_BPF_STACK (include/linux/filter.h)
    "perf_rb_pages": (0, 1 << 20),
}


class SettingError(ValueError):
    """A setting of the environment has a bad value; the message is meant for the user."""


def effective_config(block: nodes.Config | None, environment: Mapping[str, str], diagnostics: Diagnostics) -> Config:
    """The configuration of a run: defaults, then the program's `config` block, then `BPFTRACE_…` variables.

    Mistakes and old names in the block go to `diagnostics`. Raises `SettingError` for a bad value in the
    environment.
    """
    values: dict[str, Value] = {}
    for setting in block.settings if block else ():
        name = _known_name(setting, diagnostics)
        if name is None:
            continue
        try:
            values[name] = _CONVERTERS[name](name, setting.value)
        except SettingError as error:
            diagnostics.error(TAG, str(error), setting.span)
    for name, convert in _CONVERTERS.items():
        given = environment.get(PREFIX + name.upper())
        if given is not None:
            values[name] = convert(name, given)
    return replace(Config(), **values)  # type: ignore[arg-type]


def _known_name(setting: nodes.Setting, diagnostics: Diagnostics) -> str | None:
    """The setting's name as `Config` spells it; None if it is not to be set."""
    name = setting.name.lower().removeprefix(PREFIX.lower())
    if name in RENAMED:
        new = RENAMED[name]
        diagnostics.warning("cfg.old", f"{name} has been renamed, please use {new}", setting.span)
        return new
    if name in _CONVERTERS and name not in ENVIRONMENT_ONLY:
        return name
    if name in RETIRED:
        diagnostics.warning("cfg.old", f"{name} is deprecated and has no effect", setting.span)
    elif name in ENVIRONMENT_ONLY:
        diagnostics.error(TAG, f"{name}: can only be set as an environment variable", setting.span)
    else:
        message = f"{name}: not a known configuration option"
        diagnostics.error(TAG, message, setting.span, hints=did_you_mean(name, _CONVERTERS.keys() - ENVIRONMENT_ONLY))
    return None


# ---------------------------------------------------------------- values


def _number(name: str, value: Value) -> int:
    """An integer in the syntax of integer literals, not negative."""
    if isinstance(value, bool):
        raise SettingError(f"{name}: expecting a number, got {str(value).lower()}")
    if isinstance(value, str):
        try:
            value = parse_integer(value)
        except LiteralError:
            raise SettingError(f"{name}: expecting a number, got {value}") from None
    least, most = _RANGES.get(name, (0, (1 << 63) - 1))
    if not least <= value <= most:
        raise SettingError(f"{name}: expecting a number from {least} to {most}, got {value}")
    return value


def _truth(name: str, value: Value) -> bool:
    """A number of the block is true unless it is 0; a text must be one of the known words."""
    if not isinstance(value, str):
        return bool(value)
    truth = _truth_of_word(value)
    if truth is None:
        raise SettingError(f"{name}: Invalid bool value: valid values are true, false, 1 or 0.")
    return truth


def _truth_of_word(word: str) -> bool | None:
    word = word.lower()
    return True if word in TRUE else False if word in FALSE else None


def _text(name: str, value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _choice(*allowed: str) -> Callable[[str, Value], str]:
    """One of a few words; the last is named after `and`."""
    listed = f"{', '.join(allowed[:-1])}, and {allowed[-1]}"

    def convert(name: str, value: Value) -> str:
        if value in allowed:
            return str(value)
        raise SettingError(f"{name}: Invalid value for {name}: valid values are {listed}.")

    return convert


def _symbol_cache(name: str, value: Value) -> str:
    word = _text(name, value).upper()
    choices = {"0": "NONE", "1": Config().cache_user_symbols}
    return choices.get(word) or _choice("PER_PID", "PER_PROGRAM", "NONE")(name, word)


def _map_name(name: str, value: Value) -> str:
    """A map's name as programs write it."""
    text = _text(name, value)
    if text and not text.startswith("@"):
        raise SettingError(f"{name}: expecting the name of a map like @ts, got {text}")
    return text


def _license(name: str, value: Value) -> str:
    if value in LICENSES:
        return str(value)
    found = f"Invalid value for license. Found: {_text(name, value)}."
    raise SettingError(f"{found} Valid values: {', '.join(LICENSES)}")


def _unstable(name: str, value: Value) -> str:
    """Whether a feature that may still change can be used; a bool stands for `enable` or `error`."""
    word = _text(name, value)
    if word in ("enable", "warn", "error"):
        return word
    truth = bool(value) if not isinstance(value, str) else _truth_of_word(word)
    if truth is None:
        raise SettingError(f"{name}: Invalid value for unstable config: valid values are enable, warn, and error.")
    return "enable" if truth else "error"


_SPECIAL: dict[str, Callable[[str, Value], Value]] = {
    "cache_user_symbols": _symbol_cache,
    "dummy_ts_map": _map_name,
    "license": _license,
    "missing_probes": _choice("ignore", "warn", "error"),
    "stack_mode": _choice("bpftrace", "raw", "perf", "build_id"),
    "unstable_dw_ustack": _unstable,
    "unstable_import_statement": _unstable,
    "unstable_tseries": _unstable,
    "unstable_typeinfo": _unstable,
}
_BY_TYPE: dict[str, Callable[[str, Value], Value]] = {"int": _number, "bool": _truth, "str": _text}

# every field of Config: its kind of value follows from its type, unless it is special
_CONVERTERS: dict[str, Callable[[str, Value], Value]] = {
    field.name: _SPECIAL.get(field.name) or _BY_TYPE[str(field.type)] for field in fields(Config)
}
