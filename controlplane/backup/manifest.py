"""The list of SHA-256 that a backup job leaves beside the data (`sha256sum`), and files hashed against it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from controlplane.backup.errors import BackupError

_LINE = re.compile(r"(\\?)([0-9a-f]{64}) [ *](/.+)")
_ESCAPES = {"\\n": "\n", "\\r": "\r", "\\\\": "\\"}


@dataclass(frozen=True)
class Verified:
    """Files against their hashes: how many agree, and which do not or are not there."""

    right: int
    wrong: tuple[str, ...]
    missing: tuple[str, ...]


def read_manifest(text: str, name: str) -> dict[str, str]:
    """Full path -> SHA-256. Raises ``BackupError`` naming the line that is none of `sha256sum`."""
    found = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line:
            continue
        parts = _LINE.fullmatch(line)
        if parts is None or ".." in parts[3].split("/"):
            raise BackupError("bad_manifest", name=name, line=number)
        # A name with a backslash or a line break is written escaped, with a backslash before the hash.
        path = re.sub(r"\\[nr\\]", lambda m: _ESCAPES[m[0]], parts[3]) if parts[1] else parts[3]
        found[path] = parts[2]
    return found


def read_rows(text: str, name: str) -> dict[str, int]:
    """Table -> rows, as the job counted them in the same transaction as the dump. Raises ``BackupError``."""
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        table, _, count = line.partition("\t")
        if not table or not count.isdecimal():
            raise BackupError("bad_manifest", name=name, line=number)
        found[table] = int(count)
    return found


def hash_of(path: Path) -> str:
    """The SHA-256 of a file. Raises ``OSError``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(manifest: Mapping[str, str], root: Path) -> Verified:
    """Hash every file of a manifest below ``root``."""
    right, wrong, missing = 0, [], []
    for path, digest in sorted(manifest.items()):
        try:
            same = hash_of(root / path.lstrip("/")) == digest
        except OSError:
            missing.append(path)
            continue
        if same:
            right += 1
        else:
            wrong.append(path)
    return Verified(right, tuple(wrong), tuple(missing))
