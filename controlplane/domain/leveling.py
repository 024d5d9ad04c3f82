"""Which security level a system falls under: the law's questions, the answers, the rules. It reads no file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from controlplane.domain import forms
from controlplane.domain.forms import CatalogError
from controlplane.domain.model import Words

KINDS = ("yes_no", "count", "level")
CONFIDENCES = ("quoted", "secondary", "recalled", "derived")
DOCUMENT_KEYS = "document title source in_force levels sources questions rules notes".split()
RULE_KEYS = "id level when unless title clause source confidence note".split()
NOTE_KEYS = "id text clause source confidence".split()

Answer = bool | int


class AnswerError(ValueError):
    """An answer that no question asks for, or of the wrong kind. The message names the question."""


@dataclass(frozen=True)
class Question:
    """What is asked of a system: yes or no, how many people, or which level."""

    id: str
    kind: str
    title: Words


@dataclass(frozen=True)
class Line:
    """One condition: the answer is at least so much. Yes is 1, no is 0."""

    question: str
    at_least: int


@dataclass(frozen=True)
class Rule:
    """It holds when every line of ``when`` does and none of ``unless``; then the system has at least ``level``."""

    id: str
    level: str
    when: tuple[Line, ...]
    unless: tuple[Line, ...]
    title: Words
    clause: str
    source: tuple[str, ...]
    confidence: str
    note: Words | None


@dataclass(frozen=True)
class Note:
    """What has to be known before the answers are given."""

    id: str
    text: Words
    clause: str
    source: tuple[str, ...]
    confidence: str


@dataclass(frozen=True)
class Questionnaire:
    """The law's test as data: one more yes, or one person more, never lowers the level."""

    id: str
    title: Words
    source: str
    in_force: tuple[date | None, date | None]
    levels: tuple[str, ...]  # from the lowest to the highest
    questions: tuple[Question, ...]
    rules: tuple[Rule, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Match:
    """A rule that holds, and the answers it holds by."""

    rule: Rule
    because: tuple[tuple[Question, Answer], ...]
    certain: bool  # False: an ``unless`` of it is still open, so a higher rule may yet take over


@dataclass(frozen=True)
class Determination:
    """``level`` is certain by the answers given; ``possible`` is what the open ones could make of it."""

    level: str | None  # None: no rule holds (yet)
    possible: str | None
    matched: tuple[Match, ...]  # the highest first; those of ``level`` decide
    open: tuple[Question, ...]  # unanswered, and a yes or a larger count could raise the level
    notes: tuple[Note, ...]


def make_questionnaire(file: str, document: Any) -> Questionnaire:
    """Read a questionnaire. Raises ``CatalogError`` naming file and entry."""
    forms.keys(file, document, DOCUMENT_KEYS, DOCUMENT_KEYS)
    levels = forms.strings(file, document["levels"], "levels")
    sources = document["sources"]
    if not isinstance(sources, Mapping) or not levels:
        raise CatalogError(f"{file}: sources must be a mapping, and levels may not be empty")
    questions = tuple(_question(file, entry) for entry in forms.mappings(file, document["questions"], "questions"))
    known = {question.id: question for question in questions}
    rules = tuple(_rule(file, e, known, levels, sources) for e in forms.mappings(file, document["rules"], "rules"))
    notes = tuple(_note(file, e, sources) for e in forms.mappings(file, document["notes"], "notes"))
    _hold_together(file, questions, rules, notes, levels)
    return Questionnaire(
        forms.text(file, document, "document"),
        forms.words(file, document["title"]),
        forms.text(file, document, "source"),
        forms.period(file, document["in_force"]),
        levels,
        questions,
        rules,
        notes,
    )


def determine(questionnaire: Questionnaire, answers: Mapping[str, Answer]) -> Determination:
    """The level by the answers so far. A missing answer is open, not a no. Raises ``AnswerError``."""
    given = {name: _measure(questionnaire, name, answer) for name, answer in answers.items()}
    least = {q.id: given.get(q.id, 0) for q in questionnaire.questions}
    most = {q.id: given.get(q.id, math.inf) for q in questionnaire.questions}
    rank = questionnaire.levels.index
    matched = sorted(
        (rule for rule in questionnaire.rules if _holds(rule, least, least)), key=lambda r: (-rank(r.level), r.id)
    )
    reachable = [rule for rule in questionnaire.rules if _holds(rule, most, most)]
    level = matched[0].level if matched else None
    possible = max((rule.level for rule in reachable), key=rank, default=None)
    above = [
        rule
        for rule in questionnaire.rules
        if (level is None or rank(rule.level) > rank(level)) and _holds(rule, most, least)
    ]
    raising = {line.question for rule in above for line in rule.when} - set(given)
    named = {q.id: q for q in questionnaire.questions}
    return Determination(
        level,
        possible,
        tuple(Match(rule, _because(rule, named, answers), _holds(rule, least, most)) for rule in matched),
        tuple(q for q in questionnaire.questions if q.id in raising),
        questionnaire.notes,
    )


def _holds(rule: Rule, for_when: Mapping[str, float], for_unless: Mapping[str, float]) -> bool:
    def met(given: Mapping[str, float], line: Line) -> bool:
        return given[line.question] >= line.at_least

    return all(met(for_when, line) for line in rule.when) and not any(met(for_unless, line) for line in rule.unless)


def _because(
    rule: Rule, named: Mapping[str, Question], answers: Mapping[str, Answer]
) -> tuple[tuple[Question, Answer], ...]:
    asked = dict.fromkeys(line.question for line in (*rule.when, *rule.unless))
    return tuple((named[name], answers[name]) for name in asked if name in answers)


def _measure(questionnaire: Questionnaire, name: str, answer: Any) -> int:
    """An answer as a number: no 0, yes 1, a count itself."""
    kinds = {question.id: question.kind for question in questionnaire.questions}
    if name not in kinds:
        raise AnswerError(f"{name}: no such question{forms.near(name, kinds)}")
    if kinds[name] == "yes_no":
        if not isinstance(answer, bool):
            raise AnswerError(f"{name}: needs true or false, not {answer!r}")
        return int(answer)
    if isinstance(answer, bool) or not isinstance(answer, int) or answer < 0:
        raise AnswerError(f"{name}: needs a whole number that is not negative, not {answer!r}")
    if kinds[name] == "level" and not 1 <= answer <= len(questionnaire.levels):
        raise AnswerError(f"{name}: needs a level from 1 to {len(questionnaire.levels)}, not {answer!r}")
    return answer


# ------------------------------------------------------------------------------------------------ reading


def _question(file: str, entry: Mapping[str, Any]) -> Question:
    where = f"{file}: {entry.get('id', '(no id)')}"
    forms.keys(where, entry, ("id", "kind", "title"), ("id", "kind", "title"))
    kind = forms.one_of(where, entry["kind"], "kind", KINDS)
    return Question(forms.text(where, entry, "id"), kind, forms.words(where, entry["title"]))


def _rule(
    file: str,
    entry: Mapping[str, Any],
    known: Mapping[str, Question],
    levels: Sequence[str],
    sources: Mapping[str, Any],
) -> Rule:
    where = f"{file}: {entry.get('id', '(no id)')}"
    forms.keys(where, entry, RULE_KEYS, "id level when title clause source confidence".split())
    when = _lines(where, entry["when"], "when", known, len(levels))
    if not when:
        raise CatalogError(f"{where}: when needs at least one line")
    return Rule(
        forms.text(where, entry, "id"),
        forms.one_of(where, entry["level"], "level", levels),
        when,
        _lines(where, entry.get("unless") or [], "unless", known, len(levels)),
        forms.words(where, entry["title"]),
        forms.text(where, entry, "clause"),
        _cited(where, entry["source"], sources),
        forms.one_of(where, entry["confidence"], "confidence", CONFIDENCES),
        forms.words(where, entry["note"]) if entry.get("note") else None,
    )


def _lines(where: str, value: Any, key: str, known: Mapping[str, Question], highest: int) -> tuple[Line, ...]:
    if not isinstance(value, list):
        raise CatalogError(f"{where}: {key} must be a list")
    return tuple(_line(where, item, key, known, highest) for item in value)


def _line(where: str, item: Any, key: str, known: Mapping[str, Question], highest: int) -> Line:
    """A yes-or-no question by its name, or how much the answer to another must be at least."""
    if isinstance(item, Mapping):
        forms.keys(f"{where}: {key}", item, ("question", "at_least"), ("question", "at_least"))
        name, bound = item["question"], forms.whole(f"{where}: {key}", item["at_least"], "at_least", 1)
    else:
        name, bound = item, None
    if not isinstance(name, str) or name not in known:
        raise CatalogError(f"{where}: {key}: no question {name!r}{forms.near(str(name), known)}")
    kind = known[name].kind
    if (kind == "yes_no") != (bound is None):
        raise CatalogError(f"{where}: {key}: {name} is {kind}, so at_least is {'too much' if bound else 'missing'}")
    if kind == "level" and bound is not None and bound > highest:
        raise CatalogError(f"{where}: {key}: {name} ends at {highest}")
    return Line(name, 1 if bound is None else bound)


def _note(file: str, entry: Mapping[str, Any], sources: Mapping[str, Any]) -> Note:
    where = f"{file}: {entry.get('id', '(no id)')}"
    forms.keys(where, entry, NOTE_KEYS, NOTE_KEYS)
    return Note(
        forms.text(where, entry, "id"),
        forms.words(where, entry["text"]),
        forms.text(where, entry, "clause"),
        _cited(where, entry["source"], sources),
        forms.one_of(where, entry["confidence"], "confidence", CONFIDENCES),
    )


def _cited(where: str, value: Any, sources: Mapping[str, Any]) -> tuple[str, ...]:
    cited = forms.strings(where, value, "source")
    for name in cited:
        if name not in sources:
            raise CatalogError(f"{where}: no source {name!r}{forms.near(name, sources)}")
    if not cited:
        raise CatalogError(f"{where}: source may not be empty")
    return cited


def _hold_together(
    file: str, questions: Sequence[Question], rules: Sequence[Rule], notes: Sequence[Note], levels: Sequence[str]
) -> None:
    """Ids stand once, every question and every level is used, and no yes can lower the level."""
    seen: set[str] = set()
    for name in (entry.id for part in (questions, rules, notes) for entry in part):
        if name in seen:
            raise CatalogError(f"{file}: {name}: this id stands twice")
        seen.add(name)
    asked = {line.question for rule in rules for line in (*rule.when, *rule.unless)}
    for question in questions:
        if question.id not in asked:
            raise CatalogError(f"{file}: {question.id}: no rule asks for it")
    for level in levels:
        if not any(rule.level == level for rule in rules):
            raise CatalogError(f"{file}: no rule leads to level {level!r}")
    for rule in rules:
        for line in rule.unless:
            if not any(_takes_over(other, rule, line, levels) for other in rules):
                raise CatalogError(
                    f"{file}: {rule.id}: unless {line.question} would lower the level: no higher rule takes over"
                )


def _takes_over(other: Rule, rule: Rule, line: Line, levels: Sequence[str]) -> bool:
    """Whether ``other`` is higher and asks for nothing but what ``rule`` asks for, and ``line``."""
    higher = levels.index(other.level) > levels.index(rule.level)
    return higher and all(
        any(mine.question == o.question and mine.at_least >= o.at_least for mine in (*rule.when, line))
        for o in other.when
    )
