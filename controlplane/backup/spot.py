"""Source against archive: files drawn by a recorded seed, compared by hash; wrong excludes and mass encryption told.

It reads the source and the newest snapshot and changes neither.
"""

from __future__ import annotations

import fnmatch
import math
import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from controlplane.backup import restic
from controlplane.backup.drill import MOST_NAMED, Clock, scratch_folder
from controlplane.backup.errors import BackupError
from controlplane.backup.manifest import hash_of
from controlplane.backup.repository import Repository

READ_BYTES = 64 * 1024
HIGH_ENTROPY_BITS = 7.9
"""Bits a byte; encrypted bytes have 7.99 or more, text about 4 to 5. Compressed pictures are high, too, hence RISE."""

RISE_BITS = 0.5
"""A file counts as encrypted when its entropy is high and has risen by this against its own archived form."""

LEAST_BYTES = 1024
"""Of fewer bytes the entropy says nothing: 256 different bytes cannot all have come."""

ALARM_SHARE_PERCENT = 30.0
"""So many files changed or vanished since the snapshot, with encrypted ones among those drawn, is an alarm."""


@dataclass(frozen=True)
class Spot:
    """One comparison. Paths are named up to a limit and counted beyond; shares are percent of the archived files."""

    dataset: str
    repository: str
    at: datetime
    seed: int
    snapshot: str
    snapshot_at: datetime
    source_files: int
    archived_files: int
    drawn: int
    same: int
    changed: int  # drawn, and changed at the source since the snapshot
    wrong: tuple[str, ...]  # drawn, unchanged since the snapshot and yet different
    not_archived: tuple[str, ...]  # older than the snapshot, not in it
    not_archived_count: int
    vanished_count: int  # in the snapshot, no longer at the source
    changed_share_percent: float
    encrypted: tuple[str, ...]
    ok: bool
    alarm: bool

    def document(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(self).items()}


def entropy(data: bytes) -> float:
    """Shannon's entropy in bits a byte; 0 of nothing."""
    total = len(data)
    return -sum(n / total * math.log2(n / total) for n in Counter(data).values()) if total else 0.0


def draw(paths: Sequence[str], count: int, seed: int) -> list[str]:
    """``count`` paths by a seed: the same seed over the same paths draws the same."""
    ordered = sorted(paths)
    return sorted(random.Random(seed).sample(ordered, min(count, len(ordered))))  # noqa: S311  # to be repeated, not secret


def literal(path: str) -> str:
    """A path as a pattern of restic that means that path alone."""
    return re.sub(r"([*?\[\\])", r"\\\1", path)


def source_files(roots: Sequence[str], excludes: Sequence[str]) -> dict[str, os.stat_result]:
    """Every regular file below the roots that no exclude means. Raises ``BackupError`` when a root is missing."""
    found = {}
    for root in roots:
        if not Path(root).exists():
            raise BackupError("no_source", path=root)
        for path in _walk(root):
            if not _excluded(path, excludes):
                found[path] = os.lstat(path)
    return found


def _walk(root: str) -> Iterator[str]:
    if not Path(root).is_dir():
        yield root
        return
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118  # a name may hold bytes that are no UTF-8
            if os.path.isfile(path) and not os.path.islink(path):  # noqa: PTH113, PTH114
                yield path


def _excluded(path: str, excludes: Sequence[str]) -> bool:
    """As restic means it: a pattern with a slash from the root, any other for each part of the path."""
    parts = path.split("/")
    return any(
        fnmatch.fnmatch(path, pattern) or path.startswith(pattern.rstrip("/") + "/")
        if pattern.startswith("/")
        else any(fnmatch.fnmatch(part, pattern) for part in parts)
        for pattern in excludes
    )


