"""What every face shows first: levels, gaps, days left, blockers, trend. Pure, from sealed scorecards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from controlplane.domain.coverage import Coverage
from controlplane.domain.model import (
    Asset,
    Catalog,
    Criterion,
    Finding,
    GroupScore,
    OverallScore,
    Reason,
    Scorecard,
    Standing,
    Verdict,
    Words,
)


@dataclass(frozen=True)
class Milestone:
    """A dated promise of the campaign plan."""

    id: str
    title: Words
    due_on: date  # the plan says "before"
    owner: str
    source: str  # section of the plan
    done_on: date | None = None  # None: nobody has recorded that it was reached


@dataclass(frozen=True)
class Task:
    """A piece of work of the campaign plan. Its dates are the plan's; ``done_on`` is what really happened."""

    id: str
    title: Words
    milestone: str | None  # Milestone.id it belongs to
    owner: str  # an office, never a person
    serves: tuple[str, ...]  # criteria, and whole targets written as framework/group
    starts_on: date | None  # None together with due_on: the plan gives no date
    due_on: date | None
    source: str  # section of the plan
    done_on: date | None = None


@dataclass(frozen=True)
class Target:
    """The level the hospital set itself for one group of one framework."""

    framework: str
    group: str
    level: str
    owner: str
    milestone: str | None  # Milestone.id it is due with
    source: str


@dataclass(frozen=True)
class Hospital:
    """Who the hospital is, as its documents print it."""

    name: Words
    parent_body: Words
    short_symbol: str  # BVNT, in "Số: .../BC-BVNT"
    place: str  # Quảng Ngãi
    signer_title: Words
    recipients: tuple[str, ...]  # "Nơi nhận", first lines
    archive_line: str  # Lưu: VT, HCTH
    staff: int = 0  # people who work there, as the plan declares
    staff_source: str = ""


@dataclass(frozen=True)
class Campaign:
    """The plan as data (inventory/campaign.yaml)."""

    title: Words
    plan: str  # 62/KH-BVNT ngày 01/8/2025
    starts_on: date
    ends_on: date
    hospital: Hospital
    milestones: tuple[Milestone, ...]
    targets: tuple[Target, ...]
    tasks: tuple[Task, ...] = ()


@dataclass(frozen=True)
class MilestoneView:
    """A milestone seen from a day: ``days_left`` is negative once it has passed, done or not."""

    milestone: Milestone
    days_left: int
    state: str = "coming"  # coming | late | done; only late is overdue


@dataclass(frozen=True)
class GroupView:
    """A ladder on the director's screen: where it stands, where it should, how many rungs are missing."""

    framework: str
    framework_title: Words
    group: str
    title: Words
    levels: tuple[str, ...]
    score: GroupScore
    target: str | None
    gap: int | None  # rungs from proven to target; None without a target or when no level can be determined
    owner: str
    due_on: date | None


@dataclass(frozen=True)
class Blocker:
    """One criterion that keeps a group below its target, with who is answerable for it."""

    criterion: str
    title: Words
    framework: str
    group: str
    verdict: str
    reason: Reason
    owner: str
    severity: str
    holds_assets: int  # how many findings hold it back
    remedy: str | None  # a play that mends it


@dataclass(frozen=True)
class TrendPoint:
    """Criteria met, by round."""

    at: datetime
    met: int
    not_met: int
    total: int


@dataclass(frozen=True)
class RoundView:
    """A kept round, for faces."""

    id: str
    seq: int
    started_at: datetime
    ended_at: datetime | None
    state: str  # done | interrupted | running
    only: tuple[str, ...]
    looks: Mapping[str, int]  # outcome -> assets looked at
    seal: str  # head of the chain after it


@dataclass(frozen=True)
class Overview:
    """One screen."""

    at: datetime  # when it was asked for
    as_of: date
    campaign: Campaign
    groups: tuple[GroupView, ...]
    milestones: tuple[MilestoneView, ...]
    blockers: tuple[Blocker, ...]  # at most three for the director; more on request
    trend: tuple[TrendPoint, ...]
    counts: Mapping[str, int]  # verdict -> scored criteria, over all frameworks in force
    total: int
    drafts: int
    automated: int
    assets: Mapping[str, int]  # kind -> how many in the inventory
    assets_looked_at: Mapping[str, int]  # kind -> answered in the last round that asked
    last_round: RoundView | None
    chain_head: str
    chain_holds: bool
    notes: tuple[Reason, ...] = ()  # honest remarks: no round yet, numbers from outside the week, ...
    coverage: tuple[Coverage, ...] = ()  # per framework in force: how sure its rows are, how much checks look at
    overall: tuple[OverallScore, ...] = ()  # overall levels by a framework's own table

    @property
    def contradicted(self) -> int:
        """Scored criteria that somebody declared met and a check measured otherwise."""
        return sum(view.score.contradicted for view in self.groups)


SEVERITY = {"critical": 3, "high": 2, "medium": 1, "low": 0}
BLOCKING = {Verdict.NOT_MET: 3, Verdict.WAIVED: 2, Verdict.STALE: 1, Verdict.UNKNOWN: 0}


