"""Rehearsals: the newest snapshot restored and proven right, the source compared with it, and deletion tried.

A rehearsal that fails is a result like any other, so it is returned and kept; only what was asked wrongly is raised.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from controlplane.backup import restic
from controlplane.backup.causes import deletion_answer, last_words
from controlplane.backup.errors import BackupError
from controlplane.backup.manifest import Verified, read_manifest, read_rows, verify
from controlplane.backup.repository import CANARY, RECORD, Repository, make_forget_one_command
from controlplane.backup.scratch import restored_rows

Clock = Callable[[], datetime]
LEAST_FREE_BYTES = 1_000_000_000
"""What a restore for trial leaves free on its disk."""

SCRATCH_DATABASE_TIMES = 3
"""How much larger a database is taken to be than its dump, which is compressed and holds no index."""

MOST_NAMED = 20
"""How many paths a result names; the rest are counted."""


@dataclass(frozen=True)
class Rehearsal:
    """One restore drill. ``rpo_seconds``: the age of the newest snapshot; ``rto_seconds``: until data can be used."""

    dataset: str
    repository: str
    host: str
    started_at: datetime
    ended_at: datetime
    ok: bool = False
    snapshot: str = ""
    snapshot_at: datetime | None = None
    rpo_seconds: int | None = None
    rto_seconds: int = 0
    hashes_verified: int = 0
    hashes_wrong: int = 0  # differing or missing
    hashes_changed: int = 0  # written between hashing and saving: neither right nor wrong
    wrong: tuple[str, ...] = ()
    tables: int = 0
    rows: int = 0
    tables_wrong: tuple[str, ...] = ()
    database: bool = False
    error: str = ""  # the code of the BackupError that ended it
    said: str = ""  # its sentence, in Vietnamese
    said_en: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON-able values, times in ISO 8601."""
        return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(self).items()}

    def last_drill(self) -> dict[str, Any]:
        """The part of it that the state record keeps (docs/reference/backup-state.md)."""
        return {
            "at": int(self.ended_at.timestamp()),
            "ok": self.ok,
            "repository": self.repository,
            "rto_seconds": self.rto_seconds,
            "rpo_seconds": self.rpo_seconds,
            "hashes_verified": self.hashes_verified,
            "hashes_wrong": self.hashes_wrong,
            "hashes_changed": self.hashes_changed,
        }


def rehearse(
    repository: Repository,
    dataset: str,
    clock: Clock,
    *,
    host: str = "",
    database: bool = False,
    scratch: Path | None = None,
    record: str = RECORD,
) -> Rehearsal:
    """Restore the newest snapshot of a data set into a scratch folder and prove it right; measure both times.

    Every file is hashed against the manifest in the snapshot (below ``record``), a database restored and queried. The
    scratch folder is gone afterwards.
    """
    started_at, began = clock(), time.monotonic()
    empty = Rehearsal(dataset, repository.name, host, started_at, started_at, database=database)
    try:
        with scratch_folder(scratch) as place:
            done = _restored(empty, repository, place, place / record.lstrip("/"))
    except BackupError as error:
        done = replace(empty, error=error.code, said=error.words.vi, said_en=error.words.en)
    except OSError as error:  # no room or no right to make the scratch folder, a manifest that cannot be read
        told = BackupError("no_place", why=f"{error.strerror or error}")
        done = replace(empty, error=told.code, said=told.words.vi, said_en=told.words.en)
    return replace(done, ended_at=clock(), rto_seconds=round(time.monotonic() - began))


def _restored(drill: Rehearsal, repository: Repository, place: Path, record: Path) -> Rehearsal:
    snapshot = restic.newest(repository, drill.dataset, drill.host)
    age = int((drill.started_at - snapshot.at).total_seconds())
    _refuse_without_room(place, restic.restored_bytes(repository, snapshot.id))
    restic.restore(repository, snapshot.id, place)
    seen = _hashes(record / "manifests" / f"{drill.dataset}.sha256", drill.dataset, place)
    drill = replace(
        drill,
        snapshot=snapshot.id,
        snapshot_at=snapshot.at,
        rpo_seconds=max(0, age),
        hashes_verified=seen.right,
        hashes_wrong=len(seen.wrong) + len(seen.missing),
        hashes_changed=len(seen.changed),
        wrong=(*seen.wrong, *seen.missing)[:MOST_NAMED],
    )
    if drill.database:
        drill = _queried(drill, record, place)
    whole = drill.hashes_verified > 0 and not drill.hashes_wrong and not drill.tables_wrong
    return replace(drill, ok=whole and (drill.tables > 0 or not drill.database))


