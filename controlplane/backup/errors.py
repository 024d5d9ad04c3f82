"""What can go wrong with a repository, each with a code and a sentence in both tongues. It tells causes apart by words.

restic 0.17 and newer say the cause by exit code as well; older ones by words alone, so the words decide where the code
does not. An unknown failure stays ``failed`` and keeps the program's last words.
"""

from __future__ import annotations

import re
from typing import Any

from controlplane import texts
from controlplane.domain.model import Words


class BackupError(RuntimeError):
    """Something about a backup did not work; ``code`` is for programs, ``words`` for people."""

    def __init__(self, code: str, **figures: Any) -> None:
        key = f"backup.{code}"
        self.code, self.figures = code, figures
        self.words = Words(texts.say("vi", key, **figures), texts.say("en", key, **figures))
        super().__init__(self.words.en)


NOT_ASKED = frozenset(
    {"locked", "stale_lock", "network", "timeout", "interrupted", "denied", "unknown_host", "wrong_password"}
    | {"no_program", "no_password", "open_password", "bad_keys", "no_repository"}
)
"""Causes that kept a repository from being looked at: they say nothing of what it holds."""

INCOMPLETE, NO_REPOSITORY, LOCKED, WRONG_PASSWORD = 3, 10, 11, 12
"""restic's exit codes: some source files could not be read, and three causes that 0.17 and newer tell apart."""

_BY_EXIT = {NO_REPOSITORY: "no_repository", LOCKED: "locked", WRONG_PASSWORD: "wrong_password"}
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
# The first that matches is the cause: a full disk is told before the network that carried the word of it, and a host or
# a log-in that is not known before the connection that ended because of it.
_BY_WORDS = (
    ("full_disk", r"no space left on device|disk quota exceeded|insufficient storage"),
    ("wrong_password", r"wrong password or no key found"),
    ("locked", r"already locked"),
    ("unknown_host", _UNKNOWN_HOST),
    ("denied", _DENIED_LOGIN),
    ("network", _NETWORK),
    ("refused", r"\b403 forbidden|permission denied"),
    (
        "damaged",
        r"ciphertext verification failed|pack id does not match|repository contains errors|contains \d+ errors|"
        r"invalid data returned|pack .* damaged|does not match id|not found in (the )?index|error for tree",
    ),
    ("no_repository", r"repository does not exist|is there a repository at the following location"),
)


def cause(exit_code: int, said: str) -> str:
    """The code of a failed run, from its exit code and everything it said."""
    if exit_code in _BY_EXIT:
        return _BY_EXIT[exit_code]
    low = said.lower()
    return next((code for code, words in _BY_WORDS if re.search(words, low)), "failed")


_DENIED = r"\b40[13]\b|forbidden|permission denied|access ?denied|operation not permitted"


def removal_refused(said: str) -> bool | None:
    """What was said of the removal of a snapshot: refused, failed for another reason, or None when nothing was said.

    A lock or a log-in that was denied is no word about the removal.
    """
    low = said.lower()
    told = [line for line in low.splitlines() if "remove(<snapshot/" in line]
    if told:
        return any(re.search(_DENIED, line) for line in told)
    return True if "unable to remove snapshot/" in low else None


def last_words(said: str) -> str:
    """The sentence with which the program ended: its fatal line, or the last one that is no stack of calls."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("\t")]
    fatal = [line for line in lines if line.startswith("Fatal:")]
    return (fatal or [line for line in lines if not re.match(r"^[\w./-]+\.\S+$", line)] or ["-"])[-1][:300]
