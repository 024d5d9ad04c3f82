"""A hospital kept judged, so that looking again costs what changed: equal to ``judge`` and ``score`` done in full.

What a finding can depend on: the observation behind it, the rules, the assets, and time. Catalog or assets that are
not the same, or a clock set back, mean judging in full; there is no second way to judge a pair or to score a criterion.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property

from controlplane.domain.declared import fact_of
from controlplane.domain.judge import (
    NEVER,
    NOTHING,
    Pair,
    Seen,
    State,
    criterion_of,
    judge_pair,
    judge_said,
    judge_words,
    pairs,
    turns_at,
)
from controlplane.domain.model import Asset, Catalog, CriterionScore, Finding, Scorecard
from controlplane.domain.score import assemble, groups_in_force, score, score_criterion, weight

Key = tuple[str, str]
"""(asset, fact), as in ``State``."""


@dataclass(frozen=True)
class Plan:
    """Who is judged by what, in the order of the findings; a place is an index into ``pairs``."""

    catalog: Catalog
    assets: tuple[Asset, ...]
    pairs: tuple[Pair, ...]
    span: Mapping[str, slice]  # check -> the places of its findings
    places: Mapping[Key, tuple[int, ...]]  # (asset, fact) -> where it is judged
    waivable: frozenset[int]  # places whose check a waiver names: they can change with the day


@dataclass(frozen=True)
class Ledger:
    """A hospital judged and scored at a moment, with what the next judging starts from."""

    plan: Plan
    now: datetime
    day: date
    law: date
    measured: tuple[Finding, ...]  # one for each place
    turns: tuple[datetime, ...]  # per place: when time alone changes the finding
    next_turn: datetime
    words: Mapping[str, Finding]  # criterion -> what a person's word about it is worth
    scores: Mapping[str, CriterionScore]
    card: Scorecard

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What ``judge`` gives."""
        return (*self.measured, *(self.words[id_] for id_ in sorted(self.words)))


def judge_all(
    catalog: Catalog, assets: Iterable[Asset], state: State, now: datetime, day: date, law: date | None = None
) -> Ledger:
    """Judge and score in full. ``law`` is the day by which frameworks are in force; without it ``day``."""
    plan = make_plan(catalog, tuple(assets))
    measured = tuple(judge_pair(catalog, pair, state, now, day) for pair in plan.pairs)
    words = judge_words(catalog, state, day)
    turns = tuple(_turn(pair, state, now) for pair in plan.pairs)
    card = score(catalog, (*measured, *words.values()), law or day)
    scores = {c.id: c for c in card.criteria}
    return Ledger(plan, now, day, law or day, measured, turns, min(turns, default=NEVER), words, scores, card)


def rejudge(
    ledger: Ledger,
    catalog: Catalog,
    assets: Iterable[Asset],
    state: State,
    changed: Collection[Key],
    now: datetime,
    day: date,
    law: date | None = None,
) -> Ledger:
    """The ledger at ``now``; ``changed`` holds at least every key at which ``state`` is another than it was."""
    asked = tuple(assets)
    if catalog is not ledger.plan.catalog or asked != ledger.plan.assets or now < ledger.now:
        return judge_all(catalog, asked, state, now, day, law)
    measured, turns, touched = _measure(ledger, state, changed, now, day)
    words, spoken = _hear(ledger, state, changed, day)
    scores, card = _score(ledger, measured, words, touched | spoken, law or day)
    next_turn = ledger.next_turn if turns is ledger.turns else min(turns, default=NEVER)
    return Ledger(ledger.plan, now, day, law or day, measured, turns, next_turn, words, scores, card)


def differing(before: State, after: State) -> set[Key]:
    """Where two states of one record differ. Its numbers are enough: what an observation says never changes."""
    found = {key for key, seen in after.items() if _mark(seen) != _mark(before.get(key, NOTHING))}
    return found | (before.keys() - after.keys())


