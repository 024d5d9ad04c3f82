"""What stands between a Linux host and an attack: its baseline, its doors, its ways out, its links and its browsers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from controlplane.collect.facts.linux_network import listening
from controlplane.collect.facts.linux_software import BROWSERS_AND_MAIL
from controlplane.collect.facts.linux_storage import devices_of, walk
from controlplane.collect.facts.linux_text import lines, part, rows, whole
from controlplane.domain.model import Fact

_FIRST_EPHEMERAL = 32768
_MODES = {
    "/etc/passwd": 0o644,
    "/etc/group": 0o644,
    "/etc/crontab": 0o600,
    "/etc/cron.d": 0o700,
    "/etc/cron.daily": 0o700,
    "/etc/cron.hourly": 0o700,
    "/etc/cron.weekly": 0o700,
    "/etc/cron.monthly": 0o700,
    "/etc/ssh/sshd_config": 0o600,
    "/root": 0o700,
}
"""The baseline: the widest rights that each of these may have."""

_MODULES = ("cramfs", "freevxfs", "hfs", "hfsplus", "jffs2", "udf", "dccp", "sctp", "rds", "tipc")
"""The baseline: file systems and protocols that nobody needs here and that must not be loaded."""


def read_baseline(text: str) -> dict[str, Any]:
    """How many settings of the hospital's baseline hold, in percent, and the names of those that do not.

    Settings: rights of system files, modules kept out, mask of new files, su for administrators alone, no version
    of the system shown before login, jobs for named accounts alone, no restart by Ctrl-Alt-Del.
    """
    names = ("modes", "modules", "umask", "su", "issue", "allow", "keys")
    modes, modules, umask, su, issue, allow, keys = part(text, *names)
    held: dict[str, bool] = {}
    for line in lines(modes):
        mode, _, name = line.partition(" ")
        if not re.fullmatch(r"[0-7]{1,4}", mode) or name not in _MODES:
            raise ValueError("not a mode and a path of the baseline")
        held[f"mode {name}"] = int(mode, 8) & 0o777 & ~_MODES[name] == 0
    if not held:
        raise ValueError("no file of the baseline")
    for module in _MODULES:
        held[f"module {module}"] = (
            re.search(rf"^\s*install\s+{module}\s+/(usr/)?bin/(false|true)", modules, re.M) is not None
        )
    mask = lines(umask)
    held["umask"] = bool(mask) and all(re.fullmatch(r"0?[0-7]?[2-7]7", one.split()[-1]) for one in mask)
    held["su"] = re.search(r"^auth\s+required\s+pam_wheel\.so", su, re.MULTILINE) is not None
    held["issue"] = re.search(r"\\[mrsv]|Debian|Ubuntu", issue) is None
    held["cron.allow"] = bool(allow.strip())
    held["ctrl-alt-del"] = "/dev/null" in keys
    differing = sorted(name for name, holds in held.items() if not holds)
    return {"settings": len(held), "differing": differing, "percent": 100 * (len(held) - len(differing)) // len(held)}


def read_mitigations(text: str) -> dict[str, Any]:
    """Whether the kernel makes exploits hard: random addresses, memory that cannot run, no known CPU hole open."""
    aslr, nx, holes = part(text, "aslr", "nx", "holes")
    found = dict(re.findall(r"^([a-z0-9_]+):(.*)$", holes, re.MULTILINE))
    if not found:
        raise ValueError("the kernel tells nothing of the processor's holes")
    vulnerable = sorted(name for name, state in found.items() if state.strip().startswith("Vulnerable"))
    return {
        "random_addresses": whole(aslr),
        "no_execute": whole(nx) > 0,
        "known": len(found),
        "vulnerable": vulnerable,
        "vulnerable_count": len(vulnerable),
    }


def read_doors(text: str) -> list[dict[str, Any]]:
    """One row per port that others can reach; one row ``none`` when there is no such port."""
    found = {(protocol, port) for protocol, port in listening(text) if protocol == "tcp" or port < _FIRST_EPHEMERAL}
    names = [f"{protocol}/{port}" for protocol, port in sorted(found)]
    return [{"port": name} for name in names or ["none"]]


def read_bonds(text: str) -> dict[str, Any]:
    """Bundled network links (bonding), and whether the way out goes over one with two links up.

    The way out may also lead over a VLAN or a bridge on top of the bundle.
    """
    route, links, bonds = part(text, "route", "links", "bonds")
    found = {}
    for block in re.split(r"(?m)^bond ", bonds)[1:]:
        members = re.split(r"(?m)^Slave Interface: ", block)[1:]
        found[block.split("\n")[0].strip()] = sum(
            re.search(r"(?m)^MII Status: up$", one) is not None for one in members
        )
    ways = [str(row.get("dev")) for row in rows(route)]
    parents = _parents(rows(links))
    reached = [name for way in ways for name in found if name in _below(way, parents)]
    return {
        "bonds": len(found),
        "links_up": min((found[name] for name in reached), default=0),
        "redundant": bool(ways) and bool(reached) and all(found[name] >= 2 for name in reached),
    }


def _parents(links: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Interface -> what it stands on: the parent of a VLAN, the ports of a bridge."""
    found: dict[str, set[str]] = {}
    for link in links:
        name = str(link.get("ifname"))
        if isinstance(link.get("link"), str):
            found.setdefault(name, set()).add(link["link"])
        if isinstance(link.get("master"), str):
            found.setdefault(link["master"], set()).add(name)
    return found


