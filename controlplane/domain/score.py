"""Findings to criteria to levels. Pure, monotone in evidence; an outcome never changes a maximum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from controlplane.domain.model import (
    Catalog,
    Criterion,
    CriterionScore,
    Finding,
    Framework,
    Group,
    GroupScore,
    Reason,
    Scorecard,
    Standing,
    Verdict,
)

# What decides a criterion that has several findings: the first of these words that any finding says.
# ``waived`` stands before the unknowns because it can no longer turn out well: the thing really is not met.
DECIDES = (
    Verdict.NOT_MET,
    Verdict.WAIVED,
    Verdict.UNKNOWN,
    Verdict.STALE,
    Verdict.MET,
    Verdict.NOT_APPLICABLE,
)

HOLDS = frozenset({Verdict.MET, Verdict.NOT_APPLICABLE})
MAY_HOLD = HOLDS | {Verdict.UNKNOWN, Verdict.STALE}


def score(catalog: Catalog, findings: Iterable[Finding], as_of: date) -> Scorecard:
    """Every criterion of every framework in force on ``as_of``, and the pair of levels of each of its groups."""
    by_check: dict[str, list[Finding]] = {}
    for finding in findings:
        by_check.setdefault(finding.check, []).append(finding)
    groups: list[GroupScore] = []
    criteria: list[CriterionScore] = []
    for framework in sorted(catalog.frameworks.values(), key=lambda f: f.id):
        if not in_force(framework.in_force, as_of):
            continue
        scores = {c.id: score_criterion(c, by_check) for c in framework.criteria}
        criteria.extend(scores.values())
        groups.extend(_score_group(framework, group, scores, as_of) for group in framework.groups)
    criteria.sort(key=lambda c: c.id)
    return Scorecard(as_of, catalog.digest, tuple(groups), tuple(criteria))


def in_force(period: tuple[date | None, date | None], day: date) -> bool:
    """Whether a law holds on a day; the end is the first day it no longer does."""
    begins, ends = period
    return (begins is None or begins <= day) and (ends is None or day < ends)


def score_criterion(criterion: Criterion, by_check: Mapping[str, Sequence[Finding]]) -> CriterionScore:
    """One word for a criterion: all of its findings must be met; no check, or no finding, is unknown.

    Checks that are needed for it but do not cover it can show it not met; all of them met is still unknown.
    """
    findings = [f for check in criterion.checks for f in by_check.get(check, ())]
    counts = Counter(str(f.verdict) for f in findings)
    if not findings:
        reason = Reason("no_check" if not criterion.checks else "not_judged")
        return CriterionScore(criterion.id, Verdict.UNKNOWN, reason, {})
    verdict = next(word for word in DECIDES if counts[word])
    if verdict in HOLDS and not criterion.covered:
        reason = Reason("partly", {"count": counts[Verdict.MET], "of": len(findings)})
        return CriterionScore(criterion.id, Verdict.UNKNOWN, reason, dict(sorted(counts.items())))
    deciding = min((f for f in findings if f.verdict is verdict), key=lambda f: (f.check, f.asset))
    reason = Reason(
        "findings",
        {
            "verdict": str(verdict),
            "count": counts[verdict],
            "of": len(findings),
            "check": deciding.check,
            "asset": deciding.asset,
        },
    )
    return CriterionScore(criterion.id, verdict, reason, dict(sorted(counts.items())))


def _score_group(framework: Framework, group: Group, scores: Mapping[str, CriterionScore], as_of: date) -> GroupScore:
    mine = [c for c in framework.criteria if c.group == group.id]
    scored = [c for c in mine if c.scored]
    counts = Counter(str(scores[c.id].verdict) for c in scored)
    proven, possible, reason, determinable = _levels(framework, group, scored, scores, as_of)
    return GroupScore(
        framework.id,
        group.id,
        determinable,
        proven,
        possible,
        group.target,
        reason,
        dict(sorted(counts.items())),
        len(scored),
        sum(1 for c in mine if c.standing is Standing.DRAFT),
        sum(1 for c in scored if c.covered),
    )


def _levels(
    framework: Framework,
    group: Group,
    scored: Sequence[Criterion],
    scores: Mapping[str, CriterionScore],
    as_of: date,
) -> tuple[str | None, str | None, Reason, bool]:
    if not in_force(group.in_force, as_of):
        return None, None, Reason("group_out_of_force"), False
    if framework.rule == "share":
        return None, None, Reason("share_rule"), False
    words = {c.id: scores[c.id].verdict for c in scored}
    possible = _highest(framework.rule, group, scored, words, MAY_HOLD, some_met=False)
    if not group.list_complete:
        return None, possible, Reason("list_not_complete", {"scored": len(scored)}), False
    proven = _highest(framework.rule, group, scored, words, HOLDS, some_met=True)
    return proven, possible, Reason("levels"), True


def _highest(
    rule: str,
    group: Group,
    scored: Sequence[Criterion],
    words: Mapping[str, Verdict],
    good: frozenset[Verdict],
    *,
    some_met: bool,
) -> str | None:
    """The highest level whose whole set is good. ``some_met``: all of nothing proves nothing."""
    best: str | None = None
    for index, level in enumerate(group.levels):
        reach = group.levels[: index + 1] if rule == "cumulative" else (level,)
        required = [words[c.id] for c in scored if any(lv in reach for lv in c.levels)]
        holds = all(word in good for word in required)
        if some_met:
            holds = holds and any(words[c.id] is Verdict.MET for c in scored if level in c.levels)
        if holds:
            best = level
        elif rule == "cumulative":
            break
    return best
