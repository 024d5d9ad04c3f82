"""Which events leave a Linux host for the central log, whether they really leave, and how much room logs have.

It reads rules, counters and ages; it reads no log entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from controlplane.collect.facts.linux_logging import OWN_PROCESSES
from controlplane.collect.facts.linux_text import day, lines, moment, part, settings, whole
from controlplane.domain.model import Fact

LOG_PORTS = (514, 601, 1514, 2514, 5140, 5514, 6514, 10514, 19532, 20514)
"""Ports of log servers that a look watches for an open connection; on another port there is no figure."""

BACKLOG_MINUTES = 60
_CAP_DAYS = 400
_EARLY_DAYS = 3

_SELECTOR = re.compile(r"^[*a-z0-9,]+\.[*a-z!=]+(;[*a-z0-9,]+\.[*a-z!=]+)*$")
_ENOUGH = ("*", "debug", "info")


def _forwards(rules: str) -> Iterator[tuple[str, str, str, str]]:
    """(selector, protocol, target, port) of every rule of rsyslog that sends the log to another machine."""
    joined = re.sub(r"\(([^)]*)\)", lambda inner: "(" + inner[1].replace("\n", " ") + ")", rules)
    depth, condition = 0, False  # an action inside a condition sends only what the condition lets through
    for line in lines(joined):
        first = line.split()[0]
        plain = first.startswith("action(") and depth == 0 and not condition
        selector = first if _SELECTOR.match(first) else "*.*" if plain else ""
        depth += line.count("{") - line.count("}")
        condition = line.endswith(("then", "else"))
        if old := re.search(r"(?:^|\s)(@@?)(?:\([^)]*\))?(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", line):
            yield selector, "tcp" if old[1] == "@@" else "udp", str(old[2]), str(old[3] or "514")
        elif new := re.search(r'type="(omfwd|omrelp)"', line):
            options: dict[str, str] = dict(re.findall(r'\b([A-Za-z]+)="([^"]*)"', line))
            protocol = "relp" if new[1] == "omrelp" else options.get("protocol", options.get("Protocol", "udp"))
            port = options.get("port", options.get("Port", "514"))
            yield selector, protocol, options.get("target", options.get("Target", "")), port


def _covers(selector: str, facility: str) -> bool:
    """Whether a selector lets the ordinary messages of a facility pass; later parts win over earlier ones."""
    passes = False
    for one in selector.split(";"):
        names, _, priority = one.partition(".")
        if {"*", facility} & set(names.split(",")):
            passes = priority in _ENOUGH
    return passes


def _here(target: str) -> bool:
    return target in ("", "localhost", "[::1]", "::1") or target.startswith("127.")


def read_coverage(text: str) -> dict[str, Any]:
    """Which kinds of events are sent away: access, application, security alerts, processes, software changes.

    A program that writes its own files is covered when rsyslog reads its folder; a security program when it speaks
    to syslog or rsyslog reads its file.
    """
    names = ("rules", "upload", "audisp", "security", "folders")
    rules, upload, audisp, security, folders = part(text, *names)
    selectors = [selector for selector, _, target, _ in _forwards(rules) if not _here(target)]
    whole_journal = "URL=" in upload
    read = re.findall(r'(?:File="|InputFileName\s+)([^"\s]+)', rules) if selectors else []

    def sent(*facilities: str) -> bool:
        return whole_journal or all(any(_covers(one, f) for one in selectors) for f in facilities)

    left = [folder for folder in lines(folders) if not any(file.startswith(folder + "/") for file in read)]
    plugins = set(re.findall(r"/([a-z-]+)\.conf:active\s*=\s*yes\s*$", audisp, re.MULTILINE))
    process = "au-remote" in plugins or ("syslog" in plugins and sent("user")) or "/var/log/audit/audit.log" in read
    alerts = [_alert_sent(line, read) for line in lines(security)]
    found = {
        "access": sent("auth", "authpriv"),
        "application": sent("daemon", "user") and not left,
        "security_alert": bool(alerts) and all(alerts) and sent("daemon"),
        "process": process,
        "software": "/var/log/dpkg.log" in read,
    }
    return found | {"folders_left": left, "missing": sorted(name for name, sends in found.items() if not sends)}


def _alert_sent(line: str, read: list[str]) -> bool:
    """A line ``program target`` of a security program: syslog, the journal, or a file that rsyslog reads."""
    cells = line.split()
    if len(cells) != 2:
        raise ValueError("not a program and a target")
    return cells[1].lower() in ("syslog", "systemd-journal", "journal", "true", "yes") or cells[1] in read


def read_shipping(text: str) -> dict[str, Any]:
    """Whether what is sent arrives at another machine: connections that stand, queues that are empty.

    UDP tells nobody whether it arrived, so then ``alive`` has no figure; nor has it for a port outside ``LOG_PORTS``.
    ``sent_hours`` is the age of journal-upload's own mark of success.
    """
    now, rules, upload, state, peers, backlog = part(text, "now", "rules", "upload", "state", "peers", "backlog")
    targets = {(protocol, port) for _, protocol, target, port in _forwards(rules) if not _here(target)}
    address = re.search(r"^URL=(\S+)", upload, re.MULTILINE)
    uploads = address is not None and not _here(re.sub(r"^https?://|[:/][^:/]*$|:[0-9]+$", "", address[1]))
    open_ports = {peer.rpartition(":")[2] for peer in lines(peers) if not _here(peer.rpartition(":")[0])}
    waiting = len(lines(backlog))
    hours = (moment(now) - moment(state)).total_seconds() // 3600 if state.strip() else None
    signs = [_stands(protocol, port, open_ports) for protocol, port in sorted(targets)]
    if uploads:
        signs.append(hours is not None and hours <= 24)
    alive: bool | None = bool(signs) and waiting == 0
    if alive and False in signs:
        alive = False
    elif alive and None in signs:
        alive = None
    return {
        "targets": len(targets) + uploads,
        "alive": alive,
        "backlog": waiting,
        "sent_hours": None if hours is None else max(int(hours), 0),
    }


def _stands(protocol: str, port: str, open_ports: set[str]) -> bool | None:
    if protocol == "udp" or not port.isascii() or not port.isdecimal() or int(port) not in LOG_PORTS:
        return None
    return port in open_ports


def read_audit_coverage(text: str) -> dict[str, Any]:
    """What the kernel's audit records now, whether its records name the machine, and who is told before it is full."""
    rules, conf = part(text, "rules", "conf")
    if rules.strip() == "absent":
        return _audit([], {})
    found = lines(rules)
    if found != ["No rules"] and not all(line.startswith("-") for line in found):
        raise ValueError("not a list of audit rules")
    options = {key.lower(): value.strip().lower() for key, value in settings(conf).items()}
    return _audit([line for line in found if line.startswith("-")], options)


