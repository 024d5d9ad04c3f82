"""Runs under way, seen from anywhere: events as they come, how far they are, a wish to stop, and the dead ones."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from controlplane.bootstrap.looking import Looking
from controlplane.domain.chain import Link
from controlplane.plays import STEP, Owed, PlayError, Progress, Tail, lines_of, progress_of, sweep
from controlplane.store.archive import BusyError

NOBODY = "emrctl"
"""Who acts when nobody is named: somebody at the terminal of the control plane."""


AT_ONCE = 500  # kept events handed over at a time


class Feed:
    """A run's events after a number, as far as they have come. Whoever asks decides when to ask again."""

    def __init__(
        self, after: int, source: Tail | Iterator[tuple[int, dict[str, Any]]], running: Callable[[], bool]
    ) -> None:
        self.over = False  # nothing more will come
        self.behind = True  # more stands there already
        self._after = after
        self._source = source
        self._running = running
        self._number = 0

    def more(self) -> list[tuple[int, dict[str, Any]]]:
        """(number, event) of what came since the last call; sets ``over`` and ``behind``."""
        if isinstance(self._source, Tail):
            ended = not self._running()  # asked before reading: what is written until then is still given
            events, all_read = self._source.more()
            self.over, self.behind = ended and all_read, not all_read
            found = list(enumerate(events, start=self._number + 1))
            self._number += len(found)
        else:
            found = list(islice(self._source, AT_ONCE))
            self.behind = len(found) == AT_ONCE
            self.over = not self.behind
        return [(number, event) for number, event in found if number > self._after]

    def close(self) -> None:
        """Ask for no more."""
        if isinstance(self._source, Tail):
            self._source.close()


class Following(Looking):
    """Runs of this or of any other process on the same store."""

    def run_line(self, run_id: str) -> dict[str, Any]:
        """One run without its dossier. Raises ``PlayError``."""
        line = self.archive.run_line(run_id)
        if line is None:
            raise PlayError(f"Không có lần chạy {run_id}.", f"There is no run {run_id}.")
        return line

    def feed(self, run_id: str, after: int = 0) -> Feed:
        """A run's events from the first after number ``after``, to be asked for as they come. Raises ``PlayError``."""
        self.run_line(run_id)
        try:
            return Feed(after, Tail(self._live_file(run_id)), lambda: self._is_running(run_id))
        except FileNotFoundError:
            return Feed(after, self._kept_events(run_id), lambda: False)

    def follow(self, run_id: str, after: int = 0, wait_seconds: float = 0.3) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number, event) from the first after ``after`` until the run has ended; of a kept run, what was kept.

        Besides the events of the play there are ``emr_step`` (which step of the run begins) and ``emr_look``. A kept
        run has none of the latter, and their numbers stay empty. Raises ``PlayError`` for a run that is not there.
        """
        with closing(self.feed(run_id, after)) as feed:
            while True:
                events = feed.more()
                yield from events
                if feed.over:
                    return
                if not feed.behind:
                    time.sleep(wait_seconds)

    def progress(self, run_id: str) -> Progress:
        """How far a run is. Raises ``PlayError``."""
        self.run_line(run_id)
        try:
            return progress_of(lines_of(self._live_file(run_id).read_bytes()))
        except FileNotFoundError:
            return progress_of(event for _, event in self._kept_events(run_id))

    def owed_after(self, run_id: str) -> dict[str, list[str]]:
        """Host -> handlers that an apply left undone: services that have not read their new settings yet."""
        found = self.archive.run(run_id) or {}
        if found.get("mode") != "apply":
            return {}
        if body := found.get("body"):
            kept = body.get("owed") if isinstance(body, Mapping) else None
            return kept if isinstance(kept, dict) else {}
        owed = Owed((found.get("opened") or {}).get("owed_before"))  # it was killed, or is under way
        for _, event in self._kept_events(run_id):
            owed.take(event)
        return owed.left()

    def owed_on(self, hosts: Iterable[str]) -> dict[str, list[str]]:
        """What these hosts are owed, each by the newest apply that visited it. Call it under their locks."""
        owed: dict[str, list[str]] = {}
        wanted = set(hosts)
        for line in self.archive.runs(None, mode="apply"):
            if here := wanted & set(line["hosts"]):
                left = self.owed_after(line["id"])
                owed |= {host: left[host] for host in sorted(here) if host in left}
                wanted -= here
            if not wanted:
                break
        return owed

    def cancel_run(self, run_id: str, by: str = NOBODY) -> Link:
        """Ask a run to stop, whichever process carries it out, and keep who asked. Raises ``PlayError``."""
        self.clear_abandoned()
        line = self.run_line(run_id)
        if line["state"] != "running":
            raise PlayError(
                f"Lần chạy {run_id} không còn đang chạy ({line['state']}), nên không có gì để hủy.",
                f"The run {run_id} is not under way ({line['state']}), so there is nothing to cancel.",
            )
        return self.archive.ask_to_cancel(run_id, self.clock(), by)

    def clear_abandoned(self) -> list[str]:
        """Mark what died as interrupted and end what it left behind on this machine; return the ids of rounds and runs.

        A run that is somebody's is left alone: its process holds its lock.
        """
        ended = self.archive.close_abandoned(self.clock(), self._clear)
        run_dir = self.settings.run_dir
        for folder in sorted(run_dir.iterdir()) if run_dir.is_dir() else ():
            try:
                with self.archive.run_lock(folder.name):
                    self._clear(folder.name)
            except BusyError:
                continue
        return ended

    def _clear(self, run_id: str) -> bytes:
        """End and remove what a dead run left; return its events, without a last one that was cut off."""
        sweep(self.settings.run_dir / run_id)
        shutil.rmtree(self.settings.run_dir / run_id, ignore_errors=True)
        live = self._live_file(run_id)
        events = live.read_bytes() if live.exists() else b""
        live.unlink(missing_ok=True)
        return events[: events.rfind(b"\n") + 1]

    def _live_file(self, run_id: str) -> Path:
        return self.settings.live_dir / f"{Path(run_id).name}.jsonl"

    def _is_running(self, run_id: str) -> bool:
        return bool(self.run_line(run_id)["state"] == "running")

    def _kept_events(self, run_id: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """What was kept, under the numbers it had while the run lasted."""
        found = self.archive.run(run_id) or {}
        if found.get("state") == "interrupted":
            yield from enumerate(self._events_of_dead(run_id), start=1)
        body: Mapping[str, Any] = found.get("body") or {}
        if body.get("events"):  # an error ended it: they are kept as they stood in the live file
            yield from enumerate(lines_of(self.archive.vault.get(body["events"])), start=1)
            return
        mode = str(body.get("mode", ""))
        parts = {"preview": body.get("preview"), mode: body.get("run")}
        number = 0
        # A dossier from before the steps were kept has its events numbered one after the other.
        for step in body.get("steps") or [{"step": name, "event": 0} for name, part in parts.items() if part]:
            number = step["event"] or number + 1
            yield number, {"event": STEP, "step": step["step"]}
            if name := (parts.get(step["step"]) or {}).get("events_digest"):
                for event in lines_of(self.archive.vault.get(name)):
                    number += 1
                    yield number, event

    def _events_of_dead(self, run_id: str) -> Iterator[dict[str, Any]]:
        for link in self.archive.chain("run_interrupted"):
            body = self.archive.body(link)
            if body["id"] == run_id and body.get("events"):
                yield from lines_of(self.archive.vault.get(body["events"]))
