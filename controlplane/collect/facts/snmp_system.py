"""What any SNMP agent says of its own machine: SNMPv2-MIB system group, SNMP-FRAMEWORK-MIB, HOST-RESOURCES-MIB.

It refuses to keep a name of a person (sysContact is only said to be stated or not) and figures that never
stand still (an uptime becomes the hour of the boot, a load is rounded to tens).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.collect.facts.snmp_text import Answer, Oid
from controlplane.domain.model import Fact, Value

_SYSTEM = ".1.3.6.1.2.1.1"
_HOST = ".1.3.6.1.2.1.25"
_ENGINE_BOOTS = ".1.3.6.1.6.3.10.2.1.2.0"
_FIXED_DISK = ".1.3.6.1.2.1.25.2.1.4"
_NO_STORE = ("/dev", "/proc", "/run", "/sys", "/var/run")  # memory file systems that agents list as disks
_UNSTATED = {"", "unknown", "none", "n/a", "-", "location", "contact", "not set", "me <me@example.org>"}


def _description(raw: str) -> Value:
    return Answer(raw).words(f"{_SYSTEM}.1.0")


def _name(raw: str) -> Value:
    return Answer(raw).words(f"{_SYSTEM}.5.0")


def _vendor(raw: str) -> Value:
    oid = Answer(raw).object_id(f"{_SYSTEM}.2.0")
    private = ".1.3.6.1.4.1."
    number = oid.removeprefix(private).split(".")[0] if oid.startswith(private) else None
    return {"oid": oid, "enterprise": int(number) if number else None}


def _location(raw: str) -> Value:
    text = Answer(raw).words(f"{_SYSTEM}.6.0")
    return {"text": text, "stated": text.casefold() not in _UNSTATED}


def _contact(raw: str) -> Value:
    return {"stated": Answer(raw).words(f"{_SYSTEM}.4.0").casefold() not in _UNSTATED}


def _agent_boots(raw: str) -> Value:
    return Answer(raw).integer(_ENGINE_BOOTS)


def _date_and_time(octets: bytes) -> tuple[datetime, int | None]:
    """SNMPv2-TC DateAndTime: the local time it shows, and its distance from UTC in minutes when it says so."""
    if len(octets) not in (8, 11):
        raise ValueError(f"a DateAndTime of {len(octets)} octets")
    year, (month, day, hour, minute, second) = int.from_bytes(octets[:2], "big"), octets[2:7]
    shown = datetime(year, month, day, hour, minute, min(second, 59))  # noqa: DTZ001 - the device's own wall clock
    if len(octets) == 8:
        return shown, None
    if octets[8:9] not in (b"+", b"-") or octets[9] > 14 or octets[10] > 59:
        raise ValueError("a DateAndTime with an impossible zone")
    minutes = octets[9] * 60 + octets[10]
    return shown, -minutes if octets[8:9] == b"-" else minutes


def _clock_zone(raw: str) -> Value:
    _, minutes = _date_and_time(Answer(raw).octets(f"{_HOST}.1.2.0"))
    return {"utc_offset_minutes": minutes}


def _boot_hour(raw: str) -> Value:
    answer = Answer(raw)
    shown, minutes = _date_and_time(answer.octets(f"{_HOST}.1.2.0"))
    ticks = answer.integer(f"{_HOST}.1.1.0")
    try:
        booted = shown - timedelta(minutes=minutes or 0, seconds=ticks / 100) + timedelta(minutes=30)
    except OverflowError:
        raise ValueError("a boot before the calendar begins") from None
    return booted.strftime("%Y-%m-%dT%H:00Z" if minutes is not None else "%Y-%m-%dT%H:00")


def _memory(raw: str) -> Value:
    return Answer(raw).integer(f"{_HOST}.2.2.0") // 1024


def _unsigned(number: int) -> int:
    """Sizes above 2^31 units come negative from agents that overflow."""
    return number + 2**32 if number < 0 else number


def _storage(raw: str) -> Value:
    answer = Answer(raw)
    kinds = answer.column(f"{_HOST}.2.3.1.2")
    names = answer.texts(f"{_HOST}.2.3.1.3")
    sizes = answer.integers(f"{_HOST}.2.3.1.5")
    used = answer.integers(f"{_HOST}.2.3.1.6")
    rows: dict[str, int] = {}
    for index, kind in kinds.items():
        name, size = names.get(index, ""), _unsigned(sizes.get(index, 0))
        if kind.value == _FIXED_DISK and size and name and not name.startswith(_NO_STORE) and index in used:
            rows[name] = _unsigned(used[index]) * 100 // size
    return [{"mount": name, "used_percent": rows[name]} for name in sorted(rows)]


def _load(raw: str) -> Value:
    loads: dict[Oid, int] = Answer(raw).integers(f"{_HOST}.3.3.1.2")
    if not loads or not all(0 <= load <= 100 for load in loads.values()):
        raise ValueError("no processor load between 0 and 100")
    return round(sum(loads.values()) / len(loads) / 10) * 10


_HOSTS = ("server", "nas", "workstation")

FACTS: tuple[Fact, ...] = (
    Fact("device.description", "snmp", f"{_SYSTEM}.1.0", _description, "-", "SNMPv2-MIB::sysDescr (RFC 3418)"),
    Fact("device.name", "snmp", f"{_SYSTEM}.5.0", _name, "-", "SNMPv2-MIB::sysName (RFC 3418)"),
    Fact(
        "device.vendor",
        "snmp",
        f"{_SYSTEM}.2.0",
        _vendor,
        "IANA private enterprise number",
        "SNMPv2-MIB::sysObjectID (RFC 3418)",
    ),
    Fact("device.location", "snmp", f"{_SYSTEM}.6.0", _location, "-", "SNMPv2-MIB::sysLocation (RFC 3418)"),
    Fact(
        "device.contact",
        "snmp",
        f"{_SYSTEM}.4.0",
        _contact,
        "-",
        "SNMPv2-MIB::sysContact (RFC 3418)",
        keep_raw=False,
    ),
    Fact(
        "device.agent_boots",
        "snmp",
        _ENGINE_BOOTS,
        _agent_boots,
        "starts of the agent since it was set up",
        "SNMP-FRAMEWORK-MIB::snmpEngineBoots (RFC 3411)",
    ),
    Fact(
        "device.clock_zone",
        "snmp",
        f"{_HOST}.1.2.0",
        _clock_zone,
        "minutes from UTC",
        "HOST-RESOURCES-MIB::hrSystemDate (RFC 2790)",
    ),
    Fact(
        "device.boot_hour",
        "snmp",
        f"{_HOST}.1.1.0 {_HOST}.1.2.0",
        _boot_hour,
        "UTC time to the nearest hour, by the device's own clock",
        "HOST-RESOURCES-MIB::hrSystemUptime, hrSystemDate (RFC 2790)",
        kinds=_HOSTS,
    ),
    Fact(
        "device.memory",
        "snmp",
        f"{_HOST}.2.2.0",
        _memory,
        "MiB installed",
        "HOST-RESOURCES-MIB::hrMemorySize (RFC 2790)",
        kinds=_HOSTS,
    ),
    Fact(
        "device.storage",
        "snmp",
        " ".join(f"{_HOST}.2.3.1.{column}" for column in (2, 3, 5, 6)),
        _storage,
        "percent used per fixed disk",
        "HOST-RESOURCES-MIB::hrStorageTable (RFC 2790)",
        kinds=_HOSTS,
    ),
    Fact(
        "device.load",
        "snmp",
        f"{_HOST}.3.3.1.2",
        _load,
        "percent of the processors over the last minute, rounded to tens",
        "HOST-RESOURCES-MIB::hrProcessorLoad (RFC 2790)",
        kinds=_HOSTS,
    ),
)
