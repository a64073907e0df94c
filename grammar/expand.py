"""From attach points to the programs that a script needs (reference part 1, section 3)."""

from __future__ import annotations

from collections.abc import Iterable

from pytrace.grammar import attachpoint
from pytrace.grammar.attachpoint import AttachPoint
from pytrace.grammar.diagnostics import did_you_mean
from pytrace.grammar.nodes import AttachText, Call, Identifier, Probe, Program, TypeName, walk
from pytrace.grammar.spec import Context, ProbeType, Registry, Target
from pytrace.grammar.types import INTEGERS
from pytrace.grammar.typing import TypedProbe


def expand(program: Program, registry: Registry, context: Context) -> list[TypedProbe]:
    """One typed probe for each program that is needed; mistakes go to the diagnostics."""
    typed: list[TypedProbe] = []
    for probe in program.probes:
        typed += expand_probe(probe, registry, context)
    check_limits(typed, context)
    return typed


def expand_probe(probe: Probe, registry: Registry, context: Context) -> list[TypedProbe]:
    """The programs of one block."""
    wrong = len(context.diagnostics.errors)
    targets: list[Target] = []
    for text in probe.attach_points:
        targets += attach_targets(text, registry, context)
    if not targets and len(context.diagnostics.errors) == wrong:
        report_empty(probe, context)
    return group(probe, targets, registry)


def report_empty(probe: Probe, context: Context) -> None:
    """A block of which no attach point is left ([probe.missing])."""
    span = probe.attach_points[0].span.to(probe.attach_points[-1].span)
    policy = context.config.missing_probes
    if policy == "error":
        hint = "If this is expected, set the 'missing_probes' config variable to 'warn'."
        context.diagnostics.error("err.ap.none", "Probe has no valid attach points.", span, hints=(hint,))
    elif policy == "warn":
        message = "Probe has no valid attach points. It is being removed which may cause issues with program behavior."
        context.diagnostics.warning("err.ap.none", message, span)


def attach_targets(text: AttachText, registry: Registry, context: Context) -> list[Target]:
    """What one attach point of the source expands to."""
    point = attachpoint.split_node(text, context.parameters, context.diagnostics)
    if point is None:
        return []
    word = point.parts[0]
    kinds = probe_types(point, registry, context)
    if not kinds:
        hints = did_you_mean(word, registry.probes)
        context.diagnostics.error("err.ap.type", f"Invalid probe type: {word}", text.span, hints=hints)
    targets: list[Target] = []
    for kind in kinds:
        targets += kind.targets(AttachPoint((kind.name, *point.parts[1:])), text.span, context)
    return targets


def probe_types(point: AttachPoint, registry: Registry, context: Context) -> list[ProbeType]:
    """The probe types that the first part of an attach point means ([probe.wildcard.type])."""
    word = point.parts[0]
    if "*" not in word:
        kind = registry.probe_type(word)
        return [] if kind is None else [kind]
    user = context.pid is not None or any("/" in part for part in point.parts[1:2])
    wanted = "user" if user else "kernel"
    kinds = {k.name: k for k in registry.probes.values() if k.wild == wanted}
    matching = attachpoint.matcher(word)
    found = [kinds[name] for name in sorted(kinds) if matching(name)]
    if len(found) == 1:
        return found
    parts = len(point.parts) - 1
    return [kind for kind in found if kind.arity[0] <= parts <= kind.arity[1]]


def group(probe: Probe, targets: list[Target], registry: Registry) -> list[TypedProbe]:
    """Let one program serve many targets where the block cannot tell them apart."""
    if uses_target(probe, registry):
        return [TypedProbe(probe, (target,)) for target in targets]
    # the files of user probes may have different types of one name
    apart = any(isinstance(node, TypeName) and node.name not in INTEGERS for node in walk(probe))
    groups: dict[object, list[Target]] = {}
    for number, target in enumerate(targets):
        same = (target.type.name, target.section, target.space, target.path if apart else "")
        key = same if target.type.groupable else number
        groups.setdefault(key, []).append(target)
    return [TypedProbe(probe, tuple(members)) for members in groups.values()]


def uses_target(probe: Probe, registry: Registry) -> bool:
    """Whether a block uses something that differs from one attach point to the next."""
    for node in walk(probe):
        if isinstance(node, (Call, Identifier)):
            feature = registry.functions.get(node.name)
            if feature is not None and feature.per_target:
                return True
    return False


def check_limits(typed: Iterable[TypedProbe], context: Context) -> None:
    """Refuse a script that needs too many programs or probes ([probe.limits])."""
    config, places = context.config, 0
    for programs, probe in enumerate(typed, 1):
        # what shares one link counts once here, though not in "Attached N probes"
        places += probe.target.type.links(tuple(t.attach for t in probe.targets), context.host)
        if programs > config.max_bpf_progs:
            context.diagnostics.error(
                "err.ap.limit",
                f"Your program is trying to generate more than {config.max_bpf_progs} BPF programs, "
                f"which exceeds the current limit of {config.max_bpf_progs}",
                probe.probe.attach_points[0].span,
                hints=("You can raise it with the environment variable BPFTRACE_MAX_BPF_PROGS.",),
            )
            return
    if places > config.max_probes:
        context.diagnostics.error(
            "err.ap.limit",
            f"Can't attach to {places} probes because it exceeds the current limit of {config.max_probes} probes.",
            None,
            hints=(
                "Each is attached by itself, which takes long for so many, and every hit makes the machine slower: "
                "name fewer functions.",
                "You can raise the limit with the environment variable BPFTRACE_MAX_PROBES.",
            ),
        )
