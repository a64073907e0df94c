"""What the probes in programs and libraries share: the files that they are in."""

from __future__ import annotations

from collections.abc import Sequence

from pytrace.grammar.attaching import UprobeAttach
from pytrace.grammar.data import replace
from pytrace.grammar.host import HostError
from pytrace.grammar.spec import Target
from pytrace.language.probes.common import Place, RegisterProbe, is_wildcard


class FileProbe(RegisterProbe):
    """Base of the probes in files: they have a path, resolved by `Host.binaries`, and see user memory."""

    reverse = True

    def paths(self, place: Place, target: str) -> Sequence[str]:
        """The files that a target stands for; an error if there is none, a warning if one must be chosen."""
        host, pid = place.host, place.context.pid
        try:
            found = host.binaries(target, pid)
        except HostError as problem:
            place.error("err.ap.target", f"{self.name} target file '{target}' cannot be probed: {problem}")
            return []
        if is_wildcard(target):
            if not found:
                place.vanished(target)
            return found
        if not found:
            message = f"{self.name} target file '{target}' does not exist or is not executable"
            place.error("err.ap.target", message, (host.explain_target(target, pid),))
        elif len(found) > 1:
            message = f"attaching to {self.name} target file '{found[0]}' but matched {len(found)} binaries"
            place.warning("err.ap.multi-target", message)
        return found[:1]

    def numbered(self, target: Target, number: int) -> Target:
        assert isinstance(target.attach, UprobeAttach)
        return replace(target, attach=replace(target.attach, cookie=number))


def own_executable(pid: int) -> str:
    """The target that stands for the executable of a process, see `Host.binaries`."""
    return f"/proc/{pid}/exe"
