"""The hospital judged, now or on a past day: overview, explanation, difference. It keeps nothing on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from controlplane.bootstrap.rules import PACK, Rules
from controlplane.collect.facts import FACTS
from controlplane.collect.inventory import Inventory
from controlplane.collect.yaml_file import InventoryError
from controlplane.domain.catalog import CatalogError, make_checks
from controlplane.domain.chain import Break
from controlplane.domain.compare import Difference, Run, Side, because
from controlplane.domain.coverage import coverage
from controlplane.domain.explain import Confirmed, Explanation, explain
from controlplane.domain.incremental import Ledger, differing, judge_all, rejudge
from controlplane.domain.judge import State, Trial, judge, try_check
from controlplane.domain.model import Asset, Catalog, Finding, Reason, Scorecard
from controlplane.domain.overview import (
    Overview,
    RoundView,
    TrendPoint,
    blockers,
    count_kinds,
    group_views,
    milestones_from,
    totals,
)
from controlplane.domain.score import score


@dataclass(frozen=True)
class Judgement:
    """The hospital judged at a time: what the faces show."""

    at: datetime
    catalog: Catalog
    card: Scorecard
    findings: tuple[Finding, ...]
    assets: Mapping[str, Asset]
    inventory_error: InventoryError | None
    round: RoundView | None


class Judgements(Rules):
    """Everything that is read from what stands."""

    _judged: tuple[Any, Judgement] | None = None
    _standing: tuple[int, State, Ledger] | None = (
        None  # the head it was judged at, what stood then, the hospital judged
    )

    @property
    def today(self) -> date:
        """The hospital's day."""
        return self.clock().astimezone(self.settings.timezone).date()

    def judgement(self, as_of: date | None = None, law: date | None = None) -> Judgement:
        """The hospital now, or at the end of a past day by the rules, the assets and the evidence of that day.

        ``law`` asks for the frameworks in force on another day: today's evidence in the frame of the plan of 2025.
        """
        now, today = self.clock(), self.today
        if as_of is not None and as_of >= today:
            as_of = None  # of a day that has not ended yet, the evidence of now is all there is
        if as_of is not None:
            now = datetime.combine(as_of + timedelta(days=1), time(), self.settings.timezone).astimezone(UTC)
        inventory, error = self.inventory()
        head = self.archive.head()
        minute = now.replace(second=0, microsecond=0)
        key = (head and head.seq, as_of, law, inventory.digest, minute, str(error))
        if self._judged is None or self._judged[0] != key:
            self._judged = (key, self._judge(now, as_of, law, inventory, error))
        return self._judged[1]

    def _judge(
        self, now: datetime, as_of: date | None, law: date | None, inventory: Inventory, error: InventoryError | None
    ) -> Judgement:
        if as_of is None:
            ledger, last = self._judge_now(now, inventory), self.archive.last_round()
            catalog = ledger.plan.catalog
            card = ledger.card if law is None else score(catalog, ledger.findings, law)
            return Judgement(now, catalog, card, ledger.findings, inventory.assets, error, last)
        state, last = self.archive.state(now), self.archive.last_round(now)
        catalog, assets = self.catalog, inventory.assets
        if last is not None:
            catalog, assets = self._rules_of(last)
        findings = judge(catalog, assets.values(), state, now, as_of)
        return Judgement(now, catalog, score(catalog, findings, law or as_of), findings, assets, error, last)

    def _judge_now(self, now: datetime, inventory: Inventory) -> Ledger:
        """The hospital judged at ``now``, from what was kept of the last time: it costs what has changed since."""
        catalog, assets, day = self.catalog, inventory.assets.values(), now.astimezone(self.settings.timezone).date()
        head = self.archive.head()
        seq = head.seq if head else 0
        state: State
        if self._standing is None:
            state = self.archive.state()
            ledger = judge_all(catalog, assets, state, now, day)
        else:
            seq_before, before, kept = self._standing
            state = before if seq == seq_before else self.archive.state()
            ledger = rejudge(kept, catalog, assets, state, differing(before, state), now, day)
        self._standing = (seq, state, ledger)
        return ledger

    def overview(self, as_of: date | None = None, most_blockers: int = 3, law: date | None = None) -> Overview:
        """One screen: levels, gaps, days left, blockers, trend."""
        j = self.judgement(as_of, law)
        day = min(as_of or self.today, self.today)  # of another law, too: its days are counted from here
        counts, total, drafts, automated = totals(j.catalog, j.card)
        broken = self.chain_state()
        head = self.archive.head()
        answered = [a for a in j.assets.values() if a.name in self._answered(j.round)]
        trend = tuple(
            TrendPoint(at, words.get("met", 0), words.get("not_met", 0), sum(words.values()))
            for at, words in self.archive.trend()
            if at <= j.at
        )
        return Overview(
            at=j.at,
            as_of=day,
            campaign=self.campaign,
            groups=group_views(j.catalog, j.card, self.campaign),
            milestones=milestones_from(self.campaign, day),
            blockers=blockers(j.catalog, j.card, j.findings, self.campaign, most_blockers),
            trend=trend,
            counts=counts,
            total=total,
            drafts=drafts,
            automated=automated,
            assets=count_kinds(j.assets.values()),
            assets_looked_at=count_kinds(answered),
            last_round=j.round,
            chain_head=head.seal if head else "",
            chain_holds=broken is None,
            notes=self._notes(j, broken),
            coverage=tuple(c for c in coverage(j.catalog) if c.framework in {g.framework for g in j.card.groups}),
            overall=j.card.overall,
        )

    def _answered(self, last: RoundView | None) -> frozenset[str]:
        if last is None:
            return frozenset()
        return frozenset(
            asset for (asset, _), look in self.archive.last_looks().items() if look["outcome"] == "answered"
        )

    def _notes(self, j: Judgement, broken: Break | None) -> tuple[Reason, ...]:
        notes = []
        if broken is not None:
            notes.append(Reason("chain_broken", {"seq": broken.seq}))
        if j.round is None:
            notes.append(Reason("no_round"))
        newest = self.archive.rounds(1)
        if newest and newest[0].state == "interrupted":
            notes.append(Reason("interrupted", {"round": newest[0].id}))
        if j.inventory_error is not None:
            notes.append(Reason("inventory_error", {"sentence": j.inventory_error.words}))
        broken_lists = [r for r in self.registers(self.inventory()[0]).values() if isinstance(r, InventoryError)]
        notes.extend(Reason("inventory_error", {"sentence": r.words}) for r in broken_lists)
        return tuple(notes)

    def chain_state(self) -> Break | None:
        """The first break of the chain, walked from its first link."""
        return self.archive.first_break()

    def explain(self, criterion: str, as_of: date | None = None, law: date | None = None) -> Explanation:
        """A criterion down to its observations. Raises ``KeyError``."""
        j = self.judgement(as_of, law)
        ids = [f.observation for f in j.findings if f.observation]
        words = self.archive.words_about(criterion, j.at if as_of else None)
        story = explain(criterion, j.catalog, j.card, j.findings, self.archive.observations(ids), words)
        return replace(story, confirmed=self._confirmed(criterion, j.at))

    def _confirmed(self, criterion: str, until: datetime) -> Confirmed | None:
        """The newest comparison of a criterion with its official text, up to a time."""
        for link in reversed(list(self.archive.chain(PACK))):
            at = datetime.fromisoformat(link.at)
            body = self.archive.body(link)
            overlay = body["overlay"]
            named = {*(overlay.get("criteria") or ()), *(row["id"] for row in overlay.get("added") or ())}
            if at <= until and criterion in named:
                text = overlay["document"]
                return Confirmed(body["by"], at, text["name"], text["sha256"], link.seq)
        return None

    def try_checks(self, file: str, document: Any) -> list[Trial]:
        """Checks of a file against the latest facts, by name. Raises ``CatalogError`` naming file and entry."""
        checks = make_checks({file: document}, facts=frozenset(FACTS), plays=frozenset(self.plays))
        served = {name for check in checks.values() for name in (*check.serves, *check.partly)}
        if unknown := served - self.catalog.criteria.keys():
            raise CatalogError(f"{file}: serves {min(unknown)!r}, which no framework holds")
        assets, state, now = self.inventory()[0].assets.values(), self.archive.state(), self.clock()
        return [try_check(self.catalog, check, assets, state, now, self.today) for _, check in sorted(checks.items())]

    def difference(self, before: str, after: str, under_way: Sequence[Run] = ()) -> Difference:
        """What moved between two rounds, from what they sealed, and because of what. Raises ``KeyError``.

        ``under_way`` are runs that are not kept yet: the one whose dossier the difference will stand in.
        """
        sides = []
        for id_ in (before, after):
            catalog, _ = self._rules_of(self.archive.round(id_))
            sides.append(Side(catalog, *self.archive.sealed(id_)))
        return self._because(sides[0], sides[1], under_way)

    def difference_of_days(self, before: date, after: date | None = None) -> Difference:
        """What moved between the end of one day and the end of another, or now."""
        old, new = self.judgement(before), self.judgement(after)
        return self._because(Side(old.catalog, old.card, old.findings), Side(new.catalog, new.card, new.findings))

    def _because(self, before: Side, after: Side, under_way: Sequence[Run] = ()) -> Difference:
        ids = {f.observation for side in (before, after) for f in side.findings if f.observation}
        runs = [
            Run(run["id"], frozenset(run["hosts"]), run["started_at"], run["applied_at"] or run["ended_at"])
            for run in self.archive.runs(None, mode="apply", state="successful")
            if run["ended_at"]
        ]
        return because(before, after, self.archive.observations(ids), [*runs, *under_way])
