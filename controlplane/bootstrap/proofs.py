"""What was kept of proofs of backups, found again: a list for every face, and the minutes of a rehearsal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane import texts
from controlplane.backup import BackupError
from controlplane.bootstrap.judgements import Judgements
from controlplane.domain.model import Words

Row = dict[str, Any]

DRILL = "drill"
"""The kind of link that keeps a rehearsal, a check, a comparison or a refused deletion."""

MOST_PROOFS = 200


@dataclass(frozen=True)
class Proof:
    """One proof that was kept. ``what``: restore, check, refusal or spot; ``minutes``: their SHA-256 in the vault.

    One that was not ``tried`` (a lock, the network) says nothing of the repository.
    """

    link: int
    at: datetime
    what: str
    dataset: str
    repository: str
    ok: bool
    tried: bool
    said: Words
    minutes: str
    seal: str


class Proofs(Judgements):
    """Everything that is read of the proofs."""

    def drills(self, what: str, since: str = "") -> Iterator[Row]:
        """Everything of this kind that was kept since a moment, the newest first, read as it is asked for."""
        return (body for body in self.archive.backwards(DRILL, since) if body["what"] == what)

    def proofs(self, most: int = MOST_PROOFS) -> list[Proof]:
        """The newest proofs, the newest first."""
        return [proof_of(body) for body in self.archive.recent(DRILL, most)]

    def minutes_of(self, link: int) -> bytes:
        """The minutes (.docx) that a link names. Raises ``BackupError`` where there are none."""
        body = self.archive.kept_at(DRILL, link) or {}
        if not body.get("minutes"):
            raise BackupError("no_minutes", link=link)
        return self.archive.vault.get(body["minutes"])


def proof_of(body: Mapping[str, Any]) -> Proof:
    """A kept body as the faces show it."""
    result, at = body["result"], body["at"]
    return Proof(
        int(body["link"]),
        at if isinstance(at, datetime) else datetime.fromisoformat(at),
        str(body["what"]),
        str(result.get("dataset", "")),
        str(result.get("repository", "")),
        bool(result["ok"]),
        result.get("tried") is not False,
        Words(_sentence("vi", body["what"], result), _sentence("en", body["what"], result)),
        str(body.get("minutes") or ""),
        str(body["seal"]),
    )


def _sentence(lang: str, what: str, result: Mapping[str, Any]) -> str:
    """What came of it: its figures, or why there are none."""
    key = what
    if result.get("error"):
        key = "ended" if result.get("tried") is not False else "not_checked" if what == "check" else "not_tried"
    said: Any = result.get("said")
    if isinstance(said, Words):
        said = said.in_(lang)
    elif isinstance(said, dict):
        said = said[lang]
    elif lang == "en":
        said = result.get("said_en") or said
    figures = {name: value for name, value in result.items() if isinstance(value, int | float | str)}
    figures.setdefault("hashes_changed", 0)  # the first rehearsals did not count them
    return texts.say(lang, f"backup_proof.{key}", **figures | {"said": said or "-"})
