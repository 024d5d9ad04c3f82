"""How a score moves with time if nobody looks or signs again: until when it stands, how much stays, what ends soon.

It judges nothing by rules of its own: what a criterion is worth later is asked of the same scoring, on evidence that
has aged. Findings hold no times, so that a quiet round seals the same bytes; the times come from what was observed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta, tzinfo

from controlplane.domain.declared import fact_of, last_day
from controlplane.domain.incremental import Ledger, rejudge
from controlplane.domain.judge import NOTHING, State, fresh_until, judge_said
from controlplane.domain.model import SITE, Criterion, Finding, Verdict
from controlplane.domain.score import HOLDS, GroupKey, asked_with, score_criterion

DAYS = (1, 7, 30, 90)


@dataclass(frozen=True, order=True)
class Ending:
    """A piece of evidence that ends: a measurement nobody confirmed, or a person's word after its last day."""

    until: datetime  # the last moment at which it counts, UTC
    criterion: str
    check: str  # the check, or ``declared.<criterion>``
    asset: str  # the asset that was looked at; the ``site`` for a word
    document: str = ""  # a word's document number, where it has one


def good_until(ledger: Ledger, state: State, zone: tzinfo) -> Mapping[str, Ending | None]:
    """Until when each criterion holds that holds now (met, or not applicable), and the evidence that then ends.

    None: no evidence of it ends by itself. ``state`` is what the ledger was judged on, ``zone`` the hospital's.
    """
    catalog = ledger.plan.catalog
    holding = (catalog.criteria[id_] for id_, one in ledger.scores.items() if one.verdict in HOLDS)
    return {criterion.id: _first_fatal(ledger, state, criterion, zone) for criterion in holding}


def levels_until(
    ledger: Ledger, state: State, endings: Mapping[str, Ending | None], zone: tzinfo
) -> Mapping[GroupKey, Ending | None]:
    """Until when each proven level stands: the first end among the criteria that it asks for.

    A level in which nothing is met any more is not proven either, although what no longer applies still holds.
    """
    found: dict[GroupKey, Ending | None] = {}
    for one in ledger.card.groups:
        if one.proven is None:
            continue
        framework = ledger.plan.catalog.frameworks[one.framework]
        group = next(g for g in framework.groups if g.id == one.group)
        asked = asked_with(framework.rule, group, one.proven)
        mine = [c for c in framework.criteria if c.group == group.id and c.scored and not asked.isdisjoint(c.levels)]
        ends = [endings[c.id] for c in mine]
        ends += [_last_met(ledger, state, [c for c in mine if level in c.levels], zone) for level in asked]
        found[one.framework, one.group] = min((end for end in ends if end is not None), default=None)
    return found


def stay_met(ledger: Ledger, state: State, zone: tzinfo, days: Sequence[int] = DAYS) -> Mapping[int, int]:
    """Days from now -> how many of the scored criteria that are met now are met then, by the laws of now."""
    criteria = ledger.plan.catalog.criteria
    met = {id_ for id_, one in ledger.scores.items() if one.verdict is Verdict.MET and criteria[id_].scored}
    found, at = {}, ledger
    for later in sorted(days):
        now = ledger.now + timedelta(days=later)
        day = now.astimezone(zone).date()
        at = rejudge(at, at.plan.catalog, at.plan.assets, state, (), now, day, ledger.law)
        found[later] = sum(1 for id_ in met if at.scores[id_].verdict is Verdict.MET)
    return found


def expiring(ledger: Ledger, state: State, zone: tzinfo, days: int) -> tuple[Ending, ...]:
    """Evidence that ends within ``days`` and that a criterion which holds now rests on, the soonest first."""
    last = ledger.now + timedelta(days=days)
    criteria = ledger.plan.catalog.criteria
    holding = (criteria[id_] for id_, one in ledger.scores.items() if one.verdict in HOLDS)
    return tuple(sorted(end for c in holding for end in _endings(ledger, state, c, zone) if end.until <= last))


def _endings(ledger: Ledger, state: State, criterion: Criterion, zone: tzinfo) -> Iterator[Ending]:
    """What good evidence of a criterion ends, and when."""
    for check in criterion.checks:
        for place in _places(ledger, check):
            until = _fresh_until(ledger, place, state)
            if until is not None and ledger.measured[place].verdict is Verdict.MET:
                yield Ending(until, criterion.id, check, ledger.measured[place].asset)
    word = ledger.words.get(criterion.id)
    # A word that is not yet in effect ends as well: it may carry the criterion on when a measurement has aged.
    if word is not None and (word.verdict in HOLDS or word.reason.code == "declared_not_yet"):
        value = state[SITE, fact_of(criterion.id)].answer.value  # type: ignore[union-attr]  # it has been judged
        last = last_day(criterion, value)
        if last is not None:
            midnight = datetime.combine(last + timedelta(days=1), time(), zone)
            until = (midnight - timedelta.resolution).astimezone(ledger.now.tzinfo)
            yield Ending(until, criterion.id, word.check, word.asset, str(value.get("number") or ""))


def _first_fatal(ledger: Ledger, state: State, criterion: Criterion, zone: tzinfo) -> Ending | None:
    """The first end after which the criterion no longer holds; other evidence may carry it over an end."""
    for end in sorted(_endings(ledger, state, criterion, zone)):
        if _verdict_at(ledger, state, criterion, end.until + timedelta.resolution, zone) not in HOLDS:
            return end
    return None


def _last_met(ledger: Ledger, state: State, criteria: Sequence[Criterion], zone: tzinfo) -> Ending | None:
    """The first end after which none of these is met any more."""
    for end in sorted(end for criterion in criteria for end in _endings(ledger, state, criterion, zone)):
        after = end.until + timedelta.resolution
        if not any(_verdict_at(ledger, state, c, after, zone) is Verdict.MET for c in criteria):
            return end
    return None


def _verdict_at(ledger: Ledger, state: State, criterion: Criterion, at: datetime, zone: tzinfo) -> Verdict:
    found = {check: [_aged(ledger, place, state, at) for place in _places(ledger, check)] for check in criterion.checks}
    said = judge_said(ledger.plan.catalog, criterion.id, state, at.astimezone(zone).date())
    if said is not None:
        found[said.check] = [said]
    return score_criterion(criterion, found).verdict


def _aged(ledger: Ledger, place: int, state: State, at: datetime) -> Finding:
    """A finding of now as it is later: the same, or too old. Scoring reads its verdict only."""
    finding, until = ledger.measured[place], _fresh_until(ledger, place, state)
    return finding if until is None or at <= until else replace(finding, verdict=Verdict.STALE)


def _fresh_until(ledger: Ledger, place: int, state: State) -> datetime | None:
    check, asset = ledger.plan.pairs[place]
    return fresh_until(check, state.get((asset.name, check.fact), NOTHING)) if asset is not None else None


def _places(ledger: Ledger, check: str) -> range:
    span = ledger.plan.span[check]
    return range(span.start, span.stop)
