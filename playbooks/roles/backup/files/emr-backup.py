#!/usr/bin/python3
"""The backup job of one host: saves, checks, rehearses, tries to delete, and keeps the record of all that.

Usage: emr-backup init | run [DATASET...] | check | refusal | drill [DATASET...]. It reads /etc/emrctl/backup.json,
which holds no secret, and needs restic, Python's standard library and (for databases) psql and pg_dump. It forgets no
snapshot: retention is the work of the repository's host. Exit codes: 0 done, 1 something failed, 2 usage.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

CONFIG = Path(os.environ.get("EMR_BACKUP_CONFIG", "/etc/emrctl/backup.json"))
STATE = Path(os.environ.get("EMR_BACKUP_STATE", "/var/lib/emrctl/backup"))
CANARY = "emr-canary"
TRIES = 2  # of a backup whose files change while it runs: its list of hashes must be of what was saved

# A dump and the counts of its rows come from one snapshot of the database, so they must agree to the row.
DUMP = r"""
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


class JobError(Exception):
    """A sentence for the journal."""


def say(words):
    """One line into the journal."""
    sys.stderr.write(f"emr-backup: {words}\n")


def read_config():
    """The declared data sets and repositories."""
    return json.loads(CONFIG.read_text(encoding="utf-8"))


def environment(config, repository):
    """Everything restic is told; nothing of the caller's."""
    found = {
        "RESTIC_PASSWORD_FILE": repository["password_file"],
        "RESTIC_CACHE_DIR": config.get("cache", "/var/cache/emrctl-restic"),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
    }
    if repository.get("location_file"):
        return found | {"RESTIC_REPOSITORY_FILE": repository["location_file"]}
    return found | {"RESTIC_REPOSITORY": repository["location"]}


