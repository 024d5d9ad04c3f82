"""Printer-MIB and the printer's rows of HOST-RESOURCES-MIB, from a state file; it refuses to answer from a broken one.

Source: RFC 3805 and RFC 2790 (hrPrinterStatus, hrDeviceStatus and the error bits follow its table of states). The file
is the whole state of the machine; a test that opens the cover writes ``"cover_open": true`` into it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lab.agents.persist import Table, bits, octets, oid, serve

STATE = Path("/var/lib/printer/state.json")
PRINTER = oid("1.3.6.1.2.1.43")
DEVICE = oid("1.3.6.1.2.1.25.3.2.1")
STATUS = oid("1.3.6.1.2.1.25.3.5.1")

IDLE, PRINTING = 3, 4
RUNNING, WARNING, DOWN = 2, 3, 5
# hrPrinterDetectedErrorState, by position of the bit.
LOW_PAPER, NO_PAPER, LOW_TONER, NO_TONER, DOOR_OPEN, JAMMED = range(6)
# prtAlertSeverityLevel, prtAlertGroup and prtAlertCode.
CRITICAL, WARN = 3, 4
COVER, INPUT, MARKER, SUPPLIES = 6, 8, 10, 11


def troubles(state: dict[str, Any]) -> list[tuple[int, int, int, int, int, str]]:
    """What is wrong now: severity, group, row in the group, alert code, error bit, description."""
    found = []
    if state["cover_open"]:
        found.append((CRITICAL, COVER, 1, 3, DOOR_OPEN, "Cover open"))
    if state["jammed"]:
        found.append((CRITICAL, MARKER, 1, 8, JAMMED, "Paper jam"))
    for at, supply in enumerate(state["supplies"], start=1):
        share = 100 * supply["level"] / supply["capacity"]
        if supply["type"] == "toner" and share <= 0:
            found.append((CRITICAL, SUPPLIES, at, 1101, NO_TONER, f"{supply['name']} empty"))
        elif supply["type"] == "toner" and share < 10:
            found.append((WARN, SUPPLIES, at, 1104, LOW_TONER, f"{supply['name']} low"))
    for at, tray in enumerate(state["trays"], start=1):
        if tray["level"] <= 0:
            found.append((CRITICAL, INPUT, at, 808, NO_PAPER, f"{tray['name']} empty"))
        elif tray["level"] < tray["capacity"] / 10:
            found.append((WARN, INPUT, at, 807, LOW_PAPER, f"{tray['name']} low"))
    return found


def read_table() -> Table:
    """Every object this agent answers; nothing at all when the state file cannot be read."""
    try:
        state = json.loads(STATE.read_text(encoding="utf-8"))
        table: Table = {}
        wrong = troubles(state)
        _status(table, state, wrong)
        _machine(table, state, wrong)
        _supplies(table, state)
        for at, (severity, group, row, code, _, words) in enumerate(wrong, start=1):
            entry = (*PRINTER, 18, 1, 1)
            for column, value in ((2, severity), (3, 3), (4, group), (5, row), (6, -2), (7, code)):
                table[(*entry, column, 1, at)] = ("integer", str(value))
            table[(*entry, 8, 1, at)] = ("string", words)
            table[(*entry, 9, 1, at)] = ("timeticks", "0")
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return {}
    return table


def _status(table: Table, state: dict[str, Any], wrong: list[tuple[int, int, int, int, int, str]]) -> None:
    stopped = any(severity == CRITICAL for severity, *_ in wrong)
    device = DOWN if stopped else WARNING if wrong else RUNNING
    printer = 1 if stopped else PRINTING if state["printing"] else IDLE
    table[(*DEVICE, 1, 1)] = ("integer", "1")
    table[(*DEVICE, 2, 1)] = ("objectid", ".1.3.6.1.2.1.25.3.1.5")  # hrDevicePrinter
    table[(*DEVICE, 3, 1)] = ("string", state["model"])
    table[(*DEVICE, 4, 1)] = ("objectid", ".0.0")
    table[(*DEVICE, 5, 1)] = ("integer", str(device))
    table[(*DEVICE, 6, 1)] = ("counter", "0")
    table[(*STATUS, 1, 1)] = ("integer", str(printer))
    table[(*STATUS, 2, 1)] = octets(bits({bit for *_, bit, _ in wrong}, 2))


def _machine(table: Table, state: dict[str, Any], wrong: list[tuple[int, int, int, int, int, str]]) -> None:
    table[(*PRINTER, 5, 1, 1, 16, 1)] = ("string", state["model"])
    table[(*PRINTER, 5, 1, 1, 17, 1)] = ("string", state["serial"])
    table[(*PRINTER, 6, 1, 1, 2, 1, 1)] = ("string", "Front cover")
    table[(*PRINTER, 6, 1, 1, 3, 1, 1)] = ("integer", "3" if state["cover_open"] else "4")
    for at, tray in enumerate(state["trays"], start=1):
        entry = (*PRINTER, 8, 2, 1)
        for column, value in ((2, 3), (8, 8), (9, tray["capacity"]), (10, tray["level"]), (11, 0)):
            table[(*entry, column, 1, at)] = ("integer", str(int(value)))
        for column, text in ((12, tray["media"]), (13, tray["name"]), (18, tray["name"])):
            table[(*entry, column, 1, at)] = ("string", text)
    for column, value in ((2, 4), (3, 7), (15, 0)):  # laser, counts impressions, available and idle
        table[(*PRINTER, 10, 2, 1, column, 1, 1)] = ("integer", str(value))
    for column in (4, 5):
        table[(*PRINTER, 10, 2, 1, column, 1, 1)] = ("counter", str(int(state["pages"])))
    display = wrong[0][5] if wrong else ("Printing" if state["printing"] else "Ready")
    table[(*PRINTER, 16, 5, 1, 2, 1, 1)] = ("string", display)


def _supplies(table: Table, state: dict[str, Any]) -> None:
    types = {"toner": 3, "drum": 9}
    for at, supply in enumerate(state["supplies"], start=1):
        entry = (*PRINTER, 11, 1, 1)
        numbers = ((2, 1), (3, 1), (4, 3), (5, types.get(supply["type"], 1)), (7, 19))  # unit 19: percent
        for column, value in (*numbers, (8, supply["capacity"]), (9, supply["level"])):
            table[(*entry, column, 1, at)] = ("integer", str(int(value)))
        table[(*entry, 6, 1, at)] = ("string", supply["name"])
    table[(*PRINTER, 12, 1, 1, 2, 1, 1)] = ("integer", "1")
    table[(*PRINTER, 12, 1, 1, 3, 1, 1)] = ("integer", "3")  # process colour
    table[(*PRINTER, 12, 1, 1, 4, 1, 1)] = ("string", "black")


if __name__ == "__main__":
    serve(read_table)
