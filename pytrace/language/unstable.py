"""Features that may still change: allowed, warned of or refused, as the configuration says ([cfg.unstable])."""

from __future__ import annotations

from pytrace.grammar.spec import CallSite


def check_unstable(site: CallSite, feature: str) -> None:
    """Report the use of an unstable feature, unless the config switch `unstable_<feature>` enables it."""
    switch = f"unstable_{feature}"
    setting = getattr(site.context.config, switch)
    if setting == "warn":
        message = (
            f"Script is using an unstable feature: {feature}. To prevent this warning you must explicitly enable "
            f"it in the config e.g. {switch}=enable"
        )
        # without a place: it is said once, however often the feature is used
        site.diagnostics.warning("warn.feature.unstable", message, None)
    elif setting == "error":
        message = (
            f"{feature} feature is not enabled by default. To enable this unstable feature, set the config flag "
            f"to enable. {switch}=enable"
        )
        site.error("err.feature", message)
