"""Options that a program defines itself: `getopt` (reference part 2, section 10.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytrace.grammar.diagnostics import CompileError, Diagnostic, Diagnostics, Severity
from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.literals import LiteralError, parse_integer
from pytrace.grammar.promote import fits
from pytrace.grammar.source import encode_text
from pytrace.grammar.spec import CallSite, Constant, Context, Function, Param, feature
from pytrace.grammar.types import BOOL, INT64, UINT64, String, Type, round_up

NO_OPTIONS = "no custom program options defined."
ProgramOptions = Mapping[str, tuple[Constant, str]]  # default and description of each option
TRUE, FALSE = ("1", "true", "on", "yes"), ("0", "false", "off", "no")


@feature
class Getopt(Function):
    """The value of an option that is given to the program as `-- --name=value`.

    The default says what is accepted and what type the value has: `false` (also without a default) makes a
    bool, which `--name` alone makes true; a number an int64 or uint64; a string a string. The description is
    what `-- --help` shows.

    bt> begin { printf("%d deep\\n", getopt("depth", 3, "how far to look")); }
    """

    name = "getopt"
    parameters = (
        Param("name", ("string",), literal=True),
        Param("default", ("int", "string", "bool"), literal=True, optional=True),
        Param("description", ("string",), literal=True, optional=True),
    )

    def type(self, site: CallSite) -> Type:
        default = _default(site)
        self._declare(site, default)
        match default:
            case bool():
                return BOOL
            case bytes():
                return String(site.context.config.max_strlen)
            case int():
                return INT64 if default < 0 else UINT64

    def _declare(self, site: CallSite, default: Constant) -> None:
        """Note the option; all uses of one name must agree."""
        name, description = site.text(0), site.text(2) if len(site) > 2 else ""
        before, known = site.context.options.setdefault(name, (default, description))
        place = f"Command line option '{name}' needs to have the same {{}} in all places it is used."
        if (type(before), before) != (type(default), default):
            shown = before.decode(errors="replace") if isinstance(before, bytes) else str(before).lower()
            message = f"{place.format('default value')} Previous default value: {shown}"
            site.error("err.param.named", message)
        if description and known and description != known:
            site.error("err.param.named", f"{place.format('description')} Previous description: {known}", 2)
        site.context.options[name] = before, known or description

    def emit(self, emit: Emit, site: CallSite) -> Value:
        if site.context.aot:
            return self._at_run_time(emit, site)
        value = option_value(site.context.named, site.text(0), _default(site), Diagnostics())
        if isinstance(value, bytes):
            assert isinstance(site.type, String)
            return emit.convert(emit.text(value[: site.type.size - 1]), site.type)
        return emit.integer(int(value), site.type)

    def _at_run_time(self, emit: Emit, site: CallSite) -> Value:
        """The value from where `option_data` puts it."""
        places, total = option_places(site.context.options, site.context.config.max_strlen)
        offset, size = places[site.text(0)]
        slot = emit.option(offset, size, total)
        if isinstance(site.type, String):
            return emit.at(slot, site.type)
        return emit.convert(emit.load(slot, 0, UINT64), site.type)


def _default(site: CallSite) -> Constant:
    given = site.constants[1] if len(site) > 1 else None
    return False if given is None else given


def option_value(named: Sequence[str], name: str, default: Constant, diagnostics: Diagnostics) -> Constant:
    """What the command line says an option is; the last one counts. What is wrong with it is reported."""
    values = [v for n, v in _given(named) if n == name]
    if not values:
        return default
    text, problem = values[-1], ""
    hints: tuple[str, ...] = ()
    match default:
        case bytes():
            return encode_text(text)
        case bool():
            if text.lower() in TRUE + FALSE:
                return text.lower() in TRUE
            problem = f"expects a boolean (e.g. 'true') (value: {text})"
        case int():
            try:
                value = parse_integer(text, external=True)
                if fits(value, INT64 if default < 0 else UINT64):
                    return value
                problem = f"invalid integer (value: {text})"
                hints = (f"It is of type {INT64 if default < 0 else UINT64}, after its default {default}.",)
            except LiteralError:
                kind = "expects an integer" if text == "true" else "invalid integer"
                problem = f"{kind} (value: {text})"
    diagnostics.error("err.param.named", f"program command line option --{name} {problem}", None, hints=hints)
    return default


def _given(named: Sequence[str]) -> list[tuple[str, str]]:
    """Names and values of the options on the command line; one without a value is `true`."""
    words = (word.removeprefix("--").partition("=") for word in named)
    return [(name, value if equals else "true") for name, equals, value in words]


def check_options(context: Context) -> None:
    """Compare the options given with those that a checked program defines. Raises CompileError.

    `--help` is such an error, too: all that is to be shown is the list of options.
    """
    check_given(context.named, context.options, context.diagnostics)


def check_given(named: Sequence[str], options: ProgramOptions, diagnostics: Diagnostics) -> None:
    """Like `check_options`."""
    names = [name for name, _ in _given(named)]
    if "help" in names and "help" not in options:
        lines = [f"--{name}: {text}" if text else f"--{name}" for name, (_, text) in options.items()]
        shown = "\n".join(["expected program options:", *lines]) if lines else NO_OPTIONS
        raise CompileError([Diagnostic(Severity.HINT, "param.named", shown)])
    unknown = [f"--{name}" for name in dict.fromkeys(names) if name not in options]
    if unknown:
        known = ": ".join(f"--{name}" for name in options)
        hint = f"expected program options: {known}" if known else NO_OPTIONS
        message = f"unexpected program command line options: {' '.join(unknown)}"
        diagnostics.error("err.param.named", message, None, hints=(hint,))
    for name, (default, _) in options.items():
        option_value(named, name, default, diagnostics)
    diagnostics.raise_errors()


# ---------------------------------------------------------------- values that are known at run time only


def option_places(options: ProgramOptions, max_strlen: int) -> tuple[dict[str, tuple[int, int]], int]:
    """Where the value of each option lies in `option_data` (offset and size in bytes), and the size of all."""
    places, end = dict[str, tuple[int, int]](), 0
    for name, (default, _) in options.items():
        size = max_strlen if isinstance(default, bytes) else 8
        places[name] = end, size
        end += round_up(size, 8)
    return places, end


def option_data(named: Sequence[str], options: ProgramOptions, max_strlen: int) -> bytes:
    """The values of all options, for the runtime; see `check_given` for those that are wrong."""
    data = b""
    for name, (default, _) in options.items():
        value = option_value(named, name, default, Diagnostics())
        if isinstance(value, bytes):
            data += value[: max_strlen - 1].ljust(round_up(max_strlen, 8), b"\0")
        else:
            data += (int(value) & (1 << 64) - 1).to_bytes(8, "little")
    return data
