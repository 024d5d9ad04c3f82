"""Starting and ending one host; it refuses to leave a process, a mount or a cgroup of it behind."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import base, network, processes, provision
from lab.folder import Folder, LabError
from lab.plan import DROPPED_RIGHTS, NAME, SWITCHBOARD, Host
from lab.processes import Process

_HERE = Path(__file__).resolve().parent
_CGROUPS = Path("/sys/fs/cgroup")
_STOP_SECONDS = 10.0  # for systemd to stop its services; it takes a fraction of a second here
_ANSWERS = {"ssh": "ssh", "snmp": "snmpd"}  # what is waited for, and the service that gives it
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

SYSTEMD, NAMESPACES = "systemd", "namespaces"


@dataclass(frozen=True)
class Running:
    """A started host: the process that carries it, how it was started, and a word if that is not how it should be."""

    process: Process
    how: str
    note: str = ""

    @classmethod
    def recalled(cls, folder: Folder, name: str) -> Running | None:
        """The host as the last command left it, if that very process still lives."""
        record = folder.remembered()["hosts"].get(name)
        if not isinstance(record, dict):
            return None
        running = cls(Process(int(record["pid"]), int(record["started"])), record["how"], record.get("note", ""))
        return running if running.process.alive else None

    @property
    def first(self) -> int | None:
        """Process 1 of the host, as numbered on this machine."""
        return processes.first_of(self.process.pid)


def remember(folder: Folder, changes: dict[str, Running | None]) -> None:
    """Write down at once what was started or ended, so that a crash a moment later can be cleaned up."""
    state = folder.remembered()
    for name, running in changes.items():
        state["hosts"].pop(name, None)
        if running:
            pid, started = running.process.pid, running.process.started
            state["hosts"][name] = {"pid": pid, "started": started, "how": running.how, "note": running.note}
    folder.remember(state)


def start(folder: Folder, one: Host, rights: provision.ReaderRights, note: str = "") -> Running:
    """Write the host's files, plug it in and start it; with a ``note``, without systemd. Does not wait for it."""
    systemd = one.systemd and not note
    tree = base.tree(folder, one.tree)
    provision.prepare(folder, one, tree, rights, systemd)
    network.plug(one)
    shell = ["sh", str(_HERE / "boot" / ("nspawn.sh" if systemd else "namespace.sh"))]
    shell += [one.name, str(tree), str(folder.host_dir(one.name))]
    if systemd:
        groups = cgroups(one.name)
        for group in groups:
            group.mkdir(parents=True, exist_ok=True)
        argv = ["unshare", "--mount", *shell, str(network.NETNS / one.namespace), *map(str, groups)]
    else:
        spaces = ["--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        argv = ["nsenter", f"--net={network.NETNS / one.namespace}", "unshare", *spaces, *shell, DROPPED_RIGHTS]
    with (folder.host_dir(one.name) / "console.log").open("wb") as log:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    process = Process.of(child.pid)
    if process is None:
        raise LabError(f"Host {one.name} ended at once: {last_words(folder, one)}")
    running = Running(process, SYSTEMD if systemd else NAMESPACES, note)
    remember(folder, {one.name: running})
    return running


def stop(folder: Folder, hosts: Iterable[Host]) -> None:
    """Switch hosts off: those with systemd in order, the others at once, as by their power switch."""
    hosts = list(hosts)
    gentle: list[Process] = []
    hard: list[Process] = []
    for one in hosts:
        running = Running.recalled(folder, one.name)
        if running:
            (gentle if running.how == SYSTEMD else hard).append(running.process)
    processes.end(hard, 0)
    processes.end(gentle, _STOP_SECONDS)
    processes.end(survivors(hosts), 0)
    for one in hosts:
        remove_cgroups(one.name)
    remember(folder, {one.name: None for one in hosts})


def unplug(hosts: Iterable[Host]) -> None:
    """Take the cards of hosts down; a network that a crash left unfinished is passed over, it goes as a whole later."""
    for one in hosts:
        if network.inode(one.namespace) is not None:
            with contextlib.suppress(LabError):
                network.unplug(one)


def survivors(hosts: Iterable[Host]) -> list[Process]:
    """Processes of hosts that their own parents did not take along, told by their namespace or cgroup."""
    found: set[Process] = set()
    inodes = {inode for one in hosts if (inode := network.inode(one.namespace)) is not None}
    for theirs in processes.within("net", inodes).values() if inodes else ():
        found.update(theirs)
    groups = [group for one in hosts for group in cgroups(one.name) if group.is_dir()]
    for path in [path for group in groups for path in (group, *group.rglob("*"))]:
        with contextlib.suppress(OSError):
            found.update(filter(None, map(Process.of, map(int, (path / "cgroup.procs").read_text().split()))))
    return [process for process in found if process.pid != os.getpid()]


def cgroups(name: str) -> list[Path]:
    """The cgroup folders a systemd host lives in: one where version 2 stands alone, two where it is mixed."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS / f"emr-{NAME}" / name]
    return [_CGROUPS / part / f"emr-{NAME}" / name for part in ("systemd", "unified") if (_CGROUPS / part).is_dir()]


def remove_cgroups(name: str) -> None:
    """Remove a host's cgroups, and the lab's own above them when they are empty."""
    end = time.monotonic() + 5
    for group in cgroups(name):
        while group.is_dir():
            for path in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    path.rmdir()
            try:
                group.rmdir()
            except OSError:
                if time.monotonic() > end:
                    raise LabError(f"The cgroup {group} cannot be removed: something still runs in it.") from None
                time.sleep(0.05)
        with contextlib.suppress(OSError):
            group.parent.rmdir()


def last_words(folder: Folder, one: Host) -> str:
    """The end of what a host wrote on its console."""
    with contextlib.suppress(OSError):
        text = (folder.host_dir(one.name) / "console.log").read_text(encoding="utf-8", errors="replace")
        return " ".join(_COLOURS.sub("", text).split())[-300:] or "it wrote nothing"
    return "it wrote nothing"


def awaited(folder: Folder, hosts: list[Host], seconds: float) -> str:
    """Wait until these hosts answer; in words what is wrong after ``seconds`` or when one has ended, or nothing."""
    end = time.monotonic() + seconds
    while quiet := silent(hosts, min(2.0, max(0.1, end - time.monotonic()))):
        ended = [one for one in hosts if Running.recalled(folder, one.name) is None]
        if ended:
            return "; ".join(f"{one.name} ended: {last_words(folder, one)}" for one in ended)
        if time.monotonic() > end:
            return f"no answer within {seconds:.0f} s from {quiet}"
    return ""


def silent(hosts: Iterable[Host], seconds: float) -> str:
    """Which of these hosts do not answer within ``seconds``, in words; nothing when all do."""
    addresses = [
        f"{one.address}/{word}" for one in hosts for word, service in _ANSWERS.items() if service in one.services
    ]
    if not addresses:
        return ""
    argv = ["nsenter", f"--net={network.NETNS / SWITCHBOARD}", sys.executable, "-I", str(_HERE / "ready.py")]
    done = subprocess.run([*argv, str(seconds), *addresses], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode in (0, 1) else f"({done.stderr.strip()[-200:]})"


def enter(first: int, command: list[str]) -> list[str]:
    """The argv that runs ``command`` inside a host, as root there, without the rights its own root lacks."""
    clean = ["/usr/bin/env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
    spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
    # Rights that are inherited outlive the bounding set, so these go as well.
    drop = ["setpriv", "--ambient-caps=-all", "--inh-caps=-all", f"--bounding-set={DROPPED_RIGHTS}"]
    return ["nsenter", f"--target={first}", *spaces, *clean, *drop, *command]


def state(folder: Folder, wanted: Iterable[Host]) -> list[dict[str, Any]]:
    """These hosts as they are now: name, address, up or down, how they run, pid, memory in KiB, and a word."""
    rows = []
    cut = network.cut_off()
    found = {one.name: Running.recalled(folder, one.name) for one in wanted}
    firsts = {name: running.first if running else None for name, running in found.items()}
    spaces = {name: Path(f"/proc/{first}/ns/pid").stat().st_ino for name, first in firsts.items() if first is not None}
    theirs = processes.within("pid", spaces.values())
    for one in wanted:
        running, first = found[one.name], firsts[one.name]
        row: dict[str, Any] = {"name": one.name, "kind": one.kind, "address": one.address, "up": first is not None}
        if running and first is not None:
            inside = theirs[spaces[one.name]]
            note = " ".join(filter(None, [running.note, "its link is cut" if one.name in cut else ""]))
            memory = processes.proportional_kib(inside)
            row |= {"how": running.how, "pid": first, "processes": len(inside), "memory_kib": memory, "note": note}
        rows.append(row)
    return rows


def forget_roots(folder: Folder) -> None:
    """Delete what the hosts have written, so that they start from the pristine base tree."""
    if (folder.path / "hosts").is_dir():
        shutil.rmtree(folder.path / "hosts")
