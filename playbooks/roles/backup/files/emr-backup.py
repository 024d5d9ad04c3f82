#!/usr/bin/python3
"""The backup job of one host: saves, checks, rehearses, compares, tries to delete, and keeps the record of all that.

Usage: emr-backup init | run [DATASET...] | check | refusal | drill [DATASET...] | spot [DATASET...]. It reads
/etc/emrctl/backup.json, which holds no secret, and needs restic, Python's standard library and (for databases) the
programs of their servers. The modules emr_*.py lie beside it. It forgets no snapshot: retention is the work of the
repository's host. One data set or repository that fails keeps no other from its turn. Exit codes: 0 done, 1 something
failed, 2 usage.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from emr_causes import INCOMPLETE, NOT_ASKED, deletion_answer
from emr_files import compare_files, entry, excluded, files_below, head, literal, read_listing, verify
from emr_restic import attempt, failure, restic, seconds_of, snapshots
from emr_sources import dump_fault, gather
from emr_words import JobError, say, tell

CONFIG = Path(os.environ.get("EMR_BACKUP_CONFIG", "/etc/emrctl/backup.json"))
STATE = Path(os.environ.get("EMR_BACKUP_STATE", "/var/lib/emrctl/backup"))
CANARY = "emr-canary"
NOT_THERE = r"does not exist|no such file|unable to open config file.*(404|not found)"
LEAST_FREE_BYTES = 1_000_000_000  # what a restore for trial leaves free on its disk, as that of the control plane does
TRIES = 2  # of a backup whose files change while it runs: its list of hashes must be of what was saved


def read_config():
    """The declared data sets and repositories. Raises JobError."""
    try:
        return json.loads(CONFIG.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JobError("no_config", path=CONFIG, why=error) from None


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
    wanted = chosen(config, dataset)
    paths, lists = gather(STATE, dataset)
    document = load("dataset", name)
    taken = {s["repository"]: s for s in document.get("snapshots", [])}
    good = True
    for repository in wanted:
        try:
            taken[repository["name"]] = save(config, repository, dataset, paths, lists)
            keep(repository_document(config, repository))
        except JobError as error:
            tell(error)
            good = False
    declared = {key: dataset[key] for key in ("source", "class", "every_hours", "rpo_minutes")}
    known = {r["name"] for r in wanted}
    document |= declared | {"snapshots": [s for key, s in sorted(taken.items()) if key in known]}
    keep(document)
    return good


def chosen(config, dataset):
    """The repositories of a data set. Raises JobError when there is none."""
    wanted = dataset.get("repositories") or [r["name"] for r in config["repositories"]]
    found = [r for r in config["repositories"] if r["name"] in wanted]
    if not found:
        raise JobError("not_stored_anywhere", name=dataset["name"])
    return found


def save(config, repository, dataset, paths, lists):
    """One snapshot whose list of hashes is of what was saved; its entry in the record. Raises JobError."""
    name, host = dataset["name"], config["host"]
    lists = [str(STATE / "manifests" / f"{name}.sha256"), *lists]
    excludes = [word for pattern in dataset.get("excludes", []) for word in ("--exclude", pattern)]
    for turn in range(TRIES):
        before = write_manifest(name, paths, dataset.get("excludes", []))
        if not before:
            raise JobError("saves_nothing", name=name)
        words = ("--json", "backup", "--host", host, "--tag", name, *excludes, "--", *paths, *lists)
        done = restic(config, repository, *words, fine=(0, INCOMPLETE))
        unread = unreadable(done.said)
        moved = [path for path, seen in before.items() if stamp(path) != seen]
        if not unread and not moved:
            break
        if turn + 1 < TRIES:
            say("changing", name=name)
    if unread:
        raise JobError("unread", repository=repository["name"], count=len(unread), path=unread[0])
    if moved:
        say("in_use", name=name, count=len(moved), path=moved[0])
    summary = json.loads(done.out.strip().splitlines()[-1])
    kept = len(snapshots(config, repository, "--tag", name, "--host", host))
    taken = {"repository": repository["name"], "id": summary["snapshot_id"], "at": int(time.time()), "kept": kept}
    return taken | {"changed": len(moved)}


def unreadable(said):
    """Source files that restic could not read and that are still there; one that went away meanwhile is no loss."""
    found = []
    for line in said.splitlines():
        with contextlib.suppress(ValueError):
            document = json.loads(line)
            if document.get("message_type") == "error" and os.path.lexists(document.get("item") or "/"):
                found.append(document.get("item") or "-")
    return found


def write_manifest(name, paths, excludes):
    """Hash every file; path -> (size, time of change) as hashed."""
    seen, lines = {}, [head(int(time.time()))]
    for path in files_below(paths, excludes):
        with contextlib.suppress(FileNotFoundError):
            line, listed = entry(path)
            lines.append(line)
            seen[path] = (listed.size, listed.changed_ns)
    target = STATE / "manifests" / f"{name}.sha256"
    target.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    target.chmod(0o600)
    return seen


def stamp(path):
    """What tells that a file was changed; None when it is gone."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


