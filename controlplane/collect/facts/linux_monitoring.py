"""Central watching: Prometheus and its rules, the security events in one place, the logs of every device in one place.

What should be watched stands in ``/etc/emrctl/scope``, one name of the inventory a line. Figures are counts; names of
devices that are missing are given, accounts and addresses never.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from controlplane.collect.facts.linux_text import NEVER, lines, part, table, whole
from controlplane.domain.model import Fact

ACCESS_FIELDS = ("time", "source", "destination", "account", "action")
"""What a record of an access must hold (TCVN 14423:2026, log.fields)."""

ALERT_FIELDS = ("name", "device", "severity", "source", "type", "time")
"""What an alert must hold."""

_BRUTE = re.compile(r"brute|-bf\b|authentication_failures", re.IGNORECASE)
_ARRAY = re.compile(r"node_md_|mdadm|raid|degraded|btrfs_device|zpool", re.IGNORECASE)
_DATABASE = re.compile(r"\b(pg_|mysql_|postgres)", re.IGNORECASE)
_DOWN = re.compile(r"\b(up|probe_success|emr_probe_success)\b[^=]*(\{[^}]*\})?\s*==\s*0|absent\(")


def _scope(text: str) -> set[str]:
    return {line for line in lines(text) if not line.startswith("#")}


def _data(text: str, key: str) -> list[Any]:
    """A list out of an answer of Prometheus; nothing when there was no answer."""
    if not text.strip():
        return []
    found = table(text)
    data = found.get("data") if isinstance(found, dict) else None
    entries = data.get(key) if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("not an answer of Prometheus")
    return entries


def _label(entry: dict[str, Any], name: str) -> str:
    metric = entry.get("metric")
    return str(metric.get(name, "")) if isinstance(metric, dict) else ""


def _value(entry: dict[str, Any]) -> float:
    pair = entry.get("value")
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError("a sample without a value")
    return float(pair[1])


def _number(value: Any) -> float:
    """A finite figure. Raises ``ValueError``: a rule that waits for ever is no rule."""
    found = float(value)
    if not math.isfinite(found):
        raise ValueError("a figure that is not finite")
    return found


def _rules(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [rule for group in groups for rule in group.get("rules") or [] if isinstance(rule, dict)]
    return [rule for rule in found if rule.get("type") == "alerting" and rule.get("health") != "err"]


def read_prometheus(text: str) -> dict[str, Any]:
    """Prometheus on the host: what it reaches, how fresh, what it would raise an alarm for, and who is not watched.

    ``unseen`` are names of the scope that no target bears as ``asset`` or as the host of ``instance``.
    """
    scope, up, ages, rules, managers = part(text, "scope", "up", "ages", "rules", "managers")
    wanted, targets, old = _scope(scope), _data(up, "result"), _data(ages, "result")
    names = {_label(t, "asset") for t in targets} | {_label(t, "instance").rsplit(":", 1)[0] for t in targets}
    alerts = _rules(_data(rules, "groups"))
    queries = [str(rule.get("query", "")) for rule in alerts]
    waits = [_number(r.get("duration") or 0) for r, query in zip(alerts, queries, strict=True) if _DOWN.search(query)]
    unseen = sorted(wanted - names)
    return {
        "running": bool(up.strip()),
        "targets": len(targets),
        "down": sum(_value(t) == 0 for t in targets if _label(t, "__name__") == "up"),
        "old": sum(_value(age) > 300 for age in old) if old else None,
        "scope": len(wanted),
        "unseen": unseen[:40],
        "unseen_count": len(unseen) if wanted else None,
        "alert_rules": len(alerts),
        "down_rule_seconds": int(min(waits, default=NEVER)),
        "processor_rule": any("node_cpu" in q or "node_load" in q for q in queries),
        "memory_rule": any("node_memory" in q for q in queries),
        "array_rule": any(_ARRAY.search(q) for q in queries),
        "database_rule": any(_DATABASE.search(q) for q in queries),
        "alertmanagers": len(_data(managers, "activeAlertmanagers")),
    }


def _seconds(text: Any) -> int | None:
    """Seconds since 1970 of an ISO time, or None when it is none."""
    try:
        at = datetime.fromisoformat(re.sub(r"([+-][0-9]{2})([0-9]{2})$", r"\1:\2", str(text)))
    except ValueError:
        return None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _objects(text: str) -> list[dict[str, Any]]:
    """One JSON object a line; a first line that ``tail`` cut in two is left out."""
    found = []
    for number, line in enumerate(lines(text)):
        try:
            entry = table(line)
        except ValueError:
            if number:
                raise
            continue
        if not isinstance(entry, dict):
            raise ValueError("not an object a line")
        found.append(entry)
    return found


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _wazuh(entry: dict[str, Any]) -> dict[str, Any]:
    """An alert of Wazuh in this reader's words."""
    rule, agent, data = (_object(entry.get(key)) for key in ("rule", "agent", "data"))
    groups = rule.get("groups")
    return {
        "time": entry.get("timestamp"),
        "name": rule.get("description"),
        "severity": rule.get("level"),
        "device": agent.get("name"),
        "source": data.get("srcip") or entry.get("location"),
        "type": ",".join(map(str, groups)) if isinstance(groups, list) else None,
    }