def milestones_from(campaign: Campaign, day: date) -> tuple[MilestoneView, ...]:
    """Every milestone with the days that are left to it on ``day``, and whether it was reached by then."""
    return tuple(MilestoneView(m, (m.due_on - day).days, _state(m, day)) for m in campaign.milestones)


def _state(milestone: Milestone, day: date) -> str:
    if milestone.done_on is not None and milestone.done_on <= day:
        return "done"
    return "late" if milestone.due_on < day else "coming"


def group_views(catalog: Catalog, card: Scorecard, campaign: Campaign) -> tuple[GroupView, ...]:
    """One row per ladder, the ones with a target first, in the order of the campaign."""
    due = {m.id: m.due_on for m in campaign.milestones}
    targets = {(t.framework, t.group): t for t in campaign.targets}
    order = {key: index for index, key in enumerate(targets)}
    views = []
    for score in card.groups:
        framework = catalog.frameworks[score.framework]
        group = next(g for g in framework.groups if g.id == score.group)
        target = targets.get((score.framework, score.group))
        views.append(
            GroupView(
                score.framework,
                framework.title,
                score.group,
                group.title,
                group.levels,
                score,
                score.target,
                gap(group.levels, score),
                target.owner if target else "",
                due.get(target.milestone or "") if target else None,
            )
        )
    views.sort(key=lambda v: (order.get((v.framework, v.group), len(order)), v.framework, v.group))
    return tuple(views)


def gap(levels: Sequence[str], score: GroupScore) -> int | None:
    """Rungs from the proven level up to the target; None without a target or where no level can be determined."""
    if score.target is None or not score.determinable:
        return None
    here = levels.index(score.proven) if score.proven is not None else -1
    return max(0, levels.index(score.target) - here)


def blockers(
    catalog: Catalog, card: Scorecard, findings: Iterable[Finding], campaign: Campaign, most: int = 3
) -> tuple[Blocker, ...]:
    """The criteria that hold a targeted group back, worst first: really not met before unknown, severe before mild."""
    by_check: dict[str, list[Finding]] = {}
    for finding in findings:
        by_check.setdefault(finding.check, []).append(finding)
    owners = {(t.framework, t.group): t.owner for t in campaign.targets}
    verdicts = {c.id: c for c in card.criteria}
    rows = []
    for framework in catalog.frameworks.values():
        for criterion in framework.criteria:
            score = verdicts.get(criterion.id)
            needed = _needed(framework.rule, catalog, criterion)
            if score is None or not needed or score.verdict not in BLOCKING or not criterion.scored:
                continue
            rows.append(_blocker(catalog, criterion, score.verdict, score.reason, by_check, owners))
    rows.sort(key=lambda b: (-BLOCKING[Verdict(b.verdict)], -SEVERITY[b.severity], -b.holds_assets, b.criterion))
    return tuple(rows[:most])


def _needed(rule: str, catalog: Catalog, criterion: Criterion) -> bool:
    framework = catalog.frameworks[criterion.framework]
    group = next(g for g in framework.groups if g.id == criterion.group)
    if group.target is None:
        return False
    top = group.levels.index(group.target)
    reach = group.levels[: top + 1] if rule == "cumulative" else (group.target,)
    return any(level in reach for level in criterion.levels)


def _blocker(
    catalog: Catalog,
    criterion: Criterion,
    verdict: Verdict,
    reason: Reason,
    by_check: Mapping[str, Sequence[Finding]],
    owners: Mapping[tuple[str, str], str],
) -> Blocker:
    bad = [f for check in criterion.checks for f in by_check.get(check, ()) if f.verdict is verdict]
    checks = sorted({f.check for f in bad}, key=lambda c: (-SEVERITY[catalog.checks[c].severity], c))
    worst = catalog.checks[checks[0]] if checks else None
    return Blocker(
        criterion.id,
        criterion.title,
        criterion.framework,
        criterion.group,
        str(verdict),
        reason,
        owners.get((criterion.framework, criterion.group), ""),
        worst.severity if worst else "medium",
        len(bad),
        worst.remedy if worst else None,
    )


def totals(catalog: Catalog, card: Scorecard) -> tuple[dict[str, int], int, int, int]:
    """(verdict -> scored criteria, scored, drafts, automated) over every framework and group in force."""
    ended = {(g.framework, g.group) for g in card.groups if g.reason.code == "group_out_of_force"}
    counts: Counter[str] = Counter()
    drafts = automated = 0
    for score in card.criteria:
        criterion = catalog.criteria[score.id]
        if (criterion.framework, criterion.group) in ended:
            continue
        drafts += 1 if criterion.standing is Standing.DRAFT else 0
        if not criterion.scored:
            continue
        counts[str(score.verdict)] += 1
        automated += 1 if criterion.covered else 0
    return dict(sorted(counts.items())), sum(counts.values()), drafts, automated


def count_kinds(assets: Iterable[Asset]) -> dict[str, int]:
    """kind -> how many assets."""
    return dict(sorted(Counter(a.kind for a in assets).items()))
