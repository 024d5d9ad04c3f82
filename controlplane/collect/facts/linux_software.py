"""Packages, updates, services and protection against malware on a Linux host. It installs and refreshes nothing."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Any

from controlplane.collect.facts.linux_text import NEVER, day, lines, moment, part, settings, whole
from controlplane.domain.model import Fact

BROWSERS_AND_MAIL = (
    "firefox",
    "firefox-esr",
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "microsoft-edge-stable",
    "brave-browser",
    "opera-stable",
    "vivaldi-stable",
    "epiphany-browser",
    "falkon",
    "konqueror",
    "midori",
    "thunderbird",
    "evolution",
    "kmail",
    "geary",
    "claws-mail",
    "sylpheed",
)
REMOTE_CONTROL = (
    "teamviewer",
    "anydesk",
    "rustdesk",
    "ultraviewer",
    "x11vnc",
    "tigervnc-standalone-server",
    "vino",
    "xrdp",
)
INSECURE_PACKAGES = (
    "telnetd",
    "inetutils-telnetd",
    "rsh-server",
    "rsh-redone-server",
    "nis",
    "talkd",
    "tftpd",
    "tftpd-hpa",
    "atftpd",
    "vsftpd",
    "proftpd-core",
    "pure-ftpd",
    "xinetd",
    "openbsd-inetd",
    "inetutils-inetd",
    "finger",
    "fingerd",
)
UNNEEDED_SERVICES = (
    "avahi-daemon",
    "rpcbind",
    "nfs-server",
    "ypserv",
    "ypbind",
    "telnet",
    "inetd",
    "xinetd",
    "rsh",
    "rlogin",
    "tftpd-hpa",
    "vsftpd",
    "proftpd",
    "isc-dhcp-server",
    "slapd",
    "bluetooth",
    "ModemManager",
    "whoopsie",
    "apport",
)
"""Services that neither the hospital's server nor its workstations need; each of them is one way in more."""

LISTS_FRESH_DAYS = 7


def read_automatic(text: str) -> dict[str, Any]:
    """Whether the host fetches and installs security updates by itself."""
    package, periodic, origins, timer = part(text, "package", "periodic", "origins", "timer")
    found = dict(re.findall(r'^APT::Periodic::([A-Za-z-]+) "([^"]*)";$', periodic, re.MULTILINE))
    installed = package.strip().startswith("ii")
    refresh = found.get("Update-Package-Lists", "0") not in ("0", "")
    upgrade = found.get("Unattended-Upgrade", "0") not in ("0", "")
    security = re.search(r"label=Debian-Security|-security", origins) is not None
    return {
        "installed": installed,
        "enabled": installed and refresh and upgrade,
        "security_origin": security,
        "timer": bool(timer.strip()),
    }


def read_pending(text: str) -> dict[str, Any]:
    """Updates that wait, after apt's own lists. Lists older than a week prove nothing, so then there is no figure."""
    today, fetched, plan = part(text, "today", "lists", "plan")
    times = [whole(line) for line in lines(fetched)]
    age = (day(today) - moment(str(max(times))).date()).days if times else NEVER
    waiting = re.findall(r"^([a-z0-9][a-z0-9.+-]*)/(\S+) \S+ \S+ \[upgradable from: ", plan, re.MULTILINE)
    fresh = age <= LISTS_FRESH_DAYS
    return {
        "all": len(waiting) if fresh else None,
        "security": sum("-security" in origin for _, origin in waiting) if fresh else None,
        "browsers": sum(name in BROWSERS_AND_MAIL for name, _ in waiting) if fresh else None,
        "lists_fresh": fresh,
    }


def read_last_update(text: str) -> dict[str, Any]:
    """Whole days since a package was last upgraded, and that day."""
    today, last, status = part(text, "today", "last", "status")
    if found := re.match(r"([0-9]{4}-[0-9]{2}-[0-9]{2}) ", last.strip() + " "):
        on, kind = day(found[1]), "upgrade"
    else:
        on, kind = moment(status).date(), "package database"
    return {"last_on": on.isoformat(), "days": max((day(today) - on).days, 0), "from": kind}


def _packages(text: str) -> list[tuple[str, str]]:
    found = []
    for line in lines(text):
        cells = line.split()
        if len(cells) != 3 or not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", cells[1]):
            raise ValueError("not a line of dpkg-query")
        if cells[0] in ("ii", "hi"):
            found.append((cells[1], cells[2]))
    return sorted(found)


def read_installed(text: str) -> dict[str, Any]:
    """How many packages stand installed, and one digest of names and versions."""
    found = _packages(text)
    if not found:
        raise ValueError("no package at all")
    body = "\n".join(f"{name} {version}" for name, version in found)
    return {"count": len(found), "sha256": hashlib.sha256(body.encode()).hexdigest()}


def read_named(text: str) -> list[dict[str, Any]]:
    """One row per installed package of a list."""
    return [{"name": name, "version": version} for name, version in _packages(text)]


