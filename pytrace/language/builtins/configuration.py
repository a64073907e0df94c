"""The settings of the run, as a value."""

from __future__ import annotations

from pytrace.grammar.config import Config
from pytrace.grammar.data import fields
from pytrace.grammar.nodes import Boolean, Expr, Integer, RecordExpr, StringLiteral
from pytrace.grammar.settings import ENVIRONMENT_ONLY
from pytrace.grammar.spec import Builtin, CallSite, feature

HIDDEN = ENVIRONMENT_ONLY | {"cache_user_symbols"}


@feature
class Configuration(Builtin):
    """The settings that are in effect (`config = {…}` and the environment); a record, known while compiling.

    Its members are called as the settings are: numbers, bools, and strings for everything else.

    bt> begin { printf("strings of %d bytes, stacks as %s\\n", config.max_strlen, config.stack_mode); }
    """

    name = "config"

    def expand(self, site: CallSite) -> Expr:
        span, config = site.span, site.context.config
        found: dict[str, Expr] = {}
        for setting in fields(Config):
            value = getattr(config, setting.name)
            if setting.name in HIDDEN:
                continue
            if isinstance(value, bool):
                found[setting.name] = Boolean(span, value)
            elif isinstance(value, int):
                found[setting.name] = Integer(span, value)
            else:
                found[setting.name] = StringLiteral(span, value.encode())
        return RecordExpr(span, tuple(found), tuple(found.values()))
