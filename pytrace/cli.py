"""The command line: what the words ask for, and who does it. A thin client of the Python API."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from pytrace import __version__
from pytrace.arguments import Arguments, UsageError, parse, usage
from pytrace.grammar.hints import NoReturn
from pytrace.grammar.source import BYTE_ORDER_MARK, STDIN, decode_text
from pytrace.messages import FAILED, INTERNAL, NOT_RUNNING, Messages, make_messages, report

# the commands; a program in a file of such a name comes first
CLEANUP, CACHE = "cleanup", "cache"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words of the command line say; returns the exit status. Given words, it leaves this process's signals
    alone until the program runs."""
    words = list(sys.argv[1:] if argv is None else argv)
    messages = make_messages(os.environ)
    try:
        return _dispatch(parse(words), messages, argv is None) if words else _show_usage(messages)
    except UsageError as error:
        return show_refusal(error, messages)
    except KeyboardInterrupt:
        return NOT_RUNNING


def show_refusal(error: UsageError, messages: Messages) -> int:
    """Say why the words of the command line are no good; the exit status."""
    messages.write(f"{error.text}\n")
    if error.hint:
        messages.hint(error.hint)
    if error.usage:
        messages.write(usage())
    return FAILED


def _show_usage(messages: Messages) -> int:
    messages.write(usage())
    return FAILED


def end_at_interrupt() -> None:
    """Until a trace takes its signals an interrupt may end the process at once, without a traceback."""
    import signal  # takes 1 ms, which a listing does without

    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _dispatch(arguments: Arguments, messages: Messages, alone: bool) -> int:
    if arguments.help:
        return print_lines(messages, [_help_text(arguments)])
    if arguments.version:
        return print_lines(messages, [f"pytrace v{__version__}\n"])
    if arguments.info:
        return _info(messages)
    if arguments.list:
        return _list(arguments, messages)
    if alone:
        end_at_interrupt()
    if arguments.file == CLEANUP and not os.path.exists(CLEANUP):
        return _cleanup(arguments, messages)
    if arguments.file == CACHE and not os.path.exists(CACHE):
        return _cache(arguments, messages)
    text, name = read_program(arguments)
    if arguments.mode == "format":
        return _format(arguments, messages, text, name)
    if arguments.aot is not None:
        return _aot(arguments, messages, text, name)
    from pytrace.running import Run

    return Run(arguments, messages).run(text, name)


def _help_text(arguments: Arguments) -> str:
    """For `--help`; a word behind it is a feature of the language. Raises `UsageError` if it is none."""
    word = arguments.file
    if word is None or os.path.exists(word):
        return usage()
    from pytrace.grammar.diagnostics import did_you_mean
    from pytrace.manual import names, plain

    text = plain(word)
    if text is None:
        hints = did_you_mean(word, names())
        raise UsageError(f"ERROR: USAGE: no help for '{word}'", hint=hints[0] if hints else "")
    return text


def read_program(arguments: Arguments) -> tuple[str, str]:
    """The program's text, and its name in messages. Raises `UsageError` if there is none."""
    if arguments.program is not None:
        if "{" not in arguments.program and os.path.isfile(arguments.program):
            hint = "-e is followed by the text of a program; leave it out to run a file."
            raise UsageError(f"ERROR: '{arguments.program}' is a file", hint=hint)
        return arguments.program, STDIN
    path = arguments.file
    if path is None:
        raise UsageError("ERROR: USAGE: filename or -e 'program' required.")
    try:
        if path == "-":
            data, path = sys.stdin.buffer.read(), STDIN
        else:
            with open(path.encode("utf-8", "surrogateescape"), "rb") as file:
                data = file.read()
    except OSError as error:
        hint = "The text of a program stands behind -e." if "{" in path else ""
        raise UsageError(f"ERROR: failed to open file '{path}': {error.strerror}", hint=hint) from error
    refuse_other_files(data, path)
    return decode_text(data.removeprefix(BYTE_ORDER_MARK)), path


def refuse_other_files(data: bytes, path: str) -> None:
    """Say so where a file is not a program at all. Raises `UsageError`."""
    if data.startswith(b"\x7fELF"):
        hint = f"To trace it while it runs: pytrace -c {path} FILE. Its functions are probed by uprobe:{path}:FUNCTION."
        raise UsageError(f"ERROR: '{path}' is a binary, not the text of a program", hint=hint)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"ERROR: '{path}' is UTF-16 text", hint="Save it as UTF-8.")


# ---------------------------------------------------------------- the small commands


def print_lines(messages: Messages, lines: Iterable[str]) -> int:
    """Lines on standard output; a reader that goes away ends it quietly."""
    from pytrace.printer import STDOUT, Stream, WriteError

    stream = Stream(STDOUT, "full")
    try:
        for line in lines:
            stream.write(line)
        stream.flush()
    except WriteError as error:
        if error.errno != errno.EPIPE:
            messages.error(str(error))
        return FAILED
    return 0


