"""What a data set is made of: its folders, and the dump of its database, taken so that it is consistent in itself."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from emr_words import JobError, say

COMMANDS = Path(os.environ.get("EMR_BACKUP_COMMANDS", "/usr/local/sbin"))
"""Where the commands lie that dump what the job itself cannot."""

COMMAND_SECONDS = 6 * 3600
_NAMES = r"[^-/\x00-\x1f][^/\x00-\x1f]*"

# A dump and the counts of its rows come from one snapshot of the database, so they must agree to the row.
POSTGRESQL = r"""
\set ON_ERROR_STOP on
\pset tuples_only on
\pset format unaligned
\pset fieldsep '\t'
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot() AS snapshot \gset
\setenv EMR_SNAPSHOT :snapshot
\! pg_dump --format=custom --compress=0 --snapshot="$EMR_SNAPSHOT" --file="$EMR_DUMP" && touch "$EMR_DUMP.done"
\o :rows
SELECT format('SELECT %L, count(*) FROM ONLY %I.%I', format('%I.%I', schemaname, tablename), schemaname, tablename)
  FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1 \gexec
\o
COMMIT;
"""


# One row a line, so that the dump itself tells how many it holds; one transaction a table, so that it is read in fast.
MARIADB_DUMP = (
    "mariadb-dump --protocol=socket --single-transaction --quick --routines --events --triggers --hex-blob "
    "--skip-extended-insert --no-autocommit --default-character-set=utf8mb4 --max-allowed-packet=1G"
).split()
MARIADB_ASK = "mariadb --protocol=socket --batch --skip-column-names --default-character-set=utf8mb4".split()
_TABLES = (
    "SELECT HEX(table_name), engine FROM information_schema.tables WHERE table_schema = DATABASE() "
    "AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY 1;"
)
_NAME = re.compile(rb"(?:CREATE TABLE|INSERT INTO) (`(?:[^`]|``)+`) ")


def refuse(dataset):
    """Raises JobError for a source that is not known, and for a data set that names nothing to save."""
    name, source = dataset["name"], dataset["source"]
    kind, _, where = str(source).partition(":")
    known = {
        "postgresql": re.fullmatch(_NAMES, where),
        "mariadb": re.fullmatch(_NAMES, where),
        "path": where.startswith("/"),
        "command": re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", where.removeprefix(f"{COMMANDS}/")),
    }
    if not known.get(kind):
        raise JobError("unknown_source", name=name, source=source, folder=COMMANDS)
    if kind == "path" and not dataset["paths"]:
        raise JobError("saves_nothing", name=name)


def gather(state, dataset):
    """Take the dump that a data set asks for; (paths to save, lists to save beside them). Raises JobError."""
    refuse(dataset)
    kind, _, where = dataset["source"].partition(":")
    dumped = {"postgresql": _postgresql, "mariadb": _mariadb, "command": _command}.get(kind)
    paths, lists = list(dataset["paths"]), []
    if dumped:
        paths.append(str(dumped(state, dataset, where)))
    if kind in ("postgresql", "mariadb"):
        lists.append(str(state / "manifests" / f"{dataset['name']}.rows"))
    for path in paths:
        if not Path(path).exists():
            raise JobError("missing", name=dataset["name"], path=path)
    return paths, lists


def _postgresql(state, dataset, database):
    """Dump a database and count its rows in the same moment; the dump."""
    name = dataset["name"]
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        raise JobError("not_dumped", name=name, database=database, why="account postgres: -") from None
    with tempfile.TemporaryDirectory(prefix="emr-dump-", dir=state / "dumps") as place:
        for folder in (state, state / "dumps"):
            folder.chmod(folder.stat().st_mode | 0o001)  # the server's account walks through and lists nothing
        os.chown(place, account.pw_uid, account.pw_gid)
        raw, rows = Path(place) / "dump", Path(place) / "rows"
        argv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "psql", "-XAtq"]
        settings = {"PGDATABASE": database, "EMR_DUMP": str(raw), "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
        settings |= {key: value for key, value in dataset.get("connection", {}).items() if key.startswith("PG")}
        done = subprocess.run(
            [*argv, "-v", f"rows={rows}"],
            input=POSTGRESQL,
            env=settings,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        if done.returncode or not raw.with_name("dump.done").exists():
            why = done.stderr.strip()[-300:] or "-"
            raise JobError("not_dumped", name=name, database=database, why=why)
        return _kept(state, name, raw, rows)


def _kept(state, name, raw, rows):
    """Move a finished dump and its counts to where they are saved from; only root reads them."""
    target = state / "dumps" / f"{name}.dump"
    for source, goal in ((raw, target), (rows, state / "manifests" / f"{name}.rows")):
        shutil.move(source, goal)
        os.chown(goal, 0, 0)
        goal.chmod(0o600)
    return target


def _mariadb(state, dataset, database):
    """Dump a database as root over its socket and count what the dump holds; the dump.

    MariaDB lends its snapshot to no second session, so the rows are counted in the dump itself and held against the
    database: a table that stood still between a count before and one after must agree to the row.
    """
    name = dataset["name"]
    before, engines = _mariadb_rows(dataset, database)
    if loose := [table.decode() for table, engine in engines.items() if engine != "InnoDB"]:
        say("not_transactional", name=name, database=database, tables=", ".join(loose))
    with tempfile.TemporaryDirectory(prefix="emr-dump-", dir=state / "dumps") as place:
        raw, rows = Path(place) / "dump", Path(place) / "rows"
        _mariadb_run(dataset, database, [*MARIADB_DUMP, f"--result-file={raw}", database])
        found = rows_of_dump(raw)
        if found is None:
            raise JobError("not_dumped", name=name, database=database, why="no end mark")
        unlike = {table for table, count in before.items() if found.get(table) != count}
        after = _mariadb_rows(dataset, database, unlike)[0] if unlike else {}
        for table, count in after.items():
            if before[table] == count:
                said = {"table": table.decode(), "wanted": count, "found": found.get(table, 0)}
                raise JobError("dump_unlike", name=name, database=database, **said)
        rows.write_bytes(b"".join(b"%s\t%d\n" % one for one in sorted(found.items())))
        return _kept(state, name, raw, rows)


def rows_of_dump(path):
    """Table -> rows, of a dump that has one row a line; None when its end is missing."""
    found, inside, line = {}, False, b""
    with path.open("rb") as file:
        for line in file:
            if line.startswith(b"DELIMITER "):  # the body of a routine may look like rows
                inside = line.strip() != b"DELIMITER ;"
            elif not inside and (table := _NAME.match(line)):
                found[table[1]] = found.get(table[1], 0) + line.startswith(b"INSERT")
    return found if line.startswith(b"-- Dump completed") else None


def _mariadb_rows(dataset, database, only=None):
    """Quoted table -> rows, counted in one snapshot, and quoted table -> engine; of some tables, or of all."""
    listed = (
        line.split("\t") for line in _mariadb_run(dataset, database, [*MARIADB_ASK, database], _TABLES).split("\n")
    )
    engines = {_quoted(bytes.fromhex(cells[0])): cells[1] for cells in listed if len(cells) == 2}
    if not engines:
        raise JobError("saves_nothing", name=dataset["name"])
    tables = [table for table in engines if only is None or table in only]
    ask = ["START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY;"]
    ask += [f"SELECT {number}, COUNT(*) FROM {table.decode()};" for number, table in enumerate(tables)]  # noqa: S608
    out = _mariadb_run(dataset, database, [*MARIADB_ASK, database], "\n".join(ask))
    counted = (line.split("\t") for line in out.splitlines())
    return {tables[int(number)]: int(count) for number, count in counted}, engines


def _quoted(name):
    return b"`" + name.replace(b"`", b"``") + b"`"


def _mariadb_run(dataset, database, argv, text=""):
    """Run a program of MariaDB as root over its socket; its output. Raises JobError."""
    settings = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "HOME": "/root"}
    if socket := dataset.get("connection", {}).get("socket"):
        argv = [argv[0], f"--socket={socket}", *argv[1:]]
    try:
        done = subprocess.run(
            argv, input=text, env=settings, capture_output=True, text=True, errors="replace", check=False, cwd="/"
        )
    except OSError as error:
        raise JobError("not_dumped", name=dataset["name"], database=database, why=error) from None
    if done.returncode:
        why = done.stderr.strip()[-300:] or "-"
        raise JobError("not_dumped", name=dataset["name"], database=database, why=why)
    return done.stdout


def _command(state, dataset, where):
    """Run root's own command, which leaves its dump in a folder made for it; the folder. Raises JobError."""
    name, path = dataset["name"], COMMANDS / Path(where).name
    if why := _open_to_others(path):
        raise JobError("bad_command", name=name, path=path, why=why)
    goal = state / "dumps" / f"{name}.d"
    with tempfile.TemporaryDirectory(prefix="emr-dump-", dir=state / "dumps") as place:
        settings = {"EMR_DUMP_FOLDER": place, "LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        why = _ran([str(path)], settings, place, dataset.get("command_seconds", COMMAND_SECONDS))
        if why:
            raise JobError("command_failed", name=name, path=path, why=why)
        left = [p for p in Path(place).rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_size]
        if not left:
            raise JobError("command_left_nothing", name=name, path=path)
        shutil.rmtree(goal, ignore_errors=True)
        Path(place).rename(goal)
        Path(place).mkdir()  # for its remover
    return goal


def _ran(argv, settings, place, seconds):
    """Why a command did not end well within its time; nothing when it did. Its children end with it."""
    with subprocess.Popen(
        argv, env=settings, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said = process.communicate(timeout=seconds)[1]
        except BaseException as error:
            os.killpg(process.pid, 9)
            if isinstance(error, subprocess.TimeoutExpired):
                return f"{seconds} s"
            raise
    return (said.strip()[-300:] or f"exit code {process.returncode}") if process.returncode else ""


def _open_to_others(path):
    """Why root must not run a file; nothing when it may."""
    try:
        found, folder = path.lstat(), path.parent.stat()
    except OSError as error:
        return error.strerror
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o100:
        return "not a program"
    if found.st_uid or found.st_mode & 0o022 or folder.st_uid or folder.st_mode & 0o002:
        return "others may write it"
    return ""


def dump_fault(place, state, dataset):
    """What is wrong with the dump of a restored snapshot, as far as it can be told without a server; else nothing."""
    if not dataset["source"].startswith("mariadb:"):
        return ""
    below, name = place / str(state).lstrip("/"), dataset["name"]
    try:
        found = rows_of_dump(below / "dumps" / f"{name}.dump")
        wanted = (below / "manifests" / f"{name}.rows").read_bytes().splitlines()
    except OSError as error:
        return error.strerror
    if found is None:
        return "no end mark"
    unlike = set(wanted) ^ {b"%s\t%d" % one for one in found.items()}
    return ", ".join(sorted(line.decode(errors="replace").replace("\t", " ") for line in unlike))[:300]
