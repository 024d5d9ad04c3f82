"""What SNMP agents say of their ports: IF-MIB, EtherLike-MIB, IP-MIB, LLDP-MIB.

It refuses to give counters: packets and errors become a ratio, times become a plain claim.
Only Ethernet ports are reported; loopbacks, tunnels and VLAN interfaces are not ports.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from controlplane.collect.facts.snmp_text import Answer, mac_text
from controlplane.domain.model import Fact, Value

_IF = ".1.3.6.1.2.1.2.2.1"
_IFX = ".1.3.6.1.2.1.31.1.1.1"
_UPTIME = ".1.3.6.1.2.1.1.3.0"
_DUPLEX = ".1.3.6.1.2.1.10.7.2.1.19"
_ADDRESS = ".1.3.6.1.2.1.4.20.1"
_LLDP_LOCAL = ".1.0.8802.1.1.2.1.3.7.1"
_LLDP_REMOTE = ".1.0.8802.1.1.2.1.4.1.1"

_NAME, _TYPE, _PHYSICAL, _ADMIN, _OPER, _CHANGED = (f"{_IF}.{column}" for column in (2, 3, 6, 7, 8, 9))
_SHORT_NAME, _HIGH_SPEED = f"{_IFX}.1", f"{_IFX}.15"
_ETHERNET = {6, 62, 69, 117}  # ethernetCsmacd and its retired kin fastEther, fastEtherFX, gigabitEthernet
_PORTS = f"{_NAME} {_TYPE} {_ADMIN} {_OPER} {_SHORT_NAME}"
_IDLE_DAYS = 30
_TICKS_A_DAY = 8_640_000
_ENOUGH_PACKETS = 10_000


def port_names(answer: Answer) -> dict[int, str]:
    """ifIndex -> the short name of IF-MIB, or the long one of an agent without ifXTable."""
    names = {index[0]: text for index, text in answer.texts(_NAME).items()}
    return names | {index[0]: text for index, text in answer.texts(_SHORT_NAME).items() if text}


def _column(answer: Answer, oid: str) -> dict[int, int]:
    return {index[0]: number for index, number in answer.integers(oid).items() if len(index) == 1}


def _ethernet(answer: Answer) -> list[int]:
    """ifIndex of every Ethernet port, in order."""
    return sorted(index for index, kind in _column(answer, _TYPE).items() if kind in _ETHERNET)


def _inventory(raw: str) -> Value:
    answer = Answer(raw)
    ports, admin, oper = _ethernet(answer), _column(answer, _ADMIN), _column(answer, _OPER)
    return {
        "ethernet": len(ports),
        "enabled": sum(admin.get(port) == 1 for port in ports),
        "connected": sum(oper.get(port) == 1 for port in ports),
    }


def _down(raw: str) -> Value:
    answer = Answer(raw)
    names, admin, oper = port_names(answer), _column(answer, _ADMIN), _column(answer, _OPER)
    down = [port for port in _ethernet(answer) if admin.get(port) == 1 and oper.get(port) in (2, 7)]
    return {"count": len(down), "ports": [names.get(port, f"port {port}") for port in down]}


def _idle(raw: str) -> Value:
    """Enabled ports and whether nothing was connected for 30 days. No row at all while the device itself has
    not been up that long: nobody can know then."""
    answer = Answer(raw)
    uptime = answer.integer(_UPTIME)
    if uptime < _IDLE_DAYS * _TICKS_A_DAY:
        return []
    names, changed = port_names(answer), _column(answer, _CHANGED)
    admin, oper = _column(answer, _ADMIN), _column(answer, _OPER)
    rows = []
    for port in _ethernet(answer):
        since = changed.get(port, uptime)
        # A change "in the future" happened before sysUpTime wrapped (497 days): at least the uptime ago.
        quiet = uptime - since if since <= uptime else uptime
        idle = oper.get(port) in (2, 7) and quiet >= _IDLE_DAYS * _TICKS_A_DAY
        if admin.get(port) == 1:
            rows.append({"port": names.get(port, f"port {port}"), "idle_30_days": idle})
    return rows


def _speed(raw: str) -> Value:
    answer = Answer(raw)
    names, oper, speed = port_names(answer), _column(answer, _OPER), _column(answer, _HIGH_SPEED)
    return [
        {"port": names.get(port, f"port {port}"), "mbps": speed[port]}
        for port in _ethernet(answer)
        if oper.get(port) == 1 and speed.get(port, 0) > 0
    ]


def _duplex(raw: str) -> Value:
    answer = Answer(raw)
    names, oper, duplex = port_names(answer), _column(answer, _OPER), _column(answer, _DUPLEX)
    words = {2: "half", 3: "full"}
    return [
        {"port": names.get(port, f"port {port}"), "duplex": words[duplex[port]]}
        for port in _ethernet(answer)
        if oper.get(port) == 1 and duplex.get(port) in words
    ]


def _one_digit(number: float) -> int:
    """Rounded to one significant digit, so that a ratio stands still between looks."""
    whole = round(number)
    step = int(10 ** max(0, len(str(whole)) - 1))
    return round(whole / step) * step


def _errors(raw: str) -> Value:
    answer = Answer(raw)
    names, errors = port_names(answer), _column(answer, f"{_IF}.14")
    packets = _column(answer, f"{_IF}.11") | _column(answer, f"{_IFX}.7")
    rows = []
    for port in _ethernet(answer):
        good, bad = packets.get(port, 0), errors.get(port, 0)
        if good + bad >= _ENOUGH_PACKETS:
            ratio = _one_digit(bad * 1_000_000 / (good + bad))
            rows.append({"port": names.get(port, f"port {port}"), "errors_per_million": ratio})
    return rows


def _mac_addresses(raw: str) -> Value:
    answer = Answer(raw)
    physical = {index[0]: octets for index, octets in answer.strings(_PHYSICAL).items()}
    ports = [physical[port] for port in _ethernet(answer) if len(physical.get(port, b"")) == 6]
    return sorted({mac_text(octets) for octets in ports if any(octets)})


def _addresses(raw: str) -> Value:
    answer = Answer(raw)
    masks = answer.column(f"{_ADDRESS}.3")
    rows = set()
    for index, varbind in answer.column(f"{_ADDRESS}.1").items():
        address = IPv4Address(str(varbind.value))
        mask = str(masks[index].value) if index in masks else "255.255.255.255"
        if not address.is_loopback:
            rows.add((address, IPv4Network(f"0.0.0.0/{mask}").prefixlen))
    return [{"address": str(address), "prefix_bits": bits} for address, bits in sorted(rows)]


def _neighbours(raw: str) -> Value:
    answer = Answer(raw)
    local = {index[-1]: name for index, name in answer.texts(f"{_LLDP_LOCAL}.4").items()}
    names, ports = answer.texts(f"{_LLDP_REMOTE}.9"), answer.strings(f"{_LLDP_REMOTE}.7")
    kinds = answer.integers(f"{_LLDP_REMOTE}.6")
    rows = set()
    for index in names.keys() | ports.keys():
        if len(index) != 3:
            raise ValueError("an LLDP neighbour without its three index numbers")
        port = _neighbour_port(kinds.get(index), ports.get(index, b""))
        rows.add((local.get(index[1]) or f"port {index[1]}", names.get(index, ""), port))
    return [{"port": here, "neighbour": name, "neighbour_port": there} for here, name, there in sorted(rows)]


def _neighbour_port(kind: int | None, octets: bytes) -> str:
    if kind == 3 and len(octets) == 6:  # LldpPortIdSubtype macAddress
        return mac_text(octets)
    return octets.decode("utf-8", "replace")


def _fact(name: str, ask: str, reader: object, unit: str, source: str, kinds: tuple[str, ...] = ()) -> Fact:
    return Fact(name, "snmp", ask, reader, unit, source, kinds=kinds)  # type: ignore[arg-type]


_SWITCHES = ("switch", "firewall")
FACTS: tuple[Fact, ...] = (
    _fact("ports.inventory", _PORTS, _inventory, "Ethernet ports", "IF-MIB::ifTable (RFC 2863)"),
    _fact(
        "ports.down",
        _PORTS,
        _down,
        "enabled Ethernet ports without a link",
        "IF-MIB::ifAdminStatus, ifOperStatus (RFC 2863)",
    ),
    _fact(
        "ports.idle",
        f"{_UPTIME} {_PORTS} {_CHANGED}",
        _idle,
        "a claim per enabled Ethernet port",
        "IF-MIB::ifLastChange, SNMPv2-MIB::sysUpTime (RFC 2863, RFC 3418)",
        _SWITCHES,
    ),
    _fact(
        "ports.speed",
        f"{_PORTS} {_HIGH_SPEED}",
        _speed,
        "Mbit/s per connected Ethernet port",
        "IF-MIB::ifHighSpeed (RFC 2863)",
    ),
    _fact(
        "ports.duplex",
        f"{_PORTS} {_DUPLEX}",
        _duplex,
        "mode per connected Ethernet port",
        "EtherLike-MIB::dot3StatsDuplexStatus (RFC 3635)",
    ),
    _fact(
        "ports.errors",
        f"{_PORTS} {_IF}.11 {_IF}.14 {_IFX}.7",
        _errors,
        "received packets with errors per million, one significant digit, ports with 10,000 packets or more",
        "IF-MIB::ifInErrors, ifHCInUcastPkts (RFC 2863)",
    ),
    _fact("device.mac_addresses", f"{_TYPE} {_PHYSICAL}", _mac_addresses, "-", "IF-MIB::ifPhysAddress (RFC 2863)"),
    _fact(
        "device.addresses",
        f"{_ADDRESS}.1 {_ADDRESS}.3",
        _addresses,
        "bits of the prefix",
        "IP-MIB::ipAdEntAddr, ipAdEntNetMask (RFC 4293)",
    ),
    _fact(
        "device.neighbours",
        f"{_LLDP_LOCAL}.4 {_LLDP_REMOTE}.6 {_LLDP_REMOTE}.7 {_LLDP_REMOTE}.9",
        _neighbours,
        "-",
        "LLDP-MIB::lldpRemTable, lldpLocPortDesc (IEEE 802.1AB-2005)",
        (*_SWITCHES, "server"),
    ),
)