# --------------------------------------------------------------------------------- check, refusal, drill, init


def check(config, repository):
    """Check a repository and read the next part of its data, so that a cycle reads all.

    What keeps the check from its work (a lock, the network) says nothing about the repository and is not recorded.
    """
    document, of = repository_document(config, repository), config.get("check_parts", 14)
    last = document.get("check_part", 0) if document.get("check_of") == of else 0
    part = last % of + 1
    done = attempt(config, repository, "check", f"--read-data-subset={part}/{of}")
    whole = done.exit_code == 0
    if not whole and done.cause in NOT_ASKED:
        raise failure(repository, done)
    document |= {"last_check_at": int(time.time()), "last_check_ok": whole, "check_read_percent": round(100 / of, 2)}
    if whole:
        document |= {"check_part": part, "check_of": of}
    keep(document)
    if not whole:
        raise failure(repository, done)
    return True


def refusal(config, repository):
    """Try to delete a canary by this host's own credentials, and record how that was answered.

    Only an answer counts: where nothing was tried (a lock, the network) the record keeps its earlier result.
    """
    document = repository_document(config, repository)
    try:
        lost = deletes(config, repository)
    except JobError as error:
        keep(document | {"last_delete_not_tried_at": int(time.time()), "last_delete_not_tried_why": error.code})
        raise JobError("not_tried", repository=repository["name"], cause=error) from None
    for key in ("last_delete_not_tried_at", "last_delete_not_tried_why"):
        document.pop(key, None)
    keep(document | {"append_only": not lost, "last_delete_refused_at": None if lost else int(time.time())})
    if lost:
        say("deleted", repository=repository["name"])
    return not lost


def deletes(config, repository):
    """Whether the storage lets this host delete a snapshot made for that. Raises JobError when it was not tried."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "canary").write_text(str(time.time()), encoding="utf-8")
        words = ("--json", "backup", "--host", config["host"], "--tag", CANARY, place)
        canary = json.loads(restic(config, repository, *words).out.strip().splitlines()[-1])["snapshot_id"]

    def there():
        return canary in {s["id"] for s in snapshots(config, repository)}

    if not there():
        raise JobError("not_listed", repository=repository["name"])
    done = attempt(config, repository, "forget", canary)
    if not there():
        return True
    if done.stopped or deletion_answer(done.exit_code, done.said + done.out) != "refused":
        raise failure(repository, done)
    return False


def drill(config, dataset):
    """Restore the newest snapshot and compare every file with its hash."""
    began, name = time.time(), dataset["name"]
    snapshot, repository = newest(config, dataset)
    with scratch(config, "drill") as place:
        words = ("--json", "--no-lock", "stats", "--mode", "restore-size", snapshot["id"])
        wanted = json.loads(restic(config, repository, *words).out.strip().splitlines()[-1])["total_size"]
        refuse_without_room(dataset, "drill", wanted, place)
        done = attempt(config, repository, "--no-lock", "restore", snapshot["id"], "--target", place)
        ok = done.exit_code == 0
        if not ok:
            tell(failure(repository, done))
        lists = Path(place) / str(STATE).lstrip("/") / "manifests" / f"{name}.sha256"
        text = lists.read_text(encoding="utf-8", errors="surrogateescape") if lists.exists() else ""
        seen = verify(read_listing(text), Path(place))
        if fault := dump_fault(Path(place), STATE, dataset):
            say("dump_broken", name=name, why=fault)
            ok = False
    wrong = len(seen.wrong) + len(seen.missing)
    if wrong:
        say("hashes_wrong", name=name, count=wrong, path=(*seen.wrong, *seen.missing)[0])
    found = {"at": int(time.time()), "ok": ok and seen.right > 0 and not wrong, "repository": repository["name"]}
    found |= {"rto_seconds": round(time.time() - began), "hashes_verified": seen.right, "hashes_wrong": wrong}
    found |= {"hashes_changed": len(seen.changed), "rpo_seconds": max(0, round(began - seconds_of(snapshot["time"])))}
    keep_try("drill", name, {"last_drill": found})
    return found["ok"]


def spot(config, dataset):
    """Hold the folders of a data set against its newest snapshot: wrong excludes, changed bytes, mass encryption.

    Paths may name patients, so the record keeps counts alone; the journal of this host names one of each kind.
    """
    name, paths = dataset["name"], dataset["paths"]
    if not paths:  # a dump alone is another one every night; the drill proves it
        return True
    snapshot, repository = newest(config, dataset)
    out = restic(config, repository, "--json", "--no-lock", "ls", snapshot["id"]).out
    archive = {d["path"]: d.get("size", 0) for d in map(json.loads, out.splitlines()) if d.get("type") == "file"}

    @contextlib.contextmanager
    def restored(patterns):
        with scratch(config, "spot") as place:
            asked = set(patterns)
            refuse_without_room(dataset, "spot", sum(archive[p] for p in archive if literal(p) in asked), place)
            only = [word for pattern in patterns for word in ("--include", pattern)]
            restic(config, repository, "--no-lock", "restore", snapshot["id"], "--target", place, *only)
            yield Path(place)

    excludes, seed = dataset.get("declared_excludes", dataset.get("excludes", [])), secrets.randbelow(2**31)
    at, count = seconds_of(snapshot["time"]), config.get("spot_files", 50)
    found = compare_files(paths, excludes, archive, at, restored, count=count, seed=seed)
    for code, told in (("spot_wrong", found.wrong), ("spot_left_out", found.not_archived)):
        if told:
            say(code, name=name, count=len(told), path=told[0])
    if found.alarm:
        say("spot_alarm", name=name, share=found.changed_share_percent, path=found.encrypted[0])
    figures = {k: len(v) if isinstance(v, tuple) else v for k, v in vars(found).items() if k != "not_archived"}
    left_out = sum(excluded(path, dataset.get("excludes", [])) for path in files_below(paths))
    figures |= {"left_out": left_out, "seed": seed, "repository": repository["name"], "snapshot": snapshot["id"]}
    keep_try("spot", name, {"last_spot": {"at": int(time.time())} | figures})
    return found.ok


def scratch(config, verb):
    """A folder of root's alone for a restore, gone afterwards; not in /tmp, which may lie in the memory."""
    return tempfile.TemporaryDirectory(prefix=f"emr-{verb}-", dir=config.get("scratch", "/var/tmp"))  # noqa: S108


