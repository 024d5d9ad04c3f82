"""A repository and every command that restic is given for it, as pure functions. It starts nothing.

No command holds a secret: the password stands in a file, and so do a location that carries a log-in and the keys of S3.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from controlplane.backup.errors import BackupError
from controlplane.backup.reach import ssh_options

CANARY = "emr-canary"
"""The tag of the snapshot that a proof of refusal tries to delete."""

RECORD = "/var/lib/emrctl/backup"
"""Where a host's job keeps its record, and below it manifests/NAME.sha256, manifests/NAME.rows and dumps/NAME.dump."""


@dataclass(frozen=True)
class Repository:
    """One restic repository as this machine reaches it.

    ``location`` is restic's own form (a path, rest:http://...); ``location_file`` holds it instead where it carries a
    log-in. ``password_file`` has mode 0600. ``program`` is restic itself, ``cache`` its folder for indexes.
    ``keys_file`` (0600) holds the AWS_* words of an S3 storage; ``ssh_key`` (0600) and ``known_hosts`` are those of an
    SFTP one: without a key the account's own are tried, and a host that is not known is never trusted.
    """

    name: str
    password_file: Path
    location: str = ""
    location_file: Path | None = None
    program: str = "restic"
    cache: Path | None = None
    keys_file: Path | None = None
    ssh_key: Path | None = None
    known_hosts: Path | None = None

    @property
    def secret_files(self) -> tuple[Path, ...]:
        """Every file that nobody else may read."""
        return tuple(filter(None, (self.password_file, self.location_file, self.keys_file, self.ssh_key)))


def make_environment(repository: Repository) -> dict[str, str]:
    """The whole environment of a run: nothing of the caller's reaches restic."""
    where = (
        {"RESTIC_REPOSITORY_FILE": str(repository.location_file)}
        if repository.location_file
        else {"RESTIC_REPOSITORY": repository.location}
    )
    cache = str(repository.cache) if repository.cache else "/var/cache/emrctl-restic"
    return {
        **where,
        "RESTIC_PASSWORD_FILE": str(repository.password_file),
        "RESTIC_CACHE_DIR": cache,
        "RESTIC_PROGRESS_FPS": "0.016",  # one word of progress a minute: nobody reads more
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": cache,
        "LC_ALL": "C.UTF-8",
    }


def ssh_of(repository: Repository) -> list[str]:
    """The options of ssh for this repository."""
    return ssh_options(repository.ssh_key, repository.known_hosts)


def _start(repository: Repository, *words: str) -> tuple[str, ...]:
    """restic, and over SSH the options of ssh."""
    if not repository.location.startswith("sftp:"):
        return (repository.program, *words)
    return (repository.program, "-o", f"sftp.args={shlex.join(ssh_of(repository))}", *words)


def _base(repository: Repository, *words: str) -> tuple[str, ...]:
    return _start(repository, "--json", *words)


def make_backup_command(
    repository: Repository, paths: Sequence[str], *, tags: Sequence[str], host: str, excludes: Sequence[str] = ()
) -> tuple[str, ...]:
    """Save paths under tags and a host's name. Raises ``BackupError`` when there is no path, or one is no full path."""
    if not paths or not all(path.startswith("/") for path in paths):
        raise BackupError("no_paths", paths=", ".join(paths) or "-")
    marks = [word for tag in tags for word in ("--tag", tag)]
    left_out = [word for pattern in excludes for word in ("--exclude", pattern)]
    return _base(repository, "backup", "--host", host, *marks, *left_out, "--", *paths)


def make_snapshots_command(repository: Repository, tag: str = "", host: str = "") -> tuple[str, ...]:
    """List snapshots, without a lock: looking must work while somebody writes."""
    return _base(repository, "--no-lock", "snapshots", *_chosen(tag, host))


def make_forget_one_command(repository: Repository, snapshot: str) -> tuple[str, ...]:
    """Try to delete one snapshot; only the proof of refusal does."""
    return _base(repository, "forget", _id(snapshot))


def make_check_command(repository: Repository, part: int = 0, of: int = 0) -> tuple[str, ...]:
    """Check structure and, with ``of``, read part ``part`` of ``of`` of the data itself."""
    if of and not 1 <= part <= of <= 255:
        raise BackupError("bad_part", part=part, of=of)
    return _base(repository, "check", *([f"--read-data-subset={part}/{of}"] if of else []))


def make_stats_command(repository: Repository, mode: str = "raw-data", snapshot: str = "") -> tuple[str, ...]:
    """How much a repository holds; ``raw-data`` is what it takes on the disk, ``restore-size`` what a restore takes."""
    return _base(repository, "--no-lock", "stats", "--mode", mode, *([_id(snapshot)] if snapshot else []))


def make_restore_command(
    repository: Repository, snapshot: str, target: Path, include: Sequence[str] = ()
) -> tuple[str, ...]:
    """Restore one snapshot, or some of its paths, below a folder. It takes no lock, so a drill bars no backup."""
    only = [word for path in include for word in ("--include", path)]
    return _base(repository, "--no-lock", "restore", _id(snapshot), "--target", str(target), *only)


def make_find_command(repository: Repository, snapshot: str) -> tuple[str, ...]:
    """List every file of a snapshot."""
    return _base(repository, "--no-lock", "ls", _id(snapshot))


def make_locks_command(repository: Repository) -> tuple[str, ...]:
    """List locks, without taking one. Not as JSON: restic lists names, one a line."""
    return _start(repository, "--no-lock", "--quiet", "list", "locks")


def make_lock_command(repository: Repository, lock: str) -> tuple[str, ...]:
    """Show who holds a lock."""
    return _start(repository, "--no-lock", "--quiet", "cat", "lock", _id(lock))


def make_unlock_command(repository: Repository) -> tuple[str, ...]:
    """Remove locks whose owner is gone; restic leaves the others alone. ``--remove-all`` is never given."""
    return _start(repository, "--quiet", "unlock")


def _chosen(tag: str, host: str) -> list[str]:
    return [*(["--tag", tag] if tag else []), *(["--host", host] if host else [])]


def _id(text: str) -> str:
    """An identifier that cannot be mistaken for an option."""
    if not re.fullmatch(r"[0-9a-f]{8,64}", text):
        raise BackupError("no_snapshot", name=text)
    return text


def next_part(last: Mapping[str, int] | None, of: int) -> int:
    """The part of the data that the next check reads, from the last part that was read whole; 1 begins a cycle."""
    if last is None or last.get("of") != of:
        return 1
    return int(last["part"]) % of + 1
