"""What a data set is made of: its folders, and the dump of its database, taken so that it is consistent in itself."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from emr_words import JobError

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


def gather(state, dataset):
    """Take the dump that a data set asks for; (paths to save, lists to save beside them). Raises JobError."""
    kind, _, where = dataset["source"].partition(":")
    paths, lists = list(dataset["paths"]), []
    if kind == "postgresql":
        paths.append(str(_postgresql(state, dataset, where)))
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
