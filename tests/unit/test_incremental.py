"""What was kept and judged again in part is what judging everything gives: the same bytes, over any history."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain import incremental, score
from controlplane.domain.chain import canonical
from controlplane.domain.incremental import Ledger, differing, judge_all, rejudge
from controlplane.domain.judge import Seen, judge
from controlplane.domain.model import Outcome
from controlplane.rounds import make_round
from controlplane.store.archive import Archive, migrate, open_engine
from controlplane.store.vault import Vault
from tests import worlds
from tests.conftest import NOON, TODAY, Clock, a_catalog, a_check, a_criterion, a_framework, a_look, an_asset, seen

IDS = ("law.a.1", "law.a.2")
RANDOMS = st.integers(0, 2**32).map(random.Random)  # a seed repeats a whole history


def bytes_of(ledger: Ledger) -> tuple[bytes, bytes]:
    return canonical(ledger.findings), canonical(ledger.card)


def in_full(world: worlds.World) -> tuple[bytes, bytes]:
    findings = judge(world.catalog, world.assets, world.state, world.now, world.day)
    return canonical(findings), canonical(score.score(world.catalog, findings, world.day))


@given(RANDOMS)
@settings(max_examples=250)
def test_judging_what_changed_gives_the_bytes_of_judging_everything(rnd):
    world = worlds.world(rnd)
    world.fill(rnd.choice((0.0, 0.5, 0.95)))
    ledger = judge_all(world.catalog, world.assets, world.state, world.now, world.day)
    assert bytes_of(ledger) == in_full(world)
    for _ in range(rnd.randint(1, 8)):
        before = dict(world.state)
        changed = world.happens()
        assert differing(before, world.state) <= changed
        ledger = rejudge(ledger, world.catalog, world.assets, world.state, changed, world.now, world.day)
        assert bytes_of(ledger) == in_full(world)
        assert ledger.findings == judge(world.catalog, world.assets, world.state, world.now, world.day)


@given(RANDOMS)
def test_other_rules_other_assets_and_a_clock_set_back_are_judged_in_full(rnd):
    world = worlds.world(rnd)
    world.fill()
    ledger = judge_all(world.catalog, world.assets, world.state, world.now, world.day)
    other = rnd.choice(("rules", "assets", "clock"))
    if other == "rules":
        world.catalog = worlds.catalog_of(worlds.draw_documents(rnd))
    elif other == "assets":
        world.assets = tuple(replace(a, roles=tuple(rnd.sample(worlds.ROLES, 2))) for a in world.assets)
    else:
        world.now -= timedelta(days=rnd.choice((0, 1, 40)), minutes=1)
    ledger = rejudge(ledger, world.catalog, world.assets, world.state, (), world.now, world.day)
    assert bytes_of(ledger) == in_full(world)


@given(RANDOMS)
def test_the_law_of_another_day_is_taken_with_the_evidence_of_now(rnd):
    world = worlds.world(rnd)
    world.fill()
    ledger = judge_all(world.catalog, world.assets, world.state, world.now, world.day)
    changed, law = world.happens(), world.day + timedelta(days=rnd.choice((-40, 0, 60)))
    ledger = rejudge(ledger, world.catalog, world.assets, world.state, changed, world.now, world.day, law)
    findings = judge(world.catalog, world.assets, world.state, world.now, world.day)
    assert canonical(ledger.card) == canonical(score.score(world.catalog, findings, law))


@pytest.fixture
def counted(monkeypatch):
    """How often a pair is judged, a criterion is scored, a group is scored."""
    counts = dict.fromkeys(("judge_pair", "score_criterion", "score_group", "score_overall"), 0)

    def count(name, real):
        def counting(*args):
            counts[name] += 1
            return real(*args)

        return counting

    for module, name in ((incremental, "judge_pair"), (incremental, "score_criterion")):
        monkeypatch.setattr(module, name, count(name, getattr(module, name)))
    for name in ("score_group", "score_overall"):
        monkeypatch.setattr(score, name, count(name, getattr(score, name)))
    return counts


def hospital():
    """30 servers, 20 checks with a criterion each; every figure is good."""
    checks = [a_check(f"c{i:02}", (f"law.a.{i}",), fact=f"f{i:02}") for i in range(20)]
    catalog = a_catalog(checks, a_framework(*(a_criterion(f"law.a.{i}") for i in range(20))))
    assets = [an_asset(f"sv-{i:02}") for i in range(30)]
    state = {(a.name, f"f{i:02}"): Seen(seen(a.name, f"f{i:02}", 40)) for a in assets for i in range(20)}
    return catalog, assets, state


def test_only_what_depends_on_a_change_is_done_again(counted):
    catalog, assets, state = hospital()
    ledger = judge_all(catalog, assets, state, NOON, TODAY)
    counted.update(dict.fromkeys(counted, 0))

    same = rejudge(ledger, catalog, assets, state, (), NOON + timedelta(hours=1), TODAY)
    assert set(counted.values()) == {0}
    assert same.card is ledger.card

    state["sv-07", "f03"] = Seen(seen("sv-07", "f03", 41))  # another figure, the same verdict: no score is touched
    same = rejudge(ledger, catalog, assets, state, {("sv-07", "f03")}, NOON, TODAY)
    assert counted == {"judge_pair": 1, "score_criterion": 0, "score_group": 0, "score_overall": 0}

    state["sv-07", "f03"] = Seen(seen("sv-07", "f03", 99))
    worse = rejudge(same, catalog, assets, state, {("sv-07", "f03")}, NOON, TODAY)
    assert counted == {"judge_pair": 2, "score_criterion": 1, "score_group": 1, "score_overall": 0}
    assert worse.card.groups[0].proven is None


def test_a_finding_turns_stale_at_its_moment_and_not_before():
    catalog, assets, state = hospital()
    ledger = judge_all(catalog, assets, state, NOON, TODAY)
    last = NOON + timedelta(hours=26)
    still = rejudge(ledger, catalog, assets, state, (), last, TODAY)
    assert {str(f.verdict) for f in still.findings} == {"met"}
    stale = rejudge(still, catalog, assets, state, (), last + timedelta(microseconds=1), TODAY)
    assert {str(f.verdict) for f in stale.findings} == {"stale"}
    older = rejudge(stale, catalog, assets, state, (), last + timedelta(hours=1), TODAY)
    assert {f.reason.figures["age_hours"] for f in older.findings} == {27}


def test_two_states_of_a_record_are_told_apart_by_number_and_time():
    before = {("a", "f"): Seen(seen("a", "f", 1)), ("a", "g"): Seen(seen("a", "g", 1)), ("b", "f"): Seen()}
    later = replace(before["a", "f"].answer, seen_at=NOON + timedelta(hours=1))
    failed = Seen(before["a", "g"].answer, replace(before["a", "g"].answer, id=9))
    after = {("a", "f"): Seen(later), ("a", "g"): failed, ("c", "f"): Seen(seen("c", "f", 1))}
    assert differing(before, before) == set()
    assert differing(before, after) == {("a", "f"), ("a", "g"), ("b", "f"), ("c", "f")}


@given(RANDOMS)
@settings(max_examples=12)
def test_from_a_real_record_what_differs_is_enough(tmp_path_factory, rnd):
    """Rounds, confirmations, failures and words kept in SQLite; each time judged from two readings of what stands."""
    folder, clock = tmp_path_factory.mktemp("record"), Clock()
    engine = open_engine(f"sqlite:///{folder / 'emrctl.db'}")
    migrate(engine)
    archive = Archive(engine, Vault(folder / "vault"), folder / "locks")
    catalog = a_catalog([a_check(), a_check("c", (), partly=["law.a.2"])], a_framework(*map(a_criterion, IDS)))
    assets = {"sv-01": an_asset()}
    state, ledger = {}, judge_all(catalog, assets.values(), {}, clock(), TODAY)
    for _ in range(6):
        clock.pass_(hours=rnd.choice((0, 1, 25, 27)))
        if rnd.random() < 0.3:
            body = {"kind": "attestation", "by": "Phòng HC-TH", "statement": "Đã có", "expires_on": "2026-11-25"}
            archive.declare(body | {"criteria": ["law.a.2"]}, clock())
        else:
            said = a_look("sv-01", {"disk.used_percent": rnd.choice((40, 40, 99, Outcome.TIMEOUT))}, clock())
            make_round(catalog, assets, "0" * 64, lambda _, said=said: [said], archive, clock, worlds.ZONE)
        before, state, day = state, archive.state(), clock().astimezone(worlds.ZONE).date()
        ledger = rejudge(ledger, catalog, assets.values(), state, differing(before, state), clock(), day)
        findings = judge(catalog, assets.values(), state, clock(), day)
        assert bytes_of(ledger) == (canonical(findings), canonical(score.score(catalog, findings, day)))
    engine.dispose()