def make_plan(catalog: Catalog, assets: tuple[Asset, ...]) -> Plan:
    """The pairs of a hospital and the ways back from a key or a check to their places."""
    found = tuple(pairs(catalog, assets))
    span: dict[str, slice] = {}
    places: dict[Key, tuple[int, ...]] = {}
    for place, (check, asset) in enumerate(found):
        span[check.id] = slice(span[check.id].start if check.id in span else place, place + 1)
        if asset is not None:
            key = (asset.name, check.fact)
            places[key] = (*places.get(key, ()), place)
    waivable = frozenset(place for place, (check, _) in enumerate(found) if check.id in catalog.waivers_of)
    return Plan(catalog, assets, found, span, places, waivable)


def _turn(pair: Pair, state: State, now: datetime) -> datetime:
    check, asset = pair
    return NEVER if asset is None else turns_at(check, state.get((asset.name, check.fact), NOTHING), now)


def _mark(seen: Seen) -> tuple[object, ...]:
    """What tells two states of one record apart: the number and the time; of an imagined observation all of it."""
    return tuple(None if o is None else (o.id, o.seen_at) if o.id else o for o in (seen.answer, seen.failure))


def _measure(
    ledger: Ledger, state: State, changed: Collection[Key], now: datetime, day: date
) -> tuple[tuple[Finding, ...], tuple[datetime, ...], set[str]]:
    """Findings and turns with every place judged again that may be another, and the criteria that feel it."""
    plan = ledger.plan
    again = {place for key in changed for place in plan.places.get(key, ())}
    if now >= ledger.next_turn:
        again.update(place for place, at in enumerate(ledger.turns) if now >= at)
    if day != ledger.day:
        again |= plan.waivable
    if not again:
        return ledger.measured, ledger.turns, set()
    measured, turns = list(ledger.measured), list(ledger.turns)
    touched: set[str] = set()
    for place in again:
        pair = plan.pairs[place]
        finding = judge_pair(plan.catalog, pair, state, now, day)
        if weight(finding) is not weight(measured[place]):
            touched.update(plan.catalog.judged_by[finding.check])
        measured[place], turns[place] = finding, _turn(pair, state, now)
    return tuple(measured), tuple(turns), touched


def _hear(
    ledger: Ledger, state: State, changed: Collection[Key], day: date
) -> tuple[Mapping[str, Finding], frozenset[str]]:
    """What people said, with new words heard and, on another day, every word weighed again."""
    catalog = ledger.plan.catalog
    again = frozenset(filter(None, (criterion_of(catalog, key) for key in changed)))
    if day != ledger.day:
        again |= ledger.words.keys()
    if not again:
        return ledger.words, again
    heard = {id_: judge_said(catalog, id_, state, day) for id_ in again}
    words = {id_: finding for id_, finding in ledger.words.items() if id_ not in again}
    return words | {id_: finding for id_, finding in heard.items() if finding is not None}, again


def _score(
    ledger: Ledger, measured: tuple[Finding, ...], words: Mapping[str, Finding], touched: Collection[str], law: date
) -> tuple[Mapping[str, CriterionScore], Scorecard]:
    """Scores and card with the touched criteria scored again, and the groups in which one says something else now."""
    catalog, before = ledger.plan.catalog, ledger.scores
    if law != ledger.law and groups_in_force(catalog, law) != groups_in_force(catalog, ledger.law):
        card = score(catalog, (*measured, *words.values()), law)
        return {c.id: c for c in card.criteria}, card
    fresh = {}
    for id_ in touched:
        if id_ in before:  # else its framework is not in force
            criterion = catalog.criteria[id_]
            found = {check: measured[ledger.plan.span[check]] for check in criterion.checks}
            if id_ in words:
                found[fact_of(id_)] = (words[id_],)
            fresh[id_] = score_criterion(criterion, found)
    if not fresh and law == ledger.law:
        return before, ledger.card
    moved = {_group_of(catalog, id_) for id_, new in fresh.items() if _felt(new) != _felt(before[id_])}
    kept = {(g.framework, g.group): g for g in ledger.card.groups if (g.framework, g.group) not in moved}
    scores = {**before, **fresh}
    return scores, assemble(catalog, scores, law, kept)


def _group_of(catalog: Catalog, criterion: str) -> tuple[str, str]:
    found = catalog.criteria[criterion]
    return found.framework, found.group


def _felt(score_: CriterionScore) -> tuple[object, ...]:
    """All that a group reads of a criterion's score."""
    return score_.verdict, score_.proof, score_.contradicted
