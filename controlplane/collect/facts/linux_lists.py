"""What the hospital's registers are compared with: every package, every account, who is logged in, what was leased.

Full names, passwords and the names of leasing machines stay on the device; an account's name leaves it, because the
law asks for the list of accounts.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from controlplane.collect.facts.linux_text import lines, part, whole
from controlplane.domain.model import Fact

_NO_LOGIN = re.compile(r"/(nologin|false|sync|shutdown|halt|git-shell)$")
_BASE = ("required", "important", "standard")
_LIBRARIES = ("libs", "oldlibs")
_WHEN = r"([A-Z][a-z]{2} [A-Z][a-z]{2} +[0-9]{1,2} [0-9:]{8} [0-9]{4})"
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


def read_packages(text: str) -> dict[str, Any]:
    """Every installed package with its version, apart by why it is there, and what stands outside of packages.

    ``required``, ``important`` and ``standard`` are Debian's own priorities; ``dependencies`` came because another
    package needs them, as libraries always do; ``chosen`` is the rest. ``loose`` are programs in /opt, /usr/local,
    snaps and flatpaks.
    """
    packages, automatic, loose = part(text, "packages", "dependencies", "loose")
    auto = set(lines(automatic))
    found: dict[str, list[str]] = {name: [] for name in (*_BASE, "chosen", "dependencies")}
    for line in lines(packages):
        cells = line.split()
        if len(cells) not in (4, 5) or not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", cells[1]):
            raise ValueError("not a line of dpkg-query")
        if cells[0] in ("ii", "hi"):
            needed = cells[1] in auto or cells[-1].rpartition("/")[2] in _LIBRARIES
            kind = cells[3] if cells[3] in _BASE else "dependencies" if needed else "chosen"
            found[kind].append(f"{cells[1]} {cells[2]}")
    count = sum(map(len, found.values()))
    if not count:
        raise ValueError("no package at all")
    return {"count": count} | {name: sorted(rows) for name, rows in found.items()} | {"loose": sorted(lines(loose))}


def read_accounts(text: str) -> dict[str, Any]:
    """Every local account: whether its shell lets it log in, and whether it may become root through a group."""
    accounts, groups = part(text, "accounts", "groups")
    admins = {"root"}
    for line in lines(groups):
        cells = line.split(":")
        if len(cells) != 4:
            raise ValueError("not a line of /etc/group")
        admins |= {name for name in cells[3].split(",") if name}
    rows = []
    for line in lines(accounts):
        cells = line.split(":")
        if len(cells) != 3 or not cells[0]:
            raise ValueError("not a line account:uid:shell")
        login = not _NO_LOGIN.search(cells[2] or "/bin/sh")
        rows.append({"account": cells[0], "uid": whole(cells[1]), "login": login, "admin": cells[0] in admins})
    if not rows:
        raise ValueError("no account at all")
    return {"count": len(rows), "accounts": sorted(rows, key=lambda row: str(row["account"]))}


def read_leases(text: str) -> dict[str, Any]:
    """The MAC addresses that DHCP servers on this host have leased an address to."""
    found = {line.lower() for line in lines(text)}
    if not all(_MAC.fullmatch(mac) for mac in found):
        raise ValueError("not a list of MAC addresses")
    return {"leases": len(found), "macs": sorted(found)}


def read_sessions(text: str) -> dict[str, Any]:
    """Who was logged in during the last seven days, from when until when (None: still), in UTC to the minute.

    A session whose end nobody noted counts as ended at once.
    """
    found = []
    for line in lines(text):
        cells = re.fullmatch(rf"(\S+) +\S+ +{_WHEN}(?: +- +(?:{_WHEN}|\S+).*| .*)?", line)
        if cells is None:
            raise ValueError("not a line of last")
        begun, ended = _minute(cells[2]), cells[3]
        until = None if "still logged in" in line else _minute(ended) if ended else begun
        found.append({"account": cells[1], "from": begun, "to": until})
    return {"sessions": len(found), "logins": sorted(found, key=lambda row: (str(row["from"]), str(row["account"])))}


def _minute(stamp: str) -> str:
    written = datetime.strptime(" ".join(stamp.split()), "%a %b %d %H:%M:%S %Y")  # noqa: DTZ007  # last runs in UTC
    return written.strftime("%Y-%m-%dT%H:%MZ")


def read_policy(text: str) -> dict[str, Any]:
    """Whether the host itself refuses programs that its allow-list does not name: fapolicyd, switched on and not
    merely watching."""
    enabled, permissive, rules = part(text, "enabled", "permissive", "rules")
    watching = re.search(r"(?m)^permissive\s*=\s*0\s*$", permissive) is None
    return {
        "engine": "fapolicyd" if enabled.strip() else "none",
        "rules": whole(rules or "0"),
        "enforcing": bool(enabled.strip()) and not watching and whole(rules or "0") > 0,
    }


FACTS: tuple[Fact, ...] = (
    Fact(
        "packages.list",
        "shell",
        "command -v dpkg-query >/dev/null || exit 69; echo '-- packages'; "
        "dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version} ${Priority} ${Section}\\n'; "
        "echo '-- dependencies'; "
        "awk '/^Package: / { p = $2 } /^Auto-Installed: 1/ { print p }' /var/lib/apt/extended_states 2>/dev/null; "
        "echo '-- loose'; ls -d /opt/* /usr/local/bin/* /usr/local/sbin/* /snap/* /var/lib/flatpak/app/* 2>/dev/null; "
        "true",
        read_packages,
        "packages",
        "dpkg-query(1), apt-mark(8) extended_states",
    ),
    Fact(
        "accounts.list",
        "shell",
        "echo '-- accounts'; awk -F: '{ print $1 \":\" $3 \":\" $7 }' /etc/passwd; "
        "echo '-- groups'; grep -E '^(sudo|wheel|admin):' /etc/group; true",
        read_accounts,
        "accounts",
        "passwd(5), group(5)",
        keep_raw=False,
    ),
    Fact(
        "dhcp.leases",
        "shell",
        "m=/var/lib/misc/dnsmasq.leases; i=/var/lib/dhcp/dhcpd.leases; k=/var/lib/kea/kea-leases4.csv; "
        '[ -e "$m" ] || [ -e "$i" ] || [ -e "$k" ] || exit 69; '
        '{ [ -e "$m" ] && awk \'$2 ~ /:/ { print $2 }\' "$m"; '
        '[ -e "$i" ] && awk \'/hardware ethernet/ { sub(";", "", $3); print $3 }\' "$i"; '
        '[ -e "$k" ] && awk -F, \'NR != 1 { print $2 }\' "$k"; true; } | sort -u',
        read_leases,
        "leases",
        "dnsmasq(8), dhcpd.leases(5), Kea memfile",
    ),
    Fact(
        "accounts.sessions",
        "shell",
        "command -v last >/dev/null || exit 69; [ -r /var/log/wtmp ] || exit 69; "
        "last -w -F --nohostname -s -7days | awk '/ / && $1 !~ /^(reboot|wtmp|shutdown|runlevel)$/'",
        read_sessions,
        "logins within 7 days",
        "last(1), wtmp(5)",
        keep_raw=False,
    ),
    Fact(
        "software.policy",
        "shell",
        "echo '-- enabled'; ls /etc/systemd/system/multi-user.target.wants/fapolicyd.service 2>/dev/null; "
        "echo '-- permissive'; grep -hs '^permissive' /etc/fapolicyd/fapolicyd.conf; echo '-- rules'; "
        "cat /etc/fapolicyd/rules.d/*.rules /etc/fapolicyd/fapolicyd.rules 2>/dev/null "
        "| grep -cE '^(allow|deny)'; true",
        read_policy,
        "rules",
        "fapolicyd(8), fapolicyd.conf(5)",
    ),
)
