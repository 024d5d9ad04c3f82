"""Interfaces, addresses, open ports and the host's own firewall. It sends nothing: it reads what the kernel holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from controlplane.collect.facts.linux_text import lines, part, rows
from controlplane.domain.model import Fact

INSECURE = {
    "tcp": {7, 9, 13, 19, 21, 23, 79, 111, 139, 445, 512, 513, 514, 873, 2049, 5900, 6000},
    "udp": {7, 9, 13, 17, 19, 69, 111, 137, 138},
}
"""Ports of services that send passwords or data in the clear, or that a host of the hospital has no need to offer."""

DATABASES = {1433, 1521, 3306, 5432, 6379, 9200, 27017}
"""Ports of database servers: they should listen only where the application needs them."""

_FIRST_EPHEMERAL = 32768
_VIRTUAL = re.compile(r"^(lo|veth|docker|br-|virbr|tap|tun|dummy|vnet|cni|flannel|cali|ifb)")


def listening(text: str) -> Iterator[tuple[str, int]]:
    """(protocol, port) of every socket that others can reach."""
    for line in lines(text):
        cells = line.split()
        if len(cells) < 5 or cells[0] not in ("tcp", "udp"):
            raise ValueError("not a line of ss")
        address, _, port = cells[4].rpartition(":")
        if not re.fullmatch(r"[0-9]{1,5}", port):
            raise ValueError("a socket without a port")
        if not address.startswith(("127.", "[::1]", "[::ffff:127.")):
            yield cells[0], int(port)


def read_listening(text: str) -> dict[str, Any]:
    """Ports open to others; passing UDP ports are left out. With the insecure ones and the databases apart."""
    found = set(listening(text))
    insecure = sorted(f"{protocol}/{port}" for protocol, port in found if port in INSECURE[protocol])
    databases = sorted(port for protocol, port in found if protocol == "tcp" and port in DATABASES)
    return {
        "tcp": sorted(port for protocol, port in found if protocol == "tcp"),
        "udp": sorted(port for protocol, port in found if protocol == "udp" and port < _FIRST_EPHEMERAL),
        "insecure": insecure,
        "insecure_count": len(insecure),
        "databases": databases,
    }


def read_interfaces(text: str) -> list[dict[str, Any]]:
    """Real interfaces: MAC, link state and speed (no figure when the link is down or has none)."""
    links, speeds = part(text, "links", "speeds")
    speed = dict(re.findall(r"^/sys/class/net/([^/\s]+)/speed:([0-9]{1,7})$", speeds, re.MULTILINE))
    found = []
    for link in rows(links):
        name = str(link.get("ifname"))
        if _VIRTUAL.match(name) or link.get("link_type") != "ether":
            continue
        found.append(
            {
                "interface": name,
                "mac": str(link.get("address", "")),
                "state": str(link.get("operstate", "")).lower(),
                "speed_mbps": int(speed[name]) if name in speed else None,
            }
        )
    return sorted(found, key=lambda row: str(row["interface"]))


def read_addresses(text: str) -> dict[str, Any]:
    """Addresses that others can use; ``dynamic`` counts those that somebody else leases (DHCP)."""
    found = []
    for link in rows(text):
        info = link.get("addr_info") or []
        if not isinstance(info, list) or not all(isinstance(a, dict) for a in info):
            raise ValueError("not a list of addresses")
        for address in info:
            if address.get("scope") == "global" and not _VIRTUAL.match(str(link.get("ifname"))):
                found.append(
                    {
                        "interface": str(link.get("ifname")),
                        "address": str(address.get("local")),
                        "prefix": address.get("prefixlen") if isinstance(address.get("prefixlen"), int) else None,
                        "dynamic": address.get("dynamic") is True,
                    }
                )
    found.sort(key=lambda row: (str(row["interface"]), str(row["address"])))
    dynamic = sum(bool(row["dynamic"]) for row in found)
    return {"addresses": found, "dynamic": dynamic, "fixed": len(found) - dynamic}


def read_gateway(text: str) -> dict[str, Any]:
    """The default way out."""
    found = rows(text)
    first = found[0] if found else {}
    return {"routes": len(found), "gateway": str(first.get("gateway", "")), "interface": str(first.get("dev", ""))}


def read_dns(text: str) -> dict[str, Any]:
    """Name servers; those behind the local stub of systemd-resolved when it stands in front."""
    own, behind = part(text, "own", "behind")
    pattern = re.compile(r"^\s*nameserver\s+([0-9A-Fa-f:.%a-z]+)\s*$", re.MULTILINE)
    servers = pattern.findall(own)
    if "127.0.0.53" in servers:
        servers = pattern.findall(behind)
    return {"servers": servers, "count": len(servers)}


def read_ipv6(text: str) -> dict[str, Any]:
    """Whether the kernel speaks IPv6."""
    flag = text.strip()
    if flag not in ("0", "1"):
        raise ValueError("not a switch")
    return {"enabled": flag == "0"}


def read_firewall(text: str) -> dict[str, Any]:
    """Whether the host filters what comes in, and whether what no rule allows is dropped.

    A chain counts when it hooks ``input`` of the ip or inet family and ends in drop or reject, by policy or by
    an unconditional last rule.
    """
    tool, rules = part(text, "tool", "rules")
    tool = tool.strip()
    if tool == "nftables":
        chains = list(_nft_input_chains(rules))
    elif tool == "iptables":
        chains = list(_iptables_input(rules))
    elif tool == "none":
        chains = []
    else:
        raise ValueError("no such firewall tool")
    return {"tool": tool, "active": any(chains), "default_drop": any(chain == "drop" for chain in chains)}


def _nft_input_chains(text: str) -> Iterator[str]:
    """``drop`` or ``accept`` for each input chain with rules or a closing policy; nothing for an empty open one."""
    family = ""
    for block in re.split(r"(?m)^(?=table |\s+chain )", text):
        if found := re.match(r"table (\w+) ", block):
            family = found[1]
        hooked = re.search(r"hook input priority [^;]*; policy (\w+);", block)
        if not hooked or family not in ("ip", "inet"):
            continue
        rules = [line for line in lines(block.split("}")[0])[1:] if not line.startswith("type ")]
        last = rules[-1].removeprefix("counter ").split(" with ")[0] if rules else ""
        closed = hooked[1] == "drop" or last in ("drop", "reject")
        if rules or closed:
            yield "drop" if closed else "accept"


def _iptables_input(text: str) -> Iterator[str]:
    found = lines(text)
    rules = [line for line in found if line.startswith("-A INPUT")]
    closed = "-P INPUT DROP" in found or (rules and re.fullmatch(r"-A INPUT -j (DROP|REJECT).*", rules[-1]))
    if rules or closed:
        yield "drop" if closed else "accept"


FACTS: tuple[Fact, ...] = (
    Fact("net.listening", "shell", "ss -H -l -t -u -n", read_listening, "ports", "ss(8)"),
    Fact(
        "net.interfaces",
        "shell",
        "echo '-- links'; ip -j link show || exit $?; echo '-- speeds'; grep -Hs '^[0-9]' /sys/class/net/*/speed; true",
        read_interfaces,
        "Mbit/s per interface",
        "ip-link(8), sysfs-class-net",
    ),
    Fact(
        "net.addresses",
        "shell",
        "command -v ip >/dev/null || exit 69; "
        """ip -j address show | sed -E 's/,"(valid|preferred)_life_time":[0-9]+//g'""",
        read_addresses,
        "addresses",
        "ip-address(8); the seconds left of a lease are taken out",
    ),
    Fact("net.gateway", "shell", "ip -j route show default", read_gateway, "routes", "ip-route(8)"),
    Fact(
        "net.dns",
        "shell",
        "echo '-- own'; cat /etc/resolv.conf 2>/dev/null; echo '-- behind'; "
        "cat /run/systemd/resolve/resolv.conf 2>/dev/null; true",
        read_dns,
        "servers",
        "resolv.conf(5)",
    ),
    Fact(
        "net.ipv6",
        "shell",
        "cat /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null || echo 1",
        read_ipv6,
        "-",
        "kernel ip-sysctl: disable_ipv6",
    ),
    Fact(
        "net.firewall",
        "shell",
        "echo '-- tool'; if [ -x /usr/sbin/nft ]; then echo nftables; echo '-- rules'; "
        "${S} /usr/sbin/nft -s -t list ruleset; elif [ -x /usr/sbin/iptables ]; then echo iptables; echo '-- rules'; "
        "${S} /usr/sbin/iptables -S INPUT; else echo none; echo '-- rules'; fi",
        read_firewall,
        "-",
        "nft(8), iptables(8)",
        privileged=True,
    ),
)