def restic(config, repository, *words, fine=(0,)):
    """Run restic; its output. Raises JobError with its last words."""
    mode = Path(repository["password_file"]).stat().st_mode & 0o077
    if mode:
        raise JobError(f"{repository['password_file']} may be read by others")
    done = subprocess.run(
        [config.get("restic", "restic"), *words],
        env=environment(config, repository),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode not in fine:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["-"]
        raise JobError(f"{repository['name']}: restic {words[0]} ended with {done.returncode}: {lines[-1][:300]}")
    return done


def snapshots(config, repository, *words):
    """Snapshots in order of time."""
    out = restic(config, repository, "--json", "--no-lock", "snapshots", *words).stdout
    return sorted(json.loads(out) or [], key=lambda s: s["time"])


# ------------------------------------------------------------------------------------------------- the record


def load(kind, name):
    """A document of the record, or an empty one."""
    try:
        return json.loads((STATE / f"{kind}-{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"format": 1, "kind": kind, "name": name}


def keep(document):
    """Write a document beside and rename it into place; its readers are the owners of the folder's group."""
    path = STATE / f"{document['kind']}-{document['name']}.json"
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")
    os.chown(new, STATE.stat().st_uid, STATE.stat().st_gid)
    new.chmod(0o640)
    new.replace(path)


def repository_document(config, repository):
    """What the record says of a repository, with what earlier runs found."""
    version = subprocess.run([config.get("restic", "restic"), "version"], capture_output=True, text=True, check=True)
    kept = {"append_only": False, "last_delete_refused_at": None, "last_check_at": None, "last_check_ok": None}
    declared = {key: repository[key] for key in ("medium", "offsite", "offline", "same_host")}
    program = {"program": "restic", "version": version.stdout.split(" ")[1], "encrypted": True}
    return kept | {"check_read_percent": 0} | load("repository", repository["name"]) | declared | program


# -------------------------------------------------------------------------------------------------------- run


def run(config, dataset):
    """Save one data set into each of its repositories; false when one of them failed."""
    name = dataset["name"]
    for folder in ("manifests", "dumps"):
        (STATE / folder).mkdir(mode=0o700, exist_ok=True)
    paths = list(dataset["paths"])
    if dataset["source"].startswith("postgresql:"):
        paths.append(str(dump(dataset)))
    document = load("dataset", name)
    taken = {s["repository"]: s for s in document.get("snapshots", [])}
    good = True
    for repository in chosen(config, dataset):
        try:
            taken[repository["name"]] = save(config, repository, dataset, paths)
            keep(repository_document(config, repository))
        except JobError as error:
            say(error)
            good = False
    declared = {key: dataset[key] for key in ("source", "class", "every_hours", "rpo_minutes")}
    known = {r["name"] for r in chosen(config, dataset)}
    document |= declared | {"snapshots": [s for key, s in sorted(taken.items()) if key in known]}
    keep(document)
    return good


def chosen(config, dataset):
    """The repositories of a data set."""
    wanted = dataset.get("repositories") or [r["name"] for r in config["repositories"]]
    return [r for r in config["repositories"] if r["name"] in wanted]


def dump(dataset):
    """Dump a database and count its rows in the same moment. Raises JobError."""
    name, database = dataset["name"], dataset["source"].removeprefix("postgresql:")
    account = pwd.getpwnam("postgres")
    with tempfile.TemporaryDirectory(prefix="emr-dump-", dir=STATE / "dumps") as place:
        for folder in (STATE, STATE / "dumps"):
            folder.chmod(folder.stat().st_mode | 0o001)  # the server's account walks through and lists nothing
        os.chown(place, account.pw_uid, account.pw_gid)
        raw, rows = Path(place) / "dump", Path(place) / "rows"
        argv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "psql", "-XAtq"]
        settings = {"PGDATABASE": database, "EMR_DUMP": str(raw), "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
        settings |= {key: value for key, value in dataset.get("connection", {}).items() if key.startswith("PG")}
        done = subprocess.run(
            [*argv, "-v", f"rows={rows}"],
            input=DUMP,
            env=settings,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        if done.returncode or not raw.with_name("dump.done").exists():
            raise JobError(f"{name}: the database {database} was not dumped: {done.stderr.strip()[-300:]}")
        target = STATE / "dumps" / f"{name}.dump"
        for source, goal in ((raw, target), (rows, STATE / "manifests" / f"{name}.rows")):
            shutil.move(source, goal)
            os.chown(goal, 0, 0)
            goal.chmod(0o600)
    return target


def save(config, repository, dataset, paths):
    """One snapshot whose list of hashes is of what was saved; its entry in the record."""
    name, host = dataset["name"], config["host"]
    lists = [str(STATE / "manifests" / f"{name}.sha256")]
    if dataset["source"].startswith("postgresql:"):
        lists.append(str(STATE / "manifests" / f"{name}.rows"))
    excludes = [word for pattern in dataset.get("excludes", []) for word in ("--exclude", pattern)]
    for path in paths:
        if not Path(path).exists():
            raise JobError(f"{name}: {path} is not there")
    for _ in range(TRIES):
        before = write_manifest(name, paths, dataset.get("excludes", []))
        words = ("--json", "backup", "--host", host, "--tag", name, *excludes, "--", *paths, *lists)
        out = restic(config, repository, *words).stdout
        if all(stamp(path) == seen for path, seen in before.items()):
            break
        say(f"{name}: files changed while they were saved; saving again")
    summary = json.loads(out.strip().splitlines()[-1])
    kept = len(snapshots(config, repository, "--tag", name, "--host", host))
    return {"repository": repository["name"], "id": summary["snapshot_id"], "at": int(time.time()), "kept": kept}


def write_manifest(name, paths, excludes):
    """Hash every file; path -> (size, time of change) as hashed."""
    seen, lines = {}, []
    for path in files_below(paths, excludes):
        with contextlib.suppress(FileNotFoundError):
            seen[path] = stamp(path)
            with Path(path).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
            lines.append(f"{mark(escaped != path)}{digest}  {escaped}\n")
    target = STATE / "manifests" / f"{name}.sha256"
    target.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    target.chmod(0o600)
    return seen


def mark(escaped):
    """sha256sum's sign of an escaped name."""
    return "\\" if escaped else ""


def stamp(path):
    """What tells that a file was changed; None when it is gone."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def files_below(paths, excludes):
    """Every regular file that no exclude means."""
    for root in paths:
        found = [Path(root)] if Path(root).is_file() else Path(root).rglob("*")
        for path in found:
            if path.is_file() and not path.is_symlink() and not excluded(str(path), excludes):
                yield str(path)


def excluded(path, patterns):
    """As restic means it: with a slash from the root, else for each part of the path."""
    return any(
        fnmatch.fnmatch(path, pattern) or path.startswith(pattern.rstrip("/") + "/")
        if pattern.startswith("/")
        else any(fnmatch.fnmatch(part, pattern) for part in path.split("/"))
        for pattern in patterns
    )


# --------------------------------------------------------------------------------- check, refusal, drill, init


def check(config, repository):
    """Check a repository and read the next part of its data, so that a cycle reads all."""
    document, of = repository_document(config, repository), config.get("check_parts", 14)
    last = document.get("check_part", 0) if document.get("check_of") == of else 0
    part = last % of + 1
    done = restic(config, repository, "check", f"--read-data-subset={part}/{of}", fine=range(256))
    whole = done.returncode == 0
    document |= {"last_check_at": int(time.time()), "last_check_ok": whole, "check_read_percent": round(100 / of, 2)}
    if whole:
        document |= {"check_part": part, "check_of": of}
    else:
        say(f"{repository['name']}: part {part}/{of}: {done.stderr.strip()[-300:]}")
    keep(document)
    return whole


def refusal(config, repository):
    """Try to delete a canary by this host's own credentials; the list of snapshots tells whether it was refused."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "canary").write_text(str(time.time()), encoding="utf-8")
        words = ("--json", "backup", "--host", config["host"], "--tag", CANARY, place)
        canary = json.loads(restic(config, repository, *words).stdout.strip().splitlines()[-1])["snapshot_id"]
    before = {s["id"] for s in snapshots(config, repository)}
    restic(config, repository, "forget", canary, fine=range(256))
    lost = before - {s["id"] for s in snapshots(config, repository)}
    document = repository_document(config, repository)
    document |= {"append_only": not lost}
    if not lost:
        document["last_delete_refused_at"] = int(time.time())
    keep(document)
    if lost:
        say(f"{repository['name']}: the storage let this host delete a snapshot")
    return not lost


def drill(config, dataset):
    """Restore the newest snapshot and compare every file with its hash."""
    began, name = time.time(), dataset["name"]
    newest = max(
        (
            (s[-1], r)
            for r in chosen(config, dataset)
            if (s := snapshots(config, r, "--tag", name, "--host", config["host"]))
        ),
        key=lambda pair: pair[0]["time"],
        default=None,
    )
    if newest is None:
        raise JobError(f"{name}: there is no snapshot to rehearse with")
    snapshot, repository = newest
    verified, wrong, ok = 0, 0, True
    with tempfile.TemporaryDirectory(prefix="emr-drill-") as place:
        done = restic(config, repository, "--no-lock", "restore", snapshot["id"], "--target", place, fine=range(256))
        ok = done.returncode == 0
        lists = Path(place) / str(STATE).lstrip("/") / "manifests" / f"{name}.sha256"
        text = lists.read_text(encoding="utf-8", errors="surrogateescape") if lists.exists() else ""
        for line in filter(None, text.split("\n")):
            same = agrees(line, Path(place))
            verified, wrong = verified + same, wrong + (not same)
    found = {"at": int(time.time()), "ok": ok and verified > 0 and not wrong, "repository": repository["name"]}
    found |= {"rto_seconds": round(time.time() - began), "hashes_verified": verified, "hashes_wrong": wrong}
    found["rpo_seconds"] = max(0, round(began - seconds_of(snapshot["time"])))
    keep(load("dataset", name) | {"last_drill": found})
    return found["ok"]


def agrees(line, root):
    """Whether a restored file has the hash of its line."""
    escaped, digest, path = re.fullmatch(r"(\\?)([0-9a-f]{64})  (.+)", line).groups()
    if escaped:
        path = re.sub(r"\\[nr\\]", lambda m: {"\\n": "\n", "\\r": "\r"}.get(m[0], "\\"), path)
    try:
        with (root / path.lstrip("/")).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return False


def seconds_of(text):
    """restic's time as seconds since 1970."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.replace("Z", "+00:00"))).timestamp()


def init(config, repository):
    """Make a repository where there is none; say CHANGED, so that the play knows."""
    done = restic(config, repository, "cat", "config", fine=range(256))
    if done.returncode == 0:
        return True
    if not re.search(r"does not exist|no such file|unable to open config file.*(404|not found)", done.stderr, re.I):
        raise JobError(f"{repository['name']}: {done.stderr.strip()[-300:]}")
    restic(config, repository, "init")
    sys.stdout.write("CHANGED\n")
    return True


def main(words):
    """Carry one verb out over everything that is declared, or over the data sets that are named."""
    verbs = {"init": init, "run": run, "check": check, "refusal": refusal, "drill": drill}
    if not words or words[0] not in verbs:
        say("usage: init | run [DATASET...] | check | refusal | drill [DATASET...]")
        return 2
    verb, names, config = words[0], words[1:], read_config()
    over = config["datasets"] if verb in ("run", "drill") else config["repositories"]
    if missing := set(names) - {one["name"] for one in over}:
        say(f"not declared: {', '.join(sorted(missing))}")
        return 2
    good = True
    for one in over:
        if names and one["name"] not in names:
            continue
        try:
            good = verbs[verb](config, one) and good
        except (JobError, OSError) as error:
            say(f"{one['name']}: {error}")
            good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
