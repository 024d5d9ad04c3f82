"""What people say: words about criteria, with their documents. A word is kept like a measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from controlplane.bootstrap.judgements import Judgements
from controlplane.domain.chain import Link
from controlplane.domain.declared import Word, vet

Paper = tuple[Mapping[str, Any], bytes]
"""A document that was examined: what is known of it, and its bytes."""


class Saying(Judgements):
    """Words of people, kept like measurements."""

    def declare(self, word: Word, documents: Sequence[Paper] = ()) -> Link:
        """Keep somebody's word about criteria with its documents: first the bytes, then the link.

        It counts from now on, as far as a word can count for the criterion. Raises ``WordError``.
        """
        vet(self.catalog, word, len(documents), self.today)
        kept = [{**about, "sha256": self.archive.vault.put(data)} for about, data in documents]
        return self.archive.declare({**asdict(word), "documents": kept}, self.clock())
