"""Call stacks, captured as return addresses and turned into names when they are printed."""

from __future__ import annotations

from pytrace.grammar.emit import Emit, Value
from pytrace.grammar.hints import ClassVar
from pytrace.grammar.spec import Builtin, CallSite, Param, feature
from pytrace.grammar.types import UINT64, Stack, Type, size_of
from pytrace.language.builtins.task import current_id

MODES = ("bpftrace", "raw", "perf", "build_id")
DEFAULT_LIMIT, HIGHEST_LIMIT = 127, 1024

USER_STACK, USER_BUILD_ID = 1 << 8, 1 << 11  # BPF_F_USER_STACK, BPF_F_USER_BUILD_ID
ENTRY = {"build_id": 32}  # sizeof(struct bpf_stack_build_id); other modes have 8-byte addresses


class StackBuiltin(Builtin):
    """`kstack` and `ustack`, which differ in a flag and in the pid that user addresses belong to.

    `user` says whose stack it is, `build_ids` whether it can be had as build ids.
    """

    parameters = (
        Param("mode", ("word", "int"), literal=True, optional=True, words=MODES),
        Param("limit", ("int",), literal=True, optional=True),
    )
    needs = "stack"
    user: ClassVar[bool]
    build_ids: ClassVar[bool] = False

    def type(self, site: CallSite) -> Type:
        if len(site) == 2 and site.word(0) is None:
            site.error("err.call.argtype", "Expected stack mode as first argument", 0)
            return NO_STACK[self.user]
        return Stack(self.user, self._mode(site), self._limit(site))

    def _mode(self, site: CallSite) -> str:
        mode = site.word(0) if len(site) else None
        chosen = site.context.config.stack_mode if mode is None else mode
        if chosen not in MODES:
            message = (
                f"Error parsing stack mode: {self.name}: Invalid value for stack_mode: "
                "valid values are bpftrace, raw, perf, and build_id."
            )
            site.error("err.call.argtype", message, 0)
            return "bpftrace"
        if chosen == "build_id" and not self.build_ids:
            message = "'build_id' stack mode can only be used for ustack"
            if len(site):
                site.error("err.call.argtype", message, 0)
            else:
                site.warning("cfg.stack_mode", f"{message}. Falling back to 'raw' mode.")
            return "raw"
        return chosen

    def _limit(self, site: CallSite) -> int:
        last = len(site) - 1
        if last < 0 or (last == 0 and site.word(0) is not None):
            return DEFAULT_LIMIT
        limit = site.integer(last)
        prefix = f"{self.name}([int limit]): limit"
        if limit > HIGHEST_LIMIT:
            message = f"{prefix} shouldn't exceed {HIGHEST_LIMIT}, {limit} given"
            site.error("err.call.argtype", message, last)
        elif limit < 1:
            site.error("err.call.argtype", f"{prefix} shouldn't be less than 1, {limit} given", last)
        return min(max(limit, 1), HIGHEST_LIMIT)

    def emit(self, emit: Emit, site: CallSite) -> Value:
        kind = site.type
        assert isinstance(kind, Stack)
        entry = ENTRY.get(kind.mode, 8)
        room, head = kind.limit * entry, size_of(kind) - kind.limit * entry
        # the helper zeroes what it does not fill, also when it fails (kernel/bpf/stackmap.c)
        slot = emit.scratch(size_of(kind), zero=False)
        if self.user:
            emit.store(slot, 0, emit.convert(current_id(emit, site, offset=4), UINT64))
        flags = (USER_STACK if self.user else 0) | (USER_BUILD_ID if kind.mode == "build_id" else 0)
        frames = emit.part(slot, head, room)
        got = emit.helper("get_stack", emit.context(), frames, emit.integer(room), emit.integer(flags))
        failed = emit.compare("<", got, emit.integer(0), signed=True)
        count = emit.arith(">>", got, emit.integer(entry.bit_length() - 1))
        emit.store(slot, head - 8, emit.select(failed, emit.integer(0), count))
        emit.when(failed, lambda: emit.warn("stack", got, site.span, self.name))
        return emit.at(slot, kind)


NO_STACK = {user: Stack(user) for user in (False, True)}


@feature
class Kstack(StackBuiltin):
    """The kernel's call stack, innermost function first; a kstack.

    `kstack(perf)` chooses how it is printed: `bpftrace` (names and offsets), `perf` (addresses too) or
    `raw` (addresses only). `kstack(5)` and `kstack(perf, 5)` keep the innermost 5 frames; 127 are kept
    otherwise, 1024 at most.

    bt> tracepoint:sched:sched_switch { @[kstack(3)] = count(); }

    Source: bpf_get_stack (Linux 4.18, bpf-helpers(7)).
    """

    name = "kstack"
    user = False
    reads_kernel_stack = True


@feature
class Ustack(StackBuiltin):
    """The process's own call stack, innermost function first; a ustack.

    The arguments are those of `kstack`; there is one more mode, `build_id`, which shows the build id of
    the file and the offset in it. The stack can be followed only through code that keeps frame pointers.
    The process may be gone when it is shown. Why stacks are empty, cut or without names is told after the maps.

    bt> profile:hz:99 { @[ustack(perf, 5)] = count(); }

    Source: bpf_get_stack with BPF_F_USER_STACK (Linux 4.18, bpf-helpers(7)).
    """

    name = "ustack"
    user = True
    build_ids = True