def refuse_without_room(dataset, verb, wanted, place):
    """A try that nobody watches must not fill the disk of a server that is in use. Raises JobError, and records it."""
    free = shutil.disk_usage(place).free
    if wanted + LEAST_FREE_BYTES > free:
        why = {f"last_{verb}_not_tried_at": int(time.time()), f"last_{verb}_not_tried_why": "no_room"}
        keep(load("dataset", dataset["name"]) | why)
        sizes = {"wanted": wanted // 10**6, "free": free // 10**6, "least": LEAST_FREE_BYTES // 10**6}
        raise JobError("no_room", name=dataset["name"], path=Path(place).parent, **sizes)


def keep_try(verb, name, found):
    """Record what a try found out; that an earlier one had no room is over."""
    document = load("dataset", name) | found
    keep({key: value for key, value in document.items() if not key.startswith(f"last_{verb}_not_tried")})


def newest(config, dataset):
    """The newest snapshot of a data set and its repository; one that cannot be asked is told. Raises JobError."""
    name, found = dataset["name"], []
    for repository in chosen(config, dataset):
        try:
            listed = snapshots(config, repository, "--tag", name, "--host", config["host"])
        except JobError as error:
            tell(error)
            continue
        found += [(s["time"], s, repository) for s in listed[-1:]]
    if not found:
        raise JobError("no_snapshot", name=name)
    return max(found, key=lambda one: one[0])[1:]


def init(config, repository):
    """Make a repository where there is none; say CHANGED, so that the play knows. Raises JobError."""
    done = attempt(config, repository, "cat", "config")
    if done.exit_code == 0:
        return True
    if done.stopped or not re.search(NOT_THERE, done.said, re.IGNORECASE):
        raise failure(repository, done)
    restic(config, repository, "init")
    sys.stdout.write("CHANGED\n")
    return True


def carry_out(act, config, one):
    """One verb over one data set or repository. Whatever goes wrong is told, and ends with it."""
    try:
        return act(config, one)
    except JobError as error:
        tell(error)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            say("full_here", name=one["name"], why=error)
        else:
            say("broken", name=one["name"], why=error)
    except Exception as error:  # the next data set must have its turn, whatever this one stumbled over
        say("broken", name=one.get("name"), why=f"{type(error).__name__}: {error}")
    return False


def stop(number, frame):
    """An order to stop ends restic gently and says so."""
    raise KeyboardInterrupt


def main(words):
    """Carry one verb out over everything that is declared, or over the data sets that are named."""
    verbs = {"init": init, "run": run, "check": check, "refusal": refusal, "drill": drill, "spot": spot}
    if not words or words[0] not in verbs:
        tell("usage: init | run [DATASET...] | check | refusal | drill [DATASET...] | spot [DATASET...]")
        return 2
    signal.signal(signal.SIGTERM, stop)
    verb, names = words[0], words[1:]
    try:
        config = read_config()
        over = config["datasets"] if verb in ("run", "drill", "spot") else config["repositories"]
        if missing := set(names) - {one["name"] for one in over}:
            say("not_declared", names=", ".join(sorted(missing)))
            return 2
        results = [carry_out(verbs[verb], config, one) for one in over if not names or one["name"] in names]
    except JobError as error:
        tell(error)
        return 1
    except KeyboardInterrupt:
        say("stopped", verb=verb)
        return 1
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