def compare(
    repository: Repository,
    dataset: str,
    roots: Sequence[str],
    clock: Clock,
    *,
    host: str = "",
    excludes: Sequence[str] = (),
    count: int = 50,
    seed: int,
) -> Spot:
    """Compare a source with the newest snapshot of its data set. Raises ``BackupError``.

    ``excludes`` are those that the hospital declared: what the job leaves out beyond them is not archived and is told.
    """
    snapshot = restic.newest(repository, dataset, host)
    sides = _sides(repository, snapshot, roots, excludes)
    drawn = draw([path for path in sides.archived if path in sides.source], count, seed)
    same, wrong, changed, encrypted = _drawn(repository, snapshot.id, drawn, sides.touched)
    encrypted += _high(sorted(sides.touched - sides.archived), count, seed)
    alarm = sides.changed_share_percent >= ALARM_SHARE_PERCENT and bool(encrypted)
    return Spot(
        *(dataset, repository.name, clock(), seed, snapshot.id, snapshot.at),
        *(len(sides.source), len(sides.archived), len(drawn), same, changed),
        wrong=tuple(wrong[:MOST_NAMED]),
        not_archived=tuple(sides.not_archived[:MOST_NAMED]),
        not_archived_count=len(sides.not_archived),
        vanished_count=len(sides.vanished),
        changed_share_percent=round(sides.changed_share_percent, 1),
        encrypted=tuple(encrypted[:MOST_NAMED]),
        ok=bool(same or changed) and not wrong and not sides.not_archived and not alarm,
        alarm=alarm,
    )


@dataclass(frozen=True)
class _Sides:
    """Paths at the source, in the archive, and those touched since the snapshot was taken."""

    source: frozenset[str]
    archived: frozenset[str]
    touched: frozenset[str]

    @property
    def not_archived(self) -> list[str]:
        return sorted(self.source - self.archived - self.touched)

    @property
    def vanished(self) -> frozenset[str]:
        return self.archived - self.source

    @property
    def changed_share_percent(self) -> float:
        changed = len(self.vanished) + len(self.touched & self.archived)
        return 100 * changed / len(self.archived) if self.archived else 0.0


def _sides(repository: Repository, snapshot: restic.Snapshot, roots: Sequence[str], excludes: Sequence[str]) -> _Sides:
    inside = tuple(root.rstrip("/") for root in roots)
    archived = frozenset(
        path
        for path in restic.files_of(repository, snapshot.id)
        if any(path == root or path.startswith(f"{root}/") for root in inside)
    )
    source = source_files(inside, excludes)
    # The time of change cannot be set back by whoever changes a file, unlike the time of modification.
    touched = frozenset(path for path, found in source.items() if found.st_ctime > snapshot.at.timestamp())
    return _Sides(frozenset(source), archived, touched)


def _drawn(
    repository: Repository, snapshot: str, drawn: Sequence[str], touched: frozenset[str]
) -> tuple[int, list[str], int, list[str]]:
    """Of the files drawn: how many are the same, which are wrong, how many changed, which were encrypted."""
    same, changed = 0, 0
    wrong: list[str] = []
    encrypted: list[str] = []
    if not drawn:
        return same, wrong, changed, encrypted
    with scratch_folder() as place:
        restic.restore(repository, snapshot, place, [literal(path) for path in drawn])
        for path in drawn:
            then = place / path.lstrip("/")
            if then.is_file() and hash_of(then) == hash_of(Path(path)):
                same += 1
                continue
            if path in touched:
                changed += 1
            else:
                wrong.append(path)
            if then.is_file() and _rose(then, Path(path)):
                encrypted.append(path)
    return same, wrong, changed, encrypted


def _rose(then: Path, now: Path) -> bool:
    after = _head(now)
    high = entropy(after)
    return len(after) >= LEAST_BYTES and high >= _bound(len(after)) and high - entropy(_head(then)) >= RISE_BITS


def _bound(size: int) -> float:
    """What random bytes of this many reach at least: fewer bytes cannot fill the whole scale."""
    return HIGH_ENTROPY_BITS if size >= 8192 else HIGH_ENTROPY_BITS - 0.2


def _high(paths: Sequence[str], count: int, seed: int) -> list[str]:
    """Of the files that came since, those drawn whose bytes look encrypted and that took the place of an old name."""
    return [
        p
        for p in draw(paths, count, seed)
        if len(head := _head(Path(p))) >= LEAST_BYTES and entropy(head) >= _bound(len(head))
    ]


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(READ_BYTES)
