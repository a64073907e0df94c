"""Functions that use the tracer's machine: cat, system (reference part 2, section 2.1)."""

from __future__ import annotations

from pytrace.grammar.hints import Any, ClassVar
from pytrace.grammar.plan import Action as ActionRecord
from pytrace.grammar.spec import Output, Session, feature
from pytrace.language.functions.output import Formatted
from pytrace.language.jsonvalue import clean


def failure(message: str) -> Output:
    """A message of the tracer itself, on standard error in every output format."""
    return Output("error", f"ERROR: {message}\n", error=True)


@feature
class Cat(Formatted):
    """Print the beginning of a file (`max_cat_bytes`, 10240 by default) when the tracer gets to it.

    bt> begin { cat("/proc/%d/cmdline", pid); exit(); }
    """

    name = "cat"

    def handle(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> Output | None:
        path = self.format(action, values, session).partition("\0")[0]
        try:
            with open(path, "rb", buffering=0) as file:
                data = _read(file, session.services.config.max_cat_bytes)
        except OSError as error:
            return failure(f"failed to open file '{path}' ({error.strerror})")
        text = data.decode("utf-8", "surrogateescape")
        return Output("cat", text, clean(text), (path,))


def _read(file: Any, most: int) -> bytes:
    """Up to `most` bytes; files under /proc give less than asked for at a time."""
    data = b""
    while len(data) < most and (chunk := file.read(most - len(data))):
        data += chunk
    return data


@feature
class System(Formatted):
    """Run a shell command (`sh -c`) on the tracer's machine and print what it writes, then a newline.

    Needs `--unsafe`. The tracer waits for it. Of a command that fails nothing is printed but its exit
    status, on standard error.

    bt> begin { system("uptime"); exit(); }
    """

    name = "system"
    unsafe: ClassVar[bool] = True

    def handle(self, action: ActionRecord, values: tuple[Any, ...], session: Session) -> Output | None:
        command = self.format(action, values, session).partition("\0")[0]
        import subprocess  # only now: programs seldom do this

        done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            # a command that a signal ended has the status that a shell would give it
            status = done.returncode if done.returncode > 0 else 128 - done.returncode
            return failure(f"command exited with code {status} ({command})")
        text = done.stdout.decode("utf-8", "surrogateescape")
        return Output("syscall", f"{text}\n", clean(text), (command,))
