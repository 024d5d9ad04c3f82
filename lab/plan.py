"""Which hosts the lab has, and where each is plugged in; it refuses to know how a host is started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

# Several labs can stand on one machine side by side, each with a name and a folder of its own.
NAME = os.environ.get("EMRCTL_LAB_NAME") or "lab"
SWITCHBOARD = f"{NAME}-sw"  # the namespace that holds the bridge; programs reach the hosts from inside it
BRIDGE = "br0"
NETWORK = "10.77.0"  # out of band: one bridge, every host's first card; programs come from here
GATEWAY = f"{NETWORK}.1"

# The hospital's own network, on second cards: VLAN n has 10.78.n.0/24, its gateway (a leg of the firewall) .1 in it.
DATA = "10.78"
VLANS = (10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99)  # those of inventory/vlans.yaml; a test compares
OUTSIDE = 255  # no VLAN: the line from the firewall's leg `wan` to the stand-in for the Internet
WAN = "wan"

READER = "emrread"  # the read-only account of collectors
PLAYER = "emrplay"  # the account of plays, with sudo


@dataclass(frozen=True)
class Card:
    """A host's card in the hospital's network: where it is plugged in (``port`` 0: on no switch) and its addresses."""

    name: str
    mac: str
    vlan: int
    address: str
    switch: str = ""
    port: int = 0

    @property
    def gateway(self) -> str:
        """The firewall's address in this card's network."""
        return f"{DATA}.{self.vlan}.1"


@dataclass(frozen=True)
class Host:
    """One host of the lab.

    ``number`` is the last part of its addresses. ``tree`` names the base tree it is laid over. ``services`` are started
    in this order by a host without systemd. ``vlan`` is where the hospital's inventory puts it (0: nowhere), ``switch``
    and ``port`` where its second card is plugged in. ``transports`` are the ones the product shall use; none keeps it
    out of the inventory. ``small`` hosts make the small lab; the whole one has them all.
    """

    name: str
    number: int
    kind: str
    tree: str
    services: tuple[str, ...]
    transports: tuple[str, ...] = ()
    snmp_version: str = "3"
    vlan: int = 0
    switch: str = ""
    port: int = 0
    systemd: bool = False
    small: bool = False

    @property
    def address(self) -> str:
        """The IPv4 address on the lab's bridge."""
        return f"{NETWORK}.{self.number}"

    @property
    def namespace(self) -> str:
        """The name of its network namespace under /run/netns."""
        return f"{NAME}-{self.name}"

    @property
    def mac(self) -> str:
        """The address of its network card on the bridge: fixed, so that a restart is the same card."""
        return f"02:77:00:00:00:{self.number:02x}"

    @property
    def cards(self) -> tuple[Card, ...]:
        """Its cards in the hospital's network: none, one called eth1, or the firewall's for each VLAN and outside."""
        if self.kind == "firewall":
            legs = [(f"vlan{vlan}", vlan, CORE, _FIRST_LEG + at) for at, vlan in enumerate(VLANS)]
            legs.append((WAN, OUTSIDE, "", 0))
            return tuple(
                Card(name, f"02:77:00:00:02:{vlan:02x}", vlan, f"{DATA}.{vlan}.1", switch, port)
                for name, vlan, switch, port in legs
            )
        if not self.vlan:
            return ()
        number = 2 if self.vlan == OUTSIDE else self.number
        mac = f"02:77:00:00:01:{self.number:02x}"
        return (Card("eth1", mac, self.vlan, f"{DATA}.{self.vlan}.{number}", self.switch, self.port),)

    @property
    def data_address(self) -> str:
        """Its address in its own VLAN; empty when it has none."""
        return next((card.address for card in self.cards if card.vlan == self.vlan), "")


ACCESS, CORE = "sw-acc-01", "sw-core-01"
FIREWALL = "fw-01"
TRUNKS = {ACCESS: 5, CORE: 1}  # the two ports that are joined
TRUNK_VLANS = (20, 30, 40, 99)  # what the access switch has hosts in
_FIRST_LEG, _FIRST_PROBE = 11, 31  # on the core switch

_LINUX = ("ssh", "snmpd", "chrony", "cron", "prometheus-node-exporter")
_DEVICE = ("ssh", "snmpd")
_PROBE = ("ssh", "emrctl-probe")
_BOTH = ("ssh", "snmp")


