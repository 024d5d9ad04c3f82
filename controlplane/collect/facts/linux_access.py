"""Who may come in and how: sshd, passwords, accounts, sudo, sessions. It counts; names and hashes stay on the device.

Where a limit is not set at all its figure is ``NEVER``, so that ``at_most`` fails.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

from controlplane.collect.facts.linux_text import (
    NEVER,
    day,
    lines,
    part,
    settings,
    whole,
    words_of,
)
from controlplane.domain.model import Fact

WEAK_CIPHERS = re.compile(r"cbc|3des|arcfour|rc4|blowfish|cast128|^none")
WEAK_MACS = re.compile(r"md5|sha1|umac-64|-96|^none")
WEAK_KEX = re.compile(r"sha1$|group1-|-sha1-|^rsa1024")

INACTIVE_DAYS = 45
ADMIN_PASSWORD_DAYS = 60

NO_LOGIN = re.compile(r"/(nologin|false|sync|shutdown|halt|git-shell)$")


def read_sshd(text: str) -> dict[str, Any]:
    """The effective configuration of sshd for everybody (``Match`` blocks may still change it for some)."""
    found = words_of(text)
    if "permitrootlogin" not in found or "ciphers" not in found:
        raise ValueError("not the output of sshd -T")
    root = found["permitrootlogin"]
    interval, count = whole(found.get("clientaliveinterval", "0")), whole(found.get("clientalivecountmax", "3"))
    return {
        "permit_root_login": {"without-password": "prohibit-password"}.get(root, root),
        "password_authentication": found.get("passwordauthentication") == "yes",
        "keyboard_interactive": found.get("kbdinteractiveauthentication") == "yes",
        "password_alone": _password_alone(found),
        "pubkey_authentication": found.get("pubkeyauthentication") == "yes",
        "permit_empty_passwords": found.get("permitemptypasswords") == "yes",
        "max_auth_tries": whole(found.get("maxauthtries", "6")),
        "login_grace_seconds": whole(found.get("logingracetime", "120")) or NEVER,
        "idle_seconds": interval * count or NEVER,
        "x11_forwarding": found.get("x11forwarding") == "yes",
        "tcp_forwarding": found.get("allowtcpforwarding", "yes") != "no",
        "user_environment": found.get("permituserenvironment", "no") != "no",
        "log_level": found.get("loglevel", "").upper(),
        "access_limited": "allowusers" in found or "allowgroups" in found,
        "weak_ciphers": _weak(found["ciphers"], WEAK_CIPHERS),
        "weak_macs": _weak(found.get("macs", ""), WEAK_MACS),
        "weak_kex": _weak(found.get("kexalgorithms", ""), WEAK_KEX),
        "ports": sorted({whole(p) for p in re.findall(r"(?m)^port (\S+)$", text)}),
    }


def _password_alone(found: dict[str, str]) -> bool:
    """Whether questions and answers (a password) are enough to come in, without a key before them."""
    asked = found.get("kbdinteractiveauthentication") == "yes" or found.get("passwordauthentication") == "yes"
    lists = found.get("authenticationmethods", "any").split()
    return asked and not all("publickey" in one.split(",") for one in lists)


def _weak(algorithms: str, pattern: re.Pattern[str]) -> int:
    return sum(bool(pattern.search(name)) for name in algorithms.split(",") if name)


def _credit(text: str) -> int:
    return max(-20, min(20, whole(text)))


def read_password_rules(text: str) -> dict[str, Any]:
    """Shortest password and character classes that the host asks for when a password is changed.

    Options in the PAM line win over pwquality.conf. Positive credits let a password be shorter, and are taken off.
    """
    pam, conf = part(text, "pam", "conf")
    line = next((entry for entry in lines(pam) if "pam_pwquality.so" in entry or "pam_passwdqc.so" in entry), None)
    plain = next((entry for entry in lines(pam) if "pam_unix.so" in entry), None)
    if plain is None and line is None:
        raise ValueError("no password line of PAM")
    if line is None or "pam_passwdqc.so" in line:
        found = re.search(r"\bminlen=([0-9]{1,4})\b", plain or "")
        return {
            "quality_module": False,
            "min_length": int(found[1]) if found else 6,
            "classes": 0,
            "history": _history(pam),
        }
    options = settings(conf) | dict(re.findall(r"\b([a-z]+)=(-?[0-9]{1,4})\b", line))
    credits = [_credit(options.get(name, "0")) for name in ("dcredit", "ucredit", "lcredit", "ocredit")]
    length = whole(options.get("minlen", "8")) - sum(credit for credit in credits if credit > 0)
    classes = max(whole(options.get("minclass", "0")), sum(credit < 0 for credit in credits))
    return {"quality_module": True, "min_length": max(length, 6), "classes": classes, "history": _history(pam)}


def _history(pam: str) -> int:
    """How many earlier passwords are refused."""
    found = [0]
    for line in lines(pam):
        if "pam_pwhistory.so" in line or "pam_unix.so" in line:
            remember = re.search(r"\bremember=([0-9]{1,4})\b", line)
            found.append(int(remember[1]) if remember else 10 * ("pam_pwhistory.so" in line))
    return max(found)


def read_lockout(text: str) -> dict[str, Any]:
    """Failed logins in a row before the account is locked, and for how long (0: until an administrator opens it).

    ``lock_hours`` is the same span for a bound from below; a lock that only an administrator opens lasts ``NEVER``.
    """
    pam, conf = part(text, "pam", "conf")
    found = [line for line in lines(pam) if "pam_faillock.so" in line or "pam_tally2.so" in line]
    if not found:
        return {"enabled": False, "attempts": NEVER, "unlock_seconds": 0, "lock_hours": 0, "root_too": False}
    options = settings(conf) | dict(re.findall(r"\b(deny|unlock_time)=([0-9]{1,9})\b", " ".join(found)))
    attempts = whole(options.get("deny", "3"))
    word = options.get("unlock_time", "600")
    seconds = 0 if word == "never" else whole(word)
    return {
        "enabled": attempts > 0,
        "attempts": attempts or NEVER,
        "unlock_seconds": seconds,
        "lock_hours": seconds // 3600 if seconds else NEVER,
        "root_too": "even_deny_root" in conf or "even_deny_root" in pam,
    }


def read_login_defs(text: str) -> dict[str, Any]:
    """What new local accounts get: days a password lives, days it must live, the hash, the mask of new files."""
    found = dict(re.findall(r"^\s*([A-Z_]+)\s+(\S+)", text, re.MULTILINE))
    if not found:
        raise ValueError("not login.defs")
    most = whole(found.get("PASS_MAX_DAYS", "-1"))
    return {
        "max_days": most if 0 < most < 99_999 else NEVER,
        "min_days": max(whole(found.get("PASS_MIN_DAYS", "-1")), 0),
        "warn_days": max(whole(found.get("PASS_WARN_AGE", "-1")), 0),
        "hash": found.get("ENCRYPT_METHOD", "").upper(),
        "umask": found.get("UMASK", ""),
    }


def read_accounts(text: str) -> dict[str, Any]:
    """Local accounts by kind, from uid and shell alone: people, root's equals, service accounts that may log in."""
    people = service = roots = total = 0
    for line in lines(text):
        uid, sign, shell = line.partition(":")
        if not sign:
            raise ValueError("not a line uid:shell")
        number, may_log_in = whole(uid), not NO_LOGIN.search(shell or "/bin/sh")
        total += 1
        roots += number == 0
        people += 1000 <= number < 60_000 and may_log_in
        service += 0 < number < 1000 and may_log_in
    if not total:
        raise ValueError("no account at all")
    return {"total": total, "people": people, "uid_zero": roots, "service_with_shell": service}


