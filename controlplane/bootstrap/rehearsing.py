"""Rehearsals on a schedule: once a week every data set within reach is restored for trial; a missed week is made up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, time, timedelta

from controlplane.backup import BackupError
from controlplane.backup.causes import end_all
from controlplane.bootstrap.backing import CUT_SHORT, Backing
from controlplane.bootstrap.clockwork import each_minute
from controlplane.bootstrap.looking import Looking
from controlplane.bootstrap.proofs import Row
from controlplane.domain.chain import stamp

log = logging.getLogger(__name__)

WEEK = "mon tue wed thu fri sat sun".split()


class Rehearsing(Backing, Looking):
    """The clock of the restore drills."""

    @contextmanager
    def keeping_time(self) -> Iterator[None]:
        """What is kept on time besides, and the weekly rehearsals; one under way is ended with the block."""
        with ExitStack() as clocks:
            if self.settings.deep_drill_at:
                clocks.enter_context(each_minute("week", self.rehearse_due, end_all))
            clocks.enter_context(super().keeping_time())
            yield

    def rehearse_due(self, cancelled: Callable[[], bool] = lambda: False) -> list[Row]:
        """Rehearse every data set that is due, one after the other; what was kept of them.

        One that cannot be rehearsed at all is logged, and the others have their turn.
        """
        kept = []
        for dataset, repository in self.due_rehearsals():
            if cancelled():
                break
            try:
                kept.append(self.rehearse_backup(dataset, repository)[0])
            except BackupError as error:
                log.warning("%s was not rehearsed: %s", dataset, error)
        return kept

    def due_rehearsals(self) -> list[tuple[str, str]]:
        """Data sets within reach that were not rehearsed since the hour of the week, by the clock or by hand.

        Each with the repository whose turn it is. A broken register is due nothing: the round tells it.
        """
        if not self.settings.deep_drill_at:
            return []
        try:
            register = self._backups()
        except BackupError:
            return []
        due = stamp(last_hour(self.settings.deep_drill_at, self.clock().astimezone(self.settings.timezone)))
        done = {dataset for dataset, _ in self._rehearsed(due)}
        waiting = [row for row in register["datasets"] if row["name"] not in done and in_turn(row, register, {})]
        last = self._rehearsed() if waiting else {}  # this is asked every minute, so years are read only when they tell
        return [(row["name"], in_turn(row, register, last)) for row in waiting]

    def _rehearsed(self, since: str = "") -> dict[tuple[str, str], str]:
        """Data set and repository -> when they were last rehearsed to an end."""
        found: dict[tuple[str, str], str] = {}
        for body in self.drills("restore", since):
            result = body["result"]
            if result["error"] != CUT_SHORT:
                found.setdefault((result["dataset"], result["repository"]), str(body["at"]))
        return found


def in_turn(row: Row, register: Row, last: Mapping[tuple[str, str], str]) -> str:
    """Of the repositories that hold a data set and are within reach the one rehearsed longest ago; empty: none.

    A copy that is taken off after it was written is not within reach of a clock.
    """
    near = {one["name"] for one in register["repositories"] if not one["offline"]}
    turns = sorted(
        (last.get((row["name"], name), ""), at) for at, name in enumerate(row["repositories"]) if name in near
    )
    return str(row["repositories"][turns[0][1]]) if turns else ""


def last_hour(setting: str, local: datetime) -> datetime:
    """The newest hour of a weekly setting ("sun 03:00") that has passed, in UTC; ``local`` is the time now."""
    day, _, hour = setting.partition(" ")
    back = (local.weekday() - WEEK.index(day)) % 7
    found = datetime.combine(local.date() - timedelta(days=back), time.fromisoformat(hour), local.tzinfo)
    return (found if found <= local else found - timedelta(days=7)).astimezone(UTC)
