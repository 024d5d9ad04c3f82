"""A PostgreSQL or MariaDB that lives as long as a drill: in its own folder, on a Unix socket, never on the network.

It refuses to touch a server that runs already: it starts its own and asks no other.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from controlplane.backup.errors import BackupError

START_SECONDS = 60.0
RESTORE_SECONDS = 6 * 3600.0
DATABASE = "drill"
ACCOUNT = "postgres"
"""The account it runs under when the drill is root's: PostgreSQL refuses to run as root."""

MARIADB_ACCOUNT = "mysql"

_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)'
_TABLE = re.compile(rf"{_IDENTIFIER}\.{_IDENTIFIER}")
_MARIADB_TABLE = re.compile(r"`(?:[^`]|``)+`")


def newest_programs() -> Path:
    """The folder of the newest PostgreSQL server's programs. Raises ``BackupError``."""
    found = [
        path
        for path in Path("/usr/lib/postgresql").glob("*/bin")
        if (path / "initdb").exists() and path.parent.name.isdigit()
    ]
    if not found:
        raise BackupError("no_postgres", why="/usr/lib/postgresql")
    return max(found, key=lambda path: int(path.parent.name))


def make_restore_command(programs: Path, sockets: Path, dump: Path) -> tuple[str, ...]:
    """Restore a dump into the scratch database; any error ends it."""
    options = ("--no-owner", "--no-privileges", "--exit-on-error", f"--host={sockets}", f"--username={ACCOUNT}")
    return (str(programs / "pg_restore"), *options, f"--dbname={DATABASE}", str(dump))


def make_count_command(programs: Path, sockets: Path, tables: Sequence[str]) -> tuple[str, ...]:
    """Count the rows of tables. Raises ``ValueError`` for what is no name of a table."""
    if bad := [table for table in tables if not _TABLE.fullmatch(table)]:
        raise ValueError(bad[0])
    options = ("-XAtq", f"--host={sockets}", f"--username={ACCOUNT}", f"--dbname={DATABASE}", "--field-separator= ")
    return (str(programs / "psql"), *options, "-c", _question(tables))


def make_mariadb_count_command(sockets: Path, tables: Sequence[str]) -> tuple[str, ...]:
    """The same for MariaDB. Raises ``ValueError`` for what is no name of a table."""
    if bad := [table for table in tables if not _MARIADB_TABLE.fullmatch(table)]:
        raise ValueError(bad[0])
    return (*_mariadb_client(sockets), "--batch", "--skip-column-names", DATABASE, "--execute", _question(tables))


def _question(tables: Sequence[str]) -> str:
    return " UNION ALL ".join(f"SELECT {number}, count(*) FROM {table}" for number, table in enumerate(tables))  # noqa: S608


def _mariadb_client(sockets: Path, program: str = "mariadb") -> tuple[str, ...]:
    options = (f"--socket={sockets}/socket", "--user=root", "--default-character-set=utf8mb4")
    return (program, "--no-defaults", *options)


def restored_rows(dump: Path, tables: Sequence[str]) -> dict[str, int]:
    """Restore a dump into a database made for it and count the rows of its tables. Raises ``BackupError``.

    The dump itself says whose it is: MariaDB writes its name into the head.
    """
    with dump.open("rb") as file:
        mariadb = b"-- MariaDB dump " in file.read(200)
    try:
        lines = _mariadb_rows(dump, tables) if mariadb else _postgresql_rows(dump, tables)
    except ValueError as error:
        raise BackupError("scratch_database", why=str(error)) from None
    return {tables[int(number)]: int(rows) for number, rows in map(str.split, lines)}


def _postgresql_rows(dump: Path, tables: Sequence[str]) -> list[str]:
    programs = newest_programs()
    with _server(programs) as sockets:
        _run([str(programs / "createdb"), f"--host={sockets}", f"--username={ACCOUNT}", DATABASE])
        _run(make_restore_command(programs, sockets, dump), RESTORE_SECONDS)
        return _run(make_count_command(programs, sockets, tables), RESTORE_SECONDS).splitlines() if tables else []


