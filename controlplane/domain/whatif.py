"""What if: the same scoring on imagined findings, under an imagined law. Pure; it keeps nothing and proves nothing.

A purchase, a play or a document makes a finding met only in imagination, so a result always says what it assumes. A
loss takes evidence away and leaves what is bad as it is: it can never turn something into met or not applicable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any

from controlplane.domain.chain import canonical, digest
from controlplane.domain.declared import accepts, fact_of
from controlplane.domain.market import Item
from controlplane.domain.model import (
    SITE,
    Asset,
    Catalog,
    Criterion,
    CriterionScore,
    Declared,
    Finding,
    Framework,
    Group,
    GroupScore,
    OverallScore,
    Reason,
    Scorecard,
    Standing,
    Verdict,
)
from controlplane.domain.score import HOLDS, highest, in_force, score

WORDS = (Declared.DOCUMENT, Declared.ATTESTATION)


@dataclass(frozen=True)
class Buy:
    """So many units of an item at the price the hospital was offered."""

    item: str
    quantity: int
    unit_price_vnd: int


@dataclass(frozen=True)
class Run:
    """A play is applied: the checks it mends become met on the hosts it can reach."""

    play: str


@dataclass(frozen=True)
class Lose:
    """An asset is gone or broken: nothing it proves counts any more, and its roles keep their bearer."""

    asset: str


@dataclass(frozen=True)
class Declare:
    """A document or an attestation is given for criteria."""

    criteria: tuple[str, ...]
    kind: Declared = Declared.DOCUMENT


@dataclass(frozen=True)
class Confirm:
    """Drafts of a group become law as they stand: all of them, or the ones named."""

    framework: str
    group: str
    criteria: tuple[str, ...] = ()  # empty: every draft of the group that has a level, known or of the draft
    list_complete: bool = False  # the user assumes that the group's list is complete
    table: bool = False  # the user assumes that the recalled cells of the framework's overall table are law


Action = Buy | Run | Lose | Declare | Confirm


@dataclass(frozen=True)
class World:
    """What stands today, and what may be imagined on it."""

    catalog: Catalog
    findings: tuple[Finding, ...]
    assets: Mapping[str, Asset]
    day: date  # the day of the law
    items: Mapping[str, Item]
    reach: Mapping[str, frozenset[str]]  # play -> the assets it can reach

    @cached_property
    def mended_by(self) -> Mapping[str, tuple[str, ...]]:
        """play -> the checks that name it as their remedy."""
        found: dict[str, list[str]] = {}
        for check in self.catalog.checks.values():
            if check.remedy:
                found.setdefault(check.remedy, []).append(check.id)
        return {play: tuple(sorted(checks)) for play, checks in found.items()}

    @cached_property
    def card(self) -> Scorecard:
        """The scorecard of today, before anything is imagined."""
        return score(self.catalog, self.findings, self.day)


@dataclass(frozen=True)
class Imagined:
    """A world after actions. ``touched`` says which action changed a (check, asset)."""

    catalog: Catalog
    findings: tuple[Finding, ...]
    touched: Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class Change:
    """A criterion that says another word than before, and the actions that made it so."""

    criterion: str
    framework: str
    group: str
    before: Verdict
    after: Verdict
    reason_before: Reason
    reason_after: Reason
    because: tuple[str, ...]  # labels of actions, see ``label``


@dataclass(frozen=True)
class Ahead:
    """The next level of a group and all that is still missing for it."""

    level: str | None  # None: the highest is reached, or the text knows no levels
    missing: tuple[CriterionScore, ...]
    list_open: bool  # the official list is not complete: whatever is met, no level is proven
    none_met: bool  # nothing is missing, but no criterion of the level is itself met: it cannot stand on exceptions


@dataclass(frozen=True)
class GroupChange:
    """A ladder before and after; ``after.proven`` and ``after.possible`` are the new pair."""

    framework: str
    group: str
    before: GroupScore
    after: GroupScore
    ahead: Ahead


@dataclass(frozen=True)
class WhatIf:
    """What a set of actions would change. Every figure rests on ``assumptions``."""

    groups: tuple[GroupChange, ...]
    overall: tuple[tuple[OverallScore, OverallScore], ...]  # (before, after) per framework with a table
    gained: tuple[Change, ...]  # hold now and did not before
    lost: tuple[Change, ...]  # held before and do not now
    moved: tuple[Change, ...]  # another word, neither gained nor lost
    confirmed: tuple[str, ...]  # drafts that were taken for law
    price_vnd: int
    assumptions: tuple[Reason, ...]  # texts: whatif.<code>


class WhatIfError(ValueError):
    """An action that means nothing here; ``reason`` says why (texts: ``whatif.<code>``, ``declare.<code>``)."""

    def __init__(self, code: str, **figures: Any) -> None:
        super().__init__(f"{code}: {figures}")
        self.reason = Reason(code, figures)


def what_if(world: World, actions: Sequence[Action]) -> WhatIf:
    """Score the world with the actions taken. Their order does not matter. Raises ``WhatIfError``."""
    then = imagine(world, actions)
    card = score(then.catalog, then.findings, world.day)
    before = {c.id: c for c in world.card.criteria}
    after = {c.id: c for c in card.criteria}
    changes = [
        _change(then, before[id_], now) for id_, now in sorted(after.items()) if before[id_].verdict is not now.verdict
    ]
    old = {(g.framework, g.group): g for g in world.card.groups}
    return WhatIf(
        tuple(
            GroupChange(g.framework, g.group, old[g.framework, g.group], g, ahead(then.catalog, g, after, world.day))
            for g in card.groups
        ),
        tuple(zip(world.card.overall, card.overall, strict=True)),
        tuple(c for c in changes if c.after in HOLDS and c.before not in HOLDS),
        tuple(c for c in changes if c.before in HOLDS and c.after not in HOLDS),
        tuple(c for c in changes if (c.before in HOLDS) == (c.after in HOLDS)),
        confirmed(world.catalog, then.catalog),
        price(actions),
        assumptions(world, actions),
    )


def price(actions: Iterable[Action]) -> int:
    """What the purchases cost together, in VND."""
    return sum(a.quantity * a.unit_price_vnd for a in actions if isinstance(a, Buy))


def confirmed(before: Catalog, after: Catalog) -> tuple[str, ...]:
    """The criteria that were drafts and are taken for law."""
    return tuple(sorted(id_ for id_, c in after.criteria.items() if c.scored and not before.criteria[id_].scored))


def label(action: Action) -> str:
    """A short name of an action, stable and unique among different actions: "buy ups", "run time-ssh"."""
    match action:
        case Buy():
            return f"buy {action.item}"
        case Run():
            return f"run {action.play}"
        case Lose():
            return f"lose {action.asset}"
        case Declare():
            return f"declare {' '.join(action.criteria)}"
        case Confirm():
            return f"confirm {action.framework} {' '.join(action.criteria) or action.group}"


def _order(action: Action) -> tuple[str, bytes]:
    """One order for any set of actions, however it was given."""
    return label(action), canonical(action)


# ------------------------------------------------------------------------------------------ imagining


def imagine(world: World, actions: Sequence[Action]) -> Imagined:
    """The world with the actions taken, in one fixed order whatever the order given. Raises ``WhatIfError``."""
    for action in actions:
        vet(world, action)
    catalog = confirm(world.catalog, [a for a in actions if isinstance(a, Confirm)])
    hand = Hand(world, world.findings)
    hand.take(actions)
    return Imagined(catalog, tuple(hand.findings.values()), hand.touched)


class Hand:
    """Findings that may be changed: losses first, then plays, words, and at last what was bought.

    Purchases come last because a unit goes to an asset that is still bad. The same item bought twice is bought once
    with the sum of the quantities.
    """

    def __init__(self, world: World, findings: Iterable[Finding]) -> None:
        self.world = world
        self.findings = {(f.check, f.asset): f for f in findings}
        self.touched: dict[tuple[str, str], str] = {}
        self.lost: set[str] = set()
        self._assets_of: dict[str, list[str]] = {}
        for check, asset in self.findings:
            self._assets_of.setdefault(check, []).append(asset)

    def take(self, actions: Sequence[Action]) -> None:
        """Take every action but the confirmations."""
        self.lost = {a.asset for a in actions if isinstance(a, Lose)}
        self._lose()
        for play in sorted({a.play for a in actions if isinstance(a, Run)}):
            self._run(play)
        for word in sorted((a for a in actions if isinstance(a, Declare)), key=_order):
            for criterion in sorted(word.criteria):
                self._say(criterion, str(word.kind), label(word))
        bought: Counter[str] = Counter()
        for action in actions:
            if isinstance(action, Buy):
                bought[action.item] += action.quantity
        for item, quantity in sorted(bought.items()):
            if quantity:
                self._buy(self.world.items[item], quantity)

    def _put(self, key: tuple[str, str], verdict: Verdict, reason: Reason, by: str) -> None:
        self.findings[key] = Finding(*key, verdict, reason)
        self.touched[key] = by

    def _lose(self) -> None:
        for key, finding in list(self.findings.items()):
            if key[1] in self.lost and finding.verdict in {*HOLDS, Verdict.STALE}:
                self._put(key, Verdict.UNKNOWN, Reason("imagined_loss"), label(Lose(key[1])))

    def _run(self, play: str) -> None:
        for check in self.world.mended_by.get(play, ()):
            for asset in self._assets_of.get(check, ()):
                key = (check, asset)
                reachable = asset in self.world.reach[play] and asset not in self.lost
                if reachable and self.findings[key].verdict is not Verdict.MET:
                    self._put(key, Verdict.MET, Reason("imagined_play", {"play": play}), label(Run(play)))

    def _say(self, criterion: str, kind: str, by: str) -> None:
        """A word for a criterion; one that holds already is left alone."""
        key = (fact_of(criterion), SITE)
        if key not in self.findings or self.findings[key].verdict not in HOLDS:
            self._put(key, Verdict.MET, Reason("imagined_word", {"kind": kind}), by)

    def _buy(self, item: Item, quantity: int) -> None:
        bad = self.bad(item)
        served = bad if item.per == "hospital" else bad[: quantity * item.assets_per_unit]
        for check in item.mends:
            for asset in served:
                self._mend((check, asset), item)
            if item.brings == self.world.catalog.checks[check].role:
                self._mend((check, ""), item)
        for criterion in item.papers:
            self._say(criterion, str(Declared.DOCUMENT), f"buy {item.id}")

    def bad(self, item: Item) -> list[str]:
        """The assets on which the item has something to mend, by name."""
        found = {a for check in item.mends for a in self._assets_of.get(check, ()) if self._mendable((check, a))}
        return sorted(a for a in found if a and self._fits(item, a))

    def _fits(self, item: Item, asset: str) -> bool:
        """Whether a unit can serve the asset: a new device replaces one of its role, a part needs one that is there."""
        if item.brings is None:
            return asset not in self.lost
        known = self.world.assets.get(asset)
        return known is not None and item.brings in known.roles

    def _mendable(self, key: tuple[str, str]) -> bool:
        return key in self.findings and self.findings[key].verdict not in HOLDS

    def _mend(self, key: tuple[str, str], item: Item) -> None:
        if self._mendable(key):
            self._put(key, Verdict.MET, Reason("imagined_purchase", {"item": item.id}), f"buy {item.id}")


def reach_of(hosts: str, assets: Iterable[Asset]) -> frozenset[str]:
    """The assets a play meant for a group (or ``all``) can reach: those that have an address."""
    return frozenset(a.name for a in assets if a.address is not None and (hosts == "all" or hosts in a.roles))


# ------------------------------------------------------------------------------------ an imagined law


def confirm(catalog: Catalog, actions: Sequence[Confirm]) -> Catalog:
    """The catalog with drafts taken for law. The shipped one is not touched; the digest is one of its own."""
    if not actions:
        return catalog
    frameworks = dict(catalog.frameworks)
    for action in sorted(actions, key=_order):
        frameworks[action.framework] = _confirm(frameworks[action.framework], action)
    named = sorted(canonical(a).decode() for a in actions)
    return replace(catalog, frameworks=frameworks, digest=digest(canonical([catalog.digest, named])))


def _confirm(framework: Framework, action: Confirm) -> Framework:
    def law(criterion: Criterion) -> Criterion:
        wanted = criterion.id in action.criteria or not action.criteria
        if criterion.group != action.group or not wanted or not can_confirm(criterion):
            return criterion
        levels = criterion.levels or criterion.draft_levels
        return replace(criterion, standing=Standing.CONFIRMED, scored=True, levels=levels, draft_levels=())

    def whole(group: Group) -> Group:
        complete = group.list_complete or (group.id == action.group and action.list_complete)
        return replace(group, list_complete=complete)

    annex = tuple(replace(c, seen=True) for c in framework.annex) if action.table else framework.annex
    return replace(
        framework,
        criteria=tuple(map(law, framework.criteria)),
        groups=tuple(map(whole, framework.groups)),
        annex=annex,
    )


def can_confirm(criterion: Criterion) -> bool:
    """Whether a draft could be scored at all: one without any level could not, nor one that is there to inform."""
    has_level = bool(criterion.levels or criterion.draft_levels)
    return criterion.standing is Standing.DRAFT and has_level and criterion.kind != "informative"


# -------------------------------------------------------------------------------------- what is refused


def vet(world: World, action: Action) -> None:
    """Refuse an action that means nothing here. Raises ``WhatIfError``."""
    match action:
        case Buy():
            _vet_buy(world, action)
        case Run():
            if action.play not in world.reach:
                raise WhatIfError("unknown_play", play=action.play)
        case Lose():
            if action.asset not in world.assets or world.assets[action.asset].kind == SITE:
                raise WhatIfError("unknown_asset", asset=action.asset)
        case Declare():
            _vet_words(world, action)
        case Confirm():
            _vet_confirm(world, action)


def _vet_buy(world: World, action: Buy) -> None:
    if action.item not in world.items:
        raise WhatIfError("unknown_item", item=action.item)
    for figure, code in ((action.quantity, "bad_quantity"), (action.unit_price_vnd, "bad_price")):
        if not isinstance(figure, int) or isinstance(figure, bool) or figure < 0:
            raise WhatIfError(code, item=action.item, figure=figure)


def _vet_words(world: World, action: Declare) -> None:
    if action.kind not in WORDS:
        raise WhatIfError("bad_kind", kind=str(action.kind))
    if not action.criteria:
        raise WhatIfError("no_criterion")
    for id_ in action.criteria:
        criterion = world.catalog.criteria.get(id_)
        if criterion is None:
            raise WhatIfError("unknown_criterion", criterion=id_)
        refused = accepts(criterion, action.kind)
        if refused is not None:
            raise WhatIfError(refused, criterion=id_)


def _vet_confirm(world: World, action: Confirm) -> None:
    framework = world.catalog.frameworks.get(action.framework)
    if framework is None or action.group not in {g.id for g in framework.groups}:
        raise WhatIfError("unknown_group", framework=action.framework, group=action.group)
    for id_ in action.criteria:
        criterion = world.catalog.criteria.get(id_)
        if criterion is None or (criterion.framework, criterion.group) != (action.framework, action.group):
            raise WhatIfError("unknown_criterion", criterion=id_)
        if not can_confirm(criterion):
            raise WhatIfError("not_to_confirm", criterion=id_)


# ------------------------------------------------------------------------------------------- the answer


def _change(then: Imagined, before: CriterionScore, after: CriterionScore) -> Change:
    criterion = then.catalog.criteria[after.id]
    names = {*criterion.checks, fact_of(criterion.id)}
    because = sorted({by for (check, _), by in then.touched.items() if check in names})
    return Change(
        after.id,
        criterion.framework,
        criterion.group,
        before.verdict,
        after.verdict,
        before.reason,
        after.reason,
        tuple(because),
    )


def ahead(catalog: Catalog, now: GroupScore, scores: Mapping[str, CriterionScore], day: date) -> Ahead:
    """What the next level of a group still lacks. Where the list is open, the levels are counted as if it were not."""
    framework = catalog.frameworks[now.framework]
    group = next(g for g in framework.groups if g.id == now.group)
    if framework.rule == "share" or not in_force(group.in_force, day):
        return Ahead(None, (), not group.list_complete, False)
    scored = [c for c in framework.criteria if c.group == group.id and c.scored]
    words = {c.id: scores[c.id].verdict for c in scored}
    here = highest(framework.rule, group, scored, words, HOLDS, some_met=True)
    index = 0 if here is None else group.levels.index(here) + 1
    if index == len(group.levels):
        return Ahead(None, (), not group.list_complete, False)
    level = group.levels[index]
    asked = required(framework, group, level)
    missing = tuple(scores[c.id] for c in asked if scores[c.id].verdict not in HOLDS)
    return Ahead(level, missing, not group.list_complete, not missing)


def required(framework: Framework, group: Group, level: str) -> tuple[Criterion, ...]:
    """The scored criteria that a level asks for, those of lower levels included where the rule is cumulative."""
    top = group.levels.index(level)
    levels = group.levels[: top + 1] if framework.rule == "cumulative" else (level,)
    return tuple(
        c for c in framework.criteria if c.group == group.id and c.scored and any(lv in levels for lv in c.levels)
    )


def assumptions(world: World, actions: Sequence[Action]) -> tuple[Reason, ...]:
    """What has to hold for the answer to come true, each thing once (texts: whatif.<code>)."""
    makers: dict[str, Callable[[Any], Iterable[Reason]]] = {
        "Buy": lambda a: _assume_purchase(world, a),
        "Run": lambda a: [Reason("assume_play", {"play": a.play, "hosts": len(world.reach[a.play])})],
        "Lose": lambda a: [Reason("assume_loss", {"asset": a.asset})],
        "Declare": lambda a: [Reason("assume_word", {"criterion": c, "kind": str(a.kind)}) for c in a.criteria],
        "Confirm": lambda a: _assume_law(world, a),
    }
    found: dict[str, Reason] = {}
    for action in sorted(actions, key=_order):
        for reason in makers[type(action).__name__](action):
            found.setdefault(canonical(reason).decode(), reason)
    return tuple(found.values())


def _assume_purchase(world: World, action: Buy) -> list[Reason]:
    item = world.items[action.item]
    figures = {"item": item.id, "title": item.title, "quantity": action.quantity, "sentence": item.assumption}
    return [Reason("assume_purchase", figures)] if action.quantity else []


def _assume_law(world: World, action: Confirm) -> Iterable[Reason]:
    where = {"framework": action.framework, "group": action.group}
    framework = world.catalog.frameworks[action.framework]
    drafts = [c for c in framework.criteria if c.group == action.group and c.standing is Standing.DRAFT]
    chosen = [c for c in drafts if can_confirm(c) and (not action.criteria or c.id in action.criteria)]
    without = 0 if action.criteria else sum(1 for c in drafts if not can_confirm(c))
    yield Reason("assume_confirmed", where | {"count": len(chosen), "without_level": without})
    if action.list_complete:
        yield Reason("assume_list", where)
    if action.table:
        yield Reason("assume_table", {"framework": action.framework})
