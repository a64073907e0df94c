"""The options of the command line (reference part 2, section 10), read as GNU getopt_long(3) does.

A table of our own instead of argparse: it starts in no time, mixes options and positional words freely, and
its messages are those of the reference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from pytrace.grammar.data import dataclass, field, replace

MAX_PID = 4194304  # PID_MAX_LIMIT (include/linux/threads.h)
STAGES = ("ast", "types", "plan", "codegen", "codegen-opt", "asm", "libbpf", "verifier")
_STAGE_ALIASES = {"ir": "codegen", "dis": "asm"}
_MODES = ("codegen", "compiler-bench", "bench", "test", "format")


class UsageError(Exception):
    """The words cannot be understood. `text` is complete; `usage` says to show the usage as well."""

    def __init__(self, text: str, usage: bool = False, hint: str = "") -> None:
        self.text, self.usage, self.hint = text, usage, hint
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line says, checked."""

    program: str | None = None  # -e
    words: tuple[str, ...] = ()  # FILE (unless -e) and positional parameters
    named: tuple[str, ...] = ()  # `--name=value`, behind `--`
    list: bool = False
    help: bool = False
    version: bool = False
    info: bool = False
    verbose: bool = False
    pid: int | None = None
    command: str | None = None
    dwarf_pids: tuple[int, ...] = ()
    output: str | None = None
    format: str = "text"
    buffering: str = "line"
    quiet: bool = False
    helper_errors: bool = False
    warnings: bool = True
    include_dirs: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    debug_folders: tuple[str, ...] = ()
    unsafe: bool = False
    dry_run: bool = False
    strict: bool = False
    cache: bool = True
    stages: frozenset[str] = frozenset()
    mode: str = ""
    probe_filter: str | None = None
    without: frozenset[str] = frozenset()
    emit_elf: str | None = None
    emit_llvm: str | None = None
    aot: str | None = None
    traceable: str = ""

    @property
    def file(self) -> str | None:
        """The program's file, `-` for standard input; None without one."""
        return self.words[0] if self.words and self.program is None else None

    @property
    def parameters(self) -> tuple[str, ...]:
        """The positional parameters."""
        return self.words if self.program is not None else self.words[1:]


