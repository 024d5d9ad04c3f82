"""What an uninterruptible power supply says of itself: UPS-MIB (RFC 1628).

It refuses to shut anything down or start a test, and to report figures finer than a decision needs:
minutes left in fives, load in tens.
"""

from __future__ import annotations

from controlplane.collect.facts.snmp_text import Answer, word
from controlplane.domain.model import Fact, Value

_UPS = ".1.3.6.1.2.1.33.1"
_MAKER, _MODEL, _FIRMWARE = (f"{_UPS}.1.{item}.0" for item in (1, 2, 3))
_BATTERY, _ON_BATTERY, _MINUTES, _CHARGE = (f"{_UPS}.2.{item}.0" for item in (1, 2, 3, 4))
_SOURCE, _LOAD = f"{_UPS}.4.1.0", f"{_UPS}.4.4.1.5"
_ALARMS = f"{_UPS}.6.1.0"
_TEST_RESULT, _TEST_STARTED = f"{_UPS}.7.3.0", f"{_UPS}.7.5.0"
_UPTIME = ".1.3.6.1.2.1.1.3.0"
_TICKS_A_DAY = 8_640_000

_BATTERIES = {2: "normal", 3: "low", 4: "depleted"}
_SOURCES = {1: "other", 2: "none", 3: "normal", 4: "bypass", 5: "battery", 6: "booster", 7: "reducer"}
_RESULTS = {1: "passed", 2: "warning", 3: "failed", 4: "aborted", 5: "in_progress", 6: "never_tested"}


def _identity(raw: str) -> Value:
    answer = Answer(raw)
    names = (("manufacturer", _MAKER), ("model", _MODEL), ("firmware", _FIRMWARE))
    return {name: answer.maybe_words(oid) or "" for name, oid in names}


def _battery(raw: str) -> Value:
    """The battery's state, or None when the UPS itself says unknown(1)."""
    state = Answer(raw).integer(_BATTERY)
    return None if state == 1 else word(state, _BATTERIES)


def _percent(number: int) -> int:
    if not 0 <= number <= 200:  # an overloaded UPS reports more than 100
        raise ValueError(f"{number} is no percentage")
    return number


def _runtime(raw: str) -> Value:
    minutes = Answer(raw).integer(_MINUTES)
    if minutes < 0:
        raise ValueError("negative minutes")
    return minutes // 5 * 5


def _charge(raw: str) -> Value:
    return min(100, _percent(Answer(raw).integer(_CHARGE)))


def _source(raw: str) -> Value:
    return word(Answer(raw).integer(_SOURCE), _SOURCES)


def _on_battery(raw: str) -> Value:
    seconds = Answer(raw).integer(_ON_BATTERY)
    if seconds < 0:
        raise ValueError("negative seconds")
    return -(-seconds // 60)


def _load(raw: str) -> Value:
    loads = Answer(raw).integers(_LOAD)
    if not loads:
        raise ValueError("no output line")
    return -(-max(_percent(load) for load in loads.values()) // 10) * 10


def _alarms(raw: str) -> Value:
    return Answer(raw).integer(_ALARMS)


def _self_test(raw: str) -> Value:
    """The last test's result and its age. The age is unknown when the agent restarted since: upsTestStartTime
    counts from the agent's start, so a start later than now lies before the last restart or wrap."""
    answer = Answer(raw)
    result = word(answer.integer(_TEST_RESULT), _RESULTS)
    started, uptime = answer.maybe_integer(_TEST_STARTED), answer.maybe_integer(_UPTIME)
    dated = result != "never_tested" and started is not None and uptime is not None and 0 < started <= uptime
    age = (uptime - started) // _TICKS_A_DAY if dated and uptime is not None and started is not None else None
    return {"result": result, "age_days": age}


_KINDS = ("ups",)


def _fact(name: str, ask: str, reader: object, unit: str, source: str) -> Fact:
    return Fact(name, "snmp", ask, reader, unit, f"UPS-MIB::{source} (RFC 1628)", kinds=_KINDS)  # type: ignore[arg-type]


FACTS: tuple[Fact, ...] = (
    _fact("ups.identity", f"{_MAKER} {_MODEL} {_FIRMWARE}", _identity, "-", "upsIdent"),
    _fact("ups.battery", _BATTERY, _battery, "-", "upsBatteryStatus"),
    _fact("ups.runtime", _MINUTES, _runtime, "minutes, rounded down to fives", "upsEstimatedMinutesRemaining"),
    _fact("ups.charge", _CHARGE, _charge, "percent", "upsEstimatedChargeRemaining"),
    _fact("ups.source", _SOURCE, _source, "-", "upsOutputSource"),
    _fact("ups.on_battery", _ON_BATTERY, _on_battery, "minutes, begun ones counted", "upsSecondsOnBattery"),
    _fact("ups.load", _LOAD, _load, "percent of the busiest line, rounded up to tens", "upsOutputPercentLoad"),
    _fact("ups.alarms", _ALARMS, _alarms, "alarms standing", "upsAlarmsPresent"),
    _fact(
        "ups.self_test",
        f"{_UPTIME} {_TEST_RESULT} {_TEST_STARTED}",
        _self_test,
        "days since the last test",
        "upsTestResultsSummary, upsTestStartTime; SNMPv2-MIB::sysUpTime",
    ),
)
