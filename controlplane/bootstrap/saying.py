"""What people say: words about criteria, with their documents. A word is kept like a measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from controlplane.bootstrap.judgements import Judgements
from controlplane.domain.chain import Link
from controlplane.domain.declared import Word, vet
from controlplane.domain.model import Words

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
