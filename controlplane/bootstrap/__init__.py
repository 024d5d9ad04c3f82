"""The one room that knows every concrete part: settings in, a working plane out. It holds no rule of its own."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from controlplane.bootstrap.ahead import Ageing, Ahead, Costs
from controlplane.bootstrap.carrying import Carrying
from controlplane.bootstrap.judgements import Judgement
from controlplane.bootstrap.leaving import Leaving
from controlplane.bootstrap.rehearsing import Rehearsing
from controlplane.bootstrap.rules import Rules
from controlplane.bootstrap.saying import Paper, Saying
from controlplane.settings import Settings
from controlplane.store.accounts import Accounts
from controlplane.store.archive import Archive, migrate, open_engine
from controlplane.store.bundle import SigningKey
from controlplane.store.vault import Vault

ADMIN = "admin"

__all__ = [
    "ADMIN",
    "Ageing",
    "Costs",
    "Judgement",
    "NoStoreError",
    "Paper",
    "Plane",
    "Rules",
    "init_store",
    "open_plane",
    "open_rules",
    "utc_now",
]


class NoStoreError(RuntimeError):
    """There is no store in the data directory yet."""


def utc_now() -> datetime:
    """The one clock of the house."""
    return datetime.now(UTC)


def init_store(settings: Settings, clock: Callable[[], datetime] = utc_now) -> Plane:
    """Make what is missing: folders (0700), tables, signing key, admin account. Safe to call again."""
    for folder in (settings.data_dir, settings.secrets_dir, settings.run_dir, settings.keys_dir):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    settings.known_hosts_file.touch(mode=0o600, exist_ok=True)
    engine = open_engine(settings.database_url)
    migrate(engine)
    database = settings.data_dir / "emrctl.db"
    if database.exists():
        database.chmod(0o600)  # SQLite gives its journals the mode of the database
    SigningKey.load_or_make(settings.keys_dir)
    accounts = Accounts(engine)
    if accounts.find(ADMIN) is None:
        accounts.add(ADMIN, "admin", secrets.token_urlsafe(24), clock(), must_change=True)
    engine.dispose()
    return open_plane(settings, clock)


def open_plane(settings: Settings, clock: Callable[[], datetime] = utc_now) -> Plane:
    """Open an existing store. Raises ``NoStoreError``, ``CatalogError``, ``ArchiveError``."""
    if settings.database_url.startswith("sqlite") and not (settings.data_dir / "emrctl.db").exists():
        raise NoStoreError(str(settings.data_dir))
    engine = open_engine(settings.database_url)
    migrate(engine)
    archive = Archive(engine, Vault(settings.vault_dir), settings.data_dir / "locks")
    plane = Plane(settings, archive, Accounts(engine), clock)
    plane.clear_abandoned()
    return plane


@contextmanager
def open_rules(settings: Settings, clock: Callable[[], datetime] = utc_now) -> Iterator[Rules]:
    """The law and the checks: with what was confirmed where there is a store, as shipped where there is none.

    Without a store nothing is left behind: an empty one stands in a temporary folder. Raises what ``open_plane`` does.
    """
    plane = None
    with suppress(NoStoreError):
        plane = open_plane(settings, clock)
    if plane is not None:
        yield plane
        return
    with tempfile.TemporaryDirectory(prefix="emrctl-") as name:
        folder = Path(name)
        engine = open_engine(f"sqlite:///{folder / 'empty.db'}")
        migrate(engine)
        yield Rules(settings, Archive(engine, Vault(folder / "vault"), folder / "locks"), Accounts(engine), clock)
        engine.dispose()


class Plane(Carrying, Saying, Leaving, Rehearsing, Ahead):
    """Everything the faces may ask for."""
