"""What an executable made by `--aot` does: the part of the command line that runs a program which is compiled."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Sequence

from pytrace import __version__
from pytrace.arguments import Arguments, UsageError, chosen, described, parse
from pytrace.cli import end_at_interrupt, print_lines, run, show_refusal
from pytrace.grammar.data import dataclass
from pytrace.grammar.hints import TYPE_CHECKING, NoReturn, Protocol
from pytrace.messages import NOT_RUNNING, Messages, make_messages, report
from pytrace.options import Options

if TYPE_CHECKING:
    from pytrace.api import Trace
    from pytrace.compilation import Compilation

PROGRAM = "program.pickle"  # the file in the archive
OPTIONS = chosen("-f", "-o", "-q", "-v", "-d", "-h", "-V")
_USAGE = """\
USAGE:
    {name} [options] [-- --name=value ...]

A program made by pytrace v{version} for {kernel}.

OPTIONS:
{options}
    -- --help              show the program's own options
"""


class Loader(Protocol):
    """What Python makes of an archive that it runs: `zipimport.zipimporter`."""

    def get_data(self, path: str, /) -> bytes:
        """The content of a file in it."""
        ...


@dataclass(frozen=True, slots=True)
class Bundle:
    """What the archive holds: the compilation, and for which kernel it was made."""

    kernel: str
    compilation: Compilation


def kernel_name() -> str:
    """The running kernel: release, build, machine."""
    name = os.uname()
    return f"Linux {name.release} {name.version} {name.machine}"


def start(loader: Loader) -> NoReturn:
    """Run the program of the archive that this code comes from, and end the process."""
    end_at_interrupt()
    run(lambda: main(sys.argv[1:], loader.get_data(PROGRAM)))


def main(argv: Sequence[str], program: bytes) -> int:
    """Do what the words of the command line say with the pickled `Bundle`; returns the exit status."""
    messages = make_messages(os.environ)
    try:
        arguments = parse(argv, OPTIONS)
        if arguments.words:
            raise UsageError(f"ERROR: USAGE: unexpected argument '{arguments.words[0]}'")
        if arguments.version:
            return print_lines(messages, [f"pytrace v{__version__}\n"])
        bundle: Bundle = pickle.loads(program)
        if arguments.help:
            return print_lines(messages, [_usage(bundle)])
        return _run(bundle, arguments, messages)
    except UsageError as error:
        return show_refusal(UsageError(error.text, hint="-h shows the options."), messages)
    except KeyboardInterrupt:
        return NOT_RUNNING


def _usage(bundle: Bundle) -> str:
    options = {id(option): option for option in OPTIONS.values()}.values()
    name = os.path.basename(sys.argv[0])
    return _USAGE.format(name=name, version=__version__, kernel=bundle.kernel, options=described(options).rstrip("\n"))


def _run(bundle: Bundle, arguments: Arguments, messages: Messages) -> int:
    from pytrace.api import Trace
    from pytrace.grammar.diagnostics import Diagnostics
    from pytrace.language.functions.options import check_given
    from pytrace.running import Run

    compiled = bundle.compilation
    try:
        check_given(arguments.named, compiled.options, Diagnostics())
    except Exception as error:
        return report(error, messages, arguments.verbose)
    if bundle.kernel != kernel_name():
        messages.warning(f"This program was made for {bundle.kernel}: on other kernels it may show wrong values.")

    def make(text: str, name: str, options: Options) -> Trace:
        return Trace(text, name, options, compiled)

    return Run(arguments, messages, make).run(compiled.source.text, compiled.source.name)
