"""Drift: every play that was applied is previewed on its hosts once a night; what differs is evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, time, timedelta
from typing import Any

from controlplane.bootstrap.acting import Acting, Order, Watch
from controlplane.bootstrap.clockwork import each_minute
from controlplane.bootstrap.following import NOBODY
from controlplane.bootstrap.measuring import DONE
from controlplane.collect.yaml_file import InventoryError
from controlplane.domain.chain import plain, stamp
from controlplane.domain.model import Words
from controlplane.plays import PlayError
from controlplane.rounds import new_id
from controlplane.store.archive import BusyError

DRIFT = "drift"
"""The kind of link that keeps one night's differences, and the mode of its runs."""

CLOCK = "clock"

CANCELLED = "cancelled"


class Drifting(Acting):
    """What has moved away from what was applied."""

    def applied_hosts(self, before: datetime | None = None) -> dict[str, list[str]]:
        """Play -> hosts on which it was carried through, newest run first; with ``before`` only by then."""
        found: dict[str, dict[str, None]] = {}
        for run in self.archive.runs(None, mode="apply"):
            if not run["dossier"] or run["play"] not in self.plays:
                continue
            if before is not None and run["ended_at"] > before:
                continue
            known = found.setdefault(run["play"], {})
            if run["state"] == "successful":
                known.update(dict.fromkeys(run["hosts"]))
            elif set(run["hosts"]) - known.keys():
                body = (self.archive.run(run["id"]) or {})["body"] or {}
                outcomes = (body.get("run") or {}).get("outcomes") or {}
                known.update((host, None) for host, word in outcomes.items() if word in DONE)
        return {play: list(hosts) for play, hosts in found.items() if hosts}

    def drift(
        self,
        plays: Sequence[str] = (),
        on_event: Callable[[dict[str, Any]], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        *,
        by: str = NOBODY,
        opened: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """Preview every play that was applied (or these of them) on its hosts, and keep what differs as one link.

        A play that could not be previewed is told with its reason and keeps no other from being looked at. What an
        earlier check found on hosts that this one did not come through to stands under ``earlier``. ``complete`` is
        false for a check that was stopped, or that was asked for some plays only. Raises ``PlayError`` for a play
        that is not there, ``BusyError`` when another check of drift is under way.
        """
        for play_id in plays:
            self.play(play_id)
        watch = Watch(on_event, cancelled)
        with self.archive.lock("drift"):
            at = self.clock()
            id_ = new_id(at)
            if opened is not None:
                opened(id_)
            applied = self.applied_hosts()
            asked = {play: hosts for play, hosts in applied.items() if not plays or play in plays}
            checked = [self._drift_of(play, hosts, watch, by) for play, hosts in asked.items()]
            cut_short = any(part["state"] == CANCELLED for part in checked)
            body = {"id": id_, "at": stamp(at), "by": by, "complete": not plays and not cut_short, "plays": checked}
            body["earlier"] = self._not_seen_again(applied, checked)
            link = self.archive.append(DRIFT, body, self.clock())
        return {**body, "link": link.seq, "seal": link.seal}

    def _drift_of(self, play_id: str, hosts: Sequence[str], watch: Watch, by: str) -> dict[str, Any]:
        inventory, _ = self.inventory()
        here = [host for host in hosts if host in inventory.assets]
        told: dict[str, Any] = {"play": play_id, "hosts": here, "run": None, "differences": [], "error": None}
        told["gone"] = sorted(set(hosts) - set(here))
        if not here:
            return told | {"state": "no_hosts"}
        if watch.stop():
            return told | {"state": CANCELLED}  # nothing is opened for it
        order = Order(self.play(play_id), DRIFT, tuple(inventory.select(here)), by)
        try:
            dossier = self.carry_out(order, Watch(watch.on_event, watch.cancelled))
        except (PlayError, BusyError, InventoryError) as error:
            words = getattr(error, "words", None) or Words(f"đang bận: {error}", f"busy: {error}")
            return told | {"state": "refused", "error": plain(words)}
        told |= {"run": dossier["id"], "state": dossier["state"], "outcomes": dossier["run"]["outcomes"]}
        return told | {"differences": self._differences(dossier["run"])}

    def _differences(self, run: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Each task that would change something: where, what, and the criteria it stands for."""
        known = self.catalog.criteria
        return [
            {name: task[name] for name in ("host", "task", "diff")}
            | {"criteria": [tag for tag in task["tags"] if tag in known]}
            for task in run["tasks"]
            if task["status"] == "would_change"
        ]

    def _not_seen_again(
        self, applied: Mapping[str, Sequence[str]], checked: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """What stood before on hosts that this check did not come through to; each with the time it was seen."""
        inventory, _ = self.inventory()
        through = {
            (part["play"], host) for part in checked for host, word in part.get("outcomes", {}).items() if word in DONE
        }
        now = {(part["play"], d["host"], d["task"]) for part in checked for d in part["differences"]}
        return [
            d
            for d in _standing(self.last_drift())
            if d["host"] in applied.get(d["play"], ())
            and d["host"] in inventory.assets
            and (d["play"], d["host"]) not in through
            and (d["play"], d["host"], d["task"]) not in now
        ]

    def last_drift(self) -> dict[str, Any] | None:
        """What the newest check of drift found, or None when there was none."""
        newest = next(self.archive.backwards(DRIFT), None)
        return {"complete": True, "earlier": [], **newest} if newest else None  # as it was kept before these were

    def drift_by_criterion(self) -> dict[str, list[dict[str, Any]]]:
        """Criterion -> the differences that stand and point at it, each with its ``play``, ``run`` and ``seen_at``."""
        found: dict[str, list[dict[str, Any]]] = {}
        for difference in _standing(self.last_drift()):
            for criterion in difference["criteria"]:
                found.setdefault(criterion, []).append(difference)
        return found

    # ------------------------------------------------------------------------------------------- at night

    @contextmanager
    def keeping_time(self) -> Iterator[None]:
        """Rounds on time, and once a night the check of drift; a missed night is made up at once."""
        with ExitStack() as clocks:
            if self.settings.drift_at:
                clocks.enter_context(each_minute("night", self.drift_if_due))
            clocks.enter_context(super().keeping_time())
            yield

    def drift_if_due(self, cancelled: Callable[[], bool]) -> None:
        """The check of the night, once."""
        if self.drift_is_due():
            self.drift(cancelled=cancelled, by=CLOCK)

    def drift_is_due(self) -> bool:
        """Whether the hour of the check has passed since the last complete one, with something applied before it."""
        if not self.settings.drift_at:
            return False
        local = self.clock().astimezone(self.settings.timezone)
        hour = datetime.combine(local.date(), time.fromisoformat(self.settings.drift_at), self.settings.timezone)
        due = (hour if hour <= local else hour - timedelta(days=1)).astimezone(UTC)
        since = stamp(due)
        made = any(body.get("complete", True) and body["at"] >= since for body in self.archive.backwards(DRIFT, since))
        return not made and bool(self.applied_hosts(due))


def _standing(check: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The differences of a check and those that it kept from earlier ones."""
    if check is None:
        return []
    found = [
        difference | {"play": part["play"], "run": part["run"], "seen_at": check["at"]}
        for part in check["plays"]
        for difference in part["differences"]
    ]
    return [*found, *check["earlier"]]
