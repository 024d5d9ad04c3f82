"""How hard a Linux host is: kernel switches, core dumps, mandatory access control, file rights. It reads switches."""

from __future__ import annotations

import re
from typing import Any

from controlplane.collect.facts.linux_text import lines, part, settings, whole
from controlplane.domain.model import Fact

KERNEL_BASELINE = {
    "fs.protected_hardlinks": {1},
    "fs.protected_symlinks": {1},
    "fs.suid_dumpable": {0, 2},
    "kernel.dmesg_restrict": {1},
    "kernel.kptr_restrict": {1, 2},
    "kernel.randomize_va_space": {2},
    "kernel.yama.ptrace_scope": {1, 2, 3},
    "net.ipv4.conf.all.accept_redirects": {0},
    "net.ipv4.conf.all.accept_source_route": {0},
    "net.ipv4.conf.all.send_redirects": {0},
    "net.ipv4.icmp_echo_ignore_broadcasts": {1},
    "net.ipv4.tcp_syncookies": {1, 2},
}
"""The hospital's baseline: what each switch may be. Sources: kernel sysctl documentation, CIS Debian benchmark."""


def read_kernel_switches(text: str) -> dict[str, Any]:
    """Switches of the kernel that differ from the baseline; one that the kernel lacks does not count."""
    values = {}
    for line in lines(text):
        key, sign, value = line.partition("=")
        name = key.strip().removeprefix("/proc/sys/").replace("/", ".")
        if not sign or name not in KERNEL_BASELINE:
            raise ValueError("not a switch of the baseline")
        values[name] = whole(value)
    if not values:
        raise ValueError("no switch at all")
    off = sorted(name for name, value in values.items() if value not in KERNEL_BASELINE[name])
    return {"seen": len(values), "differing": off, "differing_count": len(off)}


def read_core_dumps(text: str) -> dict[str, Any]:
    """Whether a crashing program leaves its memory on the disk, where patient data could lie open."""
    pattern, limits, coredump = part(text, "pattern", "limits", "coredump")
    word = pattern.strip()
    hard = re.search(r"^\s*\*\s+(hard|-)\s+core\s+0\s*$", limits, re.MULTILINE) is not None
    stored = settings(coredump).get("Storage", "external")
    handler = "systemd-coredump" in word
    off = word in ("", "|/bin/false", "|/usr/bin/false", "/dev/null") or (stored == "none" if handler else hard)
    return {"disabled": off, "handler": "systemd-coredump" if handler else "kernel"}


def read_apparmor(text: str) -> dict[str, Any]:
    """Whether AppArmor or SELinux is at work, and AppArmor's profiles by how they are applied."""
    modules, profiles = part(text, "modules", "profiles")
    names = modules.strip().split(",")
    modes = re.findall(r"\((enforce|complain|kill|unconfined|prompt)\)$", profiles, re.MULTILINE)
    active = next((name for name in names if name in ("apparmor", "selinux")), "none")
    return {
        "module": active,
        "active": active != "none",
        "enforced": modes.count("enforce"),
        "complaining": modes.count("complain"),
    }


def read_etc_rights(text: str) -> dict[str, Any]:
    """Files below /etc that everybody may change, and files with hashes or keys that everybody may read."""
    world, secrets = part(text, "world", "secrets")
    readable = 0
    for line in lines(secrets):
        mode, _, name = line.partition(" ")
        if not re.fullmatch(r"[0-7]{1,4}", mode) or not name.startswith("/"):
            raise ValueError("not a mode and a path")
        readable += int(mode, 8) & 0o007 > 0
    return {"world_writable": whole(world), "secrets_readable": readable}


_SWITCHES = " ".join("/proc/sys/" + name.replace(".", "/") for name in sorted(KERNEL_BASELINE))

FACTS: tuple[Fact, ...] = (
    Fact(
        "kernel.switches",
        "shell",
        f'for f in {_SWITCHES}; do [ -r "$f" ] && echo "$f = $(cat "$f")"; done; true',
        read_kernel_switches,
        "switches",
        "proc_sys(5), kernel sysctl documentation",
    ),
    Fact(
        "kernel.core-dumps",
        "shell",
        "echo '-- pattern'; cat /proc/sys/kernel/core_pattern; echo '-- limits'; "
        "grep -hsE '^[^#]*core' /etc/security/limits.conf /etc/security/limits.d/*.conf; echo '-- coredump'; "
        "grep -hsE '^Storage=' /etc/systemd/coredump.conf /etc/systemd/coredump.conf.d/*.conf; true",
        read_core_dumps,
        "-",
        "core(5), limits.conf(5), coredump.conf(5)",
    ),
    Fact(
        "kernel.confinement",
        "shell",
        "echo '-- modules'; cat /sys/kernel/security/lsm 2>/dev/null; echo; echo '-- profiles'; "
        "[ -e /sys/kernel/security/apparmor/profiles ] || exit 0; "
        "${S} /usr/bin/cat /sys/kernel/security/apparmor/profiles",
        read_apparmor,
        "profiles",
        "apparmor(7), securityfs",
        privileged=True,
    ),
    Fact(
        "files.etc-rights",
        "shell",
        "echo '-- world'; find /etc -xdev -type f -perm -0002 2>/dev/null | wc -l; echo '-- secrets'; "
        "stat -c '%a %n' /etc/shadow /etc/gshadow /etc/shadow- /etc/gshadow- /etc/sudoers /etc/ssh/ssh_host_*_key "
        "2>/dev/null; true",
        read_etc_rights,
        "files",
        "find(1), stat(1)",
    ),
)
