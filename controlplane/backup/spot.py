"""Source against archive: files drawn by a recorded seed, compared by hash; wrong excludes and mass encryption told.

It reads the source and the newest snapshot and changes neither. The rule itself stands in ``files``, which the job of a
host uses as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from controlplane.backup import restic
from controlplane.backup.drill import Clock, scratch_folder
from controlplane.backup.errors import BackupError
from controlplane.backup.files import Compared, compare_files
from controlplane.backup.repository import Repository


@dataclass(frozen=True)
class Spot(Compared):
    """One comparison, of which data set and snapshot it was, and the seed that draws the same files again."""

    dataset: str
    repository: str
    at: datetime
    seed: int
    snapshot: str
    snapshot_at: datetime

    def document(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(self).items()}


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
    if gone := [root for root in roots if not Path(root).exists()]:
        raise BackupError("no_source", path=gone[0])
    snapshot = restic.newest(repository, dataset, host)

    @contextmanager
    def restored(paths: Sequence[str]) -> Iterator[Path]:
        with scratch_folder() as place:
            restic.restore(repository, snapshot.id, place, paths)
            yield place

    archive = restic.files_of(repository, snapshot.id)
    found = compare_files(roots, excludes, archive, snapshot.at.timestamp(), restored, count=count, seed=seed)
    return Spot(
        **vars(found),
        dataset=dataset,
        repository=repository.name,
        at=clock(),
        seed=seed,
        snapshot=snapshot.id,
        snapshot_at=snapshot.at,
    )
