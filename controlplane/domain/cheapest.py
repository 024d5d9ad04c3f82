"""The cheapest set of priced actions that proves a level: exact by branch and bound, or between two stated bounds.

It rests on one property of the scoring: a purchase, a play or a document never takes a criterion away. So a set that
fails with everything undecided added can be dropped whole, and an action without which even everything else fails
must be taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

from controlplane.domain.chain import canonical
from controlplane.domain.declared import accepts, fact_of
from controlplane.domain.model import (
    Criterion,
    CriterionScore,
    Declared,
    Finding,
    Framework,
    Group,
    Reason,
    Verdict,
)
from controlplane.domain.score import HOLDS, in_force, score_criterion
from controlplane.domain.whatif import (
    Action,
    Buy,
    Confirm,
    Declare,
    Hand,
    Lose,
    Run,
    World,
    confirm,
    imagine,
    label,
    price,
    required,
    vet,
    what_if,
)

SMALL = 20  # so many offers are always searched to the end
MOST_LOOKS = 20_000  # branches looked at before a larger search stops with bounds
Cost = tuple[int, int, int]  # VND with the hours priced in, hours, actions: compared in this order
NOTHING: Cost = (0, 0, 0)


@dataclass(frozen=True)
class Offer:
    """An action with what it costs the hospital. A play or a document costs hours, and money only if hours do."""

    action: Action
    effort_hours: int = 0  # a working day is 8

    @property
    def price_vnd(self) -> int:
        """What is paid for it, by its own quantity and unit price."""
        return price([self.action])


@dataclass(frozen=True)
class Goal:
    """A level of a group that is to be proven, that level or a higher one."""

    framework: str
    group: str
    level: str


@dataclass(frozen=True)
class Plan:
    """The answer. ``lower_bound_vnd`` is what no set can cost less than; equal to the cost when ``exact``."""

    goal: Goal
    reached: bool
    chosen: tuple[Offer, ...]
    price_vnd: int
    effort_hours: int
    cost_vnd: int  # price and priced hours together, what was made least
    exact: bool
    lower_bound_vnd: int
    missing: tuple[CriterionScore, ...]  # not reached: criteria that no offer mends, alone or with all the others
    reason: Reason  # texts: whatif.<code>
    looks: int  # branches that were looked at


def next_goal(world: World, framework: str, group: str, given: Sequence[Action] = ()) -> Goal | None:
    """The level above the one that is proven; None at the top or where the text knows no levels."""
    result = what_if(world, given)
    change = next(g for g in result.groups if (g.framework, g.group) == (framework, group))
    return Goal(framework, group, change.ahead.level) if change.ahead.level is not None else None


def cheapest(
    world: World,
    goal: Goal,
    offers: Sequence[Offer],
    *,
    given: Sequence[Action] = (),
    vnd_per_hour: int = 0,
    most_looks: int = MOST_LOOKS,
) -> Plan:
    """The cheapest set of ``offers`` that proves the goal when ``given`` happens anyway.

    Offers are purchases, plays and documents; losses and confirmations belong to ``given``. Up to ``SMALL`` offers the
    answer is exact; beyond, it is exact too unless the search had to stop. Raises ``WhatIfError``, and ``ValueError``
    for an offer or a goal that cannot be one.
    """
    framework, group = _goal(world, goal, given)
    for offer in offers:
        if not isinstance(offer.action, Buy | Run | Declare):
            raise ValueError(f"{label(offer.action)} is no offer")
        if offer.effort_hours < 0:
            raise ValueError(f"{label(offer.action)} costs less than nothing")
        vet(world, offer.action)
    ordered = sorted(offers, key=canonical)
    if not (group.list_complete and in_force(group.in_force, world.day)) or framework.rule == "share":
        code = "no_levels" if framework.rule == "share" else "list_open"
        return _out_of_reach(goal, (), Reason(code, {"group": group.id}), 0)
    budget = None if len(ordered) <= SMALL else most_looks
    top = group.levels.index(goal.level)
    levels = group.levels[top:] if framework.rule == "own_set" else (goal.level,)
    searches = []
    for level in levels:  # where each level has a set of its own, a higher one may be cheaper
        model = _Model(world, framework, group, level, ordered, tuple(given), vnd_per_hour)
        searches.append(_Search(model, budget))
        searches[-1].run()
    return _plan(goal, searches)


def _goal(world: World, goal: Goal, given: Sequence[Action]) -> tuple[Framework, Group]:
    for action in given:
        vet(world, action)
    catalog = confirm(world.catalog, [a for a in given if isinstance(a, Confirm)])
    framework = catalog.frameworks.get(goal.framework)
    group = next((g for g in framework.groups if g.id == goal.group), None) if framework else None
    if framework is None or group is None or goal.level not in group.levels:
        raise ValueError(f"no level {goal.level} of {goal.framework} {goal.group}")
    return framework, group


def _plan(goal: Goal, searches: Sequence[_Search]) -> Plan:
    looks = sum(s.looks for s in searches)
    found = [s for s in searches if s.best is not None]
    if not found:
        model = searches[0].model
        missing = tuple(
            model.score(c, model.all) for c in model.asked if model.score(c, model.all).verdict not in HOLDS
        )
        reason = Reason("nobody_mends", {"count": len(missing)}) if missing else Reason("none_met")
        return _out_of_reach(goal, missing, reason, looks)
    best = min(found, key=lambda s: s.best_cost)
    chosen = tuple(best.model.offers[i] for i in bits(best.best or 0))
    bound = min(s.lower_bound for s in found)
    exact = all(s.finished for s in found) or bound >= best.best_cost
    paid = sum(o.price_vnd for o in chosen)
    hours = sum(o.effort_hours for o in chosen)
    code = "cheapest" if exact else "between"
    return Plan(
        goal,
        True,
        chosen,
        paid,
        hours,
        best.best_cost[0],
        exact,
        best.best_cost[0] if exact else bound[0],
        (),
        Reason(code, {"count": len(chosen)}),
        looks,
    )


def _out_of_reach(goal: Goal, missing: tuple[CriterionScore, ...], reason: Reason, looks: int) -> Plan:
    return Plan(goal, False, (), 0, 0, 0, True, 0, missing, reason, looks)


# --------------------------------------------------------------------------------------------- offers


def offers_for(
    world: World,
    goal: Goal,
    prices: Mapping[str, int],
    *,
    given: Sequence[Action] = (),
    play_hours: int = 0,
    document_hours: int = 0,
) -> tuple[Offer, ...]:
    """Everything that could help: priced items in the quantity that mends all they can, plays, and single documents.

    ``prices`` is item -> VND for one unit; an item without a price is not offered. The quantity counts what is bad
    today after ``given``: a play that mends part of it would leave a smaller one.
    """
    framework, group = _goal(world, goal, given)
    then = imagine(world, given)
    hand = Hand(world, then.findings)
    hand.lost = {a.asset for a in given if isinstance(a, Lose)}
    by_check = _by_check(then.findings)
    open_ = [c for c in required(framework, group, goal.level) if score_criterion(c, by_check).verdict not in HOLDS]
    checks = {check for c in open_ for check in c.checks}
    wanted = {c.id for c in open_}
    found: list[Offer] = []
    for item in world.items.values():
        if item.id in prices and (checks & set(item.mends) or wanted & set(item.papers)):
            bad = len(hand.bad(item))
            units = 1 if item.per == "hospital" else max(1, ceil(bad / item.assets_per_unit))
            found.append(Offer(Buy(item.id, units, prices[item.id])))
    for play, mended in sorted(world.mended_by.items()):
        if play in world.reach and checks & set(mended):
            found.append(Offer(Run(play), play_hours))
    found.extend(Offer(Declare((c.id,)), document_hours) for c in open_ if _word_counts(c, by_check))
    return tuple(found)


def _word_counts(criterion: Criterion, by_check: Mapping[str, Sequence[Finding]]) -> bool:
    """Whether a document could help: where checks prove the criterion, what they measure decides."""
    measured = any(by_check.get(check) for check in criterion.checks)
    return accepts(criterion, Declared.DOCUMENT) is None and not (criterion.covered and measured)


def _by_check(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.check, []).append(finding)
    return found


# ------------------------------------------------------------------------- the question, made small


def bits(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set, from the lowest."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class _Model:
    """One level of one group as a monotone question about sets of offers, each set a bit mask.

    A criterion is scored again only for the offers that can move it: those that touch its checks or its word, and,
    because a unit goes to whatever is still bad, those that share a check with them.
    """

    def __init__(
        self,
        world: World,
        framework: Framework,
        group: Group,
        level: str,
        offers: Sequence[Offer],
        given: tuple[Action, ...],
        vnd_per_hour: int,
    ) -> None:
        self.world, self.offers, self.level = world, tuple(offers), level
        self.given: tuple[Action, ...] = tuple(a for a in given if not isinstance(a, Confirm))
        self.asked = required(framework, group, level)
        top = group.levels.index(level)
        self.levels = group.levels[: top + 1] if framework.rule == "cumulative" else (level,)
        self.all = (1 << len(self.offers)) - 1
        self.costs: tuple[Cost, ...] = tuple(
            (o.price_vnd + o.effort_hours * vnd_per_hour, o.effort_hours, 1) for o in self.offers
        )
        self._scores: dict[tuple[str, int], CriterionScore] = {}
        self._today = _by_check(world.findings)
        self.live = tuple(c for c in self.asked if not self.holds(c, 0))

    def touches(self, action: Action) -> frozenset[str]:
        """The checks and words an action may change."""
        match action:
            case Buy():
                item = self.world.items[action.item]
                return frozenset((*item.mends, *map(fact_of, item.papers)))
            case Run():
                return frozenset(self.world.mended_by.get(action.play, ()))
            case Declare():
                return frozenset(map(fact_of, action.criteria))
            case _:
                return frozenset()

    @cached_property
    def _parts(self) -> Mapping[str, tuple[int, tuple[Action, ...], frozenset[str]]]:
        """Every touched check or word -> (the offers, the given actions and the checks that hang together with it)."""
        actions = [*((1 << i, o.action) for i, o in enumerate(self.offers)), *((0, a) for a in self.given)]
        parts: list[tuple[int, tuple[Action, ...], frozenset[str]]] = []
        for bit, action in actions:
            names = self.touches(action)
            mine = [p for p in parts if p[2] & names]
            parts = [p for p in parts if not p[2] & names]
            mask = bit
            taken: tuple[Action, ...] = () if bit else (action,)
            for other, more, wider in mine:
                mask, taken, names = mask | other, taken + more, names | wider
            parts.append((mask, taken, names))
        return {name: part for part in parts for name in part[2]}

    def relevant(self, criterion: Criterion) -> int:
        """The offers that can move a criterion."""
        mask = 0
        for name in (*criterion.checks, fact_of(criterion.id)):
            if name in self._parts:
                mask |= self._parts[name][0]
        return mask

    def score(self, criterion: Criterion, mask: int) -> CriterionScore:
        """The criterion when the offers of the mask are taken."""
        key = (criterion.id, mask & self.relevant(criterion))
        if key not in self._scores:
            self._scores[key] = self._score(criterion, key[1])
        return self._scores[key]

    def _score(self, criterion: Criterion, mask: int) -> CriterionScore:
        names = {*criterion.checks, fact_of(criterion.id)}
        taken: list[Action] = [a for a in self.given if not self.touches(a)]  # losses touch everything
        for part in {id(self._parts[n]): self._parts[n] for n in sorted(names) if n in self._parts}.values():
            names |= part[2]
            taken.extend(part[1])
        taken.extend(self.offers[i].action for i in bits(mask))
        hand = Hand(self.world, (f for name in sorted(names) for f in self._today.get(name, ())))
        hand.take(taken)
        return score_criterion(criterion, _by_check(hand.findings.values()))

    def holds(self, criterion: Criterion, mask: int) -> bool:
        """Whether the criterion holds when the offers of the mask are taken."""
        return self.score(criterion, mask).verdict in HOLDS

    def open(self, mask: int) -> list[Criterion]:
        """The criteria of the level that do not hold yet."""
        return [c for c in self.live if not self.holds(c, mask)]

    def stands(self, mask: int) -> bool:
        """Whether each level has a criterion of its own that is met: none stands on exceptions alone."""
        return all(
            any(lv in c.levels and self.score(c, mask).verdict is Verdict.MET for c in self.asked) for lv in self.levels
        )

    def reached(self, mask: int) -> bool:
        """Whether the level is proven."""
        return all(self.holds(c, mask) for c in self.live) and self.stands(mask)

    def cost(self, mask: int) -> Cost:
        """What the offers of the mask cost together."""
        return _sum(self.costs[i] for i in bits(mask))


def _sum(costs: Iterable[Cost]) -> Cost:
    total = NOTHING
    for cost in costs:
        total = (total[0] + cost[0], total[1] + cost[1], total[2] + cost[2])
    return total


class _Search:
    """Branch and bound over the offers. A node is (taken, undecided); what is in neither is refused."""

    def __init__(self, model: _Model, most_looks: int | None) -> None:
        self.model = model
        self.most_looks = most_looks
        self.best: int | None = None
        self.best_cost: Cost = NOTHING
        self.lower_bound: Cost = NOTHING
        self.looks = 0
        self.finished = True
        self._relevant = {c.id: model.relevant(c) for c in model.live}

    def run(self) -> None:
        """Search; afterwards ``best`` is None when not even every offer together reaches the level."""
        model = self.model
        if not model.reached(model.all):
            return
        self.best = self._greedy()
        self.best_cost = model.cost(self.best)
        stack = [(0, model.all)]
        while stack:
            if self.most_looks is not None and self.looks >= self.most_looks:
                self.finished = False
                self.lower_bound = min([self.best_cost, *(self._bound(*node) for node in stack)])
                return
            self.looks += 1
            stack.extend(self._look(*stack.pop()))
        self.lower_bound = self.best_cost

    def _greedy(self) -> int:
        """Everything, less whatever can be spared, the dearest first: a set that reaches the level."""
        mask = self.model.all
        for index in sorted(range(len(self.model.offers)), key=lambda i: self.model.costs[i], reverse=True):
            less = mask & ~(1 << index)
            touched = [c for c in self.model.live if self._relevant[c.id] >> index & 1]
            if all(self.model.holds(c, less) for c in touched) and self.model.stands(less):
                mask = less
        return mask

    def _look(self, taken: int, undecided: int) -> list[tuple[int, int]]:
        """The branches of a node, the more promising one last; none when it is settled or hopeless."""
        forced = self._forced(taken, undecided)
        if forced is None:
            return []
        taken, undecided = taken | forced, undecided & ~forced
        if self._bound(taken, undecided) >= self.best_cost:
            return []
        lacking = self.model.open(taken)
        if not lacking and self.model.stands(taken):
            self.best, self.best_cost = taken, self.model.cost(taken)
            return []
        choice = min((self._relevant[c.id] & undecided for c in lacking), key=int.bit_count, default=undecided)
        index = min(bits(choice), key=lambda i: self.model.costs[i])
        rest = undecided & ~(1 << index)
        return [(taken, rest), (taken | 1 << index, rest)]

    def _forced(self, taken: int, undecided: int) -> int | None:
        """The undecided offers that every solution here needs; None when there is no solution here."""
        whole = taken | undecided
        if not self.model.stands(whole):
            return None
        forced = 0
        for criterion in self.model.live:
            if not self.model.holds(criterion, whole):
                return None
            if self.model.holds(criterion, taken):
                continue
            for index in bits(self._relevant[criterion.id] & undecided & ~forced):
                if not self.model.holds(criterion, whole & ~(1 << index)):
                    forced |= 1 << index
        return forced

    def _bound(self, taken: int, undecided: int) -> Cost:
        """No solution here costs less: what is taken, and for criteria with no offer in common the cheapest of each."""
        used, total = 0, self.model.cost(taken)
        lacking = [(self._relevant[c.id] & undecided, c.id) for c in self.model.open(taken)]
        for helpful, _ in sorted(lacking, key=lambda pair: (pair[0].bit_count(), pair[1])):
            if helpful and not helpful & used:
                used |= helpful
                total = _sum((total, min(self.model.costs[i] for i in bits(helpful))))
        return total
