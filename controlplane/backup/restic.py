"""Runs restic and reads its JSON. It keeps the caller's environment out, ends what hangs, leaves no process behind."""

from __future__ import annotations

import json
import re
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from controlplane.backup import repository as words_for
from controlplane.backup.causes import INCOMPLETE, Ran, cause, documents, last_words, run_within
from controlplane.backup.errors import BackupError
from controlplane.backup.reach import keys_from, ssh_said
from controlplane.backup.repository import Repository, make_environment

LOCK_STALE_AFTER = timedelta(minutes=30)
"""restic renews its lock every five minutes and itself calls one of this age stale."""


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of a repository."""

    id: str
    at: datetime
    host: str
    tags: tuple[str, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Saved:
    """What one backup did. ``incomplete`` when some source files could not be read: the snapshot lacks them."""

    snapshot: str
    files_new: int
    files_changed: int
    files_unmodified: int
    bytes_added: int
    bytes_processed: int
    seconds: float
    incomplete: bool = False


@dataclass(frozen=True)
class Lock:
    """Who holds a repository, and since (or until) when."""

    id: str
    at: datetime
    host: str
    pid: int
    exclusive: bool

    def stale(self, now: datetime) -> bool:
        """Whether its owner is gone: a dead process of this machine, or no renewal for half an hour."""
        if now - self.at > LOCK_STALE_AFTER:
            return True
        return self.host == socket.gethostname() and not Path(f"/proc/{self.pid}").exists()


def run(repository: Repository, command: Sequence[str], seconds: float = 3600) -> Ran:
    """Run one command within a deadline. Raises ``BackupError`` when it does not start or does not end in time."""
    ran = attempt(repository, command, seconds)
    if ran.stopped:
        raise failure(repository, ran)
    return ran


def attempt(repository: Repository, command: Sequence[str], seconds: float) -> Ran:
    """Run one command; what is stopped by the deadline is told like any other end, with what it said by then.

    Raises ``BackupError`` when it does not start.
    """
    refuse_open_password(repository)
    environment = make_environment(repository) | _keys_of(repository)
    Path(environment["RESTIC_CACHE_DIR"]).mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return run_within(seconds, command, environment)
    except OSError as error:
        raise BackupError("no_program", program=command[0], why=error.strerror or str(error)) from None


def _keys_of(repository: Repository) -> dict[str, str]:
    """The keys of an S3 storage; they stand in restic's environment, never in a command, a record or an error."""
    path = repository.keys_file
    if path is None:
        return {}
    try:
        return keys_from(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise BackupError("bad_keys", path=f"{path.parent.name}/{path.name}", line=error.args[0]) from None


def refuse_open_password(repository: Repository) -> None:
    """A password that others may read is none. Raises ``BackupError``, which names no path of the store."""
    for path in repository.secret_files:
        shown = f"{path.parent.name}/{path.name}"
        try:
            found = path.stat()
        except OSError as error:
            raise BackupError("no_password", path=shown, why=error.strerror or "-") from None
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise BackupError("open_password", path=shown, mode=f"{stat.S_IMODE(found.st_mode):04o}")


def ask(repository: Repository, command: Sequence[str], seconds: float = 3600, fine: Sequence[int] = (0,)) -> Ran:
    """Run one command and raise ``BackupError`` with its cause unless it ended well."""
    ran = run(repository, command, seconds)
    if ran.exit_code in fine:
        return ran
    raise failure(repository, ran)


def failure(repository: Repository, ran: Ran) -> BackupError:
    """The error that a failed run stands for; a lock is looked at to tell whether anybody lives behind it."""
    figures: dict[str, Any] = {"repository": repository.name, "why": last_words(ran.said or ran.out)}
    code = ran.cause
    if code in ("network", "failed", "timeout"):  # restic may end before it has passed on what ssh said
        code = _ssh_cause(repository) or code
    if code == "timeout":
        return BackupError(code, seconds=round(ran.seconds), **figures)
    if code == "locked":
        found = re.search(r"locked(?: exclusively)? by PID (\d+) on (\S+)", ran.said + ran.out)
        pid, host = (int(found[1]), found[2]) if found else (0, "?")
        gone = host == socket.gethostname() and not Path(f"/proc/{pid}").exists()
        return BackupError("stale_lock" if gone else "locked", **figures | {"host": host, "pid": pid})
    return BackupError(code, **figures)


def _ssh_cause(repository: Repository) -> str:
    """Why ssh opens no session, asked of ssh itself; empty when it is nothing that ssh tells."""
    said = ssh_said(repository.location, words_for.ssh_of(repository), make_environment(repository)["HOME"])
    code = cause(1, said) if said else ""
    return code if code in ("unknown_host", "denied") else ""


def backup(
    repository: Repository,
    paths: Sequence[str],
    *,
    tags: Sequence[str],
    host: str,
    excludes: Sequence[str] = (),
    seconds: float = 24 * 3600,
) -> Saved:
    """Save paths; what could not be read makes it incomplete and no failure. Raises ``BackupError``."""
    command = words_for.make_backup_command(repository, paths, tags=tags, host=host, excludes=excludes)
    ran = ask(repository, command, seconds, fine=(0, INCOMPLETE))
    summary = next((d for d in reversed(documents(ran.out)) if d.get("message_type") == "summary"), None)
    if summary is None or not summary.get("snapshot_id"):
        raise BackupError("garbled", repository=repository.name)
    return Saved(
        snapshot=str(summary["snapshot_id"]),
        files_new=int(summary["files_new"]),
        files_changed=int(summary["files_changed"]),
        files_unmodified=int(summary["files_unmodified"]),
        bytes_added=int(summary["data_added"]),
        bytes_processed=int(summary["total_bytes_processed"]),
        seconds=float(summary["total_duration"]),
        # 0.18 passes over a source that is not there at all and ends well.
        incomplete=ran.exit_code == INCOMPLETE or "does not exist, skipping" in ran.said,
    )


def snapshots(repository: Repository, tag: str = "", host: str = "", seconds: float = 300) -> list[Snapshot]:
    """Snapshots in order of time. Raises ``BackupError``."""
    ran = ask(repository, words_for.make_snapshots_command(repository, tag, host), seconds)
    try:
        listed = json.loads(ran.out) or []
        found = [
            Snapshot(
                s["id"], parse_time(s["time"]), s.get("hostname", ""), tuple(s.get("tags") or ()), tuple(s["paths"])
            )
            for s in listed
        ]
    except (ValueError, KeyError, TypeError):
        raise BackupError("garbled", repository=repository.name) from None
    return sorted(found, key=lambda s: s.at)


def restored_bytes(repository: Repository, snapshot: str, seconds: float = 3600) -> int:
    """How many bytes a restore of a snapshot takes. Raises ``BackupError``."""
    ran = ask(repository, words_for.make_stats_command(repository, "restore-size", snapshot), seconds)
    found = documents(ran.out)
    if not found or "total_size" not in found[-1]:
        raise BackupError("garbled", repository=repository.name)
    return int(found[-1]["total_size"])


def newest(repository: Repository, tag: str, host: str = "") -> Snapshot:
    """The newest snapshot of a data set. Raises ``BackupError`` when there is none."""
    found = snapshots(repository, tag, host)
    if not found:
        raise BackupError("no_snapshot", name=tag)
    return found[-1]


def check(repository: Repository, part: int = 0, of: int = 0, seconds: float = 6 * 3600) -> None:
    """Check a repository, reading a part of its data. Raises ``BackupError`` (``damaged`` when it is not whole)."""
    ask(repository, words_for.make_check_command(repository, part, of), seconds)


def restore(
    repository: Repository, snapshot: str, target: Path, include: Sequence[str] = (), seconds: float = 24 * 3600
) -> None:
    """Restore below an empty folder. Raises ``BackupError``; what was restored by then stays for a look."""
    if target.exists() and any(target.iterdir()):
        raise BackupError("target_not_empty", path=target)
    ran = ask(repository, words_for.make_restore_command(repository, snapshot, target, include), seconds)
    # Older ones name files that they could not restore and still end well.
    if cause(1, ran.said) == "damaged":
        raise BackupError("damaged", repository=repository.name, why=last_words(ran.said))


def stats(repository: Repository) -> dict[str, int]:
    """``total_size`` in bytes as stored, and what else restic counts. Raises ``BackupError``."""
    ran = ask(repository, words_for.make_stats_command(repository), 3600)
    found = documents(ran.out)
    if not found or "total_size" not in found[-1]:
        raise BackupError("garbled", repository=repository.name)
    return {key: int(value) for key, value in found[-1].items() if isinstance(value, int)}


def files_of(repository: Repository, snapshot: str) -> dict[str, int]:
    """Path -> size of every file of a snapshot. Raises ``BackupError``."""
    ran = ask(repository, words_for.make_find_command(repository, snapshot), 3600)
    return {d["path"]: int(d.get("size", 0)) for d in documents(ran.out) if d.get("type") == "file"}


def locks(repository: Repository) -> list[Lock]:
    """Who holds the repository now. Raises ``BackupError``."""
    names = re.findall(
        r"^[0-9a-f]{64}$", ask(repository, words_for.make_locks_command(repository), 120).out, re.MULTILINE
    )
    found = []
    for name in names:
        ran = run(repository, words_for.make_lock_command(repository, name), 120)
        if ran.exit_code == 0:  # one that went away in between is none
            document = json.loads(ran.out)
            exclusive = bool(document.get("exclusive"))
            at = parse_time(document["time"])
            found.append(Lock(name, at, str(document["hostname"]), int(document["pid"]), exclusive))
    return found


def release_stale(repository: Repository, now: Callable[[], datetime]) -> tuple[list[Lock], list[Lock]]:
    """Remove locks whose owner is gone and leave the others; (removed, left). Raises ``BackupError``."""
    before = locks(repository)
    if any(lock.stale(now()) for lock in before):
        ask(repository, words_for.make_unlock_command(repository), 120)
    after = {lock.id for lock in locks(repository)} if before else set()
    return [lock for lock in before if lock.id not in after], [lock for lock in before if lock.id in after]


def parse_time(text: str) -> datetime:
    """restic's time, with nanoseconds, as a time with its zone. Raises ``ValueError``."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.replace("Z", "+00:00")))
