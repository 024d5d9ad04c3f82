"""Backups as declared in the register: rehearsed, checked, compared and tried, each result kept in the chain."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from controlplane import texts
from controlplane.backup import BackupError, Repository, restic
from controlplane.backup.causes import NOT_ASKED
from controlplane.backup.drill import note_drill, prove_refusal, rehearse
from controlplane.backup.repository import RECORD, next_part
from controlplane.backup.spot import compare
from controlplane.bootstrap.proofs import DRILL, Proofs, Row
from controlplane.collect.facts.record_backup import queried
from controlplane.collect.yaml_file import InventoryError
from controlplane.settings import OWN_RESTIC

log = logging.getLogger(__name__)

CUT_SHORT = "interrupted"
"""How a rehearsal ended that was cut short, by the end of the service for one: it says nothing of the backup."""

CHECK_PARTS = 14
"""Checks that together read every byte of a repository: two weeks of daily ones."""


class Backing(Proofs):
    """What is proven of backups from the control plane's own place."""

    def rehearse_backup(self, dataset: str, repository: str = "", record: Path = Path(RECORD)) -> tuple[Row, bytes]:
        """Rehearse the restore of a data set; the kept body, and its minutes as .docx.

        A drill that failed is kept, too. Raises ``BackupError`` for what is not declared.
        """
        from controlplane.reports.minutes import render_minutes  # noqa: PLC0415  # docx is slow to load

        row = self._dataset(dataset)
        wanted = repository or next(iter(row["repositories"]), "")
        drill = rehearse(
            self._repository(wanted),
            dataset,
            self.clock,
            host=row["host"],
            database=queried(row),
            record=str(record),
        )
        body, purpose = drill.document(), row["purpose"]["vi"]
        paper = render_minutes(
            body,
            purpose,
            self.campaign.hospital,
            texts.speaker("vi"),
            row["rpo_minutes"],
            hashed_only=row["class"] == "database" and not queried(row),
        )
        kept = self._keep_drill("restore", {"result": body, "minutes": self.archive.vault.put(paper)})
        if drill.error != CUT_SHORT:
            try:
                note_drill(record, drill)
            except OSError as error:  # the record is the job's and root's; a service with few rights cannot write there
                log.info("the drill is kept in the chain alone, not in the record of this machine: %s", error)
        return kept, paper

    def check_backups(self, repository: str = "", of: int = CHECK_PARTS) -> list[Row]:
        """Check repositories, reading the next part of each; a cycle of ``of`` checks reads everything."""
        kept = []
        for one in self._repositories(repository):
            part = next_part(self._last_part(one.name), of)
            body: Row = {"repository": one.name, "part": part, "of": of, "ok": True, "tried": True}
            try:
                restic.release_stale(one, self.clock)
                restic.check(one, part, of)
            except BackupError as error:
                tried = error.code not in NOT_ASKED
                body |= {"ok": False, "tried": tried, "error": error.code, "said": error.words}
            kept.append(self._keep_drill("check", {"result": body}))
        return kept

    def prove_refusals(self, repository: str = "") -> list[Row]:
        """Try to delete a canary from repositories by this machine's own credentials; what was not tried says so."""
        kept = []
        for one in self._repositories(repository):
            try:
                restic.release_stale(one, self.clock)
                proof = prove_refusal(one, self.clock, "controlplane")
                body = proof.document() | {"ok": proof.refused, "tried": True}
            except BackupError as error:
                body = {"repository": one.name, "ok": False, "tried": False, "error": error.code, "said": error.words}
            kept.append(self._keep_drill("refusal", {"result": body}))
        return kept

    def compare_backup(self, dataset: str, seed: int, repository: str = "", count: int = 50) -> Row:
        """Compare files of the source with the newest snapshot. Raises ``BackupError``."""
        row = self._dataset(dataset)
        wanted = repository or next(iter(row["repositories"]), "")
        spot = compare(
            self._repository(wanted),
            dataset,
            row["paths"],
            self.clock,
            host=row["host"],
            excludes=row["excludes"],
            count=count,
            seed=seed,
        )
        return self._keep_drill("spot", {"result": spot.document()})

    def snapshots_of(self, repository: str = "") -> list[Row]:
        """The snapshots of repositories, the oldest first; one that cannot be asked says why."""
        return [
            self._asked(one, lambda r: {"snapshots": restic.snapshots(r)}) for one in self._repositories(repository)
        ]

    def stats_of(self, repository: str = "") -> list[Row]:
        """What repositories hold: bytes stored, snapshots counted; one that cannot be asked says why."""

        def counted(one: Repository) -> Row:
            return {"stored_bytes": restic.stats(one)["total_size"], "snapshots": len(restic.snapshots(one))}

        return [self._asked(one, counted) for one in self._repositories(repository)]

    @staticmethod
    def _asked(one: Repository, ask: Callable[[Repository], Row]) -> Row:
        try:
            return {"repository": one.name, "ok": True, **ask(one)}
        except BackupError as error:
            return {"repository": one.name, "ok": False, "error": error.code, "said": error.words}

    def _keep_drill(self, what: str, body: Row) -> Row:
        whole = {"what": what, "at": self.clock(), **body}
        link = self.archive.append(DRILL, whole, self.clock())
        return {**whole, "link": link.seq, "seal": link.seal}

    def _last_part(self, repository: str) -> dict[str, int] | None:
        """The last part of a repository that was read and found whole."""
        for body in self.drills("check"):
            result = body["result"]
            if result["repository"] == repository and result["ok"]:
                return {"part": result["part"], "of": result["of"]}
        return None

    def _backups(self) -> Row:
        inventory, _ = self.inventory()
        register = self.registers(inventory)["backups"]
        if isinstance(register, InventoryError):
            raise BackupError("broken_register", why=f"{register.place}: {register.words.vi}")
        found: Row = register
        return found

    def _dataset(self, name: str) -> Row:
        rows = {row["name"]: row for row in self._backups()["datasets"]}
        if name not in rows:
            raise BackupError("no_dataset", name=name, known=", ".join(rows) or "-")
        return rows[name]  # type: ignore[no-any-return]

    def _repositories(self, name: str = "") -> list[Repository]:
        rows = self._backups()["repositories"]
        if not rows:
            raise BackupError("nothing_declared")
        return [self._repository(row["name"]) for row in rows if not name or row["name"] == name] or [
            self._repository(name)
        ]

    def _repository(self, name: str) -> Repository:
        rows = {row["name"]: row for row in self._backups()["repositories"]}
        if not rows:
            raise BackupError("nothing_declared")
        if name not in rows:
            raise BackupError("no_store", name=name or "-", known=", ".join(rows))
        secrets, location = self.settings.secrets_dir, rows[name]["location"]
        keys, ssh_key = secrets / f"restic-{name}.env", secrets / f"restic-{name}.key"
        return Repository(
            name,
            secrets / f"restic-{name}",
            location or "",
            None if location else secrets / f"restic-{name}.location",
            self._restic(),
            self.settings.data_dir / "cache" / "restic",
            keys if keys.exists() else None,
            ssh_key if ssh_key.exists() else None,
            self.settings.known_hosts_file,
        )

    def _restic(self) -> str:
        own = self.settings.home / OWN_RESTIC
        return str(own) if own.exists() else shutil.which("restic") or "restic"
