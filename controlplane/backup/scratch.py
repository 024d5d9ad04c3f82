"""A PostgreSQL that lives as long as a drill: in a folder of its own, on a Unix socket, never on the network.

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

from controlplane.backup.errors import BackupError

START_SECONDS = 60.0
RESTORE_SECONDS = 6 * 3600.0
DATABASE = "drill"
ACCOUNT = "postgres"
"""The account it runs under when the drill is root's: PostgreSQL refuses to run as root."""

_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)'
_TABLE = re.compile(rf"{_IDENTIFIER}\.{_IDENTIFIER}")


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
    question = " UNION ALL ".join(f"SELECT {number}, count(*) FROM {table}" for number, table in enumerate(tables))  # noqa: S608
    options = ("-XAtq", f"--host={sockets}", f"--username={ACCOUNT}", f"--dbname={DATABASE}", "--field-separator= ")
    return (str(programs / "psql"), *options, "-c", question)


def restored_rows(dump: Path, tables: Sequence[str]) -> dict[str, int]:
    """Restore a dump into a database made for it and count the rows of its tables. Raises ``BackupError``."""
    programs = newest_programs()
    with _server(programs) as sockets:
        _run([str(programs / "createdb"), f"--host={sockets}", f"--username={ACCOUNT}", DATABASE])
        _run(make_restore_command(programs, sockets, dump), RESTORE_SECONDS)
        if not tables:
            return {}
        try:
            command = make_count_command(programs, sockets, tables)
        except ValueError as error:
            raise BackupError("scratch_database", why=str(error)) from None
        counted = (line.split(" ") for line in _run(command, RESTORE_SECONDS).splitlines())
        return {tables[int(number)]: int(rows) for number, rows in counted}


@contextlib.contextmanager
def _server(programs: Path) -> Iterator[Path]:
    """A running server; the folder of its socket. Everything of it is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="emr-drill-"))
    try:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(ACCOUNT)
            os.chown(home, owner.pw_uid, owner.pw_gid)
        data = home / "data"
        words = ("-A", "trust", "-U", ACCOUNT, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        _run([*_as_account(), str(programs / "initdb"), "-D", str(data), *words])
        settings = ("listen_addresses=", "fsync=off", "full_page_writes=off", "max_wal_size=4GB")
        argv = [*_as_account(), str(programs / "postgres"), "-D", str(data), "-k", str(home)]
        argv += [word for setting in settings for word in ("-c", setting)]
        log = home / "log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=_ENVIRONMENT, cwd="/"
            )
        try:
            _await(programs, home, process, log)
            yield home
        finally:
            _stop(process)
    finally:
        shutil.rmtree(home, ignore_errors=True)


_ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}


def _as_account() -> list[str]:
    return ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"] if os.geteuid() == 0 else []


def _await(programs: Path, sockets: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while subprocess.run(
        [str(programs / "pg_isready"), "-q", f"--host={sockets}"], env=_ENVIRONMENT, check=False, timeout=20
    ).returncode:
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


def _run(argv: Sequence[str], seconds: float = 120) -> str:
    try:
        done = subprocess.run(
            argv,
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
