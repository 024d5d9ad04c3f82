"""Rounds: one look at the hospital, and the clock that makes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from controlplane.bootstrap.judgements import Judgements
from controlplane.bootstrap.rules import public
from controlplane.collect import gather as gathering
from controlplane.collect.facts import FACTS
from controlplane.collect.record import derive_from
from controlplane.collect.yaml_file import InventoryError
from controlplane.domain.chain import canonical
from controlplane.domain.model import Asset, Look
from controlplane.domain.overview import RoundView
from controlplane.rounds import make_round
from controlplane.store.archive import BusyError

log = logging.getLogger(__name__)


class Looking(Judgements):
    """Rounds over the hospital."""

    def make_round(
        self, only: Sequence[str] = (), progress: Callable[[Look, int, int], None] | None = None
    ) -> RoundView:
        """One round over the whole hospital, or over hosts and groups. Raises ``InventoryError``, ``BusyError``."""
        inventory, _ = self.inventory()
        targets = inventory.select(only) if only else None
        catalog, body = self.catalog, self.catalog_body
        self.archive.vault.put(body)  # so that an earlier day can be judged again by the rules of that day
        digest = self.archive.vault.put(canonical([public(a) for a in inventory.assets.values()]))

        def look_at(assets: Sequence[Asset]) -> Any:
            return gathering.gather(
                assets,
                self._transports,
                FACTS,
                self.clock,
                at_once=self.settings.at_once,
                look_deadline_seconds=self.settings.look_deadline_seconds,
                round_deadline_seconds=self.settings.round_deadline_seconds,
                progress=progress,
            )

        derive = derive_from(FACTS, self.holdings(inventory), self.archive, self.clock)
        zone = self.settings.timezone
        return make_round(catalog, inventory.assets, digest, look_at, self.archive, self.clock, zone, targets, derive)

    @contextmanager
    def keeping_time(self) -> Iterator[None]:
        """Make a round every ``round_every_minutes`` while the block lasts; a missed tick is made up at once."""
        stop = threading.Event()
        minutes = self.settings.round_every_minutes
        clockwork = threading.Thread(target=self._tick, args=(stop, minutes * 60), name="clock", daemon=True)
        if minutes:
            clockwork.start()
        try:
            yield
        finally:
            stop.set()
            if clockwork.is_alive():
                clockwork.join(timeout=self.settings.look_deadline_seconds + 10)

    def _tick(self, stop: threading.Event, every_seconds: int) -> None:
        while True:
            last = self.archive.last_round()
            age = (self.clock() - last.ended_at).total_seconds() if last and last.ended_at else every_seconds
            if stop.wait(max(1.0, every_seconds - age)):
                return
            try:
                self.make_round()
            except (BusyError, InventoryError, OSError) as error:
                log.warning("the round on time was not made: %s", error)
                if stop.wait(60):
                    return
