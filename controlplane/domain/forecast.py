"""When each target is reached, from open tasks and from how late the finished ones were. Pure, and without chance.

The model, in one paragraph: a task takes its planned days times a factor; the logarithms of the factors of one campaign
are spread around one middle (how slow this campaign is) with one width. Middle and width are not known: every pair of a
grid is weighed by a stated prior and by what the tasks have shown, where a task that is still running says that it took
longer than until today. The date of a target is that of its last task. Everything is summed over the grid, so the same
inputs give the same dates. What the model cannot see is written in docs/explanation/forecast.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate, pairwise
from math import erfc, exp, log, sqrt
from operator import mul

from controlplane.domain.declared import last_day
from controlplane.domain.judge import Seen
from controlplane.domain.model import DECLARED, SITE, Catalog, GroupScore, Reason, Scorecard, Verdict
from controlplane.domain.overview import Campaign, Milestone, Target, Task
from controlplane.domain.score import HOLDS
from controlplane.domain.whatif import required

# The prior is an assumption of ours and no measurement: a campaign is as likely slower as faster than its plan, two out
# of three lie between 0.61 and 1.65 times the planned duration, and nothing is known of the width.
PRIOR_MIDDLE = 0.0
PRIOR_SPREAD = 0.5
MIDDLES = tuple(round(-1.5 + 0.1 * i, 1) for i in range(37))  # of the logarithm: 0.2 to 8.2 times the plan
WIDTHS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
FAINT = 1e-6  # a pair of the grid that weighs less than this beside the heaviest is left out
OFF_SCALE = 0.1  # so much weight on the slowest middle means that the truth lies beyond the grid
HORIZON_DAYS = 1096  # three years; what lies beyond is not given as a date
FEW = 5  # finished tasks below which the forecast says that it rests on little
STEPS = 32  # days at which the drivers are weighed against each other


@dataclass(frozen=True)
class Pace:
    """How fast the campaign goes: pairs of (middle, width, weight), the weights adding up to one."""

    points: tuple[tuple[float, float, float], ...]
    finished: int  # tasks it learned from that are done
    running: int  # tasks that have begun and are not done
    off_scale: bool  # later than anything the model knows

    @property
    def factor(self) -> float:
        """How many times its planned duration a middling task takes, to two places."""
        return round(exp(sum(middle * weight for middle, _, weight in self.points)), 2)


@dataclass(frozen=True)
class Expiry:
    """Evidence that stops counting after a day."""

    criterion: str
    until: date


@dataclass(frozen=True)
class Driver:
    """A task, and how likely it is the one that finishes last."""

    task: str
    owner: str
    likely_percent: int


@dataclass(frozen=True)
class Outlook:
    """What can be said of the date of a target or a milestone."""

    kind: str  # target | milestone
    id: str  # framework/group, or the milestone's id
    level: str | None  # of a target
    due_on: date | None  # the plan's date
    state: str  # reached | likely | unknown
    reason: Reason  # texts: forecast.<code>
    p50: date | None = None  # as likely before as after it; None beyond the horizon, too
    p90: date | None = None  # nine times out of ten by then
    late_days_p50: int | None = None  # against the plan's date; negative: before it
    late_days_p90: int | None = None
    drivers: tuple[Driver, ...] = ()
    open_tasks: tuple[str, ...] = ()
    notes: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Forecast:
    """Every target and every milestone, seen from a day."""

    as_of: date
    pace: Pace
    targets: tuple[Outlook, ...]
    milestones: tuple[Outlook, ...]


def forecast(
    campaign: Campaign, catalog: Catalog, card: Scorecard, as_of: date, expiring: Sequence[Expiry] = ()
) -> Forecast:
    """The dates as of a day of the hospital. What was recorded as done after that day is not known yet."""
    pace = learn(campaign.tasks, as_of)
    due = {m.id: m.due_on for m in campaign.milestones}
    return Forecast(
        as_of,
        pace,
        tuple(
            _target(campaign, catalog, card, t, due.get(t.milestone or ""), pace, expiring) for t in campaign.targets
        ),
        tuple(_milestone(campaign, m, pace, as_of) for m in campaign.milestones),
    )


# --------------------------------------------------------------------------------------------- the pace


def is_done(task: Task, as_of: date) -> bool:
    """Whether the task was done by a day."""
    return task.done_on is not None and task.done_on <= as_of


def learn(tasks: Iterable[Task], as_of: date) -> Pace:
    """What the finished and the running tasks say about the pace of the campaign; undated tasks say nothing."""
    dated = [t for t in tasks if t.starts_on is not None and t.due_on is not None]
    finished = [(_planned(t), max(1, _days(t, t.done_on) + 1)) for t in dated if t.done_on and is_done(t, as_of)]
    running = [(_planned(t), _elapsed(t, as_of)) for t in dated if not is_done(t, as_of) and _elapsed(t, as_of) > 0]
    weights: dict[tuple[float, float], float] = {}
    for middle in MIDDLES:
        for width in WIDTHS:
            log_weight = -0.5 * ((middle - PRIOR_MIDDLE) / PRIOR_SPREAD) ** 2
            for planned, took in finished:
                before, by = _longer(took - 1, planned, middle, width), _longer(took, planned, middle, width)
                log_weight += log(max(before - by, 1e-300))
            for planned, elapsed in running:
                log_weight += log(max(_longer(elapsed, planned, middle, width), 1e-300))
            weights[middle, width] = log_weight
    top = max(weights.values())
    kept = {pair: exp(w - top) for pair, w in weights.items() if w - top > log(FAINT)}
    total = sum(kept.values())
    slowest = sum(w for (middle, _), w in kept.items() if middle == MIDDLES[-1]) / total
    points = tuple((middle, width, w / total) for (middle, width), w in kept.items())
    return Pace(points, len(finished), len(running), slowest > OFF_SCALE)


def _longer(days: int, planned: int, middle: float, width: float) -> float:
    """How likely a task planned for so many days takes longer than ``days``."""
    if days <= 0:
        return 1.0
    return 0.5 * erfc((log(days / planned) - middle) / (width * sqrt(2)))


def _days(task: Task, day: date | None) -> int:
    if task.starts_on is None or day is None:
        raise ValueError(f"{task.id} has no dates")
    return (day - task.starts_on).days


def _planned(task: Task) -> int:
    """The days the plan gives a task, the first and the last included."""
    return _days(task, task.due_on) + 1


def _elapsed(task: Task, as_of: date) -> int:
    """Whole days a task has run without being done; today may still bring it."""
    return max(0, _days(task, as_of))


# -------------------------------------------------------------------------------------------- the dates


class Dates:
    """The joint dates of open, dated tasks under a pace: chances by day, one figure per pair of the grid."""

    def __init__(self, tasks: Sequence[Task], pace: Pace, as_of: date) -> None:
        self.tasks, self.pace, self.as_of = tasks, pace, as_of
        self._known: dict[tuple[int, int], list[float]] = {}

    def done(self, index: int, ahead: int) -> list[float]:
        """For each pair of the grid, how likely the task is done within so many days from today."""
        key = (index, ahead)
        if key not in self._known:
            self._known[key] = self._done(self.tasks[index], ahead)
        return self._known[key]

    def _done(self, task: Task, ahead: int) -> list[float]:
        elapsed, planned = _elapsed(task, self.as_of), _planned(task)
        took = _days(task, self.as_of + timedelta(days=ahead)) + 1
        chances = []
        for middle, width, _ in self.pace.points:
            still = _longer(elapsed, planned, middle, width)  # it is known to have lasted until today
            chances.append(1 - _longer(took, planned, middle, width) / still if still > 0 else 1.0)
        return chances

    def all_done(self, ahead: int) -> float:
        """How likely every task is done within so many days from today."""
        total = 0.0
        columns = [self.done(i, ahead) for i in range(len(self.tasks))]
        for point, (_, _, weight) in enumerate(self.pace.points):
            product = weight
            for column in columns:
                product *= column[point]
            total += product
        return total

    def quantile(self, share: float) -> int | None:
        """The least number of days ahead by which everything is done with this chance; None beyond the horizon."""
        low, high = -1, HORIZON_DAYS
        if self.all_done(high) < share:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if self.all_done(middle) >= share:
                high = middle
            else:
                low = middle
        return high

    def drivers(self, most: int = 3) -> tuple[Driver, ...]:
        """The tasks most likely to finish last, in percent of each other."""
        end = self.quantile(0.99)
        last = HORIZON_DAYS if end is None else max(1, end)
        days = sorted({round(last * step / STEPS) for step in range(STEPS + 1)})
        chances = [0.0] * len(self.tasks)
        for early, late in pairwise([-1, *days]):
            for index, chance in enumerate(self._last_between(early, late)):
                chances[index] += chance
        total = sum(chances) or 1.0
        order = sorted(range(len(self.tasks)), key=lambda i: (-round(chances[i] / total, 6), self.tasks[i].id))
        return tuple(
            Driver(self.tasks[i].id, self.tasks[i].owner, round(100 * chances[i] / total)) for i in order[:most]
        )

    def _last_between(self, early: int, late: int) -> list[float]:
        """For each task, about how likely it ends in this stretch of days with every other done by its middle."""
        chances = [0.0] * len(self.tasks)
        rows = [(self.done(i, early), self.done(i, late)) for i in range(len(self.tasks))]
        for point, (_, _, weight) in enumerate(self.pace.points):
            ends = [(a[point], b[point]) for a, b in rows]
            if all(a == b for a, b in ends):
                continue
            halves = [0.5 * (a + b) for a, b in ends]
            after = [1.0, *accumulate(reversed(halves), mul)]  # the product of the last so many
            before = 1.0
            for index, (a, b) in enumerate(ends):
                chances[index] += weight * before * after[len(ends) - 1 - index] * (b - a)
                before *= halves[index]
        return chances


def outlook(kind: str, id_: str, level: str | None, due_on: date | None, dates: Dates) -> Outlook:
    """The dates of one or more open, dated tasks. Later than the model knows is said instead of a date."""
    names = tuple(t.id for t in dates.tasks)
    if dates.pace.off_scale:
        figures = {"finished": dates.pace.finished, "running": dates.pace.running}
        return Outlook(kind, id_, level, due_on, "unknown", Reason("off_scale", figures), open_tasks=names)
    days = {share: dates.quantile(share) for share in (0.5, 0.9)}
    p50, p90 = (None if d is None else dates.as_of + timedelta(days=d) for d in (days[0.5], days[0.9]))
    if p50 is None:
        reason = Reason("beyond_horizon", {"days": HORIZON_DAYS})
        return Outlook(kind, id_, level, due_on, "unknown", reason, drivers=dates.drivers(), open_tasks=names)
    reason = Reason("likely", {"p50": p50.isoformat(), "p90": p90.isoformat() if p90 else "-", "tasks": len(names)})
    return Outlook(
        kind,
        id_,
        level,
        due_on,
        "likely",
        reason,
        p50,
        p90,
        _late(p50, due_on),
        _late(p90, due_on),
        dates.drivers(),
        names,
        _notes(dates.pace),
    )


def _late(day: date | None, due_on: date | None) -> int | None:
    return None if day is None or due_on is None else (day - due_on).days


def _notes(pace: Pace) -> tuple[Reason, ...]:
    if pace.finished == 0:
        return (Reason("nothing_finished", {"running": pace.running}),)
    if pace.finished < FEW:
        return (Reason("few_finished", {"finished": pace.finished}),)
    return ()


# --------------------------------------------------------------------------------- targets, milestones


def _milestone(campaign: Campaign, milestone: Milestone, pace: Pace, as_of: date) -> Outlook:
    def unknown(code: str) -> Outlook:
        return Outlook("milestone", milestone.id, None, milestone.due_on, "unknown", Reason(code))

    if milestone.done_on is not None and milestone.done_on <= as_of:
        reason = Reason("milestone_done", {"on": milestone.done_on.isoformat()})
        return Outlook("milestone", milestone.id, None, milestone.due_on, "reached", reason)
    mine = [t for t in campaign.tasks if t.milestone == milestone.id]
    return _of_tasks("milestone", milestone.id, None, milestone.due_on, mine, pace, as_of, unknown)


def _of_tasks(
    kind: str,
    id_: str,
    level: str | None,
    due_on: date | None,
    tasks: Sequence[Task],
    pace: Pace,
    as_of: date,
    unknown: Callable[[str], Outlook],
) -> Outlook:
    """The outlook of what its tasks bring about, or why there is none."""
    if not tasks:
        return unknown("no_task")
    open_ = sorted((t for t in tasks if not is_done(t, as_of)), key=lambda t: t.id)
    if not open_:
        return unknown("tasks_done")
    undated = [t.id for t in open_ if t.starts_on is None]
    if undated:
        reason = Reason("undated", {"tasks": ", ".join(undated), "count": len(undated)})
        names = tuple(t.id for t in open_)
        return Outlook(kind, id_, level, due_on, "unknown", reason, open_tasks=names)
    return outlook(kind, id_, level, due_on, Dates(open_, pace, as_of))


def _target(
    campaign: Campaign,
    catalog: Catalog,
    card: Scorecard,
    target: Target,
    due_on: date | None,
    pace: Pace,
    expiring: Sequence[Expiry],
) -> Outlook:
    id_ = f"{target.framework}/{target.group}"
    standing = _standing(catalog, card, target)

    def unknown(code: str) -> Outlook:
        return Outlook("target", id_, target.level, due_on, "unknown", Reason(code))

    if standing.reached:
        reason = Reason("target_reached", {"level": target.level})
        return Outlook(
            "target", id_, target.level, due_on, "reached", reason, notes=_expiring(standing, expiring, None)
        )
    wanted = {id_, *standing.missing}
    tasks = [t for t in campaign.tasks if wanted & set(t.serves)]
    served = {aim for t in tasks if not is_done(t, card.as_of) for aim in t.serves}
    left = [] if id_ in served else [c for c in standing.missing if c not in served]
    if served and left:
        figures = {"count": len(left), "criteria": ", ".join(left[:3])}
        return Outlook("target", id_, target.level, due_on, "unknown", Reason("uncovered", figures))
    found = _of_tasks("target", id_, target.level, due_on, tasks, pace, card.as_of, unknown)
    notes = (*found.notes, *standing.notes, *_expiring(standing, expiring, found.p90))
    return Outlook(**{**vars(found), "notes": notes})


@dataclass(frozen=True)
class _Standing:
    """Where a target's group stands: reached, or the criteria that its level still lacks."""

    reached: bool
    missing: tuple[str, ...]
    held: frozenset[str]  # criteria of the level that hold today
    notes: tuple[Reason, ...]


