"""A running trace as actions see it: it turns records into outputs and carries out control actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytrace.grammar.hints import TYPE_CHECKING
from pytrace.grammar.layout import Decoder
from pytrace.grammar.lines import LINES
from pytrace.grammar.plan import Action, MapSpec, Plan
from pytrace.grammar.spec import Action as ActionFeature
from pytrace.grammar.spec import Output, Registry
from pytrace.runtime.tracer import Tracer
from pytrace.services import LiveServices

if TYPE_CHECKING:
    from pytrace.language.mapview import MapSnapshot

Take = Callable[[Output], None]
UPDATE_EVERY = 1024  # records that are shown before looking at what processes have mapped meanwhile


class LiveSession:
    """`Session` of a trace on this machine. `take` gets every output, in order."""

    def __init__(self, plan: Plan, tracer: Tracer, registry: Registry, take: Take, values: bool = True) -> None:
        self.plan = plan
        self.tracer = tracer
        self.registry = registry
        self.take = take
        self.values = values
        self.services = LiveServices(plan)
        self.exit_code: int | None = None
        self.exiting = False
        self._handlers: list[tuple[Action, Decoder, ActionFeature]] = [
            (action, action.decoder(), registry.action(action.feature)) for action in plan.actions
        ]

    # ---- records

    def handle(self, records: Sequence[bytes]) -> None:
        """Act on a batch of records; after an `exit` what is left of its phase is discarded."""
        handlers, take = self._handlers, self.take
        for start in range(0, len(records), UPDATE_EVERY):
            self.services.update()
            for record in records[start : start + UPDATE_EVERY]:
                if self.exiting:
                    return
                action, decode, feature = handlers[int.from_bytes(record[:8], "little")]
                output = feature.handle(action, decode(record), self)
                if output is not None:
                    take(output)

    def handle_lines(self, lines: bytes) -> None:
        """Pass on what compiled code has made of records."""
        if not self.exiting:
            self.take(Output(LINES, "", lines))

    def discard(self) -> None:
        """Throw away what is still in the ring: events behind an `exit` are not shown."""
        while self.tracer.poll(0, lambda records: None):
            pass

    # ---- control

    def exit(self, code: int) -> None:
        """See Session."""
        self.exit_code = code
        self.exiting = True

    def clear(self, name: str) -> None:
        """See Session."""
        self.tracer.clear_map(self.plan.map(name))

    def zero(self, name: str) -> None:
        """See Session."""
        self.tracer.zero_map(self.plan.map(name))

    # ---- maps

    def snapshot(self, spec: MapSpec) -> MapSnapshot:
        """A map as it is now."""
        from pytrace.language.mapview import MapSnapshot  # a program may have no maps

        self.services.update()
        return MapSnapshot(spec, self.tracer.read_map(spec), self.registry, self.services)

    def map_output(self, name: str, top: int = 0, divisor: int = 0) -> Output:
        """See Session."""
        return self.snapshot(self.plan.map(name)).output(top, divisor)
