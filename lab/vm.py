"""The lab's guest: a QEMU machine with a Debian kernel of its own on the lab's bridge; it refuses a second one."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import base, guest, handover, hosts, network, processes, provision
from lab.folder import Folder, LabError, boot_id, say, write_whole
from lab.plan import GATEWAY, GUEST, NAME, PLAYER, SWITCHBOARD
from lab.processes import Process, run
from lab.qmp import Monitor

DISKS = ("LAB-A1", "LAB-A2", "LAB-B1")
"""Serial numbers of the NVMe disks that are plugged in from the start, empty."""

ATA_DISK = "LAB-S1"
"""Serial number of a disk on an IDE bus, the only kind for which QEMU shows ATA attributes; it cannot be pulled."""

DISK_MIB = 192
_MEMORY_MIB = 640
_BOOT_SECONDS = 240.0
_PROBE_SECONDS = 10.0
_STOP_SECONDS = 5.0
_REACHED = "lab-guest-reached-user-space"
_QEMU = "qemu-system-x86_64"
_ACCELERATORS = {
    "kvm": ("-accel", "kvm", "-cpu", "host"),
    # Emulated: the plainest processor, and one of it. Each further feature (five levels of page tables among them) is
    # work for the emulation, and two processors wait for each other whenever this machine has less than two to spare.
    "tcg": ("-accel", "tcg,thread=multi,tb-size=256", "-cpu", "qemu64"),
}
_PROCESSORS = {"kvm": "2", "tcg": "1"}
_COMMAND_LINE = (
    "console=ttyS0 quiet net.ifnames=0 mitigations=off raid=noautodetect nokaslr rcupdate.rcu_expedited=1 "
    "random.trust_cpu=on"
)


@dataclass(frozen=True)
class Running:
    """The guest as the last command left it: its process, how it is run, and the rights it was started with."""

    process: Process
    accelerator: str
    rights: str

    @classmethod
    def recalled(cls, folder: Folder) -> Running | None:
        """The guest if that very process still lives."""
        try:
            found = json.loads((folder.guest / "state.json").read_text(encoding="utf-8"))
            process = Process(int(found["pid"]), int(found["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if found.get("boot") != boot_id() or not process.alive:
            return None
        return cls(process, str(found["accelerator"]), str(found["rights"]))


def up(folder: Folder) -> None:
    """Start the guest from its pristine disk with empty data disks, unless it is up; then wait until it answers."""
    began = time.monotonic()
    if network.owner() != str(folder.path):
        raise LabError("The lab is not up; bring it up with script/lab up first.")
    image = guest.build(folder)
    rights = provision.reader_rights()
    digest = hashlib.sha256(repr((rights, image.folder.name)).encode()).hexdigest()[:16]
    running = Running.recalled(folder)
    if running and running.rights == digest and not hosts.silent([GUEST], 5.0):
        _hand_over(folder)
        say(f"The guest {GUEST.name} {GUEST.address} is up already ({running.accelerator}).")
        return
    stop(folder)
    _lay_out(folder, image, rights)
    accelerator = _accelerator(folder, image)
    _plug_in()
    _start(folder, image, accelerator, digest)
    _await(folder)
    _hand_over(folder)
    say(f"The guest {GUEST.name} {GUEST.address} is up after {time.monotonic() - began:.1f} s ({accelerator}).")
    say(f"Inventory {folder.guest_inventory}, to be loaded after {folder.inventory.name}.")


def stop(folder: Folder) -> None:
    """Switch the guest off as by its power switch and take its cable away; harmless when there is none."""
    running = Running.recalled(folder)
    theirs = {*_survivors(folder), *([running.process] if running else [])}
    processes.end(theirs, _STOP_SECONDS)
    if network.inode(SWITCHBOARD) is not None:
        subprocess.run(["ip", "-n", SWITCHBOARD, "link", "del", GUEST.name], capture_output=True, check=False)
    folder.guest_inventory.unlink(missing_ok=True)
    (folder.guest / "state.json").unlink(missing_ok=True)
    if (folder.guest / "run").is_dir():
        shutil.rmtree(folder.guest / "run")


def status(folder: Folder) -> dict[str, Any]:
    """The guest as it is now: up or down, address, pid, memory in KiB, accelerator and the plugged disks."""
    running = Running.recalled(folder)
    row: dict[str, Any] = {"name": GUEST.name, "address": GUEST.address, "up": running is not None}
    if running:
        with Monitor(folder.guest / "run") as monitor:
            row["disks"] = sorted(_plugged(monitor))
        row |= {"pid": running.process.pid, "accelerator": running.accelerator}
        row["memory_kib"] = processes.proportional_kib([running.process])
    return row


def command(folder: Folder, words: list[str]) -> list[str]:
    """The argv that runs a program in the guest, as root there, with the caller's streams."""
    hosts_file = f"UserKnownHostsFile={folder.known_hosts}"
    strict = ("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", hosts_file, "-o", "ConnectTimeout=20")
    key = str(folder.key("play"))
    ssh = ("ssh", "-F", "none", "-i", key, *strict, f"{PLAYER}@{GUEST.address}", "sudo", "-n", "--", shlex.join(words))
    return ["nsenter", f"--net={network.NETNS / SWITCHBOARD}", "--", *ssh]


