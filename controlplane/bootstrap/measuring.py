"""What a play did to the score: a narrow round before it, one after it, and what moved between the two."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.bootstrap.approving import Approving
from controlplane.collect.yaml_file import InventoryError
from controlplane.domain.chain import plain
from controlplane.domain.compare import Run
from controlplane.domain.model import SITE, Look, Words
from controlplane.domain.overview import RoundView
from controlplane.plays import Play, PlayRun
from controlplane.store.archive import BusyError

log = logging.getLogger(__name__)

DONE = ("ok", "changed")
Progress = Callable[[Look, int, int], None]


@dataclass(frozen=True)
class Yet:
    """The part of a play's work that earlier runs did and no round after them has measured."""

    round_before: str  # the first of them began with this one; empty where there is none
    runs: tuple[Run, ...]

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts on which they were through."""
        return frozenset().union(*(run.hosts for run in self.runs))


class StoppedError(Exception):
    """Somebody wants the run to end while it looks, or waits to look."""

    words = Words("đã bị dừng trong lúc đo", "it was stopped while it looked")


class Measuring(Approving):
    """Rounds around an apply."""

    def _measured_on(self, play: Play, hosts: Sequence[str]) -> list[str]:
        """The hosts of the run, and those that show what it did elsewhere."""
        inventory, _ = self.inventory()
        return sorted({*hosts, *inventory.groups.get(play.witnesses, ())})

    def _measured(
        self,
        id_: str,
        looked_at: Sequence[str],
        before: RoundView,
        run: PlayRun,
        yet: Yet,
        progress: Progress,
        stop: Callable[[], bool],
    ) -> dict[str, Any]:
        """The round after an apply and what moved; the change stands even when nobody could look.

        A host that the run was not through with is not looked at: it is measured when a resume has completed it. What
        earlier runs of the same work changed is measured now, against the round that stood before the first of them.
        """
        through = {host for host, outcome in run.outcomes.items() if outcome in DONE}
        seen = (set(looked_at) - set(run.outcomes)) | through | yet.hosts
        try:
            after = self._look_at(sorted(seen), progress, stop)
        except (BusyError, InventoryError, OSError, StoppedError) as error:
            log.warning("no round after the apply of run %s: %s", id_, error)
            return {"after_error": plain(getattr(error, "words", None) or Words(str(error), str(error)))}
        witnesses = set(looked_at) - set(run.outcomes)
        shown = {SITE} if witnesses else set()  # what follows from the witnesses' answers
        mine = Run(id_, frozenset(through | witnesses | shown), run.started_at, run.ended_at)
        first = yet.round_before or before.id
        digests = {k: self.archive.sealed_names(id_)["findings"] for k, id_ in (("before", first), ("after", after.id))}
        difference = plain(self.difference(first, after.id, [*yet.runs, mine]))
        return {"difference": difference, "rounds": [first, after.id], "findings": digests}

    def _look_at(self, hosts: Sequence[str], progress: Progress, stop: Callable[[], bool]) -> RoundView:
        """A narrow round; one that is under way is waited for as long as a round may take.

        Raises ``StoppedError`` when somebody wants the run to end meanwhile; a round that had begun is then kept as
        interrupted. It is asked after every look, so it takes as long as one look may.
        """

        def looked(look: Look, done: int, of: int) -> None:
            progress(look, done, of)
            if done < of and stop():
                raise StoppedError

        until = time.monotonic() + self.settings.round_deadline_seconds
        while True:
            try:
                return self.make_round(hosts, looked)
            except StoppedError:
                self.clear_abandoned()
                raise
            except BusyError:
                if stop():
                    raise StoppedError from None
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)

    def _earlier_runs(self, run_id: str) -> Yet:
        """What the run that is gone on with, and those before it, changed without a round after it.

        Of a run that was killed, or whose apply an error ended, what it did is not known: nothing before it is asked.
        """
        first, runs = "", []
        while run_id:
            found = self.archive.run(run_id) or {}
            body = found.get("body") or {}
            run, rounds = body.get("run") or {}, body.get("rounds") or []
            if not body or (not run and body.get("begun")) or (run and len(rounds) != 1):
                break
            if run:  # one that was stopped or refused before its apply did nothing
                first = rounds[0]
                if hosts := _through(run.get("outcomes") or {}):
                    begun, ended = (datetime.fromisoformat(run[key]) for key in ("started_at", "ended_at"))
                    runs.append(Run(run_id, hosts, begun, ended))
            run_id = found["opened"].get("resumes") or ""
        return Yet(first, tuple(runs))


def _through(outcomes: Any) -> frozenset[str]:
    return frozenset(host for host, outcome in outcomes.items() if outcome in DONE)
