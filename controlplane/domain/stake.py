"""What a criterion is worth in level: its group as it stands, were this one met, and were it not. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controlplane.domain.model import (
    Catalog,
    Criterion,
    CriterionScore,
    Framework,
    Group,
    Reason,
    Scorecard,
    Verdict,
)
from controlplane.domain.score import MISSED, asked_with, assemble, in_force


@dataclass(frozen=True)
class Pair:
    """The levels of a group, or of a framework's table; None: below the lowest, or not to be determined."""

    proven: str | None
    possible: str | None


@dataclass(frozen=True)
class Stake:
    """One criterion against the levels of its group, everything else as it is.

    ``level`` is the lowest level that asks for the criterion; None: a draft, a share, or a group out of force, none of
    which decides a level. ``missed`` counts the other criteria that this level asks for and that are not met. The
    triples are (today, were it met, were it not met); ``reason`` says it in a sentence (texts: ``stake.<code>``).
    """

    group: str
    level: str | None
    missed: int
    levels: tuple[Pair, Pair, Pair] | None
    overall: tuple[Pair, Pair, Pair] | None  # of the framework's table, where it has one
    reason: Reason


def stake_of(catalog: Catalog, card: Scorecard, criterion: Criterion) -> Stake:
    """What the criterion costs or carries today, by the scoring itself. Raises ``KeyError`` if it was not scored."""
    framework = catalog.frameworks[criterion.framework]
    group = next(g for g in framework.groups if g.id == criterion.group)
    scores = {c.id: c for c in card.criteria}
    level = _lowest(framework, group, criterion)
    if not criterion.scored:
        return Stake(group.id, None, 0, None, None, Reason("draft"))
    if level is None or framework.rule == "share" or not in_force(group.in_force, card.as_of):
        return Stake(group.id, None, 0, None, None, Reason("no_level"))
    reach = asked_with(framework.rule, group, level)
    asked = [c for c in framework.criteria if c.group == group.id and c.scored and not reach.isdisjoint(c.levels)]
    missed = sum(1 for c in asked if c.id != criterion.id and scores[c.id].verdict in MISSED)
    now = scores[criterion.id]
    worlds = [scores | {now.id: replace(now, verdict=word)} for word in (now.verdict, Verdict.MET, Verdict.NOT_MET)]
    today, met, lost = (_pairs(catalog, card, world, criterion) for world in worlds)
    levels = today[0], met[0], lost[0]
    table = (today[1], met[1], lost[1]) if today[1] and met[1] and lost[1] else None
    sentence = _sentence(now.verdict, level, missed, levels)
    return Stake(group.id, level, missed, levels, table, sentence)


def _lowest(framework: Framework, group: Group, criterion: Criterion) -> str | None:
    asking = (lv for lv in group.levels if not asked_with(framework.rule, group, lv).isdisjoint(criterion.levels))
    return next(asking, None)


def _pairs(
    catalog: Catalog, card: Scorecard, scores: dict[str, CriterionScore], criterion: Criterion
) -> tuple[Pair, Pair | None]:
    """The group's levels and those of its framework's table under other scores of its criteria."""
    mine = (criterion.framework, criterion.group)
    kept = {(g.framework, g.group): g for g in card.groups if (g.framework, g.group) != mine}
    then = assemble(catalog, scores, card.as_of, kept)
    ladder = next(g for g in then.groups if (g.framework, g.group) == mine)
    table = next((o for o in then.overall if o.framework == criterion.framework), None)
    return Pair(ladder.proven, ladder.possible), Pair(table.proven, table.possible) if table else None


def _sentence(now: Verdict, level: str, missed: int, levels: tuple[Pair, Pair, Pair]) -> Reason:
    today, met, lost = levels
    figures = {"level": level, "missed": missed}
    then, word = (met, "costs") if now in MISSED else (lost, "carries")
    if then == today:
        return Reason(f"{word}_with_others" if missed else f"{word}_nothing", figures)
    return Reason(word, figures)
