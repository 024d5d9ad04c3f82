"""Two judgements of the hospital: which levels, criteria and findings moved, and because of what. It judges nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from controlplane.domain.declared import fact_of
from controlplane.domain.model import (
    DECLARED,
    Catalog,
    Criterion,
    CriterionScore,
    Finding,
    Observation,
    Reason,
    Scorecard,
    Verdict,
)


class CauseKind(StrEnum):
    """What can move a criterion."""

    OBSERVATION = "observation"  # a device answers otherwise
    RUN = "run"  # the same, after a play was applied to it
    WORD = "word"  # somebody declared, replaced or withdrew something
    WAIVER = "waiver"  # a waiver began or ended
    TIME = "time"  # nobody looked again, or a document ended
    ASSET = "asset"  # an asset came or went
    RULE = "rule"  # the criterion or its checks are other ones than before
    LAW = "law"  # its framework came into force or ended


@dataclass(frozen=True)
class Cause:
    """One reason why a criterion moved, as far down as the record goes."""

    kind: CauseKind
    check: str = ""  # or the fact name of a person's word
    asset: str = ""
    before: Reason | None = None
    after: Reason | None = None
    observation_before: int | None = None
    observation_after: int | None = None  # a negative number is a person's word: the number of its link
    run: str = ""


@dataclass(frozen=True)
class Run:
    """A play that was applied, as far as a difference needs it."""

    id: str
    hosts: frozenset[str]
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True)
class Side:
    """One of the two judgements that are compared."""

    catalog: Catalog
    card: Scorecard
    findings: tuple[Finding, ...]


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
    causes: tuple[Cause, ...] = ()  # filled in by ``because``


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


# ------------------------------------------------------------------------------------------------ why


def because(before: Side, after: Side, observations: Mapping[int, Observation], runs: Sequence[Run] = ()) -> Difference:
    """The difference of two judgements, every moved criterion with its causes."""
    difference = compare(before.card, after.card, before.findings, after.findings)
    moved = {(f.check, f.asset): f for f in difference.findings}
    criteria = tuple(
        CriterionMove(m.criterion, m.before, m.after, _causes(m, before, after, moved, observations, runs))
        for m in difference.criteria
    )
    return Difference(
        difference.catalog_changed,
        difference.levels,
        criteria,
        difference.findings,
        difference.met_before,
        difference.met_after,
    )


def _causes(
    move: CriterionMove,
    before: Side,
    after: Side,
    moved: Mapping[tuple[str, str], FindingMove],
    observations: Mapping[int, Observation],
    runs: Sequence[Run],
) -> tuple[Cause, ...]:
    if move.before is None or move.after is None:
        known = move.criterion in before.catalog.criteria and move.criterion in after.catalog.criteria
        return (Cause(CauseKind.LAW if known else CauseKind.RULE),)
    was, now = before.catalog.criteria[move.criterion], after.catalog.criteria[move.criterion]
    found = [Cause(CauseKind.RULE)] if _ruled_otherwise(was, now, before.catalog, after.catalog) else []
    names = {*was.checks, *now.checks, fact_of(move.criterion)}
    found += [_cause(f, observations, runs) for key, f in sorted(moved.items()) if key[0] in names]
    return tuple(found)


def _ruled_otherwise(was: Criterion, now: Criterion, before: Catalog, after: Catalog) -> bool:
    """Whether the rules for a criterion are other ones: its own entry, or a check that it names."""
    return was != now or any(before.checks[check] != after.checks[check] for check in was.checks)


def _cause(move: FindingMove, observations: Mapping[int, Observation], runs: Sequence[Run]) -> Cause:
    kind, run = _kind(move), ""
    if kind is CauseKind.OBSERVATION:
        run = _run_between(move, observations, runs)
        kind = CauseKind.RUN if run else kind
    return Cause(
        kind,
        move.check,
        move.asset,
        move.reason_before,
        move.reason_after,
        move.observation_before,
        move.observation_after,
        run,
    )


def _kind(move: FindingMove) -> CauseKind:
    if move.check.startswith(DECLARED):
        same = move.observation_before is not None and move.observation_before == move.observation_after
        return CauseKind.TIME if same else CauseKind.WORD
    if move.before is None or move.after is None:
        return CauseKind.ASSET
    if Verdict.WAIVED in (move.before, move.after) and move.observation_before == move.observation_after:
        return CauseKind.WAIVER
    if move.after == Verdict.STALE:
        return CauseKind.TIME
    return CauseKind.OBSERVATION


def _run_between(move: FindingMove, observations: Mapping[int, Observation], runs: Sequence[Run]) -> str:
    """The newest play applied to the asset between the last sight of the old answer and the first of the new one."""
    old = observations.get(move.observation_before or 0)
    new = observations.get(move.observation_after or 0)
    if new is None:
        return ""
    between = [
        run
        for run in runs
        if move.asset in run.hosts
        and run.ended_at <= new.first_seen_at
        and (old is None or run.ended_at >= old.seen_at)
    ]
    return max(between, key=lambda run: run.ended_at).id if between else ""
