"""What people say: words about criteria, with their documents. A word is kept like a measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

from controlplane.bootstrap.judgements import Judgements
from controlplane.domain.chain import Link
from controlplane.domain.declared import Word, vet
from controlplane.domain.duties import what_is
from controlplane.domain.model import Words

FILED = "filed"
"""The kind of link that keeps what was done or handed in."""

Paper = tuple[Mapping[str, Any], bytes]
"""A document that was examined: what is known of it, and its bytes."""


class PaperError(ValueError):
    """A file is not let in; ``words`` say why in both tongues."""

    def __init__(self, words: Words) -> None:
        super().__init__(words.en)
        self.words = words


class Saying(Judgements):
    """Words of people, kept like measurements."""

    def examine(self, name: str, data: bytes) -> Paper:
        """A file from outside as a document that may be kept. Raises ``PaperError``."""
        if not data or not name.strip():
            raise PaperError(Words("tệp trống hoặc không có tên", "the file is empty or has no name"))
        return {"name": name, "bytes": len(data)}, data

    def declare(self, word: Word, documents: Sequence[Paper] = ()) -> Link:
        """Keep somebody's word about criteria with its documents: first the bytes, then the link.

        It counts from now on, as far as a word can count for the criterion. Raises ``WordError``.
        """
        vet(self.catalog, word, len(documents), self.today)
        kept = [{**about, "sha256": self.archive.vault.put(data)} for about, data in documents]
        return self.archive.declare({**asdict(word), "documents": kept}, self.clock())

    def file(self, name: str, by: str, day: date, paper: Paper | None = None, account: str = "") -> Link:
        """Keep that a duty was done on a day, or that a part of a dossier (DOSSIER.PART) is there.

        Raises ``DutyError`` for a name that the law as data does not know.
        """
        body: dict[str, Any] = {
            "what": what_is(self.duties, name),
            "name": name,
            "by": by,
            "on": day,
            "account": account,
        }
        if paper is not None:
            about, data = paper
            body["document"] = {**about, "sha256": self.archive.vault.put(data)}
        return self.archive.append(FILED, body, self.clock())

    def filed(self, what: str) -> dict[str, date]:
        """Duties done, or parts of dossiers there, each with the newest day that was kept."""
        bodies = [self.archive.body(link) for link in self.archive.chain(FILED)]
        return {body["name"]: date.fromisoformat(body["on"]) for body in bodies if body["what"] == what}
