"""The disk, kernel and first program of the lab's guest, built once for each set of inputs; it starts no machine."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import platform
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import base
from lab.folder import Folder, LabError, say
from lab.processes import run

_BOOT = Path(__file__).resolve().parent / "boot" / "guest"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
# Beyond what the lab's Debian tree holds. Installed beforehand: under emulation dpkg alone takes half a minute.
PACKAGES = (
    *("mdadm", "lvm2", "smartmontools", "cryptsetup-bin", "cryptsetup", "btrfs-progs", "udev"),
    *("prometheus-node-exporter-collectors", "nvme-cli", "jq"),
)
ENABLED = ("systemd-networkd", "ssh", "snmpd", "prometheus-node-exporter")
# What a machine without a screen, a clock source or a way out waits for in vain; each costs seconds under emulation.
MASKED = (
    *("getty@tty1.service", "serial-getty@ttyS0.service", "chrony.service"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("e2scrub_reap.service", "systemd-pstore.service", "systemd-update-utmp.service", "systemd-rfkill.service"),
    *("dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("prometheus-node-exporter-apt.timer", "prometheus-node-exporter-nvme.timer"),
    *("prometheus-node-exporter-smartmon.timer", "prometheus-node-exporter-mellanox-hca-temp.timer"),
    "prometheus-node-exporter-ipmitool-sensor.timer",
)
_ROOT_MODULES = ("virtio_pci", "virtio_blk")  # with ext4 all it takes to reach the root disk
# Programs on this machine, and the Debian packages that bring them.
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mke2fs": "e2fsprogs",
    "busybox": "busybox-static",
    "dpkg-deb": "dpkg",
}


@dataclass(frozen=True)
class Image:
    """What a guest starts from; ``first`` holds the first program and the modules, without a start's own files."""

    folder: Path

    @property
    def disk(self) -> Path:
        """The root file system, never written to once it is built."""
        return self.folder / "root.img"

    @property
    def kernel(self) -> Path:
        """The kernel as QEMU takes it."""
        return self.folder / "vmlinuz"

    @property
    def first(self) -> Path:
        """The part of the initial memory disk that is the same at every start (newc archive, gzip)."""
        return self.folder / "first.cpio.gz"


def build(folder: Folder) -> Image:
    """The image for today's inputs, built if it is not there. Raises LabError in words when it cannot be built."""
    if platform.machine() != "x86_64":
        raise LabError("The guest is built for x86_64 alone, and this machine is another one.")
    base.need_tools(TOOLS)
    tree = base.tree(folder, "debian")
    if not tree.is_dir():
        raise LabError("The lab's Debian tree is not built yet; bring the lab up first with script/lab up.")
    package = _kernel_package()
    place = folder.guest
    image = Image(place / f"image-{_recipe(tree.name, package)}")
    if image.folder.is_dir():
        return image
    began = time.monotonic()
    say(f"Building the guest's disk from {tree.name} and {package}.")
    place.mkdir(parents=True, exist_ok=True)
    for left in place.glob(".building-*"):
        shutil.rmtree(left)
    work = place / f".building-{image.folder.name}"
    _assemble(tree, package, work)
    (work / "done").rename(image.folder)
    shutil.rmtree(work)
    say(f"The guest's disk is built ({time.monotonic() - began:.0f} s).")
    return image


def _recipe(tree: str, package: str) -> str:
    words = [path.read_text(encoding="utf-8") for path in sorted(_BOOT.iterdir())]
    recipe = json.dumps([tree, package, PACKAGES, ENABLED, MASKED, _ROOT_MODULES, words])
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def _kernel_package() -> str:
    """The package of the kernel that Debian's name for cloud machines stands for now."""
    told = run("apt-cache", "depends", KERNEL_PACKAGE)
    names = [line.split()[1] for line in told.splitlines() if line.strip().startswith("Depends:")]
    if len(names) != 1 or not names[0].startswith("linux-image-"):
        raise LabError(f"apt does not tell which kernel {KERNEL_PACKAGE} stands for.")
    return names[0]


