"""Clock and records of a Linux host: time synchronisation, logs kept and forwarded, audit. It reads no log entry."""

from __future__ import annotations

import re
from typing import Any

from controlplane.collect.facts.linux_text import NEVER, lines, number, part, settings, whole
from controlplane.domain.model import Fact

_BOUNDS = (0.01, 0.1, 1, 10, 60, 3600)
_SPANS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
_SPANS |= {"w": 604_800, "week": 604_800, "month": 2_629_800, "y": 31_557_600, "year": 31_557_600}
_PERIOD_DAYS = {"hourly": 0, "daily": 1, "weekly": 7, "monthly": 30, "yearly": 365}


def read_time_sync(text: str) -> dict[str, Any]:
    """Which daemon keeps the clock, whether it is in step, and the bound that the offset lies under, in seconds.

    The offset itself trembles; the bound (0.01, 0.1, 1, 10, 60, 3600) stands still.
    """
    chrony, timesyncd, ntp = part(text, "chrony", "timesyncd", "ntp")
    cells = chrony.strip().split(",")
    if len(cells) == 4:
        in_step = cells[0] == "remote" and cells[3] != "Not synchronised"
        return _clock("chrony", in_step, cells[1], number(cells[2]))
    if timesyncd.strip():
        offset, stratum = re.search(r"Offset: (.*)", timesyncd), re.search(r"Stratum: ([0-9]{1,2})\b", timesyncd)
        seconds = 0.5 if offset and offset[1] == "below 1s" else float(NEVER)
        return _clock("timesyncd", "in step" in timesyncd, stratum[1] if stratum else "16", seconds)
    if found := dict(re.findall(r"\b(stratum|offset|leap)=([+-]?[0-9]{1,9})\b", ntp)):
        milliseconds = number(found.get("offset", str(NEVER)))
        return _clock("ntp", found.get("leap", "11") != "11", found.get("stratum", "16"), milliseconds / 1000)
    return _clock("none", False, "16", NEVER)


def _clock(daemon: str, in_step: bool, stratum: str, offset: float) -> dict[str, Any]:
    under = next((bound for bound in _BOUNDS if abs(offset) < bound), NEVER)
    return {
        "daemon": daemon,
        "synchronised": in_step,
        "stratum": whole(stratum) if in_step else None,
        "offset_below_seconds": under if in_step else NEVER,
    }


def read_time_sources(text: str) -> dict[str, Any]:
    """Time servers named in the configuration."""
    names = set()
    for line in lines(text):
        cells = line.split()
        if cells[0] in ("server", "pool", "peer", "refclock") and len(cells) > 1:
            names.add(cells[1])
        elif cells[0].startswith(("NTP=", "FallbackNTP=")):
            names |= set(line.partition("=")[2].split())
        else:
            raise ValueError("not a time source")
    return {"configured": len(names), "sources": sorted(names)}


def read_services(text: str) -> dict[str, Any]:
    """Whether each daemon that the checks know is running."""
    known = ("chronyd", "rsyslogd", "journald", "auditd", "clamd", "clamonacc", "freshclam", "cron", "fail2ban")
    found = set(lines(text))
    if "init" not in found:
        raise ValueError("the list of processes lacks its own mark")
    return {name: name in found for name in known}


def read_retention(text: str) -> dict[str, Any]:
    """Days that the host keeps its logs: by logrotate for syslog, by MaxRetentionSec for a persistent journal.

    ``days`` is the longer of the two. A persistent journal bounded by size alone has no figure of days.
    """
    journal, stored, conf, syslog = part(text, "journal", "stored", "conf", "syslog")
    options = settings(journal)
    storage = options.get("Storage", "auto")
    persistent = storage == "persistent" or (storage == "auto" and bool(stored.strip()))
    journal_days = _span_days(options.get("MaxRetentionSec", "0")) if persistent else 0
    syslog_days = _rotated_days(conf, syslog)
    known = [days for days in (journal_days, syslog_days) if days is not None]
    return {
        "persistent_journal": persistent,
        "journal_days": journal_days,
        "syslog_days": syslog_days,
        "days": None if journal_days is None and not syslog_days else max(known),
    }


