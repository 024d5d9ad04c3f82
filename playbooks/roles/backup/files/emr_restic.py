"""restic as the backup job asks it: within a limit of time, every failure told by its cause, no process left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from emr_reach import keys_from, ssh_options, ssh_said
from emr_words import JobError

SECONDS = {"backup": 18 * 3600, "restore": 18 * 3600, "check": 12 * 3600, "ls": 3600}
"""How long a command may take; any other a quarter of an hour."""

GENTLE_SECONDS = 5  # that a restic which is told to stop has to take its lock along

NO_VERDICT = {
    *("wrong_password", "full_disk", "locked", "interrupted", "network", "timeout", "no_repository"),
    *("unknown_host", "denied"),
}
"""Causes that keep a command from its work and therefore say nothing about what it was to find out."""

# restic 0.17 and newer tell three causes by exit code; the words decide elsewhere: a full disk, a host or a log-in that
# is not known before the connection that ended because of it.
_BY_EXIT = {10: "no_repository", 11: "locked", 12: "wrong_password", 130: "interrupted"}
_BY_WORDS = (
    ("full_disk", r"no space left on device|disk quota exceeded|insufficient storage"),
    ("wrong_password", r"wrong password or no key found"),
    ("locked", r"already locked"),
    (
        "unknown_host",
        r"host key verification failed|failed to verify certificate|certificate signed by unknown authority|"
        r"certificate is not trusted|certificate has expired|x509: ",
    ),
    (
        "denied",
        r"permission denied \((publickey|password|keyboard)|invalidaccesskeyid|signaturedoesnotmatch|"
        r"access key id you provided|signature we calculated|no credentials found|\b401 unauthorized|"
        r"unable to authenticate|access ?denied",
    ),
    (
        "network",
        r"dial tcp|connection re(fused|set)|i/o timeout|no route to host|network is unreachable|no such host|"
        r"tls handshake|broken pipe|unexpected eof|server closed|bad gateway|service unavailable",
    ),
    ("refused", r"\b403 forbidden|permission denied|operation not permitted"),
    (
        "damaged",
        r"ciphertext verification failed|pack id does not match|repository contains errors|contains \d+ errors|"
        r"invalid data returned|pack .* damaged|does not match id|not found in (the )?index|error for tree",
    ),
    ("no_repository", r"repository does not exist|is there a repository at the following location"),
)
_TERMINAL = re.compile(r"^(\x1b\[2K)?signal interrupt.*\n?|\x1b\[[0-9;]*[A-Za-z]", re.MULTILINE)
_REFUSAL = r"\b403\b|forbidden|permission denied|access ?denied|operation not permitted"
_NO_REFUSAL = r"unable to create lock|input/output error"


@dataclass(frozen=True)
class Done:
    """One run: its exit code, its output, what it said beside it, and the limit that it broke (0: none)."""

    code: int
    out: str
    said: str
    late: float = 0


def cause(code, said):
    """Why a run failed, from its exit code and everything it said."""
    if code in _BY_EXIT:
        return _BY_EXIT[code]
    if code < 0:
        return "interrupted"
    low = said.lower()
    return next((name for name, words in _BY_WORDS if re.search(words, low)), "failed")


def deletion_answer(code, said):
    """How a try to delete was answered while its snapshot stayed: ``refused``, or the cause why it was no try.

    restic 0.18 ends well even when the storage refused (HTTP 403), so the exit code alone proves nothing; a lock, a
    network that is gone or a broken disk keep a snapshot alive as well and prove nothing either.
    """
    why, low = cause(code, said), said.lower()
    told = [line for line in low.splitlines() if "remove(<snapshot/" in line]
    if any(re.search(_REFUSAL, line) for line in told):
        return "refused"
    if told or why in NO_VERDICT or re.search(_NO_REFUSAL, low):
        return "failed" if why == "refused" else why
    return "refused" if code == 0 or "unable to remove" in low else "failed"


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
    done = _start(config, repository, words, seconds)
    if done.code and cause(done.code, done.said + done.out) == "locked":
        unlock(config, repository)
        done = _start(config, repository, words, seconds)
    return done


def unlock(config, repository):
    """Take away locks whose owner is gone; restic itself leaves all others. ``--remove-all`` is never given."""
    return _start(config, repository, ("unlock",), None)


def restic(config, repository, *words, fine=(0,), seconds=None):
    """Run restic; what came of it. Raises JobError with the cause."""
    done = attempt(config, repository, *words, seconds=seconds)
    if done.code in fine and not done.late:
        return done
    raise failure(repository, done)


def failure(repository, done):
    """The error that a run stands for."""
    # One that was stopped for its limit has the exit code of that; only its words tell what it hung on.
    code = cause(1 if done.late else done.code, done.said + done.out)
    if code in ("failed", "network"):  # restic may end before it has passed on what ssh said
        said = ssh_said(repository.get("location", ""), _ssh(repository), "/root")
        if said and (told := cause(1, said)) in ("unknown_host", "denied"):
            code, done = told, replace(done, said=said)
    if done.late and code in ("failed", "no_repository"):
        code = "timeout"
    return JobError(code, repository=repository["name"], why=last_words(done), seconds=round(done.late))


def last_words(done):
    """The sentence with which restic ended: its fatal line, or the last one that is no stack of calls."""
    lines = []
    for line in _TERMINAL.sub("", done.said or done.out).splitlines():
        if line.startswith("{"):  # 0.17 and newer wrap it in JSON
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                lines.append(str(found.get("message") or (found.get("error") or {}).get("message") or ""))
        elif line.strip() and not line.startswith("\t") and not re.match(r"^[\w./-]+\.\S+$", line):
            lines.append(line.strip())
    lines = [line for line in lines if line]
    return ([line for line in lines if line.startswith("Fatal:")] or lines or ["-"])[-1][:300]


def snapshots(config, repository, *words):
    """Snapshots in order of time; looking takes no lock."""
    out = restic(config, repository, "--json", "--no-lock", "snapshots", *words).out
    return sorted(json.loads(out) or [], key=lambda s: s["time"])


def _start(config, repository, words, seconds):
    """One run within its limit. A run that is stopped is asked first, so that it takes its lock along."""
    _refuse_open(repository, Path(repository["password_file"]))
    verb = next(word for word in words if not word.startswith("-"))
    limit = seconds or config.get("restic_seconds") or SECONDS.get(verb, 900)
    process = subprocess.Popen(
        [*_program(config, repository), *words],
        env=environment(config, repository),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        cwd="/",
    )
    try:
        out, said = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        out, said = _end(process)
        return Done(process.returncode or 1, out, said, limit)
    except BaseException:
        _end(process)
        raise
    return Done(process.returncode, out, said)


def _end(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        return process.communicate(timeout=GENTLE_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()


def _refuse_open(repository, path):
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise JobError("no_password", repository=repository["name"], path=path, why=error.strerror) from None
    if mode & 0o077:
        raise JobError("open_password", repository=repository["name"], path=path, mode=f"{mode:04o}")
