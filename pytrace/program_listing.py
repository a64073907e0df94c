"""`-l FILE` and `-l -e PROGRAM`: the probes of a program after expansion of its wildcards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from pytrace.compilation import compile_filter, live_host
from pytrace.grammar import analyse
from pytrace.grammar.attaching import OnDemand
from pytrace.grammar.diagnostics import Diagnostics
from pytrace.grammar.expand import expand
from pytrace.grammar.host import Host
from pytrace.grammar.imports import resolve_imports
from pytrace.grammar.settings import effective_config
from pytrace.grammar.source import Source
from pytrace.grammar.spec import REGISTRY, Context, Target
from pytrace.listing import Parameters
from pytrace.options import Options


def list_program(
    text: str,
    name: str,
    options: Options,
    verbose: bool = False,
    host: Host | None = None,
    warn: Callable[[str], None] = lambda message: None,
) -> Iterator[str]:
    """The lines of the listing, in source order, with parameters if `verbose`.

    `warn` hears, once, why parameters cannot be shown.

    Probes that the tracer runs itself (begin, end) are left out. Raises `CompileError`, `HostError`.
    """
    import pytrace.language  # noqa: F401  (features register themselves)

    host = host or live_host(options)
    diagnostics = Diagnostics()
    program = analyse.parse(Source(name, text), REGISTRY, diagnostics)
    environment = {**os.environ, **dict(options.environment)}
    config = effective_config(program.config, environment, diagnostics)
    context = Context(
        host, config, diagnostics, options.parameters, options.pid,
        options.command is not None, options.unsafe, mode=options.mode,
        probe_filter=compile_filter(options.probe_filter),
    )  # fmt: skip
    program, _ = resolve_imports(program, REGISTRY, context)
    diagnostics.raise_errors()
    typed = expand(program, REGISTRY, context)
    diagnostics.raise_errors()
    describe = Parameters(host, warn) if verbose else None
    for target in (target for part in typed if not part.left_out for target in part.targets):
        if not isinstance(target.attach, OnDemand):
            yield from _lines(target, host, describe)


def _lines(target: Target, host: Host, describe: Parameters | None) -> Iterator[str]:
    kind = target.type
    found = target.name.removeprefix(f"{kind.name}:")
    # what comes from a short fixed list is shown as that list shows it: `interval:s:`
    short = f"{found.partition(':')[0]}:"
    if short in kind.search(short, host, None):
        found = short
    yield f"{kind.name}:{found}"
    if describe is not None:
        yield from describe(kind, found)
