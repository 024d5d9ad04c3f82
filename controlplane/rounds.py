"""The route: look, derive, keep the bytes, judge, score, keep. Read this first.

Nothing flows back: a play mends, and only the next (narrow) round may see whether it helped. This module knows
neither devices nor tables: it is handed a way to look, a way to derive, an archive and a clock.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from controlplane.domain.judge import State, judge
from controlplane.domain.model import Asset, Catalog, Finding, Look, Observation, Scorecard
from controlplane.domain.overview import RoundView
from controlplane.domain.score import score

Clock = Callable[[], datetime]
Looks = Iterable[tuple[Look, Sequence[Observation]]]
Gather = Callable[[Sequence[Asset]], Looks]
Derive = Callable[[Sequence[Asset], State], Looks]
"""What follows from what now stands, the looks of this round included; it touches no device."""


class StagedLooks(Protocol):
    """What a round has seen, set against what stood before."""

    @property
    def state(self) -> State: ...


class Keeper(Protocol):
    """What the route needs of the archive."""

    def lock(self, name: str, wait: bool = False) -> AbstractContextManager[None]: ...
    def open_round(self, id_: str, at: datetime, only: Sequence[str], catalog: str, inventory: str) -> Any: ...
    def stage(self, seen: Looks, onto: Any = None) -> StagedLooks: ...
    def close_round(
        self, ticket: Any, staged: Any, findings: Sequence[Finding], card: Scorecard, at: datetime
    ) -> RoundView: ...


def make_round(
    catalog: Catalog,
    assets: Mapping[str, Asset],
    inventory_digest: str,
    gather: Gather,
    archive: Keeper,
    clock: Clock,
    zone: ZoneInfo,
    only: Sequence[Asset] | None = None,
    derive: Derive = lambda _assets, _state: (),
) -> RoundView:
    """Walk the hospital once and keep what was seen. ``only`` narrows the looks; the whole hospital is scored again."""
    targets = tuple(only) if only is not None else tuple(assets.values())
    with archive.lock("round"):
        started_at = clock()
        id_ = new_id(started_at)
        names = [a.name for a in targets] if only is not None else []
        ticket = archive.open_round(id_, started_at, names, catalog.digest, inventory_digest)
        staged = archive.stage(gather(targets))
        staged = archive.stage(derive(targets, staged.state), onto=staged)
        now = clock()
        day = now.astimezone(zone).date()
        findings = judge(catalog, assets.values(), staged.state, now, day)
        card = score(catalog, findings, day)
        return archive.close_round(ticket, staged, findings, card, clock())


def new_id(at: datetime) -> str:
    """A name that sorts by time: 20261123T021500Z-9f3a1c."""
    return f"{at.strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}"
