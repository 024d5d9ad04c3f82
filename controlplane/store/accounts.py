"""Accounts, log-ins and sessions. Passwords are argon2id, cookies are kept as SHA-256; it knows no page."""

from __future__ import annotations

import functools
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.engine import Engine

from controlplane.domain.chain import stamp, unstamp
from controlplane.store.tables import accounts, sessions

ROLES = ("engineer", "director", "auditor", "department", "admin")
SHORTEST_PASSWORD = 12
FAILURES_BEFORE_LOCK = 5
LOCK_FOR = timedelta(minutes=15)
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")


class AccountError(ValueError):
    """A request about an account that may not be; ``code`` names the sentence in the texts (``account.<code>``)."""

    def __init__(self, code: str, **figures: Any) -> None:
        super().__init__(code)
        self.code = code
        self.figures = figures


@dataclass(frozen=True)
class Account:
    """Somebody who may log in."""

    name: str
    role: str
    must_change: bool
    disabled: bool


@dataclass(frozen=True)
class Session:
    """A log-in. ``csrf`` must come back with every form."""

    account: Account
    csrf: str
    expires_at: datetime


class Accounts:
    """The accounts of one store."""

    def __init__(self, engine: Engine, hasher: PasswordHasher | None = None) -> None:
        self.engine = engine
        self.hasher = hasher or PasswordHasher()

    @functools.cached_property
    def _nobody(self) -> str:
        """A wrong name must cost what a wrong password costs, or the time tells which names there are."""
        return self.hasher.hash(secrets.token_urlsafe())

    def add(self, name: str, role: str, password: str, at: datetime, *, must_change: bool = False) -> None:
        """Add an account. Raises ``AccountError``: bad_name, bad_role, taken, short_password."""
        if not (1 <= len(name) <= 64 and set(name) <= NAME_CHARACTERS):
            raise AccountError("bad_name", name=name[:80])
        if role not in ROLES:
            raise AccountError("bad_role", role=role[:80], roles=", ".join(ROLES))
        values = {
            "name": name,
            "role": role,
            "password_hash": self._hash(password),
            "must_change": must_change,
            "disabled": False,
            "created_at": stamp(at),
            "failures": 0,
        }
        try:
            with self.engine.begin() as connection:
                connection.execute(accounts.insert().values(**values))
        except sa.exc.IntegrityError:
            raise AccountError("taken", name=name) from None

    def set_password(self, name: str, password: str, *, must_change: bool = False) -> None:
        """Set a password, unlock the account and end its sessions. Raises ``AccountError``: unknown, short_password."""
        values = {
            "password_hash": self._hash(password),
            "must_change": must_change,
            "failures": 0,
            "locked_until": None,
        }
        with self.engine.begin() as connection:
            changed = connection.execute(accounts.update().where(accounts.c.name == name).values(**values))
            if changed.rowcount != 1:
                raise AccountError("unknown", name=name[:80])
            connection.execute(sessions.delete().where(sessions.c.account == name))

    def one_time_password(self, name: str) -> str:
        """Give the account a password that opens one log-in, in which another must be set; return it."""
        password = secrets.token_urlsafe(12)
        self.set_password(name, password, must_change=True)
        return password

    def find(self, name: str) -> Account | None:
        """The account of that name."""
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(accounts).where(accounts.c.name == name)).one_or_none()
        return _account(row) if row else None

    def all(self) -> list[Account]:
        """Every account, by name."""
        with self.engine.connect() as connection:
            return [_account(row) for row in connection.execute(sa.select(accounts).order_by(accounts.c.name))]

    def log_in(self, name: str, password: str, at: datetime, lasts: timedelta) -> tuple[str, Session]:
        """Return (cookie, session). Raises ``AccountError``: wrong, locked (five wrong ones: 15 minutes)."""
        return self._open(self.check(name, password, at), at, lasts)

    def check(self, name: str, password: str, at: datetime) -> Account:
        """Who gave this name and password, without a log-in. Raises ``AccountError`` as ``log_in`` does."""
        nobody = self._nobody  # made by the first who asks, whatever name: it costs as much as a whole log-in
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(accounts).where(accounts.c.name == name)).one_or_none()
        right = self._verify(row.password_hash if row else nobody, password)
        if row is None or row.disabled:
            raise AccountError("wrong")
        if row.locked_until is not None and stamp(at) < row.locked_until:
            raise AccountError("locked", minutes=int(LOCK_FOR.total_seconds() // 60))
        if not right:
            self._count_failure(name, at)
            raise AccountError("wrong")
        return _account(row)

    def session(self, cookie: str, at: datetime) -> Session | None:
        """The session of a cookie, if it is still open."""
        query = (
            sa.select(sessions, accounts.c.role, accounts.c.must_change, accounts.c.disabled, accounts.c.name)
            .join(accounts, accounts.c.name == sessions.c.account)
            .where(sessions.c.token_digest == _digest(cookie), sessions.c.expires_at > stamp(at))
        )
        with self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or row.disabled:
            return None
        return Session(_account(row), row.csrf, unstamp(row.expires_at))

    def log_out(self, cookie: str) -> None:
        """End a session."""
        with self.engine.begin() as connection:
            connection.execute(sessions.delete().where(sessions.c.token_digest == _digest(cookie)))

    def _open(self, account: Account, at: datetime, lasts: timedelta) -> tuple[str, Session]:
        cookie, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(24)
        row = {
            "token_digest": _digest(cookie),
            "account": account.name,
            "csrf": csrf,
            "created_at": stamp(at),
            "expires_at": stamp(at + lasts),
        }
        with self.engine.begin() as connection:
            connection.execute(sessions.delete().where(sessions.c.expires_at <= stamp(at)))
            connection.execute(sessions.insert().values(**row))
            reset = accounts.update().where(accounts.c.name == account.name)
            connection.execute(reset.values(failures=0, locked_until=None))
        return cookie, Session(account, csrf, at + lasts)

    def _count_failure(self, name: str, at: datetime) -> None:
        with self.engine.begin() as connection:
            where = accounts.c.name == name
            connection.execute(accounts.update().where(where).values(failures=accounts.c.failures + 1))
            failures = connection.execute(sa.select(accounts.c.failures).where(where)).scalar_one()
            if failures >= FAILURES_BEFORE_LOCK:
                until = stamp(at + LOCK_FOR)
                connection.execute(accounts.update().where(where).values(failures=0, locked_until=until))

    def _hash(self, password: str) -> str:
        if len(password) < SHORTEST_PASSWORD:
            raise AccountError("short_password", least=SHORTEST_PASSWORD)
        return self.hasher.hash(password[:1024])

    def _verify(self, known: str, password: str) -> bool:
        try:
            return self.hasher.verify(known, password[:1024])
        except (VerificationError, InvalidHashError):
            return False


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()


def _account(row: Any) -> Account:
    return Account(row.name, row.role, row.must_change, row.disabled)
