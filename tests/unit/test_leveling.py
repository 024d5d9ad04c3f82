"""The level of a system: highest match wins, nothing unanswered is a no, one more yes never lowers it."""

from __future__ import annotations

import unicodedata
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.catalog import CatalogError
from controlplane.domain.leveling import AnswerError, Determination, determine, make_questionnaire

FILE = Path(__file__).parents[2] / "checks" / "law" / "level-nd331-2026.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
LAW = make_questionnaire(FILE.name, DOCUMENT)
KINDS = {question.id: question.kind for question in LAW.questions}
NO: dict[str, Any] = {name: {"yes_no": False, "count": 0, "level": 1}[kind] for name, kind in KINDS.items()}
STAFF_ONLY = NO | {"internal": True, "nonpublic": True}


def said(**answers: Any) -> Determination:
    return determine(LAW, NO | answers)


def rank(level: str | None) -> int:
    return 0 if level is None else LAW.levels.index(level) + 1


@pytest.mark.parametrize(
    ("answers", "level", "rule"),
    [
        ({"internal": True}, "1", "nd331.11.1"),
        ({"internal": True, "nonpublic": True}, "2", "nd331.12.1"),
        ({"internal": True, "nonpublic": True, "state_secret": True}, "3", "nd331.13.1"),
        ({"online": True}, "2", "nd331.12.2.a"),
        ({"online": True, "sensitive_subjects": 9_999, "basic_subjects": 99_999}, "2", "nd331.12.2.b"),
        ({"online": True, "sensitive_subjects": 10_000}, "3", "nd331.13.2.c.sensitive"),
        ({"online": True, "basic_subjects": 100_000}, "3", "nd331.13.2.c.basic"),
        ({"online": True, "conditional_business": True}, "3", "nd331.13.2.a"),
        ({"administrative": True}, "3", "nd331.13.2.b"),
        ({"own_infrastructure": True}, "2", "nd331.12.3"),
        ({"wide_infrastructure": True}, "3", "nd331.13.3"),
        ({"internal": True, "eid_link": True}, "3", "nd69.18.1"),
        ({"internal": True, "risk_level": 2}, "2", "nd331.10.5.2"),
        ({"internal": True, "nonpublic": True, "risk_level": 3}, "3", "nd331.10.5.3"),
    ],
)
def test_each_rule_of_the_decree(answers: dict[str, Any], level: str, rule: str) -> None:
    found = said(**answers)
    assert (found.level, found.possible, found.open) == (level, level, ())
    assert rule in {match.rule.id for match in found.matched if match.rule.level == level}
    assert all(match.certain for match in found.matched)


def test_a_hospital_system_for_staff_is_level_two_whatever_its_size() -> None:
    found = determine(LAW, STAFF_ONLY | {"sensitive_subjects": 70_000})  # not online: the count reaches nobody
    assert found.level == found.possible == "2"
    (match,) = found.matched
    assert (match.rule.id, match.rule.clause) == ("nd331.12.1", "NĐ 331/2026 điều 12.1")
    assert [(question.id, answer) for question, answer in match.because] == [
        ("internal", True), ("nonpublic", True), ("state_secret", False),
    ]  # fmt: skip


def test_the_highest_rule_stands_first_and_lower_ones_are_still_said() -> None:
    found = determine(LAW, STAFF_ONLY | {"online": True, "sensitive_subjects": 12_000})
    assert [match.rule.id for match in found.matched] == ["nd331.13.2.c.sensitive", "nd331.12.1", "nd331.12.2.a"]


def test_a_system_that_no_rule_fits_has_no_level() -> None:
    found = said()
    assert (found.level, found.possible, found.matched, found.open) == (None, None, (), ())


def test_what_was_not_asked_stays_open_and_only_what_can_raise_is_named() -> None:
    nothing = determine(LAW, {})
    assert (nothing.level, nothing.possible) == (None, "3")
    assert [question.id for question in nothing.open] == list(KINDS)
    two = determine(LAW, {"internal": True, "nonpublic": True, "online": False})
    assert (two.level, two.possible) == ("2", "3")
    # without an online service neither its business nor its counts can raise anything
    assert [question.id for question in two.open] == [
        "state_secret", "administrative", "wide_infrastructure", "eid_link", "risk_level",
    ]  # fmt: skip
    assert not two.matched[0].certain  # state secrets were not asked yet


def test_the_notes_travel_with_every_answer() -> None:
    assert {note.id for note in said().notes} == {"boundary", "no_splitting", "emr_minimum"}


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"intern": True}, "intern: no such question; did you mean 'internal'?"),
        ({"internal": "có"}, "internal: needs true or false"),
        ({"internal": 1}, "internal: needs true or false"),
        ({"sensitive_subjects": True}, "sensitive_subjects: needs a whole number"),
        ({"sensitive_subjects": -1}, "sensitive_subjects: needs a whole number"),
        ({"basic_subjects": 1.5}, "basic_subjects: needs a whole number"),
        ({"risk_level": 4}, "risk_level: needs a level from 1 to 3"),
        ({"risk_level": 0}, "risk_level: needs a level from 1 to 3"),
    ],
)
def test_a_wrong_answer_is_refused_by_name(answers: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AnswerError) as refused:
        determine(LAW, answers)
    assert sentence in str(refused.value)


def an_answer(kind: str) -> st.SearchStrategy[Any]:
    if kind == "yes_no":
        return st.booleans()
    return st.integers(1, 3) if kind == "level" else st.sampled_from([0, 1, 9_999, 10_000, 99_999, 100_000, 10**9])