def _standing(catalog: Catalog, card: Scorecard, target: Target) -> _Standing:
    score = next((g for g in card.groups if (g.framework, g.group) == (target.framework, target.group)), None)
    framework = catalog.frameworks.get(target.framework)
    if score is None or framework is None:
        return _Standing(False, (), frozenset(), (Reason("not_in_force"),))
    group = next(g for g in framework.groups if g.id == target.group)
    verdicts: Mapping[str, Verdict] = {c.id: c.verdict for c in card.criteria}
    asked = [c.id for c in required(framework, group, target.level)]
    missing = tuple(c for c in asked if verdicts[c] not in HOLDS)
    notes = () if score.determinable else (Reason("no_level_provable", dict(score.reason.figures)),)
    return _Standing(_reached(group.levels, score, target.level), missing, frozenset(asked) - set(missing), notes)


def _reached(levels: Sequence[str], score: GroupScore, level: str) -> bool:
    return score.determinable and score.proven is not None and levels.index(score.proven) >= levels.index(level)


def _expiring(standing: _Standing, expiring: Sequence[Expiry], by: date | None) -> tuple[Reason, ...]:
    """Evidence of the level that ends before the date is likely there: it must be renewed, or the level falls."""
    ends = [e for e in expiring if e.criterion in standing.held and (by is None or e.until <= by)]
    ends.sort(key=lambda e: (e.until, e.criterion))
    return tuple(Reason("expires", {"criterion": e.criterion, "until": e.until.isoformat()}) for e in ends)


def expiries(
    catalog: Catalog, state: Mapping[tuple[str, str], Seen], day: date, within_days: int
) -> tuple[Expiry, ...]:
    """People's words that count today and end within so many days, the first to end first."""
    found = []
    for (asset, fact), seen in state.items():
        criterion = catalog.criteria.get(fact.removeprefix(DECLARED))
        if asset != SITE or not fact.startswith(DECLARED) or criterion is None or seen.answer is None:
            continue
        until = last_day(criterion, seen.answer.value) if seen.answer.value.get("kind") != "withdrawn" else None
        if until is not None and day <= until <= day + timedelta(days=within_days):
            found.append(Expiry(criterion.id, until))
    return tuple(sorted(found, key=lambda e: (e.until, e.criterion)))