def _audit(rules: list[str], options: dict[str, str]) -> dict[str, Any]:
    def watched(*paths: str) -> bool:
        return all(any(re.search(rf"(-w |-F path=|-F dir=){path}\b", rule) for rule in rules) for path in paths)

    started = [
        rule for rule in rules if "execve" in rule and "always,exit" in rule.replace("exit,always", "always,exit")
    ]
    told = options.get("space_left_action", "ignore").split(" ")[0]
    return {
        "rules": len(rules),
        "processes": all(any(f"arch={arch}" in rule for rule in started) for arch in ("b64", "b32")),
        "identity": watched("/etc/passwd", "/etc/shadow", "/etc/group"),
        "logins": any(watched(path) for path in ("/var/log/wtmp", "/var/log/lastlog", "/var/run/faillock")),
        "software": watched("/usr/bin/dpkg") or watched("/var/lib/dpkg"),
        "machine_named": options.get("name_format", "none") != "none",
        "told_before_full": told in ("syslog", "email", "exec") and options.get("space_left", "0") not in ("0", "0%"),
    }


def read_room(text: str) -> dict[str, Any]:
    """For how many days of logs there is room at the pace of the logs that are there, in steps of four days.

    The pace is what lies in /var/log over the days since its oldest log. Logs younger than three days give no figure.
    """
    today, used, free, oldest = part(text, "today", "used", "free", "oldest")
    size, room = whole(used.split()[0] if used.split() else ""), whole(free.strip())
    now = day(today)
    ages = [(now - day(line)).days for line in lines(oldest)]
    age = max(ages, default=0)
    if age < _EARLY_DAYS or size <= 0:
        return {"oldest_days": age, "covers_days": None}
    days = age * (size + room) // size
    return {"oldest_days": age, "covers_days": min(days // 4 * 4, _CAP_DAYS)}


def read_alerts(text: str) -> dict[str, Any]:
    """Programs on the host that raise an alarm before the filesystem of the logs is full.

    Monit counts with a rule about the space of that filesystem, Prometheus with a rule about free bytes, Netdata
    with the rule it brings; each of them only when it is running.
    """
    mount, monit, rules, netdata, running = part(text, "mount", "monit", "rules", "netdata", "running")
    alive = set(lines(running))
    place = lines(mount)[-1] if lines(mount) else ""
    if not place.startswith("/"):
        raise ValueError("no mount of the logs")
    tools = []
    blocks = re.split(r"(?mi)^\s*check\s+(?:filesystem|device)\s+", monit)[1:]
    if "monit" in alive and any(_monit_rule(block, place) for block in blocks):
        tools.append("monit")
    if "prometheus" in alive and rules.strip():
        tools.append("prometheus")
    if "netdata" in alive and netdata.strip():
        tools.append("netdata")
    return {"tools": tools, "count": len(tools)}


def _monit_rule(block: str, mount: str) -> bool:
    path = re.search(r"with\s+path\s+\"?(\S+?)\"?\s", block + " ", re.IGNORECASE)
    alarm = re.search(r"if\s+space\s+(usage|free)\b[^\n]*\bthen\s+(alert|exec)", block, re.IGNORECASE)
    return bool(path and path[1] == mount and alarm)


_RULES = "grep -hsE '^[^#]' /etc/rsyslog.conf /etc/rsyslog.d/*.conf"
_UPLOAD = "grep -hsE '^URL=.' /etc/systemd/journal-upload.conf /etc/systemd/journal-upload.conf.d/*.conf"
_AUDIT_LIST = "if [ -x /usr/sbin/auditctl ]; then ${S} /usr/sbin/auditctl -l || exit $?; else echo absent; fi"

FACTS: tuple[Fact, ...] = (
    Fact(
        "log.coverage",
        "shell",
        f"echo '-- rules'; {_RULES}; echo '-- upload'; {_UPLOAD}; echo '-- audisp'; "
        "if [ -d /etc/audit ]; then ${S} /usr/bin/grep -s ^active "
        "/etc/audit/plugins.d/syslog.conf /etc/audit/plugins.d/au-remote.conf; fi; echo '-- security'; "
        "if [ -r /etc/clamav/clamd.conf ]; then "
        'awk \'$1 == "LogSyslog" && $2 ~ /true|yes/ { s = 1 } $1 == "LogFile" { f = $2 } '
        'END { print "clamd", s ? "syslog" : f ? f : "none" }\' /etc/clamav/clamd.conf; fi; '
        "if [ -r /etc/fail2ban/fail2ban.conf ]; then cat /etc/fail2ban/fail2ban.conf /etc/fail2ban/fail2ban.d/*.conf "
        "/etc/fail2ban/fail2ban.local 2>/dev/null | awk -F ' *= *' '$1 == \"logtarget\" { t = $2 } "
        'END { print "fail2ban", t ? t : "none" }\'; fi; echo \'-- folders\'; '
        "ls -d /var/log/nginx /var/log/apache2 /var/log/postgresql /var/log/mysql /var/log/mariadb /var/log/tomcat9 "
        "/var/log/tomcat10 /var/log/orthanc 2>/dev/null; true",
        read_coverage,
        "kinds of events",
        "rsyslog.conf(5), imfile, journal-upload.conf(5), auditd-plugins(5), clamd.conf(5), fail2ban(1)",
        privileged=True,
    ),
    Fact(
        "log.shipping",
        "shell",
        f"echo '-- now'; date -u +%s | sed 's/..$/00/'; echo '-- rules'; {_RULES}; echo '-- upload'; {_UPLOAD}; "
        "echo '-- state'; stat -c %Y /var/lib/systemd/journal-upload/state 2>/dev/null; echo '-- peers'; "
        "ss -H -t -n state established 2>/dev/null | awk '{ print $4 }' | "
        f"grep -E ':({'|'.join(str(port) for port in LOG_PORTS)})$' | sort -u; echo '-- backlog'; "
        f"${{S}} /usr/bin/find /var/spool/rsyslog -type f -mmin +{BACKLOG_MINUTES}; true",
        read_shipping,
        "targets, hours",
        "rsyslog.conf(5) omfwd and queues, ss(8), systemd-journal-upload(8)",
        privileged=True,
    ),
    Fact(
        "audit.coverage",
        "shell",
        f"echo '-- rules'; {_AUDIT_LIST}; echo '-- conf'; "
        "[ ! -d /etc/audit ] || ${S} /usr/bin/cat /etc/audit/auditd.conf",
        read_audit_coverage,
        "rules",
        "auditctl(8), auditd.conf(5)",
        privileged=True,
    ),
    Fact(
        "log.room",
        "shell",
        "echo '-- today'; date -u +%F; echo '-- used'; ${S} /usr/bin/du -smx /var/log || exit $?; echo '-- free'; "
        "df -m --output=avail /var/log | tail -n 1; echo '-- oldest'; "
        "stat -c %y /var/log/syslog* /var/log/auth.log* /var/log/messages* /var/log/journal/*/*.journal "
        "2>/dev/null | cut -c 1-10 | sort -u | head -n 1; true",
        read_room,
        "days",
        "du(1), df(1), stat(1)",
        privileged=True,
    ),
    Fact(
        "log.alerts",
        "shell",
        "echo '-- mount'; df --output=target /var/log | tail -n 1; echo '-- monit'; "
        "cat /etc/monit/conf.d/* /etc/monit/conf-enabled/* 2>/dev/null | "
        "grep -iE '^[[:space:]]*(check|if space)'; echo '-- rules'; "
        "grep -hsE 'node_filesystem_(avail|free)_bytes' /etc/prometheus/*.yml /etc/prometheus/*.yaml "
        "/etc/prometheus/rules/* /etc/prometheus/rules.d/* /etc/prometheus/alerts/*; echo '-- netdata'; "
        "ls /usr/lib/netdata/conf.d/health.d/disks.conf 2>/dev/null; echo '-- running'; "
        f"{OWN_PROCESSES} | sort -u | grep -xE 'monit|prometheus|netdata'; true",
        read_alerts,
        "programs",
        "monit(1), Prometheus alerting rules, Netdata health",
    ),
)