Change = Callable[[Arguments, str], Arguments]


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its spellings, the name of its argument (empty: none), what it means, what it changes."""

    names: tuple[str, ...]
    argument: str
    help: str
    change: Change = field(repr=False)


def _flag(**changes: object) -> Change:
    return lambda arguments, _: replace(arguments, **changes)  # type: ignore[arg-type]


def _pid(arguments: Arguments, value: str) -> Arguments:
    return replace(arguments, pid=_process_id(value))


def _dwarf_pid(arguments: Arguments, value: str) -> Arguments:
    return replace(arguments, dwarf_pids=(*arguments.dwarf_pids, _process_id(value)))


def _process_id(value: str) -> int:
    from pytrace.grammar.literals import LiteralError, parse_integer

    try:
        pid = parse_integer(value, external=True)
    except LiteralError as error:
        what = "invalid integer" if not re.match(r"[+-]?\d", value) else str(error)
        if re.match(r"[+-]?\d+\D", value):
            what = "invalid trailing bytes"
        raise UsageError(f"ERROR: Failed to parse pid: {what}: {value}") from None
    if not 0 < pid <= MAX_PID:
        raise UsageError(f"ERROR: Pid out of range: {pid}")
    return pid


def _format(arguments: Arguments, value: str) -> Arguments:
    if value not in ("text", "json"):
        raise UsageError(f"ERROR: Invalid output format \"{value}\"\nValid formats: 'text', 'json'")
    return replace(arguments, format=value)


def _buffering(arguments: Arguments, value: str) -> Arguments:
    if value not in ("line", "full", "none"):
        raise UsageError("ERROR: USAGE: -B must be either 'line', 'full', or 'none'.")
    return replace(arguments, buffering=value)


def _helper_errors(arguments: Arguments, value: str) -> Arguments:
    if arguments.helper_errors:
        raise UsageError(
            "ERROR: USAGE: -kk has been deprecated. Use a single -k for runtime warnings for errors in map "
            "lookups and probe reads."
        )
    return replace(arguments, helper_errors=True)


def _stages(arguments: Arguments, value: str) -> Arguments:
    chosen = set(arguments.stages)
    for word in value.split(","):
        stage = _STAGE_ALIASES.get(word, word)
        if stage == "all":
            chosen.update(STAGES)
        elif stage in STAGES:
            chosen.add(stage)
        else:
            raise UsageError(f"ERROR: USAGE: invalid option for -d: {word}")
    return replace(arguments, stages=frozenset(chosen))


def _mode(arguments: Arguments, value: str) -> Arguments:
    if value not in _MODES:
        listed = ", ".join(f"'{mode}'" for mode in _MODES[:-1])
        raise UsageError(f"ERROR: USAGE: --mode can only be {listed} or '{_MODES[-1]}'.")
    return _in_mode("--mode", value)(arguments, "")


def _in_mode(name: str, mode: str) -> Change:
    """What the option `name` does that asks for a mode; there can be only one."""

    def change(arguments: Arguments, value: str) -> Arguments:
        if arguments.mode:
            raise UsageError(f"ERROR: USAGE: {name} conflicts with existing --mode")
        return replace(arguments, mode=mode)

    return change


def _no_feature(arguments: Arguments, value: str) -> Arguments:
    known = ("kprobe_multi", "kprobe_session", "uprobe_multi")
    if not set(value.split(",")) <= set(known):
        raise UsageError(f"ERROR: USAGE: --no-feature can only have values '{','.join(known)}'.")
    return replace(arguments, without=arguments.without | set(value.split(",")))


def _more_dirs(arguments: Arguments, value: str) -> Arguments:
    return replace(arguments, include_dirs=(*arguments.include_dirs, value))


def _debug_folders(arguments: Arguments, value: str) -> Arguments:
    folders = tuple(folder.rstrip("/") for folder in value.split(":") if folder)
    missing = next((folder for folder in folders if not os.path.isdir(folder)), None)
    if missing is not None or not folders:
        raise UsageError(f"ERROR: USAGE: --debuginfo: there is no folder '{missing or value}'")
    return replace(arguments, debug_folders=(*arguments.debug_folders, *folders))


def _more_headers(arguments: Arguments, value: str) -> Arguments:
    return replace(arguments, include=(*arguments.include, value))


OPTIONS = (
    Option(("-e",), "PROGRAM", "run this program text", lambda a, v: replace(a, program=v)),
    Option(("-l", "--list"), "", "list probes: all, those matching SEARCH, or those of a program",
           _flag(list=True)),
    Option(("-p", "--pid"), "PID", "trace this process only, until it ends", _pid),
    Option(("-c", "--cmd"), "CMD", "run this command and trace until it ends",
           lambda a, v: replace(a, command=v)),
    Option(("--dwarf-pid",), "PID", "let dw_ustack follow the stacks of this process too", _dwarf_pid),
    Option(("-o", "--output"), "FILE", "write the program's output to FILE",
           lambda a, v: replace(a, output=v)),
    Option(("-f",), "FORMAT", "output format: text (default) or json", _format),
    Option(("-B",), "MODE", "buffering of the output: line (default), full or none", _buffering),
    Option(("-q", "--quiet"), "", "do not say how many probes are attached", _flag(quiet=True)),
    Option(("-v", "--verbose"), "", "say more; with -l show the parameters of probes", _flag(verbose=True)),
    Option(("--unsafe",), "", "allow functions that change the system", _flag(unsafe=True)),
    Option(("--traceable-functions",), "FILE", "take the functions that can be probed from FILE",
           lambda a, v: replace(a, traceable=v)),
    Option(("--dry-run",), "", "compile, load and attach, then exit", _flag(dry_run=True)),
    Option(("--no-cache",), "", "compile the program even if that was done before", _flag(cache=False)),
    Option(("--strict",), "", "exit with status 1 if anything was lost", _flag(strict=True)),
    Option(("-k", "--warnings"), "", "also report failing memory reads and map lookups", _helper_errors),
    Option(("--no-warnings",), "", "no warnings", _flag(warnings=False)),
    Option(("-I",), "DIR", "look for C headers in DIR as well", _more_dirs),
    Option(("--include",), "FILE", "include a C header before the program's own", _more_headers),
    Option(("--debuginfo",), "DIR[:DIR]", "look for separate debug information in DIR first", _debug_folders),
    Option(("-d", "--debug"), "STAGE", f"show stages of the compilation:\n{', '.join(STAGES)}, all",
           _stages),
    Option(("--test",), "", "run the test probes, and nothing else but begin and end", _in_mode("--test", "test")),
    Option(("--bench",), "", "run the bench probes, and nothing else but begin and end", _in_mode("--bench", "bench")),
    Option(("--fmt",), "", "show the program in the canonical layout, or with -o replace FILE by it",
           _in_mode("--fmt", "format")),
    Option(("--mode",), "MODE", f"one of {', '.join(_MODES)};\ncodegen: only compile", _mode),
    Option(("--probe-filter",), "REGEX", "leave out probes whose names do not match; not begin, end, self",
           lambda a, v: replace(a, probe_filter=v)),
    Option(("--no-feature",), "FEATURE", "do without kprobe_multi, kprobe_session, uprobe_multi", _no_feature),
    Option(("--emit-elf",), "FILE", "write the BPF object to FILE", lambda a, v: replace(a, emit_elf=v)),
    Option(("--emit-llvm",), "FILE", "write LLVM's code to FILE.original.ll and FILE.optimized.ll",
           lambda a, v: replace(a, emit_llvm=v)),
    Option(("--aot",), "FILE", "write an executable that runs the program without compiling it, on this kernel",
           lambda a, v: replace(a, aot=v)),
    Option(("--info",), "", "what this kernel and this pytrace can do", _flag(info=True)),
    Option(("-h", "--help"), "", "show this; with a NAME of the language, what that is", _flag(help=True)),
    Option(("-V", "--version"), "", "show the version", _flag(version=True)),
)  # fmt: skip

# Options of the reference without effect or still to come; known, lest their arguments be taken for programs.
HIDDEN = (
    Option(("-b", "--btf"), "", "", _flag()),
    Option(("--verify-llvm-ir",), "", "", _flag()),  # it is always verified
    # The kernel counts who traces in the semaphores of all files and processes itself (ref_ctr_offset, Linux 4.20),
    # and pytrace needs links (5.15), so there is nothing left to write into a file.
    Option(("--usdt-file-activation",), "", "", _flag()),
)  # fmt: skip

_BY_NAME = {name: option for option in (*OPTIONS, *HIDDEN) for name in option.names}


def parse(argv: Sequence[str], known: Mapping[str, Option] = _BY_NAME) -> Arguments:
    """The meaning of the words behind the program's name; `known` are the options there are. Raises `UsageError`."""
    arguments, words, rest = _read(list(argv), known)
    rest = [_utf8(word) for word in rest]
    named = tuple(word for word in rest if word.startswith("--"))
    words += [word for word in rest if not word.startswith("--")]
    arguments = replace(arguments, words=tuple(words), named=named)
    if arguments.program == "":
        arguments = replace(arguments, program=None)
    _check(arguments)
    return arguments


