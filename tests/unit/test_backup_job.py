"""The backup job's own rules without restic: what counts as refused, causes of failures, sentences in both tongues."""

from __future__ import annotations

import string
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from controlplane.backup.errors import cause
from tests.conftest import ROOT
from tests.unit.test_backup import SAID

FILES = ROOT / "playbooks" / "roles" / "backup" / "files"


@pytest.fixture(scope="module")
def job() -> Iterator[Any]:
    """A getter of the job's modules, which lie beside one another as they do on a host."""
    sys.path.insert(0, str(FILES))
    try:
        yield import_module
    finally:
        sys.path.remove(str(FILES))


# What restic 0.14.0 and 0.18.0 said when a deletion was tried on a real storage, and what that proves.
TRIED = [
    (0, "Remove(<snapshot/fc50>) failed: unexpected HTTP response (403): 403 Forbidden\nunable to remove snapshot/fc50 "
     "from the repository", "refused"),
    (1, "unable to remove <snapshot/44dd> from the repository\nblob not removed, server response: 403 Forbidden (403)",
     "refused"),
    (0, "", "refused"),
    (11, "unable to create lock in backend: repository is already locked by PID 26210 on vm by root", "locked"),
    (1, "unable to create lock in backend: repository is already locked exclusively by PID 1 on vm", "locked"),
    (1, "unable to create lock in backend: open /r/locks/1: permission denied", "failed"),
    (0, "unable to remove snapshot/fc50: Delete: dial tcp 127.0.0.1:9: connect: connection refused", "network"),
    (1, "unable to remove <snapshot/44dd>: unlinkat /r/snapshots/44dd: input/output error", "failed"),
    (1, "Remove(<snapshot/44dd>) failed: remove /r/snapshots/44dd: operation not permitted", "refused"),
    (1, "Remove(<snapshot/44dd>) failed: Access Denied.", "refused"),
    (0, "Remove(<snapshot/10a5>) failed: unexpected HTTP response (500): 500 Internal Server Error\nunable to remove "
     "snapshot/10a5 from the repository", "failed"),
    (1, "nobody@127.0.0.1: Permission denied (publickey).", "denied"),
    (1, "ssh: Host key verification failed.\nFatal: server closed connection: unexpected EOF", "unknown_host"),
    (12, "Fatal: wrong password or no key found", "wrong_password"),
    (-9, "", "interrupted"),
    (1, "something that nobody has seen yet", "failed"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "said", "answer"), TRIED)
def test_only_a_real_refusal_is_one(job, code, said, answer):
    assert job("emr_restic").deletion_answer(code, said) == answer


@pytest.mark.parametrize("code", SAID)
def test_the_job_and_the_control_plane_name_the_same_cause(job, code):
    assert job("emr_restic").cause(*SAID[code]) == cause(*SAID[code]) == code
    assert code in job("emr_words").SENTENCES


def test_every_sentence_has_two_tongues_with_the_same_holes(job):
    for code, (vi, en) in job("emr_words").SENTENCES.items():
        assert vi != en, code
        holes = [{name for _, name, _, _ in string.Formatter().parse(words) if name} for words in (vi, en)]
        assert holes[0] == holes[1], code