def password_statuses(text: str) -> dict[str, tuple[str, date | None, int]]:
    """Account -> (P, L or NP; day of the last change; days it may live) from ``passwd -S -a``."""
    found: dict[str, tuple[str, date | None, int]] = {}
    for line in lines(text):
        cells = line.split()
        if len(cells) < 5 or cells[1] not in ("P", "PS", "L", "LK", "NP"):
            raise ValueError("not a line of passwd -S")
        changed = None if cells[2] in ("never", "-1") else day(cells[2])
        found[cells[0]] = (cells[1][:2] if cells[1] == "NP" else cells[1][0], changed, whole(cells[4]))
    if not found:
        raise ValueError("no account at all")
    return found


def admin_names(text: str) -> set[str]:
    """root and the members of the administrators' groups, from lines of /etc/group."""
    members: set[str] = {"root"}
    for line in lines(text):
        cells = line.split(":")
        if len(cells) != 4:
            raise ValueError("not a line of /etc/group")
        members |= {name for name in cells[3].split(",") if name}
    return members


def read_passwords(text: str) -> dict[str, Any]:
    """State and age of local passwords, in counts. Administrators are root and the members of sudo, wheel and admin."""
    today, groups, statuses = part(text, "today", "groups", "statuses")
    now, found, admins = day(today), password_statuses(statuses), admin_names(groups)
    usable = {name: entry for name, entry in found.items() if entry[0] == "P"}
    old = [name for name in admins & set(usable) if days_between(now, usable[name][1]) > ADMIN_PASSWORD_DAYS]
    return {
        "with_password": len(usable),
        "without_password": sum(entry[0] == "NP" for entry in found.values()),
        "locked": sum(entry[0] == "L" for entry in found.values()),
        "never_expire": sum(not 0 <= entry[2] < 99_999 for entry in usable.values()),
        "admins_with_password": len(admins & set(usable)),
        "admins_over_60_days": len(old),
        "root_password": "root" in usable,
    }


