"""What must hold whatever is seen, said, waived or lost: properties of judging and scoring over random hospitals."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.chain import canonical
from controlplane.domain.declared import fact_of
from controlplane.domain.judge import State, judge
from controlplane.domain.model import SITE, Catalog, Finding, Proof, Scorecard, Verdict
from controlplane.domain.score import HOLDS, asked_with, score
from tests import worlds
from tests.conftest import ROOT

RANDOMS = st.integers(0, 2**32).map(random.Random)  # a seed repeats a whole hospital
OFTEN = settings(max_examples=150)
# From bad to good. A waiver makes nothing better, and what is too old is as good as not known.
RANK = {Verdict.NOT_MET: 0, Verdict.WAIVED: 0, Verdict.UNKNOWN: 1, Verdict.STALE: 1, Verdict.MET: 2}
Level = tuple[int, ...]


def judged(world: worlds.World, state: State | None = None, catalog: Catalog | None = None) -> tuple[Finding, ...]:
    return judge(catalog or world.catalog, world.assets, world.state if state is None else state, world.now, world.day)


def card_of(world: worlds.World, state: State | None = None, catalog: Catalog | None = None) -> Scorecard:
    return score(catalog or world.catalog, judged(world, state, catalog), world.day)


def height(level: str | None) -> int:
    return 0 if level is None else int(level)  # the ladders of these worlds are 1, 2, 3


def proven(card: Scorecard) -> Level:
    """Every level that evidence proves: of groups, under the drafts, and overall."""
    groups = [(height(g.proven), height(g.preview[0] if g.preview else None)) for g in card.groups]
    overall = [(height(o.proven), height(o.preview[0])) for o in card.overall]
    return tuple(level for pair in groups + overall for level in pair)


def possible(card: Scorecard) -> Level:
    groups = [(height(g.possible), height(g.preview[1] if g.preview else None)) for g in card.groups]
    overall = [(height(o.possible), height(o.preview[1])) for o in card.overall]
    return tuple(level for pair in groups + overall for level in pair)


def nowhere_above(lower: Level, higher: Level) -> bool:
    return all(a <= b for a, b in zip(lower, higher, strict=True))


@given(RANDOMS)
@OFTEN
def test_better_evidence_lowers_no_level(rnd):
    world = worlds.lived_in(rnd)
    before = judged(world)
    measured = [key for key in sorted(world.state) if key[0] != SITE or not key[1].startswith("declared.")]
    other = worlds.World(rnd, world.catalog, world.documents, world.assets, world.now, dict(world.state))
    other.fill(1.0)
    for key in measured:
        state = {**world.state, key: other.state[key]}
        after = judged(world, state)
        if all(RANK.get(b.verdict, 3) <= RANK.get(a.verdict, 3) for b, a in zip(before, after, strict=True)):
            assert nowhere_above(proven(card_of(world)), proven(card_of(world, state)))
            assert nowhere_above(possible(card_of(world)), possible(card_of(world, state)))


@given(RANDOMS)
@OFTEN
def test_a_word_more_lowers_no_proven_level(rnd):
    world = worlds.lived_in(rnd)
    for id_ in sorted(world.catalog.criteria):
        silent = {key: seen for key, seen in world.state.items() if key != (SITE, fact_of(id_))}
        assert nowhere_above(proven(card_of(world, silent)), proven(card_of(world)))


@given(RANDOMS)
@OFTEN
def test_losing_an_observation_or_a_word_raises_no_proven_level(rnd):
    """What is lost is everything of an asset and a fact: a later failed look, lost alone, revives an older answer."""
    world = worlds.lived_in(rnd)
    for key in sorted(world.state):
        lost = {k: seen for k, seen in world.state.items() if k != key}
        assert nowhere_above(proven(card_of(world, lost)), proven(card_of(world)))
    assert set(proven(card_of(world, {}))) <= {0}  # all of nothing proves nothing


@given(RANDOMS)
@OFTEN
def test_losing_an_observation_or_a_word_turns_no_criterion_good(rnd):
    world = worlds.lived_in(rnd)
    before = {c.id: c.verdict for c in card_of(world).criteria}
    for key in sorted(world.state):
        lost = {k: seen for k, seen in world.state.items() if k != key}
        for one in card_of(world, lost).criteria:
            assert before[one.id] in HOLDS or one.verdict not in HOLDS, (key, one)


@given(RANDOMS)
@OFTEN
def test_what_is_unknown_or_stale_never_counts_as_met(rnd):
    world = worlds.lived_in(rnd)
    findings, card = judged(world), card_of(world)
    for one in card.criteria:
        if one.verdict is not Verdict.MET:
            continue
        measured = [f for f in findings if f.check in world.catalog.criteria[one.id].checks]
        said = [f.verdict for f in findings if f.check == fact_of(one.id)]
        assert one.proof is not Proof.NONE
        if one.proof is not Proof.MEASURED:
            assert said == [Verdict.MET]
        if one.proof is Proof.MEASURED:
            assert any(f.verdict is Verdict.MET for f in measured)
            assert {f.verdict for f in measured} <= HOLDS
        if one.proof is Proof.DECLARED and one.reason.figures.get("kind") != "other_value":
            assert {f.reason.code for f in measured} <= {"no_asset"}  # a word outvotes no measurement
        if one.proof is Proof.MIXED:
            assert {f.verdict for f in measured if f.reason.code != "no_asset"} == {Verdict.MET}


@given(RANDOMS)
@OFTEN
def test_a_check_is_met_only_by_an_answer_that_stands_and_is_fresh(rnd):
    world = worlds.lived_in(rnd)
    for finding in judged(world):
        check = world.catalog.checks.get(finding.check)
        if check is None or finding.verdict is not Verdict.MET:
            continue
        answer = world.state[(finding.asset, check.fact)].answer
        assert answer is not None
        assert world.now - answer.seen_at <= check.fresh_within
        assert (finding.observation, finding.raw_digest) == (answer.id, answer.raw_digest)


@given(RANDOMS)
@OFTEN
def test_a_proven_level_has_each_of_its_criteria_and_one_of_its_own_that_is_met(rnd):
    world = worlds.lived_in(rnd)
    card = card_of(world)
    words = {c.id: c.verdict for c in card.criteria}
    for group in card.groups:
        framework = world.catalog.frameworks[group.framework]
        ladder = next(g for g in framework.groups if g.id == group.group)
        assert sum(group.proofs.values()) == group.counts.get("met", 0)
        if group.proven is None:
            continue
        mine = [c for c in framework.criteria if c.group == group.group and c.scored]
        asked = asked_with(framework.rule, ladder, group.proven)
        assert {words[c.id] for c in mine if asked & set(c.levels)} <= HOLDS
        assert any(words[c.id] is Verdict.MET for c in mine if group.proven in c.levels)
        assert height(group.proven) <= height(group.possible)
        assert height(group.proven) <= height(group.with_waivers)


@given(RANDOMS)
@OFTEN
def test_a_waiver_lifts_no_level(rnd):
    world = worlds.lived_in(rnd)
    strict = replace(world.catalog, waivers=())
    assert proven(card_of(world)) == proven(card_of(world, catalog=strict))
    assert possible(card_of(world)) == possible(card_of(world, catalog=strict))


@given(RANDOMS)
@OFTEN
def test_denominators_stand_whatever_was_seen(rnd):
    world = worlds.lived_in(rnd)
    card, empty = card_of(world), card_of(world, {})
    for mine, other in zip(card.groups, empty.groups, strict=True):
        assert (mine.total, mine.drafts, mine.automated, mine.judged) == (
            other.total, other.drafts, other.automated, other.judged,
        )  # fmt: skip
        assert sum(mine.counts.values()) == mine.total
    assert [c.id for c in card.criteria] == [c.id for c in empty.criteria]


@given(RANDOMS)
@OFTEN
def test_the_order_of_observations_assets_checks_and_frameworks_does_not_matter(rnd):
    world = worlds.lived_in(rnd)
    once = canonical([judged(world), card_of(world)])

    def shuffled(mapping):
        return dict(rnd.sample(list(mapping.items()), len(mapping)))

    catalog = replace(
        world.catalog, checks=shuffled(world.catalog.checks), frameworks=shuffled(world.catalog.frameworks)
    )
    findings = judge(catalog, rnd.sample(world.assets, len(world.assets)), shuffled(world.state), world.now, world.day)
    card = score(catalog, rnd.sample(findings, len(findings)), world.day)
    assert canonical([findings, card]) == once


# ---------------------------------------------------------------------------------- other interpreters

ELSEWHERE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from tests import worlds
print(json.dumps([hash("x"), [worlds.digest_of(seed) for seed in json.loads(sys.argv[2])]]))
"""
SEEDS = list(range(60))


def interpreters() -> Iterable[str]:
    """This Python, the system's, and whichever others stand beside them."""
    pyenv = Path.home() / ".pyenv" / "versions"
    beside = [folder / "bin" / "python" for folder in sorted(pyenv.iterdir())] if pyenv.is_dir() else []
    found = [Path(sys.executable), Path("/usr/bin/python3"), *beside]
    return [str(path) for path in dict.fromkeys(found) if path.exists() and new_enough(path)]


def new_enough(path: Path) -> bool:
    asked = [str(path), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
@pytest.mark.parametrize("python", interpreters())
def test_the_same_inputs_have_the_same_bytes_in_another_interpreter(python, hash_seed):
    """The domain alone: no installed library, other hashes of strings, another version of Python."""
    here = [worlds.digest_of(seed) for seed in SEEDS]
    assert len(set(here)) == len(SEEDS)
    argv = [python, "-S", "-c", ELSEWHERE, str(ROOT), json.dumps(SEEDS)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": hash_seed})
    hashed, there = json.loads(done.stdout)
    assert hashed != hash("x") or hash_seed == os.environ.get("PYTHONHASHSEED")
    assert there == here
