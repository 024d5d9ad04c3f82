"""restic as the backup job asks it: within a limit of time, every failure told by its cause, no process left behind."""

from __future__ import annotations

import json
import re
import shlex
from datetime import datetime
from pathlib import Path

from emr_causes import cause, last_words, run_within
from emr_reach import keys_from, ssh_options, ssh_said
from emr_words import JobError

SECONDS = {"backup": 18 * 3600, "restore": 18 * 3600, "check": 12 * 3600, "ls": 3600}
"""How long a command may take; any other a quarter of an hour."""


def environment(config, repository):
    """Everything restic is told; nothing of the caller's."""
    found = {
        "RESTIC_PASSWORD_FILE": repository["password_file"],
        "RESTIC_CACHE_DIR": config.get("cache", "/var/cache/emrctl-restic"),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
    }
    found |= _keys(repository)
    if repository.get("location_file"):
        return found | {"RESTIC_REPOSITORY_FILE": repository["location_file"]}
    return found | {"RESTIC_REPOSITORY": repository["location"]}


def _beside(repository, ending):
    """A file beside the password: restic-NAME.env holds the keys of S3, restic-NAME.key is the key of SFTP."""
    path = Path(f"{repository['password_file']}.{ending}")
    return path if path.exists() else None


def _keys(repository):
    path = _beside(repository, "env")
    if path is None:
        return {}
    _refuse_open(repository, path)
    try:
        return keys_from(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise JobError("bad_keys", repository=repository["name"], path=path, line=error.args[0]) from None


def _program(config, repository):
    """restic, and for an SFTP storage how ssh is called. root's own ``known_hosts`` says which hosts are known."""
    program = [config.get("restic", "restic")]
    if not repository.get("location", "").startswith("sftp:"):
        return program
    if key := _beside(repository, "key"):
        _refuse_open(repository, key)
    return [*program, "-o", f"sftp.args={shlex.join(_ssh(repository))}"]


def _ssh(repository):
    known = repository.get("known_hosts")
    return ssh_options(_beside(repository, "key"), Path(known) if known else None)


def attempt(config, repository, *words, seconds=None):
    """Run restic whatever comes of it. A lock whose owner is gone is taken away first, and the command run again."""
    ran = _start(config, repository, words, seconds)
    if ran.exit_code and ran.cause == "locked":
        unlock(config, repository)
        ran = _start(config, repository, words, seconds)
    return ran


def unlock(config, repository):
    """Take away locks whose owner is gone; restic itself leaves all others. ``--remove-all`` is never given."""
    return _start(config, repository, ("unlock",), None)


def restic(config, repository, *words, fine=(0,), seconds=None):
    """Run restic; what came of it. Raises JobError with the cause."""
    ran = attempt(config, repository, *words, seconds=seconds)
    if ran.exit_code in fine and not ran.stopped:
        return ran
    raise failure(repository, ran)


def failure(repository, ran):
    """The error that a run stands for."""
    code, why = ran.cause, ran.said or ran.out
    if code in ("failed", "network", "timeout"):  # restic may end before it has passed on what ssh said
        said = ssh_said(repository.get("location", ""), _ssh(repository), "/root")
        if said and (told := cause(1, said)) in ("unknown_host", "denied"):
            code, why = told, said
    return JobError(code, repository=repository["name"], why=last_words(why), seconds=round(ran.seconds))


def snapshots(config, repository, *words):
    """Snapshots in order of time; looking takes no lock."""
    out = restic(config, repository, "--json", "--no-lock", "snapshots", *words).out
    return sorted(json.loads(out) or [], key=lambda s: s["time"])


def seconds_of(text):
    """restic's time as seconds since 1970."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.replace("Z", "+00:00"))).timestamp()


def _start(config, repository, words, seconds):
    """One run within its limit."""
    _refuse_open(repository, Path(repository["password_file"]))
    verb = next(word for word in words if not word.startswith("-"))
    limit = seconds or config.get("restic_seconds") or SECONDS.get(verb, 900)
    return run_within(limit, [*_program(config, repository), *words], environment(config, repository))


def _refuse_open(repository, path):
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise JobError("no_password", repository=repository["name"], path=path, why=error.strerror) from None
    if mode & 0o077:
        raise JobError("open_password", repository=repository["name"], path=path, mode=f"{mode:04o}")