def _check(arguments: Arguments) -> None:
    """What does not go together."""
    if arguments.helper_errors and not arguments.warnings:
        raise UsageError("ERROR: USAGE: -k, --warnings conflicts with --no-warnings")
    if arguments.aot is not None:
        _check_aot(arguments)
    if arguments.pid is not None and arguments.command is not None:
        raise UsageError("ERROR: USAGE: Cannot use both -c and -p.", usage=True)


def _check_aot(arguments: Arguments) -> None:
    """What an executable cannot have: it is for later runs, and other processes."""
    refused = {
        "-k": arguments.helper_errors, "-p": arguments.pid is not None, "-c": arguments.command is not None,
        "--dwarf-pid": bool(arguments.dwarf_pids), "--mode": bool(arguments.mode),
    }  # fmt: skip
    for name, given in refused.items():
        if given:
            raise UsageError(f"ERROR: Cannot use {name} with --aot")


def _read(argv: list[str], known: Mapping[str, Option]) -> tuple[Arguments, list[str], list[str]]:
    """What the options say, the positional words, and the words behind `--`."""
    arguments, words = Arguments(), list[str]()
    while argv:
        word = argv.pop(0)
        if word == "--":
            return arguments, words, argv
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            option = _long(name, known)
            if equals and not option.argument:
                raise UsageError(f"ERROR: USAGE: option '{option.names[-1]}' doesn't allow an argument")
            arguments = _apply(arguments, option, name, value if equals else None, argv)
        elif word.startswith("-") and word != "-":
            arguments = _short(arguments, word, argv, known)
        else:
            words.append(_utf8(word))
    return arguments, words, []


