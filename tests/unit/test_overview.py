"""The director's screen and the difference between two days, from sealed parts only."""

from datetime import date

from controlplane.domain.compare import compare
from controlplane.domain.explain import explain, find_criterion
from controlplane.domain.judge import Seen, judge
from controlplane.domain.model import Verdict, Words
from controlplane.domain.overview import (
    Campaign,
    Hospital,
    Milestone,
    Target,
    blockers,
    group_views,
    milestones_from,
    totals,
)
from controlplane.domain.score import score
from tests.conftest import NOON, TODAY, a_catalog, a_check, a_criterion, a_framework, an_asset, seen

HOSPITAL = Hospital(Words("BV", "H"), Words("Sở", "D"), "BV", "Quảng Ngãi", Words("Giám đốc", "Director"), (), "")
CAMPAIGN = Campaign(
    Words("Chiến dịch", "Campaign"),
    "62",
    date(2025, 8, 1),
    date(2025, 9, 14),
    HOSPITAL,
    (Milestone("infra", Words("Hạ tầng", "Infrastructure"), date(2025, 8, 15), "Tổ hạ tầng", "V.1"),),
    (Target("law", "a", "2", "Tổ hạ tầng", "infra", "VI.3"),),
)
CATALOG = a_catalog(
    [a_check("c0", ("law.a.0",), severity="low"), a_check("c1", ("law.a.1",), severity="critical")],
    a_framework(a_criterion("law.a.0", "1"), a_criterion("law.a.1", "2"), a_criterion("law.a.2", "3")),
)


def judged(value):
    state = {("sv-01", "disk.used_percent"): Seen(seen("sv-01", "disk.used_percent", value))}
    findings = judge(CATALOG, [an_asset()], state, NOON)
    return score(CATALOG, findings, TODAY), findings


def test_a_group_shows_level_target_gap_owner_and_day():
    card, _ = judged(40)
    (view,) = group_views(CATALOG, card, CAMPAIGN)
    assert (view.score.proven, view.target, view.gap, view.owner) == ("2", "2", 0, "Tổ hạ tầng")
    assert view.due_on == date(2025, 8, 15)
    card, _ = judged(91)
    assert group_views(CATALOG, card, CAMPAIGN)[0].gap == 2


def test_days_left_go_below_zero():
    (view,) = milestones_from(CAMPAIGN, date(2025, 8, 18))
    assert view.days_left == -3


def test_blockers_are_what_the_target_needs_the_worst_first_with_an_owner():
    card, findings = judged(91)
    rows = blockers(CATALOG, card, findings, CAMPAIGN)
    assert [b.criterion for b in rows] == ["law.a.1", "law.a.0"]
    assert (rows[0].owner, rows[0].severity, rows[0].holds_assets) == ("Tổ hạ tầng", "critical", 1)
    assert blockers(CATALOG, *judged(40), CAMPAIGN) == ()


def test_totals_count_only_what_is_scored():
    card, _ = judged(91)
    counts, total, drafts, automated = totals(CATALOG, card)
    assert (counts, total, drafts, automated) == ({"not_met": 2, "unknown": 1}, 3, 0, 2)


def test_the_difference_names_what_moved_and_because_of_which_observation():
    before, after = judged(91), judged(40)
    moved = compare(before[0], after[0], before[1], after[1])
    assert [m.criterion for m in moved.criteria] == ["law.a.0", "law.a.1"]
    assert (moved.levels[0].proven_before, moved.levels[0].proven_after) == (None, "2")
    assert moved.findings[0].reason_before.figures["value"] == 91
    assert (moved.met_before, moved.met_after) == (0, 2)
    assert compare(after[0], after[0], after[1], after[1]).empty


def test_an_explanation_goes_from_the_law_to_the_observation():
    card, findings = judged(91)
    o = seen("sv-01", "disk.used_percent", 91)
    e = explain("law.a.1", CATALOG, card, findings, {1: o})
    assert (e.framework.id, e.criterion.clause, e.score.verdict) == ("law", "1", Verdict.NOT_MET)
    assert e.checks[0].findings[0].observation == o
    assert e.assets == (0, 1)
    assert explain("law.a.1", CATALOG, *judged(40), {}).assets == (1, 1)
    assert find_criterion(CATALOG, "law.a.2")[1].checks == ()