def _crowdsec(entry: dict[str, Any]) -> dict[str, Any]:
    """An alert of CrowdSec in this reader's words; the device is the one whose log the first event came from."""
    source = _object(entry.get("source"))
    decision, event = _first(entry.get("decisions")), _first(entry.get("events"))
    meta = event.get("meta")
    told = {str(m.get("key")): m.get("value") for m in meta if isinstance(m, dict)} if isinstance(meta, list) else {}
    return {
        "time": entry.get("created_at"),
        "name": entry.get("scenario"),
        "severity": decision.get("type"),
        "device": told.get("machine") or entry.get("machine_id"),
        "source": source.get("value") or source.get("ip"),
        "type": told.get("log_type") or source.get("scope"),
    }


def _first(value: Any) -> dict[str, Any]:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}


def read_siem(text: str) -> dict[str, Any]:
    """The place where events are put together: Wazuh or CrowdSec, its rules, its newest alert, the newest brute force.

    ``fields_missing_percent`` is the share of mandatory fields that the sampled alerts lack.
    """
    now, running, wazuh, rules, crowdsec = part(text, "now", "running", "wazuh", "rules", "crowdsec")
    seconds = whole(now)
    alerts = [_wazuh(entry) for entry in _objects(wazuh)]
    listed = table(crowdsec) if crowdsec.strip() not in ("", "null") else []
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ValueError("not a list of alerts")
    alerts += [_crowdsec(entry) for entry in listed]
    times = [(_seconds(a["time"]), f"{a['name']} {a['type']}") for a in alerts]
    newest = max((at for at, _ in times if at), default=None)
    brute = max((at for at, words in times if at and _BRUTE.search(words)), default=None)
    return {
        "present": bool(lines(running)),
        "programs": sorted(set(lines(running))),
        "rules": sum(whole(line) for line in lines(rules)),
        "alerts": len(alerts),
        "alert_within_24_hours": newest is not None and 0 <= seconds - newest <= 86_400,
        "brute_force_days": NEVER if brute is None else max((seconds - brute) // 86_400, 0),
        "fields_missing_percent": _missing(alerts, ALERT_FIELDS),
    }


def _missing(events: list[dict[str, Any]], fields: tuple[str, ...]) -> float | None:
    """Percent of the mandatory fields that the events lack; no figure without any event."""
    if not events:
        return None
    absent = sum(event.get(name) in (None, "", "-") for event in events for name in fields)
    return round(100 * absent / (len(events) * len(fields)), 1)


def read_central(text: str) -> dict[str, Any]:
    """The logs of every device in one place: who sends, who is silent, what a record of an access holds.

    DHCP leases and findings of malware are looked for in the same place; ``malware_delay_seconds`` is the time between
    the finding and its arrival.
    """
    now, running, scope, senders, access, dhcp, malware = part(
        text, "now", "running", "scope", "senders", "access", "dhcp", "malware"
    )
    seconds, wanted = whole(now), _scope(scope)
    sending = {line.removesuffix(".jsonl") for line in lines(senders)}
    events, leases, found = _objects(access), _objects(dhcp), _objects(malware)
    leased = max((at for e in leases if (at := _seconds(e.get("time")))), default=None)
    arrived = [(at, came) for e in found if (at := _seconds(e.get("time"))) and (came := _seconds(e.get("received")))]
    last = max(arrived, default=None)
    silent = sorted(wanted - sending)
    return {
        "running": bool(lines(running)),
        "senders": len(sending),
        "silent": silent[:40],
        "silent_count": len(silent) if wanted else None,
        "access_events": len(events),
        "fields_missing_percent": _missing(events, ACCESS_FIELDS),
        "dhcp_within_24_hours": leased is not None and 0 <= seconds - leased <= 86_400,
        "malware_days": NEVER if last is None else max((seconds - last[0]) // 86_400, 0),
        "malware_delay_seconds": NEVER if last is None else max(last[1] - last[0], 0),
    }


_SCOPE = "cat /etc/emrctl/scope 2>/dev/null"
_API = "http://127.0.0.1:9090/api/v1"
_GET = "curl -sf --max-time 2 --noproxy 127.0.0.1"
_UP = "%7B__name__%3D~%22up%7Cprobe_success%7Cemr_probe_success%22%7D"
_CENTRAL = "/var/log/central"

FACTS: tuple[Fact, ...] = (
    Fact(
        "monitor.prometheus",
        "shell",
        "command -v curl >/dev/null || exit 69; "
        f"echo '-- scope'; {_SCOPE}; "
        f"echo '-- up'; {_GET} '{_API}/query?query={_UP}'; "
        f"echo; echo '-- ages'; {_GET} '{_API}/query?query=max(time()-timestamp(up))'; "
        f"echo; echo '-- rules'; {_GET} '{_API}/rules?type=alert'; "
        f"echo; echo '-- managers'; {_GET} '{_API}/alertmanagers'; echo; true",
        read_prometheus,
        "targets, rules, seconds",
        "Prometheus HTTP API v1: query, rules, alertmanagers",
    ),
    Fact(
        "siem.alerts",
        "shell",
        "echo '-- now'; date +%s; echo '-- running'; "
        "ps -eo comm= | grep -xE 'wazuh-analysisd|wazuh-analysis|crowdsec'; "
        # /var/ossec is closed to others: whether it is there is seen from outside, what it holds is asked as root.
        "echo '-- wazuh'; [ ! -d /var/ossec ] || "
        "${S} /usr/bin/tail -n 150 /var/ossec/logs/alerts/alerts.json || exit 77; echo '-- rules'; "
        "[ ! -d /var/ossec ] || ${S} /usr/bin/ls /var/ossec/ruleset/rules | grep -c xml; "
        "ls /etc/crowdsec/scenarios 2>/dev/null | grep -cE '[.]ya?ml$'; echo '-- crowdsec'; "
        "! ps -eo comm= | grep -qx crowdsec || ${S} /usr/bin/cscli alerts list -o json --limit 20 || exit 77",
        read_siem,
        "rules, alerts, days, percent",
        "Wazuh alerts.json, cscli(8)",
        privileged=True,
        keep_raw=False,
    ),
    Fact(
        "log.central",
        "shell",
        f"[ ! -d {_CENTRAL} ] || [ -r {_CENTRAL} ] || exit 77; "
        f'for f in {_CENTRAL}/*.jsonl; do [ ! -e "$f" ] || [ -r "$f" ] || exit 77; done; '
        "echo '-- now'; date +%s; echo '-- running'; ps -eo comm= | grep -xE 'rsyslogd|syslog-ng' | head -n 1; "
        f"echo '-- scope'; {_SCOPE}; echo '-- senders'; "
        f"find {_CENTRAL} -maxdepth 1 -name '*.jsonl' -mtime -1 -size +0 -printf '%f\\n' 2>/dev/null; "
        f't() {{ for f in {_CENTRAL}/*.jsonl; do [ -r "$f" ] && tail -c 300000 "$f"; done; }}; echo \'-- access\'; '
        't | grep -E \'"event": ?"access"|"message": ?" ?(Accepted |Failed password|Invalid user)\' | tail -n 200; '
        "echo '-- dhcp'; "
        "t | grep -E '\"program\": ?\"(dnsmasq-dhcp|dhcpd|kea-dhcp4)\"' | grep -E 'DHCPACK|LEASE_ALLOC' | tail -n 1; "
        "echo '-- malware'; t | grep -E '\"program\": ?\"(clamd|clamav|clamonacc)\"' | grep ' FOUND' | tail -n 5; true",
        read_central,
        "devices, events, percent, seconds",
        "rsyslog.conf(5) with a JSON template; docs/reference/backup-state.md",
        keep_raw=False,
    ),
)