def _short(arguments: Arguments, word: str, argv: list[str], known: Mapping[str, Option]) -> Arguments:
    """One word of short options: `-v`, `-lv`, `-p12`."""
    letters = word[1:]
    while letters:
        name, letters = f"-{letters[0]}", letters[1:]
        option = known.get(name)
        if option is None:
            raise UsageError(f"ERROR: USAGE: invalid option -- '{name[1:]}'", hint=_TRY_HELP)
        if option.argument:
            return _apply(arguments, option, name, letters or None, argv)
        arguments = option.change(arguments, "")
    return arguments


def _apply(arguments: Arguments, option: Option, name: str, value: str | None, argv: list[str]) -> Arguments:
    """One option with its argument, which may be the next word."""
    if not option.argument:
        return option.change(arguments, "")
    if value is None:
        if not argv:
            raise UsageError(f"ERROR: USAGE: option '{name}' requires an argument", hint=_TRY_HELP)
        value = argv.pop(0)
    return option.change(arguments, _utf8(value))


def _long(name: str, known: Mapping[str, Option]) -> Option:
    """The option of that name, or the only one that starts so."""
    if name in known:
        return known[name]
    found = {id(option): option for word, option in known.items() if word.startswith(name)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise UsageError(f"ERROR: USAGE: option '{name}' is ambiguous", hint=_TRY_HELP)
    from pytrace.grammar.diagnostics import nearest

    near = nearest(name, (word for word in known if word.startswith("--")), 1)
    hint = f"Did you mean {near[0]}?" if near else _TRY_HELP
    raise UsageError(f"ERROR: USAGE: unrecognized option '{name}'", hint=hint)


_TRY_HELP = "pytrace --help shows the options."


def _utf8(word: str) -> str:
    """Text of the command line as program text is decoded, whatever the locale."""
    return os.fsencode(word).decode("utf-8", "surrogateescape")


def chosen(*names: str) -> dict[str, Option]:
    """Some of the options, by all their names."""
    options = [_BY_NAME[name] for name in names]
    return {name: option for option in options for name in option.names}


def usage() -> str:
    """The text of `--help`."""
    return _USAGE.format(options=described(OPTIONS))


def described(options: Iterable[Option]) -> str:
    """The lines of the usage about some options."""
    lines = []
    for option in options:
        shown = f"{', '.join(option.names)} {option.argument}".rstrip()
        first, *more = option.help.split("\n")
        lines.append(f"    {shown:<22} {first}\n")
        lines += [f"{'':26} {line}\n" for line in more]
    return "".join(lines)


_USAGE = """\
USAGE:
    pytrace [options] FILE [parameters]
    pytrace [options] - [parameters]               the program is read from standard input
    pytrace [options] -e 'program' [parameters]
    pytrace [options] -l [SEARCH]
    pytrace [-p PID] cleanup                       remove what killed runs left on network interfaces
    pytrace cache clear                            forget the compiled programs that are kept for the next run

OPTIONS:
{options}
PARAMETERS:
    Words behind the program are $1, $2, ... in it; options for it (getopt) stand behind --, as --name=value.

ENVIRONMENT:
    BPFTRACE_MAX_STRLEN=256 and so on override the settings of the program's config block.
    BPFTRACE_COLOR=always|never|auto colours the messages.

EXAMPLES:
    pytrace -l 'tracepoint:syscalls:sys_enter_*'
        list the probes at the entry of system calls
    pytrace -e 'tracepoint:syscalls:sys_enter_openat {{ printf("%s %s\\n", comm, str(args.filename)); }}'
        show which files are opened, and by whom
    pytrace -e 'tracepoint:raw_syscalls:sys_enter {{ @[comm] = count(); }}'
        count system calls by command, until Ctrl-C
"""
