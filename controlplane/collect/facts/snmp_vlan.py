"""What a switch says of its VLANs: Q-BRIDGE-MIB and BRIDGE-MIB (RFC 4363, RFC 4188).

It refuses to take a filtering-database id for a VLAN id: the two are joined through ``dot1qVlanFdbId`` or not at
all. The addresses of stations are those of devices, and it says nothing about who uses them.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.collect.facts.snmp_text import Answer, mac_text, ports_in
from controlplane.domain.model import Fact, Value

_BRIDGE = ".1.3.6.1.2.1.17"
_QBRIDGE = ".1.3.6.1.2.1.17.7.1"
_PORT_IF = f"{_BRIDGE}.1.4.1.2"
_FDB_PORT, _FDB_STATUS = f"{_QBRIDGE}.2.2.1.2", f"{_QBRIDGE}.2.2.1.3"
_FDB_ID, _NOW_EGRESS, _NOW_UNTAGGED = (f"{_QBRIDGE}.4.2.1.{column}" for column in (3, 4, 5))
_NAME, _EGRESS, _UNTAGGED = (f"{_QBRIDGE}.4.3.1.{column}" for column in (1, 2, 4))
_PVID = f"{_QBRIDGE}.4.5.1.1"
_IF_NAME, _IF_SPEED, _IF_OPER = ".1.3.6.1.2.1.31.1.1.1.1", ".1.3.6.1.2.1.31.1.1.1.15", ".1.3.6.1.2.1.2.2.1.8"
_MEMBERS = f"{_PORT_IF} {_EGRESS} {_UNTAGGED} {_NOW_EGRESS} {_NOW_UNTAGGED} {_IF_NAME}"
_LEARNED = 3


@dataclass(frozen=True)
class _Switch:
    """Who is in which VLAN. Ports are bridge port numbers; the current tables win over the static ones."""

    interfaces: dict[int, int]  # bridge port -> ifIndex
    names: dict[int, str]  # ifIndex -> name
    egress: dict[int, set[int]]  # VLAN -> ports
    untagged: dict[int, set[int]]  # VLAN -> ports that send it without a tag

    def port(self, number: int) -> str:
        """The name of a bridge port."""
        return self.names.get(self.interfaces.get(number, -1)) or f"port {number}"

    def tagged(self) -> dict[int, set[int]]:
        """Port -> the VLANs it carries with a tag."""
        found: dict[int, set[int]] = {}
        for vlan, ports in self.egress.items():
            for port in ports - self.untagged.get(vlan, set()):
                found.setdefault(port, set()).add(vlan)
        return found

    def trunks(self) -> set[int]:
        """Ports that carry two or more VLANs with a tag."""
        return {port for port, vlans in self.tagged().items() if len(vlans) >= 2}


def _switch(answer: Answer) -> _Switch:
    interfaces = {index[0]: number for index, number in answer.integers(_PORT_IF).items()}
    names = {index[0]: text for index, text in answer.texts(_IF_NAME).items()}
    egress = _ports(answer, _EGRESS) | _ports(answer, _NOW_EGRESS)
    untagged = _ports(answer, _UNTAGGED) | _ports(answer, _NOW_UNTAGGED)
    if not egress:
        raise ValueError("the agent lists no VLAN with its ports")
    return _Switch(interfaces, names, egress, untagged)


def _ports(answer: Answer, oid: str) -> dict[int, set[int]]:
    return {index[-1]: ports_in(octets) for index, octets in answer.strings(oid).items()}


def _list(raw: str) -> Value:
    answer = Answer(raw)
    names = {index[-1]: text for index, text in answer.texts(_NAME).items()}
    vlans = names.keys() | {index[-1] for index in answer.integers(_FDB_ID)}
    return {
        "beside_default": len(vlans - {1}),
        "vlans": [{"vlan": vlan, "name": names.get(vlan, "")} for vlan in sorted(vlans)],
    }


def _membership(raw: str) -> Value:
    switch = _switch(Answer(raw))
    return [
        {
            "vlan": vlan,
            "untagged": [switch.port(port) for port in sorted(switch.untagged.get(vlan, set()))],
            "tagged": [switch.port(port) for port in sorted(switch.egress[vlan] - switch.untagged.get(vlan, set()))],
        }
        for vlan in sorted(switch.egress)
    ]


def _pvids(answer: Answer) -> dict[int, int]:
    pvids = {index[0]: vlan for index, vlan in answer.integers(_PVID).items()}
    if not pvids:
        raise ValueError("the agent gives no PVID")
    return pvids


def _default_ports(raw: str) -> Value:
    """Ports that put untagged traffic into VLAN 1 although something is connected; trunks apart."""
    answer = Answer(raw)
    switch, pvids = _switch(answer), _pvids(answer)
    oper = {index[0]: state for index, state in answer.integers(_IF_OPER).items()}
    trunks = switch.trunks()
    left = [
        port
        for port, vlan in sorted(pvids.items())
        if vlan == 1 and port not in trunks and oper.get(switch.interfaces.get(port, -1)) == 1
    ]
    return {"count": len(left), "ports": [switch.port(port) for port in left]}


def _pvid_rows(raw: str) -> Value:
    """Each port's PVID, and whether the port sends that same VLAN untagged: if not, it hears and speaks apart."""
    answer = Answer(raw)
    switch, trunks = _switch(answer), _switch(answer).trunks()
    return [
        {"port": switch.port(port), "pvid": vlan, "consistent": port in switch.untagged.get(vlan, set())}
        for port, vlan in sorted(_pvids(answer).items())
        if port not in trunks
    ]


