"""Plays: previewed, applied, measured again, kept as a dossier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from controlplane.bootstrap.looking import Looking
from controlplane.domain.chain import plain
from controlplane.domain.model import Asset, Look, Words
from controlplane.plays import Play, PlayError, PlayRun, apply, preview
from controlplane.rounds import new_id


class Acting(Looking):
    """Plays on the hospital's hosts."""

    def run_play(
        self,
        play_id: str,
        mode: str,
        limit: Sequence[str] = (),
        on_event: Callable[[dict[str, Any]], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        progress: Callable[[Look, int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Preview or apply a play and keep it; return the dossier.

        An apply is a change dossier: narrow round, preview, apply, narrow round, and what moved between the two.
        An apply that failed is followed by no round: the score stays as it was, and the dossier says so.
        Raises ``PlayError``, ``InventoryError``, ``BusyError``.
        """
        play = self.play(play_id)
        inventory, _ = self.inventory()
        targets = inventory.select(list(limit) or [play.hosts])
        names = [asset.name for asset in targets if asset.address is not None]
        with self.archive.lock("run"):
            id_ = new_id(self.clock())
            self.archive.open_run(id_, self.clock(), play.id, mode, names)
            try:
                dossier = self._carry_out(play, mode, targets, names, on_event, cancelled, progress)
            except Exception as error:
                words = getattr(error, "words", None) or Words(str(error), str(error))
                self.archive.close_run(id_, self.clock(), "failed", {"id": id_, "error": words})
                raise
            dossier = {"id": id_, **dossier}
            link = self.archive.close_run(id_, self.clock(), dossier["run"]["state"], dossier)
        return {**dossier, "link": link.seq, "seal": link.seal}

    def play(self, play_id: str) -> Play:
        """A play by its id. Raises ``PlayError`` naming the nearest."""
        if play_id not in self.plays:
            near = ", ".join(self.plays)
            raise PlayError(
                f"Không có playbook {play_id}. Hiện có: {near}.", f"There is no play {play_id}. There are: {near}."
            )
        return self.plays[play_id]

    def _carry_out(
        self,
        play: Play,
        mode: str,
        targets: Sequence[Asset],
        names: Sequence[str],
        on_event: Callable[[dict[str, Any]], None] | None,
        cancelled: Callable[[], bool] | None,
        progress: Callable[[Look, int, int], None] | None,
    ) -> dict[str, Any]:
        options: dict[str, Any] = {
            "hosts": targets,
            "known_hosts": self.settings.known_hosts_file,
            "timeout_seconds": self.settings.play_timeout_minutes * 60,
            "clock": self.clock,
        }
        options |= {k: v for k, v in (("on_event", on_event), ("cancelled", cancelled)) if v is not None}
        arguments = (play, self.settings.inventory_files, [a.name for a in targets], self.settings.run_dir)
        if mode == "preview":
            return {"mode": mode, "play": play.id, "run": self._keep_events(preview(*arguments, **options))}
        before = self.make_round(names, progress) if names else None
        rehearsal = self._keep_events(preview(*arguments, **options))
        run = self._keep_events(apply(*arguments, **options))
        dossier: dict[str, Any] = {
            "mode": mode,
            "play": play.id,
            "preview": rehearsal,
            "run": run,
            "difference": None,
            "rounds": [],
        }
        if before is not None and run["state"] == "successful":
            after = self.make_round(names, progress)
            dossier["difference"] = plain(self.difference(before.id, after.id))
            dossier["rounds"] = [before.id, after.id]
        return dossier

    def _keep_events(self, run: PlayRun) -> dict[str, Any]:
        """The run as plain values, its events in the vault under ``events_digest``."""
        self.archive.vault.put(run.events_raw)
        return run.document()
