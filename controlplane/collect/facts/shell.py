"""Many shell facts as one constant script, and its output as replies. It runs nothing and opens nothing.

Every line of a command's output is sent with a bar in front, so output can never be taken for a marker, whatever
a device prints. Between the markers stand the exit code and the first words of standard error.

Exit codes a command may use to say how it went: 69 the device lacks the thing, 77 the right is missing
(``sysexits.h``); 127 is the shell's own word for a missing program, 124 and 137 are those of ``timeout``.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shlex
import sys
from collections.abc import Sequence

from controlplane.collect.facts import SHELL_FACTS
from controlplane.domain.model import Fact, Outcome, Reply

COMMAND_SECONDS = 10
"""The time limit of one command on the device."""

OUTPUT_BYTES = 256 * 1024
"""How much of one command's output is kept; more is garbled."""

ACCOUNT = "emrread"
"""The read-only account that the allow-list is written for."""

PRIVILEGE = "${S}"

_NOT_THERE = frozenset({69, 127})
_TIMED_OUT = frozenset({124, 137})
_NO_RIGHT = re.compile(
    r"permission denied|operation not permitted|password is required|not allowed to|not in the sudoers"
    r"|must be root|are you root|only root|sudo: |requires? root|superuser",
    re.IGNORECASE,
)
_PRIVILEGED_CALL = re.compile(r"\$\{S\} ((?:[^\s|;&<>()`$'\"]+)(?: [^\s|;&<>()`$'\"]+)*)")

_HEAD = """\
# Read-only questions of the readiness control plane. Constant text: its SHA-256 may be pinned by the device.
main() {
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C LANG=C TZ=UTC S=
export PATH LC_ALL LANG TZ S
unset ENV BASH_ENV
[ "$(id -u)" = 0 ] || S='sudo -n'
nl='
'
set -f
exec 3>&1
ask() {
r=$({ { timeout -k 1 @SECONDS@ sh -c "$2" </dev/null 2>&4; printf '\\n%s' "$?" >&4; } | head -c @BYTES@ \
| sed 's/^/|/' >&3; } 4>&1)
code=${r##*"$nl"}
set -- "$1" ${r%"$code"}
name=$1
shift
printf '\\n%s end %s %s %.300s\\n' "$M" "$name" "$code" "$*"
}
"""


def build_script(facts: Sequence[Fact]) -> str:
    """The POSIX sh script that asks every fact in turn.

    The text depends on the facts alone, so a device may pin its SHA-256. Nothing runs until the last line has
    arrived: half a script does nothing.
    """
    head = _HEAD.replace("@SECONDS@", str(COMMAND_SECONDS)).replace("@BYTES@", str(OUTPUT_BYTES + 1))
    lines = [head, f"M={marker(facts)}\n"]
    lines.extend(f"ask {fact.name} {shlex.quote(fact.ask)}\n" for fact in facts)
    lines.append("printf '%s done\\n' \"$M\"\n}\nmain\n")
    return "".join(lines)


def script_sha256(facts: Sequence[Fact]) -> str:
    """The digest that ``gate.sh`` on a device compares with its list."""
    return hashlib.sha256(build_script(facts).encode()).hexdigest()


def marker(facts: Sequence[Fact]) -> str:
    """The word that opens every line which is not output; it changes whenever a question changes."""
    text = "\n".join(f"{fact.name}\t{fact.ask}" for fact in facts)
    return f"emr-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def split_output(raw: bytes, facts: Sequence[Fact]) -> tuple[Reply, ...]:
    """What the script printed, as one reply per fact in the order given. Never raises.

    A fact without an end marker is garbled: the connection was cut, or the command never came to an end.
    """
    sections = _sections(raw, marker(facts))
    replies = []
    broken = "the answer broke off in the middle"
    for fact in facts:
        replies.append(_reply(fact, sections.get(fact.name), broken))
        if fact.name not in sections:
            broken = "the connection ended before this question"
    return tuple(replies)


def is_whole(raw: bytes, facts: Sequence[Fact]) -> bool:
    """Whether the script came to its own end."""
    return raw.rstrip(b"\n").endswith(f"\n{marker(facts)} done".encode())