def _mariadb_rows(dump: Path, tables: Sequence[str]) -> list[str]:
    with mariadb_server() as sockets:
        _run([*_mariadb_client(sockets), "--execute", f"CREATE DATABASE {DATABASE}"])
        with dump.open("rb") as file:
            _run([*_mariadb_client(sockets), "--max-allowed-packet=1G", DATABASE], RESTORE_SECONDS, file)
        return _run(make_mariadb_count_command(sockets, tables), RESTORE_SECONDS).splitlines() if tables else []


@contextlib.contextmanager
def _server(programs: Path) -> Iterator[Path]:
    """A running PostgreSQL; the folder of its socket. Everything of it is gone afterwards."""
    with _home(ACCOUNT) as home:
        data = home / "data"
        words = ("-A", "trust", "-U", ACCOUNT, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        _run([*_as_account(), str(programs / "initdb"), "-D", str(data), *words])
        settings = ("listen_addresses=", "fsync=off", "full_page_writes=off", "max_wal_size=4GB")
        argv = [*_as_account(), str(programs / "postgres"), "-D", str(data), "-k", str(home)]
        argv += [word for setting in settings for word in ("-c", setting)]
        with _running(argv, home / "log", [str(programs / "pg_isready"), "-q", f"--host={home}"]):
            yield home


@contextlib.contextmanager
def mariadb_server() -> Iterator[Path]:
    """A running MariaDB; the folder of its ``socket``. Everything of it is gone afterwards. Raises ``BackupError``."""
    if (server := shutil.which("mariadbd", path=_ENVIRONMENT["PATH"])) is None:
        raise BackupError("no_mariadb", why="mariadbd")
    with _home(MARIADB_ACCOUNT) as home:
        account, data = _as_account(MARIADB_ACCOUNT), f"--datadir={home / 'data'}"
        words = ("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
        _run([*account, "mariadb-install-db", "--no-defaults", data, *words])
        files = (f"--socket={home}/socket", f"--pid-file={home}/pid", f"--tmpdir={home}")
        fast = ("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--max-allowed-packet=1G")
        argv = [*account, server, "--no-defaults", data, *files, "--skip-networking", *fast]
        with _running(argv, home / "log", [*_mariadb_client(home, "mariadb-admin"), "--silent", "ping"]):
            yield home


@contextlib.contextmanager
def _home(account: str) -> Iterator[Path]:
    """A folder that is the account's when the drill is root's."""
    home = Path(tempfile.mkdtemp(prefix="emr-drill-"))
    try:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(account)
            os.chown(home, owner.pw_uid, owner.pw_gid)
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _running(argv: Sequence[str], log: Path, ready: Sequence[str]) -> Iterator[None]:
    """A server while the block lasts, from the moment it answers."""
    with log.open("wb") as said:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=_ENVIRONMENT, cwd="/")
    try:
        _await(ready, process, log)
        yield
    finally:
        _stop(process)


_ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}


def _as_account(account: str = ACCOUNT) -> list[str]:
    return ["setpriv", f"--reuid={account}", f"--regid={account}", "--clear-groups"] if os.geteuid() == 0 else []


def _await(ready: Sequence[str], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while subprocess.run(ready, env=_ENVIRONMENT, capture_output=True, check=False, timeout=20).returncode:
        if process.poll() is not None or time.monotonic() > end:
            said = log.read_text("utf-8", "replace").strip().splitlines()
            raise BackupError("scratch_database", why=said[-1] if said else "-")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # a "smart" shutdown; nobody is connected any more
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _run(argv: Sequence[str], seconds: float = 120, given: IO[bytes] | None = None) -> str:
    try:
        done = subprocess.run(
            argv,
            stdin=given or subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=_ENVIRONMENT,
            cwd="/",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BackupError("scratch_database", why=f"{Path(argv[0]).name}: {seconds:.0f} s") from None
    except OSError as error:
        raise BackupError("no_postgres", why=f"{argv[0]}: {error.strerror}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise BackupError("scratch_database", why=(lines or ["-"])[0][:300])
    return done.stdout
