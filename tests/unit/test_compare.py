"""What moved between two judgements, and because of what: down to the observation, the run, the word or the rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from controlplane.domain.compare import Cause, CauseKind, Run, Side, because
from controlplane.domain.declared import fact_of
from controlplane.domain.judge import Seen, judge
from controlplane.domain.model import SITE, Asset, Catalog, Observation
from controlplane.domain.score import score
from tests.conftest import NOON, TODAY, a_catalog, a_check, a_criterion, a_framework, an_asset, seen

ID, FACT = "law.a.1", "disk.used_percent"
LATER = NOON + timedelta(hours=2)
CATALOG = a_catalog([a_check()], a_framework(a_criterion()))


def side(
    value: int | None,
    at: datetime = NOON,
    *,
    now: datetime | None = None,
    number: int = 1,
    catalog: Catalog = CATALOG,
    assets: tuple[Asset, ...] = (an_asset(),),
    said: Observation | None = None,
    day: date = TODAY,
) -> Side:
    state = {("sv-01", FACT): Seen(replace(seen("sv-01", FACT, value, at), id=number))} if value is not None else {}
    if said is not None:
        state[SITE, fact_of(ID)] = Seen(said)
    findings = judge(catalog, assets, state, now or at, day)
    return Side(catalog, score(catalog, findings, day), findings)


def why(before: Side, after: Side, *runs: Run, **observed: Any) -> tuple[Cause, ...]:
    observations = {
        1: replace(seen("sv-01", FACT, 91), id=1),
        2: replace(seen("sv-01", FACT, 40, LATER), id=2),
    }
    (move,) = because(before, after, observations, runs).criteria
    assert move.criterion == ID
    return move.causes


def test_a_device_that_answers_otherwise_is_the_cause_with_both_observations():
    (cause,) = why(side(91), side(40, LATER, number=2))
    assert (cause.kind, cause.check, cause.asset) == (CauseKind.OBSERVATION, "server.disk", "sv-01")
    assert (cause.observation_before, cause.observation_after) == (1, 2)
    assert (cause.before and cause.before.figures["value"], cause.after and cause.after.figures["value"]) == (91, 40)


def test_a_play_applied_between_the_two_answers_is_named():
    run = Run("r1", frozenset({"sv-01"}), NOON + timedelta(minutes=5), NOON + timedelta(minutes=9))
    other = Run("r2", frozenset({"pc-01"}), run.started_at, run.ended_at)
    late = Run("r3", frozenset({"sv-01"}), LATER, LATER + timedelta(minutes=1))
    (cause,) = why(side(91), side(40, LATER, number=2), run, other, late)
    assert (cause.kind, cause.run) == (CauseKind.RUN, "r1")
    (cause,) = why(side(91), side(40, LATER, number=2), other, late)
    assert cause.kind is CauseKind.OBSERVATION


def test_an_answer_that_nobody_renewed_ran_out_of_time():
    (cause,) = why(side(40), side(40, NOON, now=NOON + timedelta(days=3)))
    assert cause.kind is CauseKind.TIME


def test_a_waiver_that_ended_is_the_cause():
    waiver = {"check": "server.disk", "asset": None, "reason": "chờ mua ổ", "approver": "Giám đốc"}
    waived = a_catalog([a_check()], a_framework(a_criterion()), {"waivers": [waiver | {"expires_on": "2026-11-23"}]})
    (cause,) = why(side(91, catalog=waived), side(91, catalog=waived, day=date(2026, 11, 24)))
    assert cause.kind is CauseKind.WAIVER


def test_an_asset_that_came_is_the_cause():
    before = side(40)
    (cause,) = why(before, side(40, assets=(an_asset(), an_asset("sv-02"))))
    assert (cause.kind, cause.asset) == (CauseKind.ASSET, "sv-02")


def test_a_word_is_the_cause_and_so_is_its_end():
    catalog = a_catalog([], a_framework(a_criterion()))
    value = {"kind": "attestation", "by": "Phòng HC-TH", "statement": "Đã có", "expires_on": "2026-11-30"}
    said = replace(seen(SITE, fact_of(ID), value), id=-7)
    given = side(None, catalog=catalog, said=said)
    (cause,) = why(side(None, catalog=catalog), given)
    assert (cause.kind, cause.observation_after) == (CauseKind.WORD, -7)
    (cause,) = why(given, side(None, catalog=catalog, said=said, day=date(2026, 12, 1)))
    assert cause.kind is CauseKind.TIME


def test_a_rule_that_changed_is_said_before_what_it_made_move():
    strict = a_catalog(
        [a_check(expect={"at_most": 30}, examples={"met": [20], "not_met": [91]})], a_framework(a_criterion())
    )
    causes = why(side(40), side(40, catalog=strict))
    assert [c.kind for c in causes] == [CauseKind.RULE, CauseKind.OBSERVATION]


def test_a_law_that_ended_takes_its_criteria_with_it():
    ended = a_framework(a_criterion()) | {"in_force": ["2025-01-01", "2026-11-24"]}
    catalog = a_catalog([a_check()], ended)
    (cause,) = why(side(40, catalog=catalog), side(40, catalog=catalog, day=date(2026, 11, 24)))
    assert cause.kind is CauseKind.LAW


def test_nothing_moves_nothing():
    assert because(side(40), side(40), {}).empty
