"""One run of restic within its time, and why it failed: causes are told by exit code and by words.

The standard library alone: the play ships this file to the hosts, so that job and control plane end a run in the same
way and call a failure by the same name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOT_ASKED = frozenset(
    {"locked", "stale_lock", "network", "timeout", "interrupted", "denied", "unknown_host", "wrong_password"}
    | {"full_disk", "no_program", "no_password", "open_password", "bad_keys", "no_repository"}
)
"""Causes that kept a repository from being looked at: they say nothing of what it holds."""

GENTLE_SECONDS = 5.0
"""How long a restic that is told to stop may take to remove its lock before it is ended."""

INCOMPLETE = 3
"""restic's exit code when some source files could not be read."""

CTRL_C = 130
"""restic's exit code when it was asked to stop and did so in order."""

# 0.17 and newer tell three causes by exit code; an unknown failure stays ``failed`` and keeps the program's last words.
_BY_EXIT = {10: "no_repository", 11: "locked", 12: "wrong_password", CTRL_C: "interrupted"}
_NETWORK = (
    r"dial tcp|connection re(fused|set)|i/o timeout|no route to host|network is unreachable|no such host|"
    r"tls handshake|broken pipe|unexpected eof|server closed|bad gateway|service unavailable"
)
_UNKNOWN_HOST = (
    r"host key verification failed|failed to verify certificate|certificate signed by unknown authority|"
    r"certificate is not trusted|certificate has expired|x509: "
)
_DENIED_LOGIN = (
    r"permission denied \((publickey|password|keyboard)|invalidaccesskeyid|signaturedoesnotmatch|"
    r"access key id you provided|signature we calculated|no credentials found|\b401 unauthorized|"
    r"unable to authenticate|access ?denied"
)
_DAMAGED = (
    r"ciphertext verification failed|pack id does not match|repository contains errors|contains \d+ errors|"
    r"invalid data returned|pack .* damaged|does not match id|not found in (the )?index|error for tree"
)
# The first that matches is the cause: a full disk is told before the network that carried the word of it, and a host or
# a log-in that is not known before the connection that ended because of it.
_BY_WORDS = (
    ("full_disk", r"no space left on device|disk quota exceeded|insufficient storage"),
    ("wrong_password", r"wrong password or no key found"),
    ("locked", r"already locked"),
    ("unknown_host", _UNKNOWN_HOST),
    ("denied", _DENIED_LOGIN),
    ("network", _NETWORK),
    ("refused", r"\b403 forbidden|permission denied|operation not permitted"),
    ("damaged", _DAMAGED),
    ("no_repository", r"repository does not exist|is there a repository at the following location"),
)
_REFUSAL = r"\b40[13]\b|forbidden|permission denied|access ?denied|operation not permitted"
_NO_REFUSAL = r"unable to create lock|input/output error"
_TERMINAL = re.compile(r"^(\x1b\[2K)?signal interrupt.*\n?|\x1b\[[0-9;]*[A-Za-z]", re.MULTILINE)


def cause(exit_code: int, said: str) -> str:
    """The code of a failed run, from its exit code and everything it said."""
    if exit_code in _BY_EXIT:
        return _BY_EXIT[exit_code]
    if exit_code < 0:
        return "interrupted"
    low = said.lower()
    return next((code for code, words in _BY_WORDS if re.search(words, low)), "failed")


def deletion_answer(exit_code: int, said: str) -> str:
    """How a try to delete was answered while its snapshot stayed: ``refused``, or the cause why it was no try.

    restic 0.18 ends well even when the storage refused (HTTP 403), so the exit code alone proves nothing; a lock, a
    network that is gone or a broken disk keep a snapshot alive as well and prove nothing either.
    """
    why, low = cause(exit_code, said), said.lower()
    told = [line for line in low.splitlines() if "remove(<snapshot/" in line]
    if any(re.search(_REFUSAL, line) for line in told):
        return "refused"
    if told or why in NOT_ASKED or re.search(_NO_REFUSAL, low):
        return "failed" if why == "refused" else why
    return "refused" if exit_code == 0 or "unable to remove" in low else "failed"


def last_words(said: str) -> str:
    """The sentence with which a run ended: its fatal line, or the last one that is no stack of calls."""
    lines = []
    for line in _TERMINAL.sub("", said).splitlines():
        if line.startswith("{"):  # 0.17 and newer wrap it in JSON
            found = next(iter(documents(line)), {})
            lines.append(str(found.get("message") or (found.get("error") or {}).get("message") or ""))
        elif line.strip() and not line.startswith("\t") and not re.match(r"^[\w./-]+\.\S+$", line):
            lines.append(line.strip())
    lines = [line for line in lines if line]
    return ([line for line in lines if line.startswith("Fatal:")] or lines or ["-"])[-1][:300]


def documents(text: str) -> list[dict[str, Any]]:
    """Every line that is a JSON object; other words in between are skipped."""
    found = []
    for line in text.splitlines():
        if line.startswith("{"):
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
    return found


# ------------------------------------------------------------------------------------------------------- one run


@dataclass(frozen=True)
class Ran:
    """One run of restic. ``stopped``: its time was up, so it was ended; ``seconds``: the time that it had."""

    exit_code: int
    out: str
    said: str  # what it wrote to its standard error
    stopped: bool = False
    seconds: float = 0

    @property
    def cause(self) -> str:
        """Why it failed. One that was stopped has the exit code of that; only its words tell what it hung on."""
        code = cause(1 if self.stopped else self.exit_code, f"{self.said}\n{self.out}")
        return "timeout" if self.stopped and code in ("failed", "no_repository") else code


_RUNNING: set[subprocess.Popen[str]] = set()


def run_within(seconds: float, command: Sequence[str], environment: Mapping[str, str]) -> Ran:
    """Run one command with this environment and no other, no longer than this. Raises ``OSError`` when it cannot start.

    One that is stopped, by its limit or with its caller, is asked first, so that it takes its lock along.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
        start_new_session=True,
        text=True,
        errors="replace",
    ) as process:
        _RUNNING.add(process)
        try:
            out, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            out, said = _end(process)
            return Ran(process.returncode, out, said, stopped=True, seconds=seconds)
        except BaseException:
            _end(process)
            raise
        finally:
            _RUNNING.discard(process)
    return Ran(process.returncode, out, said, seconds=seconds)


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Ask a run to stop, so that it takes its lock along; after a while end it and its children."""
    _signal(process, signal.SIGINT)
    try:
        return process.communicate(timeout=GENTLE_SECONDS)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        return process.communicate()


def end_all() -> None:
    """Ask every run that this process has started to stop; whoever waits for one is told that it was interrupted."""
    for process in list(_RUNNING):
        _signal(process, signal.SIGINT)


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