# ------------------------------------------------------------------------------------------------------ disks


def pull(folder: Folder, serial: str) -> None:
    """Pull a disk out of the running guest, as a hand would; raises LabError when it is not plugged in."""
    with _monitor(folder) as monitor:
        if serial not in _plugged(monitor):
            raise LabError(f"The guest has no disk {serial} that can be pulled.")
        monitor.ask("device_del", id=serial)
        monitor.await_event("DEVICE_DELETED", serial, 60.0)
        monitor.ask("blockdev-del", **{"node-name": _node(serial)})
    say(f"{serial}: pulled.")


def plug(folder: Folder, serial: str) -> None:
    """Plug a disk into the running guest: a new empty one, or one that was pulled before, with what it holds."""
    with _monitor(folder) as monitor:
        if serial in _plugged(monitor) or serial == ATA_DISK:
            raise LabError(f"The guest has the disk {serial} already.")
        path = _disk_file(folder, serial)
        node = {"driver": "raw", "file": {"driver": "file", "filename": str(path)}, "cache": {"no-flush": True}}
        monitor.ask("blockdev-add", **{"node-name": _node(serial), **node})
        monitor.ask("device_add", driver="nvme", id=serial, serial=serial, drive=_node(serial))
    say(f"{serial}: plugged in.")


def judge(folder: Folder, serial: str, failing: bool) -> None:
    """Let a disk say of itself that its reliability is degraded (NVMe critical warning, bit 2), or that all is well."""
    with _monitor(folder) as monitor:
        if serial not in _plugged(monitor):
            raise LabError(f"The guest has no NVMe disk {serial}.")
        path = f"/machine/peripheral/{serial}"
        monitor.ask("qom-set", path=path, property="smart_critical_warning", value=4 if failing else 0)
    say(f"{serial}: {'fails by its own account' if failing else 'well again'}.")


def _plugged(monitor: Monitor) -> set[str]:
    parts = monitor.ask("qom-list", path="/machine/peripheral")
    return {part["name"] for part in parts if part["type"] == "child<nvme>"}


def _node(serial: str) -> str:
    return f"{serial}-node"


def _disk_file(folder: Folder, serial: str) -> Path:
    path = folder.guest / "run" / f"{serial}.img"
    if not path.exists():
        with path.open("wb") as out:
            out.truncate(DISK_MIB * 1024**2)
    return path


@contextlib.contextmanager
def _monitor(folder: Folder) -> Iterator[Monitor]:
    if Running.recalled(folder) is None:
        raise LabError("The guest is not up; bring it up with script/lab vm up.")
    with Monitor(folder.guest / "run") as monitor:
        yield monitor


# ----------------------------------------------------------------------------------------------------- starting


def _lay_out(folder: Folder, image: guest.Image, rights: provision.ReaderRights) -> None:
    """Write what this start needs: the initial memory disk with the guest's own files, and empty data disks."""
    place = folder.guest / "run"
    place.mkdir(parents=True, exist_ok=True)
    tree = base.tree(folder, "debian")
    if not folder.host_keys(GUEST.name).is_dir():
        provision.new_host_keys(folder, GUEST.name)
    shutil.rmtree(folder.host_dir(GUEST.name), ignore_errors=True)
    provision.prepare(folder, GUEST, tree, rights, systemd=True)
    upper = folder.host_dir(GUEST.name) / "upper"
    card = f"[Match]\nDriver=virtio_net\n[Network]\nAddress={GUEST.address}/24\nGateway={GATEWAY}\n"
    provision.Root(upper, tree).put("etc/systemd/network/10-lab.network", card)
    own = place / "own"
    own.mkdir()
    upper.rename(own / "files")
    shutil.rmtree(folder.host_dir(GUEST.name))
    # The kernel takes one archive after another and lays each over the ones before.
    whole = image.first.read_bytes() + gzip.compress(guest.archive(own), 1)
    (place / "initrd").write_bytes(whole)
    (place / "initrd").chmod(0o600)
    shutil.rmtree(own)
    for serial in (*DISKS, ATA_DISK):
        _disk_file(folder, serial)


