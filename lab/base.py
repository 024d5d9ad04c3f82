"""The base trees under the hosts, built once by mmdebstrap; it refuses to leave a half-built one behind as done."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from lab.folder import Folder, LabError, alone, say, write_whole
from lab.plan import PLAYER, READER
from lab.processes import run

_COMMON = (
    *("systemd-sysv", "openssh-server", "snmpd", "python3", "sudo", "iproute2", "iputils-ping", "procps", "ethtool"),
    *("kmod", "less"),
)
PACKAGES: dict[str, tuple[str, ...]] = {
    "debian": (
        *_COMMON,
        *("chrony", "nftables", "netbase", "cron", "dbus", "libpam-systemd", "python3-apt", "ca-certificates"),
        "prometheus-node-exporter",
    ),
    "device": (*_COMMON, "openvswitch-switch"),
}
# Fetched into the tree and left in its apt cache: the hosts have no way out, and plays install from here in earnest.
SHELF: dict[str, tuple[str, ...]] = {
    "debian": (
        *("libpam-pwquality", "auditd", "rsyslog", "fail2ban", "unattended-upgrades", "apparmor", "debsecan"),
        *("python3-systemd", "dconf-cli", "clamav", "clamav-daemon", "clamav-freshclam", "cups", "cups-client"),
        *("prometheus", "prometheus-alertmanager", "curl", "prometheus-postgres-exporter"),
        *("prometheus-node-exporter-collectors", "nvme-cli", "jq"),
        *("mdadm", "lvm2", "smartmontools", "btrfs-progs", "acl", "rsync", "rclone", "restic", "fuse", "nginx"),
        *("postgresql", "python3-venv"),
    ),
    "device": (),
}
# Commands that finish a tree; $1 is its root. Accounts have no password: only their key opens them.
_FINISH = (
    'rm -f "$1"/etc/ssh/ssh_host_*',
    f'chroot "$1" useradd --create-home --shell /bin/sh --comment "Collectors, read only" {READER}',
    f'chroot "$1" useradd --create-home --shell /bin/bash --comment "Plays" {PLAYER}',
    f'mkdir -p -m 0700 "$1"/home/{READER}/.ssh "$1"/home/{PLAYER}/.ssh',
    f'chroot "$1" chown {READER}: /home/{READER}/.ssh',
    f'chroot "$1" chown {PLAYER}: /home/{PLAYER}/.ssh',
    f'echo "{PLAYER} ALL=(ALL) NOPASSWD: ALL" > "$1"/etc/sudoers.d/{PLAYER}',
    f'chmod 0440 "$1"/etc/sudoers.d/{PLAYER}',
    'echo "# The lab has no resolver." > "$1"/etc/resolv.conf',
    'rm -f "$1"/etc/hostname "$1"/var/log/apt/* "$1"/var/log/dpkg.log; : > "$1"/etc/machine-id',
)
# Programs on this machine, and the Debian packages that bring them.
_TOOLS = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}


def release() -> str:
    """The code name of this machine's Debian release."""
    told = {}
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        told[key] = value.strip('"')
    name = told.get("VERSION_CODENAME", "")
    if told.get("ID") != "debian" or not name:
        raise LabError("The lab is built from this machine's own Debian release, and this machine is not Debian.")
    return name


def need_tools(tools: Mapping[str, str] = _TOOLS) -> None:
    """Install the Debian packages that bring these programs, by default those of the lab itself, and say so."""
    lacking = sorted({package for program, package in tools.items() if not shutil.which(program)})
    if not lacking:
        return
    if not shutil.which("apt-get"):
        raise LabError(
            f"The lab needs the Debian packages {' '.join(lacking)}, and there is no apt-get to install them."
        )
    say(f"Installing {' '.join(lacking)} by apt-get.")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ("apt-get", "install", "-y", "-q", "--no-install-recommends", *lacking)
    try:
        run(*install, env=quiet)
    except LabError:
        run("apt-get", "update", "-q", env=quiet)
        run(*install, env=quiet)


def tree(folder: Folder, name: str) -> Path:
    """Where the base tree ``name`` of this release and package list lies, built or not."""
    recipe = json.dumps([release(), PACKAGES[name], SHELF[name], _FINISH], sort_keys=True)
    return folder.bases / f"{name}-{release()}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def build(folder: Folder) -> None:
    """Build the trees that are missing. A tree takes its final name only when it is finished."""
    folder.bases.mkdir(parents=True, exist_ok=True)
    with alone(folder.bases / "lock"):
        _build_missing(folder)


def _build_missing(folder: Folder) -> None:
    for left in folder.bases.glob(".building-*"):
        _remove_tree(left)
    for name, packages in PACKAGES.items():
        done = tree(folder, name)
        if done.is_dir():
            continue
        began = time.monotonic()
        say(f"Building the base tree {done.name} with mmdebstrap ({len(packages)} packages and what they need).")
        work = done.with_name(f".building-{done.name}")
        _mmdebstrap(folder, name, work)
        work.rename(done)
        say(f"Base tree {done.name} is built ({time.monotonic() - began:.0f} s).")


def _mmdebstrap(folder: Folder, name: str, work: Path) -> None:
    sources = folder.bases / "sources.list"
    write_whole(sources, _sources())
    argv = [
        # Whatever ends this program also ends the build, with everything it started.
        *("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES[name])}"),
        *(f"--customize-hook={command}" for command in (*_shelve(name), *_FINISH)),
        *(("--skip=cleanup/apt",) if SHELF[name] else ()),
        *(release(), str(work)),
    ]
    if sources.read_text(encoding="utf-8"):
        argv.append(str(sources))
    log = folder.bases / f"{name}.log"
    with log.open("wb") as out:
        code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False).returncode
    if code != 0:
        raise LabError(f"mmdebstrap could not build the base tree {name} ({code}); its words are in {log}.")


def _shelve(name: str) -> tuple[str, ...]:
    """The command that fetches what lies on the shelf, with what it needs, by this machine's own apt."""
    if not SHELF[name]:
        return ()
    fetch = "apt-get -y -qq --no-install-recommends --download-only install"
    return (f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" {fetch} {" ".join(SHELF[name])}',)


def _sources() -> str:
    """This machine's own Debian sources as one-line entries; empty (mmdebstrap's own choice) when apt tells none."""
    form = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(CODENAME)"
    told = run("apt-get", "indextargets", "--format", form, "Created-By: Packages")
    lines = set()
    for line in told.splitlines():
        origin, uri, suite, component, _ = line.split("|")
        if origin == "Debian" and suite.startswith(release()) and component == "main":
            lines.add(f"deb {uri} {suite} {component}\n")
    return "".join(sorted(lines)) if any(f" {release()} main" in line for line in lines) else ""


def _remove_tree(path: Path) -> None:
    if any(f" {path}" in line for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()):
        raise LabError(f"Something is mounted below {path}, the rest of an interrupted build; unmount it first.")
    shutil.rmtree(path)
