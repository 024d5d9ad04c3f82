"""What a printer says of itself: Printer-MIB (RFC 3805) and the printer part of HOST-RESOURCES-MIB (RFC 2790).

It refuses to report what changes with every page: idle and printing are the same health, and pages are
counted in thousands. It asks nothing about jobs, whose names could be patients' names.
"""

from __future__ import annotations

import re

from controlplane.collect.facts.snmp_text import Answer, Oid, word
from controlplane.domain.model import Fact, Value

_DEVICE = ".1.3.6.1.2.1.25.3"
_DEVICE_TYPE, _DEVICE_DESCR, _DEVICE_STATUS = (f"{_DEVICE}.2.1.{column}" for column in (2, 3, 5))
_PRINTER_STATUS, _ERRORS = f"{_DEVICE}.5.1.1", f"{_DEVICE}.5.1.2"
_IS_PRINTER = f"{_DEVICE}.1.5"
_PRT = ".1.3.6.1.2.1.43"
_SERIAL = f"{_PRT}.5.1.1.17"
_COVER_NAME, _COVER = f"{_PRT}.6.1.1.2", f"{_PRT}.6.1.1.3"
_TRAY_NAME, _TRAY_MAX, _TRAY_LEVEL = (f"{_PRT}.8.2.1.{column}" for column in (13, 9, 10))
_LIFE_UNIT, _LIFE = f"{_PRT}.10.2.1.3", f"{_PRT}.10.2.1.4"
_SUPPLY_NAME, _SUPPLY_MAX, _SUPPLY_LEVEL = (f"{_PRT}.11.1.1.{column}" for column in (6, 8, 9))
_ALERT_LEVEL, _ALERT_CODE = f"{_PRT}.18.1.1.2", f"{_PRT}.18.1.1.7"
_DESCRIPTION = ".1.3.6.1.2.1.1.1.0"

_HEALTH = {1: "unknown", 2: "running", 3: "warning", 4: "testing", 5: "down"}
# hrPrinterDetectedErrorState: bit -> word, and whether printing is blocked
_FAULTS = (
    ("low_paper", False),
    ("no_paper", True),
    ("low_toner", False),
    ("no_toner", True),
    ("door_open", True),
    ("jammed", True),
    ("offline", True),
    ("service_requested", False),
    ("input_tray_missing", True),
    ("output_tray_missing", True),
    ("marker_supply_missing", True),
    ("output_near_full", False),
    ("output_full", True),
    ("input_tray_empty", False),
    ("overdue_maintenance", False),
)
_COVERS = {1: "other", 2: "unknown", 3: "open", 4: "closed", 5: "interlock_open", 6: "interlock_closed"}
_FIRMWARE = re.compile(
    r"\b(?:firmware|fw|system software|engine|controller|rom)\s*(?:version|ver\.?|v\.?)?\s*[:=]?\s*"
    r"([A-Za-z]{0,3}[0-9][\w.\-]*)",
    re.IGNORECASE | re.ASCII,
)


def _model(raw: str) -> Value:
    answer = Answer(raw)
    names = answer.texts(_DEVICE_DESCR)
    kinds = {index: varbind.value for index, varbind in answer.column(_DEVICE_TYPE).items()}
    printers = [name for index, name in sorted(names.items()) if kinds.get(index, _IS_PRINTER) == _IS_PRINTER]
    if not printers:
        raise ValueError("no device of the type hrDevicePrinter")
    return printers[0]


def _serial(raw: str) -> Value:
    serials = [text for _, text in sorted(Answer(raw).texts(_SERIAL).items()) if text]
    if not serials:
        raise ValueError("no serial number")
    return serials[0]


def _condition(raw: str) -> Value:
    answer = Answer(raw)
    health = answer.integers(_DEVICE_STATUS)
    printers = sorted(answer.integers(_PRINTER_STATUS))
    if not printers:
        raise ValueError("no printer in hrPrinterTable")
    bits = answer.strings(_ERRORS)
    faults = [fault for index in printers for fault in _faults(bits.get(index, b""))]
    return {
        "device": word(health.get(printers[0], 1), _HEALTH),
        "faults": [name for name, _ in faults],
        "blocking": sum(blocks for _, blocks in faults),
    }


def _faults(bits: bytes) -> list[tuple[str, bool]]:
    return [
        fault
        for place, fault in enumerate(_FAULTS)
        if place // 8 < len(bits) and bits[place // 8] & (0x80 >> place % 8)
    ]


