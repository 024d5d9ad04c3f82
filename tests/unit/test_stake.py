"""What a criterion costs in level: the same that scoring says of a hospital in which it alone says another word."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane import texts
from controlplane.domain.judge import Seen, judge
from controlplane.domain.model import Verdict
from controlplane.domain.score import HOLDS, MISSED, assemble, score
from controlplane.domain.stake import Pair, stake_of
from tests import worlds
from tests.conftest import NOON, TODAY, a_catalog, a_check, a_criterion, a_framework, an_asset, seen

RANDOMS = st.integers(0, 2**32).map(random.Random)


def pairs(card, criterion):
    group = next(g for g in card.groups if (g.framework, g.group) == (criterion.framework, criterion.group))
    overall = next((o for o in card.overall if o.framework == criterion.framework), None)
    return Pair(group.proven, group.possible), overall and Pair(overall.proven, overall.possible)


@given(RANDOMS)
@settings(max_examples=100)
def test_a_stake_is_what_scoring_says_where_this_one_criterion_alone_says_otherwise(rnd):
    world = worlds.lived_in(rnd)
    findings = judge(world.catalog, world.assets, world.state, world.now, world.day)
    card = score(world.catalog, findings, world.day)
    for one in card.criteria:
        stake = stake_of(world.catalog, card, world.catalog.criteria[one.id])
        if stake.levels is None:
            continue
        for place, word in enumerate((one.verdict, Verdict.MET, Verdict.NOT_MET)):
            scores = {c.id: c for c in card.criteria} | {one.id: replace(one, verdict=word)}
            group, overall = pairs(assemble(world.catalog, scores, world.day), world.catalog.criteria[one.id])
            assert stake.levels[place] == group
            assert overall is None or stake.overall[place] == overall


@given(RANDOMS)
@settings(max_examples=50)
def test_a_sentence_of_costs_is_said_where_levels_differ_and_nowhere_else(rnd):
    world = worlds.lived_in(rnd)
    card = score(world.catalog, judge(world.catalog, world.assets, world.state, world.now, world.day), world.day)
    for one in card.criteria:
        stake = stake_of(world.catalog, card, world.catalog.criteria[one.id])
        if stake.levels is None:
            assert stake.reason.code in ("draft", "no_level")
            continue
        today, met, lost = stake.levels
        then = met if one.verdict in MISSED else lost
        assert stake.reason.code.startswith("costs" if one.verdict in MISSED else "carries")
        assert (stake.reason.code in ("costs", "carries")) == (then != today)
        assert one.verdict not in HOLDS or one.verdict is not Verdict.MET or met == today


def judged(used, levels):
    """A catalog of a criterion a level, each with a check of its own, and the scorecard of what was seen."""
    ids = [f"law.a.{n}" for n in range(len(levels))]
    checks = [a_check(f"server.c{n}", serves=(id_,), fact="disk.used_percent") for n, id_ in enumerate(ids)]
    for n, check in enumerate(checks):
        check["expect"] = {"at_most": 80 + n}
    framework = a_framework(*[a_criterion(id_, level) for id_, level in zip(ids, levels, strict=True)])
    catalog = a_catalog(checks, framework)
    state = {("sv-01", "disk.used_percent"): Seen(seen("sv-01", "disk.used_percent", used))}
    return catalog, score(catalog, judge(catalog, [an_asset()], state, NOON, TODAY), TODAY)


@pytest.mark.parametrize(
    ("used", "levels", "code", "en"),
    [
        (70, ("1", "2"), "carries", "Were it not met: Below level 1 (proven), Below level 1 possible; today: Level 2"),
        (
            81,
            ("2", "1"),
            "costs",
            "holds the level back. Today: Level 1 (proven), Level 1 possible. Were it met: Level 2",
        ),
        (
            95,
            ("2", "1"),
            "costs_with_others",
            "Level 2 asks for this criterion, and others of that level are not met (1)",
        ),
    ],
)
def test_what_is_lost_or_won_is_told_by_the_names_of_the_levels(used, levels, code, en):
    catalog, card = judged(used, levels)
    stake = stake_of(catalog, card, catalog.criteria["law.a.0"])
    assert stake.reason.code == code
    assert en in texts.stake(texts.speaker("en"), stake, "123", determinable=True)
    assert re.search("Mức [12]", texts.stake(texts.speaker("vi"), stake, "123", determinable=True))


def test_drafts_decide_no_level():
    framework = a_framework(a_criterion("law.a.0", scored=False, standing="draft"))
    catalog = a_catalog([a_check(serves=("law.a.0",))], framework)
    card = score(catalog, judge(catalog, [an_asset()], {}, NOON, TODAY), TODAY)
    stake = stake_of(catalog, card, catalog.criteria["law.a.0"])
    assert (stake.level, stake.levels, stake.reason.code) == (None, None, "draft")
