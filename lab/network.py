"""The lab's network namespaces, cards and cables; it refuses to put anything into the root namespace."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from lab.folder import Folder, LabError
from lab.plan import (
    ACCESS,
    BRIDGE,
    CORE,
    DATA,
    FIREWALL,
    GATEWAY,
    HOSTS,
    OUTSIDE,
    SWITCHBOARD,
    SWITCHES,
    TRUNKS,
    WAN,
    Host,
    host,
)
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
    for one in SWITCHES:
        batch(one.namespace, _cables(one))
    batch(host(FIREWALL).namespace, [_line_out()])
    for one in HOSTS:
        cards = [f"addr add {card.address}/24 dev {card.name}" for card in one.cards]
        batch(one.namespace, ["link set lo up", f"addr add {one.address}/24 dev eth0", *cards])
    return not mounted_before


def _cables(switch: Host) -> list[str]:
    """The cables from a switch to whatever is plugged into it, and the trunk."""
    lines = [
        f"link add port{card.port} type veth peer name {card.name} address {card.mac} netns {one.namespace}"
        for one in HOSTS
        for card in one.cards
        if card.switch == switch.name
    ]
    if switch.name == ACCESS:
        far = f"port{TRUNKS[CORE]} netns {host(CORE).namespace}"
        lines.append(f"link add port{TRUNKS[ACCESS]} type veth peer name {far}")
    return lines


def _line_out() -> str:
    """The line from the firewall to what stands for the Internet; no switch is on it."""
    near = next(card for card in host(FIREWALL).cards if card.name == WAN)
    far, its = next((one, card) for one in HOSTS for card in one.cards if card.vlan == OUTSIDE and card.name != WAN)
    peer = f"peer name {its.name} address {its.mac} netns {far.namespace}"
    return f"link add {near.name} address {near.mac} type veth {peer}"


def plug(one: Host) -> None:
    """Bring the cards of a host up: it is switched on."""
    # What is not the hospital's leaves the firewall on its outer leg, where only the stand-in for the Internet listens.
    default = f"{DATA}.{OUTSIDE}.2" if one.name == FIREWALL else GATEWAY
    lines = ["link set eth0 up", *(f"link set {card.name} up" for card in one.cards)]
    if one.kind != "firewall":
        lines += [f"route replace {DATA}.0.0/16 via {card.gateway}" for card in one.cards]
    if not any(card.vlan == OUTSIDE and card.name != WAN for card in one.cards):
        lines.append(f"route replace default via {default}")
    lines += [f"link set port{port} up" for port in ports(one)]
    batch(one.namespace, lines)
    if one.name == ACCESS:  # in the small lab, where the core is off, the trunk has a live neighbour all the same
        batch(host(CORE).namespace, [f"link set port{TRUNKS[CORE]} up"])


def unplug(one: Host) -> None:
    """Take the cards of a host down: a host that is off answers nothing, not even with a refusal."""
    cards = ["eth0", *(card.name for card in one.cards), *(f"port{port}" for port in ports(one))]
    batch(one.namespace, [f"link set {card} down" for card in cards])


def cut(one: Host) -> None:
    """Swallow every packet to and from a running host without a word, as a filter that drops does."""
    # The fixed neighbour keeps the sender from noticing: it goes on sending, and nothing comes back.
    known = f"neigh replace {one.address} lladdr {one.mac} dev {BRIDGE} nud permanent"
    batch(SWITCHBOARD, [known, f"link set {one.name} nomaster"])


def mend(hosts: Iterable[Host]) -> None:
    """Undo ``cut``; also harmless on links that were never cut."""
    hosts = list(hosts)
    if not hosts:
        return
    batch(SWITCHBOARD, [f"link set {one.name} master {BRIDGE}" for one in hosts])
    gone = "".join(f"neigh del {one.address} dev {BRIDGE}\n" for one in hosts)  # most of them are not there
    argv = ["ip", "-n", SWITCHBOARD, "-force", "-batch", "-"]
    subprocess.run(argv, input=gone, text=True, capture_output=True, check=False)


def cut_off() -> set[str]:
    """The names of the hosts for which ``cut`` is in force."""
    done = subprocess.run(["ip", "-n", SWITCHBOARD, "-o", "link"], capture_output=True, text=True, check=False)
    links = {words[1].partition("@")[0].rstrip(":"): words for words in map(str.split, done.stdout.splitlines())}
    return {one.name for one in HOSTS if one.name in links and "master" not in links[one.name]}


def remove(unmount: bool) -> None:
    """Delete every lab namespace, and the mount of /run/netns if it was made for us and is empty now."""
    standing = []
    for name in names():
        if inode(name) is None:
            (NETNS / name).unlink(missing_ok=True)
        else:
            standing.append(f"netns del {name}")
    if standing:
        batch(None, standing)
    if unmount and NETNS.is_dir() and not any(NETNS.iterdir()) and os.path.ismount(NETNS):
        run("umount", str(NETNS))


def batch(namespace: str | None, lines: list[str]) -> None:
    """Give `ip` a list of commands in one namespace; all must work."""
    where = ["-n", namespace] if namespace else []
    try:
        run("ip", *where, "-batch", "-", given="\n".join(lines) + "\n")
    except LabError as error:
        raise LabError(f"The network of the lab cannot be set up in {namespace or 'this machine'}: {error}") from None


def ports(one: Host) -> list[int]:
    """The numbers of a switch's ports; none for any other host."""
    taken = [card.port for other in HOSTS for card in other.cards if card.port and card.switch == one.name]
    return sorted([*taken, TRUNKS[one.name]]) if one.name in TRUNKS else []
