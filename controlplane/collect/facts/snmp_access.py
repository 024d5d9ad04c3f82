"""Who may come in through a device's own ports: the services it listens on, and what guards a switch's access ports.

It gives no address and no station. A switch that has neither 802.1X nor port security of the asked MIBs is answered
as unguarded: the criterion wants a guard, and another vendor's own MIB is not known here.
"""

from __future__ import annotations

from controlplane.collect.facts.snmp_text import Answer, ports_in
from controlplane.domain.model import Fact, Value

_LISTENER, _STATE = ".1.3.6.1.2.1.6.20.1.4", ".1.3.6.1.2.1.6.13.1.1"
_LISTEN = 2
PLAIN = frozenset({21, 23, 69, 79, 80, 512, 513, 514, 2323, 8000, 8080})
"""TCP ports on which a device is managed in the clear: telnet, HTTP, FTP, rsh and their usual second places."""

_AUTH = ".1.0.8802.1.1.1.1.1.1.0"
_CONTROL = ".1.0.8802.1.1.1.1.2.1.1.6"
_SECURITY = ".1.3.6.1.4.1.9.9.315.1.2.1.1.1"
_OPER, _TYPE = (f".1.3.6.1.2.1.2.2.1.{column}" for column in (8, 3))
_IF_NAME = ".1.3.6.1.2.1.31.1.1.1.1"
_EGRESS, _UNTAGGED = ".1.3.6.1.2.1.17.7.1.4.3.1.2", ".1.3.6.1.2.1.17.7.1.4.3.1.4"
_PORT_IF = ".1.3.6.1.2.1.17.1.4.1.2"
_ETHERNET, _UP, _AUTO, _ENABLED = 6, 1, 2, 1


def _listening(raw: str) -> Value:
    """TCP ports that the device listens on for others, and those of them on which it would be managed in the clear."""
    answer = Answer(raw)
    found = set()
    for index in answer.integers(_LISTENER):
        size = index[1] if len(index) > 1 else -1
        if len(index) != size + 3:
            raise ValueError("a listener without an address and a port")
        if not _loopback(index[2:-1]):
            found.add(index[-1])
    for index, state in answer.integers(_STATE).items():
        if len(index) != 10:
            raise ValueError("a connection without two addresses and two ports")
        if state == _LISTEN and index[0] != 127:
            found.add(index[4])
    if not found and not answer.column(_LISTENER) and not answer.column(_STATE):
        raise ValueError("the agent gives no table of TCP")
    return {"tcp": sorted(found), "plain": sorted(found & PLAIN), "plain_count": len(found & PLAIN)}


def _loopback(address: tuple[int, ...]) -> bool:
    return address[:1] == (127,) if len(address) == 4 else address == (0,) * 15 + (1,)


def _access_control(raw: str) -> Value:
    """Connected access ports of a switch, and those that take any device: no 802.1X in auto mode, no port security.

    A trunk (two or more tagged VLANs) leads to another network device and is left out.
    """
    answer = Answer(raw)
    operating = answer.integers(_OPER)
    if not operating:
        raise ValueError("the agent gives no interface")
    trunks = _trunks(answer)
    kinds, control = answer.integers(_TYPE), answer.integers(_CONTROL)
    secured, names = answer.integers(_SECURITY), answer.texts(_IF_NAME)
    system = answer.maybe_integer(_AUTH) == _ENABLED
    guarded = {i for i, mode in control.items() if system and mode == _AUTO}
    guarded |= {i for i, on in secured.items() if on == _ENABLED}
    access = sorted(
        i for i, state in operating.items() if state == _UP and kinds.get(i) == _ETHERNET and i[0] not in trunks
    )
    left = [i for i in access if i not in guarded]
    return {
        "dot1x": system,
        "access_ports": len(access),
        "unguarded": [names.get(i) or f"port {i[0]}" for i in left],
        "unguarded_count": len(left),
    }


def _trunks(answer: Answer) -> set[int]:
    """Interfaces that carry two or more VLANs with a tag."""
    interfaces = {index[0]: number for index, number in answer.integers(_PORT_IF).items()}
    untagged = {index[-1]: ports_in(octets) for index, octets in answer.strings(_UNTAGGED).items()}
    count: dict[int, int] = {}
    for index, octets in answer.strings(_EGRESS).items():
        for port in ports_in(octets) - untagged.get(index[-1], set()):
            count[port] = count.get(port, 0) + 1
    return {interfaces[port] for port, vlans in count.items() if vlans >= 2 and port in interfaces}


FACTS: tuple[Fact, ...] = (
    Fact(
        "device.listening",
        "snmp",
        f"{_LISTENER} {_STATE}",
        _listening,
        "TCP ports",
        "TCP-MIB::tcpListenerTable, tcpConnState (RFC 4022)",
        kinds=("switch", "firewall", "printer", "ups", "nas"),
    ),
    Fact(
        "ports.access_control",
        "snmp",
        f"{_AUTH} {_CONTROL} {_SECURITY} {_OPER} {_TYPE} {_IF_NAME} {_PORT_IF} {_EGRESS} {_UNTAGGED}",
        _access_control,
        "connected access ports",
        "IEEE8021-PAE-MIB (IEEE 802.1X), CISCO-PORT-SECURITY-MIB::cpsIfPortSecurityEnable, IF-MIB (RFC 2863)",
        kinds=("switch",),
    ),
)
