"""One command, run as root in a QEMU guest on the host's files."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.vm.kernel import BUSYBOX, Kernel, VMError

HERE = Path(__file__).resolve().parent
BOOT_LIMIT = 120.0  # seconds; a boot takes 3 to 8 without hardware virtualisation on a quiet machine

KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet loglevel=4 panic=-1 rdinit=/init audit=0 random.trust_cpu=on "
    # the rest is for speed; without tsc=reliable TCG's clock sometimes falls back to HPET
    "mitigations=off nowatchdog rcupdate.rcu_expedited=1 cryptomgr.notests tsc=reliable"
)
MOUNT_RW = "/run/vm/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none,access=any"


class TimeLimit(Exception):
    """The command did not end within its time limit."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to run in the guest."""

    command: Sequence[str]  # one word: a shell line
    cwd: Path
    env: Mapping[str, str]
    writable: Sequence[Path] = ()  # host folders in which what the guest writes stays
    limit: float = 600.0  # seconds, boot included
    memory: int = 2048  # MB
    cpus: int = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended."""

    status: int  # exit status of the command
    boot: float  # seconds until the guest was up
    ran: float  # seconds from then to its end


def has_kvm() -> bool:
    """Whether KVM boots these kernels: where /dev/kvm comes without vmx or svm (kvm-pvm), it does not."""
    flags = Path("/proc/cpuinfo").read_text()
    return bool(re.search(r"\b(vmx|svm)\b", flags)) and os.access("/dev/kvm", os.R_OK | os.W_OK)


def run(kernel: Kernel, job: Job) -> Outcome:
    """Boot `kernel` and run `job`; its stdout and stderr come out on this process's own.

    Raises VMError when the guest does not boot or stops before the command ends, TimeLimit after
    `job.limit` seconds. The guest is gone in any case when this returns or this process dies.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pytrace-vm-") as folder:
        here = Path(folder)
        write_job(here, job)
        write_initrd(here, kernel)
        pipes = os.pipe(), os.pipe()
        argv = qemu_command(kernel, job, here, [write for _, write in pipes])
        with (here / "qemu.log").open("wb") as log:
            # setpriv: qemu dies with this process, even when that is killed
            qemu = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[write for _, write in pipes],
            )
        pumps = []
        for (read, write), sink in zip(pipes, (sys.stdout.buffer, sys.stderr.buffer), strict=True):
            os.close(write)
            pumps.append(threading.Thread(target=pump, args=(read, sink)))
            pumps[-1].start()
        try:
            booted = wait_until_up(qemu, here, began, job.limit)
            wait_until_off(qemu, began + job.limit)
        finally:
            qemu.kill()
            qemu.wait()
            for thread in pumps:
                thread.join()
        return Outcome(exit_status(here), booted - began, time.monotonic() - booted)


def write_job(here: Path, job: Job) -> None:
    """The scripts stage2.sh runs: `mounts.sh`, then `job.sh`."""
    shares = [f"{MOUNT_RW} rw{n} {shlex.quote(str(at))}\n" for n, at in enumerate([here, *job.writable])]
    (here / "mounts.sh").write_text("".join(shares))
    line = job.command[0] if len(job.command) == 1 else shlex.join(job.command)
    exports = [
        f"export {name}={shlex.quote(value)}\n"
        for name, value in job.env.items()
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and name not in ("PWD", "OLDPWD", "SHLVL", "_")
    ]
    start = f"cd {shlex.quote(str(job.cwd))} || exit 125\nexec /bin/bash -c {shlex.quote(line)}\n"
    (here / "job.sh").write_text("".join(exports) + start, errors="surrogateescape")


def write_initrd(here: Path, kernel: Kernel) -> None:
    tree = here / "initrd.tree"
    for folder in ("bin", "dev", "proc", "sys", "lower", "rw", "new"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin/busybox")
    shutil.copy(HERE / "init.sh", tree / "init")
    (tree / "init").chmod(0o755)
    shutil.copy(HERE / "stage2.sh", tree)
    shutil.copytree(kernel.folder / "initrd-modules", tree / "modules")
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with (here / "initrd").open("wb") as archive:
        pack = [str(BUSYBOX), "cpio", "-o", "-H", "newc"]
        subprocess.run(pack, cwd=tree, input=names.encode(), stdout=archive, check=True)


def qemu_command(kernel: Kernel, job: Job, here: Path, outputs: Sequence[int]) -> list[str]:
    argv = ["qemu-system-x86_64", "-machine", "q35", "-no-user-config", "-nodefaults"]
    argv += ["-display", "none", "-no-reboot"]
    if has_kvm():
        argv += ["-accel", "kvm", "-cpu", "host"]
    else:
        # one thread for all CPUs: with one each, a CPU sometimes executes half of an instruction that the kernel is
        # patching on another, and the guest dies of it when a busy function loses its kprobe or trampoline
        argv += ["-accel", "tcg,thread=single,tb-size=512", "-cpu", "max"]
    argv += ["-smp", str(job.cpus), "-m", str(job.memory)]
    argv += ["-kernel", f"{kernel.folder}/vmlinux", "-initrd", f"{here}/initrd"]
    argv += ["-serial", f"file:{here}/console"]
    argv += ["-append", f"{KERNEL_ARGUMENTS} vm.run={here} vm.modules={kernel.modules}"]
    argv += share("root", Path("/"), ",readonly=on")
    for number, folder in enumerate([here, *job.writable]):
        argv += share(f"rw{number}", folder)
    argv += ["-device", "virtio-serial-pci,id=serial"]
    for number, output in enumerate(outputs, start=1):
        argv += ["-chardev", f"file,id=port{number},path=/proc/self/fd/{output}"]
        argv += ["-device", f"virtserialport,bus=serial.0,nr={number},chardev=port{number}"]
    return argv


def share(tag: str, folder: Path, options: str = "") -> list[str]:
    path = str(folder).replace(",", ",,")
    fsdev = f"local,id={tag},path={path},security_model=none,multidevs=remap{options}"
    return ["-fsdev", fsdev, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def pump(source: int, sink: BinaryIO) -> None:
    with open(source, "rb", buffering=0) as pipe:
        while data := pipe.read(1 << 16):
            try:
                sink.write(data)
                sink.flush()
            except BrokenPipeError:  # our reader has gone; the guest would wait for us for ever
                os.dup2(os.open(os.devnull, os.O_WRONLY), sink.fileno())


def wait_until_up(qemu: subprocess.Popen[bytes], here: Path, began: float, limit: float) -> float:
    """The time.monotonic() when the guest was seen to be up, or had stopped."""
    while qemu.poll() is None and not (here / "up").exists():
        waited = time.monotonic() - began
        if waited > limit:
            raise TimeLimit
        if waited > BOOT_LIMIT:
            raise VMError(f"the guest was not up after {BOOT_LIMIT:g} s{last_words(here)}")
        time.sleep(0.1)
    return time.monotonic()


def wait_until_off(qemu: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        qemu.wait(deadline - time.monotonic())
    except subprocess.TimeoutExpired:
        raise TimeLimit from None


def exit_status(here: Path) -> int:
    try:
        return int((here / "status").read_text())
    except (FileNotFoundError, ValueError):
        raise VMError(f"the guest stopped before the command ended{last_words(here)}") from None


def last_words(here: Path) -> str:
    """The end of what the guest's console and qemu said, for an error message."""
    lines: list[str] = []
    for name in ("qemu.log", "console"):
        if (here / name).exists():
            lines += (here / name).read_text(errors="replace").splitlines()[-40:]
    return "".join(f"\n  {line}" for line in lines)
