"""The backup job's own words: a sentence for every cause, in both tongues."""

from __future__ import annotations

import string
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

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


@pytest.mark.parametrize("code", SAID)
def test_every_cause_that_the_job_may_meet_has_a_sentence(job, code):
    assert code in job("emr_words").SENTENCES


def test_every_sentence_has_two_tongues_with_the_same_holes(job):
    for code, (vi, en) in job("emr_words").SENTENCES.items():
        assert vi != en, code
        holes = [{name for _, name, _, _ in string.Formatter().parse(words) if name} for words in (vi, en)]
        assert holes[0] == holes[1], code
