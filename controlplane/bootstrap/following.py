"""Runs under way, seen from anywhere: events as they come, how far they are, a wish to stop, and the dead ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from controlplane.bootstrap.looking import Looking
from controlplane.domain.chain import Link
from controlplane.plays import STEP, PlayError, Progress, follow, lines_of, progress_of, sweep
from controlplane.store.archive import BusyError

NOBODY = "emrctl"
"""Who acts when nobody is named: somebody at the terminal of the control plane."""


class Following(Looking):
    """Runs of this or of any other process on the same store."""

    def run_line(self, run_id: str) -> dict[str, Any]:
        """One run without its dossier. Raises ``PlayError``."""
        line = self.archive.run_line(run_id)
        if line is None:
            raise PlayError(f"Không có lần chạy {run_id}.", f"There is no run {run_id}.")
        return line

    def follow(self, run_id: str, after: int = 0, wait_seconds: float = 0.3) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number, event) from the first after ``after`` until the run has ended; of a kept run, what was kept.

        Besides the events of the play there are ``emr_step`` (which step of the run begins) and ``emr_look``. A kept
        run has fewer of those, so numbers hold for one sitting only. Raises ``PlayError`` for a run that is not there.
        """
        self.run_line(run_id)
        try:
            events = follow(self._live_file(run_id), lambda: not self._is_running(run_id), wait_seconds)
            first = next(events, None)
        except FileNotFoundError:
            first, events = None, self._kept_events(run_id)
        yield from _numbered(first, events, after)

    def progress(self, run_id: str) -> Progress:
        """How far a run is. Raises ``PlayError``."""
        self.run_line(run_id)
        try:
            return progress_of(lines_of(self._live_file(run_id).read_bytes()))
        except FileNotFoundError:
            return progress_of(self._kept_events(run_id))

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

    def _kept_events(self, run_id: str) -> Iterator[dict[str, Any]]:
        found = self.archive.run(run_id) or {}
        if found.get("state") == "interrupted":
            yield from self._events_of_dead(run_id)
        body: Mapping[str, Any] = found.get("body") or {}
        for key, step in (("preview", "preview"), ("run", str(body.get("mode", "")))):
            if name := (body.get(key) or {}).get("events_digest"):
                yield {"event": STEP, "step": step}
                yield from lines_of(self.archive.vault.get(name))

    def _events_of_dead(self, run_id: str) -> Iterator[dict[str, Any]]:
        for link in self.archive.chain("run_interrupted"):
            body = self.archive.body(link)
            if body["id"] == run_id and body.get("events"):
                yield from lines_of(self.archive.vault.get(body["events"]))


def _numbered(
    first: dict[str, Any] | None, events: Iterator[dict[str, Any]], after: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    whole = events if first is None else chain([first], events)
    for number, event in enumerate(whole, start=1):
        if number > after:
            yield number, event
