"""How accounts are kept: hashes, ages, second factors, central sign-on, power. It counts; names and hashes stay there.

Where a limit is not set at all its figure is ``NEVER``, so that ``at_most`` fails.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from controlplane.collect.facts.linux_access import (
    ADMIN_GROUPS,
    NO_LOGIN,
    admin_names,
    last_logins,
    password_statuses,
)
from controlplane.collect.facts.linux_logging import OWN_PROCESSES
from controlplane.collect.facts.linux_text import NEVER, day, lines, part, settings, whole, words_of
from controlplane.domain.model import Fact

BUILT_IN = frozenset(
    "admin administrator user guest test demo debian ubuntu pi vagrant oracle postgres mysql ftp support operator "
    "centos ec2-user cloud-user service scanner kiosk".split()
)
"""Names that installers, images and vendors give; an account of such a name that may log in is a built-in one."""

ROOT_EQUAL_GROUPS = ("docker", "lxd", "incus-admin", "disk", "shadow", "kmem", "libvirt")
"""Groups whose members can become root or read every file without being called administrators."""

_ONE_TIME = ("google_authenticator", "oath", "duo", "privacyidea", "u2f", "yubico", "radius_auth")
_EPOCH = date(1970, 1, 1)


def read_hashes(text: str) -> dict[str, Any]:
    """Local passwords that can be used, and those of them that are not strongly hashed.

    Strong is yescrypt, gost-yescrypt, bcrypt and SHA-512 crypt; MD5, DES, NT and SHA-256 hashes are not.
    """
    states, strong = part(text, "states", "strong")
    words = lines(states)
    if not words or not all(word in ("P", "PS", "L", "LK", "NP") for word in words):
        raise ValueError("not a list of states from passwd -S")
    usable, good = sum(word in ("P", "PS") for word in words), whole(strong)
    return {"with_password": usable, "strong": good, "weak": max(usable - good, 0)}


def _people(text: str) -> dict[str, tuple[int, bool]]:
    """Account -> (uid, may log in) from lines ``name:uid:shell``."""
    found = {}
    for line in lines(text):
        cells = line.split(":")
        if len(cells) != 3:
            raise ValueError("not a line name:uid:shell")
        found[cells[0]] = (whole(cells[1]), not NO_LOGIN.search(cells[2] or "/bin/sh"))
    if not found:
        raise ValueError("no account at all")
    return found


def _lives(text: str) -> dict[str, int]:
    """Account -> days that its password lives, from ``passwd -S -a``."""
    most = {line.split()[0]: whole(line.split()[4]) for line in lines(text)}
    return {name: days if 0 <= days < 99_999 else NEVER for name, days in most.items()}


def read_ages(text: str) -> dict[str, Any]:
    """How long passwords that can be used may live, and whether a first password must be changed at once.

    ``first_password_kept``: people who never logged in and whose password is not marked to be changed at the first
    login (that mark is the day 1970-01-01). ``auto_disable_days``: what new accounts get as days after the end of
    the password until they are shut.
    """
    names = ("today", "accounts", "groups", "statuses", "useradd", "last")
    today, accounts, groups, statuses, useradd, last = part(text, *names)
    now, people, found = day(today), _people(accounts), password_statuses(statuses)
    lives, used, admins = _lives(statuses), last_logins(last), admin_names(groups)
    usable = {name: entry[1] for name, entry in found.items() if entry[0] == "P"}
    persons = [name for name in usable if 1000 <= people.get(name, (0, False))[0] < 60_000 and people[name][1]]
    kept = [name for name in persons if name not in used and usable[name] != _EPOCH]
    disable = whole(settings(useradd).get("INACTIVE", "-1"))
    return {
        "with_password": len(usable),
        "longest_days": max((lives[name] for name in usable), default=0),
        "admin_longest_days": max((lives[name] for name in usable if name in admins), default=0),
        "overdue": sum(_overdue(now, changed, lives[name]) for name, changed in usable.items()),
        "first_password_kept": len(kept),
        "auto_disable_days": disable if disable >= 0 else NEVER,
    }


def _overdue(now: date, changed: date | None, days: int) -> bool:
    return changed is None or (changed != _EPOCH and (now - changed).days > days)


def read_built_in(text: str) -> dict[str, Any]:
    """Accounts with a name that installers or vendors give, and those of them that can log in."""
    accounts, statuses = part(text, "accounts", "statuses")
    people, found = _people(accounts), password_statuses(statuses)
    named = [name for name in people if name in BUILT_IN]
    enabled = [name for name in named if people[name][1] and found.get(name, ("L",))[0] != "L"]
    return {"built_in": len(named), "enabled": len(enabled)}


def read_powers(text: str) -> dict[str, Any]:
    """Who holds power beside the plain administrators.

    ``root_equal``: people in groups that are as good as root. ``service_admins``: service accounts (uid 1 to 999)
    among the administrators. ``desktop_admins``: administrators' accounts that were used for daily work at a
    desktop, by the sessions that the machine still remembers; no figure where it remembers none at all.
    """
    accounts, groups, strong, desktop = part(text, "accounts", "groups", "strong", "desktop")
    people, admins, at_desktop = _people(accounts), admin_names(groups) - {"root"}, set(lines(desktop))
    equal = (admin_names(strong) - {"root"}) & {name for name, (uid, _) in people.items() if uid >= 1000}
    return {
        "admins": len(admins),
        "root_equal": len(equal),
        "service_admins": sum(0 < people.get(name, (NEVER, False))[0] < 1000 for name in admins),
        "desktop_admins": None if "?" in at_desktop else len(admins & at_desktop),
    }


def read_central(text: str) -> dict[str, Any]:
    """Whether people's accounts come from one central place, and how many people still have a password of their own.

    ``central`` needs all three: the name service asks it, PAM asks it, and the program that does so is running.
    """
    nss, pam, running, accounts, statuses = part(text, "nss", "pam", "running", "accounts", "statuses")
    people, found = _people(accounts), password_statuses(statuses)
    sources = re.search(r"^passwd:(.*)$", nss, re.MULTILINE)
    asks = bool(sources and {"sss", "ldap", "winbind"} & set(sources[1].split()))
    checks = re.search(r"pam_(sss|ldap|winbind|krb5)\.so", pam) is not None
    alive = bool({"sssd_be", "winbindd", "nslcd"} & set(lines(running)))
    own = [name for name, (uid, login) in people.items() if 1000 <= uid < 60_000 and login]
    return {
        "name_service": asks,
        "sign_on": checks,
        "running": alive,
        "central": asks and checks and alive,
        "local_people": sum(found.get(name, ("L",))[0] == "P" for name in own),
    }


def read_second_factor(text: str) -> dict[str, Any]:
    """Whether coming in over SSH and at the console takes two factors, and who has none enrolled.

    Two factors over SSH are: a key and then a one-time code (or device) that PAM demands of everybody, or a
    hardware key that asks for its PIN. ``admins_without`` has no figure where enrolment is kept elsewhere; where no
    second factor is asked of anybody, root is among those without.
    ``exempt`` counts ``Match`` blocks that ask less of root, of an administrator, or of a group or place; one that
    names only ordinary accounts (such as the reading account, which a forced command holds) is no exemption.
    """
    names = ("sshd", "matches", "ssh_pam", "pam", "groups", "accounts", "enrolled")
    sshd, matches, ssh_pam, pam, groups, accounts, enrolled = part(text, *names)
    found = words_of(sshd)
    if "usepam" not in found:
        raise ValueError("not the output of sshd -T")
    module, skippable = _one_time(ssh_pam if _one_time(ssh_pam)[0] else pam)
    demanded = module is not None and not skippable and found["usepam"] == "yes"
    hardware = _hardware_key(found)
    lists = found.get("authenticationmethods", "any").split()
    by_code = demanded and all(_key_then_question(one) for one in lists)
    console_module, console_skippable = _one_time(pam)
    people = _people(accounts)
    admins = {name for name in admin_names(groups) & set(people) if name != "root" and people[name][1]}
    homes = {line.split("/")[-2] for line in lines(enrolled) if line.count("/") >= 2}
    exempt = _exempt(matches, admins | {"root"})
    two = (by_code or hardware) and not exempt
    without = len(admins - homes) if module == "google_authenticator" else (0 if hardware else None)
    return {
        "ssh_two_factors": two,
        "console_two_factors": console_module is not None and not console_skippable,
        "module": module or ("hardware key" if hardware else "none"),
        "skippable": skippable,
        "exempt": exempt,
        "admins": len(admins),
        "admins_without": without if by_code or hardware else len(admins | {"root"}),
    }


def _one_time(pam: str) -> tuple[str | None, bool]:
    """The first module of one-time codes that PAM demands, and whether who has none may pass.

    Behind a ``sufficient`` line no module is demanded any more.
    """
    for line in lines(pam):
        found = re.match(r"auth\s+(\[[^]]*\]|\S+)\s+pam_([a-z0-9_]+)\.so(.*)", line)
        if (
            found
            and found[2] in _ONE_TIME
            and re.fullmatch(r"required|requisite|\[.*default=(bad|die)\b.*\]", found[1])
        ):
            return found[2], re.search(r"\bnullok\b", found[3]) is not None
        if found and found[1] == "sufficient":
            break
    return None, False


def _exempt(matches: str, admins: set[str]) -> int:
    """Blocks of sshd_config that let whom they name in with one factor."""
    found = 0
    for block in re.split(r"(?mi)^\s*Match\s+", matches)[1:]:
        who, _, rest = block.partition("\n")
        asks = re.search(r"(?mi)^\s*AuthenticationMethods\s+(.*)$", rest)
        if asks is None or all(_key_then_question(one) for one in asks[1].split()):
            continue
        named = re.fullmatch(r"user\s+([A-Za-z0-9_,-]+)\s*", who, re.IGNORECASE)
        found += named is None or bool(admins & set(named[1].split(",")))
    return found


def _key_then_question(one: str) -> bool:
    steps = [step.partition(":")[0] for step in one.split(",")]
    return "publickey" in steps and "keyboard-interactive" in steps


def _hardware_key(found: dict[str, str]) -> bool:
    """Only keys that live in a device are taken, the device asks for its PIN, and nothing else lets anybody in."""
    kinds = [kind for kind in found.get("pubkeyacceptedalgorithms", "").split(",") if kind]
    alone = found.get("passwordauthentication") == "no" and found.get("kbdinteractiveauthentication") == "no"
    asks = "verify-required" in found.get("pubkeyauthoptions", "")
    return alone and asks and bool(kinds) and all(kind.startswith(("sk-", "webauthn-sk-")) for kind in kinds)


def read_enforcement(text: str) -> dict[str, Any]:
    """Whether password rules are enforced and not only said, also on root, and how many old passwords are refused."""
    pam, quality, history = part(text, "pam", "quality", "history")
    rule = next((line for line in lines(pam) if "pam_pwquality.so" in line), "")
    old = next((line for line in lines(pam) if "pam_pwhistory.so" in line), "")
    strict = re.search(r"\s(requisite|required)\s|default=(bad|die)", rule) is not None
    off = re.search(r"^\s*enforcing\s*=\s*0\s*$", quality, re.MULTILINE) is not None
    own = re.search(r"\bremember=([0-9]{1,4})\b", old) or re.search(
        r"^\s*remember\s*=\s*([0-9]{1,4})\s*$", history, re.MULTILINE
    )
    return {
        "enforced": strict and not off,
        "root_too": strict and _flag("enforce_for_root", rule, quality),
        "history": (int(own[1]) if own else 10) if old else 0,
        "history_root_too": bool(old) and _flag("enforce_for_root", old, history),
    }


def _flag(word: str, line: str, conf: str) -> bool:
    return re.search(rf"\b{word}\b", line) is not None or re.search(rf"^\s*{word}\b", conf, re.MULTILINE) is not None


_ACCOUNTS = "echo '-- accounts'; awk -F: '{ print $1 \":\" $3 \":\" $7 }' /etc/passwd; "
_STATUSES = "echo '-- statuses'; ${S} /usr/bin/passwd -S -a || exit $?; "
_LAST = (
    "echo '-- last'; if command -v lastlog >/dev/null; then lastlog -u 1000-59999; "
    "elif command -v lastlog2 >/dev/null; then [ ! -e /var/lib/lastlog/lastlog2.db ] || lastlog2; else exit 69; fi"
)
_STRONG = "-e :.y.j.{60} -e :.gy.j.{60} -e :.6..{90} -e :.2b.{56}"

FACTS: tuple[Fact, ...] = (
    Fact(
        "accounts.hashes",
        "shell",
        "s=$(${S} /usr/bin/passwd -S -a) || exit $?; echo '-- states'; echo \"$s\" | awk '{ print $2 }'; "
        # A count and nothing else: no hash leaves the command, whoever runs it. The length tells a real SHA-512
        # crypt hash from an old 13-character one with the same letters.
        f"echo '-- strong'; ${{S}} /usr/bin/grep -cE {_STRONG} /etc/shadow; true",
        read_hashes,
        "passwords",
        "crypt(5), shadow(5), passwd(1) -S",
        privileged=True,
    ),
    Fact(
        "accounts.ages",
        "shell",
        f"echo '-- today'; date -u +%F; {_ACCOUNTS}echo '-- groups'; {ADMIN_GROUPS}; {_STATUSES}"
        f"echo '-- useradd'; grep -hs '^INACTIVE=' /etc/default/useradd; {_LAST}",
        read_ages,
        "days",
        "passwd(1) -S, shadow(5), useradd(8), lastlog(8)",
        privileged=True,
        keep_raw=False,
    ),
    Fact(
        "accounts.built-in",
        "shell",
        f"{_ACCOUNTS}{_STATUSES}true",
        read_built_in,
        "accounts",
        "passwd(5), passwd(1) -S",
        privileged=True,
        keep_raw=False,
    ),
    Fact(
        "accounts.powers",
        "shell",
        f"{_ACCOUNTS}echo '-- groups'; {ADMIN_GROUPS}; echo '-- strong'; "
        f"grep -E '^({'|'.join(ROOT_EQUAL_GROUPS)}):' /etc/group; echo '-- desktop'; "
        # A session at a desktop: on a display, or on a terminal that stands for itself as gdm and sddm write it.
        "l=; command -v wtmpdb >/dev/null && l='wtmpdb last'; command -v last >/dev/null && l='last -w'; "
        'if [ -n "$l" ]; then $l 2>/dev/null | '
        "awk '$2 ~ /^:/ || $3 ~ /^:[0-9]/ || ($2 ~ /^tty/ && $2 == $3) { print $1 }' | sort -u; "
        "else echo '?'; fi; true",
        read_powers,
        "accounts",
        "group(5), passwd(5), last(1), wtmpdb(8)",
        keep_raw=False,
    ),
    Fact(
        "accounts.central",
        "shell",
        "echo '-- nss'; grep -s '^passwd:' /etc/nsswitch.conf; echo '-- pam'; "
        "grep -hsE '^[^#]*pam_(sss|ldap|winbind|krb5)' /etc/pam.d/common-auth /etc/pam.d/system-auth; "
        f"echo '-- running'; {OWN_PROCESSES} | sort -u | grep -xE 'sssd_be|winbindd|nslcd'; "
        f"{_ACCOUNTS}{_STATUSES}true",
        read_central,
        "accounts",
        "nsswitch.conf(5), sssd(8), pam_sss(8)",
        privileged=True,
        keep_raw=False,
    ),
    Fact(
        "accounts.second-factor",
        "shell",
        "[ -x /usr/sbin/sshd ] || exit 69; s=$(${S} /usr/sbin/sshd -T) || exit $?; echo '-- sshd'; echo \"$s\" | "
        "grep -iE '^(usepam|authenticationmethods|pubkeyauthoptions|pubkeyacceptedalgorithms|passwordauthentication"
        "|kbdinteractiveauthentication) '; echo '-- matches'; "
        "${S} /usr/bin/grep -rhsi -e ^Match -e AuthenticationMethods /etc/ssh/sshd_config "
        "/etc/ssh/sshd_config.d; echo '-- ssh_pam'; grep -hsE '^auth' /etc/pam.d/sshd; "
        "echo '-- pam'; grep -hsE '^auth' /etc/pam.d/common-auth /etc/pam.d/system-auth; "
        f"echo '-- groups'; {ADMIN_GROUPS}; {_ACCOUNTS}echo '-- enrolled'; "
        "${S} /usr/bin/find /home -maxdepth 2 -name .google_authenticator; true",
        read_second_factor,
        "accounts",
        "sshd_config(5) AuthenticationMethods, pam.conf(5), pam_google_authenticator(8)",
        privileged=True,
        keep_raw=False,
    ),
    Fact(
        "password.enforcement",
        "shell",
        "echo '-- pam'; grep -hsE '^[[:space:]]*password' /etc/pam.d/common-password /etc/pam.d/system-auth "
        "/etc/pam.d/password-auth; echo '-- quality'; "
        "grep -hsE '^[^#]' /etc/security/pwquality.conf.d/*.conf /etc/security/pwquality.conf; "
        "echo '-- history'; grep -hsE '^[^#]' /etc/security/pwhistory.conf; true",
        read_enforcement,
        "passwords",
        "pam_pwquality(8), pam_pwhistory(8)",
    ),
)
