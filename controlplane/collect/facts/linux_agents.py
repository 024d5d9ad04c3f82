"""Programs that watch a Linux host: behaviour, break-ins, new holes, and where its updates come from."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from controlplane.collect.facts.linux_logging import OWN_PROCESSES
from controlplane.collect.facts.linux_text import NEVER, day, lines, moment, part
from controlplane.domain.model import Fact

BEHAVIOUR_AGENTS = {
    "wazuh-agentd": "wazuh",
    "falco": "falco",
    "osqueryd": "osquery",
    "crowdsec": "crowdsec",
    "wdavdaemon": "defender",
    "falcon-sensor": "crowdstrike",
    "sentinelone-age": "sentinelone",
    "elastic-endpoin": "elastic",
    "ds_agent": "deep-security",
    "bdsecd": "bitdefender",
    "kesl": "kaspersky",
    "ekrn": "eset",
    "tetragon": "tetragon",
}
"""Processes of programs that watch behaviour (EDR or its equal), by the first 15 letters that the kernel keeps."""

SCANNERS = ("debsecan", "wazuh-agent", "openscap-scanner", "trivy", "grype")

_OWN_NAMES = (".lan", ".local", ".internal", ".intranet", ".home.arpa", ".corp")


def read_behaviour(text: str) -> dict[str, Any]:
    """Whether a program that watches behaviour is at work, and for Wazuh whether its manager answered within a day.

    Wazuh's agent writes its state every few seconds and says ``connected`` only while its manager acknowledges.
    CrowdSec without a scenario sees nothing and does not count.
    ``keepalive_hours`` has no figure for programs that keep no such mark on the host.
    """
    now, running, wazuh = part(text, "now", "running", "wazuh")
    seen = lines(running)
    agents = sorted({BEHAVIOUR_AGENTS[name] for name in seen if name in BEHAVIOUR_AGENTS})
    hours = _wazuh_hours(now, wazuh) if "wazuh" in agents else None
    connected = hours is not None and hours <= 24 and "status='connected'" in wazuh
    blind = {"wazuh"} if any(line.startswith("scenario ") for line in seen) else {"wazuh", "crowdsec"}
    others = [name for name in agents if name not in blind]
    return {"agents": agents, "active": bool(others) or connected, "keepalive_hours": hours}


def _wazuh_hours(now: str, state: str) -> int | None:
    """Hours since the agent last wrote its state file; the times inside it are in the host's own zone."""
    found = re.search(r"^written=([0-9]{1,12})$", state, re.MULTILINE)
    return max(int((moment(now) - moment(found[1])).total_seconds() // 3600), 0) if found else None


def read_guard(text: str) -> dict[str, Any]:
    """Whether something on the host bars addresses that attack it: fail2ban with jails, or CrowdSec with a bouncer."""
    running, jails = part(text, "running", "jails")
    alive = set(lines(running))
    listed = re.search(r"Jail list:\s*(.*)$", jails, re.MULTILINE)
    names = sorted(name.strip() for name in listed[1].split(",") if name.strip()) if listed else []
    bouncer = "crowdsec" in alive and any(name.startswith("crowdsec-firewa") for name in alive)
    fail2ban = "fail2ban-server" in alive and bool(names)
    return {"active": fail2ban or bouncer, "jails": names, "ssh_guarded": bouncer or any("ssh" in n for n in names)}


def read_malware_events(text: str) -> dict[str, Any]:
    """Whether a find of ClamAV is told to somebody: to the system log, or by a program it starts."""
    (conf,) = part(text, "conf")
    found = {}
    for line in lines(conf):
        key, _, value = line.partition(" ")
        found[key] = value.strip()
    syslog = found.get("LogSyslog", "no").lower() in ("true", "yes")
    return {"syslog": syslog, "program": bool(found.get("VirusEvent")), "told": syslog or bool(found.get("VirusEvent"))}


def read_vulnerability_watch(text: str) -> dict[str, Any]:
    """Days since the host last asked what is new and last installed by itself, and whether a scanner is scheduled.

    debsecan counts when its report is on and its job is there (or the folder of jobs is closed, as the baseline asks
    for); the others count when they are installed.
    """
    today, stamps, packages, debsecan = part(text, "today", "stamps", "packages", "debsecan")
    now, days = day(today), {}
    for line in lines(stamps):
        name, _, when = line.partition(" ")
        days[name] = max((now - day(when)).days, 0)
    installed = {
        line.split()[1] for line in lines(packages) if line.split()[0] in ("ii", "hi") and len(line.split()) > 1
    }
    scheduled = "REPORT=true" in debsecan and ("/etc/cron.d/debsecan" in debsecan or "closed" in debsecan)
    scanners = sorted(name for name in installed & set(SCANNERS) if name != "debsecan" or scheduled)
    return {
        "asked_days": days.get("update-success-stamp", days.get("update-stamp", NEVER)),
        "installed_days": days.get("unattended-upgrades-stamp", days.get("upgrade-stamp", NEVER)),
        "scanners": scanners,
        "scanner_count": len(scanners),
    }


def read_update_source(text: str) -> dict[str, Any]:
    """Whether updates come from a server of the hospital (mirror or proxy), and days since the last good check-in.

    A source is the hospital's own when its address is private or its name is not one of the Internet. With a proxy
    every source over http or https goes through it, so then the proxy alone is judged.
    """
    today, hosts, proxy, checked = part(text, "today", "hosts", "proxy", "checked")
    sources = sorted(set(lines(hosts)))
    through = sorted(set(lines(proxy)))
    direct = [name for name in (through or sources) if not _own(name)]
    ages = [(day(today) - moment(line).date()).days for line in lines(checked)]
    return {
        "sources": len(sources),
        "direct": len(direct),
        "central": bool(sources) and not direct,
        "checked_days": max(min(ages), 0) if ages else NEVER,
    }


def _own(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip("[]")).is_private
    except ValueError:
        return "." not in name or name.lower().endswith(_OWN_NAMES)


_PACKAGES = (
    f"dpkg-query -W -f '${{db:Status-Abbrev}} ${{Package}} ${{Version}}\\n' {' '.join(SCANNERS)} 2>/dev/null "
    "| grep '^[hi]i'"
)

FACTS: tuple[Fact, ...] = (
    Fact(
        "malware.behaviour",
        "shell",
        f"echo '-- now'; date -u +%s | sed 's/..$/00/'; echo '-- running'; {OWN_PROCESSES} | sort -u | "
        f"grep -xE '{'|'.join(BEHAVIOUR_AGENTS)}'; "
        "ls /etc/crowdsec/scenarios 2>/dev/null | sed 's/^/scenario /'; echo '-- wazuh'; "
        "if [ -d /var/ossec ]; then ${S} /usr/bin/stat -c written=%Y /var/ossec/var/run/wazuh-agentd.state; "
        "${S} /usr/bin/cat /var/ossec/var/run/wazuh-agentd.state; fi; true",
        read_behaviour,
        "hours",
        "ps(1); Wazuh agent: var/run/wazuh-agentd.state",
        privileged=True,
    ),
    Fact(
        "intrusion.guard",
        "shell",
        f"echo '-- running'; {OWN_PROCESSES} | sort -u | grep -xE 'fail2ban-server|crowdsec|crowdsec-firewa.*'; "
        "echo '-- jails'; if [ -x /usr/bin/fail2ban-client ] && [ -S /var/run/fail2ban/fail2ban.sock ]; then "
        "${S} /usr/bin/fail2ban-client status; fi",
        read_guard,
        "jails",
        "fail2ban-client(1) status, ps(1)",
        privileged=True,
    ),
    Fact(
        "malware.events",
        "shell",
        "[ -r /etc/clamav/clamd.conf ] || exit 69; echo '-- conf'; "
        "grep -E '^(LogSyslog|LogFile|VirusEvent) ' /etc/clamav/clamd.conf; true",
        read_malware_events,
        "-",
        "clamd.conf(5)",
    ),
    Fact(
        "updates.watch",
        "shell",
        "command -v dpkg-query >/dev/null || exit 69; echo '-- today'; date -u +%F; echo '-- stamps'; "
        "cd /var/lib/apt/periodic 2>/dev/null && stat -c '%n %y' update-success-stamp update-stamp "
        "unattended-upgrades-stamp upgrade-stamp 2>/dev/null | cut -d ' ' -f 1,2; echo '-- packages'; "
        f"{_PACKAGES}; echo '-- debsecan'; grep -hs '^REPORT=' /etc/default/debsecan; "
        "ls /etc/cron.d/debsecan 2>/dev/null || [ -x /etc/cron.d ] || echo closed; true",
        read_vulnerability_watch,
        "days",
        "apt.systemd.daily stamps, unattended-upgrade(8), debsecan(1)",
    ),
    Fact(
        "updates.source",
        "shell",
        "command -v apt-config >/dev/null || exit 69; echo '-- today'; date -u +%F; echo '-- hosts'; "
        # Only the host of each source: an address of a source may carry an account and its password.
        "cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null | "
        "grep -E '^(deb|deb-src|URIs:) ?' | grep -oE '(https?|ftp)://[^/ ]+' | "
        "sed -E 's#^[a-z]+://##; s#.*@##; s#:[0-9]+$##' | sort -u; echo '-- proxy'; "
        "apt-config dump Acquire | grep -E '^Acquire::https?::Proxy \"' | grep -oE '://[^/\" ]+' | "
        "sed -E 's#^://##; s#.*@##; s#:[0-9]+$##' | sort -u; echo '-- checked'; "
        "for f in periodic/update-success-stamp periodic/update-stamp lists/partial; do "
        "stat -c %Y /var/lib/apt/$f 2>/dev/null && break; done; true",
        read_update_source,
        "days",
        "sources.list(5), apt.conf(5) Acquire::http::Proxy",
    ),
)