def _pc(number: int) -> Host:
    """A workstation: the departments' in VLAN 20, those of the administration and the directors (28 to 35) in 30."""
    first = number < 4
    return Host(
        f"pc-{number:02}",
        10 + number if first else 100 + number,
        "workstation",
        "debian",
        _LINUX,
        ("ssh",),
        vlan=20 if number < 28 else 30,
        switch=ACCESS,
        port=number if first else number + 2,
        small=first,
    )


def _printer(number: int) -> Host:
    """A printer of the whole lab: SNMP and nothing else."""
    port = number + 36
    return Host(
        f"prn-{number:02}", 40 + number, "printer", "device", ("snmpd",), ("snmp",), vlan=40, switch=ACCESS, port=port
    )


def _probe(at: int, vlan: int) -> Host:
    """A bare host in a VLAN, from which the product tries what may pass."""
    return Host(
        f"probe-{vlan}",
        201 + at,
        "probe",
        "debian",
        _PROBE,
        ("ssh",),
        vlan=vlan,
        switch=CORE,
        port=_FIRST_PROBE + at,
    )


HOSTS: tuple[Host, ...] = (
    Host("time", 2, "clock", "debian", ("chrony",), small=True),
    Host("sv-01", 10, "server", "debian", _LINUX, _BOTH, vlan=10, switch=CORE, port=2, systemd=True, small=True),
    *(_pc(number) for number in (1, 2, 3)),
    Host(
        ACCESS, 14, "switch", "device", ("lab-switch", *_DEVICE), ("snmp",), vlan=99, switch=ACCESS, port=67, small=True
    ),
    Host("prn-01", 15, "printer", "device", _DEVICE, ("snmp",), "2c", vlan=40, switch=ACCESS, port=4, small=True),
    Host("ups-01", 16, "ups", "device", _DEVICE, ("snmp",), vlan=99, switch=CORE, port=4, small=True),
    # Here the whole lab begins.
    Host(CORE, 17, "switch", "device", ("lab-switch", *_DEVICE), ("snmp",), vlan=99, switch=CORE, port=5),
    Host(FIREWALL, 18, "firewall", "debian", _LINUX, _BOTH, vlan=99, systemd=True),
    Host("nas-01", 19, "nas", "debian", _LINUX, _BOTH, vlan=15, switch=CORE, port=3, systemd=True),
    *(_pc(number) for number in range(4, 36)),
    *(_printer(number) for number in range(2, 31)),
    *(_probe(at, vlan) for at, vlan in enumerate(VLANS)),
    Host("probe-internet", 201 + len(VLANS), "probe", "debian", _PROBE, ("ssh",), vlan=OUTSIDE),
)
# Not among HOSTS: a QEMU guest with a kernel of its own, brought up by `script/lab vm up` alone.
GUEST = Host("nas-02", 30, "nas", "debian", _DEVICE, _BOTH, systemd=True)
SMALL: tuple[Host, ...] = tuple(one for one in HOSTS if one.small)
SWITCHES = tuple(one for one in HOSTS if one.kind == "switch")


def ports_of(switch: Host) -> dict[str, dict[str, Any]]:
    """What this switch's ports carry, in the words of the product's inventory."""
    ports: dict[int, dict[str, Any]] = {
        card.port: {"access": card.vlan}
        for other in HOSTS
        for card in other.cards
        if card.switch == switch.name and card.port
    }
    ports[TRUNKS[switch.name]] = {"trunk": list(TRUNK_VLANS)}
    return {f"port{number}": ports[number] for number in sorted(ports)}


def legs_of(firewall: Host) -> dict[str, int | str]:
    """Where this router's cards lead, in the words of the product's inventory."""
    return {card.name: "internet" if card.vlan == OUTSIDE else card.vlan for card in firewall.cards}


def host(name: str) -> Host:
    """The host called ``name``; raises KeyError when the lab has none."""
    for one in (*HOSTS, GUEST):
        if one.name == name:
            return one
    raise KeyError(name)


# What would reach through a host to the machine itself: its clock, modules, power switch and raw devices.
DROPPED_RIGHTS = "-sys_time,-sys_module,-sys_boot,-sys_rawio,-syslog,-mknod,-wake_alarm,-mac_admin,-mac_override"
