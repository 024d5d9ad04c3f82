"""Two judgements of the hospital: which levels, criteria and findings moved, and because of what. It judges nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.domain.model import CriterionScore, Finding, Reason, Scorecard, Verdict


@dataclass(frozen=True)
class LevelMove:
    """A ladder whose proven or possible level is another one."""

    framework: str
    group: str
    proven_before: str | None
    proven_after: str | None
    possible_before: str | None
    possible_after: str | None


@dataclass(frozen=True)
class CriterionMove:
    """A criterion whose word changed; None where one of the two days did not know it."""

    criterion: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class FindingMove:
    """A finding that changed, with the observations on both sides."""

    check: str
    asset: str
    before: str | None
    after: str | None
    reason_before: Reason | None
    reason_after: Reason | None
    observation_before: int | None
    observation_after: int | None


@dataclass(frozen=True)
class Difference:
    """What moved between two scorecards, and whether the rules themselves changed."""

    catalog_changed: bool
    levels: tuple[LevelMove, ...]
    criteria: tuple[CriterionMove, ...]
    findings: tuple[FindingMove, ...]
    met_before: int  # of the scored criteria
    met_after: int

    @property
    def empty(self) -> bool:
        """Nothing moved."""
        return not (self.levels or self.criteria or self.findings)


def compare(
    before: Scorecard, after: Scorecard, findings_before: Iterable[Finding], findings_after: Iterable[Finding]
) -> Difference:
    """The moves from ``before`` to ``after``, in the order of their names."""
    return Difference(
        before.catalog_digest != after.catalog_digest,
        _levels(before, after),
        _criteria(before.criteria, after.criteria),
        _findings(findings_before, findings_after),
        sum(group.counts.get(Verdict.MET, 0) for group in before.groups),
        sum(group.counts.get(Verdict.MET, 0) for group in after.groups),
    )


def _levels(before: Scorecard, after: Scorecard) -> tuple[LevelMove, ...]:
    old = {(g.framework, g.group): g for g in before.groups}
    moves = []
    for group in after.groups:
        was = old.get((group.framework, group.group))
        pair = (was.proven, was.possible) if was else (None, None)
        if was is None or pair != (group.proven, group.possible):
            moves.append(LevelMove(group.framework, group.group, pair[0], group.proven, pair[1], group.possible))
    return tuple(moves)


def _criteria(before: Iterable[CriterionScore], after: Iterable[CriterionScore]) -> tuple[CriterionMove, ...]:
    old = {c.id: str(c.verdict) for c in before}
    new = {c.id: str(c.verdict) for c in after}
    moved = sorted(id_ for id_ in old.keys() | new.keys() if old.get(id_) != new.get(id_))
    return tuple(CriterionMove(id_, old.get(id_), new.get(id_)) for id_ in moved)


def _findings(before: Iterable[Finding], after: Iterable[Finding]) -> tuple[FindingMove, ...]:
    old = {(f.check, f.asset): f for f in before}
    new = {(f.check, f.asset): f for f in after}
    moves = []
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key), new.get(key)
        if was is not None and now is not None and was.verdict is now.verdict:
            continue
        moves.append(
            FindingMove(
                *key,
                str(was.verdict) if was else None,
                str(now.verdict) if now else None,
                was.reason if was else None,
                now.reason if now else None,
                was.observation if was else None,
                now.observation if now else None,
            )
        )
    return tuple(moves)