def read_count(text: str) -> dict[str, Any]:
    """Which packages of a list are installed, and how many."""
    names = [name for name, _ in _packages(text)]
    return {"count": len(names), "packages": names}


def read_enabled(text: str) -> dict[str, Any]:
    """Services and sockets that start by themselves, and those of them that nobody needs here.

    From the links that ``systemctl enable`` sets; they say the same with and without a running systemd.
    """
    links = [line.rpartition("/") for line in lines(text)]
    if not all(re.search(r"\.(wants|requires)$", folder) and unit for folder, _, unit in links):
        raise ValueError("not a list of links")
    units = {unit for _, _, unit in links if unit.endswith((".service", ".socket"))}
    names = {unit.rsplit(".", 1)[0] for unit in units}
    unneeded = sorted(names & set(UNNEEDED_SERVICES))
    return {"enabled": len(units), "unneeded": unneeded, "unneeded_count": len(unneeded)}


def read_clamav(text: str) -> dict[str, Any]:
    """Whether ClamAV is installed, and the age in days of the newest virus signatures by their own date."""
    today, packages, bases = part(text, "today", "packages", "bases")
    built = []
    for line in lines(bases):
        cells = line.split(":")
        found = re.match(r"([0-9]{1,2} [A-Z][a-z]{2} [0-9]{4}) ", cells[1] + " ") if len(cells) > 2 else None
        if cells[0] != "ClamAV-VDB" or not found:
            raise ValueError("not the head of a signature base")
        built.append(datetime.strptime(found[1], "%d %b %Y").date())  # noqa: DTZ007
    names = {name for name, _ in _packages(packages)}
    newest = max(built, default=None)
    return {
        "installed": "clamav" in names or "clamav-daemon" in names,
        "daemon_installed": "clamav-daemon" in names,
        "updater_installed": "clamav-freshclam" in names,
        "built_on": newest.isoformat() if newest else None,
        "signature_days": max((day(today) - newest).days, 0) if newest else NEVER,
    }


def read_restic(text: str) -> dict[str, Any]:
    """Whether restic is there, its version, and the timers that would start a backup."""
    version, timers = part(text, "version", "timers")
    found = re.match(r"restic (\S+) ", version.strip() + " ")
    names = sorted(line.split()[0] for line in lines(timers))
    return {"installed": found is not None, "version": found[1] if found else "", "timers": len(names), "units": names}


def read_certificates(text: str) -> dict[str, Any]:
    """The host's own certificates: how many, how many have expired or do so within 30 days, and the next end."""
    now, ends = part(text, "today", "ends")
    today = day(now)
    days = []
    for line in lines(ends):
        stamp = line.removeprefix("notAfter=").removesuffix(" GMT")
        if not re.fullmatch(r"[A-Z][a-z]{2} +[0-9]{1,2} [0-9:]{8} [0-9]{4}", stamp):
            raise ValueError("not an end date of openssl")
        days.append(datetime.strptime(stamp, "%b %d %H:%M:%S %Y").date())  # noqa: DTZ007
    left = [(on - today).days for on in days]
    return {
        "certificates": len(days),
        "expired": sum(count < 0 for count in left),
        "within_30_days": sum(count <= 30 for count in left),
        "next_end_on": min(days).isoformat() if days else None,
    }


def read_usb(text: str) -> dict[str, Any]:
    """Whether USB storage is shut off in the kernel, and whether a desktop opens or starts media by itself."""
    modules, desktop, keys = part(text, "modules", "desktop", "keys")
    blocked = re.search(r"^\s*install\s+usb[-_]storage\s+/(usr/)?bin/(false|true)", modules, re.MULTILINE) is not None
    options = settings(keys)
    quiet = not desktop.strip() or options.get("autorun-never") == "true"
    return {
        "storage_blocked": blocked,
        "automount_off": blocked or not desktop.strip() or options.get("automount") == "false",
        "autorun_off": blocked or quiet,
    }


def _query(packages: tuple[str, ...]) -> str:
    names = " ".join(packages)
    return (
        "command -v dpkg-query >/dev/null || exit 69; "
        f"dpkg-query -W -f '${{db:Status-Abbrev}} ${{Package}} ${{Version}}\\n' {names} 2>/dev/null "
        "| grep '^[hi]i' || true"
    )


_CERTIFICATES = (
    "command -v openssl >/dev/null || exit 69; echo '-- today'; date -u +%F; echo '-- ends'; "
    "for f in /etc/ssl/*.crt /etc/ssl/*.pem /etc/ssl/certs/*.crt /etc/ssl/certs/*.pem /etc/ssl/private/*.crt "
    "/etc/pki/tls/certs/*.crt /etc/nginx/*.crt /etc/nginx/ssl/*.crt /etc/nginx/ssl/*.pem /etc/apache2/ssl/*.crt "
    "/etc/letsencrypt/live/*/cert.pem; do "
    '[ -r "$f" ] || continue; case "$f" in /etc/ssl/certs/ca-certificates.crt|*/tls-ca-bundle.pem|*/ca-bundle.crt) '
    'continue;; /etc/ssl/certs/*) [ -L "$f" ] && continue;; esac; '
    'openssl x509 -noout -enddate -in "$f" 2>/dev/null; done; true'
)