def _below(name: str, parents: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    ahead = [name]
    while ahead:
        one = ahead.pop()
        if one not in seen:
            seen.add(one)
            ahead.extend(parents.get(one, ()))
    return seen


def read_secrets(text: str) -> dict[str, Any]:
    """Files with a private key or a stored password that an ordinary account of the host can read."""
    found = lines(text)
    if not found or found[-1] != "end":
        raise ValueError("the search did not come to its end")
    if not all(line.startswith("/") for line in found[:-1]):
        raise ValueError("not a list of files")
    return {"open": len(found) - 1, "files": found[:-1]}


def read_protocols(text: str) -> dict[str, Any]:
    """Old protocols that the configuration of the host still allows: TLS before 1.2, SMB 1, SNMP communities."""
    tls, smb, snmp = part(text, "tls", "smb", "snmp")
    old = sum(
        re.search(r"\b(SSLv[23]|TLSv1|TLSv1\.0|TLSv1\.1)(?![.0-9])(?!\S*:)", _enabled(line)) is not None
        for line in lines(tls)
    )
    first = re.search(r"(NT1|CORE|COREPLUS|LANMAN1|LANMAN2)\s*$", smb, re.MULTILINE | re.IGNORECASE) is not None
    communities = sum(whole(line) for line in lines(snmp))
    return {"old_tls": old, "smb1": first, "communities": communities, "weak": old + first + communities}


def _enabled(line: str) -> str:
    """The protocols that a line lets in: what has a minus before it is shut off."""
    return " ".join(word for word in line.split() if not word.startswith("-"))


def read_name_service_way(text: str) -> dict[str, Any]:
    """Name servers in private networks, and whether the host's own rules bar DNS to any other server.

    Barred: an output chain of nftables that refuses ports 53 and 853, or drops whatever it does not allow.
    Whether the servers filter bad names cannot be read on the host.
    """
    own, behind, rules = part(text, "own", "behind", "rules")
    pattern = re.compile(r"^\s*nameserver\s+([0-9A-Fa-f:.]+)\s*$", re.MULTILINE)
    servers = pattern.findall(own)
    if "127.0.0.53" in servers:
        servers = pattern.findall(behind)
    outside = [server for server in servers if not ipaddress.ip_address(server).is_private]
    return {"servers": len(servers), "outside": len(outside), "barred": any(_bars_dns(b) for b in _output(rules))}


def _output(text: str) -> Iterator[str]:
    for block in re.split(r"(?m)^(?=table |\s+chain )", text):
        if "hook output" in block:
            yield block.split("}\n")[0]


def _bars_dns(chain: str) -> bool:
    shut = set()
    for line in lines(chain):
        if (
            re.search(r"\b(drop|reject)\b", line)
            and "policy" not in line
            and (ports := re.search(r"dport ({[^}]*}|\d+)", line))
        ):
            shut |= set(re.findall(r"\d+", ports[1]))
        if re.fullmatch(r"(counter )?accept", line):
            return {"53", "853"} <= shut
    return {"53", "853"} <= shut or "policy drop" in chain


def read_swap_encryption(text: str) -> dict[str, Any]:
    """Swap that would leave memory readable on a disk: areas that are neither encrypted nor in memory (zram)."""
    tree, areas = part(text, "tree", "areas")
    kinds: dict[str, bool] = {}
    mounts: dict[str, bool] = {}
    for device, types in walk(devices_of(tree)):
        for key in ("name", "kname"):
            kinds["/dev/" + str(device.get(key))] = "crypt" in types
        mount = device.get("mountpoint")
        if isinstance(mount, str) and mount.startswith("/"):
            mounts[mount] = "crypt" in types
    plain = total = 0
    for line in lines(areas)[1:]:
        cells = line.split()
        if len(cells) != 5:
            raise ValueError("a line of /proc/swaps with too few columns")
        total += 1
        plain += not (cells[0].startswith("/dev/zram") or kinds.get(cells[0], _on(cells[0], mounts)))
    return {"areas": total, "plain": plain}


def _on(path: str, mounts: dict[str, bool]) -> bool:
    above = [mount for mount in mounts if path.startswith(mount.rstrip("/") + "/")]
    return bool(above) and mounts[max(above, key=len)]


def read_browser_support(text: str) -> list[dict[str, Any]]:
    """One row per installed browser or mail program: whether its maker's or distributor's archive still carries it.

    ``supported`` means that this very version is the newest of an archive that the host follows; a version that
    no archive carries any more gets no corrections.
    """
    found = []
    for block in re.split(r"(?m)^(?=[a-z0-9][a-z0-9.+-]*:$)", text):
        name, _, body = block.partition(":\n")
        installed, candidate = (re.search(rf"^\s*{key}: (\S+)$", body, re.M) for key in ("Installed", "Candidate"))
        if not body.strip():
            if name.strip():
                raise ValueError("not the words of apt-cache policy")
            continue
        if not installed or not candidate:
            raise ValueError("not the words of apt-cache policy")
        if installed[1] == "(none)":
            continue
        stands = re.search(r"^ \*\*\* .*\n((?: {8,}.*\n?)*)", body, re.MULTILINE)
        carried = bool(stands) and any(
            not line.endswith("/var/lib/dpkg/status") for line in lines(stands[1] if stands else "")
        )
        found.append({"name": name, "version": installed[1], "supported": carried and installed[1] == candidate[1]})
    return sorted(found, key=lambda row: str(row["name"]))


def read_other_browsers(text: str) -> dict[str, Any]:
    """Browsers and mail programs outside the package system: snap, Flatpak, unpacked below /opt or in homes."""
    names = lines(text)
    if not all(name.startswith("/") for name in names):
        raise ValueError("not a list of places")
    return {"count": len(names), "places": names}


def read_run_places(text: str) -> dict[str, Any]:
    """Places where an ordinary account may both write and start programs, and rules that let it install packages."""
    mounts, rules = part(text, "mounts", "rules")
    options = dict(re.findall(r"^(/\S*) (\S+)$", mounts, re.MULTILINE))
    if "/" not in options:
        raise ValueError("the root is not mounted")
    open_places = [place for place in ("/home", "/tmp", "/var/tmp", "/dev/shm") if not _noexec(place, options)]  # noqa: S108
    return {"open": open_places, "open_count": len(open_places), "install_rules": len(lines(rules))}


def _noexec(place: str, options: dict[str, str]) -> bool:
    mount = max((m for m in options if place == m or place.startswith(m.rstrip("/") + "/")), key=len, default="/")
    return "noexec" in options[mount].split(",")


_AS_NOBODY = 'a=; [ "$(id -u)" = 0 ] && a="setpriv --reuid=65534 --regid=65534 --clear-groups"; '
_NFT = "if [ -x /usr/sbin/nft ]; then ${S} /usr/sbin/nft -s -t list ruleset || exit $?; fi"

FACTS: tuple[Fact, ...] = (
    Fact(
        "baseline.settings",
        "shell",
        f"echo '-- modes'; stat -c '%a %n' {' '.join(_MODES)} 2>/dev/null; echo '-- modules'; "
        "grep -hsE '^[[:space:]]*install ' /etc/modprobe.d/*.conf; echo '-- umask'; "
        "grep -hsE '^[[:space:]]*UMASK[[:space:]]' /etc/login.defs; echo '-- su'; grep -hs '^auth' /etc/pam.d/su; "
        "echo '-- issue'; cat /etc/issue /etc/issue.net 2>/dev/null; echo '-- allow'; "
        "ls /etc/cron.allow 2>/dev/null; echo '-- keys'; readlink /etc/systemd/system/ctrl-alt-del.target; true",
        read_baseline,
        "percent of settings",
        "stat(1), modprobe.d(5), login.defs(5), pam_wheel(8), crontab(1); CIS Debian benchmark",
    ),
    Fact(
        "kernel.mitigations",
        "shell",
        "echo '-- aslr'; cat /proc/sys/kernel/randomize_va_space; echo '-- nx'; "
        "grep -m 1 -E '^(flags|Features)' /proc/cpuinfo | grep -cwE 'nx|asimd'; echo '-- holes'; "
        "cd /sys/devices/system/cpu/vulnerabilities && grep -H . *",
        read_mitigations,
        "switches",
        "kernel documentation: hw-vuln, sysctl/kernel randomize_va_space",
    ),
    Fact("net.doors", "shell", "ss -H -l -t -u -n", read_doors, "ports", "ss(8)"),
    Fact(
        "net.bonds",
        "shell",
        "command -v ip >/dev/null || exit 69; echo '-- route'; ip -j route show default; echo '-- links'; "
        "ip -j link show; echo '-- bonds'; for f in /proc/net/bonding/*; do [ -r \"$f\" ] || continue; "
        'echo "bond ${f##*/}"; grep -E \'^(Bonding Mode|Slave Interface|MII Status): \' "$f"; done; true',
        read_bonds,
        "links",
        "kernel documentation: bonding, /proc/net/bonding",
    ),
    Fact(
        "files.secrets",
        "shell",
        # As an account without rights: what it finds readable is readable to everybody on the host.
        f"{_AS_NOBODY}$a find /etc /home /opt /srv /usr/local/etc /var/www /var/backups -xdev -maxdepth 5 -type f "
        "-size -64k '(' -name '*.key' -o -name '*.pem' -o -name 'id_*' -o -name '.pgpass' -o -name '.my.cnf' "
        "-o -name '.env' -o -name '.netrc' -o -name '*.kdbx' -o -name 'credentials*' ')' -readable "
        "-exec grep -lsE 'PRIVATE KEY-----|^[^#]*(passw(or)?d|secret)[A-Za-z_]*[[:space:]]*[=:][[:space:]]*[^ ]' "
        "'{}' + 2>/dev/null; echo end",
        read_secrets,
        "files",
        "find(1), grep(1)",
        keep_raw=False,
    ),
    Fact(
        "protocols.old",
        "shell",
        "echo '-- tls'; grep -hsiE '^[[:space:]]*(ssl_protocols|SSLProtocol|MinProtocol|ssl_min_protocol_version)' "
        "/etc/ssl/openssl.cnf /etc/nginx/nginx.conf /etc/nginx/conf.d/* /etc/nginx/sites-enabled/* "
        "/etc/apache2/mods-enabled/ssl.conf /etc/apache2/sites-enabled/* /etc/postgresql/*/main/postgresql.conf; "
        "echo '-- smb'; grep -hsiE '^[[:space:]]*(client|server)? *min protocol' /etc/samba/smb.conf; echo '-- snmp'; "
        "if [ -e /etc/snmp/snmpd.conf ]; then ${S} /usr/bin/grep -hc -e ^rocommunity -e ^rwcommunity -e ^com2sec "
        "/etc/snmp/snmpd.conf; fi; true",
        read_protocols,
        "settings",
        "openssl config(5), nginx ssl_protocols, smb.conf(5), snmpd.conf(5)",
        privileged=True,
    ),
    Fact(
        "net.dns-way",
        "shell",
        "echo '-- own'; cat /etc/resolv.conf 2>/dev/null; echo '-- behind'; "
        f"cat /run/systemd/resolve/resolv.conf 2>/dev/null; echo '-- rules'; {_NFT}",
        read_name_service_way,
        "servers",
        "resolv.conf(5), nft(8)",
        privileged=True,
    ),
    Fact(
        "memory.swap-encryption",
        "shell",
        "echo '-- tree'; lsblk -J -o NAME,KNAME,TYPE,MOUNTPOINT || exit $?; echo '-- areas'; cat /proc/swaps",
        read_swap_encryption,
        "areas",
        "lsblk(8), proc_swaps(5)",
    ),
    Fact(
        "web.support",
        "shell",
        "command -v apt-cache >/dev/null || exit 69; "
        f"n=$(dpkg-query -W -f '${{db:Status-Abbrev}} ${{Package}}\\n' {' '.join(BROWSERS_AND_MAIL)} 2>/dev/null "
        "| awk '/^[hi]i/ { print $2 }'); [ -n \"$n\" ] || exit 0; "
        f"{_AS_NOBODY}$a apt-cache policy $n | sed -E 's#(https?|file|copy|cdrom):[^ ]+#archive#'",
        read_browser_support,
        "-",
        "apt-cache(8) policy",
    ),
    Fact(
        "web.others",
        "shell",
        "ls -d /snap/firefox /snap/chromium /snap/opera /snap/brave /snap/thunderbird /opt/firefox* "
        "/opt/google/chrome-* /opt/tor-browser* /opt/waterfox* /opt/librewolf* /opt/coccoc* "
        "/home/*/firefox /home/*/tor-browser* 2>/dev/null; ls -d /var/lib/flatpak/app/* 2>/dev/null | "
        "grep -iE 'firefox|chrom|brave|opera|vivaldi|browser|thunderbird|evolution|geary|edge'; true",
        read_other_browsers,
        "programs",
        "snap, flatpak(1), ls(1)",
        keep_raw=False,
    ),
    Fact(
        "software.run-places",
        "shell",
        "echo '-- mounts'; findmnt -rn -o TARGET,OPTIONS | "
        "grep -E '^(/|/home|/tmp|/var|/var/tmp|/dev/shm) '; echo '-- rules'; "
        "grep -lsE 'org.freedesktop.packagekit|io.snapcraft|org.freedesktop.Flatpak' /etc/polkit-1/rules.d/*; true",
        read_run_places,
        "places, rules",
        "mount(8) noexec, polkit(8)",
    ),
)
