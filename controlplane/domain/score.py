"""Findings to criteria to levels. Pure, monotone in evidence; an outcome never changes a maximum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from controlplane.domain.declared import fact_of
from controlplane.domain.model import (
    Catalog,
    Criterion,
    CriterionScore,
    Finding,
    Framework,
    Group,
    GroupScore,
    OverallScore,
    Proof,
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
MISSED = frozenset({Verdict.NOT_MET, Verdict.WAIVED})

ByCheck = Mapping[str, Sequence[Finding]]
"""check (or the fact name of a person's word) -> its findings."""

GroupKey = tuple[str, str]
"""(framework, group)"""


def score(catalog: Catalog, findings: Iterable[Finding], as_of: date) -> Scorecard:
    """Every criterion of every framework in force on ``as_of``, and the pair of levels of each of its groups."""
    by_check: dict[str, list[Finding]] = {}
    for finding in findings:
        by_check.setdefault(finding.check, []).append(finding)
    scores = {
        criterion.id: score_criterion(criterion, by_check)
        for framework in frameworks_in_force(catalog, as_of)
        for criterion in framework.criteria
    }
    return assemble(catalog, scores, as_of)


def frameworks_in_force(catalog: Catalog, day: date) -> list[Framework]:
    """The frameworks that hold on a day, in the order of their names."""
    return [f for _, f in sorted(catalog.frameworks.items()) if in_force(f.in_force, day)]


def groups_in_force(catalog: Catalog, day: date) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each framework that holds on a day with its groups that do: all that scoring reads of a day."""
    return tuple(
        (f.id, tuple(g.id for g in f.groups if in_force(g.in_force, day))) for f in frameworks_in_force(catalog, day)
    )


def assemble(
    catalog: Catalog,
    scores: Mapping[str, CriterionScore],
    as_of: date,
    kept: Mapping[GroupKey, GroupScore] | None = None,
) -> Scorecard:
    """The scorecard of criteria that were scored already; ``kept`` are groups of which nothing has changed."""
    groups: list[GroupScore] = []
    overall: list[OverallScore] = []
    stands = kept or {}
    for framework in frameworks_in_force(catalog, as_of):
        mine = [
            stands.get((framework.id, group.id)) or score_group(framework, group, scores, as_of)
            for group in framework.groups
        ]
        groups.extend(mine)
        if framework.annex:
            overall.append(score_overall(framework, mine, as_of))
    ordered = tuple(scores[id_] for id_ in sorted(scores))
    return Scorecard(as_of, catalog.digest, tuple(groups), ordered, tuple(overall))


def in_force(period: tuple[date | None, date | None], day: date) -> bool:
    """Whether a law holds on a day; the end is the first day it no longer does."""
    begins, ends = period
    return (begins is None or begins <= day) and (ends is None or day < ends)


# --------------------------------------------------------------------------------------------- criteria


def score_criterion(criterion: Criterion, by_check: ByCheck) -> CriterionScore:
    """One word for a criterion, from its checks and from what people said of it.

    What checks measure decides. A word never stands in for a measurement that is missing or bad, since then the
    loss of a bad observation would raise a level; it completes checks that prove a part, and carries what no check
    looks at. A word that a check contradicts is flagged.
    """
    measured = [f for check in criterion.checks for f in by_check.get(check, ())]
    said = next(iter(by_check.get(fact_of(criterion.id), ())), None)
    counts = dict(sorted(Counter(str(f.verdict) for f in measured).items()))
    verdict, reason, proof = _decide(criterion, measured, said)
    denied = said is not None and said.verdict in HOLDS and said.reason.figures.get("kind") != "other_value"
    contradicted = denied and any(f.verdict in MISSED for f in measured)
    return CriterionScore(criterion.id, verdict, reason, counts, proof, contradicted)


def weight(finding: Finding) -> Verdict:
    """All that scoring reads of a check's finding and that can change while catalog and assets stand."""
    return finding.verdict


def _decide(criterion: Criterion, measured: Sequence[Finding], said: Finding | None) -> tuple[Verdict, Reason, Proof]:
    word = said.verdict if said is not None else None
    if word is Verdict.MET and said is not None and said.reason.figures.get("kind") == "other_value":
        return Verdict.MET, said.reason, Proof.DECLARED  # a suggested value, replaced with written reasons
    if not measured:
        if said is None:
            return Verdict.UNKNOWN, Reason("no_check" if not criterion.checks else "not_judged"), Proof.NONE
        return said.verdict, said.reason, Proof.DECLARED
    # A check whose role nobody bears has nothing to measure: beside a person's word it does not hold the word up.
    able = [f for f in measured if f.reason.code != "no_asset"]
    if criterion.covered and _worst(measured) is Verdict.MET:
        return _by_findings(measured)
    if word is Verdict.NOT_APPLICABLE and said is not None and _worst(able) in {None, *HOLDS}:
        return Verdict.NOT_APPLICABLE, said.reason, Proof.MIXED if able else Proof.DECLARED
    if criterion.covered:
        return _by_findings(measured)
    return _in_part(measured, able, said)


def _in_part(
    measured: Sequence[Finding], able: Sequence[Finding], said: Finding | None
) -> tuple[Verdict, Reason, Proof]:
    """Checks that are needed and do not prove: they can say no; for a yes somebody's word must complete them."""
    worst = _worst(able)
    if worst is not None and worst not in HOLDS:
        return _by_findings(able)
    if said is None:
        if worst is None and _worst(measured) is Verdict.NOT_APPLICABLE:
            # Nothing there to measure: a part does not apply, and the rest of the criterion is still not proven.
            return Verdict.UNKNOWN, Reason("part_absent", {"count": len(measured)}), Proof.NONE
        if worst is None:
            return _by_findings(measured)
        met = sum(1 for f in able if f.verdict is Verdict.MET)
        return Verdict.UNKNOWN, Reason("partly", {"count": met, "of": len(measured)}), Proof.NONE
    if worst is None:
        return said.verdict, said.reason, Proof.DECLARED
    return said.verdict, said.reason, Proof.MIXED


def _worst(findings: Sequence[Finding]) -> Verdict | None:
    words = {f.verdict for f in findings}
    return next((word for word in DECIDES if word in words), None)


def _by_findings(findings: Sequence[Finding]) -> tuple[Verdict, Reason, Proof]:
    verdict = next(word for word in DECIDES if any(f.verdict is word for f in findings))
    deciding = min((f for f in findings if f.verdict is verdict), key=lambda f: (f.check, f.asset))
    figures = {
        "verdict": str(verdict),
        "count": sum(1 for f in findings if f.verdict is verdict),
        "of": len(findings),
        "check": deciding.check,
        "asset": deciding.asset,
    }
    return verdict, Reason("findings", figures), Proof.MEASURED


# ---------------------------------------------------------------------------------------------- groups


def score_group(framework: Framework, group: Group, scores: Mapping[str, CriterionScore], as_of: date) -> GroupScore:
    """A ladder: its pair of levels, and every count beside it. A group out of force asks for nothing."""
    mine = [c for c in framework.criteria if c.group == group.id]
    scored = [c for c in mine if c.scored and in_force(group.in_force, as_of)]
    words = {c.id: scores[c.id].verdict for c in mine}
    drafts = sum(1 for c in mine if c.standing is Standing.DRAFT)
    proven, possible, reason, determinable = _levels(framework, group, scored, words, as_of)
    met = Counter(str(scores[c.id].proof) for c in scored if words[c.id] is Verdict.MET)
    return GroupScore(
        framework.id,
        group.id,
        determinable,
        proven,
        possible,
        group.target,
        reason,
        dict(sorted(Counter(str(words[c.id]) for c in scored).items())),
        len(scored),
        drafts,
        sum(1 for c in scored if c.covered),
        sum(1 for c in scored if c.checks),
        dict(sorted(met.items())),
        sum(1 for c in scored if scores[c.id].contradicted),
        _with_waivers(framework.rule, group, scored, words) if determinable else None,
        _preview(framework.rule, group, mine, words) if in_force(group.in_force, as_of) else None,
    )


def _levels(
    framework: Framework,
    group: Group,
    scored: Sequence[Criterion],
    words: Mapping[str, Verdict],
    as_of: date,
) -> tuple[str | None, str | None, Reason, bool]:
    if not in_force(group.in_force, as_of):
        return None, None, Reason("group_out_of_force"), False
    if framework.rule == "share":
        met = sum(1 for c in scored if words[c.id] in HOLDS)
        return None, None, Reason("share", {"count": met, "of": len(scored)}), False
    possible = highest(framework.rule, group, scored, words, MAY_HOLD, some_met=False)
    if not group.list_complete:
        return None, possible, Reason("list_not_complete", {"scored": len(scored)}), False
    proven = highest(framework.rule, group, scored, words, HOLDS, some_met=True)
    return proven, possible, Reason("levels"), True


def highest(
    rule: str,
    group: Group,
    criteria: Sequence[Criterion],
    words: Mapping[str, Verdict],
    good: frozenset[Verdict],
    *,
    some_met: bool,
    draft: bool = False,
) -> str | None:
    """The highest level whose whole set is good. ``some_met``: all of nothing proves nothing.

    ``draft`` takes the levels a draft would have where the law's own are not known.
    """
    best: str | None = None
    reaches = {c.id: c.levels or (c.draft_levels if draft else ()) for c in criteria}
    for level in group.levels:
        reach = asked_with(rule, group, level)
        holds = all(words[id_] in good for id_, levels in reaches.items() if not reach.isdisjoint(levels))
        if some_met:
            holds = holds and any(words[id_] is Verdict.MET for id_, levels in reaches.items() if level in levels)
        if holds:
            best = level
        elif rule == "cumulative":
            break
    return best


def asked_with(rule: str, group: Group, level: str) -> frozenset[str]:
    """The levels whose criteria a level asks for: its own, and under a cumulative rule all those below."""
    return frozenset(group.levels[: group.levels.index(level) + 1] if rule == "cumulative" else (level,))


def _with_waivers(rule: str, group: Group, scored: Sequence[Criterion], words: Mapping[str, Verdict]) -> str | None:
    """What the level would be if every waived criterion held. It is shown beside the level and never instead of it."""
    return highest(rule, group, scored, words, HOLDS | {Verdict.WAIVED}, some_met=True)


def _preview(
    rule: str, group: Group, mine: Sequence[Criterion], words: Mapping[str, Verdict]
) -> tuple[str | None, str | None] | None:
    """The pair of levels if the drafts were law as they stand; None where no draft carries a level."""
    drafts = {c.id for c in mine if c.standing is Standing.DRAFT and (c.levels or c.draft_levels)}
    if not drafts or rule == "share":
        return None
    both = [c for c in mine if c.scored or c.id in drafts]
    return (
        highest(rule, group, both, words, HOLDS, some_met=True, draft=True),
        highest(rule, group, both, words, MAY_HOLD, some_met=False, draft=True),
    )


# ------------------------------------------------------------------------------------------ overall level


def score_overall(framework: Framework, groups: Sequence[GroupScore], as_of: date) -> OverallScore:
    """The overall level by the framework's own table. A cell nobody saw, or an open list, leaves it undetermined."""
    by_group = {g.group: g for g in groups}
    ladders = {g.id: g for g in framework.groups}
    rows: dict[str, list[tuple[str, str]]] = {}
    for cell in framework.annex:
        if in_force(ladders[cell.group].in_force, as_of):  # a group that has ended can no longer be asked for
            rows.setdefault(cell.overall, []).append((cell.group, cell.level))
    open_groups = sorted({group for cells in rows.values() for group, _ in cells if not by_group[group].determinable})
    recalled = sum(1 for cell in framework.annex if not cell.seen)
    certain = not open_groups and not recalled
    possible = _reach(rows, ladders, {g.group: g.possible for g in groups})
    preview = (
        _reach(rows, ladders, {g.group: g.preview[0] if g.preview else g.proven for g in groups}),
        _reach(rows, ladders, {g.group: g.preview[1] if g.preview else g.possible for g in groups}),
    )
    if certain:
        proven = _reach(rows, ladders, {g.group: g.proven for g in groups})
        return OverallScore(framework.id, True, proven, possible, preview, Reason("levels"))
    reason = Reason("overall_open", {"groups": open_groups, "count": len(open_groups), "cells": recalled})
    return OverallScore(framework.id, False, None, possible, preview, reason)


def _reach(
    rows: Mapping[str, Sequence[tuple[str, str]]], ladders: Mapping[str, Group], have: Mapping[str, str | None]
) -> str | None:
    """The highest overall level for which this and every lower row of the table is reached."""
    best = None
    for overall, cells in rows.items():  # in the order of the table, from the lowest
        for group, level in cells:
            levels, here = ladders[group].levels, have[group]
            if here is None or levels.index(here) < levels.index(level):
                return best
        best = overall
    return best
