"""A copy of the store that is whole at one moment, while the house goes on. It trusts no copy it has not walked."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from controlplane.store.archive import Archive, open_engine
from controlplane.store.vault import Vault

DATABASE = "emrctl.db"
BESIDE = ("keys", "secrets")
"""Folders that the record cannot be used without; neither is in the vault."""
FILES = ("known_hosts", "emrctl.toml")


class CopyError(RuntimeError):
    """The copy cannot be made or does not hold; ``code`` names the sentence."""

    def __init__(self, code: str, **figures: Any) -> None:
        super().__init__(f"{code} {figures}")
        self.code, self.figures = code, figures


def save_copy(archive: Archive, data_dir: Path, to: Path) -> dict[str, Any]:
    """Bring the folder ``to`` (0700, on any disk) up to the store of ``data_dir`` and walk the chain of the copy.

    The database is copied by SQLite's own backup, so writers need not stop; then the vault, to which only ever is
    added, so that everything the copied chain names is in it. A folder that holds an earlier copy is brought up to
    date: only new bytes are written. Returns ``links``, ``head`` (seal), ``objects`` and ``added`` (bytes files that
    were new). Raises ``CopyError``: ``inside`` the store, ``foreign`` folder, ``broken`` copy; and ``OSError``.
    """
    to, source = to.absolute(), data_dir.absolute()
    if to == source or source in to.parents or to in source.parents:
        raise CopyError("inside", path=to)
    if to.is_dir() and any(to.iterdir()) and not (to / DATABASE).is_file():
        raise CopyError("foreign", path=to)
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    to.chmod(0o700)
    _copy_database(archive.engine, to / DATABASE)
    vault = Vault(to / "vault")
    added = sum(_copy_once(archive.vault.folder, vault.folder, name) for name in archive.vault.names())
    for name in BESIDE:
        _copy_folder(source / name, to / name)
    for name in FILES:
        if (source / name).is_file():
            _copy_file(source / name, to / name)
    return walk_copy(to) | {"added": added}


def walk_copy(folder: Path) -> dict[str, Any]:
    """Walk the chain of a copy and every body it names; ``links``, ``head``, ``objects``. Raises ``CopyError``."""
    vault = Vault(folder / "vault")
    copied = Archive(open_engine(f"sqlite:///{folder / DATABASE}"), vault, folder / "locks")
    broken, head = copied.first_break(bodies=True), copied.head()
    copied.engine.dispose()
    if broken is not None:
        raise CopyError("broken", seq=broken.seq, why=broken.code)
    return {
        "links": head.seq if head else 0,
        "head": head.seal if head else "",
        "objects": sum(1 for _ in vault.names()),
    }


def _copy_database(engine: sa.Engine, target: Path) -> None:
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    os.close(handle)
    try:
        copy = sa.create_engine(f"sqlite:///{temporary}", poolclass=sa.NullPool)
        with closing(engine.raw_connection()) as here, closing(copy.raw_connection()) as there:
            # The driver's own online backup: sqlite3.Connection.backup
            here.driver_connection.backup(there.driver_connection)  # type: ignore[union-attr]
            there.driver_connection.execute("PRAGMA journal_mode=DELETE")  # type: ignore[union-attr]
        _to_disk(Path(temporary))
        for left in ("-wal", "-shm"):  # of the copy that stood here: they belong to other pages
            target.with_name(target.name + left).unlink(missing_ok=True)
        Path(temporary).rename(target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _copy_once(vault: Path, to: Path, name: str) -> bool:
    """Whether the bytes were new to the copy; under their digest they are always the same."""
    target = to / name[:2] / name[2:]
    if target.exists():
        return False
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _copy_file(vault / name[:2] / name[2:], target)
    return True


def _copy_folder(source: Path, to: Path) -> None:
    to.mkdir(mode=0o700, exist_ok=True)
    wanted = {path.name for path in source.iterdir() if path.is_file()} if source.is_dir() else set()
    for path in to.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name in sorted(wanted):
        _copy_file(source / name, to / name)


def _copy_file(source: Path, target: Path) -> None:
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".new-")  # 0600 from its first byte
    try:
        with os.fdopen(handle, "wb") as out, source.open("rb") as file:
            shutil.copyfileobj(file, out)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).rename(target)
    finally:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