FACTS: tuple[Fact, ...] = (
    Fact(
        "updates.automatic",
        "shell",
        "command -v apt-config >/dev/null || exit 69; echo '-- package'; "
        "dpkg-query -W -f '${db:Status-Abbrev}' unattended-upgrades 2>/dev/null; echo; "
        "echo '-- periodic'; apt-config dump APT::Periodic; "
        "echo '-- origins'; apt-config dump Unattended-Upgrade | grep -E 'Origins-Pattern|Allowed-Origins'; "
        "echo '-- timer'; ls /etc/systemd/system/timers.target.wants/apt-daily-upgrade.timer 2>/dev/null; true",
        read_automatic,
        "-",
        "unattended-upgrade(8), apt.conf(5)",
    ),
    Fact(
        "updates.pending",
        "shell",
        "command -v apt >/dev/null || exit 69; echo '-- today'; date -u +%F; echo '-- lists'; cd /var/lib/apt; "
        "stat -c %Y lists/*_InRelease lists/*_Release periodic/update-success-stamp 2>/dev/null; echo '-- plan'; "
        # apt as root would write its cache anew; as nobody it reads the one that is there.
        'a=; [ "$(id -u)" = 0 ] && a="setpriv --reuid=65534 --regid=65534 --clear-groups"; '
        "$a apt -qq list --upgradable 2>/dev/null; true",
        read_pending,
        "packages",
        "apt(8) list --upgradable",
    ),
    Fact(
        "updates.last",
        "shell",
        "[ -r /var/lib/dpkg/status ] || exit 69; echo '-- today'; date -u +%F; echo '-- last'; "
        "grep -hsE '^[0-9-]+ [0-9:]+ upgrade ' /var/log/dpkg.log.1 /var/log/dpkg.log | tail -n 1 | cut -d ' ' -f 1; "
        "echo '-- status'; stat -c %Y /var/lib/dpkg/status",
        read_last_update,
        "days",
        "dpkg(1) /var/log/dpkg.log",
    ),
    Fact(
        "packages.installed",
        "shell",
        "command -v dpkg-query >/dev/null || exit 69; dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\\n'",
        read_installed,
        "packages",
        "dpkg-query(1)",
    ),
    Fact("packages.browsers", "shell", _query(BROWSERS_AND_MAIL), read_named, "-", "dpkg-query(1)"),
    Fact("packages.remote-control", "shell", _query(REMOTE_CONTROL), read_count, "packages", "dpkg-query(1)"),
    Fact("packages.insecure", "shell", _query(INSECURE_PACKAGES), read_count, "packages", "dpkg-query(1)"),
    Fact(
        "service.enabled",
        "shell",
        "cd /etc/systemd/system 2>/dev/null || exit 69; ls -d *.wants/* *.requires/* 2>/dev/null; true",
        read_enabled,
        "units",
        "systemctl(1) enable, systemd.unit(5)",
    ),
    Fact(
        "malware.clamav",
        "shell",
        "echo '-- today'; date -u +%F; echo '-- packages'; "
        f"{_query(('clamav', 'clamav-daemon', 'clamav-freshclam')).partition('; ')[2]}; echo '-- bases'; "
        "cd /var/lib/clamav 2>/dev/null && for f in daily.cvd daily.cld main.cvd main.cld; do "
        '[ -r "$f" ] && { head -c 60 "$f" | tr -dc "[:print:]"; echo; }; done; true',
        read_clamav,
        "days",
        "freshclam(1), sigtool(1): head of a .cvd",
    ),
    Fact(
        "backup.restic",
        "shell",
        "echo '-- version'; command -v restic >/dev/null && restic version; echo '-- timers'; "
        "ls /etc/systemd/system/timers.target.wants 2>/dev/null | grep -iE 'restic|borg|sao-luu'; true",
        read_restic,
        "timers",
        "restic(1), systemd.timer(5)",
    ),
    Fact("certificates.local", "shell", _CERTIFICATES, read_certificates, "certificates", "openssl-x509(1)"),
    Fact(
        "usb.storage",
        "shell",
        "echo '-- modules'; grep -hsE '^[^#]*usb[-_]storage' /etc/modprobe.d/*.conf; echo '-- desktop'; "
        "ls -d /usr/share/xsessions /usr/share/wayland-sessions 2>/dev/null; echo '-- keys'; "
        "grep -hsE '^(automount|automount-open|autorun-never)=' /etc/dconf/db/local.d/*; true",
        read_usb,
        "-",
        "modprobe.d(5), org.gnome.desktop.media-handling",
    ),
)
