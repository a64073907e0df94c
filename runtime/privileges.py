"""Whether we may trace at all."""

from __future__ import annotations

from pytrace.runtime.textfile import read_text

# include/uapi/linux/capability.h
_CAPABILITIES = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
# CAP_SYS_ADMIN stands in for the first two (capabilities(7))
_NEEDED = ("CAP_BPF", "CAP_PERFMON", "CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE")
_BY_ADMIN = ("CAP_BPF", "CAP_PERFMON")


_LOCKDOWN = "/sys/kernel/security/lockdown"
_LOCKED_DOWN = """\
Kernel lockdown is enabled and set to 'confidentiality'.
In this mode the kernel lets nobody read its memory, not even root, so tracing programs cannot be loaded.
It was chosen at boot (lockdown=confidentiality, or Secure Boot on some systems) and cannot be lowered until then:
boot with lockdown=integrity or lockdown=none; kernel_lockdown(7) and `cat /sys/kernel/security/lockdown` tell more."""


class PrivilegeError(Exception):
    """A capability is missing, or the kernel is locked; the message names it and says what to do."""


def check_privileges(status: str = "/proc/self/status") -> None:
    """Raise `PrivilegeError` for the first capability that tracing needs and this process lacks."""
    text = read_text(status)
    for name in missing(text):
        raise PrivilegeError(_message(name, text))


def check_lockdown(path: str = _LOCKDOWN) -> None:
    """Raise `PrivilegeError` if the kernel lets no program read its memory (security/lockdown/lockdown.c)."""
    try:
        text = read_text(path)
    except OSError:  # no lockdown in this kernel, or securityfs is not mounted
        return
    if "[confidentiality]" in text:
        raise PrivilegeError(_LOCKED_DOWN)


def missing(status: str) -> tuple[str, ...]:
    """The needed capabilities that a /proc/PID/status text does not show as effective."""
    effective = int(_field(status, "CapEff"), 16)

    def has(name: str) -> bool:
        return bool(effective >> _CAPABILITIES[name] & 1)

    return tuple(name for name in _NEEDED if not has(name) and not (name in _BY_ADMIN and has("CAP_SYS_ADMIN")))


def _message(name: str, status: str) -> str:
    if _field(status, "Uid").split()[1] != "0":
        return f"Missing {name} capability, please run pytrace as the root user."
    return (
        f"Missing {name} capability, though we are root: a container or service manager has dropped it; "
        f"allow it there (for example --cap-add={name.removeprefix('CAP_')})."
    )


def _field(status: str, name: str) -> str:
    return next(line for line in status.splitlines() if line.startswith(f"{name}:")).partition(":")[2].strip()
