"""Findings to criteria to levels: only met counts, drafts decide nothing, denominators are fixed."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.chain import canonical
from controlplane.domain.model import Finding, Reason, Verdict
from controlplane.domain.score import score
from tests.conftest import TODAY, a_catalog, a_check, a_criterion, a_framework

VERDICTS = list(Verdict)
# From worst to best evidence, as far as a level is concerned.
RANK = {
    Verdict.NOT_MET: 0,
    Verdict.WAIVED: 0,
    Verdict.UNKNOWN: 1,
    Verdict.STALE: 1,
    Verdict.MET: 2,
}


def world(levels=("1", "1", "2", "3"), rule="cumulative", **group):
    criteria = [a_criterion(f"law.a.{i}", level) for i, level in enumerate(levels)]
    checks = [a_check(f"c{i}", (f"law.a.{i}",)) for i in range(len(levels))]
    return a_catalog(checks, a_framework(*criteria, rule=rule, **group))


def card_of(catalog, verdicts, day=TODAY):
    findings = [Finding(f"c{i}", "sv-01", v, Reason("test")) for i, v in enumerate(verdicts)]
    return score(catalog, findings, day)


def group_of(catalog, verdicts, day=TODAY):
    return card_of(catalog, verdicts, day).groups[0]


M, N, S, U, W, X = (
    Verdict.MET,
    Verdict.NOT_MET,
    Verdict.STALE,
    Verdict.UNKNOWN,
    Verdict.WAIVED,
    Verdict.NOT_APPLICABLE,
)


@pytest.mark.parametrize(
    ("verdicts", "proven", "possible"),
    [
        ([M, M, M, M], "3", "3"),
        ([M, M, M, N], "2", "2"),
        ([M, M, N, M], "1", "1"),
        ([M, N, M, M], None, None),
        ([M, M, U, M], "1", "3"),
        ([M, M, S, M], "1", "3"),
        ([M, M, W, M], "1", "1"),
        ([M, U, M, N], None, "2"),
        ([X, X, M, M], None, "3"),
        ([M, X, M, M], "3", "3"),
        ([U, U, U, U], None, "3"),
    ],
)
def test_a_level_is_a_pair_of_proven_and_possible(verdicts, proven, possible):
    group = group_of(world(), verdicts)
    assert (group.proven, group.possible) == (proven, possible)


def test_in_a_framework_of_own_sets_a_level_asks_for_its_own_criteria_only():
    criteria = [a_criterion("law.a.0", "1"), a_criterion("law.a.1", "1") | {"levels": ["1", "2"]}]
    checks = [a_check("c0", ("law.a.0",)), a_check("c1", ("law.a.1",))]
    catalog = a_catalog(checks, a_framework(*criteria, rule="own_set"))
    group = group_of(catalog, [N, M])
    assert group.proven == "2"


def test_all_of_nothing_is_unknown():
    catalog = a_catalog([], a_framework())
    group = score(catalog, [], TODAY).groups[0]
    assert (group.proven, group.total) == (None, 0)


def test_a_criterion_without_a_check_is_unknown_and_says_so():
    catalog = a_catalog([], a_framework(a_criterion()))
    (criterion,) = score(catalog, [], TODAY).criteria
    assert (criterion.verdict, criterion.reason.code) == (U, "no_check")


def test_a_draft_decides_nothing_and_is_counted_apart():
    draft = a_criterion("law.a.9", "1", standing="draft", scored=False, confidence="recalled")
    catalog = a_catalog(
        [a_check("c0", ("law.a.0",)), a_check("c9", ("law.a.9",))], a_framework(a_criterion("law.a.0"), draft)
    )
    findings = [Finding("c0", "sv-01", M, Reason("t")), Finding("c9", "sv-01", N, Reason("t"))]
    group = score(catalog, findings, TODAY).groups[0]
    assert (group.proven, group.total, group.drafts) == ("1", 1, 1)


def test_where_the_official_list_was_not_seen_no_level_is_proven():
    group = group_of(world(list_complete=False), [M, M, M, M])
    assert (group.determinable, group.proven, group.reason.code) == (False, None, "list_not_complete")
    assert group_of(world(list_complete=False), [M, M, N, M]).possible == "1"


def test_a_group_out_of_force_proves_no_level():
    catalog = world(in_force=[None, "2025-06-06"])
    assert group_of(catalog, [M, M, M, M], date(2025, 6, 5)).proven == "3"
    assert group_of(catalog, [M, M, M, M], date(2025, 6, 6)).determinable is False


def test_a_text_without_levels_shows_its_share_and_no_level():
    catalog = world(rule="share")
    group = group_of(catalog, [M, M, M, M])
    assert (group.determinable, group.proven, group.possible, group.reason.code) == (False, None, None, "share")
    assert (group.counts, group.total) == ({"met": 4}, 4)
    assert group_of(catalog, [M, N, M, U]).counts == {"met": 2, "not_met": 1, "unknown": 1}


def test_a_framework_is_scored_only_while_it_is_in_force():
    assert card_of(world(), [M] * 4, date(2024, 12, 31)).groups == ()


def test_one_criterion_of_two_checks_needs_both():
    catalog = a_catalog([a_check("c0"), a_check("c1")], a_framework(a_criterion()))
    assert card_of(catalog, [M, M]).criteria[0].verdict is M
    assert card_of(catalog, [M, U]).criteria[0].verdict is U
    assert card_of(catalog, [U, N]).criteria[0].verdict is N
    assert card_of(catalog, [U, W]).criteria[0].verdict is W


verdict_lists = st.lists(st.sampled_from(list(RANK)), min_size=4, max_size=4)


@given(verdict_lists, st.integers(0, 3), st.sampled_from(list(RANK)), st.sampled_from(["cumulative", "own_set"]))
def test_better_evidence_never_lowers_a_level(verdicts, at, better, rule):
    catalog = world(rule=rule)
    if RANK[better] < RANK[verdicts[at]]:
        return
    improved = [*verdicts[:at], better, *verdicts[at + 1 :]]
    before, after = group_of(catalog, verdicts), group_of(catalog, improved)
    assert (after.proven or "0") >= (before.proven or "0")
    if RANK[verdicts[at]] != 1:  # an unknown that turns out badly may lower what was only possible
        assert (after.possible or "0") >= (before.possible or "0")


@given(verdict_lists, st.sampled_from(["cumulative", "own_set"]))
def test_proven_is_never_above_possible_and_denominators_are_fixed(verdicts, rule):
    group = group_of(world(rule=rule), verdicts)
    assert (group.proven or "0") <= (group.possible or "0")
    assert group.total == 4
    assert sum(group.counts.values()) == 4


@given(verdict_lists)
def test_possible_is_reached_when_every_unknown_turns_out_well(verdicts):
    catalog = world()
    best = [M if RANK[v] == 1 else v for v in verdicts]
    assert group_of(catalog, best).proven == group_of(catalog, verdicts).possible


@given(verdict_lists)
def test_a_waiver_never_lifts_a_level(verdicts):
    catalog = world()
    waived = [W if v is N else v for v in verdicts]
    assert group_of(catalog, waived).proven == group_of(catalog, verdicts).proven
    assert group_of(catalog, waived).possible == group_of(catalog, verdicts).possible


@given(verdict_lists, st.randoms())
def test_the_order_of_findings_does_not_matter(verdicts, random):
    catalog = world()
    findings = [Finding(f"c{i}", "sv-01", v, Reason("test")) for i, v in enumerate(verdicts)]
    shuffled = findings.copy()
    random.shuffle(shuffled)
    assert canonical(score(catalog, findings, TODAY)) == canonical(score(catalog, shuffled, TODAY))


def test_a_check_that_is_only_needed_can_show_a_criterion_not_met_but_never_met():
    catalog = a_catalog([a_check("c0", (), partly=["law.a.1"])], a_framework(a_criterion()))
    assert card_of(catalog, [N]).criteria[0].verdict is N
    (criterion,) = card_of(catalog, [M]).criteria
    assert (criterion.verdict, criterion.reason.code) == (U, "partly")
    assert card_of(catalog, [M]).groups[0].automated == 0
    both = a_catalog([a_check("c0", (), partly=["law.a.1"]), a_check("c1")], a_framework(a_criterion()))
    assert card_of(both, [M, M]).criteria[0].verdict is M
    assert card_of(both, [N, M]).criteria[0].verdict is N
