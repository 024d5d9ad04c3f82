"""Until when a score stands: what is foretold is what judging at that moment gives."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from controlplane.domain.decay import DAYS, expiring, good_until, levels_until, stay_met
from controlplane.domain.declared import fact_of
from controlplane.domain.incremental import Ledger, judge_all
from controlplane.domain.judge import Seen, judge
from controlplane.domain.model import SITE, Verdict
from controlplane.domain.score import HOLDS, score
from tests import worlds
from tests.conftest import NOON, TODAY, a_catalog, a_check, a_criterion, a_framework, an_asset, seen
from tests.worlds import ZONE

RANDOMS = st.integers(0, 2**32).map(random.Random)
TICK = timedelta(microseconds=1)


def ledger_of(world: worlds.World) -> Ledger:
    return judge_all(world.catalog, world.assets, world.state, world.now, world.day)


def scores_at(world: worlds.World, at: datetime):
    """Judged in full at a later moment, by the laws of now."""
    findings = judge(world.catalog, world.assets, world.state, at, at.astimezone(ZONE).date())
    card = score(world.catalog, findings, world.day)
    return {c.id: c.verdict for c in card.criteria}, {(g.framework, g.group): g.proven for g in card.groups}


@given(RANDOMS)
@example(random.Random(28335))  # noqa: S311 - a word that takes effect later carries a measured criterion on, and ends in its turn
@example(random.Random(3745653928))  # noqa: S311 - the only criterion of a level no longer applies when a word ends
@settings(max_examples=200)
def test_a_criterion_and_a_level_stand_until_then_and_no_longer(rnd):
    world = worlds.lived_in(rnd)
    ledger = ledger_of(world)
    endings = good_until(ledger, world.state, ZONE)
    assert set(endings) == {id_ for id_, one in ledger.scores.items() if one.verdict in HOLDS}
    for id_, end in endings.items():
        for at in [world.now + timedelta(days=d) for d in (0, 1, 30, 400)] if end is None else [world.now, end.until]:
            assert scores_at(world, at)[0][id_] in HOLDS
        assert end is None or scores_at(world, end.until + TICK)[0][id_] not in HOLDS
    levels = levels_until(ledger, world.state, endings, ZONE)
    proven = {(g.framework, g.group): g.proven for g in ledger.card.groups if g.proven}
    assert set(levels) == set(proven)
    for key, end in levels.items():
        later = world.now + timedelta(days=400) if end is None else end.until
        assert int(scores_at(world, later)[1][key] or 0) >= int(proven[key])
        if end is not None and endings[end.criterion] != end:  # what no longer applies still holds, and proves nothing
            after = scores_at(world, end.until + TICK)
            assert after[0][end.criterion] is Verdict.NOT_APPLICABLE
            assert after[1][key] is None or int(after[1][key]) < int(proven[key])


@given(RANDOMS)
@settings(max_examples=200)
def test_the_series_and_the_list_are_what_judging_then_gives(rnd):
    world = worlds.lived_in(rnd)
    ledger = ledger_of(world)
    scored = {id_ for id_, c in world.catalog.criteria.items() if c.scored}
    met = {id_ for id_, one in ledger.scores.items() if one.verdict is Verdict.MET} & scored
    series = stay_met(ledger, world.state, ZONE)
    for days in DAYS:
        then, _ = scores_at(world, world.now + timedelta(days=days))
        assert series[days] == sum(1 for id_ in met if then[id_] is Verdict.MET)
    soon = expiring(ledger, world.state, ZONE, 30)
    fatal = {end for end in good_until(ledger, world.state, ZONE).values() if end is not None}
    assert {end for end in fatal if end.until <= world.now + timedelta(days=30)} <= set(soon)
    assert all(end.until <= world.now + timedelta(days=30) for end in soon)


def a_word(**changes):
    value = {"kind": "document", "by": "Phòng HC-TH", "statement": "Đã có", "number": "12/QĐ-BVNT"}
    return seen(SITE, fact_of("law.a.1"), value | {"issued_on": "2026-11-01", "expires_on": "2026-11-30"} | changes)


def small(said=None, *, covered=True, kind="required", **check):
    serving = {"serves": ["law.a.1"]} if covered else {"serves": [], "partly": ["law.a.1"]}
    catalog = a_catalog([a_check() | serving | check], a_framework(a_criterion(kind=kind)))
    early = replace(seen("sv-02", "disk.used_percent", 40), seen_at=NOON - timedelta(hours=3))
    state = {
        ("sv-01", "disk.used_percent"): Seen(seen("sv-01", "disk.used_percent", 40)),
        ("sv-02", early.fact): Seen(early),
    }
    if said is not None:
        state[SITE, fact_of("law.a.1")] = Seen(said)
    return judge_all(catalog, [an_asset("sv-01"), an_asset("sv-02")], state, NOON, TODAY), state


def test_the_oldest_of_its_measurements_ends_a_criterion():
    ledger, state = small()
    end = good_until(ledger, state, ZONE)["law.a.1"]
    assert (end.until, end.check, end.asset) == (NOON + timedelta(hours=23), "server.disk", "sv-02")
    assert levels_until(ledger, state, {"law.a.1": end}, ZONE) == {("law", "a"): end}
    assert stay_met(ledger, state, ZONE) == {1: 0, 7: 0, 30: 0, 90: 0}
    assert [e.asset for e in expiring(ledger, state, ZONE, 2)] == ["sv-02", "sv-01"]
    assert expiring(ledger, state, ZONE, 0) == ()


def test_a_word_ends_with_its_last_day_in_the_hospitals_zone_and_names_its_document():
    ledger, state = small(a_word(), covered=False, fresh_within="90d")
    end = good_until(ledger, state, ZONE)["law.a.1"]
    assert end.until.astimezone(ZONE).isoformat() == "2026-11-30T23:59:59.999999+07:00"
    assert (end.check, end.asset, end.document) == ("declared.law.a.1", SITE, "12/QĐ-BVNT")
    assert stay_met(ledger, state, ZONE) == {1: 1, 7: 1, 30: 0, 90: 0}
    assert [e.document for e in expiring(ledger, state, ZONE, 8)] == ["12/QĐ-BVNT"]


def test_what_the_checks_still_prove_outlives_the_word_beside_it():
    ledger, state = small(a_word(kind="other_value"), kind="suggested", fresh_within="90d")
    assert good_until(ledger, state, ZONE)["law.a.1"].check == "server.disk"


def test_a_document_without_an_end_ends_by_no_evidence():
    ledger, state = small(a_word(expires_on=None), role="printers", covered=False)
    assert good_until(ledger, state, ZONE) == {"law.a.1": None}
    assert levels_until(ledger, state, {"law.a.1": None}, ZONE) == {("law", "a"): None}