def _refuse_without_room(place: Path, wanted: int) -> None:
    """A drill that nobody watches must not fill the disk that the control plane itself lives on."""
    free = shutil.disk_usage(place).free
    if wanted + LEAST_FREE_BYTES > free:
        raise BackupError("no_room", path=place.parent, wanted=wanted // 10**6, free=free // 10**6)


def _hashes(manifest: Path, dataset: str, place: Path) -> Verified:
    if not manifest.is_file():
        raise BackupError("no_manifest", name=dataset)
    return verify(read_manifest(manifest.read_text("utf-8", "surrogateescape"), dataset), place)


def _queried(drill: Rehearsal, record: Path, place: Path) -> Rehearsal:
    """The dump restored into a scratch database, its tables counted against what the job counted."""
    dump = record / "dumps" / f"{drill.dataset}.dump"
    rows = record / "manifests" / f"{drill.dataset}.rows"
    if not dump.is_file() or not rows.is_file():
        raise BackupError("no_dump", name=drill.dataset)
    _refuse_without_room(place, SCRATCH_DATABASE_TIMES * dump.stat().st_size)
    wanted = read_rows(rows.read_text(encoding="utf-8"), drill.dataset)
    found = restored_rows(dump, list(wanted))
    wrong = tuple(table for table, count in wanted.items() if found.get(table) != count)
    return replace(drill, tables=len(found), rows=sum(found.values()), tables_wrong=wrong[:MOST_NAMED])


@contextmanager
def scratch_folder(below: Path | None = None) -> Iterator[Path]:
    """A folder of mode 0700 that is gone afterwards."""
    place = Path(tempfile.mkdtemp(prefix="emr-drill-", dir=below))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


# ----------------------------------------------------------------------------------------- deletion, tried


@dataclass(frozen=True)
class Refusal:
    """A try to delete with the client's own credentials. ``refused``: the storage was asked to, and did not."""

    repository: str
    at: datetime
    refused: bool
    canary: str
    snapshots_before: int
    snapshots_after: int
    said: str

    def document(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self) | {"at": self.at.isoformat()}


def prove_refusal(repository: Repository, clock: Clock, host: str, seconds: float = 300) -> Refusal:
    """Save a canary, try to delete it, and look whether it is still there.

    A refusal is one only when the canary was there before and is there after, and the deletion itself was refused or
    claimed to be done: restic 0.18 ends well even when the storage refused. Whatever else kept it from being tried
    (a lock, the network, time) is no proof of anything. Raises ``BackupError`` with that cause.
    """
    canary = _save_canary(repository, clock, host, seconds)
    before = restic.snapshots(repository)
    canary = next((s.id for s in before if s.id.startswith(canary)), "")  # 0.14 told its first digits only
    if not canary:
        raise BackupError("no_snapshot", name=CANARY)
    ran = restic.attempt(repository, make_forget_one_command(repository, canary), seconds)
    after = restic.snapshots(repository)
    there = canary in {s.id for s in after}  # others may go meanwhile: the storage thins out by its own clock
    answer = deletion_answer(ran.exit_code, f"{ran.said}\n{ran.out}")
    if there and (ran.stopped or answer != "refused"):
        raise restic.failure(repository, ran)
    return Refusal(repository.name, clock(), there, canary, len(before), len(after), last_words(ran.said))


def _save_canary(repository: Repository, clock: Clock, host: str, seconds: float) -> str:
    with scratch_folder() as place:
        (place / "canary").write_text(clock().isoformat(), encoding="utf-8")
        return restic.backup(repository, [str(place)], tags=[CANARY], host=host, seconds=seconds).snapshot


# ---------------------------------------------------------------------------------------- the state record


def note_drill(folder: Path, drill: Rehearsal) -> bool:
    """Write a drill into the state record of this machine, if it keeps one of that data set. Raises ``OSError``."""
    path = folder / f"dataset-{drill.dataset}.json"
    if not path.is_file():
        return False
    document = json.loads(path.read_text(encoding="utf-8"))
    document["last_drill"] = drill.last_drill()
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copymode(path, new)
    found = path.stat()
    os.chown(new, found.st_uid, found.st_gid)
    new.replace(path)
    return True
