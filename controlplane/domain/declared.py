"""A person's word about a criterion: what it is worth on a day. It walks the same road as a measurement.

A word is an observation of the fact ``declared.<criterion>`` on the asset ``site``; its value says what kind of word
it is, who gave it, since when and until when it stands, and which documents carry it. It is judged like everything
else: a document that has expired is stale, and a withdrawn word was never given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from controlplane.domain.model import (
    DECLARED,
    SITE,
    Catalog,
    Criterion,
    Declared,
    Finding,
    Observation,
    Reason,
    Verdict,
)


@dataclass(frozen=True)
class Word:
    """What somebody says about criteria, before it is kept. Offices sign, no person is named."""

    criteria: tuple[str, ...]
    kind: Declared
    by: str  # the office that answers for it
    statement: str  # one sentence
    number: str = ""  # of the document, "12/QĐ-BVNT"
    signer: str = ""  # the signer's office: "Giám đốc"
    issued_on: date | None = None
    effective_on: date | None = None
    expires_on: date | None = None
    count: int | None = None  # how many assets are declared, to be set against what is measured
    account: str = ""  # who entered it


class WordError(ValueError):
    """A word that cannot be kept; ``reason`` says why (texts: ``declare.<code>``)."""

    def __init__(self, code: str, **figures: Any) -> None:
        super().__init__(f"{code}: {figures}")
        self.reason = Reason(code, figures)


def vet(catalog: Catalog, word: Word, documents: int, day: date) -> None:
    """Refuse a word that would prove nothing, before it is kept. Raises ``WordError``."""
    if not word.criteria:
        raise WordError("no_criterion")
    for id_ in word.criteria:
        criterion = catalog.criteria.get(id_)
        if criterion is None:
            raise WordError("unknown_criterion", criterion=id_)
        refused = accepts(criterion, word.kind)
        if refused is not None:
            raise WordError(refused, criterion=id_)
    if not word.by.strip() or not word.statement.strip():
        raise WordError("empty")
    if word.kind is Declared.WITHDRAWN:
        return
    _vet_days(word, day)
    if word.kind is Declared.DOCUMENT and not (documents and word.issued_on and word.signer.strip()):
        raise WordError("document_incomplete")
    if word.kind is Declared.OTHER_VALUE and not documents:
        raise WordError("reasons_needed")
    if word.kind is not Declared.DOCUMENT and word.expires_on is None:
        raise WordError("no_end")
    if word.count is not None and word.count < 0:
        raise WordError("bad_count", count=word.count)


def _vet_days(word: Word, day: date) -> None:
    if word.expires_on is not None and word.expires_on < day:
        raise WordError("past", until=word.expires_on.isoformat())
    if word.issued_on is not None and word.issued_on > day:
        raise WordError("issued_later", issued_on=word.issued_on.isoformat())
    if word.effective_on and word.expires_on and word.effective_on > word.expires_on:
        raise WordError("ends_before_it_begins", effective_on=word.effective_on.isoformat())


def fact_of(criterion: str) -> str:
    """The name under which people's words about a criterion are observed."""
    return DECLARED + criterion


def accepts(criterion: Criterion, kind: Declared) -> str | None:
    """None when this kind of word may be given about the criterion, else the code of the reason (texts: declare.*)."""
    if kind is Declared.OTHER_VALUE and criterion.kind != "suggested":
        return "only_suggested"
    if kind is Declared.NOT_APPLICABLE and criterion.kind != "conditional":
        return "only_conditional"
    if criterion.kind == "informative" and kind is not Declared.WITHDRAWN:
        return "informative"
    if kind is Declared.ATTESTATION and criterion.automatable == "document":
        return "document_needed"
    return None


def judge_word(criterion: Criterion, said: Observation, day: date) -> Finding | None:
    """What the newest word about a criterion is worth on ``day`` (the hospital's); None when it was withdrawn."""
    value: Mapping[str, Any] = said.value
    kind = Declared(value["kind"])
    if kind is Declared.WITHDRAWN:
        return None
    verdict, reason = _worth(criterion, kind, value, day)
    return Finding(fact_of(criterion.id), SITE, verdict, reason, said.id or None, said.raw_digest)


def _worth(criterion: Criterion, kind: Declared, value: Mapping[str, Any], day: date) -> tuple[Verdict, Reason]:
    figures: dict[str, Any] = {"kind": str(kind), "by": value["by"]}
    if value.get("count") is not None:
        figures["count"] = value["count"]
    refused = accepts(criterion, kind)
    if refused is not None:  # the law as data has changed since the word was given
        return Verdict.UNKNOWN, Reason(f"declared_{refused}", figures)
    begins, ends = _day(value.get("effective_on")), last_day(criterion, value)
    if begins is not None and day < begins:
        return Verdict.UNKNOWN, Reason("declared_not_yet", figures | {"effective_on": begins.isoformat()})
    if ends is not None and day > ends:
        return Verdict.STALE, Reason("declared_expired", figures | {"until": ends.isoformat()})
    until = {"until": ends.isoformat() if ends else None}
    verdict = Verdict.NOT_APPLICABLE if kind is Declared.NOT_APPLICABLE else Verdict.MET
    return verdict, Reason("declared", figures | until)


def last_day(criterion: Criterion, value: Mapping[str, Any]) -> date | None:
    """The last day on which a word counts: its own expiry, or the oldest age the law allows a document to have."""
    ends = [_day(value.get("expires_on"))]
    issued = _day(value.get("issued_on"))
    if criterion.max_age_days is not None and issued is not None:
        ends.append(issued + timedelta(days=criterion.max_age_days))
    return min((day for day in ends if day is not None), default=None)


def _day(text: Any) -> date | None:
    return date.fromisoformat(text) if text else None