def _assemble(tree: Path, package: str, work: Path) -> None:
    debs, kernel, done = work / "debs", work / "kernel", work / "done"
    for path in (debs / "partial", kernel, done):
        path.mkdir(parents=True)
    _fetch(tree, package, debs)
    packed = next(debs.glob("linux-image-*.deb"))
    run("dpkg-deb", "--extract", str(packed), str(kernel))
    packed.unlink()
    image = Image(done)
    shell = ["sh", str(_BOOT / "image.sh"), str(tree), str(debs), str(kernel), str(work), str(image.disk)]
    private = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    with (work.parent / "image.log").open("wb") as log:
        code = subprocess.run(
            [*private, *shell, " ".join(ENABLED), " ".join(MASKED)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        ).returncode
    if code != 0:
        raise LabError(f"The guest's disk could not be made ({code}); the words are in {work.parent / 'image.log'}.")
    shutil.copy(next((kernel / "boot").glob("vmlinuz-*")), image.kernel)
    first = work / "first"
    _first_program(kernel, first)
    image.first.write_bytes(gzip.compress(archive(first), 6))


def _fetch(tree: Path, package: str, debs: Path) -> None:
    """Let this machine's own apt fetch what the tree lacks, and the kernel; nothing is installed on this machine."""
    apt = ("apt-get", "-q", "-y", "-o", "APT::Sandbox::User=root")
    into = ("-o", f"Dir::State::status={tree}/var/lib/dpkg/status", "-o", f"Dir::Cache::archives={debs}")
    fetch = (
        *apt,
        *into,
        "-o",
        "Debug::NoLocking=1",
        "--no-install-recommends",
        "--download-only",
        "install",
        *PACKAGES,
    )
    try:
        run(*fetch)
        run(*apt, "download", package, cwd=debs)
    except LabError:
        run("apt-get", "update", "-q")
        run(*fetch)
        run(*apt, "download", package, cwd=debs)


def _first_program(kernel: Path, place: Path) -> None:
    """Lay out the files of the initial memory disk: a static shell, the modules and the order they load in."""
    modules = next((kernel / "lib" / "modules").iterdir())
    for name in ("bin", "modules", "proc", "sys", "dev", "root", "files"):
        (place / name).mkdir(parents=True)
    busybox = Path(shutil.which("busybox") or "/usr/bin/busybox")
    shutil.copy(busybox, place / "bin" / "busybox")
    shutil.copy(_BOOT / "initrd-init", place / "init")
    (place / "init").chmod(0o755)
    (place / "bin" / "busybox").chmod(0o755)
    order = []
    for path in _with_dependencies(modules):
        data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        name = path.name.removesuffix(".xz")
        (place / "modules" / name).write_bytes(data)
        order.append(name + "\n")
    (place / "modules" / "order").write_text("".join(order), encoding="ascii")


def _with_dependencies(modules: Path) -> list[Path]:
    """The files of the modules that reach the root disk, each after those it needs; what is built in is none."""
    run("depmod", "-b", str(modules.parents[2]), modules.name)
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text(encoding="ascii").splitlines():
        path, _, others = line.partition(":")
        needs[Path(path).name.partition(".ko")[0]] = [path, *others.split()]
    found: list[str] = []
    for name in _ROOT_MODULES:
        own, *others = needs.get(name, [""])
        found += [path for path in [*reversed(others), own] if path and path not in found]
    return [modules / path for path in found]


def archive(place: Path) -> bytes:
    """A folder as a newc archive: what the kernel unpacks as its first file system. Owners and modes are kept."""
    parts = []
    for number, path in enumerate(_walk(place), start=1):
        about = path.lstat()
        data = b""
        if stat.S_ISLNK(about.st_mode):
            data = str(path.readlink()).encode()
        elif stat.S_ISREG(about.st_mode):
            data = path.read_bytes()
        parts.append(_entry(str(path.relative_to(place)), data, about.st_mode, (about.st_uid, about.st_gid), number))
    return b"".join([*parts, _entry("TRAILER!!!", b"", 0, (0, 0), 0)])


def _walk(place: Path) -> Iterator[Path]:
    """Everything below a folder, each folder before what it holds."""
    for path in sorted(place.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _entry(name: str, data: bytes, mode: int, owner: tuple[int, int], number: int) -> bytes:
    """One file of a newc archive: a head of hexadecimal numbers, the name, the data, each filled up to four bytes."""
    sign = name.encode() + b"\0"
    figures = (number, mode, *owner, 1, 0, len(data), 0, 0, 0, 0, len(sign), 0)
    head = b"070701" + b"".join(b"%08X" % figure for figure in figures) + sign
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
