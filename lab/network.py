"""The lab's network namespaces, cards and cables; it refuses to put anything into the root namespace."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from lab.folder import Folder, LabError
from lab.plan import BRIDGE, GATEWAY, HOSTS, SWITCH, SWITCHBOARD, UPLINK_PORT, Host, host
from lab.processes import run

NETNS = Path("/run/netns")


def names() -> list[str]:
    """The lab's namespaces that exist now, by the names of its plan: another program's `lab-` is not ours."""
    planned = [SWITCHBOARD, *(one.namespace for one in HOSTS)]
    return [name for name in planned if (NETNS / name).exists()]


def inode(namespace: str) -> int | None:
    """What tells this namespace apart, or None when it does not exist."""
    with contextlib.suppress(OSError):
        found = (NETNS / namespace).stat()
        # A name whose mount has gone (a crash between two steps of `ip`) is an ordinary empty file.
        return found.st_ino if found.st_dev != NETNS.stat().st_dev else None
    return None


def owner() -> str | None:
    """The folder whose lab is up: the bridge carries it as its alias. None when no lab's network stands."""
    if inode(SWITCHBOARD) is None:
        return None
    done = subprocess.run(
        ["ip", "-n", SWITCHBOARD, "-o", "link", "show", BRIDGE], capture_output=True, text=True, check=False
    )
    return done.stdout.partition("alias ")[2].strip() or "" if done.returncode == 0 else ""


def complete() -> bool:
    """Whether every namespace stands."""
    return all(inode(name) is not None for name in [SWITCHBOARD, *(one.namespace for one in HOSTS)])


def build(folder: Folder) -> bool:
    """Make all namespaces, the bridge and the cables. True when /run/netns became a mount by this."""
    mounted_before = os.path.ismount(NETNS)
    batch(None, [f"netns add {SWITCHBOARD}"])
    tag = [f"link add {BRIDGE} type bridge", f"link set {BRIDGE} alias {folder.path}"]
    batch(SWITCHBOARD, [*tag, "link set lo up", f"link set {BRIDGE} up", f"addr add {GATEWAY}/24 dev {BRIDGE}"])
    batch(None, [f"netns add {one.namespace}" for one in HOSTS])
    lines = []
    for one in HOSTS:
        lines.append(f"link add {one.name} type veth peer name eth0 address {one.mac} netns {one.namespace}")
        lines.append(f"link set {one.name} master {BRIDGE} up")
    batch(SWITCHBOARD, lines)
    batch(host(SWITCH).namespace, _switch_cables())
    for one in HOSTS:
        batch(one.namespace, ["link set lo up", f"addr add {one.address}/24 dev eth0"])
    return not mounted_before


def _switch_cables() -> list[str]:
    lines = [
        f"link add port{one.port} type veth peer name eth1 address {one.port_mac} netns {one.namespace}"
        for one in HOSTS
        if one.port
    ]
    # The uplink ends in the switchboard, plugged into nothing: a real trunk port with a live neighbour.
    return [*lines, f"link add port{UPLINK_PORT} type veth peer name uplink netns {SWITCHBOARD}"]


def plug(one: Host) -> None:
    """Bring the cards of a host up: it is switched on."""
    lines = ["link set eth0 up", f"route replace default via {GATEWAY}"]
    if one.port:
        lines.append("link set eth1 up")
    batch(one.namespace, lines)
    if one.name == SWITCH:
        batch(one.namespace, [f"link set port{port} up" for port in _ports()])
        batch(SWITCHBOARD, ["link set uplink up"])


def unplug(one: Host) -> None:
    """Take the cards of a host down: a host that is off answers nothing, not even with a refusal."""
    batch(one.namespace, ["link set eth0 down", *(["link set eth1 down"] if one.port else [])])
    if one.name == SWITCH:
        batch(one.namespace, [f"link set port{port} down" for port in _ports()])


def cut(one: Host) -> None:
    """Swallow every packet to and from a running host without a word, as a filter that drops does."""
    # The fixed neighbour keeps the sender from noticing: it goes on sending, and nothing comes back.
    known = f"neigh replace {one.address} lladdr {one.mac} dev {BRIDGE} nud permanent"
    batch(SWITCHBOARD, [known, f"link set {one.name} nomaster"])


def mend(one: Host) -> None:
    """Undo ``cut``; also harmless on a link that was never cut."""
    batch(SWITCHBOARD, [f"link set {one.name} master {BRIDGE}"])
    subprocess.run(
        ["ip", "-n", SWITCHBOARD, "neigh", "del", one.address, "dev", BRIDGE], capture_output=True, check=False
    )


def is_cut(one: Host) -> bool:
    """Whether ``cut`` is in force for this host."""
    done = subprocess.run(
        ["ip", "-n", SWITCHBOARD, "-o", "link", "show", one.name], capture_output=True, text=True, check=False
    )
    return done.returncode == 0 and " master " not in done.stdout


def remove(unmount: bool) -> None:
    """Delete every lab namespace, and the mount of /run/netns if it was made for us and is empty now."""
    for name in names():
        if inode(name) is None:
            (NETNS / name).unlink(missing_ok=True)
        else:
            run("ip", "netns", "del", name)
    if unmount and NETNS.is_dir() and not any(NETNS.iterdir()) and os.path.ismount(NETNS):
        run("umount", str(NETNS))


def batch(namespace: str | None, lines: list[str]) -> None:
    """Give `ip` a list of commands in one namespace; all must work."""
    where = ["-n", namespace] if namespace else []
    try:
        run("ip", *where, "-batch", "-", given="\n".join(lines) + "\n")
    except LabError as error:
        raise LabError(f"The network of the lab cannot be set up in {namespace or 'this machine'}: {error}") from None


def _ports() -> list[int]:
    return sorted([one.port for one in HOSTS if one.port] + [UPLINK_PORT])