WHOLE = st.fixed_dictionaries({name: an_answer(kind) for name, kind in KINDS.items()})
PART = st.fixed_dictionaries({}, optional={name: an_answer(kind) for name, kind in KINDS.items()})


@given(PART, st.sampled_from(sorted(KINDS)), st.data())
def test_more_never_lowers_the_level(answers: dict[str, Any], name: str, data: st.DataObject) -> None:
    more = data.draw(an_answer(KINDS[name]))
    if more < answers.get(name, 0):
        return
    before, after = determine(LAW, answers), determine(LAW, answers | {name: more})
    assert rank(after.level) >= rank(before.level)
    if name in answers:
        assert rank(after.possible) >= rank(before.possible)


@given(PART, WHOLE)
def test_the_last_answer_ends_between_certain_and_possible(answers: dict[str, Any], rest: dict[str, Any]) -> None:
    early, late = determine(LAW, answers), determine(LAW, rest | answers)
    assert rank(early.level) <= rank(late.level) <= rank(early.possible)
    assert late.level == late.possible
    assert late.open == ()


@given(PART)
def test_a_question_is_open_exactly_while_the_level_may_rise(answers: dict[str, Any]) -> None:
    found = determine(LAW, answers)
    assert bool(found.open) == (rank(found.possible) > rank(found.level))
    assert not {question.id for question in found.open} & set(answers)


@given(PART, st.randoms(use_true_random=False))
def test_the_order_of_the_answers_does_not_matter(answers: dict[str, Any], chance: Any) -> None:
    shuffled = list(answers.items())
    chance.shuffle(shuffled)
    assert determine(LAW, dict(shuffled)) == determine(LAW, answers)


# ------------------------------------------------------------------------------------------------ the document


def test_the_shipped_document_is_short_nfc_and_says_where_it_is_from() -> None:
    assert 8 <= len(LAW.questions) <= 12
    text = FILE.read_text(encoding="utf-8")
    assert unicodedata.normalize("NFC", text) == text
    assert {rule.confidence for rule in LAW.rules} == {"quoted", "secondary"}
    assert [rule.id for rule in LAW.rules if rule.confidence == "secondary"] == ["nd69.18.1"]
    assert {name for entry in (*LAW.rules, *LAW.notes) for name in entry.source} == set(DOCUMENT["sources"])


def broken(path: str, value: Any) -> dict[str, Any]:
    """The shipped document with one thing changed; ``rules.0.when`` is a path into it."""
    document = deepcopy(DOCUMENT)
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = document
    for step in way:
        place = place[step]
    place[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("titel", "x", "law.yaml: unknown key 'titel'; did you mean 'title'?"),
        ("levels", [], "levels may not be empty"),
        ("questions.0.kind", "text", "law.yaml: internal: kind must be one of"),
        ("questions.0.help", "x", "law.yaml: internal: unknown key 'help'"),
        ("rules.1.id", "nd331.11.1", "law.yaml: nd331.11.1: this id stands twice"),
        ("rules.0.level", "4", "law.yaml: nd331.11.1: level must be one of 1, 2, 3"),
        ("rules.0.level", 1, "law.yaml: nd331.11.1: level must be one of 1, 2, 3"),
        ("rules.0.when", ["intern"], "nd331.11.1: when: no question 'intern'; did you mean 'internal'?"),
        ("rules.0.when", [], "nd331.11.1: when needs at least one line"),
        ("rules.0.when", ["sensitive_subjects"], "sensitive_subjects is count, so at_least is missing"),
        ("rules.0.when", [{"question": "internal", "at_least": 1}], "internal is yes_no, so at_least is too much"),
        ("rules.0.when", [{"question": "risk_level", "at_least": 4}], "risk_level ends at 3"),
        ("rules.0.when", [{"question": "basic_subjects", "at_least": 0}], "whole number of at least 1"),
        ("rules.5.unless", ["online"], "nd331.13.1: unless online would lower the level: no higher rule takes over"),
        ("rules.0.confidence", "sure", "nd331.11.1: confidence must be one of"),
        ("rules.0.source", ["P9"], "nd331.11.1: no source 'P9'"),
        ("rules.0.source", [], "nd331.11.1: source may not be empty"),
        ("rules.0.title", {"vi": "Một"}, "nd331.11.1: a sentence needs both tongues"),
        ("notes.0.clause", "", "boundary: clause must be text"),
        ("in_force", ["2026-08-19"], "in_force must be [from, until]"),
        ("rules", {}, "rules must be a list of mappings"),
    ],
)
def test_a_broken_document_is_refused_by_name(path: str, value: Any, sentence: str) -> None:
    with pytest.raises(CatalogError) as refused:
        make_questionnaire("law.yaml", broken(path, value))
    assert sentence in str(refused.value)


def test_a_question_that_no_rule_asks_for_and_a_level_without_a_rule_are_refused() -> None:
    idle = {"id": "idle", "kind": "yes_no", "title": {"vi": "Thừa?", "en": "Idle?"}}
    with pytest.raises(CatalogError, match="idle: no rule asks for it"):
        make_questionnaire("law.yaml", DOCUMENT | {"questions": [*DOCUMENT["questions"], idle]})
    with pytest.raises(CatalogError, match="no rule leads to level '4'"):
        make_questionnaire("law.yaml", DOCUMENT | {"levels": ["1", "2", "3", "4"]})
    with pytest.raises(CatalogError, match=r"law\.yaml: must be a mapping"):
        make_questionnaire("law.yaml", [])