def _trunks(raw: str) -> Value:
    answer = Answer(raw)
    switch, tagged = _switch(answer), _switch(answer).tagged()
    speed = {index[0]: number for index, number in answer.integers(_IF_SPEED).items()}
    oper = {index[0]: state for index, state in answer.integers(_IF_OPER).items()}
    rows = []
    for port in sorted(switch.trunks()):
        interface = switch.interfaces.get(port, -1)
        if oper.get(interface) == 1:
            rows.append({"port": switch.port(port), "mbps": speed.get(interface), "tagged_vlans": sorted(tagged[port])})
    return rows


def _stations(raw: str) -> Value:
    """Learned stations per filtering database, with the VLANs that use it (one each, unless learning is shared)."""
    answer = Answer(raw)
    vlans: dict[int, set[int]] = {}
    for index, database in answer.integers(_FDB_ID).items():
        vlans.setdefault(database, set()).add(index[-1])
    ports, status = answer.integers(_FDB_PORT), answer.integers(_FDB_STATUS)
    if ports and not vlans:
        raise ValueError("the agent gives no dot1qVlanFdbId, so its stations belong to no known VLAN")
    seen: dict[int, set[int]] = {database: set() for database in vlans}
    count = dict.fromkeys(vlans, 0)
    for index, port in ports.items():
        if len(index) != 7:
            raise ValueError("a forwarding entry without database id and MAC address")
        if status.get(index, _LEARNED) == _LEARNED:
            seen.setdefault(index[0], set()).add(port)
            count[index[0]] = count.get(index[0], 0) + 1
    return [
        {
            "vlans": sorted(vlans.get(database, set())),
            "stations": count.get(database, 0),
            "ports": len(seen[database]),
        }
        for database in sorted(seen, key=lambda d: (sorted(vlans.get(d, set())), d))
    ]


def _learned(raw: str) -> Value:
    """Every learned MAC address with the port it is on: the stations, and on trunks those behind the next switch."""
    answer = Answer(raw)
    vlans: dict[int, set[int]] = {}
    for index, database in answer.integers(_FDB_ID).items():
        vlans.setdefault(database, set()).add(index[-1])
    interfaces = {index[0]: number for index, number in answer.integers(_PORT_IF).items()}
    names = {index[0]: text for index, text in answer.texts(_IF_NAME).items()}
    status = answer.integers(_FDB_STATUS)
    rows = []
    for index, port in answer.integers(_FDB_PORT).items():
        if len(index) != 7 or max(index[1:]) > 255:
            raise ValueError("a forwarding entry without database id and MAC address")
        if status.get(index, _LEARNED) == _LEARNED:
            name = names.get(interfaces.get(port, -1)) or f"port {port}"
            rows.append({"mac": mac_text(bytes(index[1:])), "port": name, "vlans": sorted(vlans.get(index[0], set()))})
    return sorted(rows, key=lambda row: (str(row["mac"]), str(row["vlans"]), str(row["port"])))


_KINDS = ("switch",)
FACTS: tuple[Fact, ...] = (
    Fact(
        "vlan.list",
        "snmp",
        f"{_NAME} {_FDB_ID}",
        _list,
        "VLANs",
        "Q-BRIDGE-MIB::dot1qVlanStaticName, dot1qVlanCurrentTable (RFC 4363)",
        kinds=_KINDS,
    ),
    Fact(
        "vlan.membership",
        "snmp",
        _MEMBERS,
        _membership,
        "port names per VLAN",
        "Q-BRIDGE-MIB::dot1qVlanCurrentEgressPorts, dot1qVlanCurrentUntaggedPorts (RFC 4363)",
        kinds=_KINDS,
    ),
    Fact(
        "vlan.default_ports",
        "snmp",
        f"{_MEMBERS} {_PVID} {_IF_OPER}",
        _default_ports,
        "connected access ports in VLAN 1",
        "Q-BRIDGE-MIB::dot1qPvid (RFC 4363), IF-MIB::ifOperStatus (RFC 2863)",
        kinds=_KINDS,
    ),
    Fact(
        "vlan.pvid",
        "snmp",
        f"{_MEMBERS} {_PVID}",
        _pvid_rows,
        "VLAN id per access port",
        "Q-BRIDGE-MIB::dot1qPvid, dot1qVlanCurrentUntaggedPorts (RFC 4363)",
        kinds=_KINDS,
    ),
    Fact(
        "vlan.trunks",
        "snmp",
        f"{_MEMBERS} {_IF_SPEED} {_IF_OPER}",
        _trunks,
        "Mbit/s per connected port with two or more tagged VLANs",
        "Q-BRIDGE-MIB::dot1qVlanCurrentEgressPorts (RFC 4363), IF-MIB::ifHighSpeed (RFC 2863)",
        kinds=_KINDS,
    ),
    Fact(
        "vlan.stations",
        "snmp",
        f"{_FDB_ID} {_FDB_PORT} {_FDB_STATUS}",
        _stations,
        "learned MAC addresses, and ports they are on, per VLAN",
        "Q-BRIDGE-MIB::dot1qTpFdbTable joined by dot1qVlanFdbId (RFC 4363)",
        kinds=_KINDS,
    ),
    Fact(
        "vlan.learned",
        "snmp",
        f"{_FDB_ID} {_FDB_PORT} {_FDB_STATUS} {_PORT_IF} {_IF_NAME}",
        _learned,
        "learned MAC addresses with their port and VLANs",
        "Q-BRIDGE-MIB::dot1qTpFdbTable joined by dot1qVlanFdbId (RFC 4363), IF-MIB::ifName (RFC 2863)",
        kinds=_KINDS,
    ),
)
