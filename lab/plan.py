"""Which hosts the lab has, and where each is plugged in; it refuses to know how a host is started."""

from __future__ import annotations

import os
from dataclasses import dataclass

# Several labs can stand on one machine side by side, each with a name and a folder of its own.
NAME = os.environ.get("EMRCTL_LAB_NAME") or "lab"
SWITCHBOARD = f"{NAME}-sw"  # the namespace that holds the bridge; programs reach the hosts from inside it
BRIDGE = "br0"
NETWORK = "10.77.0"
GATEWAY = f"{NETWORK}.1"

READER = "emrread"  # the read-only account of collectors
PLAYER = "emrplay"  # the account of plays, with sudo


@dataclass(frozen=True)
class Host:
    """One host of the lab.

    ``number`` is the last part of its address. ``tree`` names the base tree it is laid over. ``services`` are started
    in this order by a host without systemd. ``port`` is its port on the access switch (0: none) and ``vlan`` that
    port's VLAN. ``transports`` are the ones the product shall use; none keeps it out of the inventory.
    """

    name: str
    number: int
    kind: str
    tree: str
    services: tuple[str, ...]
    transports: tuple[str, ...] = ()
    snmp_version: str = "3"
    port: int = 0
    vlan: int = 0
    systemd: bool = False

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
    def port_mac(self) -> str:
        """The address of its second card, the one plugged into the access switch."""
        return f"02:77:00:00:01:{self.number:02x}"


_LINUX = ("ssh", "snmpd", "chrony", "cron")
_DEVICE = ("ssh", "snmpd")

HOSTS: tuple[Host, ...] = (
    Host("time", 2, "clock", "debian", ("chrony",)),
    Host("sv-01", 10, "server", "debian", _LINUX, ("ssh", "snmp"), systemd=True),
    Host("pc-01", 11, "workstation", "debian", _LINUX, ("ssh",), port=1, vlan=10),
    Host("pc-02", 12, "workstation", "debian", _LINUX, ("ssh",), port=2, vlan=10),
    Host("pc-03", 13, "workstation", "debian", _LINUX, ("ssh",), port=3, vlan=20),
    Host("sw-acc-01", 14, "switch", "device", ("lab-switch", *_DEVICE), ("snmp",)),
    Host("prn-01", 15, "printer", "device", _DEVICE, ("snmp",), snmp_version="2c", port=4, vlan=30),
    Host("ups-01", 16, "ups", "device", _DEVICE, ("snmp",)),
)
# Not among HOSTS: a QEMU guest with a kernel of its own, brought up by `script/lab vm up` alone.
GUEST = Host("nas-01", 30, "nas", "debian", _DEVICE, ("ssh", "snmp"), systemd=True)
SWITCH = "sw-acc-01"
UPLINK_PORT = 5
UPLINK_VLANS = (10, 20, 30, 99)


def host(name: str) -> Host:
    """The host called ``name``; raises KeyError when the lab has none."""
    for one in HOSTS:
        if one.name == name:
            return one
    raise KeyError(name)


# What would reach through a host to the machine itself: its clock, modules, power switch and raw devices.
DROPPED_RIGHTS = "-sys_time,-sys_module,-sys_boot,-sys_rawio,-syslog,-mknod,-wake_alarm,-mac_admin,-mac_override"
