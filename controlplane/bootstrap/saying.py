"""What people say: words about criteria, with their documents. A word is kept like a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

from controlplane.bootstrap.judgements import Judgements
from controlplane.bootstrap.rules import PACK
from controlplane.domain.chain import Link
from controlplane.domain.declared import Word, vet
from controlplane.domain.duties import what_is
from controlplane.domain.packs import naming
from controlplane.intake import Document, clamd_scan, examine
from controlplane.sheets.form import Preview

FILED = "filed"
"""The kind of link that keeps what was done or handed in."""

Paper = tuple[Document, bytes]
"""A document that was examined: what is known of it, and its bytes."""


class Saying(Judgements):
    """Words of people, kept like measurements."""

    def declare(self, word: Word, documents: Sequence[Paper] = ()) -> Link:
        """Keep somebody's word about criteria with its documents: first the bytes, then the link.

        It counts from now on, as far as a word can count for the criterion. Raises ``WordError``.
        """
        vet(self.catalog, word, len(documents), self.today)
        kept = [self._put(paper) for paper in documents]
        return self.archive.declare({**asdict(word), "documents": kept}, self.clock())

    def examine(self, name: str, data: bytes) -> Paper:
        """A file handed in as evidence, scanned where a scanner is set. Raises ``IntakeError`` with words."""
        scanner = clamd_scan(self.settings.clamd_socket) if self.settings.clamd_socket else None
        most = self.settings.document_most_mb * 1_000_000
        return examine(name, data, scan=scanner, most_bytes=most), data

    def _put(self, paper: Paper) -> dict[str, Any]:
        about, data = paper
        self.archive.vault.put(data)
        return asdict(about)

    def preview_pack(self, framework: str, workbook: bytes) -> Preview:
        """What a filled workbook would change; nothing is kept. Raises ``KeyError`` for an unknown framework."""
        from controlplane.sheets.read import read_sheet  # noqa: PLC0415  # openpyxl is slow to load

        return read_sheet(workbook, self.framework_document(framework))

    def confirm(self, preview: Preview, by: str, workbook: bytes, official: Paper) -> Link:
        """Keep what the hospital confirmed of a framework, by whom, and against which official document.

        It holds from now on; earlier rounds keep the rules they were judged by. Raises ``ValueError`` for a preview
        that still has bad rows, ``PackError`` or ``CatalogError`` when the rules would not hold together.
        """
        if not preview.ready:
            raise ValueError("the workbook has rows that cannot be taken over")
        about, data = official
        overlay = naming(preview.overlay, about.name, about.sha256)
        documents, confirmed = self.shipped_frameworks()
        self.make_catalog(documents, [*confirmed, overlay])
        body = {
            "overlay": overlay,
            "by": by,
            "workbook": self.archive.vault.put(workbook),
            "official": self._put((about, data)),
            "at": self.clock(),
        }
        return self.archive.append(PACK, body, self.clock())

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
            body["document"] = self._put(paper)
        return self.archive.append(FILED, body, self.clock())

    def filed(self, what: str) -> dict[str, date]:
        """Duties done, or parts of dossiers there, each with the newest day that was kept."""
        bodies = [self.archive.body(link) for link in self.archive.chain(FILED)]
        return {body["name"]: date.fromisoformat(body["on"]) for body in bodies if body["what"] == what}