def _accelerator(folder: Folder, image: guest.Image) -> str:
    """``kvm`` where a kernel reaches user space with it in seconds, ``tcg`` otherwise: the device proves nothing."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    noted = folder.guest / "accelerator.json"
    key = [boot_id(), image.folder.name, run(_QEMU, "--version").splitlines()[0]]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(noted.read_text(encoding="utf-8"))
        if found["key"] == key:
            return str(found["accelerator"])
    probe = [*_ACCELERATORS["kvm"], "-m", "256", "-serial", "stdio", "-no-reboot"]
    boot = ["-kernel", str(image.kernel), "-initrd", str(image.first), "-append", f"{_COMMAND_LINE} lab.probe"]
    said = ""
    try:
        done = subprocess.run(
            [_QEMU, *_BARE, *probe, *boot],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_PROBE_SECONDS,
        )
        said = done.stdout.decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        pass  # the process is ended by then
    chosen = "kvm" if _REACHED in said else "tcg"
    write_whole(noted, json.dumps({"key": key, "accelerator": chosen}) + "\n")
    return chosen


_BARE = ("-nodefaults", "-no-user-config", "-machine", "pc", "-display", "none", "-vga", "none")


def _plug_in() -> None:
    subprocess.run(["ip", "-n", SWITCHBOARD, "link", "del", GUEST.name], capture_output=True, check=False)
    card = GUEST.name
    network.batch(SWITCHBOARD, [f"tuntap add dev {card} mode tap", f"link set {card} master {network.BRIDGE} up"])


def _start(folder: Folder, image: guest.Image, accelerator: str, digest: str) -> None:
    place = folder.guest / "run"
    argv = ["nsenter", f"--net={network.NETNS / SWITCHBOARD}", "--", *_argv(image, accelerator)]
    with (place / "qemu.log").open("wb") as log:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=place,
            env={**os.environ, "TMPDIR": str(place)},
            start_new_session=True,
        )
    process = Process.of(child.pid)
    if process is None:
        raise LabError(f"The guest ended at once: {_last_words(folder)}")
    state = {"pid": process.pid, "started": process.started, "boot": boot_id()}
    write_whole(folder.guest / "state.json", json.dumps({**state, "accelerator": accelerator, "rights": digest}) + "\n")


def _argv(image: guest.Image, accelerator: str) -> list[str]:
    """QEMU's command line. Paths below the guest's folder are relative: a socket's path may not be long."""
    argv = [_QEMU, "-name", f"{NAME}-guest", *_BARE, *_ACCELERATORS[accelerator]]
    argv += ["-smp", _PROCESSORS[accelerator], "-m", str(_MEMORY_MIB)]
    argv += ["-kernel", str(image.kernel), "-initrd", "initrd", "-append", _COMMAND_LINE]
    argv += ["-serial", "file:console.log", "-qmp", "unix:qmp,server=on,wait=off"]
    # What the guest writes to its root goes to a nameless file that is gone with it: each start is pristine.
    argv += ["-drive", f"file={image.disk},format=raw,if=none,id=root,snapshot=on,cache=unsafe"]
    argv += ["-device", "virtio-blk-pci,drive=root,serial=LAB-ROOT", "-device", "virtio-rng-pci"]
    argv += ["-netdev", f"tap,id=net0,ifname={GUEST.name},script=no,downscript=no"]
    argv += ["-device", f"virtio-net-pci,netdev=net0,mac={GUEST.mac},romfile="]
    for serial in (*DISKS, ATA_DISK):
        node = f"driver=raw,node-name={_node(serial)},cache.no-flush=on,file.driver=file"
        argv += ["-blockdev", f"{node},file.filename={serial}.img"]
        kind = "ide-hd,bus=ide.0" if serial == ATA_DISK else "nvme"
        argv += ["-device", f"{kind},id={serial},serial={serial},drive={_node(serial)}"]
    return argv


def _await(folder: Folder) -> None:
    end = time.monotonic() + _BOOT_SECONDS
    while quiet := hosts.silent([GUEST], 2.0):
        if Running.recalled(folder) is None:
            raise LabError(f"The guest ended: {_last_words(folder)}")
        if time.monotonic() > end:
            raise LabError(f"The guest does not answer within {_BOOT_SECONDS:.0f} s ({quiet}): {_last_words(folder)}")


def _hand_over(folder: Folder) -> None:
    handover.write_known_hosts(folder)
    handover.write_guest_inventory(folder)


def _survivors(folder: Folder) -> list[Process]:
    """A QEMU that works in the guest's folder and that no note tells of: what a crash between two steps leaves."""
    place = str(folder.guest / "run")
    found = []
    for pid in processes.all_pids():
        with contextlib.suppress(OSError):
            program = Path(f"/proc/{pid}/exe").readlink().name
            if program.startswith("qemu-system") and str(Path(f"/proc/{pid}/cwd").readlink()) == place:
                found += filter(None, [Process.of(pid)])
    return found


def _last_words(folder: Folder) -> str:
    words = []
    for name in ("qemu.log", "console.log"):
        with contextlib.suppress(OSError):
            words += (folder.guest / "run" / name).read_text(encoding="utf-8", errors="replace").split()
    return " ".join(words)[-300:] or "it wrote nothing"