def days_between(now: date, then: date | None) -> int:
    """Whole days from one day to another; ``NEVER`` when the earlier one is not known."""
    return NEVER if then is None else (now - then).days


def read_inactive(text: str) -> dict[str, Any]:
    """People's accounts that still have a password, and those that nobody used for more than 45 days.

    An account that was never used counts from the day its password was set.
    """
    today, people, statuses, last = part(text, "today", "people", "statuses", "last")
    now, found = day(today), password_statuses(statuses)
    names = [line.split(":")[0] for line in lines(people) if not NO_LOGIN.search(line)]
    enabled = [name for name in names if found.get(name, ("L",))[0] == "P"]
    used = last_logins(last)
    idle = [name for name in enabled if days_between(now, used.get(name) or found[name][1]) > INACTIVE_DAYS]
    return {
        "enabled": len(enabled),
        "inactive_45_days": len(idle),
        "never_used": sum(used.get(name) is None for name in enabled),
    }


def last_logins(text: str) -> dict[str, date]:
    """Account -> day of the last login, from lastlog or lastlog2 in the C locale."""
    found = lines(text)
    if found and not found[0].startswith("Username"):
        raise ValueError("not a table of lastlog")
    logins = {}
    for line in found[1:]:
        stamp = re.search(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +([0-9]{1,2}) [0-9:]{8} (?:[+-][0-9]{4} )?([0-9]{4})", line)
        if stamp:
            written = f"{stamp[1]} {stamp[2]} {stamp[3]}"
            logins[line.split()[0]] = datetime.strptime(written, "%b %d %Y").date()  # noqa: DTZ007
    return logins


def read_admins(text: str) -> dict[str, Any]:
    """Accounts that may become root through a group: how many, root itself not counted."""
    return {"members": len(admin_names(text) - {"root"})}


def read_sudo(text: str) -> dict[str, Any]:
    """Rules of sudo: those that give everything, and those that give everything without a password."""
    rules = full = free = limited = 0
    for line in re.sub(r"\\\n", " ", text).splitlines():
        rule = line.strip()
        if not rule or rule.startswith(("#", "@", "Defaults")) or re.match(r"\w+_Alias\b", rule) or "=" not in rule:
            continue
        commands = rule.partition("=")[2]
        everything = re.search(r"(^|[\s,:)])ALL\s*(,|$)", commands) is not None
        nopasswd = "NOPASSWD" in commands
        rules += 1
        full += everything
        free += everything and nopasswd
        limited += nopasswd and not everything
    return {"rules": rules, "all": full, "nopasswd_all": free, "nopasswd_limited": limited}


def read_timeout(text: str) -> dict[str, Any]:
    """Seconds after which an idle shell ends; the smallest that is set."""
    found = [int(seconds) for seconds in re.findall(r"\bTMOUT=([0-9]{1,6})\b", text)]
    limits = [seconds for seconds in found if seconds > 0]
    return {"seconds": min(limits, default=NEVER), "fixed": re.search(r"readonly[^\n]*\bTMOUT\b", text) is not None}


def read_autologin(text: str) -> dict[str, Any]:
    """Whether a screen or console logs somebody in by itself."""
    found = 0
    for line in lines(text):
        key, sign, value = line.partition("=")
        word = key.strip().lower()
        if not sign:
            raise ValueError("not a setting")
        if word in ("automaticloginenable", "timedloginenable"):
            found += value.strip().lower() in ("true", "1", "yes")
        elif word in ("autologin-user", "user"):
            found += bool(value.strip())
        elif word == "execstart":
            found += "autologin" in value or " -a " in value
    return {"enabled": found > 0, "places": found}


def read_screen_lock(text: str) -> dict[str, Any]:
    """Seconds without use after which the system's own settings lock every desktop, and whether users may change it.

    Read from the system database of dconf (GNOME, Cinnamon), which holds only when the profile names it.
    """
    profile, keys, locks = part(text, "profile", "keys", "locks")
    found = settings(keys)
    idle = _seconds(found.get("idle-delay"))
    usable = "system-db:local" in profile and found.get("lock-enabled", "true") == "true" and idle > 0
    after = idle + _seconds(found.get("lock-delay")) if usable else NEVER
    fixed = all(f"/{key}" in locks for key in ("idle-delay", "lock-enabled"))
    return {"lock_after_seconds": min(after, NEVER), "fixed": usable and fixed}


def _seconds(text: str | None) -> int:
    return whole(text.removeprefix("uint32").strip()) if text else 0


_PAM_CHANGE = (
    "grep -hsE '^[[:space:]]*password' /etc/pam.d/common-password /etc/pam.d/system-auth /etc/pam.d/password-auth"
)
_PAM_AUTH = (
    "grep -hsE '^[[:space:]]*(auth|account)[[:space:]].*pam_(faillock|tally2)' /etc/pam.d/common-auth "
    "/etc/pam.d/common-account /etc/pam.d/system-auth /etc/pam.d/password-auth"
)
ADMIN_GROUPS = "grep -E '^(sudo|wheel|admin):' /etc/group"

FACTS: tuple[Fact, ...] = (
    Fact(
        "ssh.config",
        "shell",
        "[ -x /usr/sbin/sshd ] || exit 69; ${S} /usr/sbin/sshd -T",
        read_sshd,
        "seconds, tries, counts of weak algorithms",
        "sshd(8) -T, sshd_config(5)",
        privileged=True,
    ),
    Fact(
        "password.rules",
        "shell",
        f"echo '-- pam'; {_PAM_CHANGE}; echo '-- conf'; "
        "grep -hsE '^[^#]' /etc/security/pwquality.conf.d/*.conf /etc/security/pwquality.conf; true",
        read_password_rules,
        "characters, classes",
        "pam_pwquality(8), pam_unix(8)",
    ),
    Fact(
        "password.lockout",
        "shell",
        f"echo '-- pam'; {_PAM_AUTH}; echo '-- conf'; grep -hsE '^[^#]' /etc/security/faillock.conf; true",
        read_lockout,
        "failed logins; seconds",
        "pam_faillock(8), faillock.conf(5)",
    ),
    Fact(
        "password.defaults",
        "shell",
        "grep -hE '^(PASS_MAX_DAYS|PASS_MIN_DAYS|PASS_WARN_AGE|ENCRYPT_METHOD|UMASK)' /etc/login.defs",
        read_login_defs,
        "days",
        "login.defs(5)",
    ),
    Fact(
        "accounts.kinds",
        "shell",
        "awk -F: '{ print $3 \":\" $7 }' /etc/passwd",
        read_accounts,
        "accounts",
        "passwd(5)",
    ),
    Fact(
        "accounts.passwords",
        "shell",
        f"echo '-- today'; date -u +%F; echo '-- groups'; {ADMIN_GROUPS}; "
        "echo '-- statuses'; ${S} /usr/bin/passwd -S -a",
        read_passwords,
        "accounts",
        "passwd(1) -S, shadow(5)",
        privileged=True,
        keep_raw=False,
    ),
    Fact(
        "accounts.inactive",
        "shell",
        "echo '-- today'; date -u +%F; echo '-- people'; "
        "awk -F: '$3 >= 1000 && $3 < 60000 { print $1 \":\" $7 }' /etc/passwd; echo '-- statuses'; "
        "${S} /usr/bin/passwd -S -a || exit $?; echo '-- last'; "
        "if command -v lastlog >/dev/null; then lastlog -u 1000-59999; elif command -v lastlog2 >/dev/null; then "
        "[ ! -e /var/lib/lastlog/lastlog2.db ] || lastlog2; else exit 69; fi",
        read_inactive,
        "accounts",
        "lastlog(8), lastlog2(8), passwd(1) -S",
        privileged=True,
        keep_raw=False,
    ),
    Fact("accounts.admins", "shell", f"{ADMIN_GROUPS}; true", read_admins, "accounts", "group(5)", keep_raw=False),
    Fact(
        "sudo.rules",
        "shell",
        "[ -e /etc/sudoers ] || exit 0; ${S} /usr/bin/grep -rhs . /etc/sudoers /etc/sudoers.d",
        read_sudo,
        "rules",
        "sudoers(5)",
        privileged=True,
        keep_raw=False,
    ),
    Fact(
        "session.shell-timeout",
        "shell",
        "grep -hsE '^[^#]*TMOUT' /etc/profile /etc/profile.d/*.sh /etc/bash.bashrc /etc/bashrc /etc/environment; true",
        read_timeout,
        "seconds",
        "bash(1) TMOUT",
    ),
    Fact(
        "session.autologin",
        "shell",
        "grep -hsiE '^[[:space:]]*(AutomaticLoginEnable|TimedLoginEnable|autologin-user)[[:space:]]*=' "
        "/etc/gdm3/*.conf /etc/gdm/custom.conf /etc/lightdm/lightdm.conf /etc/lightdm/lightdm.conf.d/*.conf; "
        "grep -hsE '^User=' /etc/sddm.conf /etc/sddm.conf.d/*.conf; "
        "grep -hsE '^ExecStart=.*agetty' /etc/systemd/system/*getty*/*.conf; true",
        read_autologin,
        "-",
        "gdm3 daemon.conf, lightdm.conf, sddm.conf(5), agetty(8)",
        keep_raw=False,
    ),
    Fact(
        "session.screen-lock",
        "shell",
        "[ -d /usr/share/xsessions ] || [ -d /usr/share/wayland-sessions ] || exit 69; "
        "echo '-- profile'; grep -hsE '^system-db' /etc/dconf/profile/user; echo '-- keys'; "
        "grep -hsE '^(idle-delay|lock-enabled|lock-delay)=' /etc/dconf/db/local.d/*; echo '-- locks'; "
        "grep -hsE '(idle-delay|lock-enabled|lock-delay)$' /etc/dconf/db/local.d/locks/*; true",
        read_screen_lock,
        "seconds",
        "dconf(7), org.gnome.desktop.session idle-delay",
    ),
)
