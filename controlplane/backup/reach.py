"""How a repository elsewhere is reached: the keys of an S3 storage, the options of ssh for SFTP.

The standard library alone: the play ships this file to the hosts, so that job and control plane reach alike.
"""

from __future__ import annotations

import re
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