def _info(messages: Messages) -> int:
    try:
        from pytrace.info import describe
        from pytrace.runtime.privileges import check_privileges

        check_privileges()
        return print_lines(messages, [describe()])
    except Exception as error:
        return report(error, messages, verbose=False)


def _cache(arguments: Arguments, messages: Messages) -> int:
    """`cache clear`: forget all compiled programs."""
    from pytrace.objectcache import ObjectCache

    if arguments.parameters != ("clear",):
        raise UsageError("ERROR: USAGE: pytrace cache clear")
    cache = ObjectCache()
    try:
        count = cache.clear()
    except OSError as error:
        messages.error(f"{cache.folder}: {error.strerror}")
        return FAILED
    return print_lines(messages, [f"Removed {count} compiled programs from {cache.folder}\n"])


def _format(arguments: Arguments, messages: Messages, text: str, name: str) -> int:
    """`--fmt`: the program in the canonical layout, on standard output or in place of the file of `-o`."""
    try:
        from pytrace.files import replace_file
        from pytrace.formatting import formatted

        result = formatted(text, name)
        if arguments.output is None:
            return print_lines(messages, [result])
        replace_file(arguments.output, result.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise UsageError(f'ERROR: Failed to open output file: "{arguments.output}": {error.strerror}') from error
    except Exception as error:
        return report(error, messages, arguments.verbose)
    return 0


def _aot(arguments: Arguments, messages: Messages, text: str, name: str) -> int:
    """`--aot`: write an executable that runs the program."""
    path = arguments.aot or ""
    try:
        from pytrace.aot import bundle
        from pytrace.files import replace_file
        from pytrace.running import options_of

        data, warnings = bundle(text, name, options_of(arguments))
        if arguments.warnings:
            messages.diagnostics(warnings)
        replace_file(path, data, 0o755)
    except OSError as error:
        raise UsageError(f'ERROR: Failed to write file: "{path}": {error.strerror}') from error
    except Exception as error:
        return report(error, messages, arguments.verbose)
    return 0


def _cleanup(arguments: Arguments, messages: Messages) -> int:
    """`cleanup`: remove what pytraces that were killed left on network interfaces."""
    try:
        from pytrace.runtime.privileges import check_privileges

        check_privileges()
        from pytrace.runtime import clsact, netns

        removed = netns.inside(arguments.pid or 0, clsact.clean)
    except OSError as error:
        messages.error(f"Cannot clean up: {error.strerror}")
        return FAILED
    except Exception as error:
        return report(error, messages, arguments.verbose)
    return print_lines(messages, [f"Removed {line}\n" for line in removed] or ["Nothing to remove\n"])


def _list(arguments: Arguments, messages: Messages) -> int:
    """`-l`: probes of this machine by pattern, or those of a program."""
    try:
        import pytrace.language  # noqa: F401  (features register themselves)
        from pytrace.grammar.spec import REGISTRY
        from pytrace.listing import list_probes
        from pytrace.runtime.host import LiveHost
        from pytrace.runtime.privileges import check_privileges

        check_privileges()
        search = arguments.file or ""
        if arguments.program is not None or os.path.isfile(search.encode("utf-8", "surrogateescape")):
            return _list_program(arguments, messages)
        if "." in search and not set(":*") & set(search):
            messages.warning(
                f"It appears that '{search}' is a filename but the file does not exist. "
                f"Treating '{search}' as a search pattern."
            )
        host = LiveHost(
            arguments.include_dirs, arguments.include, arguments.unsafe, debug_folders=arguments.debug_folders,
            traceable=arguments.traceable,
        )  # fmt: skip
        found = list_probes(search, host, REGISTRY, arguments.verbose, arguments.pid, messages.warning)
        return print_lines(messages, _joined(found))
    except Exception as error:
        return report(error, messages, arguments.verbose)


def _joined(lines: Iterator[str]) -> Iterator[str]:
    """Lines in pieces of many, each line with its end."""
    while piece := list(islice(lines, 1000)):
        yield "\n".join((*piece, ""))


def _list_program(arguments: Arguments, messages: Messages) -> int:
    from pytrace.program_listing import list_program
    from pytrace.running import options_of

    text, name = read_program(arguments)
    lines = list_program(text, name, options_of(arguments), arguments.verbose, warn=messages.warning)
    return print_lines(messages, (f"{line}\n" for line in lines))


def _open_standard_streams() -> None:
    """Give the streams that the caller has closed to /dev/null: a map or a probe must not get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            os.set_inheritable(number, True)


def run(main: Callable[[], int] = main) -> NoReturn:
    """The console script: like `main`, and ends the process.

    Taking down the interpreter with LLVM in it takes 30 ms and gives back nothing that the kernel does not.
    """
    # compiling makes many objects and hardly any garbage: looking for it would take 8 ms (`running` turns it on)
    gc.disable()
    status = INTERNAL
    try:
        _open_standard_streams()
        status = main()
    except Exception as error:
        status = report(error, make_messages(os.environ), verbose=False)
    finally:
        os._exit(status)