def _span_days(text: str) -> int | None:
    """Whole days of a systemd time span; 0 means no limit by time, which is no figure."""
    seconds = 0.0
    for amount, unit in re.findall(r"([0-9]{1,9})\s*([a-z]*)", text):
        plain = unit.rstrip("s") if unit not in ("", "s") else "s"
        seconds += int(amount) * _SPANS.get(plain, 0)
    return int(seconds // 86400) or None


def _rotated_days(conf: str, syslog: str) -> int | None:
    """Rotations times period of the system log; 0 without rules for it, no figure when size decides."""
    rules = re.findall(r"\{(.*?)\}", syslog, re.DOTALL)
    if not rules:
        return 0
    days = []
    for rule in rules:
        rotate = period = None
        sized = False
        for line in lines(re.sub(r"\{.*?\}", "", conf, flags=re.DOTALL)) + lines(rule):
            word, _, rest = line.partition(" ")
            if word == "rotate":
                rotate = whole(rest)
            elif word in _PERIOD_DAYS:
                period = _PERIOD_DAYS[word]
            sized = sized or word in ("size", "maxsize")
        if sized or rotate is None or period is None:
            return None
        days.append(rotate * period)
    return min(days)


def read_forwarding(text: str) -> dict[str, Any]:
    """Rules that send the log to another machine (rsyslog, systemd-journal-upload)."""
    found = [line for line in lines(text) if not line.startswith("#")]
    encrypted = sum("StreamDriverMode" in line or "https://" in line for line in found)
    return {"targets": len(found), "encrypted": encrypted}


def read_audit(text: str) -> dict[str, Any]:
    """Rules that the kernel's audit holds now."""
    found = lines(text)
    if found == ["absent"]:
        return {"installed": False, "rules": 0}
    rules = [line for line in found if line.startswith("-")]
    if len(rules) != len(found) and found != ["No rules"]:
        raise ValueError("not a list of audit rules")
    return {"installed": True, "rules": len(rules)}


def read_log_permissions(text: str) -> dict[str, Any]:
    """Log files that everybody on the host may read or change, apart from those meant to be public."""
    readable = writable = seen = 0
    for line in lines(text):
        mode, _, name = line.partition(" ")
        if not re.fullmatch(r"[0-7]{3,4}", mode) or not name:
            raise ValueError("not a mode and a name")
        seen += 1
        readable += int(mode, 8) & 0o004 > 0
        writable += int(mode, 8) & 0o002 > 0
    return {"files": seen, "world_readable": readable, "world_writable": writable}


OWN_PROCESSES = (
    'me=$(readlink /proc/self/ns/pid | tr -dc 0-9); ps -e -o pidns=,comm= | awk -v me="$me" '
    "'$1 == me || $1 == \"-\" { print $2 }'"
)
"""Shell text: the names of the processes of this host itself, not those of containers on it."""

_RUNNING = (
    f"echo init; {OWN_PROCESSES} | sed 's/^systemd-journal$/journald/' | sort -u | "
    "grep -xE 'chronyd|rsyslogd|journald|auditd|clamd|clamonacc|freshclam|cron|fail2ban'; true"
)

FACTS: tuple[Fact, ...] = (
    Fact(
        "time.sync",
        "shell",
        # Offsets are rounded on the device, so that a clock in step gives the same bytes at every look. A clock that
        # chrony holds to itself (reference 7F7F0101) follows no server.
        "echo '-- chrony'; command -v chronyc >/dev/null && chronyc -n -c tracking 2>/dev/null | "
        """awk -F, 'NF == 14 { printf "%s,%s,%.2f,%s\\n", $1 == "7F7F0101" ? "local" : "remote", $3, """
        "$5 < 0 ? -$5 : $5, $14 }'; "
        "echo '-- timesyncd'; if [ -d /run/systemd/timesync ] && [ -d /run/systemd/system ]; then "
        "[ -e /run/systemd/timesync/synchronized ] && echo 'in step'; "
        "timedatectl timesync-status --no-pager 2>/dev/null | grep -E 'Stratum|Offset' "
        "| sed -E 's/Offset: [+-]?[0-9.]+(us|ms)$/Offset: below 1s/'; fi; "
        "echo '-- ntp'; command -v ntpq >/dev/null && ntpq -n -c rv 127.0.0.1 2>/dev/null "
        "| grep -oE '(stratum|leap|offset)=[^,]*' | sed -E 's/[.][0-9]+//'; true",
        read_time_sync,
        "seconds that the offset lies under",
        "chronyc(1) tracking, timedatectl(1), ntpq(8)",
    ),
    Fact(
        "time.sources",
        "shell",
        "grep -hsE '^[[:space:]]*(server|pool|peer|refclock)[[:space:]]' /etc/chrony/chrony.conf "
        "/etc/chrony/conf.d/*.conf /etc/chrony/sources.d/*.sources /etc/chrony.conf /etc/ntp.conf "
        "/etc/ntpsec/ntp.conf; "
        "grep -hsE '^(Fallback)?NTP=.' /etc/systemd/timesyncd.conf /etc/systemd/timesyncd.conf.d/*.conf; true",
        read_time_sources,
        "servers",
        "chrony.conf(5), timesyncd.conf(5), ntp.conf(5)",
    ),
    Fact("service.running", "shell", _RUNNING, read_services, "-", "ps(1)"),
    Fact(
        "log.retention",
        "shell",
        "echo '-- journal'; grep -hsE '^(Storage|MaxRetentionSec|SystemMaxUse)=' /etc/systemd/journald.conf "
        "/etc/systemd/journald.conf.d/*.conf; echo '-- stored'; ls -d /var/log/journal 2>/dev/null; "
        "echo '-- conf'; grep -hsE '^[^#]' /etc/logrotate.conf; "
        "echo '-- syslog'; grep -hsE '^[^#]' /etc/logrotate.d/rsyslog /etc/logrotate.d/syslog; true",
        read_retention,
        "days",
        "journald.conf(5), logrotate(8)",
    ),
    Fact(
        "log.forwarding",
        "shell",
        "grep -hsE '^[^#]*([[:space:]]@@?[[:alnum:][(]|omfwd|omrelp)' /etc/rsyslog.conf /etc/rsyslog.d/*.conf; "
        "grep -hsE '^URL=.' /etc/systemd/journal-upload.conf; true",
        read_forwarding,
        "rules",
        "rsyslog.conf(5), journal-upload.conf(5)",
    ),
    Fact(
        "log.audit",
        "shell",
        "[ -x /usr/sbin/auditctl ] || { echo absent; exit 0; }; ${S} /usr/sbin/auditctl -l",
        read_audit,
        "rules",
        "auditctl(8)",
        privileged=True,
    ),
    Fact(
        "log.permissions",
        "shell",
        "cd /var/log && stat -c '%a %n' auth.log syslog messages secure kern.log daemon.log user.log mail.log cron.log "
        "2>/dev/null; true",
        read_log_permissions,
        "files",
        "stat(1)",
    ),
)
