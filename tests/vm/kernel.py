"""Debian kernel packages, fetched once and unpacked for booting in QEMU.

The cache folder is `~/.cache/pytrace-vm`, or what PYTRACE_VM_CACHE names. A kernel there is a folder:
`release`, `vmlinux`, `initrd-modules/` (what the guest needs to mount its root, numbered in loading order)
and `lib/modules/<release>/` (without most hardware drivers), which the guest sees as its own.
"""

import fcntl
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

BUSYBOX = Path("/bin/busybox")

# -k name: the Debian 12 package that always depends on the newest kernel of that series.
SERIES = {"6.1": "linux-image-amd64", "6.12": "linux-image-6.12-amd64"}

# Loaded by init.sh, each after what it depends on. All are modules in one of the two kernels.
ROOT_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")

# What is kept of a kernel package; the rest is hardware drivers (three quarters of it).
KEPT = re.compile(
    r"\./(boot/vmlinuz-"
    r"|(usr/)?lib/modules/[^/]+/(modules\.|kernel/"
    r"(arch|block|crypto|fs|kernel|lib|mm|net|virt|drivers/(virtio|char|block|misc|vhost)"
    r"|drivers/net/[^/]+\.ko)))"
)

# Host program: the Debian package it comes from.
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "zstd": "zstd",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "setpriv": "util-linux",
}


class VMError(Exception):
    """The guest could not be prepared or booted. The text is one sentence, with the remedy."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel package."""

    folder: Path
    release: str  # as `uname -r` says it: "6.1.0-56-amd64"

    @property
    def modules(self) -> Path:
        return self.folder / "lib/modules" / self.release


def check_tools() -> None:
    """Raise VMError for the first program this harness needs and this host does not have."""
    for program, package in TOOLS.items():
        if not shutil.which(program):
            raise VMError(f"{program} is not installed: apt-get install {package}")
    with BUSYBOX.open("rb") as f:
        if b"/ld-linux" in f.read(4096):  # the ELF interpreter: there is none in the initramfs
            raise VMError("busybox is not a static program: apt-get install busybox-static")


def find(name: str) -> Kernel:
    """The kernel of a series ("6.1") or exact release ("6.1.0-56-amd64"), fetched if not in the cache.

    Raises VMError when apt has no such kernel or the package cannot be fetched.
    """
    cache = Path(os.environ.get("PYTRACE_VM_CACHE") or "~/.cache/pytrace-vm").expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"linux-{name}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "release").exists():
            with tempfile.TemporaryDirectory(dir=cache) as work:
                fetch(name, Path(work)).rename(folder)
    return Kernel(folder, (folder / "release").read_text())


def fetch(name: str, work: Path) -> Path:
    """A new kernel folder below `work`."""
    package = newest_package(name) if name in SERIES else f"linux-image-{name}"
    print(f"vmrun: fetching {package} (once)", file=sys.stderr, flush=True)
    apt("apt-get", "download", "-q", package, cwd=work)
    tree = work / "tree"
    extract(next(work.glob("*.deb")), tree)
    image = next(tree.glob("boot/vmlinuz-*"), None)
    if image is None:
        raise VMError(f"{package} holds no kernel: name a series ({', '.join(SERIES)}) or an exact release")
    release = image.name.removeprefix("vmlinuz-")
    done = work / "done"
    (done / "lib/modules").mkdir(parents=True)
    next(tree.glob(f"**/lib/modules/{release}")).rename(done / "lib/modules" / release)
    (done / "vmlinux").write_bytes(unpacked_kernel(image.read_bytes()))
    subprocess.run([BUSYBOX, "depmod", "-b", done, release], check=True)
    (done / "initrd-modules").mkdir()
    for number, module in enumerate(root_modules(done / "lib/modules" / release)):
        data = module.read_bytes()
        target = done / "initrd-modules" / f"{number:02}-{module.name.removesuffix('.xz')}"
        target.write_bytes(lzma.decompress(data) if module.suffix == ".xz" else data)
    (done / "release").write_text(release)
    return done


def newest_package(series: str) -> str:
    meta = SERIES[series]
    found = re.search(r"Depends: linux-image-(\S+)", apt("apt-cache", "depends", meta))
    if not found or not found[1].startswith(series + "."):
        offered = found[1] if found else "nothing"
        raise VMError(f"{meta} stands for {offered}, not {series}: add Debian 12's sources to apt")
    return f"linux-image-{found[1]}"


def apt(*command: str, cwd: Path | None = None) -> str:
    """The output of an apt command, which is tried again after `apt-get update`."""
    for attempt in (1, 2):
        got = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if got.returncode == 0 and got.stdout.strip():
            return got.stdout
        if attempt == 1:
            subprocess.run(["apt-get", "update", "-q"], stdin=subprocess.DEVNULL, capture_output=True)
    said = (got.stderr.strip() or "no output").splitlines()[-1]
    raise VMError(f"`{' '.join(command)}` failed ({said}): check apt's sources and the network")


def extract(deb: Path, tree: Path) -> None:
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as unpack,
        tarfile.open(fileobj=unpack.stdout, mode="r|") as tar,
    ):
        for member in tar:
            if member.isreg() and KEPT.match(member.name):
                tar.extract(member, tree)


def unpacked_kernel(image: bytes) -> bytes:
    """The ELF kernel inside a bzImage: QEMU boots it directly (PVH), which spares the guest from
    decompressing it, seconds without hardware virtualisation.

    Offsets: Documentation/arch/x86/boot.rst (setup_sects, payload_offset, payload_length).
    """
    setup = ((image[0x1F1] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[setup + offset : setup + offset + length]
    if payload.startswith(b"\xfd7zXZ\0"):  # 6.1
        return lzma.LZMADecompressor().decompress(payload)
    # 6.12: zstd, and in four more bytes the unpacked size, which the program would take for a broken frame
    return subprocess.run(["zstd", "-dcq"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout


def root_modules(modules: Path) -> list[Path]:
    """The module files of ROOT_MODULES in loading order, leaving out what is built in."""
    needs: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        file, _, after = line.partition(":")
        needs[file] = after.split()
        files[Path(file).name.partition(".")[0].replace("-", "_")] = file
    names = (modules / "modules.builtin").read_text().split()
    builtin = {Path(name).stem.replace("-", "_") for name in names}
    order: list[str] = []

    def add(file: str) -> None:
        for needed in needs[file]:
            add(needed)
        if file not in order:
            order.append(file)

    for name in ROOT_MODULES:
        if name in files:
            add(files[name])
        elif name not in builtin:
            raise VMError(f"this kernel has no {name} module: use the amd64 flavour, not the cloud one")
    return [modules / file for file in order]
