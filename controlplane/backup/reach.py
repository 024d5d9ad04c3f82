"""How a repository elsewhere is reached: the keys of an S3 storage, the options of ssh for SFTP.

The standard library alone: the play ships this file to the hosts, so that job and control plane reach alike.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path


def keys_from(text: str) -> dict[str, str]:
    """The words of a file of keys: AWS_NAME=value, one a line, ``#`` begins a remark.

    Any other name could turn restic or its helpers to something else, so it is refused. Raises ``ValueError`` with the
    number of the line, and never with what it holds.
    """
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.fullmatch(r"(AWS_[A-Z_]+)=([\x21-\x7e]+)", line.strip())
        if match is None:
            raise ValueError(number)
        found[match[1]] = match[2]
    return found


def ssh_options(key: Path | None = None, known_hosts: Path | None = None) -> list[str]:
    """How ssh is called for an SFTP storage: it asks nobody, and trusts no host that is not known."""
    options = ["-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oConnectTimeout=20"]
    if known_hosts:
        options += [f"-oUserKnownHostsFile={known_hosts}", "-oGlobalKnownHostsFile=/dev/null"]
    if key:
        options += ["-oIdentitiesOnly=yes", f"-oIdentityFile={key}"]
    return options


def ssh_command(location: str, options: list[str]) -> tuple[str, ...]:
    """Open the SFTP session of a repository and nothing more; empty for a storage of another kind."""
    found = re.match(r"sftp:(?://)?(?:([\w.-]+)@)?(\[[0-9a-fA-F:]+\]|[\w.][\w.-]*):?(?:(\d+)/)?", location)
    if found is None:
        return ()
    user = ["-l", found[1]] if found[1] else []
    port = ["-p", found[3]] if found[3] and location.startswith("sftp://") else []
    return ("ssh", *options, *user, *port, "-s", found[2].strip("[]"), "sftp")


def ssh_said(location: str, options: list[str], home: str) -> str:
    """Why ssh opens no session, asked of ssh itself: restic may end before it has passed on what ssh said.

    Empty when it opens one, and for a storage of another kind.
    """
    command = ssh_command(location, options)
    if not command:
        return ""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, "LC_ALL": "C.UTF-8"}
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=30,
            check=False, env=environment,
        )  # fmt: skip
        return done.stderr if done.returncode else ""
    return ""
