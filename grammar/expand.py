"""From attach points to the programs that a script needs (reference part 1, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytrace.grammar import advice, attachpoint
from pytrace.grammar.attaching import OnDemand
from pytrace.grammar.attachpoint import AttachPoint
from pytrace.grammar.nodes import (
    Assign,
    AttachText,
    Call,
    Identifier,
    MapElement,
    Node,
    Probe,
    Program,
    TupleExpr,
    TypeName,
    walk,
)
from pytrace.grammar.probetype import ProbeType
from pytrace.grammar.spec import Action, Context, Function, Registry, Target
from pytrace.grammar.types import INTEGERS
from pytrace.grammar.typing import TypedProbe

COOKIE_HELPER = "get_attach_cookie"  # Linux 5.15


def expand(program: Program, registry: Registry, context: Context) -> list[TypedProbe]:
    """One typed probe for each program that is needed; mistakes go to the diagnostics."""
    typed: list[TypedProbe] = []
    for probe in program.probes:
        typed += expand_probe(probe, registry, context)
    check_limits(typed, context)
    check_alone(typed, context)
    return typed


def expand_probe(probe: Probe, registry: Registry, context: Context) -> list[TypedProbe]:
    """The programs of one block."""
    wrong = len(context.diagnostics.errors)
    targets: list[Target] = []
    for text in probe.attach_points:
        targets += attach_targets(text, registry, context)
    if not targets and len(context.diagnostics.errors) == wrong:
        report_empty(probe, context)
    kept = [target for target in targets if is_wanted(target, context)]
    if targets and not kept:
        return [TypedProbe(probe, (targets[0],), left_out=True)]
    return group(probe, kept, registry, context)


def is_wanted(target: Target, context: Context) -> bool:
    """Whether a target is to have code in this run ([probe.test], [cli.probe-filter])."""
    kind, pattern = target.type, context.probe_filter
    return context.mode in kind.modes and (kind.always or pattern is None or bool(pattern.search(target.name)))


def report_empty(probe: Probe, context: Context) -> None:
    """A block of which no attach point is left ([probe.missing])."""
    span = probe.attach_points[0].span.to(probe.attach_points[-1].span)
    policy = context.config.missing_probes
    if policy == "error":
        missing = [h for text in probe.attach_points for h in advice.missing_parameters(text, context.parameters)]
        hints = missing[:1] or ["If this is expected, set the 'missing_probes' config variable to 'warn'."]
        context.diagnostics.error("err.ap.none", "Probe has no valid attach points.", span, hints=hints)
    elif policy == "warn":
        message = "Probe has no valid attach points. It is being removed which may cause issues with program behavior."
        context.diagnostics.warning("err.ap.none", message, span)


def attach_targets(text: AttachText, registry: Registry, context: Context) -> list[Target]:
    """What one attach point of the source expands to."""
    point = attachpoint.split_node(text, context.parameters, context.diagnostics)
    if point is None:
        return []
    word, since = point.parts[0], len(context.diagnostics.items)
    kinds = probe_types(point, registry, context)
    if not kinds:
        hints = advice.unknown_probe_type(point, registry.probes, context.host)
        context.diagnostics.error("err.ap.type", f"Invalid probe type: {word}", text.span, hints=hints)
    targets: list[Target] = []
    for kind in kinds:
        targets += kind.targets(AttachPoint((kind.name, *point.parts[1:])), text.span, context)
    advice.explain_attach_point(text, context.parameters, context.diagnostics, since)
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


def group(probe: Probe, targets: list[Target], registry: Registry, context: Context) -> list[TypedProbe]:
    """Let one program serve many targets where the block cannot tell them apart, or can do so by cookies."""
    uses = list(target_uses(probe, registry))
    by_cookie = len(targets) > 1 and bool(uses) and context.host.has(COOKIE_HELPER)
    if uses and not (by_cookie and all(use in plain_values(probe, registry) for use in uses)):
        return [TypedProbe(probe, (target,)) for target in targets]
    arguments = any(feature.per_arguments for feature in features_of(probe, registry))
    # the files of user probes may have different types of one name
    apart = any(isinstance(node, TypeName) and node.name not in INTEGERS for node in walk(probe))
    groups: dict[object, list[Target]] = {}
    seen: dict[str, int] = {}  # how often the kernel would have got this program at this place already
    for number, target in enumerate(targets):
        kind = target.type
        again = 0 if kind.repeats else seen.get(target.name, 0)
        seen[target.name] = again + 1
        fields = tuple(target.arguments or ()) if arguments and kind.by_arguments else ()
        alike = kind.alike(target), fields, again
        same = (kind.name, target.section, target.space, target.path if apart else "", alike)
        shared = kind.groupable and (kind.same_arguments or kind.by_arguments or not arguments)
        shared = shared and not (uses and kind.numbered(target, 0) is None)
        groups.setdefault(same if shared else number, []).append(target)
    features, host = known_features(probe, registry), context.host
    gathered = [part for members in groups.values() for part in members[0].type.gather(members, features, host)]
    made = []
    for members in gathered:
        numbered = [t.type.numbered(t, index) or t for index, t in enumerate(members)] if uses else members
        made.append(TypedProbe(probe, tuple(numbered)))
    return made


def target_uses(probe: Probe, registry: Registry) -> Iterator[Call | Identifier]:
    """What a block uses that differs from one attach point to the next."""
    for node in walk(probe):
        if isinstance(node, (Call, Identifier)):
            feature = registry.functions.get(node.name)
            if feature is not None and feature.per_target and not feature.per_arguments:
                yield node


def plain_values(probe: Probe, registry: Registry) -> set[Node]:
    """Where a block only wants the value of a `numbered` feature, not what the compiler can conclude from it: in the
    key of a map, as what is assigned, as what an action sends."""
    found: set[Node] = set()
    for node in walk(probe):
        values: tuple[Node, ...] = ()
        match node:
            case MapElement(key=key):
                values = (key,)
            case Assign(op="", value=value):
                values = (value,)
            case Call(name=name, arguments=arguments):
                action = registry.functions.get(name)
                if isinstance(action, Action):
                    literal = [parameter.literal for parameter in action.parameters]
                    values = tuple(a for i, a in enumerate(arguments) if not any(literal[i : i + 1]))
            case _:
                pass
        for wanted in values:
            found.update(wanted.items if isinstance(wanted, TupleExpr) else (wanted,))
    return {n for n in found if isinstance(n, Identifier) and _is_numbered(n, registry)}


def _is_numbered(node: Identifier, registry: Registry) -> bool:
    feature = registry.functions.get(node.name)
    return feature is not None and feature.numbered


def features_of(probe: Probe, registry: Registry) -> list[Function]:
    """The builtins and functions that a block uses."""
    names = {node.name for node in walk(probe) if isinstance(node, (Call, Identifier))}
    return [registry.functions[name] for name in names if name in registry.functions]


def known_features(probe: Probe, registry: Registry) -> list[Function] | None:
    """Those, unless the block has other names too: functions and C macros may use anything."""
    names = (node.name for node in walk(probe) if isinstance(node, (Call, Identifier)))
    return features_of(probe, registry) if all(name in registry.functions for name in names) else None


def check_alone(typed: Sequence[TypedProbe], context: Context) -> None:
    """Refuse other attached probes next to one that must be the only one ([probe.iter.single])."""
    attached = [t for t in typed if not isinstance(t.target.attach, OnDemand)]
    alone = next((t for t in attached if t.target.type.alone), None)
    if alone is None:
        return
    name, points = alone.target.type.name, alone.probe.attach_points
    if len(points) > 1:
        message = f"Only one attach point is allowed for a block whose probe is of type {name}"
        context.diagnostics.error(f"err.ap.{name}", message, points[1].span)
        return
    for other in attached:
        if other is not alone:
            context.diagnostics.error(
                f"err.ap.{name}",
                f"{other.target.name}: no other probe can be attached in a script with a probe of type {name}",
                other.probe.attach_points[0].span,
                hints=("Only begin and end may stand next to it. Put the other probes into a script of their own.",),
            )


def check_limits(typed: Iterable[TypedProbe], context: Context) -> None:
    """Refuse a script that needs too many programs or probes ([probe.limits])."""
    config, places = context.config, 0
    for programs, probe in enumerate((t for t in typed if not t.left_out), 1):
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
