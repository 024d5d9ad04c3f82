"""UPS-MIB from a state file; it refuses to answer from a broken one.

Source: RFC 1628. Units follow the MIB: minutes, percent, tenths of a volt for the battery, volts and tenths of a hertz
for the lines, degrees Celsius. A test that pulls the mains plug writes ``"on_battery_seconds": 30`` into the file.
"""

from __future__ import annotations

import json
from pathlib import Path

from lab.agents.persist import Table, oid, serve

STATE = Path("/var/lib/ups/state.json")
UPS = oid("1.3.6.1.2.1.33.1")

ON_BATTERY, LOW_BATTERY, BATTERY_BAD = 2, 3, 1  # the last number of the well-known alarms


def read_table() -> Table:
    """Every object this agent answers; nothing at all when the state file cannot be read."""
    try:
        state = json.loads(STATE.read_text(encoding="utf-8"))
        on_battery = int(state["on_battery_seconds"])
        low = state["minutes_remaining"] <= 2
        alarms = [number for number, true in ((ON_BATTERY, on_battery > 0), (LOW_BATTERY, low)) if true]
        alarms += [BATTERY_BAD] if state["battery_bad"] else []
        texts = {(1, 1, 0): "Lab", (1, 2, 0): state["model"], (1, 3, 0): "1.0", (1, 4, 0): "1.0", (1, 5, 0): "ups-01"}
        numbers = {
            (2, 1, 0): 3 if low else 2,  # batteryLow, batteryNormal
            (2, 2, 0): on_battery,
            (2, 3, 0): state["minutes_remaining"],
            (2, 4, 0): state["charge_percent"],
            (2, 5, 0): 273,
            (2, 7, 0): state["temperature_celsius"],
            (3, 2, 0): 1,
            (3, 3, 1, 2, 1): 0 if on_battery else 500,
            (3, 3, 1, 3, 1): 0 if on_battery else 231,
            (4, 1, 0): 5 if on_battery else 3,  # battery, normal
            (4, 2, 0): 500,
            (4, 3, 0): 1,
            (4, 4, 1, 2, 1): 230,
            (4, 4, 1, 5, 1): state["load_percent"],
            (7, 3, 0): state["last_test"],
        }
        table: Table = {(*UPS, *at): ("string", text) for at, text in texts.items()}
        table |= {(*UPS, *at): ("integer", str(int(number))) for at, number in numbers.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    table[(*UPS, 3, 1, 0)] = ("counter", str(int(on_battery > 0)))
    table[(*UPS, 6, 1, 0)] = ("gauge", str(len(alarms)))
    for at, number in enumerate(alarms, start=1):
        table[(*UPS, 6, 2, 1, 2, at)] = ("objectid", f".1.3.6.1.2.1.33.1.6.3.{number}")
        table[(*UPS, 6, 2, 1, 3, at)] = ("timeticks", "0")
    return table


if __name__ == "__main__":
    serve(read_table)