def _sections(raw: bytes, mark: str) -> dict[str, tuple[int, str, bytes]]:
    """Name -> (exit code, words of standard error, output) of every fact whose end marker came."""
    end = f"{mark} end ".encode()
    sections: dict[str, tuple[int, str, bytes]] = {}
    body: list[bytes] = []
    newline = b""  # an empty line without a bar says that the output ended with a newline
    for line in raw.split(b"\n"):
        if line.startswith(b"|"):
            body.append(line[1:])
            newline = b""
        elif line.startswith(end):
            words = line[len(end) :].decode("utf-8", "replace").split(" ", 2)
            if len(words) >= 2 and words[1].isdecimal():
                sections[words[0]] = (int(words[1]), " ".join(words[2:]), b"\n".join(body) + newline)
            body, newline = [], b""
        elif not line and body:
            newline = b"\n"
    return sections


def _reply(fact: Fact, section: tuple[int, str, bytes] | None, broken: str) -> Reply:
    if section is None:
        return Reply(fact.name, Outcome.GARBLED, fact.ask, b"", broken)
    code, errors, output = section
    errors = "".join(c if c.isprintable() else "?" for c in errors).strip()
    if len(output) > OUTPUT_BYTES:
        kept = output[:OUTPUT_BYTES]
        words = f"the output is longer than {OUTPUT_BYTES // 1024} KiB and was cut"
        return Reply(fact.name, Outcome.GARBLED, fact.ask, kept, words)
    if code == 0:
        return Reply(fact.name, Outcome.ANSWERED, fact.ask, output)
    if code in _TIMED_OUT:
        words = f"the command did not end within {COMMAND_SECONDS} s"
        return Reply(fact.name, Outcome.TIMEOUT, fact.ask, b"", words)
    if code == 77 or _NO_RIGHT.search(errors):
        words = f"the account lacks the right: {errors}" if errors else "the account lacks the right"
        return Reply(fact.name, Outcome.REFUSED, fact.ask, b"", words)
    if code in _NOT_THERE:
        words = f"the device lacks it: {errors}" if errors else "the device lacks it"
        return Reply(fact.name, Outcome.NOT_SUPPORTED, fact.ask, b"", words)
    words = f"the command ended with exit code {code}" + (f": {errors}" if errors else "")
    return Reply(fact.name, Outcome.GARBLED, fact.ask, output, words)


def privileged_commands(facts: Sequence[Fact]) -> tuple[str, ...]:
    """Every command line that the script runs as root, sorted: what a read-only account must be allowed."""
    found = {call for fact in facts for call in _PRIVILEGED_CALL.findall(fact.ask)}
    return tuple(sorted(found))


def sudoers_lines(facts: Sequence[Fact], account: str = ACCOUNT) -> str:
    """The sudoers file of the read-only account: exact command lines, no wildcard, no shell.

    Raises ``ValueError`` when a fact's command is not exact; the test of the registry holds that it never is.
    """
    lines = [f"# Exact read-only commands of {account}: nothing else, no arguments added."]
    for command in privileged_commands(facts):
        if not command.startswith("/") or re.search(r"[*?\[\]!\\]", command):
            raise ValueError(f"not an exact command line: {command}")
        program, _, arguments = command.partition(" ")
        exact = re.sub(r"([,:=])", r"\\\1", arguments) or '""'
        lines.append(f"{account} ALL=(root) NOPASSWD: {program} {exact}")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m controlplane.collect.facts.shell``: print the script, its digest or the allow-list."""
    parser = argparse.ArgumentParser(description="The script that is run on every Linux host, for review.")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--script", action="store_true", help="print the whole script")
    kind.add_argument("--script-sha256", action="store_true", help="print its SHA-256, for gate.sh")
    kind.add_argument("--sudoers", action="store_true", help="print the allow-list of the read-only account")
    parser.add_argument("--account", default=ACCOUNT, help="account in the allow-list (default %(default)s)")
    chosen = parser.parse_args(argv)
    if chosen.script:
        sys.stdout.write(build_script(SHELL_FACTS))
    elif chosen.script_sha256:
        sys.stdout.write(script_sha256(SHELL_FACTS) + "\n")
    else:
        sys.stdout.write(sudoers_lines(SHELL_FACTS, chosen.account))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
