"""A person's word is judged like a measurement: it has days, it completes checks, and it never stands in for one."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.declared import Word, WordError, fact_of, judge_word, vet
from controlplane.domain.judge import Seen, judge
from controlplane.domain.model import SITE, Catalog, CriterionScore, Declared, Observation, Proof, Verdict
from controlplane.domain.score import score
from tests.conftest import NOON, TODAY, a_catalog, a_check, a_criterion, a_framework, an_asset, seen

ID = "law.a.1"
M, N, S, U, X = Verdict.MET, Verdict.NOT_MET, Verdict.STALE, Verdict.UNKNOWN, Verdict.NOT_APPLICABLE


def word(kind: str = "attestation", **changes: object) -> Observation:
    value = {"kind": kind, "by": "Phòng HC-TH", "statement": "Đã có", "expires_on": "2027-06-30", "documents": []}
    return seen(SITE, fact_of(ID), value | changes)


def catalog_with(criterion: dict[str, object], *checks: dict[str, object]) -> Catalog:
    return a_catalog(list(checks), a_framework(criterion))


def judged(catalog: Catalog, values: list[int | None], said: Observation | None, day: date = TODAY) -> CriterionScore:
    assets = [an_asset(f"sv-{i}") for i in range(len(values))]
    fact = "disk.used_percent"
    state = {(f"sv-{i}", fact): Seen(seen(f"sv-{i}", fact, v)) for i, v in enumerate(values) if v is not None}
    if said is not None:
        state[SITE, fact_of(ID)] = Seen(said)
    card = score(catalog, judge(catalog, assets, state, NOON, day), day)
    return card.criteria[0]


def test_a_criterion_that_no_check_looks_at_is_met_by_a_word_until_its_last_day():
    catalog = catalog_with(a_criterion())
    assert judged(catalog, [], word()).verdict is M
    assert judged(catalog, [], word()).proof is Proof.DECLARED
    assert judged(catalog, [], word(), date(2027, 6, 30)).verdict is M
    late = judged(catalog, [], word(), date(2027, 7, 1))
    assert (late.verdict, late.reason.code) == (S, "declared_expired")


def test_a_document_counts_from_the_day_it_takes_effect_and_not_longer_than_the_law_allows():
    criterion = a_criterion(params={"max_age_days": {"l1": 365, "l2": 183}}, automatable="document")
    said = word("document", issued_on="2026-11-01", effective_on="2026-12-01", signer="Giám đốc", expires_on=None)
    catalog = catalog_with(criterion)
    early = judged(catalog, [], said)
    assert (early.verdict, early.reason.code) == (U, "declared_not_yet")
    assert judged(catalog, [], said, date(2026, 12, 1)).verdict is M
    assert judged(catalog, [], said, date(2026, 11, 1) + timedelta(days=183)).verdict is M
    assert judged(catalog, [], said, date(2026, 11, 1) + timedelta(days=184)).verdict is S


def test_an_attestation_does_not_do_for_a_criterion_that_asks_for_a_document():
    score_ = judged(catalog_with(a_criterion(automatable="document")), [], word())
    assert (score_.verdict, score_.reason.code) == (U, "declared_document_needed")


def test_a_withdrawn_word_was_never_given():
    score_ = judged(catalog_with(a_criterion()), [], word("withdrawn"))
    assert (score_.verdict, score_.reason.code) == (U, "no_check")


def test_a_word_that_a_check_contradicts_is_flagged_and_never_averaged():
    catalog = catalog_with(a_criterion(), a_check())
    measured = judged(catalog, [40] * 29 + [99] * 6, word(count=35))
    assert (measured.verdict, measured.contradicted) == (N, True)
    assert measured.findings == {"met": 29, "not_met": 6}
    assert measured.proof is Proof.MEASURED


def test_a_word_never_stands_in_for_a_measurement_that_is_missing():
    catalog = catalog_with(a_criterion(), a_check())
    assert judged(catalog, [None], word()).verdict is U
    assert judged(catalog, [40], word()).verdict is M


def test_checks_that_prove_a_part_are_completed_by_a_word_and_only_when_all_are_met():
    catalog = catalog_with(a_criterion(), a_check("c", (), partly=[ID]))
    assert judged(catalog, [40], None).reason.code == "partly"
    assert (judged(catalog, [40], word()).verdict, judged(catalog, [40], word()).proof) == (M, Proof.MIXED)
    assert judged(catalog, [40, None], word()).verdict is U
    assert (judged(catalog, [40, 99], word()).verdict, judged(catalog, [40, 99], word()).contradicted) == (N, True)
    assert judged(catalog, [], word()).verdict is M  # nobody bears the role: nothing there to measure
    assert judged(catalog, [], None).verdict is U


def test_a_suggested_value_may_be_replaced_with_written_reasons():
    catalog = catalog_with(a_criterion(kind="suggested"), a_check())
    other = judged(catalog, [99], word("other_value"))
    assert (other.verdict, other.contradicted, other.proof) == (M, False, Proof.DECLARED)
    required = catalog_with(a_criterion(), a_check())
    assert judged(required, [99], word("other_value")).verdict is N


def test_a_conditional_requirement_may_be_declared_not_applicable_unless_it_is_measured_not_met():
    catalog = catalog_with(a_criterion(kind="conditional"), a_check())
    assert judged(catalog, [], word("not_applicable")).verdict is X
    assert judged(catalog, [99], word("not_applicable")).verdict is N
    assert judged(catalog, [99], word("not_applicable")).contradicted
    assert judged(catalog, [None], word("not_applicable")).verdict is U
    assert judged(catalog, [40], word("not_applicable")).verdict is M
    assert judged(catalog_with(a_criterion()), [], word("not_applicable")).verdict is U


KINDS = st.sampled_from(["attestation", "document", "other_value", "not_applicable", "withdrawn"])
VALUES = st.lists(st.sampled_from([40, 99, None]), max_size=3)
GOOD = {M, X}


@given(VALUES, KINDS, st.sampled_from(["required", "suggested", "conditional"]), st.booleans(), st.data())
def test_losing_an_observation_never_turns_a_criterion_good(values, kind, criterion_kind, proves, data):
    check = a_check("c", (ID,)) if proves else a_check("c", (), partly=[ID])
    catalog = catalog_with(a_criterion(kind=criterion_kind), check)
    said = data.draw(st.sampled_from([None, word(kind, issued_on="2026-11-01")]))
    if not values:
        return
    lost = data.draw(st.integers(0, len(values) - 1))
    before = judged(catalog, values, said)
    after = judged(catalog, [None if i == lost else v for i, v in enumerate(values)], said)
    assert not (after.verdict in GOOD and before.verdict not in GOOD)


@given(VALUES, KINDS, st.sampled_from(["required", "suggested", "conditional"]), st.booleans())
def test_losing_a_word_never_turns_a_criterion_good(values, kind, criterion_kind, proves):
    check = a_check("c", (ID,)) if proves else a_check("c", (), partly=[ID])
    catalog = catalog_with(a_criterion(kind=criterion_kind), check)
    with_word = judged(catalog, values, word(kind, issued_on="2026-11-01"))
    without = judged(catalog, values, None)
    assert not (without.verdict in GOOD and with_word.verdict not in GOOD)


def a_word(**changes: object) -> Word:
    fields: dict[str, object] = {
        "criteria": (ID,), "kind": Declared.ATTESTATION, "by": "Phòng HC-TH", "statement": "Đã có",
        "expires_on": date(2027, 6, 30),
    }  # fmt: skip
    return Word(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"criteria": ()}, "no_criterion"),
        ({"criteria": ("law.a.9",)}, "unknown_criterion"),
        ({"by": " "}, "empty"),
        ({"statement": ""}, "empty"),
        ({"kind": Declared.OTHER_VALUE}, "only_suggested"),
        ({"kind": Declared.NOT_APPLICABLE}, "only_conditional"),
        ({"kind": Declared.DOCUMENT}, "document_incomplete"),
        ({"expires_on": None}, "no_end"),
        ({"expires_on": date(2026, 11, 22)}, "past"),
        ({"issued_on": date(2026, 11, 24)}, "issued_later"),
        ({"effective_on": date(2027, 7, 1)}, "ends_before_it_begins"),
        ({"count": -1}, "bad_count"),
    ],
)
def test_a_word_that_would_prove_nothing_is_refused_before_it_is_kept(changes, code):
    catalog = catalog_with(a_criterion())
    with pytest.raises(WordError) as refused:
        vet(catalog, a_word(**changes), 0, TODAY)
    assert refused.value.reason.code == code
    vet(catalog, a_word(), 0, TODAY)


def test_a_word_is_traced_to_its_link_and_its_document():
    catalog = catalog_with(a_criterion())
    finding = judge_word(catalog.criteria[ID], word(), TODAY)
    assert finding is not None
    assert (finding.asset, finding.check, finding.observation) == (SITE, f"declared.{ID}", 1)
    assert finding.raw_digest is not None