def _level(most: int | None, level: int | None) -> int | None:
    """Whole percent, or None where the printer only knows "some" (-3) or nothing (-2, -1)."""
    if most is None or level is None or most <= 0 or level < 0:
        return None
    return min(100, level * 100 // most)


def _supplies(raw: str) -> Value:
    answer = Answer(raw)
    names, most = answer.texts(_SUPPLY_NAME), answer.integers(_SUPPLY_MAX)
    levels = answer.integers(_SUPPLY_LEVEL)
    if not levels:
        raise ValueError("no supply with a level")
    rows = [
        {"name": names.get(index, ""), "percent": _level(most.get(index), levels[index])} for index in sorted(levels)
    ]
    known = [row["percent"] for row in rows if isinstance(row["percent"], int)]
    return {"lowest_percent": min(known, default=None), "supplies": rows}


def _pages(raw: str) -> Value:
    """prtMarkerLifeCount in thousands, where the unit is impressions (7) or sheets (8)."""
    answer = Answer(raw)
    units, life = answer.integers(_LIFE_UNIT), answer.integers(_LIFE)
    counted = [count for index, count in life.items() if units.get(index, 7) in (7, 8) and count >= 0]
    if not counted:
        raise ValueError("no marker that counts pages")
    return {"thousand_pages": max(counted) // 1000}


def _covers(raw: str) -> Value:
    answer = Answer(raw)
    names: dict[Oid, str] = answer.texts(_COVER_NAME)
    states = {index: word(state, _COVERS) for index, state in answer.integers(_COVER).items()}
    known = [index for index, state in sorted(states.items()) if state not in ("other", "unknown")]
    if not known:
        raise ValueError("no cover whose state is known")
    opened = [index for index in known if states[index] in ("open", "interlock_open")]
    return {"open": len(opened), "covers": [names.get(index, "") for index in opened]}


def _alerts(raw: str) -> Value:
    """How many alerts stand in the printer's own table. The serial number is asked with it: a table without
    alerts has no rows, and without a sign of life that would look like a printer without Printer-MIB."""
    answer = Answer(raw)
    if not answer.column(_SERIAL):
        raise ValueError("no prtGeneralTable")
    levels, codes = answer.integers(_ALERT_LEVEL), answer.integers(_ALERT_CODE)
    critical = sorted(codes.get(index, 2) for index, level in levels.items() if level == 3)
    return {
        "critical": len(critical),
        "warning": sum(level in (4, 5) for level in levels.values()),
        "critical_codes": critical,
    }


def _trays(raw: str) -> Value:
    answer = Answer(raw)
    names, most = answer.texts(_TRAY_NAME), answer.integers(_TRAY_MAX)
    levels = answer.integers(_TRAY_LEVEL)
    if not levels:
        raise ValueError("no input tray")
    empty = [index for index in sorted(levels) if levels[index] == 0 and most.get(index, 1) != 0]
    return {"trays": len(levels), "empty": len(empty), "empty_trays": [names.get(index, "") for index in empty]}


def _firmware(raw: str) -> Value:
    text = Answer(raw).words(_DESCRIPTION)
    match = _FIRMWARE.search(text)
    return {"version": match[1].rstrip(".,;") if match else None, "text": text}


_KINDS = ("printer",)


def _fact(name: str, ask: str, reader: object, unit: str, source: str) -> Fact:
    return Fact(name, "snmp", ask, reader, unit, source, kinds=_KINDS)  # type: ignore[arg-type]


FACTS: tuple[Fact, ...] = (
    _fact(
        "printer.model",
        f"{_DEVICE_TYPE} {_DEVICE_DESCR}",
        _model,
        "-",
        "HOST-RESOURCES-MIB::hrDeviceDescr (RFC 2790)",
    ),
    _fact("printer.serial", _SERIAL, _serial, "-", "Printer-MIB::prtGeneralSerialNumber (RFC 3805)"),
    _fact(
        "printer.condition",
        f"{_DEVICE_STATUS} {_PRINTER_STATUS} {_ERRORS}",
        _condition,
        "faults",
        "HOST-RESOURCES-MIB::hrDeviceStatus, hrPrinterDetectedErrorState (RFC 2790)",
    ),
    _fact(
        "printer.supplies",
        f"{_SUPPLY_NAME} {_SUPPLY_MAX} {_SUPPLY_LEVEL}",
        _supplies,
        "percent left per supply (room left, of a waste box)",
        "Printer-MIB::prtMarkerSuppliesLevel, prtMarkerSuppliesMaxCapacity (RFC 3805)",
    ),
    _fact(
        "printer.pages",
        f"{_LIFE_UNIT} {_LIFE}",
        _pages,
        "thousands of pages, rounded down",
        "Printer-MIB::prtMarkerLifeCount (RFC 3805)",
    ),
    _fact(
        "printer.covers",
        f"{_COVER_NAME} {_COVER}",
        _covers,
        "open covers",
        "Printer-MIB::prtCoverStatus (RFC 3805)",
    ),
    _fact(
        "printer.alerts",
        f"{_SERIAL} {_ALERT_LEVEL} {_ALERT_CODE}",
        _alerts,
        "alerts standing",
        "Printer-MIB::prtAlertSeverityLevel, prtAlertCode (RFC 3805)",
    ),
    _fact(
        "printer.trays",
        f"{_TRAY_NAME} {_TRAY_MAX} {_TRAY_LEVEL}",
        _trays,
        "input trays",
        "Printer-MIB::prtInputCurrentLevel (RFC 3805)",
    ),
    _fact("printer.firmware", _DESCRIPTION, _firmware, "-", "SNMPv2-MIB::sysDescr (RFC 3418)"),
)
