"""What lies ahead: evidence that ends, the dates of the plan, and what imagined actions would do. It keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.bootstrap.judgements import Judgement, Judgements
from controlplane.bootstrap.rules import read_yaml
from controlplane.domain.cheapest import Plan, cheapest, next_goal, offers_for
from controlplane.domain.decay import Ending, expiring, good_until, levels_until, stay_met
from controlplane.domain.forecast import Forecast, expiries, forecast
from controlplane.domain.incremental import judge_all
from controlplane.domain.market import Item, load_items
from controlplane.domain.score import GroupKey
from controlplane.domain.whatif import Action, WhatIf, World, reach_of, what_if

SOON_DAYS = 90
MOST_LOOKS = 2_000  # branches of a search that somebody waits for


@dataclass(frozen=True)
class Costs:
    """What the hospital was offered and what its hours are worth."""

    prices: Mapping[str, int]  # item -> VND for one
    play_hours: int = 0
    document_hours: int = 0
    vnd_per_hour: int = 0


@dataclass(frozen=True)
class Ageing:
    """How what is proven now fades if nobody looks or signs again."""

    soon: tuple[Ending, ...]
    criteria: Mapping[str, Ending | None]  # until when each criterion that holds does so, and what then ends
    levels: Mapping[GroupKey, Ending | None]
    stays: Mapping[int, int]  # days from now -> of the criteria met now, how many are met then


class Ahead(Judgements):
    """Questions about days to come."""

    _aged: tuple[Judgement, int, Ageing] | None = None

    @property
    def items(self) -> Mapping[str, Item]:
        """What can be bought, in the order of its file. Raises ``CatalogError``."""
        file = self.settings.home / "checks" / "market" / "items.yaml"
        return load_items(read_yaml(file), self.catalog, file.name)

    def world(self) -> World:
        """What stands today, for imagining."""
        j = self.judgement()
        reach = {play.id: reach_of(play.hosts, j.assets.values()) for play in self.plays.values()}
        return World(j.catalog, j.findings, j.assets, j.card.as_of, self.items, reach)

    def imagine(self, actions: Sequence[Action]) -> WhatIf:
        """The levels if the actions were taken. Raises ``WhatIfError``."""
        return what_if(self.world(), actions)

    def way_to_the_next(self, framework: str, group: str, costs: Costs, given: Sequence[Action] = ()) -> Plan | None:
        """The cheapest set that proves a group's next level; None where there is none. Raises ``WhatIfError``."""
        world = self.world()
        goal = next_goal(world, framework, group, given)
        if goal is None:
            return None
        hours = {"play_hours": costs.play_hours, "document_hours": costs.document_hours}
        offers = offers_for(world, goal, costs.prices, given=given, **hours)
        per_hour = costs.vnd_per_hour
        return cheapest(world, goal, offers, given=given, vnd_per_hour=per_hour, most_looks=MOST_LOOKS)

    def forecast(self) -> Forecast:
        """When each target and milestone is reached, at the pace of the campaign so far."""
        j = self.judgement()
        ends = expiries(j.catalog, self.archive.state(), self.today, SOON_DAYS)
        return forecast(self.campaign, j.catalog, j.card, self.today, ends)

    def ageing(self, days: int = SOON_DAYS) -> Ageing:
        """Evidence that ends within so many days, until when levels stand, and how many criteria stay met."""
        j = self.judgement()
        if self._aged is None or self._aged[0] is not j or self._aged[1] != days:
            state, zone = self.archive.state(), self.settings.timezone
            ledger = judge_all(j.catalog, j.assets.values(), state, j.at, self.today)
            until = good_until(ledger, state, zone)
            levels, stays = levels_until(ledger, state, until, zone), stay_met(ledger, state, zone)
            self._aged = (j, days, Ageing(expiring(ledger, state, zone, days), until, levels, stays))
        return self._aged[2]
