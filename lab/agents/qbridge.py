"""BRIDGE-MIB and Q-BRIDGE-MIB of the Open vSwitch on this host, read from its live state; it refuses to invent a row.

Source: RFC 4188 and RFC 4363. The filtering database of a VLAN has a number of its own (``dot1qVlanFdbId``) that is
not the VLAN's, as on many real switches, so that a reader has to look it up.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.agents.persist import Oid, Table, bits, octets, oid, serve

BRIDGE = oid("1.3.6.1.2.1.17")
_NUMBER_OF_TABLES = 100  # VLAN 10 gets filtering database 101, 20 gets 102, ...


@dataclass(frozen=True)
class Port:
    """One port of the switch: its number, the interface behind it, and the VLANs it carries."""

    number: int
    if_index: int
    tag: int | None
    trunks: tuple[int, ...]


def ask(*argv: str) -> str:
    """What a program of Open vSwitch prints; empty when it does not answer, so that the rows vanish."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def numbers(cell: Any) -> list[int]:
    """The integers in one cell of the database's JSON: a bare value or ``["set", [...]]``."""
    if isinstance(cell, list):
        return [one for one in cell[1] if isinstance(one, int)] if cell[0] == "set" else []
    return [cell] if isinstance(cell, int) else []


def rows(table: str, *columns: str) -> list[list[Any]]:
    """Rows of one database table."""
    text = ask("ovs-vsctl", "--timeout=4", "--format=json", f"--columns={','.join(columns)}", "list", table)
    try:
        return list(json.loads(text)["data"]) if text else []
    except (ValueError, KeyError, TypeError):
        return []


def ports() -> list[Port]:
    """The switch's ports except its own internal one, by number."""
    number = {name: numbers(cell) for name, cell in rows("interface", "name", "ofport")}
    found = []
    for name, tag, trunks in rows("port", "name", "tag", "trunks"):
        at = number.get(name, [])
        index = Path(f"/sys/class/net/{name}/ifindex")
        if at and 0 < at[0] < 0xFF00 and index.exists():
            own = numbers(tag)
            number_if = int(index.read_text(encoding="ascii"))
            found.append(Port(at[0], number_if, own[0] if own else None, tuple(sorted(numbers(trunks)))))
    return sorted(found, key=lambda port: port.number)


def learned() -> list[tuple[int, int, Oid]]:
    """What the switch has learned: port, VLAN, address."""
    found = []
    for line in ask("ovs-appctl", "--timeout=4", "fdb/show", "sw0").splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 3 and fields[0].isdigit():
            found.append((int(fields[0]), int(fields[1]), tuple(int(part, 16) for part in fields[2].split(":"))))
    return found


def read_table() -> Table:
    """Every object this agent answers, as the switch is now."""
    table: Table = {}
    all_ports = ports()
    vlans = sorted({port.tag for port in all_ports if port.tag} | {vlan for port in all_ports for vlan in port.trunks})
    databases = {vlan: _NUMBER_OF_TABLES + at for at, vlan in enumerate(vlans, start=1)}
    _base(table, all_ports, len(vlans))
    for vlan in vlans:
        _vlan(table, all_ports, vlan, databases[vlan])
    entries = [(port, vlan, mac) for port, vlan, mac in learned() if vlan in databases]
    for vlan, database in databases.items():
        table[(*BRIDGE, 7, 1, 2, 1, 1, 2, database)] = ("counter", str(sum(entry[1] == vlan for entry in entries)))
    for port, vlan, mac in entries:
        at = (databases[vlan], *mac)
        table[(*BRIDGE, 7, 1, 2, 2, 1, 2, *at)] = ("integer", str(port))
        table[(*BRIDGE, 7, 1, 2, 2, 1, 3, *at)] = ("integer", "3")  # learned
    return table


def _base(table: Table, all_ports: list[Port], vlan_count: int) -> None:
    address = Path("/sys/class/net/eth0/address").read_text(encoding="ascii").strip()
    table[(*BRIDGE, 1, 1, 0)] = octets(bytes.fromhex(address.replace(":", "")))
    table[(*BRIDGE, 1, 2, 0)] = ("integer", str(len(all_ports)))
    table[(*BRIDGE, 1, 3, 0)] = ("integer", "2")  # transparent-only
    for at, value in ((1, 1), (2, 4094), (3, 4094), (4, vlan_count), (5, 2)):
        kind = "gauge" if at in (3, 4) else "integer"
        table[(*BRIDGE, 7, 1, 1, at, 0)] = (kind, str(value))  # version1, greatest id, most, now, GVRP disabled
    for port in all_ports:
        table[(*BRIDGE, 1, 4, 1, 1, port.number)] = ("integer", str(port.number))
        table[(*BRIDGE, 1, 4, 1, 2, port.number)] = ("integer", str(port.if_index))
        # A trunk port takes frames without a tag into VLAN 1, as the standard has it by default.
        table[(*BRIDGE, 7, 1, 4, 5, 1, 1, port.number)] = ("gauge", str(port.tag or 1))


def _vlan(table: Table, all_ports: list[Port], vlan: int, database: int) -> None:
    untagged = [port.number - 1 for port in all_ports if port.tag == vlan]
    egress = untagged + [port.number - 1 for port in all_ports if vlan in port.trunks]
    size = max(4, (max((port.number for port in all_ports), default=1) + 7) // 8)
    current = (*BRIDGE, 7, 1, 4, 2, 1)
    table[(*current, 3, 0, vlan)] = ("gauge", str(database))
    table[(*current, 4, 0, vlan)] = octets(bits(egress, size))
    table[(*current, 5, 0, vlan)] = octets(bits(untagged, size))
    table[(*current, 6, 0, vlan)] = ("integer", "2")  # permanent
    static = (*BRIDGE, 7, 1, 4, 3, 1)
    table[(*static, 1, vlan)] = ("string", f"VLAN{vlan}")
    table[(*static, 2, vlan)] = octets(bits(egress, size))
    table[(*static, 3, vlan)] = octets(bits([], size))
    table[(*static, 4, vlan)] = octets(bits(untagged, size))
    table[(*static, 5, vlan)] = ("integer", "1")  # active


if __name__ == "__main__":
    serve(read_table)
